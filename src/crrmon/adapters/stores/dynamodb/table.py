"""The table of the dynamodb ledger: what it looks like, and whether one that is there will do."""

from collections.abc import Mapping
from typing import Any

from crrmon.domain import ledger_table
from crrmon.domain.ledger_table import DUE, EXPIRES_AT, INDEX, INDEX_KEY, KEY, PK, SHARD, SK
from crrmon.ports.ledger import UnusableLedgerError


def description(table: str, tags: Mapping[str, str]) -> Mapping[str, Mapping[str, Any]]:
    """Return how the table is made: the requests, by operation, in their order."""
    create = {"TableName": table, **ledger_table.definition()}
    if tags:
        create["Tags"] = tags_of(tags)
    return {
        "CreateTable": create,
        "UpdateTimeToLive": {
            "TableName": table,
            "TimeToLiveSpecification": ledger_table.expiry(),
        },
        "UpdateContinuousBackups": {
            "TableName": table,
            "PointInTimeRecoverySpecification": ledger_table.recovery(),
        },
    }


def tags_of(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Write tags down as DynamoDB takes them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def unlike(described: Mapping[str, Any]) -> str | None:
    """Return in what a table differs from what the ledger needs; None when it will do.

    Args:
        described: the `Table` of DescribeTable.
    """
    kinds = {
        one["AttributeName"]: one["AttributeType"] for one in described["AttributeDefinitions"]
    }
    if _keys(described) != list(KEY) or (kinds[PK], kinds[SK]) != ("S", "S"):
        return f"its key must be {PK} (HASH, string) and {SK} (RANGE, string)"
    for index in described.get("GlobalSecondaryIndexes", ()):
        if index["IndexName"] == INDEX:
            if _keys(index) == list(INDEX_KEY) and (kinds[SHARD], kinds[DUE]) == ("N", "N"):
                return None
            break
    return f"it must have a global index {INDEX!r} on {SHARD} (HASH, number) and {DUE} (RANGE, number)"


def _keys(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one["AttributeName"], one["KeyType"]) for one in described["KeySchema"]]


def unlike_error(table: str, difference: str) -> UnusableLedgerError:
    """Return the error for a table that is there and will not do."""
    return UnusableLedgerError(
        f"ledger.dynamodb.table {table!r} was not created for crrmon: {difference}; "
        "name another table and run: crrmon ledger create"
    )


def expiry_is_on(told: Mapping[str, Any]) -> bool:
    """Return from the answer of DescribeTimeToLive whether items expire by `EXPIRES_AT`."""
    expiry = told.get("TimeToLiveDescription", {})
    on = expiry.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    return on and expiry.get("AttributeName") == EXPIRES_AT
