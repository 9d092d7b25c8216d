"""What each answer of S3 means for a version."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.decide import (
    REFUSALS_TO_UNPOLLABLE,
    TROUBLES_TO_GIVE_UP,
    Adopt,
    Settle,
    Wait,
    decide,
)
from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope, provisional
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate, Latency, tally
from crrmon.domain.records import Destination, Record, State

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
    decision = decide(a_record, observation, give_up_after=14 * DAY)
    assert isinstance(decision, Settle)
    return decision


def wait(a_record: Record, observation: Observation) -> Record:
    decision = decide(a_record, observation, give_up_after=14 * DAY)
    assert isinstance(decision, Wait)
    return decision.record


def fates(decision: Settle) -> list[tuple[Fate, str]]:
    return [(one.fate, one.route.destination) for one in decision.settlement.outcomes]


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        pytest.param(Sight.COMPLETED, [(Fate.COMPLETED, "dst")], id="completed"),
        pytest.param(Sight.GONE, [(Fate.GONE, "dst")], id="404"),
        pytest.param(Sight.NO_STATUS, [(Fate.NOT_COVERED, "")], id="no-status-D12-D22"),
        pytest.param(Sight.REPLICA, [(Fate.IS_REPLICA, "")], id="replica"),
        pytest.param(Sight.DELETE_MARKER, [(Fate.UNPOLLABLE, "dst")], id="405"),
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
    assert fates(first) == [(Fate.FAILED, "")]
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
    for _ in range(REFUSALS_TO_UNPOLLABLE - 1):
        current = wait(current, seen(Sight.REFUSED))
    interrupted = wait(current, seen(Sight.PENDING))
    assert interrupted.refusals == 0

    assert fates(settle(current, seen(Sight.REFUSED))) == [(Fate.UNPOLLABLE, "dst")]


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


def test_d17_every_certain_destination_is_counted_on_its_own() -> None:
    """COMPLETED is proof for all certain destinations; one that only a tag filter might select is not counted."""
    many = record(
        destinations=(
            Destination(bucket="dst-1"),
            Destination(bucket="dst-2"),
            Destination(bucket="dst-3", certain=False),
        )
    )
    assert fates(settle(many, seen(Sight.COMPLETED))) == [
        (Fate.COMPLETED, "dst-1"),
        (Fate.COMPLETED, "dst-2"),
    ]


def test_a_lone_tagged_destination_is_decided_by_head() -> None:
    """With one destination, a status proves that the tag filter selected it."""
    lone = record(destinations=(Destination(bucket="dst", certain=False),))

    assert fates(settle(lone, seen(Sight.COMPLETED))) == [(Fate.COMPLETED, "dst")]


def test_failed_with_several_destinations_leaves_them_undecided() -> None:
    """A merged FAILED is counted for the source; no destination is accused or acquitted."""
    many = record(destinations=(Destination(bucket="dst-1"), Destination(bucket="dst-2")))
    decision = settle(many, seen(Sight.FAILED))

    assert fates(decision) == [(Fate.FAILED, "")]
    assert decision.settlement.keep is not None
    assert many.destinations == decision.settlement.keep.destinations


def test_too_old_leaves_marks_but_counts_nothing_new() -> None:
    """Invariant 2: a version whose event came after the horizon adds only to `too_old`."""
    decision = settle(record(counts=False), seen(Sight.COMPLETED))

    outcome = decision.settlement.outcomes[0]
    assert outcome.latency is None
    assert (tally(outcome).completed, tally(outcome).bytes, tally(outcome).too_old) == (0, 0, 1)


UNNAMED = record(version=provisional("src", "a/key", WRITTEN))


def test_invariant_4_the_current_version_is_adopted_when_its_time_fits() -> None:
    """Invariant 4, D7: without a version id, the current version is taken only when LastModified matches."""
    answer = seen(Sight.PENDING, version_id="found", last_modified_at=WRITTEN + 2)
    decision = decide(UNNAMED, answer, give_up_after=14 * DAY)

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
