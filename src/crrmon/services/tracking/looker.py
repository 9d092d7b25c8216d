"""One look: HEAD a version within what its bucket bears, and have the domain decide what that means."""

import math
from functools import partial

import structlog
from msgspec.structs import replace

from crrmon.domain import catalogue
from crrmon.domain.decide import REFUSALS_TO_UNREADABLE, asks, dated, decide, provable, proved
from crrmon.domain.decisions import Adopt, Decision, Settle, Wait
from crrmon.domain.learning import heed, learn
from crrmon.domain.objects import ObjectVersion, Place, place_of
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate
from crrmon.domain.pacing import Pacer, apart, path_of
from crrmon.domain.records import Record
from crrmon.domain.schedule import Schedule
from crrmon.domain.stores import BucketStores
from crrmon.ports.probe import Probe, UnreadableConfigurationError
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.reach import Reach
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.tracking.access_denials import Denials
from crrmon.services.tracking.destination_looks import DestinationLooks
from crrmon.services.tracking.doubts import Doubts
from crrmon.services.tracking.gates import Gates

SCATTER_SECONDS = 30.0
"""Records that were put off to the same moment come back over this time."""

_WORTH_TELLING = frozenset(
    {
        Sight.UNKNOWN,
        Sight.DENIED,
        Sight.REFUSED,
        Sight.THROTTLED,
        Sight.UNREACHABLE,
        Sight.UNREADABLE,
    }
)

# Asked for of every object. Before Python 3.12, an enumeration calls a function for each member.
_COMPLETED = Sight.COMPLETED
_ARRIVED = Fate.COMPLETED

log = structlog.get_logger()


