"""One AWS session and its clients, shared by all adapters that talk to AWS.

A client keeps a pool of connections and takes a tenth of a second to make, the first of its service: there is one
for each service, account and region, made when first asked for and kept until the end.
"""

import asyncio
import contextlib
import functools
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import ConnectionClosedError, NoCredentialsError, ProfileNotFound

from crrmon import __version__
from crrmon.adapters.answers import (
    AnswerReader,
    DateListener,
    Doorkeeper,
    follow_no_redirect,
    mean_this_site,
)
from crrmon.adapters.border import TooManyClientsError, border
from crrmon.adapters.fast.client_choice import ClientChoice
from crrmon.adapters.fast.factory import ClientFactory, Service, Setting
from crrmon.adapters.fast.json_calls import Calls
from crrmon.adapters.heads import Heads
from crrmon.domain.queue_address import is_of_aws
from crrmon.ports.clock import Dates

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_cloudwatch import CloudWatchClient
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS")
"""The SDK's own settings of another endpoint."""

MAX_S3_CLIENTS = 1024
"""Regions and accounts come out of messages: nonsense there must not fill the memory. One takes 0.35 MB.

There are few clients of all other services, and these must not go without for it.
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

_STS_SETTINGS: Mapping[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}


class Login(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Other credentials than the daemon's own, or another endpoint, for some of the clients."""

    name: str
    """Different for each login."""
    session: AioSession | None
    """Has the credentials; None for the daemon's own."""
    endpoint_url: str | None
    """A store of its own instead of AWS."""
    path_style: bool
    """Whether a bucket is part of the path at that endpoint, not of its host name."""


class _Made(msgspec.Struct, frozen=True):
    """A client of the SDK, and what makes the calls that are made all day: with it, or with the fast client."""

    client: Any
    heads: Heads | None = None
    """Of S3."""
    calls: Calls | None = None
    """Of SQS and DynamoDB."""


class S3Clients(msgspec.Struct, frozen=True):
    """What calls S3 in one region."""

    sdk: "S3Client"
    heads: Heads
    """Asks for objects, with the SDK's client or the fast one."""


