"""The store: what a database must be able to do so that the ledger can lie in it.

The ledger (`crrmon.ledger`) decides what is kept and what that means; a store keeps bytes under keys and says whether
they still are the same. Every database that can do the following can hold a ledger:

- read items by key, and the items of an ordered kind in the order of their sort keys;
- write some items on condition that they are as they were read, all of them or none;
- find the items of a group that are due;
- drop what has expired.

Any method may raise `LedgerError`: nothing is known to be done, and asking again may help. A call that was carried out
although its answer got lost may be carried out again by the store itself: it then reports a conflict with its own work,
and who called finds that by reading.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from crrmon.ports.ledger import LedgerError, Pace

FLEET: Final = -1
"""The group of what belongs to all daemons together and to no shard."""


class ItemKind(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What items are about. Kinds are compared by identity: they are declared once, in `crrmon.ledger.layout`."""

    name: str
    """Short, of lower-case letters: it is written into every key."""
    ordered: bool = True
    """Whether items are read in the order of their sort keys. If not, they are many, lie under random digests of equal
    length, are read by key alone, and either are due or expire.
    """
    expires: bool = False
    """Whether items of an ordered kind may expire."""
    spread: int = 1
    """Into how many partitions a store may put the items of all groups, where one cannot take all writes."""


class Key(NamedTuple):
    """Where an item is. Kind and sort key identify it; the group says what can be written together with it."""

    kind: ItemKind
    group: int
    """
    A shard, or `FLEET`; always the same for the same item. A store may tell another one than an item was written under,
    if both are the same to it.
    """
    sort: bytes
    """UTF-8 (with surrogates) where the kind is ordered, and compared byte by byte; 800 bytes at the most."""


class Tag(NamedTuple):
    """What an item was when it was read. Only the store that made it understands it, and only for a while."""

    value: object


ABSENT: Final = Tag("absent")
"""Stands for no item of that key."""
ANY: Final = Tag("any")
"""Stands for whatever is there. Not for unordered items: a store must know where such a one lies."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which items of an ordered kind are read, and from which end."""

    low: bytes = b""
    """The first sort key."""
    high: bytes | None = None
    """The first sort key that is not told any more; None for no end."""
    reverse: bool = False
    """Whether the last ones come first."""
    limit: int | None = None
    """How many are told; None for all."""


WHOLE: Final = Span()


class Found(NamedTuple):
    """An item as it was read."""

    key: Key
    body: bytes
    """Empty also when the item has expired and is still there."""
    tag: Tag


class Due(NamedTuple):
    """An item that seems to be due."""

    at: float
    key: Key
    body: bytes | None = None
    """As it is now, where the store found it on the way; None: read it."""
    tag: Tag = ABSENT
    """What it was then, where there is a body."""


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write an item, whether it is new or not."""

    key: Key
    body: bytes
    tag: Tag = ANY
    """What must be there for it."""
    due: float | None = None
    """From when on `due` tells it, in seconds since the epoch; None for never."""
    expires_at: float | None = None
    """From when on the store may drop it by itself, in seconds since the epoch; None for never."""


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Delete an item; with `ANY`, whether it is there or not."""

    key: Key
    tag: Tag = ANY


class Guard(msgspec.Struct, frozen=True, gc=False):
    """Write nothing, but have something be as it was."""

    key: Key
    tag: Tag


Action = Put | Delete | Guard


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can write at once."""

    items: int
    """How many unordered items go into one write best."""
    spans_groups: bool = True
    """Whether one write may touch several groups."""
    alone: bool = False
    """Whether items that need not go together are written better one by one."""
    item_bytes: int = 16 * 1024 * 1024
    """Of the largest body."""


class ConflictError(Exception):
    """Some items are not as they should be; nothing was written.

    Args:
        places: which of the actions that concerns.
    """

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(f"conditions do not hold at {list(places)}")
        self.places = places


class TooMuchError(LedgerError):
    """The store cannot write that much at once; nothing was written."""


class UnwritableError(LedgerError):
    """The store does not take what is in this request, however often it is asked; nothing was written."""


class Store(Protocol):
    """What every database does for the ledger."""

    name: str
    """What it is called for people: the setting and its value."""
    exclusive: bool
    """Whether only one process can have it open."""
    limits: Limits
    """What it can write at once."""
    pace: Pace
    """How a ledger in it is best asked."""

    def where(self, key: Key) -> str:
        """Name an item for people, who look for it with the database's own tools."""

    def tag_of(self, body: bytes) -> Tag:
        """Return the tag that an item of an ordered kind has while this is its body."""

    async def get(self, keys: Sequence[Key]) -> Sequence[Found]:
        """Read items as they are now.

        Args:
            keys: each once.

        Returns:
            Those that are there, in any order. One that has expired may still be told as it was, with an empty body, or
            not at all.
        """

    async def scan(
        self, kind: ItemKind, groups: Sequence[int], span: Span = WHOLE
    ) -> Sequence[Found]:
        """Read items of an ordered kind, of all groups that have some.

        Each is told as it was at some moment of the call: what was there all along is told once.

        Args:
            kind: which.
            groups: all that may have items of it.
            span: which of those.

        Returns:
            Items in the order of their sort keys.
        """

    async def write(self, actions: Sequence[Action]) -> None:
        """Do all of it, durably, or nothing.

        Args:
            actions: at least one, each of another key. Unless `limits.spans_groups`, all of one group.

        Raises:
            ConflictError: some items are not what their tags say.
            TooMuchError: it must be split.
            UnwritableError: it can never be written.
        """

    async def write_each(self, actions: Sequence[Put | Delete]) -> None:
        """Do any number of unconditional actions on ordered items, in any order; when it fails, some may be done."""

    async def due(
        self, kind: ItemKind, groups: Sequence[int], *, until: float, limit: int
    ) -> Sequence[Due]:
        """Find unordered items that are due, the longest due first.

        What is told without a body is a hint: it may be a moment late, so whoever acts on it reads the item.
        """

    async def walk(
        self, kind: ItemKind, group: int, *, after: Due | None, limit: int
    ) -> Sequence[Due]:
        """Go through all items of a group that are due at whatever time, in the order of when.

        Args:
            kind: which.
            group: which.
            after: the last one told, still there as it was; None at the beginning.
            limit: how many to tell; fewer end the group.
        """

    async def expire(self, kind: ItemKind, groups: Sequence[int], *, now: float) -> int:
        """Drop a bounded number of items of a kind that have expired, where the database does not do it by itself.

        Returns:
            How many were dropped; 0 when none is left.
        """

    async def close(self) -> None:
        """Release the database; nothing else may be called afterwards."""


def prefixed(prefix: bytes) -> Span:
    """Return the span of the sort keys that begin with a prefix."""
    stripped = prefix.rstrip(b"\xff")
    high = (stripped[:-1] + bytes([stripped[-1] + 1])) if stripped else None
    return Span(low=prefix, high=high)
