"""What calls DynamoDB: AWS's SDK, or for items the fast client, with the same names and answers."""

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypedDict

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.fast.json_calls import JsonCalls

OPERATIONS: Final = {
    "put_item": "PutItem",
    "delete_item": "DeleteItem",
    "query": "Query",
    "batch_get_item": "BatchGetItem",
    "batch_write_item": "BatchWriteItem",
    "transact_write_items": "TransactWriteItems",
    "describe_table": "DescribeTable",
    "describe_time_to_live": "DescribeTimeToLive",
}
"""By their names in the SDK."""

OF_TABLES: Final = frozenset({"describe_table", "describe_time_to_live"})
"""Asked once: they stay the SDK's."""


class TableClient(Protocol):
    """Calls operations, once each."""

    async def call(self, method: str, request: Mapping[str, Any]) -> Any:
        """Call an operation.

        Args:
            method: its name in the SDK.
            request: its fields.

        Raises:
            ClientError: DynamoDB refused.
            Exception: no answer came, or none that can be read; see `border`.
        """


async def client_of(aws: AwsSession, region: str | None) -> tuple[TableClient, str]:
    """Return what calls the tables of a region, and the region's name.

    Raises:
        NoAnswerError: as `AwsSession.client`.
    """
    client: Any = await aws.client("dynamodb", region)
    fast = await aws.calls("dynamodb", region)
    sdk = SdkTableClient(client)
    return (sdk if fast is None else FastTableClient(fast, sdk)), client.meta.region_name


class SdkTableClient:
    """Calls by the SDK's client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(self, method: str, request: Mapping[str, Any]) -> Any:
        """Call an operation."""
        return await getattr(self._client, method)(**request)


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


class FastTableClient:
    """Calls for items by the fast client, and for tables by the SDK's."""

    def __init__(self, calls: JsonCalls, sdk: SdkTableClient) -> None:
        self._calls = calls
        self._sdk = sdk

    async def call(self, method: str, request: Mapping[str, Any]) -> Any:
        """Call an operation."""
        if method in OF_TABLES or method not in OPERATIONS:
            return await self._sdk.call(method, request)
        return await self._calls.call(OPERATIONS[method], request, _Answer)
