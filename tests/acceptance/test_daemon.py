"""The daemon as its users run it: a process, its signals, its port, its logs, and AWS emulated over HTTP."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import aiohttp
import boto3
import msgspec
import pytest
import yaml
from aiohttp import web
from moto.cloudwatch.models import cloudwatch_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from crrmon.ports.clock import SystemClock
from fakes.events import written
from fakes.ledgers import SqliteLedger
from fakes.patience import HANGS_SECONDS, until

pytestmark = pytest.mark.acceptance

REGION = "eu-west-1"
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLESECRET"  # noqa: S105 - to be found where it must not be
HOST = "127.0.0.1"
LONGEST_POLL = 0.5
"""Seconds after which a queue that is asked for 20 says that it is empty."""

_CLOCK = SystemClock()
_NUMBERS = itertools.count(1)


# ---- AWS ----


class Front:
    """
    Stands between the daemon and moto: remembers what was asked, and can hang.

    Long polls are made of short ones, and end sooner. Moto would go on polling for a client that is gone, and take
    messages for it.
    """

    def __init__(self, behind: str, *, port: int = 0) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        """Action and parameters; for S3 the method and path."""
        self.hanging: set[str] = set()
        """Actions that never get an answer."""
        self.slow: dict[str, float] = {}
        """For how long the answers to actions are held back that were done."""
        self.most_at_once: Counter[str] = Counter()
        self.empty = 0
        """Receives that brought nothing."""
        self.first_empty_at = float("inf")
        self.last_taken_at = 0.0
        self.url = f"http://{HOST}:{port}"
        self._behind = behind
        self._under_way: Counter[str] = Counter()
        self._over = asyncio.Event()
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None, handler_cancellation=True)
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._runner.cleanup()
        await self._stack.aclose()

    async def start(self) -> None:
        """Listen from now on."""
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, int(self.url.rpartition(":")[2])).start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"

    def count(self, action: str) -> int:
        """Tell how often something was asked."""
        return sum(asked == action for asked, _ in self.asked)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        target = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        action = target or f"{request.method} {request.rel_url.raw_path}"
        parameters = json.loads(body) if target and body[:1] == b"{" else {}
        self.asked.append((action, parameters))
        if action in self.hanging or request.method in self.hanging:
            await self._over.wait()
        self._under_way[action] += 1
        self.most_at_once |= self._under_way
        try:
            if action == "ReceiveMessage":
                return await self._poll(request, parameters)
            if request.method == "HEAD":
                return self._head(request)
            answer = await self._pass_on(request, body)
            await asyncio.sleep(self.slow.get(action.rpartition("/")[2], 0.0))
            return answer
        finally:
            self._under_way[action] -= 1

    @staticmethod
    def _head(request: web.BaseRequest) -> web.Response:
        """Answer for moto, whose routes know no keys with line breaks."""
        _, bucket, key = unquote(request.raw_path.partition("?")[0]).split("/", 2)
        found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(
            bucket, key, version_id=request.query.get("versionId")
        )
        if found is None:
            return web.Response(status=404, headers={"x-amz-request-id": "TX0123456789ABCD"})
        headers = {
            "x-amz-request-id": "TX0123456789ABCD",
            "x-amz-version-id": found.version_id,
            "Last-Modified": found.last_modified_RFC1123,
            "ETag": found.etag,
            "Content-Length": str(found.size),
        }
        if (status := found.metadata.get("x-amz-replication-status")) is not None:
            headers["x-amz-replication-status"] = status
        return web.Response(headers=headers)

    async def _poll(self, request: web.BaseRequest, asked: Mapping[str, Any]) -> web.Response:
        body = json.dumps({**asked, "WaitTimeSeconds": 0}).encode()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(asked["WaitTimeSeconds"], LONGEST_POLL)
        while True:
            answer = await self._pass_on(request, body)
            if answer.status != 200:
                return answer
            if b'"Messages"' in bytes(answer.body or b""):
                self.last_taken_at = loop.time()
                return answer
            if loop.time() >= deadline:
                self.empty += 1
                self.first_empty_at = min(self.first_empty_at, loop.time())
                return answer
            await asyncio.sleep(0.1)

    async def _pass_on(self, request: web.BaseRequest, body: bytes) -> web.Response:
        dropped = {"content-length", "content-encoding", "transfer-encoding", "connection", "date"}
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped - {"date"}}
        url = URL(self._behind + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            content = await answer.read()
            told = {k: v for k, v in answer.headers.items() if k.lower() not in dropped}
            if "X-Amz-Target" not in request.headers:
                told.setdefault("x-amz-request-id", "TX0123456789ABCD")
            return web.Response(status=answer.status, headers=told, body=content)


class World:
    """One queue with a dead-letter queue, one bucket that replicates to another, of this test alone."""

    def __init__(self, moto_url: str, front: Front) -> None:
        number = next(_NUMBERS)
        self.front = front
        self.source, self.destination = f"source-{number}", f"destination-{number}"
        self.namespace = f"Test{number}"
        how: Any = {
            "endpoint_url": moto_url,
            "region_name": REGION,
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
        }
        self._s3 = boto3.client("s3", **how)
        self._sqs = boto3.client("sqs", **how)
        self._dead = self._make_queue(f"dead-{number}")
        self.queue = self._make_queue(f"queue-{number}")
        for bucket in (self.source, self.destination):
            self._make_bucket(bucket)
        self.replicate(self.source)

    def close(self) -> None:
        self._s3.close()
        self._sqs.close()

    @property
    def queue_url(self) -> str:
        """The queue as the daemon sees it."""
        return f"{self.front.url}/{DEFAULT_ACCOUNT_ID}/{self.queue}"

    def _make_queue(self, name: str) -> str:
        self._sqs.create_queue(QueueName=name)
        return name

    def _url(self, name: str) -> str:
        return self._sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def _make_bucket(self, name: str) -> None:
        self._s3.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        self._s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def replicate(self, bucket: str) -> None:
        """Have everything in a bucket replicated; make the bucket if it is not there."""
        if bucket not in s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets:
            self._make_bucket(bucket)
        rule = {
            "ID": "all",
            "Status": "Enabled",
            "Priority": 1,
            "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Disabled"},
            "Destination": {"Bucket": f"arn:aws:s3:::{self.destination}"},
        }
        role = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/crr"
        self._s3.put_bucket_replication(
            Bucket=bucket, ReplicationConfiguration={"Role": role, "Rules": [rule]}
        )

    def write(
        self, key: str, status: str | None, *, bucket: str | None = None, event: bool = True
    ) -> str:
        """Write an object of ten bytes, plant its replication status, and send its event; return its version."""
        bucket = bucket or self.source
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        version = backend.put_object(bucket, key, b"x" * 10).version_id
        self.plant(key, version, status, bucket=bucket)
        if event:
            self.send(written(key, at=_CLOCK.now(), bucket=bucket, version=version, size=10))
        return version

    def plant(
        self, key: str, version: str, status: str | None, *, bucket: str | None = None
    ) -> None:
        """Set what HEAD says."""
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        metadata = backend.get_object(bucket or self.source, key, version_id=version).metadata
        if status is not None:
            metadata["x-amz-replication-status"] = status

    def add_queue(self, region: str) -> None:
        """Make a queue of the same name in another region."""
        sqs_backends[DEFAULT_ACCOUNT_ID][region].create_queue(self.queue)

    def send(self, body: str, *, region: str = REGION) -> str:
        """Send a message; return its id."""
        backend = sqs_backends[DEFAULT_ACCOUNT_ID][region]
        return str(backend.send_message(self.queue, body).id)

    def _stored(self, name: str) -> list[Any]:
        return list(sqs_backends[DEFAULT_ACCOUNT_ID][REGION].queues[name]._messages)

    @property
    def waiting(self) -> int:
        """Messages that nobody deleted."""
        return len(self._stored(self.queue))

    @property
    def visible(self) -> int:
        """Messages that could be received at this moment."""
        return sum(one.visible for one in self._stored(self.queue))

    @property
    def dead(self) -> list[str]:
        """Ids in the dead-letter queue."""
        return [one.id for one in self._stored(self._dead)]

    def bury_after(self, receives: int) -> None:
        """Set how often a message is received before it goes to the dead-letter queue."""
        arn = self._sqs.get_queue_attributes(
            QueueUrl=self._url(self._dead), AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})
        self._sqs.set_queue_attributes(
            QueueUrl=self._url(self.queue), Attributes={"RedrivePolicy": policy}
        )

    def show_again(self) -> None:
        """End the visibility time-out of everything that was received."""
        for one in self._stored(self.queue):
            if not one.visible:
                self._sqs.change_message_visibility(
                    QueueUrl=self._url(self.queue),
                    ReceiptHandle=one.receipt_handle,
                    VisibilityTimeout=0,
                )

    def datums(self, metric: str) -> list[tuple[float, float]]:
        """Tell (time, value) of every datapoint that CloudWatch has of a metric."""
        backend = cloudwatch_backends[DEFAULT_ACCOUNT_ID][REGION]
        return [
            (one.timestamp.timestamp(), one.value)
            for one in list(backend.metric_data)
            if one.namespace == self.namespace and one.name == metric
        ]

    @property
    def units(self) -> set[str]:
        """Units of all datapoints."""
        backend = cloudwatch_backends[DEFAULT_ACCOUNT_ID][REGION]
        return {one.unit for one in list(backend.metric_data) if one.namespace == self.namespace}

    def told(self, metric: str) -> float:
        """Sum up what CloudWatch was told."""
        return sum(value for _, value in self.datums(metric))


# ---- the process ----


def value_of(page: str, name: str, **labels: str) -> float:
    """Find a metric on a page; 0 when there is none."""
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return sample.value
    return 0.0


class Daemon:
    """A `crrmon run` process, its log and its port."""

    def __init__(self, process: Process, out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err
        self.url = ""

    @property
    def output(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        return self._err.read_text(encoding="utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log so far; every whole line of it is JSON."""
        return [json.loads(line) for line in self._out.read_bytes().split(b"\n")[:-1]]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]

    def started(self) -> bool:
        """Tell whether its port answers, and remember where."""
        for line in self.events("started"):
            self.url = line["http"]
        return bool(self.url)

    async def get(self, path: str, accept: str = "") -> tuple[int, str]:
        """Ask its port."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url + path, headers={"Accept": accept}) as answer,
        ):
            return answer.status, await answer.text()

    async def metric(self, name: str, **labels: str) -> float:
        """Read a metric; 0 when there is none."""
        _, page = await self.get("/metrics")
        return value_of(page, name, **labels)

    async def until_metric(self, value: float, name: str, **labels: str) -> None:
        """Wait until a metric has a value."""
        found = None
        try:
            async with asyncio.timeout(HANGS_SECONDS):
                while (found := await self.metric(name, **labels)) != value:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"{name}{labels} is {found}, not {value}")

    async def ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        async with asyncio.timeout(HANGS_SECONDS):
            return await self.process.wait()


def settings(world: World, folder: Path, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Make settings for a daemon on a world, its files in a folder; sections are merged into them."""
    made: dict[str, Any] = {
        "queues": [{"url": world.queue_url, "region": REGION}],
        "aws": {"region": REGION, "endpoint_url": world.front.url, "client": "fast"},
        "intake": {"receivers": 2},
        "ledger": {"path": str(folder / "ledger.db"), "shards": 4},
        "report": {"namespace": world.namespace, "window_seconds": 1},
        "http": {"port": 0},
        "log": {"format": "json"},
        "shutdown_seconds": 8,
    }
    for name, section in sections.items():
        made[name] = {**made.get(name, {}), **section} if isinstance(section, dict) else section
    return made


