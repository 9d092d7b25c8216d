"""Stands between a ledger and an emulator of DynamoDB: writes down what is asked, and does what only AWS does."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import aiohttp
import msgspec
from typing_extensions import override

from fakes import aws_stub
from fakes.aws_stub import JSON, Answer, AwsStub, Reply, Reset, json_answer, json_error


class Asked(msgspec.Struct, frozen=True):
    """One request."""

    operation: str
    body: dict[str, Any]

    @property
    def written(self) -> list[tuple[str, str]]:
        """Keys of the items that it writes or deletes."""
        return [
            (item["pk"]["S"], item["sk"]["S"])
            for fields in _writes(self.operation, self.body)
            for item in [fields.get("Item") or fields["Key"]]
        ]


def _writes(operation: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    if operation in {"PutItem", "DeleteItem"}:
        return [body]
    if operation == "TransactWriteItems":
        return [
            fields
            for action in body["TransactItems"]
            for kind, fields in action.items()
            if kind != "ConditionCheck"
        ]
    if operation == "BatchWriteItem":
        return [
            fields
            for requests in body["RequestItems"].values()
            for request in requests
            for fields in request.values()
        ]
    return []


class Lost:
    """What is asked is done, and the connection breaks instead of an answer."""


class Part:
    """Of a batch, only the first few are done; the others are told as unprocessed."""

    def __init__(self, done: int = 1) -> None:
        self.done = done


Fault = Answer | Lost | Part | None


class DynamoDBProxy(AwsStub):
    """An asynchronous context; passes everything on, unless `fault` says otherwise."""

    def __init__(self, url: str) -> None:
        super().__init__(cancels=False)
        self._to = url
        self.asked: list[Asked] = []
        self.fault: Callable[[Asked], Fault] = lambda _: None
        self._http: aiohttp.ClientSession | None = None

    @override
    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        return await super().__aenter__()

    @override
    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        assert self._http is not None
        await self._http.close()

    def count(self) -> Counter[str]:
        """Count how often each operation was called, and forget it."""
        counted = Counter(request.operation for request in self.asked)
        self.asked = []
        return counted

    @override
    async def _reply(self, asked: aws_stub.Asked) -> Reply:
        operation = asked.headers["X-Amz-Target"].partition(".")[2]
        request = Asked(operation, json.loads(asked.body))
        self.asked.append(request)
        fault = self.fault(request)
        if isinstance(fault, Answer):
            return fault
        left = _cut(request.body, fault.done) if isinstance(fault, Part) else {}
        answer = json_answer({})
        if not isinstance(fault, Part) or fault.done:
            answer = await self._pass_on(asked, json.dumps(request.body).encode())
        if isinstance(fault, Lost):
            return Reset()
        if left:
            name = "UnprocessedItems" if operation == "BatchWriteItem" else "UnprocessedKeys"
            return json_answer(json.loads(answer.body) | {name: left})
        return answer

    async def _pass_on(self, asked: aws_stub.Asked, body: bytes) -> Answer:
        passed = ("X-Amz-Target", "Content-Type", "Authorization", "X-Amz-Date")
        headers = {name: asked.headers[name] for name in passed if name in asked.headers}
        assert self._http is not None
        async with self._http.post(self._to, data=body, headers=headers) as answer:
            return Answer(answer.status, JSON, await answer.read())


def _cut(body: dict[str, Any], done: int) -> dict[str, Any]:
    """Leave only the first few of a batch in its request; return the rest."""
    left: dict[str, Any] = {}
    for table, wanted in body["RequestItems"].items():
        if isinstance(wanted, list):
            left[table], body["RequestItems"][table] = wanted[done:], wanted[:done]
        else:
            left[table] = wanted | {"Keys": wanted["Keys"][done:]}
            wanted["Keys"] = wanted["Keys"][:done]
    return {
        table: one
        for table, one in left.items()
        if (one if isinstance(one, list) else one["Keys"])
    }


THROTTLED = json_error(
    400,
    "ProvisionedThroughputExceededException",
    "The level of configured throughput was exceeded",
)
DENIED = json_error(400, "AccessDeniedException", "User is not authorized to perform it")


def cancelled(*codes: str) -> Answer:
    """Create the answer to a transaction that was cancelled, with a reason for each action."""
    body = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(codes)}]",
        "CancellationReasons": [{"Code": code} for code in codes],
    }
    return Answer(400, JSON, json.dumps(body).encode())


class Until:
    """A fault for the first few requests of some operations."""

    def __init__(self, times: int, fault: Fault, *operations: str) -> None:
        self.left = times
        self._fault = fault
        self._operations = operations

    def __call__(self, asked: Asked) -> Fault:
        """Return what to do with a request."""
        if asked.operation not in self._operations or not self.left:
            return None
        self.left -= 1
        return self._fault
