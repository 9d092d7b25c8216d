"""As much of SQS, S3 and CloudWatch as the daemon calls, fast enough that the daemon is what is measured.

One process, one port, HTTP/1.1 by hand: requests are cut at the blank line and told apart by their first line or
their X-Amz-Target. Signatures, regions and visibility are nobody's business here. Every object that was written is
replicated: whoever asks is told COMPLETED.

    python bench/stubs.py --port 9200

The bench drives it through two paths of its own: `POST /-/release?objects=N` puts N messages into the queue,
`GET /-/counts` answers with `Counts`.
"""

import argparse
import asyncio
import collections
import hashlib
import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote

import msgspec
import uvloop
from typing_extensions import override

from crrmon.ports.clock import SystemClock

ACCOUNT = "210987654321"
REGION = "eu-west-1"
QUEUE = "crrmon-bench"
ROUTES = 4
"""Source buckets, each with a destination: one alone would be held back by its ceiling of HEADs per second."""
YOUNGEST_SECONDS, OLDEST_SECONDS = 60.0, 100.0
"""Age of an object when its event arrives: so old that the pacer has no reason to wait with the first look."""

_NUMBER = 8
"""Digits at the start of a receipt that say which message it is."""
_CLOCK = SystemClock()


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


class Counts(msgspec.Struct, kw_only=True):
    """What the stubs saw since they were started."""

    calls: dict[str, int] = {}
    """By operation; receives that found nothing apart."""
    released: int = 0
    delivered: int = 0
    acknowledged: int = 0
    """Messages deleted, each counted once."""
    acknowledged_again: int = 0
    released_at: float = 0.0
    """Of the last release, by the machine's monotonic clock."""
    acknowledged_at: float = 0.0
    """Of the last message that was deleted."""


_DEPTH = b"""{"Attributes":{"ApproximateNumberOfMessages":"%d",
"ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}"""


