"""What happens to each fact, in each part that its bucket plays: counted once, whoever tells of it and how often."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from crrmon.config import Filter
from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.domain.records import Record, State
from fakes import events
from fakes.ledger_flaky import FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import DAY, Rig
from fakes.s3 import NEVER, Stored, Trip

HOUR = 3600.0


def store(
    rig: Rig,
    key: str,
    *,
    bucket: str = "src",
    version: str = "v1",
    size: int = 100,
    arrives: dict[str, float] | None = None,
    fails: dict[str, float] | None = None,
    **more: Any,
) -> float:
    """Write an object that arrives, or fails, at destinations after these seconds; return when it was written."""
    now = rig.clock.now()
    trips = {
        one: Trip(((now + after, Sight.COMPLETED),)) for one, after in (arrives or {}).items()
    }
    trips |= {one: Trip(((now + after, Sight.FAILED),)) for one, after in (fails or {}).items()}
    rig.s3.store(
        ObjectVersion(bucket, key, version),
        Stored(written_at=now, trips=trips, size=size, **more),
    )
    return now


def count(rig: Rig, status: str = "completed", *, of: str = "src", to: str = "dst") -> float:
    """Tell how many outcomes of a kind were counted on a route."""
    return rig.meters.count(catalogue.REPLICATIONS, of, to, status)


async def record(rig: Rig, key: str = "a", version: str = "v1") -> Record:
    """Find the one record of a version."""
    (found,) = (await rig.ledger.find(key, version)).records.values()
    return found


# ---- writes ----


async def test_d5_all_three_channels_count_one_object_with_the_best_of_each(rig: Rig) -> None:
    """D5: CloudTrail, EventBridge and a notification of one write: one object, no look, milliseconds, true size."""
    async with rig.running():
        await asyncio.sleep(0.6)
        at = store(rig, "a", size=5_000_000, arrives={"dst": 3.0})
        await asyncio.sleep(3.2)
        rig.inbox.send(events.replica_notification("a", at=at + 3.0, size=5_000_000))
        await rig.settled()
        rig.inbox.send(events.written("a", at=at, size=7))
        rig.inbox.send(events.native_created("a", at=at, size=5_000_000))
        rig.inbox.send(events.notification("a", at=at, size=5_000_000))
        await rig.settled()
        await rig.until(lambda: count(rig) == 1)
        await asyncio.sleep(HOUR)

    assert count(rig) == 1
    assert rig.meters.count(catalogue.REPLICATED_BYTES, "src", "dst") == 5_000_000
    assert rig.s3.looks == []
    assert rig.meters.count(catalogue.DUPLICATES, "src") == 2
    (mark,) = (await rig.ledger.find("a", "v1")).marks.values()
    assert mark.lower == pytest.approx(3.0, abs=0.002)
    assert mark.lower == mark.upper
    for channel in ("cloudtrail", "eventbridge", "notification"):
        assert len(rig.meters.observed["crrmon_event_delay_seconds", channel]) == 1


async def test_a_parked_object_learns_from_a_better_event() -> None:
    """Parked by CloudTrail, a later notification gives the record its milliseconds and size."""
    rig = Rig(hold_seconds=5)
    rig.s3.rule("src", "dst")
    async with rig.running():
        await asyncio.sleep(0.7)
        at = store(rig, "a", size=4_000, arrives={"dst": HOUR})
        rig.inbox.send(events.written("a", at=at, name="CompleteMultipartUpload"))
        await rig.settled()
        rig.inbox.send(events.notification("a", at=at, size=4_000))
        await rig.settled()
        found = await record(rig)

    assert found.written_at == pytest.approx(at, abs=0.001)
    assert found.size == 4_000
    assert await rig.backlog() == 1


async def test_an_event_of_a_week_ago_is_followed_and_not_counted(rig: Rig) -> None:
    """D6: older than the retention: looked at, only counted as too old, and no delay of others is guessed from it."""
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 1.0})
        rig.clock.leap(7 * DAY)
        rig.inbox.send(events.native_created("a", at=at))
        await rig.settled()
        await rig.until(lambda: rig.meters.count(catalogue.BEYOND_RETENTION, "src") == 1)

    assert count(rig) == 0
    assert rig.delays.largest is None


async def test_an_event_from_the_future_is_counted_once_with_no_latency_below_zero(
    rig: Rig,
) -> None:
    """A clock that is ahead: followed as any other, and its delay is not measured."""
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 1.0}) + 600
        rig.inbox.send(events.notification("a", at=at))
        rig.inbox.send(events.replica_notification("a", at=at - 595))
        await rig.settled()
        await rig.until(lambda: count(rig) == 1)

    latency = rig.meters.observed.get(("crrmon_replication_latency_seconds", "src", "dst"), [])
    assert all(value >= 0 for value, _ in latency)
    assert ("crrmon_event_delay_seconds", "notification") not in rig.meters.observed


async def test_version_id_null_is_a_version_like_any_other(rig: Rig) -> None:
    """The version id `null` is asked for by its name, and counted."""
    async with rig.running():
        at = store(rig, "a", version="null", arrives={"dst": 0.0})
        rig.inbox.send(events.native_created("a", at=at, version="null"))
        rig.inbox.send(events.written("a", at=at, version="null"))
        await rig.settled()
        await rig.until(lambda: count(rig) == 1)

    assert set(rig.s3.looks) == {ObjectVersion("src", "a", "null")}
    assert count(rig) == 1


# ---- replicas, and who wrote what ----


async def test_replica_events_settle_without_a_look() -> None:
    """Every destination's own event seen before the first look: no HEAD at all, exact latency."""
    rig = Rig()
    rig.s3.rule("src", "dst", "far")
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 1.0, "far": 2.0})
        rig.inbox.send(events.replica_notification("a", at=at + 1.0))
        await rig.settled()
        rig.inbox.send(events.replica_notification("a", at=at + 2.0, bucket="far"))
        await rig.settled()
        rig.inbox.send(events.notification("a", at=at))
        await rig.settled()

    assert count(rig) == 1
    assert count(rig, to="far") == 1
    assert rig.s3.looks == []
    assert rig.meters.count(catalogue.LATENCY_EXACT, "src", "far") == 1


