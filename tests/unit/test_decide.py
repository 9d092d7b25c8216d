"""What each answer of S3 means for a version."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crrmon.domain.decide import (
    REFUSALS_TO_UNREADABLE,
    TROUBLES_TO_GIVE_UP,
    asks,
    proved,
)
from crrmon.domain.decisions import Adopt, Decision, Settle, Wait
from crrmon.domain.events.facts import Channel, Operation
from crrmon.domain.failures import PLACED_WITHIN_SECONDS
from crrmon.domain.objects import (
    UNKNOWN_DESTINATION,
    MarkId,
    ObjectVersion,
    Route,
    Scope,
    provisional,
)
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate, Latency, Outcome, mark, tally
from crrmon.domain.record_changes import reopened, with_arrival, with_failure, with_miss
from crrmon.domain.records import Destination, Failure, Record, State
from crrmon.domain.trails import Parked, Trail
from fakes.schedules import decided, schedule

DAY = 86_400.0
WRITTEN = 1_800_000_000.0
VERSION = ObjectVersion("src", "a/key", "AbCdEf12345")


def record(**changes: object) -> Record:
    base = Record(
        version=VERSION,
        region="eu-west-1",
        written_at=WRITTEN,
        next_look_at=WRITTEN,
        destinations=(Destination(bucket="dst"),),
    )
    return msgspec.structs.replace(base, **changes)


def seen(sight: Sight, *, after: float = 30.0, **more: object) -> Observation:
    answer = {"version_id": VERSION.version_id, "size": 7} if sight.answered else {}
    return Observation(**({"sight": sight, "looked_at": WRITTEN + after} | answer | more))


def settle(a_record: Record, observation: Observation) -> Settle:
    decision = decided(a_record, observation, give_up_after=14 * DAY)
    assert isinstance(decision, Settle)
    return decision


def wait(a_record: Record, observation: Observation) -> Record:
    decision = decided(a_record, observation, give_up_after=14 * DAY)
    assert isinstance(decision, Wait)
    return decision.record


def fates(decision: Settle) -> list[tuple[Fate, str]]:
    """Tell what is counted; that a version is closed is not."""
    return [
        (one.fate, one.route.destination)
        for one in decision.settlement.outcomes
        if one.fate is not Fate.CLOSED
    ]


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        pytest.param(Sight.COMPLETED, [(Fate.COMPLETED, "dst")], id="completed"),
        pytest.param(Sight.GONE, [(Fate.GONE, "dst")], id="404"),
        pytest.param(Sight.NO_STATUS, [(Fate.NOT_COVERED, "")], id="no-status-D12-D22"),
        pytest.param(Sight.REPLICA, [(Fate.IS_REPLICA, "")], id="replica"),
        pytest.param(Sight.DELETE_MARKER, [(Fate.UNREADABLE, "dst")], id="405"),
    ],
)
def test_what_proves_something_settles_and_drops_the_record(
    sight: Sight, expected: list[tuple[Fate, str]]
) -> None:
    """Each answer that proves the end of a version ends its tracking; none is silent (D12) or raises (D22)."""
    decision = settle(record(), seen(sight))

    assert expected == fates(decision)
    assert decision.settlement.keep is None


@pytest.mark.parametrize(
    "sight",
    [
        pytest.param(Sight.DENIED, id="403-D8"),
        pytest.param(Sight.THROTTLED, id="503-D9"),
        pytest.param(Sight.UNREACHABLE, id="timeout-D9"),
        pytest.param(Sight.REFUSED, id="400-once"),
        pytest.param(Sight.UNKNOWN, id="unknown-status"),
        pytest.param(Sight.PENDING, id="pending-D10"),
    ],
)
def test_invariant_3_nothing_ambiguous_ends_tracking(sight: Sight) -> None:
    """Invariant 3; D8, D9, D10: denied, throttled, unreachable, unknown and pending are looked at again."""
    kept = wait(record(), seen(sight))

    assert kept.version == VERSION
    assert State.PENDING is kept.state


@given(
    sights=st.lists(
        st.sampled_from([Sight.DENIED, Sight.THROTTLED, Sight.UNREACHABLE, Sight.PENDING]),
        max_size=40,
    )
)
def test_invariant_3_no_row_of_ambiguous_answers_ends_tracking_before_the_deadline(
    sights: list[Sight],
) -> None:
    """Invariant 3: however many looks tell nothing, the record is kept until the version is given up by age."""
    current = record()
    for number, sight in enumerate(sights):
        current = wait(current, seen(sight, after=60.0 * number))

    assert current.version == VERSION


def test_pending_bounds_the_latency_from_below() -> None:
    """A look that shows PENDING is the lower bound, the first that shows COMPLETED the upper."""
    pending = wait(record(), seen(Sight.PENDING, after=10))
    decision = settle(pending, seen(Sight.COMPLETED, after=25))

    outcome = decision.settlement.outcomes[0]
    assert Latency(10.0, 25.0) == outcome.latency
    assert not Latency(10.0, 25.0).exact
    assert outcome.size == 7


def test_an_arrival_known_from_the_replica_is_exact() -> None:
    """The replica's own event gives the latency, whenever the look was."""
    known = record(destinations=(Destination(bucket="dst", replicated_at=WRITTEN + 3),))
    decision = settle(known, seen(Sight.COMPLETED, after=40))

    latency = decision.settlement.outcomes[0].latency
    assert Latency(3.0, 3.0) == latency
    assert latency.exact


def test_clocks_that_disagree_do_not_make_a_bound_exact() -> None:
    """A look by a clock that is behind AWS's still gives a bounded latency, never a negative one."""
    decision = settle(record(), seen(Sight.COMPLETED, after=-5))

    latency = decision.settlement.outcomes[0].latency
    assert latency is not None
    assert not latency.exact
    assert latency.lower >= 0


def test_d20_a_failure_is_counted_once_per_episode_and_kept() -> None:
    """D20: FAILED again at the next look counts nothing; PENDING between begins a new episode."""
    first = settle(record(), seen(Sight.FAILED))
    kept = first.settlement.keep
    assert kept is not None
    assert fates(first) == [(Fate.FAILED, ""), (Fate.FAILED_THERE, "dst")]
    assert (
        MarkId(Scope.EPISODE, "src", "a/key", "AbCdEf12345", 1)
        == first.settlement.outcomes[0].mark
    )

    again = wait(kept, seen(Sight.FAILED, after=3600))
    assert State.FAILED is again.state
    assert again.episode == 1

    reopened = wait(again, seen(Sight.PENDING, after=7200))
    assert State.PENDING is reopened.state
    second = settle(reopened, seen(Sight.FAILED, after=7300))
    assert second.settlement.outcomes[0].mark.episode == 2


