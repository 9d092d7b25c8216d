"""What a look means for the version looked at: wait, or settle. The heart of the monitor, and pure.

Nothing ambiguous ends tracking: only the answers that prove something do. When to look next is `pacing`'s business.
"""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from crrmon.domain.events.facts import Channel, Operation, ReplicaWritten
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
from crrmon.domain.record_changes import reopened, with_all_arrived, with_arrival
from crrmon.domain.records import Destination, Record, State

ADOPTION_TOLERANCE_SECONDS = 2.0
"""How far LastModified may lie from the event's time for the current version to be the one that was written."""

UPLOAD_SECONDS = 7 * 86_400.0
"""
How long before its end a multipart upload may have been initiated: S3 stamps the object with that. Uploads may be
open for longer, but lifecycle rules commonly end them after a week.
"""

PLACED_WITHIN_SECONDS = 600.0
"""
How long a failure waits for word where it failed, before it is counted at the unknown destination: S3's notices come
within minutes.
"""

ENDINGS_TO_BELIEVE = 2
"""A store that does not prove to be itself is believed an end that it told so often in a row."""

REFUSALS_TO_UNPOLLABLE = 3
"""
400 means a customer-provided key, but an expired token looks the same to a HEAD, which has no body, and must not end
tracking: only several in a row are believed, and only if S3 takes the daemon's other requests. To make sure of that,
the looker reads the bucket's configuration with the same credentials and looks once more.
"""

TROUBLES_TO_GIVE_UP = 10
"""
How many looks in a row must have told nothing before age alone may end tracking, or an arrival is counted whose size
nobody told.
"""

_NULL_VERSION = "null"
"""The id of every version that was written while versioning was off: it does not tell one from another."""

_MULTIPART_ETAG = re.compile(r".*-[0-9]+")

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


