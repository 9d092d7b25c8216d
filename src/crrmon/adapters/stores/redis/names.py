"""Where items lie in Redis: the names of all keys.

All keys of a group share a hash tag, so that a script can change them together on any server. Of an ordered kind, say
`journal`:

- `journal`: a hash, sort key to body;
- `journal:order`: a sorted set of the sort keys, all of one score, so that they are ordered byte by byte;
- `journal:expiry`: a sorted set of those that expire, by when, if the kind has such.

Of an unordered kind, say `trail`:

- `trail`: a hash, sort key to body, of what is due; `trail:due`: a sorted set of the same, by when;
- `trail:kept:DAY`: a hash of what expires on a day, so that it goes by dropping a whole hash;
- `trail:days`: which of those there are. Whoever reads or writes names the days that it knows; if there are others by
  now, it learns them and starts over. So daemons whose clocks differ by whatever still find each other's items.

Nothing has a time to live: what evicts only volatile keys never touches a ledger.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from crrmon.ports.store import ItemKind, Key

DAY_SECONDS: Final = 86_400

DUE: Final = "due"
"""Where an unordered item is that is due; else that is the number of a day."""

Days = tuple[int, ...]
"""Those on which something of a group expires."""


class KindGroup(NamedTuple):
    """The items of a kind in a group, which lie together."""

    kind: ItemKind
    number: int


class GroupNames:
    """The names of a group's keys."""

    def __init__(self, home: str, kind: str) -> None:
        self.home = home.encode()
        """The hash tag."""
        self.items = f"{home}:{kind}".encode()
        self.order = self.items + b":order"
        self.expiry = self.items + b":expiry"
        self.due = self.items + b":due"
        self.days = self.items + b":days"

    def kept(self, day: int) -> bytes:
        """Name the hash of what expires on a day."""
        return b"%b:kept:%d" % (self.items, day)

    def place(self, where: str) -> bytes:
        """Name the hash of what is due, or of what expires on a day."""
        return self.items if where == DUE else self.kept(int(where))


class Names:
    """Names the keys of a ledger.

    Args:
        prefix: of all keys.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._of: dict[KindGroup, GroupNames] = {}

    def at(self, key: Key) -> GroupNames:
        """Return the names of the keys of an item's group."""
        return self.of(KindGroup(key.kind, key.group))

    def of(self, group: KindGroup) -> GroupNames:
        """Return the names of a group's keys."""
        names = self._of.get(group)
        if names is None:
            tag = self._prefix if group.number < 0 else f"{self._prefix}:{group.number}"
            names = self._of[group] = GroupNames(f"{{{tag}}}", group.kind.name)
        return names


def lookup_keys(names: GroupNames, days: Days) -> list[bytes]:
    """Return the keys by which unordered items of a group are looked up."""
    return [names.items, names.days, *(names.kept(day) for day in days)]


@lru_cache(maxsize=64)
def registry_of(days: Days) -> bytes:
    """Write down which days there are."""
    return " ".join(map(str, days)).encode()


def days_of(registry: bytes) -> Days:
    """Read which days there are.

    Raises:
        ValueError: it is damaged.
    """
    days = tuple(map(int, registry.split()))
    if registry_of(days) != registry:
        raise ValueError(f"{registry!r} is not a list of days")
    return days
