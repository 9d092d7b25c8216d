"""What a record learns from others, in whatever order they tell it."""

import itertools
from typing import Any

import msgspec
import pytest

from crrmon.domain.events.facts import Channel
from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion, Route
from crrmon.domain.record_changes import (
    merged,
    reopened,
    routed,
    with_all_arrived,
    with_arrival,
    with_failure,
    with_miss,
    with_reason,
)
from crrmon.domain.records import Destination, Failure, Record, State

WRITTEN = 1_800_000_000.0
ONE, TWO = Destination("one"), Destination("two")
FAILURE = Failure(noticed_at=WRITTEN + 20, reason="DstBucketNotFound")


def record(*destinations: Destination, **changes: object) -> Record:
    base = Record(
        version=ObjectVersion("src", "a/key", "v1"),
        region="eu-west-1",
        written_at=WRITTEN,
        next_look_at=WRITTEN + 60,
        destinations=destinations,
    )
    return msgspec.structs.replace(base, **changes)


def by_bucket(a_record: Record) -> dict[str, Destination]:
    return {one.bucket: one for one in a_record.destinations}


def test_the_earliest_arrival_stands_whatever_comes_first() -> None:
    """CloudTrail and S3 tell of the same arrival at different times; one that is counted is not touched."""
    for times in itertools.permutations([5.0, 3.0, 7.0]):
        known = record(ONE, TWO)
        for at in times:
            known = with_arrival(known, "one", at=WRITTEN + at, size=None)
        assert by_bucket(known)["one"].replicated_at == WRITTEN + 3

    counted = record(Destination("one", counted=True))
    assert with_arrival(counted, "one", at=WRITTEN, size=1) is counted


def test_a_replica_tells_the_size_only_where_nobody_did() -> None:
    """A size that is known is the source's."""
    assert with_arrival(record(ONE), "one", at=WRITTEN, size=9).size == 9
    assert with_arrival(record(ONE, size=7), "one", at=WRITTEN, size=9).size == 7


def test_a_notice_makes_its_destination_certain() -> None:
    """Whatever a tag filter might say, S3 did select what it failed to replicate; and it knows its own rules."""
    tagged = with_failure(record(Destination("one", certain=False)), "one", FAILURE)
    assert tagged.destinations == (Destination("one", failure=FAILURE),)

    assert by_bucket(with_failure(record(ONE), "new", FAILURE)) == {
        "one": ONE,
        "new": Destination("new", failure=FAILURE),
    }


@pytest.mark.parametrize(
    ("known", "bucket"),
    [
        pytest.param(record(ONE, reopened_at=WRITTEN + 20), "one", id="before-the-retry"),
        pytest.param(record(Destination("one", counted=True)), "one", id="counted"),
        pytest.param(record(Destination("one", failure=FAILURE)), "one", id="twice"),
        pytest.param(record(ONE, TWO), UNKNOWN_DESTINATION, id="nobody-knows-where"),
        pytest.param(
            record(said=(Destination("one", failure=FAILURE),)), "one", id="destinations-unread"
        ),
    ],
)
def test_a_notice_that_tells_nothing_new_changes_nothing(known: Record, bucket: str) -> None:
    """The very same record comes back, so that no ledger writes it."""
    assert with_failure(known, bucket, FAILURE) is known


@pytest.mark.parametrize(
    ("later", "changes"),
    [
        pytest.param(
            Failure(noticed_at=FAILURE.noticed_at + 60, reason=FAILURE.reason), {}, id="again"
        ),
        pytest.param(Failure(noticed_at=FAILURE.noticed_at + 60), {}, id="less"),
        pytest.param(
            Failure(noticed_at=FAILURE.noticed_at + 60, reason=FAILURE.reason),
            {"pending_seen_at": FAILURE.noticed_at + 90},
            id="before-a-look",
        ),
        pytest.param(
            Failure(noticed_at=FAILURE.noticed_at + 60, reason=FAILURE.reason),
            {"pending_seen_at": FAILURE.noticed_at + 30, "state": State.FAILED},
            id="open",
        ),
    ],
)
def test_m3_a_failure_is_known_whatever_try_is_told_of(
    later: Failure, changes: dict[str, Any]
) -> None:
    """M3: a later notice is no other failure: not while it is open, and not unless it was seen pending in between."""
    known = record(Destination("one", failure=FAILURE), **changes)
    unread = record(said=(Destination("one", failure=FAILURE),), **changes)

    assert with_failure(known, "one", later) is known
    assert with_failure(unread, "one", later) is unread


def test_m3_another_reason_or_a_look_that_showed_it_pending_makes_another_failure() -> None:
    """M3: what failed anew is news."""
    known = record(Destination("one", failure=FAILURE), pending_seen_at=FAILURE.noticed_at + 30)
    other = Failure(noticed_at=FAILURE.noticed_at + 20, reason="other")
    anew = Failure(noticed_at=FAILURE.noticed_at + 60)

    for later in (other, anew):
        assert by_bucket(with_failure(known, "one", later))["one"].failure == later


def test_m3_a_reason_is_learned_once_and_only_of_what_failed() -> None:
    """M3: wherever the failure stands; a notice from before the last retry explains nothing."""
    untold = Failure(noticed_at=WRITTEN + 10)
    told = Failure(noticed_at=WRITTEN + 9, reason="why")
    known = record(Destination("one", failure=untold), TWO)
    learned = with_reason(known, "one", told)

    assert by_bucket(learned)["one"].failure == Failure(noticed_at=WRITTEN + 10, reason="why")
    assert with_reason(learned, "one", Failure(noticed_at=WRITTEN + 11, reason="x")) is learned
    assert with_reason(known, "two", told) is known
    assert with_reason(known, UNKNOWN_DESTINATION, told) is known
    assert with_reason(known, "one", untold) is known
    unread = record(said=(Destination("one", failure=untold),))
    assert with_reason(unread, "one", told).said[0].failure == learned.destinations[0].failure
    retried = record(Destination("one", failure=untold), reopened_at=WRITTEN + 9)
    assert with_reason(retried, "one", told) is retried


