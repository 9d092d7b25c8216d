"""The books that the sandbox keeps of what really happened."""

from crrmon.domain.events import Operation
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.accounts import Account
from crrmon.sandbox.truth import COMPLETED, FAILED, NOT_COVERED, PENDING, Truth, Written
from crrmon.sandbox.world import WORLD

ROUTE = Route("src-b", "dst-b")


def written(key: str, *, size: int = 100) -> Written:
    """
    Make a version in the bucket whose rule has a prefix.
    """
    return Written(
        version=ObjectVersion("src-b", key, "v"),
        region="us-east-1",
        written_at=100.0,
        size=size,
        operation=Operation.PUT,
        copy_of=None,
        destination=WORLD.destination("src-b", key),
    )


def test_every_version_stands_somewhere() -> None:
    """Each write counts once, under what became of it; time is from written to replicated."""
    truth = Truth()
    done, failed, waiting, outside = (
        written(key) for key in ("data/1", "data/2", "data/3", "scratch/4")
    )
    for one in (done, failed, waiting, outside):
        truth.wrote(one)
    truth.ended(done.version, COMPLETED, at=103.5)
    truth.ended(failed.version, FAILED, at=104.0)

    assert truth.account() == Account(
        replicated={ROUTE: 1},
        bytes={ROUTE: 100},
        pending={ROUTE: 1},
        failed={"src-b": 1},
        not_covered={"src-b": 1},
    )
    assert [truth.count(one) for one in (COMPLETED, FAILED, PENDING, NOT_COVERED)] == [1, 1, 1, 1]
    assert truth.latencies(ROUTE) == [3.5]
    assert truth.status(outside.version) == NOT_COVERED
    assert truth.status(ObjectVersion("src-b", "data/1", "another")) is None
    assert len(truth) == 4
