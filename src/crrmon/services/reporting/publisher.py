"""Windows: freeze what was counted, send it, and only then forget it.

One daemon of the fleet does this, the one that holds the reporting shard. A window's datapoints are decided once and
stored before anything is sent; a retry sends the same bytes. Whatever fails, the window waits in the ledger.

A window that is open when the daemon stops stays in the ledger, and the next daemon publishes it. A window in which no
daemon ran has no datapoint: missing, not zero.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
import structlog

from crrmon.domain import windows
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Delta, fold
from crrmon.domain.windows import Pulse
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError, Ledger
from crrmon.ports.sink import Sink
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.rounds import Pause, rounds
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.membership.leases import LeaseManager
from crrmon.services.reporting.fleet_gauges import standing
from crrmon.services.reporting.sending import Sender

ROUND_SECONDS = 1.0
FREEZING_WINDOWS = 20
"""Most windows that are frozen in one round; the next one goes on."""
CLOCKS_APART_SECONDS = 300.0
"""How far clocks of daemons may be apart: what lies further in the future was put there by one that was wrong."""
REMINDER_SECONDS = 3600.0
"""Between two warnings that windows lie there."""
MISSED_WINDOWS = 300
"""How many windows that could not be frozen in time get their zeros afterwards."""
PATIENCE_SECONDS = 180.0

OWED = "owed_zeros"
"""Name of the state that tells which series ended above zero and get no datapoint by themselves."""

OWED_SERIES = 2000
"""Most of them that are remembered: names of buckets come out of messages."""
OWING_TRIES = 5
"""How often another daemon, which reported before, may change that meanwhile."""

log = structlog.get_logger()


class Publisher:
    """Reports for the whole fleet while it holds the reporting shard.

    Args:
        sink: where windows go; None keeps Prometheus only.
        buckets: source buckets that get zeros from the start.
        queue_age: tells the age of the oldest message lately received, in seconds.
        timed: tells the routes under Replication Time Control, which has a threshold of its own.
        stuck_after: seconds after which a pending object counts as stuck on any other.
    """

    def __init__(  # noqa: PLR0913 - what it works with, and what it is to report
        self,
        ledger: Ledger,
        sink: Sink | None,
        runtime: Runtime,
        *,
        leases: LeaseManager,
        ledger_health: Dependency,
        sink_health: Dependency,
        monitor: str,
        buckets: Sequence[str],
        window_seconds: int,
        timed: Callable[[], frozenset[Route]],
        stuck_after: float,
        queue_age: Callable[[], float | None],
    ) -> None:
        self._ledger = ledger
        self._leases = leases
        self._ledger_health = ledger_health
        self._sink_health = sink_health
        self._sender: Sender | None = None
        if sink is None:
            sink_health.retire()
        else:
            self._sender = Sender(ledger, sink, runtime, health=sink_health, holds=self._holds)
        self._board = runtime.board
        self._clock = runtime.clock
        self._monitor = monitor
        self._buckets = buckets
        self._window_seconds = window_seconds
        self._timed = timed
        self._stuck_after = stuck_after
        self._queue_age = queue_age
        self._stopping = asyncio.Event()
        self._began_slot = math.inf
        """Of the first moment at which it was sure what time it is."""
        self._frozen_up_to: tuple[int, float] | None = None
        """While the newest window of all lies in the future: the newest of the past that is frozen, as far as is known
        under the lease of an epoch.
        """
        self._told_ahead_at = float("-inf")

    def unsent(self) -> int | None:
        """Return how many frozen windows were not sent yet, `sending.SENDING_WINDOWS` for any more than that.

        None when there is no sink, or before it is known.
        """
        return None if self._sender is None else self._sender.unsent

    async def run(self) -> None:
        """Publish, until stopped."""
        await rounds(
            self._once,
            name="publisher",
            board=self._board,
            patience=PATIENCE_SECONDS,
            health=self._ledger_health,
            operation="publish",
            retry_seconds=ROUND_SECONDS,
            stopping=self._stopping,
        )

    async def _once(self) -> Pause:
        lease = self._leases.reporting()
        self._note_beginning()
        if lease is None:
            self._retire()
        elif self._clock.sure:
            try:
                await self._publish(lease)
            except LeaseLostError:
                self._leases.lost(lease)
            else:
                return Pause(ROUND_SECONDS, done=not self._sink_health.away)
        return Pause(ROUND_SECONDS, answered=False, done=False)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()
        if self._sender is not None:
            self._sender.stop()

    async def drained(self) -> None:
        """Wait until nothing is on its way to the sink; call `stop` first."""
        if self._sender is not None:
            await self._sender.drained()

    def _alive(self) -> None:
        self._board.began("publisher", patience=PATIENCE_SECONDS)

    def _retire(self) -> None:
        """Judge nothing any more that only whoever reports can judge."""
        if self._sender is not None:
            self._sender.retire()
        self._ledger_health.forgo("publish")

    def _holds(self, lease: Lease) -> bool:
        reporting = self._leases.reporting()
        return reporting is not None and reporting.epoch == lease.epoch

    async def _publish(self, lease: Lease) -> None:
        """Freeze the windows that are over, send what is frozen.

        Raises:
            LeaseLostError: somebody else reports by now.
        """
        await self._freeze(lease)
        if self._sender is not None:
            await self._sender.send(lease, alive=self._alive)

    def _note_beginning(self) -> None:
        if math.isinf(self._began_slot) and self._clock.sure:
            self._began_slot = windows.slot_start(self._clock.now(), self._window_seconds)

    # ---- windows ----

    async def _freeze(self, lease: Lease) -> None:
        now = self._clock.now()
        closing = windows.slot_start(now, self._window_seconds) - self._window_seconds
        last = self._past(await self._ledger.last_frozen(), closing, lease)
        if last is not None and closing <= last:
            return
        ready = windows.by_window(
            self._settled(await self._ledger.deltas(), closing),
            closing=closing,
            last_frozen=last,
            window_seconds=self._window_seconds,
        )
        for starts_at in self._owed(last, closing):
            ready.setdefault(starts_at, [])
        if not ready:
            return
        routes = await self._ledger.known_routes()
        for starts_at, deltas in sorted(ready.items())[:FREEZING_WINDOWS]:
            self._alive()
            datums = windows.datapoints(
                starts_at, fold(deltas), routes=routes, sources=self._buckets
            )
            standing = starts_at == closing and starts_at >= self._began_slot
            if standing:
                datums += await self._standing_datums(starts_at, routes)
            _, series = await self._owed_series()
            datums += windows.owed(series, datums, starts_at=starts_at, standing=standing)
            left = windows.still_owed(series, datums, routes=routes)
            # Whatever happens on the way, no series is forgotten before its zero is frozen.
            if not await self._owe(add=left):
                return
            await self._store(starts_at, datums, deltas, lease)
            await self._owe(drop=series - left)
        if self._frozen_up_to is not None:
            self._frozen_up_to = (lease.epoch, starts_at)

    def _past(self, last: float | None, closing: float, lease: Lease) -> float | None:
        """Return the newest window frozen so far, but for those that a clock which was ahead put into the future.

        Those wait for their time and hold nobody up. What was frozen before them is not known any more: the window
        that is closing when that is met may have been, and what there is to count goes into the next one.
        """
        now = self._clock.now()
        if last is None or last <= now + CLOCKS_APART_SECONDS:
            self._frozen_up_to = None
            return last
        loop = asyncio.get_running_loop()
        if loop.time() - self._told_ahead_at >= REMINDER_SECONDS:
            self._told_ahead_at = loop.time()
            log.warning("windows_ahead", newest_starts_at=last, ahead_seconds=round(last - now))
        if self._frozen_up_to is None or self._frozen_up_to[0] != lease.epoch:
            self._frozen_up_to = (lease.epoch, closing)
        return self._frozen_up_to[1]

    def _settled(self, deltas: Sequence[Delta], closing: float) -> Sequence[Delta]:
        """Report what was counted by a clock that was ahead together with what is counted now."""
        latest = self._clock.now() + CLOCKS_APART_SECONDS
        return [
            msgspec.structs.replace(delta, settled_at=closing)
            if delta.settled_at > latest
            else delta
            for delta in deltas
        ]

    async def _owed_series(self) -> tuple[bytes | None, frozenset[windows.Series]]:
        """Read which series ended above zero, and how the ledger has it."""
        body = (await self._ledger.states(OWED)).get(OWED)
        if body is None:
            return None, frozenset()
        try:
            return body, frozenset(msgspec.json.decode(body, type=list[windows.Series]))
        except msgspec.MsgspecError as error:
            log.warning("owed_series_damaged", reason=str(error))
            return body, frozenset()

    async def _owe(
        self,
        *,
        add: frozenset[windows.Series] = frozenset(),
        drop: frozenset[windows.Series] = frozenset(),
    ) -> bool:
        """Make the ledger remember which series are owed a zero; return whether it does."""
        for _ in range(OWING_TRIES):
            body, series = await self._owed_series()
            now = sorted((series | add) - drop)[:OWED_SERIES]
            after = msgspec.json.encode(now) if now else None
            if after == body or await self._ledger.swap(OWED, body, after):
                return True
        return False

    def _owed(self, last: float | None, closing: float) -> Iterator[float]:
        """Yield the windows since this daemon began that are to be frozen with nothing to count, too.

        Zeros are what tells quiet from broken. Several, when the ledger was away or the machine asleep.
        """
        length = self._window_seconds
        starts_at = max(self._began_slot, closing - MISSED_WINDOWS * length)
        if last is not None:
            starts_at = max(starts_at, windows.slot_start(last, length) + length)
        while starts_at <= closing:
            yield starts_at
            starts_at += length

    async def _standing_datums(
        self, starts_at: float, routes: Sequence[Route]
    ) -> list[dict[str, object]]:
        now = self._clock.now()
        slots = await self._ledger.backlog()
        standings = standing(slots, now=now, timed=self._timed(), stuck_after=self._stuck_after)
        pulse = Pulse(monitor=self._monitor, queue_age=self._queue_age())
        return [
            *windows.standing_datapoints(starts_at, standings, routes=routes, now=now),
            *windows.pulse_datapoints(starts_at, pulse),
        ]

    async def _store(
        self,
        starts_at: float,
        datums: list[dict[str, object]],
        deltas: list[Delta],
        lease: Lease,
    ) -> None:
        window = FrozenWindow(
            starts_at=starts_at,
            parts=windows.parts(datums) if self._sender is not None else (),
            deltas=tuple(delta.id for delta in deltas),
        )
        await self._ledger.freeze(window, lease=lease)
        if self._sender is not None:
            self._sender.froze(window)
        log.debug("window_frozen", starts_at=starts_at, datums=len(datums), batches=len(deltas))
