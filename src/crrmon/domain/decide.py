"""What a look means for the version looked at: wait, or settle. The heart of the monitor, and pure.

Nothing ambiguous ends tracking: only the answers that prove something do. When to look next is `pacing`'s business.
"""

import msgspec

from crrmon.domain.objects import UNKNOWN_DESTINATION, MarkId, ObjectVersion, Route, Scope
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate, Latency, Outcome, Settlement
from crrmon.domain.records import Destination, Record, State

ADOPTION_TOLERANCE_SECONDS = 2.0
"""How far LastModified may lie from the event's time for the current version to be the one that was written."""

REFUSALS_TO_UNPOLLABLE = 3
"""
400 means a customer-provided key, but an expired token looks the same to a HEAD: only several in a row are believed,
and only if S3 takes the daemon's other requests (the looker makes sure of that).
"""

TROUBLES_TO_GIVE_UP = 10
"""How many looks in a row must have told nothing before age alone may end tracking."""

_SHORTEST_BOUND = 0.001
"""Keeps a bounded latency from looking exact when clocks disagree."""


class Wait(msgspec.Struct, frozen=True):
    """
    Not final: keep the record as it is here, and look again.
    """

    record: Record


class Settle(msgspec.Struct, frozen=True):
    """
    Final, or an open failure: make this durable.
    """

    settlement: Settlement


class Adopt(msgspec.Struct, frozen=True):
    """
    The version of an event without version id is known now.
    """

    then: Wait | Settle
    """What to do with the true version; its record is new. To be made durable first."""
    provisional: Settlement
    """Closes the stand-in."""


Decision = Wait | Settle | Adopt


def decide(  # noqa: PLR0911 - one return for each kind of answer reads best
    record: Record, seen: Observation, *, give_up_after: float
) -> Decision:
    """
    Decide what becomes of a version.

    Args:
        record: what is known of it so far.
        seen: what the look showed.
        give_up_after: seconds after which a version that is never final is given up.
    """
    if not record.version.identified:
        return _decide_provisional(record, seen, give_up_after)
    match seen.sight:
        case Sight.COMPLETED:
            return _settle(record, _completed(_answered(record, seen), seen))
        case Sight.FAILED:
            return _failed(_answered(record, seen), seen, give_up_after)
        case Sight.NO_STATUS:
            return _settle(record, (_version_outcome(record, Fate.NOT_COVERED, seen),))
        case Sight.REPLICA:
            return _settle(record, (_version_outcome(record, Fate.IS_REPLICA, seen),))
        case Sight.GONE:
            return _settle(record, _everywhere(record, Fate.GONE, seen))
        case Sight.DELETE_MARKER:
            return _settle(record, _everywhere(record, Fate.UNPOLLABLE, seen))
        case Sight.PENDING | Sight.UNKNOWN:
            return _not_final(_answered(record, seen), seen, give_up_after)
        case Sight.DENIED | Sight.REFUSED | Sight.THROTTLED | Sight.UNREACHABLE:
            return _trouble(record, seen, give_up_after)


def joined(record: Record, arrivals: dict[str, float]) -> Record:
    """
    Return the record with the exact arrivals that replica events told, by destination bucket.
    """
    if not arrivals:
        return record
    return msgspec.structs.replace(
        record,
        destinations=tuple(
            msgspec.structs.replace(one, replicated_at=arrivals[one.bucket])
            if one.bucket in arrivals and one.replicated_at is None
            else one
            for one in record.destinations
        ),
    )


def _decide_provisional(record: Record, seen: Observation, give_up_after: float) -> Decision:
    if not seen.sight.answered:
        return _trouble(record, seen, give_up_after)
    modified = seen.last_modified_at
    if (
        seen.sight in (Sight.GONE, Sight.DELETE_MARKER)
        or modified is None
        or abs(modified - record.written_at) > ADOPTION_TOLERANCE_SECONDS
    ):
        return _settle(record, (_version_outcome(record, Fate.UNIDENTIFIED, seen),))
    found = ObjectVersion(record.version.bucket, record.version.key, seen.version_id or "null")
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


