"""Stands between a ledger and an emulator of DynamoDB: writes down what is asked, and does what only AWS does."""

import json
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from fakes.aws_stub import Answer, json_error


class Asked:
    """
    One request.
    """

    def __init__(self, operation: str, body: dict[str, Any]) -> None:
        self.operation = operation
        self.body = body

    @property
    def written(self) -> list[tuple[str, str]]:
        """
        Keys of the items that it writes or deletes.
        """
        return [
            (one["pk"]["S"], one["sk"]["S"])
            for fields in _writes(self.operation, self.body)
            for one in [fields.get("Item") or fields["Key"]]
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
    """
    What is asked is done, and the connection breaks instead of an answer.
    """


class Part:
    """
    Of a batch, only the first few are done; the others are told as unprocessed.
    """

    def __init__(self, done: int = 1) -> None:
        self.done = done


Fault = Answer | Lost | Part | None


class DynamoDBProxy:
    """
    An asynchronous context; passes everything on, unless `fault` says otherwise.
    """

    def __init__(self, url: str) -> None:
        self._to = url
        self.url = ""
        self.asked: list[Asked] = []
        self.fault: Callable[[Asked], Fault] = lambda _: None
        server = web.Server(self._answer, access_log=None)
        self._runner = web.ServerRunner(server)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
        assert self._http is not None
        await self._http.close()

    def count(self) -> Counter[str]:
        """
        Tell how often each operation was asked, and forget it.
        """
        counted = Counter(one.operation for one in self.asked)
        self.asked = []
        return counted

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        asked = Asked(operation, json.loads(raw))
        self.asked.append(asked)
        fault = self.fault(asked)
        if isinstance(fault, Answer):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        left: dict[str, Any] = {}
        if isinstance(fault, Part):
            left = _cut(asked.body, fault.done)
            raw = json.dumps(asked.body).encode()
        status, body = 200, b"{}"
        if not isinstance(fault, Part) or fault.done:
            status, body = await self._pass_on(request, raw)
        if isinstance(fault, Lost):
            assert request.transport is not None
            request.transport.abort()
        if left:
            name = "UnprocessedItems" if operation == "BatchWriteItem" else "UnprocessedKeys"
            body = json.dumps(json.loads(body) | {name: left}).encode()
        return web.Response(
            status=status, headers={"Content-Type": "application/x-amz-json-1.0"}, body=body
        )

    async def _pass_on(self, request: web.BaseRequest, body: bytes) -> tuple[int, bytes]:
        assert self._http is not None
        passed = ("X-Amz-Target", "Content-Type", "Authorization", "X-Amz-Date")
        headers = {name: request.headers[name] for name in passed if name in request.headers}
        async with self._http.post(self._to, data=body, headers=headers) as answer:
            return answer.status, await answer.read()


def _cut(body: dict[str, Any], done: int) -> dict[str, Any]:
    """
    Leave only the first few of a batch in its request; return the rest.
    """
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
    """
    Make the answer to a transaction that was cancelled, with a reason for each action.
    """
    body = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(codes)}]",
        "CancellationReasons": [{"Code": code} for code in codes],
    }
    return Answer(400, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


def told(body: dict[str, Any]) -> Answer:
    """
    Make an answer of our own.
    """
    return Answer(200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


class Until:
    """
    A fault for the first few requests of some operations.
    """

    def __init__(self, times: int, fault: Fault, *operations: str) -> None:
        self.left = times
        self._fault = fault
        self._operations = operations

    def __call__(self, asked: Asked) -> Fault:
        """
        Tell what to do with a request.
        """
        if asked.operation not in self._operations or not self.left:
            return None
        self.left -= 1
        return self._fault
