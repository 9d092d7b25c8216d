"""Waves of objects that show as gone: doubted, said so once a minute, and believed when the bucket proves right."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.decide import ENDINGS_TO_BELIEVE
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.records import Record
from crrmon.domain.waves import Wave
from crrmon.ports.meters import Meters
from crrmon.ports.probe import Probe, UnreadableConfigurationError

ROUTES = 4096
"""Most routes that are remembered; beyond, the one that was met first is forgotten."""

DELETIONS = 10_000
"""Most deletions of versions that are remembered, so that looks at what is not parked yet know of them."""

DOUBTED = 10_000
"""Most objects that are remembered as doubted, of each route."""

HOLD_SHARE = 0.5
"""What is doubted is put off for this share of the time for which it has been so..."""
HOLD_SHORTEST_SECONDS = 30.0
HOLD_LONGEST_SECONDS = 900.0
"""...within these bounds."""

IDLE_SECONDS = 3 * 3600.0
"""A route of which nothing was told for so long is not held by this daemon any more: doubted objects come sooner."""

REMINDER_SECONDS = 60.0
"""How often a wave is logged, and how often its bucket is asked to prove that it is the right one."""

ADVICE = (
    "far more objects of this route appear to be gone than ever before: if they were deleted, do nothing: they are"
    " counted as gone within an hour or a day; otherwise check that the endpoint and the account in which the"
    " bucket is looked at are right"
)

log = structlog.get_logger()


class _HeldRoute(msgspec.Struct):
    """A route and its wave."""

    wave: Wave
    told_at: float | None = None
    """When the wave was last logged; None while there is none."""
    asked_at: float | None = None
    """When its bucket was last asked to prove itself."""
    doubted: set[ObjectVersion] = msgspec.field(default_factory=set)
    """Of which it is not believed that they are gone."""
    met_at: float = 0.0
    """When anything was last told of it, by the loop's clock."""
    many: bool = False
    """Whether these are too many to remember all."""


