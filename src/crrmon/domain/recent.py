"""What is remembered by a name that others choose: so much of it, and the longest unused goes first.

Names of buckets come out of messages. What is kept for each must not grow with how many somebody made up.
"""

from collections import OrderedDict
from collections.abc import Callable, ItemsView
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

MOST = 5000
"""More buckets than anybody replicates from; what is kept of one takes up to two kilobytes."""


class Recent(Generic[Key, Value]):
    """A dictionary that forgets what was longest not asked for, once it is full.

    Args:
        most: how many are kept.
        spared: tells of a value whether it is in use and cannot be forgotten now.
    """

    def __init__(self, *, most: int = MOST, spared: Callable[[Value], bool] | None = None) -> None:
        self._most = most
        self._spared = spared
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    def get(self, key: Key) -> Value | None:
        """Return what is kept of a key, and take it for used; None for nothing."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Keep a value of a key instead of the one before."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._make_room()

    def pop(self, key: Key) -> Value | None:
        """Forget a key; return what was kept of it."""
        return self._kept.pop(key, None)

    def items(self) -> ItemsView[Key, Value]:
        """Return all that is kept, the longest unused first, without taking it for used."""
        return self._kept.items()

    def oldest(self) -> tuple[Key, Value] | None:
        """Return what was longest not used, without taking it for used; None when nothing is kept."""
        return next(iter(self._kept.items()), None)

    def _make_room(self) -> None:
        for key, value in self._kept.items():
            if self._spared is None or not self._spared(value):
                del self._kept[key]
                return