def test_a_repair_counts_as_replicated_and_leaves_the_latency_out() -> None:
    """FAILED, then COMPLETED: counted once, as repaired, without a latency that would only show the repair."""
    kept = settle(record(), seen(Sight.FAILED)).settlement.keep
    assert kept is not None
    repaired = settle(kept, seen(Sight.COMPLETED, after=DAY))

    outcome = repaired.settlement.outcomes[0]
    assert outcome.repaired
    assert outcome.latency is None
    assert (tally(outcome).completed, tally(outcome).repaired, tally(outcome).timed) == (1, 1, 0)


def test_400_is_believed_only_several_times_in_a_row() -> None:
    """An expired token looks like a customer-provided key to a HEAD, so one refusal proves nothing."""
    current = record()
    for _ in range(REFUSALS_TO_UNREADABLE - 1):
        current = wait(current, seen(Sight.REFUSED))
    interrupted = wait(current, seen(Sight.PENDING))
    assert interrupted.refusals == 0

    assert fates(settle(current, seen(Sight.REFUSED))) == [(Fate.UNREADABLE, "dst")]


def test_never_final_is_given_up_by_age() -> None:
    """PENDING for longer than `give_up_after` ends as given up, not silently."""
    decision = settle(record(), seen(Sight.PENDING, after=14 * DAY))

    assert fates(decision) == [(Fate.GIVEN_UP, "dst")]


def test_trouble_alone_gives_up_only_after_many_tries() -> None:
    """A version that is old when it is first heard of is not given up because S3 happens to be away."""
    old = wait(record(), seen(Sight.UNREACHABLE, after=20 * DAY))
    assert old.troubles == 1

    tired = record(troubles=TROUBLES_TO_GIVE_UP - 1)
    assert fates(settle(tired, seen(Sight.DENIED, after=20 * DAY))) == [(Fate.GIVEN_UP, "dst")]


def test_an_open_failure_is_closed_after_its_own_deadline() -> None:
    """A failure nobody repairs is followed for `give_up_after` from when it was seen."""
    kept = settle(record(), seen(Sight.FAILED, after=10 * DAY)).settlement.keep
    assert kept is not None

    wait(kept, seen(Sight.FAILED, after=23 * DAY))
    assert fates(settle(kept, seen(Sight.FAILED, after=24 * DAY))) == [(Fate.GIVEN_UP, "dst")]


def test_too_old_leaves_marks_but_counts_nothing_new() -> None:
    """Invariant 2: a version whose event came after the dedup retention adds only to `too_old`."""
    decision = settle(record(counts=False), seen(Sight.COMPLETED))

    outcome = decision.settlement.outcomes[0]
    assert outcome.latency is None
    assert (tally(outcome).completed, tally(outcome).bytes, tally(outcome).too_old) == (0, 0, 1)


UNNAMED = record(version=provisional("src", "a/key", WRITTEN))


def test_invariant_4_the_current_version_is_adopted_when_its_time_fits() -> None:
    """Invariant 4, D7: without a version id, the current version is taken only when LastModified matches."""
    answer = seen(Sight.PENDING, version_id="found", last_modified_at=WRITTEN + 2)
    decision = decided(UNNAMED, answer, give_up_after=14 * DAY)

    assert isinstance(decision, Adopt)
    assert isinstance(decision.then, Wait)
    assert ObjectVersion("src", "a/key", "found") == decision.then.record.version
    assert UNNAMED.version == decision.provisional.version
    assert [one.fate for one in decision.provisional.outcomes] == [Fate.IDENTIFIED]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(seen(Sight.COMPLETED, last_modified_at=WRITTEN + 2.5), id="newer"),
        pytest.param(seen(Sight.COMPLETED, last_modified_at=WRITTEN - 2.5), id="older"),
        pytest.param(seen(Sight.COMPLETED), id="no-time"),
        pytest.param(seen(Sight.GONE, version_id=None), id="gone"),
    ],
)
def test_invariant_4_an_answer_about_another_version_is_never_used(answer: Observation) -> None:
    """Invariant 4, D7: when the current version is another one, the event counts as unidentified."""
    decision = settle(UNNAMED, answer)

    assert fates(decision) == [(Fate.UNIDENTIFIED, "")]
    assert decision.settlement.version == UNNAMED.version


def test_an_unnamed_version_waits_through_trouble() -> None:
    """Trouble with an event without version id is trouble, not an end."""
    assert UNNAMED.version == wait(UNNAMED, seen(Sight.DENIED)).version


def test_d13_a_version_id_is_kept_whole_in_every_mark() -> None:
    """D13: the version id goes into marks as it is, first and last character included."""
    outcome = settle(record(), seen(Sight.COMPLETED)).settlement.outcomes[0]

    assert MarkId(Scope.REPLICA, "dst", "a/key", "AbCdEf12345") == outcome.mark
    assert Route("src", "dst") == outcome.route


# ---- several destinations ----

ONE = Destination(bucket="one")
TWO = Destination(bucket="two")
TAGGED = Destination(bucket="tagged", certain=False)
MAYBE = Destination(bucket="maybe", certain=False)
NOWHERE = Destination(bucket=UNKNOWN_DESTINATION, certain=False)
ARRIVED = Destination(bucket="two", replicated_at=WRITTEN + 5)
COUNTED = Destination(bucket="two", counted=True)
NAMED = Destination(
    bucket="two", failure=Failure(noticed_at=WRITTEN + 20, reason="DstBucketNotFound")
)

TOPOLOGIES = {
    "unread": (),
    "one": (ONE,),
    "two": (ONE, TWO),
    "tagged": (TAGGED,),
    "one-tagged": (ONE, TAGGED),
    "tagged-maybe": (TAGGED, MAYBE),
    "nowhere": (NOWHERE,),
    "one-arrived": (ONE, ARRIVED),
    "arrived": (ARRIVED,),
    "one-counted": (ONE, COUNTED),
    "tagged-counted": (TAGGED, COUNTED),
    "one-named": (ONE, NAMED),
    "named": (NAMED,),
}

COMPLETED, FAILED = Fate.COMPLETED, Fate.FAILED
Ends = list[tuple[Fate, str]]


