"""What a look means for the version looked at: wait, or settle. The heart of the monitor, and pure.

Nothing ambiguous ends tracking: only the answers that prove something do. When to look next is `pacing`'s business.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from crrmon.domain.events import Channel, ReplicaWritten
from crrmon.domain.objects import UNKNOWN_DESTINATION, MarkId, ObjectVersion, Route, Scope
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import (
    LATE_SECONDS,
    Cause,
    Fate,
    Half,
    Latency,
    Outcome,
    Settlement,
)
from crrmon.domain.records import Destination, Record, State, reopened, with_arrival

ADOPTION_TOLERANCE_SECONDS = 2.0
"""How far LastModified may lie from the event's time for the current version to be the one that was written."""

REFUSALS_TO_UNPOLLABLE = 3
"""
400 means a customer-provided key, but an expired token looks the same to a HEAD: only several in a row are believed,
and only if S3 takes the daemon's other requests (the looker makes sure of that).
"""

TROUBLES_TO_GIVE_UP = 10
"""
How many looks in a row must have told nothing before age alone may end tracking, or an arrival is counted whose size
nobody told.
"""

_NULL_VERSION = "null"
"""The id of every version that was written while versioning was off: it does not tell one from another."""

_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes from which S3 does not replicate."""

_NOWHERE: Final[Mapping[str, Sight]] = MappingProxyType({})

_SHORTEST_BOUND = 0.001
"""Keeps a bounded latency from looking exact when clocks disagree."""


class Wait(msgspec.Struct, frozen=True):
    """
    Not final: keep the record as it is here, and look again.
    """

    record: Record


class Settle(msgspec.Struct, frozen=True):
    """
    Final at one destination at least, or an open failure: make this durable.
    """

    settlement: Settlement
    news: tuple[ReplicaWritten, ...] = ()
    """What the look told of other versions; to be made durable first."""


class Adopt(msgspec.Struct, frozen=True):
    """
    The version of an event without version id is known now.
    """

    then: Wait | Settle
    """What to do with the true version; its record is new. To be made durable first."""
    provisional: Settlement
    """Closes the stand-in."""


Decision = Wait | Settle | Adopt


def asks(
    record: Record, sight: Sight, *, now: float, stuck_after: float
) -> tuple[Destination, ...]:
    """
    Tell at which destinations to look as well, because the source's merged status does not tell enough.

    Args:
        record: what is known of the version so far.
        sight: what the source showed just now.
        now: when.
        stuck_after: age in seconds from which on it is worth knowing which of several destinations is late.
    """
    if not record.version.identified:
        return ()
    unproved = tuple(one for one in record.open if one.replicated_at is None)
    several = len(unproved) > 1
    unproved = tuple(one for one in unproved if one.bucket != UNKNOWN_DESTINATION)
    match sight:
        case Sight.SILENT | Sight.GONE:
            return unproved
        case Sight.FAILED if several:
            return tuple(one for one in unproved if one.failure is None)
        case Sight.PENDING if several:
            return unproved if now - record.written_at >= stuck_after else ()
        case Sight.COMPLETED if len(record.destinations) > 1:
            return tuple(one for one in unproved if not one.certain)
    return ()


def decide(  # noqa: PLR0911 - one return for each kind of answer reads best
    record: Record,
    seen: Observation,
    *,
    give_up_after: float,
    elsewhere: Mapping[str, Sight] = _NOWHERE,
) -> Decision:
    """
    Decide what becomes of a version.

    Args:
        record: what is known of it so far.
        seen: what the look showed.
        give_up_after: seconds after which a version that is never final is given up.
        elsewhere: what looks at destinations showed, by bucket; see `asks`.
    """
    if not record.version.identified:
        return _decide_provisional(record, seen, give_up_after)
    record = dated(record, seen)
    arrived = _arrived(record, elsewhere)
    match seen.sight:
        case Sight.COMPLETED:
            return _completed(_answered(record, seen), seen, arrived)
        case Sight.FAILED:
            return _failed(_answered(record, seen), seen, arrived, give_up_after)
        case Sight.NO_STATUS:
            return _no_status(_answered(record, seen), seen, arrived, give_up_after)
        case Sight.REPLICA:
            return _is_replica(record, seen)
        case Sight.GONE:
            return _settle(record, _everywhere(record, Fate.GONE, seen, arrived), seen)
        case Sight.DELETE_MARKER:
            return _settle(record, _everywhere(record, Fate.UNPOLLABLE, seen, arrived), seen)
        case Sight.PENDING | Sight.UNKNOWN | Sight.SILENT:
            answered = _seen_missing(_answered(record, seen), seen, elsewhere)
            return _not_final(answered, seen, arrived, give_up_after)
        case Sight.DENIED | Sight.REFUSED | Sight.THROTTLED | Sight.UNREACHABLE:
            return _trouble(record, seen, arrived, give_up_after)


def dated(record: Record, seen: Observation) -> Record:
    """
    Let S3 say when a version was written whose event could not be believed.
    """
    told = seen.last_modified_at
    if record.claimed_at is None or told is None or not record.version.identified:
        return record
    return msgspec.structs.replace(record, written_at=told, claimed_at=None)


def proved(record: Record, *, now: float) -> Settle | None:
    """
    Decide on a version without a look, where its replicas' own events prove that it arrived everywhere.

    Args:
        record: what is known of it.
        now: becomes the time at which it was found.

    Returns:
        None where a look is needed: to learn of the other destinations, or of its size.
    """
    if not record.arrived or record.size is None:
        return None
    seen = Observation(sight=Sight.COMPLETED, looked_at=now, version_id=record.version.version_id)
    return _settle(record, _arrivals(record, seen, [one.bucket for one in record.open]), seen)


def joined(record: Record, arrivals: Mapping[str, Half]) -> Record:
    """
    Return the record with the exact arrivals that replica events told, by destination bucket.
    """
    for bucket, half in arrivals.items():
        record = with_arrival(record, bucket, at=half.replicated_at, size=half.size)
    return record


def _arrived(record: Record, elsewhere: Mapping[str, Sight]) -> frozenset[str]:
    """
    Return the open destinations that have this very version, by its replica's event or a look there.
    """
    null = record.version.version_id == _NULL_VERSION
    found = {
        bucket
        for bucket, sight in elsewhere.items()
        if sight is Sight.REPLICA or (sight.exists and not null)
    }
    return frozenset(
        one.bucket for one in record.open if one.replicated_at is not None or one.bucket in found
    )


def _seen_missing(record: Record, seen: Observation, elsewhere: Mapping[str, Sight]) -> Record:
    """
    Note in the record that it certainly is not everywhere yet, if it is not.
    """
    absent = any(elsewhere.get(one.bucket) is Sight.GONE for one in record.open)
    if seen.sight is Sight.PENDING or (seen.sight is Sight.SILENT and absent):
        return msgspec.structs.replace(record, pending_seen_at=seen.looked_at)
    return record


def _decide_provisional(record: Record, seen: Observation, give_up_after: float) -> Decision:
    if not seen.sight.answered:
        return _trouble(record, seen, frozenset(), give_up_after)
    modified = seen.last_modified_at
    if (
        seen.sight in (Sight.GONE, Sight.DELETE_MARKER)
        or modified is None
        or abs(modified - record.event_at) > ADOPTION_TOLERANCE_SECONDS
    ):
        return _settle(record, (_version_outcome(record, Fate.UNIDENTIFIED, seen),), seen)
    found = ObjectVersion(
        record.version.bucket, record.version.key, seen.version_id or _NULL_VERSION
    )
    then = decide(
        msgspec.structs.replace(record, version=found, rev=0), seen, give_up_after=give_up_after
    )
    if isinstance(then, Adopt):  # pragma: no cover - a found version is never provisional
        raise TypeError("an adopted version cannot be adopted again")
    closing = _version_outcome(record, Fate.IDENTIFIED, seen)
    return Adopt(then, Settlement(version=record.version, outcomes=(closing,), rev=record.rev))


def _answered(record: Record, seen: Observation) -> Record:
    """
    Note an answer about the version in its record.
    """
    size = seen.size if seen.size is not None else record.size
    return msgspec.structs.replace(
        record, looks=record.looks + 1, troubles=0, refusals=0, size=size
    )


def _not_final(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    """
    Follow the version on, unless it is too old for that.
    """
    if seen.sight is Sight.PENDING:
        # An open failure that shows PENDING is retried by somebody: a new start.
        record = reopened(record, at=seen.looked_at)
    if seen.looked_at - _begun_at(record) >= give_up_after:
        return _settle(record, _everywhere(record, Fate.GIVEN_UP, seen, arrived), seen)
    return _going_on(record, seen, arrived)


def _trouble(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    refusals = record.refusals + 1 if seen.sight is Sight.REFUSED else 0
    record = msgspec.structs.replace(record, troubles=record.troubles + 1, refusals=refusals)
    if refusals >= REFUSALS_TO_UNPOLLABLE:
        return _settle(record, _everywhere(record, Fate.UNPOLLABLE, seen, arrived), seen)
    old = seen.looked_at - _begun_at(record) >= give_up_after
    if old and record.troubles >= TROUBLES_TO_GIVE_UP:
        return _settle(record, _everywhere(record, Fate.GIVEN_UP, seen, arrived), seen)
    return _going_on(record, seen, arrived)


def _going_on(record: Record, seen: Observation, arrived: frozenset[str]) -> Wait | Settle:
    """
    Follow the version on, and count the destinations that it arrived at already.
    """
    size_may_come = record.size is None and record.troubles < TROUBLES_TO_GIVE_UP
    if not arrived or size_may_come:
        return Wait(record)
    return _settle(record, _arrivals(record, seen, arrived), seen, keep=_counted(record, arrived))


def _counted(record: Record, arrived: frozenset[str]) -> Record | None:
    """
    Return what is left to follow after these arrivals are counted; None when nothing is.
    """
    destinations = tuple(
        msgspec.structs.replace(one, counted=True) if one.bucket in arrived else one
        for one in record.destinations
    )
    kept = msgspec.structs.replace(record, destinations=destinations)
    return kept if kept.open or not record.destinations else None


def _begun_at(record: Record) -> float:
    """
    Return from when on the record's age counts towards giving up.
    """
    if record.failed_at is not None:
        return record.failed_at
    return record.written_at if record.reopened_at is None else record.reopened_at


def _failed(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    known = record.state is State.FAILED
    if known and seen.looked_at - _begun_at(record) >= give_up_after:
        return _settle(record, _everywhere(record, Fate.GIVEN_UP, seen, arrived), seen)
    left = _counted(record, arrived)
    if left is None:
        # It is everywhere: what failed was a later change of its tags or so, or a status that is behind.
        return _settle(record, _arrivals(record, seen, arrived), seen)
    if not known:
        left = msgspec.structs.replace(
            left,
            state=State.FAILED,
            episode=record.episode + 1,
            failed_at=seen.looked_at,
            failed_before=True,
        )
    where = left.failed_at_destinations
    kept = _blamed(left, where)
    # As long as it shows FAILED, it failed at one that it did not arrive at.
    arrivals = _arrivals(_blamed(record, where or left.open), seen, arrived)
    if known:
        return _settle(record, arrivals, seen, keep=kept) if arrivals else Wait(kept)
    mark = MarkId(
        Scope.EPISODE,
        record.version.bucket,
        record.version.key,
        record.version.version_id,
        kept.episode,
    )
    outcome = msgspec.structs.replace(
        _outcome(kept, mark, Fate.FAILED, Route(record.version.bucket, ""), seen),
        failures=tuple(
            (one.bucket, "" if one.failure is None else one.failure.reason) for one in where
        ),
    )
    return _settle(record, (*arrivals, outcome), seen, keep=kept)


def _blamed(record: Record, where: tuple[Destination, ...]) -> Record:
    """
    Remember at which destinations it failed.
    """
    buckets = {one.bucket for one in where}
    return msgspec.structs.replace(
        record,
        destinations=tuple(
            msgspec.structs.replace(one, failed=True) if one.bucket in buckets else one
            for one in record.destinations
        ),
    )


def _completed(record: Record, seen: Observation, arrived: frozenset[str]) -> Settle:
    """
    Settle each destination that the merged status proves.

    A destination that only a tag filter might select is proved where it is the only one, or was found there.
    """
    reached = tuple(
        one
        for one in record.open
        if one.certain or one.bucket in arrived or len(record.destinations) == 1
    )
    if not reached and len(record.open) == len(record.destinations):
        # It is somewhere, and nobody can tell where.
        reached = (Destination(bucket=UNKNOWN_DESTINATION),)
    return _settle(
        record, tuple(_arrival(record, destination, seen) for destination in reached), seen
    )


def _no_status(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    """
    Believe S3 that nothing selected the version, unless a replica or a failure proves that something did.
    """
    if record.failed_before or arrived or any(one.counted for one in record.destinations):
        return _not_final(record, seen, arrived, give_up_after)
    outcome = _version_outcome(record, Fate.NOT_COVERED, seen)
    cause = _cause(record, seen)
    return _settle(record, (msgspec.structs.replace(outcome, cause=cause),), seen)


def _cause(record: Record, seen: Observation) -> Cause:
    if seen.storage_class in _ARCHIVES:
        return Cause.STORAGE_CLASS
    if record.destinations and not any(one.certain for one in record.destinations):
        return Cause.TAG_FILTER
    if seen.encryption.startswith("aws:kms"):
        return Cause.ENCRYPTION
    return Cause.NO_STATUS


def _is_replica(record: Record, seen: Observation) -> Settle:
    """
    Settle a version that replication wrote itself, and tell its source of the arrival.
    """
    settled = _settle(record, (_version_outcome(record, Fate.IS_REPLICA, seen),), seen)
    if record.channel is Channel.NOTICE:
        return (
            settled  # what was to be replicated was a change of it, and nobody told when it came
        )
    replica = ReplicaWritten(
        version=record.version,
        region=record.region,
        written_at=record.written_at,
        size=seen.size if seen.size is not None else record.size,
        owner=record.owner,
    )
    return msgspec.structs.replace(settled, news=(replica,))


def _arrivals(record: Record, seen: Observation, arrived: Collection[str]) -> tuple[Outcome, ...]:
    """
    One outcome for each open destination that it arrived at.
    """
    here = [one for one in record.open if one.bucket in arrived]
    # Where others are missing, it is them that looks may have shown pending, all the time.
    apart = len(here) < len(record.open)
    return tuple(_arrival(record, one, seen, apart=apart) for one in here)


def _arrival(
    record: Record, destination: Destination, seen: Observation, *, apart: bool = False
) -> Outcome:
    route = Route(record.version.bucket, destination.bucket)
    outcome = _outcome(
        record, record.replica_mark(destination.bucket), Fate.COMPLETED, route, seen
    )
    repaired = record.repairs(destination)
    # Looks at open failures are too rare to tell anything of a latency.
    vague = destination.replicated_at is None and record.failed_before
    latency = _latency(record, destination, seen, apart=apart)
    # Nor does an age that counts from when it was heard of.
    timed = record.counts and not repaired and not vague and record.claimed_at is None
    return msgspec.structs.replace(
        outcome,
        latency=latency if timed else None,
        repaired=repaired,
        late=timed and (destination.missed or latency.lower > LATE_SECONDS),
    )


def _latency(
    record: Record, destination: Destination, seen: Observation, *, apart: bool
) -> Latency:
    """
    Bound the latency at a destination; what the merged status told of others as well is a bound of the slowest.
    """
    if destination.replicated_at is not None:
        exact = max(destination.replicated_at - record.written_at, 0.0)
        return Latency(exact, exact)
    pending_seen_at = 0.0 if apart else record.pending_seen_at or 0.0
    lower = max(pending_seen_at - record.written_at, 0.0)
    return Latency(lower, max(seen.looked_at - record.written_at, lower + _SHORTEST_BOUND))


def _everywhere(
    record: Record, fate: Fate, seen: Observation, arrived: frozenset[str]
) -> tuple[Outcome, ...]:
    """
    One outcome for each open destination; those where it arrived have it, whatever became of the source.

    One that only a tag filter might select is left out beside others; where all are such, nobody can tell which.
    """
    arrivals = _arrivals(record, seen, arrived)
    left = [
        one.bucket
        for one in record.open
        if one.bucket not in arrived and (one.certain or len(record.destinations) == 1)
    ]
    if not left and not arrivals and len(record.open) == len(record.destinations):
        left = [UNKNOWN_DESTINATION]
    source = record.version.bucket
    return arrivals + tuple(
        _outcome(record, record.replica_mark(bucket), fate, Route(source, bucket), seen)
        for bucket in left
    )


def _version_outcome(record: Record, fate: Fate, seen: Observation) -> Outcome:
    version = record.version
    mark = MarkId(Scope.SOURCE, version.bucket, version.key, version.version_id)
    return _outcome(record, mark, fate, Route(version.bucket, ""), seen)


def _outcome(record: Record, mark: MarkId, fate: Fate, route: Route, seen: Observation) -> Outcome:
    return Outcome(
        mark=mark,
        fate=fate,
        route=route,
        written_at=record.written_at,
        found_at=seen.looked_at,
        size=(seen.size if seen.size is not None else record.size) or 0,
        counts=record.counts,
        looks=record.looks,
    )


def _closed(record: Record, seen: Observation) -> Outcome:
    """
    End a version as a whole: its marks at destinations alone would not tell a duplicate that it is over.
    """
    closed = _version_outcome(record, Fate.CLOSED, seen)
    return msgspec.structs.replace(closed, repaired=record.failed_before)


def _settle(
    record: Record,
    outcomes: tuple[Outcome, ...],
    seen: Observation,
    *,
    keep: Record | None = None,
) -> Settle:
    if keep is None and not _told_by_marks(record, outcomes):
        outcomes = (*outcomes, _closed(record, seen))
    return Settle(Settlement(version=record.version, outcomes=outcomes, rev=record.rev, keep=keep))


def _told_by_marks(record: Record, outcomes: tuple[Outcome, ...]) -> bool:
    """
    Tell whether the marks of outcomes, and those from before, prove that nothing of a version is left to follow.
    """
    marks = {one.mark for one in outcomes}
    if any(one.scope is Scope.SOURCE for one in marks):
        return True
    return bool(record.destinations) and all(
        one.counted or record.replica_mark(one.bucket) in marks for one in record.destinations
    )
