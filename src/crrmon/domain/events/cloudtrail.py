"""Read CloudTrail's records of calls to S3.

They are made for auditors, not for programs: what a call did to which version is spread over its parameters, its
answer and the resources it touched, any of which may be null; failed calls look like the others but for a field;
and replication's own writes differ only in the name of their session.
The record's format grows new fields in minor versions, so nothing is refused for being unknown.
"""

import re

import msgspec
from msgspec import UNSET

from crrmon.domain.events import fields
from crrmon.domain.events.cloudtrail_record import Call, Head, Parameters
from crrmon.domain.events.envelopes import Irrelevant, Outside, Part, of_a_store, parse
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

_OTHER_CHANGES = frozenset({"DeleteObject", "InitiateReplication"})

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


class _NamedArn(msgspec.Struct, frozen=True, gc=False):
    """A resource, understood."""

    bucket: str
    key: str | None
    """None: it is the bucket itself."""


class _Target(msgspec.Struct, frozen=True, gc=False):
    """What a call was about."""

    bucket: str
    key: str
    region: str
    owner: str | None


class _Event(Outside, frozen=True, kw_only=True, gc=False):
    """A record as EventBridge delivers it."""

    detail: Call


_HEAD = msgspec.json.Decoder(Head)
_CALL = msgspec.json.Decoder(Call)
_EVENT = msgspec.json.Decoder(_Event)
_PARAMETERS = msgspec.json.Decoder(Parameters)
_NOTHING = Parameters()


def read_event(data: bytes) -> Fact | Irrelevant | None:
    """Read a message that is the record of a call in EventBridge's envelope, as most are, in one go.

    Returns:
        None for everything else, and for what does not fit: `envelopes.unwrap` has a place for all of it.

    Raises:
        MalformedMessageError: as `read`.
    """
    if b'"eventSource"' not in data or b'"detail"' not in data:
        return None
    try:
        event = _EVENT.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return None
    call = event.detail
    if event.source != "aws.s3" or event.detail_type is UNSET or of_a_store(call.event_source):
        return None
    return _told(call, "message.detail", event.region)


def read(part: Part) -> Fact | Irrelevant:
    """Read one record.

    Raises:
        MalformedMessageError: it should tell of a write or a deletion, and lacks what that takes.
    """
    try:
        call = _CALL.decode(part.raw)
    except (msgspec.MsgspecError, RecursionError):
        # What is of no interest may look like anything but for its head.
        other = _of_no_interest(parse(_HEAD, part.raw, part.where), part.where)
        if other is not None:
            return other
        call = parse(_CALL, part.raw, part.where)  # tells what does not fit
    return _told(call, part.where, part.region)


def _told(call: Call, where: str, region: str | None) -> Fact | Irrelevant:
    """Return what a record says; the region is what stands around it."""
    if (other := _of_no_interest(call, where)) is not None:
        return other
    match call.event_name:
        case "DeleteObject":
            return _deleted(call, where, region)
        case "InitiateReplication":
            return _restarted(call, where, region)
        case _ if call.by_replication:
            return _replica_written(call, where, region)
        case _:
            return _object_written(call, where, region)


def _of_no_interest(head: Head, where: str) -> Irrelevant | None:
    """Return what a record is that neither wrote nor deleted anything; None for one that did.

    Raises:
        MalformedMessageError: nobody told us of such records.
    """
    if (other := _no_call_to_an_object(head, where)) is not None:
        return other
    name = head.event_name
    if head.error_code:
        replica = name in _WRITES and head.by_replication
        return Irrelevant.FAILED_REPLICA_WRITE if replica else Irrelevant.FAILED_CALL
    if name in _WRITES or name in _OTHER_CHANGES:
        return None
    return _other_call(head, where)


def _no_call_to_an_object(head: Head, where: str) -> Irrelevant | None:
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


def _other_call(head: Head, where: str) -> Irrelevant:
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


def _object_written(call: Call, where: str, region: str | None) -> ObjectWritten:
    target = _target(call, _asked(call, where), where, region)
    at = call.happened_at
    return ObjectWritten(
        version=fields.version(target.bucket, target.key, call.answered_version_id, at=at),
        region=target.region,
        written_at=at,
        operation=_WRITES[call.event_name],
        size=_size(call),
        owner=target.owner,
    )


