"""Trails in a store: one item each, so that one conditional write covers all that is held of a version.

What changes nothing but its own trail is one plain write. What also changes the sums (the backlog, the statistics) or
a list is one write of many trails and ONE entry of the journal. No sum is kept in an item that several write.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from crrmon.domain.backlog import BacklogChange
from crrmon.domain.objects import shard_of
from crrmon.domain.outcomes import Delta
from crrmon.domain.records import Record
from crrmon.domain.slicing import sliced
from crrmon.domain.trails import Trail
from crrmon.ledger import compact
from crrmon.ledger.damage import UNREADABLE, DamagedError, damaged
from crrmon.ledger.failures import failure_actions
from crrmon.ledger.journal import Entry, entry_put, moves
from crrmon.ledger.layout import TRAILS
from crrmon.ports.clock import Clock
from crrmon.ports.store import ABSENT, Action, ConflictError, Delete, Due, Key, Put, Store, Tag


class Held(msgspec.Struct, frozen=True, gc=False):
    """What a store holds of a trail."""

    trail: Trail
    tag: Tag
    until: int | None = None
    """Until when its marks and early facts are kept, in seconds since the epoch, where a record keeps it from expiring."""


NOTHING = Held(Trail(), ABSENT)
"""Of a trail of which there is no item."""

_REMEMBERED: Final = 1000
"""Of how many trails that were found due it is known how they were: two full rounds of the poller."""

Reading = Held | DamagedError
"""What is held of a trail, or why that cannot be read."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """What is to be written of one trail, if it still is as it was read."""

    trail: bytes
    held: Held
    after: Trail

    @property
    def records(self) -> Iterator[tuple[Record | None, Record | None]]:
        """The records that differ: before and after."""
        before, after = self.held.trail.records, self.after.records
        for bucket, old in before.items():
            new = after.get(bucket)
            if new is not old:
                yield old, new
        for bucket, new in after.items():
            if bucket not in before:
                yield None, new

    @property
    def adds(self) -> bool:
        """Whether there is a new mark or early fact."""
        before, after = self.held.trail, self.after
        # NB: a mark is never replaced, an early fact is.
        return len(before.marks) != len(after.marks) or any(
            early is not before.early_facts.get(slot) for slot, early in after.early_facts.items()
        )


class Trails:
    """Reads trails, and writes what became of them.

    Args:
        store: where they are.
        shards: of the ledger.
        retention: seconds that marks and early facts are kept.
        clock: tells which of them are past it.
        chance: names entries of the journal.
    """

    def __init__(
        self, store: Store, *, shards: int, retention: float, clock: Clock, chance: random.Random
    ) -> None:
        self._store = store
        self._shards = shards
        self._retention = retention
        self._clock = clock
        self._chance = chance
        self._remembered: dict[bytes, Held] = {}
        """Those that were found due last, the oldest first."""

    def chunks(self, trails: Sequence[bytes], *, alone: bool) -> Sequence[Sequence[bytes]]:
        """Split trails into what is written at once.

        Args:
            trails: each once.
            alone: whether nothing binds them together, so that each may as well be written by itself.
        """
        limits = self._store.limits
        size = 1 if alone and limits.alone else limits.items
        if limits.spans_groups:
            return sliced(trails, size)
        by_group = groupby(sorted(trails, key=self._group), key=self._group)
        return [some for _, mine in by_group for some in sliced(list(mine), size)]

    def _group(self, trail: bytes) -> int:
        return shard_of(trail, self._shards)

    def address(self, trail: bytes) -> Key:
        """Return where a trail lies."""
        return Key(TRAILS, self._group(trail), trail)

    # ---- reading ----

    async def read(self, trails: Sequence[bytes]) -> Mapping[bytes, Held]:
        """Read trails; those of which there is no item are left out.

        Raises:
            DamagedError: one of these trails cannot be read.
        """
        held: dict[bytes, Held] = {}
        for trail, one in (await self.read_each(trails)).items():
            if isinstance(one, DamagedError):
                raise one
            held[trail] = one
        return held

    async def read_each(self, trails: Sequence[bytes]) -> dict[bytes, Reading]:
        """Do as `read` does, and tell of each trail that cannot be read why that is so."""
        if not trails:
            return {}
        now = self._clock.now()
        found = await self._store.get([self.address(trail) for trail in trails])
        return {key.sort: self._reading(key, body, tag, now) for key, body, tag in found}

    async def read_due(self, hints: Sequence[Due]) -> dict[bytes, Reading]:
        """Read what seems to be due, and remember it for whoever decides on it: that is about to happen, and only once.

        Args:
            hints: as the store told them; what it told along is not read again.
        """
        now = self._clock.now()
        read = await self.read_each([one.key.sort for one in hints if one.body is None])
        for _, key, body, tag in hints:
            if body is not None:
                read[key.sort] = self._reading(key, body, tag, now)
        for trail, one in read.items():
            if isinstance(one, Held):
                self._remembered.pop(trail, None)  # else it would keep the place that it had
                self._remembered[trail] = one
        while len(self._remembered) > _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return read

    def recalled(self, trails: Sequence[bytes]) -> dict[bytes, Held]:
        """Return what is remembered of trails, and forget it.

        It is as old as the look that was taken meanwhile. So it is good for a write, which rests on its still being so,
        and proves nothing else. What has expired meanwhile is read again.
        """
        now = self._clock.now()
        remembered = ((trail, self._remembered.pop(trail, None)) for trail in trails)
        return {
            trail: one
            for trail, one in remembered
            if one is not None and (one.until is None or one.until > now)
        }

    def _reading(self, key: Key, body: bytes, tag: Tag, now: float) -> Reading:
        if not body:
            return Held(Trail(), tag)  # it has expired, but is still there
        try:
            trail, until = compact.decode(body)
        except UNREADABLE as error:
            return damaged(self._store, key, error)
        if until is not None and until <= now:
            trail.marks, trail.early_facts, until = {}, {}, None
        return Held(trail, tag, until)

    # ---- writing ----

    async def write(
        self, changes: Sequence[Change], *, added: Delta | None, now: float
    ) -> Sequence[bytes]:
        """Write the changes of one chunk, the change of the backlog that they make, and a delta: all or nothing.

        Args:
            changes: at least one.
            added: what is appended to the statistics.
            now: when; marks and early facts that are new are kept for the dedup retention from then.

        Returns:
            The trails that are others by now: then nothing was written.

        Raises:
            TooMuchError: it must be split.
        """
        backlog = BacklogChange()
        actions: list[Action] = []
        lists: list[Action] = []
        for change in changes:
            key = self.address(change.trail)
            actions.append(self._action(key, change, now))
            if change.held.trail.records or change.after.records:
                pairs = list(change.records)
                for old, new in pairs:
                    if old is None or new is None or _weighs_otherwise(old, new):
                        backlog.replace(old, new)
                lists += failure_actions(key.group, change.trail, pairs)
        moved = moves(dict(backlog.sums()))
        if added is not None or moved:
            # NB: with nothing to count, a record may be parked, dropped and parked again within minutes. By a random
            # name a store knows the third from the first; a settled batch is to be known again by its own.
            name = added.id if added is not None else f"{self._chance.getrandbits(96):024x}"
            group = actions[0].key.group
            lists.append(entry_put((name, group), Entry(added=added, moved=moved)))
        try:
            await self._store.write(actions + lists)
        except ConflictError as error:
            return [changes[place].trail for place in error.places]
        return ()

    def _action(self, key: Key, change: Change, now: float) -> Action:
        held, after = change.held, change.after
        if after.empty:
            return Delete(key, held.tag)
        until = held.until
        if until is None or change.adds:
            # Whoever comes later may have a clock that is behind.
            until = max(until or 0, math.ceil(now + self._retention))
        if not after.records:
            return Put(key, compact.encode(after), held.tag, expires_at=until)
        kept = until if after.marks or after.early_facts else None
        due = min([record.next_look_at for record in after.records.values()])
        return Put(key, compact.encode(after, kept), held.tag, due=due)


def _weighs_otherwise(old: Record, new: Record) -> bool:
    """Return whether the backlog may change; most changes only set another date."""
    return (
        old.destinations != new.destinations
        or old.state is not new.state
        or old.size != new.size
        or old.written_at != new.written_at
    )
