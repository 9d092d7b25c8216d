"""The backlog up to the last window: one item for each route and day, written by the publisher alone.

Each remembers the number of the window whose changes it got last. Windows are numbered without gaps and folded in one
after the other, so folding one in twice, or late, by a publisher that was replaced, changes nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from crrmon.domain.objects import Route
from crrmon.domain.slicing import sliced
from crrmon.ledger.damage import decoded
from crrmon.ledger.encoding import Body
from crrmon.ledger.journal import Moved, Sums, Unfolded, add
from crrmon.ledger.layout import BACKLOG, OF_FLEET, fleet_key, joined
from crrmon.ledger.pauses import Pauses
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import ABSENT, ConflictError, Key, Put, Store, Tag

_DAY: Final = 86_400
_TRIES = 5
EMPTY_KEPT_SECONDS = 20 * 86_400.0
"""An empty item is kept for its number, longer than anybody can have stopped between reading and writing."""


class _DayOfRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One item."""

    route: Route
    number: int
    """Of the last window folded in."""
    slots: dict[int, tuple[int, int, int, int]]
    """By start."""


_SLOTS = Body(_DayOfRoute)


class FoldedBacklog:
    """The backlog as of the last window, as it was read: some of its items may be a window ahead of others."""

    def __init__(self, slots: Mapping[Key, _DayOfRoute]) -> None:
        self._slots = slots

    async def sums(self, windows: Sequence[Unfolded]) -> Sums:
        """Add up, with the changes of windows that may not be folded in yet, each with its number."""
        sums: Sums = {}
        pauses = Pauses()
        for item in self._slots.values():
            for start, amounts in item.slots.items():
                add(sums, item.route, float(start), amounts)
            await pauses.after(len(item.slots))
        for number, moved in windows:
            for source, destination, slot, amounts in moved:
                route = Route(source, destination)
                item_now = self._slots.get(_key(route, slot))
                if item_now is None or item_now.number < number:
                    add(sums, route, slot, amounts)
        return sums


class Backlog:
    """Keeps the items."""

    def __init__(self, store: Store, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def read(self) -> FoldedBacklog:
        """Read all items."""
        slots: dict[Key, _DayOfRoute] = {}
        pauses = Pauses()
        for found in await self._store.scan(BACKLOG, OF_FLEET):
            slots[found.key] = item = decoded(self._store, found, _SLOTS)
            await pauses.after(len(item.slots))
        return FoldedBacklog(slots)

    async def fold(self, number: int, moved: Sequence[Moved]) -> None:
        """Fold the changes of a window into the items, each unless it has them."""
        parts: dict[Key, list[Moved]] = {}
        for one in moved:
            parts.setdefault(_key(Route(one[0], one[1]), one[2]), []).append(one)
        for _ in range(_TRIES):
            if await self._fold(number, parts):
                return
        raise LedgerError("another process keeps changing the same sums")

    async def _fold(self, number: int, parts: Mapping[Key, Sequence[Moved]]) -> bool:
        """Fold changes in; return whether all are in."""
        found = {one.key: one for one in await self._store.get(list(parts))} if parts else {}
        puts = []
        for key, moved in parts.items():
            there = found.get(key)
            if there is None or not there.body:
                old = _DayOfRoute(route=Route(moved[0][0], moved[0][1]), number=0, slots={})
            else:
                old = decoded(self._store, there, _SLOTS)
            if old.number < number:
                tag = ABSENT if there is None else there.tag
                puts.append(self._put(key, _folded(old, number, moved), tag))
        limits = self._store.limits
        size = 1 if limits.alone else limits.items
        return all(await asyncio.gather(*map(self._write, sliced(puts, size))))

    async def _write(self, puts: Sequence[Put]) -> bool:
        try:
            await self._store.write(puts)
        except ConflictError:
            return False
        return True

    def _put(self, key: Key, slots: _DayOfRoute, tag: Tag) -> Put:
        expires_at = None if slots.slots else self._clock.now() + EMPTY_KEPT_SECONDS
        return Put(key, _SLOTS.encode(slots), tag=tag, expires_at=expires_at)


def _folded(old: _DayOfRoute, number: int, moved: Sequence[Moved]) -> _DayOfRoute:
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
    return fleet_key(BACKLOG, joined(route.source, route.destination, str(int(slot) // _DAY)))