def _replica_written(call: Call, where: str, region: str | None) -> ReplicaWritten | Irrelevant:
    asked = _asked(call, where)
    version_id = call.answered_version_id or asked.new_version_id
    if not version_id:
        return Irrelevant.REPLICA_WITHOUT_VERSION
    target = _target(call, asked, where, region)
    return ReplicaWritten(
        version=ObjectVersion(target.bucket, target.key, version_id),
        region=target.region,
        written_at=call.happened_at,
        size=_size(call),
        owner=target.owner,
    )


def _deleted(call: Call, where: str, region: str | None) -> VersionDeleted | MarkerCreated:
    asked = _asked(call, where)
    target = _target(call, asked, where, region)
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
        by_replication=call.by_replication,
    )


def _restarted(call: Call, where: str, region: str | None) -> ReplicationRestarted | Irrelevant:
    """Read a call of Batch Replication. Where it names the version is not documented."""
    asked = _asked(call, where)
    version_id = asked.version_id or asked.new_version_id or call.answered_version_id
    if not version_id:
        return Irrelevant.RESTART_WITHOUT_VERSION
    target = _target(call, asked, where, region)
    return ReplicationRestarted(
        version=ObjectVersion(target.bucket, target.key, version_id),
        region=target.region,
        restarted_at=call.happened_at,
        owner=target.owner,
    )


def _asked(call: Call, where: str) -> Parameters:
    """Return the parameters of a call; those of a service event may stand in its details."""
    asked = call.request_parameters or _NOTHING
    if call.service_event_details is UNSET:
        return asked
    try:
        told = parse(_PARAMETERS, call.service_event_details, where)
    except MalformedMessageError:
        # Undocumented, so it may be anything; what is missing then is looked for elsewhere.
        return asked
    return Parameters(
        bucket_name=asked.bucket_name or told.bucket_name,
        key=asked.key or told.key,
        version_id=asked.version_id or told.version_id,
        new_version_id=asked.new_version_id or told.new_version_id,
    )


def _target(call: Call, asked: Parameters, where: str, region: str | None) -> _Target:
    """Find out what a call was about.

    Raises:
        MalformedMessageError: it cannot be found out.
    """
    bucket = _bucket(asked.bucket_name, call)
    if bucket is None:
        raise MalformedMessageError(
            f"{where}: no bucket in requestParameters.bucketName, and not just one in resources"
        )
    if not _BUCKET.fullmatch(bucket):
        raise MalformedMessageError(f"{where}: the bucket's name is none that S3 allows")
    key = asked.key or _only({place.key for place in _places(call) if place.bucket == bucket})
    if key is None:
        raise MalformedMessageError(
            f"{where}: no key in requestParameters.key, and not just one in resources"
        )
    region = call.aws_region or region
    if not region:
        raise MalformedMessageError(f"{where}: no awsRegion, nor a region around it")
    return _Target(bucket, key, region, _owner(call, bucket))


def _places(call: Call) -> list[_NamedArn]:
    return [
        _NamedArn(match[1], match[2])
        for resource in call.resources or ()
        if resource.arn and (match := _ARN.fullmatch(resource.arn))
    ]


def _bucket(name: str | None, call: Call) -> str | None:
    """Return the name of the bucket, unless that is an access point's: then the bucket behind it."""
    if name and not (name.startswith("arn:") or name.endswith(_ACCESS_POINT_SUFFIXES)):
        return name
    return _only({place.bucket for place in _places(call)})


def _owner(call: Call, bucket: str) -> str | None:
    # NB: not the recipient's account: a caller from elsewhere gets a copy of the event, too. As `ExpectedBucketOwner`
    # it would turn every HEAD into a 403.
    for resource in call.resources or ():
        account = fields.account(resource.account_id)
        place = _ARN.fullmatch(resource.arn) if account and resource.arn else None
        if place is not None and place[1] == bucket:
            return account
    return None


def _size(call: Call) -> int | None:
    """Return the bytes that a call brought, where these are the object's.

    A copy brings none, a multipart upload ends with a list of its parts, and a form has fields around the file.
    """
    extra = call.additional_event_data
    if extra is None or call.event_name != "PutObject":
        return None
    return fields.size(extra.bytes_transferred_in)


def _only(candidates: set[str | None]) -> str | None:
    """Return the only candidate; None if there are several, as there is no telling which."""
    found = candidates - {None}
    return found.pop() if len(found) == 1 else None
