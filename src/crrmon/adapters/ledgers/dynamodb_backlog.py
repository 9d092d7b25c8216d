"""The backlog up to the last window: one item for each route and day, written by the publisher alone.

Each remembers the number of the window whose changes it got last. Windows are numbered without gaps and folded in one
after the other, so folding one in twice, or late, by a publisher that was replaced, changes nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from crrmon.adapters.ledgers.dynamodb_bodies import PackedBody
from crrmon.adapters.ledgers.dynamodb_calls import (
    NEW,
    Calls,
    ConditionError,
    Item,
    Key,
    at,
    key_of,
    unchanged,
)
from crrmon.adapters.ledgers.dynamodb_damage import reading
from crrmon.adapters.ledgers.dynamodb_journal import Moved, Sums, Unfolded, add
from crrmon.adapters.ledgers.dynamodb_table import BODY, EXPIRES_AT
from crrmon.domain.objects import Route
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import LedgerError

_PARTITION: Final = "backlog"
_DAY: Final = 86_400
_NUMBER: Final = "number"
_TRIES = 5
EMPTY_KEPT_SECONDS = 20 * 86_400.0
"""An empty item is kept for its number, longer than anybody can have stopped between reading and writing."""


class _Slots(msgspec.Struct, frozen=True, kw_only=True):
    """
    One item.
    """

    route: Route
    number: int
    """Of the last window folded in."""
    slots: dict[int, tuple[int, int, int, int]]
    """By start."""


_SLOTS = PackedBody(_Slots)


class Standing:
    """
    The backlog as of the last window, as it was read: some of its items may be a window ahead of others.
    """

    def __init__(self, slots: Mapping[Key, _Slots]) -> None:
        self._slots = slots

    def sums(self, windows: Sequence[Unfolded]) -> Sums:
        """
        Add up, with the changes of windows that may not be folded in yet, each with its number.
        """
        sums: Sums = {}
        for item in self._slots.values():
            for start, amounts in item.slots.items():
                add(sums, item.route, float(start), amounts)
        for number, moved in windows:
            for source, destination, slot, amounts in moved:
                route = Route(source, destination)
                item_now = self._slots.get(_key(route, slot))
                if item_now is None or item_now.number < number:
                    add(sums, route, slot, amounts)
        return sums


class Backlog:
    """
    Keeps the items.
    """

    def __init__(self, calls: Calls, *, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

    async def read(self) -> Standing:
        """
        Read all items.
        """
        items = await self._calls.query(_PARTITION)
        return Standing({key_of(item): self._slots_of(item) for item in items})

    def _slots_of(self, item: Item) -> _Slots:
        with reading(item, table=self._calls.table):
            return _SLOTS.decode(item[BODY]["B"])

    async def fold(self, number: int, moved: Sequence[Moved]) -> None:
        """
        Fold the changes of a window into the items, each unless it has them.
        """
        parts: dict[Key, list[Moved]] = {}
        for one in moved:
            parts.setdefault(_key(Route(one[0], one[1]), one[2]), []).append(one)
        await asyncio.gather(*(self._fold(key, number, part) for key, part in parts.items()))

    async def _fold(self, key: Key, number: int, moved: Sequence[Moved]) -> None:
        for _ in range(_TRIES):
            item = await self._calls.get(key)
            if item is None:
                old = _Slots(route=Route(moved[0][0], moved[0][1]), number=0, slots={})
                condition = NEW
            else:
                old = self._slots_of(item)
                condition = unchanged(_NUMBER, item[_NUMBER])
            if old.number >= number:
                return
            try:
                await self._calls.put(self._item(key, _folded(old, number, moved)), condition)
            except ConditionError:
                continue
            return
        raise LedgerError("somebody else changed the same sums again and again")

    def _item(self, key: Key, slots: _Slots) -> Item:
        item: Item = {
            **at(key),
            _NUMBER: {"N": str(slots.number)},
            BODY: {"B": _SLOTS.encode(slots)},
        }
        if not slots.slots:
            item[EXPIRES_AT] = {"N": str(int(self._clock.now() + EMPTY_KEPT_SECONDS))}
        return item


def _folded(old: _Slots, number: int, moved: Sequence[Moved]) -> _Slots:
    slots = dict(old.slots)
    for _, _, slot, amounts in moved:
        have = slots.pop(int(slot), (0, 0, 0, 0))
        new = (
            have[0] + amounts[0],
            have[1] + amounts[1],
            have[2] + amounts[2],
            have[3] + amounts[3],
        )
        if any(new):
            slots[int(slot)] = new
    return replace(old, number=number, slots=slots)


def _key(route: Route, slot: float) -> Key:
    return _PARTITION, f"{route.source}#{route.destination}#{int(slot) // _DAY}"
