"""The journal: what transactions add to the sums, one item each, until a window takes it along.

An item is written once and never changed, so that no two transactions meet in it, however much is settled at once. It
holds what was counted, for the statistics, and by how much the backlog changed.
"""

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from crrmon.adapters.ledgers.dynamodb_bodies import PackedBody
from crrmon.adapters.ledgers.dynamodb_calls import Calls, Item, Key, at
from crrmon.adapters.ledgers.dynamodb_damage import reading
from crrmon.adapters.ledgers.dynamodb_table import BODY, PK, SK
from crrmon.adapters.ledgers.stored import pack
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Contribution

PARTITIONS: Final = 4
"""
A partition takes 1,000 write units a second and an entry three, so these are enough for 40,000 objects a second. Each
one more would have to be read whenever the backlog is told.
"""

Moved = tuple[str, str, float, tuple[int, int, int, int]]
"""Source, destination, slot, and by how much pending objects and bytes, failed objects and bytes change there."""

Unfolded = tuple[int, Sequence[Moved]]
"""The number of a window, and its changes of the backlog."""

Sums = dict[tuple[Route, float], list[int]]
"""The same, added up, by route and slot."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What one transaction adds.
    """

    added: Contribution | None = None
    moved: tuple[Moved, ...] = ()


_ENTRY = PackedBody(Entry)


def entry_item(name: str, entry: Entry) -> Item:
    """
    Make the item of an entry.
    """
    return {**at(_key(name)), BODY: {"B": _ENTRY.encode(entry)}}


def _key(name: str) -> Key:
    return f"journal#{zlib.crc32(pack(name)) % PARTITIONS}", name


class Journal:
    """
    Reads the journal and drops what was taken along.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def entries(self) -> dict[str, Entry]:
        """
        Read all entries, by name.
        """
        found = await asyncio.gather(
            *(self._calls.query(f"journal#{number}") for number in range(PARTITIONS))
        )
        return {item[SK]["S"]: self._entry(item) for items in found for item in items}

    def _entry(self, item: Item) -> Entry:
        with reading(item, table=self._calls.table):
            return _ENTRY.decode(item[BODY]["B"])

    async def drop(self, names: Collection[str]) -> None:
        """
        Delete entries, there or not: each costs a write unit.
        """
        await self._calls.delete_all([_key(name) for name in names])

    async def drop_rest(self, names: Collection[str]) -> None:
        """
        Delete those of some entries that are still there, so that what was begun before is gone on with.
        """
        found = await asyncio.gather(
            *(
                self._calls.query(f"journal#{number}", ProjectionExpression=f"{PK}, {SK}")
                for number in range(PARTITIONS)
            )
        )
        there = {item[SK]["S"] for items in found for item in items}
        await self.drop([name for name in names if name in there])

    async def restore(self, contributions: Sequence[Contribution]) -> None:
        """
        Take over contributions; one that is there already is the same.
        """
        await self._calls.write_all(
            [entry_item(one.id, Entry(added=one)) for one in contributions]
        )


def summed(moves: Iterable[Iterable[Moved]]) -> Sums:
    """
    Add up how the backlog changes.
    """
    sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
    for moved in moves:
        for source, destination, slot, amounts in moved:
            add(sums, Route(source, destination), slot, amounts)
    return sums


def add(sums: Sums, route: Route, slot: float, amounts: Iterable[int]) -> None:
    """
    Add to the sums of a slot.
    """
    have = sums.setdefault((route, slot), [0, 0, 0, 0])
    for place, amount in enumerate(amounts):
        have[place] += amount


def moves(sums: Mapping[tuple[Route, float], Sequence[int]]) -> tuple[Moved, ...]:
    """
    Write sums down; those that come to nothing are left out.
    """
    return tuple(
        (route.source, route.destination, slot, (sum_[0], sum_[1], sum_[2], sum_[3]))
        for (route, slot), sum_ in sorted(sums.items())
        if any(sum_)
    )
