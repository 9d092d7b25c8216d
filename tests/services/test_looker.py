"""Looks at sources and destinations: what is asked where, what is remembered of a refusal, and what it is told as."""

import asyncio
from collections.abc import Sequence, Sized

import pytest
import structlog
from msgspec.structs import replace

from crrmon.domain import catalogue
from crrmon.domain.decide import TROUBLES_TO_GIVE_UP
from crrmon.domain.decisions import Settle, Wait
from crrmon.domain.events.facts import Channel
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate, Latency
from crrmon.domain.pacing import Pacer
from crrmon.domain.policy import Policy
from crrmon.domain.recent import MOST
from crrmon.domain.records import Destination, Record
from crrmon.domain.stores import BucketStores
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.throttled_log import KINDS
from crrmon.services.tracking.access_denials import (
    DENIED_IN_A_ROW,
    HOLD_LONGEST_SECONDS,
    LINES,
    LOOKS_PER_SECOND,
    TRICKLE_SECONDS,
)
from crrmon.services.tracking.destination_looks import (
    DENIED_DESTINATION_SECONDS,
    UNREACHABLE_DESTINATION_SECONDS,
)
from crrmon.services.tracking.looker import Looker
from fakes.clock import LoopClock
from fakes.meters import FakeMeters
from fakes.runtime import runtime
from fakes.s3 import FakeS3, Stored, Trip

DAY = 86_400.0
ONE, TWO = Destination("one", owner="222222222222"), Destination("two")
TAGGED = Destination("tagged", certain=False)


