"""DynamoDB ledgers on an emulator, which drops nothing by itself: here sweeping does it, by the tests' clock."""

import random
import uuid
from functools import cache
from typing import Any, Self

from botocore.loaders import create_loader

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.stores.dynamodb.attributes import at
from crrmon.adapters.stores.dynamodb.calls import Calls
from crrmon.adapters.stores.dynamodb.creation import create
from crrmon.adapters.stores.dynamodb.store import DynamoDBStore
from crrmon.domain.ledger_table import EXPIRES_AT, PK, SK
from fakes.ledger_values import NOW
from fakes.ledgers import DynamoDBLedger

REGION = "eu-west-1"


class SetClock:
    """Wall time as it was set."""

    sure = True

    def __init__(self, now: float = NOW) -> None:
        self.time = now

    def now(self) -> float:
        """Return it."""
        return self.time


class EmulatorAws(AwsSession):
    """A session with credentials that open nothing."""

    def __init__(self, url: str) -> None:
        super().__init__(endpoint_url=url, default_region=REGION, max_connections=50)
        self._session.set_credentials("testing", "testing")
        # The service's model takes most of the time that a client takes to make.
        self._session.register_component("data_loader", _loader())


@cache
def _loader() -> Any:
    return create_loader()


def new_table() -> str:
    """Name a table that nobody has."""
    return f"t-{uuid.uuid4().hex}"


class EmulatedLedger(DynamoDBLedger):
    """One with a session of its own, and expiry as DynamoDB has it."""

    aws: EmulatorAws
    clock: SetClock

    @property
    def calls(self) -> Calls:
        """The way to the table."""
        store = self._store
        assert isinstance(store, DynamoDBStore)
        return store._calls

    @classmethod
    async def on(
        cls, url: str, table: str, clock: SetClock, *, make: bool = True, **options: Any
    ) -> Self:
        """Open one; the table is made as `crrmon ledger create` does, if it is not there."""
        aws = EmulatorAws(url)
        try:
            if make:
                await create(aws, table=table, region=REGION, tags={})
            options = {"shards": 4, "chance": random.Random(uuid.uuid4().int), **options}
            ledger = await cls.at(aws, table=table, clock=clock, **options)
        except BaseException:
            await aws.__aexit__(None, None, None)
            raise
        ledger.aws, ledger.clock = aws, clock
        return ledger

    async def sweep(self, *, now: float) -> int:
        """Let time pass, and drop what has expired, as DynamoDB does; tell how many items that was."""
        self.clock.time = max(now, self.clock.time)
        assert await super().sweep(now=now) == 0
        return len(await expire(self))

    async def close(self) -> None:
        """Close the session, too."""
        await super().close()
        await self.aws.__aexit__(None, None, None)


async def expire(ledger: EmulatedLedger) -> list[tuple[str, str]]:
    """Drop all that has expired by the ledger's clock, as DynamoDB does; tell what that was."""
    now = ledger.clock.time
    found = [
        (item[PK]["S"], item[SK]["S"])
        for item in await everything(ledger.calls)
        if EXPIRES_AT in item and int(item[EXPIRES_AT]["N"]) <= now
    ]
    await ledger.calls.write_each([{"DeleteRequest": {"Key": at(place)}} for place in found])
    return found


async def everything(calls: Calls) -> list[dict[str, Any]]:
    """Read the whole table, which nothing but a test may do."""
    found: list[dict[str, Any]] = []
    request: dict[str, Any] = {"TableName": calls.table}
    while True:
        page = await calls._client.call("scan", request)
        found += page["Items"]
        if "LastEvaluatedKey" not in page:
            return found
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
