"""As much of SQS, S3 and CloudWatch as is called, fast enough that whoever calls is what is measured.

One process, HTTP/1.1 by hand, in the clear and with TLS: requests are cut at the blank line and told apart by their
first line or their X-Amz-Target. Signatures, regions and visibility are nobody's business here. Every object that was
written is replicated: whoever asks is told COMPLETED.

    python bench/stubs.py --port 9200
    python bench/stubs.py --port 9200 --tls-port 9201 --certificate server.pem --head-milliseconds 20

The bench drives it through two paths of its own: `POST /-/release?objects=N` puts N messages into the queue,
`GET /-/counts` answers with `Counts`.
"""

import argparse
import asyncio
import collections
import re
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from typing import cast
from urllib.parse import unquote

import msgspec
import uvloop
from typing_extensions import override

from crrmon.ports.clock import SystemClock
from messages import ACCOUNT, OLDEST_SECONDS, Events, told_by

_CLOCK = SystemClock()


class Counts(msgspec.Struct, kw_only=True):
    """What the stubs saw since they were started."""

    calls: dict[str, int] = {}
    """By operation; receives that found nothing apart."""
    connections: int = 0
    """Made by whoever calls."""
    making_seconds: float = 0.0
    """CPU time that making messages took, before anybody was given one."""
    released: int = 0
    delivered: int = 0
    acknowledged: int = 0
    """Messages deleted, each counted once."""
    acknowledged_again: int = 0
    released_at: float = 0.0
    """Of the last release, by the machine's monotonic clock."""
    acknowledged_at: float = 0.0
    """Of the last message that was deleted."""


class _Stubs:
    """What all connections share: the queue and the counters."""

    def __init__(self, first: int, head_seconds: float) -> None:
        self.head_seconds = head_seconds
        self.calls: collections.Counter[str] = collections.Counter()
        self.counts = Counts()
        self.waiting: collections.deque[_Poll] = collections.deque()
        self._first = first
        self._events = Events()
        self._queue: collections.deque[bytes] = collections.deque()
        self._gone: set[int] = set()

    @property
    def depth(self) -> int:
        """How many messages are in the queue."""
        return len(self._queue)

    def release(self, objects: int) -> None:
        """Put messages into the queue, and hand them to whoever waits.

        They are made before the watch runs, or making them would take the time of whoever is measured.
        """
        began = time.process_time()
        now, start = _CLOCK.now(), self._first + self.counts.released
        made = [self._events.message(number, now) for number in range(start, start + objects)]
        self._queue.extend(made)
        self.counts.making_seconds += time.process_time() - began
        self.counts.released += objects
        self.counts.released_at = time.monotonic()
        while self.waiting and self._queue:
            self.waiting.popleft().end()

    def take(self, most: int) -> list[bytes]:
        """Take messages out of the queue."""
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        self.counts.delivered += len(taken)
        return taken

    def acknowledge(self, receipts: list[str]) -> None:
        """Drop messages for good."""
        for receipt in receipts:
            number = told_by(receipt)
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
        self.forget()
        self.end()

    def forget(self) -> None:
        """Wait no longer: messages for whoever hung up would be lost."""
        if self._timer is not None:
            self._timer.cancel()
        if self in self._stubs.waiting:
            self._stubs.waiting.remove(self)

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
    """One connection: one request after the other, kept alive unless the client wants it closed."""

    _LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
    _TARGET = re.compile(rb"\r\nx-amz-target: *\w+\.(\w+)", re.IGNORECASE)
    _CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
    _VERSION = re.compile(rb"[?&]versionId=([^& ]*)")

    def __init__(self, stubs: _Stubs, modified: bytes) -> None:
        self._stubs = stubs
        self._modified = modified
        self._buffer = b""
        self._answering = False
        """A request is under way: what comes after it waits for its answer."""
        self._last = False
        self._poll: _Poll | None = None
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        # uvloop's has the methods, but not the base class.
        self._transport = cast("asyncio.Transport", transport)
        self._stubs.counts.connections += 1

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._transport = None
        if self._poll is not None:
            self._poll.forget()

    @override
    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer = self._buffer + data if self._buffer else data
        self._go_on()

    def _go_on(self) -> None:
        while not self._answering and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = 0
            if head.startswith(b"POST") and (told := self._LENGTH.search(head)):
                length = int(told[1])
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._last = self._CLOSE.search(head) is not None
            self._answering = True
            self._heed(head, body)

    def _heed(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"HEAD "):
            self._stubs.calls["HeadObject"] += 1
            self._head(head)
            return
        method, path, _ = head[: head.find(b"\r\n")].decode("latin-1").split(" ", 2)
        if path.startswith("/-/"):
            self._control(path)
        elif target := self._TARGET.search(head):
            self._json_call(target[1].decode(), body)
        elif path.endswith("?replication"):
            self._stubs.calls["GetBucketReplication"] += 1
            bucket = unquote(path[1 : path.index("?")])
            self._write(b"200 OK", _configuration(bucket), _XML)
        else:
            self._stubs.calls[f"unknown: {method}"] += 1
            self._write(b"501 Not Implemented", b"")

    def _head(self, head: bytes) -> None:
        version = self._VERSION.search(head)
        answer = _HEAD % (_date(), self._modified, version[1] if version else b"null")
        if self._stubs.head_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._stubs.head_seconds, self._late, answer)
        else:
            self._send(answer)

    def _late(self, answer: bytes) -> None:
        self._send(answer)
        self._go_on()

    def _json_call(self, operation: str, body: bytes) -> None:
        if operation == "ReceiveMessage":
            self._receive(_receive_decoder.decode(body))
            return
        self._stubs.calls[operation] += 1
        if operation in ("DeleteMessageBatch", "ChangeMessageVisibilityBatch"):
            entries = _batch_decoder.decode(body).entries
            if operation == "DeleteMessageBatch":
                self._stubs.acknowledge([one.receipt_handle for one in entries])
            done = ",".join(f'{{"Id":"{entry.id}"}}' for entry in entries)
            self._answer(b'{"Successful":[' + done.encode() + b'],"Failed":[]}')
        elif operation == "GetQueueAttributes":
            self._answer(_DEPTH % self._stubs.depth)
        else:
            self._answer(b"{}")

    def _receive(self, asked: _Receive) -> None:
        self._poll = _Poll(self._stubs, self._polled, asked.max_number_of_messages)
        if self._stubs.depth:
            self._poll.end()
        else:
            self._poll.begin(asked.wait_time_seconds)

    def _polled(self, body: bytes) -> None:
        self._poll = None
        self._answer(body)
        self._go_on()

    def _control(self, path: str) -> None:
        if path.startswith("/-/release?objects="):
            self._stubs.release(int(path.partition("=")[2]))
        self._stubs.counts.connections -= 1  # the bench's own
        self._answer(self._stubs.report())

    def _answer(self, body: bytes) -> None:
        self._write(b"200 OK", body, b"Content-Type: application/x-amz-json-1.0\r\n")

    def _write(self, status: bytes, body: bytes, headers: bytes = b"") -> None:
        self._send(_ANSWER % (status, _date(), len(body), headers), body)

    def _send(self, head: bytes, body: bytes = b"") -> None:
        self._answering = False
        if self._transport is None:
            return
        if self._last:
            head = head[:-2] + b"Connection: close\r\n\r\n"
        self._transport.write(head + body)
        if self._last:
            self._transport.close()


