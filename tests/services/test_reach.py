"""Whether S3 is there, by what looks showed."""

import asyncio

from crrmon.domain.observations import Sight
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.reach import (
    LATELY_SECONDS,
    THROTTLED_LOOKS,
    THROTTLED_SECONDS,
    Reach,
)
from fakes.clock import LoopClock


def make() -> tuple[Reach, Dependency]:
    """Make one that tolerates ten unreachable looks, as the daemon does."""
    health = Dependency("s3", clock=LoopClock(), tolerated=10)
    return Reach(health), health


async def test_r9_throttled_by_everybody_is_away() -> None:
    """R9: minutes of nothing but 503 from all buckets are an outage; one answer ends it."""
    reach, health = make()
    for number in range(200):
        reach.told((f"b{number % 7}", None), Sight.THROTTLED, "HTTP 503")
        if number < THROTTLED_SECONDS - 1:
            assert not health.away
        await asyncio.sleep(1)
    assert health.away
    assert "HTTP 503: no other answer for" in health.describe()
    reach.told(("b1", None), Sight.PENDING, "")
    assert not health.away


async def test_r9_a_bucket_that_is_throttled_among_others_slows_down_only_itself() -> None:
    """R9: as long as any bucket answers, S3 is there."""
    reach, health = make()
    for number in range(2000):
        reach.told(("hot", None), Sight.THROTTLED, "HTTP 503")
        if number % 100 == 0:
            reach.told(("quiet", None), Sight.COMPLETED, "")
        await asyncio.sleep(1)
    assert not health.away


async def test_r9_a_few_throttled_looks_are_no_outage() -> None:
    """R9: it takes enough looks, too: one in a minute may have met a bucket that scales up; an old one tells nothing."""
    reach, health = make()
    for _ in range(THROTTLED_LOOKS - 1):
        reach.told(("b", None), Sight.THROTTLED, "HTTP 503")
        await asyncio.sleep(60)
    assert not health.away
    await asyncio.sleep(LATELY_SECONDS)
    reach.tidy()
    reach.told(("b", None), Sight.THROTTLED, "HTTP 503")
    assert not health.away


async def test_unreachable_is_away_only_when_all_buckets_lately_looked_at_are() -> None:
    """A bucket that was reached ten minutes ago proves nothing any more; one a minute ago does."""
    reach, health = make()
    reach.told(("well", None), Sight.PENDING, "")
    for _ in range(20):
        reach.told(("dead", None), Sight.UNREACHABLE, "no answer")
        await asyncio.sleep(10)
    assert reach.failing(("dead", None))
    assert not reach.failing(("well", None))
    assert not health.away
    await asyncio.sleep(LATELY_SECONDS)
    for _ in range(11):
        reach.told(("dead", None), Sight.UNREACHABLE, "no answer")
    assert health.away


async def test_r2_an_outage_is_over_for_who_has_nothing_to_look_at() -> None:
    """R2: S3 went away, then others took the shards: this daemon looks at nothing and does not judge S3 any more."""
    reach, health = make()
    for _ in range(11):
        reach.told(("dead", None), Sight.UNREACHABLE, "no answer")
    assert health.away
    await asyncio.sleep(LATELY_SECONDS - 1)
    reach.tidy()
    assert health.away
    await asyncio.sleep(2)
    reach.tidy()
    assert not health.away
    assert health.describe() == "not asked by this replica"
    assert not reach.failing(("dead", None))