def ends(fate: Fate, *buckets: str) -> Ends:
    return [(fate, bucket) for bucket in buckets]


DONE = {
    "unread": ends(COMPLETED, UNKNOWN_DESTINATION),
    "one": ends(COMPLETED, "one"),
    "two": ends(COMPLETED, "one", "two"),
    "tagged": ends(COMPLETED, "tagged"),
    "one-tagged": ends(COMPLETED, "one"),
    "tagged-maybe": ends(COMPLETED, UNKNOWN_DESTINATION),
    "nowhere": ends(COMPLETED, UNKNOWN_DESTINATION),
    "one-arrived": ends(COMPLETED, "one", "two"),
    "arrived": ends(COMPLETED, "two"),
    "one-counted": ends(COMPLETED, "one"),
    "tagged-counted": [],
    "one-named": ends(COMPLETED, "one", "two"),
    "named": ends(COMPLETED, "two"),
}
ENDED = {
    "unread": [UNKNOWN_DESTINATION],
    "one": ["one"],
    "two": ["one", "two"],
    "tagged": ["tagged"],
    "one-tagged": ["one"],
    "tagged-maybe": [UNKNOWN_DESTINATION],
    "nowhere": [UNKNOWN_DESTINATION],
    "one-arrived": ["one"],
    "arrived": [],
    "one-counted": ["one"],
    "tagged-counted": [],
    "one-named": ["one", "two"],
    "named": ["two"],
}
"""Where an end of the source ends it, too."""
HERE = {"one-arrived": ["two"], "arrived": ["two"]}
"""Where its replica's event proves that it arrived."""
FAILURES = {
    "one": (("one", ""),),
    "tagged": (("tagged", ""),),
    "nowhere": ((UNKNOWN_DESTINATION, ""),),
    "one-arrived": (("one", ""),),
    "one-counted": (("one", ""),),
    "tagged-counted": (("tagged", ""),),
    "one-named": (("two", "DstBucketNotFound"),),
    "named": (("two", "DstBucketNotFound"),),
}
"""Where a failure is proved."""


def follow(name: str, sight: Sight, **more: object) -> Decision:
    return decided(
        record(destinations=TOPOLOGIES[name], size=7), seen(sight, **more), give_up_after=14 * DAY
    )


def told(decision: Decision) -> tuple[Ends, Record | None]:
    """Return the outcomes of a decision, arrivals first, and what is followed on."""
    if isinstance(decision, Wait):
        return [], decision.record
    assert isinstance(decision, Settle)
    return fates(decision), decision.settlement.keep


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_d17_completed_settles_every_destination_that_it_proves(name: str) -> None:
    """D17: one outcome for each certain destination; a tag filter's counts where it is the only one, or nowhere else."""
    ended, kept = told(follow(name, Sight.COMPLETED))

    assert (ended, kept) == (DONE[name], None)


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize(
    ("sight", "fate"), [(Sight.GONE, Fate.GONE), (Sight.DELETE_MARKER, Fate.UNREADABLE)]
)
def test_the_end_of_the_source_ends_every_destination_but_those_reached(
    name: str, sight: Sight, fate: Fate
) -> None:
    """What is gone before it replicated is gone for each destination that it did not reach, and nothing is silent."""
    ended, kept = told(follow(name, sight))

    assert ended == ends(COMPLETED, *HERE.get(name, ())) + ends(fate, *ENDED[name])
    assert kept is None


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize(
    "sight", [Sight.COMPLETED, Sight.GONE, Sight.DELETE_MARKER, Sight.PENDING]
)
def test_what_ends_without_a_mark_at_each_destination_is_closed_as_a_whole(
    name: str, sight: Sight
) -> None:
    """One destination, or several that are all proved, cost no more than their own marks."""
    repaired = record(destinations=TOPOLOGIES[name], failed_before=True, counts=False, looks=2)
    decision = settle(repaired, seen(sight, after=20 * DAY))

    closed = [one for one in decision.settlement.outcomes if one.fate is Fate.CLOSED]
    if name not in {"unread", "one-tagged", "tagged-maybe", "tagged-counted"}:
        assert closed == []
        return
    (one,) = closed
    assert one.mark == MarkId(Scope.SOURCE, "src", VERSION.key, VERSION.version_id)
    assert one.route == Route("src", "")
    assert (one.repaired, one.counts, one.written_at) == (True, False, WRITTEN)
    assert one.size == 7


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_given_up_ends_as_the_source_does(name: str) -> None:
    """What is never final is given up for each destination that it did not reach."""
    ended, kept = told(follow(name, Sight.PENDING, after=20 * DAY))

    assert ended == ends(COMPLETED, *HERE.get(name, ())) + ends(Fate.GIVEN_UP, *ENDED[name])
    assert kept is None


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize(
    "sight",
    [
        Sight.PENDING,
        Sight.UNKNOWN,
        Sight.SILENT,
        Sight.DENIED,
        Sight.REFUSED,
        Sight.THROTTLED,
        Sight.UNREACHABLE,
        Sight.UNREADABLE,
        Sight.DOUBTED,
    ],
)
def test_while_it_is_not_final_only_what_arrived_is_counted(name: str, sight: Sight) -> None:
    """Arrivals that replica events prove are counted at once, the rest is followed on."""
    ended, kept = told(follow(name, sight))

    assert ended == ends(COMPLETED, *HERE.get(name, ()))
    if name == "arrived":
        assert kept is None
    else:
        assert kept is not None
        assert kept.state is State.PENDING
        assert [one.bucket for one in kept.open] == [
            one.bucket for one in TOPOLOGIES[name] if not one.counted and one.replicated_at is None
        ]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_d20_failed_is_one_episode_with_the_places_that_are_proved(name: str) -> None:
    """D20: counted once for the source; the places are those that S3 named, or the only one that is left."""
    decision = follow(name, Sight.FAILED)
    ended, kept = told(decision)

    arrivals = ends(COMPLETED, *HERE.get(name, ()))
    if name == "arrived":
        assert (ended, kept) == (arrivals, None)
        return
    assert isinstance(decision, Settle)
    episode = decision.settlement.outcomes[len(arrivals)]
    places = [bucket for bucket, _ in FAILURES.get(name, ())]
    assert ended == [*arrivals, (FAILED, ""), *ends(Fate.FAILED_THERE, *places)]
    assert episode.failures == FAILURES.get(name, ())
    assert kept is not None
    assert (kept.state, kept.episode, kept.failed_at) == (State.FAILED, 1, WRITTEN + 30)
    assert [one.bucket for one in kept.destinations if one.failed] == places


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_no_status_is_believed_unless_a_replica_proves_the_contrary(name: str) -> None:
    """Without a status nothing selected the version, but what arrived anywhere was selected."""
    ended, kept = told(follow(name, Sight.NO_STATUS))

    if name in ("one-counted", "tagged-counted"):
        assert ended == []
        assert kept is not None
    elif name in HERE:
        assert ended == ends(COMPLETED, "two")
        assert (kept is None) == (name == "arrived")
    else:
        assert (ended, kept) == ([(Fate.NOT_COVERED, "")], None)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_replica_is_none_of_ours_and_tells_its_source(name: str) -> None:
    """An event that did not tell replication's writes apart turns out to be an arrival in this bucket."""
    decision = decided(
        record(destinations=TOPOLOGIES[name], channel=Channel.EVENTBRIDGE),
        seen(Sight.REPLICA),
        give_up_after=14 * DAY,
    )

    assert isinstance(decision, Settle)
    assert (fates(decision), decision.settlement.keep) == ([(Fate.IS_REPLICA, "")], None)
    (news,) = decision.news
    assert (news.version, news.written_at, news.size) == (VERSION, WRITTEN, 7)


