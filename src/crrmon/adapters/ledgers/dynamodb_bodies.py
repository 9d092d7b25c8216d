"""How values go into items of DynamoDB: few attributes, packed bodies, sort keys in the order of times.

A write unit holds 1 KB of an item, names and keys included: bodies that may be larger are compressed.
"""

import math
import struct
import zlib
from typing import Final, Generic, TypeVar

from crrmon.adapters.ledgers.stored import Body

T = TypeVar("T")

_PACKED: Final = b"x"
"""Starts what zlib made; neither a MessagePack map nor one of our JSON bodies starts like this."""
_WORTH_PACKING = 700
"""A smaller body is in the first write unit as it is."""


class PackedBody(Generic[T]):
    """
    Turns values of one type into bytes and back, fewer bytes where that pays.
    """

    def __init__(self, kind: type[T]) -> None:
        self._body = Body(kind)

    def encode(self, value: T) -> bytes:
        """
        Write a value.
        """
        plain = self._body.encode(value)
        if len(plain) < _WORTH_PACKING:
            return plain
        return zlib.compress(plain, 1)

    def decode(self, body: bytes) -> T:
        """
        Read a value.
        """
        return self._body.decode(zlib.decompress(body) if body[:1] == _PACKED else body)


def sortable(time: float) -> str:
    """
    Write a time (not before the epoch) so that texts sort as times do.
    """
    return struct.pack(">d", time + 0.0).hex()


def time_of(text: str) -> float:
    """
    Undo `sortable`.
    """
    (time,) = struct.unpack(">d", bytes.fromhex(text))
    return float(time)


def number(value: float) -> dict[str, str]:
    """
    Write a number as DynamoDB itself would; every float comes back as it was.

    Raises:
        ValueError: it is not finite, which DynamoDB does not take.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that DynamoDB takes")
    return {"N": str(int(value)) if value.is_integer() else repr(value)}
