"""Looks at destinations, where the source's merged status does not tell enough.

They may well not be allowed, and S3 may be away there and nowhere else: what they tell is used, and what they do not
is no trouble.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from crrmon.domain import catalogue
from crrmon.domain.objects import Place, place_of
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.recent import Recent
from crrmon.domain.records import Destination, Record
from crrmon.domain.stores import BucketStores
from crrmon.ports.meters import Meters
from crrmon.ports.probe import Probe
from crrmon.services.tracking.access_denials import advice
from crrmon.services.tracking.gates import Gates

DENIED_DESTINATION_SECONDS = 3600.0
"""For how long a destination is not looked at that denied it: few daemons may look there."""

UNREACHABLE_DESTINATION_SECONDS = 60.0
"""For how long one that did not answer: each look takes until its time-out."""

log = structlog.get_logger()


class DestinationLooks:
    """Looks at destinations.

    Args:
        probe: where to look.
        gates: through which.
        stores: tells what kind of store a bucket is in, for advice.
        meters: told what was seen.
    """

    def __init__(
        self, probe: Probe, gates: Gates, *, stores: BucketStores, meters: Meters
    ) -> None:
        self._probe = probe
        self._gates = gates
        self._stores = stores
        self._meters = meters
        self._shut_until: Recent[Place, float] = Recent()

    async def seen(
        self, record: Record, asked: Sequence[Destination]
    ) -> Mapping[str, Observation]:
        """Look at some destinations of a version; return what was seen, by bucket."""
        looks = await asyncio.gather(
            *(self._look_at(record, destination) for destination in asked)
        )
        told = zip(asked, looks, strict=True)
        return {destination.bucket: seen for destination, seen in told if seen is not None}

    async def _look_at(self, record: Record, destination: Destination) -> Observation | None:
        """Look at a version in a destination; None where that told nothing."""
        place = self._place(record, destination)
        if self._shut(place):
            return None
        look = partial(
            self._probe.look_at_replica,
            record.version,
            destination.bucket,
            region=record.region,
            owner=destination.owner,
            source_owner=record.owner,
        )
        # Others may have been denied meanwhile.
        seen = await self._gates.look_unless(place, look, needless=lambda: self._shut(place))
        if seen is None:
            return None
        self._meters.add(
            catalogue.HEAD_REQUESTS, destination.bucket, "destination", seen.sight.value
        )
        self._mind(place, seen)
        return seen if seen.tells_of_arrival else None

    def _mind(self, place: Place, seen: Observation) -> None:
        if not seen.asked:
            self._shut_for(place, DENIED_DESTINATION_SECONDS, seen)
        elif seen.sight is Sight.DENIED:
            told = advice(self._stores.of(place[0]))
            self._shut_for(place, DENIED_DESTINATION_SECONDS, seen, advice=told)
        elif seen.sight is Sight.UNREACHABLE:
            self._shut_for(place, UNREACHABLE_DESTINATION_SECONDS, seen)

    def _place(self, record: Record, destination: Destination) -> Place:
        """Return which bucket is asked for a destination: one of its source's name is at the other site."""
        bucket, owner = destination.bucket, destination.owner
        sites = self._probe.sites(bucket)
        if bucket == record.version.bucket:
            others = [site for site in sites if site != record.owner]
            owner = others[0] if len(others) == 1 else owner
        return place_of(bucket, owner, sites)

    def _shut(self, place: Place) -> bool:
        until = self._shut_until.get(place)
        return until is not None and asyncio.get_running_loop().time() < until

    def _shut_for(self, place: Place, seconds: float, seen: Observation, **more: str) -> None:
        """Look at a destination no more for a while, and say so once."""
        if self._shut(place):
            return
        self._shut_until.put(place, asyncio.get_running_loop().time() + seconds)
        # Nobody has to allow looks at destinations: it is no trouble when they are denied.
        tell = log.info if seen.sight is Sight.DENIED else log.warning
        tell(
            "destination_heads_suspended",
            bucket=place[0],
            sight=seen.sight.value,
            detail=seen.detail,
            for_seconds=seconds,
            **more,
        )
