"""What the daemon takes for AWS: the emulator, except for replication.

Everything is passed on as it is, with these differences: replication configurations stay here, so that the emulator
does not replicate at once; the answer to a HEAD says how far the sandbox's own replication is, and replicas are found
under the version ids of their sources; calls are counted; and a PutMetricData call that says byte for byte what an accepted one said is answered but not passed on. A daemon that
was killed between a call and noting it may repeat it, and CloudWatch itself would count it twice.

Callers are told apart by the access key that they sign with. What a killed one had received from a queue can be shown
again at once, so that nobody has to wait for its visibility to end.
"""

import asyncio
import enum
import gzip
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlencode

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from crrmon.adapters.answers import MAX_HEAD_BYTES, MAX_HEADERS
from crrmon.domain.objects import ObjectVersion
from crrmon.sandbox.children import LOOPBACK
from crrmon.sandbox.datapoints import Datapoint, datapoints
from crrmon.sandbox.replicas import DaemonReplicas
from crrmon.sandbox.throttling import LostAnswerError, Throttling

_OF_ONE_CONNECTION = frozenset(
    ("connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
_ADDED_BY_AIOHTTP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_NO_CONFIGURATION = b"ReplicationConfigurationNotFoundError"

_CONFIGURING = ("PutBucketReplication", "DeleteBucketReplication")
_GIVING_UP = frozenset(
    (
        "DeleteMessage",
        "DeleteMessageBatch",
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
    )
)
"""Calls after which a message is not its receiver's any more; the latter two only if nothing is left of its time."""
_AMAZON_JSON = "application/x-amz-json-1.0"
_ACCESS_KEY = re.compile(r"Credential=([^/]+)/")
_TABLES = "DynamoDB_20120810."
_ON_ITEMS = ("Item", "Items", "Query", "Scan")
"""How operations of DynamoDB end that are about items and not about tables."""

_BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)

StatusOf = Callable[[ObjectVersion], str | None]
OnCall = Callable[[str, str, bytes], Awaitable[None]]
ShowAgain = Callable[[str, str], Awaitable[None]]


async def _nothing(*_: object) -> None:
    pass


class Outage(enum.Enum):
    """How S3 as a whole fails."""

    GONE = "gone"
    """Connections break off."""
    BUSY = "busy"
    """It answers everything with 503 SlowDown."""


class Target(msgspec.Struct, frozen=True):
    """What a call to S3 is about; empty strings where it names none."""

    bucket: str
    key: str
    query: dict[str, list[str]]


class _FacadeAnswer(msgspec.Struct):
    status: int
    headers: CIMultiDict[str]
    body: bytes


class Facade:
    """A proxy in front of the emulator."""

    def __init__(self, emulator_url: str, http: aiohttp.ClientSession) -> None:
        """Args:
        emulator_url: endpoint of the emulator.
        http: talks to it; see `served`.
        """
        self._emulator_url = emulator_url
        self._http = http
        self._configurations: dict[str, bytes] = {}
        self._told: dict[bytes, _FacadeAnswer] = {}
        self._taken: dict[str, dict[str, str]] = {}
        self.on_call: OnCall = _nothing
        """Told of every call before it is carried out: operation, caller, body."""
        self.show_again: ShowAgain = _nothing
        """Ends the visibility time-out of a message: queue's URL and receipt handle."""
        self.outage: Outage | None = None
        """Of S3 for all who come this way; None on a good day."""
        self.throttling: Throttling | None = None
        """Of the calls to tables; None for a good day."""
        self.status_of: StatusOf = lambda _: None
        """Says what x-amz-replication-status of a version is; None for no header."""
        self.replicas = DaemonReplicas()
        """Under which version ids replicas are to be found."""
        self.is_source: Callable[[ObjectVersion], bool] = lambda _: True
        """Tells whether a version was written by an application; other looks are looks at a destination."""
        self.looks_elsewhere = 0
        """HEAD requests at destinations."""
        self.calls: Counter[str] = Counter()
        """By operation."""
        self.calls_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """The same by caller."""
        self.repeated = 0
        """PutMetricData calls that repeated an accepted one."""
        self.datapoints: Counter[Datapoint] = Counter()
        """What the others brought, and how often."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one call."""
        body = await request.content.read()
        operation = operation_of(request.method, request.raw_path, request.headers)
        caller = caller_of(request.headers)
        self.calls[operation] += 1
        self.calls_of[caller][operation] += 1
        await self.on_call(operation, caller, body)
        if self.outage is not None and is_of_s3(request.raw_path, request.headers):
            return _out(self.outage, request)
        try:
            answer = await self._answer(request, operation, body)
        except LostAnswerError:
            return _hang_up(request)
        if operation == "ReceiveMessage":
            await self._hand_out(request, caller, body, answer)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def give_back(self, caller: str) -> None:
        """Show again what a caller has received and not deleted: it was killed."""
        taken = self._taken.pop(caller, {})
        await asyncio.gather(*(self.show_again(queue, one) for one, queue in taken.items()))

    async def _answer(
        self, request: web.BaseRequest, operation: str, body: bytes
    ) -> _FacadeAnswer:
        target = target_of(request.raw_path)
        if operation in _CONFIGURING:
            return self._configure(operation, target.bucket, body)
        if operation == "PutMetricData":
            # Shielded: were the daemon killed meanwhile, what was told must still be remembered.
            return await asyncio.shield(self._tell(request, body))
        if self.throttling is not None and is_on_items(request.headers):
            return await self._throttle(self.throttling, request, operation, body)
        if operation == "HeadObject":
            return await self._look(request, target)
        answer = await self._pass_on(request, body)
        if operation == "GetBucketReplication":
            return self._configured(target, answer)
        if operation in _GIVING_UP:
            self._forget(caller_of(request.headers), body)
        return answer

    async def _throttle(
        self, throttling: Throttling, request: web.BaseRequest, operation: str, body: bytes
    ) -> _FacadeAnswer:
        async def carry(body: bytes) -> tuple[int, bytes]:
            answer = await self._pass_on(request, body)
            return answer.status, answer.body

        status, said = await throttling.answer(operation, body, carry)
        return _FacadeAnswer(status, CIMultiDict({"Content-Type": _AMAZON_JSON}), said)

    async def _look(self, request: web.BaseRequest, target: Target) -> _FacadeAnswer:
        """Find a version under the id that S3 would give it, and say how far its replication is."""
        asked = ObjectVersion(target.bucket, target.key, target.query.get("versionId", [""])[0])
        self.looks_elsewhere += not self.is_source(asked)
        path = request.raw_path
        if asked in self.replicas:
            stored = {**target.query, "versionId": [self.replicas.stored(asked)]}
            path = f"{path.partition('?')[0]}?{urlencode(stored, doseq=True)}"
        answer = await self._pass_on(request, b"", path)
        if answer.status == HTTPStatus.OK:
            version_id = answer.headers.get("x-amz-version-id", "null")
            found = ObjectVersion(target.bucket, target.key, version_id)
            found = msgspec.structs.replace(found, version_id=self.replicas.known(found))
            answer.headers["x-amz-version-id"] = found.version_id
            if (status := self.status_of(found)) is not None:
                answer.headers["x-amz-replication-status"] = status
        return answer

    async def _pass_on(
        self, request: web.BaseRequest, body: bytes, path: str | None = None
    ) -> _FacadeAnswer:
        asked = _end_to_end(request.headers)
        asked.popall("Content-Length", None)  # the body may be another one by now
        try:
            async with self._http.request(
                request.method,
                URL(self._emulator_url + (path or request.raw_path), encoded=True),
                headers=asked,
                data=body,
                allow_redirects=False,
                skip_auto_headers=_ADDED_BY_AIOHTTP,
            ) as response:
                answer = await response.read()
                headers = _end_to_end(response.headers)
                if request.method != "HEAD":
                    headers.popall("Content-Length", None)
                return _FacadeAnswer(response.status, headers, answer)
        except aiohttp.ClientError:
            return _FacadeAnswer(HTTPStatus.SERVICE_UNAVAILABLE, CIMultiDict(), b"")

    async def _tell(self, request: web.BaseRequest, body: bytes) -> _FacadeAnswer:
        compressed = request.headers.get("Content-Encoding") == "gzip"
        plain = gzip.decompress(body) if compressed else body  # gzip's header holds the time
        digest = hashlib.sha256(plain).digest()
        if (accepted := self._told.get(digest)) is not None:
            self.repeated += 1
            return accepted
        answer = await self._pass_on(request, body)
        if answer.status == HTTPStatus.OK:
            self._told[digest] = answer
            self.datapoints.update(datapoints(plain))
        return answer

    async def _hand_out(
        self, request: web.BaseRequest, caller: str, body: bytes, answer: _FacadeAnswer
    ) -> None:
        """Remember who got which messages; those for a caller that is gone by now are shown again."""
        if answer.status != HTTPStatus.OK:
            return
        queue = msgspec.json.decode(body)["QueueUrl"]
        receipts = [
            one["ReceiptHandle"] for one in msgspec.json.decode(answer.body).get("Messages") or ()
        ]
        gone = request.transport is None or request.transport.is_closing()
        for receipt in receipts:
            if gone:
                await self.show_again(queue, receipt)
            else:
                self._taken.setdefault(caller, {})[receipt] = queue

    def _forget(self, caller: str, body: bytes) -> None:
        asked = msgspec.json.decode(body)
        for entry in asked.get("Entries", [asked]):
            if not entry.get("VisibilityTimeout"):
                self._taken.get(caller, {}).pop(entry["ReceiptHandle"], None)

    def _configure(self, operation: str, bucket: str, body: bytes) -> _FacadeAnswer:
        if operation == "PutBucketReplication":
            self._configurations[bucket] = body
            return _FacadeAnswer(HTTPStatus.OK, CIMultiDict(), b"")
        self._configurations.pop(bucket, None)
        return _FacadeAnswer(HTTPStatus.NO_CONTENT, CIMultiDict(), b"")

    def _configured(self, target: Target, answer: _FacadeAnswer) -> _FacadeAnswer:
        """Put the configuration into an answer that says that there is none; others (wrong region ...) stand."""
        kept = self._configurations.get(target.bucket)
        if kept is None or _NO_CONFIGURATION not in answer.body:
            return answer
        headers = CIMultiDict({"Content-Type": "application/xml"})
        if (request_id := answer.headers.get("x-amz-request-id")) is not None:
            headers["x-amz-request-id"] = request_id
        return _FacadeAnswer(HTTPStatus.OK, headers, kept)


@asynccontextmanager
async def served(emulator_url: str) -> AsyncIterator[tuple[Facade, str]]:
    """Serve a facade on loopback.

    Yields:
        The facade and its URL.
    """
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)  # longer than any long poll
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        max_headers=MAX_HEADERS,
        max_field_size=MAX_HEAD_BYTES,
    ) as http:
        facade = Facade(emulator_url, http)
        server = web.Server(
            facade.handle,
            access_log=None,
            auto_decompress=False,
            max_headers=MAX_HEADERS,
            max_field_size=MAX_HEAD_BYTES,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, LOOPBACK, 0).start()
            port = runner.addresses[0][1]
            yield facade, f"http://{LOOPBACK}:{port}"
        finally:
            await runner.cleanup()