class Looker:
    """Looks at versions, and has decided what becomes of them.

    Args:
        probe: where to look.
        runtime: clock, meters and chance.
        health: of S3; told of every answer.
        stores: tells what kind of store a bucket is in, for advice.
        pacer: learns from every look and says when the next is due.
        concurrency: most looks under way at once, over all buckets.
        per_bucket_per_second: most looks started in a second at one bucket.
        give_up_after: seconds after which a version that is never final is given up.
    """

    def __init__(
        self,
        probe: Probe,
        runtime: Runtime,
        *,
        health: Dependency,
        stores: BucketStores,
        pacer: Pacer,
        concurrency: int,
        per_bucket_per_second: float,
        give_up_after: float,
    ) -> None:
        self._probe = probe
        self._reach = Reach(health)
        self._pacer = pacer
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._rng = runtime.rng
        self._gates = Gates(
            runtime.meters, concurrency=concurrency, per_second=per_bucket_per_second
        )
        self._elsewhere = DestinationLooks(
            probe, self._gates, stores=stores, meters=runtime.meters
        )
        self._give_up_after = give_up_after
        self._denials = Denials(runtime.meters, stores)
        self._doubts = Doubts(probe, runtime.meters)
        self._told_nothing = ThrottledLog(log, "head_inconclusive")

    def failing(self, record: Record) -> bool:
        """Return whether the last look at a version's bucket did not reach it."""
        return self._reach.failing(self._place(record.version.bucket, record.owner))

    def tidy(self) -> None:
        """Forget what was learned of buckets that nobody looks at any more; to be called now and then."""
        self._reach.tidy()
        self._denials.tidy()
        self._doubts.tidy()

    def denied(self, record: Record) -> bool:
        """Return whether every look at a version's bucket is denied, as far as is known."""
        return self._denials.known(record.place)

    def deleted(self, version: ObjectVersion) -> None:
        """Take in that somebody told of a version's deletion: that it shows as gone is no wonder."""
        self._doubts.deleted(version)

    def first_look_at(self, record: Record) -> float:
        """Return when a version that nobody looked at yet is best looked at."""
        return self._schedule().first_look_at(record)

    async def consider(self, record: Record) -> Decision:
        """Look at a version once and decide."""
        if self._denials.any and (later := self._held_back(record)) is not None:
            return later
        seen = await self._look(record)
        if seen.sight is Sight.REFUSED and record.refusals + 1 >= REFUSALS_TO_UNREADABLE:
            seen = await self._certain_refusal(record, seen)
        if seen.sight.ended:
            seen = await self._doubts.weighed(record, path_of(record), seen)
        elif seen.sight is not _COMPLETED:  # which its arrival tells
            self._doubts.not_gone(record, path_of(record), seen)
        record = dated(record, seen)
        asked = asks(record, seen.sight)
        elsewhere = await self._elsewhere.seen(record, asked) if asked else {}
        heed(self._pacer, record, seen)
        decision = decide(
            record,
            seen,
            self._schedule(),
            give_up_after=self._patience,
            elsewhere=elsewhere,
            not_before=self._doubted_until(record, seen),
        )
        self._learn(record, decision, looked=seen.sight.exists)
        return decision

    async def glance(
        self, version: ObjectVersion, *, region: str, owner: str | None, doubting: bool = True
    ) -> Sight:
        """Look at a version that nobody follows, within what its bucket bears.

        Args:
            version: to look at.
            region: of its bucket, as far as known.
            owner: account id that must own the bucket, where known.
            doubting: whether an end that is not proved is told as doubted.

        Returns:
            What it showed; trouble of any kind concerns nobody else.
        """
        seen = await self._head(version, region, owner, self._place(version.bucket, owner))
        unproved = seen.unproved or (seen.sight.ended and self._doubts.doubting(version.bucket))
        if doubting and unproved:
            return Sight.DOUBTED
        return seen.sight

    def settled(self, record: Record) -> Decision | None:
        """Decide without any look, where replicas' own events prove that the version arrived everywhere.

        Returns:
            None where a look is needed.
        """
        if not provable(record):
            return None
        decision = proved(record, self._schedule())
        if decision is not None:
            self._learn(record, decision, looked=False)
        return decision

    def postponed(self, record: Record, *, reason: str, at: float) -> Decision:
        """Decide on a version that could not be looked at now; this counts as trouble.

        Args:
            record: of the version.
            reason: for whoever debugs.
            at: not before this moment.
        """
        scattered = at + SCATTER_SECONDS * self._rng.random()
        return self._put_off(record, Sight.UNREACHABLE, reason, scattered)

    @property
    def _patience(self) -> float:
        """Seconds after which a version is given up; never, while nobody can tell how old it is."""
        return self._give_up_after if self._clock.sure else math.inf

    def _schedule(self) -> Schedule:
        return Schedule(pacer=self._pacer, now=self._clock.now(), draw=self._rng.random())

    def _held_back(self, record: Record) -> Wait | None:
        """Put a version off whose bucket denies looks; None where it is to be looked at now.

        For one that had no trouble itself, that is none either. And nothing ends without a look.
        """
        place, troubled = record.place, record.troubles > 0
        hold = self._denials.hold(place, troubled=troubled)
        if hold is None:
            return None
        at = self._clock.now() + hold * (0.5 + self._rng.random())
        if troubled:
            later = self._put_off(record, Sight.DENIED, "the bucket denies looks", at)
            if not isinstance(later, Wait):
                return None
        else:
            later = Wait(replace(record, next_look_at=at))
        self._denials.put_off(place)
        return later

    def _put_off(self, record: Record, sight: Sight, reason: str, at: float) -> Decision:
        schedule = self._schedule()
        seen = Observation(sight=sight, looked_at=schedule.now, detail=reason)
        return decide(record, seen, schedule, give_up_after=self._patience, not_before=at)

    def _doubted_until(self, record: Record, seen: Observation) -> float:
        if seen.sight is not Sight.DOUBTED:
            return -math.inf
        hold = self._doubts.hold(path_of(record)) * (0.5 + self._rng.random())
        return self._clock.now() + hold

    async def _certain_refusal(self, record: Record, seen: Observation) -> Observation:
        """Make sure that it is this object that S3 refuses, and not the daemon: expired credentials look the same."""
        try:
            await self._probe.configuration(
                record.version.bucket, region=record.region, owner=record.owner
            )
        except UnreadableConfigurationError as error:
            return replace(seen, sight=Sight.UNREACHABLE, detail=str(error))
        return await self._look(record)

    async def _look(self, record: Record) -> Observation:
        version, owner = record.version, record.owner
        place = self._place(version.bucket, owner)
        seen = await self._head(version, record.region, owner, place)
        self._denials.told(record.place, seen.sight, troubled=record.troubles > 0)
        if seen.asked:
            self._reach.told(place, seen.sight, seen.detail)
        if seen.sight in _WORTH_TELLING:
            self._report(record, seen)
        return seen

    async def _head(
        self, version: ObjectVersion, region: str, owner: str | None, place: Place
    ) -> Observation:
        """HEAD a version when its bucket's gate lets it through."""
        look = partial(self._probe.look, version, region=region, owner=owner)
        seen = await self._gates.look(place, look)
        self._meters.add(catalogue.HEAD_REQUESTS, version.bucket, "source", str(seen.sight))
        return seen

    def _place(self, bucket: str, owner: str | None) -> Place:
        """Return which bucket is asked, by its owner where several have its name."""
        return place_of(bucket, owner, self._probe.sites(bucket))

    def _report(self, record: Record, seen: Observation) -> None:
        if seen.sight is Sight.DENIED and self._denials.known(record.place):
            return  # reported for the whole bucket
        self._told_nothing.met(
            f"{record.version.bucket} {seen.sight.value}",
            bucket=record.version.bucket,
            key=record.version.key,
            version_id=record.version.version_id,
            sight=seen.sight.value,
            detail=seen.detail,
        )

    def _learn(self, record: Record, decision: Decision, *, looked: bool) -> None:
        """Take in what a decision tells of the ways that its version takes.

        Args:
            record: as it was decided on.
            decision: what became of it.
            looked: whether a look told so. An event that did says nothing of what looks show.
        """
        settle = decision.then if isinstance(decision, Adopt) else decision
        if not isinstance(settle, Settle):
            return
        for outcome in settle.settlement.outcomes:
            if outcome.fate is _ARRIVED:
                self._doubts.arrived(record.version, path_of(record), looked=looked)
                break
        path = learn(self._pacer, record, settle.settlement, now=self._clock.now())
        for route in path:
            hidden = self._pacer.hidden(apart(path, route))
            self._meters.set(
                catalogue.LATENCY_HIDDEN, route.source, route.destination, value=hidden
            )
