"""Message bodies that S3 makes itself: its events through EventBridge, its notifications, its replication notices.

EventBridge has whole seconds, keys as they are, and does not tell who wrote. Notifications have milliseconds, keys
encoded as in a form, and tell replication's writes by the name of its session.
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID

import msgspec

from crrmon.domain.events.facts import Operation
from crrmon.domain.objects import ObjectVersion
from crrmon.sandbox.truth import Written
from crrmon.sandbox.world import ACCOUNT

_REASONS = {
    Operation.PUT: "PutObject",
    Operation.COPY: "CopyObject",
    Operation.MULTIPART: "CompleteMultipartUpload",
}
_NAMES = {
    Operation.PUT: "ObjectCreated:Put",
    Operation.COPY: "ObjectCreated:Copy",
    Operation.MULTIPART: "ObjectCreated:CompleteMultipartUpload",
}
_WRITER = "AWS:AROAEXAMPLEWRITER000:ingest-7"
_REPLICATION = "AWS:AROAEXAMPLEREPLICATE:s3-replication"
_S3 = "s3.amazonaws.com"


# ---- through EventBridge ----


def created_event(written: Written, *, chance: int) -> str:
    """Create the event of a version that was written, by whomever.

    Args:
        written: the version.
        chance: 128 bits from which all ids are made; the same bits make the same body.
    """
    return _event(
        "Object Created",
        written.version,
        written.region,
        at=written.written_at,
        chance=chance,
        size=written.size,
        more={"reason": _REASONS[written.operation]},
    )


def deleted_event(version: ObjectVersion, region: str, *, at: float, chance: int) -> str:
    """Create the event of a version that was deleted for good."""
    return _removed_event(version, region, at=at, chance=chance, kind="Permanently Deleted")


def marker_event(marker: ObjectVersion, region: str, *, at: float, chance: int) -> str:
    """Create the event of a delete marker that was created, by whomever."""
    return _removed_event(marker, region, at=at, chance=chance, kind="Delete Marker Created")


def _removed_event(
    version: ObjectVersion, region: str, *, at: float, chance: int, kind: str
) -> str:
    return _event(
        "Object Deleted",
        version,
        region,
        at=at,
        chance=chance,
        size=None,
        more={"reason": "DeleteObject", "deletion-type": kind},
    )


def _event(
    kind: str,
    version: ObjectVersion,
    region: str,
    *,
    at: float,
    chance: int,
    size: int | None,
    more: dict[str, str],
) -> str:
    told: dict[str, Any] = {
        "key": version.key,
        "size": size,
        "etag": f"{chance:032x}",
        "version-id": version.version_id,
        "sequencer": f"{round(at * 1000):016X}",
    }
    return _encode(
        {
            "version": "0",
            "id": str(UUID(int=chance, version=4)),
            "detail-type": kind,
            "source": "aws.s3",
            "account": ACCOUNT,
            "time": datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": region,
            "resources": [f"arn:aws:s3:::{version.bucket}"],
            "detail": {
                "version": "0",
                "bucket": {"name": version.bucket},
                "object": {name: value for name, value in told.items() if value is not None},
                "request-id": f"{chance:016X}"[:16],
                "requester": ACCOUNT,
                "source-ip-address": "192.0.2.7",
                **more,
            },
        }
    )


# ---- notifications ----


def created_notification(written: Written, *, by_replication: bool, chance: int) -> str:
    """Create the notification of a version that was written.

    Args:
        written: the version.
        by_replication: whether it is a replica.
        chance: 128 bits from which all ids are made; the same bits make the same body.
    """
    return _notification(
        _NAMES[written.operation],
        written.version,
        written.region,
        at=written.written_at,
        chance=chance,
        size=written.size,
        principal=_REPLICATION if by_replication else _WRITER,
    )


def deleted_notification(version: ObjectVersion, region: str, *, at: float, chance: int) -> str:
    """Create the notification of a version that was deleted for good."""
    return _notification("ObjectRemoved:Delete", version, region, at=at, chance=chance)


def marker_notification(
    marker: ObjectVersion, region: str, *, at: float, by_replication: bool, chance: int
) -> str:
    """Create the notification of a delete marker that was created."""
    return _notification(
        "ObjectRemoved:DeleteMarkerCreated",
        marker,
        region,
        at=at,
        chance=chance,
        principal=_REPLICATION if by_replication else _WRITER,
    )


def failed_notice(
    written: Written, *, destination: str, rule: str, reason: str, at: float, chance: int
) -> str:
    """Create S3's notice that it gave up replicating a version.

    Args:
        written: the version, in its source bucket.
        destination: bucket that it does not get to.
        rule: id of the rule.
        reason: S3's code.
        at: when S3 gave up.
        chance: 128 bits from which all ids are made.
    """
    return _notification(
        "Replication:OperationFailedReplication",
        written.version,
        written.region,
        at=at,
        chance=chance,
        size=written.size,
        principal=_S3,
        data={
            "replicationRuleId": rule,
            "destinationBucket": f"arn:aws:s3:::{destination}",
            "s3Operation": "OBJECT_PUT",
            "requestTime": _iso(written.written_at),
            "failureReason": reason,
        },
    )


def _notification(
    name: str,
    version: ObjectVersion,
    region: str,
    *,
    at: float,
    chance: int,
    size: int | None = None,
    principal: str = _WRITER,
    data: dict[str, str] | None = None,
) -> str:
    told: dict[str, Any] = {
        "key": quote_plus(version.key, safe="/"),
        "size": size,
        "eTag": None if size is None else f"{chance:032x}",
        "versionId": version.version_id,
        "sequencer": f"{round(at * 1000):016X}",
    }
    record = {
        "eventVersion": "2.1" if data is None else "2.2",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": _iso(at),
        "eventName": name,
        "userIdentity": {"principalId": principal},
        "requestParameters": {"sourceIPAddress": _S3 if data else "192.0.2.7"},
        "responseElements": {
            "x-amz-request-id": f"{chance:016X}"[:16],
            "x-amz-id-2": f"{chance:x}",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "crrmon",
            "bucket": {
                "name": version.bucket,
                "ownerIdentity": {"principalId": "A1EXAMPLE"},
                "arn": f"arn:aws:s3:::{version.bucket}",
            },
            "object": {name: value for name, value in told.items() if value is not None},
        },
    }
    if data is not None:
        record["replicationEventData"] = data
    return _encode({"Records": [record]})


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _encode(body: dict[str, Any]) -> str:
    return msgspec.json.encode(body).decode()
