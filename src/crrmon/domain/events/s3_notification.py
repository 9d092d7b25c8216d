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

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import UNSET, Raw, UnsetType

from crrmon.domain.events import fields
from crrmon.domain.events.envelopes import Irrelevant, Part, parse
from crrmon.domain.events.facts import (
    Channel,
    DeletionTried,
    Fact,
    MalformedMessageError,
    MarkerLaid,
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
from crrmon.domain.objects import (
    SITE,
    UNKNOWN_DESTINATION,
    ObjectVersion,
    named_bucket,
    provisional,
)
from crrmon.domain.stores import Store, store_of

_SITE = re.compile(SITE)

_AMAZON = "aws:s3"
"""The `eventSource` of S3 itself."""

_STATUS = "x-amz-replication-status"
"""What MinIO tells of the object's merged status is among the user's own metadata."""

_LONGEST = 255
"""Characters of a rule's id, by S3's own limit. Nothing else that is kept of a notice is longer."""


class _Identity(msgspec.Struct, frozen=True, gc=False):
    principal_id: str | None = msgspec.field(name="principalId", default=None)


class _Bucket(msgspec.Struct, frozen=True, gc=False):
    name: fields.BucketName


class _Object(msgspec.Struct, frozen=True, gc=False):
    key: fields.Key
    version_id: str | None = msgspec.field(name="versionId", default=None)
    size: Raw | UnsetType = UNSET
    e_tag: Raw | UnsetType = msgspec.field(name="eTag", default=UNSET)
    user_metadata: Raw | UnsetType = msgspec.field(name="userMetadata", default=UNSET)


class _Entity(msgspec.Struct, frozen=True, gc=False):
    bucket: _Bucket
    object: _Object


class _Replication(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """
    What a notice says about the replication. Its formats are documented in part only, so none is relied on.
    """

    replication_rule_id: Raw | UnsetType = UNSET
    destination_bucket: Raw | UnsetType = UNSET
    s3_operation: Raw | UnsetType = UNSET
    request_time: Raw | UnsetType = UNSET
    failure_reason: Raw | UnsetType = UNSET


class _Response(msgspec.Struct, frozen=True, gc=False):
    site: Raw | UnsetType = msgspec.field(name="x-minio-deployment-id", default=UNSET)


class _Record(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    event_source: str
    event_time: fields.Instant
    s3: _Entity
    aws_region: str | None = None
    user_identity: _Identity | None = None
    response_elements: Raw | UnsetType = UNSET
    replication_event_data: Raw | UnsetType = UNSET

    @property
    def happened_at(self) -> float:
        """
        When S3 was done, to the millisecond.
        """
        return self.event_time.timestamp()

    @property
    def region(self) -> str:
        """
        The bucket's region; the empty string where the record says none.
        """
        return self.aws_region or ""

    @property
    def site(self) -> str | None:
        """
        Which of a store's sites tells; None where the record does not say. S3's own never does: bucket names are unique.
        """
        if self.event_source == _AMAZON or self.response_elements is UNSET:
            return None
        try:
            told = _text(parse(_RESPONSE, self.response_elements, "responseElements").site)
        except MalformedMessageError:
            return None
        return told if _SITE.fullmatch(told) else None

    @property
    def principal(self) -> str:
        """
        Who did it; the empty string where the record says nobody.
        """
        return (self.user_identity and self.user_identity.principal_id) or ""

    @property
    def channel(self) -> Channel:
        """
        Whether the record tells replication's writes apart: not where a store has no name for that session.
        """
        tells = self.event_source == _AMAZON and self.principal
        return Channel.NOTIFICATION if tells else Channel.EVENTBRIDGE

    @property
    def size(self) -> int | None:
        """
        Bytes of the object; None where the record cannot be believed, or says none of what may have some.
        """
        told = self.s3.object
        if self.of_minio and told.size is UNSET and told.e_tag is not UNSET:
            return 0
        return fields.size(told.size)

    @property
    def of_minio(self) -> bool:
        """
        Whether MinIO sent it.
        """
        return store_of(self.event_source) is Store.MINIO

    @property
    def of_deletion(self) -> bool:
        """
        Whether a notice about a replication is about that of a deletion, as MinIO alone tells them.
        """
        return self.of_minio and self.s3.object.e_tag is UNSET

    @property
    def replication(self) -> _Replication:
        """
        What the record says about the replication, however little.
        """
        if self.replication_event_data is UNSET:
            return _NOTHING
        try:
            return parse(_REPLICATION, self.replication_event_data, "replicationEventData")
        except MalformedMessageError:
            # Not worth losing the notice for: that the version failed is known already.
            return _NOTHING


class _Source(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    event_source: str


_NOTHING = _Replication()
_SOURCE = msgspec.json.Decoder(_Source)
_RECORD = msgspec.json.Decoder(_Record)
_RESPONSE = msgspec.json.Decoder(_Response)
_REPLICATION = msgspec.json.Decoder(_Replication)
_TEXT = msgspec.json.Decoder(str)
_METADATA = msgspec.json.Decoder(dict[str, str])
_TIME = msgspec.json.Decoder(fields.Instant)


def read(part: Part) -> Fact | Irrelevant:
    """
    Read one record.

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
    record = parse(_RECORD, part.raw, part.where)
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
    """
    Return the reader of an event that nobody told us of.

    Raises:
        MalformedMessageError: it cannot be followed.
    """
    if family == "ObjectCreated" and parse(_SOURCE, part.raw, part.where).event_source == _AMAZON:
        # Whatever call it was: by S3's word this is a new object. Other stores call changes of tags so, too.
        return partial(_written, Operation.PUT)
    raise MalformedMessageError(f"{part.where}.eventName: an event that is not known")


def _written(
    operation: Operation, record: _Record, version: ObjectVersion
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


def _deleted(record: _Record, version: ObjectVersion) -> VersionDeleted | Irrelevant:
    if not version.identified:
        return Irrelevant.DELETED_WITHOUT_VERSION
    return VersionDeleted(
        version=version,
        region=record.region,
        deleted_at=record.happened_at,
        owner=record.site,
    )


def _marker_laid(record: _Record, version: ObjectVersion) -> MarkerLaid:
    return MarkerLaid(
        version=version,
        region=record.region,
        laid_at=record.happened_at,
        owner=record.site,
        channel=Channel.NOTIFICATION if record.of_minio else record.channel,
        by_replication=fields.is_replication(record.principal),
    )


def _deletion_tried(
    record: _Record, version: ObjectVersion, *, done: bool
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


def _completed(record: _Record, version: ObjectVersion) -> Fact | Irrelevant:
    """
    Read MinIO's notice that it ended a try without a failure, which proves an arrival only by the status beside.
    """
    if not record.of_minio:
        return Irrelevant.OTHER_NOTIFICATION
    if record.of_deletion:
        return _deletion_tried(record, version, done=True)
    if not version.identified or _status(record) != "COMPLETED":
        return Irrelevant.OTHER_NOTIFICATION  # a look tells how it stands
    return VersionReplicated(
        version=version,
        region=record.region,
        replicated_at=record.happened_at,
        size=record.size,
    )


def _not_tracked(record: _Record, version: ObjectVersion) -> Fact:
    if not record.of_minio:
        return _threshold_passed(Threshold.NOT_TRACKED, record, version)
    return TargetOffline(version=version, region=record.region, noticed_at=record.happened_at)


def _failed(record: _Record, version: ObjectVersion) -> Fact | Irrelevant | None:
    """
    Read a notice of failure; None where there is no telling which version it is about.

    Without a version id it is about what was written when the request was made. The looks at such a version find out
    which one that is, if it is still the current one. A delete marker is never looked at: any name will do.
    """
    if record.of_deletion:
        return _deletion_tried(record, version, done=False)
    told = record.replication
    written_at = _instant(told.request_time)
    if not version.identified and written_at is not None:
        version = provisional(version.bucket, version.key, written_at)
    notice = ReplicationFailed(
        version=version,
        destination=_destination(told),
        reason=_text(told.failure_reason),
        rule=_text(told.replication_rule_id),
        operation=_text(told.s3_operation),
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
    threshold: Threshold, record: _Record, version: ObjectVersion
) -> ThresholdPassed:
    # Without a version id it counts all the same.
    told = record.replication
    return ThresholdPassed(
        version=version,
        destination=_destination(told),
        threshold=threshold,
        rule=_text(told.replication_rule_id),
        region=record.region,
        noticed_at=record.happened_at,
    )


_Reader = Callable[[_Record, ObjectVersion], Fact | Irrelevant | None]

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
    """
    Decode a key.

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


def _destination(told: _Replication) -> str:
    return named_bucket(_text(told.destination_bucket)) or UNKNOWN_DESTINATION


def _text(raw: Raw | UnsetType) -> str:
    """
    Return a text; the empty string for what is none.
    """
    try:
        return "" if raw is UNSET else _TEXT.decode(raw)[:_LONGEST]
    except msgspec.MsgspecError:
        return ""


def _status(record: _Record) -> str:
    """
    Return the replication status that MinIO tells with an object; the empty string where it tells none.
    """
    raw = record.s3.object.user_metadata
    try:
        told = {} if raw is UNSET else _METADATA.decode(raw)
    except msgspec.MsgspecError:
        return ""
    return next((one for name, one in told.items() if name.lower() == _STATUS), "")


def _instant(raw: Raw | UnsetType) -> float | None:
    """
    Return a time; None for what is none.
    """
    try:
        return None if raw is UNSET else _TIME.decode(raw).timestamp()
    except msgspec.MsgspecError:
        return None
