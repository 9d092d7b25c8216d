"""What happens to each fact: whom it concerns, and who makes it durable. Shared by all queues.

The configuration's choice is about sources. A replica's event does not name its source, so it is left out only where
every source known to replicate to its bucket is left out for its key. With others beside those, replicas of what is
left out are kept as early facts that find no match.
"""

from collections.abc import Coroutine
from typing import Any

from crrmon.domain import catalogue
from crrmon.domain.choice import Choice
from crrmon.domain.events.facts import (
    Channel,
    DeletionTried,
    Fact,
    MarkerCreated,
    ObjectWritten,
    RarerFact,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    TargetOffline,
    ThresholdPassed,
    VersionDeleted,
    VersionReplicated,
)
from crrmon.domain.events.times import in_time
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.stores import BucketStores
from crrmon.services.intake.delete_markers import Markers
from crrmon.services.intake.notices import Notices
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.tracking.configurations import ConfigurationCache
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.origins import Origins, replica_of
from crrmon.services.tracking.recorder import Recorder
from crrmon.services.tracking.tracker import FirstLook, Tracker

_KINDS: dict[type[Fact], str] = {
    ObjectWritten: "object_written",
    ReplicaWritten: "replica_written",
    VersionDeleted: "version_deleted",
    MarkerCreated: "delete_marker_created",
    ReplicationFailed: "replication_failed",
    ThresholdPassed: "threshold_passed",
    ReplicationRestarted: "replication_restarted",
    VersionReplicated: "version_replicated",
    TargetOffline: "target_offline",
    DeletionTried: "deletion_tried",
}
_WRITTEN = _KINDS[ObjectWritten]
_EXCLUDED = "excluded"

_AtSource = (
    ReplicationFailed
    | ThresholdPassed
    | VersionDeleted
    | ReplicationRestarted
    | VersionReplicated
    | TargetOffline
    | DeletionTried
)
"""What is told of a source version that is followed, or should be."""


class Dispatcher:
    """Makes facts durable.

    Args:
        stores: told who sends events.
        choice: what is followed.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        recorder: Recorder,
        configurations: ConfigurationCache,
        looker: Looker,
        origins: Origins,
        tracker: Tracker,
        stores: BucketStores,
        choice: Choice,
    ) -> None:
        self._recorder = recorder
        self._configurations = configurations
        self._origins = origins
        self._stores = stores
        self._choice = choice
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._tracker = tracker
        self._notices = Notices(
            runtime, recorder=recorder, configurations=configurations, tracker=tracker
        )
        self._markers = Markers(
            runtime,
            recorder=recorder,
            configurations=configurations,
            looker=looker,
            tracker=tracker,
        )

    def take_in(self, fact: Fact, hold: Hold) -> Coroutine[Any, Any, FirstLook | None]:
        """Make one fact durable, or find that it concerns nobody.

        Returns:
            What is to be gone on with, by `look_first`, when its time has come; None where nothing is left to do.

        Raises:
            GivenBack: the daemon stops.
        """
        # Apart, for nearly all facts are writes, and each of them waits in there.
        return (
            self._written(fact, hold)
            if isinstance(fact, ObjectWritten)
            else self._other(fact, hold)
        )

    async def look_first(self, first: FirstLook, hold: Hold) -> None:
        """Make a write durable whose first look was waited for; as `take_in`."""
        await self._tracker.look_first(first, hold)

    def let_go(self, first: FirstLook) -> None:
        """Give up a write whose first look was waited for: whoever is told of it again begins anew."""
        self._tracker.let_go(first)

    async def _written(self, written: ObjectWritten, hold: Hold) -> FirstLook | None:
        version = written.version
        self._stores.heard(version.bucket, written.store)
        included = self._choice.includes(version.bucket, version.key)
        if not included and await self._nobodys(version):
            self._meters.add(catalogue.EVENTS, _EXCLUDED)
        elif written.channel is Channel.EVENTBRIDGE and await self._origins.only_replicas(written):
            await self._arrived(replica_of(written))
        elif included:
            self._meters.add(catalogue.EVENTS, _WRITTEN)
            self._meters.set(catalogue.LAST_EVENT, version.bucket, value=self._clock.now())
            return await self._tracker.follow(written, hold)
        else:
            hidden = await self._hidden(written)
            self._meters.add(catalogue.EVENTS, _KINDS[ReplicaWritten] if hidden else _EXCLUDED)
        return None

    async def _other(self, fact: RarerFact, hold: Hold) -> None:
        fact = in_time(fact, now=self._clock.now())
        if isinstance(fact, ReplicationFailed):
            self._stores.heard(fact.version.bucket, fact.store)
        match fact:
            case ReplicaWritten():
                await self._arrived(fact)
            case MarkerCreated(version=version):
                included = self._choice.includes(version.bucket, version.key)
                if not included and await self._nobodys(version):
                    self._meters.add(catalogue.EVENTS, _EXCLUDED)
                else:
                    await self._marker(fact, hold)
            case _ if self._follows(fact):
                await self._told(fact, hold)
            case _:
                pass  # left out

    async def _told(self, fact: _AtSource, hold: Hold) -> None:
        match fact:
            case ReplicationFailed(of_delete_marker=True):
                await self._markers.count_failed(fact)
            case ReplicationFailed():
                await self._notices.failed(fact, hold)
            case ThresholdPassed():
                await self._notices.passed(fact)
            case VersionDeleted() | ReplicationRestarted():
                await self._notices.happened(fact)
            case VersionReplicated():
                await self._notices.replicated(fact)
            case TargetOffline():
                await self._notices.offline(fact)
            case DeletionTried(done=True):
                await self._markers.count_replicated(fact)
            case DeletionTried():
                await self._markers.count_hindered(fact)

    async def _nobodys(self, version: ObjectVersion) -> bool:
        """Return whether nothing leads to the bucket of a version that is left out: nothing of it need be known."""
        await self._configurations.surveyed()
        return not self._configurations.sources(version.bucket)

    def _follows(self, fact: Fact, *, arrived: bool = False) -> bool:
        """Return whether a fact is to be followed, and count its kind."""
        version = fact.version
        if arrived:
            followed = self._arrival_matters(version)
        else:
            followed = self._choice.includes(version.bucket, version.key)
        self._meters.add(catalogue.EVENTS, _KINDS[type(fact)] if followed else _EXCLUDED)
        return followed

    def _arrival_matters(self, version: ObjectVersion) -> bool:
        sources = self._configurations.sources(version.bucket)
        return not sources or any(self._choice.includes(source, version.key) for source in sources)

    async def _arrived(self, replica: ReplicaWritten) -> None:
        if self._follows(replica, arrived=True):
            await self._recorder.note(replica)

    async def _hidden(self, written: ObjectWritten) -> bool:
        """Return whether a write to a bucket that is left out is the replica of something that is not; then note it."""
        version = written.version
        return self._arrival_matters(version) and await self._tracker.found_replica(written)

    async def _marker(self, marker: MarkerCreated, hold: Hold) -> None:
        arrived = await self._markers.arrived(marker)
        if arrived is None or not self._follows(marker, arrived=arrived):
            return
        if arrived:
            await self._markers.count_arrived(marker)
        else:
            await self._markers.count_created(marker, hold)
