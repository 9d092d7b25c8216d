"""The cheapest ages to look at an object, under one distribution of latencies."""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from crrmon.domain.latency import BUCKETS, MIDDLES, PER_DOUBLING, lower_edge, upper_edge

EDGES = (*(lower_edge(bucket) for bucket in range(BUCKETS)), upper_edge(BUCKETS - 1))

_FARTHEST = 4 * 4
"""Plans wait for at most four doublings of the age."""


def cumulated(shares: Iterable[float]) -> tuple[float, ...]:
    """Return what lies below each edge of the buckets that have these shares."""
    return (0.0, *accumulate(shares))


class Plan(msgspec.Struct, frozen=True):
    """The cheapest ages to look at, under one distribution and one price."""

    first: tuple[float, ...]
    """For an object that is known from an age (an edge) on: the age to look first at, or 0 for at once."""
    wait: tuple[float, ...]
    """For an object that was still pending at an age (an edge): seconds to the next look."""


def make_plan(shares: Sequence[float], *, price: float, grace: float) -> Plan:
    """Find the ages to look at that cost least: 1 for each look, and `price` for each time an object's own latency.

    From the oldest age backwards: whoever knows what goes on costs from each later edge knows the best next one.

    Args:
        shares: of each latency bucket.
        price: of finding an object later by its latency and `grace`.
        grace: seconds.
    """
    below = cumulated(shares)
    dues = [share * price / (mid + grace) for share, mid in zip(shares, MIDDLES, strict=True)]
    # What is done between two edges is found at the second: its lateness costs due * (edge - middle), summed up.
    slope = cumulated(dues)
    offset = cumulated(due * mid for due, mid in zip(dues, MIDDLES, strict=True))
    # What an object costs that is looked at first at an edge, beside that look.
    total = [EDGES[BUCKETS] * slope[BUCKETS] - offset[BUCKETS]] * (BUCKETS + 1)
    wait = [0.0] * (BUCKETS + 1)
    for here in range(BUCKETS - 1, -1, -1):
        slope_here, last = slope[here], min(here + _FARTHEST, BUCKETS)
        beyond = slice(here + 1, last + 1)
        costs = [
            sum_there - edge * slope_here
            for sum_there, edge in zip(total[beyond], EDGES[beyond], strict=True)
        ]
        cost = min(costs)
        there = here + 1 + costs.index(cost)
        ahead = 1 - below[here] + cost + offset[here]
        total[here] = EDGES[here] * slope[here] - offset[here] + ahead
        wait[here] = EDGES[there] - EDGES[here]
    wait[BUCKETS] = wait[BUCKETS - 1]
    return Plan(_cheapest_from(total), tuple(wait))


def _cheapest_from(costs: Sequence[float]) -> tuple[float, ...]:
    """Return for each edge the age from there on that costs least, or 0 where that is the edge itself.

    Edges are coarse and the costs flat where they are least: a parabola through the neighbours finds the age between,
    without which plans would leap from edge to edge with every fit.
    """
    ages = [0.0] * len(costs)
    best = len(costs) - 1
    for here in range(len(costs) - 2, -1, -1):
        if costs[here] <= costs[best]:
            best = here
            continue
        before, least, after = (costs[min(best + step, BUCKETS)] for step in (-1, 0, 1))
        bend = before + after - 2 * least
        shift = max(-0.5, min((before - after) / 2 / bend, 0.5)) if bend > 0 else 0.0
        ages[here] = EDGES[best] * math.exp2(shift / PER_DOUBLING)
    return tuple(ages)