def test_a_notice_about_a_replica_is_no_arrival() -> None:
    """A change of a replica that failed to travel back says nothing of when the replica came."""
    decision = settle(record(channel=Channel.NOTICE), seen(Sight.REPLICA))

    assert fates(decision) == [(Fate.IS_REPLICA, "")]
    assert decision.news == ()


# ---- looks at destinations ----

ASKED = {
    Sight.SILENT: {
        "one": ["one"],
        "two": ["one", "two"],
        "tagged": ["tagged"],
        "one-tagged": ["one", "tagged"],
        "tagged-maybe": ["tagged", "maybe"],
        "one-arrived": ["one"],
        "one-counted": ["one"],
        "tagged-counted": ["tagged"],
        "one-named": ["one", "two"],
        "named": ["two"],
    },
    Sight.FAILED: {
        "two": ["one", "two"],
        "one-tagged": ["one", "tagged"],
        "tagged-maybe": ["tagged", "maybe"],
        "one-named": ["one"],
    },
    Sight.PENDING: {
        "two": ["one", "two"],
        "one-tagged": ["one", "tagged"],
        "tagged-maybe": ["tagged", "maybe"],
        "one-named": ["one", "two"],
    },
    Sight.COMPLETED: {
        "one-tagged": ["tagged"],
        "tagged-maybe": ["tagged", "maybe"],
        "tagged-counted": ["tagged"],
    },
}
ASKED[Sight.GONE] = ASKED[Sight.SILENT]


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("sight", Sight)
def test_destinations_are_asked_only_where_the_source_does_not_tell(
    name: str, sight: Sight
) -> None:
    """A HEAD at a destination is made only for what one at the source leaves open, and never in an unknown bucket."""
    asked = asks(record(size=7, destinations=TOPOLOGIES[name]), sight)

    assert [one.bucket for one in asked] == ASKED.get(sight, {}).get(name, [])


def test_a_version_without_its_id_is_not_looked_for_at_its_destinations() -> None:
    """Whatever lies there under its key may be another version."""
    assert asks(UNNAMED, Sight.GONE) == ()


def elsewhere(a_record: Record, sight: Sight, found: dict[str, Sight], **more: object) -> Decision:
    return decided(
        a_record, seen(sight, **more), give_up_after=14 * DAY, elsewhere=looks_of(found)
    )


def looks_of(found: dict[str, Sight]) -> dict[str, Observation]:
    """Return what looks at destinations showed, which tell no size."""
    return {bucket: seen(sight, size=None) for bucket, sight in found.items()}


def test_a_look_at_the_destination_counts_what_a_tag_filter_selected() -> None:
    """COMPLETED, and found in the one bucket of two that only tag filters select."""
    pair = record(destinations=(TAGGED, MAYBE))
    found = {"tagged": Sight.GONE, "maybe": Sight.REPLICA}

    assert told(elsewhere(pair, Sight.COMPLETED, found))[0] == ends(COMPLETED, "maybe")


def test_what_is_found_at_one_destination_is_counted_while_the_other_is_late() -> None:
    """PENDING for the sake of one: the other's latency is not bounded by looks that were about the late one."""
    pair = record(destinations=(ONE, TWO), pending_seen_at=WRITTEN + 800)
    decision = elsewhere(pair, Sight.PENDING, {"one": Sight.REPLICA, "two": Sight.GONE}, after=900)

    assert isinstance(decision, Settle)
    (outcome,) = decision.settlement.outcomes
    assert (outcome.route.destination, outcome.latency) == ("one", Latency(0.0, 900.0))
    kept = decision.settlement.keep
    assert kept is not None
    last = settle(kept, seen(Sight.COMPLETED, after=1200)).settlement.outcomes
    assert [(one.route.destination, one.latency) for one in last] == [
        ("two", Latency(900.0, 1200.0))
    ]


def test_a_look_at_a_destination_names_the_place_of_a_failure() -> None:
    """FAILED, and found at one of two: it failed at the other."""
    pair = record(destinations=(ONE, TWO))
    decision = elsewhere(pair, Sight.FAILED, {"one": Sight.REPLICA, "two": Sight.GONE})

    assert isinstance(decision, Settle)
    assert fates(decision) == [(COMPLETED, "one"), (FAILED, ""), (Fate.FAILED_THERE, "two")]
    assert decision.settlement.outcomes[1].failures == (("two", ""),)


def test_a_version_deleted_after_it_replicated_is_not_gone() -> None:
    """404 at the source proves nothing of what the destination has."""
    decision = elsewhere(record(destinations=(ONE, TWO)), Sight.GONE, {"two": Sight.REPLICA})

    assert told(decision) == (ends(COMPLETED, "two") + ends(Fate.GONE, "one"), None)


def test_the_size_of_a_version_deleted_before_its_first_look_is_told_by_its_replica() -> None:
    """Invariant 11: bytes that arrived are not counted as none, where no event told how many they are."""
    arrived = Destination("two", replicated_at=WRITTEN + 5)
    a_record = record(size=None, destinations=(ONE, arrived))
    assert [one.bucket for one in asks(a_record, Sight.GONE)] == ["one", "two"]

    decision = decided(
        a_record,
        seen(Sight.GONE, size=None),
        give_up_after=14 * DAY,
        elsewhere={"one": seen(Sight.GONE, size=None), "two": seen(Sight.REPLICA, size=225)},
    )

    assert isinstance(decision, Settle)
    assert {one.size for one in decision.settlement.outcomes} == {225}


