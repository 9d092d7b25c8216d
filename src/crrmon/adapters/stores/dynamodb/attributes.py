"""The attributes of items in the table, by name, and the key of each."""

from collections.abc import Mapping
from typing import Any, Final

PK: Final = "pk"
SK: Final = "sk"
BODY: Final = "body"
PACKED: Final = "packed"
"""A body that zlib made smaller, instead of `BODY`."""
TAG: Final = "tag"
SHARD: Final = "shard_number"
"""Of a trail with a record, else absent: then the trail is not in the index."""
DUE: Final = "due"
"""The next look at a trail, where it has a record."""
EXPIRES_AT: Final = "expires_at"
"""From when on DynamoDB may drop an item by itself: seconds since the epoch. Absent where it must not."""
INDEX: Final = "due"
"""Holds the trails with a record of each shard, by their next look; keys only."""

Item = dict[str, Any]
"""As DynamoDB has it: each value in a map from its type."""
Position = tuple[str, str]
"""Partition key and sort key."""


def at(key: Position) -> Item:
    """Write down a key."""
    partition, sort = key
    return {PK: {"S": partition}, SK: {"S": sort}}


def position_of(item: Mapping[str, Any]) -> Position:
    """Read the key of an item."""
    return item[PK]["S"], item[SK]["S"]


def body_bytes(item: Mapping[str, Any]) -> int:
    """Return how large the body of an item is, as it is stored."""
    return len(item.get(BODY, {}).get("B", b"")) + len(item.get(PACKED, {}).get("B", b""))