def _date() -> bytes:
    """Return what a server's clock says: without it, the daemon trusts nobody about the time, and does not start."""
    return _date_of(int(_CLOCK.now()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


_ANSWER = (
    b"HTTP/1.1 %s\r\nDate: %s\r\nx-amzn-RequestId: 0f3a8c1e-7f0b-5d1c-9a55-1c4b2d9e6f70\r\n"
    b"Content-Length: %d\r\n%s\r\n"
)
_XML = b"Content-Type: application/xml\r\nx-amz-request-id: 6Y1TQ2C8ZD0M4K7B\r\n"

_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"x-amz-id-2: Vt9kq7b1xQJmC0e2c5tM3oYd8ZbS4hU6fRgLwNpAiKjXyDvHsEuTzO1Q2W3E4R5T6Y7U8I9O0P=\r\n"
    b"x-amz-request-id: 6Y1TQ2C8ZD0M4K7B\r\n"
    b"Date: %s\r\n"
    b"Last-Modified: %s\r\n"
    b'ETag: "9b2cf535f27731c974343645a3985328"\r\n'
    b"x-amz-server-side-encryption: AES256\r\n"
    b"x-amz-replication-status: COMPLETED\r\n"
    b"x-amz-version-id: %s\r\n"
    b"Accept-Ranges: bytes\r\n"
    b"Content-Type: binary/octet-stream\r\n"
    b"Content-Length: 1048576\r\n"
    b"Server: AmazonS3\r\n\r\n"
)

_DEPTH = b"""{"Attributes":{"ApproximateNumberOfMessages":"%d",
"ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}"""


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


async def _serve(asked: argparse.Namespace) -> None:
    stubs = _Stubs(asked.first, asked.head_milliseconds / 1e3)
    modified = formatdate(_CLOCK.now() - OLDEST_SECONDS, usegmt=True).encode()
    loop = asyncio.get_running_loop()

    def connection() -> _Connection:
        return _Connection(stubs, modified)

    if asked.tls_port:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(asked.certificate)
        await loop.create_server(connection, "127.0.0.1", asked.tls_port, ssl=tls)
    # Last: whoever finds this port open finds the other one open, too.
    server = await loop.create_server(connection, "127.0.0.1", asked.port)
    await server.serve_forever()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls-port", type=int)
    parser.add_argument("--certificate", type=Path, help="of the server, with its key, as PEM")
    parser.add_argument("--head-milliseconds", type=int, default=0, help="before it answers")
    parser.add_argument("--first", type=int, default=0, help="number of the first object")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