def test_the_size_of_another_version_is_not_taken() -> None:
    """Every unversioned write has the id `null`: what is no replica at the destination may be any of them."""
    null = ObjectVersion("src", "a/key", "null")
    decision = decided(
        record(version=null, size=None, destinations=(ONE,)),
        seen(Sight.GONE, size=None),
        give_up_after=14 * DAY,
        elsewhere={"one": seen(Sight.NO_STATUS, size=225)},
    )

    assert isinstance(decision, Settle)
    assert {one.size for one in decision.settlement.outcomes} == {0}


@pytest.mark.parametrize("sight", [Sight.DENIED, Sight.THROTTLED, Sight.UNREACHABLE, Sight.GONE])
def test_a_destination_that_does_not_show_it_proves_nothing(sight: Sight) -> None:
    """Only a version that is there proves an arrival."""
    ended, kept = told(elsewhere(record(destinations=(ONE,)), Sight.SILENT, {"one": sight}))

    assert ended == []
    assert kept is not None


def test_a_store_without_status_is_followed_at_the_destination() -> None:
    """Where the source tells no status, absence at the destination bounds the latency and presence ends it."""
    _, kept = told(
        elsewhere(record(destinations=(ONE,)), Sight.SILENT, {"one": Sight.GONE}, after=10)
    )
    assert kept is not None

    done = elsewhere(kept, Sight.SILENT, {"one": Sight.SILENT}, after=25)

    assert isinstance(done, Settle)
    assert done.settlement.keep is None
    (outcome,) = done.settlement.outcomes
    assert (outcome.fate, outcome.latency) == (COMPLETED, Latency(10.0, 25.0))


def test_a_null_version_at_a_destination_must_be_a_replica() -> None:
    """Every unversioned write has the id `null`: only the status tells that this one was replicated."""
    null = record(version=ObjectVersion("src", "a/key", "null"), destinations=(ONE,))

    assert told(elsewhere(null, Sight.GONE, {"one": Sight.NO_STATUS}))[0] == ends(Fate.GONE, "one")
    assert told(elsewhere(null, Sight.GONE, {"one": Sight.REPLICA}))[0] == ends(COMPLETED, "one")


# ---- failures and repairs ----


def failed(a_record: Record, *, after: float = 30.0) -> Record:
    """Return the open failure that a look finds."""
    kept = settle(a_record, seen(Sight.FAILED, after=after)).settlement.keep
    assert kept is not None
    return kept


def last_flags(decision: Decision) -> dict[str, tuple[bool, bool, Latency | None]]:
    """Return of each arrival whether it was a repair, whether it was late, and its latency."""
    assert isinstance(decision, Settle)
    return {
        one.route.destination: (one.repaired, one.late, one.latency)
        for one in decision.settlement.outcomes
        if one.fate is COMPLETED
    }


def test_a_slow_destination_is_no_repair_beside_one_that_failed() -> None:
    """FAILED without a place, then found at one of two: that one was slow, and the other is to blame."""
    kept = failed(record(destinations=(ONE, TWO)))

    decision = elsewhere(kept, Sight.FAILED, {"one": Sight.REPLICA}, after=3600)
    assert last_flags(decision) == {"one": (False, False, None)}
    left = told(decision)[1]
    assert left is not None
    assert [one.bucket for one in left.open if one.failed] == ["two"]

    repaired = decided(left, seen(Sight.COMPLETED, after=DAY), give_up_after=14 * DAY)
    assert last_flags(repaired) == {"two": (True, False, None)}


def test_an_arrival_told_late_is_no_repair() -> None:
    """Its replica's event came after FAILED was seen, but tells of an arrival before that."""
    kept = with_arrival(failed(record(destinations=(ONE, TWO))), "one", at=WRITTEN + 5, size=None)

    decision = decided(kept, seen(Sight.COMPLETED, after=DAY), give_up_after=14 * DAY)

    assert last_flags(decision) == {
        "one": (False, False, Latency(5.0, 5.0)),
        "two": (True, False, None),
    }


def test_a_place_named_after_the_failure_was_seen_is_to_blame() -> None:
    """S3's notice comes after the look: from then on, the other destination's arrival is none of a repair."""
    kept = with_failure(
        failed(record(destinations=(ONE, TWO))), "two", Failure(noticed_at=WRITTEN + 40)
    )
    arrived = with_arrival(kept, "one", at=WRITTEN + 50, size=None)

    decision = decided(arrived, seen(Sight.COMPLETED, after=DAY), give_up_after=14 * DAY)

    assert last_flags(decision) == {
        "one": (False, False, Latency(50.0, 50.0)),
        "two": (True, False, None),
    }


@pytest.mark.parametrize("late", [("one",), ("one", "two"), ("two", "two")])
def test_a_place_named_after_the_retry_is_repaired_as_well(late: tuple[str, ...]) -> None:
    """It failed at both. However many of S3's notices come after the retry, both arrivals are repairs."""
    current = failed(record(destinations=(ONE, TWO)))
    for bucket in {"one", "two"}.difference(late):
        current = with_failure(current, bucket, Failure(noticed_at=WRITTEN + 20))
    current = reopened(current, at=WRITTEN + 3600)
    for bucket in late:
        current = with_failure(current, bucket, Failure(noticed_at=WRITTEN + 20))
    assert current.state is State.PENDING
    assert not any(one.failure for one in current.destinations)

    decision = decided(current, seen(Sight.COMPLETED, after=DAY), give_up_after=14 * DAY)

    assert last_flags(decision) == {"one": (True, False, None), "two": (True, False, None)}


def test_a_failure_counts_anew_only_after_a_retry() -> None:
    """FAILED, FAILED, restarted, FAILED: two episodes; a restart from before the failure starts none."""
    kept = failed(record())
    again = wait(kept, seen(Sight.FAILED, after=100))
    assert reopened(again, at=WRITTEN + 20) == again

    second = settle(reopened(again, at=WRITTEN + 200), seen(Sight.FAILED, after=300))

    assert [(one.fate, one.mark.episode) for one in second.settlement.outcomes] == [
        (FAILED, 2),
        (Fate.FAILED_THERE, 2),
    ]