async def test_a_parked_object_settles_by_its_replicas_event_without_a_look() -> None:
    """An arrival that completes a parked record makes it due, and it needs no HEAD."""
    rig = Rig(hold_seconds=0)
    rig.s3.rule("src", "dst")
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 20.0})
        rig.inbox.send(events.notification("a", at=at))
        await rig.settled()
        assert await rig.backlog() == 1
        before = len(rig.s3.looks)
        rig.inbox.send(events.replica_notification("a", at=at + 20.0))
        await rig.until(lambda: count(rig) == 1, within=5)

    assert len(rig.s3.looks) == before


async def test_native_events_of_a_bucket_that_is_only_a_destination_are_arrivals(rig: Rig) -> None:
    """No look at the destination: what comes there is replication's, and the source settles by it."""
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 1.0})
        rig.inbox.send(events.native_created("a", at=at + 1.0, bucket="dst"))
        await rig.settled()
        rig.inbox.send(events.native_created("a", at=at))
        await rig.settled()

    assert count(rig) == 1
    assert rig.s3.looks == []
    assert rig.meters.count(catalogue.EVENTS, "replica_written") == 1
    assert rig.meters.count(catalogue.NOT_COVERED, "dst", "no_configuration") == 0


async def test_a_replica_in_a_two_way_bucket_costs_one_look_and_is_noted() -> None:
    """Both source and destination: one HEAD tells a replica from a write, however often the event comes."""
    rig = Rig(buckets=("one", "two"))
    rig.s3.rule("one", "two")
    rig.s3.rule("two", "one")
    async with rig.running():
        await asyncio.sleep(1)
        at = store(rig, "a", bucket="one", arrives={"two": 1.0})
        await asyncio.sleep(2)
        for _ in range(3):
            rig.inbox.send(events.native_created("a", at=at + 1, bucket="two"))
        await rig.settled()
        assert rig.s3.looks == [ObjectVersion("two", "a", "v1")]
        rig.inbox.send(events.native_created("a", at=at, bucket="one"))
        await rig.settled()
        mine = store(rig, "b", bucket="two", arrives={"one": 0.0})
        rig.inbox.send(events.native_created("b", at=mine, bucket="two"))
        await rig.until(lambda: count(rig, of="two", to="one") == 1)

    assert count(rig, of="one", to="two") == 1
    assert rig.meters.count(catalogue.LATENCY_EXACT, "one", "two") == 1
    assert count(rig, of="two", to="one") == 1
    assert await rig.backlog() == 0


async def test_a_replica_outside_the_rules_of_a_two_way_bucket_is_no_uncovered_write() -> None:
    """Rules of its own do not cover the key, but a route leads there: one HEAD, and it is an arrival."""
    rig = Rig(buckets=("one", "two"))
    rig.s3.rule("one", "two")
    rig.s3.rule("two", "one", prefix="back/")
    async with rig.running():
        await asyncio.sleep(1)
        at = store(rig, "a", bucket="one", arrives={"two": 0.0})
        rig.inbox.send(events.native_created("a", at=at, bucket="two"))
        await rig.settled()
        rig.s3.store(ObjectVersion("two", "mine", "v9"), Stored(written_at=rig.clock.now()))
        rig.inbox.send(
            events.native_created("mine", at=rig.clock.now(), bucket="two", version="v9")
        )
        await rig.settled()

    assert rig.meters.count(catalogue.NOT_COVERED, "two", "no_rule") == 1
    assert len(rig.s3.looks) == 2
    assert (await rig.ledger.find("a", "v1")).early_facts


@pytest.mark.parametrize("is_replica", [True, False])
async def test_a_native_event_of_an_unknown_bucket_costs_one_look(*, is_replica: bool) -> None:
    """No rules, and no known route leads there: one HEAD, then it is an arrival, or not covered."""
    rig = Rig()
    async with rig.running():
        at = rig.clock.now()
        if is_replica:
            store(rig, "a", bucket="elsewhere", arrives={"lone": 0.0})
        else:
            rig.s3.store(ObjectVersion("lone", "a", "v1"), Stored(written_at=at))
        for _ in range(2):
            rig.inbox.send(events.native_created("a", at=at, bucket="lone"))
        await rig.settled()
        rig.inbox.send(events.native_created("a", at=at, bucket="lone"))
        await rig.settled()

    assert len(rig.s3.looks) == 1
    assert bool((await rig.ledger.find("a", "v1")).early_facts) is is_replica
    uncovered = rig.meters.count(catalogue.NOT_COVERED, "lone", "no_configuration")
    assert uncovered == (0 if is_replica else 1)


async def test_a_look_that_tells_nothing_is_repeated_where_a_route_leads() -> None:
    """Invariant 3: a possible replica whose HEAD is throttled is kept, and the poller finds out."""
    rig = Rig(buckets=("one", "two"))
    rig.s3.rule("one", "two")
    rig.s3.rule("two", "one", prefix="back/")
    async with rig.running():
        await asyncio.sleep(1)
        at = store(rig, "a", bucket="one", arrives={"two": 0.0})
        rig.s3.away = Sight.THROTTLED
        rig.inbox.send(events.native_created("a", at=at, bucket="two"))
        await rig.settled()
        assert await rig.backlog() == 1
        rig.s3.away = None
        async with asyncio.timeout(HOUR):
            while await rig.backlog():
                await asyncio.sleep(1)

    assert (await rig.ledger.find("a", "v1")).early_facts
    assert count(rig, "given_up", of="two", to="unknown") == 0


