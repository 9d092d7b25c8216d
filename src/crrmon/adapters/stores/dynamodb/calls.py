"""Asking one DynamoDB table: again at once where that is worth it, and reading to the end.

Whatever is short-lived by nature (a throttled call, two transactions that met) is asked again a few times here. All
else is the callers' business, who wait longer and say so.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from crrmon.adapters.border import NoAnswerError, border
from crrmon.adapters.stores.dynamodb.answers import TableErrors, complete, passes
from crrmon.adapters.stores.dynamodb.attributes import Item, Position, at, body_bytes
from crrmon.adapters.stores.dynamodb.client import OF_ITEMS, TableClient
from crrmon.domain.ledger_table import PK
from crrmon.domain.slicing import sliced
from crrmon.ports.ledger import LedgerError

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


class Calls:
    """One table, as it is asked.

    Args:
        client: calls operations, and does not ask again by itself.
        table: its name.
        region: where it is, for people.
        chance: for when to ask again.
        consumed: see `Consumed`; None asks for no figures.
    """

    def __init__(
        self,
        client: TableClient,
        *,
        table: str,
        region: str,
        chance: random.Random,
        consumed: Consumed | None = None,
    ) -> None:
        self._client = client
        self.table = table
        self._errors = TableErrors(table, region)
        self._chance = chance
        self._consumed = consumed
        self._free = asyncio.Semaphore(UNDER_WAY)

    # ---- one item ----

    async def single(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Do one action, at half the price of a transaction of one.

        Args:
            kind: ``Put`` or ``Delete``.
            fields: of the request, without the table.

        Raises:
            ConflictError: the condition does not hold.
        """
        await self._ask("PutItem" if kind == "Put" else "DeleteItem", **fields)

    # ---- several ----

    async def transact(self, actions: Sequence[Mapping[str, Any]], *, token: str) -> None:
        """Do all of it or nothing.

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
        await self._ask("TransactWriteItems", TransactItems=items, ClientRequestToken=token)

    async def query(
        self,
        partition: str,
        *,
        condition: str = "",
        values: Mapping[str, Any] | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> list[Item]:
        """Read the items of a partition in the order of their sort keys, to the end, as they are now.

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
            # Behind the last write, a reader would decide again what is decided already.
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
        """Ask one Query as it stands."""
        return await self._ask("Query", **request)

    async def get_all(self, keys: Sequence[Position]) -> list[Item]:
        """Read the items of these keys (each once) that are there, in any order, as they are now."""
        answers = await asyncio.gather(*map(self._get_batch, sliced(keys, _GET_AT_ONCE)))
        return [item for items in answers for item in items]

    async def _get_batch(self, keys: Sequence[Position]) -> list[Item]:
        wanted: Any = {self.table: {"Keys": [at(key) for key in keys], "ConsistentRead": True}}
        found: list[Item] = []
        for tries in range(TRIES):
            answer = await self._ask("BatchGetItem", RequestItems=wanted)
            found += answer["Responses"].get(self.table, ())
            wanted = answer.get("UnprocessedKeys")
            if not wanted:
                return found
            # What a throttled table did not read it lists, instead of refusing all.
            await self._pause(tries)
        raise LedgerError(
            f"DynamoDB BatchGetItem: table {self.table!r} receives too many requests"
        )

    async def write_each(self, requests: Sequence[Any]) -> None:
        """Write or delete items, in any order, whatever is there.

        Args:
            requests: each a map from ``PutRequest`` or ``DeleteRequest`` to its fields.
        """
        # All lanes take from one iterator: none waits for another.
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
            answer = await self._ask("BatchWriteItem", RequestItems={self.table: left})
            before, left = left, answer.get("UnprocessedItems", {}).get(self.table, ())
            if not left:
                return
            # As long as some of it is taken, the table only asks to go slower.
            in_vain = in_vain + 1 if len(left) == len(before) else 0
            await self._pause(in_vain)
        raise LedgerError(
            f"DynamoDB BatchWriteItem: table {self.table!r} receives too many requests"
        )

    # ---- the table ----

    async def describe(self) -> dict[str, Any]:
        """Ask what the table looks like."""
        answer = await self._ask("DescribeTable")
        return dict(answer["Table"])

    async def describe_expiry(self) -> dict[str, Any]:
        """Ask by which attribute items expire."""
        return await self._ask("DescribeTimeToLive")

    # ---- asking ----

    async def _ask(self, operation: str, **request: Any) -> dict[str, Any]:
        if not operation.startswith(("Batch", "Transact")):
            request["TableName"] = self.table
        if self._consumed is not None and operation in OF_ITEMS:
            request["ReturnConsumedCapacity"] = "INDEXES"
        for tries in range(TRIES):
            try:
                # Taken for each try, not around them: a call that waits its turn again keeps nobody out.
                async with self._free:
                    with border():
                        told = await self._client.call(operation, request)
                        answer = complete(operation, told)
            except ClientError as error:
                if tries + 1 == TRIES or not passes(error):
                    raise self._errors.translated(operation, error, request) from error
            except NoAnswerError as error:
                # Once more, for one broken connection is no outage. What was done all the same tells itself: by its
                # token, or by its condition, which does not hold any more.
                if tries >= UNANSWERED:
                    raise self._errors.translated(operation, error, request) from error
            else:
                self._tell_consumed(operation, answer)
                return answer
            await self._pause(tries)
        raise AssertionError  # the last try returns or raises

    async def _pause(self, tries: int) -> None:
        # Spread, so that daemons that were throttled together do not come back together.
        await asyncio.sleep(FIRST_DELAY_SECONDS * 2**tries * (0.5 + self._chance.random()))

    def _tell_consumed(self, operation: str, answer: Mapping[str, Any]) -> None:
        if self._consumed is None or "ConsumedCapacity" not in answer:
            return
        told = answer["ConsumedCapacity"]
        for one in told if isinstance(told, list) else [told]:
            self._consumed({"Operation": operation, **one})


def _portions(requests: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[list[Any]]:
    """Split writes into such as go into one call."""
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
