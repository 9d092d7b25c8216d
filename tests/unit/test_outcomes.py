"""Adding up what was counted: the same as one by one, only faster."""

import functools

from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.objects import MarkId, Route, Scope
from crrmon.domain.outcomes import (
    Contribution,
    Fate,
    Latency,
    Outcome,
    Tallies,
    Tally,
    contribution,
    fold,
    tally,
)

ROUTES = [Route("src", "dst"), Route("src", ""), Route("other", "dst")]


def added(one: Tally, other: Tally) -> Tally:
    """
    Add two tallies field by field.
    """
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
    """
    Add up by route, a tally at a time.
    """
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
            Contribution(id=f"b{number}", settled_at=0.0, tallies=tuple(batch))
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
    counts=st.booleans(),
)


@given(st.lists(outcomes, max_size=20))
def test_a_batch_adds_up_its_outcomes(batch: list[Outcome]) -> None:
    """A contribution is the sum of what its outcomes add, by route and in the order of the routes."""
    told = contribution("b", batch, settled_at=5.0)
    expected = one_by_one([(one.route, tally(one)) for one in batch])
    assert told.tallies == tuple(sorted(expected.items(), key=lambda item: item[0]))
    assert (told.id, told.settled_at) == ("b", 5.0)
