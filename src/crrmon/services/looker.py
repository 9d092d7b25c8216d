"""One look: HEAD a version within what its bucket bears, decide what that means, and say when to look again."""

import asyncio
import math
import random

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain import latency as latencies
from crrmon.domain.congestion import Congestion
from crrmon.domain.decide import REFUSALS_TO_UNPOLLABLE, Adopt, Decision, Settle, Wait, decide
from crrmon.domain.objects import Route
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Fate, Outcome, Settlement
from crrmon.domain.pacing import Pacer
from crrmon.domain.records import Record, State
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from crrmon.ports.probe import Probe, UnreadableConfigurationError
from crrmon.services.health import Dependency

REMINDER_SECONDS = 60.0
"""How often looks of one bucket that told nothing are logged, however many there are."""

CLOCK_GRAIN_SECONDS = 0.001
"""Timers may fire a little early: what is left by then is over."""

LATELY_SECONDS = 600.0
"""Buckets looked at within this time are asked about how S3 is."""

SCATTER_SECONDS = 30.0
"""Records that were put off to the same moment come back over this time."""

_WORTH_TELLING = (
    Sight.UNKNOWN,
    Sight.DENIED,
    Sight.REFUSED,
    Sight.THROTTLED,
    Sight.UNREACHABLE,
)

log = structlog.get_logger()


