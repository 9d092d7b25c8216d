"""How items of the ledger become items of DynamoDB: where they lie, and few attributes with packed bodies.

An item of an ordered kind lies under the kind's name, or in one of its partitions, in the order of its sort keys. One of
an unordered kind has a partition of its own. A write unit holds 1 KB of an item, names and keys included: bodies that
may be larger are compressed.
"""

import hashlib
import math
import zlib
from collections.abc import Mapping
from typing import Any, Final

from crrmon.adapters.stores.dynamodb.attributes import BODY, PACKED, TAG, Item, Position, at
from crrmon.domain.ledger_table import DUE, EXPIRES_AT, PK, SHARD, SK
from crrmon.ports.store import ABSENT, ANY, Found, ItemKind, Key, Put, Tag

_WORTH_PACKING: Final = 700
"""A smaller body is in the first write unit as it is."""


def partition(kind: ItemKind, group: int) -> str:
    """Return the partition of an ordered kind's items of a group."""
    return kind.name if kind.spread == 1 else f"{kind.name}#{group % kind.spread}"


def position(key: Key) -> Position:
    """Return where an item lies."""
    kind, group, sort = key
    if kind.ordered:
        return partition(kind, group), sort.decode("utf-8", "surrogatepass")
    return f"{kind.name}#{sort.hex()}", kind.name


def sort_of(kind: ItemKind, item: Mapping[str, Any]) -> bytes:
    """Return the sort key of an item."""
    if kind.ordered:
        return str(item[SK]["S"]).encode("utf-8", "surrogatepass")
    return bytes.fromhex(item[PK]["S"].removeprefix(f"{kind.name}#"))


def number(value: float) -> dict[str, str]:
    """Return a number as DynamoDB has it; every float comes back as it was.

    Raises:
        ValueError: it is not finite, which DynamoDB does not take.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number that DynamoDB accepts")
    return {"N": str(int(value)) if value.is_integer() else repr(value)}


def item_of(put: Put) -> Item:
    """Return the item that a put writes."""
    item = at(position(put.key))
    if put.body:
        item[TAG] = {"S": tag_of(put.body)}
        packed = zlib.compress(put.body, 1) if len(put.body) >= _WORTH_PACKING else put.body
        item |= {PACKED: {"B": packed}} if len(packed) < len(put.body) else {BODY: {"B": put.body}}
    if put.due is not None:
        # Only items with both attributes are in the index: it costs nothing for marks, which are nearly all there is.
        item |= {SHARD: {"N": str(put.key.group)}, DUE: number(put.due)}
    if put.expires_at is not None:
        item[EXPIRES_AT] = {"N": str(math.ceil(put.expires_at))}
    return item


def found_of(key: Key, item: Item, *, now: float) -> Found:
    """Read an item; the body of one that has expired is empty, for DynamoDB may take two days to drop it."""
    tag = Tag(item.get(TAG, {}).get("S", ""))
    try:
        return Found(key, _body_of(item, now), tag)
    except (zlib.error, LookupError, ValueError, TypeError):
        return Found(key, _DAMAGED, tag)


def _body_of(item: Item, now: float) -> bytes:
    """Read the body of an item.

    Raises:
        LookupError: it lacks one that it was written with.
        ValueError: one of its attributes is not what is written there.
        zlib.error: it is not what was packed.
    """
    if EXPIRES_AT in item and int(item[EXPIRES_AT]["N"]) <= now:
        return b""
    if PACKED in item:
        return zlib.decompress(item[PACKED]["B"])
    # NB: one that was written without a body has no tag either; without both it would pass for expired.
    return bytes(item[BODY]["B"]) if BODY in item or TAG in item else b""


_DAMAGED: Final = b"\xc1damaged"
"""No body of ours: whoever reads it finds that it cannot be read."""


def tag_of(body: bytes) -> str:
    """
    Return the tag of a body. Equal content means equal decisions, also where an item was deleted and made again meanwhile.
    """
    return hashlib.blake2b(body, digest_size=9).hexdigest() if body else ""


def condition(tag: Tag) -> dict[str, Any]:
    """Return the fields of a request that make it conditional on what an item is."""
    if tag is ANY:
        return {}
    if tag is ABSENT:
        return {"ConditionExpression": f"attribute_not_exists({PK})"}
    if tag.value == "":
        return {"ConditionExpression": f"attribute_exists({PK}) AND attribute_not_exists({TAG})"}
    return {
        "ConditionExpression": f"{TAG} = :tag",
        "ExpressionAttributeValues": {":tag": {"S": tag.value}},
    }
