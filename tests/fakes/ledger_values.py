"""Short ways to make what goes into a ledger."""

from crrmon.domain.events.facts import (
    DeletionTried,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    Threshold,
    ThresholdPassed,
    VersionDeleted,
    VersionReplicated,
)
from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope
from crrmon.domain.outcomes import Fate, Latency, Outcome, Settlement
from crrmon.domain.records import Destination, Record, State
from crrmon.ports.ledger import Member

NOW = 4_000_000_110.0
"""Far ahead: emulators and servers drop by their own clock what has expired."""
"""Not the start of any slot."""
MEMBER = Member(owner="me", announced_at=NOW, held_since=NOW - 1.5, delay=2.5)


def version(key: str, *, bucket: str = "src", version_id: str = "v1") -> ObjectVersion:
    """Name a version."""
    return ObjectVersion(bucket, key, version_id)


def record(
    key: str,
    *,
    bucket: str = "src",
    to: tuple[str, ...] = ("dst",),
    next_look_at: float = NOW,
    written_at: float = NOW - 5,
    size: int | None = 100,
    **fields: object,
) -> Record:
    """Create a new record, pending at each of the destinations."""
    return Record(
        version=version(key, bucket=bucket),
        region="eu-west-1",
        written_at=written_at,
        next_look_at=next_look_at,
        size=size,
        destinations=tuple(Destination(name) for name in to),
        **fields,  # type: ignore[arg-type]
    )


def failed(key: str, *, at: float = NOW, **fields: object) -> Record:
    """Create a new record of an open failure."""
    return record(key, state=State.FAILED, episode=1, failed_at=at, **fields)  # type: ignore[arg-type]


def arrived(one: Record, destination: str = "dst", **fields: object) -> Outcome:
    """Create the outcome that a record's version arrived in a destination."""
    given: dict[str, object] = {
        "mark": one.replica_mark(destination),
        "fate": Fate.COMPLETED,
        "route": Route(one.version.bucket, destination),
        "written_at": one.written_at,
        "found_at": NOW,
        "size": one.size or 0,
        "latency": Latency(2.0, 4.0),
        "spread": ((9, 0.5), (10, 0.5)),
        "seconds": 3.0,
        "looks": 1,
    }
    return Outcome(**(given | fields))  # type: ignore[arg-type]


def whole(one: Record, fate: Fate = Fate.NOT_COVERED) -> Outcome:
    """Create an outcome about a record's version as a whole."""
    at = one.version
    mark = MarkId(Scope.SOURCE, at.bucket, at.key, at.version_id)
    route = Route(at.bucket, "")
    return Outcome(
        mark=mark, fate=fate, route=route, written_at=one.written_at, found_at=NOW, looks=1
    )


def episode(one: Record, number: int = 1) -> Outcome:
    """Create the outcome that a failure episode of a record's version began."""
    at = one.version
    mark = MarkId(Scope.EPISODE, at.bucket, at.key, at.version_id, number)
    route = Route(at.bucket, "")
    return Outcome(
        mark=mark, fate=Fate.FAILED, route=route, written_at=one.written_at, found_at=NOW, looks=1
    )


def done(one: Record, *outcomes: Outcome) -> Settlement:
    """Settle a record with these outcomes (its arrival in "dst" unless others are given) and drop it."""
    return Settlement(version=one.version, outcomes=outcomes or (arrived(one),))


def replica(key: str, *, at: float, bucket: str = "dst") -> ReplicaWritten:
    """Create the event that a version arrived in a bucket."""
    return ReplicaWritten(
        version=version(key, bucket=bucket), region="us-east-1", written_at=at, size=100
    )


def gave_up(
    key: str, *, at: float, destination: str = "dst", reason: str = "DstPutObjNotPermitted"
) -> ReplicationFailed:
    """Create S3's notice that it gave up to replicate a version of the bucket "src"."""
    return ReplicationFailed(
        version=version(key),
        destination=destination,
        reason=reason,
        rule="rule",
        operation="OBJECT_PUT",
        region="eu-west-1",
        noticed_at=at,
    )


def threshold(
    key: str, *, destination: str = "dst", what: Threshold = Threshold.MISSED
) -> ThresholdPassed:
    """Create S3's notice of how a version of the bucket "src" stands against the promise of 15 minutes."""
    return ThresholdPassed(
        version=version(key),
        destination=destination,
        threshold=what,
        rule="rule",
        region="eu-west-1",
        noticed_at=NOW,
    )


def restarted(key: str, *, at: float) -> ReplicationRestarted:
    """Create the event that a version of the bucket "src" was put back to pending."""
    return ReplicationRestarted(version=version(key), region="eu-west-1", restarted_at=at)


def deleted(key: str, *, bucket: str = "src", at: float = NOW) -> VersionDeleted:
    """Create the event that a version was deleted for good."""
    return VersionDeleted(version=version(key, bucket=bucket), region="eu-west-1", deleted_at=at)


def everywhere(key: str, *, at: float, bucket: str = "src") -> VersionReplicated:
    """Create a store's notice at the source that a version is at all its destinations."""
    return VersionReplicated(version=version(key, bucket=bucket), region="", replicated_at=at)


def deletion_done(key: str, *, at: float) -> DeletionTried:
    """Create a store's notice at the bucket "src" that a deletion is at all its destinations."""
    return DeletionTried(version=version(key), region="", tried_at=at, done=True)
