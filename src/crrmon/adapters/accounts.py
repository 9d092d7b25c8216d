"""Whose credentials a bucket is looked at with: those of its account's role, of a profile, or the daemon's own.

What is wrong with one account stays with it. Its looks are told at once that they cannot be made, without waiting for
what lately failed, and those of all others go on.
"""

import asyncio
import datetime as dt
import fnmatch
import logging
import os
import re
from collections.abc import Sequence
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

from crrmon.adapters.aws import (
    SETTINGS_ERRORS,
    Aws,
    Login,
    NoAnswerError,
    UnaskedError,
    border,
    explain,
)
from crrmon.adapters.sdk_settings import faults
from crrmon.domain import catalogue
from crrmon.domain.queue_address import is_of_aws
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters

if TYPE_CHECKING:  # the stubs are there for development only
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3 import S3Client

ANY = "*"
"""The id of the account that stands for all that are not named."""

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

MAX_ACCOUNTS = 1000
"""Owners come out of messages: nonsense there must not fill the memory."""

_ACCOUNT_ID = re.compile(r"[0-9]{12}")

_HOMES = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
"""Of each partition a region that every account has."""

_PROFILE_ERRORS = (
    *SETTINGS_ERRORS,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

log = structlog.get_logger()


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """
    One account of the configuration; see `config.Account`.
    """

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
    """
    There are no credentials for an account now; the text names it and says what to do.
    """


class UnknownSiteError(AccountError):
    """
    A bucket of this name is at several sites, and nobody knows which is meant; or at one that no account names.
    """


class TooManyAccountsError(AccountError):
    """
    One more account was named than there can reasonably be.
    """


class Accounts:
    """
    Tells how each bucket is reached.

    Args:
        aws: makes the clients.
        accounts: those of the configuration; buckets of all others are looked at with the daemon's own credentials.
        clock: spaces attempts that fail.
        meters: counts them.
    """

    def __init__(
        self, aws: Aws, accounts: Sequence[Account], *, clock: Clock, meters: Meters
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._meters = meters
        self._patterns = [
            (pattern, account) for account in accounts for pattern in account.buckets
        ] + [(pattern, account) for account in accounts for pattern in account.request_payer]
        self._by_id = {account.id: account for account in accounts}
        self._by_site: dict[str | None, Account] = {
            account.site: account for account in accounts if account.site
        }
        self._ways: dict[str, Way] = {}
        logging.getLogger("aiobotocore.credentials").addFilter(_is_news)

    def way(self, bucket: str, owner: str | None) -> "Way":
        """
        Tell how a bucket is reached.

        Args:
            bucket: its name, which decides where neither account nor site is named.
            owner: the account or the site that it belongs to, where known.

        Raises:
            TooManyAccountsError: there are more accounts than there can reasonably be.
            UnknownSiteError: it is at several sites, or at another one than those known.
        """
        return self._way(*self._chosen(bucket, owner))

    def named(self, account: str) -> "Way":
        """
        Tell how the buckets of an account of the configuration are reached, by its id.
        """
        return self._way(account, self._by_id[account])

    def way_from(
        self, source: str, source_owner: str | None, bucket: str, owner: str | None
    ) -> "Way":
        """
        Tell how a destination is reached. One that has its source's name is at another site.

        Args:
            source: bucket of the source.
            source_owner: the account or the site that it belongs to, where known.
            bucket: of the destination.
            owner: the account that it belongs to, where a rule names it.

        Raises:
            TooManyAccountsError: there are more accounts than there can reasonably be.
            UnknownSiteError: nobody can tell at which site it is.
        """
        if bucket != source or owner is not None:
            return self.way(bucket, owner)
        own, _ = self._chosen(source, source_owner)
        others = [one for one in self._having(bucket) if one.id != own]
        if len(others) != 1:
            raise UnknownSiteError(
                f"bucket {bucket} replicates to one of its own name, and {len(others)} other accounts have one: "
                "give the other site, and no third one, an account with that bucket (accounts[].buckets)"
            )
        return self._way(others[0].id, others[0])

    def elsewhere(self, bucket: str) -> bool:
        """
        Tell whether a bucket is in a store with an endpoint of its own, as far as its name tells.
        """
        return any(map(_of_a_store, self._having(bucket)))

    def sites(self, bucket: str) -> tuple[str | None, ...]:
        """
        Tell all owners by which a bucket is reached that accounts have under its name: None where one way serves all.
        """
        if not self._by_site:
            return (None,)
        sites = [one.site for one in self._having(bucket) if one.site]
        return tuple(sites) if len(sites) > 1 else (None,)

    def _way(self, name: str, account: Account | None) -> "Way":
        way = self._ways.get(name)
        if way is None:
            if len(self._ways) >= MAX_ACCOUNTS:
                raise TooManyAccountsError(
                    f"account {name}: there are {len(self._ways)} accounts already; check the owners in the messages"
                )
            way = Way(name, account, aws=self._aws, clock=self._clock, meters=self._meters)
            self._ways[name] = way
        return way

    def _chosen(self, bucket: str, owner: str | None) -> tuple[str, Account | None]:
        if owner is not None and _ACCOUNT_ID.fullmatch(owner):
            account = self._by_id.get(owner) or self._by_id.get(ANY)
            return (owner, account) if account else ("", None)
        account = self._by_site.get(owner) or self._by_name(bucket, owner)
        return (account.id, account) if account else ("", None)

    def _by_name(self, bucket: str, site: str | None) -> Account | None:
        """
        Return the account to whose patterns a bucket belongs, the first of several; None where there is none.

        Raises:
            UnknownSiteError: its name does not tell which bucket is meant.
        """
        having = self._having(bucket)
        if site is not None and having:
            having = [account for account in having if account.site is None]
            if not having:
                raise UnknownSiteError(
                    f"bucket {bucket}: its event comes from site {site}, and no account has that as accounts[].site"
                )
        sites = [account.site for account in having if account.site]
        if len(sites) > 1 and having[0].site:
            raise UnknownSiteError(
                f"bucket {bucket} is at {len(sites)} sites, and nothing tells which is meant"
            )
        return having[0] if having else None

    def _having(self, bucket: str) -> list[Account]:
        """
        Return the accounts to whose patterns a bucket belongs, in their order, each once.
        """
        fitting = {
            account.id: account
            for pattern, account in self._patterns
            if fnmatch.fnmatchcase(bucket, pattern)
        }
        return list(fitting.values())


class Way:
    """
    How the buckets of one account are reached.

    Args:
        name: the account's id; the empty string for the daemon's own credentials.
        account: the settings that apply; None for the daemon's own credentials.
        aws: makes the clients.
        clock: spaces attempts that fail.
        meters: counts them.
    """

    def __init__(
        self, name: str, account: Account | None, *, aws: Aws, clock: Clock, meters: Meters
    ) -> None:
        self.name = name
        self._account = account or Account(id=name)
        self._aws = aws
        self._clock = clock
        self._meters = meters
        self._role = (self._account.role_arn or "").replace("{account}", name)
        self._turn = asyncio.Lock()
        self._trying = False
        self._trouble = ""
        self._failed_at = float("-inf")
        self._told_at = float("-inf")
        self._credentials: AioRefreshableCredentials | None = None
        """Of the role."""
        self._source: AioSession | None = None
        """Whose credentials ask for the role's; None for the daemon's own."""
        self._login = self._made_login()

    @property
    def reports_status(self) -> bool:
        """
        Whether the store tells the replication status of sources.
        """
        return self._account.reports_status

    @property
    def own_endpoint(self) -> bool:
        """
        Whether it is a store with an endpoint of its own, which need not be AWS.
        """
        return self._account.endpoint_url is not None

    @property
    def whom(self) -> str:
        """
        Who needs permissions, for people.
        """
        if self._role:
            return self._role
        if self._account.profile is not None:
            return f"the user of profile {self._account.profile}"
        return "the daemon's access key" if _of_a_store(self._account) else "the daemon's role"

    def pays_for(self, bucket: str) -> bool:
        """
        Return whether whoever looks at a bucket has to say that it pays for that.
        """
        return any(fnmatch.fnmatchcase(bucket, one) for one in self._account.request_payer)

    async def s3(self, region: str) -> "S3Client":
        """
        Give the client for a bucket that is thought to be in a region.

        A region that the SDK does not know may be nonsense: then S3 is asked where one is sure to be, and tells.

        Raises:
            AccountError: there are no credentials now.
            NoAnswerError, TooManyClientsError: as `Aws.client`.
        """
        if self.own_endpoint and self._account.region:
            return await self.s3_in(self._account.region)
        known = region in await self._aws.regions()
        return await self.s3_in(region if known else self._account.region)

    async def s3_in(self, region: str | None) -> "S3Client":
        """
        Give the client for a region that somebody who knows has named; as `s3`.
        """
        if self._login is None:
            return await self._aws.client("s3", region)
        await self._ready(self._login)
        return await self._aws.client("s3", region, self._login)

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
        """
        Make sure that there are credentials.
        """
        if self._barred():
            raise AccountError(self._trouble)
        if self._credentials is not None:
            # While somebody asks for the first ones, all others wait in here; later ones are asked for ahead of time.
            await self._credentials.get_frozen_credentials()
        elif login.session is not None:
            async with self._turn:
                await self._found(login.session)

    async def _found(self, session: "AioSession") -> None:
        """
        Make sure that a profile's credentials are there.
        """
        if self._barred():
            raise AccountError(self._trouble)
        self._trying = True
        try:
            with border():
                async with asyncio.timeout(DEADLINE_SECONDS):
                    credentials: Any = await session.get_credentials()
                    if credentials is None:
                        raise NoCredentialsError
                    await credentials.get_frozen_credentials()
        except (ClientError, NoAnswerError) as error:
            self._login = self._made_login()  # a session reads the shared files once only
            raise self._failure(self._explained(error)) from error
        finally:
            self._trying = False
        self._recovered()

    async def _assume(self) -> dict[str, str]:
        """
        Get credentials of the role, in the SDK's form.
        """
        if self._resting():  # somebody tried while this one waited
            raise AccountError(self._trouble)
        self._trying = True
        try:
            with border():
                async with asyncio.timeout(DEADLINE_SECONDS):
                    got = (await self._asked())["Credentials"]
                ends_at = got["Expiration"].timestamp()
                credentials = {
                    "access_key": msgspec.convert(got["AccessKeyId"], str),
                    "secret_key": msgspec.convert(got["SecretAccessKey"], str),
                    "token": msgspec.convert(got["SessionToken"], str),
                    "expiry_time": got["Expiration"].isoformat(),
                }
        except (ClientError, NoAnswerError) as error:
            raise self._failure(self._explained(error)) from error
        finally:
            self._trying = False
        if ends_at - self._clock.now() < 1.0:
            reason = f"the credentials of {self._role} are expired when they come"
            raise self._failure(f"{reason}; check the machine's clock")
        self._recovered()
        return credentials

    async def _asked(self) -> dict[str, Any]:
        request = {"RoleArn": self._role, "RoleSessionName": SESSION_NAME}
        if self._account.external_id is not None:
            request["ExternalId"] = self._account.external_id
        async with self._aws.sts(self._source, await self._sts_region()) as sts:
            answer: dict[str, Any] = await sts.assume_role(**request)
        return answer

    async def _sts_region(self) -> str:
        """
        Pick the region whose STS is asked: the account's, else the daemon's, in the role's partition.
        """
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
        """
        Tell whether nobody need try now: somebody failed lately, or tries again just now.
        """
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
            f"grant sts:AssumeRole on {self._role} to {by_whom}, and let the role's trust policy allow it "
            f"({sent} is sent; accounts[].external_id must be what the policy wants)"
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
        return f"AssumeRole met {told}"

    def _failure(self, reason: str) -> AccountError:
        """
        Remember, count and tell that an attempt failed.
        """
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


def _of_a_store(account: Account) -> bool:
    """
    Tell whether an account is one of another store than AWS, which has endpoints of several names, too.
    """
    return account.endpoint_url is not None and not is_of_aws(account.endpoint_url)


def _is_news(record: logging.LogRecord) -> bool:
    """
    Keep the SDK from telling with a traceback what was told already, for every look that waited.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], AccountError))
