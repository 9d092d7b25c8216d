"""The ledger in this process's memory: the reference for the others, and for tests and trials. It survives nothing.

Every method runs from start to end without awaiting anything, so each is atomic as it stands.
"""

import bisect
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

from msgspec.structs import replace

from crrmon.adapters.ledgers.stored import (
    Place,
    place_of,
    token_of,
    token_of_trail,
    trail_of,
)
from crrmon.domain.backlog import BacklogSlot, backlog_slot, share
from crrmon.domain.events.facts import News
from crrmon.domain.noting import Noted, note
from crrmon.domain.objects import MarkId, Route, shard_of, trail_id
from crrmon.domain.outcomes import Contribution, Half, Mark, Settlement, contribution
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled, part_of, settle
from crrmon.domain.trails import Parked, Rescheduled, Trail, failed_at, failed_towards
from crrmon.ports.ledger import IN_PROCESS, FrozenWindow, Lease, LeaseLostError, Pace, Presence

_SWEPT_AT_ONCE = 10_000


class MemoryLedger:
    """
    Implements the `Ledger` port.
    """

    def __init__(self, *, shards: int = 64, horizon_seconds: float = 345_600.0) -> None:
        self._horizon = horizon_seconds
        self._traces: dict[bytes, Trail] = {}
        self._due: list[list[Place]] = [[] for _ in range(shards)]
        """Of each shard, sorted by the next look."""
        self._failures: dict[str | None, list[Place]] = {None: []}
        """Of each source bucket, and of all under None, sorted newest first."""
        self._expiries: deque[Place] = deque()
        self._kept: dict[tuple[bytes, str], Place] = {}
        """The place in `_expiries` that counts for each mark and half."""
        self._backlog: dict[tuple[Route, float], tuple[int, ...]] = {}
        self._routes: set[Route] = set()
        self._contributions: list[Contribution] = []
        self._frozen: dict[float, FrozenWindow] = {}
        self._last_frozen: float | None = None
        self._presences: dict[str, Presence] = {}
        self._states: dict[str, bytes] = {}
        self._leases = [Lease(shard=shard, owner="", epoch=0, beat=0) for shard in range(shards)]

    @property
    def shards(self) -> int:
        """
        How many shards it was made with.
        """
        return len(self._leases)

    @property
    def exclusive(self) -> bool:
        """
        Whether only one daemon can have it open: nobody else sees this process's memory.
        """
        return True

    @property
    def pace(self) -> Pace:
        """
        How to ask it.
        """
        return IN_PROCESS

    # ---- intake and looking ----

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | Half | None]:
        """
        Tell what is kept under each id.
        """
        traces = [self._trace(wanted.trail_id) for wanted in ids]
        return [
            trace.marks.get(wanted.slot) or trace.halves.get(wanted.slot)
            for wanted, trace in zip(ids, traces, strict=True)
        ]

    async def park(self, records: Sequence[Record]) -> Sequence[Parked]:
        """
        Store new records.
        """
        with self._changing() as trace_of:
            return [trace_of(record.version.trail_id).park(record) for record in records]

    async def due(self, shards: Sequence[int], *, now: float, limit: int) -> Sequence[Record]:
        """
        Find the records to be looked at, the longest due first.
        """
        first = heapq.merge(*(self._due[shard] for shard in set(shards)))
        places = (place for place in islice(first, limit) if place[0] <= now)
        return [self._traces[trail].records[bucket] for _, trail, bucket in places]

    async def reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        """
        Replace records that nobody changed meanwhile.
        """
        with self._changing() as trace_of:
            return [trace_of(record.version.trail_id).reschedule(record) for record in records]

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        """
        Count outcomes, each at most once, and let their records go.
        """
        with self._changing(now) as trace_of:
            results, counted = settle(batch, settlements, trace_of)
        if counted:
            name = part_of(batch, counted)
            self._contributions.append(contribution(name, counted, settled_at=now))
        return results

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        """
        Add what others told of versions.
        """
        with self._changing(now) as trace_of:
            return [note(trace_of(one.version.trail_id), one, now=now) for one in news]

    # ---- reporting ----

    async def remember_routes(self, routes: Sequence[Route]) -> None:
        """
        Remember routes for ever.
        """
        self._routes.update(routes)

    async def known_routes(self) -> Sequence[Route]:
        """
        Tell all routes remembered so far, sorted.
        """
        return sorted(self._routes)

    async def contributions(self) -> Sequence[Contribution]:
        """
        Tell all contributions that no window was frozen from, oldest first.
        """
        return list(self._contributions)

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """
        Store a window under the lease of shard 0 and drop its contributions.
        """
        self._check(lease)
        if window.starts_at in (*self._frozen, self._last_frozen):
            return
        taken = set(window.contributions)
        self._contributions = [one for one in self._contributions if one.id not in taken]
        self._last_frozen = max(window.starts_at, self._last_frozen or window.starts_at)
        if any(window.parts):
            self._frozen[window.starts_at] = replace(window, contributions=())

    async def frozen(self, *, limit: int = 100) -> Sequence[FrozenWindow]:
        """
        Tell the windows that are not wholly sent, oldest first.
        """
        return [self._frozen[starts_at] for starts_at in sorted(self._frozen)[:limit]]

    async def last_frozen(self) -> float | None:
        """
        Tell the `starts_at` of the newest window ever frozen.
        """
        return self._last_frozen

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """
        Drop one sent part of a window, and the window with its last one.
        """
        self._check(lease)
        if starts_at not in self._frozen:
            return
        window = self._frozen.pop(starts_at)
        parts = tuple(b"" if at == part else body for at, body in enumerate(window.parts))
        if any(parts):
            self._frozen[starts_at] = replace(window, parts=parts)

    def _check(self, lease: Lease) -> None:
        held = self._leases[0]
        if (lease.shard, lease.owner, lease.epoch) != (0, held.owner, held.epoch):
            raise LeaseLostError(f"shard 0 is held by {held.owner!r} in epoch {held.epoch}")

    async def backlog(self) -> Sequence[BacklogSlot]:
        """
        Tell what is pending and failed.
        """
        return [
            backlog_slot(route, written_from, amounts)
            for (route, written_from), amounts in sorted(self._backlog.items())
        ]

    # ---- the daemons among themselves ----

    async def announce(self, presence: Presence) -> None:
        """
        Keep a daemon's presence, instead of its last one.
        """
        self._presences[presence.owner] = presence

    async def presences(self) -> Sequence[Presence]:
        """
        Tell the presence of every daemon, by owner.
        """
        return [one for _, one in sorted(self._presences.items())]

    async def dismiss(self, presence: Presence) -> None:
        """
        Drop a presence, if it still is this one.
        """
        if self._presences.get(presence.owner) == presence:
            del self._presences[presence.owner]

    # ---- small state by name ----

    async def states(self, prefix: str) -> Mapping[str, bytes]:
        """
        Return the small named states whose names begin with a prefix.
        """
        return {
            name: body for name, body in sorted(self._states.items()) if name.startswith(prefix)
        }

    async def swap(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """
        Replace a small named state if it is still as it was seen.
        """
        if (now := self._states.get(name)) == before:
            if after is None:
                self._states.pop(name, None)
            else:
                self._states[name] = after
            return True
        return now == after

    # ---- answers to people ----

    async def failures(
        self,
        *,
        bucket: str | None = None,
        destination: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[Sequence[Record], str | None]:
        """
        List open failures, newest first, a page at a time.
        """
        places = self._failures.get(bucket, [])
        start = 0 if after is None else bisect.bisect_right(places, place_of(after))
        page = places[start : start + limit]
        more = bool(page) and start + limit < len(places)
        records = [self._traces[trail].records[source] for _, trail, source in page]
        found = [one for one in records if failed_towards(one, destination)]
        return found, token_of(page[-1]) if more else None

    async def find(self, key: str, version_id: str) -> Trail:
        """
        Tell all that is known of a key and version id.
        """
        return self._trace(trail_id(key, version_id)).copy()

    # ---- work sharing and upkeep ----

    async def leases(self) -> Sequence[Lease]:
        """
        Tell the lease of every shard, by shard.
        """
        return list(self._leases)

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """
        Take a shard, if its lease still is the one seen.
        """
        now = self._leases[seen.shard]
        if (now.owner, now.epoch) == (owner, seen.epoch + 1):
            return now  # the same claim, made before
        if (now.epoch, now.beat) != (seen.epoch, seen.beat):
            return None
        mine = replace(now, owner=owner, epoch=now.epoch + 1, beat=now.beat + 1)
        self._leases[seen.shard] = mine
        return mine

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """
        Change the beat of the leases that are still held.
        """
        for lease in self._held(leases):
            self._leases[lease.shard] = replace(lease, beat=lease.beat + 1)
        return list(self._held(leases))

    async def release(self, leases: Sequence[Lease]) -> None:
        """
        Give up leases that are still held.
        """
        for lease in self._held(leases):
            self._leases[lease.shard] = replace(lease, owner="")

    def _held(self, leases: Sequence[Lease]) -> Iterator[Lease]:
        for lease in leases:
            now = self._leases[lease.shard]
            if now.owner and (now.owner, now.epoch) == (lease.owner, lease.epoch):
                yield now

    async def sweep(self, *, now: float) -> int:
        """
        Drop a bounded number of marks and halves past the horizon.
        """
        dropped = 0
        while dropped < _SWEPT_AT_ONCE and self._expiries and self._expiries[0][0] <= now:
            _, trail, slot = place = self._expiries.popleft()
            if self._kept.get((trail, slot)) != place:
                continue  # kept anew since
            del self._kept[trail, slot]
            trace = self._traces[trail]
            trace.marks.pop(slot, None)
            trace.halves.pop(slot, None)
            self._tidy(trail)
            dropped += 1
        return dropped

    # ---- moving ----

    async def export(
        self, *, after: str | None = None, limit: int = 100
    ) -> tuple[Sequence[Trail], str | None]:
        """
        Tell all trails that hold a record, a page at a time.
        """
        held = sorted(trail for trail, trace in self._traces.items() if trace.records)
        start = 0 if after is None else bisect.bisect_right(held, trail_of(after))
        page = held[start : start + limit]
        more = bool(page) and start + limit < len(held)
        told = [self._traces[trail].copy() for trail in page]
        return told, token_of_trail(page[-1]) if more else None

    async def restore(
        self, trails: Sequence[Trail], contributions: Sequence[Contribution], *, now: float
    ) -> None:
        """
        Take over what another ledger exported.
        """
        with self._changing(now) as trace_of:
            for trail in trails:
                trace_of(trail.id).take_over(trail)
        have = {one.id for one in self._contributions}
        self._contributions += [one for one in contributions if one.id not in have]

    async def close(self) -> None:
        """
        Do nothing: there is nothing to let go of.
        """

    # ---- keeping everything in step ----

    def _trace(self, trail: bytes) -> Trail:
        """
        Return what is held of a trail, to be read only.
        """
        return self._traces.get(trail, Trail())

    @contextmanager
    def _changing(self, now: float = 0.0) -> Iterator[Callable[[bytes], Trail]]:
        """
        Hand out trails that may be changed, and bring all else in line with them afterwards.
        """
        before: dict[bytes, Trail] = {}

        def trace_of(trail: bytes) -> Trail:
            trace = self._traces.setdefault(trail, Trail())
            before.setdefault(trail, trace.copy())
            return trace

        try:
            yield trace_of
        except BaseException:
            self._traces.update(before)
            raise
        for trail, old in before.items():
            new = self._traces[trail]
            for bucket in old.records.keys() | new.records.keys():
                self._move(trail, old.records.get(bucket), new.records.get(bucket))
            for slot in new.marks.keys() - old.marks.keys():
                self._keep(trail, slot, now=now)
            for slot, half in new.halves.items():
                if half is not old.halves.get(slot):
                    self._keep(trail, slot, now=now)
            self._tidy(trail)

    def _move(self, trail: bytes, old: Record | None, new: Record | None) -> None:
        """
        Let lists and backlog follow a record that came, changed or went.
        """
        if old is new:
            return
        for places, place in self._listed(trail, old):
            del places[bisect.bisect_left(places, place)]
        for places, place in self._listed(trail, new):
            bisect.insort(places, place)
        self._tell_backlog(old, sign=-1)
        self._tell_backlog(new, sign=1)

    def _listed(self, trail: bytes, record: Record | None) -> Iterator[tuple[list[Place], Place]]:
        """
        Tell in which lists a record stands, and where.
        """
        if record is None:
            return
        bucket = record.version.bucket
        yield self._due[shard_of(trail, self.shards)], (record.next_look_at, trail, bucket)
        failed = failed_at(record)
        if failed is not None:
            for of in (None, bucket):
                yield self._failures.setdefault(of, []), (-failed, trail, bucket)

    def _tell_backlog(self, record: Record | None, *, sign: int) -> None:
        if record is None:
            return
        for slot, amounts in share(record).items():
            old = self._backlog.pop(slot, (0, 0, 0, 0))
            new = tuple(have + sign * more for have, more in zip(old, amounts, strict=True))
            if any(new):
                self._backlog[slot] = new

    def _keep(self, trail: bytes, slot: str, *, now: float) -> None:
        """
        Let a mark or half be kept for the horizon from now.
        """
        place = (now + self._horizon, trail, slot)
        self._kept[trail, slot] = place
        self._expiries.append(place)

    def _tidy(self, trail: bytes) -> None:
        if self._traces[trail].empty:
            del self._traces[trail]
