"""S3's replication as it is seen from outside: PENDING for a while, then COMPLETED or FAILED."""

import asyncio
from collections.abc import Awaitable, Callable

from crrmon.adapters.aws import Aws
from crrmon.domain.objects import ObjectVersion
from crrmon.ports.clock import Clock
from crrmon.sandbox.truth import COMPLETED, FAILED, NOT_COVERED, Truth, Written
from crrmon.sandbox.world import World

REPLICA = "REPLICA"


class Replication:
    """
    Copies each covered version to its destination when its time has come.
    """

    def __init__(
        self,
        world: World,
        aws: Aws,
        truth: Truth,
        *,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            world: says where buckets are.
            aws: the emulator.
            truth: is told how replications end.
            clock: says when.
            tasks: where replications under way live.
            wait: lets so many seconds pass.
        """
        self._world = world
        self._aws = aws
        self._truth = truth
        self._clock = clock
        self._tasks = tasks
        self._wait = wait
        self._under_way: set[asyncio.Task[None]] = set()
        self._replicas: set[ObjectVersion] = set()

    def begin(self, written: Written, *, seconds: float, fails: bool) -> None:
        """
        Replicate a version that was just written.

        Args:
            written: the version.
            seconds: how long it takes.
            fails: whether it ends FAILED, without a replica.
        """
        self._truth.wrote(written)
        if written.destination is None:
            return
        done = self._fail(written, seconds) if fails else self._copy(written, seconds)
        task = self._tasks.create_task(done)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def status(self, version: ObjectVersion) -> str | None:
        """
        Return what S3 would say in x-amz-replication-status; None when it would not send the header.
        """
        if version in self._replicas:
            return REPLICA
        status = self._truth.status(version)
        return None if status == NOT_COVERED else status

    async def finished(self) -> None:
        """
        Wait until no replication is under way.
        """
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _fail(self, written: Written, seconds: float) -> None:
        await self._wait(seconds)
        self._truth.ended(written.version, FAILED, at=self._clock.now())

    async def _copy(self, written: Written, seconds: float) -> None:
        await self._wait(seconds)
        version, destination = written.version, written.destination or ""
        s3 = await self._aws.client("s3", self._world.region(destination))
        copied = await s3.copy_object(
            Bucket=destination,
            Key=version.key,
            CopySource={
                "Bucket": version.bucket,
                "Key": version.key,
                "VersionId": version.version_id,
            },
        )
        # NB: AWS would keep the source's version id; the emulator makes a new one.
        self._replicas.add(ObjectVersion(destination, version.key, copied["VersionId"]))
        self._truth.ended(version, COMPLETED, at=self._clock.now())
