"""What the predecessor of this monitor got wrong, by the numbers of its known defects: here it comes out right."""

import asyncio

from crrmon.domain import catalogue
from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import Cause, Fate
from fakes.events import marker, notice, replica_cloudtrail, written
from fakes.rig import DAY, WINDOW, Rig
from fakes.s3 import Stored, Trip

DONE = Fate.COMPLETED.value
FAILED = Fate.FAILED.value
WEEK = 7 * DAY


def _rig() -> Rig:
    rig = Rig()
    rig.s3.rule("src", "dst")
    return rig


def _completed(rig: Rig, destination: str = "dst") -> float:
    return rig.meters.count(catalogue.REPLICATIONS, "src", destination, DONE)


def _failed(rig: Rig, destination: str = "dst") -> float:
    return rig.meters.count(catalogue.REPLICATIONS, "src", destination, FAILED)


async def test_d2_a_failed_call_is_not_taken_for_a_write() -> None:
    """It is acknowledged, and nothing is looked at."""
    async with _rig().running() as rig:
        rig.inbox.send(written("denied", at=rig.clock.now(), errorCode="AccessDenied"))
        await rig.until(lambda: not rig.inbox.waiting)
        assert rig.s3.looks == []


async def test_d3_a_record_without_parameters_stops_nobody() -> None:
    """It is acknowledged, or left for the dead-letter queue; what comes with it is counted."""
    async with _rig().running() as rig:
        rig.inbox.send(written("?", at=rig.clock.now(), requestParameters=None, resources=None))
        rig.put("good")
        await rig.until(lambda: _completed(rig) == 1)


async def test_d4_delete_markers_are_counted_as_operations_of_their_own() -> None:
    """Laid and arrived, once each however often told, and never looked at."""
    rig = _rig()
    rig.s3.rule("src", "dst", markers=True)
    async with rig.running():
        at = rig.clock.now()
        for _ in range(2):
            rig.inbox.send(marker("gone", at=at))
            rig.inbox.send(marker("gone", at=at + 5, bucket="dst", by_replication=True))
        await rig.until(lambda: not rig.inbox.waiting)
        assert rig.meters.count(catalogue.DELETE_MARKERS, "src", "dst", "created") == 1
        assert rig.meters.count(catalogue.DELETE_MARKERS, "src", "dst", "arrived") == 1
        assert rig.s3.looks == []


async def test_d5_the_same_event_twice_counts_a_failure_once() -> None:
    """Together or an hour later, it is one failure."""
    async with _rig().running() as rig:
        at = rig.clock.now()
        rig.put("bad", then=Sight.FAILED, copies=2)
        await rig.until(lambda: not rig.inbox.waiting)
        await asyncio.sleep(3600)
        rig.inbox.send(written("bad", at=at))
        await asyncio.sleep(3 * WINDOW)
        assert not rig.inbox.waiting
        assert _failed(rig) == 1
        assert rig.sink.total(catalogue.CW_FAILED.name, "src") == 1


async def test_d6_an_old_event_is_not_counted_as_a_fresh_one() -> None:
    """A week old, it is looked at, and counted as too old only."""
    async with _rig().running() as rig:
        at = rig.clock.now() - WEEK
        rig.s3.store(
            ObjectVersion("src", "old", "v1"),
            Stored(written_at=at, trips={"dst": Trip(((at + 5, Sight.COMPLETED),))}),
        )
        rig.inbox.send(written("old", at=at))
        await rig.until(lambda: rig.meters.count(catalogue.BEYOND_RETENTION, "src") == 1)
        await asyncio.sleep(3 * WINDOW)
        assert _completed(rig) == 0
        assert rig.sink.total(catalogue.CW_OBJECTS.name, "src", "dst") == 0


async def test_d7_an_overwritten_version_keeps_its_own_status() -> None:
    """The older version fails, the newer one completes, and both are counted."""
    async with _rig().running() as rig:
        rig.put("twice", takes=30, then=Sight.FAILED, version="v1")
        rig.put("twice", takes=1, version="v2")
        await rig.until(lambda: _completed(rig) == 1 and _failed(rig) == 1)
        assert {one.version_id for one in rig.s3.looks} == {"v1", "v2"}


