"""Messages about objects as they lie in the queue, with invented values: one builder for each thing they tell."""

import datetime as dt
from typing import Any
from urllib.parse import quote_plus

import msgspec

ACCOUNT = "210987654321"
"""The owner of all buckets."""

REGION = "eu-west-1"

_REPLICATION = "AROAEXAMPLE:s3-replication"
_WRITER = "AROAEXAMPLE:writer"


def written(
    key: str,
    *,
    at: float,
    bucket: str = "src",
    version: str | None = "v1",
    name: str = "PutObject",
    size: int = 100,
    **detail: Any,
) -> str:
    """Create CloudTrail's event of a write, through EventBridge."""
    return _call(
        name,
        key,
        at=at,
        bucket=bucket,
        answer=version,
        detail={"additionalEventData": {"bytesTransferredIn": size}} | detail,
    )


def replica_cloudtrail(
    key: str,
    *,
    at: float,
    bucket: str = "dst",
    version: str | None = "v1",
    name: str = "PutObject",
    size: int = 100,
    **detail: Any,
) -> str:
    """Create CloudTrail's event of replication's write to a destination."""
    identity = {"userIdentity": {"type": "AssumedRole", "principalId": _REPLICATION}}
    return written(
        key, at=at, bucket=bucket, version=version, name=name, size=size, **identity | detail
    )


def deleted(
    key: str, *, at: float, bucket: str = "src", version: str = "v1", **detail: Any
) -> str:
    """Create CloudTrail's event of a version that was deleted for good."""
    asked = {"bucketName": bucket, "key": key, "versionId": version}
    return _call(
        "DeleteObject",
        key,
        at=at,
        bucket=bucket,
        answer=version,
        detail={"requestParameters": asked} | detail,
    )


def marker(
    key: str,
    *,
    at: float,
    bucket: str = "src",
    version: str | None = "m1",
    by_replication: bool = False,
    **detail: Any,
) -> str:
    """
    Create CloudTrail's event of a delete marker that was laid.

    Args:
        key: the object key.
        at: when it was laid.
        bucket: where.
        version: the marker's own version id.
        by_replication: whether replication laid it, in a destination.
        detail: fields of CloudTrail's record.
    """
    who = {"userIdentity": {"principalId": _REPLICATION}} if by_replication else {}
    return _call("DeleteObject", key, at=at, bucket=bucket, answer=version, detail=who | detail)


def restarted(
    key: str, *, at: float, bucket: str = "src", version: str | None = "v1", **detail: Any
) -> str:
    """Create CloudTrail's event of a version that Batch Replication put back to pending."""
    asked = {"bucketName": bucket, "key": key} | ({"versionId": version} if version else {})
    return _call(
        "InitiateReplication",
        key,
        at=at,
        bucket=bucket,
        answer=None,
        detail={"requestParameters": asked} | detail,
    )


def native_created(
    key: str,
    *,
    at: float,
    bucket: str = "src",
    version: str | None = "v1",
    size: int = 100,
    reason: str = "PutObject",
    **envelope: Any,
) -> str:
    """Create S3's own "Object Created" through EventBridge: the same for a write and for a replica."""
    told = {"key": key, "size": size, "version-id": version}
    return _native("Object Created", told, at=at, bucket=bucket, reason=reason, **envelope)


def native_deleted(
    key: str,
    *,
    at: float,
    bucket: str = "src",
    version: str | None = "v1",
    marker: bool = False,
    reason: str = "DeleteObject",
    **envelope: Any,
) -> str:
    """
    Create S3's own "Object Deleted" through EventBridge.

    Args:
        key: the object key.
        at: when it was deleted.
        bucket: where.
        version: the version that is no more, or the marker's own.
        marker: whether a delete marker was laid.
        reason: DeleteObject or Lifecycle Expiration.
        envelope: fields of EventBridge's event.
    """
    kind = "Delete Marker Created" if marker else "Permanently Deleted"
    return _native(
        "Object Deleted",
        {"key": key, "version-id": version},
        at=at,
        bucket=bucket,
        reason=reason,
        more={"deletion-type": kind},
        **envelope,
    )


def notification(
    key: str,
    *,
    at: float,
    bucket: str = "src",
    version: str | None = "v1",
    size: int | None = 100,
    event: str = "ObjectCreated:Put",
    principal: str = f"AWS:{_WRITER}",
    **record: Any,
) -> str:
    """
    Create S3's own notification, as a bucket sends it to a queue.

    Args:
        key: the object key, not encoded.
        at: when it happened; milliseconds are kept.
        bucket: where.
        version: None for a bucket without versions.
        size: bytes; None where there are none, as for deletions.
        event: such as ObjectCreated:Put, ObjectRemoved:DeleteMarkerCreated.
        principal: who did it.
        record: fields of the record.
    """
    told = {"key": quote_plus(key), "size": size, "versionId": version}
    return _encode(
        {
            "Records": [
                {
                    "eventVersion": "2.1",
                    "eventSource": "aws:s3",
                    "awsRegion": REGION,
                    "eventTime": _milliseconds(at),
                    "eventName": event,
                    "userIdentity": {"principalId": principal},
                    "s3": {
                        "s3SchemaVersion": "1.0",
                        "configurationId": "crrmon",
                        "bucket": {"name": bucket, "ownerIdentity": {"principalId": "A1EXAMPLE"}},
                        "object": {name: one for name, one in told.items() if one is not None},
                    },
                }
                | record
            ]
        }
    )