async def test_a_destination_that_shows_nothing_is_taken_for_one(rig: Rig) -> None:
    """Another account's bucket, neither its configuration nor its objects to be seen: arrivals, and nothing pends."""
    rig.s3.hidden = {"dst"}
    rig.s3.denied = {"dst"}
    async with rig.running():
        await asyncio.sleep(1)
        for number in range(30):
            at = store(rig, f"a{number}", version=f"v{number}", arrives={"dst": 0.0})
            rig.inbox.send(
                events.native_created(f"a{number}", at=at, bucket="dst", version=f"v{number}")
            )
        await rig.settled()
        async with asyncio.timeout(HOUR):
            while await rig.backlog():
                await asyncio.sleep(1)
        for number in range(30):
            assert (await rig.ledger.find(f"a{number}", f"v{number}")).early_facts

    assert len(rig.s3.looks) <= 40


async def test_halves_are_told_of_however_a_replica_was_found() -> None:
    """Replicas whose source nobody told of are counted as orphaned an hour later, by their event or by a look."""
    rig = Rig(buckets=("src", "one", "two"))
    rig.s3.rule("src", "dst")
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 0.0})
        store(rig, "b", bucket="elsewhere", arrives={"lone": 0.0})
        rig.inbox.send(events.native_created("a", at=at, bucket="dst"))
        rig.inbox.send(events.native_created("b", at=at, bucket="lone"))
        await rig.settled()
        assert {one.bucket for one in rig.orphans._remembered} == {"dst", "lone"}


async def test_what_part_a_bucket_plays_may_be_known_only_while_its_message_is_held() -> None:
    """Its configuration is read at the second try, and shows no rules: one look tells that replication wrote it."""
    rig = Rig(hold_seconds=90.0)
    rig.s3.hidden = {"lone"}
    async with rig.running():
        at = store(rig, "b", bucket="elsewhere", arrives={"lone": 0.0})
        rig.inbox.send(events.native_created("b", at=at, bucket="lone"))
        await asyncio.sleep(30)
        assert rig.inbox.waiting == 1
        rig.s3.hidden = set()
        await rig.settled()
    assert [one.bucket for one in rig.s3.looks] == ["lone"]
    assert rig.meters.count(catalogue.NOT_COVERED, "lone", "no_configuration") == 0
    assert (await rig.ledger.find("b", "v1")).early_facts


async def test_roles_are_known_after_a_restart_from_the_ledgers_routes() -> None:
    """A daemon that never met the source's event knows a destination by the survey."""
    ledger = FlakyLedger(MemoryLedger(shards=4))
    first = Rig(ledger=ledger)
    first.s3.rule("src", "dst")
    async with first.running():
        await asyncio.sleep(30)
    second = Rig(ledger=ledger, s3=first.s3, owner="two", buckets=())
    async with second.running():
        at = store(second, "a", arrives={"dst": 1.0})
        second.inbox.send(events.native_created("a", at=at + 1, bucket="dst"))
        await second.settled()

    assert second.s3.looks == []
    assert (await ledger.find("a", "v1")).early_facts


