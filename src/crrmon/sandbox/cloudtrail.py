"""Message bodies as EventBridge puts them into a queue: CloudTrail's record of a call in an envelope.

The shapes are those of real events, odd ones included: whole seconds, no size for copies and multipart uploads,
sizes that are floats.
"""

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from crrmon.domain.events.facts import Operation
from crrmon.sandbox.plan import Stray
from crrmon.sandbox.truth import Written
from crrmon.sandbox.world import ACCOUNT

_NAMES = {
    Operation.PUT: "PutObject",
    Operation.COPY: "CopyObject",
    Operation.MULTIPART: "CompleteMultipartUpload",
}
_STRAY_NAMES = {
    Stray.READ: "GetObject",
    Stray.DENIED_WRITE: "PutObject",
    Stray.BATCH_DELETE: "DeleteObjects",
}
_MULTIPART_REQUEST_BYTES = 312
"""CloudTrail counts the request that completes the upload, not the object."""
_WRITER = f"arn:aws:sts::{ACCOUNT}:assumed-role/ingest/ingest-7"


def written_body(written: Written, *, chance: int) -> str:
    """Create the event of a version that was written.

    Args:
        written: the version.
        chance: 128 bits from which all ids are made; the same bits make the same body.
    """
    version = written.version
    parameters: dict[str, Any] = {}
    received: float = 0
    match written.operation:
        case Operation.PUT:
            received = written.size if chance % 2 else float(written.size)
        case Operation.COPY:
            parameters["x-amz-copy-source"] = f"{version.bucket}/{written.copy_of}"
        case Operation.MULTIPART:
            received = _MULTIPART_REQUEST_BYTES
            parameters["uploadId"] = f"upload-{chance:032x}"
    detail = _record(
        _NAMES[written.operation], written, chance=chance, parameters=parameters, received=received
    )
    detail["responseElements"] = {
        "x-amz-version-id": version.version_id,
        "x-amz-server-side-encryption": "AES256",
    }
    return _envelope(detail, written, chance)


def deleted_body(written: Written, *, at: float, chance: int) -> str:
    """Create the event of a version that was deleted for good.

    Args:
        written: the version.
        at: when it was deleted.
        chance: 128 bits from which all ids are made.
    """
    deleted = msgspec.structs.replace(written, written_at=at)
    named = {"versionId": written.version.version_id}
    detail = _record("DeleteObject", deleted, chance=chance, parameters=named)
    detail["responseElements"] = {"x-amz-version-id": written.version.version_id}
    return _envelope(detail, deleted, chance)


def marker_body(marker: Written, *, chance: int) -> str:
    """Create the event of a delete marker that was created.

    Args:
        marker: with the version id of its own.
        chance: 128 bits from which all ids are made.
    """
    detail = _record("DeleteObject", marker, chance=chance)
    detail["responseElements"] = {
        "x-amz-version-id": marker.version.version_id,
        "x-amz-delete-marker": "true",
    }
    return _envelope(detail, marker, chance)


def restarted_body(written: Written, *, at: float, chance: int) -> str:
    """Create the event of Batch Replication putting a version back to pending.

    Args:
        written: the version, in its source bucket.
        at: when it was put back.
        chance: 128 bits from which all ids are made.
    """
    restarted = msgspec.structs.replace(written, written_at=at)
    named = {"versionId": written.version.version_id}
    detail = _record("InitiateReplication", restarted, chance=chance, parameters=named)
    return _envelope(detail, restarted, chance)


def stray_body(stray: Stray, beside: Written, *, chance: int) -> str:
    """Create a message that concerns no object written.

    Args:
        stray: its kind.
        beside: a version written about then; messages that name an object name this one.
        chance: 128 bits from which all ids are made.
    """
    if stray is Stray.TEST_EVENT:
        return _test_event(beside, chance)
    if stray is Stray.MALFORMED:
        return _MALFORMED[chance % len(_MALFORMED)]
    reading = stray is Stray.READ
    detail = _record(_STRAY_NAMES[stray], beside, chance=chance, read_only=reading)
    if stray is Stray.DENIED_WRITE:
        detail |= {"errorCode": "AccessDenied", "errorMessage": "Access Denied"}
    if stray is Stray.BATCH_DELETE:
        bucket = beside.version.bucket
        detail["requestParameters"] = {
            "bucketName": bucket,
            "delete": "",
            "x-id": "DeleteObjects",
        }
        detail["resources"][0] = {
            "type": "AWS::S3::Object",
            "ARNPrefix": f"arn:aws:s3:::{bucket}/",
        }
    return _envelope(detail, beside, chance)


def _test_event(beside: Written, chance: int) -> str:
    return _encode(
        {
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": _iso(beside.written_at),
            "Bucket": beside.version.bucket,
            "RequestId": f"{chance:016X}"[:16],
            "HostId": f"{chance:x}",
        }
    )


_MALFORMED = (
    "this is not JSON",
    '{"version":"0","detail-type":"AWS API Call via CloudTrail","source":"aws.s3","detail":{"eventNa',
    '"a string alone"',
)


def _record(
    name: str,
    written: Written,
    *,
    chance: int,
    parameters: dict[str, Any] | None = None,
    received: float = 0,
    read_only: bool = False,
) -> dict[str, Any]:
    bucket, key = written.version.bucket, written.version.key
    return {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROAEXAMPLEWRITER000:ingest-7",
            "arn": _WRITER,
            "accountId": ACCOUNT,
        },
        "eventTime": _iso(written.written_at),
        "eventSource": "s3.amazonaws.com",
        "eventName": name,
        "awsRegion": written.region,
        "sourceIPAddress": "192.0.2.7",
        "userAgent": "[sandbox]",
        "requestParameters": {
            "bucketName": bucket,
            "Host": f"{bucket}.s3.{written.region}.amazonaws.com",
            "key": key,
            **(parameters or {}),
        },
        "responseElements": None,
        "additionalEventData": {
            "SignatureVersion": "SigV4",
            "bytesTransferredIn": received,
            "bytesTransferredOut": 0,
        },
        "requestID": f"{chance:016X}"[:16],
        "eventID": str(uuid.UUID(int=chance ^ 1, version=4)),
        "readOnly": read_only,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
            {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
        ],
        "eventType": "AwsApiCall",
        "managementEvent": False,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Data",
    }


def _envelope(detail: dict[str, Any], written: Written, chance: int) -> str:
    return _encode(
        {
            "version": "0",
            "id": str(uuid.UUID(int=chance, version=4)),
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.s3",
            "account": ACCOUNT,
            "time": _iso(written.written_at),
            "region": written.region,
            "resources": [],
            "detail": detail,
        }
    )


def _iso(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(body: dict[str, Any]) -> str:
    return msgspec.json.encode(body).decode()
