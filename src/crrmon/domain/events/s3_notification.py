"""Read S3's own notifications, which a bucket sends to a queue, a topic or a function.

They are the best there is: milliseconds, a size, and the session that wrote. Only they tell why a replication failed.
Keys are encoded like the fields of a form; names of buckets are not.

Other stores send the same shape with their own `eventSource`, and every name after `s3:`. MinIO means other things by
some of them:

- It never tells of what replication writes or deletes at a destination, so whoever it tells of was a user.
- At the source it tells of every try to replicate. A try that failed for an object has an `eTag`; one without is a
  deletion's, be it a delete marker's or for good. `OperationNotTracked` says that the destination's server was taken to
  be offline.
- Nothing is said of sizes that are zero.
"""

from collections.abc import Callable
from functools import partial
from urllib.parse import unquote_to_bytes

import msgspec

from crrmon.domain.events import fields
from crrmon.domain.events.envelopes import Irrelevant, Part, parse
from crrmon.domain.events.facts import (
    Channel,
    DeletionTried,
    Fact,
    MalformedMessageError,
    MarkerCreated,
    ObjectWritten,
    Operation,
    ReplicationFailed,
    ReplicaWritten,
    TargetOffline,
    Threshold,
    ThresholdPassed,
    VersionDeleted,
    VersionReplicated,
)
from crrmon.domain.events.notification_record import AMAZON, RECORD, NotificationRecord, text
from crrmon.domain.objects import ObjectVersion, provisional
from crrmon.domain.stores import store_of


