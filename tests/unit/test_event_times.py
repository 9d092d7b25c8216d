"""Which times of events are believed, and what becomes of those that are not."""

import pytest
from msgspec.structs import replace

from crrmon.domain.decide import dated, proved
from crrmon.domain.decisions import Adopt, Settle, Wait
from crrmon.domain.events.facts import (
    Channel,
    Fact,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    Threshold,
    ThresholdPassed,
)
from crrmon.domain.events.times import AHEAD_SECONDS, S3_BEGAN_AT, believable, in_time, possible
from crrmon.domain.objects import ObjectVersion, provisional
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.record_changes import merged
from crrmon.domain.records import Destination, Record
from fakes.schedules import decided, schedule

NOW = 1_800_000_000.0
DAY = 86_400.0
VERSION = ObjectVersion("src", "k", "v1")


def record(**more: object) -> Record:
    """Make a record of an event whose time is not believed."""
    known = Record(
        version=VERSION,
        region="eu-west-1",
        written_at=NOW,
        claimed_at=0.0,
        next_look_at=NOW,
        size=1,
        destinations=(Destination("dst"),),
    )
    return replace(known, **more)


def seen(sight: Sight, *, modified: float | None, after: float = 10.0) -> Observation:
    return Observation(
        sight=sight,
        looked_at=NOW + after,
        version_id="v1",
        size=1,
        last_modified_at=modified,
    )


@pytest.mark.parametrize(
    ("at", "can_be", "believed"),
    [
        (0.0, False, False),
        (S3_BEGAN_AT - 1, False, False),
        (S3_BEGAN_AT, True, False),
        (NOW - 4 * DAY - 1, True, False),
        (NOW - 4 * DAY, True, True),
        (NOW, True, True),
        (NOW + AHEAD_SECONDS, True, True),
        (NOW + AHEAD_SECONDS + 1, False, False),
    ],
)
def test_t8_what_is_believed(at: float, *, can_be: bool, believed: bool) -> None:
    """From the dedup retention to a minute from now; before S3 there was nothing, and later nothing can have been."""
    assert possible(at, now=NOW) is can_be
    assert believable(at, now=NOW, retention_seconds=4 * DAY) is believed


def test_t8_s3_says_when_it_was_written() -> None:
    """Its LastModified takes the place of a time that was not believed, and stays when the next look tells none."""
    first = decided(record(), seen(Sight.PENDING, modified=NOW - 8 * DAY), give_up_after=14 * DAY)
    assert isinstance(first, Wait)
    assert (first.record.written_at, first.record.claimed_at) == (NOW - 8 * DAY, None)
    assert dated(record(), seen(Sight.DENIED, modified=None)) == record()
    known = replace(record(), claimed_at=None)
    assert dated(known, seen(Sight.PENDING, modified=NOW - DAY)) == known


def test_t8_an_age_that_counts_from_hearsay_is_no_latency() -> None:
    """Proved by its replica's event without any look, it counts as replicated; how long it took nobody knows."""
    arrived = record(destinations=(Destination("dst", replicated_at=NOW + 5),))
    settle = proved(arrived, schedule(NOW + 6))
    assert isinstance(settle, Settle)
    (outcome,) = settle.settlement.outcomes
    assert outcome.latency is None
    assert not outcome.late
    told = proved(replace(arrived, claimed_at=None), schedule(NOW + 6))
    assert isinstance(told, Settle)
    (outcome,) = told.settlement.outcomes
    assert outcome.latency is not None
    assert outcome.latency.upper == 5


def test_t7_a_version_is_adopted_by_its_events_own_time() -> None:
    """Also where that is not believed for an age: what S3 says is compared with what the event said."""
    at = NOW + 70.5
    stand_in = record(version=provisional("src", "k", at), claimed_at=at)
    decision = decided(stand_in, seen(Sight.PENDING, modified=NOW + 70.0), give_up_after=14 * DAY)
    assert isinstance(decision, Adopt)
    assert isinstance(decision.then, Wait)
    assert decision.then.record.version == VERSION
    assert decision.then.record.written_at == NOW + 70.0


def test_t8_a_believed_time_takes_the_place_of_one_that_is_not() -> None:
    """Whatever channel told it; and a better channel's does not undo it if that cannot be believed."""
    good = record(written_at=NOW - 5, claimed_at=None, channel=Channel.NOTICE)
    doubted = record(channel=Channel.NOTIFICATION)
    first = merged(doubted, good)
    assert (first.written_at, first.claimed_at) == (NOW - 5, None)
    second = merged(good, doubted)
    assert (second.written_at, second.claimed_at) == (NOW - 5, None)
    assert second.channel is Channel.NOTIFICATION
    both = merged(record(written_at=NOW - 9), doubted)
    assert (both.written_at, both.claimed_at) == (NOW - 9, 0.0)


def failure(at: float) -> ReplicationFailed:
    return ReplicationFailed(
        version=VERSION,
        destination="dst",
        reason="",
        rule="",
        operation="OBJECT_PUT",
        region="",
        noticed_at=at,
    )


def passed(at: float) -> ThresholdPassed:
    return ThresholdPassed(
        version=VERSION,
        destination="dst",
        threshold=Threshold.REPLICATED_AFTER,
        rule="",
        region="",
        noticed_at=at,
    )


def restarted(at: float) -> ReplicationRestarted:
    return ReplicationRestarted(version=VERSION, region="", restarted_at=at)


def replica(at: float) -> ReplicaWritten:
    return ReplicaWritten(version=VERSION, region="", written_at=at)


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        (replica(NOW + DAY), replica(NOW)),
        (replica(0.0), replica(NOW)),
        (replica(NOW - 8 * DAY), replica(NOW - 8 * DAY)),
        (failure(NOW + DAY), failure(NOW)),
        (failure(0.0), failure(0.0)),
        (passed(NOW + DAY), passed(NOW)),
        (restarted(NOW + DAY), restarted(NOW)),
        (restarted(NOW - DAY), restarted(NOW - DAY)),
    ],
)
def test_t8_what_cannot_have_been_was_now(told: Fact, taken: Fact) -> None:
    """An arrival of 1970 or tomorrow, a failure or a restart of tomorrow, which would mask all that come till then."""
    assert in_time(told, now=NOW) == taken
