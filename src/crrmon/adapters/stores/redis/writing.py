"""What is said to a Redis server to write items: the keys and arguments of one call of the script `WRITE`."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from crrmon.adapters.stores.redis.calls import Argument
from crrmon.adapters.stores.redis.names import (
    DAY_SECONDS,
    DUE,
    Days,
    GroupNames,
    KindGroup,
    Names,
    lookup_keys,
    registry_of,
)
from crrmon.domain.slicing import sliced
from crrmon.ports.store import ABSENT, ANY, Action, Guard, ItemKind, Put, Tag

_ARGUMENTS: Final = 4000
"""Most arguments of one command inside a script; Lua's stack takes about twice as many."""


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
        self._looked_up: dict[KindGroup, list[int]] = {}
        self._compared: list[int] = []
        self._commands: dict[tuple[str, bytes], list[Argument]] = defaultdict(list)
        self.turned: dict[KindGroup, Days] = {}
        """Groups in which a new day begins."""

    def arguments(self, actions: Sequence[Action]) -> list[Argument]:
        """Return the arguments of a write."""
        by_group: dict[tuple[ItemKind, int], list[int]] = defaultdict(list)
        for place, action in enumerate(actions):
            by_group[action.key[:2]].append(place)
        looked_up: list[Argument] = []
        for (kind, number), places in by_group.items():
            group = KindGroup(kind, number)
            some = [actions[place] for place in places]
            if kind.ordered:
                self._compared += [place for place in places if actions[place].tag is not ANY]
                for action in some:
                    self._ordered(self._names.of(group), action)
            else:
                self._looked_up[group] = places
                looked_up += self._look_up(group, some)
                self._unordered(group, some)
        arguments: list[Argument] = [len(self._looked_up), *looked_up, len(self._compared)]
        for place in self._compared:
            key = actions[place].key
            items = self._names.at(key).items
            arguments += (self._place(items), key.sort, text_of(actions[place].tag))
        # One command for all items of a key: each call from Lua costs more than its arguments.
        for (command, name), told in self._commands.items():
            place = self._place(name)
            for part in sliced(told, _ARGUMENTS):
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

    def _look_up(self, group: KindGroup, some: Sequence[Action]) -> list[Argument]:
        """Return what the script looks up in a group; its keys come before those of all commands."""
        days = self._days.get(group, ())
        keys = lookup_keys(self._names.of(group), days)
        self._places |= {key: place for place, key in enumerate(keys, len(self.keys) + 1)}
        self.keys += keys
        sorts = [action.key.sort for action in some]
        return [len(some), registry_of(days), *sorts, *[text_of(action.tag) for action in some]]

    def _unordered(self, group: KindGroup, some: Sequence[Action]) -> None:
        names = self._names.of(group)
        gone: dict[str, list[Argument]] = defaultdict(list)
        come: dict[str, list[Argument]] = defaultdict(list)
        dues: list[Argument] = []
        for action in some:
            if isinstance(action, Guard):
                continue
            sort = action.key.sort
            where = _where(action.tag)
            to = _target(action, where) if isinstance(action, Put) else None
            # What stays where it was is overwritten in place; else it would be found in both places.
            if where is not None and where != to:
                gone[where].append(sort)
            if isinstance(action, Put) and to is not None:
                come[to] += (sort, action.body)
                dues += () if action.due is None else (repr(action.due), sort)
        for where, sorts in gone.items():
            self._do("HDEL", names.place(where), *sorts)
            if where == DUE:
                self._do("ZREM", names.due, *sorts)
        for to, bodies in come.items():
            self._do("HSET", names.place(to), *bodies)
        if dues:
            self._do("ZADD", names.due, *dues)
        self._begin_days(group, {int(to) for to in come if to != DUE})

    def _begin_days(self, group: KindGroup, days: set[int]) -> None:
        """Put those days on a group's list that are not yet there."""
        # In the same script as the items: a hash that is in no list of days would never be read or dropped.
        known = self._days.get(group, ())
        if not days.issubset(known):
            self.turned[group] = tuple(sorted(days.union(known)))
            self._do("SET", self._names.of(group).days, registry_of(self.turned[group]))


def _target(put: Put, where: str | None) -> str:
    """
    Return where an unordered item belongs: with what is due, or to a day. A clock that is behind takes none back to an
    earlier day.
    """
    if put.due is not None:
        return DUE
    assert put.expires_at is not None  # noqa: S101 - an unordered item is due or expires
    day = math.floor(put.expires_at / DAY_SECONDS)
    return str(day if where in (None, DUE) else max(day, int(where)))


def _where(tag: Tag) -> str | None:
    """Return where an unordered item was when it was read."""
    text = text_of(tag)
    return text.partition(" ")[0] if text else None


def text_of(tag: Tag) -> str:
    """Return a tag as scripts compare it."""
    return "" if tag is ABSENT else str(tag.value)


def due_tag(body: bytes) -> Tag:
    """Return the tag of an unordered item that is due."""
    return Tag(f"{DUE} {digest(body)}")


def digest(body: bytes) -> str:
    """Return a body's digest, as Redis makes it."""
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()
