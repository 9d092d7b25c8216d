"""What news does to a trail: what others told of a version reaches the record that waits for it, or is kept for one."""

import enum
from collections.abc import Callable

from msgspec.structs import replace

from crrmon.domain.events.facts import (
    DeletionTried,
    News,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    Threshold,
    ThresholdPassed,
    VersionDeleted,
    VersionReplicated,
)
from crrmon.domain.objects import UNKNOWN_DESTINATION, MarkId, ObjectVersion, Scope
from crrmon.domain.outcomes import EarlyFact, Fate
from crrmon.domain.record_changes import (
    reopened,
    with_all_arrived,
    with_arrival,
    with_failure,
    with_miss,
    with_reason,
)
from crrmon.domain.records import Failure, Record, State
from crrmon.domain.trails import Trail, source_mark, unrefuted


class Noted(enum.StrEnum):
    """What came of news."""

    EARLY = "early"
    """A replica's arrival, a restart, or that a version is everywhere, and nothing was known of its version; or what is
    told of a deletion or a threshold, and no record learned from it: kept for the dedup retention.
    """
    JOINED = "joined"
    """A parked record learned something from it."""
    KNOWN = "known"
    """It was known before, or is older than what is known: nothing was changed."""
    EXPLAINED = "explained"
    """A failure was known without a reason, and has this one's now: it is no other failure, and due when it was."""
    SETTLED = "settled"
    """No record waits for it, and what it is about was counted before."""
    UNKNOWN = "unknown"
    """No record waits for it, nothing was counted, and nothing was kept."""
    LATE = "late"
    """A replica's arrival that was not proved when its version was closed (`outcomes.Fate.CLOSED`). Nothing was kept:
    the caller counts it.
    """


_THRESHOLDS = {
    Threshold.MISSED: Scope.MISSED,
    Threshold.REPLICATED_AFTER: Scope.REPLICATED_AFTER,
    Threshold.NOT_TRACKED: Scope.NOT_TRACKED,
}
"""By what it is remembered that a notice was told."""


def note(trail: Trail, news: News, *, now: float) -> Noted:  # noqa: PLR0911 - one return for each kind reads best
    """Add to a trail what somebody told of it.

    Args:
        trail: of the version that it is about, to be changed.
        news: what was told.
        now: seconds since the epoch; what is hastened is due then.
    """
    match news:
        case ReplicaWritten():
            return _arrived(trail, news, now)
        case ReplicationFailed():
            return _failed(trail, news, now)
        case ThresholdPassed():
            return _passed(trail, news)
        case ReplicationRestarted():
            return _restarted(trail, news, now)
        case VersionDeleted():
            return _told(trail, news.version, None, now, _deleted)
        case VersionReplicated():
            return _replicated(trail, news, now)
        case DeletionTried():
            return _once(trail, Scope.DELETION, news.version, news.tried_at)


def _arrived(trail: Trail, replica: ReplicaWritten, now: float) -> Noted:
    version, replicated_at = replica.version, replica.written_at
    slot = _slot(Scope.REPLICA, version)
    if slot in trail.marks:
        return Noted.SETTLED
    waiting = [one for one in trail.records.values() if _waits_for(one, version)]
    if waiting:
        changed = False
        for record in waiting:
            joined = with_arrival(record, version.bucket, at=replicated_at, size=replica.size)
            # An open failure is looked at seldom, and what arrived elsewhere is not to wait for that.
            telling = joined.arrived or joined.state is State.FAILED
            if joined is not record and telling:
                joined = _sooner(joined, now)
            changed |= trail.change(record, joined)
        return Noted.JOINED if changed else Noted.KNOWN
    if (ended := _ended(trail, version)) is not None:
        return ended
    early = EarlyFact(replicated_at=replicated_at, size=replica.size)
    if (known := trail.early_facts.get(slot)) is not None:
        # CloudTrail's event looks earlier than S3's own, for it is cut to seconds, and may not tell a size.
        earliest = early if replicated_at < known.replicated_at else known
        size = known.size if known.size is not None else early.size
        early = replace(earliest, size=size)
        if early == known:
            return Noted.KNOWN
    trail.early_facts[slot] = early
    return Noted.EARLY


def _ended(trail: Trail, replica: ObjectVersion) -> Noted | None:
    """Return how the source of a replica that nobody waits for ended; None where marks do not tell."""
    if not trail.marks:
        return None
    elsewhere = [
        (slot, one) for slot, one in trail.marks.items() if one.route.source != replica.bucket
    ]
    somewhere = MarkId.of(Scope.REPLICA, replica, at=UNKNOWN_DESTINATION).slot
    if any(slot == somewhere for slot, _ in elsewhere):
        return Noted.SETTLED  # it was counted there, for nobody knew where
    return Noted.LATE if any(one.fate is Fate.CLOSED for _, one in elsewhere) else None


def _failed(trail: Trail, news: ReplicationFailed, now: float) -> Noted:
    version, bucket = news.version, news.destination
    failure = Failure(noticed_at=news.noticed_at, reason=news.reason)
    noted = _told(
        trail, version, bucket, now, lambda one: with_failure(one, bucket, failure), refutes=True
    )
    if noted is not Noted.KNOWN:
        return noted
    # No other failure, and so no reason to look: but it may say why that one was.
    explained = _told(trail, version, bucket, None, lambda one: with_reason(one, bucket, failure))
    return Noted.EXPLAINED if explained is Noted.JOINED else Noted.KNOWN