def test_no_status_does_not_close_an_open_failure() -> None:
    """A status that was seen proves that a rule selected it: it stays open until repaired, gone or given up."""
    kept = failed(record())

    assert wait(kept, seen(Sight.NO_STATUS, after=3600)).state is State.FAILED
    assert fates(settle(kept, seen(Sight.NO_STATUS, after=20 * DAY))) == [(Fate.GIVEN_UP, "dst")]


@pytest.mark.parametrize(
    ("destination", "pending_seen_at", "late"),
    [
        pytest.param(Destination("dst", replicated_at=WRITTEN + 901), None, True, id="exact"),
        pytest.param(Destination("dst", replicated_at=WRITTEN + 899), None, False, id="in-time"),
        pytest.param(Destination("dst", missed=True), None, True, id="S3-says-so"),
        pytest.param(Destination("dst"), WRITTEN + 901, True, id="seen-pending"),
        pytest.param(Destination("dst"), WRITTEN + 800, True, id="most-probably"),
        pytest.param(Destination("dst"), WRITTEN + 500, False, id="probably-not"),
    ],
)
def test_what_is_certainly_late_is_marked(
    destination: Destination, pending_seen_at: float | None, *, late: bool
) -> None:
    """Later than 15 minutes: by S3's word, by the replica's event, or by when looks saw it pending."""
    known = record(destinations=(destination,), pending_seen_at=pending_seen_at)

    decision = settle(known, seen(Sight.COMPLETED, after=1000))

    assert decision.settlement.outcomes[0].late is late


def test_a_repair_is_never_late() -> None:
    """However long somebody took to repair it, that is no matter of S3's promise."""
    kept = failed(record(destinations=(Destination("dst", missed=True),)))

    decision = decided(kept, seen(Sight.COMPLETED, after=DAY), give_up_after=14 * DAY)

    assert last_flags(decision) == {"dst": (True, False, None)}


def test_an_arrival_waits_for_its_size_only_for_a_while() -> None:
    """While looks tell nothing and nobody told the size, bytes would be lost; after some tries it is counted."""
    known = record(destinations=(ONE, ARRIVED), size=None)
    kept = wait(known, seen(Sight.THROTTLED))
    assert kept.open == known.open

    tired = msgspec.structs.replace(kept, troubles=TROUBLES_TO_GIVE_UP - 1)
    assert fates(settle(tired, seen(Sight.THROTTLED))) == [(COMPLETED, "two")]


# ---- any sequence ----

sights = st.sampled_from([*Sight, *[Sight.FAILED, Sight.PENDING] * 5])
looks = st.tuples(
    st.just("look"),
    sights,
    st.dictionaries(st.sampled_from(["one", "two", "tagged"]), st.sampled_from(Sight)),
)
arrivals = st.tuples(
    st.just("arrival"), st.sampled_from(["one", "two", "tagged"]), st.floats(0, 1000)
)
notices = st.tuples(
    st.just("notice"), st.sampled_from(["one", "two", "tagged", "unknown"]), st.none()
)
misses = st.tuples(st.just("miss"), st.sampled_from(["one", "two", "unknown"]), st.none())
restarts = st.tuples(st.just("restart"), st.floats(0, 300), st.none())
steps = st.one_of(looks, looks, looks, arrivals, notices, misses, restarts)
VERSION_ENDS = {Fate.NOT_COVERED, Fate.IS_REPLICA}


@settings(max_examples=400)
@given(
    destinations=st.sampled_from([(ONE,), (ONE, TWO), (ONE, TWO, TAGGED), (TAGGED,), ()]),
    size=st.sampled_from([None, 7]),
    script=st.lists(steps, max_size=25),
)
def test_whatever_happens_each_end_is_counted_once(
    destinations: tuple[Destination, ...], size: int | None, script: list[tuple[str, Any, Any]]
) -> None:
    """
    Any row of looks and news: one completion a destination, one episode a failure, one end for all that is certain.

    And when it is over, its marks alone tell a duplicate so.
    """
    story = Story(record(destinations=destinations, size=size))
    for number, (what, first, second) in enumerate(script):
        now = WRITTEN + 60.0 * (number + 1)
        if what == "look":
            story.look(first, second, now=now)
        else:
            story.hear(what, first, second, now=now)
        if story.current is None:
            break
        assert_proved_agrees(story.current, now)

    outcomes, current = story.outcomes, story.current
    completed = Counter(one.route.destination for one in outcomes if one.fate is COMPLETED)
    failures = [one.mark.episode for one in outcomes if one.fate is FAILED]
    places = Counter(one.mark for one in outcomes if one.fate is Fate.FAILED_THERE)
    assert max(completed.values(), default=0) <= 1
    assert max(places.values(), default=0) <= 1
    assert failures == list(range(1, len(failures) + 1))
    assert all(one.size == 7 or one.fate is not COMPLETED for one in outcomes if size)
    if current is not None:
        assert current.episode == len(failures)
        return
    assert outcomes
    marks = {one.mark.slot: mark(one, "b") for one in outcomes}
    # What S3 said of failures is no part of an event that comes again.
    last = tuple(msgspec.structs.replace(one, failure=None) for one in story.last.destinations)
    for duplicate in (
        record(destinations=destinations),
        msgspec.structs.replace(story.last, destinations=last, said=()),
    ):
        assert Trail(marks=dict(marks)).park(duplicate) is Parked.SETTLED
    if not any(one.fate in VERSION_ENDS for one in outcomes):
        final = Counter(
            one.route.destination
            for one in outcomes
            if one.fate not in (FAILED, Fate.FAILED_THERE)
        )
        assert max(final.values()) == 1
        assert {one.bucket for one in destinations if one.certain} <= set(final)