class Desk:
    """A looker on buckets that a test fills."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.meters = FakeMeters()
        self.s3 = FakeS3(self.clock)
        self.health = Dependency("s3", clock=self.clock)
        daemon = runtime(self.clock, meters=self.meters)
        self.pacer = Pacer(Policy())
        self.looker = Looker(
            self.s3,
            daemon,
            health=self.health,
            stores=BucketStores(),
            pacer=self.pacer,
            concurrency=32,
            per_bucket_per_second=500.0,
            give_up_after=14 * DAY,
        )

    def put(
        self,
        *destinations: Destination,
        key: str = "a/key",
        steps: Sequence[tuple[float, Sight]] = ((0.0, Sight.COMPLETED),),
        **trips: Sequence[tuple[float, Sight]],
    ) -> Record:
        """Write a version now, whose ways go as told, in seconds from now; return its record."""
        now = self.clock.now()
        version = ObjectVersion("src", key, "v1")
        ways = {
            one.bucket: Trip(
                tuple((now + after, sight) for after, sight in trips.get(one.bucket, steps))
            )
            for one in destinations
        }
        self.s3.store(version, Stored(written_at=now, trips=ways))
        return Record(
            version=version,
            region="eu-west-1",
            written_at=now,
            next_look_at=now,
            destinations=destinations,
        )

    async def settle(self, record: Record) -> Settle:
        decision = await self.looker.consider(record)
        assert isinstance(decision, Settle)
        return decision

    async def wait(self, record: Record) -> Record:
        decision = await self.looker.consider(record)
        assert isinstance(decision, Wait)
        return decision.record

    def asked(self, bucket: str) -> int:
        """Count the looks at a bucket."""
        return sum(one.bucket == bucket for one in self.s3.looks)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def fates(decision: Settle) -> list[tuple[Fate, str]]:
    return [(one.fate, one.route.destination) for one in decision.settlement.outcomes]


NEVER = ()
FAILS = ((0.0, Sight.FAILED),)


# ---- destinations ----


async def test_a_failure_is_told_apart_at_the_destinations(desk: Desk) -> None:
    """FAILED with two destinations: HEADs there, counted as such, show at which one it failed."""
    record = desk.put(ONE, TWO, two=FAILS)

    decision = await desk.settle(record)

    assert fates(decision) == [
        (Fate.COMPLETED, "one"),
        (Fate.FAILED, ""),
        (Fate.FAILED_THERE, "two"),
    ]
    assert decision.settlement.outcomes[1].failures == (("two", ""),)
    assert desk.meters.count(catalogue.HEAD_REQUESTS, "one", "destination", "replica") == 1
    assert desk.meters.count(catalogue.HEAD_REQUESTS, "two", "destination", "gone") == 1
    assert desk.meters.count(catalogue.HEAD_REQUESTS, "src", "source", "failed") == 1
    requests = catalogue.HEAD_REQUESTS.name
    assert (
        sum(count for (name, *_), count in desk.meters.counters.items() if name == requests) == 3
    )


async def test_a_destination_in_another_account_is_asked_as_that_account(desk: Desk) -> None:
    """The rule's account is the owner that a HEAD expects; another one's bucket of that name tells nothing."""
    desk.s3.owners["one"] = "222222222222"
    desk.s3.owners["two"] = "333333333333"
    stranger = replace(TWO, owner="444444444444")
    record = desk.put(ONE, stranger, two=FAILS)

    decision = await desk.settle(record)

    assert fates(decision)[:2] == [(Fate.COMPLETED, "one"), (Fate.FAILED, "")]
    assert desk.meters.count(catalogue.HEAD_REQUESTS, "two", "destination", "denied") == 1


async def test_a_tag_filters_destination_is_asked_when_it_completed(desk: Desk) -> None:
    """COMPLETED proves the certain one; the other counts because it has the object."""
    assert fates(await desk.settle(desk.put(ONE, TAGGED))) == [
        (Fate.COMPLETED, "one"),
        (Fate.COMPLETED, "tagged"),
    ]


async def test_destinations_are_asked_at_the_same_time(desk: Desk) -> None:
    """One that takes until its time-out does not make the others wait."""
    desk.s3.dead = {"one", "two"}
    began = asyncio.get_running_loop().time()

    await desk.settle(desk.put(ONE, TWO, steps=FAILS))

    assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.1)


async def test_a_destination_that_denies_is_left_alone_for_an_hour(desk: Desk) -> None:
    """One HEAD and one log line an hour, that says what to grant; S3 and the source are none the worse."""
    desk.s3.denied.add("one")
    with structlog.testing.capture_logs() as logs:
        for number in range(200):
            decision = await desk.settle(desk.put(ONE, TWO, key=f"{number}", steps=FAILS))
            assert decision.settlement.outcomes[-1].failures == ()
    (line,) = [one for one in logs if one["event"] == "destination_heads_suspended"]
    assert "s3:GetObjectVersion" in line["advice"]
    assert line["bucket"] == "one"
    assert desk.asked("one") == 1
    assert not desk.health.away
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "one") is None

    await asyncio.sleep(DENIED_DESTINATION_SECONDS)
    await desk.settle(desk.put(ONE, TWO, steps=FAILS))
    assert desk.asked("one") == 2


async def test_a_destination_that_is_away_holds_nothing_up_for_long(desk: Desk) -> None:
    """A hundred at once: those waiting for their turn there go on without, and S3 counts as well."""
    desk.s3.dead.add("one")
    began = asyncio.get_running_loop().time()

    await asyncio.gather(
        *(desk.settle(desk.put(ONE, TWO, key=f"{number}", steps=FAILS)) for number in range(100))
    )

    assert asyncio.get_running_loop().time() - began < 11
    assert desk.asked("one") <= 16
    assert not desk.health.away
    assert not desk.looker.failing(
        replace(desk.put(), version=ObjectVersion("one", "a/key", "v1"))
    )

    await asyncio.sleep(UNREACHABLE_DESTINATION_SECONDS)
    desk.s3.dead.clear()
    assert fates(await desk.settle(desk.put(ONE, TWO, two=FAILS)))[0] == (Fate.COMPLETED, "one")


async def test_a_store_that_tells_no_status_is_followed_at_its_destination(desk: Desk) -> None:
    """Absence there is pending, presence is done; and nothing of it counts as an outage of the route."""
    desk.s3.silent = {"src", "one"}
    record = desk.put(ONE, steps=((100.0, Sight.COMPLETED),))
    for _ in range(90):
        record = await desk.wait(record)
        await asyncio.sleep(1)
    assert desk.pacer._paths[Route("src", "one"),].flow.evidence == 0

    await asyncio.sleep(20)
    (outcome,) = (await desk.settle(record)).settlement.outcomes

    assert outcome.latency is not None
    assert outcome.latency.lower == pytest.approx(89, abs=0.1)
    assert outcome.latency.upper == pytest.approx(110, abs=0.1)


# ---- without a look ----


async def test_what_replica_events_prove_is_settled_without_a_head(desk: Desk) -> None:
    """Exact at every destination and of a known size: no HEAD, and one sample learned of the slowest, one of each."""
    record = desk.put(ONE, TWO)
    arrived = replace(
        record,
        size=7,
        destinations=(
            replace(ONE, replicated_at=record.written_at + 3),
            replace(TWO, replicated_at=record.written_at + 5),
        ),
    )
    await asyncio.sleep(300)

    decision = desk.looker.settled(arrived)

    assert isinstance(decision, Settle)
    assert [one.latency for one in decision.settlement.outcomes] == [
        Latency(3.0, 3.0),
        Latency(5.0, 5.0),
    ]
    assert [one.seconds for one in decision.settlement.outcomes] == [3.0, 5.0]
    assert all(sum(share for _, share in one.spread) == 1 for one in decision.settlement.outcomes)
    assert desk.s3.looks == []
    path = (Route("src", "one"), Route("src", "two"))
    assert desk.pacer.samples(path, now=desk.clock.now()) == pytest.approx(1, abs=0.3)
    apart = path[:1], path[1:]
    learned = {way: one.knowledge.counts for way, one in desk.pacer._paths.items()}
    assert {way: sum(counts.values()) for way, counts in learned.items()} == dict.fromkeys(
        (path, *apart), 1.0
    )


@pytest.mark.parametrize("missing", ["arrival", "size"])
async def test_what_is_not_proved_needs_a_look(desk: Desk, missing: str) -> None:
    """A destination nobody told of, or a size that nobody knows."""
    record = desk.put(ONE, TWO)
    told = [replace(one, replicated_at=record.written_at + 3) for one in (ONE, TWO)]
    if missing == "arrival":
        told[1] = TWO

    size = None if missing == "size" else 7
    assert desk.looker.settled(replace(record, size=size, destinations=tuple(told))) is None


async def test_a_late_event_of_an_arrival_ends_no_outage(desk: Desk) -> None:
    """What arrived before everything stopped says nothing of whether it goes on."""
    path = (Route("src", "one"),)
    old = desk.put(ONE)
    arrived = replace(old, size=7, destinations=(replace(ONE, replicated_at=old.written_at + 3),))
    flow = desk.pacer._state(path).flow
    await asyncio.sleep(600)
    for number in range(60):
        await desk.wait(desk.put(ONE, key=f"{number}", steps=NEVER))
        await asyncio.sleep(1)
    for _ in range(90):
        record = replace(desk.put(ONE, key="old", steps=NEVER), written_at=desk.clock.now() - 500)
        await desk.wait(record)
        await asyncio.sleep(1)
    assert flow.outage

    desk.looker.settled(arrived)
    assert flow.outage

    now = desk.clock.now()
    fresh = replace(arrived, written_at=now - 4, destinations=(replace(ONE, replicated_at=now),))
    desk.looker.settled(fresh)
    assert not flow.outage


# ---- late, and news ----


@pytest.mark.parametrize(("known_pending", "late"), [(True, True), (False, False)])
async def test_what_is_late_as_far_as_is_known_is_marked(
    desk: Desk, *, known_pending: bool, late: bool
) -> None:
    """Between a look before 15 minutes and one long after, the expected latency decides."""
    record = desk.put(ONE)
    if known_pending:
        record = replace(record, pending_seen_at=record.written_at + 850)
    await asyncio.sleep(2000)

    (outcome,) = (await desk.settle(record)).settlement.outcomes

    assert (outcome.seconds > 900, outcome.late) == (late, late)


async def test_an_arrival_found_by_a_look_is_told(desk: Desk) -> None:
    """An event that did not tell who wrote, and a HEAD that shows a replica: its source learns of the arrival."""
    source = desk.put(ONE)
    found = replace(
        source,
        version=replace(source.version, bucket="one"),
        destinations=(Destination("src"),),
        channel=Channel.EVENTBRIDGE,
    )

    decision = await desk.settle(found)

    assert fates(decision) == [(Fate.IS_REPLICA, "")]
    assert [(one.version, one.written_at) for one in decision.news] == [
        (found.version, found.written_at)
    ]


# ---- buckets that deny ----


async def poll(desk: Desk, record: Record, *, until: float) -> None:
    """Look at a record whenever it is due, as the poller does."""
    while True:
        record = await desk.wait(record)
        if record.next_look_at > until:
            return
        await asyncio.sleep(record.next_look_at - desk.clock.now())


async def test_a_bucket_that_denies_every_look_is_asked_now_and_then(desk: Desk) -> None:
    """Five hundred pending objects: few HEADs after the first of each, one log line a minute, a gauge; none given up."""
    desk.s3.denied.add("src")
    hour = desk.clock.now() + 3600
    with structlog.testing.capture_logs() as logs:
        await asyncio.gather(
            *(poll(desk, desk.put(ONE, key=f"{number}"), until=hour) for number in range(500))
        )

    assert desk.asked("src") <= 500 + 3600 / TRICKLE_SECONDS + 10
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 1
    lines = [one for one in logs if one["event"] == "bucket_access_denied"]
    assert 1 < len(lines) <= 61
    assert len(logs) <= len(lines) + 2, "those before it was known, and how many they were"
    assert all("s3:ListBucket" in one["advice"] for one in lines)
    assert all("accounts[].request_payer" in one["advice"] for one in lines)
    assert sum(one["objects_put_off"] for one in lines) > 450
    assert not desk.health.away


async def test_a_bucket_that_answers_again_is_looked_at_as_ever(desk: Desk) -> None:
    """The first answer ends it: the gauge falls, and all that is due is looked at."""
    desk.s3.denied.add("src")
    for number in range(DENIED_IN_A_ROW):
        await desk.wait(desk.put(ONE, key=f"{number}"))
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 1
    assert desk.looker.denied(desk.put(ONE))

    desk.s3.denied.clear()
    assert fates(await desk.settle(desk.put(ONE))) == [(Fate.COMPLETED, "one")]
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 0
    assert not desk.looker.denied(desk.put(ONE))
    for number in range(20):
        await desk.settle(desk.put(ONE, key=f"{number}"))


@pytest.mark.parametrize("stranger", [False, True], ids=["known", "stranger"])
async def test_m6_a_site_that_denies_looks_holds_no_other_one_back(
    desk: Desk, *, stranger: bool
) -> None:
    """M6: nor do events of one that no account names; the bucket of its name elsewhere is looked at as ever."""
    here, there = "site-of-the-east", "site-of-the-west"
    desk.s3.at = (here, "site-of-the-south") if stranger else (here, there)
    desk.s3.denied.add(there)
    for number in range(2 * DENIED_IN_A_ROW):
        await desk.wait(replace(desk.put(ONE, key=f"{number}"), owner=there))
    assert desk.looker.denied(replace(desk.put(ONE), owner=there))
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 1

    records = [replace(desk.put(ONE, key=f"here/{number}"), owner=here) for number in range(20)]
    assert not desk.looker.denied(records[0])
    for settled in await asyncio.gather(*map(desk.settle, records)):
        assert fates(settled) == [(Fate.COMPLETED, "one")]
    assert desk.looker.denied(replace(desk.put(ONE), owner=there))
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 1

    desk.s3.denied.clear()
    await asyncio.sleep(TRICKLE_SECONDS)
    await desk.settle(replace(desk.put(ONE), owner=there))
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 0


async def test_m6_a_site_that_is_away_slows_no_other_one_down(desk: Desk) -> None:
    """M6: looks at a bucket of its name elsewhere wait for none of its own, which wait for their time-outs."""
    here, there = "site-of-the-east", "site-of-the-west"
    desk.s3.at = (here, there)
    desk.s3.dead.add(there)
    away = replace(desk.put(ONE), owner=there)
    async with asyncio.TaskGroup() as looks:
        for number in range(40):
            version = ObjectVersion("src", f"{number}", "v1")
            looks.create_task(desk.wait(replace(away, version=version)))
        await asyncio.sleep(25)
        began = asyncio.get_running_loop().time()
        for number in range(20):
            await desk.settle(replace(desk.put(ONE, key=f"here/{number}"), owner=here))
        assert asyncio.get_running_loop().time() - began < 1
        assert desk.looker.failing(away)
        assert not desk.looker.failing(replace(away, owner=here))
    assert not desk.health.away


async def test_an_object_denied_among_others_is_its_own_matter(desk: Desk) -> None:
    """Looks that are answered between show that it is not the bucket."""
    for number in range(3 * DENIED_IN_A_ROW):
        desk.s3.denied.add("src")
        await desk.wait(desk.put(ONE, key=f"denied {number}"))
        desk.s3.denied.clear()
        await desk.settle(desk.put(ONE, key=f"{number}"))

    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") is None


async def test_what_is_put_off_comes_back_after_a_share_of_the_time(desk: Desk) -> None:
    """The longer a bucket denied, the longer objects are put off, up to a bound; and apart from each other."""
    desk.s3.denied.add("src")
    for number in range(DENIED_IN_A_ROW + 1):
        await desk.wait(desk.put(ONE, key=f"{number}"))
    waits = []
    for after in (0, 600, 100_000):
        await asyncio.sleep(after)
        await desk.wait(replace(desk.put(ONE, key=f"probe {after}"), troubles=1))
        records = [
            await desk.wait(replace(desk.put(ONE, key=f"{number}"), troubles=1))
            for number in range(20)
        ]
        waits.append([one.next_look_at - desk.clock.now() for one in records])

    assert all(15 <= one <= 45 for one in waits[0])
    assert all(150 <= one <= 450 for one in waits[1])
    assert all(0.5 <= one / HOLD_LONGEST_SECONDS <= 1.5 for one in waits[2])
    assert len(set(waits[2])) == 20


async def test_what_was_not_denied_itself_is_looked_at_soon_and_put_off_without_harm(
    desk: Desk,
) -> None:
    """In a bucket that denies every look: a few a second, and those that wait for that had no trouble."""
    desk.s3.denied.add("src")
    for number in range(DENIED_IN_A_ROW):
        await desk.wait(desk.put(ONE, key=f"{number}"))
    records = [desk.put(ONE, key=f"new {number}") for number in range(100)]
    kept = []
    for one in records:
        kept.append(await desk.wait(one))
        await asyncio.sleep(0.1)

    assert 45 <= desk.asked("src") - DENIED_IN_A_ROW <= 10 * LOOKS_PER_SECOND + 1
    put_off = [
        (before, after) for before, after in zip(records, kept, strict=True) if not after.troubles
    ]
    assert len(put_off) == 100 + DENIED_IN_A_ROW - desk.asked("src")
    for before, after in put_off:
        assert after == replace(before, next_look_at=after.next_look_at)
        assert 15 <= after.next_look_at - before.written_at <= 55


@pytest.mark.parametrize("good", [True, False])
async def test_nothing_is_given_up_without_a_look(desk: Desk, *, good: bool) -> None:
    """However often a version was put off: whoever would be given up by age is looked at first."""
    old = replace(desk.put(ONE, key="old"), troubles=1)
    await asyncio.sleep(15 * DAY)
    desk.s3.denied.add("src")
    for number in range(DENIED_IN_A_ROW):
        await desk.wait(desk.put(ONE, key=f"{number}"))
    await desk.wait(replace(desk.put(ONE, key="probe"), troubles=1))
    for _ in range(TROUBLES_TO_GIVE_UP - 2):
        old = await desk.wait(old)
    asked = desk.asked("src")
    if good:
        desk.s3.denied.clear()

    assert fates(await desk.settle(old)) == [(Fate.COMPLETED if good else Fate.GIVEN_UP, "one")]
    assert desk.asked("src") == asked + 1


class Partly(FakeS3):
    """Denies what lies under one prefix."""

    async def look(self, version: ObjectVersion, *, region: str, owner: str | None) -> Observation:
        seen = await super().look(version, region=region, owner=owner)
        if version.key.startswith("secret/"):
            return Observation(sight=Sight.DENIED, looked_at=seen.looked_at, detail="403")
        return seen


async def test_what_is_denied_does_not_keep_from_what_is_not(desk: Desk) -> None:
    """A thousand objects denied, one good one a second: each of those is done within a minute."""
    partly = Partly(desk.clock)
    partly.stored = desk.s3.stored
    desk.looker._probe = partly
    began = desk.clock.now()
    took: list[float] = []
    done: list[str] = []

    async def follow(record: Record) -> None:
        due = desk.clock.now()
        while isinstance(decision := await desk.looker.consider(record), Wait):
            record = decision.record
            await asyncio.sleep(record.next_look_at - desk.clock.now())
        took.append(desk.clock.now() - due)
        done.append(record.version.key)

    with structlog.testing.capture_logs() as logs:
        bad = [
            asyncio.create_task(follow(desk.put(ONE, key=f"secret/{number}")))
            for number in range(1000)
        ]
        for number in range(1200):
            await asyncio.sleep(1)
            bad.append(asyncio.create_task(follow(desk.put(ONE, key=f"{number}"))))
        await asyncio.sleep(60)
        for one in bad:
            one.cancel()
        await asyncio.gather(*bad, return_exceptions=True)

    assert len(done) == 1200
    assert max(took) <= 60
    assert sorted(took)[1000] == 0
    looks = [one for one in partly.looks if one.key.startswith("secret/")]
    assert len(looks) <= 1000 + LOOKS_PER_SECOND * (desk.clock.now() - began)
    assert [one["event"] for one in logs].count("bucket_access_denied") <= 1
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 0


async def test_the_ceiling_of_a_bucket_holds_for_looks_from_everywhere(desk: Desk) -> None:
    """Three thousand looks that all want to begin at once take as long as 500 a second do."""
    records = [desk.put(ONE, key=f"{number}") for number in range(3000)]
    began = asyncio.get_running_loop().time()

    await asyncio.gather(*(desk.settle(one) for one in records))

    assert asyncio.get_running_loop().time() - began >= (3000 - 250) / 500 - 0.1


class Overloaded(FakeS3):
    """Takes a second for each look, refuses what comes beside more than 4 others, and remembers how many came."""

    under_way = 0
    most = 0

    async def look(self, version: ObjectVersion, *, region: str, owner: str | None) -> Observation:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        crowded = self.under_way > 4
        await asyncio.sleep(1)
        self.under_way -= 1
        if crowded:
            return Observation(sight=Sight.THROTTLED, looked_at=self._clock.now(), detail="503")
        return await super().look(version, region=region, owner=owner)


async def test_a_bucket_that_refuses_gets_fewer_looks_at_once(desk: Desk) -> None:
    """503 halves what is under way: soon about as many are as it bears."""
    busy = Overloaded(desk.clock)
    desk.looker._probe = busy
    records = [desk.put(ONE, key=f"{number}") for number in range(400)]
    busy.stored = desk.s3.stored
    tasks = [asyncio.create_task(desk.looker.consider(one)) for one in records]
    await asyncio.sleep(10)
    busy.most = 0
    await asyncio.gather(*tasks)

    assert busy.most <= 6
    assert desk.meters.count(catalogue.HEAD_REQUESTS, "src", "source", "throttled") < 80


# ---- what is forgotten ----


async def test_r2_a_bucket_that_nobody_looks_at_here_any_more_is_not_shown_as_denied(
    desk: Desk,
) -> None:
    """R2: its objects are another daemon's to look at now; what this one knew is old, and shown no more."""
    desk.s3.denied.add("src")
    for number in range(2 * DENIED_IN_A_ROW):
        await desk.looker.consider(desk.put(ONE, key=f"{number}"))
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 1
    await asyncio.sleep(HOLD_LONGEST_SECONDS)
    desk.looker.tidy()
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") == 1, "it is asked this seldom"
    await asyncio.sleep(HOLD_LONGEST_SECONDS + 1)
    desk.looker.tidy()
    assert desk.meters.gauge(catalogue.ACCESS_DENIED, "src") is None
    assert not desk.looker.denied(desk.put(ONE))


