"""Logarithmic buckets for latencies from half a second to two weeks.

Four buckets to a doubling: a value is known to within 9 % of its bucket's middle, and all of them fit into one
CloudWatch datum of 150 values. The numbers of the buckets are part of the ledger's format.
"""

import math
from collections.abc import Iterable, Mapping

FIRST_SECONDS = 0.5
PER_DOUBLING = 4
BUCKETS = 88
"""Bucket 0 is [0, 0.5 s); the last one begins at 14.7 days and has no end."""


def bucket_of(seconds: float) -> int:
    """
    Return the number of the bucket that holds a latency; negative ones count as 0.
    """
    if seconds < FIRST_SECONDS:
        return 0
    return min(1 + int(PER_DOUBLING * math.log2(seconds / FIRST_SECONDS) + 1e-9), BUCKETS - 1)


def lower_edge(bucket: int) -> float:
    """
    Return where a bucket begins, in seconds.
    """
    return 0.0 if bucket == 0 else FIRST_SECONDS * math.exp2((bucket - 1) / PER_DOUBLING)


def upper_edge(bucket: int) -> float:
    """
    Return where a bucket ends, in seconds; what one step more would be for the last, which has no end.
    """
    return FIRST_SECONDS * math.exp2(bucket / PER_DOUBLING)


def middle(bucket: int) -> float:
    """
    Return the value that stands for a bucket: the geometric middle, in seconds.
    """
    if bucket == 0:
        return FIRST_SECONDS / 2
    return FIRST_SECONDS * math.exp2((bucket - 0.5) / PER_DOUBLING)


def quantile(weights: Mapping[int, float], share: float) -> float | None:
    """
    Estimate a quantile of bucketed latencies.

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
    """
    Return the mean latency in seconds of weights that sum to 1.
    """
    return sum(middle(bucket) * weight for bucket, weight in weights)
