"""What is said to a Redis server to write items: the keys and arguments of one call of the script `WRITE`."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from crrmon.adapters.stores.redis.calls import Argument
from crrmon.adapters.stores.redis.names import (
    DAY_SECONDS,
    Days,
    GroupNames,
    KindGroup,
    Names,
    lookup_keys,
    registry_of,
)
from crrmon.domain.slicing import sliced
from crrmon.ports.store import ABSENT, ANY, Action, Guard, Put, Tag

_ARGUMENTS: Final = 4000
"""Most arguments of one command inside a script; Lua's stack takes about twice as many."""
_DUE: Final = "due"


class Writing:
    """The keys and arguments of one write, as they are put together.

    Args:
        names: of all keys.
        days: of each group of an unordered kind, as they are known.
    """

    def __init__(self, names: Names, days: dict[KindGroup, Days]) -> None:
        self._names = names
        self._days = days
        self.keys: list[bytes] = []
        self._places: dict[bytes, int] = {}
        self._looked_up: dict[KindGroup, list[int]] = defaultdict(list)
        self._compared: list[int] = []
        self._commands: dict[tuple[str, bytes], list[Argument]] = defaultdict(list)
        self.turned: dict[KindGroup, Days] = {}
        """Groups in which a new day begins."""

    def arguments(self, actions: Sequence[Action]) -> list[Argument]:
        """Return the arguments of a write."""
        for place, action in enumerate(actions):
            group = KindGroup(action.key.kind, action.key.group)
            if not group.kind.ordered:
                self._looked_up[group].append(place)
                self._unordered(group, action)
            else:
                if action.tag is not ANY:
                    self._compared.append(place)
                self._ordered(self._names.of(group), action)
        for group, days in self.turned.items():
            self._do("SET", self._names.of(group).days, registry_of(days))
        # NB: the script expects the keys of the groups first.
        arguments: list[Argument] = [len(self._looked_up)]
        for group, places in self._looked_up.items():
            self.keys += lookup_keys(self._names.of(group), self._days.get(group, ()))
            arguments += (len(places), registry_of(self._days.get(group, ())))
            arguments += [actions[place].key.sort for place in places]
            arguments += [text_of(actions[place].tag) for place in places]
        arguments.append(len(self._compared))
        for place in self._compared:
            key = actions[place].key
            items = self._names.at(key).items
            arguments += (self._place(items), key.sort, text_of(actions[place].tag))
        # One command for all items of a key: each call from Lua costs more than its arguments.
        for (command, name), some in self._commands.items():
            place = self._place(name)
            for part in sliced(some, _ARGUMENTS):
                arguments += (command, place, len(part))
                arguments += part
        return arguments

    @property
    def groups(self) -> list[KindGroup]:
        """The groups of which unordered items are looked up, in the order in which the script tells of them."""
        return list(self._looked_up)

    def conflicts(self, others: Sequence[int], changed: Sequence[int]) -> list[int]:
        """Return the places of actions whose items are not what they were, as the script tells them."""
        looked_up = [place for places in self._looked_up.values() for place in places]
        return [looked_up[at] for at in others] + [self._compared[at] for at in changed]

    def _do(self, command: str, key: bytes, *arguments: Argument) -> None:
        self._commands[command, key] += arguments

    def _place(self, key: bytes) -> int:
        place = self._places.get(key)
        if place is None:
            self.keys.append(key)
            place = self._places[key] = len(self.keys)
        return place

    def _ordered(self, names: GroupNames, action: Action) -> None:
        sort = action.key.sort
        if isinstance(action, Guard):
            return
        if not isinstance(action, Put):
            self._do("HDEL", names.items, sort)
            self._do("ZREM", names.order, sort)
            if action.key.kind.expires:
                self._do("ZREM", names.expiry, sort)
            return
        self._do("HSET", names.items, sort, action.body)
        # A hash has no order, and a sorted set no bodies: an ordered item is in both.
        self._do("ZADD", names.order, 0, sort)
        # NB: a key that is never there must not be named: while a slot of a cluster moves, its script would be refused.
        if not action.key.kind.expires:
            return
        if action.expires_at is None:
            self._do("ZREM", names.expiry, sort)
        else:
            self._do("ZADD", names.expiry, repr(action.expires_at), sort)

    def _unordered(self, group: KindGroup, action: Action) -> None:
        names, sort = self._names.of(group), action.key.sort
        if isinstance(action, Guard):
            return
        where = _where(action.tag)
        to = _target(action, where) if isinstance(action, Put) else None
        # What stays where it was is overwritten in place; else it would be found in both places.
        if where is not None and where != to:
            if where == _DUE:
                self._do("HDEL", names.items, sort)
                self._do("ZREM", names.due, sort)
            else:
                self._do("HDEL", names.kept(int(where)), sort)
        if not isinstance(action, Put):
            return
        if action.due is not None:
            self._do("HSET", names.items, sort, action.body)
            self._do("ZADD", names.due, repr(action.due), sort)
            return
        day = int(to or 0)
        self._do("HSET", names.kept(day), sort, action.body)
        # In the same script as the item: a hash that is in no list of days would never be read or dropped.
        known = self.turned.get(group, self._days.get(group, ()))
        if day not in known:
            self.turned[group] = tuple(sorted({*known, day}))


def _target(put: Put, where: str | None) -> str:
    """
    Return where an unordered item belongs: with what is due, or to a day. A clock that is behind takes none back to an
    earlier day.
    """
    if put.due is not None:
        return _DUE
    assert put.expires_at is not None  # noqa: S101 - an unordered item is due or expires
    day = math.floor(put.expires_at / DAY_SECONDS)
    return str(day if where in (None, _DUE) else max(day, int(where)))


def _where(tag: Tag) -> str | None:
    """Return where an unordered item was when it was read."""
    text = text_of(tag)
    return text.partition(" ")[0] if text else None


def text_of(tag: Tag) -> str:
    """Return a tag as scripts compare it."""
    return "" if tag is ABSENT else str(tag.value)


def due_tag(body: bytes) -> Tag:
    """Return the tag of an unordered item that is due."""
    return Tag(f"{_DUE} {digest(body)}")


def digest(body: bytes) -> str:
    """Return a body's digest, as Redis makes it."""
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()
