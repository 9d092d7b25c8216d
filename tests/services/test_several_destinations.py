"""Two destinations of which one is slow, or both fail: what is told of each is true of that one."""

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crrmon.domain import catalogue
from crrmon.domain.metric import Metric
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from fakes import events
from fakes.rig import Rig
from fakes.s3 import Stored, Trip
from fakes.simulated import simulate

HOUR = 3600.0
OBJECTS = 40
FAST, SLOW = 5.0, 2400.0
"""The slow one so late that whatever looks leave open of the moment is beyond 15 minutes."""
EVERY = 20.0


def counted(rig: Rig, metric: Metric, bucket: str, *labels: str) -> float:
    return rig.meters.count(metric, "src", bucket, *labels)


def mean_latency(rig: Rig, bucket: str) -> float:
    """Tell the mean of what was told of the latencies at a destination."""
    told = rig.meters.observed[catalogue.LATENCY.name, "src", bucket]
    return sum(value * weight for value, weight in told) / OBJECTS


async def replicate(rig: Rig) -> None:
    """Write objects that are at one destination soon and at the other late, and wait until all of them are counted."""
    rig.s3.rule("src", "fast", "slow")
    async with rig.running():
        for number in range(OBJECTS):
            now = rig.clock.now()
            trips = {
                bucket: Trip(((now + takes, Sight.COMPLETED),))
                for bucket, takes in (("fast", FAST), ("slow", SLOW))
            }
            rig.s3.store(
                ObjectVersion("src", f"{number}", "v1"), Stored(written_at=now, trips=trips)
            )
            rig.inbox.send(events.written(f"{number}", at=now))
            await asyncio.sleep(EVERY)
        for bucket in ("fast", "slow"):
            await rig.until(
                lambda of=bucket: counted(rig, catalogue.REPLICATIONS, of, "completed") == OBJECTS,
                within=2 * HOUR,
            )


async def test_t4_where_destinations_may_be_read_each_has_its_own_latency() -> None:
    """Fast and slow are told apart by looks there, of which there is one for each look at the source at the most."""
    rig = Rig()

    await replicate(rig)

    assert counted(rig, catalogue.LATE, "fast") == 0
    assert counted(rig, catalogue.LATE, "slow") == OBJECTS
    assert mean_latency(rig, "fast") < 60
    assert mean_latency(rig, "slow") == pytest.approx(SLOW, rel=0.15)
    looks = Counter(one.bucket for one in rig.s3.looks)
    assert looks["fast"] <= looks["slow"] <= looks["src"]


async def test_t4_where_they_may_not_be_read_none_is_called_late() -> None:
    """The status is that of both: that one of them took 40 minutes is told once, and not of each."""
    rig = Rig()
    rig.s3.denied |= {"fast", "slow"}

    await replicate(rig)

    assert counted(rig, catalogue.LATE, "fast") == 0
    assert counted(rig, catalogue.LATE, "slow") == 0
    both = mean_latency(rig, "fast") + mean_latency(rig, "slow")
    assert both == pytest.approx(FAST + SLOW, rel=0.25)
    looks = Counter(one.bucket for one in rig.s3.looks)
    assert (looks["fast"], looks["slow"]) == (1, 1)


async def test_t4_what_replicas_tell_of_one_makes_the_other_the_slow_one() -> None:
    """Once the fast one's latencies are known from its events, what is told of both is not thought of it."""
    rig = Rig()
    rig.s3.denied |= {"fast", "slow"}
    rig.s3.rule("src", "fast", "slow")
    async with rig.running():
        for number in range(60):
            now = rig.clock.now()
            trips = {
                bucket: Trip(((now + takes, Sight.COMPLETED),))
                for bucket, takes in (("fast", FAST), ("slow", SLOW))
            }
            key = f"{number}"
            rig.s3.store(ObjectVersion("src", key, "v1"), Stored(written_at=now, trips=trips))
            rig.inbox.send(events.written(key, at=now))
            if number < 40:
                rig.inbox.send(events.replica_notification(key, at=now + FAST, bucket="fast"))
            await asyncio.sleep(20)
        await rig.until(lambda: counted(rig, catalogue.REPLICATIONS, "fast", "completed") == 60)
        told = rig.meters.observed[catalogue.LATENCY.name, "src", "fast"]

    assert sum(weight for _, weight in told) == pytest.approx(60)
    assert sum(weight for value, weight in told if value > 60) < 4


