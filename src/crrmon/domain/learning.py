"""What looks and decisions teach the pacer: whether anything completes, and how long that takes."""

import math

from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate, Latency, Settlement
from crrmon.domain.pacing import Pacer, Path, apart, path_of
from crrmon.domain.records import Record, State

_NO_ARRIVAL = frozenset({Fate.CLOSED, Fate.FAILED_THERE})
"""What an outcome may be that is none at a destination of its own."""

_TELLING = frozenset({Sight.PENDING, Sight.COMPLETED, Sight.FAILED})
"""What tells whether a version is done."""


def heed(pacer: Pacer, record: Record, seen: Observation) -> None:
    """Teach whether a look found the version done; before it is decided on, for an outage shows in this very look."""
    if seen.sight not in _TELLING:
        return
    # That an open failure is still one tells nothing of what goes on.
    if record.state is State.FAILED and seen.sight is Sight.FAILED:
        return
    pacer.note(
        path_of(record),
        done=seen.sight is not Sight.PENDING,
        written_at=record.written_at,
        now=seen.looked_at,
        pending_seen_at=record.pending_seen_at,
    )


def learn(pacer: Pacer, record: Record, settlement: Settlement, *, now: float) -> Path:
    """Teach how long a version took to be everywhere: one sample, however many destinations it has.

    Returns:
        The ways of which other things are answered by now; none where the settlement tells nothing of them all, or too
        little yet.
    """
    path = path_of(record)
    if len(path) > 1:
        for outcome in settlement.outcomes:
            way = apart(path, outcome.route)
            # The bounds of the slowest of several tell of no single one.
            if outcome.latency is not None and outcome.latency.slowest is None and way != path:
                pacer.learn(way, outcome.latency, now=now, written_at=record.written_at)
    if settlement.keep is not None:
        return ()
    took = _took(settlement)
    if took is None:
        return ()
    news = pacer.learn(path, took, now=now, written_at=record.written_at)
    # Several have their own, of which some may be news.
    return path if news or len(path) > 1 else ()


def _took(settlement: Settlement) -> Latency | None:
    """Return how long a version took to be everywhere; None where that is not known of each destination."""
    lower = upper = -math.inf
    for outcome in settlement.outcomes:
        if outcome.fate in _NO_ARRIVAL:
            continue
        latency = outcome.latency
        if latency is None:
            return None
        lower = max(lower, latency.lower if latency.slowest is None else latency.slowest)
        upper = max(upper, latency.upper)
    return Latency(lower, upper) if upper > -math.inf else None