class Story:
    """What becomes of one version, and what was counted of it."""

    def __init__(self, start: Record) -> None:
        self.current: Record | None = start
        self.last = start
        """As it was when it was last looked at."""
        self.outcomes: list[Outcome] = []
        self._may_fail = True

    def look(self, sight: Sight, found: dict[str, Sight], *, now: float) -> None:
        """Look at it; every episode must have a retry before it."""
        assert self.current is not None
        self._may_fail |= sight is Sight.PENDING
        self.last = self.current
        answer = seen(sight, after=now - WRITTEN)
        decision = decided(self.current, answer, give_up_after=14 * DAY, elsewhere=looks_of(found))
        new = decision.settlement.outcomes if isinstance(decision, Settle) else ()
        episodes = [one for one in new if one.fate is FAILED]
        assert len(episodes) <= int(self._may_fail)
        self._may_fail = self._may_fail and not episodes
        self.outcomes += new
        self.current = told(decision)[1]

    def hear(self, what: str, first: Any, second: Any, *, now: float) -> None:
        """Let it learn what others tell."""
        assert self.current is not None
        match what:
            case "arrival":
                after = with_arrival(self.current, first, at=WRITTEN + second, size=None)
            case "notice":
                after = with_failure(self.current, first, Failure(noticed_at=now))
            case "miss":
                after = with_miss(self.current, first)
            case _:
                after = reopened(self.current, at=now - first)
                self._may_fail |= after is not self.current
        self.current = after


def assert_proved_agrees(a_record: Record, now: float) -> None:
    """What is settled without a look is what a look that shows COMPLETED would settle."""
    without = proved(a_record, schedule(now))
    if without is None:
        assert a_record.size is None or not a_record.arrived
        return
    answer = seen(Sight.COMPLETED, after=now - WRITTEN, size=a_record.size)
    looked = settle(a_record, answer).settlement
    assert looked.keep is without.settlement.keep is None
    assert [msgspec.structs.replace(one, looks=0) for one in without.settlement.outcomes] == [
        msgspec.structs.replace(one, looks=0) for one in looked.outcomes
    ]


# ---- several destinations: what a status of all tells of one ----


def looked(a_record: Record, sight: Sight, *, after: float, **found: Sight) -> Record:
    """Look once and go on."""
    decision = elsewhere(a_record, sight, found, after=after)
    kept = decision.record if isinstance(decision, Wait) else decision.settlement.keep
    assert kept is not None
    return kept


def arrivals_of(decision: Decision) -> dict[str, tuple[Latency | None, bool]]:
    assert isinstance(decision, Settle)
    return {
        one.route.destination: (one.latency, one.late)
        for one in decision.settlement.outcomes
        if one.fate is COMPLETED
    }


def test_t4_a_status_of_all_bounds_no_single_destination() -> None:
    """PENDING for 1,200 s, then COMPLETED: either may have taken 5 s. None is late, and both are done by then."""
    pending = looked(record(destinations=(ONE, TWO)), Sight.PENDING, after=1200)

    told = arrivals_of(elsewhere(pending, Sight.COMPLETED, {}, after=1332))

    assert told == {
        "one": (Latency(0.0, 1332.0, 1200.0), False),
        "two": (Latency(0.0, 1332.0, 1200.0), False),
    }


def test_t4_s3s_own_word_makes_late() -> None:
    """Of two, the one that S3 says missed its 15 minutes is late, and the other is not."""
    pair = record(destinations=(ONE, msgspec.structs.replace(TWO, missed=True)))
    pending = looked(pair, Sight.PENDING, after=1200)

    told = arrivals_of(elsewhere(pending, Sight.COMPLETED, {}, after=1332))

    assert {bucket: late for bucket, (_, late) in told.items()} == {"one": False, "two": True}


@pytest.mark.parametrize("known", ["event-before", "event-after", "look"])
def test_t4_what_is_waited_for_alone_is_bounded_and_late(known: str) -> None:
    """Once the one is known to have arrived, by its replica's event or by a look, PENDING is about the other."""
    exact = msgspec.structs.replace(ONE, replicated_at=WRITTEN + 5)
    start = record(destinations=(exact if known == "event-before" else ONE, TWO), size=7)
    found = {"one": Sight.REPLICA} if known == "look" else {}
    pending = looked(start, Sight.PENDING, after=30, **found)
    pending = looked(pending, Sight.PENDING, after=1000)
    if known == "event-after":
        pending = with_arrival(pending, "one", at=WRITTEN + 5, size=7)

    told = arrivals_of(elsewhere(pending, Sight.COMPLETED, {}, after=1332))

    assert told["two"] == (Latency(1000.0, 1332.0), True)
    assert told.get("one", (Latency(5.0, 5.0), False)) == (Latency(5.0, 5.0), False)


def test_t4_a_look_that_misses_it_there_bounds_that_destination_alone() -> None:
    """PENDING, and missing at one of two: that one's own bound; nothing is said of the other."""
    pending = looked(record(destinations=(ONE, TWO)), Sight.PENDING, after=1000, two=Sight.GONE)

    told = arrivals_of(elsewhere(pending, Sight.COMPLETED, {}, after=1332))

    assert told == {"one": (Latency(0.0, 1332.0), False), "two": (Latency(1000.0, 1332.0), True)}


def test_t4_destinations_are_asked_at_the_first_look_that_shows_pending() -> None:
    """Not only once the object is stuck: until then, nothing would be known of the fast one."""
    assert asks(record(destinations=(ONE, TWO)), Sight.PENDING) == (ONE, TWO)


# ---- what is believed of whom ----


@pytest.mark.parametrize("sight", [Sight.GONE, Sight.DELETE_MARKER, Sight.NO_STATUS])
@pytest.mark.parametrize("start", [record(), record(version=provisional("src", "a/key", WRITTEN))])
def test_t5_an_end_without_proof_is_believed_the_second_time_in_a_row(
    sight: Sight, start: Record
) -> None:
    """A store of its own may have a proxy before it: one such answer ends nothing, two in a row do."""
    answer = seen(sight, unproved=True, version_id=None)
    once = wait(start, answer)
    assert (once.endings, once.open) == (1, start.open)

    interrupted = wait(once, seen(Sight.PENDING)) if start.version.identified else once
    assert interrupted.endings == (0 if start.version.identified else 1)
    assert settle(once, answer).settlement.keep is None


# ---- adoption, by how it was written ----

UPLOADED = record(
    version=provisional("src", "big.bin", WRITTEN), operation=Operation.MULTIPART, size=None
)
BEGUN = WRITTEN - 1800.0
PARTS = "9bb58f26192e4ba00f01e2e7b136bbd8-12"


