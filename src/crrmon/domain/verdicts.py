"""Outcomes by what they are about: a version, one of its destinations, a failure, an arrival, a deletion."""

from collections.abc import Iterable

from msgspec.structs import replace

from crrmon.domain import latency as latencies
from crrmon.domain.events.facts import ReplicaWritten
from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope, route_between
from crrmon.domain.outcomes import LATE_SECONDS, Cause, Fate, Latency, Mark, Outcome
from crrmon.domain.records import Destination, Record

# Asked for of every object. Before Python 3.12, an enumeration calls a function for each member.
_COMPLETED = Fate.COMPLETED


def for_version(
    record: Record, fate: Fate, *, found_at: float, cause: Cause | None = None
) -> Outcome:
    """Return the end of a version as a whole."""
    mark = MarkId.of(Scope.SOURCE, record.version)
    return replace(_outcome(record, mark, fate, "", found_at), cause=cause)


def for_destination(record: Record, bucket: str, fate: Fate, *, found_at: float) -> Outcome:
    """Return the end of a version at one destination bucket."""
    return _outcome(record, record.replica_mark(bucket), fate, bucket, found_at)


def for_arrival(
    record: Record,
    bucket: str,
    *,
    found_at: float,
    latency: Latency | None,
    repaired: bool,
    late: bool,
) -> Outcome:
    """Return the arrival of a version at one destination bucket.

    Args:
        record: of the version.
        bucket: of the destination.
        found_at: when it was found.
        latency: its bounds; None where they would mean nothing.
        repaired: whether it ends a failure.
        late: whether it is known to be.
    """
    return Outcome(
        mark=record.replica_mark(bucket),
        fate=_COMPLETED,
        route=route_between(record.version.bucket, bucket),
        written_at=record.written_at,
        found_at=found_at,
        size=record.size or 0,
        latency=latency,
        repaired=repaired,
        late=late,
        counts=record.counts,
        looks=record.looks,
    )


def failure_episode(record: Record, where: Iterable[Destination], *, found_at: float) -> Outcome:
    """Return the failure episode that a version is in, counted once wherever it failed.

    Args:
        record: in its new episode.
        where: the destinations for which the failure is proved.
        found_at: when it was found.
    """
    mark = MarkId.of(Scope.EPISODE, record.version, episode=record.episode)
    reasons = (
        (destination.bucket, "" if destination.failure is None else destination.failure.reason)
        for destination in where
    )
    return replace(_outcome(record, mark, Fate.FAILED, "", found_at), failures=tuple(reasons))


def failed_there(record: Record, bucket: str, *, found_at: float) -> Outcome:
    """Return the last failure episode of a version as that of one destination bucket."""
    mark = MarkId.of(Scope.EPISODE_THERE, record.version, at=bucket, episode=record.episode)
    return _outcome(record, mark, Fate.FAILED_THERE, bucket, found_at)


def late_arrival(replica: ReplicaWritten, closed: Mark, *, found_at: float) -> Outcome:
    """Return an arrival that was not proved when its version was closed.

    Args:
        replica: what its event told.
        closed: the mark that closed its version.
        found_at: when it was told of.
    """
    took = max(replica.written_at - closed.written_at, 0.0)
    timed = closed.counts and not closed.repaired
    return Outcome(
        mark=MarkId.of(Scope.REPLICA, replica.version),
        fate=Fate.COMPLETED,
        route=Route(closed.route.source, replica.version.bucket),
        written_at=closed.written_at,
        found_at=found_at,
        size=closed.size or replica.size or 0,
        latency=Latency(took, took) if timed else None,
        spread=((latencies.bucket_of(took), 1.0),) if timed else (),
        seconds=took if timed else 0.0,
        repaired=closed.repaired,
        late=timed and took > LATE_SECONDS,
        counts=closed.counts,
        looks=closed.looks,
    )


_OF_DELETIONS = {
    Fate.MARKER_CREATED: Scope.MARKER,
    Fate.MARKER_ARRIVED: Scope.MARKER_ARRIVED,
    Fate.MARKER_FAILED: Scope.MARKER_FAILED,
    Fate.PURGE_FAILED: Scope.PURGE_FAILED,
}


def for_deletion(
    version: ObjectVersion, route: Route, fate: Fate, *, at: float, found_at: float, counts: bool
) -> Outcome:
    """Return what became of a deletion, a delete marker's or one for good, on one route.

    Args:
        version: the marker, or what was deleted for good.
        route: on which it was replicated, or should be.
        fate: one of those of deletions.
        at: when that was.
        found_at: when it was told of.
        counts: whether it is new enough to be counted.
    """
    return Outcome(
        mark=MarkId.of(_OF_DELETIONS[fate], version, at=route.destination),
        fate=fate,
        route=route,
        written_at=at,
        found_at=found_at,
        counts=counts,
    )


def _outcome(
    record: Record, mark: MarkId, fate: Fate, destination: str, found_at: float
) -> Outcome:
    return Outcome(
        mark=mark,
        fate=fate,
        route=route_between(record.version.bucket, destination),
        written_at=record.written_at,
        found_at=found_at,
        size=record.size or 0,
        counts=record.counts,
        looks=record.looks,
    )