class AwsSession:
    """The clients of one session, and of others beside it; an asynchronous context that closes them at its end."""

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        default_region: str | None,
        max_connections: int,
        dates: Dates | None = None,
        stores_tell_time: bool = False,
        choice: ClientChoice = "auto",
    ) -> None:
        """Set up without asking anybody anything.

        Args:
            endpoint_url: one address for all services, for emulators; None for AWS itself.
            default_region: for whoever names none; None leaves it to AWS_REGION and then to the SDK.
            max_connections: at the most, of each client.
            dates: takes in the Date of every response; None for nobody.
            stores_tell_time: whether it takes in those of S3-compatible stores, too, where no AWS need be called.
            choice: when to use the fast client instead of the SDK's.
        """
        self._dates = dates
        self._stores_tell_time = stores_tell_time
        self._endpoint_url = endpoint_url
        # NB: unlike the other SDKs, botocore does not know AWS_REGION, which ECS and EKS set.
        self._default_region = default_region or os.environ.get("AWS_REGION") or None
        self._max_connections = max_connections
        self._factory = ClientFactory(choice, most_connections=max_connections)
        self._clients: dict[tuple[Service, str | None, str], asyncio.Task[_Made]] = {}
        self._regions: dict[str, str] = {}
        self._closed = False
        self._stack = AsyncExitStack()

    @functools.cached_property
    def _session(self) -> AioSession:
        """The daemon's own."""
        return AioSession()

    @property
    def redirected(self) -> bool:
        """Whether queues are asked for elsewhere than where their addresses say, as with emulators."""
        return bool(self._endpoint_url or any(map(os.environ.get, _ENDPOINT_VARIABLES)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        making = [task for task in self._clients.values() if not task.done()]
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)
        await self._factory.close()
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
        """Return the client of a service in a region (the default one when None or empty), always the same.

        Args:
            service: which one.
            region: where.
            login: on whose behalf; the daemon's own when None. Logins of one name share their clients.

        Raises:
            NoAnswerError: the region is no region, or no credentials can be found now. Asking again may help, unless the
                session is closed.
            TooManyClientsError: see `MAX_S3_CLIENTS`.
        """
        return (await self._made(service, region, login)).client

    async def s3(self, region: str | None = None, login: Login | None = None) -> S3Clients:
        """Return what calls S3 in a region; as `client`."""
        made = await self._made("s3", region, login)
        assert made.heads is not None  # noqa: S101 - for the type checker: S3 has one
        return S3Clients(made.client, made.heads)

    async def calls(
        self, service: Literal["sqs", "dynamodb"], region: str | None, login: Login | None = None
    ) -> Calls:
        """Return what calls a service in a region; as `client`."""
        made = await self._made(service, region, login)
        assert made.calls is not None  # noqa: S101 - for the type checker: these have them
        return made.calls

    async def _made(self, service: Service, region: str | None, login: Login | None) -> _Made:
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
        """Create a session beside the daemon's own.

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
        """Create a client that gets credentials, for one call: there is one in an hour.

        Args:
            session: whose credentials ask; the daemon's own when None.
            region: whose STS is asked.
        """
        config = AioConfig(
            user_agent=f"crrmon/{__version__}",
            warm_up_loader_caches=True,
            http_session_cls=AnswerReader,
            **_STS_SETTINGS,
        )
        made: AbstractAsyncContextManager[Any] = (session or self._session).create_client(
            "sts", region_name=region, endpoint_url=self._endpoint_url, config=config
        )
        return made

    def default_region(self, session: AioSession | None = None) -> str | None:
        """Return the region of whoever names none; that of a session beside the daemon's own, where it has one."""
        if session is None and self._default_region:
            return self._default_region
        found: str | None = None
        with contextlib.suppress(ProfileNotFound):
            found = (session or self._session).get_config_variable("region")
        return found or self._default_region

    async def regions(self) -> Mapping[str, str]:
        """List all regions that the SDK knows, opt-in ones and those of all partitions as well, with their partitions."""
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
            raise TooManyClientsError(f"there are already {there} S3 clients")

    def _forget_failed(
        self, key: tuple[Service, str | None, str], made: asyncio.Task[_Made]
    ) -> None:
        if made.cancelled() or made.exception() is not None:
            del self._clients[key]

    async def _make(self, service: Service, region: str | None, login: Login | None) -> _Made:
        if self._closed:  # nobody would close the client
            raise ConnectionClosedError(endpoint_url=f"{service} in {region}")
        session = login.session if login and login.session else self._session
        # NB: a client made while no credentials can be found would stay without them for ever.
        held = await session.get_credentials()
        if held is None:
            raise NoCredentialsError
        setting = self._setting(session, service, login)
        client = await self._client(session, region, login, setting)
        if service == "cloudwatch":
            return _Made(client)
        if service == "s3":
            return _Made(client, heads=self._factory.heads(client, held, setting))
        return _Made(client, calls=self._factory.calls(client, held, setting))

    def _setting(self, session: AioSession, service: Service, login: Login | None) -> Setting:
        endpoint = self._endpoint(login)
        stand_in = endpoint is not None and not is_of_aws(endpoint)
        own_store = stand_in and login is not None and bool(login.endpoint_url)
        return Setting(
            service=service,
            # As the SDK has it.
            ca_bundle=session.get_config_variable("ca_bundle")
            or os.environ.get("REQUESTS_CA_BUNDLE")
            or None,
            own_store=own_store,
            trusting=stand_in,
            # NB: a store of its own has a clock of its own.
            dates=self._dates if self._stores_tell_time or not own_store else None,
        )

    def _endpoint(self, login: Login | None) -> str | None:
        """Return the endpoint that is set for a client; None where the SDK resolves it."""
        return (login.endpoint_url if login else None) or self._endpoint_url

    async def _client(
        self, session: AioSession, region: str | None, login: Login | None, setting: Setting
    ) -> Any:
        config = AioConfig(
            max_pool_connections=self._max_connections,
            # The SDK's own way to make this header takes a tenth of the CPU time of a HEAD.
            user_agent=f"crrmon/{__version__}",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # Service models are megabytes of JSON: they are read in a thread.
            warm_up_loader_caches=True,
            http_session_cls=AnswerReader,
            **_SETTINGS[setting.service],
        )
        if login and login.endpoint_url:
            style = "path" if login.path_style else "virtual"
            config = config.merge(AioConfig(s3={"addressing_style": style}))
        client: Any = await self._stack.enter_async_context(
            session.create_client(
                setting.service,
                region_name=region,
                endpoint_url=self._endpoint(login),
                config=config,
            )
        )
        events = client.meta.events
        if setting.service == "s3":
            events.register("before-call.s3", follow_no_redirect)
            if setting.own_store:
                events.register("before-call.s3", mean_this_site)
        else:
            events.register("after-call", Doorkeeper(trusting=setting.trusting))
        if setting.dates is not None:
            listener = DateListener(setting.dates)
            events.register("before-call", listener.asked)
            events.register("after-call", listener.answered)
        return client


class _Given:
    """Finds the credentials that it was given."""

    def __init__(self, credentials: AioRefreshableCredentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> AioRefreshableCredentials:
        return self._credentials
