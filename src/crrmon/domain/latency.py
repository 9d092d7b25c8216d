"""Logarithmic buckets for latencies from half a second to two weeks, and what intervals tell about them.

Four buckets to a doubling: a value is known to within 9 % of its bucket's middle, and all of them fit into one
CloudWatch datum of 150 values. The numbers of the buckets are part of the ledger's format.

A latency found by looking is an interval: longer than at the last look that saw it pending, at most as at the first
that saw it done. `fit` turns a heap of them into the distribution that explains them best. With several destinations S3
shows one status, which is that of the slowest: a PENDING bounds a single destination only where all others are known to
have arrived, and the slowest's latency is shared out by what was learned of each route.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

FIRST_SECONDS = 0.5
PER_DOUBLING = 4
BUCKETS = 88
"""Bucket 0 is [0, 0.5 s); the last one begins at 17.2 days and has no end."""
_LAST_EDGE = FIRST_SECONDS * math.exp2((BUCKETS - 1) / PER_DOUBLING)


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket that holds a latency; negative ones count as 0."""
    if seconds < FIRST_SECONDS:
        return 0
    if seconds >= _LAST_EDGE:
        return BUCKETS - 1
    return min(1 + int(PER_DOUBLING * math.log2(seconds / FIRST_SECONDS) + 1e-9), BUCKETS - 1)


def lower_edge(bucket: int) -> float:
    """Return where a bucket begins, in seconds."""
    return 0.0 if bucket == 0 else FIRST_SECONDS * math.exp2((bucket - 1) / PER_DOUBLING)


def upper_edge(bucket: int) -> float:
    """Return where a bucket ends, in seconds; what one step more would be for the last, which has no end."""
    return FIRST_SECONDS * math.exp2(bucket / PER_DOUBLING)


def middle(bucket: int) -> float:
    """Return the value that stands for a bucket: the geometric middle, in seconds."""
    return MIDDLES[bucket]


MIDDLES = (
    FIRST_SECONDS / 2,
    *(FIRST_SECONDS * math.exp2((bucket - 0.5) / PER_DOUBLING) for bucket in range(1, BUCKETS)),
)
"""The middle of each bucket, for whoever needs many."""


def edge_near(seconds: float) -> int:
    """Return the number of the nearest edge: n is where bucket n begins, `BUCKETS` where the last one ends."""
    if seconds < FIRST_SECONDS / 2:
        return 0
    if seconds >= _LAST_EDGE:
        return BUCKETS
    return max(1, 1 + round(PER_DOUBLING * math.log2(seconds / FIRST_SECONDS)))


def span_of(lower: float, upper: float) -> tuple[int, int]:
    """Return the buckets, from the first up to but without the second, that stand for a latency between two bounds.

    A bound inside a bucket goes to the nearest edge. Counting such a bucket in (or out) at both ends would make
    every look seem later (or earlier) than it was and shift what is learned by half a bucket.

    Args:
        lower: seconds; not negative.
        upper: seconds; at least `lower`, the same where the latency is exact.
    """
    first, end = edge_near(lower), edge_near(upper)
    if first < end:
        return first, end
    only = bucket_of((lower + upper) / 2)
    return only, only + 1


def fit(
    counts: Mapping[tuple[int, int], float],
    *,
    start: Sequence[float],
    prior: Sequence[float],
    rounds: int,
) -> list[float]:
    """Estimate the distribution of latencies that are known as intervals, by expectation maximisation.

    Where intervals say nothing of how a stretch of buckets shares its weight, the shape of `start` stays.

    Args:
        counts: how often each interval (see `span_of`) was seen.
        start: share of each bucket to start from, all positive.
        prior: samples that each bucket is credited with beforehand, all positive.
        rounds: iterations; each costs in proportion to the number of different intervals.

    Returns:
        Share of each bucket; they sum to 1.
    """
    shares = list(start)
    for _ in range(rounds):
        below = [0.0, *accumulate(shares)]
        steps = [0.0] * (BUCKETS + 1)
        for (first, end), count in counts.items():
            density = count / (below[end] - below[first])
            steps[first] += density
            steps[end] -= density
        # NB: the sums of steps may leave -1e-12 where nothing was seen.
        shares = [
            share * density + credit if density > 0 else credit
            for share, density, credit in zip(shares, accumulate(steps), prior, strict=False)
        ]
        total = sum(shares)
        shares = [share / total for share in shares]
    return shares


def quantile(weights: Mapping[int, float], share: float) -> float | None:
    """Estimate a quantile of bucketed latencies.

    Args:
        weights: weight of each bucket.
        share: 0 to 1.

    Returns:
        Seconds, interpolated within the bucket; None without any weight.
    """
    total = sum(weights.values())
    if total <= 0:
        return None
    wanted = share * total
    passed = 0.0
    last = 0
    for bucket in sorted(weights):
        weight = weights[bucket]
        if weight <= 0:
            continue
        last = bucket
        if passed + weight >= wanted:
            start, end = lower_edge(bucket), upper_edge(bucket)
            return start + (end - start) * (wanted - passed) / weight
        passed += weight
    return upper_edge(last)


def mean(weights: Iterable[tuple[int, float]]) -> float:
    """Return the mean latency in seconds of weights that sum to 1."""
    return sum(MIDDLES[bucket] * weight for bucket, weight in weights)
