import itertools
import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crrmon.domain.latency import (
    BUCKETS,
    bucket_of,
    edge_near,
    fit,
    lower_edge,
    mean,
    middle,
    quantile,
    span_of,
    upper_edge,
)

FORTNIGHT = 14 * 86400.0
EVEN = [1 / BUCKETS] * BUCKETS
NO_CREDIT = [1e-9] * BUCKETS

seconds = st.floats(min_value=0, max_value=FORTNIGHT)


@pytest.mark.parametrize(
    ("latency", "bucket"),
    [(-5, 0), (0, 0), (0.49, 0), (0.5, 1), (1, 5), (2, 9), (120, 32), (1e9, 87), (math.inf, 87)],
)
def test_buckets_are_where_the_ledger_expects_them(latency, bucket):
    """The numbers of the buckets are part of the ledger's format and never change."""
    assert bucket_of(latency) == bucket


@given(seconds)
@example(0.5)
@example(lower_edge(40))
def test_a_bucket_holds_its_latencies(latency):
    """A latency lies between the edges of its bucket."""
    bucket = bucket_of(latency)

    assert lower_edge(bucket) <= latency * (1 + 1e-9)
    assert latency < upper_edge(bucket) * (1 + 1e-9)


def test_buckets_join():
    """Each bucket begins where the one before ends, and its middle lies between."""
    for bucket, following in itertools.pairwise(range(BUCKETS)):
        assert upper_edge(bucket) == pytest.approx(lower_edge(following))
        assert lower_edge(bucket) < middle(bucket) < upper_edge(bucket)


@given(seconds)
def test_the_nearest_edge_is_at_most_half_a_bucket_away(latency):
    """Of the two edges of its bucket, a latency is counted to the nearer."""
    bucket = bucket_of(latency)
    edge = edge_near(latency)

    assert edge in (bucket, bucket + 1)
    if bucket > 0:
        assert edge == bucket or latency >= middle(bucket) * (1 - 1e-9)
        assert edge == bucket + 1 or latency <= middle(bucket) * (1 + 1e-9)


@given(seconds, seconds)
def test_a_span_lies_within_its_bounds(one, other):
    """An interval stands for at least one bucket, and for none beyond those that hold its bounds."""
    lower, upper = sorted((one, other))
    first, end = span_of(lower, upper)

    assert bucket_of(lower) <= first < end <= bucket_of(upper) + 1


def test_an_exact_latency_spans_its_bucket():
    """A latency that is known exactly stands for the one bucket that holds it."""
    assert span_of(100.0, 100.0) == (bucket_of(100), bucket_of(100) + 1)


@given(st.floats(min_value=0), st.floats(min_value=0))
def test_spans_survive_anything(one, other):
    """No bound, however far off, leads outside the buckets."""
    first, end = span_of(min(one, other), max(one, other))

    assert 0 <= first < end <= BUCKETS


def test_quantiles_interpolate():
    """A quantile lies within its bucket as deep as the share lies within the bucket's weight."""
    start, end = lower_edge(20), upper_edge(20)

    assert quantile({20: 2.0}, 0.25) == pytest.approx(start + (end - start) / 4)
    assert quantile({10: 1.0, 20: 1.0}, 0.75) == pytest.approx(start + (end - start) / 2)
    assert quantile({10: 1.0, 20: 0.0}, 1.0) == pytest.approx(upper_edge(10))


@pytest.mark.parametrize("weights", [{}, {3: 0.0}])
def test_there_is_no_quantile_of_nothing(weights):
    """Without any weight, there is no quantile."""
    assert quantile(weights, 0.5) is None


def test_the_mean_weighs_middles():
    """The mean takes each bucket for its middle."""
    assert mean([(10, 0.25), (20, 0.75)]) == pytest.approx(middle(10) / 4 + middle(20) * 3 / 4)


def test_exact_latencies_are_taken_as_they_are():
    """Fitting intervals of one bucket each gives their shares."""
    shares = fit({(10, 11): 30.0, (20, 21): 10.0}, start=EVEN, prior=NO_CREDIT, rounds=1)

    assert shares[10] == pytest.approx(0.75, rel=1e-6)
    assert shares[20] == pytest.approx(0.25, rel=1e-6)
    assert sum(shares) == pytest.approx(1)


def test_what_intervals_cannot_tell_stays_as_it_was():
    """Within an interval that nothing divides, the shape of before is kept."""
    start = [(bucket + 1) / (BUCKETS * (BUCKETS + 1) / 2) for bucket in range(BUCKETS)]
    shares = fit({(0, 40): 9.0, (40, BUCKETS): 1.0}, start=start, prior=NO_CREDIT, rounds=20)

    assert sum(shares[:40]) == pytest.approx(0.9)
    assert shares[30] / shares[10] == pytest.approx(start[30] / start[10])


def test_vague_intervals_do_not_bend_the_estimate():
    """The distribution is found from intervals most of which say only "done by then"."""
    chance = random.Random(1)
    counts: dict[tuple[int, int], float] = {}
    for number in range(20_000):
        latency = chance.lognormvariate(math.log(120), 1)
        looks = [400.0, math.inf] if number % 10 else [20.0 * 1.3**step for step in range(25)]
        lower, upper = next(
            (low, high)
            for low, high in itertools.pairwise([0.0, *looks, math.inf])
            if latency <= high
        )
        span = span_of(lower, upper)
        counts[span] = counts.get(span, 0) + 1
    shares = dict(enumerate(fit(counts, start=EVEN, prior=NO_CREDIT, rounds=300)))

    assert quantile(shares, 0.5) == pytest.approx(120, rel=0.06)
    assert quantile(shares, 0.2) == pytest.approx(120 * math.exp(-0.8416), rel=0.1)
