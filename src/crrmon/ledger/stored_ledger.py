"""The ledger in a store: everything the port asks for, decided here, kept there.

What happens to trails is decided on what was read (`decider`) and written on condition that it still is so (`trails`).
Nothing is ever read in full: everything lies under keys that are known, in kinds that `layout` lists.
"""

import random
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Self

import structlog

from crrmon.domain.backlog import BacklogSlot, backlog_slot
from crrmon.domain.events.facts import News
from crrmon.domain.lessons import Learned, Lesson
from crrmon.domain.noting import Noted
from crrmon.domain.objects import MarkId, trail_id
from crrmon.domain.outcomes import Delta, EarlyFact, Mark, Settlement
from crrmon.domain.policy import Policy
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled, Trail
from crrmon.ledger.decider import Decider
from crrmon.ledger.failures import failures_page, open_failures
from crrmon.ledger.fleet_items import FleetItems
from crrmon.ledger.journal import Journal
from crrmon.ledger.latency_items import LatencyItems
from crrmon.ledger.layout import BACKLOG, LATENCIES, OF_FLEET, PIECES, TRAILS
from crrmon.ledger.leases import Leases
from crrmon.ledger.meta import read_or_begin
from crrmon.ledger.moving import export_page, restore_trails
from crrmon.ledger.pauses import Pauses
from crrmon.ledger.trails import Held, Reading, Trails
from crrmon.ledger.windows import Windows
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import FrozenWindow, Lease
from crrmon.ports.store import Store

log = structlog.get_logger()