class Looker:
    """
    Looks at versions and decides.

    Args:
        probe: where to look.
        health: of S3; told of every answer.
        pacer: learns from every look and says when the next is due.
        congestion: makes the adaptive limit of a bucket.
        concurrency: most looks under way at once, over all buckets.
        give_up_after: seconds after which a version that is never final is given up.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        health: Dependency,
        pacer: Pacer,
        clock: Clock,
        meters: Meters,
        chance: random.Random,
        concurrency: int,
        per_bucket_per_second: float,
        give_up_after: float,
    ) -> None:
        self._probe = probe
        self._health = health
        self._pacer = pacer
        self._clock = clock
        self._meters = meters
        self._chance = chance
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._per_second = per_bucket_per_second
        self._gates: dict[str, _Gate] = {}
        self._give_up_after = give_up_after
        self._told: dict[tuple[str, Sight], float] = {}
        self._looked_at: dict[str, float] = {}
        self._failing: set[str] = set()

    def failing(self, bucket: str) -> bool:
        """
        Tell whether the last look at a bucket did not reach it.
        """
        return bucket in self._failing

    def first_look_at(self, record: Record) -> float:
        """
        Tell when a version that nobody looked at yet is best looked at.
        """
        return self._pacer.first_look_at(
            record.routes,
            written_at=record.written_at,
            now=self._clock.now(),
            chance=self._chance.random(),
        )

    async def consider(self, record: Record) -> Decision:
        """
        Look at a version once and decide.

        Returns:
            The decision, complete: a `Wait` says when to look next, outcomes have their latency spread.
        """
        seen = await self._look(record)
        if seen.sight is Sight.REFUSED and record.refusals + 1 >= REFUSALS_TO_UNPOLLABLE:
            seen = await self._certain_refusal(record, seen)
        decision = decide(record, seen, give_up_after=self._give_up_after)
        self._learn(record, seen, decision)
        return self._complete(decision, record.routes)

    def postponed(self, record: Record, *, reason: str, at: float) -> Decision:
        """
        Decide on a version that could not be looked at now; this counts as trouble.

        Args:
            record: of the version.
            reason: for whoever debugs.
            at: not before this moment.
        """
        now = self._clock.now()
        seen = Observation(sight=Sight.UNREACHABLE, looked_at=now, detail=reason)
        decision = self._complete(
            decide(record, seen, give_up_after=self._give_up_after), record.routes
        )
        if not isinstance(decision, Wait):
            return decision
        later = max(decision.record.next_look_at, at + SCATTER_SECONDS * self._chance.random())
        return Wait(msgspec.structs.replace(decision.record, next_look_at=later))

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
        bucket = record.version.bucket
        gate = self._gates.get(bucket)
        if gate is None:
            gate = _Gate(Congestion(most=self._concurrency, per_second=self._per_second))
            self._gates[bucket] = gate
        loop = asyncio.get_running_loop()
        began_at = await gate.enter()
        sight: Sight | None = None
        took = 0.0
        try:
            async with self._slots:
                sent_at = loop.time()
                seen = await self._probe.look(
                    record.version, region=record.region, owner=record.owner
                )
            sight = seen.sight
            took = loop.time() - sent_at
        finally:
            gate.leave(sight, began_at=began_at)
        self._meters.observe(catalogue.LOOK_DURATION, value=took)
        self._meters.add(catalogue.LOOKS, bucket, seen.sight.value)
        self._report(record, seen)
        return seen

    def _report(self, record: Record, seen: Observation) -> None:
        self._tell_health(record.version.bucket, seen)
        if seen.sight in _WORTH_TELLING and self._first_this_minute(record, seen):
            log.warning(
                "look_told_nothing",
                bucket=record.version.bucket,
                key=record.version.key,
                version_id=record.version.version_id,
                sight=seen.sight.value,
                detail=seen.detail,
            )

    def _tell_health(self, bucket: str, seen: Observation) -> None:
        """
        S3 is away when all buckets lately looked at are; one that is, among others that are not, is its own trouble.
        """
        self._looked_at[bucket] = seen.looked_at
        if seen.sight is Sight.UNREACHABLE:
            self._failing.add(bucket)
            lately = seen.looked_at - LATELY_SECONDS
            if all(one in self._failing for one, at in self._looked_at.items() if at >= lately):
                self._health.failed(seen.detail)
        elif seen.sight not in (Sight.THROTTLED, Sight.REFUSED):
            self._failing.discard(bucket)
            self._health.succeeded()

    def _first_this_minute(self, record: Record, seen: Observation) -> bool:
        what = (record.version.bucket, seen.sight)
        now = self._clock.now()
        if now - self._told.get(what, 0.0) < REMINDER_SECONDS:
            return False
        self._told[what] = now
        return True

    def _learn(self, record: Record, seen: Observation, decision: Decision) -> None:
        if seen.sight in (Sight.PENDING, Sight.COMPLETED, Sight.FAILED):
            self._pacer.note(
                record.routes,
                done=seen.sight is not Sight.PENDING,
                written_at=record.written_at,
                now=seen.looked_at,
                pending_seen_at=record.pending_seen_at,
            )
        settle = decision.then if isinstance(decision, Adopt) else decision
        if not isinstance(settle, Settle):
            return
        for outcome in settle.settlement.outcomes:
            if outcome.fate is Fate.COMPLETED and outcome.latency is not None:
                self._pacer.learn(record.routes, outcome.latency, now=self._clock.now())
                hidden = self._pacer.hidden(record.routes)
                for route in record.routes:
                    self._meters.set(
                        catalogue.LATENCY_HIDDEN, route.source, route.destination, value=hidden
                    )
                return  # one look, one sample, however many destinations

    def _complete(self, decision: Decision, path: tuple[Route, ...]) -> Decision:
        if isinstance(decision, Adopt):
            return Adopt(self._dated(decision.then, path), decision.provisional)
        return self._dated(decision, path)

    def _dated(self, step: Wait | Settle, path: tuple[Route, ...]) -> Wait | Settle:
        if isinstance(step, Wait):
            return Wait(self._paced(step.record))
        return Settle(self._spread(step.settlement, path))

    def _paced(self, record: Record) -> Record:
        now = self._clock.now()
        chance = self._chance.random()
        if record.state is State.FAILED and record.failed_at is not None and not record.troubles:
            at = self._pacer.failed_look_at(failed_at=record.failed_at, now=now, chance=chance)
        else:
            at = self._pacer.next_look_at(
                record.routes,
                written_at=record.written_at,
                now=now,
                troubles=record.troubles,
                chance=chance,
            )
        return msgspec.structs.replace(record, next_look_at=at)

    def _spread(self, settlement: Settlement, path: tuple[Route, ...]) -> Settlement:
        keep = None if settlement.keep is None else self._paced(settlement.keep)
        outcomes = tuple(self._timed(outcome, path) for outcome in settlement.outcomes)
        return msgspec.structs.replace(settlement, outcomes=outcomes, keep=keep)

    def _timed(self, outcome: Outcome, path: tuple[Route, ...]) -> Outcome:
        if outcome.latency is None:
            return outcome
        spread = self._pacer.spread(path, outcome.latency, now=outcome.found_at)
        seconds = outcome.latency.upper if outcome.latency.exact else latencies.mean(spread)
        return msgspec.structs.replace(outcome, spread=spread, seconds=seconds)


class _Gate:
    """
    Lets as many looks of one bucket through at once, and a second, as it bears; first come, first served.
    """

    def __init__(self, congestion: Congestion) -> None:
        self._congestion = congestion
        self._door = asyncio.Lock()
        self._ended = asyncio.Event()

    async def enter(self) -> float:
        """
        Wait for a place.

        Returns:
            When the look began, for `leave`.
        """
        loop = asyncio.get_running_loop()
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

    def leave(self, sight: Sight | None, *, began_at: float) -> None:
        """
        Give the place back, with what the look showed; None when it was abandoned.
        """
        now = asyncio.get_running_loop().time()
        self._congestion.ended(sight, began_at=began_at, now=now)
        self._ended.set()