async def spawn(
    folder: Path, made: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Daemon:
    """Start `crrmon run`."""
    number = next(_NUMBERS)
    config, out, err = (folder / f"{number}.{end}" for end in ("yaml", "out", "err"))
    config.write_text(yaml.safe_dump(dict(made)))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "crrmon", "run", "--config", str(config)),
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": SECRET,
                **(environment or {}),
            },
            cwd=folder,
            stdout=stdout,
            stderr=stderr,
        )
    return Daemon(process, out, err)


@asynccontextmanager
async def running(
    folder: Path, made: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> AsyncIterator[Daemon]:
    """Start the daemon and wait until its port answers; whatever happens, it does not outlive the block."""
    daemon = await spawn(folder, made, environment)
    try:
        await until(
            lambda: daemon.url or daemon.started() or daemon.process.returncode is not None
        )
        assert daemon.process.returncode is None, daemon.output + daemon.errors
        yield daemon
    finally:
        if daemon.process.returncode is None:
            daemon.process.kill()
            await daemon.process.wait()
        print(daemon.output, daemon.errors)  # noqa: T201 - shown when the test fails


@asynccontextmanager
async def new_world(moto_url: str, *, port: int = 0) -> AsyncIterator[World]:
    """Make AWS for one test."""
    async with Front(moto_url, port=port) as front:
        world = World(moto_url, front)
        try:
            yield world
        finally:
            world.close()


@pytest.fixture
async def world(moto_url: str) -> AsyncIterator[World]:
    """Make AWS for one test."""
    async with new_world(moto_url) as made:
        yield made


@asynccontextmanager
async def ledger_of(folder: Path) -> AsyncIterator[SqliteLedger]:
    """Open the ledger of a daemon that has ended."""
    ledger = await SqliteLedger.at(folder / "ledger.db")
    try:
        yield ledger
    finally:
        await ledger.close()


# ---- one life, looked at from all sides ----

CANARY = "c4nary-key"
"""In the keys of objects, so that it can be found where it must not be."""

HOSTILE_KEYS = [
    "a\nb\r\nc",
    "\x1b[31mred\x1b]0;title\x07",
    "\x00\x01\x1f\x7f\x9b",
    "emoji 😀 é \u202e\u2028\u2029",
    "a%2Fb%252Fc%",
    "a+b c&d=e?f#g",
    "/",
    "../../etc/passwd",
    '"}{\\\\"',
    "k" * 1024,
]
"""Keys that S3 takes; objects with these exist."""


def padded(key: str, world: World, version: str) -> str:
    """Make an event of almost a megabyte, most of which concerns nobody."""
    more = {"additionalEventData": {"bytesTransferredIn": 10, "x": ["y" * 1000] * 1000}}
    return written(key, at=_CLOCK.now(), bucket=world.source, version=version, **more)


def malformed(world: World) -> list[str]:
    """Make bodies that tell nothing that could be understood."""
    good = written("KEY", at=_CLOCK.now(), bucket=world.source)
    return [
        "no JSON at all",
        "[" * 500_000,
        '{"a":' * 150_000,
        good.replace('"detail":{', '"detail":{"deep":' + "[" * 100_000 + "]" * 100_000 + ","),
        good.replace("KEY", "\\ud800 alone"),
        good.replace("KEY", "\\udc00\\ud800"),
        good.replace('"key":"KEY"', '"key":7'),
        good[: len(good) // 2],
        "x" * (2**20 - 10),
    ]


class Life(msgspec.Struct, kw_only=True):
    """What was to be seen of a daemon from its start to its end."""

    world: Any
    exit_code: int
    output: str
    errors: str
    lines: list[dict[str, Any]]
    page: str
    openmetrics: str
    ready: tuple[int, str]
    live: tuple[int, str]
    bad: list[str]
    """Ids of malformed messages."""
    completed: dict[str, str]
    """Versions by key."""
    failed: tuple[str, str]
    open_failures: list[tuple[str, str]]
    found: Any
    """What the ledger has of one completed version."""


async def _live(moto_url: str, folder: Path) -> Life:
    async with new_world(moto_url) as world:
        world.bury_after(2)
        made = settings(world, folder, log={"level": "debug"}, buckets=[world.source])
        async with running(folder, made) as daemon:
            await until(lambda: len(world.datums("FailedReplications")) >= 2)
            completed = {key: world.write(key, "COMPLETED") for key in HOSTILE_KEYS}
            failed = world.write(f"{CANARY}-failed", "FAILED")
            key = f"{CANARY}-pending"
            completed[key] = world.write(key, "PENDING")
            large = f"{CANARY}-large"
            completed[large] = world.write(large, "COMPLETED", event=False)
            world.send(padded(large, world, completed[large]))
            bad = [world.send(body) for body in malformed(world)]
            world.send(written("k" * 100_000, at=_CLOCK.now(), bucket=world.source))
            await until(lambda: world.waiting == len(bad))
            await until(lambda: bool(daemon.events("message_malformed")))
            world.plant(key, completed[key], "COMPLETED")
            route = {"source_bucket": world.source, "destination_bucket": world.destination}
            await daemon.until_metric(
                len(completed), "crrmon_replications_total", **route, status="completed"
            )
            kinds = {"queue": world.queue, "kind": "malformed"}
            for receives in (1, 2):
                await daemon.until_metric(receives * len(bad), "crrmon_messages_total", **kinds)
                world.show_again()
            await until(lambda: len(world.dead) == len(bad))
            await until(lambda: world.told("ReplicationObjects") == len(completed))
            (_, page), (_, openmetrics) = [
                await daemon.get("/metrics", accept=accept)
                for accept in ("", "application/openmetrics-text; version=1.0.0")
            ]
            ready, live = await daemon.get("/readyz"), await daemon.get("/livez")
            daemon.signal(signal.SIGINT)
            exit_code = await daemon.ended()
        async with ledger_of(folder) as ledger:
            records, _ = await ledger.failures()
            found = await ledger.find(key, completed[key])
        return Life(
            world=world,
            exit_code=exit_code,
            output=daemon.output,
            errors=daemon.errors,
            lines=daemon.lines,
            page=page,
            openmetrics=openmetrics,
            ready=ready,
            live=live,
            bad=bad,
            completed=completed,
            failed=(f"{CANARY}-failed", failed),
            open_failures=[(one.version.key, one.version.version_id) for one in records],
            found=found,
        )


@pytest.fixture(scope="module")
def life(moto_url: str, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Let a daemon live: good, bad and ugly messages, then Ctrl-C."""
    return asyncio.run(_live(moto_url, tmp_path_factory.mktemp("life")))


def test_what_happened_is_counted_everywhere(life: Life) -> None:
    """Completed at once, completed later, failed: /metrics and CloudWatch say the same, every message is deleted."""
    route = {
        "source_bucket": life.world.source,
        "destination_bucket": life.world.destination,
    }
    total = "crrmon_replications_total"
    assert value_of(life.page, total, **route, status="completed") == len(life.completed)
    assert value_of(life.page, total, **route, status="failed") == 1
    assert life.world.told("ReplicationObjects") == len(life.completed)
    assert life.world.told("FailedReplications") == 1
    assert life.world.told("ReplicatedBytes") == 10 * len(life.completed)
    assert life.world.waiting == 0


def test_d38_d39_every_window_has_one_datapoint(life: Life) -> None:
    """D38, D39: a datapoint for every window from the start on, idle or not, each with its unit, none twice."""
    for metric in ("FailedReplications", "ReplicationObjects", "ReplicatedBytes"):
        stamps = [at for at, _ in life.world.datums(metric)]
        assert len(stamps) == len(set(stamps))
        assert {b - a for a, b in itertools.pairwise(sorted(stamps))} == {1.0}
    assert life.world.datums("FailedReplications")[0][1] == 0
    assert life.world.datums("Heartbeat")
    assert life.world.datums("ReplicationLatency")
    assert life.world.units == {"Count", "Bytes", "Bytes/Second", "Seconds"}


def test_the_failure_stays_open_in_the_ledger(life: Life) -> None:
    """A failure is kept, with its version, for whoever is to repair it."""
    assert life.open_failures == [life.failed]


def test_d14_an_object_can_be_looked_up(life: Life) -> None:
    """D14: by key and version id the ledger says what became of an object, without any search."""
    assert life.found.records == {}
    (mark,) = life.found.marks.values()
    assert (mark.fate.value, mark.looks) == ("completed", 2)


def test_d43_receiving_never_ends(life: Life) -> None:
    """D43: long polls of 20 s for ten messages, by several receivers, and on after every empty answer."""
    polls = [asked for action, asked in life.world.front.asked if action == "ReceiveMessage"]
    assert {(one["WaitTimeSeconds"], one["MaxNumberOfMessages"]) for one in polls} == {(20, 10)}
    assert all(one["VisibilityTimeout"] > 20 for one in polls)
    assert life.world.front.most_at_once["ReceiveMessage"] == 2
    assert life.world.front.empty >= 4
    assert life.world.front.last_taken_at > life.world.front.first_empty_at


def test_d44_what_is_in_flight_is_known(life: Life) -> None:
    """D44: the messages held are counted; the malformed ones are left to the queue, not held."""
    assert "# TYPE crrmon_messages_in_flight gauge" in life.page
    assert f'crrmon_messages_in_flight{{queue="{life.world.queue}"}} 0.0' in life.page


def test_invariant_10_malformed_messages_are_buried(life: Life) -> None:
    """Invariant 10: each is told of once although it came twice, and ends in the dead-letter queue."""
    told = [one for one in life.lines if one["event"] == "message_malformed"]
    assert sum(one["times"] for one in told) == len(life.bad)
    assert {name for one in told for name in one["examples"]} <= set(life.bad)
    assert sorted(life.world.dead) == sorted(life.bad)


def test_d42_nothing_broke(life: Life) -> None:
    """D42: no message, however hostile, made anything fail; the daemon was well to its end, which was in order."""
    assert life.ready[0] == 200
    assert life.live[0] == 200
    assert {one["level"] for one in life.lines if one["event"] != "message_malformed"} <= {
        "debug",
        "info",
        "warning",
    }
    assert not [one for one in life.lines if "exception" in one]
    assert life.errors == ""
    assert life.exit_code == 0
    events = [one["event"] for one in life.lines if one["event"] != "message_malformed"]
    assert events[-4:] == [
        "signal",
        "stopping",
        "drained",
        "stopped",
    ]


def test_invariant_8_log_lines_are_whole(life: Life) -> None:
    """Invariant 8: every line of the log is one JSON object of ASCII, no line is long, and hostile keys stand in it."""
    assert life.output.isascii()
    for line in life.output.removesuffix("\n").split("\n"):
        assert isinstance(json.loads(line), dict)
        assert line.isprintable()
        assert len(line) < 10_000
    settled = {one["key"] for one in life.lines if one["event"] == "object_settled"}
    assert settled >= set(HOSTILE_KEYS)


def test_invariant_8_no_key_in_the_metrics(life: Life) -> None:
    """Invariant 8: neither a key nor a version id is on the metrics page, in any format."""
    for page in (life.page, life.openmetrics):
        assert CANARY not in page
        assert "kkkk" not in page
        assert "\x1b" not in page
        for version in life.completed.values():
            assert version not in page
    assert life.openmetrics.endswith("# EOF\n")


def test_no_secret_is_told(life: Life) -> None:
    """The secret key of the credentials is nowhere: not in the log at its most talkative, not on any page."""
    for text in (life.output, life.errors, life.page, life.openmetrics, *map(str, life.ready)):
        assert SECRET not in text


# ---- signals ----


async def test_sigterm_gives_back_what_is_held(world: World, tmp_path: Path) -> None:
    """D44, invariant 1: what was not looked at yet is visible again at once, and the next daemon counts all of it."""
    # Nobody can read the configuration of a bucket that is not there: its objects are held until it is asked again.
    later = f"{world.source}-later"
    keys = [f"k{number}" for number in range(10)]
    for key in keys:
        world.send(written(key, at=_CLOCK.now(), bucket=later, version=f"version-of-{key}"))
    made = settings(world, tmp_path, intake={"receivers": 1, "hold_seconds": 300})
    async with running(tmp_path, made) as daemon:
        await daemon.until_metric(10, "crrmon_messages_in_flight", queue=world.queue)
        assert world.visible == 0
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert world.waiting == world.visible == 10
        assert daemon.events("drained")

    world.replicate(later)
    for key in keys:
        world.write(key, "COMPLETED", bucket=later)
    async with running(tmp_path, made) as daemon:
        await until(lambda: world.waiting == 0)
        route = {"source_bucket": later, "destination_bucket": world.destination}
        await daemon.until_metric(10, "crrmon_replications_total", **route, status="completed")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_ends_at_once(
    world: World, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """With a look under way that takes for ever, the first signal waits for the grace, the second for nothing."""
    world.front.hanging.add("HEAD")
    world.write("a", "COMPLETED")
    made = settings(world, tmp_path, shutdown_seconds=3600)
    async with running(tmp_path, made) as daemon:
        await until(lambda: any(action.startswith("HEAD") for action, _ in world.front.asked))
        daemon.signal(number)
        await until(lambda: daemon.events("stopping"))
        assert (await daemon.get("/readyz"))[0] == 503
        assert (await daemon.get("/livez"))[0] == 200
        daemon.signal(number)
        assert await daemon.ended() == code
        assert daemon.events("aborted")
    assert world.waiting == 1


async def test_the_grace_is_kept(world: World, tmp_path: Path) -> None:
    """D44: when looks hang, the daemon ends within its grace all the same, in order, and what it held is not lost."""
    world.front.hanging.add("HEAD")
    for number in range(5):
        world.write(f"k{number}", "COMPLETED")
    made = settings(world, tmp_path, shutdown_seconds=4)
    async with running(tmp_path, made) as daemon:
        await until(lambda: any(action.startswith("HEAD") for action, _ in world.front.asked))
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert daemon.events("shutdown_timeout")
        assert not [line for line in daemon.lines if line["level"] == "error"]
        assert daemon.errors == ""
    assert world.waiting == 5


async def test_invariant_5_kill_minus_9_counts_once(world: World, tmp_path: Path) -> None:
    """Invariant 5: killed between settling and acknowledging, with something pending, it goes on and counts once."""
    made = settings(world, tmp_path)
    route = {"source_bucket": world.source, "destination_bucket": world.destination}
    total = "crrmon_replications_total"
    world.front.hanging.add("DeleteMessageBatch")
    async with running(tmp_path, made) as daemon:
        for number in range(5):
            world.write(f"k{number}", "COMPLETED")
        pending = world.write("pending", "PENDING")
        await daemon.until_metric(5, total, **route, status="completed")
        await until(lambda: world.front.count("DeleteMessageBatch"))
        daemon.process.kill()
        assert await daemon.ended() == -signal.SIGKILL
    assert world.waiting == 6

    world.front.hanging.clear()
    world.show_again()
    world.plant("pending", pending, "COMPLETED")
    async with running(tmp_path, made) as daemon:
        await until(lambda: world.waiting == 0)
        await daemon.until_metric(1, total, **route, status="completed")
        await until(lambda: world.told("ReplicationObjects") >= 6)
        told = len(world.datums("Heartbeat"))
        await until(lambda: len(world.datums("Heartbeat")) >= told + 2)
        # The sixth is one as well if the poller was sooner at the parked object than its message.
        told = await daemon.metric("crrmon_objects_duplicate_total", source_bucket=world.source)
        assert told in (5, 6)
    assert world.told("ReplicationObjects") == 6


async def test_r3_a_call_to_cloudwatch_that_was_begun_ends_before_the_daemon_does(
    world: World, tmp_path: Path
) -> None:
    """R3: SIGTERM while PutMetricData is under way: its answer is waited for, and the next daemon tells nothing twice."""
    made = settings(world, tmp_path)
    async with running(tmp_path, made) as daemon:
        world.front.slow["PutMetricData"] = 1.0
        for number in range(5):
            world.write(f"k{number}", "COMPLETED")
        await until(lambda: world.told("ReplicationObjects") == 5)
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert daemon.events("drained")
    world.front.slow.clear()
    async with running(tmp_path, made):
        told = len(world.datums("Heartbeat"))
        await until(lambda: len(world.datums("Heartbeat")) >= told + 2)
    assert world.told("ReplicationObjects") == 5


# ---- the world is not ready ----


def free_port() -> int:
    """Find a port on which nobody listens."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


async def test_everything_unreachable_at_the_start(moto_url: str, tmp_path: Path) -> None:
    """It stays up, says what is away and goes on saying it without a flood; when all is there, it gets ready and counts."""
    front = Front(moto_url, port=free_port())
    world = World(moto_url, front)
    world.write("a", "COMPLETED")
    async with running(tmp_path, settings(world, tmp_path)) as daemon:
        started_at = asyncio.get_running_loop().time()
        # CloudWatch is not tried: nothing is published before somebody has told what time it is.
        away = {f"queue {world.queue}", "clock"}
        await until(
            lambda: {one["dependency"] for one in daemon.events("dependency_unavailable")} == away
        )
        status, body = await daemon.get("/readyz")
        assert status == 503
        details = json.loads(body)["details"]
        assert {name for name, text in details.items() if text.startswith("unavailable")} == away
        assert "aws.endpoint_url" in details[f"queue {world.queue}"]
        assert (await daemon.get("/livez"))[0] == 200
        await until(lambda: asyncio.get_running_loop().time() - started_at > 4)
        assert len(daemon.lines) < 10
        reasons = [one["reason"] for one in daemon.events("dependency_unavailable")]
        assert all("check the network" in one or "no AWS response" in one for one in reasons)

        async with front:
            await until(
                lambda: (
                    {one["dependency"] for one in daemon.events("dependency_recovered")} == away
                )
            )
            assert await daemon.ready()
            await until(lambda: world.told("ReplicationObjects") == 1)
            assert world.waiting == 0
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
    world.close()


async def test_two_queues_of_one_name(world: World, moto_url: str, tmp_path: Path) -> None:
    """The same name in two regions is two queues: both are read, and told apart in health and metrics."""
    world.add_queue("us-east-1")
    # Two addresses, for an emulator's do not name the region.
    urls = (world.queue_url, world.queue_url.replace(HOST, "localhost"))
    regions = (REGION, "us-east-1")
    queues = [{"url": url, "region": one} for url, one in zip(urls, regions, strict=True)]
    made = settings(world, tmp_path) | {"queues": queues}
    async with running(tmp_path, made) as daemon:
        world.send("{}", region="us-east-1")
        world.send("{}", region=REGION)
        names = [f"{world.queue}@{region}" for region in regions]
        for name in names:
            await daemon.until_metric(1, "crrmon_messages_total", queue=name, kind="malformed")
        details = json.loads((await daemon.get("/readyz"))[1])["details"]
        assert {f"queue {name}" for name in names} <= set(details)
        assert daemon.events("started")[0]["queues"] == names


# ---- what cannot be used ----


async def test_two_daemons_get_in_each_others_way_visibly(world: World, tmp_path: Path) -> None:
    """A second daemon on the same ledger file, or on the same port, ends with 2 and a clear line; the first lives on."""
    async with running(tmp_path, settings(world, tmp_path)) as first:
        port = int(first.url.rpartition(":")[2])
        same_ledger = settings(world, tmp_path)
        same_port = settings(world, tmp_path, ledger={"path": "other.db"}, http={"port": port})
        second, third = await asyncio.gather(
            spawn(tmp_path, same_ledger), spawn(tmp_path, same_port)
        )
        assert await second.ended() == 2
        assert await third.ended() == 2
        (line,) = second.errors.splitlines()
        assert line.startswith(
            f"crrmon: ledger.path {tmp_path / 'ledger.db'} is in use by another process: "
        )
        (line,) = third.errors.splitlines()
        assert line.startswith(f"crrmon: cannot listen on {HOST}:{port} (")
        assert line.endswith("; set http.host and http.port")
        assert second.lines == third.lines == []
        assert (await first.get("/livez"))[0] == 200


def kept_in(folder: Path) -> set[str]:
    """List what the tests did not make for the daemon."""
    return {one.name for one in folder.iterdir() if one.suffix not in {".yaml", ".out", ".err"}}


async def test_files_that_are_no_ledger_stay_as_they_are(world: World, tmp_path: Path) -> None:
    """A text, another program's database, a newer crrmon's ledger: exit 2, the reason, and not a byte changed."""
    (tmp_path / "text").write_text("my thesis")
    with contextlib.closing(sqlite3.connect(tmp_path / "foreign")) as foreign:
        foreign.execute("CREATE TABLE t (x)")
        foreign.commit()
    ledger = await SqliteLedger.at(tmp_path / "newer")
    await ledger.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "newer")) as newer:
        newer.execute("PRAGMA user_version = 999")
        newer.commit()
    names = ("text", "foreign", "newer")
    before = {name: (tmp_path / name).read_bytes() for name in names}

    daemons = await asyncio.gather(
        *(spawn(tmp_path, settings(world, tmp_path, ledger={"path": name})) for name in names)
    )

    for name, daemon in zip(names, daemons, strict=True):
        assert await daemon.ended() == 2
        (line,) = daemon.errors.splitlines()
        assert line.startswith(f"crrmon: ledger.path {name} ")
        assert (
            "newer crrmon (schema 999" if name == "newer" else "is not a crrmon ledger"
        ) in line
        assert daemon.output == ""
    assert before == {name: (tmp_path / name).read_bytes() for name in names}
    assert kept_in(tmp_path) == set(names), "nothing appears beside them"


async def test_settings_that_cannot_be_used(world: World, tmp_path: Path) -> None:
    """An unknown key ends the real process with 2 and a line on standard error, nothing on standard output."""
    daemon = await spawn(tmp_path, settings(world, tmp_path) | {"lodger": {}})
    assert await daemon.ended() == 2
    assert daemon.errors == "crrmon: lodger: unknown setting; did you mean ledger?\n"
    assert daemon.output == ""


# ---- for eyes ----


async def test_invariant_8_the_console_has_one_line_for_each_event(
    world: World, tmp_path: Path
) -> None:
    """Invariant 8: in the readable format, too, no key makes a line of its own or reaches the terminal unescaped."""
    made = settings(
        world, tmp_path, log={"level": "debug", "format": "console"}, http={"port": free_port()}
    )
    daemon = await spawn(tmp_path, made)
    try:
        for key in HOSTILE_KEYS:
            world.write(key, "COMPLETED")
        world.write("\x1b[2J\nforged", "FAILED")
        await until(lambda: world.waiting == 0)
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    finally:
        if daemon.process.returncode is None:
            daemon.process.kill()
            await daemon.process.wait()
    lines = daemon.output.removesuffix("\n").split("\n")
    for line in lines:
        assert line.isprintable()
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[(debug|info|warning) +\] [a-z_]+( |$)", line)
    assert sum(" object_settled " in line for line in lines) == len(HOSTILE_KEYS) + 1
    assert sum(" replication_failed " in line for line in lines) == 1


# ---- events that are posted ----

TOKEN = "s3cr3t-and-long-enough"  # noqa: S105 - to be found where it must not be


class Sender:
    """Posts events as a store does: one after the other, each again and again until it is accepted."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{HOST}:{port}/"
        self.queue: list[str] = []
        self.refused = 0
        """Answers that made it send again, and connections that nobody took or that broke."""
        self.heard = 0
        """How many answers more reach it; the others get lost on the way."""

    async def run(self) -> None:
        """Send, for ever."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                if self.queue and await self._accepted(session, self.queue[0]) and self.heard:
                    self.queue.pop(0)
                    self.heard -= 1
                else:
                    await asyncio.sleep(0.05)

    async def _accepted(self, session: aiohttp.ClientSession, body: str) -> bool:
        try:
            async with session.post(self._url, data=body) as answer:
                accepted = answer.status == 200
        except (aiohttp.ClientError, ConnectionError):
            accepted = False
        self.refused += not accepted
        return accepted


async def test_m8_a_sender_that_sends_again_loses_nothing_to_kill_minus_9(
    world: World, tmp_path: Path
) -> None:
    """
    M8, invariant 5: a daemon without any queue is killed again and again while a store posts its events.

    Each of them is counted once, those as well that were in the ledger when the answer got lost; and no log line and
    no error has the token.
    """
    port = free_port()
    hook = {"kind": "webhook", "port": port, "token": TOKEN}
    made = settings(world, tmp_path, queues=[], inboxes=[hook], buckets=[world.source])
    sender = Sender(port)
    sending = asyncio.create_task(sender.run())
    try:
        for _ in range(3):
            for _ in range(10):
                number = next(_NUMBERS)
                version = world.write(f"a{number}", "COMPLETED", event=False)
                body = written(
                    f"a{number}", at=_CLOCK.now(), bucket=world.source, version=version, size=10
                )
                sender.queue += [body, body]
            sender.heard = 9
            async with running(tmp_path, made) as daemon:
                await until(lambda: not sender.heard)
                daemon.signal(signal.SIGKILL)
                await daemon.ended()
                assert TOKEN not in daemon.output + daemon.errors
        sender.heard = len(sender.queue) + 1
        async with running(tmp_path, made) as daemon:
            await until(lambda: not sender.queue)
            await until(lambda: world.told("ReplicationObjects") >= 30)
            assert await daemon.metric(
                "crrmon_webhook_requests_total", queue="webhook", status="200"
            )
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
            sender.queue.append("{}")
            refused = sender.refused
            await until(lambda: sender.refused > refused)
    finally:
        sending.cancel()
    assert world.told("ReplicationObjects") == 30


async def test_m8_a_webhook_that_cannot_listen_is_told_at_the_start(
    world: World, tmp_path: Path
) -> None:
    """M8: exit code 2 and a line that names the setting and the file, with a ledger that can be opened again."""
    hook = {"kind": "webhook", "port": 0, "token_file": str(tmp_path / "absent")}
    daemon = await spawn(tmp_path, settings(world, tmp_path, queues=[], inboxes=[hook]))

    assert await daemon.ended() == 2
    assert "inboxes[0].token_file" in daemon.errors
    assert not daemon.events("started")
    assert "No such file" in daemon.errors
    assert "Traceback" not in daemon.errors
    async with ledger_of(tmp_path):
        pass