@pytest.mark.parametrize(
    ("known", "answer", "adopted"),
    [
        pytest.param({}, {"etag": PARTS}, True, id="begun-half-an-hour-before"),
        pytest.param({}, {}, True, id="a-store-without-etags"),
        pytest.param({"size": 7}, {"etag": PARTS}, True, id="of-the-size-that-was-told"),
        pytest.param({"size": 8}, {"etag": PARTS}, False, id="of-another-size"),
        pytest.param({"etag": PARTS}, {"etag": PARTS}, True, id="of-the-etag-that-was-told"),
        pytest.param({"etag": "other-12"}, {"etag": PARTS}, False, id="of-another-etag"),
        pytest.param({}, {"etag": "9bb58f26192e4ba0"}, False, id="not-of-several-parts"),
        pytest.param({}, {"etag": PARTS, "begun": WRITTEN + 3}, False, id="begun-after-the-end"),
        pytest.param({}, {"etag": PARTS, "begun": WRITTEN - 8 * DAY}, False, id="begun-long-ago"),
        pytest.param({"operation": Operation.PUT}, {"etag": "e"}, False, id="a-put-before"),
        pytest.param(
            {"operation": Operation.PUT, "etag": "f"},
            {"etag": "e", "begun": WRITTEN},
            False,
            id="a-put-of-another-etag",
        ),
    ],
)
def test_t9_a_multipart_upload_is_known_by_what_it_can_be(
    known: dict[str, Any], answer: dict[str, Any], *, adopted: bool
) -> None:
    """S3 stamps it with the beginning of the upload: that, the parts, the size and the ETag decide, as far as told."""
    begun = answer.pop("begun", BEGUN)
    unnamed = msgspec.structs.replace(UPLOADED, **known)

    decision = decided(
        unnamed,
        seen(Sight.PENDING, version_id="found", last_modified_at=begun, **answer),
        give_up_after=14 * DAY,
    )

    assert isinstance(decision, Adopt) is adopted
    if isinstance(decision, Adopt):
        assert isinstance(decision.then, Wait)
        assert decision.then.record.version == ObjectVersion("src", "big.bin", "found")
        assert decision.then.record.written_at == WRITTEN
    else:
        assert isinstance(decision, Settle)
        assert fates(decision) == [(Fate.UNIDENTIFIED, "")]


# ---- where it failed ----


class Episode:
    """A version that failed at two destinations, and where that was counted."""

    def __init__(self) -> None:
        self.record: Record | None = record(destinations=(ONE, TWO))
        self.counted: Counter[str] = Counter()
        self.episodes = 0

    def look(self, sight: Sight = Sight.FAILED, *, after: float, **found: Sight) -> None:
        assert self.record is not None
        decision = elsewhere(self.record, sight, found, after=after)
        if isinstance(decision, Wait):
            self.record = decision.record
            return
        assert isinstance(decision, Settle)
        self.record = decision.settlement.keep
        for one in decision.settlement.outcomes:
            self.episodes += one.fate is FAILED
            self.counted[one.route.destination] += one.fate is Fate.FAILED_THERE

    def hear(self, bucket: str, *, after: float) -> None:
        assert self.record is not None
        self.record = with_failure(self.record, bucket, Failure(WRITTEN + after, "Why"))


def test_t14_each_destination_counts_when_it_is_proved() -> None:
    """The second notice comes after the episode was counted: that destination counts then, and each of them once."""
    story = Episode()
    story.hear("one", after=30)
    story.look(after=31)
    assert +story.counted == Counter(one=1)

    story.hear("two", after=30)
    story.look(after=40)
    story.look(after=3600)

    assert +story.counted == Counter(one=1, two=1)
    assert story.episodes == 1


def test_t14_the_unknown_destination_counts_only_where_none_is_proved_in_time() -> None:
    """FAILED without a word where: nothing is counted at once; after ten minutes it is, at `unknown`, once."""
    story = Episode()
    story.look(after=30)
    story.look(after=30 + PLACED_WITHIN_SECONDS - 1)
    assert +story.counted == Counter()
    assert story.episodes == 1

    story.look(after=30 + PLACED_WITHIN_SECONDS)
    story.look(after=3600)

    assert +story.counted == Counter(unknown=1)


def test_t14_what_was_counted_as_unknown_is_not_counted_again_when_it_is_proved() -> None:
    """Two destinations failed, so two are counted, however late S3 said which."""
    story = Episode()
    story.look(after=30)
    story.look(after=3600)
    story.hear("two", after=3700)
    story.look(after=3701)
    assert +story.counted == Counter(unknown=1)

    story.hear("one", after=3800)
    story.look(after=3801)

    assert +story.counted == Counter(unknown=1, one=1)


@pytest.mark.parametrize("sight", [Sight.PENDING, Sight.COMPLETED, Sight.GONE])
def test_t14_an_episode_that_ends_before_it_is_placed_counts_as_unknown(sight: Sight) -> None:
    """Restarted, repaired or deleted within the ten minutes: it failed somewhere all the same."""
    story = Episode()
    story.look(after=30)
    story.look(sight, after=60)

    assert +story.counted == Counter(unknown=1)


def test_t14_an_episode_that_replicas_events_end_counts_as_unknown_too() -> None:
    """Arrived everywhere, as its replicas' events say, before anybody could tell where it had failed."""
    story = Episode()
    story.look(after=30)
    current = story.record
    for bucket in ("one", "two"):
        assert current is not None
        current = with_arrival(current, bucket, at=WRITTEN + 90, size=7)
    assert current is not None
    settled = proved(current, schedule(WRITTEN + 100))

    assert settled is not None
    assert (Fate.FAILED_THERE, "unknown") in fates(settled)


told_of = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.sampled_from(["one", "two"])),
        st.tuples(st.just("look"), st.just("")),
        st.tuples(st.just("trouble"), st.just("")),
    ),
    max_size=12,
)


@given(told_of, st.sampled_from([20.0, 200.0, 700.0]))
def test_t14_both_destinations_of_a_failure_count_once_in_any_order(
    script: list[tuple[str, str]], pace: float
) -> None:
    """Any order of notices, duplicates and looks: never more than the two that failed, and both when both are told."""
    story = Episode()
    for number, (what, bucket) in enumerate(script, start=1):
        if what == "hear":
            story.hear(bucket, after=pace * number)
        else:
            story.look(Sight.FAILED if what == "look" else Sight.THROTTLED, after=pace * number)
        assert sum(story.counted.values()) <= 2
        assert max(story.counted.values(), default=0) <= 1
    story.hear("one", after=pace * 20)
    story.hear("two", after=pace * 20)
    story.look(after=pace * 20 + 1)

    assert sum(story.counted.values()) == 2
    if not story.counted["unknown"]:
        assert +story.counted == Counter(one=1, two=1)
    assert story.episodes == 1
