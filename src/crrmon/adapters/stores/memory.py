"""Implements the store in this process's memory: for tests and trials. It survives nothing.

Every method runs from start to end without awaiting anything, so each is atomic as it stands.
"""

import bisect
import heapq
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import msgspec

from crrmon.ports.ledger import IN_PROCESS
from crrmon.ports.store import (
    ABSENT,
    ANY,
    WHOLE,
    Action,
    ConflictError,
    Delete,
    Due,
    Found,
    Guard,
    ItemKind,
    Key,
    Limits,
    Put,
    Span,
    Tag,
)

_EXPIRED_AT_ONCE = 10_000


class _Item(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an item. Not the put that wrote it: that also holds what was there before."""

    group: int
    body: bytes
    due: float | None
    expires_at: float | None


class MemoryStore:
    """Implements the `Store` port."""

    name = "ledger.kind memory"
    exclusive = True
    """Nobody else sees this process's memory."""
    limits = Limits(items=500)
    pace = IN_PROCESS

    def __init__(self) -> None:
        # A million items are to take little: everything is found by its sort key, of which there is one object.
        self._items: dict[ItemKind, dict[bytes, _Item]] = defaultdict(dict)
        self._sorted: dict[ItemKind, list[bytes]] = defaultdict(list)
        """The sort keys of ordered kinds."""
        self._due: dict[tuple[ItemKind, int], list[tuple[float, bytes]]] = defaultdict(list)
        """When items of a kind and group are due, and their sort keys; sorted."""
        self._expiries: dict[ItemKind, list[tuple[float, bytes]]] = defaultdict(list)
        """A heap of each kind; what is not an item's expiry any more is left in it."""

    def where(self, key: Key) -> str:
        """Name an item for people."""
        return f"{key.kind.name} {key.sort!r} in memory"

    def tag_of(self, body: bytes) -> Tag:
        """Return the tag of a body: itself."""
        return Tag(body)

    # ---- reading ----

    async def get(self, keys: Sequence[Key]) -> Sequence[Found]:
        """Read items."""
        there = ((key, self._items[key.kind].get(key.sort)) for key in keys)
        return [Found(key, one.body, Tag(one.body)) for key, one in there if one is not None]

    async def scan(
        self, kind: ItemKind, groups: Sequence[int], span: Span = WHOLE
    ) -> Sequence[Found]:
        """Read items of an ordered kind, in the order of their sort keys."""
        sorts, items = self._sorted[kind], self._items[kind]
        start = bisect.bisect_left(sorts, span.low)
        stop = len(sorts) if span.high is None else bisect.bisect_left(sorts, span.high)
        places = range(stop - 1, start - 1, -1) if span.reverse else range(start, stop)
        mine = set(groups)
        found = ((sort, items[sort]) for sort in map(sorts.__getitem__, places))
        wanted = (
            Found(Key(kind, one.group, sort), one.body, Tag(one.body))
            for sort, one in found
            if one.group in mine
        )
        return list(islice(wanted, span.limit))

    # ---- writing ----

    async def write(self, actions: Sequence[Action]) -> None:
        """Do all of it or nothing."""
        conflicts = [place for place, one in enumerate(actions) if not self._holds(one)]
        if conflicts:
            raise ConflictError(conflicts)
        for action in actions:
            self._do(action)

    async def write_each(self, actions: Sequence[Put | Delete]) -> None:
        """Do unconditional actions."""
        for action in actions:
            self._do(action)

    def _holds(self, action: Action) -> bool:
        if action.tag is ANY:
            return True
        there = self._items[action.key.kind].get(action.key.sort)
        if there is None or action.tag is ABSENT:
            return there is None and action.tag is ABSENT
        return action.tag.value == there.body

    def _do(self, action: Action) -> None:
        match action:
            case Put():
                self._leave(action.key.kind, action.key.sort)
                self._enter(action)
            case Delete():
                self._leave(action.key.kind, action.key.sort)
            case Guard():
                pass

    def _leave(self, kind: ItemKind, sort: bytes) -> None:
        there = self._items[kind].pop(sort, None)
        if there is None:
            return
        if kind.ordered:
            sorts = self._sorted[kind]
            del sorts[bisect.bisect_left(sorts, sort)]
        if there.due is not None:
            dues = self._due[kind, there.group]
            del dues[bisect.bisect_left(dues, (there.due, sort))]

    def _enter(self, put: Put) -> None:
        kind, group, sort = put.key
        self._items[kind][sort] = _Item(group, put.body, put.due, put.expires_at)
        if kind.ordered:
            bisect.insort(self._sorted[kind], sort)
        if put.due is not None:
            bisect.insort(self._due[kind, group], (put.due, sort))
        if put.expires_at is not None:
            heapq.heappush(self._expiries[kind], (put.expires_at, sort))

    # ---- time ----

    async def due(
        self, kind: ItemKind, groups: Sequence[int], *, until: float, limit: int
    ) -> Sequence[Due]:
        """Find unordered items that are due, the longest due first."""
        some = [
            [(at, sort, group) for at, sort in islice(dues, limit)]
            for group in set(groups)
            if (dues := self._due[kind, group]) and dues[0][0] <= until
        ]
        first = islice(heapq.merge(*some), limit)
        items = self._items[kind]
        found = ((at, group, sort, items[sort].body) for at, sort, group in first if at <= until)
        return [
            Due(at, Key(kind, group, sort), body, Tag(body)) for at, group, sort, body in found
        ]

    async def walk(
        self, kind: ItemKind, group: int, *, after: Due | None, limit: int
    ) -> Sequence[Due]:
        """Go through all items of a group that are due at whatever time."""
        dues = self._due[kind, group]
        start = 0 if after is None else bisect.bisect_right(dues, (after.at, after.key.sort))
        return [Due(at, Key(kind, group, sort)) for at, sort in dues[start : start + limit]]

    async def expire(
        self,
        kind: ItemKind,
        groups: Sequence[int],  # noqa: ARG002 - all are in one heap
        *,
        now: float,
    ) -> int:
        """Drop a bounded number of items of a kind that have expired."""
        dropped = 0
        expiries = self._expiries[kind]
        while dropped < _EXPIRED_AT_ONCE and expiries and expiries[0][0] <= now:
            at, sort = heapq.heappop(expiries)
            there = self._items[kind].get(sort)
            # The heap is not searched when an item is written again, so an entry may be of what it was before.
            if there is not None and there.expires_at == at:
                self._leave(kind, sort)
                dropped += 1
        return dropped

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""
