"""Read CloudTrail's records of calls to S3.

They are made for auditors, not for programs: what a call did to which version is spread over its parameters, its
answer and the resources it touched, any of which may be null; failed calls look like the others but for a field;
and replication's own writes differ only in the name of their session.
The record's format grows new fields in minor versions, so nothing is refused for being unknown.
"""

import re

import msgspec
from msgspec import UNSET, Raw, UnsetType

from crrmon.domain.events import fields
from crrmon.domain.events.envelopes import Irrelevant, Part, parse
from crrmon.domain.events.facts import (
    Fact,
    MalformedMessageError,
    MarkerCreated,
    ObjectWritten,
    Operation,
    ReplicationRestarted,
    ReplicaWritten,
    VersionDeleted,
)
from crrmon.domain.objects import BUCKET_NAME, ObjectVersion

_WRITES = {
    "PutObject": Operation.PUT,
    "PostObject": Operation.PUT,
    "CopyObject": Operation.COPY,
    "CompleteMultipartUpload": Operation.MULTIPART,
}

_CALLS_TO_OBJECTS = ("Data", None)
_CALLS = ("AwsApiCall", "AwsServiceEvent", None)
"""Categories and types of records that may tell of a write. Old records have none: all that there was then were calls.

NB: S3 itself makes the calls of lifecycle rules, of batch deletes and of Batch Replication.
"""

_OTHER_CATEGORIES = {
    "NetworkActivity": Irrelevant.NETWORK_ACTIVITY,
    "Insight": Irrelevant.INSIGHT,
    "Management": Irrelevant.OTHER_CALL,
}
_OTHER_TYPES = {
    "AwsVpceEvent": Irrelevant.NETWORK_ACTIVITY,
    "AwsCloudTrailInsight": Irrelevant.INSIGHT,
}