class StoredLedger(FleetItems):
    """Implements the `Ledger` port, which says what each method does; most hand on to whoever does it.

    Args:
        store: where everything lies.
        shards: how many the ledger was made with.
        retention_seconds: how long marks and early facts are kept at least.
        clock: tells what is past the dedup retention.
        chance: names what needs a name of its own.
    """

    def __init__(
        self,
        store: Store,
        *,
        shards: int,
        retention_seconds: float,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        super().__init__(store)
        self.shards = shards
        self.exclusive = store.exclusive
        self.pace = store.pace
        self._trails = Trails(
            store, shards=shards, retention=retention_seconds, clock=clock, chance=chance
        )
        self._decider = Decider(self._trails, exclusive=store.exclusive, clock=clock)
        self._leases = Leases(store, shards=shards, chance=chance)
        self._journal = Journal(store, shards=shards)
        self._windows = Windows(
            store, journal=self._journal, leases=self._leases, clock=clock, chance=chance
        )
        self._latencies = LatencyItems(store)
        self._in_the_way = 0
        """How many of those that were due the last time could not be read."""
        self._unreadable: set[bytes] = set()
        """Trails of which it was said that they cannot be read."""

    @classmethod
    async def open(
        cls,
        store: Store,
        *,
        shards: int = 64,
        retention_seconds: float = 345_600.0,
        clock: Clock,
        chance: random.Random | None = None,
        create: bool = True,
    ) -> Self:
        """Open the ledger in a store, or create one; the store is closed if that fails.

        Args:
            store, shards, retention_seconds, clock, chance: as above; a ledger that exists keeps its number of shards.
            create: whether to create one where there is none; if not, opening writes nothing.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help; or there is none, and none is to be made.
        """
        try:
            meta = await read_or_begin(store, shards=shards, create=create)
            ledger = cls(
                store,
                shards=meta.shards,
                retention_seconds=retention_seconds,
                clock=clock,
                chance=chance or random.Random(),  # noqa: S311 - no secret
            )
            if store.exclusive and create:
                # Only one daemon can have it open: whoever held leases is gone. Their epochs stay.
                await ledger.release(await ledger.leases())
        except BaseException:
            await store.close()
            raise
        return ledger

    # ---- intake and looking ----

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | EarlyFact | None]:
        # As it is now: an early fact that came a moment ago and is not told would be lost, for whoever asks here settles next, and
        # a mark takes the place of an early fact.
        return await self._decider.seen(ids)

    async def park(self, records: Sequence[Record]) -> Sequence[Parked]:
        return await self._decider.park(records)

    async def due(self, shards: Sequence[int], *, now: float, limit: int) -> Sequence[Record]:
        """Find the records to be looked at, the longest due first."""
        # Those that cannot be read stay the longest due, and must not be in the way of the others.
        most = limit + self._in_the_way
        hints = await self._store.due(TRAILS, sorted(set(shards)), until=now, limit=most)
        read = await self._trails.read_due(hints)
        found = self._records(read)
        self._in_the_way = sum(not isinstance(one, Held) for one in read.values())
        due = [record for record in found if record.next_look_at <= now]
        return sorted(due, key=_next_look)[:limit]

    async def reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        return await self._decider.reschedule(records)

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        return await self._decider.settle(batch, settlements, now=now)

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        return await self._decider.note(news, now=now)

    # ---- reporting ----

    async def deltas(self) -> Sequence[Delta]:
        return await self._windows.deltas()

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        await self._windows.freeze(window, lease=lease)

    async def frozen(self, *, limit: int = 100) -> Sequence[FrozenWindow]:
        return await self._windows.frozen(limit=limit)

    async def last_frozen(self) -> float | None:
        return await self._windows.last_frozen()

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        await self._windows.forget(starts_at, part, lease=lease)

    async def backlog(self) -> Sequence[BacklogSlot]:
        """Return what is pending and failed."""
        slots: list[BacklogSlot] = []
        pauses = Pauses()
        for (route, written_from), amounts in (await self._windows.sums()).items():
            if any(amounts):
                slots.append(backlog_slot(route, written_from, amounts))
                await pauses.after(1)
        return slots

    # ---- what was learned ----

    async def latencies(self, *, now: float) -> Sequence[Learned]:
        return await self._latencies.read(now=now)

    async def teach(self, lesson: Lesson, *, now: float, policy: Policy) -> Learned:
        return await self._latencies.teach(lesson, now=now, policy=policy)

    # ---- answers to people ----

    async def failures(
        self,
        *,
        bucket: str | None = None,
        destination: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[Sequence[Record], str | None]:
        """List open failures, newest first, a page at a time."""
        page, token = await failures_page(
            self._store, self.shards, bucket=bucket, after=after, limit=limit
        )
        trails = list(dict.fromkeys(trail for trail, _ in page))
        found = self._records(await self._trails.read_each(trails))
        return open_failures(page, found, destination), token

    async def find(self, key: str, version_id: str) -> Trail:
        """Return all that is known of a key and version id."""
        trail = trail_id(key, version_id)
        held = await self._trails.read([trail])
        return held[trail].trail if trail in held else Trail()

    def _records(self, read: Mapping[bytes, Reading]) -> list[Record]:
        """Return the records of trails; without those that cannot be read, each of which is said once."""
        found: list[Record] = []
        for trail, one in read.items():
            if isinstance(one, Held):
                self._unreadable.discard(trail)
                found += one.trail.records.values()
            elif trail not in self._unreadable:
                self._unreadable.add(trail)
                log.error(
                    "ledger_item_unreadable",
                    item=self._store.where(self._trails.address(trail)),
                    reason=str(one),
                    advice="this object is not followed until then",
                )
        return found

    # ---- work sharing and upkeep ----

    async def leases(self) -> Sequence[Lease]:
        return await self._leases.all()

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        return await self._leases.claim(seen, owner=owner)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        return await self._leases.renew(leases)

    async def release(self, leases: Sequence[Lease]) -> None:
        await self._leases.release(leases)

    async def sweep(self, *, now: float) -> int:
        """Drop a bounded number of items past the dedup retention."""
        of_fleet = [(kind, OF_FLEET) for kind in (PIECES, BACKLOG, LATENCIES)]
        kinds = [(TRAILS, range(self.shards)), *of_fleet]
        return sum([await self._store.expire(kind, groups, now=now) for kind, groups in kinds])

    # ---- moving ----

    async def export(
        self, *, after: str | None = None, limit: int = 100
    ) -> tuple[Sequence[Trail], str | None]:
        """Return all trails that hold a record, a page at a time."""
        return await export_page(self._store, self._trails, self.shards, after=after, limit=limit)

    async def restore(self, trails: Sequence[Trail], *, now: float) -> None:
        await restore_trails(self._trails, trails, now=now)

    async def append(self, deltas: Sequence[Delta]) -> None:
        await self._journal.append(deltas)

    async def close(self) -> None:
        await self._store.close()


_next_look = attrgetter("next_look_at")
