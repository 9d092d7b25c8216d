"""Delete markers that rules replicate: counted when they are laid, when they arrive and when they fail.

S3 tells no status of a delete marker, so none is ever looked at. Each is one settlement, and its marks in the ledger
see to it that it counts once.
"""

from collections.abc import Iterable

from crrmon.domain import catalogue
from crrmon.domain.events import Channel, MarkerLaid, ReplicationFailed
from crrmon.domain.objects import UNKNOWN_DESTINATION, MarkId, ObjectVersion, Route, Scope
from crrmon.domain.outcomes import Fate, Outcome, Settlement
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from crrmon.services.bookkeeper import Bookkeeper
from crrmon.services.following import Following
from crrmon.services.hold import Hold
from crrmon.services.routebook import Later, Routebook

AMBIGUOUS = "marker_ambiguous"
"""An event does not say who laid it, and its bucket is both source and destination."""
UNROUTED = "marker_unrouted"
"""Nobody can tell whether it should arrive anywhere: its bucket's configuration cannot be read."""

_SCOPES = {
    Fate.MARKER_LAID: Scope.MARKER,
    Fate.MARKER_ARRIVED: Scope.MARKER_ARRIVED,
    Fate.MARKER_FAILED: Scope.MARKER_FAILED,
}


class Markers:
    """
    Counts delete markers.
    """

    def __init__(
        self,
        *,
        bookkeeper: Bookkeeper,
        routebook: Routebook,
        following: Following,
        clock: Clock,
        meters: Meters,
    ) -> None:
        self._bookkeeper = bookkeeper
        self._routebook = routebook
        self._following = following
        self._clock = clock
        self._meters = meters

    async def arrived(self, marker: MarkerLaid) -> bool | None:
        """
        Tell whether replication laid a marker; None when nobody can tell.
        """
        if marker.by_replication or marker.channel is not Channel.EVENTBRIDGE:
            return marker.by_replication
        role = await self._routebook.role(
            marker.version.bucket, region=marker.region, owner=marker.owner
        )
        if role.source and role.destination:
            self._meters.add(catalogue.EVENTS, AMBIGUOUS)
            return None
        return role.destination

    async def count_arrived(self, marker: MarkerLaid) -> None:
        """
        Count the arrival of a marker at a destination.
        """
        bucket = marker.version.bucket
        sources = self._routebook.sources(bucket)
        source = next(iter(sources)) if len(sources) == 1 else UNKNOWN_DESTINATION
        routes = [Route(source, bucket)]
        await self._count(Fate.MARKER_ARRIVED, marker.version, routes, at=marker.laid_at)

    async def count_laid(self, marker: MarkerLaid, hold: Hold) -> None:
        """
        Count a marker that somebody laid at each destination that it should reach.
        """
        until = hold.until()
        while isinstance(answer := await self._routebook.marker_destinations(marker), Later):
            if answer.ask_again_at > until:
                self._meters.add(catalogue.EVENTS, UNROUTED)
                return
            await hold.wait(answer.ask_again_at)
        routes = [Route(marker.version.bucket, one.bucket) for one in answer]
        await self._count(Fate.MARKER_LAID, marker.version, routes, at=marker.laid_at)

    async def count_failed(self, notice: ReplicationFailed) -> None:
        """
        Count a marker that S3 gave up.
        """
        version = notice.version
        routes = [Route(version.bucket, notice.destination)]
        at = notice.noticed_at if notice.written_at is None else notice.written_at
        await self._count(Fate.MARKER_FAILED, version, routes, at=at)

    async def _count(
        self, fate: Fate, version: ObjectVersion, routes: Iterable[Route], *, at: float
    ) -> None:
        now = self._clock.now()
        outcomes = tuple(
            Outcome(
                mark=MarkId(_SCOPES[fate], one.destination, version.key, version.version_id),
                fate=fate,
                route=one,
                written_at=at,
                found_at=now,
                counts=self._following.counts(at),
            )
            for one in routes
        )
        if outcomes:
            # NB: rev 0, or the record of an object that shares a stand-in's name would be dropped.
            await self._bookkeeper.settle(Settlement(version=version, outcomes=outcomes, rev=0))
