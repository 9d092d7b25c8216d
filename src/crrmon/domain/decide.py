"""What a look means for the version looked at: wait, or settle. The heart of the monitor, and pure.

Nothing ambiguous ends tracking: only the answers that prove something do.
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from crrmon.domain.arrivals import (
    arrivals,
    arrived_at,
    completed,
    everywhere,
    left_of,
    seen_missing,
    size_elsewhere,
)
from crrmon.domain.decisions import Adopt, Decision, Settle, Wait, replica_found, settle
from crrmon.domain.events.facts import Channel, Operation
from crrmon.domain.failures import failed, placed, too_old
from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Cause, EarlyFact, Fate, Settlement
from crrmon.domain.pacing import path_of
from crrmon.domain.record_changes import reopened, with_all_arrived, with_arrival
from crrmon.domain.records import Destination, Record
from crrmon.domain.schedule import Schedule
from crrmon.domain.verdicts import for_version

ADOPTION_TOLERANCE_SECONDS = 2.0
"""How far LastModified may lie from the event's time for the current version to be the one that was written."""

UPLOAD_SECONDS = 7 * 86_400.0
"""How long before its end a multipart upload may have been initiated: S3 stamps the object with that. Uploads may be
open for longer, but lifecycle rules commonly end them after a week.
"""

ENDINGS_TO_BELIEVE = 2
"""A store that does not prove to be itself is believed an end that it told so often in a row."""

REFUSALS_TO_UNREADABLE = 3
"""400 means a customer-provided key, but an expired token looks the same to a HEAD, which has no body, and must not end
tracking: only several in a row are believed, and only if S3 takes the daemon's other requests. To make sure of that,
the looker reads the bucket's configuration with the same credentials and looks once more.
"""

TROUBLES_TO_GIVE_UP = 10
"""How many looks in a row must have told nothing before age alone may end tracking, or an arrival is counted whose size
nobody told.
"""

_NULL_VERSION = "null"
"""The id of every version that was written while versioning was off: it does not tell one from another."""

_MULTIPART_ETAG = re.compile(r".*-[0-9]+")

_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes from which S3 does not replicate."""

_NOWHERE: Final[Mapping[str, Observation]] = MappingProxyType({})


def asks(record: Record, sight: Sight) -> tuple[Destination, ...]:
    """Return at which destinations to look as well, because the source's merged status does not tell enough.

    Args:
        record: what is known of the version so far.
        sight: what the source showed just now.
    """
    alone = len(record.destinations) <= 1
    if (sight is Sight.COMPLETED and alone) or not record.version.identified:
        return ()
    # Of what is gone at the source, only those that have it can tell how large it was.
    sizeless = sight is Sight.GONE and record.size is None
    unproved = tuple(
        destination for destination in record.open if destination.replicated_at is None or sizeless
    )
    several = len(unproved) > 1
    unproved = tuple(
        destination for destination in unproved if destination.bucket != UNKNOWN_DESTINATION
    )
    match sight:
        case Sight.SILENT | Sight.GONE:
            # The source has no word of it, or none any more: it may have arrived before it was deleted.
            return unproved
        case Sight.FAILED if several:
            # It failed at one of them, and not at each. Where S3 named one, nothing is left to find out.
            return tuple(destination for destination in unproved if destination.failure is None)
        case Sight.PENDING if several:
            # The slowest keeps the status of all, perhaps for days: what has arrived is counted meanwhile.
            return unproved
        case Sight.COMPLETED if not alone:
            # What only a tag filter might select need not be among what is completed.
            return tuple(destination for destination in unproved if not destination.certain)
    return ()


def decide(
    record: Record,
    seen: Observation,
    schedule: Schedule,
    *,
    give_up_after: float,
    elsewhere: Mapping[str, Observation] = _NOWHERE,
    not_before: float = -math.inf,
) -> Decision:
    """Decide what becomes of a version.

    Args:
        record: what is known of it so far.
        seen: what the look showed.
        schedule: says when to look again, and estimates latencies.
        give_up_after: seconds after which a version that is never final is given up.
        elsewhere: what looks at destinations showed, by bucket; see `asks`.
        not_before: the earliest date of the next look, whatever the schedule says.
    """
    path = path_of(record)
    if record.version.identified:
        record = _sized(dated(record, seen), seen)
        if elsewhere and record.size is None:
            record = replace(record, size=size_elsewhere(record, elsewhere))
    decision = _decide(record, seen, give_up_after, elsewhere)
    if not isinstance(decision, Adopt):
        decision = placed(record, decision, now=seen.looked_at)
    return schedule.finished(decision, path, not_before=not_before)


def _decide(  # noqa: C901, PLR0911 - one return for each kind of answer reads best
    record: Record, seen: Observation, give_up_after: float, elsewhere: Mapping[str, Observation]
) -> Decision:
    if seen.unproved and record.endings + 1 < ENDINGS_TO_BELIEVE:
        return Wait(replace(record, endings=record.endings + 1))
    if not record.version.identified:
        return _decide_provisional(record, seen, give_up_after)
    arrived = arrived_at(record, elsewhere)
    match seen.sight:
        case Sight.COMPLETED:
            return completed(_answered(record), seen, arrived)
        case Sight.FAILED:
            return failed(_answered(record), seen, arrived, give_up_after)
        case Sight.NO_STATUS:
            return _no_status(_answered(record), seen, arrived, give_up_after)
        case Sight.REPLICA:
            return _is_replica(record, seen)
        case Sight.GONE:
            return _ended(record, Fate.GONE, seen, arrived)
        case Sight.DELETE_MARKER:
            # S3 shows no status of a marker: nobody will ever see more of it.
            return _ended(record, Fate.UNREADABLE, seen, arrived)
        case Sight.PENDING | Sight.UNKNOWN | Sight.SILENT:
            answered = seen_missing(_answered(record), seen, elsewhere, arrived)
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
    """Take S3's time of the write for a version whose event could not be believed."""
    told = seen.last_modified_at
    if record.claimed_at is None or told is None or not record.version.identified:
        return record
    return replace(record, written_at=told, claimed_at=None)


