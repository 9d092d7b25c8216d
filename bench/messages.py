"""What the queue of the bench holds: messages that tell of objects, and the names that these have.

Each is CloudTrail's record of a PutObject as EventBridge puts it into a queue, of the size that they have in practice.
"""

import hashlib
import random
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

ACCOUNT = "210987654321"
REGION = "eu-west-1"
QUEUE = "crrmon-bench"
ROUTES = 32
"""Source buckets, each with a destination: one alone would be held back by its ceiling of HEADs per second."""
YOUNGEST_SECONDS, OLDEST_SECONDS = 60.0, 100.0
"""Age of an object when its event arrives: so old that the pacer has no reason to wait with the first look."""

_NUMBER = 8
"""Digits at the start of a receipt that say which message it is."""


def source(number: int) -> str:
    """Name the source bucket of an object."""
    return f"bench-source-{number % ROUTES}"


def destination(number: int) -> str:
    """Name the destination bucket of an object."""
    return f"bench-destination-{number % ROUTES}"


def key(number: int) -> str:
    """Name an object: a data lake's kind of key."""
    return f"lake/events/dt=2026-11-22/hour={number % 24:02d}/part-{number:08d}.snappy.parquet"


def version_id(number: int) -> str:
    """Create a version id that looks like one of S3's: 32 characters."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()


def receipt_of(number: int, bits: str) -> str:
    """Create a receipt of a message: as long as those of SQS are, and telling which message it is."""
    return f"{number:0{_NUMBER}}{bits * 20}"


def told_by(receipt: str) -> int:
    """Return which message a receipt is of."""
    return int(receipt[:_NUMBER])


class Events:
    """Makes the messages: CloudTrail's record of a PutObject, as EventBridge puts it into a queue."""

    _MARK = re.compile(r"<(\w+)>")

    def __init__(self) -> None:
        # The size is a number.
        text = msgspec.json.encode(_EVENT).decode().replace('"<size>"', "<size>")
        self._body, self._names = self._template(text)
        # The body once more, as it stands within the JSON of SQS's answer.
        self._quoted, _ = self._template(msgspec.json.encode(text).decode())
        self._rng = random.Random(1)  # noqa: S311 - only has to look different

    def _template(self, text: str) -> tuple[str, list[str]]:
        names = self._MARK.findall(text)
        return self._MARK.sub("%s", text.replace("%", "%%")), names

    def body(self, number: int, now: float) -> str:
        """Create the body of a message."""
        return self._body % tuple(self._values(number, now)[name] for name in self._names)

    def message(self, number: int, now: float) -> bytes:
        """Create one message of a ReceiveMessage answer."""
        values = self._values(number, now)
        filled = tuple(values[name] for name in self._names)
        body = (self._body % filled).encode()
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        receipt = receipt_of(number, values["request"])
        return (
            f'{{"MessageId":"{values["id"]}","ReceiptHandle":"{receipt}",'
            f'"MD5OfBody":"{digest}","Body":{self._quoted % filled},'
            f'"Attributes":{{"SentTimestamp":"{int(now * 1000) - 500}","ApproximateReceiveCount":"1"}}}}'
        ).encode()

    def _values(self, number: int, now: float) -> dict[str, str]:
        age = self._rng.uniform(YOUNGEST_SECONDS, OLDEST_SECONDS)
        written = datetime.fromtimestamp(int(now - age), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        bits = f"{self._rng.getrandbits(128):032x}"
        return {
            "id": f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}",
            "request": bits[:16].upper(),
            "time": written,
            "source": source(number),
            "key": key(number),
            "version": version_id(number),
            "size": str(1_000_000 + number % 7919),
        }


_EVENT: dict[str, Any] = {
    "version": "0",
    "id": "<id>",
    "detail-type": "AWS API Call via CloudTrail",
    "source": "aws.s3",
    "account": ACCOUNT,
    "time": "<time>",
    "region": REGION,
    "resources": [],
    "detail": {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROAEXAMPLEWRITER000:ingest-7",
            "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/ingest/ingest-7",
            "accountId": ACCOUNT,
            "accessKeyId": "ASIAEXAMPLEEXAMPLE00",
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": "AROAEXAMPLEWRITER000",
                    "arn": f"arn:aws:iam::{ACCOUNT}:role/ingest",
                    "accountId": ACCOUNT,
                    "userName": "ingest",
                },
                "attributes": {"creationDate": "<time>", "mfaAuthenticated": "false"},
            },
        },
        "eventTime": "<time>",
        "eventSource": "s3.amazonaws.com",
        "eventName": "PutObject",
        "awsRegion": REGION,
        "sourceIPAddress": "192.0.2.7",
        "userAgent": "[aws-sdk-java/2.31.11 Linux/6.1 OpenJDK_64-Bit_Server_VM/21]",
        "requestParameters": {
            "bucketName": "<source>",
            "Host": f"<source>.s3.{REGION}.amazonaws.com",
            "key": "<key>",
        },
        "responseElements": {
            "x-amz-server-side-encryption": "AES256",
            "x-amz-version-id": "<version>",
        },
        "additionalEventData": {
            "SignatureVersion": "SigV4",
            "CipherSuite": "TLS_AES_128_GCM_SHA256",
            "bytesTransferredIn": "<size>",
            "AuthenticationMethod": "AuthHeader",
            "x-amz-id-2": "Vt9kq7b1xQJmC0e2c5tM3oYd8ZbS4hU6fRgLwNpAiKjXyDvHsEuTzO1Q2W3E4R5T6Y7=",
            "bytesTransferredOut": 0,
        },
        "requestID": "<request>",
        "eventID": "<id>",
        "readOnly": False,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::<source>/<key>"},
            {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::<source>"},
        ],
        "eventType": "AwsApiCall",
        "managementEvent": False,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Data",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": f"<source>.s3.{REGION}.amazonaws.com",
        },
    },
}
