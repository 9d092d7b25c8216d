"""What looks and decisions teach the pacer: whether anything completes, and how long that takes."""

from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate, Latency, Settlement
from crrmon.domain.pacing import Pacer, Path, apart, path_of
from crrmon.domain.records import Record, State

_NO_ARRIVAL = (Fate.CLOSED, Fate.FAILED_THERE)
"""What an outcome may be that is none at a destination of its own."""


def heed(pacer: Pacer, record: Record, seen: Observation) -> None:
    """Teach whether a look found the version done; before it is decided on, for an outage shows in this very look."""
    # That an open failure is still one tells nothing of what goes on.
    known = record.state is State.FAILED and seen.sight is Sight.FAILED
    if seen.sight in (Sight.PENDING, Sight.COMPLETED, Sight.FAILED) and not known:
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
        The ways of which something new is known; none where the settlement tells nothing of them all.
    """
    path = path_of(record)
    for outcome in settlement.outcomes:
        way = apart(path, outcome.route)
        # The bounds of the slowest of several tell of no single one.
        if outcome.latency is not None and outcome.latency.slowest is None and way != path:
            pacer.learn(way, outcome.latency, now=now, written_at=record.written_at)
    if settlement.keep is not None:
        return ()
    outcomes = [outcome for outcome in settlement.outcomes if outcome.fate not in _NO_ARRIVAL]
    took = [outcome.latency for outcome in outcomes if outcome.latency is not None]
    if not took or len(took) < len(outcomes):
        return ()
    lower = max(latency.lower if latency.slowest is None else latency.slowest for latency in took)
    latency = Latency(lower, max(latency.upper for latency in took))
    pacer.learn(path, latency, now=now, written_at=record.written_at)
    return path
