"""Writes objects as planned, and sets off what follows from each."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from crrmon.adapters.aws import AwsSession
from crrmon.domain.events.facts import Operation
from crrmon.domain.objects import ObjectVersion
from crrmon.ports.clock import Clock
from crrmon.sandbox.cloudtrail import stray_body
from crrmon.sandbox.courier import Courier
from crrmon.sandbox.plan import Marking, Planned, Stray
from crrmon.sandbox.replication import Replication
from crrmon.sandbox.rules import Rules
from crrmon.sandbox.telling import EventTeller
from crrmon.sandbox.truth import Written

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_s3 import S3Client


_OF_MARKERS = 1 << 32
"""Sets the ids of a marker's messages apart from those of the write beside it."""


NONSENSE_AFTER_SECONDS = 20.0
"""How long after the last write malformed messages arrive: later than what is true.

Anything may stand in them, so "complete up to" rightly stays before them, and what it never comes near it cannot pass.
"""


class Writer:
    """One application that puts, copies, uploads in parts and deletes."""

    def __init__(
        self,
        rules: Rules,
        aws: AwsSession,
        *,
        replication: Replication,
        teller: EventTeller,
        courier: Courier,
        clock: Clock,
    ) -> None:
        """Args:
        rules: say where buckets are and what replicates.
        aws: the emulator.
        replication: begins with each write.
        teller: tells of each write.
        courier: brings what concerns no write.
        clock: says when a write ended.
        """
        self._rules = rules
        self._aws = aws
        self._replication = replication
        self._teller = teller
        self._courier = courier
        self._clock = clock
        self._nonsense: list[str] = []

    @property
    def malformed(self) -> int:
        """How many malformed messages are sent."""
        return len(self._nonsense)

    async def write(
        self,
        planned: Iterable[Planned],
        *,
        rate: float,
        stop: asyncio.Event,
        nonsense_after: float = NONSENSE_AFTER_SECONDS,
    ) -> None:
        """Write one after the other until nothing is planned any more or `stop` is set.

        Args:
            planned: what to write.
            rate: objects per second; less when the machine is slower.
            stop: ends it early.
            nonsense_after: seconds after the end at which malformed messages arrive.
        """
        await self._write(planned, rate=rate, stop=stop)
        for body in self._nonsense:
            self._courier.send(body, after=nonsense_after)

    async def _write(
        self, planned: Iterable[Planned], *, rate: float, stop: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for one in planned:
            due = max(due + 1 / rate, loop.time())
            try:
                async with asyncio.timeout_at(due):
                    await stop.wait()
            except TimeoutError:
                await self._write_one(one)
            else:
                return

    async def _write_one(self, planned: Planned) -> None:
        region = self._rules.world.region(planned.bucket)
        s3 = await self._aws.client("s3", region)
        marking = self._rules.left_of(planned).marking
        if marking is not None:
            await self._mark(s3, planned, marking, region)
        version_id = await _store(s3, planned)
        # Rules may be switched off at any moment; those of the moment of the write count.
        planned = self._rules.left_of(planned)
        destinations = self._rules.destinations(planned.bucket, planned.key)
        once = self._rules.world.destinations(planned.bucket, planned.key)
        written = Written(
            version=ObjectVersion(planned.bucket, planned.key, version_id),
            region=region,
            written_at=self._clock.now(),
            size=planned.size,
            operation=planned.operation,
            copy_of=planned.copy_of,
            destinations=destinations,
            lost=tuple(one for one in once if one not in destinations),
        )
        self._replication.begin(written, planned)
        self._teller.written(written, planned.deliveries, chance=planned.chance)
        for number, stray in enumerate(planned.strays, start=1):
            body = stray_body(stray, written, chance=planned.chance + number)
            if stray is Stray.MALFORMED:
                self._nonsense.append(body)
            else:
                self._courier.send(body, after=planned.deliveries[0][0])

    async def _mark(self, s3: "S3Client", planned: Planned, marking: Marking, region: str) -> None:
        """Lay a delete marker."""
        laid = await s3.delete_object(Bucket=planned.bucket, Key=marking.key)
        marker = Written(
            version=ObjectVersion(planned.bucket, marking.key, laid["VersionId"]),
            region=region,
            written_at=self._clock.now(),
            size=0,
            operation=planned.operation,
        )
        chance = planned.chance ^ _OF_MARKERS
        self._replication.begin_marker(marker, marking, chance=chance)
        self._teller.marker(marker, marking.deliveries, chance=chance)


async def _store(s3: "S3Client", planned: Planned) -> str:
    """Create the version and return its id."""
    bucket, key = planned.bucket, planned.key
    if planned.copy_of is not None:
        copied = await s3.copy_object(
            Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": planned.copy_of}
        )
        return copied["VersionId"]
    if planned.operation is Operation.MULTIPART:
        return await _upload_in_parts(s3, planned)
    put = await s3.put_object(Bucket=bucket, Key=key, Body=bytes(planned.size))
    return put["VersionId"]


async def _upload_in_parts(s3: "S3Client", planned: Planned) -> str:
    bucket, key = planned.bucket, planned.key
    upload = (await s3.create_multipart_upload(Bucket=bucket, Key=key))["UploadId"]
    half = planned.size // 2
    etags = [
        (
            await s3.upload_part(
                Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=bytes(size)
            )
        )["ETag"]
        for number, size in enumerate((half, planned.size - half), start=1)
    ]
    completed = await s3.complete_multipart_upload(
        Bucket=bucket,
        Key=key,
        UploadId=upload,
        MultipartUpload={
            "Parts": [
                {"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)
            ]
        },
    )
    return completed["VersionId"]
