"""The services' way to the ledger: batched, retried until it holds, measured, and counted once.

A ledger that does not answer is asked again for ever: whoever waits here holds a message that must not be
acknowledged, or a record that must not be lost. Intake and poller stop taking on work meanwhile.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import TypeVar

from msgspec.structs import replace

from crrmon.domain import catalogue
from crrmon.domain.decide import joined
from crrmon.domain.decisions import Adopt, Decision, Settle, Wait
from crrmon.domain.events.facts import (
    Channel,
    News,
    ReplicaWritten,
    VersionDeleted,
    VersionReplicated,
)
from crrmon.domain.noting import Noted
from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope
from crrmon.domain.outcomes import Cause, Delta, EarlyFact, Fate, Mark, Settlement, Tally
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled
from crrmon.domain.stores import BucketStores
from crrmon.domain.trails import Parked, Rescheduled, Trail
from crrmon.domain.verdicts import for_version, late_arrival
from crrmon.ports.ledger import Ledger, LedgerError, UnusableLedgerError
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.timekeeper import certain
from crrmon.services.reporting.outcome_metrics import Counting
from crrmon.services.tracking.batching import Batcher
from crrmon.services.tracking.route_register import RouteRegister, may_be_missing

RETRY_FIRST_SECONDS = 0.1
RETRY_SOONEST_SECONDS = 1.0
"""After some tries; from then on, the next comes as soon as the ledger answers anything."""
RETRY_CAP_SECONDS = 15.0

UNCOVERED_LINGER_SECONDS = 1.0
"""For how long objects that no rule covers are gathered before they are added to what is reported."""
UNCOVERED_BATCH = 500

# Asked for of every object. Before Python 3.12, an enumeration calls a function for each member.
_SOURCE = Scope.SOURCE
_EVENTBRIDGE = Channel.EVENTBRIDGE
_ARRIVED = Fate.COMPLETED
_COUNTED = Settled.COUNTED

Item = TypeVar("Item")
Result = TypeVar("Result")


class Recorder:
    """Reads and writes the ledger for intake and poller.

    Args:
        ledger: the ledger itself.
        runtime: clock, meters and chance.
        health: told how the ledger is.
        stores: tells what kind of store a bucket is in, for advice.
        early_facts: called with every replica that came before anything else was known of its version.
        hurried: whether senders wait for what intake writes: then it is not gathered before.
    """

    def __init__(
        self,
        ledger: Ledger,
        runtime: Runtime,
        *,
        health: Dependency,
        stores: BucketStores,
        early_facts: Callable[[ReplicaWritten], None] | None = None,
        hurried: bool = False,
    ) -> None:
        self._ledger = ledger
        self._health = health
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._rng = runtime.rng
        self._early_facts = early_facts
        self._counting = Counting(runtime.meters, stores)
        self._seen = self._batcher(self._do_seen, "seen", hurried=hurried)
        self._park = self._batcher(self._do_park, "park", hurried=hurried)
        self._reschedule = self._batcher(self._do_reschedule, "reschedule")
        self._settle = self._batcher(self._do_settle, "settle")
        self._note = self._batcher(self._do_note, "note", hurried=hurried)
        self._uncovered = Batcher(
            self._do_uncovered,
            name="uncovered",
            size=UNCOVERED_BATCH,
            linger=0.0 if hurried else UNCOVERED_LINGER_SECONDS,
        )
        self.register = RouteRegister(ledger, persist=self._persist, stores=stores)
        self._routes: set[Route] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _batcher(
        self,
        act: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        name: str,
        *,
        hurried: bool = False,
    ) -> Batcher[Item, Result]:
        pace = self._ledger.pace
        linger = 0.0 if hurried else pace.linger
        return Batcher(act, name=name, size=pace.size, linger=linger, lanes=pace.lanes)

    async def seen(self, ids: tuple[MarkId, ...]) -> Sequence[Mark | EarlyFact | None]:
        """Return what is kept under some marks of one version."""
        return await self._seen.submit(ids)

    async def unless_counted(self, record: Record) -> Record | None:
        """Return the record with the exact arrivals that are known, or None when all of it was counted before.

        Marks of failure episodes do not end anything: an open failure is looked at again. A version that is known to
        have arrived in its own bucket was written by replication, whatever event told of it; unless that is the name of
        its destination, too, at another site.
        """
        version = record.version
        buckets = [destination.bucket for destination in record.destinations]
        asked = [
            MarkId(_SOURCE, version.bucket, version.key, version.version_id),
            *map(record.replica_mark, buckets),
        ]
        if record.channel is _EVENTBRIDGE and version.version_id != "null":
            # What does not tell who wrote may come from a store that says itself when it is everywhere.
            asked.append(record.replicated_mark)
            if version.bucket not in buckets:
                asked.append(record.replica_mark(version.bucket))
        kept = await self._seen.submit(tuple(asked))
        if not any(kept):
            return record  # nearly always
        whole, *found = kept
        there, (said, own) = found[: len(buckets)], (*found[len(buckets) :], None, None)[:2]
        if isinstance(whole, Mark) or _arrived(own):
            return None
        if buckets and all(isinstance(kept, Mark) for kept in there):
            return None
        arrivals = {
            bucket: kept
            for bucket, kept in zip(buckets, there, strict=True)
            if isinstance(kept, EarlyFact)
        }
        everywhere = said if isinstance(said, EarlyFact) else None
        return joined(record, arrivals, everywhere=everywhere)

    async def carry_out(self, decision: Decision) -> bool:
        """Make a decision durable.

        Returns:
            False when nothing of a settlement was new: others counted it all, or hold a record that knows more.
        """
        match decision:
            case Settle(settlement, news):
                for fact in news:
                    await self.note(fact)
                return _COUNTED in await self.settle(settlement)
            case Wait(record) if record.rev:
                # A stale one was changed by somebody else, who set the next date.
                await self.reschedule(record)
            case Wait(record):
                await self.park(record)
            case Adopt(then, provisional, record):
                if not await self.carry_out(then):
                    # A record that was there learns what was said about a failure, and is looked at for it. Where an
                    # arrival was told of before the version was known, this is its record.
                    await self.park(replace(record, next_look_at=self._clock.now()))
                await self.settle(provisional)
        return True

    async def park(self, record: Record) -> Parked:
        """Keep a new record."""
        return await self._park.submit(record)

    async def reschedule(self, record: Record) -> Rescheduled:
        """Keep a changed record, if nobody changed it meanwhile."""
        return await self._reschedule.submit(record)

    async def settle(self, settlement: Settlement) -> Sequence[Settled]:
        """Count what was decided, once; tell for each outcome whether this was the time."""
        for outcome in settlement.outcomes:
            # Before the record is dropped: until then it holds the route back itself.
            if outcome.fate is not _ARRIVED and may_be_missing(outcome):
                await self.register.abandon(outcome)
        return await self._settle.submit(settlement)

    async def not_covered(self, record: Record, cause: Cause) -> None:
        """Report that no rule covers a version, by the configuration alone.

        It leaves no mark: an event that comes again, at another daemon or after a restart, reports it again.
        """
        await self.register.abandon(
            for_version(record, Fate.NOT_COVERED, found_at=self._clock.now(), cause=cause)
        )
        if record.counts:
            await self._uncovered.submit(record.version.bucket)

    async def note(self, news: News) -> Noted:
        """Add what somebody told to what is known of a version.

        Returns:
            What came of it; an arrival that came late is counted, and so is settled.
        """
        noted = await self._note.submit(news)
        match news:
            case ReplicaWritten():
                await self.register.arrived(news.version)
            case VersionDeleted() | VersionReplicated():
                await self.register.over(news.version)
            case _:
                pass
        if noted is Noted.LATE and isinstance(news, ReplicaWritten):
            await self._count_late(news)
            return Noted.SETTLED
        if (
            noted is Noted.EARLY
            and isinstance(news, ReplicaWritten)
            and self._early_facts is not None
        ):
            self._early_facts(news)
        return noted

    async def _count_late(self, replica: ReplicaWritten) -> None:
        """Count an arrival that was not proved when its version was closed."""
        version = replica.version
        trail = await self.find(version)
        for mark in trail.marks.values():
            if mark.fate is Fate.CLOSED and mark.route.source != version.bucket:
                source = ObjectVersion(mark.route.source, version.key, version.version_id)
                outcome = late_arrival(replica, mark, found_at=self._clock.now())
                await self.settle(Settlement(version=source, outcomes=(outcome,), rev=0))
                return

    async def find(self, version: ObjectVersion) -> Trail:
        """Return all that is known of a key and version id, in whatever bucket."""
        return await self._persist(
            "find", lambda: self._ledger.find(version.key, version.version_id)
        )

    async def remember(self, routes: Sequence[Route]) -> None:
        """Report routes from now on; cheap for those already remembered."""
        new = [route for route in routes if route not in self._routes]
        if new:
            await self._persist("remember_routes", lambda: self._ledger.remember_routes(new))
            self._routes.update(new)

    async def known_routes(self) -> Sequence[Route]:
        """Return all routes that any daemon ever remembered."""
        return await self._persist("known_routes", self._ledger.known_routes)

    async def due(self, shards: Sequence[int], *, limit: int) -> Sequence[Record] | None:
        """Find what is due; None where the ledger does not tell."""
        now = self._clock.now()
        try:
            return await self._try("due", lambda: self._ledger.due(shards, now=now, limit=limit))
        except LedgerError:
            return None

    async def intact(self) -> None:
        """Wait for ever, or raise what made the ledger unusable; a root task, so that the daemon ends by it.

        Raises:
            UnusableLedgerError: somebody must act.
        """
        await self._broken

    async def drained(self) -> None:
        """Wait until nothing is on its way to the ledger."""
        for batcher in (self._seen, self._park, self._reschedule, self._settle, self._note):
            await batcher.drained()
        await self._uncovered.drained()
        self._counting.tell()

    async def _do_seen(
        self, asked: Sequence[tuple[MarkId, ...]]
    ) -> Sequence[Sequence[Mark | EarlyFact | None]]:
        flat = [mark for ids in asked for mark in ids]
        found = iter(await self._persist("seen", lambda: self._ledger.seen(flat)))
        return [list(islice(found, len(ids))) for ids in asked]

    async def _do_park(self, records: Sequence[Record]) -> Sequence[Parked]:
        await certain(self._clock)  # the ledger's own clock is this one
        return await self._persist("park", lambda: self._ledger.park(records))

    async def _do_reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        await certain(self._clock)
        return await self._persist("reschedule", lambda: self._ledger.reschedule(records))

    async def _do_note(self, news: Sequence[News]) -> Sequence[Noted]:
        await certain(self._clock)
        now = self._clock.now()
        return await self._persist("note", lambda: self._ledger.note(news, now=now))

    async def _do_settle(self, settlements: Sequence[Settlement]) -> Sequence[Sequence[Settled]]:
        # One id for all tries: a try that was carried out although it failed recognises itself.
        batch = uuid.UUID(int=self._rng.getrandbits(128), version=4).hex
        # NB: windows and the age of marks go by it.
        await certain(self._clock)
        now = self._clock.now()
        results = await self._persist(
            "settle", lambda: self._ledger.settle(batch, settlements, now=now)
        )
        self._counting.counted(
            [
                outcome
                for settlement, settled in zip(settlements, results, strict=True)
                for outcome, what in zip(settlement.outcomes, settled, strict=True)
                if what is _COUNTED
            ]
        )
        if self.register.holding:
            for settlement in settlements:
                await self._arrived(settlement)
        return results

    async def _arrived(self, settlement: Settlement) -> None:
        """Note what arrived: it may be what a route is held back by."""
        for outcome in settlement.outcomes:
            if outcome.fate is Fate.COMPLETED:
                key, version_id = outcome.mark.key, outcome.mark.version_id
                await self.register.arrived(
                    ObjectVersion(outcome.route.destination, key, version_id)
                )

    async def _do_uncovered(self, buckets: Sequence[str]) -> Sequence[None]:
        await certain(self._clock)
        now = self._clock.now()
        counts = sorted(Counter(buckets).items())
        counted = Delta(
            id=uuid.UUID(int=self._rng.getrandbits(128), version=4).hex,
            settled_at=now,
            tallies=tuple(
                (Route(bucket, ""), Tally(not_covered=count)) for bucket, count in counts
            ),
        )
        await self._persist("append", lambda: self._ledger.append([counted]))
        return [None] * len(buckets)

    async def _persist(self, operation: str, act: Callable[[], Awaitable[Result]]) -> Result:
        """Try until the ledger does it."""
        delay = RETRY_FIRST_SECONDS
        while True:
            try:
                return await self._try(operation, act)
            except LedgerError:
                # Not at once, for what fails may fail alone: a full disk can be read.
                await asyncio.sleep(min(delay, RETRY_SOONEST_SECONDS))
                jittered = delay * (0.5 + self._rng.random())
                await self._health.answering(within=jittered)
                delay = min(delay * 2, RETRY_CAP_SECONDS)

    async def _try(self, operation: str, act: Callable[[], Awaitable[Result]]) -> Result:
        """Try once, and tell meters and health how it went."""
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


def _arrived(kept: Mark | EarlyFact | None) -> bool:
    """Return whether what is kept of a version at a bucket proves that replication wrote it there."""
    return isinstance(kept, EarlyFact) or (kept is not None and kept.fate is Fate.COMPLETED)
