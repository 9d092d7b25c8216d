"""One AWS session and its clients, shared by all adapters that talk to AWS.

A client keeps a pool of connections and takes a tenth of a second to make, the first of its service: there is one
for each service, account and region, made when first asked for and kept until the end.
"""

import asyncio
import contextlib
import email.utils
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from http import HTTPStatus
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import aiohttp
import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    HTTPClientError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    UnknownCredentialError,
)
from typing_extensions import override

from crrmon import __version__
from crrmon.adapters.sdk_settings import faults
from crrmon.domain.queue_address import is_of_aws
from crrmon.ports.clock import Dates

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_cloudwatch import CloudWatchClient
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

Service = Literal["s3", "sqs", "cloudwatch", "dynamodb"]

SET_REGION = "set aws.region, AWS_REGION, or region in the profile"

SETTINGS_ERRORS = (
    ConfigParseError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    ProfileNotFound,
    UnknownCredentialError,
)
"""What the SDK raises for how it is set up; their texts hold names and no secrets."""

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS")
"""By which the SDK itself is told to ask elsewhere."""

MAX_S3_CLIENTS = 1024
"""
Regions and accounts come out of messages: nonsense there must not fill the memory. One takes 0.35 MB.

There are few clients of all other services, and these must not go without for it.
"""


class UnaskedError(Exception):
    """
    Nobody was asked, for a reason of our own that the text tells.
    """


class TooManyClientsError(UnaskedError):
    """
    S3 was to be asked in one more region, or for one more account, than there can reasonably be.
    """


class NoAnswerError(Exception):
    """
    No service answered, or nothing that can be understood, or none could be asked.
    """

    def __init__(self, met: Exception) -> None:
        super().__init__(type(met).__name__)
        self.met = met
        """What the SDK raised, or reading what it made of the answer."""


class UnsignedAnswerError(Exception):
    """
    Somebody answered who does not seem to be the service: a proxy, a portal, a load balancer.
    """


@contextlib.contextmanager
def border() -> Iterator[None]:
    """
    Take whatever is raised within for no answer, but for what a service says itself and what we refuse to ask.

    For calls of the SDK and the reading of what they return, and for nothing else: our own faults must end the daemon.
    There is no list of what the SDK raises: its parsers meet bytes of strangers, and let through what that leads to.

    Raises:
        NoAnswerError: in place of anything else.
    """
    try:
        yield
    except (ClientError, UnaskedError, NoAnswerError):
        raise
    except Exception as error:
        raise NoAnswerError(error) from error


MAX_HEADERS = 2048
"""
Of one answer: S3 keeps up to 2 KB of names and values that users give, a header for each, and adds some of its own.
"""

MAX_HEADER_BYTES = 65_536
"""Of one header."""


class _Response(aiohttp.ClientResponse):
    """
    An answer whose headers may hold any bytes, as users give them to S3: those that are no UTF-8 are read as Latin-1.
    """

    @property
    @override
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((name, _as_utf8(value)) for name, value in self._raw_headers or ())


def _as_utf8(value: bytes) -> bytes:
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


class _Reader(AIOHTTPSession):
    """
    Reads all answers that S3 can give, or a proxy before another service; the SDK's own takes 128 headers of UTF-8.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session: Any = await super()._get_session(proxy_url)  # type: ignore[misc] # its stubs hide it
        # NB: aiohttp has arguments for these, which the SDK does not pass on.
        session._response_class = _Response  # noqa: SLF001
        session._max_headers = MAX_HEADERS  # noqa: SLF001
        session._max_line_size = MAX_HEADER_BYTES  # noqa: SLF001
        session._max_field_size = MAX_HEADER_BYTES  # noqa: SLF001
        return session


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

_STS_SETTINGS: Mapping[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}

_ASKED_AT = "crrmon_asked_at"
"""Where the SDK's context of a call keeps when it began."""

_IDS = ("x-amzn-requestid", "x-amz-request-id")
"""Headers in which AWS's services name a request; that of most, and that of S3."""

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
_TAKING_A_ROLE = ("AssumeRole", "AssumeRoleWithWebIdentity")
_ROLE_REMEDY = "check AWS_ROLE_ARN (or role_arn of the profile), and whether the role's trust policy lets the daemon take it"
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