class _Stubs:
    """What all connections share: the queue and the counters."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.calls: collections.Counter[str] = collections.Counter()
        self.counts = Counts()
        self.events = _Events()
        self.waiting: collections.deque[_Poll] = collections.deque()
        self._gone: set[int] = set()

    def release(self, objects: int) -> None:
        """Put messages into the queue, and hand them to whoever waits."""
        self.counts.released += objects
        self.counts.released_at = time.monotonic()
        while self.waiting and self.counts.delivered < self.counts.released:
            self.waiting.popleft().end()

    def take(self, most: int) -> list[bytes]:
        """Take messages out of the queue."""
        start = self.counts.delivered
        end = min(start + most, self.counts.released)
        self.counts.delivered = end
        now = _CLOCK.now()
        return [self.events.message(self.first + one, now) for one in range(start, end)]

    def acknowledge(self, receipts: list[str]) -> None:
        """Drop messages for good."""
        for receipt in receipts:
            number = int(receipt[:_NUMBER])
            if number in self._gone:
                self.counts.acknowledged_again += 1
            else:
                self._gone.add(number)
                self.counts.acknowledged += 1
        self.counts.acknowledged_at = time.monotonic()

    def report(self) -> bytes:
        """Return the counters."""
        self.counts.calls = dict(self.calls)
        return msgspec.json.encode(self.counts)


class _Events:
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

    def message(self, number: int, now: float) -> bytes:
        """Create one message of a ReceiveMessage answer."""
        age = self._rng.uniform(YOUNGEST_SECONDS, OLDEST_SECONDS)
        written = datetime.fromtimestamp(int(now - age), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        bits = f"{self._rng.getrandbits(128):032x}"
        values = {
            "id": f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}",
            "request": bits[:16].upper(),
            "time": written,
            "source": source(number),
            "key": key(number),
            "version": version_id(number),
            "size": str(1_000_000 + number % 7919),
        }
        filled = tuple(values[name] for name in self._names)
        digest = hashlib.md5((self._body % filled).encode(), usedforsecurity=False).hexdigest()
        return (
            f'{{"MessageId":"{values["id"]}","ReceiptHandle":"{number:0{_NUMBER}}{bits * 10}",'
            f'"MD5OfBody":"{digest}","Body":{self._quoted % filled},'
            f'"Attributes":{{"SentTimestamp":"{int(now * 1000) - 500}","ApproximateReceiveCount":"1"}}}}'
        ).encode()


class _Poll:
    """A ReceiveMessage that waits for messages."""

    def __init__(self, stubs: _Stubs, answer: Callable[[bytes], None], most: int) -> None:
        self._stubs = stubs
        self._answer = answer
        self._most = most
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> None:
        """Wait, but not for ever."""
        self._stubs.waiting.append(self)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._stubs.waiting.remove(self)
        self.end()

    def end(self) -> None:
        """Answer with what there is."""
        if self._timer is not None:
            self._timer.cancel()
        messages = self._stubs.take(self._most)
        self._stubs.calls["ReceiveMessage" if messages else "ReceiveMessage (empty)"] += 1
        self._answer(b'{"Messages":[' + b",".join(messages) + b"]}" if messages else b"{}")


class _Receive(msgspec.Struct, rename="pascal"):
    max_number_of_messages: int = 1
    wait_time_seconds: int = 0


class _Entry(msgspec.Struct, rename="pascal"):
    id: str
    receipt_handle: str


class _Batch(msgspec.Struct, rename="pascal"):
    entries: list[_Entry]


_receive_decoder = msgspec.json.Decoder(_Receive)
_batch_decoder = msgspec.json.Decoder(_Batch)


class _Connection(asyncio.Protocol):
    """One connection: one request after the other, kept alive."""

    _LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
    _TARGET = re.compile(rb"\r\nx-amz-target: *\w+\.(\w+)", re.IGNORECASE)
    _VERSION = re.compile(r"[?&]versionId=([^& ]*)")

    def __init__(self, stubs: _Stubs, started: str) -> None:
        self._stubs = stubs
        self._started = started
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        # uvloop's has the methods, but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._transport = None

    @override
    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = 0
            if head.startswith(b"POST") and (told := self._LENGTH.search(head)):
                length = int(told[1])
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._heed(head, body)

    def _heed(self, head: bytes, body: bytes) -> None:
        method, path, _ = head[: head.find(b"\r\n")].decode("latin-1").split(" ", 2)
        if method == "HEAD":
            self._stubs.calls["HeadObject"] += 1
            self._head(path)
        elif path.startswith("/-/"):
            self._control(path)
        elif target := self._TARGET.search(head):
            self._json_call(target[1].decode(), body)
        elif path.endswith("?replication"):
            self._stubs.calls["GetBucketReplication"] += 1
            bucket = unquote(path[1 : path.index("?")])
            self._write("200 OK", _configuration(bucket), _XML)
        else:
            self._stubs.calls[f"unknown: {method}"] += 1
            self._write("501 Not Implemented", b"")

    def _head(self, path: str) -> None:
        version = self._VERSION.search(path)
        self._send(_HEAD % (_date(), self._started, version[1] if version else "null"))

    def _json_call(self, operation: str, body: bytes) -> None:
        if operation == "ReceiveMessage":
            asked = _receive_decoder.decode(body)
            poll = _Poll(self._stubs, self._answer, asked.max_number_of_messages)
            if self._stubs.counts.delivered < self._stubs.counts.released:
                poll.end()
            else:
                poll.begin(asked.wait_time_seconds)
            return
        self._stubs.calls[operation] += 1
        if operation in ("DeleteMessageBatch", "ChangeMessageVisibilityBatch"):
            entries = _batch_decoder.decode(body).entries
            if operation == "DeleteMessageBatch":
                self._stubs.acknowledge([one.receipt_handle for one in entries])
            done = ",".join(f'{{"Id":"{entry.id}"}}' for entry in entries)
            self._answer(b'{"Successful":[' + done.encode() + b'],"Failed":[]}')
        elif operation == "GetQueueAttributes":
            counts = self._stubs.counts
            self._answer(_DEPTH % (counts.released - counts.delivered))
        else:
            self._answer(b"{}")

    def _control(self, path: str) -> None:
        if path.startswith("/-/release?objects="):
            self._stubs.release(int(path.partition("=")[2]))
        self._answer(self._stubs.report())

    def _answer(self, body: bytes) -> None:
        self._write("200 OK", body, "Content-Type: application/x-amz-json-1.0\r\n")

    def _write(self, status: str, body: bytes, headers: str = "") -> None:
        fixed = f"HTTP/1.1 {status}\r\nDate: {_date()}\r\n{_ID}Content-Length: {len(body)}\r\n"
        self._send(f"{fixed}{headers}\r\n", body)

    def _send(self, head: str, body: bytes = b"") -> None:
        if self._transport is not None:
            self._transport.write(head.encode("latin-1") + body)


def _date() -> str:
    """Return what a server's clock says: without it, the daemon trusts nobody about the time, and does not start."""
    return _date_of(int(_CLOCK.now()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


_ID = "x-amzn-RequestId: 0f3a8c1e-7f0b-5d1c-9a55-1c4b2d9e6f70\r\n"
_XML = "Content-Type: application/xml\r\nx-amz-request-id: 6Y1TQ2C8ZD0M4K7B\r\n"

_HEAD = (
    "HTTP/1.1 200 OK\r\n"
    "x-amz-id-2: Vt9kq7b1xQJmC0e2c5tM3oYd8ZbS4hU6fRgLwNpAiKjXyDvHsEuTzO1Q2W3E4R5T6Y7U8I9O0P=\r\n"
    "x-amz-request-id: 6Y1TQ2C8ZD0M4K7B\r\n"
    "Date: %s\r\n"
    "Last-Modified: %s\r\n"
    'ETag: "9b2cf535f27731c974343645a3985328"\r\n'
    "x-amz-server-side-encryption: AES256\r\n"
    "x-amz-replication-status: COMPLETED\r\n"
    "x-amz-version-id: %s\r\n"
    "Accept-Ranges: bytes\r\n"
    "Content-Type: binary/octet-stream\r\n"
    "Content-Length: 1048576\r\n"
    "Server: AmazonS3\r\n\r\n"
)

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


def _configuration(bucket: str) -> bytes:
    target = bucket.replace("source", "destination")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Role>arn:aws:iam::{ACCOUNT}:role/replication</Role>"
        "<Rule><ID>lake</ID><Priority>1</Priority><Status>Enabled</Status>"
        "<Filter><Prefix>lake/</Prefix></Filter>"
        "<DeleteMarkerReplication><Status>Disabled</Status></DeleteMarkerReplication>"
        f"<Destination><Bucket>arn:aws:s3:::{target}</Bucket></Destination></Rule>"
        "</ReplicationConfiguration>"
    ).encode()


async def _serve(port: int, first: int) -> None:
    stubs = _Stubs(first)
    started = formatdate(_CLOCK.now() - OLDEST_SECONDS, usegmt=True)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(stubs, started), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first object")
    asked = parser.parse_args()
    uvloop.run(_serve(asked.port, asked.first))


if __name__ == "__main__":
    main()
