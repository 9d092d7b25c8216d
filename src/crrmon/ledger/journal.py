"""The journal: what writes add to the sums, one item each, until a window takes it along.

An item is written once and never changed, so that no two writes meet in it, however much is settled at once. It holds
what was counted, for the statistics, and by how much the backlog changed.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Delta
from crrmon.ledger.damage import reading
from crrmon.ledger.encoding import Body, pack, unpack
from crrmon.ledger.layout import JOURNAL
from crrmon.ledger.pauses import Pauses
from crrmon.ports.store import Delete, Key, Put, Store

Moved = tuple[str, str, float, tuple[int, int, int, int]]
"""Source, destination, slot, and by how much pending objects and bytes, failed objects and bytes change there."""

Unfolded = tuple[int, Sequence[Moved]]
"""The number of a window, and its changes of the backlog."""

Sums = dict[tuple[Route, float], list[int]]
"""The same, added up, by route and slot."""

EntryId = tuple[str, int]
"""Name and group of an entry."""


class Entry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What one write adds."""

    added: Delta | None = None
    moved: tuple[Moved, ...] = ()


_ENTRY = Body(Entry)


def entry_put(place: EntryId, entry: Entry) -> Put:
    """Return how an entry is written."""
    return Put(_key(place), _ENTRY.encode(entry))


def _key(place: EntryId) -> Key:
    name, group = place
    return Key(JOURNAL, group, pack(name))


class Journal:
    """Reads the journal and drops what was taken along."""

    def __init__(self, store: Store, *, shards: int) -> None:
        self._store = store
        self._groups = range(shards)
        self._read: dict[EntryId, Entry] = {}
        """Those that were there the last time: whoever shows gauges reads them again and again, and none changes."""

    async def entries(self) -> dict[EntryId, Entry]:
        """Read all entries."""
        entries: dict[EntryId, Entry] = {}
        pauses = Pauses()
        for key, body, _ in await self._store.scan(JOURNAL, self._groups):
            place = unpack(key.sort), key.group
            entry = self._read.get(place)
            if entry is None:
                with reading(self._store, key):
                    entry = _ENTRY.decode(body)
            entries[place] = entry
            await pauses.after(1 + len(entry.moved))
        self._read = entries
        return entries

    async def drop(self, places: Collection[EntryId]) -> None:
        """Delete entries, there or not."""
        for place in places:
            self._read.pop(place, None)
        await self._store.write_each([Delete(_key(place)) for place in places])

    async def drop_rest(self, places: Collection[EntryId]) -> None:
        """
        Delete those of some entries that are still there, so that what was started before is continued: where deleting
        is charged for, it is so whether anything is there or not.
        """
        wanted = set(places)
        found = await self._store.scan(JOURNAL, self._groups)
        there = {(unpack(one.key.sort), one.key.group) for one in found}
        await self.drop(sorted(wanted & there))

    async def append(self, deltas: Sequence[Delta]) -> None:
        """Add deltas; one that was added before is the same, and lies where it would."""
        groups = len(self._groups)
        await self._store.write_each(
            [
                entry_put((delta.id, zlib.crc32(pack(delta.id)) % groups), Entry(added=delta))
                for delta in deltas
            ]
        )


async def summed(moves: Iterable[Sequence[Moved]]) -> Sums:
    """Add up how the backlog changes."""
    sums: Sums = {}
    pauses = Pauses()
    for moved in moves:
        for source, destination, slot, amounts in moved:
            add(sums, Route(source, destination), slot, amounts)
        await pauses.after(len(moved))
    return sums


def add(sums: Sums, route: Route, slot: float, amounts: Iterable[int]) -> None:
    """Add to the sums of a slot."""
    have = sums.setdefault((route, slot), [0, 0, 0, 0])
    for place, amount in enumerate(amounts):
        have[place] += amount


def moves(sums: Mapping[tuple[Route, float], Sequence[int]]) -> tuple[Moved, ...]:
    """Write sums down; those that come to nothing are left out."""
    return tuple(
        (route.source, route.destination, slot, (sum_[0], sum_[1], sum_[2], sum_[3]))
        for (route, slot), sum_ in sums.items()
        if any(sum_)
    )