def _passed(trail: Trail, news: ThresholdPassed) -> Noted:
    """Note a threshold, and remember that its notice came, for the next one may be the same."""
    version, bucket = news.version, news.destination
    place = ObjectVersion(bucket, version.key, version.version_id)
    if _once(trail, _THRESHOLDS[news.threshold], place, news.noticed_at) is Noted.KNOWN:
        return Noted.KNOWN
    missed = news.threshold is Threshold.MISSED
    told = _told(
        trail, version, bucket, None, lambda one: with_miss(one, bucket) if missed else one
    )
    return Noted.JOINED if told is Noted.JOINED else Noted.EARLY


def _replicated(trail: Trail, news: VersionReplicated, now: float) -> Noted:
    """Note that a version is everywhere: its moment where that can only mean one destination; else a reason to look."""
    version = news.version
    record = trail.records.get(version.bucket)
    if record is None and _counted(trail, version, None, refuted=False):
        return Noted.SETTLED
    if record is not None and len(record.destinations) == 1:
        joined = with_all_arrived(record, at=news.replicated_at, size=news.size)
        after = record if joined is record else _sooner(joined, now)
        return Noted.JOINED if trail.change(record, after) else Noted.KNOWN
    said = EarlyFact(replicated_at=news.replicated_at, size=news.size)
    if _earliest(trail, Scope.REPLICATED, version, said) is Noted.KNOWN:
        return Noted.KNOWN
    hastened = record is not None and trail.change(record, _sooner(record, now))
    return Noted.JOINED if hastened else Noted.EARLY


def _restarted(trail: Trail, news: ReplicationRestarted, now: float) -> Noted:
    """Note a restart, and keep that of a version which nobody follows: a replica may come, and this is its source."""
    version, at = news.version, news.restarted_at
    told = _told(trail, version, None, now, lambda one: reopened(one, at=at))
    if trail.records.get(version.bucket):
        return told
    kept = _earliest(trail, Scope.RESTART, version, EarlyFact(replicated_at=at))
    return kept if told is Noted.UNKNOWN else told


def _earliest(trail: Trail, scope: Scope, version: ObjectVersion, early: EarlyFact) -> Noted:
    """Keep what was told, unless the same was told of the same moment or an earlier one."""
    slot = _slot(scope, version)
    known = trail.early_facts.get(slot)
    if known is not None and known.replicated_at <= early.replicated_at:
        return Noted.KNOWN
    trail.early_facts[slot] = early
    return Noted.EARLY


def _once(trail: Trail, scope: Scope, version: ObjectVersion, at: float) -> Noted:
    """Keep that something was told, unless it was told before."""
    slot = _slot(scope, version)
    if slot in trail.early_facts:
        return Noted.KNOWN
    trail.early_facts[slot] = EarlyFact(replicated_at=at)
    return Noted.EARLY


def _told(
    trail: Trail,
    version: ObjectVersion,
    destination: str | None,
    now: float | None,
    change: Callable[[Record], Record],
    *,
    refutes: bool = False,
) -> Noted:
    """Change the record of a source version by what was told.

    Args:
        trail: of the version.
        version: of the source.
        destination: bucket that it is about; None when it is about the version, wherever that goes.
        now: when it is to be looked at, if it learns anything; None when it was to be.
        change: returns what it is afterwards.
        refutes: whether it proves wrong what was thought to be the end of it, if that was none.
    """
    record = trail.records.get(version.bucket)
    if record is not None:
        after = change(record)
        if after is not record:
            after = trail.joined(after)  # it may go somewhere that nobody knew of
            after = after if now is None else _sooner(after, now)
        return Noted.JOINED if trail.change(record, after) else Noted.KNOWN
    counted = _counted(trail, version, destination, refuted=refutes)
    return Noted.SETTLED if counted else Noted.UNKNOWN


def _counted(
    trail: Trail, version: ObjectVersion, destination: str | None, *, refuted: bool
) -> bool:
    """Return whether a source version was counted: in a destination bucket or, with None, in any; or as a whole."""
    if destination is None:
        return any(mark.route.source == version.bucket for mark in trail.marks.values())
    refuted = refuted and unrefuted(version).slot not in trail.early_facts
    there = MarkId.of(Scope.REPLICA, version, at=destination)
    return any(trail.ends(one, refuted=refuted) for one in (there, source_mark(version)))


def _slot(scope: Scope, version: ObjectVersion) -> str:
    return MarkId.of(scope, version).slot


def _deleted(record: Record) -> Record:
    """Add to a record that somebody told of its version's deletion; the record itself where it knew."""
    return record if record.deleted else replace(record, deleted=True)


def _sooner(record: Record, at: float) -> Record:
    """Bring the look at a record forward to then, unless it is due earlier."""
    return replace(record, next_look_at=min(record.next_look_at, at))


def _waits_for(record: Record, replica: ObjectVersion) -> bool:
    return any(destination.bucket == replica.bucket for destination in record.destinations)
