"""S3's replication as it is seen from outside: PENDING for a while, then COMPLETED or FAILED; some failures repaired."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from crrmon.adapters.aws import AwsSession
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.ports.clock import Clock
from crrmon.sandbox.plan import Deletion, Marking, Passage, Planned
from crrmon.sandbox.replicas import DaemonReplicas
from crrmon.sandbox.rules import Rules
from crrmon.sandbox.telling import EventTeller
from crrmon.sandbox.truth import FAILED, GONE, NOT_COVERED, Truth, Written

REPLICA = "REPLICA"
NOTICED_SECONDS = 4.0
"""How long after S3's notice of a failure arrived somebody begins to repair it, at the earliest."""


class _Failure(msgspec.Struct, frozen=True):
    """A version that waits for its repair."""

    written: Written
    planned: Planned
    ready_at: float
    """By the event loop's clock."""


class Replication:
    """Copies each covered version to its destinations when its time has come."""

    def __init__(
        self,
        rules: Rules,
        aws: AwsSession,
        truth: Truth,
        *,
        teller: EventTeller,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Args:
        rules: say where buckets are, and where nothing can be repaired any more.
        aws: the emulator.
        truth: is told how replications end.
        teller: tells the daemons what S3 would.
        clock: says when.
        tasks: where replications under way live.
        wait: lets so many seconds pass.
        """
        self._rules = rules
        self._aws = aws
        self._truth = truth
        self._teller = teller
        self._clock = clock
        self._tasks = tasks
        self._wait = wait
        self._under_way: set[asyncio.Task[None]] = set()
        self._to_repair: list[_Failure] = []
        self.replicas = DaemonReplicas()

    def begin(self, written: Written, planned: Planned) -> None:
        """Replicate a version that was just written, or delete it before.

        Args:
            written: the version.
            planned: what follows.
        """
        self._truth.wrote(written)
        if planned.deletion is not None:
            self._start(self._delete(written, planned.deletion, planned.chance))
        for passage in planned.passages:
            self._start(self._pass(written, passage, planned))

    def begin_marker(self, marker: Written, marking: Marking, *, chance: int) -> None:
        """Replicate a delete marker that was just created."""
        self._truth.marked(marker.version, [one.destination for one in marking.passages])
        for passage in marking.passages:
            self._start(self._mark(marker, passage, chance))

    def to_repair(self) -> set[str]:
        """Return the source buckets in which failures wait for their repair."""
        buckets = {one.written.version.bucket for one in self._to_repair}
        return {bucket for bucket in buckets if not self._rules.touched(bucket)}

    def repair(self, bucket: str) -> None:
        """Put those failures of a source bucket back to pending that somebody repairs and had the time to notice."""
        now = asyncio.get_running_loop().time()
        ready = [
            one
            for one in self._to_repair
            if one.ready_at <= now and one.written.version.bucket == bucket
        ]
        self._to_repair = [one for one in self._to_repair if one not in ready]
        for failure in ready:
            written, planned = failure.written, failure.planned
            again = self._truth.restarted(written.version)
            self._teller.restarted(
                written, planned.restart, at=self._clock.now(), chance=planned.chance
            )
            for passage in planned.passages:
                if passage.destination in again:
                    self._start(
                        self._copy_later(written, passage, passage.repair_seconds, planned.chance)
                    )

    def status(self, version: ObjectVersion) -> str | None:
        """Return what S3 would say in x-amz-replication-status; None when it would not send the header."""
        if version in self.replicas:
            return REPLICA
        status = self._truth.status(version)
        return None if status in (NOT_COVERED, GONE) else status

    def is_source(self, version: ObjectVersion) -> bool:
        """Return whether an application wrote a version: everything else is looked for at a destination."""
        return self._truth.status(version) is not None

    async def finished(self) -> None:
        """Wait until no replication is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _delete(self, written: Written, deletion: Deletion, chance: int) -> None:
        await self._wait(deletion.seconds)
        version = written.version
        s3 = await self._aws.client("s3", written.region)
        await s3.delete_object(
            Bucket=version.bucket, Key=version.key, VersionId=version.version_id
        )
        self._truth.deleted(version)
        self._teller.deleted(written, deletion.deliveries, at=self._clock.now(), chance=chance)

    async def _pass(self, written: Written, passage: Passage, planned: Planned) -> None:
        if passage.reason:
            await self._wait(passage.seconds)
            self._truth.failed(written.version, passage.destination, reason=passage.reason)
            self._teller.failed(written, passage, at=self._clock.now(), chance=planned.chance)
        else:
            await self._copy_later(written, passage, passage.seconds, planned.chance)
        if planned.repaired and self._truth.status(written.version) == FAILED:
            noticed = max(one.notice[0] for one in planned.passages if one.notice)
            ready_at = asyncio.get_running_loop().time() + noticed + NOTICED_SECONDS
            self._to_repair.append(_Failure(written, planned, ready_at))

    async def _copy_later(
        self, written: Written, passage: Passage, seconds: float, chance: int
    ) -> None:
        await self._wait(seconds)
        version, bucket = written.version, passage.destination
        region = self._rules.world.region(bucket)
        s3 = await self._aws.client("s3", region)
        copied = await s3.copy_object(
            Bucket=bucket,
            Key=version.key,
            CopySource={
                "Bucket": version.bucket,
                "Key": version.key,
                "VersionId": version.version_id,
            },
        )
        replica = msgspec.structs.replace(
            written,
            version=msgspec.structs.replace(version, bucket=bucket),
            region=region,
            written_at=self._clock.now(),
            destinations=(),
        )
        self.replicas.add(replica.version, stored=copied["VersionId"])
        self._truth.arrived(version, bucket, at=replica.written_at)
        self._teller.written(replica, passage.deliveries, chance=chance, by_replication=True)

    async def _mark(self, marker: Written, passage: Passage, chance: int) -> None:
        await self._wait(passage.seconds)
        version, bucket = marker.version, passage.destination
        region = self._rules.world.region(bucket)
        s3 = await self._aws.client("s3", region)
        await s3.delete_object(Bucket=bucket, Key=version.key)
        replica = msgspec.structs.replace(
            marker,
            version=msgspec.structs.replace(version, bucket=bucket),
            region=region,
            written_at=self._clock.now(),
        )
        self._truth.marker_arrived(Route(version.bucket, bucket))
        self._teller.marker(replica, passage.deliveries, chance=chance, by_replication=True)