def asks(record: Record, sight: Sight) -> tuple[Destination, ...]:
    """
    Tell at which destinations to look as well, because the source's merged status does not tell enough.

    Args:
        record: what is known of the version so far.
        sight: what the source showed just now.
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
            return unproved
        case Sight.COMPLETED if len(record.destinations) > 1:
            return tuple(one for one in unproved if not one.certain)
    return ()


def decide(
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
    decision = _decide(record, seen, give_up_after, elsewhere)
    return decision if isinstance(decision, Adopt) else _placed(record, decision, seen)


def _decide(  # noqa: C901, PLR0911 - one return for each kind of answer reads best
    record: Record, seen: Observation, give_up_after: float, elsewhere: Mapping[str, Sight]
) -> Decision:
    if seen.unproved and record.endings + 1 < ENDINGS_TO_BELIEVE:
        return Wait(msgspec.structs.replace(record, endings=record.endings + 1))
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
            answered = _seen_missing(_answered(record, seen), seen, elsewhere, arrived)
            return _not_final(answered, seen, arrived, give_up_after)
        case (
            Sight.DENIED
            | Sight.REFUSED
            | Sight.THROTTLED
            | Sight.UNREACHABLE
            | Sight.UNREADABLE
            | Sight.DOUBTED
        ):
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
    arrivals = _arrivals(record, seen, [one.bucket for one in record.open])
    settled = _placed(record, _settle(record, arrivals, seen), seen)
    return settled if isinstance(settled, Settle) else None


def joined(record: Record, arrivals: Mapping[str, Half], *, everywhere: Half | None) -> Record:
    """
    Return the record with the exact arrivals that are known.

    Args:
        record: of the version.
        arrivals: what replica events told, by destination bucket.
        everywhere: a store's word that the version is everywhere.
    """
    for bucket, half in arrivals.items():
        record = with_arrival(record, bucket, at=half.replicated_at, size=half.size)
    if everywhere is not None:
        record = with_all_arrived(record, at=everywhere.replicated_at, size=everywhere.size)
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


def _seen_missing(
    record: Record, seen: Observation, elsewhere: Mapping[str, Sight], arrived: frozenset[str]
) -> Record:
    """
    Note in the record that it certainly is not everywhere yet, and where it is not, as far as that is proved.
    """
    missing = {one.bucket for one in record.open if elsewhere.get(one.bucket) is Sight.GONE}
    if seen.sight is Sight.PENDING:
        waited_for = [one.bucket for one in record.open if one.bucket not in arrived]
        # The status is that of all: it tells of one only where no other one is left.
        missing.update(waited_for if len(waited_for) == 1 else ())
    elif seen.sight is not Sight.SILENT or not missing:
        return record
    several = len(record.destinations) > 1
    return msgspec.structs.replace(
        record,
        pending_seen_at=seen.looked_at,
        destinations=tuple(
            msgspec.structs.replace(one, pending_seen_at=seen.looked_at)
            if several and one.bucket in missing - arrived
            else one
            for one in record.destinations
        ),
    )


def _decide_provisional(record: Record, seen: Observation, give_up_after: float) -> Decision:
    if not seen.sight.answered:
        return _trouble(record, seen, frozenset(), give_up_after)
    if seen.sight.ended or not _adoptable(record, seen):
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


def _adoptable(record: Record, seen: Observation) -> bool:
    """
    Tell whether the current version is the one that an event without version id told of.

    A multipart object has the time at which its upload was initiated, which its event does not know. So it must be
    one, of the size that the event told, if it did.
    """
    modified = seen.last_modified_at
    if modified is None or (record.etag and seen.etag and record.etag != seen.etag):
        return False
    ahead = modified - record.event_at
    if record.operation is not Operation.MULTIPART:
        return abs(ahead) <= ADOPTION_TOLERANCE_SECONDS
    if seen.etag and _MULTIPART_ETAG.fullmatch(seen.etag) is None:
        return False
    if record.size is not None and seen.size is not None and record.size != seen.size:
        return False
    return -UPLOAD_SECONDS <= ahead <= ADOPTION_TOLERANCE_SECONDS


def _answered(record: Record, seen: Observation) -> Record:
    """
    Note an answer about the version in its record.
    """
    size = seen.size if seen.size is not None else record.size
    return msgspec.structs.replace(
        record, looks=record.looks + 1, troubles=0, refusals=0, endings=0, size=size
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


def _placed(record: Record, decision: Wait | Settle, seen: Observation) -> Wait | Settle:
    """
    Count the last failure episode at each destination as soon as it is proved there.

    Where it is proved nowhere in time, or was nowhere when it ended, the unknown destination stands for one of them:
    for the first that is proved after that, which is not counted again.
    """
    kept = decision.record if isinstance(decision, Wait) else decision.settlement.keep
    last = record if kept is None else kept
    if not last.episode:
        return decision
    proved = [one for one in last.failed_at_destinations if one.failed_episode < last.episode]
    unknown = not proved and not last.placed and _unplaceable(kept, seen)
    instead = last.unplaced_episode == last.episode and not last.failed_in_episode
    buckets = [UNKNOWN_DESTINATION] if unknown else [one.bucket for one in proved][instead:]
    if kept is not None:
        kept = _counted_there(kept, {one.bucket for one in proved}, unknown=unknown)
    outcomes = tuple(_failed_there(last, bucket, seen) for bucket in buckets)
    if isinstance(decision, Settle):
        settled = decision.settlement
        outcomes = (*settled.outcomes, *outcomes)
        settled = msgspec.structs.replace(settled, outcomes=outcomes, keep=kept)
        return msgspec.structs.replace(decision, settlement=settled)
    if kept is None or not outcomes:
        return decision if kept is None else Wait(kept)
    return _settle(record, outcomes, seen, keep=kept)


def _unplaceable(kept: Record | None, seen: Observation) -> bool:
    """
    Tell whether nobody is to be waited for any more who could say where a version failed.
    """
    if kept is None or kept.state is not State.FAILED or kept.failed_at is None:
        return True
    return seen.looked_at - kept.failed_at >= PLACED_WITHIN_SECONDS


def _counted_there(kept: Record, buckets: Collection[str], *, unknown: bool) -> Record:
    """
    Remember where the last failure episode was counted.
    """
    if not buckets and not unknown:
        return kept
    return msgspec.structs.replace(
        kept,
        unplaced_episode=kept.episode if unknown else kept.unplaced_episode,
        destinations=tuple(
            msgspec.structs.replace(one, failed_episode=kept.episode)
            if one.bucket in buckets
            else one
            for one in kept.destinations
        ),
    )


def _failed_there(record: Record, bucket: str, seen: Observation) -> Outcome:
    version = record.version
    mark = MarkId(Scope.EPISODE_THERE, bucket, version.key, version.version_id, record.episode)
    return _outcome(record, mark, Fate.FAILED_THERE, Route(version.bucket, bucket), seen)


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
    return tuple(_arrival(record, one, seen) for one in record.open if one.bucket in arrived)


def _arrival(record: Record, destination: Destination, seen: Observation) -> Outcome:
    route = Route(record.version.bucket, destination.bucket)
    outcome = _outcome(
        record, record.replica_mark(destination.bucket), Fate.COMPLETED, route, seen
    )
    repaired = record.repairs(destination)
    # Looks at open failures are too rare to tell anything of a latency.
    vague = destination.replicated_at is None and record.failed_before
    latency = _latency(record, destination, seen)
    # Nor does an age that counts from when it was heard of.
    timed = record.counts and not repaired and not vague and record.claimed_at is None
    return msgspec.structs.replace(
        outcome,
        latency=latency if timed else None,
        repaired=repaired,
        late=timed and (destination.missed or latency.lower > LATE_SECONDS),
    )


def _latency(record: Record, destination: Destination, seen: Observation) -> Latency:
    """
    Bound the latency at a destination by what looks told of this one; what they told of all, apart from that.
    """
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
    upper = max(seen.looked_at - written_at, max(lower, slowest or 0.0) + _SHORTEST_BOUND)
    return Latency(lower, upper, slowest)


def _waited_for_alone(record: Record, destination: Destination, at: float) -> bool:
    """
    Tell whether a status of all destinations was about this one, as every other had the version by then.
    """
    if destination.bucket == UNKNOWN_DESTINATION:
        return True  # whichever it is, it is the slowest
    return all(
        one.replicated_at is not None and one.replicated_at <= at
        for one in record.destinations
        if one.bucket != destination.bucket
    )


def _another_missing(record: Record, destination: Destination, at: float) -> bool:
    """
    Tell whether another destination did not have the version at a moment, which so says nothing of this one.
    """
    return any(
        (one.replicated_at or 0.0) > at or (one.pending_seen_at or 0.0) >= at
        for one in record.destinations
        if one.bucket != destination.bucket
    )


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
