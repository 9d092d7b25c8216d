"""Where a version has arrived, how long that took, and what is counted of it.

The source shows one status, which is that of all destinations together. What it says of a single one follows from
what is known of the others: from their replicas' events, and from looks there.
"""

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from crrmon.domain.decisions import Settle, settle
from crrmon.domain.objects import UNKNOWN_DESTINATION
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import LATE_SECONDS, Fate, Latency, Outcome
from crrmon.domain.records import Destination, Record
from crrmon.domain.verdicts import for_arrival, for_destination

_NULL_VERSION = "null"
"""The id of every version that was written while versioning was off: it does not tell one from another."""

_SHORTEST_BOUND = 0.001
"""Keeps a bounded latency from looking exact when clocks disagree."""


def arrived_at(record: Record, elsewhere: Mapping[str, Observation]) -> frozenset[str]:
    """Return the open destinations that have this very version, by its replica's event or a look there."""
    found = _found(record, elsewhere) if elsewhere else ()
    return frozenset(
        [
            destination.bucket
            for destination in record.open
            if destination.replicated_at is not None or destination.bucket in found
        ]
    )


def size_elsewhere(record: Record, elsewhere: Mapping[str, Observation]) -> int | None:
    """Return the size of a version as looks at its destinations told it; None where none found this very version."""
    sizes = (seen.size for seen in _found(record, elsewhere).values() if seen.size is not None)
    return next(sizes, None)


def _found(record: Record, elsewhere: Mapping[str, Observation]) -> Mapping[str, Observation]:
    """Return the looks that found this very version."""
    null = record.version.version_id == _NULL_VERSION
    return {
        bucket: seen
        for bucket, seen in elsewhere.items()
        if seen.sight is Sight.REPLICA or (seen.sight.exists and not null)
    }


def seen_missing(
    record: Record,
    seen: Observation,
    elsewhere: Mapping[str, Observation],
    arrived: frozenset[str],
) -> Record:
    """Note in the record that it certainly is not everywhere yet, and where it is not, as far as that is proved."""
    missing = {
        destination.bucket
        for destination in record.open
        if (found := elsewhere.get(destination.bucket)) and found.sight is Sight.GONE
    }
    if seen.sight is Sight.PENDING:
        waited_for = [
            destination.bucket for destination in record.open if destination.bucket not in arrived
        ]
        # The status is that of all: it tells of one only where no other one is left.
        missing.update(waited_for if len(waited_for) == 1 else ())
    elif seen.sight is not Sight.SILENT or not missing:
        return record
    there = missing - arrived if len(record.destinations) > 1 else ()
    record = at_destinations(record, there, pending_seen_at=seen.looked_at)
    return replace(record, pending_seen_at=seen.looked_at)


def at_destinations(record: Record, buckets: Collection[str], **changes: object) -> Record:
    """Return the record with some of its destinations changed."""
    return replace(
        record,
        destinations=tuple(
            replace(destination, **changes) if destination.bucket in buckets else destination
            for destination in record.destinations
        ),
    )


def left_of(record: Record, arrived: Collection[str]) -> Record | None:
    """Return what is left to follow once these arrivals are counted; None when nothing is.

    The record stays one: what arrived is marked as counted in it, so that routes, backlog and pacing are about what
    is still open.
    """
    kept = at_destinations(record, arrived, counted=True)
    return kept if kept.open or not record.destinations else None


def completed(record: Record, seen: Observation, arrived: frozenset[str]) -> Settle:
    """Settle each destination that the merged status proves.

    A destination that only a tag filter might select is proved where it is the only one, or was found there.
    """
    left, alone, now = record.open, len(record.destinations) == 1, seen.looked_at
    reached = [
        destination
        for destination in left
        if destination.certain or alone or destination.bucket in arrived
    ]
    if not reached and len(left) == len(record.destinations):
        # It is somewhere, and nobody can tell where.
        reached = [Destination(bucket=UNKNOWN_DESTINATION)]
    outcomes = tuple([_arrival(record, destination, now) for destination in reached])
    return settle(record, outcomes, found_at=now)


def arrivals(record: Record, arrived: Collection[str], *, found_at: float) -> tuple[Outcome, ...]:
    """Return an outcome for each open destination that a version arrived at."""
    return tuple(
        _arrival(record, destination, found_at)
        for destination in record.open
        if destination.bucket in arrived
    )


def everywhere(
    record: Record, fate: Fate, arrived: frozenset[str], *, found_at: float
) -> tuple[Outcome, ...]:
    """Return an outcome for each open destination; those where it arrived have it, whatever became of the source.

    One that only a tag filter might select is left out beside others; where all are such, nobody can tell which.
    """
    there = arrivals(record, arrived, found_at=found_at)
    left = [
        destination.bucket
        for destination in record.open
        if destination.bucket not in arrived
        and (destination.certain or len(record.destinations) == 1)
    ]
    if not left and not there and len(record.open) == len(record.destinations):
        left = [UNKNOWN_DESTINATION]
    return there + tuple(
        for_destination(record, bucket, fate, found_at=found_at) for bucket in left
    )


def _arrival(record: Record, destination: Destination, found_at: float) -> Outcome:
    repaired = record.repairs(destination)
    # Looks at open failures are too rare to tell anything of a latency.
    vague = destination.replicated_at is None and record.failed_before
    latency = _latency(record, destination, found_at)
    # Nor does an age that counts from when it was heard of.
    timed = record.counts and not repaired and not vague and record.claimed_at is None
    return for_arrival(
        record,
        destination.bucket,
        found_at=found_at,
        latency=latency if timed else None,
        repaired=repaired,
        late=timed and (destination.missed or latency.lower > LATE_SECONDS),
    )


def _latency(record: Record, destination: Destination, found_at: float) -> Latency:
    """Bound the latency at a destination by what looks told of this one; what they told of all, apart from that."""
    written_at = record.written_at
    if destination.replicated_at is not None:
        exact = max(destination.replicated_at - written_at, 0.0)
        return Latency(exact, exact)
    missing_at, pending_at = destination.pending_seen_at, record.pending_seen_at
    slowest: float | None = None
    if pending_at is not None and pending_at > (missing_at or 0.0):
        if _waited_for_alone(record, destination, pending_at):
            missing_at = pending_at
        elif missing_at is None and not _another_missing(record, destination, pending_at):
            slowest = max(pending_at - written_at, 0.0)
    lower = 0.0 if missing_at is None else max(missing_at - written_at, 0.0)
    upper = max(found_at - written_at, max(lower, slowest or 0.0) + _SHORTEST_BOUND)
    return Latency(lower, upper, slowest)


def _waited_for_alone(record: Record, destination: Destination, at: float) -> bool:
    """Return whether a status of all destinations was about this one, as every other had the version by then."""
    if destination.bucket == UNKNOWN_DESTINATION:
        return True  # whichever it is, it is the slowest
    return all(
        other.replicated_at is not None and other.replicated_at <= at
        for other in record.destinations
        if other.bucket != destination.bucket
    )


def _another_missing(record: Record, destination: Destination, at: float) -> bool:
    """Return whether another destination did not have the version at a moment, which so says nothing of this one."""
    return any(
        (other.replicated_at or 0.0) > at or (other.pending_seen_at or 0.0) >= at
        for other in record.destinations
        if other.bucket != destination.bucket
    )