class Login(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """
    On whose behalf a client asks, where it is not the daemon itself, and whom.
    """

    name: str
    """Tells logins apart."""
    session: AioSession | None
    """Has the credentials; None for the daemon's own."""
    endpoint_url: str | None
    """A store of its own instead of AWS."""
    path_style: bool
    """Whether a bucket is part of the path at that endpoint, not of its host name."""


class Aws:
    """
    The clients of one session, and of others beside it; an asynchronous context that closes them at its end.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        default_region: str | None,
        max_connections: int,
        dates: Dates | None = None,
        stores_tell_time: bool = False,
    ) -> None:
        """
        Set up without asking anybody anything.

        Args:
            endpoint_url: one address for all services, for emulators; None for AWS itself.
            default_region: for whoever names none; None leaves it to AWS_REGION and then to the SDK.
            max_connections: at the most, of each client.
            dates: told the Date of every answer, if anybody wants to know.
            stores_tell_time: whether to tell it those of S3-compatible stores, too: where nobody else need be asked.
        """
        self._dates = dates
        self._stores_tell_time = stores_tell_time
        self._session = AioSession()
        self._endpoint_url = endpoint_url
        # NB: unlike the other SDKs, botocore does not know AWS_REGION, which ECS and EKS set.
        self._default_region = default_region or os.environ.get("AWS_REGION") or None
        self._max_connections = max_connections
        self._clients: dict[tuple[Service, str | None, str], asyncio.Task[Any]] = {}
        self._regions: dict[str, str] = {}
        self._stack = AsyncExitStack()

    @property
    def redirected(self) -> bool:
        """
        Whether queues are asked for elsewhere than where their addresses say, as with emulators.
        """
        return bool(self._endpoint_url or any(map(os.environ.get, _ENDPOINT_VARIABLES)))

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
    async def client(
        self, service: Literal["s3"], region: str | None = None, login: Login | None = None
    ) -> "S3Client": ...
    @overload
    async def client(
        self, service: Literal["sqs"], region: str | None = None, login: Login | None = None
    ) -> "SQSClient": ...
    @overload
    async def client(
        self, service: Literal["cloudwatch"], region: str | None = None
    ) -> "CloudWatchClient": ...
    @overload
    async def client(
        self, service: Literal["dynamodb"], region: str | None = None
    ) -> "DynamoDBClient": ...

    async def client(
        self, service: Service, region: str | None = None, login: Login | None = None
    ) -> Any:
        """
        Give the client of a service in a region (the default one when None or empty), always the same.

        Args:
            service: which one.
            region: where.
            login: on whose behalf; the daemon's own when None. Logins of one name share their clients.

        Raises:
            NoAnswerError: the region is no region, or no credentials can be found now. Asking again may help.
            TooManyClientsError: see `MAX_S3_CLIENTS`.
        """
        key = (service, region or self._default_region, login.name if login else "")
        task = self._clients.get(key)
        if task is None:
            if service == "s3":
                self._count_s3()
            task = asyncio.create_task(
                self._make(service, key[1], login), name=f"make the client for {key}"
            )
            task.add_done_callback(lambda made: self._forget_failed(key, made))
            self._clients[key] = task
        # Shielded: a caller that gives up must not take the client from the others.
        with border():
            return task.result() if task.done() else await asyncio.shield(task)

    def session(
        self, *, profile: str | None = None, credentials: AioRefreshableCredentials | None = None
    ) -> AioSession:
        """
        Make a session beside the daemon's own.

        Args:
            profile: of the SDK's shared files, whose credentials and settings it uses.
            credentials: that it uses instead of looking for any.
        """
        session = AioSession(profile=profile)
        # Service models are megabytes: they are read once for all.
        session.register_component("data_loader", self._session.get_component("data_loader"))
        if credentials is not None:
            session.register_component("credential_provider", _Given(credentials))
        return session

    def sts(self, session: AioSession | None, region: str) -> AbstractAsyncContextManager[Any]:
        """
        Make a client that gets credentials, for one call: there is one in an hour.

        Args:
            session: whose credentials ask; the daemon's own when None.
            region: whose STS is asked.
        """
        config = AioConfig(
            user_agent=f"crrmon/{__version__}",
            warm_up_loader_caches=True,
            http_session_cls=_Reader,
            **_STS_SETTINGS,
        )
        made: AbstractAsyncContextManager[Any] = (session or self._session).create_client(
            "sts", region_name=region, endpoint_url=self._endpoint_url, config=config
        )
        return made

    def default_region(self, session: AioSession | None = None) -> str | None:
        """
        Tell the region of whoever names none; that of a session beside the daemon's own, where it has one.
        """
        told: str | None = None
        with contextlib.suppress(ProfileNotFound):
            told = (session or self._session).get_config_variable("region")
        return told if session and told else self._default_region or told

    async def regions(self) -> Mapping[str, str]:
        """
        List all regions that the SDK knows, opt-in ones and those of all partitions as well, with their partitions.
        """
        if not self._regions:
            known = {
                region: partition
                for partition in self._session.get_available_partitions()
                for region in await self._session.get_available_regions("s3", partition)
            }
            self._regions.update(known)
        return self._regions

    def _count_s3(self) -> None:
        there = sum(service == "s3" for service, _, _ in self._clients)
        if there >= MAX_S3_CLIENTS:
            raise TooManyClientsError(f"there are {there} clients of S3 already")

    def _forget_failed(
        self, key: tuple[Service, str | None, str], made: asyncio.Task[Any]
    ) -> None:
        if made.cancelled() or made.exception() is not None:
            del self._clients[key]

    async def _make(self, service: Service, region: str | None, login: Login | None) -> Any:
        session = login.session if login and login.session else self._session
        # NB: a client made while no credentials can be found would stay without them for ever.
        if await session.get_credentials() is None:
            raise NoCredentialsError
        config = AioConfig(
            max_pool_connections=self._max_connections,
            # The SDK's own way to make this header takes a tenth of the CPU time of a HEAD.
            user_agent=f"crrmon/{__version__}",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # Service models are megabytes of JSON: they are read in a thread.
            warm_up_loader_caches=True,
            http_session_cls=_Reader,
            **_SETTINGS[service],
        )
        endpoint_url = self._endpoint_url
        if login and login.endpoint_url:
            endpoint_url = login.endpoint_url
            style = "path" if login.path_style else "virtual"
            config = config.merge(AioConfig(s3={"addressing_style": style}))
        client: Any = await self._stack.enter_async_context(
            session.create_client(
                service, region_name=region, endpoint_url=endpoint_url, config=config
            )
        )
        # A store of its own; another address of AWS is AWS.
        foreign = login and login.endpoint_url and not is_of_aws(login.endpoint_url)
        if service == "s3":
            client.meta.events.register("before-call.s3", _follow_no_redirect)
            if foreign:
                client.meta.events.register("before-call.s3", _mean_this_site)
        else:
            trusting = endpoint_url is not None and not is_of_aws(endpoint_url)
            client.meta.events.register("after-call", _Doorkeeper(trusting=trusting))
        # NB: a store of its own has a clock of its own.
        if self._dates is not None and (self._stores_tell_time or not foreign):
            listener = _Listener(self._dates)
            client.meta.events.register("before-call", listener.asked)
            client.meta.events.register("after-call", listener.answered)
        return client


class _Doorkeeper:
    """
    Lets no answer in that is none of the service's: an error page with the status 200 would be read as a success.

    AWS gives every request an id. Stand-ins for it need not; they must at least answer in the protocol's own format.
    """

    def __init__(self, *, trusting: bool) -> None:
        self._trusting = trusting

    def __call__(self, parsed: Mapping[str, Any], **_: object) -> None:
        told = parsed.get("ResponseMetadata", {})
        if told.get("HTTPStatusCode", 0) >= HTTPStatus.BAD_REQUEST or told.get("RequestId"):
            return
        kind = str(told.get("HTTPHeaders", {}).get("content-type", ""))
        if not (self._trusting and any(one in kind for one in ("json", "cbor", "xml"))):
            raise UnsignedAnswerError


class _Listener:
    """
    Hears of every call of a client, and passes on what its answer says about the time.

    Answers without AWS's id of the request, or out of a cache, are of somebody else on the way, or of another time.
    """

    def __init__(self, dates: Dates) -> None:
        self._dates = dates

    def asked(self, context: dict[str, Any], **_: object) -> None:
        context[_ASKED_AT] = self._dates.asked()

    def answered(self, context: dict[str, Any], parsed: Any, **_: object) -> None:
        asked_at = context.get(_ASKED_AT)
        told = parsed.get("ResponseMetadata", {}) if isinstance(parsed, dict) else {}
        headers = told.get("HTTPHeaders", {})
        if asked_at is None or "age" in headers or not any(one in headers for one in _IDS):
            return
        with contextlib.suppress(ValueError, TypeError):  # no date, or one that no calendar has
            date = email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
            self._dates.heard(date, asked_at=asked_at)


class _Given:
    """
    Finds the credentials that it was given.
    """

    def __init__(self, credentials: AioRefreshableCredentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> AioRefreshableCredentials:
        return self._credentials


def _follow_no_redirect(context: dict[str, Any], **_: object) -> None:
    """
    Keep the SDK from asking again after every 400: it would HEAD all objects with a customer's key twice or thrice.

    Buckets elsewhere are found by `s3.S3Probe`.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _mean_this_site(params: dict[str, Any], **_: object) -> None:
    """
    Have a store answer for itself: MinIO asks the other side of a replication for what it does not have, and passes its
    answer on as its own, unless this header says that somebody asked already.
    """
    params["headers"]["x-minio-source-proxy-request"] = "false"


def unreadable(error: Exception) -> bool:
    """
    Tell whether something did answer that speaks HTTP, and our reader could not make sense of what it said.

    Args:
        error: what a `NoAnswerError` met.
    """
    if type(error) is HTTPClientError:  # each way not to be answered has a class of its own
        causes: list[BaseException] = []
        cause: BaseException | None = error.kwargs.get("error")
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__
        return any(
            isinstance(one, aiohttp.ClientResponseError | UnicodeError) for one in causes
        ) and not any(isinstance(one, aiohttp.http_exceptions.BadStatusLine) for one in causes)
    return not isinstance(error, BotoCoreError | OSError | UnsignedAnswerError)


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
    error: Exception,
    *,
    permission: str,
    advice: Mapping[str, str] = MappingProxyType({}),
    whom: str = "the daemon's role",
    address: str = "aws.endpoint_url",
) -> str:
    """
    Say what an AWS call met and what to do about it.

    Args:
        error: what it raised.
        permission: the IAM action to grant, in case it was denied, and on what.
        advice: what to do about certain error codes.
        whom: to grant it to.
        address: the setting that says where the service is.

    Returns:
        The code with AWS's own sentence, or the error's class, and the remedy. Never a URL: it may hold a key.
    """
    if isinstance(error, NoAnswerError):
        error = error.met
    if not isinstance(error, ClientError):
        return f"{type(error).__name__}; {_remedy(error, address)}"
    code = code_of(error)
    sentence = str(error.response.get("Error", {}).get("Message", ""))[:300]
    said = f"{code} ({sentence})" if sentence else code
    remedy = advice.get(code) or _remedy_of_code(error, f"grant {permission} to {whom}")
    return f"{said}; {remedy}" if remedy else said