def operation_of(method: str, path: str, headers: Mapping[str, str]) -> str:
    """Name the operation of a call, as AWS does; by method and shape where S3 has none of those counted here.

    Args:
        method: of HTTP.
        path: with the query, as sent.
        headers: say the operation of services that are not S3.
    """
    target = headers.get("X-Amz-Target")
    if target is not None:
        return target.rpartition(".")[2]
    if "/operation/" in path:
        return path.rpartition("/operation/")[2]
    on = target_of(path)
    if on.key:
        return f"{method.capitalize()}Object"
    subresource = next((name for name in ("replication", "location") if name in on.query), "")
    return f"{method.capitalize()}Bucket{subresource.capitalize()}"


def target_of(path: str) -> Target:
    """Take apart the path of a call to S3 in path style."""
    before, _, query = path.partition("?")
    bucket, _, key = before.removeprefix("/").partition("/")
    return Target(bucket, unquote(key), parse_qs(query, keep_blank_values=True))


def caller_of(headers: Mapping[str, str]) -> str:
    """Return the access key that a call is signed with; the empty string when it is not signed."""
    found = _ACCESS_KEY.search(headers.get("Authorization", ""))
    return found[1] if found else ""


def is_of_s3(path: str, headers: Mapping[str, str]) -> bool:
    """Return whether a call is for S3: all other services name their operation."""
    return "X-Amz-Target" not in headers and "/operation/" not in path


def is_on_items(headers: Mapping[str, str]) -> bool:
    """Return whether a call reads or writes items of a DynamoDB table."""
    target = headers.get("X-Amz-Target", "")
    return target.startswith(_TABLES) and target.endswith(_ON_ITEMS)


def _out(outage: Outage, request: web.BaseRequest) -> web.Response:
    if outage is Outage.GONE:
        return _hang_up(request)
    return web.Response(
        status=HTTPStatus.SERVICE_UNAVAILABLE, body=_BUSY, content_type="application/xml"
    )


def _hang_up(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # on its way to nobody


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION
    )
