"""Adding up what was counted: the same as one by one, only faster."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.objects import MarkId, Route, Scope
from crrmon.domain.outcomes import (
    Cause,
    Delta,
    Fate,
    Latency,
    Outcome,
    Tallies,
    Tally,
    delta,
    fold,
    tally,
)

ROUTES = [Route("src", "dst"), Route("src", ""), Route("other", "dst")]


def added(one: Tally, other: Tally) -> Tally:
    """Add two tallies field by field."""
    latency = dict(one.latency)
    for bucket, weight in other.latency.items():
        latency[bucket] = latency.get(bucket, 0.0) + weight
    sums = {
        name: getattr(one, name) + getattr(other, name)
        for name in Tally.__struct_fields__
        if name != "latency"
    }
    return Tally(latency=latency, **sums)


def one_by_one(pairs: list[tuple[Route, Tally]]) -> Tallies:
    """Add up by route, a tally at a time."""
    return {
        route: functools.reduce(added, [two for other, two in pairs if other == route])
        for route in dict.fromkeys(route for route, _ in pairs)
    }


counts = st.integers(0, 2**40)
amounts = st.floats(0, 1e9)
tallies = st.builds(
    Tally,
    **{name: counts for name in Tally.__struct_fields__ if name not in {"seconds", "latency"}},
    seconds=amounts,
    latency=st.dictionaries(st.integers(-5, 5), amounts, max_size=4),
)
pairs = st.lists(st.tuples(st.sampled_from(ROUTES), tallies), max_size=6)


@given(st.lists(pairs, max_size=6))
def test_folding_adds_up_as_one_by_one(batches: list[list[tuple[Route, Tally]]]) -> None:
    """Every field of every route, to the last bit, and the latencies in the order in which they were met."""
    told = fold(
        [
            Delta(id=f"b{number}", settled_at=0.0, tallies=tuple(batch))
            for number, batch in enumerate(batches)
        ]
    )
    expected = one_by_one([pair for batch in batches for pair in batch])
    assert told == expected
    assert [list(one.latency) for one in told.values()] == [
        list(one.latency) for one in expected.values()
    ]


outcomes = st.builds(
    Outcome,
    mark=st.builds(MarkId, st.just(Scope.REPLICA), st.just("dst"), st.text(), st.just("v")),
    fate=st.sampled_from(Fate),
    route=st.sampled_from(ROUTES),
    written_at=amounts,
    found_at=amounts,
    size=counts,
    latency=st.none() | st.builds(Latency, amounts, amounts),
    spread=st.lists(
        st.tuples(st.integers(-5, 5), amounts), max_size=3, unique_by=lambda one: one[0]
    ).map(tuple),
    seconds=amounts,
    repaired=st.booleans(),
    late=st.booleans(),
    cause=st.none() | st.sampled_from(Cause),
    counts=st.booleans(),
)


@given(st.lists(outcomes, max_size=20))
def test_a_batch_adds_up_its_outcomes(batch: list[Outcome]) -> None:
    """A delta is the sum of what its outcomes add, by route and in the order of the routes."""
    told = delta("b", batch, settled_at=5.0)
    by_themselves = (Fate.FAILED_THERE, Fate.PURGE_FAILED)
    expected = one_by_one(
        [(one.route, tally(one)) for one in batch if one.fate not in by_themselves]
    )
    assert told.tallies == tuple(sorted(expected.items(), key=lambda item: item[0]))
    assert (told.id, told.settled_at) == ("b", 5.0)


def outcome(fate: Fate, **changes: object) -> Outcome:
    return Outcome(
        mark=MarkId(Scope.REPLICA, "dst", "a/key", "v"),
        fate=fate,
        route=ROUTES[0],
        written_at=0.0,
        found_at=30.0,
        **changes,
    )


@pytest.mark.parametrize("fate", Fate)
def test_every_fate_counts_once_where_it_belongs(fate: Fate) -> None:
    """One field of its own for each end; what is no end of its own counts nothing."""
    counted = {name for name in Tally.__struct_fields__ if getattr(tally(outcome(fate)), name)}

    assert counted == {
        Fate.IS_REPLICA: set(),
        Fate.IDENTIFIED: set(),
        Fate.CLOSED: set(),
        Fate.FAILED_THERE: set(),
        Fate.PURGE_FAILED: set(),
        Fate.MARKER_CREATED: {"markers"},
        Fate.MARKER_ARRIVED: {"markers_arrived"},
        Fate.MARKER_FAILED: {"markers_failed"},
    }.get(fate, {fate.value})


def test_a_late_completion_counts_as_late_beside_its_latency() -> None:
    """Late is of completed ones alone, and nothing is late whose event was older than the dedup retention."""
    took = {"late": True, "latency": Latency(901.0, 901.0), "seconds": 901.0}
    one = tally(outcome(Fate.COMPLETED, size=7, **took))

    assert (one.completed, one.late, one.timed, one.exact, one.seconds) == (1, 1, 1, 1, 901.0)
    assert tally(outcome(Fate.COMPLETED, counts=False, **took)) == Tally(too_old=1)