async def test_d12_an_object_without_status_is_counted_by_its_cause() -> None:
    """Outside of every rule and selected without a status are two things, and neither is a success."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        rig.put("in/silent", then=Sight.NO_STATUS)
        rig.put("out/side")
        count = rig.meters.count
        await rig.until(lambda: count(catalogue.NOT_COVERED, "src", Cause.NO_STATUS.value) == 1)
        await rig.until(lambda: count(catalogue.NOT_COVERED, "src", Cause.NO_RULE.value) == 1)
        assert _completed(rig) == 0


async def test_d15_every_destination_is_counted() -> None:
    """Two destinations make two, each with its own exact latency."""
    rig = Rig()
    rig.s3.rule("src", "dst", "far")
    async with rig.running():
        at = rig.clock.now()
        rig.put("both", takes=40)
        rig.inbox.send(replica_cloudtrail("both", at=at + 10))
        rig.inbox.send(replica_cloudtrail("both", at=at + 40, bucket="far"))
        await rig.until(lambda: _completed(rig) == 1 and _completed(rig, "far") == 1)
        for bucket in ("dst", "far"):
            assert rig.meters.count(catalogue.LATENCY_EXACT, "src", bucket) == 1


async def test_d17_a_replica_does_not_hide_the_failure_of_another_destination() -> None:
    """One arrives, the other fails: both are counted, whichever is told first."""
    for first in ("replica", "failure"):
        rig = Rig()
        rig.s3.rule("src", "dst", "far")
        async with rig.running():
            at = rig.clock.now()
            told = [
                replica_cloudtrail("half", at=at + 10),
                notice("half", at=at + 11, destination="far", requested_at=at),
            ]
            trips = {
                "dst": Trip(((at + 10, Sight.COMPLETED),)),
                "far": Trip(((at + 11, Sight.FAILED),)),
            }
            rig.s3.store(ObjectVersion("src", "half", "v1"), Stored(written_at=at, trips=trips))
            rig.inbox.send(written("half", at=at))
            await asyncio.sleep(15)
            for body in told if first == "replica" else reversed(told):
                rig.inbox.send(body)
                await asyncio.sleep(20)
            await rig.until(lambda: _completed(rig) == 1 and _failed(rig, "far") == 1)  # noqa: B023 - awaited here
            assert _completed(rig, "far") == 0
            assert rig.sink is not None
            records, _ = await rig.ledger.failures()
            assert [one.version.key for one in records] == ["half"]


async def test_d18_a_denied_look_erases_nothing() -> None:
    """An open failure stays one while every look is denied, and is repaired when they are allowed again."""
    async with _rig().running() as rig:
        name = rig.put("bad", then=Sight.FAILED)
        await rig.until(lambda: _failed(rig) == 1)
        rig.s3.denied.add("src")
        await asyncio.sleep(4 * 3600)
        records, _ = await rig.ledger.failures()
        assert [one.version for one in records] == [name]
        rig.s3.denied.clear()
        rig.s3.fates[name].then = Sight.COMPLETED
        await rig.until(
            lambda: rig.meters.count(catalogue.RECOVERED, "src", "dst") == 1, within=DAY
        )


async def test_d19_a_look_that_reaches_nobody_erases_nothing() -> None:
    """A bucket that does not answer, perhaps in a region out of reach, keeps its pending objects."""
    async with _rig().running() as rig:
        rig.s3.dead.add("src")
        rig.put("far away", takes=5)
        await asyncio.sleep(3600)
        assert await rig.backlog() == 1
        rig.s3.dead.clear()
        await rig.until(lambda: _completed(rig) == 1)


async def test_d21_a_failure_is_reported_in_the_window_in_which_it_is_found() -> None:
    """Written hours before, it shows where an alarm looks: now."""
    async with _rig().running() as rig:
        name = rig.put("late", takes=5 * 3600, then=Sight.FAILED)
        await rig.until(lambda: _failed(rig) == 1, within=DAY)
        found_at = rig.clock.now()
        assert found_at >= rig.s3.fates[name].done_at
        await asyncio.sleep(3 * WINDOW)
        told = rig.sink.values(catalogue.CW_FAILED.name, "src")
        (starts_at,) = [at for at, value in told if value]
        assert starts_at <= found_at < starts_at + WINDOW + 1


async def test_d23_what_completes_later_is_measured_and_let_go() -> None:
    """Found by a later look, it has a latency, is counted, and leaves no record."""
    async with _rig().running() as rig:
        name = rig.put("slow", takes=1200)
        await rig.until(lambda: _completed(rig) == 1)
        assert await rig.backlog() == 0
        trail = await rig.ledger.find(name.key, name.version_id)
        assert trail.records == {}
        (mark,) = trail.marks.values()
        assert mark.lower is not None
        assert mark.upper is not None
        assert mark.lower <= 1200 <= mark.upper
        await asyncio.sleep(3 * WINDOW)
        assert rig.sink.total(catalogue.CW_OBJECTS.name, "src", "dst") == 1


async def test_d33_all_rules_are_read() -> None:
    """The first one is disabled, and the others go to two places by prefix."""
    rig = Rig()
    rig.s3.rule("src", "off")
    rig.s3.add_rule("src", "dst", prefix="a/")
    rig.s3.add_rule("src", "far", prefix="b/")
    configuration = rig.s3.configurations["src"]
    assert configuration is not None
    configuration["Rules"][0]["Status"] = "Disabled"
    async with rig.running():
        rig.put("a/1")
        rig.put("b/1")
        rig.put("c/1")
        await rig.until(lambda: _completed(rig) == 1 and _completed(rig, "far") == 1)
        await rig.until(lambda: not rig.inbox.waiting)
        assert _completed(rig, "off") == 0
        assert rig.meters.count(catalogue.NOT_COVERED, "src", Cause.NO_RULE.value) == 1


async def test_d47_a_destination_in_another_account_that_cannot_be_read_is_counted() -> None:
    """The source's status, S3's notices and replicas' events tell enough; what nobody can tell is called unknown."""
    rig = Rig()
    rig.s3.rule("src", "dst", "far")
    rig.s3.denied |= {"dst", "far"}
    rig.s3.hidden |= {"dst", "far"}
    async with rig.running():
        at = rig.clock.now()
        rig.put("well", takes=20)
        rig.put("named", takes=20, then=Sight.FAILED)
        rig.put("unnamed", takes=20, then=Sight.FAILED)
        await asyncio.sleep(20)
        rig.inbox.send(notice("named", at=at + 20, destination="far", requested_at=at))
        await rig.until(lambda: _completed(rig) == 1 and _completed(rig, "far") == 1)
        await rig.until(lambda: _failed(rig, "far") == 1)
        await rig.until(lambda: _failed(rig, UNKNOWN_DESTINATION) == 1)
        await asyncio.sleep(3 * WINDOW)
        assert rig.sink.total(catalogue.CW_FAILED.name, "src") == 2
