"""What the daemon takes for AWS: the emulator, except for replication.

Everything is passed on as it is, with these differences: replication configurations stay here, so that the emulator
does not replicate at once; the answer to a HEAD says how far the sandbox's own replication is; calls are counted; and
a PutMetricData call that says byte for byte what an accepted one said is answered but not passed on. A daemon that
was killed between a call and noting it may repeat it, and CloudWatch itself would count it twice.
"""

import asyncio
import gzip
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from crrmon.domain.objects import ObjectVersion
from crrmon.sandbox.children import LOOPBACK

_OF_ONE_CONNECTION = frozenset(
    ("connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
_ADDED_BY_AIOHTTP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_NO_CONFIGURATION = b"ReplicationConfigurationNotFoundError"

StatusOf = Callable[[ObjectVersion], str | None]


class Target(msgspec.Struct, frozen=True):
    """
    What a call to S3 is about; empty strings where it names none.
    """

    bucket: str
    key: str
    query: dict[str, list[str]]


class _Answer(msgspec.Struct):
    status: int
    headers: CIMultiDict[str]
    body: bytes


class Facade:
    """
    A proxy in front of the emulator.
    """

    def __init__(self, emulator_url: str, http: aiohttp.ClientSession) -> None:
        """
        Args:
            emulator_url: endpoint of the emulator.
            http: talks to it; see `served`.
        """
        self._emulator_url = emulator_url
        self._http = http
        self._configurations: dict[str, bytes] = {}
        self._told: set[bytes] = set()
        self.status_of: StatusOf = lambda _: None
        """Says what x-amz-replication-status of a version is; None for no header."""
        self.calls: Counter[str] = Counter()
        """By operation."""
        self.repeated = 0
        """PutMetricData calls that repeated an accepted one."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """
        Answer one call.
        """
        body = await request.content.read()
        operation = operation_of(request.method, request.raw_path, request.headers)
        self.calls[operation] += 1
        target = target_of(request.raw_path)
        if operation == "PutBucketReplication":
            self._configurations[target.bucket] = body
            return web.Response()
        if operation == "PutMetricData":
            # Shielded: were the daemon killed meanwhile, what was told must still be remembered.
            answer = await asyncio.shield(self._tell(request, body))
        else:
            answer = await self._pass_on(request, body)
        if operation == "GetBucketReplication":
            answer = self._configured(target, answer)
        if operation == "HeadObject":
            self._add_status(target, answer)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _pass_on(self, request: web.BaseRequest, body: bytes) -> _Answer:
        try:
            async with self._http.request(
                request.method,
                URL(self._emulator_url + request.raw_path, encoded=True),
                headers=_end_to_end(request.headers),
                data=body,
                allow_redirects=False,
                skip_auto_headers=_ADDED_BY_AIOHTTP,
            ) as response:
                answer = await response.read()
                headers = _end_to_end(response.headers)
                if request.method != "HEAD":
                    headers.popall("Content-Length", None)
                return _Answer(response.status, headers, answer)
        except aiohttp.ClientError:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, CIMultiDict(), b"")

    async def _tell(self, request: web.BaseRequest, body: bytes) -> _Answer:
        compressed = request.headers.get("Content-Encoding") == "gzip"
        plain = gzip.decompress(body) if compressed else body  # gzip's header holds the time
        digest = hashlib.sha256(plain).digest()
        if digest in self._told:
            self.repeated += 1
            return _Answer(HTTPStatus.OK, CIMultiDict({"Content-Type": "text/plain"}), b"{}")
        answer = await self._pass_on(request, body)
        if answer.status == HTTPStatus.OK:
            self._told.add(digest)
        return answer

    def _configured(self, target: Target, answer: _Answer) -> _Answer:
        """
        Put the configuration into an answer that says that there is none; others (wrong region ...) stand.
        """
        kept = self._configurations.get(target.bucket)
        if kept is None or _NO_CONFIGURATION not in answer.body:
            return answer
        return _Answer(HTTPStatus.OK, CIMultiDict({"Content-Type": "application/xml"}), kept)

    def _add_status(self, target: Target, answer: _Answer) -> None:
        if answer.status != HTTPStatus.OK:
            return
        version_id = answer.headers.get("x-amz-version-id", "null")
        status = self.status_of(ObjectVersion(target.bucket, target.key, version_id))
        if status is not None:
            answer.headers["x-amz-replication-status"] = status


@asynccontextmanager
async def served(emulator_url: str) -> AsyncIterator[tuple[Facade, str]]:
    """
    Serve a facade on loopback.

    Yields:
        The facade and its URL.
    """
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)  # longer than any long poll
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False
    ) as http:
        facade = Facade(emulator_url, http)
        server = web.Server(facade.handle, access_log=None, auto_decompress=False)
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, LOOPBACK, 0).start()
            port = runner.addresses[0][1]
            yield facade, f"http://{LOOPBACK}:{port}"
        finally:
            await runner.cleanup()


def operation_of(method: str, path: str, headers: Mapping[str, str]) -> str:
    """
    Name the operation of a call, as AWS does; by method and shape where S3 has none of those counted here.

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
    """
    Take apart the path of a call to S3 in path style.
    """
    before, _, query = path.partition("?")
    bucket, _, key = before.removeprefix("/").partition("/")
    return Target(bucket, unquote(key), parse_qs(query, keep_blank_values=True))


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION
    )