async def test_a_survey_that_fails_delays_nobody_and_is_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Unreadable configurations: the round is told of once, and the next one reads them."""
    rig = Rig(buckets=("src", "more", "most"))
    rig.s3.rule("src", "dst", timed=True)
    rig.s3.hidden = {"src", "more", "most"}
    async with rig.running():
        await asyncio.sleep(2)
        assert rig.configurations.timed() == frozenset()
        rig.s3.hidden = set()
        await asyncio.sleep(301)
        assert {route.source for route in rig.configurations.timed()} == {"src"}
    assert capsys.readouterr().out.count("survey_incomplete") == 1


# ---- S3's own notices ----


async def test_a_failure_notice_after_the_event_has_it_looked_at_now() -> None:
    """The reason joins the parked record, which is looked at at once: counted at its destination, with the reason."""
    rig = Rig()
    rig.s3.rule("src", "dst", "far")
    async with rig.running():
        at = store(rig, "a", arrives={"far": 1.0}, fails={"dst": 130.0})
        rig.inbox.send(events.written("a", at=at))
        await rig.settled()
        await asyncio.sleep(131 - (rig.clock.now() - at))
        rig.inbox.send(events.notice("a", at=at + 130, requested_at=at))
        await rig.until(lambda: count(rig, "failed") == 1, within=5)
        rig.inbox.send(events.notice("a", at=at + 130, requested_at=at))
        await rig.settled()
        found = await record(rig)

    assert found.state is State.FAILED
    assert rig.meters.count(catalogue.FAILURE_REASONS, "src", "dst", "DstKmsKeyNotFound") == 1
    assert count(rig, "failed", to="unknown") == 0


@pytest.mark.parametrize("before", [True, False])
async def test_a_failure_notice_before_or_without_the_event_is_followed(
    rig: Rig, *, before: bool
) -> None:
    """Nothing known of the version: the notice alone makes a record; its event, come later, adds to it."""
    async with rig.running():
        await asyncio.sleep(0.4)
        at = store(rig, "a", size=12, fails={"dst": 0.0})
        rig.inbox.send(events.notice("a", at=at + 1))
        await rig.until(lambda: count(rig, "failed") == 1)
        if before:
            rig.inbox.send(events.notification("a", at=at, size=12))
            await rig.settled()
        found = await record(rig)
        assert await rig.backlog() == 0

    assert count(rig, "failed") == 1
    assert rig.meters.count(catalogue.FAILURE_REASONS, "src", "dst", "DstKmsKeyNotFound") == 1
    assert [one.failure is not None for one in found.destinations] == [True]
    assert found.written_at == pytest.approx(at if before else at + 1, abs=0.002)


@pytest.mark.parametrize("followed", [True, False])
async def test_t13_a_failure_notice_without_version_id_is_followed(*, followed: bool) -> None:
    """T13: it is about what was written when its request was made; counted once, by its reason, under the true version."""
    rig = Rig()
    rig.s3.rule("src", "dst", "far")
    async with rig.running():
        await asyncio.sleep(0.4)
        at = store(rig, "a", arrives={"far": 1.0}, fails={"dst": 130.0})
        if followed:
            rig.inbox.send(events.notification("a", at=at))
            await rig.settled()
        await asyncio.sleep(131 - (rig.clock.now() - at))
        for _ in range(2):
            rig.inbox.send(events.notice("a", at=at + 130, version=None, requested_at=at))
        await rig.settled()
        await rig.until(lambda: count(rig, "failed") == 1, within=5)
        await asyncio.sleep(60)
        found = await record(rig)

    assert found.state is State.FAILED
    assert found.version == ObjectVersion("src", "a", "v1")
    reasons = {one.bucket: one.failure.reason for one in found.destinations if one.failure}
    assert reasons == {"dst": "DstKmsKeyNotFound"}
    assert rig.meters.count(catalogue.FAILURE_REASONS, "src", "dst", "DstKmsKeyNotFound") == 1
    assert count(rig, "failed") == 1
    assert sum(one.failed_objects for one in await rig.ledger.backlog()) == 1


async def test_t13_a_failure_notice_without_version_id_blames_no_later_version(rig: Rig) -> None:
    """T13: when somebody has written the key again, the one that failed cannot be told: counted as such, nothing else."""
    async with rig.running():
        at = store(rig, "a", fails={"dst": 1.0})
        await asyncio.sleep(60)
        again = store(rig, "a", version="v2", arrives={"dst": 0.0})
        rig.inbox.send(events.notice("a", at=at + 1, version=None, requested_at=at))
        rig.inbox.send(events.notification("a", at=again, version="v2"))
        await rig.settled()
        await rig.until(lambda: count(rig) == 1)
        await asyncio.sleep(60)

    assert count(rig, "failed") == 0
    assert rig.meters.count(catalogue.UNIDENTIFIED, "src") == 1
    assert await rig.backlog() == 0


async def test_t13_a_failure_notice_that_tells_neither_version_nor_time_is_not_acknowledged(
    rig: Rig,
) -> None:
    """T13: nobody can tell which object failed, so a person finds it in the dead-letter queue."""
    async with rig.running():
        lost = rig.inbox.send(events.notice("a", at=rig.clock.now(), version=None))
        await rig.until(lambda: rig.inbox.dead == [lost])

    assert rig.inbox.acknowledged == []


async def test_t13_a_threshold_notice_without_version_id_counts_and_is_no_replica() -> None:
    """T13: it is counted where it was bound for, and nothing is made of it."""
    rig = Rig()
    rig.s3.rule("src", "dst", timed=True)
    async with rig.running():
        at = rig.clock.now()
        for kind in ("OperationMissedThreshold", "OperationReplicatedAfterThreshold"):
            rig.inbox.send(events.notice("a", at=at, version=None, kind=kind))
        await rig.settled()

    for kind in ("missed", "replicated_after"):
        assert rig.meters.count(catalogue.THRESHOLD_NOTICES, "src", "dst", kind) == 1
    assert (await rig.ledger.find("a", "v1")).early_facts == {}


async def test_m3_a_notice_of_a_threshold_counts_once_however_often_it_comes() -> None:
    """M3: while the version is followed, after it was counted, of one unheard of and of one that is not named."""
    rig = Rig()
    rig.s3.rule("src", "dst", timed=True)
    kinds = (
        "OperationMissedThreshold",
        "OperationReplicatedAfterThreshold",
        "OperationNotTracked",
    )
    async with rig.running():
        at = store(rig, "slow", arrives={"dst": NEVER})
        store(rig, "done", arrives={"dst": 0.0})
        for name in ("slow", "done"):
            rig.inbox.send(events.notification(name, at=at))
        await rig.until(lambda: count(rig) == 1)
        await rig.settled()
        for _ in range(3):
            for name in ("slow", "done", "unheard", "unnamed"):
                version = None if name == "unnamed" else "v1"
                for kind in kinds[::2] if name == "slow" else kinds:
                    rig.inbox.send(events.notice(name, at=at + 900, version=version, kind=kind))
            await rig.settled()
            await asyncio.sleep(20)

    for kind, expected in (("missed", 4), ("replicated_after", 3), ("not_tracked", 4)):
        assert rig.meters.count(catalogue.THRESHOLD_NOTICES, "src", "dst", kind) == expected


async def test_m3_a_known_failure_hastens_no_event_that_is_held(rig: Rig) -> None:
    """M3: the event of an open failure comes again and waits for its time; the notice, which comes again, too, hastens none."""
    rig.expect(29.0, 31.0)
    async with rig.running():
        await asyncio.sleep(1)
        at = rig.clock.now()
        names = [f"a{number}" for number in range(10)]
        for name in names:
            store(rig, name, fails={"dst": 0.0})
            rig.inbox.send(events.notice(name, at=at + 1))
        await rig.until(lambda: count(rig, "failed") == 10, within=5)
        await rig.settled()
        for name in names:
            rig.inbox.send(events.notification(name, at=at))
        await asyncio.sleep(3)
        assert len(rig.intake._held) >= 8, "all but the early share"
        looks = len(rig.s3.looks)
        for later in range(3):
            for name in names:
                rig.inbox.send(events.notice(name, at=at + 2 + later))
            await asyncio.sleep(1)
        assert len(rig.s3.looks) <= looks + 2
        assert len(rig.intake._held) >= 8

    assert rig.meters.count(catalogue.FAILURE_REASONS, "src", "dst", "DstKmsKeyNotFound") == 10


async def test_m3_a_deletion_that_comes_again_costs_no_look(rig: Rig) -> None:
    """M3: what is not gone yet is looked at once for the word that it is, not for each."""
    async with rig.running():
        at = store(rig, "a", arrives={"dst": NEVER})
        rig.inbox.send(events.written("a", at=at))
        await rig.settled()
        await asyncio.sleep(1000)
        rig.inbox.send(events.deleted("a", at=at + 1000))
        await rig.settled()
        await asyncio.sleep(2)
        looks = len(rig.s3.looks)
        for _ in range(10):
            rig.inbox.send(events.deleted("a", at=at + 1000))
            await asyncio.sleep(1)
        assert len(rig.s3.looks) <= looks + 1


async def test_a_failure_notice_ends_the_hold_of_its_event(rig: Rig) -> None:
    """While events are held for their first looks, notices have them looked at now; the reasons are joined."""
    rig.expect(29.0, 31.0)
    async with rig.running():
        await asyncio.sleep(1)
        at = rig.clock.now()
        for number in range(10):
            store(rig, f"a{number}", version=f"v{number}", fails={"dst": 0.0})
            rig.inbox.send(events.notification(f"a{number}", at=at, version=f"v{number}"))
        await asyncio.sleep(2)
        assert len(rig.intake._held) >= 8, "all but the early share"
        for number in range(10):
            rig.inbox.send(events.notice(f"a{number}", at=at + 1, version=f"v{number}"))
        await rig.until(lambda: count(rig, "failed") == 10, within=5)
        await rig.settled()

    assert rig.meters.count(catalogue.FAILURE_REASONS, "src", "dst", "DstKmsKeyNotFound") == 10


async def test_a_notice_of_an_object_that_was_counted_changes_nothing(rig: Rig) -> None:
    """A failure told of after all was counted is no failure of it."""
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 0.0})
        rig.inbox.send(events.written("a", at=at))
        await rig.until(lambda: count(rig) == 1)
        rig.inbox.send(events.notice("a", at=at + 5))
        rig.inbox.send(events.notice("a", at=at + 5, destination=None))
        await rig.settled()
        await asyncio.sleep(HOUR)

    assert count(rig, "failed") == 0
    assert await rig.backlog() == 0
    assert not (await rig.ledger.find("a", "v1")).records


async def test_d20_a_restart_reopens_a_failure_and_its_arrival_is_a_repair(rig: Rig) -> None:
    """D20: InitiateReplication makes an open failure pending and due; completed, it counts as repaired, once."""
    name = ObjectVersion("src", "a", "v1")
    async with rig.running():
        at = store(rig, "a", fails={"dst": 0.0})
        rig.inbox.send(events.written("a", at=at))
        await rig.until(lambda: count(rig, "failed") == 1)
        await asyncio.sleep(60)
        now = rig.clock.now()
        rig.s3.store(
            name,
            Stored(
                written_at=at,
                trips={"dst": Trip(((now, Sight.PENDING), (now + 90, Sight.COMPLETED)))},
            ),
        )
        rig.inbox.send(events.restarted("a", at=now))
        await rig.settled()
        assert (await record(rig)).state is State.PENDING
        await rig.until(lambda: count(rig) == 1, within=1200)

    assert rig.meters.count(catalogue.RECOVERED, "src", "dst") == 1
    assert count(rig, "failed") == 1


async def test_t10_batch_replication_of_existing_objects_leaves_no_replica_unmatched(
    rig: Rig,
) -> None:
    """T10: 50 objects of long ago are restarted and arrive, their events in any order: none is evidence of lost events."""
    async with rig.running():
        await asyncio.sleep(1)
        for number in range(50):
            name, at = f"a{number}", rig.clock.now()
            told = [events.restarted(name, at=at), events.replica_notification(name, at=at + 1)]
            for body in reversed(told) if number % 2 else told:
                rig.inbox.send(body)
                await asyncio.sleep(5 * (number % 3))
        rig.inbox.send(events.replica_notification("nobody's", at=rig.clock.now()))
        await rig.settled()
        await asyncio.sleep(1.1 * HOUR)

    assert rig.meters.count(catalogue.REPLICAS_ORPHANED, "dst") == 1
    assert await rig.backlog() == 0
    assert rig.s3.looks == []


async def test_thresholds_are_counted_and_joined() -> None:
    """Missed, then replicated after all: both counted; the object is late, and its end is known without a look."""
    rig = Rig()
    rig.s3.rule("src", "dst", timed=True)
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 1000.0})
        rig.inbox.send(events.notification("a", at=at))
        await rig.settled()
        await asyncio.sleep(1000)
        rig.inbox.send(events.notice("a", at=at + 900, kind="OperationMissedThreshold"))
        await rig.settled()
        assert [one.missed for one in (await record(rig)).destinations] == [True]
        rig.inbox.send(events.notice("a", at=at + 1000, kind="OperationReplicatedAfterThreshold"))
        await rig.until(lambda: count(rig) == 1, within=10)
        rig.inbox.send(events.notice("b", at=at, kind="OperationNotTracked"))
        await rig.settled()

    assert rig.meters.count(catalogue.LATE, "src", "dst") == 1
    for kind in ("missed", "replicated_after", "not_tracked"):
        assert rig.meters.count(catalogue.THRESHOLD_NOTICES, "src", "dst", kind) == 1


# ---- deletions and markers ----


@pytest.mark.parametrize("tell", [events.deleted, events.native_deleted])
async def test_a_version_deleted_before_it_replicated_is_gone(
    rig: Rig, tell: Callable[..., str]
) -> None:
    """Its deletion has it looked at now: gone, an outcome of its own."""
    async with rig.running():
        at = store(rig, "a", arrives={"dst": NEVER}, deleted_at=rig.clock.now() + 400)
        rig.inbox.send(events.written("a", at=at))
        await rig.settled()
        await asyncio.sleep(401)
        name = ObjectVersion("src", "a", "v1")
        looks = rig.s3.looks.count(name)
        rig.inbox.send(tell("a", at=at + 400))
        await rig.until(lambda: count(rig, "gone") == 1, within=5)

    assert rig.s3.looks.count(name) == looks + 1
    assert await rig.backlog() == 0


async def test_markers_are_counted_once_and_never_looked_at() -> None:
    """D21: laid at each destination that replicates them, arrived there; twice told, once counted; no HEAD."""
    rig = Rig()
    rig.s3.rule("src", "dst", markers=True)
    rig.s3.add_rule("src", "far")
    async with rig.running():
        await asyncio.sleep(1)
        at = rig.clock.now()
        for tell in (events.marker, events.native_deleted):
            more = {"marker": True} if tell is events.native_deleted else {}
            rig.inbox.send(tell("a", at=at, version="m1", **more))
            rig.inbox.send(tell("a", at=at, version="m1", bucket="dst", **more))
        rig.inbox.send(events.marker("a", at=at, version="m1", bucket="dst", by_replication=True))
        rig.inbox.send(
            events.notice("b", at=at, version="m2", operation="OBJECT_DELETE", requested_at=at)
        )
        await rig.settled()

    def markers(destination: str, status: str) -> float:
        return rig.meters.count(catalogue.DELETE_MARKERS, "src", destination, status)

    assert markers("dst", "created") == 1
    assert markers("far", "created") == 0
    assert markers("dst", "arrived") == 1
    assert markers("dst", "failed") == 1
    assert rig.s3.looks == []
    assert await rig.backlog() == 0


async def test_a_marker_in_a_two_way_bucket_that_nobody_signed_is_only_told_of() -> None:
    """EventBridge does not say who laid it: in a bucket that is both, it counts as neither laid nor arrived."""
    rig = Rig(buckets=("one", "two"))
    rig.s3.rule("one", "two", markers=True)
    rig.s3.rule("two", "one", markers=True)
    async with rig.running():
        await asyncio.sleep(1)
        at = rig.clock.now()
        rig.inbox.send(events.native_deleted("a", at=at, bucket="one", version="m", marker=True))
        rig.inbox.send(events.marker("a", at=at, bucket="two", version="m", by_replication=True))
        await rig.settled()

    assert rig.meters.count(catalogue.EVENTS, "delete_marker_ambiguous") == 1
    assert rig.meters.count(catalogue.DELETE_MARKERS, "one", "two", "created") == 0
    assert rig.meters.count(catalogue.DELETE_MARKERS, "one", "two", "arrived") == 1


# ---- choice and coverage ----


async def test_what_is_excluded_is_acknowledged_and_counted_as_such() -> None:
    """Facts of excluded sources end at once; replicas too, where all that leads to their bucket is excluded."""
    rig = Rig(selection=Filter(exclude=("src/tmp/", "dst")))
    rig.s3.rule("src", "dst")
    async with rig.running():
        await asyncio.sleep(1)
        at = store(rig, "a", arrives={"dst": 0.0})
        rig.inbox.send(events.written("tmp/x", at=at))
        rig.inbox.send(events.deleted("tmp/x", at=at))
        rig.inbox.send(events.notice("tmp/x", at=at))
        rig.inbox.send(events.marker("tmp/x", at=at))
        rig.inbox.send(events.native_created("tmp/x", at=at, bucket="dst"))
        await rig.settled()
        assert rig.meters.count(catalogue.EVENTS, "excluded") == 5
        # The destination is excluded as a source; what arrives there of others is not.
        rig.inbox.send(events.replica_notification("a", at=at))
        rig.inbox.send(events.notification("a", at=at))
        await rig.settled()

    assert count(rig) == 1
    assert rig.s3.looks == []
    assert "tmp" not in str(rig.ledger.calls)


async def test_an_excluded_two_way_bucket_still_tells_of_arrivals() -> None:
    """Its own writes are left out, its replicas of a followed source are not: one HEAD tells them apart."""
    rig = Rig(buckets=("one", "two"), selection=Filter(include=("one",)))
    rig.s3.rule("one", "two")
    rig.s3.rule("two", "one")
    async with rig.running():
        await asyncio.sleep(1)
        at = store(rig, "a", bucket="one", arrives={"two": 0.0})
        store(rig, "b", bucket="two", version="v2", arrives={"one": 0.0})
        rig.inbox.send(events.native_created("a", at=at, bucket="two"))
        rig.inbox.send(events.native_created("b", at=at, bucket="two", version="v2"))
        await rig.settled()

    assert (await rig.ledger.find("a", "v1")).early_facts
    assert rig.meters.count(catalogue.EVENTS, "excluded") == 1
    assert count(rig, of="two", to="one") == 0


async def test_d12_what_is_not_covered_counts_once_by_cause() -> None:
    """D12: one version told of by two channels, twice: not covered once, with its cause."""
    rig = Rig(buckets=("src", "bare"))
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        at = store(rig, "out/a")
        for _ in range(2):
            rig.inbox.send(events.written("out/a", at=at))
            rig.inbox.send(events.notification("out/a", at=at))
            rig.inbox.send(events.written("b", at=at, bucket="bare"))
            await rig.settled()

    assert rig.meters.count(catalogue.NOT_COVERED, "src", "no_rule") == 1
    assert rig.meters.count(catalogue.NOT_COVERED, "bare", "no_configuration") == 1
    assert rig.s3.looks == []


@pytest.mark.parametrize(
    ("more", "tagged", "cause"),
    [
        ({"storage_class": "GLACIER"}, False, "storage_class"),
        ({"encryption": "aws:kms"}, False, "encryption"),
        ({}, True, "tag_filter"),
        ({}, False, "no_status"),
    ],
)
async def test_why_a_covered_key_has_no_status(
    more: dict[str, str], cause: str, *, tagged: bool
) -> None:
    """A rule selects the key and S3 shows no status: counted by what the look shows of the cause."""
    rig = Rig()
    rig.s3.rule("src", "dst", tagged=tagged)
    async with rig.running():
        at = store(rig, "a", **more)
        rig.inbox.send(events.written("a", at=at))
        rig.inbox.send(events.notification("a", at=at))
        await rig.settled()
        await rig.until(lambda: rig.meters.count(catalogue.NOT_COVERED, "src", cause) == 1)
    assert await rig.backlog() == 0


# ---- destinations that nobody can be sure of ----


@pytest.mark.own_rounds
@pytest.mark.parametrize("late", [False, True], ids=["before-the-look", "after-it"])
async def test_a_tag_filters_destination_that_denies_counts_by_its_replica_whenever_told(
    rig: Rig, *, late: bool
) -> None:
    """Once at each destination, whichever comes first, and however often it is told; no look or record for that."""
    rig.s3.add_rule("src", "far", tagged=True)
    rig.s3.denied.add("far")
    replicas = [
        events.replica_notification("a", at=rig.clock.now() + after, bucket=bucket)
        for bucket, after in (("dst", 3.0), ("far", 5.0))
    ]
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 3.0, "far": 5.0})
        if not late:
            await asyncio.sleep(6)
            for one in replicas:
                rig.inbox.send(one)
            await rig.settled()
        rig.inbox.send(events.written("a", at=at))
        await rig.settled()
        await rig.until(lambda: count(rig) == 1)
        looks = len(rig.s3.looks)
        for one in replicas * 2:
            rig.inbox.send(one)
        await rig.settled()
        rig.inbox.send(events.native_created("a", at=at))
        rig.inbox.send(events.notification("a", at=at))
        await rig.settled()
        assert await rig.backlog() == 0
        await asyncio.sleep(3 * HOUR)

    assert (count(rig), count(rig, to="far")) == (1, 1)
    assert len(rig.s3.looks) == looks
    assert rig.meters.count(catalogue.DUPLICATES, "src") == 2
    assert rig.meters.count(catalogue.LATENCY_EXACT, "src", "far") == 1
    ((took, weight),) = rig.meters.observed["crrmon_replication_latency_seconds", "src", "far"]
    assert (took, weight) == (pytest.approx(5, rel=0.2), 1)
    assert not [name for name, *_ in rig.meters.counters if "orphaned" in name]


@pytest.mark.own_rounds
@pytest.mark.parametrize("parked", [False, True], ids=["held", "parked"])
async def test_a_tag_filters_destination_that_denies_counts_by_its_replica_told_during_a_look(
    rig: Rig, *, parked: bool
) -> None:
    """The look knows nothing of it and closes the version, held or parked; the arrival is counted all the same."""
    rig.s3.add_rule("src", "far", tagged=True)
    rig.s3.denied.add("far")
    rig.s3.slow = 5.0
    arrives = 60.0 if parked else 3.0
    async with rig.running():
        at = store(rig, "a", arrives={"dst": arrives, "far": 5.0})
        rig.inbox.send(events.written("a", at=at))
        await rig.until(lambda: len(rig.s3.looks) >= 1 and rig.clock.now() > at + arrives)
        looks = len(rig.s3.looks)
        await rig.until(lambda: len(rig.s3.looks) > looks - (not parked), within=HOUR)
        rig.inbox.send(events.replica_notification("a", at=at + 5, bucket="far"))
        await rig.until(lambda: count(rig) == 1)
        await rig.until(lambda: count(rig, to="far") == 1)
        await rig.settled()
        trail = await rig.ledger.find("a", "v1")

    assert (count(rig), count(rig, to="far")) == (1, 1)
    assert not trail.records
    assert not trail.early_facts


async def test_an_arrival_told_before_its_version_is_identified_is_counted(rig: Rig) -> None:
    """The event of the write names no version, and the destination that only a tag filter selects denies looks."""
    rig.s3.add_rule("src", "far", tagged=True)
    rig.s3.denied.add("far")
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 3.0, "far": 5.0})
        await asyncio.sleep(6)
        rig.inbox.send(events.replica_notification("a", at=at + 5, bucket="far"))
        await rig.settled()
        rig.inbox.send(events.written("a", at=at, version=None))
        await rig.until(lambda: count(rig) == 1)
        await rig.until(lambda: count(rig, to="far") == 1)
        await rig.settled()
        assert await rig.backlog() == 0

    assert (count(rig), count(rig, to="far")) == (1, 1)


async def test_what_was_counted_somewhere_is_not_counted_where_its_replica_tells() -> None:
    """Two tag filters, neither destination readable: one arrival is one, and duplicates end at the marks."""
    rig = Rig()
    rig.s3.rule("src", "dst", "far", tagged=True)
    rig.s3.denied |= {"dst", "far"}
    async with rig.running():
        at = store(rig, "a", arrives={"far": 3.0})
        rig.inbox.send(events.written("a", at=at))
        await rig.settled()
        await rig.until(lambda: count(rig, to="unknown") == 1)
        looks = len(rig.s3.looks)
        rig.inbox.send(events.replica_cloudtrail("a", at=at + 3, bucket="far"))
        await rig.settled()
        rig.inbox.send(events.native_created("a", at=at))
        rig.inbox.send(events.replica_notification("a", at=at + 3, bucket="far"))
        await rig.settled()
        assert await rig.backlog() == 0
        await asyncio.sleep(3 * HOUR)

    assert (count(rig, to="unknown"), count(rig, to="dst"), count(rig, to="far")) == (1, 0, 0)
    assert len(rig.s3.looks) == looks
    assert not [name for name, *_ in rig.meters.counters if "orphaned" in name]


async def test_a_repair_or_one_that_is_too_old_is_still_one_when_told_late(rig: Rig) -> None:
    """What closed the version says so, and no latency is told of either."""
    rig.s3.add_rule("src", "far", tagged=True)
    rig.s3.denied.add("far")
    async with rig.running():
        at = store(rig, "mended", arrives={"dst": 3.0, "far": 5.0})
        mended = ((at + 5, Sight.FAILED), (at + 600, Sight.PENDING), (at + 700, Sight.COMPLETED))
        trips = {"dst": Trip(((at + 3, Sight.COMPLETED),)), "far": Trip(mended)}
        rig.s3.store(ObjectVersion("src", "mended", "v1"), Stored(written_at=at, trips=trips))
        rig.inbox.send(events.written("mended", at=at))
        await rig.until(lambda: count(rig) == 1)
        while (await rig.ledger.find("mended", "v1")).records:
            await asyncio.sleep(600)
        rig.inbox.send(events.replica_notification("mended", at=at + 700, bucket="far"))
        await rig.settled()
        assert rig.meters.count(catalogue.RECOVERED, "src", "far") == 1
        assert count(rig, to="far") == 1

        at = store(rig, "old", arrives={"dst": 3.0, "far": 5.0})
        rig.clock.leap(7 * DAY)
        rig.inbox.send(events.written("old", at=at))
        await rig.settled()
        await rig.until(lambda: rig.meters.count(catalogue.BEYOND_RETENTION, "src") == 1)
        rig.inbox.send(events.replica_notification("old", at=at + 5, bucket="far"))
        await rig.settled()

    assert rig.meters.count(catalogue.BEYOND_RETENTION, "src") == 2
    assert count(rig, to="far") == 1
    assert rig.meters.count(catalogue.LATENCY_EXACT, "src", "far") == 0


# ---- what the watermark asks ----


async def test_what_is_held_or_was_left_undeleted_holds_the_waterline() -> None:
    """Watermarks: the write's time while held, a guess for what nobody could read, nothing once it is durable."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="in/")
    async with rig.running():
        await asyncio.sleep(1)
        assert rig.intake.held_since is None
        at = rig.clock.now()
        await asyncio.sleep(20)
        rig.inbox.send(events.written("out/a", at=at))
        await rig.until(lambda: len(rig.intake._held) == 1)
        assert rig.intake.held_since == int(at)
        assert rig.delays.largest == pytest.approx(20, abs=1.5)
        await rig.settled()
        assert rig.intake.held_since is None

        sent_at = rig.clock.now()
        rig.inbox.send("{")
        await asyncio.sleep(1)
        assert rig.intake.held_since == pytest.approx(sent_at - 20, abs=2)
        await rig.until(lambda: bool(rig.inbox.dead))
        assert rig.intake.held_since is not None
        await asyncio.sleep(1800)
        assert rig.intake.held_since is None
        await asyncio.sleep(7 * HOUR)
        assert rig.delays.largest == pytest.approx(20, abs=1.5)