def _not_final(record: Record, seen: Observation, give_up_after: float) -> Decision:
    if record.state is State.FAILED and seen.sight is Sight.PENDING:
        # Somebody retries it: a new start.
        record = msgspec.structs.replace(
            record, state=State.PENDING, failed_at=None, reopened_at=seen.looked_at
        )
    if seen.looked_at - _begun_at(record) >= give_up_after:
        return _settle(record, _everywhere(record, Fate.GIVEN_UP, seen))
    if seen.sight is Sight.PENDING:
        record = msgspec.structs.replace(record, pending_seen_at=seen.looked_at)
    return Wait(record)


def _trouble(record: Record, seen: Observation, give_up_after: float) -> Decision:
    refusals = record.refusals + 1 if seen.sight is Sight.REFUSED else 0
    record = msgspec.structs.replace(record, troubles=record.troubles + 1, refusals=refusals)
    if refusals >= REFUSALS_TO_UNPOLLABLE:
        return _settle(record, _everywhere(record, Fate.UNPOLLABLE, seen))
    old = seen.looked_at - _begun_at(record) >= give_up_after
    if old and record.troubles >= TROUBLES_TO_GIVE_UP:
        return _settle(record, _everywhere(record, Fate.GIVEN_UP, seen))
    return Wait(record)


def _begun_at(record: Record) -> float:
    """
    Return from when on the record's age counts towards giving up.
    """
    if record.failed_at is not None:
        return record.failed_at
    return record.written_at if record.reopened_at is None else record.reopened_at


def _failed(record: Record, seen: Observation, give_up_after: float) -> Decision:
    if record.state is State.FAILED:
        if seen.looked_at - _begun_at(record) >= give_up_after:
            return _settle(record, _everywhere(record, Fate.GIVEN_UP, seen))
        return Wait(record)
    kept = msgspec.structs.replace(
        record,
        state=State.FAILED,
        episode=record.episode + 1,
        failed_at=seen.looked_at,
        failed_before=True,
    )
    mark = MarkId(
        Scope.EPISODE,
        record.version.bucket,
        record.version.key,
        record.version.version_id,
        kept.episode,
    )
    outcome = _outcome(kept, mark, Fate.FAILED, Route(record.version.bucket, ""), seen)
    return Settle(
        Settlement(version=record.version, outcomes=(outcome,), rev=record.rev, keep=kept)
    )


def _completed(record: Record, seen: Observation) -> tuple[Outcome, ...]:
    """
    One outcome for each destination that the merged status proves.

    A destination that only a tag filter might select is proved where it is the only one, or by its replica's event.
    """
    proved: tuple[Destination, ...] = record.destinations
    if len(proved) > 1:
        proved = tuple(one for one in proved if one.certain or one.replicated_at is not None)
    if not proved:
        proved = (Destination(bucket=UNKNOWN_DESTINATION),)
    return tuple(_arrival(record, destination, seen) for destination in proved)


def _arrival(record: Record, destination: Destination, seen: Observation) -> Outcome:
    route = Route(record.version.bucket, destination.bucket)
    outcome = _outcome(
        record, record.replica_mark(destination.bucket), Fate.COMPLETED, route, seen
    )
    timed = record.counts and not record.failed_before
    return msgspec.structs.replace(
        outcome,
        latency=_latency(record, destination, seen) if timed else None,
        repaired=record.failed_before,
    )


def _latency(record: Record, destination: Destination, seen: Observation) -> Latency:
    if destination.replicated_at is not None:
        exact = max(destination.replicated_at - record.written_at, 0.0)
        return Latency(exact, exact)
    lower = max((record.pending_seen_at or 0.0) - record.written_at, 0.0)
    return Latency(lower, max(seen.looked_at - record.written_at, lower + _SHORTEST_BOUND))


def _everywhere(record: Record, fate: Fate, seen: Observation) -> tuple[Outcome, ...]:
    """
    One outcome for each destination; those whose replica's event was seen have arrived, whatever became of the source.
    """
    arrived = {one.bucket: one for one in record.destinations if one.replicated_at is not None}
    return tuple(
        _arrival(record, arrived[route.destination], seen)
        if route.destination in arrived
        else _outcome(record, record.replica_mark(route.destination), fate, route, seen)
        for route in record.routes
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


def _settle(record: Record, outcomes: tuple[Outcome, ...]) -> Settle:
    return Settle(Settlement(version=record.version, outcomes=outcomes, rev=record.rev))
