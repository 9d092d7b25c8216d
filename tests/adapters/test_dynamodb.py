"""What is peculiar to the ledger in DynamoDB: errors, throttling, lost answers, who stops where, and what it asks."""

import asyncio
import functools
import json
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest
import structlog
from msgspec.structs import replace

from crrmon.adapters.stores.dynamodb import calls as dynamodb_calls
from crrmon.adapters.stores.dynamodb import creation
from crrmon.adapters.stores.dynamodb import table as dynamodb_table
from crrmon.adapters.stores.dynamodb.attributes import position_of
from crrmon.adapters.stores.dynamodb.calls import TRIES, UNANSWERED
from crrmon.adapters.stores.dynamodb.due import LOOKED_AHEAD_SECONDS, SETTLING_SECONDS
from crrmon.adapters.stores.dynamodb.items import number
from crrmon.adapters.stores.dynamodb.store import DynamoDBStore
from crrmon.config import LedgerSettings
from crrmon.config.ledger import DynamoDBSettings
from crrmon.connections import open_ledger
from crrmon.domain.noting import Noted
from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope
from crrmon.domain.outcomes import Delta, EarlyFact, Mark, Settlement, Tally, fold
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled, Trail
from crrmon.ledger.isolation import BadItemError
from crrmon.ledger.layout import TRAILS
from crrmon.ports.ledger import (
    AbsentLedgerError,
    FrozenWindow,
    Lease,
    LeaseLostError,
    LedgerError,
    UnusableLedgerError,
)
from crrmon.ports.store import Due
from fakes.aws_stub import json_answer, json_error
from fakes.dynamodb_proxy import (
    DENIED,
    THROTTLED,
    Asked,
    DynamoDBProxy,
    Fault,
    Lost,
    Part,
    Until,
    cancelled,
)
from fakes.ledger_dynamodb import (
    REGION,
    EmulatedLedger,
    EmulatorAws,
    SetClock,
    everything,
    expire,
    new_table,
)
from fakes.ledger_use import batch, completed, holding, pending, publish
from fakes.ledger_values import MEMBER, NOW, arrived, done, episode, failed, record, replica
from fakes.ministack import shared_ministack

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("both_clients")]

