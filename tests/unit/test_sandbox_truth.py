"""The books that the sandbox keeps of what really happened."""

from msgspec.structs import replace

from crrmon.domain.events.facts import Operation
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.accounts import SandboxAccount
from crrmon.sandbox.truth import (
    COMPLETED,
    FAILED,
    GONE,
    NOT_COVERED,
    PENDING,
    Truth,
    Written,
)
from crrmon.sandbox.world import WORLD

TO_A, TO_C, TO_B = Route("src-a", "dst-a"), Route("src-a", "dst-c"), Route("src-b", "dst-b")


def written(bucket: str, key: str, *, size: int = 100) -> Written:
    """Make a version."""
    return Written(
        version=ObjectVersion(bucket, key, f"version of {key}"),
        region=WORLD.region(bucket),
        written_at=100.0,
        size=size,
        operation=Operation.PUT,
        destinations=WORLD.destinations(bucket, key),
    )


def test_every_version_stands_somewhere_on_each_route() -> None:
    """Each write counts once per destination, under what became of it; time is from written to replicated."""
    truth = Truth()
    done, failed, waiting, outside, gone = (
        written("src-b", key) for key in ("data/1", "data/2", "data/3", "scratch/4", "data/5")
    )
    for one in (done, failed, waiting, outside, gone):
        truth.wrote(one)
    truth.arrived(done.version, "dst-b", at=103.5)
    truth.failed(failed.version, "dst-b", reason="DstKmsKeyNotFound")
    truth.deleted(gone.version)

    assert truth.account() == SandboxAccount(
        replicated={TO_B: 1},
        bytes={TO_B: 100},
        repaired={},
        gone={TO_B: 1},
        pending={TO_B: 1},
        open_failures={TO_B: 1},
        failures={TO_B: 1},
        markers_created={},
        markers_arrived={},
        failed={"src-b": 1},
        not_covered={"src-b": 1},
        reasons={(TO_B, "DstKmsKeyNotFound"): 1},
    )
    counts = [truth.count(one) for one in (COMPLETED, FAILED, PENDING, NOT_COVERED, GONE)]
    assert counts == [1, 1, 1, 1, 1]
    assert truth.latencies(TO_B) == [3.5]
    assert truth.status(outside.version) == NOT_COVERED
    assert truth.status(ObjectVersion("src-b", "data/1", "another")) is None
    assert len(truth) == 5


def test_with_two_destinations_it_is_pending_until_both_are_done() -> None:
    """S3 has one status for all: FAILED comes with the last destination, and is one episode."""
    truth = Truth()
    one = written("src-a", "key")
    truth.wrote(one)
    truth.failed(one.version, "dst-a", reason="DstBucketUnversioned")
    assert (truth.status(one.version), truth.failures("src-a")) == (PENDING, 0)
    truth.arrived(one.version, "dst-c", at=105.0)
    (story,) = truth

    assert (truth.status(one.version), truth.failures("src-a")) == (FAILED, 1)
    assert story.told == "dst-a FAILED, dst-c COMPLETED, failed 1 times"
    assert truth.account().replicated == {TO_C: 1}
    assert truth.account().open_failures == {TO_A: 1}
    assert truth.open_failures() == {"src-a": 1}


def test_a_repair_closes_the_failure_where_it_was() -> None:
    """Only failed destinations are tried again; the arrival counts as replicated and repaired, without a latency."""
    truth = Truth()
    one = written("src-a", "key")
    truth.wrote(one)
    truth.failed(one.version, "dst-a", reason="DstBucketUnversioned")
    truth.arrived(one.version, "dst-c", at=105.0)

    assert truth.restarted(one.version) == ("dst-a",)
    assert truth.status(one.version) == PENDING
    truth.arrived(one.version, "dst-a", at=190.0)

    (story,) = truth
    account = truth.account()
    assert story.status == COMPLETED
    assert story.told == "dst-a REPAIRED, dst-c COMPLETED, failed 1 times"
    assert (account.replicated, account.repaired) == ({TO_A: 1, TO_C: 1}, {TO_A: 1})
    assert (account.failed, account.open_failures) == ({"src-a": 1}, {})
    assert truth.latencies(TO_A) == []
    assert truth.arrivals == 2


def test_t14_a_failure_counts_at_each_destination_at_which_it_happened() -> None:
    """
    What fails at both of two destinations is one episode of its source and one failure on each route; what fails at
    one of them is none on the other; a repair takes nothing back.
    """
    truth = Truth()
    both, one = written("src-a", "both"), written("src-a", "one")
    for each in (both, one):
        truth.wrote(each)
        truth.failed(each.version, "dst-c", reason="DstBucketUnversioned")
    truth.failed(both.version, "dst-a", reason="DstKmsKeyNotFound")
    truth.arrived(one.version, "dst-a", at=105.0)
    truth.restarted(one.version)
    truth.arrived(one.version, "dst-c", at=190.0)

    assert truth.account().failures == {TO_A: 1, TO_C: 2}
    assert truth.account().failed == {"src-a": 2}


def test_the_oldest_that_is_missing_is_known_for_each_route() -> None:
    """
    Pending and failed versions are missing until they arrive or are deleted, at each destination on its own; what
    failed once is not pending any more, even while it is repaired.
    """
    truth = Truth()
    early, late = (
        replace(written("src-a", key), written_at=at) for key, at in (("1", 10.0), ("2", 20.0))
    )
    assert truth.oldest_missing(TO_A) is None
    for one in (late, early):
        truth.wrote(one)
    assert truth.oldest_missing(TO_A) == truth.oldest_pending(TO_A) == (10.0, early.version)

    truth.failed(early.version, "dst-a", reason="DstKmsKeyNotFound")
    truth.arrived(early.version, "dst-c", at=12.0)
    assert truth.oldest_missing(TO_A) == (10.0, early.version)
    assert truth.oldest_pending(TO_A) == (20.0, late.version)
    assert truth.oldest_missing(TO_C) == (20.0, late.version)

    truth.restarted(early.version)
    assert truth.oldest_pending(TO_A) == (20.0, late.version)
    truth.arrived(early.version, "dst-a", at=90.0)
    assert truth.oldest_missing(TO_A) == (20.0, late.version)
    assert truth.last_written_at == 20.0

    truth.deleted(late.version)
    assert truth.oldest_missing(TO_A) is truth.oldest_pending(TO_A) is None


def test_delete_markers_are_counted_where_a_rule_takes_them() -> None:
    """Laid and arrived are two things, and a marker that no rule takes is on no route."""
    truth = Truth()
    truth.marked(ObjectVersion("src-a", "key", "m1"), ["dst-a"])
    truth.marked(ObjectVersion("src-b", "key", "m2"), [])
    truth.marker_arrived(TO_A)

    assert truth.account().markers_created == {TO_A: 1}
    assert truth.account().markers_arrived == {TO_A: 1}
    assert len(truth.markers) == 2
    assert len(truth) == 0
