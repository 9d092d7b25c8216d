"""Delete markers that rules replicate: counted when they are created, when they arrive and when they fail.

S3 tells no status of a delete marker, so none is ever looked at. Each is one settlement, and its marks in the ledger
see to it that it counts once.

Some stores (MinIO) replicate deletions for good as well, and say of neither which it was when they tell how it went.
Mostly the ledger knows the version. A failure of what it does not know is looked at once; an arrival is kept until the
marker itself is told of, for what was deleted long ago is not worth a look.
"""

from collections.abc import Iterable
from functools import partial

from crrmon.domain import catalogue
from crrmon.domain.events.facts import Channel, DeletionTried, MarkerCreated, ReplicationFailed
from crrmon.domain.objects import UNKNOWN_DESTINATION, MarkId, ObjectVersion, Route, Scope
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import EarlyFact, Fate, Mark, Settlement
from crrmon.domain.trails import Trail
from crrmon.domain.verdicts import for_deletion
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.tracking.configurations import ConfigurationCache, Later, until_known
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.recorder import Recorder
from crrmon.services.tracking.tracker import Tracker

AMBIGUOUS = "delete_marker_ambiguous"
"""An event does not say who created it, and its bucket is both source and destination."""
UNROUTED = "delete_marker_unrouted"
"""Nobody can tell whether it should arrive anywhere: its bucket's configuration cannot be read."""

UNIDENTIFIED = "deletion_unidentified"
"""A deletion failed, and nobody can tell what it deleted. Its store will try and tell again."""

_FAILED = frozenset({Fate.MARKER_FAILED, Fate.PURGE_FAILED})


class Markers:
    """Counts delete markers."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        recorder: Recorder,
        configurations: ConfigurationCache,
        looker: Looker,
        tracker: Tracker,
    ) -> None:
        self._recorder = recorder
        self._configurations = configurations
        self._looker = looker
        self._tracker = tracker
        self._clock = runtime.clock
        self._meters = runtime.meters

    async def arrived(self, marker: MarkerCreated) -> bool | None:
        """Return whether replication created a marker; None when nobody can tell."""
        if marker.by_replication or marker.channel is not Channel.EVENTBRIDGE:
            return marker.by_replication
        role = await self._configurations.role(
            marker.version.bucket, region=marker.region, owner=marker.owner
        )
        if role.source and role.destination:
            self._meters.add(catalogue.EVENTS, AMBIGUOUS)
            return None
        return role.destination

    async def count_arrived(self, marker: MarkerCreated) -> None:
        """Count the arrival of a marker at a destination."""
        bucket = marker.version.bucket
        sources = self._configurations.sources(bucket)
        source = next(iter(sources)) if len(sources) == 1 else UNKNOWN_DESTINATION
        routes = [Route(source, bucket)]
        await self._count(Fate.MARKER_ARRIVED, marker.version, routes, at=marker.created_at)

    async def count_created(self, marker: MarkerCreated, hold: Hold) -> None:
        """Count a marker that somebody created at each destination that it should reach."""
        ask = partial(self._configurations.marker_destinations, marker)
        answer = await until_known(ask, hold, hold.until())
        if isinstance(answer, Later):
            self._meters.add(catalogue.EVENTS, UNROUTED)
            return
        version = marker.version
        routes = [Route(version.bucket, destination.bucket) for destination in answer]
        await self._count(Fate.MARKER_CREATED, version, routes, at=marker.created_at)
        if len(routes) == 1 and marker.channel is Channel.NOTIFICATION:
            told = MarkId.of(Scope.DELETION, version)
            (kept,) = await self._recorder.seen((told,))
            if isinstance(kept, EarlyFact):
                await self._count(Fate.MARKER_ARRIVED, version, routes, at=kept.replicated_at)

    async def count_failed(self, notice: ReplicationFailed) -> None:
        """Count a marker that S3 gave up."""
        version = notice.version
        routes = [Route(version.bucket, notice.destination)]
        at = notice.noticed_at if notice.written_at is None else notice.written_at
        await self._count(Fate.MARKER_FAILED, version, routes, at=at)

    async def count_replicated(self, told: DeletionTried) -> None:
        """
        Count the arrival of a marker whose store told of it at the source; of several destinations it says too little.
        """
        version = told.version
        # Before the marker is looked for: it may be counted as created at this moment, which looks for this.
        await self._recorder.note(told)
        laid = _routes(_marks(await self._recorder.find(version), version), Fate.MARKER_CREATED)
        if len(laid) == 1:
            await self._count(Fate.MARKER_ARRIVED, version, laid, at=told.tried_at)

    async def count_hindered(self, told: DeletionTried) -> None:
        """Count once a deletion that a store could not replicate: as a marker's, or as one for good."""
        version = told.version
        trail = await self._recorder.find(version)
        marks = _marks(trail, version)
        # What failed of a marker that had arrived was its own deletion.
        there = any(
            mark.fate is Fate.MARKER_ARRIVED and mark.written_at < told.tried_at for mark in marks
        )
        if {mark.fate for mark in marks} & (_FAILED - {Fate.MARKER_FAILED} if there else _FAILED):
            return  # it is told with every try
        routes = _routes(marks, Fate.MARKER_CREATED)
        if routes:
            fate = Fate.PURGE_FAILED if there else Fate.MARKER_FAILED
        elif version.bucket in trail.records or marks:
            fate = Fate.PURGE_FAILED
            routes = _routes(marks, Fate.COMPLETED)
        else:
            found = await self._found(told)
            if found is None:
                self._meters.add(catalogue.EVENTS, UNIDENTIFIED)
                return
            fate, routes = found
        # It was sent to all of them, and failed at any.
        route = routes[0] if len(routes) == 1 else Route(version.bucket, UNKNOWN_DESTINATION)
        await self._count(fate, version, [route], at=told.tried_at)

    async def _found(self, told: DeletionTried) -> tuple[Fate, list[Route]] | None:
        """Look what a deletion was of that nothing is known of; None where that does not tell."""
        version = told.version
        # That it is gone or a marker decides nothing but what to call it: it need not be proved.
        sight = await self._looker.glance(
            version, region=told.region, owner=told.owner, doubting=False
        )
        if sight is Sight.GONE:
            return Fate.PURGE_FAILED, []
        if sight is not Sight.DELETE_MARKER:
            return None
        marker = MarkerCreated(
            version=version, region=told.region, created_at=told.tried_at, owner=told.owner
        )
        answer = await self._configurations.marker_destinations(marker)
        reached = () if isinstance(answer, Later) else answer
        return Fate.MARKER_FAILED, [
            Route(version.bucket, destination.bucket) for destination in reached
        ]

    async def _count(
        self, fate: Fate, version: ObjectVersion, routes: Iterable[Route], *, at: float
    ) -> None:
        now = self._clock.now()
        outcomes = tuple(
            for_deletion(
                version, route, fate, at=at, found_at=now, counts=self._tracker.counts(at)
            )
            for route in routes
        )
        if outcomes:
            # NB: rev 0, or the record of an object that shares a stand-in's name would be dropped.
            await self._recorder.settle(Settlement(version=version, outcomes=outcomes, rev=0))


def _marks(trail: Trail, version: ObjectVersion) -> list[Mark]:
    """Return what was counted of a source version."""
    return [mark for mark in trail.marks.values() if mark.route.source == version.bucket]


def _routes(marks: Iterable[Mark], fate: Fate) -> list[Route]:
    """Return where something was counted as this."""
    return [mark.route for mark in marks if mark.fate is fate]
