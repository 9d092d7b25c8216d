"""An HTTP server that answers as it is told to: for what AWS does and no emulator can be made to do."""

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDictProxy, MultiDictProxy

REQUEST_ID = "x-amz-request-id"

LONGEST_HEADER = 65_536
"""That is read; session tokens are headers, and AWS says nothing of how long they may be."""


class Answer:
    """
    One canned answer, with AWS's request id unless `signed` says otherwise.
    """

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
    """
    Never answers.
    """


class Reset:
    """
    Breaks the connection instead of answering.
    """


class Asked:
    """
    One request that came.
    """

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

    def __init__(self) -> None:
        self.answers: list[Answer | Hang | Reset] = [Answer()]
        self.asked: list[Asked] = []
        self.url = ""
        self._choose: Callable[[Asked], Answer | Hang | Reset] | None = None
        self._over = asyncio.Event()
        server = web.Server(
            self._answer, access_log=None, handler_cancellation=True, max_field_size=LONGEST_HEADER
        )
        self._runner = web.ServerRunner(server)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        await self._runner.cleanup()

    def answer(self, *answers: Answer | Hang | Reset) -> None:
        """
        Say what is answered from now on, and forget what was asked.
        """
        self.answers = list(answers)
        self.asked = []
        self._choose = None

    def answer_by(self, choose: "Callable[[Asked], Answer | Hang | Reset]") -> None:
        """
        Have each answer chosen by what is asked from now on, and forget what was asked.
        """
        self.asked = []
        self._choose = choose

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = Asked(request, await request.read())
        self.asked.append(asked)
        if self._choose is not None:
            now = self._choose(asked)
        else:
            now = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(now, Hang):
            await self._over.wait()
        if not isinstance(now, Answer):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=now.status, headers=now.headers, body=now.body)


def head(version_id: str | None = None, status: str | None = None, **more: str) -> Answer:
    """
    Make S3's 200 to a HEAD.
    """
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
    """
    Make an error of S3 with a body.
    """
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
    Make STS's answer to AssumeRole.

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
    """
    Make an error of STS.
    """
    text = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
    return Answer(status, {"Content-Type": "text/xml"}, text.encode())


def json_error(status: int, code: str, message: str = "") -> Answer:
    """
    Make an error of a service that speaks JSON (SQS, CloudWatch).
    """
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": message})
    return Answer(status, {"Content-Type": "application/x-amz-json-1.0"}, body.encode())


def json_answer(body: Mapping[str, Any]) -> Answer:
    """
    Make an answer of a service that speaks JSON.
    """
    return Answer(200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode())