_OF_NO_INTEREST = {
    "DeleteObjects": Irrelevant.DELETE_OBJECTS,
    # Only of directory buckets, out of which nothing replicates.
    "RenameObject": Irrelevant.OTHER_CALL,
} | dict.fromkeys(
    (
        *("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "AbortMultipartUpload"),
        *("PutObjectAcl", "PutObjectTagging", "DeleteObjectTagging"),
        *("PutObjectAnnotation", "DeleteObjectAnnotation", "UpdateObjectEncryption"),
        *("PutObjectRetention", "PutObjectLegalHold", "PutObjectLockConfiguration"),
        *("CreateSession", "RestoreObject", "SelectObjectContent", "WriteGetObjectResponse"),
        *("PutPublicAccessBlock", "DeletePublicAccessBlock"),
    ),
    Irrelevant.OTHER_CALL,
)
"""Calls that may change something, and are known to make and delete no version."""

_READS = ("Get", "Head", "List")
"""How names of calls begin that only read; old records do not say that they did."""

_ACCESS_POINT_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap")
"""Ends of aliases of access points. S3 keeps them from being ends of bucket names."""

_ARN = re.compile(r"arn:[a-z0-9-]+:s3:::([^/]+)(?:/(.+))?", re.DOTALL)
"""Bucket and key, in any partition. Does not match access points: these have a Region and an account."""

_BUCKET = re.compile(BUCKET_NAME)


class _Identity(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    principal_id: str | None = None
    arn: str | None = None

    @property
    def is_replication(self) -> bool:
        """Whether it is S3's own replication."""
        if fields.is_replication(self.principal_id):
            return True
        arn = self.arn or ""
        # A user may have the same name as the session.
        return arn.endswith("/s3-replication") and ":assumed-role/" in arn


class _Head(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """As much of a record as it takes to see whether the rest matters."""

    event_source: str
    event_name: str
    event_category: str | None = None
    event_type: str | None = None
    read_only: bool | None = None
    error_code: str | None = None
    user_identity: _Identity | None = None


class _Parameters(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    bucket_name: str | None = None
    key: str | None = None
    version_id: str | None = None
    """The version that the caller meant."""
    new_version_id: str | None = msgspec.field(name="x-amz-version-id", default=None)
    """The version that replication asked for: that of the source."""


class _CallResponse(msgspec.Struct, frozen=True, gc=False):
    version_id: str | None = msgspec.field(name="x-amz-version-id", default=None)


class _Extra(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    bytes_transferred_in: Raw | UnsetType = UNSET


class _Resource(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    arn: str | None = msgspec.field(name="ARN", default=None)
    """Absent where there is an `ARNPrefix` instead."""
    account_id: str | None = None


class _NamedArn(msgspec.Struct, frozen=True, gc=False):
    """A resource, understood."""

    bucket: str
    key: str | None
    """None: it is the bucket itself."""
    account_id: str | None


class _Call(msgspec.Struct, frozen=True, rename="camel"):
    """The record of a call that wrote or deleted something."""

    event_time: fields.Instant
    aws_region: str | None = None
    request_parameters: _Parameters | None = None
    response_elements: _CallResponse | None = None
    service_event_details: Raw | UnsetType = UNSET
    """Nobody documents what is in it."""
    additional_event_data: _Extra | None = None
    resources: list[_Resource] | None = None

    @property
    def happened_at(self) -> float:
        """When the call ended."""
        return self.event_time.timestamp()

    @property
    def answered_version_id(self) -> str | None:
        """The version id of the answer, as it is."""
        return (self.response_elements and self.response_elements.version_id) or None


class _Target(msgspec.Struct, frozen=True, gc=False):
    """What a call was about."""

    bucket: str
    key: str
    region: str
    owner: str | None


_HEAD = msgspec.json.Decoder(_Head)
_CALL = msgspec.json.Decoder(_Call)
_PARAMETERS = msgspec.json.Decoder(_Parameters)


def read(part: Part) -> Fact | Irrelevant:
    """Read one record.

    Raises:
        MalformedMessageError: it should tell of a write or a deletion, and lacks what that takes.
    """
    head = parse(_HEAD, part.raw, part.where)
    if (other := _no_call_to_an_object(head, part.where)) is not None:
        return other
    by_replication = head.user_identity is not None and head.user_identity.is_replication
    writes = head.event_name in _WRITES
    if head.error_code:
        replica = writes and by_replication
        return Irrelevant.FAILED_REPLICA_WRITE if replica else Irrelevant.FAILED_CALL
    if writes:
        written = _replica_written if by_replication else _object_written
        return written(part, head.event_name)
    if head.event_name == "DeleteObject":
        return _deleted(part, by_replication=by_replication)
    if head.event_name == "InitiateReplication":
        return _restarted(part)
    return _other_call(head, part.where)


def _no_call_to_an_object(head: _Head, where: str) -> Irrelevant | None:
    """Return what a record is that tells of no call to an object in S3; None for one that does.

    Raises:
        MalformedMessageError: nobody told us of such records.
    """
    # Not in every partition does it end in amazonaws.com.
    service, dot, _ = head.event_source.partition(".")
    if not dot:
        raise MalformedMessageError(f"{where}.eventSource: no service of AWS")
    if service != "s3":
        return Irrelevant.OTHER_EVENT
    category, kind = head.event_category or None, head.event_type or None
    if category in _CALLS_TO_OBJECTS and kind in _CALLS:
        return None
    other = _OTHER_CATEGORIES.get(category or "") or _OTHER_TYPES.get(kind or "")
    if other is None:
        raise MalformedMessageError(f"{where}: neither eventCategory nor eventType is known")
    return other


def _other_call(head: _Head, where: str) -> Irrelevant:
    """Return what a call is that is known to make and delete no version.

    Raises:
        MalformedMessageError: nobody told us of such a call, so it may have written.
    """
    name = head.event_name
    if (kind := _OF_NO_INTEREST.get(name)) is not None:
        return kind
    if head.read_only or name.startswith(_READS) or "Bucket" in name:
        return Irrelevant.OTHER_CALL
    raise MalformedMessageError(f"{where}.eventName: a call that may write, and is not known")


def _object_written(part: Part, event_name: str) -> ObjectWritten:
    call = parse(_CALL, part.raw, part.where)
    target = _target(part, call, _asked(call, part.where))
    at = call.happened_at
    return ObjectWritten(
        version=fields.version(target.bucket, target.key, call.answered_version_id, at=at),
        region=target.region,
        written_at=at,
        operation=_WRITES[event_name],
        size=_size(call, event_name),
        owner=target.owner,
    )


def _replica_written(part: Part, event_name: str) -> ReplicaWritten | Irrelevant:
    call = parse(_CALL, part.raw, part.where)
    asked = _asked(call, part.where)
    version_id = call.answered_version_id or asked.new_version_id
    if not version_id:
        return Irrelevant.REPLICA_WITHOUT_VERSION
    target = _target(part, call, asked)
    return ReplicaWritten(
        version=ObjectVersion(target.bucket, target.key, version_id),
        region=target.region,
        written_at=call.happened_at,
        size=_size(call, event_name),
        owner=target.owner,
    )


def _deleted(part: Part, *, by_replication: bool) -> VersionDeleted | MarkerCreated:
    call = parse(_CALL, part.raw, part.where)
    asked = _asked(call, part.where)
    target = _target(part, call, asked)
    if asked.version_id:
        return VersionDeleted(
            version=ObjectVersion(target.bucket, target.key, asked.version_id),
            region=target.region,
            deleted_at=call.happened_at,
            owner=target.owner,
        )
    # Whoever names no version gets a marker.
    at = call.happened_at
    return MarkerCreated(
        version=fields.version(target.bucket, target.key, call.answered_version_id, at=at),
        region=target.region,
        created_at=at,
        owner=target.owner,
        by_replication=by_replication,
    )


def _restarted(part: Part) -> ReplicationRestarted | Irrelevant:
    """Read a call of Batch Replication. Where it names the version is not documented."""
    call = parse(_CALL, part.raw, part.where)
    asked = _asked(call, part.where)
    version_id = asked.version_id or asked.new_version_id or call.answered_version_id
    if not version_id:
        return Irrelevant.RESTART_WITHOUT_VERSION
    target = _target(part, call, asked)
    return ReplicationRestarted(
        version=ObjectVersion(target.bucket, target.key, version_id),
        region=target.region,
        restarted_at=call.happened_at,
        owner=target.owner,
    )


def _asked(call: _Call, where: str) -> _Parameters:
    """Return the parameters of a call; those of a service event may stand in its details."""
    asked = call.request_parameters or _Parameters()
    if call.service_event_details is UNSET:
        return asked
    try:
        told = parse(_PARAMETERS, call.service_event_details, where)
    except MalformedMessageError:
        # Undocumented, so it may be anything; what is missing then is looked for elsewhere.
        return asked
    return _Parameters(
        bucket_name=asked.bucket_name or told.bucket_name,
        key=asked.key or told.key,
        version_id=asked.version_id or told.version_id,
        new_version_id=asked.new_version_id or told.new_version_id,
    )


def _target(part: Part, call: _Call, asked: _Parameters) -> _Target:
    """Find out what a call was about.

    Raises:
        MalformedMessageError: it cannot be found out.
    """
    places = _places(call)
    bucket = _bucket(asked.bucket_name, places)
    if bucket is None:
        raise MalformedMessageError(
            f"{part.where}: no bucket in requestParameters.bucketName, and not just one in resources"
        )
    if not _BUCKET.fullmatch(bucket):
        raise MalformedMessageError(f"{part.where}: the bucket's name is none that S3 allows")
    key = asked.key or _only({place.key for place in places if place.bucket == bucket})
    if key is None:
        raise MalformedMessageError(
            f"{part.where}: no key in requestParameters.key, and not just one in resources"
        )
    region = call.aws_region or part.region
    if not region:
        raise MalformedMessageError(f"{part.where}: no awsRegion, nor a region around it")
    return _Target(bucket, key, region, _owner(bucket, places))


def _places(call: _Call) -> list[_NamedArn]:
    return [
        _NamedArn(match[1], match[2], resource.account_id)
        for resource in call.resources or ()
        if resource.arn and (match := _ARN.fullmatch(resource.arn))
    ]


def _bucket(name: str | None, places: list[_NamedArn]) -> str | None:
    """Return the name of the bucket, unless that is an access point's: then the bucket behind it."""
    if name and not (name.startswith("arn:") or name.endswith(_ACCESS_POINT_SUFFIXES)):
        return name
    return _only({place.bucket for place in places})


def _owner(bucket: str, places: list[_NamedArn]) -> str | None:
    # NB: not the recipient's account: a caller from elsewhere gets a copy of the event, too. As `ExpectedBucketOwner`
    # it would turn every HEAD into a 403.
    accounts = (fields.account(place.account_id) for place in places if place.bucket == bucket)
    return next((account for account in accounts if account), None)


def _size(call: _Call, event_name: str) -> int | None:
    """Return the bytes that a call brought, where these are the object's.

    A copy brings none, a multipart upload ends with a list of its parts, and a form has fields around the file.
    """
    extra = call.additional_event_data
    if event_name != "PutObject" or extra is None:
        return None
    return fields.size(extra.bytes_transferred_in)


def _only(candidates: set[str | None]) -> str | None:
    """Return the only candidate; None if there are several, as there is no telling which."""
    found = candidates - {None}
    return found.pop() if len(found) == 1 else None
