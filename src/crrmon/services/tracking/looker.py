"""One look: HEAD a version within what its bucket bears, decide what that means, and say when to look again.

Where the source's status does not tell enough, the destinations are looked at as well. Those looks may well not be
allowed, and S3 may be away there and nowhere else: what they tell is used, and what they do not is no trouble.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain import latency as latencies
from crrmon.domain.congestion import Congestion
from crrmon.domain.decide import (
    PLACED_WITHIN_SECONDS,
    REFUSALS_TO_UNPOLLABLE,
    Adopt,
    Decision,
    Settle,
    Wait,
    asks,
    dated,
    decide,
    proved,
)
from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion, Place, Route
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import LATE_SECONDS, Fate, Latency, Outcome, Settlement
from crrmon.domain.pacing import Pacer
from crrmon.domain.recent import Recent
from crrmon.domain.records import Destination, Record, State
from crrmon.domain.stores import BucketStores
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from crrmon.ports.probe import Probe, UnreadableConfigurationError
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.reach import Reach
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.tracking.access_denials import Denials, advice
from crrmon.services.tracking.doubts import Doubts

CLOCK_GRAIN_SECONDS = 0.001
"""Timers may fire a little early: what is left by then is over."""

SCATTER_SECONDS = 30.0
"""Records that were put off to the same moment come back over this time."""

DENIED_DESTINATION_SECONDS = 3600.0
"""For how long a destination is not looked at that denied it: few daemons may look there."""

UNREACHABLE_DESTINATION_SECONDS = 60.0
"""For how long one that did not answer: each look takes until its time-out."""

TOLD_AGAIN_SECONDS = 60.0
"""Before an end is asked about again that has to be told twice."""

_WORTH_TELLING = (
    Sight.UNKNOWN,
    Sight.DENIED,
    Sight.REFUSED,
    Sight.THROTTLED,
    Sight.UNREACHABLE,
    Sight.UNREADABLE,
)

_NO_ARRIVAL = (Fate.CLOSED, Fate.FAILED_THERE)
"""What an outcome may be that is none at a destination of its own."""

log = structlog.get_logger()


class Looker:
    """
    Looks at versions and decides.

    Args:
        probe: where to look.
        health: of S3; told of every answer.
        stores: tells what kind of store a bucket is in, for advice.
        pacer: learns from every look and says when the next is due.
        concurrency: most looks under way at once, over all buckets.
        per_bucket_per_second: most looks begun in a second at one bucket.
        give_up_after: seconds after which a version that is never final is given up.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        health: Dependency,
        stores: BucketStores,
        pacer: Pacer,
        clock: Clock,
        meters: Meters,
        chance: random.Random,
        concurrency: int,
        per_bucket_per_second: float,
        give_up_after: float,
    ) -> None:
        self._probe = probe
        self._reach = Reach(health)
        self._pacer = pacer
        self._clock = clock
        self._meters = meters
        self._chance = chance
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._per_second = per_bucket_per_second
        self._gates: Recent[Place, _Gate] = Recent(spared=lambda gate: gate.busy)
        self._give_up_after = give_up_after
        self._stores = stores
        self._denials = Denials(meters, stores)
        self._doubts = Doubts(probe, meters)
        self._shut_until: Recent[Place, float] = Recent()
        self._told_nothing = ThrottledLog(log, "look_told_nothing")

    def failing(self, record: Record) -> bool:
        """
        Tell whether the last look at a version's bucket did not reach it.
        """
        return self._reach.failing(self._place(record.version.bucket, record.owner))

    def tidy(self) -> None:
        """
        Forget what was learned of buckets that nobody looks at any more; to be called now and then.
        """
        self._reach.tidy()
        self._denials.tidy()
        self._doubts.tidy()

    def denied(self, record: Record) -> bool:
        """
        Tell whether every look at a version's bucket is denied, as far as is known.
        """
        return self._denials.known(record.place)

    def deleted(self, version: ObjectVersion) -> None:
        """
        Take in that somebody told of a version's deletion: that it shows as gone is no wonder.
        """
        self._doubts.deleted(version)

    def first_look_at(self, record: Record) -> float:
        """
        Tell when a version that nobody looked at yet is best looked at: at once, if only that tells when it was written.
        """
        if record.claimed_at is not None:
            return self._clock.now()
        return self._pacer.first_look_at(
            _path(record),
            written_at=record.written_at,
            now=self._clock.now(),
            chance=self._chance.random(),
        )

    @property
    def _patience(self) -> float:
        """
        Seconds after which a version is given up; never, while nobody can tell how old it is.
        """
        return self._give_up_after if self._clock.sure else math.inf

    async def consider(self, record: Record) -> Decision:
        """
        Look at a version once and decide.

        Returns:
            The decision, complete: a `Wait` says when to look next, outcomes have their latency spread.
        """
        if (later := self._held_back(record)) is not None:
            return later
        seen = await self._look(record)
        if seen.sight is Sight.REFUSED and record.refusals + 1 >= REFUSALS_TO_UNPOLLABLE:
            seen = await self._certain_refusal(record, seen)
        seen = await self._doubts.weighed(record, _path(record), seen)
        record = dated(record, seen)
        elsewhere = await self._look_elsewhere(record, seen)
        decision = decide(record, seen, give_up_after=self._patience, elsewhere=elsewhere)
        self._learn(record, seen, decision)
        decision = self._complete(decision, _path(record))
        if seen.sight is Sight.DOUBTED:
            hold = self._doubts.hold(_path(record)) * (0.5 + self._chance.random())
            return _not_before(decision, self._clock.now() + hold)
        return decision

    async def glance(
        self, version: ObjectVersion, *, region: str, owner: str | None, doubting: bool = True
    ) -> Sight:
        """
        Look at a version that nobody follows, within what its bucket bears.

        Args:
            version: to look at.
            region: of its bucket, as far as known.
            owner: account id that must own the bucket, where known.
            doubting: whether an end that is not proved is told as doubted.

        Returns:
            What it showed; trouble of any kind concerns nobody else.
        """
        seen = await self._head(version, region, owner)
        self._meters.add(catalogue.LOOKS, version.bucket, seen.sight.value)
        unproved = seen.unproved or (seen.sight.ended and self._doubts.doubting(version.bucket))
        if doubting and unproved:
            return Sight.DOUBTED
        return seen.sight

    def settled(self, record: Record) -> Decision | None:
        """
        Decide without any look, where replicas' own events prove that the version arrived everywhere.

        Returns:
            The decision, complete; None where a look is needed.
        """
        decision = proved(record, now=self._clock.now())
        if decision is None:
            return None
        self._learn_from(record, decision, looked=False)
        return self._complete(decision, _path(record))

    def postponed(self, record: Record, *, reason: str, at: float) -> Decision:
        """
        Decide on a version that could not be looked at now; this counts as trouble.

        Args:
            record: of the version.
            reason: for whoever debugs.
            at: not before this moment.
        """
        scattered = at + SCATTER_SECONDS * self._chance.random()
        return self._put_off(record, Sight.UNREACHABLE, reason, scattered)

    def _held_back(self, record: Record) -> Wait | None:
        """
        Put a version off whose bucket denies looks; None where it is to be looked at now.

        For one that had no trouble itself, that is none either. And nothing ends without a look.
        """
        place, troubled = record.place, record.troubles > 0
        hold = self._denials.hold(place, troubled=troubled)
        if hold is None:
            return None
        at = self._clock.now() + hold * (0.5 + self._chance.random())
        if troubled:
            later = self._put_off(record, Sight.DENIED, "the bucket denies looks", at)
            if not isinstance(later, Wait):
                return None
        else:
            later = Wait(msgspec.structs.replace(record, next_look_at=at))
        self._denials.put_off(place)
        return later

    def _put_off(self, record: Record, sight: Sight, reason: str, at: float) -> Decision:
        seen = Observation(sight=sight, looked_at=self._clock.now(), detail=reason)
        decision = self._complete(
            decide(record, seen, give_up_after=self._patience), _path(record)
        )
        return _not_before(decision, at)

    async def _certain_refusal(self, record: Record, seen: Observation) -> Observation:
        """
        Make sure that it is this object that S3 refuses, and not the daemon: expired credentials look the same.
        """
        try:
            await self._probe.configuration(
                record.version.bucket, region=record.region, owner=record.owner
            )
        except UnreadableConfigurationError as error:
            return msgspec.structs.replace(seen, sight=Sight.UNREACHABLE, detail=str(error))
        return await self._look(record)

    async def _look(self, record: Record) -> Observation:
        version = record.version
        seen = await self._head(version, record.region, record.owner)
        self._meters.add(catalogue.LOOKS, version.bucket, seen.sight.value)
        self._denials.told(record.place, seen.sight, troubled=record.troubles > 0)
        self._report(record, seen)
        return seen

    async def _look_elsewhere(self, record: Record, seen: Observation) -> Mapping[str, Sight]:
        """
        Look at the destinations where that tells more than the source did; return what was seen, by bucket.
        """
        asked = asks(record, seen.sight)
        if not asked:
            return {}
        sights = await asyncio.gather(*(self._look_at(record, one) for one in asked))
        told = zip(asked, sights, strict=True)
        return {one.bucket: sight for one, sight in told if sight is not None}

    async def _look_at(self, record: Record, destination: Destination) -> Sight | None:
        """
        Look at a version in a destination; None where that told nothing.
        """
        bucket = destination.bucket
        place = self._place_beside(record, destination)
        if self._shut(place):
            return None
        began_at = await self._gate(place).enter()
        if self._shut(place):
            self._gate(place).leave(None, began_at=began_at)
            return None
        look = partial(
            self._probe.look_at_replica,
            record.version,
            bucket,
            region=record.region,
            owner=destination.owner,
            source_owner=record.owner,
        )
        seen = await self._passed(place, look, began_at)
        self._meters.add(catalogue.DESTINATION_LOOKS, bucket, seen.sight.value)
        if not seen.asked:
            self._shut_for(place, DENIED_DESTINATION_SECONDS, seen)
        elif seen.sight is Sight.DENIED:
            told = advice(self._stores.of(bucket))
            self._shut_for(place, DENIED_DESTINATION_SECONDS, seen, advice=told)
        elif seen.sight is Sight.UNREACHABLE:
            self._shut_for(place, UNREACHABLE_DESTINATION_SECONDS, seen)
        return seen.sight if seen.tells_of_arrival else None

    def _place(self, bucket: str, owner: str | None) -> Place:
        """
        Tell which bucket is asked, by its owner where several have its name.
        """
        return bucket, owner if owner in self._probe.sites(bucket) else None

    def _place_beside(self, record: Record, destination: Destination) -> Place:
        """
        Tell which bucket is asked for a destination: one of its source's name is at the other site.
        """
        bucket, owner = destination.bucket, destination.owner
        if bucket == record.version.bucket:
            others = [site for site in self._probe.sites(bucket) if site != record.owner]
            owner = others[0] if len(others) == 1 else owner
        return self._place(bucket, owner)

    def _shut(self, place: Place) -> bool:
        until = self._shut_until.get(place)
        return until is not None and asyncio.get_running_loop().time() < until

    def _shut_for(self, place: Place, seconds: float, seen: Observation, **more: str) -> None:
        """
        Look at a destination no more for a while, and say so once.
        """
        if self._shut(place):
            return
        self._shut_until.put(place, asyncio.get_running_loop().time() + seconds)
        # Nobody has to allow looks at destinations: it is no trouble when they are denied.
        tell = log.info if seen.sight is Sight.DENIED else log.warning
        tell(
            "destination_not_looked_at",
            bucket=place[0],
            sight=seen.sight.value,
            detail=seen.detail,
            for_seconds=seconds,
            **more,
        )

    def _gate(self, place: Place) -> "_Gate":
        gate = self._gates.get(place)
        if gate is None:
            gate = _Gate(Congestion(most=self._concurrency, per_second=self._per_second))
            self._gates.put(place, gate)
        return gate

    async def _head(self, version: ObjectVersion, region: str, owner: str | None) -> Observation:
        """
        HEAD a version when its bucket's gate lets it through.
        """
        place = self._place(version.bucket, owner)
        began_at = await self._gate(place).enter()
        look = partial(self._probe.look, version, region=region, owner=owner)
        return await self._passed(place, look, began_at)

    async def _passed(
        self, place: Place, look: Callable[[], Awaitable[Observation]], began_at: float
    ) -> Observation:
        """
        Make a look for which a bucket's gate was entered, and leave it.
        """
        loop = asyncio.get_running_loop()
        sight: Sight | None = None
        try:
            async with self._slots:
                sent_at = loop.time()
                seen = await look()
            sight = seen.sight
        finally:
            self._gate(place).leave(sight, began_at=began_at)
        self._meters.observe(catalogue.LOOK_DURATION, value=loop.time() - sent_at)
        return seen

    def _report(self, record: Record, seen: Observation) -> None:
        if seen.asked:
            place = self._place(record.version.bucket, record.owner)
            self._reach.told(place, seen.sight, seen.detail)
        if seen.sight is Sight.DENIED and self._denials.known(record.place):
            return  # reported for the whole bucket
        if seen.sight in _WORTH_TELLING:
            self._told_nothing.met(
                f"{record.version.bucket} {seen.sight.value}",
                bucket=record.version.bucket,
                key=record.version.key,
                version_id=record.version.version_id,
                sight=seen.sight.value,
                detail=seen.detail,
            )

    def _learn(self, record: Record, seen: Observation, decision: Decision) -> None:
        # That an open failure is still one tells nothing of what goes on.
        known = record.state is State.FAILED and seen.sight is Sight.FAILED
        if seen.sight in (Sight.PENDING, Sight.COMPLETED, Sight.FAILED) and not known:
            self._pacer.note(
                _path(record),
                done=seen.sight is not Sight.PENDING,
                written_at=record.written_at,
                now=seen.looked_at,
                pending_seen_at=record.pending_seen_at,
            )
        self._learn_from(record, decision, looked=seen.sight.exists)

    def _learn_from(self, record: Record, decision: Decision, *, looked: bool) -> None:
        """
        Learn how long a version took to be everywhere: one sample, however many destinations it has.
        """
        settle = decision.then if isinstance(decision, Adopt) else decision
        if not isinstance(settle, Settle):
            return
        path = _path(record)
        if any(one.fate is Fate.COMPLETED for one in settle.settlement.outcomes):
            self._doubts.arrived(record.version, path, looked=looked)
        if len(path) > 1:
            self._learn_apart(path, record, settle.settlement.outcomes)
        if settle.settlement.keep is not None:
            return
        outcomes = [one for one in settle.settlement.outcomes if one.fate not in _NO_ARRIVAL]
        took = [one.latency for one in outcomes if one.latency is not None]
        if not took or len(took) < len(outcomes):
            return
        lower = max(one.lower if one.slowest is None else one.slowest for one in took)
        latency = Latency(lower, max(one.upper for one in took))
        self._pacer.learn(path, latency, now=self._clock.now(), written_at=record.written_at)
        for route in path:
            hidden = self._pacer.hidden(_apart(path, route))
            self._meters.set(
                catalogue.LATENCY_HIDDEN, route.source, route.destination, value=hidden
            )

    def _learn_apart(
        self, path: tuple[Route, ...], record: Record, outcomes: tuple[Outcome, ...]
    ) -> None:
        """
        Learn how long each of several destinations took of which that is known.
        """
        for one in outcomes:
            way = _apart(path, one.route)
            if one.latency is not None and one.latency.slowest is None and way != path:
                self._pacer.learn(
                    way, one.latency, now=self._clock.now(), written_at=record.written_at
                )

    def _complete(self, decision: Decision, path: tuple[Route, ...]) -> Decision:
        if isinstance(decision, Adopt):
            return Adopt(self._dated(decision.then, path), decision.provisional)
        return self._dated(decision, path)

    def _dated(self, step: Wait | Settle, path: tuple[Route, ...]) -> Wait | Settle:
        if isinstance(step, Wait):
            return Wait(self._paced(step.record))
        return Settle(self._spread(step.settlement, path), step.news)

    def _paced(self, record: Record) -> Record:
        now = self._clock.now()
        chance = self._chance.random()
        if record.state is State.FAILED and record.failed_at is not None and not record.troubles:
            at = self._pacer.failed_look_at(failed_at=record.failed_at, now=now, chance=chance)
            if not record.placed:
                at = min(at, max(record.failed_at + PLACED_WITHIN_SECONDS, now))
        else:
            at = self._pacer.next_look_at(
                _path(record),
                written_at=record.written_at,
                now=now,
                troubles=record.troubles,
                chance=chance,
            )
        if record.endings:
            at = max(at, now + TOLD_AGAIN_SECONDS * (0.5 + chance))
        return msgspec.structs.replace(record, next_look_at=at)

    def _spread(self, settlement: Settlement, path: tuple[Route, ...]) -> Settlement:
        keep = None if settlement.keep is None else self._paced(settlement.keep)
        among = tuple(
            one.route
            for one in settlement.outcomes
            if one.latency is not None and one.latency.slowest is not None
        )
        outcomes = tuple(self._timed(outcome, path, among) for outcome in settlement.outcomes)
        return msgspec.structs.replace(settlement, outcomes=outcomes, keep=keep)

    def _timed(
        self, outcome: Outcome, path: tuple[Route, ...], among: tuple[Route, ...]
    ) -> Outcome:
        """
        Estimate a latency.

        Args:
            outcome: of a destination.
            path: the routes that the version takes.
            among: those of which one was the slowest, as far as looks told.
        """
        latency, now = outcome.latency, outcome.found_at
        if latency is None:
            return outcome
        if latency.slowest is None:
            spread = self._pacer.spread(_apart(path, outcome.route), latency, now=now)
        else:
            spread = self._pacer.spread_among(outcome.route, among, latency, now=now)
        seconds = latency.upper if latency.exact else latencies.mean(spread)
        # That one of several took so long says of none that it is late.
        late = outcome.late or (latency.slowest is None and seconds > LATE_SECONDS)
        return msgspec.structs.replace(outcome, spread=spread, seconds=seconds, late=late)


