"""What is logged of failures, and what is remembered for that."""

import asyncio

import pytest
import structlog

from crrmon.domain.objects import MarkId, Route, Scope
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import Fate, Outcome
from crrmon.domain.stores import BucketStores, StoreKind
from crrmon.services.reporting.outcome_metrics import Counting
from crrmon.services.tracking.access_denials import DENIED_IN_A_ROW, Denials
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
    counting = Counting(FakeMeters(), BucketStores())
    with structlog.testing.capture_logs() as logs:
        for number in range(100):
            counting.counted([_failure(f"bucket{number}")])
        counting.counted([_failure("bucket0")])
        await asyncio.sleep(61)
        assert list(counting._failures) == ["bucket0"]
        await asyncio.sleep(60)
        assert counting._failures == {}
        counting.counted([_failure("bucket0")])
    told = [one["objects"] for one in logs if one["event"] == "replication_failed"]
    assert told == [1] * 102


@pytest.mark.parametrize(
    ("told", "elsewhere", "advice"),
    [
        (StoreKind.S3, False, "Batch Replication"),
        (StoreKind.MINIO, True, "mc replicate"),
        (StoreKind.CEPH, True, "radosgw-admin"),
        # Others call themselves by the name of S3; and after a restart nothing was told yet.
        (StoreKind.S3, True, "documentation of this store"),
        (None, True, "documentation of this store"),
        (None, False, "Batch Replication"),
    ],
)
async def test_m7_the_advice_of_a_failure_goes_by_the_store(
    told: StoreKind | None, *, elsewhere: bool, advice: str
) -> None:
    """M7: what the bucket's events say goes first, then the address at which it is asked; S3 is what is left."""
    stores = BucketStores(lambda _: elsewhere)
    if told is not None:
        stores.heard("bucket", told)
    counting = Counting(FakeMeters(), stores)

    with structlog.testing.capture_logs() as logs:
        counting.counted([_failure("bucket")])

    (said,) = (one["advice"] for one in logs if one["event"] == "replication_failed")
    assert advice in said


@pytest.mark.parametrize("store", [StoreKind.MINIO, StoreKind.CEPH, StoreKind.OTHER])
async def test_m7_a_store_that_denies_looks_has_no_roles(store: StoreKind) -> None:
    """M7: nobody is sent to AWS for what an access key of a store may not do."""
    stores = BucketStores()
    stores.heard("bucket", store)
    denials = Denials(FakeMeters(), stores)
    await asyncio.sleep(120)

    with structlog.testing.capture_logs() as logs:
        for _ in range(DENIED_IN_A_ROW):
            denials.told(("bucket", None), Sight.DENIED, troubled=False)

    (said,) = (one["advice"] for one in logs)
    assert "accounts[].profile" in said
    assert "role" not in said
