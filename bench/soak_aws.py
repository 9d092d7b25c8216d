"""As much of SQS, S3, CloudWatch and a container's credentials as a soak needs: it breaks, and knows the truth.

Unlike the bench's stubs it keeps what queues keep (a message that was not deleted comes again), lets replication take
its time and sometimes fail, and believes no access key that is out of date. While there is a fault, calls are answered
with 503, their connections are reset before or after they had their effect, or their answers are cut short.
"""

import asyncio
import hashlib
import heapq
import random
import re
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum
from typing import Any

import msgspec
from aiohttp import web

ACCOUNT = "210987654321"
REGION = "eu-west-1"
QUEUE = "crrmon-soak"
ROUTES = 4
YOUNGEST_SECONDS, OLDEST_SECONDS = 20.0, 60.0
"""Age of an object when its event arrives."""
MEDIAN_SECONDS, SIGMA, LONGEST_SECONDS = 15.0, 0.9, 90.0
"""How long replication takes: a few objects in a hundred are still pending when their events arrive."""
ANSWER_SECONDS = 0.02
"""How long S3 takes to answer, also with 503: who heeds that has fewer requests under way, so it shows in their number
only where each takes its time.
"""
FAILING = 0.01
"""Share of the objects that fail."""
BUSY_SHARE, BROKEN_SHARE = 0.9, 0.3
"""Of calls, while S3 and CloudWatch answer 503; while connections are reset, or answers are cut short."""
ADVISORY_SECONDS = 900.0
"""So long before they expire the SDK gets new credentials, if it can."""
LEEWAY_SECONDS = 60.0
"""At the least, for which credentials work on when new ones are due: a busy machine may stall for some seconds."""


class Fault(Enum):
    """What is wrong at the moment."""

    NONE = "none"
    BUSY = "503"
    RESET = "resets"
    SHORT = "cut short"


class Truth(msgspec.Struct, kw_only=True):
    """What really happened, and what was told of it."""

    released: int = 0
    failing: int = 0
    """Of those released."""
    acknowledged: int = 0
    """Messages deleted, each once."""
    delivered_again: int = 0
    heads: int = 0
    calls_broken: Counter[str] = msgspec.field(default_factory=Counter)
    """By fault."""
    datapoints: dict[str, float] = msgspec.field(default_factory=dict)
    """Counts that were reported, each once, by metric, dimensions and time."""
    reported_again: int = 0
    """Datapoints that came with the same value again."""
    reported_otherwise: int = 0
    """... with another value."""
    reports_broken: int = 0
    """Datapoints that were taken while the answer to it was lost: these may come again."""
    keys_given: int = 0
    """Credentials that were handed out."""
    keys_refused: int = 0
    """Calls signed with a key that was not valid."""

    def counted(self, metric: str) -> int:
        """Sum up what was reported of a metric."""
        return round(sum(v for name, v in self.datapoints.items() if name.startswith(metric)))


