"""Creating the table of the dynamodb ledger, or finishing one that was started."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.border import THROTTLED_CODES, NoAnswerError, border, code_of
from crrmon.adapters.fast.json_calls import Calls, SdkCalls
from crrmon.adapters.remedies import explain
from crrmon.adapters.stores.dynamodb.answers import complete
from crrmon.adapters.stores.dynamodb.table import (
    description,
    expiry_is_on,
    tags_of,
    unlike,
    unlike_error,
)
from crrmon.ports.ledger import LedgerError

READY_SECONDS = 300.0
"""A new table takes seconds, its index as long."""
POLL_SECONDS = 1.0


async def create(
    aws: AwsSession, *, table: str, region: str | None, tags: Mapping[str, str]
) -> Sequence[str]:
    """Create the table, or finish one that was started; wait until it can be used.

    Args:
        aws: makes the client.
        table: its name.
        region: where; None for the default one.
        tags: what it is tagged with.

    Returns:
        The operations that changed something; none where all was as it should be.

    Raises:
        UnusableLedgerError: there is a table of this name that will not do.
        LedgerError: AWS did not do it; the text says why.
    """
    try:
        client: Any = await aws.client("dynamodb", region)
    except NoAnswerError as error:
        raise LedgerError(f"DynamoDB: {explain(error, permission='')}") from error
    maker = _Maker(SdkCalls(client), table)
    try:
        async with asyncio.timeout(READY_SECONDS):
            return await _made(maker, table, tags)
    except TimeoutError as error:
        raise LedgerError(
            f"table {table!r} is not ready after {READY_SECONDS:.0f} s ({maker.waits_for}); "
            "run crrmon ledger create again"
        ) from error


async def _made(maker: "_Maker", table: str, tags: Mapping[str, str]) -> Sequence[str]:
    """Do what is missing, step by step; tell which steps that were."""
    requests = description(table, tags)
    made = await maker.create_table(requests["CreateTable"])
    done = ["CreateTable"] if made else []
    described = await maker.until_active()
    difference = unlike(described)
    if difference is not None:
        raise unlike_error(table, difference)
    # Each only where it is missing: AWS refuses to change the expiry of a table twice within an hour.
    if not await maker.expires():
        await maker.ask("UpdateTimeToLive", **requests["UpdateTimeToLive"])
        done.append("UpdateTimeToLive")
    if not await maker.is_backed_up():
        await maker.ask("UpdateContinuousBackups", **requests["UpdateContinuousBackups"])
        done.append("UpdateContinuousBackups")
    if await maker.lacks_tags(described["TableArn"], tags):
        await maker.ask("TagResource", ResourceArn=described["TableArn"], Tags=tags_of(tags))
        done.append("TagResource")
    return done


class _Maker:
    """Asks what concerns the table as a whole."""

    def __init__(self, calls: Calls, table: str) -> None:
        self._calls = calls
        self._table = table
        self.waits_for = "DynamoDB does not answer"
        """Why it is not ready yet, for people."""

    async def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Ask DynamoDB, over and over while it says that it is too early; what was done before is as good as done now."""
        while True:
            try:
                return await self._ask_once(operation, request)
            except _TooEarlyError as error:
                self.waits_for = str(error)
                await asyncio.sleep(POLL_SECONDS)

    async def _ask_once(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with border():
                return complete(operation, await self._calls.call(operation, request, dict))
        except ClientError as error:
            if _is_done(operation, error):
                return {}
            if _is_too_early(operation, error):
                raise _TooEarlyError(f"{operation}: {explain(error, permission='')}") from error
            what = f"dynamodb:{operation} on table {self._table}"
            raise LedgerError(
                f"DynamoDB {operation}: {explain(error, permission=what)}"
            ) from error
        except NoAnswerError as error:
            raise LedgerError(f"DynamoDB {operation}: {explain(error, permission='')}") from error

    async def create_table(self, request: Mapping[str, Any]) -> bool:
        """Create the table, unless there is one; return whether there was none."""
        return bool(await self.ask("CreateTable", **request))

    async def until_active(self) -> dict[str, Any]:
        """Wait until table and index can be used; return what DescribeTable tells."""
        while True:
            table = (await self.ask("DescribeTable", TableName=self._table))["Table"]
            parts = [table, *table.get("GlobalSecondaryIndexes", ())]
            # NB: emulators leave out the status of an index.
            states = {part.get("TableStatus", part.get("IndexStatus", "ACTIVE")) for part in parts}
            if states == {"ACTIVE"}:
                return dict(table)
            self.waits_for = f"table and index are {', '.join(sorted(states))}"
            await asyncio.sleep(POLL_SECONDS)

    async def expires(self) -> bool:
        """Return whether items expire by `EXPIRES_AT`."""
        told = await self.ask("DescribeTimeToLive", TableName=self._table)
        return expiry_is_on(told)

    async def is_backed_up(self) -> bool:
        """Return whether the table can be brought back as it was at any second of the last weeks."""
        told = await self.ask("DescribeContinuousBackups", TableName=self._table)
        recovery = told["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")

    async def lacks_tags(self, arn: str, tags: Mapping[str, str]) -> bool:
        """Return whether the table has not all of these tags."""
        if not tags:
            return False
        told = await self.ask("ListTagsOfResource", ResourceArn=arn)
        return not tags.items() <= {one["Key"]: one["Value"] for one in told["Tags"]}.items()


_TOO_EARLY: Final = THROTTLED_CODES | {
    "ContinuousBackupsUnavailableException",
    "InternalServerError",
    "LimitExceededException",
    "ResourceInUseException",
    "ResourceNotFoundException",
    "TableNotFoundException",
}
"""What DynamoDB answers of a table that was made or changed just now, which not all of it knows of yet."""


class _TooEarlyError(Exception):
    """It may well be done in a moment."""


def _is_done(operation: str, error: ClientError) -> bool:
    if operation == "CreateTable":
        return code_of(error) == "ResourceInUseException"
    return operation == "UpdateTimeToLive" and "already enabled" in str(error)


def _is_too_early(operation: str, error: ClientError) -> bool:
    if operation == "CreateTable":
        return False
    # TimeToLive has been modified multiple times within a fixed interval.
    return code_of(error) in _TOO_EARLY or "multiple times within" in str(error)
