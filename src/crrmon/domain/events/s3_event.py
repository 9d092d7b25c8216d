"""Read S3's own events, as EventBridge delivers them.

They have a size for every write, and no word on who wrote: a replica looks like any other object. Keys come as they
are, and times only with the envelope, in whole seconds.
A bucket sends all kinds of events or none, so most of those of a busy bucket may be of no interest.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from crrmon.domain.events import fields
from crrmon.domain.events.envelopes import Irrelevant, Part, parse
from crrmon.domain.events.facts import (
    Channel,
    Fact,
    MalformedMessageError,
    MarkerCreated,
    ObjectWritten,
    Operation,
    VersionDeleted,
)

_OPERATIONS = {
    "CopyObject": Operation.COPY,
    "CompleteMultipartUpload": Operation.MULTIPART,
}
"""By reason. All others, also those that nobody told us of, brought the object as a whole."""


_OTHER_EVENTS = (
    *("Object Restore ", "Object Storage Class ", "Object Access Tier ", "Object ACL "),
    *("Object Tags ", "Object Annotation", "Object Retention ", "Object Legal Hold "),
    "Async Copy ",
)
"""How S3 begins the names of its events that tell of no new version and of no deletion."""


class _ToldObject(msgspec.Struct, frozen=True, gc=False):
    key: fields.Key
    version_id: str | None = msgspec.field(name="version-id", default=None)
    size: Raw | UnsetType = UNSET
    etag: Raw | UnsetType = UNSET


class _Detail(msgspec.Struct, frozen=True, gc=False):
    bucket: fields.NamedBucket
    object: _ToldObject
    reason: str | None = None
    deletion_type: str | None = msgspec.field(name="deletion-type", default=None)


_DETAIL = msgspec.json.Decoder(_Detail)
_TIME = msgspec.json.Decoder(fields.Instant)


def read(part: Part) -> Fact | Irrelevant:
    """Read one event.

    NB: it is told by the words of its detail-type and not by its shape: kinds of events that are yet to come may
    well have the shape of a write.

    Raises:
        MalformedMessageError: it should tell of a write or a deletion, and lacks what that takes; or nobody told us of
            such events.
    """
    match part.name:
        case "Object Created":
            return _written(part)
        case "Object Deleted":
            return _deleted(part)
        case str(name) if name.startswith(_OTHER_EVENTS):
            return Irrelevant.OTHER_S3_EVENT
        case _:
            raise MalformedMessageError(
                f"{part.where}: of an event whose detail-type is not known"
            )


def _written(part: Part) -> ObjectWritten:
    detail, at = parse(_DETAIL, part.raw, part.where), _happened_at(part)
    told = detail.object
    version = fields.version(detail.bucket.name, told.key, told.version_id, at=at)
    return ObjectWritten(
        version=version,
        region=part.region or "",
        written_at=at,
        operation=_OPERATIONS.get(detail.reason or "", Operation.PUT),
        size=fields.size(told.size),
        etag="" if version.identified else fields.etag(told.etag),
        owner=_owner(part),
        channel=Channel.EVENTBRIDGE,
    )


def _deleted(part: Part) -> VersionDeleted | MarkerCreated | Irrelevant:
    detail, at = parse(_DETAIL, part.raw, part.where), _happened_at(part)
    told, region = detail.object, part.region or ""
    version = fields.version(detail.bucket.name, told.key, told.version_id, at=at)
    match detail.deletion_type:
        case "Permanently Deleted" if not version.identified:
            return Irrelevant.DELETED_WITHOUT_VERSION
        case "Permanently Deleted":
            return VersionDeleted(
                version=version, region=region, deleted_at=at, owner=_owner(part)
            )
        case "Delete Marker Created" if detail.reason == "Lifecycle Expiration":
            return Irrelevant.LIFECYCLE_MARKER
        case "Delete Marker Created":
            return MarkerCreated(
                version=version,
                region=region,
                created_at=at,
                owner=_owner(part),
                channel=Channel.EVENTBRIDGE,
            )
        case _:
            # No guess is made which of the two it was: the one is counted, the other is not.
            raise MalformedMessageError(f"{part.where}.deletion-type: neither of the two known")


def _happened_at(part: Part) -> float:
    """Return the time of the event, which only its envelope has."""
    if part.time is None:
        raise MalformedMessageError(f"{part.where}: the event around it has no time")
    return parse(_TIME, part.time, f"{part.where}: the time of the event around it").timestamp()


def _owner(part: Part) -> str | None:
    # S3 puts the event on the bus of the bucket's owner, and sending it on keeps that account; whoever wrote from
    # another account is only its requester.
    return fields.account(part.account)
