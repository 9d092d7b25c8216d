"""Several daemons on one queue and one DynamoDB table, and what may happen to them."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.stores.dynamodb import creation
from crrmon.adapters.stores.dynamodb.items import found_of
from crrmon.ledger.encoding import Body
from crrmon.ledger.journal import Entry
from crrmon.ledger.layout import JOURNAL
from crrmon.ledger.meta import Meta
from crrmon.ports.store import Key
from crrmon.sandbox.children import free_port
from crrmon.sandbox.play import Stage, staged
from crrmon.sandbox.world import WORLD
from fakes.fleet import playing
from fakes.frozen import Freezer, check_after, stand_still
from fakes.sandbox_command import check_every_number, sandbox
from fakes.waiting import Case, check_waiting

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.usefixtures("cut_off"),
]

REGION = WORLD.queue_region
_ENTRY = Body(Entry)


async def test_killing_daemons_on_a_throttled_table_loses_and_doubles_nothing() -> None:
    """Invariants 2, 5 and 9: three daemons killed in turn, calls refused and answers lost; every object counts once."""
    async with sandbox(
        *("--objects", "1000", "--rate", "40", "--fail", "0.03", "--seed", "22"),
        *("--replicas", "3", "--ledger", "dynamodb", "--kill", "6"),
    ) as one:
        code, verdict = await one.end()

    assert code == 0, verdict["complaints"]
    run = verdict["run"]
    assert [replica["kills"] for replica in run["replicas"]] == [2, 2, 2]
    assert all(replica["looks"] > 100 for replica in run["replicas"])
    assert run["ledger_calls_refused"] > 25
    assert run["ledger_answers_lost"] > 2
    check_every_number(verdict, objects=1000, killed=True)


async def test_replicas_that_stand_still_past_their_leases_count_nothing_twice(
    tmp_path: Path,
) -> None:
    """Invariants 5 and 9: stopped in the middle of a settlement or of publishing, and continued after others took over."""
    freezer = Freezer()

    async def prepare(stage: Stage) -> None:
        by_key = {one.site.access_key: one for one in stage.daemons}

        async def on_call(operation: str, caller: str, body: bytes) -> None:
            if operation == "PutMetricData":
                freezer.publishes(by_key[caller])
            if operation == "TransactWriteItems" and counts(body):
                freezer.settles(by_key[caller])

        stage.facade.on_call = on_call

    async with playing(tmp_path, ledger="dynamodb", replicas=3, prepare=prepare) as fleet:
        await stand_still(fleet, freezer)
        await check_after(fleet)


def counts(body: bytes) -> bool:
    """Tell whether a transaction carries a delta: something is counted."""
    puts = (
        one.get("Put", {}).get("Item", {}) for one in msgspec.json.decode(body)["TransactItems"]
    )
    return any(
        _ENTRY.decode(_body(item)).added is not None
        for item in puts
        if item.get("pk", {}).get("S", "").startswith("journal#")
    )


def _body(item: dict[str, Any]) -> bytes:
    raw = {
        name: {"B": base64.b64decode(value["B"])} if "B" in value else value
        for name, value in item.items()
    }
    return found_of(Key(JOURNAL, 0, b""), raw, now=0.0).body


async def test_a_table_that_will_not_do_is_said_and_waited_for(tmp_path: Path) -> None:
    """No table, somebody else's table, and one of a newer version: nothing is received until each is mended."""
    async with staged(tmp_path, free_port(), replicas=3) as stage:
        client: Any = await stage.emulator.client("dynamodb", REGION)
        await client.create_table(
            TableName="theirs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        await create(stage.emulator, "newer")
        newer = Body(Meta).encode(Meta(format=99, readable_by=99, shards=64))
        meta = {"pk": {"S": "meta"}, "sk": {"S": "meta"}}
        await client.put_item(
            TableName="newer", Item={**meta, "body": {"B": newer}, "tag": {"S": "any"}}
        )

        async def make_missing() -> None:
            await create(stage.emulator, "missing")

        async def make_ours() -> None:
            await client.delete_table(TableName="theirs")
            await create(stage.emulator, "theirs")

        async def make_older() -> None:
            await client.delete_item(TableName="newer", Key=meta)

        await check_waiting(
            stage,
            [
                Case(
                    section=section("missing"),
                    words=("ledger.dynamodb.table 'missing'", "run: crrmon ledger create"),
                    mend=make_missing,
                ),
                Case(
                    section=section("theirs"),
                    words=("ledger.dynamodb.table 'theirs'", "run: crrmon ledger create"),
                    mend=make_ours,
                ),
                Case(
                    section=section("newer"),
                    words=("ledger.dynamodb.table 'newer'", "upgrade crrmon"),
                    mend=make_older,
                ),
            ],
        )


def section(table: str) -> dict[str, Any]:
    """Make the ledger's settings."""
    return {"kind": "dynamodb", "dynamodb": {"table": table, "region": REGION}}


async def create(aws: AwsSession, table: str) -> None:
    """Make a table as `crrmon ledger create` does."""
    await creation.create(aws, table=table, region=REGION, tags={})