def provable(record: Record) -> bool:
    """Return whether a version may be decided on without a look; see `proved`."""
    return record.arrived and record.size is not None


def proved(record: Record, schedule: Schedule) -> Settle | None:
    """Decide on a version without a look, where its replicas' own events prove that it arrived everywhere.

    Args:
        record: what is known of it.
        schedule: tells the time, and estimates latencies.

    Returns:
        None where a look is needed: to learn of the other destinations, or of its size.
    """
    if not provable(record):
        return None
    now = schedule.now
    there = arrivals(record, [destination.bucket for destination in record.open], found_at=now)
    settled = placed(record, settle(record, there, found_at=now), now=now)
    return schedule.settled(settled, path_of(record)) if isinstance(settled, Settle) else None


def joined(
    record: Record, arrivals: Mapping[str, EarlyFact], *, everywhere: EarlyFact | None
) -> Record:
    """Return the record with the exact arrivals that are known.

    Args:
        record: of the version.
        arrivals: what replica events told, by destination bucket.
        everywhere: a store's word that the version is everywhere.
    """
    for bucket, early in arrivals.items():
        record = with_arrival(record, bucket, at=early.replicated_at, size=early.size)
    if everywhere is not None:
        record = with_all_arrived(record, at=everywhere.replicated_at, size=everywhere.size)
    return record


def _decide_provisional(record: Record, seen: Observation, give_up_after: float) -> Decision:
    if not seen.sight.answered:
        return _trouble(record, seen, frozenset(), give_up_after)
    now = seen.looked_at
    if seen.sight.ended or not _adoptable(record, seen):
        ended = for_version(_sized(record, seen), Fate.UNIDENTIFIED, found_at=now)
        return settle(record, (ended,), found_at=now)
    bucket, key = record.version.bucket, record.version.key
    found = ObjectVersion(bucket, key, seen.version_id or _NULL_VERSION)
    # Under its true id the ledger may know nothing of it yet.
    adopted = _sized(dated(replace(record, version=found, rev=0), seen), seen)
    then = _decide(adopted, seen, give_up_after, _NOWHERE)
    if isinstance(then, Adopt):  # pragma: no cover - a found version is never provisional
        raise TypeError("an adopted version cannot be adopted again")
    closing = for_version(_sized(record, seen), Fate.IDENTIFIED, found_at=now)
    return Adopt(
        placed(adopted, then, now=now),
        Settlement(version=record.version, outcomes=(closing,), rev=record.rev),
        adopted,
    )