# ---- failures ----


class Failing:
    """Objects that fail at both of two destinations, and the notices of it."""

    def __init__(self, rig: Rig, objects: int) -> None:
        self.rig = rig
        self.at: dict[str, float] = {}
        rig.s3.rule("src", "one", "two")
        rig.s3.denied |= {"one", "two"}
        for number in range(objects):
            key, now = f"{number}", rig.clock.now()
            trips = {one: Trip(((now + 20.0, Sight.FAILED),)) for one in ("one", "two")}
            rig.s3.store(ObjectVersion("src", key, "v1"), Stored(written_at=now, trips=trips))
            rig.inbox.send(events.written(key, at=now))
            self.at[key] = now

    def tell(self, key: str, bucket: str) -> None:
        """Send S3's notice that an object failed at a destination."""
        self.rig.inbox.send(
            events.notice(
                key, at=self.at[key] + 20.0, destination=bucket, reason="DstKmsKeyNotFound"
            )
        )


def failed(*rigs: Rig) -> Counter[str]:
    """Tell how many failures were counted at each destination, by these processes together."""
    return +Counter(
        {
            bucket: int(
                sum(counted(rig, catalogue.REPLICATIONS, bucket, "failed") for rig in rigs)
            )
            for bucket in ("one", "two", "unknown")
        }
    )


async def test_t14_a_notice_that_comes_after_the_episode_counts_at_its_destination() -> None:
    """Five objects fail at both, and three of the second notices come late: five failures at each destination."""
    rig = Rig()
    failing = Failing(rig, 5)
    async with rig.running():
        await asyncio.sleep(30)
        for key in failing.at:
            failing.tell(key, "one")
        for key in ("0", "1"):
            failing.tell(key, "two")
        await asyncio.sleep(120)
        for key in failing.at:
            failing.tell(key, "two")
            failing.tell(key, "two")
        await asyncio.sleep(300)

    assert failed(rig) == Counter(one=5, two=5)
    for bucket in ("one", "two"):
        reasons = rig.meters.count(catalogue.FAILURE_REASONS, "src", bucket, "DstKmsKeyNotFound")
        assert reasons == 5
    assert rig.sink.total(catalogue.CW_FAILED.name, "src") == 5


async def test_t14_without_notices_a_failure_stands_at_the_unknown_destination_in_ten_minutes() -> (
    None
):
    """Nobody says where: counted once there, and soon enough for alerts."""
    rig = Rig()
    Failing(rig, 3)
    async with rig.running():
        await asyncio.sleep(120)
        assert failed(rig) == Counter()
        for leap in (600.0, HOUR):
            rig.clock.leap(leap)
            await asyncio.sleep(60)
            assert failed(rig) == Counter(unknown=3)

    assert failed(rig) == Counter(unknown=3)


TELLINGS = st.lists(
    st.tuples(
        st.sampled_from(["0", "1"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from([1.0, 25.0, 45.0, 90.0, 300.0]),
    ),
    max_size=10,
)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(TELLINGS, st.sets(st.integers(0, 9), max_size=3))
def test_t14_counters_of_each_destination_are_the_truth(
    tellings: list[tuple[str, str, float]], kills: set[int]
) -> None:
    """Notices in any order, twice, and processes killed between: two objects fail at both, and so it is counted."""

    async def play() -> None:
        first = Rig(hold_seconds=10.0)
        rigs = [first]
        failing = Failing(first, 2)
        first.start()
        await asyncio.sleep(21)
        for number, (key, bucket, pause) in enumerate(tellings):
            failing.tell(key, bucket)
            await asyncio.sleep(min(pause, 500.0 / len(tellings)))
            if number in kills:
                await rigs[-1].kill()
                shared = {"ledger": first.ledger, "inbox": first.inbox, "s3": first.s3}
                rigs.append(Rig(**shared, clock=first.clock, hold_seconds=10.0, owner=f"{number}"))
                rigs[-1].start()
        for key in failing.at:
            for bucket in ("one", "two"):
                failing.tell(key, bucket)
        for _ in range(2):
            await asyncio.sleep(20)
            first.clock.leap(HOUR)
        await asyncio.sleep(20)
        await rigs[-1].kill()

        assert failed(*rigs) == Counter(one=2, two=2)

    simulate(play())
