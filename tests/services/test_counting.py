"""What is logged of failures, and what is remembered for that."""

import asyncio

import structlog

from crrmon.domain.objects import MarkId, Route, Scope
from crrmon.domain.outcomes import Fate, Outcome
from crrmon.services.counting import Counting
from fakes.clock import EPOCH
from fakes.meters import FakeMeters


def _failure(bucket: str) -> Outcome:
    return Outcome(
        mark=MarkId(Scope.SOURCE, bucket, "key", "v1"),
        fate=Fate.FAILED,
        route=Route(bucket, "dst"),
        written_at=EPOCH,
        found_at=EPOCH,
    )


async def test_r10_buckets_whose_failures_were_told_are_forgotten() -> None:
    """R10: a minute after the last line of a bucket nothing is kept of it; the next failure is told at once again."""
    counting = Counting(FakeMeters())
    with structlog.testing.capture_logs() as logs:
        for number in range(100):
            counting.counted(_failure(f"bucket{number}"))
        counting.counted(_failure("bucket0"))
        await asyncio.sleep(61)
        assert list(counting._failures) == ["bucket0"]
        await asyncio.sleep(60)
        assert counting._failures == {}
        counting.counted(_failure("bucket0"))
    told = [one["objects"] for one in logs if one["event"] == "replication_failed"]
    assert told == [1] * 102
