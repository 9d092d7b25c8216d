"""boto3's clients, of all accounts that a deployment is about, and what their errors mean to whoever deploys.

boto3 blocks, so its calls are made in threads, which nobody waits for at the end of the process: a call takes minutes
to fail. boto3's sessions and the making of clients are not safe in several threads, its clients are: these are made one
after the other, and kept.
"""

import asyncio
import datetime as dt
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import boto3.session  # type: ignore[import-untyped] # there are no stubs
import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials, DeferredRefreshableCredentials
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

import crrmon
from crrmon.adapters.border import EXPIRED_CODES, NoAnswerError, border
from crrmon.adapters.remedies import CREDENTIALS_CODES, SETTINGS_ERRORS, explain
from crrmon.adapters.sdk_settings import faults
from crrmon.domain.deployment.logins import Login

T = TypeVar("T")

THREADS = 32
"""How many calls may be under way at once."""

SESSION_NAME = "crrmon-deploy"
"""How whoever deploys is called in another account's CloudTrail."""

_HOMES = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
"""Of each partition a region that every account has."""

_CONFIG = Config(
    user_agent_extra=f"crrmon/{crrmon.__version__}",
    max_pool_connections=THREADS,
    connect_timeout=5,
    read_timeout=20,
    # Slows down by itself where AWS asks for fewer calls.
    retries={"mode": "adaptive", "total_max_attempts": 5},
)

_LOGGED_OUT = (SSOError, LoginError, TokenRetrievalError)
_WITHOUT = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)

_EXPIRED = "the credentials have expired: log in again, or set new ones"
_WRONG = "check the credentials (AWS_PROFILE, or the AWS_* variables) and the machine's clock"


class Clients:
    """Makes the calls of all accounts, in threads; a context that closes its clients.

    Args:
        logins: how each account is reached.
        endpoint_url: one address for all services, for emulators; None for AWS itself.
        default_region: where to ask what is of no region; None leaves it to AWS_REGION and then to the SDK.
    """

    def __init__(
        self,
        logins: Sequence[Login],
        *,
        endpoint_url: str | None = None,
        default_region: str | None = None,
    ) -> None:
        self._logins = {login.name: login for login in logins}
        self._endpoint_url = endpoint_url
        # NB: unlike the other SDKs, botocore does not know AWS_REGION.
        self._default_region = default_region or os.environ.get("AWS_REGION") or None
        self._sessions: dict[str, boto3.session.Session] = {}
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._making = threading.RLock()
        self._places = asyncio.Semaphore(THREADS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in list(self._clients.values()):
            client.close()

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of the accounts, in their order."""
        return tuple(self._logins)

    async def call(
        self, account: str, service: str, region: str | None, work: Callable[[Any], T]
    ) -> T:
        """Make calls in a thread.

        Args:
            account: its name.
            service: which.
            region: where; None for where the account is asked for what is of no region.
            work: makes them with the client that it gets, and reads the answers.

        Raises:
            ClientError: AWS refused.
            NoAnswerError: it could not be asked, or did not answer.
        """

        def run() -> T:
            with border():
                return work(self._client(account, service, region))

        async with self._places:
            return await _in_a_thread(run)

    def explain(
        self, error: Exception, account: str, *, permission: str = "", whom: str = ""
    ) -> str:
        """Say why a call failed and what to do about it.

        Args:
            error: what `call` raised.
            account: whose call it was.
            permission: the IAM action to grant, in case it was denied, and on what.
            whom: to grant it to; empty where that is not known.
        """
        login = self._logins[account]
        met = error.met if isinstance(error, NoAnswerError) else error
        if isinstance(met, (*_LOGGED_OUT, *_WITHOUT, *SETTINGS_ERRORS)):
            wrong = "; ".join(faults(os.environ, profile=login.profile, attended=True))
            return f"{type(met).__name__}; {wrong or _log_in(login)}"
        advice = {
            **dict.fromkeys(CREDENTIALS_CODES, _WRONG),
            **dict.fromkeys((*EXPIRED_CODES, "RequestExpired"), _EXPIRED),
        }
        if not _while_entering(met, login):
            return explain(
                error, permission=permission, advice=advice, whom=whom or "whoever deploys"
            )
        sent = f"external id {login.external_id}" if login.external_id else "no external id"
        by_whom = f"profile {login.profile}" if login.profile else "the credentials at hand"
        advice["AccessDenied"] = (
            f"allow sts:AssumeRole on {login.role_arn} to {by_whom}, and have the role's trust policy allow it ({sent} "
            "is sent; accounts[].external_id must be what the policy requires)"
        )
        return (
            f"{login.role_arn} cannot be assumed: {explain(error, permission='', advice=advice)}"
        )

    def _client(self, account: str, service: str, region: str | None) -> Any:
        with self._making:
            session = self._session(account)
            key = (account, service, region or self._home(self._logins[account], session))
            if key not in self._clients:
                self._clients[key] = session.client(
                    service, region_name=key[2], endpoint_url=self._endpoint_url, config=_CONFIG
                )
            return self._clients[key]

    def _session(self, account: str) -> Any:
        if account not in self._sessions:
            login = self._logins[account]
            session = boto3.session.Session(profile_name=login.profile)
            self._sessions[account] = self._in_role(login, session) if login.role_arn else session
        return self._sessions[account]

    def _in_role(self, login: Login, source: Any) -> Any:
        """Create a session that has the credentials of a role, and renews them."""
        sts = source.client(
            "sts",
            region_name=self._home(login, source),
            endpoint_url=self._endpoint_url,
            config=_CONFIG,
        )
        request = {"RoleArn": login.role_arn, "RoleSessionName": SESSION_NAME}
        if login.external_id:
            request["ExternalId"] = login.external_id

        def assume() -> dict[str, str]:
            got = sts.assume_role(**request)["Credentials"]
            ends_at: dt.datetime = got["Expiration"]
            return {
                "access_key": got["AccessKeyId"],
                "secret_key": got["SecretAccessKey"],
                "token": got["SessionToken"],
                "expiry_time": ends_at.isoformat(),
            }

        core = botocore.session.get_session()
        credentials = DeferredRefreshableCredentials(assume, method="assume-role")
        core.register_component("credential_provider", _Given(credentials))
        return boto3.session.Session(botocore_session=core)

    def _home(self, login: Login, session: Any) -> str:
        """Return where to ask what is of no region: in the partition of the role, if there is one."""
        partition = login.role_arn.split(":")[1] if login.role_arn else None
        for region in (login.region, self._default_region, session.region_name):
            if region and partition in (None, session.get_partition_for_region(region)):
                return str(region)
        return _HOMES.get(partition or "aws", "us-east-1")


async def _in_a_thread(work: Callable[[], T]) -> T:
    """Do something in a thread of its own. NB: those of an executor are joined at the end of the process."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="aws", daemon=True).start()
    return await asyncio.wrap_future(done)


class _Given:
    """Finds the credentials that it was given."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Credentials:
        return self._credentials


def _log_in(login: Login) -> str:
    if login.profile:
        return f"log in (aws sso login --profile {login.profile}), or correct the profile"
    return "log in (aws sso login), or set AWS_PROFILE or the AWS_* variables of an access key"


def _while_entering(error: Exception, login: Login) -> bool:
    """Return whether a role of the configuration was refused."""
    return (
        bool(login.role_arn)
        and isinstance(error, ClientError)
        and error.operation_name == "AssumeRole"
    )