class Doubts:
    """Knows the routes on which it is not believed that objects are gone."""

    def __init__(self, probe: Probe, meters: Meters) -> None:
        self._probe = probe
        self._meters = meters
        self._routes: dict[Route, _HeldRoute] = {}
        self._deleted: OrderedDict[ObjectVersion, None] = OrderedDict()

    def deleted(self, version: ObjectVersion) -> None:
        """Take in that somebody told of a version's deletion."""
        self._deleted[version] = None
        if len(self._deleted) > DELETIONS:
            self._deleted.popitem(last=False)

    async def weighed(
        self, record: Record, path: Sequence[Route], seen: Observation
    ) -> Observation:
        """Return what a look showed that found a version gone, or that it is doubted.

        Args:
            record: of the version.
            path: the routes that it takes.
            seen: what the look showed.
        """
        if self._expected(record, seen):
            self._known(record.version, path)
            return seen
        held = [self._told(route, gone=True) for route in path]
        if not any(one.wave.doubted for one in held) or await self._proved(record, held):
            return seen
        for one in held:
            one.many |= len(one.doubted) >= DOUBTED
            if not one.many:
                one.doubted.add(record.version)
        for route in path:
            self._remind(route)
        return msgspec.structs.replace(seen, sight=Sight.DOUBTED, detail=seen.sight.value)

    def arrived(self, version: ObjectVersion, path: Sequence[Route], *, looked: bool) -> None:
        """Take in that a version arrived somewhere.

        Args:
            version: of the source.
            path: the routes that it takes.
            looked: whether a look told so. An event that did says nothing of what looks show.
        """
        if looked:
            for route in path:
                self._told(route, gone=False)
        self._known(version, path)

    def doubting(self, bucket: str) -> bool:
        """Return whether it is doubted that objects of a bucket are gone."""
        return any(
            held.wave.doubted for route, held in self._routes.items() if route.source == bucket
        )

    def not_gone(self, record: Record, path: Sequence[Route], seen: Observation) -> None:
        """Take in what else a look showed, but for an arrival, which tells by itself.

        An object that is there counts once, as those do that are gone, unless it matters now.
        """
        if not seen.sight.exists:
            return
        final = seen.sight in (Sight.FAILED, Sight.NO_STATUS, Sight.REPLICA)
        known = [self._routes.get(route) for route in path]
        doubted = any(one is not None and one.wave.doubted for one in known)
        if final or doubted or record.troubles:
            for route in path:
                self._told(route, gone=False)
        self._known(record.version, path)

    def _known(self, version: ObjectVersion, path: Sequence[Route]) -> None:
        """Doubt a version no more; where it was the last one, the wave is over."""
        for route in path:
            held = self._routes.get(route)
            if held is None or not held.doubted or version not in held.doubted:
                continue
            held.doubted.remove(version)
            if not held.doubted and not held.many and held.wave.doubted:
                held.wave.refuted()
                self._release(route, held)

    def hold(self, path: Sequence[Route]) -> float:
        """Return for how many seconds to put off what is doubted, on average."""
        now = asyncio.get_running_loop().time()
        known = (self._routes.get(route) for route in path)
        lasted = max((one.wave.lasted(now) for one in known if one is not None), default=0.0)
        return max(HOLD_SHORTEST_SECONDS, min(HOLD_SHARE * lasted, HOLD_LONGEST_SECONDS))

    def _expected(self, record: Record, seen: Observation) -> bool:
        """Return whether an end says nothing of a wave: the deletion was told of, or the answer is not used yet."""
        if record.deleted or record.version in self._deleted:
            return True
        return seen.unproved and record.endings + 1 < ENDINGS_TO_BELIEVE

    def _told(self, route: Route, *, gone: bool) -> _HeldRoute:
        held = self._routes.get(route)
        if held is None:
            if len(self._routes) >= ROUTES:
                self._forget(next(iter(self._routes)))
            held = self._routes[route] = _HeldRoute(Wave())
        held.met_at = asyncio.get_running_loop().time()
        held.wave.told(gone=gone, now=held.met_at)
        if held.told_at is not None and not held.wave.doubted:
            self._release(route, held)
        return held

    def tidy(self) -> None:
        """Forget routes that nobody told of for long: others look there by now, and say how it is."""
        now = asyncio.get_running_loop().time()
        for route in [
            one for one, held in self._routes.items() if now - held.met_at > IDLE_SECONDS
        ]:
            del self._routes[route]
            self._meters.unset(catalogue.SETTLING_HELD, route.source, route.destination)

    def _forget(self, route: Route) -> None:
        held = self._routes.pop(route)
        if held.told_at is not None:
            self._release(route, held)

    async def _proved(self, record: Record, held: Sequence[_HeldRoute]) -> bool:
        """Return whether a wave lasted for long enough to be believed, and the bucket is the right one."""
        now = asyncio.get_running_loop().time()
        doubted = [one for one in held if one.wave.doubted]
        if not all(one.wave.may_be_believed(now) for one in doubted):
            return False
        if any(
            one.asked_at is not None and now - one.asked_at < REMINDER_SECONDS for one in doubted
        ):
            return False
        for one in doubted:
            one.asked_at = now
        try:
            await self._probe.configuration(
                record.version.bucket, region=record.region, owner=record.owner
            )
        except UnreadableConfigurationError:
            return False
        for one in doubted:
            one.wave.believe()
        return True

    def _remind(self, route: Route) -> None:
        held = self._routes.get(route)
        if held is None or not held.wave.doubted:
            return
        now = asyncio.get_running_loop().time()
        self._meters.set(catalogue.SETTLING_HELD, route.source, route.destination, value=1)
        if held.told_at is not None and now - held.told_at < REMINDER_SECONDS:
            return
        held.told_at = now
        lately = held.wave.lately
        log.warning(
            "settling_held",
            bucket=route.source,
            destination=route.destination,
            share_gone_lately=round(lately.share, 3),
            share_gone_before=round(held.wave.usual_share, 3),
            for_seconds=round(held.wave.lasted(now)),
            advice=ADVICE,
        )

    def _release(self, route: Route, held: _HeldRoute) -> None:
        held.told_at = None
        held.doubted.clear()
        held.many = False
        self._meters.set(catalogue.SETTLING_HELD, route.source, route.destination, value=0)
        log.info("settling_released", bucket=route.source, destination=route.destination)
