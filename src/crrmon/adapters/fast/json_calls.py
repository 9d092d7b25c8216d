"""Calls of services that speak JSON (SQS, DynamoDB), whichever client makes them."""

import asyncio
import base64
import json
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import msgspec
from botocore import xform_name
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from crrmon.adapters.answers import ID_HEADER, Doorkeeper
from crrmon.adapters.border import EXPIRED_CODES, THROTTLED_CODES, code_of, status_of
from crrmon.adapters.fast.credentials import CredentialsProvider
from crrmon.adapters.fast.endpoint import UNSIGNED, ServiceEndpoint
from crrmon.adapters.fast.reading import Answer
from crrmon.adapters.fast.signing import Request

_Kind = TypeVar("_Kind")

_PASSING = frozenset(
    {
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_UNANSWERED = (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)


class Calls(Protocol):
    """Calls the operations of one service."""

    async def call(self, operation: str, fields: Mapping[str, Any], kind: "type[_Kind]") -> _Kind:
        """Call an operation.

        Args:
            operation: its name.
            fields: of the request.
            kind: what to read of the response.

        Raises:
            ClientError: the service responded with an error.
            Exception: there was no response, or none that can be read; see `border`.
        """


class SdkCalls:
    """Calls by the SDK's client.

    Args:
        client: aiobotocore's.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(self, operation: str, fields: Mapping[str, Any], kind: "type[_Kind]") -> _Kind:
        """Call an operation."""
        answer = await getattr(self._client, xform_name(operation))(**fields)
        return msgspec.convert(answer, kind)


class JsonService(msgspec.Struct, frozen=True):
    """How a service wants to be called."""

    prefix: str
    """Of its operations' names in requests."""
    headers: tuple[tuple[str, str], ...] = ()
    """Signed ones of every request."""


class JsonCalls:
    """Calls by the fast client.

    Args:
        endpoint: the service's endpoint.
        service: which one it is.
        attempts: most tries of a call, where there is no response or one of a passing error.
        doorkeeper: refuses responses that cannot be the service's.
        rng: for the time to wait before another try.
        credentials: refreshed once when the service calls them expired.
    """

    def __init__(
        self,
        endpoint: ServiceEndpoint,
        service: JsonService,
        *,
        attempts: int,
        doorkeeper: Doorkeeper,
        rng: random.Random,
        credentials: CredentialsProvider,
    ) -> None:
        self._endpoint = endpoint
        self._prefix = service.prefix
        self._headers = (("content-type", "application/x-amz-json-1.0"), *service.headers)
        self._attempts = attempts
        self._doorkeeper = doorkeeper
        self._rng = rng
        self._credentials = credentials

    async def call(self, operation: str, fields: Mapping[str, Any], kind: "type[_Kind]") -> _Kind:
        """Call an operation."""
        body = _encoded(fields)
        request = Request(
            method="POST",
            host=self._endpoint.address.host,
            path=self._endpoint.address.path,
            headers=(*self._headers, ("x-amz-target", f"{self._prefix}.{operation}")),
            unsigned=f"{UNSIGNED}content-length: {len(body)}\r\n",
            body=body,
        )
        for attempt in range(1, self._attempts):
            try:
                return _decoded((await self._answer(operation, request)).body, kind)
            except (ClientError, *_UNANSWERED) as error:
                if not _passes(error):
                    raise
            await asyncio.sleep(self._rng.random() * 2 ** (attempt - 1))
        return _decoded((await self._answer(operation, request)).body, kind)

    async def _answer(self, operation: str, request: Request) -> Answer:
        """Send a request; once more where the credentials could be refreshed."""
        asked_at = asyncio.get_running_loop().time()
        answer = await self._endpoint.ask(request)
        try:
            self._judge(operation, answer)
        except ClientError as error:
            expired = code_of(error) in EXPIRED_CODES
            if not (expired and await self._credentials.renew(asked_at=asked_at)):
                raise
            answer = await self._endpoint.ask(request)
            self._judge(operation, answer)
        return answer

    def _judge(self, operation: str, answer: Answer) -> None:
        headers = answer.headers
        metadata = {"HTTPStatusCode": answer.status, "HTTPHeaders": headers}
        if ID_HEADER in headers:
            metadata["RequestId"] = headers[ID_HEADER]
        # It lets errors pass, but no redirect of a portal.
        self._doorkeeper({"ResponseMetadata": metadata})
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise ClientError(_error(answer, metadata), operation)  # type: ignore[arg-type] # its stubs know fewer fields


# NB: half a surrogate pair is no Unicode, and msgspec's JSON knows nothing else. Escaped, as the SDK writes and reads it,
# it is the service's to take or to refuse.


def _encoded(fields: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:
        return json.dumps(fields, default=_base64).encode()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decoded(body: bytes, kind: "type[_Kind]") -> _Kind:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(body), kind)


class _Fault(msgspec.Struct):
    """What is read of an error."""

    type: str = msgspec.field(default="", name="__type")
    message: str | None = None
    Message: str | None = None
    CancellationReasons: list[Any] | None = None


def _error(answer: Answer, metadata: dict[str, Any]) -> dict[str, Any]:
    """Read an error, in the SDK's form."""
    try:
        fault = msgspec.json.decode(answer.body or b"{}", type=_Fault)
    except (msgspec.DecodeError, UnicodeDecodeError):
        fault = _Fault()
    code = fault.type.partition(":")[0].rpartition("#")[2] or str(answer.status)
    # Of services with an older protocol, the code that it had there.
    known, _, _ = answer.headers.get("x-amzn-query-error", "").partition(";")
    error: dict[str, Any] = {
        "Error": {"Code": known or code, "Message": fault.message or fault.Message or ""},
        "ResponseMetadata": metadata,
    }
    if fault.CancellationReasons is not None:
        error["CancellationReasons"] = fault.CancellationReasons
    return error


def _passes(error: Exception) -> bool:
    """Return whether the same call may well succeed in a moment."""
    if not isinstance(error, ClientError):
        return True
    return status_of(error) in _PASSING or code_of(error) in THROTTLED_CODES
