"""Asks STS who the daemon is, and takes the roles of accounts, by the same sessions as the daemon's looks."""

import asyncio
from typing import Any

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from crrmon.adapters.account_way import AccountError
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.border import NoAnswerError, UnaskedError, border
from crrmon.adapters.remedies import explain
from crrmon.ports.access import AccessError, UnansweredError

DEADLINE_SECONDS = 20.0
"""For one question in all."""

HOME = "us-east-1"
"""Whose STS is asked where neither the settings nor the SDK name a region; it has one in every account of AWS's own."""

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)


class AwsAccess:
    """Implements the `Access` port.

    Args:
        aws: makes the clients.
        accounts: tells how each bucket is reached.
    """

    def __init__(self, aws: AwsSession, accounts: Accounts) -> None:
        self._aws = aws
        self._accounts = accounts

    async def identity(self) -> str:
        """Return the ARN of whoever the daemon is."""
        try:
            with border():
                async with (
                    asyncio.timeout(DEADLINE_SECONDS),
                    self._aws.sts(None, self._aws.default_region() or HOME) as sts,
                ):
                    answer: dict[str, Any] = await sts.get_caller_identity()
                    return str(answer["Arn"])
        except ClientError as error:
            raise AccessError(explain(error, permission="sts:GetCallerIdentity")) from error
        except NoAnswerError as error:
            kind = AccessError if isinstance(error.met, _NO_CREDENTIALS) else UnansweredError
            raise kind(explain(error, permission="")) from error

    async def enter(self, account: str) -> str:
        """Get credentials for an account of the configuration."""
        way = self._accounts.named(account)
        try:
            with border():
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await way.s3("")
        except AccountError as error:
            raise AccessError(str(error)) from error
        except (UnaskedError, NoAnswerError) as error:
            raise UnansweredError(explain(error, permission="", whom=way.whom)) from error
        return way.whom