def _adoptable(record: Record, seen: Observation) -> bool:
    """Return whether the current version is the one that an event without version id told of.

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
    # Where the event had no entity tag, the size tells another upload.
    if record.size is not None and seen.size is not None and record.size != seen.size:
        return False
    return -UPLOAD_SECONDS <= ahead <= ADOPTION_TOLERANCE_SECONDS


def _sized(record: Record, seen: Observation) -> Record:
    """Take the size of a version from a look."""
    return record if seen.size in (None, record.size) else replace(record, size=seen.size)


def _answered(record: Record) -> Record:
    """Note an answer about the version in its record."""
    return replace(record, looks=record.looks + 1, troubles=0, refusals=0, endings=0)


def _ended(record: Record, fate: Fate, seen: Observation, arrived: frozenset[str]) -> Settle:
    """End a version at every destination that it did not arrive at."""
    now = seen.looked_at
    return settle(record, everywhere(record, fate, arrived, found_at=now), found_at=now)


def _not_final(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    """Follow the version on, unless it is too old for that."""
    if seen.sight is Sight.PENDING:
        # An open failure that shows PENDING is retried by somebody: a new start.
        record = reopened(record, at=seen.looked_at)
    if too_old(record, now=seen.looked_at, give_up_after=give_up_after):
        return _ended(record, Fate.GIVEN_UP, seen, arrived)
    return _going_on(record, seen, arrived)


def _trouble(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    refusals = record.refusals + 1 if seen.sight is Sight.REFUSED else 0
    record = replace(record, troubles=record.troubles + 1, refusals=refusals)
    if refusals >= REFUSALS_TO_UNREADABLE:
        return _ended(record, Fate.UNREADABLE, seen, arrived)
    # An outage alone must not end what is old: only trouble that is this version's own may.
    old = too_old(record, now=seen.looked_at, give_up_after=give_up_after)
    if old and record.troubles >= TROUBLES_TO_GIVE_UP:
        return _ended(record, Fate.GIVEN_UP, seen, arrived)
    return _going_on(record, seen, arrived)


def _going_on(record: Record, seen: Observation, arrived: frozenset[str]) -> Wait | Settle:
    """Follow the version on, and count the destinations that it arrived at already."""
    size_may_come = record.size is None and record.troubles < TROUBLES_TO_GIVE_UP
    if not arrived or size_may_come:
        return Wait(record)
    now = seen.looked_at
    there = arrivals(record, arrived, found_at=now)
    return settle(record, there, found_at=now, keep=left_of(record, arrived))


def _no_status(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    """Believe S3 that nothing selected the version, unless a replica or a failure proves that something did."""
    if (
        record.failed_before
        or arrived
        or any(destination.counted for destination in record.destinations)
    ):
        return _not_final(record, seen, arrived, give_up_after)
    now = seen.looked_at
    # Unlike what the configuration tells, this leaves a mark: to find it out again would take another HEAD.
    outcome = for_version(record, Fate.NOT_COVERED, found_at=now, cause=_cause(record, seen))
    return settle(record, (outcome,), found_at=now)


def _cause(record: Record, seen: Observation) -> Cause:
    if seen.storage_class in _ARCHIVES:
        return Cause.STORAGE_CLASS
    if record.destinations and not any(destination.certain for destination in record.destinations):
        return Cause.TAG_FILTER
    if seen.encryption.startswith("aws:kms"):
        return Cause.ENCRYPTION
    return Cause.NO_STATUS


def _is_replica(record: Record, seen: Observation) -> Settle:
    found = replica_found(record, found_at=seen.looked_at)
    # What was to be replicated was a change of it, and nobody told when the replica itself came.
    return replace(found, news=()) if record.channel is Channel.NOTICE else found
