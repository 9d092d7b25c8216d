"""
What the ledger in DynamoDB costs: units as MiniStack counts them, beside those that are computed.

MiniStack counts writes, those of the index too, and reads of Query; of BatchGetItem it tells nothing, so what
that costs is computed alone.
"""

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from crrmon.adapters.stores.dynamodb.store import AT_ONCE
from crrmon.domain.deployment.prices import of_units
from crrmon.domain.events.facts import ReplicationFailed, ReplicaWritten
from crrmon.domain.lessons import LESSONS_KNOWN, MOST_INTERVALS, SOONEST_SECONDS, Lesson
from crrmon.domain.noting import Noted
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.outcomes import Latency, Settlement
from crrmon.domain.policy import Policy
from crrmon.domain.records import Record
from crrmon.domain.trails import Rescheduled
from crrmon.ledger import trails
from crrmon.ports.ledger import FrozenWindow
from fakes.ledger_dynamodb import EmulatedLedger, SetClock, everything, new_table
from fakes.ledger_use import holding, publish
from fakes.ledger_values import MEMBER, NOW, arrived, done, record
from fakes.ministack import shared_ministack

pytestmark = pytest.mark.server

READS = {"Query", "BatchGetItem"}
ROUTES = 4


def _bench() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "dynamodb_units.py"
    spec = importlib.util.spec_from_file_location("dynamodb_units", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


units = _bench()


class Meter:
    """Adds up consumed units."""

    def __init__(self) -> None:
        self.writes = 0.0
        self.reads = 0.0

    def __call__(self, consumed: Mapping[str, Any]) -> None:
        """Take one entry."""
        if consumed["Operation"] in READS:
            self.reads += consumed["CapacityUnits"]
        else:
            self.writes += consumed["CapacityUnits"]

    @contextmanager
    def per(self, items: int) -> Iterator[list[float]]:
        """Measure what is done within: writes and reads of each of so many items."""
        self.writes = self.reads = 0.0
        result: list[float] = []
        yield result
        result += [self.writes / items, self.reads / items]


@pytest.fixture
def meter() -> Meter:
    """Adds up what the ledger consumes."""
    return Meter()


@pytest.fixture
async def ledger(meter: Meter) -> AsyncIterator[EmulatedLedger]:
    """A new ledger, metered."""
    url = shared_ministack()
    ledger = await EmulatedLedger.on(url, new_table(), SetClock(), shards=64, consumed=meter)
    yield ledger
    await ledger.close()


def objects(number: int) -> list[Record]:
    """Make records of usual sizes, of a few routes."""
    return [
        replace(
            record("k", to=(f"company-lake-replica-{at % ROUTES}",)),
            version=ObjectVersion(
                f"company-lake-{at % ROUTES}",
                f"tables/events/date=2026-11-22/hour=17/part-{at:05d}-0f6c2a51-8d33-4b0e.parquet",
                f"{at:032d}",
            ),
            owner="123456789012",
            size=123_456_789,
            written_at=NOW - 75.123456 - at / 7,
        )
        for at in range(number)
    ]


def settled(one: Record, *, exact: bool = False, **fields: Any) -> Settlement:
    """Settle a record, its latency spread over as many buckets as a look half a minute apart makes it, or exact."""
    outcome = arrived(
        one,
        one.destinations[0].bucket,
        latency=Latency(30.123456, 30.123456 if exact else 75.654321),
        spread=tuple((bucket, 0.0625) for bucket in range(20, 36)),
        seconds=51.234567,
    )
    return replace(done(one, outcome), **fields)


async def settle_all(ledger: EmulatedLedger, records: list[Record], **fields: Any) -> None:
    """Settle as the daemon does, in batches of the ledger's pace."""
    for start in range(0, len(records), AT_ONCE):
        some = [settled(one, **fields) for one in records[start : start + AT_ONCE]]
        await ledger.settle(f"{start:032x}", some, now=NOW)


class Watch:
    """Stands before what calls the table, and counts from then on what is asked for by one operation."""

    def __init__(self, ledger: EmulatedLedger, operation: str) -> None:
        self.requests: list[Mapping[str, Any]] = []
        self.refused = 0
        self._operation = operation
        self._client = ledger.calls._client
        ledger.calls._client = self

    async def call(self, operation: str, request: Mapping[str, Any]) -> Any:
        """Call an operation."""
        if operation != self._operation:
            return await self._client.call(operation, request)
        self.requests.append(request)
        try:
            return await self._client.call(operation, request)
        except Exception:
            self.refused += 1
            raise


def failed_tries(ledger: EmulatedLedger) -> Callable[[], int]:
    """Count from now on the transactions that a condition refuses."""
    watch = Watch(ledger, "TransactWriteItems")
    return lambda: watch.refused


def batch_reads(ledger: EmulatedLedger) -> Callable[[], int]:
    """Count from now on the items that BatchGetItem is asked for, of which MiniStack tells no units."""
    watch = Watch(ledger, "BatchGetItem")
    return lambda: sum(
        len(one["Keys"]) for request in watch.requests for one in request["RequestItems"].values()
    )


async def sizes(ledger: EmulatedLedger, kind: str) -> list[int]:
    """Tell the sizes of the items of a kind."""
    return [
        units.item_bytes(item)
        for item in await everything(ledger.calls)
        if item["pk"]["S"].startswith(kind)
    ]


async def test_an_object_settled_at_its_first_look_costs_2_1_write_units(
    ledger: EmulatedLedger, meter: Meter
) -> None:
    """
    Seen, settled, reported and its journal entry deleted again: at most 2.1 units of each destination, as computed.
    """
    records = objects(10 * AT_ONCE)
    ids = [one.replica_mark(one.destinations[0].bucket) for one in records]

    with meter.per(len(records)) as seen:
        await ledger.seen(ids)
    with meter.per(len(records)) as settling:
        await settle_all(ledger, records, rev=0)
    mark, entry = max(await sizes(ledger, "trail#")), max(await sizes(ledger, "journal#"))
    entries = len(await sizes(ledger, "journal#"))
    with meter.per(len(records)) as publishing:
        await publish(ledger, await holding(ledger), NOW, parts=())
    with meter.per(1) as idle_publishing:
        await ledger.freeze(
            FrozenWindow(starts_at=NOW + 300, parts=(), deltas=()),
            lease=(await ledger.leases())[0],
        )

    # Claiming shard 0 is a transaction of two items; what is taken along is written and deleted, and the header written
    # twice, once in the commit.
    fixed = idle_publishing[0] + 4 + 2 + 3
    deleting = publishing[0] - fixed / len(records)
    computed, reads = units.Object(mark=mark, entry=entry).first_look
    assert entries == 10
    assert settling[0] + deleting <= 2.1
    assert settling[0] + deleting == pytest.approx(computed, abs=0.01)
    assert seen[0] == settling[1] == 0
    assert of_units(computed * 1e6, reads * 1e6) < 1.5


async def test_two_destinations_of_a_version_share_its_item(
    ledger: EmulatedLedger, meter: Meter
) -> None:
    """The second destination costs next to nothing."""
    records = [record(f"k{at}", to=("dst", "two")) for at in range(AT_ONCE)]
    with meter.per(2 * len(records)) as settling:
        await ledger.settle(
            "f" * 32,
            [replace(done(one, arrived(one), arrived(one, "two")), rev=0) for one in records],
            now=NOW,
        )
    assert settling[0] <= 1.1


async def test_a_parked_object_costs_6_2_write_units_and_3_for_each_further_look(
    ledger: EmulatedLedger, meter: Meter
) -> None:
    """Parked, found, looked at again and settled: each step as computed, and the whole within its target."""
    records = objects(3 * AT_ONCE)
    with meter.per(len(records)) as parking:
        for start in range(0, len(records), AT_ONCE):
            await ledger.park(records[start : start + AT_ONCE])
    size = max(await sizes(ledger, "trail#"))
    with meter.per(len(records)) as finding:
        due = await ledger.due(range(64), now=NOW, limit=1000)
    assert len(due) == len(records)
    with meter.per(len(records)) as again:
        await ledger.reschedule([replace(one, next_look_at=NOW + 60, looks=1) for one in due])
    with meter.per(len(records)) as settling:
        await settle_all(ledger, [replace(one, rev=2) for one in records], rev=2)

    share = 3 / AT_ONCE
    assert size < 1024
    assert parking[0] + share / 3 == pytest.approx(3 + share, abs=0.1)
    assert again[0] == units.write_units(size, index_writes=2) == 3
    assert settling[0] == pytest.approx(3 + share, abs=0.1)
    assert parking[0] + settling[0] + 2 * share / 3 <= 6.2
    assert finding == [0, pytest.approx(64 * 0.5 / len(records))]
    computed, _ = units.Object(record=size).parked(2)
    measured = parking[0] + 2 * again[0] + settling[0] + 2 * share / 3
    assert measured == pytest.approx(computed, abs=0.2)


async def test_a_parked_object_is_read_once_for_each_look(ledger: EmulatedLedger) -> None:
    """Found due, it is read; rescheduled or settled after the look, it is not read again: as computed."""
    records = objects(3 * AT_ONCE)
    every = len(records)
    read = batch_reads(ledger)
    await ledger.seen([one.replica_mark(one.destinations[0].bucket) for one in records])
    await ledger.park(records)
    assert read() == every

    due = await ledger.due(range(64), now=NOW, limit=1000)
    assert read() == 2 * every
    later = [replace(one, next_look_at=NOW + 60, looks=1) for one in due]
    assert set(await ledger.reschedule(later)) == {Rescheduled.RESCHEDULED}
    assert read() == 2 * every

    due = await ledger.due(range(64), now=NOW + 60, limit=1000)
    assert len(due) == every
    assert read() == 3 * every
    await settle_all(ledger, due, rev=2)
    assert read() == 3 * every

    assert await ledger.due(range(64), now=NOW + 3600, limit=1000) == []
    _, reads = units.Object(record=max(await sizes(ledger, "trail#"))).parked(1)
    assert reads == 3 + 2 * 0.5, "and half a unit for each look's share of the index"


async def test_only_the_last_found_due_are_not_read_again(
    ledger: EmulatedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of them is bounded, and good for one write: all others are read when they are written."""
    monkeypatch.setattr(trails, "_REMEMBERED", 4 * AT_ONCE)
    records = objects(5 * AT_ONCE)
    await ledger.park(records)
    due = await ledger.due(range(64), now=NOW, limit=2000)
    assert len(due) == len(records)
    read = batch_reads(ledger)

    later = [replace(one, next_look_at=NOW + 60, looks=1) for one in due]
    assert set(await ledger.reschedule(later)) == {Rescheduled.RESCHEDULED}
    assert read() == AT_ONCE
    tries = failed_tries(ledger)
    await settle_all(ledger, due, rev=2)
    assert read() == AT_ONCE + len(due)
    assert tries() == 0, "which is charged as well"


async def test_an_object_whose_replica_is_told_of_first_costs_its_half_more(
    ledger: EmulatedLedger, meter: Meter
) -> None:
    """
    Noted, seen, settled without a look: one unit for the half, and no try in vain, which would be charged as well.
    """
    records = objects(4 * AT_ONCE)
    early_facts = [
        ReplicaWritten(
            version=replace(one.version, bucket=one.destinations[0].bucket),
            region="us-east-1",
            written_at=NOW - 60,
            size=one.size,
        )
        for one in records
    ]
    with meter.per(len(records)) as noting:
        assert set(await ledger.note(early_facts, now=NOW)) == {Noted.EARLY}
    tries = failed_tries(ledger)
    with meter.per(len(records)) as settling:
        await settle_all(ledger, records, rev=0, exact=True)

    assert noting[0] == 1
    assert settling[0] <= 2.1
    assert tries() == 0


async def test_what_is_said_about_a_failure_costs_no_more_than_a_look(
    ledger: EmulatedLedger, meter: Meter
) -> None:
    """It is found sooner in the index, which is all that changes beside the record itself."""
    records = [replace(one, next_look_at=NOW + 60) for one in objects(AT_ONCE)]
    await ledger.park(records)
    news = [
        ReplicationFailed(
            version=one.version,
            destination=one.destinations[0].bucket,
            reason="DstPutObjNotPermitted",
            rule="rule",
            operation="OBJECT_PUT",
            region="eu-west-1",
            noticed_at=NOW,
        )
        for one in records
    ]

    with meter.per(len(records)) as noting:
        assert set(await ledger.note(news, now=NOW)) == {Noted.JOINED}
    with meter.per(len(records)) as again:
        assert set(await ledger.note(news, now=NOW)) == {Noted.KNOWN}

    assert noting[0] == 3
    assert again[0] == 0


async def test_announcing_a_daemon_is_one_unit(ledger: EmulatedLedger, meter: Meter) -> None:
    """And so are all of them together to whoever reads them."""
    for number in range(20):
        owner = f"host-0123456789ab-{number}"
        with meter.per(1) as announcing:
            await ledger.announce(replace(MEMBER, owner=owner))
        assert announcing == [1.0, 0.0]
    with meter.per(1) as reading:
        assert len(await ledger.members()) == 20
    assert reading == [0.0, 1.0]


async def test_renewing_all_leases_of_a_daemon_is_one_unit(
    ledger: EmulatedLedger, meter: Meter
) -> None:
    """However many of the 64 shards it holds."""
    free = await ledger.leases()
    mine = [await ledger.claim(one, owner="host-0123456789ab") for one in free]
    read = batch_reads(ledger)
    with meter.per(1) as renewing:
        renewed = await ledger.renew([one for one in mine if one is not None])
    assert len(renewed) == 64
    assert renewing == [1.0, 0.0]
    assert read() == 1
    assert units.read_units(max(await sizes(ledger, "leases"))) == 1


async def test_a_lesson_is_one_unit_however_much_is_known(
    ledger: EmulatedLedger, meter: Meter
) -> None:
    """It is written and read as one item of at most a kilobyte; objects cost nothing more by it."""
    path = (Route("company-lake-0123456789", "company-lake-replica-0123456789"),)
    read = batch_reads(ledger)
    for number in range(LESSONS_KNOWN):
        first = (number * MOST_INTERVALS // LESSONS_KNOWN) % 80
        counts = {(at // 40, 8 + (first + at) % 80): 1.0 + at for at in range(MOST_INTERVALS)}
        with meter.per(1) as teaching:
            lesson = Lesson(id=f"{number:08x}", path=path, counts=counts)
            learned = await ledger.teach(lesson, now=NOW, policy=Policy())
        assert teaching == [1.0, 0.0]
        assert read() == 1 + number
    assert len(learned.counts) == MOST_INTERVALS
    assert max(await sizes(ledger, "latencies")) <= 1024
    most = 3600 / SOONEST_SECONDS
    assert units.lessons(seconds=3600) == (most, most)


async def test_the_computed_size_of_an_item_is_that_of_dynamodb(ledger: EmulatedLedger) -> None:
    """At the edge of a kilobyte one byte more is one unit more."""
    for length in (*range(990, 1000), *range(1005, 1015)):
        item = {"pk": {"S": f"size{length}"}, "sk": {"S": "x"}, "body": {"B": b"x" * length}}
        request = {
            "TableName": ledger.calls.table,
            "Item": item,
            "ReturnConsumedCapacity": "TOTAL",
        }
        answer = await ledger.calls._client.call("PutItem", request)
        measured = answer["ConsumedCapacity"]["CapacityUnits"]
        assert measured == units.write_units(units.item_bytes(item))