def replica_notification(
    key: str,
    *,
    at: float,
    bucket: str = "dst",
    version: str | None = "v1",
    size: int = 100,
    event: str = "ObjectCreated:Put",
    **record: Any,
) -> str:
    """Create S3's notification of replication's write to a destination."""
    return notification(
        key,
        at=at,
        bucket=bucket,
        version=version,
        size=size,
        event=event,
        principal=f"AWS:{_REPLICATION}",
        **record,
    )


def notice(
    key: str,
    *,
    at: float,
    bucket: str = "src",
    version: str | None = "v1",
    destination: str | None = "dst",
    kind: str = "OperationFailedReplication",
    reason: str | None = "DstKmsKeyNotFound",
    rule: str = "to-dst",
    operation: str = "OBJECT_PUT",
    requested_at: float | None = None,
    **record: Any,
) -> str:
    """
    Create S3's notice about a replication.

    Args:
        key: the object key, not encoded.
        at: when S3 gave up, or the threshold passed.
        bucket: of the source.
        version: of the source; None where the notice names none.
        destination: name of the bucket; None where the notice names none.
        kind: the event's name, without `Replication:`.
        reason: of a failure.
        rule: id of the replication rule.
        operation: what was to be replicated.
        requested_at: when that was asked for; None where the notice does not tell.
        record: fields of the record.
    """
    told = {
        "replicationRuleId": rule,
        "destinationBucket": destination and f"arn:aws:s3:::{destination}",
        "s3Operation": operation,
        "requestTime": None if requested_at is None else _milliseconds(requested_at),
        "failureReason": reason if kind == "OperationFailedReplication" else None,
    }
    about = {name: one for name, one in told.items() if one is not None}
    return notification(
        key,
        at=at,
        bucket=bucket,
        version=version,
        event=f"Replication:{kind}",
        principal="s3.amazonaws.com",
        **{"eventVersion": "2.2", "replicationEventData": about} | record,
    )


def _call(
    name: str, key: str, *, at: float, bucket: str, answer: str | None, detail: dict[str, Any]
) -> str:
    """Create CloudTrail's event of a call."""
    return _encode(
        {
            "version": "0",
            "id": "0f6c2a51-8d33-4b0e-9a55-31b1d6f7a001",
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.s3",
            "account": ACCOUNT,
            "time": _seconds(at),
            "region": REGION,
            "resources": [],
            "detail": {
                "eventVersion": "1.11",
                "eventTime": _seconds(at),
                "eventSource": "s3.amazonaws.com",
                "eventName": name,
                "awsRegion": REGION,
                "userIdentity": {"principalId": _WRITER},
                "requestParameters": {"bucketName": bucket, "key": key},
                "responseElements": None if answer is None else {"x-amz-version-id": answer},
                "resources": [
                    {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
                    {
                        "accountId": ACCOUNT,
                        "type": "AWS::S3::Bucket",
                        "ARN": f"arn:aws:s3:::{bucket}",
                    },
                ],
                "eventType": "AwsApiCall",
                "recipientAccountId": ACCOUNT,
            }
            | detail,
        }
    )


def _native(
    kind: str,
    told: dict[str, Any],
    *,
    at: float,
    bucket: str,
    reason: str,
    more: dict[str, Any] | None = None,
    **envelope: Any,
) -> str:
    """Create S3's own event through EventBridge."""
    return _encode(
        {
            "version": "0",
            "id": "7a1e2a51-8d33-4b0e-9a55-31b1d6f7a001",
            "detail-type": kind,
            "source": "aws.s3",
            "account": ACCOUNT,
            "time": _seconds(at),
            "region": REGION,
            "resources": [f"arn:aws:s3:::{bucket}"],
            "detail": {
                "version": "0",
                "bucket": {"name": bucket},
                "object": {name: one for name, one in told.items() if one is not None},
                "requester": ACCOUNT,
                "reason": reason,
            }
            | (more or {}),
        }
        | envelope
    )


def _seconds(at: float) -> str:
    return dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _milliseconds(at: float) -> str:
    told = dt.datetime.fromtimestamp(round(at * 1000) / 1000, dt.UTC)
    return f"{told.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def _encode(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