async def test_r10_names_of_buckets_do_not_fill_the_memory(desk: Desk) -> None:
    """R10: looks at ever new buckets, half of them denied, leave no more behind than there is room for."""

    for number in range(MOST + 100):
        bucket = f"made-up-{number}"
        desk.s3.denied.update([bucket] if number % 2 else [])
        one = replace(desk.put(TAGGED), version=ObjectVersion(bucket, "key", "v1"))
        await desk.looker.consider(one)
        await desk.looker.consider(one)
    parts = [one for one in vars(desk.looker).values() if "services" in type(one).__module__]
    sizes = {
        name: len(value)
        for part in (desk.looker, *parts)
        for name, value in getattr(part, "__dict__", {}).items()
        if isinstance(value, Sized)
    }
    assert sizes["_gates"] == MOST
    assert max(sizes.values()) <= MOST


async def test_r11_denied_buckets_that_somebody_made_up_do_not_fill_the_log(desk: Desk) -> None:
    """R11: hundreds of buckets that deny every look are twenty lines a minute, and some for looks before that."""
    with structlog.testing.capture_logs() as logs:
        for number in range(200):
            bucket = f"made-up-{number}"
            desk.s3.denied.add(bucket)
            for look in range(DENIED_IN_A_ROW):
                version = ObjectVersion(bucket, f"{look}", "v1")
                await desk.looker.consider(replace(desk.put(TAGGED), version=version))
    assert len([one for one in logs if one["event"] == "bucket_access_denied"]) == LINES
    assert len(logs) <= LINES + KINDS + 1
