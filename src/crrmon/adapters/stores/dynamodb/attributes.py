"""The attributes of items that the ledger alone reads, by name, and the key of each item."""

from collections.abc import Mapping
from typing import Any, Final

from crrmon.domain.ledger_table import PK, SK

BODY: Final = "body"
PACKED: Final = "packed"
"""A body that zlib made smaller, instead of `BODY`."""
TAG: Final = "tag"

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
