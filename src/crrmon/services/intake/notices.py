"""What S3 says itself about the replication of a version, and what happens to it otherwise.

All of it is about a source version. While its write is still being dealt with, what is said waits until that is in
the ledger, or it would find nothing to join.
"""

from functools import partial

from msgspec.structs import replace

from crrmon.domain import catalogue, reasons
from crrmon.domain.events.facts import (
    Channel,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    TargetOffline,
    Threshold,
    ThresholdPassed,
    VersionDeleted,
    VersionReplicated,
)
from crrmon.domain.noting import Noted
from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion
from crrmon.domain.record_changes import with_failure
from crrmon.domain.records import Destination, Failure, Record
from crrmon.domain.routes import NotCovered
from crrmon.domain.trails import Parked
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.tracking.configurations import Answer, ConfigurationCache, Later, until_known
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.recorder import Recorder
from crrmon.services.tracking.tracker import Tracker


class Notices:
    """Makes durable what is told of versions that are followed, or should be."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        recorder: Recorder,
        configurations: ConfigurationCache,
        tracker: Tracker,
    ) -> None:
        self._recorder = recorder
        self._configurations = configurations
        self._tracker = tracker
        self._meters = runtime.meters

    async def failed(self, notice: ReplicationFailed, hold: Hold) -> None:
        """Join a failure to its version, which is then looked at at once; follow the version, if nobody does.

        A store may tell of an open failure with every try, and try with every look: only a new one may hasten one.
        """
        noted = await self._recorder.note(notice)
        if noted is Noted.UNKNOWN:
            async with self._tracker.alone(notice.version, hurry=True):
                noted = await self._recorder.note(notice)
                if noted is Noted.UNKNOWN:
                    noted = await self._followed(notice, hold)
        if noted is Noted.JOINED:
            self._count_reason(notice)

    async def offline(self, notice: TargetOffline) -> None:
        """Join to its version why a try to replicate it failed.

        The failure itself is told of by another notice. Nobody is followed for this one: the version may be one that was
        deleted for good, and nothing in the notice tells that.
        """
        version = notice.version
        if not version.identified:
            return  # a delete marker's
        failure = ReplicationFailed(
            version=version,
            destination=UNKNOWN_DESTINATION,
            reason=reasons.TARGET_OFFLINE,
            rule="",
            operation="",
            region=notice.region,
            noticed_at=notice.noticed_at,
        )
        noted = await self._recorder.note(failure)
        if noted is Noted.UNKNOWN:
            async with self._tracker.alone(version):
                noted = await self._recorder.note(failure)
        if noted is Noted.JOINED:
            self._count_reason(failure)

    async def replicated(self, news: VersionReplicated) -> None:
        """Join to its version that it is everywhere."""
        await self._recorder.note(news)

    async def passed(self, notice: ThresholdPassed) -> None:
        """Count a notice about S3's promise once, and note what it says."""
        version, kind = notice.version, notice.threshold
        named = notice.destination != UNKNOWN_DESTINATION and version.identified
        if named and kind is Threshold.REPLICATED_AFTER:
            # First: once the notice is known, it is not read again.
            replica = ObjectVersion(notice.destination, version.key, version.version_id)
            await self._recorder.note(
                ReplicaWritten(version=replica, region="", written_at=notice.noticed_at)
            )
        async with self._tracker.alone(version):
            noted = await self._recorder.note(notice)
        if noted is not Noted.KNOWN:
            self._meters.add(
                catalogue.THRESHOLD_NOTICES, version.bucket, notice.destination, kind.value
            )

    async def happened(self, news: VersionDeleted | ReplicationRestarted) -> None:
        """Look at a version again: it was deleted, or its replication restarted. That a version was restarted which
        nobody follows is kept, for the replica that comes of it.
        """
        deleted = isinstance(news, VersionDeleted)
        if deleted:
            self._tracker.deleted(news.version)
            if await self._recorder.note(news) is not Noted.UNKNOWN:
                return
        # What is held and was never looked at is hastened by its deletion; that it is pending is no news of it.
        async with self._tracker.alone(news.version, hurry=deleted):
            await self._recorder.note(news)

    def _count_reason(self, notice: ReplicationFailed) -> None:
        route = (notice.version.bucket, notice.destination)
        self._meters.add(catalogue.FAILURE_REASONS, *route, reasons.label(notice.reason))

    async def _followed(self, notice: ReplicationFailed, hold: Hold) -> Noted:
        """Follow a version that only its failure was told of; return whether that is new."""
        record = await self._record(notice, hold)
        parked = await self._recorder.park(record)
        return Noted.JOINED if parked is Parked.PARKED else Noted.SETTLED

    async def _record(self, notice: ReplicationFailed, hold: Hold) -> Record:
        """Return the record of a version that only its failure was told of."""
        told_at = notice.noticed_at if notice.written_at is None else notice.written_at
        record = self._tracker.record_of(notice, written_at=told_at, channel=Channel.NOTICE)
        destinations = await self._destinations(notice, record, hold)
        failure = Failure(noticed_at=notice.noticed_at, reason=notice.reason)
        return with_failure(
            replace(record, destinations=destinations), notice.destination, failure
        )

    async def _destinations(
        self, notice: ReplicationFailed, record: Record, hold: Hold
    ) -> tuple[Destination, ...]:
        """Return where the version should arrive; nowhere known, while that cannot be told in time."""
        ask = partial(self._configurations.destinations, record)
        answer: Answer = await until_known(ask, hold, hold.until())
        match answer:
            case tuple() as destinations:
                return destinations
            case NotCovered():
                # A rule did cover it when it was written, whatever there is now.
                return (Destination(notice.destination, rule=notice.rule),)
            case Later():
                # NB: not the notice's destination alone: the version would never be followed to the others.
                return ()