ALL = range(4)
RETENTION = 345_600.0
WRITES = ("PutItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have calls asked again after a tenth of the time."""
    monkeypatch.setattr(dynamodb_calls, "FIRST_DELAY_SECONDS", 0.005)


@pytest.fixture
async def proxy() -> AsyncIterator[DynamoDBProxy]:
    """Stands between the ledger and MiniStack."""
    async with DynamoDBProxy(shared_ministack()) as proxy:
        yield proxy


@pytest.fixture
def table() -> str:
    """Names a table of this test."""
    return new_table()


@pytest.fixture
async def ledger(proxy: DynamoDBProxy, table: str) -> AsyncIterator[EmulatedLedger]:
    """A new ledger, asked through the proxy."""
    ledger = await EmulatedLedger.on(proxy.url, table, SetClock())
    proxy.count()
    yield ledger
    await ledger.close()


@pytest.fixture
async def other(ledger: EmulatedLedger, table: str) -> AsyncIterator[EmulatedLedger]:
    """The same ledger as another daemon has it."""
    other = await EmulatedLedger.on(shared_ministack(), table, SetClock())
    yield other
    await other.close()


async def items(ledger: EmulatedLedger, kind: str = "trail#") -> list[dict[str, Any]]:
    """Read the items of which the partition begins like this."""
    found = await everything(ledger.calls)
    return [one for one in found if one["pk"]["S"].startswith(kind)]


async def put(ledger: EmulatedLedger, item: dict[str, Any]) -> None:
    """Write an item, whatever is there."""
    await ledger.calls.single("Put", {"Item": item})


def body_of(item: dict[str, Any]) -> Any:
    """Read the body of an item that is not packed."""
    return msgspec.msgpack.decode(item["body"]["B"])


def with_body(item: dict[str, Any], body: Any) -> dict[str, Any]:
    """Return an item with another body."""
    return item | {"body": {"B": msgspec.msgpack.encode(body)}}


async def reopened(url: str, table: str) -> EmulatedLedger:
    """Open a ledger that is there."""
    return await EmulatedLedger.on(url, table, SetClock(), make=False)


# ---- throttling, leftovers, lost answers ----


async def test_throttled_calls_are_slower_and_lose_nothing(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Invariant 5: each kind of call is asked again a few times before anybody else hears of it."""
    for operation in (*WRITES, "Query", "BatchGetItem"):
        proxy.fault = Until(TRIES - 1, THROTTLED, operation)
        await ledger.remember_routes([Route("src", operation)])
        assert await ledger.park([record(operation)]) == [Parked.PARKED]
        (one,) = (await ledger.find(operation, "v1")).records.values()
        moved = [replace(one, next_look_at=NOW + 1)]
        assert await ledger.reschedule(moved) == [Rescheduled.RESCHEDULED]
        assert await ledger.settle(operation, [done(one)], now=NOW) == [[Settled.COUNTED]]

    assert await completed(ledger) == 6
    assert await pending(ledger) == 0


async def test_what_stays_throttled_is_told_and_can_be_asked_again(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Invariant 5: after a few tries the caller waits; nothing was done meanwhile."""
    proxy.fault = Until(TRIES, THROTTLED, "TransactWriteItems")
    with pytest.raises(LedgerError, match="AWS is throttling and asks for fewer calls"):
        await ledger.settle("b1", batch("k"), now=NOW)
    assert await completed(ledger) == 0

    assert await ledger.settle("b1", batch("k"), now=NOW) == [[Settled.COUNTED]] * 3
    assert await completed(ledger) == 3


async def test_leftovers_of_batches_are_asked_again(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Invariant 5: UnprocessedItems and UnprocessedKeys are neither lost nor taken for nothing."""
    await ledger.settle("b1", batch("k", size=4), now=NOW)
    proxy.fault = Until(4, Part(), "BatchGetItem")
    found = await ledger.seen([record(f"k.{at}").replica_mark("dst") for at in range(4)])
    assert [type(one) for one in found] == [Mark] * 4

    proxy.fault = Until(2, Part(), "BatchWriteItem")
    await ledger.remember_routes([Route("a", "x"), Route("b", "x"), Route("c", "x")])
    assert len(await ledger.known_routes()) == 3


async def test_batches_are_as_large_as_dynamodb_takes_them(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """25 writes and 100 reads of a call, and no more than a megabyte on the wire."""
    await ledger.remember_routes([Route("src", f"d{at}") for at in range(60)])
    await ledger.seen([record(f"k{at}").replica_mark("dst") for at in range(230)])
    tally = Tally(latency={at: random.Random(at).random() for at in range(25_000)})
    large = [
        Delta(id=f"c{at}", settled_at=NOW, tallies=((Route("src", "dst"), tally),))
        for at in range(7)
    ]
    await ledger.append(large)

    writes = [one.body for one in proxy.asked if one.operation == "BatchWriteItem"]
    counts = [len(requests) for one in writes for requests in one["RequestItems"].values()]
    reads = [one.body for one in proxy.asked if one.operation == "BatchGetItem"]
    keys = [len(one["Keys"]) for body in reads for one in body["RequestItems"].values()]
    assert counts[:3] == [25, 25, 10]
    assert sum(counts[3:]) == 7
    assert keys == [100, 100, 30]
    assert max(len(json.dumps(one)) for one in writes) < 2**20
    assert len(await ledger.deltas()) == 7


async def test_leftovers_without_end_are_an_error(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Nobody is told that something was done or is not there while DynamoDB only puts off."""
    await ledger.settle("b1", batch("k", size=TRIES + 1), now=NOW)
    proxy.fault = Until(TRIES, Part(), "BatchGetItem")

    with pytest.raises(LedgerError, match="receives too many requests"):
        await ledger.seen([record(f"k.{at}").replica_mark("dst") for at in range(TRIES + 1)])
    proxy.fault = Until(TRIES, Part(0), "BatchWriteItem")
    with pytest.raises(LedgerError, match="receives too many requests"):
        await ledger.remember_routes([Route("src", f"d{at}") for at in range(TRIES + 1)])
    # What was not remembered is not taken for remembered.
    await ledger.remember_routes([Route("src", f"d{at}") for at in range(TRIES + 1)])
    assert len(await ledger.known_routes()) == TRIES + 1


async def test_invariant_5_a_lost_answer_of_a_settled_batch_changes_nothing(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """
    Repeated, the batch counts nothing twice and reads as counted; and it is the same request, so it costs no write.
    """
    proxy.fault = Until(2, Lost(), "TransactWriteItems")
    with pytest.raises(LedgerError):
        await ledger.settle("b1", batch("k"), now=NOW)
    first, _ = [one for one in proxy.asked if one.operation == "TransactWriteItems"]

    assert await ledger.settle("b1", batch("k"), now=NOW) == [[Settled.COUNTED]] * 3

    again = [one for one in proxy.asked if one.operation == "TransactWriteItems"][-1]
    assert again.body == first.body
    assert await completed(ledger) == 3


async def test_one_lost_answer_is_no_outage(ledger: EmulatedLedger, proxy: DynamoDBProxy) -> None:
    """A single broken connection is asked over again before anybody is told; nothing is counted or done twice."""
    operations = ("TransactWriteItems", "PutItem", "BatchGetItem", "Query")
    for operation in operations:
        proxy.fault = Until(1, Lost(), operation)
        one = record(f"k.{operation}")
        assert await ledger.park([one]) == [Parked.PARKED]
        (due,) = await ledger.due(range(ledger.shards), now=NOW, limit=10)
        await ledger.reschedule([replace(due, next_look_at=NOW + 60)])
        (due,) = await ledger.due(range(ledger.shards), now=NOW + 60, limit=10)
        assert due.next_look_at == NOW + 60
        await ledger.settle(f"b.{operation}", [done(due)], now=NOW)
        assert proxy.fault.left == 0
    assert await completed(ledger) == len(operations)
    assert await pending(ledger) == 0


async def test_invariant_5_a_lost_answer_is_recognised_after_the_token_is_forgotten(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """The marks tell, not DynamoDB's memory of ten minutes: another request finds them all the same."""
    proxy.fault = Until(2, Lost(), "TransactWriteItems")
    with pytest.raises(LedgerError):
        await ledger.settle("b1", batch("k"), now=NOW)

    later = await ledger.settle("b1", [*batch("k"), *batch("l")], now=NOW + 700)

    assert later == [[Settled.COUNTED]] * 6
    assert await completed(ledger) == 6


async def test_parking_again_after_dropping_is_another_request(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Invariant 5: within the ten minutes of a token, the same record parked, dropped and parked again is parked."""
    one = record("k")
    for _ in range(2):
        assert await ledger.park([one]) == [Parked.PARKED]
        assert len((await ledger.find("k", "v1")).records) == 1
        await ledger.settle("b", [Settlement(version=one.version, outcomes=())], now=NOW)
        assert (await ledger.find("k", "v1")).records == {}

    tokens = [one.body.get("ClientRequestToken") for one in proxy.asked if one.written]
    assert len(set(tokens)) == len(tokens) == 4
    assert await pending(ledger) == 0


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError"])
async def test_d16_transactions_that_meet_are_asked_again(
    ledger: EmulatedLedger, proxy: DynamoDBProxy, code: str
) -> None:
    """D16: a transaction cancelled only because another one was under way goes through a moment later."""
    proxy.fault = Until(TRIES - 1, cancelled("None", code, "None", "None"), "TransactWriteItems")

    assert await ledger.settle("b1", batch("k"), now=NOW) == [[Settled.COUNTED]] * 3

    proxy.fault = Until(TRIES, cancelled(code), "TransactWriteItems")
    with pytest.raises(LedgerError, match="TransactionCanceledException"):
        await ledger.settle("b2", batch("l"), now=NOW)
    assert await completed(ledger) == 3


async def test_d16_a_condition_that_does_not_hold_is_not_asked_again_as_it_stands(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """D16: whoever was slower decides anew on what is there now, whatever else was in the way."""
    await ledger.settle("b0", [done(record("k.1"))], now=NOW)
    reasons = cancelled("None", "ConditionalCheckFailed", "TransactionConflict", "None")
    proxy.fault = Until(1, reasons, "TransactWriteItems")
    proxy.count()

    results = await ledger.settle("b1", batch("k"), now=NOW)

    assert results == [[Settled.COUNTED], [Settled.DUPLICATE], [Settled.COUNTED]]
    assert proxy.count()["TransactWriteItems"] == 2
    assert await completed(ledger) == 3


async def test_d16_two_daemons_racing_for_the_same_versions_count_each_once(
    ledger: EmulatedLedger, other: EmulatedLedger
) -> None:
    """D16, invariant 2: batches that overlap, at the same moment, from two processes."""
    batches = [batch("k", size=6), list(reversed(batch("k", size=6)))]
    results = await asyncio.gather(
        *(
            one.settle(f"{who}{number}", some, now=NOW)
            for number in range(4)
            for who, one, some in (
                ("a", ledger, batches[0]),
                ("b", other, batches[1]),
            )
        )
    )

    counted = sum(outcome == [Settled.COUNTED] for settled in results for outcome in settled)
    assert counted == 6
    assert await completed(ledger) == await completed(other) == 6


async def test_a_half_noted_a_moment_ago_is_seen(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """
    Whoever asks settles next, and a mark takes the place of an early fact that was not told: reads are consistent.
    """
    await ledger.note([replica("k", at=NOW)], now=NOW)
    proxy.count()
    (early,) = await ledger.seen([record("k").replica_mark("dst")])
    (asked,) = proxy.asked

    assert isinstance(early, EarlyFact)
    assert [one["ConsistentRead"] for one in asked.body["RequestItems"].values()] == [True]


# ---- what is wrong with a table ----


async def test_a_table_that_is_not_there_is_named_with_the_remedy(proxy: DynamoDBProxy) -> None:
    """The message says which, where, and how to make it; it may yet come."""
    async with EmulatorAws(proxy.url) as aws:
        with pytest.raises(
            LedgerError,
            match=r"ledger\.dynamodb\.table 'nobody' does not exist in eu-west-1; run: crrmon ledger create",
        ):
            await EmulatedLedger.at(aws, table="nobody", clock=SetClock())


async def test_a_table_that_vanishes_is_named_too(
    ledger: EmulatedLedger, proxy: DynamoDBProxy, table: str
) -> None:
    """Not only at the start."""
    await ledger.calls._client.call("DeleteTable", {"TableName": table})

    with pytest.raises(LedgerError, match=f"{table}' does not exist in eu-west-1"):
        await ledger.settle("b1", batch("k"), now=NOW)


KEYS = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
NAMES = [
    {"AttributeName": "pk", "AttributeType": "S"},
    {"AttributeName": "sk", "AttributeType": "S"},
]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            },
            r"pk \(HASH, string\) and sk \(RANGE, string\)",
        ),
        (
            {"KeySchema": KEYS, "AttributeDefinitions": NAMES},
            r"index 'due' on shard_number \(HASH, number\) and due \(RANGE, number\)",
        ),
    ],
)
async def test_a_table_made_for_something_else_is_refused(
    proxy: DynamoDBProxy, table: str, schema: dict[str, Any], expected: str
) -> None:
    """By the daemon and by whoever would make it; the message says what was expected."""
    async with EmulatorAws(proxy.url) as aws:
        client: Any = await aws.client("dynamodb")
        await client.create_table(TableName=table, BillingMode="PAY_PER_REQUEST", **schema)
        with pytest.raises(UnusableLedgerError, match=f"{table}.*{expected}"):
            await EmulatedLedger.at(aws, table=table, clock=SetClock())
        with pytest.raises(UnusableLedgerError, match=f"{table}.*{expected}"):
            await creation.create(aws, table=table, region=REGION, tags={})


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("DescribeTable", "dynamodb:DescribeTable"),
        ("BatchGetItem", "dynamodb:BatchGetItem"),
        ("TransactWriteItems", "dynamodb:PutItem, dynamodb:DeleteItem and dynamodb:Cond"),
        ("Query", "dynamodb:Query"),
    ],
)
async def test_a_missing_permission_is_named(
    ledger: EmulatedLedger, proxy: DynamoDBProxy, table: str, operation: str, action: str
) -> None:
    """With the action to grant and the table, so that a policy can be mended from the log."""
    proxy.fault = Until(99, DENIED, operation)

    async def use_it() -> None:
        await (await reopened(proxy.url, table)).close()
        await ledger.settle("b1", batch("k"), now=NOW)
        await ledger.seen([record("k").replica_mark("dst")])
        await ledger.known_routes()

    with pytest.raises(LedgerError, match=f"grant {action}.* on table {table}"):
        await use_it()


async def test_d26_a_table_that_never_expires_is_told_of(
    ledger: EmulatedLedger, table: str
) -> None:
    """D26: the daemon works, and warns that the table grows; also when another attribute was named."""
    off = {"Enabled": False, "AttributeName": "expires_at"}
    client = ledger.calls._client
    with structlog.testing.capture_logs() as logs:
        await (await reopened(shared_ministack(), table)).close()
        assert [one for one in logs if one["log_level"] == "warning"] == []
        await client.call(
            "update_time_to_live", {"TableName": table, "TimeToLiveSpecification": off}
        )
        await (await reopened(shared_ministack(), table)).close()
    [warning] = [one for one in logs if one["log_level"] == "warning"]
    assert warning["event"] == "ledger_never_expires"
    assert "crrmon ledger create" in warning["reason"]


async def test_a_ledger_of_a_newer_daemon_is_refused(ledger: EmulatedLedger, table: str) -> None:
    """If it says that this version cannot work on it; the message says what to do."""
    meta = (await items(ledger, "meta"))[0]
    told = body_of(meta)
    assert told == {"format": 2, "readable_by": 2, "shards": 4}
    await put(ledger, with_body(meta, told | {"format": 4}))
    await (await reopened(shared_ministack(), table)).close()
    await put(ledger, with_body(meta, told | {"format": 4, "readable_by": 3}))

    with pytest.raises(UnusableLedgerError, match=f"{table}.*upgrade crrmon"):
        await reopened(shared_ministack(), table)


async def test_a_ledger_keeps_its_number_of_shards(ledger: EmulatedLedger, table: str) -> None:
    """Whatever is asked for later: every trail lies where that number put it."""
    again = await EmulatedLedger.on(shared_ministack(), table, SetClock(), shards=64)
    assert again.shards == 4
    await again.close()


async def test_invariant_9_a_daemon_reads_what_a_newer_one_wrote(ledger: EmulatedLedger) -> None:
    """
    Attributes and fields that it does not know are passed over; those that an older one did not write have defaults.
    """
    await ledger.park([record("k")])
    (item,) = await items(ledger)
    marks, early_facts, records = body_of(item)
    records[0]["novel"] = 1
    newer = [marks, early_facts, records, None, "novel"]
    await put(ledger, with_body(item, newer) | {"novel": {"S": "x"}})

    (found,) = (await ledger.find("k", "v1")).records.values()

    assert found == replace(record("k"), rev=1)
    assert await ledger.reschedule([found]) == [Rescheduled.RESCHEDULED]


async def test_a_ledger_that_is_only_read_is_not_begun(table: str) -> None:
    """The source of a copy, in a table that was made and never used."""
    aws = EmulatorAws(shared_ministack())
    async with aws:
        await creation.create(aws, table=table, region=REGION, tags={})
        settings = LedgerSettings(
            kind="dynamodb", dynamodb=DynamoDBSettings(table=table, region=REGION)
        )
        with pytest.raises(
            AbsentLedgerError, match=f"no ledger at ledger.dynamodb.table '{table}'"
        ):
            await open_ledger(settings, aws, clock=SetClock(), create=False)

        # Whoever may create it finds an empty one.
        ledger = await open_ledger(settings, aws, clock=SetClock())
        assert await ledger.states("") == {}
        await ledger.close()


# ---- what cannot be read, and what is refused ----

REFUSED = json_error(400, "ValidationException", "Number overflow. Attempting to store a number")
OTHER_KEYS = json_error(
    400, "ValidationException", "The provided key element does not match the schema"
)


async def damage(
    ledger: EmulatedLedger, kind: str, sort: str = "", *, body: str = "body"
) -> dict[str, Any]:
    """Make the body of an item unreadable; return the item as it was."""
    item = next(one for one in await items(ledger, kind) if one["sk"]["S"].startswith(sort))
    whole = {name: value for name, value in item.items() if name not in {"body", "packed"}}
    await put(ledger, whole | {body: {"B": b"x\x00\x01"}})
    return item


async def test_invariant_10_a_trail_that_cannot_be_read_harms_itself_only(
    ledger: EmulatedLedger,
) -> None:
    """It is not told as due, and said once; who asks for it is told which item, and nobody else is harmed."""
    await ledger.park([record("bad", next_look_at=NOW - 1)])
    whole = await damage(ledger, "trail#")
    await ledger.park([record("good"), record("fine")])
    partition = whole["pk"]["S"]
    name = f"ledger.dynamodb.table '{ledger.calls.table}'"

    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert len(await ledger.due(ALL, now=NOW, limit=9)) == 2
        # It stays the longest due, and is in nobody's way.
        assert len(await ledger.due(ALL, now=NOW, limit=1)) == 1
    assert [(one["event"], one["item"]) for one in logs] == [
        ("ledger_item_unreadable", f"item '{partition}', 'trail' of {name}")
    ]
    assert "upgrade crrmon, or delete" in logs[0]["reason"]

    bad, good = record("bad").replica_mark("dst"), record("good").replica_mark("dst")
    joined = await asyncio.gather(ledger.seen([bad]), ledger.seen([good]), return_exceptions=True)
    assert joined[1] == [None]
    assert isinstance(joined[0], LedgerError)
    assert f"{partition}', 'trail' of ledger.dynamodb.table" in str(joined[0])
    # Asked for with others, it is to be asked for alone: a LedgerError would be asked again for ever, for all.
    with pytest.raises(BadItemError, match=partition):
        await ledger.seen([bad, good])
    with pytest.raises(BadItemError, match=partition):
        await ledger.settle("b1", [done(record("bad")), done(record("good"))], now=NOW)
    with pytest.raises(LedgerError, match=partition):
        await ledger.settle("b1", [done(record("bad"))], now=NOW)
    assert await ledger.settle("b1", [done(record("good"))], now=NOW) == [[Settled.COUNTED]]

    await put(ledger, whole)
    assert len(await ledger.due(ALL, now=NOW, limit=9)) == 2


async def test_invariant_10_a_key_that_is_refused_harms_only_who_asked_for_it(
    proxy: DynamoDBProxy, ledger: EmulatedLedger
) -> None:
    """Others asked at the same moment, in the same call; they are told what they asked for."""
    await ledger.park([record("good")])
    refused = record("bad").version.trail_id.hex()
    proxy.fault = lambda asked: REFUSED if refused in str(asked.body) else None

    bad, good = record("bad").replica_mark("dst"), record("good").replica_mark("dst")
    told = await asyncio.gather(
        ledger.seen([good]), ledger.seen([bad]), ledger.find("good", "v1"), return_exceptions=True
    )

    assert told[0] == [None]
    assert isinstance(told[1], BadItemError)
    assert isinstance(told[2], Trail)
    assert len(told[2].records) == 1
    # One call for all, and one more for each.
    assert proxy.count()["BatchGetItem"] == 4


@pytest.mark.parametrize(
    "attributes",
    [
        {"body": {"S": "text"}},
        {"packed": {"S": "text"}},
        {"packed": {"B": b"x"}},
        {"expires_at": {"S": "soon"}},
        {},
    ],
)
async def test_invariant_10_whatever_is_in_an_item_it_is_told_and_never_written_over(
    ledger: EmulatedLedger, attributes: dict[str, Any]
) -> None:
    """A later version may write other attributes: what this one cannot read is not taken for nothing."""
    await ledger.park([record("k")])
    (whole,) = await items(ledger)
    rest = {name: value for name, value in whole.items() if name != "body"}
    await put(ledger, rest | attributes)

    async with asyncio.timeout(5):
        with pytest.raises(LedgerError, match=r"'trail' of .* cannot be read"):
            await ledger.find("k", "v1")
        with pytest.raises(LedgerError, match=r"'trail' of .* cannot be read"):
            await ledger.park([record("k")])
    assert await items(ledger) == [rest | attributes]


FLEET = [
    ("journal#", ""),
    ("windows", "at#"),
    ("windows", "#last"),
    ("backlog", ""),
    ("leases", "0"),
    ("leases", "holder"),
    ("members", ""),
    ("pieces", ""),
    ("routes", ""),
]


@pytest.mark.parametrize("body", ["body", "packed"])
@pytest.mark.parametrize(("kind", "sort"), FLEET)
async def test_an_item_of_the_fleet_that_cannot_be_read_is_named(
    ledger: EmulatedLedger, kind: str, sort: str, body: str
) -> None:
    """Whoever needs it is told which it is and what to do, and asks again; the daemon does not end."""
    lease = await holding(ledger)
    await ledger.park([record("k")])
    await publish(ledger, lease, NOW)
    await ledger.settle("b1", batch("m"), now=NOW)
    await ledger.announce(MEMBER)
    await ledger.remember_routes([Route("src", "dst")])
    item = await damage(ledger, kind, sort, body=body)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "journal#": ledger.deltas,
        "windows": ledger.frozen,
        "backlog": ledger.backlog,
        "leases": ledger.leases,
        "members": ledger.members,
        "routes": ledger.known_routes,
    }
    if sort == "holder":
        calls["leases"] = functools.partial(ledger.forget, NOW, 0, lease=lease)
    if kind == "pieces":
        # Datapoints that cannot be read are lost: the others must not wait for them.
        assert b"" in (await ledger.frozen())[0].parts
        return
    named = f"item '{item['pk']['S']}', '{item['sk']['S']}' of.*cannot be read.*upgrade"
    with pytest.raises(LedgerError, match=named):
        await calls[kind]()


@pytest.mark.parametrize("body", ["body", "packed"])
async def test_what_a_ledger_says_of_itself_is_not_guessed(
    ledger: EmulatedLedger, table: str, body: str
) -> None:
    """Without its number of shards nobody could find anything: another ledger is to be named."""
    await damage(ledger, "meta", "", body=body)
    with pytest.raises(UnusableLedgerError, match=f"{table}.* holds no ledger, or a damaged one"):
        await reopened(shared_ministack(), table)


async def test_what_dynamodb_does_not_take_harms_itself_only(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Nothing that is wrong with one request ends the daemon, or is asked again for ever; keys of another table do."""
    for time in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not a number that DynamoDB accepts"):
            number(time)
        with pytest.raises(ValueError, match="not a number that DynamoDB accepts"):
            await ledger.park([record("k", next_look_at=time)])
    proxy.fault = Until(1, REFUSED, "TransactWriteItems")
    with pytest.raises(BadItemError, match="Number overflow"):
        await ledger.park([record("k")])
    proxy.fault = Until(1, cancelled("None", "ValidationError"), "TransactWriteItems")
    with pytest.raises(BadItemError, match="item 'journal#"):
        await ledger.park([record("k")])
    # Where nobody can isolate anything, it is a matter of the ledger, which says so and is asked again.
    lease = await holding(ledger)
    proxy.fault = Until(1, REFUSED, "PutItem")
    with pytest.raises(LedgerError, match=r"item 'leases' '0000'.*Number overflow"):
        await ledger.renew([lease])
    proxy.fault = Until(1, OTHER_KEYS, "PutItem")
    with pytest.raises(UnusableLedgerError, match="was it made by: crrmon ledger create"):
        await ledger.renew([lease])
    assert await ledger.park([record("k")]) == [Parked.PARKED]


async def test_sums_that_do_not_fit_into_an_item_are_named(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """What the publisher writes and DynamoDB finds too large is told by its key; the publisher goes on."""
    lease = await holding(ledger)
    await ledger.park([record("k")])
    large = json_error(
        400, "ValidationException", "Item size has exceeded the maximum allowed size"
    )
    proxy.fault = Until(1, large, "PutItem")

    with pytest.raises(LedgerError, match="PutItem of item 'backlog' 'src#dst#"):
        await publish(ledger, lease, NOW)

    assert await pending(ledger) == 1


# ---- what is stored, and for how long ----


async def test_d25_d26_d27_what_is_settled_expires_and_a_record_never(
    ledger: EmulatedLedger,
) -> None:
    """
    D25 to D27: the dedup retention from now, in seconds, under the attribute that the table names; closed failures, too.
    """
    told = await ledger.calls.describe_expiry()
    name = told["TimeToLiveDescription"]["AttributeName"]
    (one,) = [failed("k")]
    await ledger.park([one, record("pending")])
    assert not any(name in item for item in await items(ledger))
    opening = Settlement(version=one.version, outcomes=(episode(one),), keep=replace(one, rev=1))
    await ledger.settle("b1", [opening], now=NOW)
    assert not any(name in item for item in await items(ledger))

    await ledger.settle("b2", [done(one)], now=NOW + 500.5)
    await ledger.note([replica("half", at=NOW)], now=NOW + 1)

    expiries = sorted(int(item[name]["N"]) for item in await items(ledger) if name in item)
    assert expiries == [math.ceil(NOW + 1 + RETENTION), math.ceil(NOW + 500.5 + RETENTION)]


async def test_d26_what_has_expired_is_not_told_although_it_is_still_there(
    ledger: EmulatedLedger,
) -> None:
    """D26: DynamoDB takes up to two days; until then nothing is found, and new things take the place of old ones."""
    await ledger.settle("b1", batch("k"), now=NOW)
    await ledger.note([replica("half", at=NOW)], now=NOW)
    ledger.clock.time = NOW + RETENTION + 1
    ids = [record(key).replica_mark("dst") for key in ("k.0", "k.1", "half")]

    assert len(await items(ledger)) == 4
    assert await ledger.seen(ids) == [None] * 3
    assert (await ledger.find("k.0", "v1")).marks == {}
    assert await ledger.park([record("k.0")]) == [Parked.PARKED]
    again = [replace(done(record(key)), rev=0) for key in ("k.1", "k.2")]
    assert await ledger.settle("b2", again, now=NOW + RETENTION + 1) == [[Settled.COUNTED]] * 2
    late = [replica("half", at=NOW + 9)]
    assert await ledger.note(late, now=NOW + RETENTION + 1) == [Noted.EARLY]
    (early,) = (await ledger.find("half", "v1")).early_facts.values()
    assert early.replicated_at == NOW + 9


async def test_d27_nothing_is_left_of_a_record_without_outcome(ledger: EmulatedLedger) -> None:
    """D27: what was dropped uncounted leaves no item that would never expire."""
    await ledger.park([record("k")])
    await ledger.settle("b", [Settlement(version=record("k").version, outcomes=())], now=NOW)

    assert await items(ledger) == []


KEY = "lake/region=eu-west-1/" + "x" * 278
"""Of 300 bytes."""


async def test_typical_items_fit_into_one_write_unit(ledger: EmulatedLedger) -> None:
    """A record with a long key, and what is left of it: each under 1 KB, names and keys included."""
    version = ObjectVersion("a-bucket-with-a-name-of-some-length", KEY, "x" * 32)
    one = replace(
        record("k", to=("another-bucket-with-a-name-of-some-length",)),
        version=version,
        owner="123456789012",
        looks=3,
        pending_seen_at=NOW + 60.123456,
        size=1_234_567_890,
    )
    await ledger.park([one])
    (parked,) = await items(ledger)
    await ledger.settle("f" * 32, [done(one, arrived(one, one.destinations[0].bucket))], now=NOW)
    (settled,) = await items(ledger)

    assert size_of(parked) < 1024 - 200
    assert size_of(settled) < 512


def size_of(item: dict[str, Any]) -> int:
    """Tell the size of an item as DynamoDB counts it, or a few bytes more."""
    return sum(len(name) + len(next(iter(value.values()))) for name, value in item.items())


async def test_invariant_10_what_does_not_fit_into_an_item_harms_itself_only(
    ledger: EmulatedLedger,
) -> None:
    """A version with far too much to remember fails alone; it is no reason to end the daemon."""
    huge = record(
        "huge",
        to=tuple(f"{at}-" + f"{random.Random(at).getrandbits(400):x}" for at in range(9000)),
    )

    with pytest.raises(BadItemError, match="400 KB"):
        await ledger.park([huge, record("k")])

    assert await ledger.park([record("k")]) == [Parked.PARKED]


async def test_invariant_10_what_is_too_much_does_not_keep_the_others_from_being_done(
    ledger: EmulatedLedger,
) -> None:
    """Wherever in a batch it stands: the others are written before it is told."""
    names = tuple(f"{at}-" + f"{random.Random(at).getrandbits(400):x}" for at in range(9000))
    some = [record(f"k{at}") for at in range(6)]

    with pytest.raises(BadItemError):
        await ledger.park([*some[:1], record("huge", to=names), *some[1:]])

    assert len(await ledger.due(ALL, now=NOW, limit=9)) == 6


async def test_more_than_one_transaction_takes_is_split(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Failures come with entries of lists: each transaction holds a hundred actions at the most, and all is written."""
    records = [failed(f"k{at}") for at in range(70)]
    await ledger.park(records)
    moved = [replace(one, rev=1, failed_at=NOW + 1) for one in records]
    await ledger.settle(
        "b1",
        [Settlement(version=one.version, outcomes=(episode(one),), keep=one) for one in moved],
        now=NOW,
    )

    listed, _ = await ledger.failures(limit=100)
    assert {one.failed_at for one in listed} == {NOW + 1}
    assert len(listed) == 70
    sizes = [
        len(one.body["TransactItems"])
        for one in proxy.asked
        if one.operation == "TransactWriteItems"
    ]
    assert max(sizes) <= 100
    assert len(await items(ledger, "failures#")) == 70
    assert len(await items(ledger, "bucketfailures#")) == 70


# ---- how much is asked ----


async def work(ledger: EmulatedLedger, name: str) -> None:
    """Do some of everything that is done all day."""
    records = [record(f"{name}{at}", next_look_at=NOW - 60 + at / 9) for at in range(20)]
    await ledger.seen([one.replica_mark("dst") for one in records])
    await ledger.park(records)
    due = await ledger.due(ALL, now=NOW - 50, limit=20)
    assert len(due) == 20
    await ledger.note([replica(f"{name}0", at=NOW)], now=NOW)
    await ledger.reschedule([replace(due[1], next_look_at=NOW + 1e6)])
    await ledger.settle(name, [done(one) for one in due], now=NOW)
    await ledger.backlog()
    lease = await holding(ledger)
    taken = [one.id for one in await ledger.deltas()]
    at = (await ledger.last_frozen() or NOW) + 300
    window = FrozenWindow(starts_at=at, parts=(b"x",), deltas=tuple(taken))
    await ledger.freeze(window, lease=lease)
    await ledger.frozen()
    await ledger.forget(at, 0, lease=lease)
    await ledger.renew([lease])
    await ledger.leases()
    await ledger.announce(MEMBER)
    await ledger.members()
    await ledger.dismiss(MEMBER)
    await ledger.failures(limit=3)
    await ledger.find(f"{name}0", "v1")
    await ledger.known_routes()
    await ledger.sweep(now=NOW)


async def test_d29_invariant_6_nothing_is_scanned_and_work_does_not_grow(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """
    D29, invariant 6: as many calls beside 600 parked records as beside 6, and no Scan (but for the test's own sweep).
    """

    async def calls(name: str) -> Counter[str]:
        await work(ledger, name)
        return proxy.count() - Counter({"Scan": 1})

    await ledger.park([record(f"far{at}", next_look_at=NOW + 1e6) for at in range(6)])
    await calls("warm")
    few = await calls("few")
    await ledger.park([record(f"far{at}", next_look_at=NOW + 1e6) for at in range(6, 600)])
    await calls("warm again")
    many = await calls("many")

    assert many == few
    assert "Scan" not in many
    assert sum(many.values()) < 80


async def test_a_quiet_ledger_is_seldom_asked_what_is_due(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """A shard in which nothing is due soon is not asked twice a second; what this process parks is found at once."""
    for tenth in range(49):
        assert await ledger.due(ALL, now=NOW + tenth / 10, limit=9) == []
    assert proxy.count() == {"Query": 4}
    await ledger.due(ALL, now=NOW + LOOKED_AHEAD_SECONDS, limit=9)
    assert proxy.count() == {"Query": 4}

    one = record("k", next_look_at=NOW + LOOKED_AHEAD_SECONDS)
    await ledger.park([one])
    proxy.count()

    assert len(await ledger.due(ALL, now=NOW + LOOKED_AHEAD_SECONDS, limit=9)) == 1
    assert proxy.count() == {"Query": 1, "BatchGetItem": 1}
    # Not before it is due, and then without delay; also after the clock was set back.
    await ledger.reschedule([replace(one, rev=1, next_look_at=NOW + 9.25)])
    assert await ledger.due(ALL, now=NOW + 9.2, limit=9) == []
    assert len(await ledger.due(ALL, now=NOW + 9.25, limit=9)) == 1
    assert await ledger.due(ALL, now=NOW, limit=9) == []
    assert len(await ledger.due(ALL, now=NOW + 9.25, limit=9)) == 1


async def test_what_this_process_parks_is_found_although_the_index_is_late(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """What the index does not tell just after a write of this process is not taken for not there."""
    await ledger.park([record("k")])
    nothing = json_answer({"Items": [], "Count": 0, "ScannedCount": 0})
    proxy.fault = Until(4, nothing, "Query")
    soon = NOW + SETTLING_SECONDS / 2

    assert await ledger.due(ALL, now=soon, limit=9) == []
    assert len(await ledger.due(ALL, now=soon, limit=9)) == 1

    await ledger.settle("b1", [done(record("k"))], now=NOW)
    proxy.count()
    for _ in range(2):
        assert await ledger.due(ALL, now=NOW + SETTLING_SECONDS, limit=9) == []
    assert proxy.count() == {"Query": 1}  # the other three were quiet by then; now it is, too


async def test_no_more_trails_are_read_than_are_asked_for(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Of what all shards tell as due, the longest due are read, and no others."""
    records = [record(f"k{at}", next_look_at=NOW - at) for at in range(60)]
    await ledger.park(records)
    proxy.count()

    due = await ledger.due(ALL, now=NOW, limit=7)

    (reads,) = [one.body for one in proxy.asked if one.operation == "BatchGetItem"]
    assert [one.version.key for one in due] == [f"k{at}" for at in range(59, 52, -1)]
    assert [len(one["Keys"]) for one in reads["RequestItems"].values()] == [7]
    assert proxy.count() == {"Query": 4, "BatchGetItem": 1}


async def test_what_another_daemon_parks_is_found_when_it_is_due(
    ledger: EmulatedLedger, other: EmulatedLedger
) -> None:
    """If that is further off than a shard is asked ahead; sooner, it is found that much later at the most."""
    assert await ledger.due(ALL, now=NOW, limit=9) == []
    soon, later = NOW + 1, NOW + LOOKED_AHEAD_SECONDS + 1
    await other.park([record("soon", next_look_at=soon), record("later", next_look_at=later)])

    found = await ledger.due(ALL, now=NOW + LOOKED_AHEAD_SECONDS, limit=9)
    assert [one.version.key for one in found] == ["soon"]
    assert len(await ledger.due(ALL, now=later, limit=9)) == 2


async def test_what_the_index_is_wrong_about_is_not_told(ledger: EmulatedLedger) -> None:
    """It is a moment behind: the trail itself says whether it is due, or there at all."""
    await ledger.park([record("k"), record("gone"), record("moved")])
    store = ledger._store
    assert isinstance(store, DynamoDBStore)
    stale = await store._due.due(TRAILS, ALL, until=NOW, limit=9)
    await ledger.settle("b1", [done(record("gone"))], now=NOW)
    await ledger.reschedule([replace(record("moved"), rev=1, next_look_at=NOW + 60)])

    async def behind(*_: Any, **__: Any) -> list[Due]:
        return stale

    store._due.due = behind  # type: ignore[method-assign]

    assert [one.version.key for one in await ledger.due(ALL, now=NOW, limit=9)] == ["k"]


async def test_d30_a_journal_of_many_pages_is_read_to_its_end(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """D30: several megabytes wait to be reported; every page is of this table, and none is left out."""
    chance = random.Random(1)
    tally = Tally(completed=1, latency={at: chance.random() for at in range(15_000)})
    old = [
        Delta(id=f"c{at}", settled_at=NOW + at, tallies=((Route("src", "dst"), tally),))
        for at in range(60)
    ]
    await ledger.append(old)
    proxy.count()

    told = await ledger.deltas()

    pages = [one for one in proxy.asked if one.operation == "Query"]
    assert len(pages) > 8
    assert {one.body["TableName"] for one in pages} == {ledger.calls.table}
    assert told == old


async def test_d32_no_item_is_written_by_two_batches(
    ledger: EmulatedLedger, proxy: DynamoDBProxy, table: str
) -> None:
    """D32: whatever is settled and parked at once, by however many daemons, no two write the same item."""
    second = await EmulatedLedger.on(proxy.url, table, SetClock(), make=False)
    proxy.count()
    await asyncio.gather(
        *(
            one.settle(f"{who}{number}", batch(f"{who}{number}", size=40), now=NOW)
            for number in range(3)
            for who, one in (("a", ledger), ("b", second))
        ),
        *(one.park([record(f"p{number}")]) for number, one in enumerate((ledger, second))),
    )
    written = [key for one in proxy.asked for key in one.written]
    await second.close()

    assert max(Counter(written).values()) == 1
    journal = [key for key in written if key[0].startswith("journal#")]
    assert len(journal) == 14
    assert len(set(written) - set(journal)) == 6 * 40 + 2
    assert await completed(ledger) == 240


async def test_trails_written_alone_are_read_together(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """A look that changes nothing but its own record costs one write, and a share of one read."""
    records = [record(f"k{at}") for at in range(20)]
    await ledger.park(records)
    proxy.count()

    moved = [replace(one, rev=1, next_look_at=NOW + 60) for one in records]
    assert await ledger.reschedule(moved) == [Rescheduled.RESCHEDULED] * 20

    assert proxy.count() == {"BatchGetItem": 1, "PutItem": 20}


async def test_reading_for_one_that_gave_up_answers_the_others(ledger: EmulatedLedger) -> None:
    """Whoever waits for the same call is not harmed when one of them is cancelled."""
    await ledger.settle("b1", batch("k"), now=NOW)
    asking = [
        asyncio.create_task(ledger.seen([record(f"k.{at}").replica_mark("dst")]))
        for at in range(3)
    ]
    await asyncio.sleep(0)
    asking[0].cancel()

    found = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(found[0], asyncio.CancelledError)
    assert [type(one) for (one,) in found[1:]] == [Mark, Mark]  # type: ignore[misc]


@pytest.mark.parametrize("prefix", ["é", "ÿ", "a\x7f", "aÿ\U0010ffff", "\U0010ffff"])
async def test_what_begins_with_any_text_is_found(ledger: EmulatedLedger, prefix: str) -> None:
    """DynamoDB takes texts only, and the bytes that come after all with a prefix need not be one."""
    names = [f"{prefix[:-1]}a", prefix, f"{prefix}a", f"{prefix}\U0010ffff"]
    after = [f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"] if prefix[-1] != "\U0010ffff" else []
    for name in (*names, *after):
        assert await ledger.swap(name, None, b"x")

    assert list(await ledger.states(prefix)) == names[1:]


# ---- windows, whatever stops on the way ----


async def test_d31_what_is_settled_while_a_window_is_frozen_is_told_again(
    ledger: EmulatedLedger, other: EmulatedLedger
) -> None:
    """D31: at whatever call of freezing another daemon commits something, it waits for the next window."""
    lease = await holding(ledger)
    await ledger.settle("b0", batch("k"), now=NOW)
    client = ledger.calls._client
    number = 0

    class Meanwhile:
        async def call(self, operation: str, request: Mapping[str, Any]) -> Any:
            nonlocal number
            number += 1
            mine = number
            await other.settle(f"m{mine}", batch(f"m{mine}", size=1), now=NOW)
            await other.park([record(f"p{mine}")])
            return await client.call(operation, request)

    ledger.calls._client = Meanwhile()
    taken = await publish(ledger, lease, NOW)
    ledger.calls._client = client

    in_window = sum(tally.completed for one in taken for _, tally in one.tallies)
    assert number > 10
    assert in_window + await completed(ledger) == 3 + number
    assert await pending(ledger) == await pending(other) == number


async def test_the_backlog_is_right_while_windows_are_frozen(
    ledger: EmulatedLedger, other: EmulatedLedger
) -> None:
    """At whatever call of telling it a window takes entries along and folds them in, none is missed or told twice."""
    lease = await holding(other)
    client = ledger.calls._client
    for at in range(8):
        await other.park([record(f"k{at}.{number}") for number in range(3)])
        await other.settle(f"b{at}", [done(record(f"k{at}.0"))], now=NOW)
        ledger.calls._client = Interrupted(
            client, at=at, by=functools.partial(publish, other, lease, NOW + 300 * at)
        )
        assert await pending(ledger) == 2 * (at + 1)
        ledger.calls._client = client


class Interrupted:
    """A client during one of whose calls something else happens first."""

    def __init__(
        self, client: Any, *, by: Callable[[], Awaitable[Any]], at: int = 0, operation: str = ""
    ) -> None:
        self._client = client
        self._left = at
        self._by = by
        self._operation = operation
        """Which calls count; empty for all."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> Any:
        if self._operation in {"", operation}:
            self._left -= 1
            if self._left == -1:
                await self._by()
        return await self._client.call(operation, request)


async def test_contributions_that_another_window_has_are_refused(
    ledger: EmulatedLedger,
) -> None:
    """Invariant 2: a commit whose answer got lost may land after it was read what waits; that is read again."""
    lease = await holding(ledger)
    await ledger.settle("b0", batch("k"), now=NOW)
    stale = await publish(ledger, lease, NOW)

    window = FrozenWindow(
        starts_at=NOW + 300, parts=(b"x",), deltas=tuple(one.id for one in stale)
    )
    with pytest.raises(LedgerError, match="in another window"):
        await ledger.freeze(window, lease=lease)

    assert [one.starts_at for one in await ledger.frozen()] == [NOW]


async def test_large_windows_are_stored_in_pieces(ledger: EmulatedLedger) -> None:
    """A part of a window may be a megabyte, an item 400 KB."""
    lease = await holding(ledger)
    chance = random.Random(1)
    parts = (chance.randbytes(1_000_000), b"small", chance.randbytes(500_000))
    window = FrozenWindow(starts_at=NOW, parts=parts, deltas=())

    await ledger.freeze(window, lease=lease)
    (frozen,) = await ledger.frozen()
    assert frozen.parts == parts

    await ledger.forget(NOW, 0, lease=lease)
    (frozen,) = await ledger.frozen()
    assert frozen.parts == (b"", *parts[1:])
    await ledger.forget(NOW, 2, lease=lease)
    await ledger.forget(NOW, 1, lease=lease)
    assert await items(ledger, "pieces") == []
    assert len(await items(ledger, "windows")) == 1


async def test_a_window_that_nobody_takes_any_more_is_let_go(ledger: EmulatedLedger) -> None:
    """After two weeks CloudWatch refuses it; what belongs to it expires then, and it can still be forgotten."""
    lease = await holding(ledger)
    await publish(ledger, lease, NOW)
    ledger.clock.time = NOW + 15 * 86_400
    assert await expire(ledger) == []
    ledger.clock.time = NOW + 21 * 86_400
    assert len(await expire(ledger)) == 2

    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            (frozen,) = await ledger.frozen()
            assert frozen.parts == (b"", b"")
    assert [(one["event"], one["part"]) for one in logs] == [
        ("ledger_window_part_lost", 0),
        ("ledger_window_part_lost", 1),
    ]
    for part in (0, 1):
        await ledger.forget(NOW, part, lease=lease)
    assert await ledger.frozen() == []


async def test_nothing_is_left_of_what_no_window_came_of(
    ledger: EmulatedLedger, other: EmulatedLedger
) -> None:
    """A publisher whose commit is refused deletes what it wrote for it."""
    lease = await holding(ledger)
    await ledger.settle("b0", batch("k"), now=NOW)
    client = ledger.calls._client
    ledger.calls._client = Interrupted(
        client, by=functools.partial(holding, other, owner="you"), operation="TransactWriteItems"
    )
    with pytest.raises(LeaseLostError):
        await publish(ledger, lease, NOW)
    ledger.calls._client = client

    assert await items(ledger, "pieces") == []
    assert await ledger.frozen() == []
    assert len(await publish(other, (await other.leases())[0], NOW)) == 1
    assert len(await ledger.frozen()) == 1


async def stopped_after_commit(ledger: EmulatedLedger, lease: Lease) -> None:
    """Freeze what waits, and stop before anything of it is folded or deleted."""
    taken = [one.id for one in await ledger.deltas()]
    client = ledger.calls._client
    ledger.calls._client = Broken(client, after="TransactWriteItems")
    with pytest.raises(Broken.Error):
        await ledger.freeze(
            FrozenWindow(starts_at=NOW, parts=(b"x",), deltas=tuple(taken)), lease=lease
        )
    ledger.calls._client = client


class Broken:
    """A client of a process that ends right after a call of some kind."""

    class Error(BaseException):
        """The end: nothing at the border takes it for an answer that did not come."""

    def __init__(self, client: Any, *, after: str) -> None:
        self._client = client
        self._after = after

    async def call(self, operation: str, request: Mapping[str, Any]) -> Any:
        answer = await self._client.call(operation, request)
        if operation == self._after:
            raise Broken.Error
        return answer


async def test_d31_a_window_committed_long_ago_is_finished(ledger: EmulatedLedger) -> None:
    """D31: a publisher stopped between commit and finish, and nobody came for weeks: nothing of it expired."""
    lease = await holding(ledger)
    await ledger.park([record("k")])
    await ledger.settle("b0", batch("m"), now=NOW)
    await stopped_after_commit(ledger, lease)
    ledger.clock.time = NOW + 40 * 86_400
    await expire(ledger)

    assert await ledger.deltas() == []
    assert await pending(ledger) == 1
    await ledger.settle("b1", batch("n"), now=ledger.clock.time)
    assert len(await publish(ledger, lease, ledger.clock.time)) == 1
    assert await ledger.deltas() == []
    assert await pending(ledger) == 1
    assert [one.starts_at for one in await ledger.frozen()] == [NOW, ledger.clock.time]
    assert [one for one in await items(ledger, "pieces") if "taken" in one["sk"]["S"]] == []


async def test_a_window_whose_names_are_gone_does_not_stop_the_others(
    ledger: EmulatedLedger,
) -> None:
    """Whoever finds it says once what is lost, and goes on: what was not deleted is told again."""
    lease = await holding(ledger)
    await ledger.park([record("k")])
    await ledger.settle("b0", batch("m"), now=NOW)
    await stopped_after_commit(ledger, lease)
    (names,) = [one for one in await items(ledger, "pieces") if "taken" in one["sk"]["S"]]
    await ledger.calls.write_each(
        [{"DeleteRequest": {"Key": {name: names[name] for name in ("pk", "sk")}}}]
    )

    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert await completed(ledger) == 3
            assert await pending(ledger) == 1
        await publish(ledger, lease, NOW + 300)
    assert [(one["event"], one["starts_at"]) for one in logs] == [
        ("ledger_window_names_lost", NOW)
    ]
    assert await ledger.deltas() == []
    assert await pending(ledger) == 1
    assert await items(ledger, "journal#") == []


async def test_what_a_publisher_left_that_ended_while_finishing_is_deleted_by_the_next(
    ledger: EmulatedLedger,
) -> None:
    """After its header tells that a window is dealt with, its names are of no use, and nothing else would find them."""
    lease = await holding(ledger)
    await ledger.settle("b0", batch("m"), now=NOW)
    client = ledger.calls._client
    ledger.calls._client = Broken(client, after="PutItem")
    with pytest.raises(Broken.Error):
        await publish(ledger, lease, NOW)
    ledger.calls._client = client
    assert any("taken" in one["sk"]["S"] for one in await items(ledger, "pieces"))

    await publish(ledger, lease, NOW + 300)

    assert not any("taken" in one["sk"]["S"] for one in await items(ledger, "pieces"))


async def test_a_commit_of_which_nothing_is_known_leaves_nothing(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """Not committed, it might yet have been on its way: its names are deleted once another window has its number."""
    lease = await holding(ledger)
    await ledger.settle("b0", batch("m"), now=NOW)
    proxy.fault = Until(TRIES, THROTTLED, "TransactWriteItems")
    with pytest.raises(LedgerError):
        await publish(ledger, lease, NOW)
    assert len(await items(ledger, "pieces")) == 3

    assert len(await publish(ledger, lease, NOW)) == 1
    await publish(ledger, lease, NOW + 300)

    assert len(await items(ledger, "pieces")) == 4  # two parts each
    assert len(await ledger.frozen()) == 2


async def test_a_large_drop_that_is_refused_again_and_again_gets_done(
    ledger: EmulatedLedger, proxy: DynamoDBProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting what a window took along goes on where it was refused, and what is gone is not deleted once more."""
    monkeypatch.setattr(dynamodb_calls, "FIRST_DELAY_SECONDS", 0.0001)
    lease = await holding(ledger)
    old = [Delta(id=f"c{at}", settled_at=NOW, tallies=()) for at in range(300)]
    await ledger.append(old)
    asked = 0

    def throttle(one: Asked) -> Fault:
        nonlocal asked
        if one.operation != "BatchWriteItem" or not one.written[0][0].startswith("journal#"):
            return None
        asked += 1
        return None if asked % 24 < 3 else Part(0)

    proxy.fault = throttle
    window = FrozenWindow(starts_at=NOW, parts=(), deltas=tuple(one.id for one in old))
    left = [{position_of(one) for one in await items(ledger, "journal#")}]
    while left[-1] and len(left) < 20:
        proxy.count()
        try:
            await ledger.freeze(window, lease=lease)
        except LedgerError:
            assert await ledger.deltas() == []
        deleted = {
            key
            for one in proxy.asked
            if one.operation == "BatchWriteItem"
            for key in one.written
            if key[0].startswith("journal#")
        }
        assert deleted <= left[-1]
        left.append({position_of(one) for one in await items(ledger, "journal#")})

    sizes = [len(one) for one in left]
    assert len(sizes) > 3
    assert sizes[0] == 300
    assert sizes[-1] == 0
    assert await items(ledger, "pieces") == []


async def test_a_batch_that_shrinks_is_gone_on_with(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """As long as DynamoDB does some of it, it is no failure."""
    proxy.fault = Until(100, Part(), "BatchWriteItem")
    await ledger.remember_routes([Route("src", f"d{at}") for at in range(TRIES + 4)])
    assert len(await ledger.known_routes()) == TRIES + 4


# ---- what was done although the answer was lost ----


@pytest.mark.parametrize(("shard", "operation"), [(0, "TransactWriteItems"), (1, "PutItem")])
async def test_a_lease_changed_although_the_answer_was_lost_is_recognised(
    ledger: EmulatedLedger, proxy: DynamoDBProxy, shard: int, operation: str
) -> None:
    """
    Invariant 5: it is claimed, renewed and released once, and the holder knows; that of shard 0 together with who
    publishes.
    """
    proxy.fault = Until(1, Lost(), operation)
    lease = await holding(ledger, shard)
    assert (lease.owner, lease.epoch, proxy.fault.left) == ("me", 1, 0)

    proxy.fault = Until(1, Lost(), "PutItem")
    (renewed,) = await ledger.renew([lease])
    assert proxy.fault.left == 0
    assert renewed.beat > lease.beat
    assert renewed == (await ledger.leases())[shard]

    proxy.fault = Until(1, Lost(), operation)
    await ledger.release([renewed])
    assert proxy.fault.left == 0
    assert (await ledger.leases())[shard].owner == ""


@pytest.mark.parametrize("place", range(4))
async def test_a_window_is_frozen_once_although_answers_are_lost(
    ledger: EmulatedLedger, proxy: DynamoDBProxy, place: int
) -> None:
    """
    Invariant 5: its number, its sums (base items) and its header, each written, and each known to be; nothing is left.
    """
    lease = await holding(ledger)
    await prepared_once(ledger)
    proxy.count()
    seen = 0

    def lose(one: Asked) -> Fault:
        nonlocal seen
        if one.operation not in {"PutItem", "TransactWriteItems", "DeleteItem"}:
            return None
        seen += 1
        return Lost() if seen == place + 1 else None

    proxy.fault = lose
    taken = await publish(ledger, lease, NOW)
    await ledger.forget(NOW, 0, lease=lease)
    await ledger.forget(NOW, 1, lease=lease)

    assert seen > place
    assert len(taken) == 1
    assert await ledger.frozen() == await ledger.deltas() == []
    assert await pending(ledger) == 2
    assert await items(ledger, "pieces") == await items(ledger, "journal#") == []
    (last,) = await items(ledger, "windows")
    assert body_of(last)["number"] == 1


async def prepared_once(ledger: EmulatedLedger) -> None:
    """Have something pending and something counted."""
    await ledger.park([record("k0"), record("k1")])
    await ledger.settle("b0", batch("m"), now=NOW)


async def test_a_half_noted_although_the_answer_was_lost_is_a_half(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """
    Invariant 5: the second try finds it known; a record that was rescheduled so reads as changed by somebody else.
    """
    proxy.fault = Until(1, Lost(), "PutItem")
    assert await ledger.note([replica("k", at=NOW)], now=NOW) == [Noted.KNOWN]
    assert len((await ledger.find("k", "v1")).early_facts) == 1

    await ledger.park([record("m")])
    proxy.fault = Until(UNANSWERED, Lost(), "PutItem")
    moved = replace(record("m"), rev=1, next_look_at=NOW + 60)
    assert await ledger.reschedule([moved]) == [Rescheduled.STALE]
    assert (await ledger.find("m", "v1")).records == {moved.version.bucket: replace(moved, rev=2)}


async def test_a_presence_dismissed_although_the_answer_was_lost_is_gone(
    ledger: EmulatedLedger, proxy: DynamoDBProxy
) -> None:
    """The second try finds another one in its place, or none: neither is harmed."""
    await ledger.announce(MEMBER)
    proxy.fault = Until(1, Lost(), "DeleteItem")

    await ledger.dismiss(MEMBER)

    assert await ledger.members() == []


async def test_a_ledger_is_begun_once_although_the_answer_is_lost(
    proxy: DynamoDBProxy, table: str
) -> None:
    """Its number of shards is what was written, whoever wrote it."""
    proxy.fault = Until(1, Lost(), "PutItem")
    ledger = await EmulatedLedger.on(proxy.url, table, SetClock(), shards=7)
    assert ledger.shards == 7
    await ledger.close()


# ---- leases ----


async def test_hundreds_of_shards_are_few_items(proxy: DynamoDBProxy, table: str) -> None:
    """Renewing all shards that a daemon holds is a read and a write of each 256."""
    ledger = await EmulatedLedger.on(proxy.url, table, SetClock(), shards=600)
    free = await ledger.leases()
    assert [one.shard for one in free] == list(range(600))
    mine = [await ledger.claim(free[at], owner="me") for at in (0, 255, 256, 599)]
    held = [one for one in mine if one is not None]
    proxy.count()

    renewed = await ledger.renew(held)

    assert proxy.count() == {"BatchGetItem": 3, "PutItem": 3}
    assert [one.shard for one in renewed] == [0, 255, 256, 599]
    assert {one.owner for one in await ledger.leases()} == {"me", ""}
    await ledger.close()


async def test_daemons_that_claim_and_renew_at_once_do_not_harm_each_other(
    ledger: EmulatedLedger, other: EmulatedLedger
) -> None:
    """Invariant 9: all leases lie in one item, and every change of it builds on the one before."""
    free = await ledger.leases()
    await asyncio.gather(
        *(
            one.claim(free[shard], owner=name)
            for shard in ALL
            for name, one in (("me", ledger), ("you", other))
        )
    )
    leases = await ledger.leases()
    mine = [one for one in leases if one.owner == "me"]
    yours = [one for one in leases if one.owner == "you"]
    assert [one.epoch for one in leases] == [1] * 4

    for _ in range(3):
        mine, yours = await asyncio.gather(_list(ledger.renew(mine)), _list(other.renew(yours)))

    assert sorted([*mine, *yours], key=lambda one: one.shard) == await other.leases()
    assert [one.beat for one in await ledger.leases()] == [4] * 4


async def _list(renewing: Any) -> list[Lease]:
    return list(await renewing)


# ---- several destinations, making the table ----


async def test_d15_two_destinations_are_one_item_and_two_counts(ledger: EmulatedLedger) -> None:
    """D15: what arrived in each bucket is counted apart, and remembered in one item that one write makes."""
    one = record("k", to=("dst", "two"))
    both = replace(done(one, arrived(one), arrived(one, "two")), rev=0)

    assert await ledger.settle("b1", [both], now=NOW) == [[Settled.COUNTED, Settled.COUNTED]]

    assert len(await items(ledger)) == 1
    counted = fold(list(await ledger.deltas()))
    assert {route.destination: one.completed for route, one in counted.items()} == {
        "dst": 1,
        "two": 1,
    }
    whole = MarkId(Scope.SOURCE, "src", "k", "v1")
    assert [type(one) for one in await ledger.seen([one.replica_mark("two"), whole])] == [
        Mark,
        type(None),
    ]


async def test_making_the_table_is_finished_however_far_it_came(
    proxy: DynamoDBProxy, table: str
) -> None:
    """Every step that is missing is done, and none that is not; a second time there is nothing to do."""
    tags = {"team": "storage", "cost": "1"}
    requests = dynamodb_table.description(table, tags)
    async with EmulatorAws(proxy.url) as aws:
        client: Any = await aws.client("dynamodb")
        untagged = {name: one for name, one in requests["CreateTable"].items() if name != "Tags"}
        await client.create_table(**untagged)

        done_first = await creation.create(aws, table=table, region=None, tags=tags)
        done_again = await creation.create(aws, table=table, region=None, tags=tags)

        assert done_first == ["UpdateTimeToLive", "UpdateContinuousBackups", "TagResource"]
        assert done_again == []
        told = (await client.describe_table(TableName=table))["Table"]
        assert told["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        backups = await client.describe_continuous_backups(TableName=table)
        recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
        assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"


async def test_making_the_table_does_what_its_description_says(
    proxy: DynamoDBProxy, table: str
) -> None:
    """What a dry run prints is what is asked, and in that order."""
    tags = {"team": "storage"}
    async with EmulatorAws(proxy.url) as aws:
        made = await creation.create(aws, table=table, region=None, tags=tags)

    description = dynamodb_table.description(table, tags)
    changes = [(one.operation, one.body) for one in proxy.asked if one.operation in description]
    assert list(made) == list(description)
    assert changes == list(description.items())


@pytest.mark.parametrize(
    "operation", ["CreateTable", "UpdateTimeToLive", "UpdateContinuousBackups"]
)
async def test_who_may_not_make_the_table_is_told_what_to_grant(
    proxy: DynamoDBProxy, table: str, operation: str
) -> None:
    """Action and table; what was done so far stays."""
    proxy.fault = Until(1, DENIED, operation)
    async with EmulatorAws(proxy.url) as aws:
        with pytest.raises(LedgerError, match=f"grant dynamodb:{operation} on table {table}"):
            await creation.create(aws, table=table, region=None, tags={})
        await creation.create(aws, table=table, region=None, tags={})
        await (await reopened(proxy.url, table)).close()


NOT_YET = json_error(400, "ResourceNotFoundException", "Requested resource not found: Table")
BACKUPS_LATER = json_error(
    400,
    "ContinuousBackupsUnavailableException",
    "Backups are being enabled for the table. Please retry later",
)
TOO_OFTEN = json_error(
    400,
    "ValidationException",
    "Time to live has been modified multiple times within a fixed interval",
)
EXPIRES_BY_NOW = json_error(400, "ValidationException", "TimeToLive is already enabled")
IN_USE = json_error(400, "ResourceInUseException", "Table is being updated")


@pytest.mark.parametrize(
    ("operation", "answer", "asked"),
    [
        ("DescribeTable", NOT_YET, 3),
        ("UpdateTimeToLive", NOT_YET, 3),
        ("UpdateTimeToLive", IN_USE, 3),
        ("UpdateTimeToLive", TOO_OFTEN, 3),
        ("UpdateTimeToLive", EXPIRES_BY_NOW, 1),
        ("UpdateContinuousBackups", BACKUPS_LATER, 3),
        ("UpdateContinuousBackups", IN_USE, 3),
    ],
)
async def test_a_new_table_takes_its_time(
    proxy: DynamoDBProxy,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    answer: Fault,
    asked: int,
) -> None:
    """What DynamoDB puts off, or does not know of yet, is asked again; what is done already is fine."""
    monkeypatch.setattr(creation, "POLL_SECONDS", 0.0)
    proxy.fault = Until(2 if asked > 1 else 1, answer, operation)
    async with EmulatorAws(proxy.url) as aws:
        made = await creation.create(aws, table=table, region=None, tags={})

    assert made == ["CreateTable", "UpdateTimeToLive", "UpdateContinuousBackups"]
    assert proxy.count()[operation] == asked


async def test_a_table_that_never_gets_ready_is_given_up(
    proxy: DynamoDBProxy, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some minutes, with what DynamoDB said last, and what to do."""
    monkeypatch.setattr(creation, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(creation, "READY_SECONDS", 1.0)
    proxy.fault = Until(10_000, BACKUPS_LATER, "UpdateContinuousBackups")
    async with EmulatorAws(proxy.url) as aws:
        with pytest.raises(LedgerError, match=r"not ready after 1 s .*Backups are being enabled"):
            await creation.create(aws, table=table, region=None, tags={})
