"""The services' way to the ledger: batched, retried until it holds, measured, and counted once.

A ledger that does not answer is asked again for ever: whoever waits here holds a message that must not be
acknowledged, or a record that must not be lost. Intake and poller stop taking on work meanwhile.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from crrmon.domain import catalogue
from crrmon.domain import latency as latencies
from crrmon.domain.decide import Adopt, Decision, Settle, Wait, joined
from crrmon.domain.events import ReplicaWritten
from crrmon.domain.objects import MarkId, Route, Scope
from crrmon.domain.outcomes import Fate, Half, Mark, Outcome, Settlement
from crrmon.domain.records import Record
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import (
    Ledger,
    LedgerError,
    Noted,
    Parked,
    Rescheduled,
    Settled,
    UnusableLedgerError,
)
from crrmon.ports.meters import Meters
from crrmon.services.batching import Batcher
from crrmon.services.health import Dependency

RETRY_FIRST_SECONDS = 0.1
RETRY_SOONEST_SECONDS = 1.0
"""After some tries; from then on, the next comes as soon as the ledger answers anything."""
RETRY_CAP_SECONDS = 15.0

log = structlog.get_logger()

Item = TypeVar("Item")
Result = TypeVar("Result")


class Bookkeeper:
    """
    Reads and writes the ledger for intake and poller.

    Args:
        ledger: the ledger itself.
        health: told how the ledger is.
        clock: tells when something is settled.
        meters: told what was counted, and how the ledger does.
        chance: jitters retries.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        health: Dependency,
        clock: Clock,
        meters: Meters,
        chance: random.Random,
    ) -> None:
        self._ledger = ledger
        self._health = health
        self._clock = clock
        self._meters = meters
        self._chance = chance
        self._seen = self._batcher(self._do_seen, "seen")
        self._park = self._batcher(self._do_park, "park")
        self._reschedule = self._batcher(self._do_reschedule, "reschedule")
        self._settle = self._batcher(self._do_settle, "settle")
        self._note = self._batcher(self._do_note, "note replica")
        self._routes: set[Route] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _batcher(
        self, act: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], name: str
    ) -> Batcher[Item, Result]:
        pace = self._ledger.pace
        return Batcher(act, name=name, size=pace.size, linger=pace.linger, lanes=pace.lanes)

    async def seen(self, ids: tuple[MarkId, ...]) -> Sequence[Mark | Half | None]:
        """
        Tell what is kept under some marks of one version.
        """
        return await self._seen.submit(ids)

    async def unless_counted(self, record: Record) -> Record | None:
        """
        Return the record with the exact arrivals that are known, or None when all of it was counted before.
        """
        version = record.version
        source = MarkId(Scope.SOURCE, version.bucket, version.key, version.version_id)
        buckets = [one.bucket for one in record.destinations]
        found = await self.seen((source, *(record.replica_mark(bucket) for bucket in buckets)))
        if isinstance(found[0], Mark) or (
            buckets and all(isinstance(one, Mark) for one in found[1:])
        ):
            return None
        arrivals = {
            bucket: one.replicated_at
            for bucket, one in zip(buckets, found[1:], strict=True)
            if isinstance(one, Half)
        }
        return joined(record, arrivals)

    async def carry_out(self, decision: Decision) -> None:
        """
        Make a decision durable.
        """
        match decision:
            case Wait(record) if record.rev:
                # A stale one was changed by somebody else, who set the next date.
                await self.reschedule(record)
            case Wait(record):
                await self.park(record)
            case Settle(settlement):
                await self.settle(settlement)
            case Adopt(then, provisional):
                await self.carry_out(then)
                await self.settle(provisional)

    async def park(self, record: Record) -> Parked:
        """
        Keep a new record.
        """
        return await self._park.submit(record)

    async def reschedule(self, record: Record) -> Rescheduled:
        """
        Keep a changed record, if nobody changed it meanwhile.
        """
        return await self._reschedule.submit(record)

    async def settle(self, settlement: Settlement) -> Sequence[Settled]:
        """
        Count what was decided, once; tell for each outcome whether this was the time.
        """
        return await self._settle.submit(settlement)

    async def note_replica(self, replica: ReplicaWritten) -> Noted:
        """
        Keep when a replica arrived.
        """
        return await self._note.submit(replica)

    async def remember(self, routes: Sequence[Route]) -> None:
        """
        Have routes reported from now on; cheap for those remembered already.
        """
        new = [route for route in routes if route not in self._routes]
        if new:
            await self._persist("remember_routes", lambda: self._ledger.remember_routes(new))
            self._routes.update(new)

    async def due(self, shards: Sequence[int], *, limit: int) -> Sequence[Record]:
        """
        Find what is due; nothing while the ledger is away.
        """
        now = self._clock.now()
        try:
            return await self._try("due", lambda: self._ledger.due(shards, now=now, limit=limit))
        except LedgerError:
            return ()

    async def intact(self) -> None:
        """
        Wait for ever, or raise what made the ledger unusable; a root task, so that the daemon ends by it.

        Raises:
            UnusableLedgerError: somebody must act.
        """
        await self._broken

    async def drained(self) -> None:
        """
        Wait until nothing is on its way to the ledger.
        """
        for batcher in (self._seen, self._park, self._reschedule, self._settle, self._note):
            await batcher.drained()

    async def _do_seen(
        self, asked: Sequence[tuple[MarkId, ...]]
    ) -> Sequence[Sequence[Mark | Half | None]]:
        flat = [one for ids in asked for one in ids]
        found = iter(await self._persist("seen", lambda: self._ledger.seen(flat)))
        return [[next(found) for _ in ids] for ids in asked]

    async def _do_park(self, records: Sequence[Record]) -> Sequence[Parked]:
        return await self._persist("park", lambda: self._ledger.park(records))

    async def _do_reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        return await self._persist("reschedule", lambda: self._ledger.reschedule(records))

    async def _do_note(self, replicas: Sequence[ReplicaWritten]) -> Sequence[Noted]:
        now = self._clock.now()
        return await self._persist(
            "note_replica", lambda: self._ledger.note_replica(replicas, now=now)
        )

    async def _do_settle(self, settlements: Sequence[Settlement]) -> Sequence[Sequence[Settled]]:
        # One id for all tries: a try that was carried out although it failed recognises itself.
        batch = uuid.UUID(int=self._chance.getrandbits(128), version=4).hex
        now = self._clock.now()
        results = await self._persist(
            "settle", lambda: self._ledger.settle(batch, settlements, now=now)
        )
        for settlement, settled in zip(settlements, results, strict=True):
            for outcome, one in zip(settlement.outcomes, settled, strict=True):
                if one is Settled.COUNTED:
                    self._counted(outcome)
        return results

    async def _persist(self, operation: str, act: Callable[[], Awaitable[Result]]) -> Result:
        """
        Try until the ledger does it.
        """
        delay = RETRY_FIRST_SECONDS
        while True:
            try:
                return await self._try(operation, act)
            except LedgerError:
                # Not at once, for what fails may fail alone: a full disk can be read.
                await asyncio.sleep(min(delay, RETRY_SOONEST_SECONDS))
                jittered = delay * (0.5 + self._chance.random())
                await self._health.answering(within=jittered)
                delay = min(delay * 2, RETRY_CAP_SECONDS)

    async def _try(self, operation: str, act: Callable[[], Awaitable[Result]]) -> Result:
        """
        Try once, and tell meters and health how it went.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            result = await act()
        except UnusableLedgerError as error:
            # Nothing more can be done; whoever waits here must not go on as if it had been.
            if not self._broken.done():
                self._broken.set_exception(error)
            await asyncio.Event().wait()
            raise
        except LedgerError as error:
            self._meters.add(catalogue.LEDGER_ERRORS, operation)
            self._health.failed(str(error), operation)
            raise
        self._health.succeeded(operation)
        self._meters.observe(catalogue.LEDGER_DURATION, operation, value=loop.time() - began)
        return result

    def _counted(self, outcome: Outcome) -> None:
        """
        Tell meters and log of an outcome that was counted just now.
        """
        source, destination = outcome.route.source, outcome.route.destination
        log.debug(
            "object_settled",
            bucket=source,
            key=outcome.mark.key,
            version_id=outcome.mark.version_id,
            destination=destination,
            fate=outcome.fate.value,
            looks=outcome.looks,
        )
        if outcome.fate is Fate.IDENTIFIED:
            return
        if not outcome.counts:
            self._meters.add(catalogue.TOO_OLD, source)
            return
        match outcome.fate:
            case Fate.NOT_COVERED:
                self._meters.add(catalogue.NOT_COVERED, source)
            case Fate.UNIDENTIFIED:
                self._meters.add(catalogue.UNIDENTIFIED, source)
            case Fate.IS_REPLICA:
                pass
            case _:
                self._count_replication(outcome)

    def _count_replication(self, outcome: Outcome) -> None:
        route = (outcome.route.source, outcome.route.destination)
        self._meters.add(catalogue.REPLICATIONS, *route, outcome.fate.value)
        if outcome.fate is Fate.FAILED:
            log.warning(
                "replication_failed",
                bucket=outcome.route.source,
                key=outcome.mark.key,
                version_id=outcome.mark.version_id,
                episode=outcome.mark.episode,
            )
        if outcome.fate is not Fate.COMPLETED:
            return
        self._meters.add(catalogue.REPLICATED_BYTES, *route, amount=outcome.size)
        if outcome.repaired:
            self._meters.add(catalogue.REPAIRED, *route)
        if outcome.latency is not None:
            for bucket, weight in outcome.spread:
                value = latencies.middle(bucket)
                self._meters.observe(catalogue.LATENCY, *route, value=value, weight=weight)
            if outcome.latency.exact:
                self._meters.add(catalogue.LATENCY_EXACT, *route)
