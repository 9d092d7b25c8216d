"""One AWS session and its clients, shared by all adapters that talk to AWS.

A client keeps a pool of connections and takes a tenth of a second to make, the first of its service: there is one
for each service and region, made when first asked for and kept until the end.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from crrmon import __version__

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_cloudwatch import CloudWatchClient
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

Service = Literal["s3", "sqs", "cloudwatch", "dynamodb"]

MAX_CLIENTS = 128
"""Regions come out of messages: nonsense there must not fill the memory. AWS has fewer than 40 regions."""

NO_ANSWER = (BotoCoreError, ResponseParserError, ValueError, TimeoutError, OSError)
"""
What AWS calls raise when no service answered, or nothing that can be understood.

NB: the SDK lets a ValueError through for a header that is no number or no time.
"""

_SETTINGS: Mapping[Service, Mapping[str, Any]] = {
    # Whoever looks also decides when to look again: nothing is retried beneath.
    "s3": {
        "connect_timeout": 5,
        "read_timeout": 10,
        "retries": {"mode": "standard", "total_max_attempts": 1},
    },
    # A long poll lasts up to 20 s before SQS answers.
    "sqs": {
        "connect_timeout": 5,
        "read_timeout": 35,
        "retries": {"mode": "standard", "total_max_attempts": 2},
    },
    # Whoever publishes makes sure first that this is still its business: a process that stood still for a minute finds
    # its call timed out, and another one publishing.
    "cloudwatch": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"mode": "standard", "total_max_attempts": 1},
    },
    # The ledger's callers try again themselves, ever more slowly, and say so.
    "dynamodb": {
        "connect_timeout": 3,
        "read_timeout": 10,
        "retries": {"mode": "standard", "total_max_attempts": 1},
        # A tenth of the CPU time of a call, for requests that this program alone makes.
        "parameter_validation": False,
    },
}

_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "UnauthorizedOperation", "403"}
)
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


class TooManyClientsError(Exception):
    """
    A client for one more region was asked for than there can reasonably be.
    """


class Aws:
    """
    The clients of one session; an asynchronous context that closes them at its end.
    """

    def __init__(
        self, *, endpoint_url: str | None, default_region: str | None, max_connections: int
    ) -> None:
        """
        Set up without asking anybody anything.

        Args:
            endpoint_url: one address for all services, for emulators; None for AWS itself.
            default_region: for whoever names none; None leaves it to AWS_REGION and then to the SDK.
            max_connections: at the most, of each client.
        """
        self._session = AioSession()
        self._endpoint_url = endpoint_url
        # NB: unlike the other SDKs, botocore does not know AWS_REGION, which ECS and EKS set.
        self._default_region = default_region or os.environ.get("AWS_REGION") or None
        self._max_connections = max_connections
        self._clients: dict[tuple[Service, str | None], asyncio.Task[Any]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        making = [task for task in self._clients.values() if not task.done()]
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)
        await self._stack.aclose()

    @overload
    async def client(self, service: Literal["s3"], region: str | None = None) -> "S3Client": ...
    @overload
    async def client(self, service: Literal["sqs"], region: str | None = None) -> "SQSClient": ...
    @overload
    async def client(
        self, service: Literal["cloudwatch"], region: str | None = None
    ) -> "CloudWatchClient": ...
    @overload
    async def client(
        self, service: Literal["dynamodb"], region: str | None = None
    ) -> "DynamoDBClient": ...

    async def client(self, service: Service, region: str | None = None) -> Any:
        """
        Give the client of a service in a region (the default one when None or empty), always the same.

        Raises:
            BotoCoreError: the region is no region, or no credentials can be found now. Asking again may help.
            TooManyClientsError: see `MAX_CLIENTS`.
        """
        key = (service, region or self._default_region)
        task = self._clients.get(key)
        if task is None:
            if len(self._clients) >= MAX_CLIENTS:
                raise TooManyClientsError(f"there are {len(self._clients)} clients already")
            task = asyncio.create_task(self._make(*key), name=f"make the client for {key}")
            task.add_done_callback(lambda made: self._forget_failed(key, made))
            self._clients[key] = task
        # Shielded: a caller that gives up must not take the client from the others.
        return task.result() if task.done() else await asyncio.shield(task)

    def _forget_failed(self, key: tuple[Service, str | None], made: asyncio.Task[Any]) -> None:
        if made.cancelled() or made.exception() is not None:
            del self._clients[key]

    async def _make(self, service: Service, region: str | None) -> Any:
        # NB: a client made while no credentials can be found would stay without them for ever.
        if await self._session.get_credentials() is None:
            raise NoCredentialsError
        config = AioConfig(
            max_pool_connections=self._max_connections,
            # The SDK's own way to make this header takes a tenth of the CPU time of a HEAD.
            user_agent=f"crrmon/{__version__}",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # Service models are megabytes of JSON: they are read in a thread.
            warm_up_loader_caches=True,
            **_SETTINGS[service],
        )
        client: Any = await self._stack.enter_async_context(
            self._session.create_client(
                service, region_name=region, endpoint_url=self._endpoint_url, config=config
            )
        )
        if service == "s3":
            client.meta.events.register("before-call.s3", _follow_no_redirect)
        return client


def _follow_no_redirect(context: dict[str, Any], **_: object) -> None:
    """
    Keep the SDK from asking again after every 400: it would HEAD all objects with a customer's key twice or thrice.

    Buckets elsewhere are found by `s3.S3Probe`.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def code_of(error: ClientError) -> str:
    """
    Return AWS's word for an error; for answers without a body the HTTP status as text.
    """
    return str(error.response.get("Error", {}).get("Code", "")) or str(status_of(error))


def status_of(error: ClientError) -> int:
    """
    Return the HTTP status of an error; 0 when there is none.
    """
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def explain(
    error: Exception, *, permission: str, advice: Mapping[str, str] = MappingProxyType({})
) -> str:
    """
    Say what an AWS call met and what to do about it.

    Args:
        error: what it raised.
        permission: the IAM action to grant, in case it was denied, and on what.
        advice: what to do about certain error codes.

    Returns:
        The code with AWS's own sentence, or the error's class, and the remedy. Never a URL: it may hold a key.
    """
    if not isinstance(error, ClientError):
        return f"{type(error).__name__}; {_remedy(error)}"
    code = code_of(error)
    sentence = str(error.response.get("Error", {}).get("Message", ""))[:300]
    said = f"{code} ({sentence})" if sentence else code
    if code in advice:
        return f"{said}; {advice[code]}"
    if code in _DENIED:
        return f"{said}; grant {permission} to the daemon's role"
    if code in _CREDENTIALS:
        return f"{said}; check the daemon's credentials and the machine's clock"
    if code in _THROTTLED:
        return f"{said}; AWS asks for fewer calls"
    return said


def _remedy(error: Exception) -> str:
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return "check the daemon's credentials: its role, or the AWS_* variables"
    return "check the network, the region and aws.endpoint_url"
