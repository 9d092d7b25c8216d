"""The way to the buckets of one account: whose credentials are used, where, and how they are got.

What is wrong with one account stays with it. Its looks are told at once that they cannot be made, without waiting for
what lately failed, and those of all others go on.
"""

import asyncio
import contextlib
import datetime as dt
import fnmatch
import logging
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiobotocore.credentials import AioRefreshableCredentials
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

from crrmon.adapters.aws import AwsSession, Login, S3Clients
from crrmon.adapters.border import NoAnswerError, UnaskedError, border
from crrmon.adapters.remedies import SETTINGS_ERRORS, explain
from crrmon.adapters.sdk_settings import faults
from crrmon.domain import catalogue
from crrmon.domain.queue_address import is_of_aws
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters

if TYPE_CHECKING:  # the stubs are there for development only
    from aiobotocore.session import AioSession

SESSION_NAME = "crrmon"
"""How the daemon is called in the other account's CloudTrail."""

REST_SECONDS = 30.0
"""Between two attempts to get credentials, once one failed."""

REMINDER_SECONDS = 60.0
"""How often it is logged that an account cannot be used."""

DEADLINE_SECONDS = 8.0
"""For one attempt in all: looks at the account wait for the first one."""

LAST_MOMENT_SECONDS = 60
"""Credentials that end sooner than this are not used. Newer ones are asked for ahead of that, from 15 minutes on."""

_HOMES = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
"""Of each partition a region that every account has."""

