"""The gauges of the whole fleet: what is pending, stuck and failed, and what was not sent yet.

One daemon shows them, the one that holds the reporting shard; shown by two they would double. They have a loop of
their own, for sending windows may take long.
"""

import asyncio
from collections.abc import Callable, Iterable

from crrmon.domain import catalogue
from crrmon.domain.objects import Route
from crrmon.domain.windows import Standing
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import BACKLOG_SLOT_SECONDS, BacklogSlot, Lease, Ledger, LedgerError
from crrmon.ports.meters import Meters
from crrmon.services.health import Dependency, HealthBoard

ROUND_SECONDS = 1.0
REFRESH_SECONDS = 10.0
"""How often the ledger is asked for the backlog."""
PATIENCE_SECONDS = 180.0


class Fleet:
    """
    Shows the fleet's gauges while this daemon reports.

    Args:
        reporting: tells the lease of the reporting shard while it is held.
        unsent: tells how many frozen windows wait to be sent; None when that is not known, or not of interest.
        stuck_after: seconds after which a pending object counts as stuck.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        reporting: Callable[[], Lease | None],
        unsent: Callable[[], int | None],
        health: Dependency,
        board: HealthBoard,
        clock: Clock,
        meters: Meters,
        stuck_after: float,
    ) -> None:
        self._ledger = ledger
        self._reporting = reporting
        self._unsent = unsent
        self._health = health
        self._board = board
        self._clock = clock
        self._meters = meters
        self._stuck_after = stuck_after
        self._refresh_at = float("-inf")

    async def run(self) -> None:
        """
        Show and withdraw, for ever.
        """
        while True:
            self._board.began("fleet", patience=PATIENCE_SECONDS)
            if self._reporting() is None:
                self._withdraw()
            else:
                self._show_unsent()
                await self._refresh_in_time()
            await asyncio.sleep(ROUND_SECONDS)

    async def _refresh_in_time(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._refresh_at:
            return
        try:
            await self._refresh()
        except LedgerError as error:
            self._health.failed(str(error), "gauges")
            return
        self._health.succeeded("gauges")
        self._board.ended("fleet")
        self._refresh_at = loop.time() + REFRESH_SECONDS

    async def _refresh(self) -> None:
        slots = await self._ledger.backlog()
        routes = await self._ledger.known_routes()
        if self._reporting() is None:
            return  # the answer took so long that others report by now
        standings = standing(slots, now=self._clock.now(), stuck_after=self._stuck_after)
        for metric in _STANDING:
            self._meters.clear(metric)
        for route in {*routes, *standings}:
            one = standings.get(route, Standing())
            labels = (route.source, route.destination)
            self._meters.set(catalogue.PENDING_OBJECTS, *labels, value=one.pending_objects)
            self._meters.set(catalogue.PENDING_BYTES, *labels, value=one.pending_bytes)
            self._meters.set(catalogue.STUCK_OBJECTS, *labels, value=one.stuck_objects)
            self._meters.set(catalogue.FAILED_OBJECTS, *labels, value=one.failed_objects)
            if one.oldest_written_at is not None:
                oldest = one.oldest_written_at
                self._meters.set(catalogue.OLDEST_PENDING, *labels, value=oldest)

    def _show_unsent(self) -> None:
        unsent = self._unsent()
        if unsent is None:
            self._meters.clear(catalogue.UNSENT_WINDOWS)
        else:
            self._meters.set(catalogue.UNSENT_WINDOWS, value=unsent)

    def _withdraw(self) -> None:
        """
        Take the fleet's gauges away: another daemon shows them now.
        """
        for metric in catalogue.METRICS:
            if metric.fleet:
                self._meters.clear(metric)
        self._health.forgo("gauges")
        self._refresh_at = float("-inf")


_STANDING = (
    catalogue.PENDING_OBJECTS,
    catalogue.PENDING_BYTES,
    catalogue.STUCK_OBJECTS,
    catalogue.OLDEST_PENDING,
    catalogue.FAILED_OBJECTS,
)


def standing(
    slots: Iterable[BacklogSlot], *, now: float, stuck_after: float
) -> dict[Route, Standing]:
    """
    Sum up the backlog by route.

    Ages are those of the slots' starts, so at most a slot too high; an object counts as stuck when its whole slot is.
    """
    sums: dict[Route, Standing] = {}
    for slot in slots:
        one = sums.get(slot.route, Standing())
        stuck = slot.written_from + BACKLOG_SLOT_SECONDS <= now - stuck_after
        oldest = one.oldest_written_at
        if slot.pending_objects:
            oldest = slot.written_from if oldest is None else min(oldest, slot.written_from)
        sums[slot.route] = Standing(
            pending_objects=one.pending_objects + slot.pending_objects,
            pending_bytes=one.pending_bytes + slot.pending_bytes,
            failed_objects=one.failed_objects + slot.failed_objects,
            stuck_objects=one.stuck_objects + (slot.pending_objects if stuck else 0),
            oldest_written_at=oldest,
        )
    return sums
