"""Asking one DynamoDB table: what its errors mean, when asking again at once is worth it, and reading to the end.

Whatever is short-lived by nature (a throttled call, two transactions that met) is asked again a few times here. All
else is the callers' business, who wait longer and say so.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from crrmon.adapters.border import NoAnswerError, border, code_of
from crrmon.adapters.remedies import explain
from crrmon.adapters.stores.dynamodb.table import BODY, PACKED, PK, SK, complete
from crrmon.ports.ledger import LedgerError, UnusableLedgerError
from crrmon.ports.store import ConflictError, RefusedError, TooMuchError

Item = dict[str, Any]
"""As DynamoDB has it: each value in a map from its type."""
Position = tuple[str, str]
"""Partition key and sort key."""
Consumed = Callable[[Mapping[str, Any]], None]
"""Is told the consumed capacity of every call, with its `Operation`."""

UNDER_WAY = 32
"""Most calls under way at once: enough to hide their latency, few enough for the connections of a client."""
TRIES = 5
UNANSWERED = 1
"""After how many further tries a call without any answer is an outage."""
FIRST_DELAY_SECONDS = 0.05
LARGEST_BYTES = 390_000
"""Of an item, with room for its keys: DynamoDB takes 400 KB."""

MOST_BYTES = 700_000
"""
Of the bodies in one request. DynamoDB takes several megabytes; but they grow by a third on the way, and more than one
megabyte holds up the loop while it is sent.
"""

_GET_AT_ONCE = 100
_WRITE_AT_ONCE = 25
_LANES = 4
"""Batches of writes under way at once: with more, a long list of them would be one burst, most of which is refused."""

_PASSING: Final = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_OTHER_KEYS: Final = (
    "does not match the schema",
    "does not have the specified index",
    "Missing the key",
    "required keys was not given a value",
    "key schema element",
    "Type mismatch for key",
    "Type mismatch for Index Key",
)
"""How DynamoDB says that a table has other keys or another index: all else that is not valid is about one item."""
_CONDITION: Final = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException"})
_OPERATIONS: Final = {
    "put_item": "PutItem",
    "delete_item": "DeleteItem",
    "query": "Query",
    "batch_get_item": "BatchGetItem",
    "batch_write_item": "BatchWriteItem",
    "transact_write_items": "TransactWriteItems",
    "describe_table": "DescribeTable",
    "describe_time_to_live": "DescribeTimeToLive",
}
_UNMETERED: Final = frozenset({"describe_table", "describe_time_to_live"})
_ACTIONS: Final = {
    # It has no action of its own: whoever may do each of its parts may do all at once.
    "TransactWriteItems": "dynamodb:PutItem, dynamodb:DeleteItem and dynamodb:ConditionCheckItem"
}


class Calls:
    """
    One table, as it is asked.

    Args:
        client: aiobotocore's, which does not ask again by itself.
        table: its name.
        region: where it is, for people.
        chance: for when to ask again.
        consumed: see `Consumed`; None asks for no figures.
    """

    def __init__(
        self,
        client: Any,
        *,
        table: str,
        region: str,
        chance: random.Random,
        consumed: Consumed | None = None,
    ) -> None:
        self._client = client
        self.table = table
        self._region = region
        self._chance = chance
        self._consumed = consumed
        self._free = asyncio.Semaphore(UNDER_WAY)

    # ---- one item ----

    async def single(self, kind: str, fields: Mapping[str, Any]) -> None:
        """
        Do one action, at half the price of a transaction of one.

        Args:
            kind: ``Put`` or ``Delete``.
            fields: of the request, without the table.

        Raises:
            ConflictError: the condition does not hold.
        """
        await self._ask("put_item" if kind == "Put" else "delete_item", **fields)

    # ---- several ----

    async def transact(self, actions: Sequence[Mapping[str, Any]], *, token: str) -> None:
        """
        Do all of it or nothing.

        Args:
            actions: each a map from ``Put``, ``Delete`` or ``ConditionCheck`` to its fields, without the table.
            token: the same for the same request: done already, it is not done again.

        Raises:
            ConflictError: the conditions of some do not hold.
            TooMuchError: an item has become too large.
        """
        items = [
            {kind: {"TableName": self.table, **fields}}
            for action in actions
            for kind, fields in action.items()
        ]
        await self._ask("transact_write_items", TransactItems=items, ClientRequestToken=token)

    async def query(
        self,
        partition: str,
        *,
        condition: str = "",
        values: Mapping[str, Any] | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> list[Item]:
        """
        Read the items of a partition in the order of their sort keys, to the end, as they are now.

        Args:
            partition: its key.
            condition: on the sort key, begins with AND.
            values: named in the condition.
            limit: most items.
            options: more fields of the request.
        """
        request = {
            "KeyConditionExpression": f"{PK} = :partition {condition}".strip(),
            "ExpressionAttributeValues": {":partition": {"S": partition}, **(values or {})},
            "ConsistentRead": True,
            **options,
        }
        found: list[Item] = []
        while True:
            if limit is not None:
                request["Limit"] = limit - len(found)
            page = await self.query_page(request)
            found += page["Items"]
            if "LastEvaluatedKey" not in page or (limit is not None and len(found) >= limit):
                return found
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def query_page(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """
        Ask one Query as it stands.
        """
        return await self._ask("query", **request)

    async def get_all(self, keys: Sequence[Position]) -> list[Item]:
        """
        Read the items of these keys (each once) that are there, in any order, as they are now.
        """
        answers = await asyncio.gather(
            *(
                self._get_batch(keys[start : start + _GET_AT_ONCE])
                for start in range(0, len(keys), _GET_AT_ONCE)
            )
        )
        return [item for items in answers for item in items]

    async def _get_batch(self, keys: Sequence[Position]) -> list[Item]:
        wanted: Any = {self.table: {"Keys": [at(key) for key in keys], "ConsistentRead": True}}
        found: list[Item] = []
        for tries in range(TRIES):
            answer = await self._ask("batch_get_item", RequestItems=wanted)
            found += answer["Responses"].get(self.table, ())
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                return found
            await self._pause(tries)
        raise LedgerError(f"DynamoDB BatchGetItem: table {self.table!r} is asked too much")

    async def write_each(self, requests: Sequence[Any]) -> None:
        """
        Write or delete items, in any order, whatever is there.

        Args:
            requests: each a map from ``PutRequest`` or ``DeleteRequest`` to its fields.
        """
        portions = iter(_portions(requests))

        async def lane() -> None:
            for portion in portions:
                await self._write_batch(portion)

        # A lane ends with what is refused for good; the others do what they can before anybody hears of it.
        done = await asyncio.gather(*(lane() for _ in range(_LANES)), return_exceptions=True)
        for one in done:
            if one is not None:
                raise one

    async def _write_batch(self, requests: Sequence[Any]) -> None:
        left: Sequence[Any] = requests
        in_vain = 0
        while in_vain < TRIES:
            answer = await self._ask("batch_write_item", RequestItems={self.table: left})
            before, left = left, answer.get("UnprocessedItems", {}).get(self.table, ())
            if not left:
                return
            in_vain = in_vain + 1 if len(left) == len(before) else 0
            await self._pause(in_vain)
        raise LedgerError(f"DynamoDB BatchWriteItem: table {self.table!r} is asked too much")

    # ---- the table ----

    async def describe(self) -> dict[str, Any]:
        """
        Ask what the table looks like.
        """
        answer = await self._ask("describe_table")
        return dict(answer["Table"])

    async def describe_expiry(self) -> dict[str, Any]:
        """
        Ask by which attribute items expire.
        """
        return await self._ask("describe_time_to_live")

    # ---- asking ----

    async def _ask(self, method: str, **request: Any) -> dict[str, Any]:
        if not method.startswith(("batch", "transact")):
            request["TableName"] = self.table
        if self._consumed is not None and method not in _UNMETERED:
            request["ReturnConsumedCapacity"] = "INDEXES"
        for tries in range(TRIES):
            try:
                async with self._free:
                    with border():
                        told = await getattr(self._client, method)(**request)
                        answer = complete(_OPERATIONS[method], told)
            except ClientError as error:
                if tries + 1 == TRIES or not _passes(error):
                    raise self._translated(method, error, request) from error
            except NoAnswerError as error:
                # Once more, for one broken connection is no outage. What was done all the same tells itself: by its
                # token, or by its condition, which does not hold any more.
                if tries >= UNANSWERED:
                    raise self._translated(method, error, request) from error
            else:
                self._tell_consumed(method, answer)
                return answer
            await self._pause(tries)
        raise AssertionError  # the last try returns or raises

    async def _pause(self, tries: int) -> None:
        await asyncio.sleep(FIRST_DELAY_SECONDS * 2**tries * (0.5 + self._chance.random()))

    def _tell_consumed(self, method: str, answer: Mapping[str, Any]) -> None:
        if self._consumed is None or "ConsumedCapacity" not in answer:
            return
        told = answer["ConsumedCapacity"]
        for one in told if isinstance(told, list) else [told]:
            self._consumed({"Operation": _OPERATIONS[method], **one})

    def _translated(self, method: str, error: Exception, request: Mapping[str, Any]) -> Exception:
        operation = _OPERATIONS[method]
        action = _ACTIONS.get(operation, f"dynamodb:{operation}")
        where = f"ledger.dynamodb.table {self.table!r}"
        if isinstance(error, ClientError):
            code = code_of(error)
            if code in _CONDITION:
                return ConflictError([0])
            if code == "TransactionCanceledException":
                return self._cancelled(error, request)
            if code == "ResourceNotFoundException":
                return LedgerError(
                    f"{where} does not exist in {self._region}; run: crrmon ledger create"
                )
            if code == "ValidationException":
                said = explain(error, permission="")
                return self._invalid(operation, said, _keys_in(method, request, self.table))
        permission = f"{action} on table {self.table} and its index"
        return LedgerError(f"DynamoDB {operation}: {explain(error, permission=permission)}")

    def _invalid(self, operation: str, said: str, keys: Sequence[Position]) -> Exception:
        """
        Tell what it means that a request is not valid.

        Args:
            operation: what was asked.
            said: what DynamoDB says of it.
            keys: the items that it concerns, as far as they are known.
        """
        where = f"ledger.dynamodb.table {self.table!r}"
        if any(text in said for text in _OTHER_KEYS):
            return UnusableLedgerError(
                f"{where} cannot do {operation}: {said}; was it made by: crrmon ledger create?"
            )
        items = ", ".join(f"{partition!r} {sort!r}" for partition, sort in keys[:3])
        of = f" of item {items}" + (" and more" if len(keys) > 3 else "") if keys else ""  # noqa: PLR2004 - a few
        kind = TooMuchError if "size" in said.lower() else RefusedError
        return kind(f"DynamoDB {operation}{of} in {where}: {said}")

    def _cancelled(self, error: ClientError, request: Mapping[str, Any]) -> Exception:
        reasons = _reasons(error)
        failed = [place for place, code in enumerate(reasons) if code in _CONDITION]
        if failed:
            return ConflictError(failed)
        if "ValidationError" in reasons:
            keys = _keys_in("transact_write_items", request, self.table)
            bad = [place for place, code in enumerate(reasons) if code == "ValidationError"]
            told = error.response["CancellationReasons"]
            said = "; ".join(str(told[place].get("Message", "ValidationError")) for place in bad)
            mine = [keys[place] for place in bad if place < len(keys)]
            return self._invalid("TransactWriteItems", said, mine)
        return LedgerError(f"DynamoDB TransactWriteItems: {explain(error, permission='')}")


def _portions(requests: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[list[Any]]:
    """
    Split writes into such as go into one call.
    """
    portions: list[list[Any]] = []
    room = 0
    for request in requests:
        size = body_bytes(request.get("PutRequest", {}).get("Item", {}))
        if not portions or len(portions[-1]) == _WRITE_AT_ONCE or size > room:
            portions.append([])
            room = MOST_BYTES
        portions[-1].append(request)
        room -= size
    return portions


def body_bytes(item: Mapping[str, Any]) -> int:
    """
    Return how large the body of an item is, as it is stored.
    """
    return len(item.get(BODY, {}).get("B", b"")) + len(item.get(PACKED, {}).get("B", b""))


def _keys_in(method: str, request: Mapping[str, Any], table: str) -> list[Position]:
    """
    Tell the keys of the items that a request writes or reads, in their order.
    """
    if method == "transact_write_items":
        some = [fields for action in request["TransactItems"] for fields in action.values()]
    elif method == "batch_write_item":
        some = [fields for one in request["RequestItems"][table] for fields in one.values()]
    else:
        some = [request] if "Item" in request or "Key" in request else []
    return [position_of(fields.get("Item") or fields["Key"]) for fields in some]


def _passes(error: ClientError) -> bool:
    """
    Tell whether the same call may well succeed in a moment.
    """
    if code_of(error) in _PASSING:
        return True
    reasons = {one for one in _reasons(error) if one != "None"}
    # One condition that does not hold decides it, whatever else was in the way.
    return bool(reasons) and reasons <= _PASSING


def _reasons(error: ClientError) -> list[str]:
    # NB: where it was not in the way, an action has no reason, or one without a code.
    told = error.response.get("CancellationReasons") or ()
    return [str((one or {}).get("Code") or "None") for one in told]


def at(key: Position) -> Item:
    """
    Write down a key.
    """
    partition, sort = key
    return {PK: {"S": partition}, SK: {"S": sort}}


def position_of(item: Mapping[str, Any]) -> Position:
    """
    Read the key of an item.
    """
    return item[PK]["S"], item[SK]["S"]