_PROFILE_ERRORS = (
    *SETTINGS_ERRORS,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

log = structlog.get_logger()


class KnownAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the configuration; see `config.Account`."""

    id: str
    role_arn: str | None = None
    external_id: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    path_style: bool = True
    region: str | None = None
    site: str | None = None
    buckets: tuple[str, ...] = ()
    request_payer: tuple[str, ...] = ()
    reports_status: bool = True


class AccountError(UnaskedError):
    """There are no credentials for an account now; the text names it and says what to do."""


class Way:
    """How the buckets of one account are reached.

    Args:
        name: the account's id; the empty string for the daemon's own credentials.
        account: the settings that apply; None for the daemon's own credentials.
        aws: makes the clients.
        clock: spaces attempts that fail.
        meters: counts them.
    """

    def __init__(
        self,
        name: str,
        account: KnownAccount | None,
        *,
        aws: AwsSession,
        clock: Clock,
        meters: Meters,
    ) -> None:
        self.name = name
        self._account = account or KnownAccount(id=name)
        self._aws = aws
        self._clock = clock
        self._meters = meters
        self._role = (self._account.role_arn or "").replace("{account}", name)
        self._one_lookup = asyncio.Lock()
        self._trying = False
        self._trouble = ""
        self._failed_at = float("-inf")
        self._told_at = float("-inf")
        self._credentials: AioRefreshableCredentials | None = None
        """Of the role."""
        self._source: AioSession | None = None
        """Whose credentials ask for the role's; None for the daemon's own."""
        self._login = self._made_login()
        self._at_hand: dict[str, S3Clients] = {}
        """By regions that the SDK knows; the daemon's own credentials are always the SDK's business."""

    @property
    def reports_status(self) -> bool:
        """Whether the store tells the replication status of sources."""
        return self._account.reports_status

    @property
    def own_endpoint(self) -> bool:
        """Whether it is a store with an endpoint of its own, which need not be AWS."""
        return self._account.endpoint_url is not None

    @property
    def whom(self) -> str:
        """Who needs permissions, for people."""
        if self._role:
            return self._role
        if self._account.profile is not None:
            return f"the user of profile {self._account.profile}"
        return "the daemon's access key" if of_a_store(self._account) else "the daemon's role"

    def pays_for(self, bucket: str) -> bool:
        """Return whether whoever looks at a bucket has to say that it pays for that."""
        payers = self._account.request_payer
        return bool(payers) and any(fnmatch.fnmatchcase(bucket, one) for one in payers)

    def at_hand(self, region: str) -> S3Clients | None:
        """Return what calls S3 in a region, where nothing has to be waited for and no credentials be checked."""
        return self._at_hand.get(region)

    async def s3(self, region: str) -> S3Clients:
        """Return what calls S3 for a bucket that is thought to be in a region.

        A region that the SDK does not know may be nonsense: then S3 is asked where one is sure to be, and tells.

        Raises:
            AccountError: there are no credentials now.
            NoAnswerError, TooManyClientsError: as `AwsSession.client`.
        """
        where = await self._region(region)
        clients = await self.s3_in(where)
        if self._login is None and where == region:
            self._at_hand[region] = clients
        return clients

    async def s3_in(self, region: str | None) -> S3Clients:
        """Return what calls S3 in a region that somebody who knows has named; as `s3`."""
        if self._login is not None:
            await self._ready(self._login)
        return await self._aws.s3(region, self._login)

    async def _region(self, region: str) -> str | None:
        """Return where to ask for a bucket that is thought to be in a region; None for the default one."""
        if self.own_endpoint and self._account.region:
            return self._account.region
        return region if region in await self._aws.regions() else self._account.region

    def _made_login(self) -> Login | None:
        account = self._account
        if not self._role and account.profile is None and account.endpoint_url is None:
            return None
        session = None
        if self._role:
            if account.profile is not None:
                self._source = self._aws.session(profile=account.profile)
            self._credentials = AioRefreshableCredentials(
                access_key="",
                secret_key="",
                token="",
                # Not there yet: they are asked for when they are first used.
                expiry_time=dt.datetime.fromtimestamp(0, dt.UTC),
                refresh_using=self._assume,
                method="assume-role",
                time_fetcher=lambda: dt.datetime.fromtimestamp(self._clock.now(), dt.UTC),
                mandatory_timeout=LAST_MOMENT_SECONDS,
            )
            session = self._aws.session(credentials=self._credentials)
        elif account.profile is not None:
            session = self._aws.session(profile=account.profile)
        return Login(
            name=self.name,
            session=session,
            endpoint_url=account.endpoint_url,
            path_style=account.path_style,
        )

    async def _ready(self, login: Login) -> None:
        """Make sure that there are credentials."""
        if self._barred():
            raise AccountError(self._trouble)
        if self._credentials is not None:
            # While somebody asks for the first ones, all others wait in here; later ones are asked for ahead of time.
            await self._credentials.get_frozen_credentials()
        elif login.session is not None:
            async with self._one_lookup:
                await self._found(login.session)

    async def _found(self, session: "AioSession") -> None:
        """Make sure that a profile's credentials are there."""
        if self._barred():
            raise AccountError(self._trouble)
        try:
            async with self._attempt():
                credentials: Any = await session.get_credentials()
                if credentials is None:
                    raise NoCredentialsError
                await credentials.get_frozen_credentials()
        except AccountError:
            self._login = self._made_login()  # a session reads the shared files once only
            raise
        self._recovered()

    async def _assume(self) -> dict[str, str]:
        """Get credentials of the role, in the SDK's form."""
        if self._resting():  # somebody tried while this one waited
            raise AccountError(self._trouble)
        async with self._attempt():
            got = (await self._asked())["Credentials"]
            ends_at = got["Expiration"].timestamp()
            credentials = {
                "access_key": msgspec.convert(got["AccessKeyId"], str),
                "secret_key": msgspec.convert(got["SecretAccessKey"], str),
                "token": msgspec.convert(got["SessionToken"], str),
                "expiry_time": got["Expiration"].isoformat(),
            }
        if ends_at - self._clock.now() < 1.0:
            reason = f"the credentials of {self._role} are already expired when they arrive"
            raise self._failure(f"{reason}; check the machine's clock")
        self._recovered()
        return credentials

    @contextlib.asynccontextmanager
    async def _attempt(self) -> AsyncIterator[None]:
        """Make an attempt to get credentials within, and tell why it failed."""
        self._trying = True
        try:
            with border():
                async with asyncio.timeout(DEADLINE_SECONDS):
                    yield
        except (ClientError, NoAnswerError) as error:
            raise self._failure(self._explained(error)) from error
        finally:
            self._trying = False

    async def _asked(self) -> dict[str, Any]:
        request = {"RoleArn": self._role, "RoleSessionName": SESSION_NAME}
        if self._account.external_id is not None:
            request["ExternalId"] = self._account.external_id
        async with self._aws.sts(self._source, await self._sts_region()) as sts:
            answer: dict[str, Any] = await sts.assume_role(**request)
        return answer

    async def _sts_region(self) -> str:
        """Pick the region whose STS is asked: the account's, else the daemon's, in the role's partition."""
        partition = self._role.split(":")[1]
        regions = await self._aws.regions()
        for region in (self._account.region, self._aws.default_region(self._source)):
            if region is not None and regions.get(region, partition) == partition:
                return region
        inside = sorted(region for region, where in regions.items() if where == partition)
        return _HOMES.get(partition) or (inside or ["us-east-1"])[0]

    def _resting(self) -> bool:
        # NB: a wall clock may be set back.
        return 0 <= self._clock.now() - self._failed_at < REST_SECONDS

    def _barred(self) -> bool:
        """Return whether nobody need try now: somebody failed lately, or tries again just now."""
        if not self._trouble or not (self._trying or self._resting()):
            return False
        return self._credentials is None or self._credentials.refresh_needed(LAST_MOMENT_SECONDS)

    def _explained(self, error: Exception) -> str:
        profile = self._account.profile
        if isinstance(error, NoAnswerError):
            error = error.met
        if profile is not None and isinstance(error, _PROFILE_ERRORS):
            remedy = "; ".join(faults(os.environ, profile=profile))
            remedy = remedy or f"check profile {profile} of the SDK's shared files"
            return f"{type(error).__name__}; {remedy} (accounts[].profile)"
        if not self._role:
            return explain(error, permission="", whom=self.whom)
        external_id = self._account.external_id
        sent = "no external id" if external_id is None else f"external id {external_id}"
        by_whom = "the daemon's role" if profile is None else f"the user of profile {profile}"
        remedy = (
            f"grant sts:AssumeRole on {self._role} to {by_whom}, and have the role's trust policy allow it "
            f"({sent} is sent; accounts[].external_id must be what the policy requires)"
        )
        told = explain(
            error,
            permission="",
            advice={
                "AccessDenied": remedy,
                "ValidationError": f"check accounts[].role_arn ({self._role}) and accounts[].external_id",
                "RegionDisabledException": (
                    "activate STS in that region, or set accounts[].region to another one"
                ),
            },
        )
        return f"AssumeRole failed: {told}"

    def _failure(self, reason: str) -> AccountError:
        """Remember, count and tell that an attempt failed."""
        now = self._clock.now()
        self._failed_at = now
        self._trouble = f"account {self.name}: no credentials: {reason}"
        self._meters.add(catalogue.ACCOUNT_ERRORS, self._account.id)
        if not 0 <= now - self._told_at < REMINDER_SECONDS:
            self._told_at = now
            log.warning("account_unusable", account=self.name, reason=reason)
        return AccountError(self._trouble)

    def _recovered(self) -> None:
        if self._trouble:
            log.info("account_usable", account=self.name)
        self._trouble = ""
        self._failed_at = self._told_at = float("-inf")


def of_a_store(account: KnownAccount) -> bool:
    """Return whether an account is one of another store than AWS, which has endpoints of several names, too."""
    return account.endpoint_url is not None and not is_of_aws(account.endpoint_url)


def is_news(record: logging.LogRecord) -> bool:
    """Keep the SDK from telling with a traceback what was told already, for every look that waited."""
    return not (record.exc_info and isinstance(record.exc_info[1], AccountError))
