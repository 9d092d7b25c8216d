"""What calls DynamoDB: for items whichever client AWS is to be asked by, for tables always the SDK's."""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.fast.json_calls import Calls, SdkCalls

OF_ITEMS: Final = frozenset(
    {"BatchGetItem", "BatchWriteItem", "DeleteItem", "PutItem", "Query", "TransactWriteItems"}
)
"""Operations that are called all day, and tell what they consume."""


class _Value(TypedDict, total=False):
    """An attribute of the kinds that the ledger has."""

    S: str
    N: str
    B: bytes


_Values = dict[str, _Value]


class _Answer(TypedDict, total=False):
    """What is read of answers about items."""

    Items: list[_Values]
    LastEvaluatedKey: _Values
    Responses: dict[str, list[_Values]]
    UnprocessedKeys: Any
    UnprocessedItems: Any
    ConsumedCapacity: Any


class TableClient:
    """Calls operations, once each.

    Args:
        items: calls those of items.
        tables: calls all others.
    """

    def __init__(self, items: Calls, tables: Calls) -> None:
        self._items = items
        self._tables = tables

    async def call(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call an operation; as `Calls.call`."""
        if operation in OF_ITEMS:
            return await self._items.call(operation, request, _Answer)
        return await self._tables.call(operation, request, dict)


async def client_of(aws: AwsSession, region: str | None) -> tuple[TableClient, str]:
    """Return what calls the tables of a region, and the region's name.

    Raises:
        NoAnswerError: as `AwsSession.client`.
    """
    client: Any = await aws.client("dynamodb", region)
    calls = await aws.calls("dynamodb", region)
    return TableClient(calls, SdkCalls(client)), client.meta.region_name