class Cloud:
    """All of it, behind one port.

    Args:
        rng: chance.
        refresh_seconds: how often the daemon is to get new credentials. Those before stay valid for a while.
        pace: share of the usual time that events and replication take, and that messages stay hidden.
    """

    def __init__(self, rng: random.Random, *, refresh_seconds: float, pace: float) -> None:
        self.truth = Truth()
        self.fault = Fault.NONE
        self._rng = rng
        self._refresh = refresh_seconds
        self._pace = pace
        self._written = array("d")
        self._done = array("d")
        self._failing: set[int] = set()
        self._ready: deque[int] = deque()
        self._hidden: list[tuple[float, int]] = []
        self._in_flight: dict[int, float] = {}
        self._keys: dict[str, float] = {}

    def release(self, objects: int, now: float) -> None:
        """Have objects been written a while ago, and put their events into the queue."""
        for number in range(self.truth.released, self.truth.released + objects):
            written = now - self._pace * self._rng.uniform(YOUNGEST_SECONDS, OLDEST_SECONDS)
            took = min(MEDIAN_SECONDS * self._rng.lognormvariate(0, SIGMA), LONGEST_SECONDS)
            self._written.append(written)
            self._done.append(written + self._pace * took)
            if self._rng.random() < FAILING:
                self._failing.add(number)
                self.truth.failing += 1
            self._ready.append(number)
        self.truth.released += objects

    @property
    def waiting(self) -> int:
        """Messages that nobody has received yet, or that are visible again."""
        return len(self._ready)

    @property
    def queued(self) -> int:
        """Messages that were not deleted."""
        return self.truth.released - self.truth.acknowledged

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a call, or do not."""
        if request.path == "/credentials":
            return self._credentials()
        body = await request.read()
        operation = _operation(request)
        if not request.headers.get("X-Amz-Target"):
            await asyncio.sleep(ANSWER_SECONDS)
        fault, lucky = self.fault, self._rng.random()
        if fault is Fault.BUSY and operation[1] and lucky < BUSY_SHARE:
            self.truth.calls_broken[fault.value] += 1
            self.truth.heads += request.method == "HEAD"
            return web.Response(status=503, body=_BUSY, content_type="application/xml")
        broken = fault in (Fault.RESET, Fault.SHORT) and lucky < BROKEN_SHARE
        if broken and fault is Fault.RESET and lucky < BROKEN_SHARE / 2:
            return self._break(request, b"")
        answered = await self._heed(request, operation[0], body)
        if not broken:
            return answered
        if operation[0] == "PutMetricData" and answered.status == 200:
            self.truth.reports_broken += _counts_in(body)
        return self._break(request, b"" if fault is Fault.RESET else _CUT)

    def _break(self, request: web.Request, said: bytes) -> web.StreamResponse:
        self.truth.calls_broken[self.fault.value] += 1
        if (transport := request.transport) is not None:
            transport.write(said)
            if said:
                transport.close()
            else:
                transport.abort()
        return web.Response()

    async def _heed(  # noqa: PLR0911 - a return for each call
        self, request: web.Request, operation: str, body: bytes
    ) -> web.Response:
        now = datetime.now(UTC).timestamp()  # noqa: TID251 - it is the world's clock
        if not self._valid(request.headers.get("Authorization", ""), now):
            self.truth.keys_refused += 1
            return _json({"__type": "ExpiredTokenException", "message": "expired"}, status=403)
        match operation:
            case "HeadObject":
                return self._head(request.path, request.query.get("versionId", ""), now)
            case "GetBucketReplication":
                target = request.path.strip("/").replace("source", "destination")
                return web.Response(
                    text=_RULE % target, headers=_NAMED, content_type="application/xml"
                )
            case "ReceiveMessage":
                return await self._receive(request, msgspec.json.decode(body), now)
            case "DeleteMessageBatch":
                return self._each(body, lambda number, _: self._delete(number))
            case "ChangeMessageVisibilityBatch":
                return self._each(body, lambda number, one: self._hide(number, now, one))
            case "GetQueueAttributes":
                return self._depth()
            case "PutMetricData":
                self._report(msgspec.json.decode(body)["MetricData"])
        return _json({})

    # ---- credentials ----

    def _credentials(self) -> web.Response:
        now = datetime.now(UTC).timestamp()  # noqa: TID251
        self.truth.keys_given += 1
        key = f"ASIASOAK{self.truth.keys_given:012d}"
        self._keys[key] = now + self._refresh + max(self._refresh, LEEWAY_SECONDS)
        expires = datetime.fromtimestamp(now + ADVISORY_SECONDS + self._refresh, UTC)
        expiration = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        secret = {"SecretAccessKey": "soak", "Token": key}
        return _json({"AccessKeyId": key, "Expiration": expiration, **secret})

    def _valid(self, authorization: str, now: float) -> bool:
        told = re.search(r"Credential=(\w+)/", authorization)
        return told is not None and self._keys.get(told[1], 0.0) > now

    # ---- S3 ----

    def _head(self, path: str, version: str, now: float) -> web.Response:
        self.truth.heads += 1
        number = int(path[-8:])
        final = "FAILED" if number in self._failing else "COMPLETED"
        status = final if self._done[number] <= now else "PENDING"
        return web.Response(
            headers={
                "Last-Modified": formatdate(self._written[number], usegmt=True),
                "ETag": '"9b2cf535f27731c974343645a3985328"',
                **_NAMED,
                "x-amz-version-id": version,
                "x-amz-replication-status": status,
            }
        )

    # ---- SQS ----

    async def _receive(
        self, request: web.Request, asked: dict[str, Any], now: float
    ) -> web.Response:
        loop = asyncio.get_running_loop()
        until = loop.time() + asked.get("WaitTimeSeconds", 0)
        began = loop.time()
        while not self._reappeared(now + loop.time() - began) and loop.time() < until:  # noqa: ASYNC110 - as a long poll
            await asyncio.sleep(0.05)
        now += loop.time() - began
        there = request.transport is not None and not request.transport.is_closing()
        most = min(asked.get("MaxNumberOfMessages", 1), len(self._ready)) if there else 0
        numbers = [self._ready.popleft() for _ in range(most)]
        for number in numbers:
            self._hide(number, now, asked["VisibilityTimeout"])
        return _json({"Messages": [self._message(number) for number in numbers]})

    def _reappeared(self, now: float) -> bool:
        """Show the messages again whose time is over; return whether any can be received."""
        while self._hidden and self._hidden[0][0] <= now:
            until, number = heapq.heappop(self._hidden)
            if self._in_flight.get(number) == until:
                del self._in_flight[number]
                self.truth.delivered_again += 1
                self._ready.append(number)
        return bool(self._ready)

    def _hide(self, number: int, now: float, seconds: float) -> None:
        until = now + self._pace * seconds
        self._in_flight[number] = until
        heapq.heappush(self._hidden, (until, number))

    def _delete(self, number: int) -> None:
        # A message that is visible again cannot be deleted by what was received of it before: it comes once more.
        if self._in_flight.pop(number, None) is not None:
            self.truth.acknowledged += 1

    def _each(self, body: bytes, act: Any) -> web.Response:
        entries = msgspec.json.decode(body)["Entries"]
        for entry in entries:
            number = int(entry["ReceiptHandle"])
            if number in self._in_flight:
                act(number, entry.get("VisibilityTimeout", 0))
        return _json({"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []})

    def _depth(self) -> web.Response:
        figures = {
            "ApproximateNumberOfMessages": str(len(self._ready)),
            "ApproximateNumberOfMessagesNotVisible": str(len(self._in_flight)),
            "ApproximateNumberOfMessagesDelayed": "0",
        }
        return _json({"Attributes": figures})

    def _message(self, number: int) -> dict[str, Any]:
        written = datetime.fromtimestamp(int(self._written[number]), UTC)
        body = msgspec.json.encode(_event(number, written.strftime("%Y-%m-%dT%H:%M:%SZ"))).decode()
        sent = int((self._written[number] + self._pace * YOUNGEST_SECONDS) * 1000)
        return {
            "MessageId": f"00000000-0000-4000-8000-{number:012d}",
            "ReceiptHandle": str(number),
            "Body": body,
            "MD5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            "Attributes": {"SentTimestamp": str(sent), "ApproximateReceiveCount": "1"},
        }

    # ---- CloudWatch ----

    def _report(self, data: Sequence[dict[str, Any]]) -> None:
        for datum in data:
            if datum["MetricName"] in COUNTS:
                told = self.truth.datapoints
                dimensions = sorted(one["Value"] for one in datum["Dimensions"])
                name = f"{datum['MetricName']} {' '.join(dimensions)} {datum['Timestamp']}"
                if name in told:
                    self.truth.reported_again += told[name] == datum["Value"]
                    self.truth.reported_otherwise += told[name] != datum["Value"]
                told.setdefault(name, datum["Value"])


COUNTS = ("ReplicationObjects", "FailedReplications")
"""Metrics of which each datapoint is counted."""
_NAMED = {"x-amz-request-id": "6Y1TQ2C8ZD0M4K7B"}
"""As S3 names its answers: others are not believed."""
_CUT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_RULE = (
    '<ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    f"<Role>arn:aws:iam::{ACCOUNT}:role/replication</Role>"
    "<Rule><ID>soak</ID><Priority>1</Priority><Status>Enabled</Status>"
    "<Filter><Prefix></Prefix></Filter>"
    "<DeleteMarkerReplication><Status>Disabled</Status></DeleteMarkerReplication>"
    "<Destination><Bucket>arn:aws:s3:::%s</Bucket></Destination></Rule>"
    "</ReplicationConfiguration>"
)


def _operation(request: web.Request) -> tuple[str, bool]:
    """Name what is called, and say whether its service is one that is busy at times."""
    if target := request.headers.get("X-Amz-Target", ""):
        operation = target.rpartition(".")[2]
        return operation, operation == "PutMetricData"
    return "HeadObject" if request.method == "HEAD" else "GetBucketReplication", True


def _counts_in(body: bytes) -> int:
    return sum(one["MetricName"] in COUNTS for one in msgspec.json.decode(body)["MetricData"])


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value),
        status=status,
        headers={"x-amzn-RequestId": "0f3a8c1e-7f0b-5d1c-9a55-1c4b2d9e6f70"},
        content_type="application/json",
    )


def _event(number: int, written: str) -> dict[str, Any]:
    """Return what EventBridge puts into a queue for an object."""
    version = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()
    return {
        "version": "0",
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": ACCOUNT,
        "time": written,
        "region": REGION,
        "resources": [f"arn:aws:s3:::soak-source-{number % ROUTES}"],
        "detail": {
            "version": "0",
            "bucket": {"name": f"soak-source-{number % ROUTES}"},
            "object": {
                "key": f"lake/part-{number:08d}",
                "size": 1_000_000 + number % 7919,
                "etag": "9b2cf535f27731c974343645a3985328",
                "version-id": version,
                "sequencer": f"{number:016X}",
            },
            "request-id": "6Y1TQ2C8ZD0M4K7B",
            "requester": ACCOUNT,
            "source-ip-address": "192.0.2.7",
            "reason": "PutObject",
        },
    }
