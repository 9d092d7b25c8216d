import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crrmon.domain.latency import bucket_of
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Latency
from crrmon.domain.pacing import Pacer
from crrmon.domain.policy import Policy

PATH = (Route("src", "dst"),)
T0 = 1_790_000_000.0

draws = st.floats(min_value=0, max_value=1, exclude_max=True)
times = st.floats(min_value=-1e12, max_value=1e12)
near = st.floats(min_value=T0, max_value=T0 + 100)
ages = st.one_of(
    st.floats(min_value=0, max_value=1000), st.floats(min_value=0, max_value=30 * 86400)
)
bounds = st.floats(min_value=0, max_value=1e7)


def _taught(*, outage: bool = False) -> Pacer:
    pacer, rng = Pacer(Policy()), random.Random(3)
    for number in range(1500):
        upper = 5 * 1.5 ** rng.randrange(12)
        pacer.learn(PATH, Latency(upper / 1.5, upper), now=T0 - 5000 + number)
    for second in range(500 if outage else 0):
        now = T0 - 500 + second
        pacer.note(PATH, done=False, written_at=now - 1000, now=now)
    return pacer


PACERS = {"unknown": Pacer(Policy()), "known": _taught(), "outage": _taught(outage=True)}
every_pacer = pytest.mark.parametrize("pacer", PACERS.values(), ids=PACERS)


def test_the_pacers_are_what_they_are_called():
    """The properties below are tried in all three states."""
    assert PACERS["unknown"].samples(PATH, now=T0) == 0
    assert PACERS["known"].samples(PATH, now=T0) > 300
    assert PACERS["outage"]._paths[PATH].flow.outage


@every_pacer
@given(now=near, age=st.one_of(ages, times), draw=draws)
def test_first_looks_are_never_in_the_past(pacer, now, age, draw):
    """Whatever the clocks say, the first look falls between now and a few hours on."""
    written_at = now - age
    at = pacer.first_look_at(PATH, written_at=written_at, now=now, draw=draw)

    assert now <= at <= now + 6 * 3600


@every_pacer
@given(
    now=near,
    age=st.one_of(ages, times),
    troubles=st.one_of(st.just(0), st.integers(0, 10**6)),
    draw=draws,
)
def test_next_looks_are_in_the_future(pacer, now, age, troubles, draw):
    """Whatever the clocks say and whatever went wrong, the next look falls between a second and a few hours on."""
    written_at = now - age
    at = pacer.next_look_at(PATH, written_at=written_at, now=now, troubles=troubles, draw=draw)

    assert now + 0.99 <= at <= now + 6 * 3600


@given(failed_at=times, now=times, draw=draws)
def test_looks_at_failures_are_in_the_future(failed_at, now, draw):
    """Whatever the clocks say, an open failure is looked at again within about a day and not within the minute."""
    at = PACERS["known"].failed_look_at(failed_at=failed_at, now=now, draw=draw)

    assert now + 60 <= at <= now + 1.2 * 86400


@given(troubles=st.integers(1, 50), draw=draws)
def test_more_trouble_never_means_sooner(troubles, draw):
    """With the same luck, each look that told nothing lengthens the wait."""
    waits = [
        PACERS["known"].next_look_at(PATH, written_at=T0 - 50, now=T0, troubles=count, draw=draw)
        for count in (troubles, troubles + 1)
    ]

    assert waits == sorted(waits)


@given(age=ages, later=ages, draw=st.floats(min_value=0.03, max_value=1, exclude_max=True))
def test_who_is_heard_of_later_is_not_looked_at_younger(age, later, draw):
    """With the same luck, an object heard of at a higher age is not first looked at at a lower one."""
    younger, older = sorted((age, later))
    ages_looked_at = [
        PACERS["known"].first_look_at(PATH, written_at=T0 - heard, now=T0, draw=draw) - T0 + heard
        for heard in (younger, older)
    ]

    # But for the jitter, and for where edges round to.
    assert ages_looked_at[0] <= ages_looked_at[1] * 1.25


@every_pacer
@given(one=bounds, other=bounds)
def test_spreads_are_whole_and_within_bounds(pacer, one, other):
    """The weights sum to one and lie in the buckets between those of the two bounds, each once and in order."""
    lower, upper = sorted((one, other))
    spread = pacer.spread(PATH, Latency(lower, upper), now=T0)
    buckets = [bucket for bucket, _ in spread]

    assert sum(weight for _, weight in spread) == pytest.approx(1)
    assert all(weight > 0 for _, weight in spread)
    assert buckets == sorted(set(buckets))
    assert bucket_of(lower) <= buckets[0]
    assert buckets[-1] <= bucket_of(upper)


@settings(max_examples=50)
@given(
    seen=st.lists(
        st.tuples(
            st.floats(min_value=-1e9, max_value=1e9),
            st.floats(),
            st.floats(),
            st.booleans(),
            draws,
        ),
        max_size=40,
    )
)
def test_no_history_leads_astray(seen):
    """Whatever was learned and noted in whatever order, answers stay finite and in the future."""
    pacer = Pacer(Policy(early_samples=3))
    for shift, lower, upper, done, draw in seen:
        now = T0 + shift
        pacer.note(PATH, done=done, written_at=T0, now=now, pending_seen_at=T0 + shift / 2)
        pacer.learn(PATH, Latency(lower, upper), now=now)
        first = pacer.first_look_at(PATH, written_at=T0, now=now, draw=draw)
        following = pacer.next_look_at(PATH, written_at=T0, now=now, troubles=0, draw=draw)

        assert now <= first < math.inf
        assert now < following < math.inf
        assert 0 <= pacer.samples(PATH, now=now) < math.inf
