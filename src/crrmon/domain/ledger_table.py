"""The table of the dynamodb ledger: its attributes that DynamoDB itself reads, and all that it is created with.

A command creates it through DynamoDB, and a template through CloudFormation, which take the same words for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

PK: Final = "pk"
SK: Final = "sk"
SHARD: Final = "shard_number"
"""Of a trail with a record, else absent: then the trail is not in the index."""
DUE: Final = "due"
"""The next look at a trail, where it has a record."""
EXPIRES_AT: Final = "expires_at"
"""From when on DynamoDB may drop an item by itself: seconds since the epoch. Absent where it must not."""
INDEX: Final = "due"
"""Holds the trails with a record of each shard, by their next look; keys only."""

KEY: Final = ((PK, "HASH"), (SK, "RANGE"))
"""The table's key: names of attributes with their part in it."""
INDEX_KEY: Final = ((SHARD, "HASH"), (DUE, "RANGE"))
"""The index's."""
TYPES: Final = {PK: "S", SK: "S", SHARD: "N", DUE: "N"}
"""The types of the attributes in keys."""


def definition() -> dict[str, Any]:
    """
    Return what the table is, but for its name: keys, index, and how it is paid.

    On-demand, for what it is asked changes by the hour.
    """
    return {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in TYPES.items()
        ],
        "KeySchema": _schema(KEY),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": INDEX,
                "KeySchema": _schema(INDEX_KEY),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    }


def expiry() -> dict[str, Any]:
    """Return by which attribute items expire, as a TimeToLiveSpecification."""
    return {"Enabled": True, "AttributeName": EXPIRES_AT}


def recovery() -> Mapping[str, Any]:
    """
    Return how the table can be brought back, as a PointInTimeRecoverySpecification.

    As it was at any second of the last weeks, for it is the only place that knows what was counted.
    """
    return {"PointInTimeRecoveryEnabled": True}


def _schema(keys: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys]