def _remedy_of_code(error: ClientError, grant: str) -> str:
    code = code_of(error)
    refused = status_of(error) // 100 == 4 and code not in _CREDENTIALS | _THROTTLED  # noqa: PLR2004 - 4xx
    if refused and error.operation_name in _TAKING_A_ROLE:
        return f"{error.operation_name} was refused: {_ROLE_REMEDY}"
    if code in _DENIED:
        return grant
    if code in _CREDENTIALS:
        return "check the daemon's credentials and the machine's clock"
    return "AWS asks for fewer calls" if code in _THROTTLED else ""


_REMEDIES: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], str]] = (
    (
        (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError),
        "check the daemon's credentials: its role, or the AWS_* variables",
    ),
    (NoRegionError, f"no region is known: {SET_REGION}"),
    (InvalidRegionError, f"{{error}} Correct it: {SET_REGION}"),
    (SETTINGS_ERRORS, "{error} Correct that in the AWS_* variables or the SDK's shared files"),
    (
        SSLError,
        (
            "the certificate of whoever answered is not trusted: check {address}; where a proxy looks into TLS, let "
            "AWS_CA_BUNDLE name its certificates"
        ),
    ),
    (
        TooManyClientsError,
        (
            f"one daemon looks at no more than {MAX_S3_CLIENTS} pairs of account and region: check the accounts and "
            "regions in the messages, or use several daemons with queues of their own"
        ),
    ),
    (
        UnsignedAnswerError,
        "somebody else answered, such as a proxy: check the network and {address}",
    ),
    (Exception, "check the network, the region and {address}"),
)


def _remedy(error: Exception, address: str) -> str:
    # What is wrong with the settings shows in many forms, as no credentials or a header that is none, but not in these.
    if not _of_the_network(error) and (found := faults(os.environ)):
        return "; ".join(found)
    return next(remedy for kind, remedy in _REMEDIES if isinstance(error, kind)).format(
        error=error, address=address
    )


def _of_the_network(error: Exception) -> bool:
    """
    Tell whether somebody was asked who did not answer, or not as a service does.
    """
    # The class above all of these stands for whatever the SDK did not expect.
    asked = isinstance(error, HTTPClientError) and type(error) is not HTTPClientError
    return asked or isinstance(error, TimeoutError | UnsignedAnswerError | UnaskedError)
