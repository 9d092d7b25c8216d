"""An HTTP server that answers as it is told to: for what AWS does and no emulator can be made to do."""

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDictProxy, MultiDictProxy

REQUEST_ID = "x-amz-request-id"

JSON = {"Content-Type": "application/x-amz-json-1.0"}

LONGEST_HEADER = 65_536
"""That is read; session tokens are headers, and AWS says nothing of how long they may be."""


class Answer:
    """One canned answer, with AWS's request id unless `signed` says otherwise."""

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        signed: bool = True,
    ) -> None:
        self.status = status
        self.headers = ({REQUEST_ID: "TX0123456789ABCD"} if signed else {}) | dict(headers or {})
        self.body = body


class Hang:
    """Never answers."""


class Reset:
    """Breaks the connection instead of answering."""


class Raw:
    """Bytes as they are, and the end of the connection: for answers that no library would let one give."""

    def __init__(self, text: bytes) -> None:
        self.text = text


Reply = Answer | Hang | Reset | Raw


class Asked:
    """One request that came."""

    def __init__(self, request: web.BaseRequest, body: bytes) -> None:
        self.method = request.method
        self.target = request.raw_path
        self.query: MultiDictProxy[str] = request.query
        self.headers: CIMultiDictProxy[str] = request.headers
        self.body = body


class AwsStub:
    """
    A server on a free port of this machine; an asynchronous context.

    The answers are given in turn, the last one for ever.
    """

    def __init__(self, *, cancels: bool = True) -> None:
        """
        Args:
            cancels: whether what a client no longer waits for is ended.
        """
        self.answers: list[Reply] = [Answer()]
        self.asked: list[Asked] = []
        self.url = ""
        self._choose: Callable[[Asked], Reply] | None = None
        self._over = asyncio.Event()
        server = web.Server(
            self._answer,
            access_log=None,
            handler_cancellation=cancels,
            max_field_size=LONGEST_HEADER,
        )
        self._runner = web.ServerRunner(server)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    def answer(self, *answers: Reply) -> None:
        """Say what is answered from now on, and forget what was asked."""
        self.answers = list(answers)
        self.asked = []
        self._choose = None

    def answer_by(self, choose: Callable[[Asked], Reply]) -> None:
        """Have each answer chosen by what is asked from now on, and forget what was asked."""
        self.asked = []
        self._choose = choose

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        now = await self._reply(Asked(request, await request.read()))
        if isinstance(now, Answer):
            return web.Response(status=now.status, headers=now.headers, body=now.body)
        if isinstance(now, Hang):
            await self._over.wait()
        assert request.transport is not None
        if isinstance(now, Raw):
            request.transport.write(now.text)
            request.transport.close()
        else:
            request.transport.abort()
        return web.Response()

    async def _reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        if self._choose is not None:
            return self._choose(asked)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def head(version_id: str | None = None, status: str | None = None, **more: str) -> Answer:
    """Create S3's 200 to a HEAD."""
    headers = {
        "ETag": '"d41d8cd98f00b204e9800998ecf8427e"',
        "Last-Modified": "Wed, 18 Nov 2026 10:20:30 GMT",
        "Content-Length": "0",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    if version_id is not None:
        headers["x-amz-version-id"] = version_id
    if status is not None:
        headers["x-amz-replication-status"] = status
    return Answer(200, headers)


def s3_error(status: int, code: str, message: str = "", *, region: str | None = None) -> Answer:
    """Create an error of S3 with a body."""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
        f"<Message>{message}</Message></Error>"
    )
    headers = {"Content-Type": "application/xml"}
    if region is not None:
        headers["x-amz-bucket-region"] = region
    return Answer(status, headers, text.encode())


def role_credentials(
    access_key: str, *, ends_at: float, token: str | None = None, action: str = "AssumeRole"
) -> Answer:
    """
    Create STS's answer to AssumeRole.

    Args:
        access_key: id of the key; its secret is derived from it.
        ends_at: when the credentials end.
        token: of the session; derived from the key when None.
        action: another one that gives credentials.
    """
    token = f"token-{access_key}" if token is None else token
    expiration = dt.datetime.fromtimestamp(ends_at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
        f"<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>secret-{access_key}</SecretAccessKey>"
        f"<SessionToken>{token}</SessionToken><Expiration>{expiration}</Expiration>"
        f"</Credentials></{action}Result></{action}Response>"
    )
    return Answer(200, {"Content-Type": "text/xml"}, text.encode())


def sts_error(status: int, code: str, message: str = "") -> Answer:
    """Create an error of STS."""
    text = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
    return Answer(status, {"Content-Type": "text/xml"}, text.encode())


def json_error(status: int, code: str, message: str = "") -> Answer:
    """Create an error of a service that speaks JSON (SQS, CloudWatch)."""
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": message})
    return Answer(status, JSON, body.encode())


def json_answer(body: Mapping[str, Any]) -> Answer:
    """Create an answer of a service that speaks JSON."""
    return Answer(200, JSON, json.dumps(body).encode())