def _path(record: Record) -> tuple[Route, ...]:
    """
    Return all ways that a version takes at once, those too whose end was found: its status is that of all.
    """
    source = record.version.bucket
    buckets = [one.bucket for one in record.destinations] or [UNKNOWN_DESTINATION]
    return tuple(Route(source, bucket) for bucket in buckets)


def _not_before(decision: Decision, at: float) -> Decision:
    """
    Have a version that waits looked at not before a moment.
    """
    if not isinstance(decision, Wait):
        return decision
    later = max(decision.record.next_look_at, at)
    return Wait(msgspec.structs.replace(decision.record, next_look_at=later))


def _apart(path: tuple[Route, ...], route: Route) -> tuple[Route, ...]:
    """
    Return by what to remember the latencies at one of several destinations; the whole path where they are the same.
    """
    return (route,) if len(path) > 1 and route in path else path


class _Gate:
    """
    Lets as many looks of one bucket through at once, and a second, as it bears; first come, first served.
    """

    def __init__(self, congestion: Congestion) -> None:
        self._congestion = congestion
        self._door = asyncio.Lock()
        self._ended = asyncio.Event()
        self._inside = 0

    async def enter(self) -> float:
        """
        Wait for a place.

        Returns:
            When the look began, for `leave`.
        """
        loop = asyncio.get_running_loop()
        self._inside += 1
        try:
            return await self._entered(loop)
        except BaseException:
            self._inside -= 1
            raise

    async def _entered(self, loop: asyncio.AbstractEventLoop) -> float:
        async with self._door:
            while (wait := self._congestion.wait(loop.time())) > CLOCK_GRAIN_SECONDS:
                self._ended.clear()
                try:
                    async with asyncio.timeout(None if math.isinf(wait) else wait):
                        await self._ended.wait()
                except TimeoutError:
                    continue
            began_at = loop.time()
            self._congestion.began(began_at)
        return began_at

    @property
    def busy(self) -> bool:
        """
        Whether a look is under way, or waits for its place.
        """
        return self._inside > 0

    def leave(self, sight: Sight | None, *, began_at: float) -> None:
        """
        Give the place back, with what the look showed; None when it was abandoned.
        """
        now = asyncio.get_running_loop().time()
        self._inside -= 1
        self._congestion.ended(sight, began_at=began_at, now=now)
        self._ended.set()