class _Source(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    event_source: str


_SOURCE = msgspec.json.Decoder(_Source)


def read(part: Part) -> Fact | Irrelevant:
    """Read one record.

    Raises:
        MalformedMessageError: it should tell of a version, and lacks what that takes; or nobody told us of such events.
    """
    name = (part.name or "").removeprefix("s3:")
    family, _, _ = name.partition(":")
    reader = _READERS.get(name)
    if isinstance(reader, Irrelevant):
        return reader
    if reader is None:
        if family in _OTHER_FAMILIES:
            return Irrelevant.OTHER_NOTIFICATION
        reader = _unknown(family, part)
    record = parse(RECORD, part.raw, part.where)
    told = record.s3.object
    version = fields.version(
        record.s3.bucket.name, _key(told.key, part.where), told.version_id, at=record.happened_at
    )
    fact = reader(record, version)
    if fact is None:
        raise MalformedMessageError(
            f"{part.where}: neither s3.object.versionId nor replicationEventData.requestTime"
        )
    return fact


def _unknown(family: str, part: Part) -> "_Reader":
    """Return the reader of an event that nobody told us of.

    Raises:
        MalformedMessageError: it cannot be followed.
    """
    if family == "ObjectCreated" and parse(_SOURCE, part.raw, part.where).event_source == AMAZON:
        # Whatever call it was: by S3's word this is a new object. Other stores call changes of tags so, too.
        return partial(_written, Operation.PUT)
    raise MalformedMessageError(f"{part.where}.eventName: an event that is not known")


def _written(
    operation: Operation, record: NotificationRecord, version: ObjectVersion
) -> ObjectWritten | ReplicaWritten | Irrelevant:
    size = record.size
    # NB: the owner of the bucket that a record names is no account, but a canonical user id.
    if not fields.is_replication(record.principal):
        return ObjectWritten(
            version=version,
            region=record.region,
            written_at=record.happened_at,
            operation=operation,
            size=size,
            etag="" if version.identified else fields.etag(record.s3.object.e_tag),
            owner=record.site,
            channel=record.channel,
            store=store_of(record.event_source),
        )
    if not version.identified:
        return Irrelevant.REPLICA_WITHOUT_VERSION
    return ReplicaWritten(
        version=version,
        region=record.region,
        written_at=record.happened_at,
        size=size,
        owner=record.site,
    )


def _deleted(record: NotificationRecord, version: ObjectVersion) -> VersionDeleted | Irrelevant:
    if not version.identified:
        return Irrelevant.DELETED_WITHOUT_VERSION
    return VersionDeleted(
        version=version,
        region=record.region,
        deleted_at=record.happened_at,
        owner=record.site,
    )


def _marker_laid(record: NotificationRecord, version: ObjectVersion) -> MarkerCreated:
    return MarkerCreated(
        version=version,
        region=record.region,
        created_at=record.happened_at,
        owner=record.site,
        channel=Channel.NOTIFICATION if record.of_minio else record.channel,
        by_replication=fields.is_replication(record.principal),
    )


def _deletion_tried(
    record: NotificationRecord, version: ObjectVersion, *, done: bool
) -> DeletionTried | Irrelevant:
    if not version.identified:
        return Irrelevant.DELETED_WITHOUT_VERSION
    return DeletionTried(
        version=version,
        region=record.region,
        tried_at=record.happened_at,
        done=done,
        owner=record.site,
    )


def _completed(record: NotificationRecord, version: ObjectVersion) -> Fact | Irrelevant:
    """Read MinIO's notice that it ended a try without a failure, which proves an arrival only by the status beside."""
    if not record.of_minio:
        return Irrelevant.OTHER_NOTIFICATION
    if record.of_deletion:
        return _deletion_tried(record, version, done=True)
    if not version.identified or record.status != "COMPLETED":
        return Irrelevant.OTHER_NOTIFICATION  # a look tells how it stands
    return VersionReplicated(
        version=version,
        region=record.region,
        replicated_at=record.happened_at,
        size=record.size,
    )


def _not_tracked(record: NotificationRecord, version: ObjectVersion) -> Fact:
    if not record.of_minio:
        return _threshold_passed(Threshold.NOT_TRACKED, record, version)
    return TargetOffline(version=version, region=record.region, noticed_at=record.happened_at)


def _failed(record: NotificationRecord, version: ObjectVersion) -> Fact | Irrelevant | None:
    """Read a notice of failure; None where there is no telling which version it is about.

    Without a version id it is about what was written when the request was made. The looks at such a version find out
    which one that is, if it is still the current one. A delete marker is never looked at: any name will do.
    """
    if record.of_deletion:
        return _deletion_tried(record, version, done=False)
    told = record.replication
    written_at = told.requested_at
    if not version.identified and written_at is not None:
        version = provisional(version.bucket, version.key, written_at)
    notice = ReplicationFailed(
        version=version,
        destination=told.destination,
        reason=text(told.failure_reason),
        rule=text(told.replication_rule_id),
        operation=text(told.s3_operation),
        region=record.region,
        noticed_at=record.happened_at,
        written_at=written_at,
        size=record.size,
        owner=record.site,
        store=store_of(record.event_source),
    )
    known = version.identified or written_at is not None or notice.of_delete_marker
    return notice if known else None


def _threshold_passed(
    threshold: Threshold, record: NotificationRecord, version: ObjectVersion
) -> ThresholdPassed:
    # Without a version id it counts all the same.
    told = record.replication
    return ThresholdPassed(
        version=version,
        destination=told.destination,
        threshold=threshold,
        rule=text(told.replication_rule_id),
        region=record.region,
        noticed_at=record.happened_at,
    )


_Reader = Callable[[NotificationRecord, ObjectVersion], Fact | Irrelevant | None]

_READERS: dict[str, _Reader | Irrelevant] = {
    "ObjectCreated:Put": partial(_written, Operation.PUT),
    "ObjectCreated:Post": partial(_written, Operation.PUT),
    "ObjectCreated:Copy": partial(_written, Operation.COPY),
    "ObjectCreated:CompleteMultipartUpload": partial(_written, Operation.MULTIPART),
    "ObjectRemoved:Delete": _deleted,
    "ObjectRemoved:DeleteMarkerCreated": _marker_laid,
    "LifecycleExpiration:Delete": _deleted,
    "LifecycleExpiration:DeleteMarkerCreated": Irrelevant.LIFECYCLE_MARKER,
    "Replication:OperationFailedReplication": _failed,
    "Replication:OperationMissedThreshold": partial(_threshold_passed, Threshold.MISSED),
    "Replication:OperationReplicatedAfterThreshold": partial(
        _threshold_passed, Threshold.REPLICATED_AFTER
    ),
    "Replication:OperationNotTracked": _not_tracked,
    "Replication:OperationCompletedReplication": _completed,
    # MinIO's: changes of tags and locks, and deletions that another event tells of or that found nothing.
    **dict.fromkeys(
        (
            *("ObjectCreated:PutTagging", "ObjectCreated:DeleteTagging"),
            *("ObjectCreated:PutRetention", "ObjectCreated:PutLegalHold"),
            *("ObjectRemoved:NoOP", "ObjectRemoved:DeleteAllVersions"),
        ),
        Irrelevant.OTHER_NOTIFICATION,
    ),
}
"""By the name of the event."""

_OTHER_FAMILIES = frozenset(
    {
        *("ObjectAcl", "ObjectAnnotation", "ObjectRestore", "ObjectRetention", "ObjectTagging"),
        *("IntelligentTiering", "LifecycleTransition", "ReducedRedundancyLostObject"),
        "LifecycleExpiration",
        # Of other stores.
        *("BucketCreated", "BucketRemoved", "LifecycleDelMarkerExpiration", "ObjectAccessed"),
        *("ObjectLifecycle", "ObjectSynced", "ObjectTransition", "Scanner"),
    }
)
"""
What stands before the colon in names of events none of which, now or later, tells of a write that rules replicate, of a
delete marker that does, or of how a replication went.
"""


def _key(told: str, where: str) -> str:
    """Decode a key.

    Raises:
        MalformedMessageError: it is not UTF-8 then. S3 has no such keys, so there is nothing to look at.
    """
    told = told.replace("+", " ")
    if "%" not in told:
        return told
    try:
        return unquote_to_bytes(told).decode()
    except UnicodeDecodeError:
        raise MalformedMessageError(f"{where}.s3.object.key: not UTF-8 when decoded") from None