def test_m4_that_it_is_everywhere_dates_the_only_destination() -> None:
    """M4: the earliest stands. Of several it dates none, nor where none is known."""
    known = with_all_arrived(record(ONE, size=None), at=WRITTEN + 5, size=7)

    assert known.destinations == (Destination("one", replicated_at=WRITTEN + 5),)
    assert known.size == 7
    assert with_all_arrived(known, at=WRITTEN + 6, size=8) is known
    for other in (record(ONE, TWO), record()):
        assert with_all_arrived(other, at=WRITTEN + 5, size=7) is other


def test_a_notice_without_a_destination_means_the_only_open_one() -> None:
    """What is counted already cannot be meant."""
    known = record(Destination("one", counted=True), TWO)

    assert by_bucket(with_failure(known, UNKNOWN_DESTINATION, FAILURE))["two"].failure == FAILURE
    assert by_bucket(with_miss(known, UNKNOWN_DESTINATION))["two"].missed


def test_a_miss_is_remembered_once() -> None:
    """S3 may send it twice, and may name a bucket that is not waited for."""
    known = with_miss(record(ONE, TWO), "one")

    assert [one.missed for one in known.destinations] == [True, False]
    assert with_miss(known, "one") is known
    assert with_miss(known, "other") is known


def test_a_restart_reopens_only_a_failure_found_before_it() -> None:
    """What was said about the failure is over; that there was one is not."""
    failed = record(
        Destination("one", failure=FAILURE, failed=True),
        state=State.FAILED,
        failed_at=WRITTEN + 30,
        failed_before=True,
    )

    assert reopened(failed, at=WRITTEN + 30) is failed
    assert reopened(record(ONE), at=WRITTEN + 90) == record(ONE)
    again = reopened(failed, at=WRITTEN + 90)
    assert (again.state, again.failed_at, again.reopened_at) == (State.PENDING, None, WRITTEN + 90)
    assert again.destinations == (Destination("one", failed=True),)
    assert again.repairs(again.destinations[0])


def test_where_a_failure_is_not_proved_it_stands_on_the_unknown_route() -> None:
    """No destination is accused without proof; the others wait until they are told apart."""
    both = record(ONE, TWO, state=State.FAILED)
    assert dict(both.standings()) == {
        Route("src", UNKNOWN_DESTINATION): State.FAILED,
        Route("src", "one"): State.PENDING,
        Route("src", "two"): State.PENDING,
    }

    named = with_failure(both, "two", FAILURE)
    assert dict(named.standings()) == {
        Route("src", "two"): State.FAILED,
        Route("src", "one"): State.PENDING,
    }

    last = record(Destination("one", counted=True), TWO, state=State.FAILED)
    assert dict(last.standings()) == {Route("src", "two"): State.FAILED}
    assert dict(record().standings()) == {Route("src", UNKNOWN_DESTINATION): State.PENDING}


def test_the_best_channel_tells_time_and_size_in_any_order() -> None:
    """The same write told by CloudTrail, EventBridge, a notification and a notice, with different sizes."""
    tellings = [
        record(ONE, channel=Channel.NOTICE, written_at=WRITTEN + 3),
        record(ONE, channel=Channel.CLOUDTRAIL, size=5),
        record(ONE, channel=Channel.EVENTBRIDGE, size=7),
        record(ONE, channel=Channel.NOTIFICATION, written_at=WRITTEN + 0.4, size=8),
    ]
    for first, *others in itertools.permutations(tellings):
        known = first
        for told in others:
            known = merged(known, told)
        assert (known.channel, known.written_at, known.size) == (
            Channel.NOTIFICATION,
            WRITTEN + 0.4,
            8,
        )
        assert merged(known, known) is known


def test_the_size_that_a_look_showed_stays() -> None:
    """S3 itself said how large the object is."""
    known = record(ONE, size=100, looks=1)

    assert merged(known, record(ONE, channel=Channel.NOTIFICATION, size=8)).size == 100


def test_a_notice_brings_the_next_look_forward_once() -> None:
    """A failure that is news is looked at when the notice wants; the same one again changes nothing."""
    notice = record(Destination("one", failure=FAILURE), next_look_at=WRITTEN + 1)

    known = merged(record(ONE, TWO), notice)
    assert known.next_look_at == WRITTEN + 1
    assert by_bucket(known)["one"].failure == FAILURE

    later = msgspec.structs.replace(known, next_look_at=WRITTEN + 300)
    assert merged(later, notice) is later


def test_destinations_that_could_not_be_read_are_taken_over() -> None:
    """Somebody could read the replication configuration meanwhile."""
    assert merged(record(), record(ONE, TWO)).destinations == (ONE, TWO)
    assert merged(record(ONE), record(ONE, TWO)).destinations == (ONE,)


def test_what_was_said_before_the_destinations_were_known_joins_them() -> None:
    """A notice outlives an unreadable configuration, and is over after a restart."""
    told = with_failure(record(), "one", FAILURE)

    known = routed(told, (ONE, TWO))

    assert known.said == ()
    assert [one.failure for one in known.destinations] == [FAILURE, None]
    assert routed(
        msgspec.structs.replace(told, reopened_at=FAILURE.noticed_at), (ONE,)
    ).destinations == (ONE,)