async def test_failures_are_logged_once_a_minute_and_bucket(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hundred failures in a minute make two lines: the first, and all the others together."""
    async with rig.running():
        for number in range(100):
            at = store(rig, f"a{number}", version=f"v{number}", fails={"dst": 0.0})
            rig.inbox.send(events.notice(f"a{number}", at=at, version=f"v{number}"))
        await rig.until(lambda: count(rig, "failed") == 100)
        await asyncio.sleep(120)

    lines = [line for line in capsys.readouterr().out.splitlines() if "replication_failed" in line]
    assert len(lines) == 2
    assert "DstKmsKeyNotFound" in lines[1]


async def test_a_write_of_the_day_after_tomorrow_that_no_rule_covers_is_not_waited_for() -> None:
    """An event's time is believed as far as clocks differ: no configuration could be newer than that write."""
    rig = Rig()
    rig.s3.rule("src", "dst", prefix="data/")
    async with rig.running():
        store(rig, "a")
        rig.inbox.send(events.notification("a", at=rig.clock.now() + 2 * DAY))
        await rig.settled()
        await rig.until(lambda: rig.meters.count(catalogue.NOT_COVERED, "src", "no_rule") == 1)


async def test_what_s3_says_while_the_configuration_is_unreadable_is_kept() -> None:
    """The destination and the reason of a failure join the record when its routes are known; counted once."""
    rig = Rig()
    rig.s3.rule("src", "aaa", "bbb")
    rig.s3.unreadable = True
    async with rig.running():
        at = store(rig, "a", arrives={"bbb": 1.0}, fails={"aaa": 2.0})
        rig.inbox.send(events.notification("a", at=at))
        for _ in range(3):
            rig.inbox.send(
                events.notice("a", at=at + 2, destination="aaa", reason="DstKmsKeyNotFound")
            )
        await rig.settled()
        rig.s3.unreadable = False
        await rig.until(lambda: count(rig, "failed", to="aaa") == 1)

    assert count(rig, "failed", to="unknown") == 0
    assert rig.meters.count(catalogue.FAILURE_REASONS, "src", "aaa", "DstKmsKeyNotFound") == 1
    (failure,) = [one.failure for one in (await record(rig)).destinations if one.bucket == "aaa"]
    assert failure is not None
    assert failure.reason == "DstKmsKeyNotFound"


async def test_a_version_that_was_parked_without_routes_is_not_parked_again_once_it_is_settled() -> (
    None
):
    """A later event of it finds its marks."""
    rig = Rig(hold_seconds=1.0)
    rig.s3.rule("src", "dst")
    rig.s3.unreadable = True
    async with rig.running():
        at = store(rig, "a", arrives={"dst": 0.0})
        rig.inbox.send(events.notification("a", at=at))
        await rig.settled()
        rig.s3.unreadable = False
        await rig.until(lambda: count(rig) == 1)
        rig.inbox.send(events.written("a", at=at))
        await rig.settled()
        assert (await rig.ledger.find("a", "v1")).records == {}
    assert count(rig) == 1
