"""From a write, or a parked record, to its fate: route it, hold it until its first look is due, look, settle or park."""

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import msgspec
from msgspec.structs import replace

from crrmon.domain import catalogue
from crrmon.domain.decisions import Decision, Settle
from crrmon.domain.events.facts import Channel, ObjectWritten, Operation, ReplicationFailed
from crrmon.domain.events.times import believable
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.outcomes import Cause, Fate, Settlement
from crrmon.domain.record_changes import routed
from crrmon.domain.records import Destination, Record
from crrmon.domain.routes import NotCovered
from crrmon.domain.verdicts import for_version
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.tracking.configurations import Answer, ConfigurationCache, Later, until_known
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.origins import Origins
from crrmon.services.tracking.recorder import Recorder
from crrmon.services.tracking.tracks import Tracks

REMEMBERED = 20_000
"""How many versions without destinations are remembered, so that one told of twice is counted as not covered once.

NB: by this process only, and only lately: another replica, or this one after a restart, counts it again. A mark in
the ledger for each would cost as much as a replicated object, it costs nothing to find out again, and a bucket may
hold millions of keys outside its rules.
"""


class FirstLook(msgspec.Struct, frozen=True):
    """A version whose first look is not due yet; while it waits, there is nothing of it but this."""

    record: Record
    at: float
    """When it is due."""


class Tracker:
    """Follows versions until they are final.

    Args:
        retention_seconds: events older than this are not counted as new.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        recorder: Recorder,
        configurations: ConfigurationCache,
        looker: Looker,
        origins: Origins,
        retention_seconds: float,
    ) -> None:
        self._recorder = recorder
        self._configurations = configurations
        self._looker = looker
        self._origins = origins
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._retention_seconds = retention_seconds
        self._tracks = Tracks()
        self._without: OrderedDict[ObjectVersion, bool] = OrderedDict()
        """Versions without destinations: whether they are parked until somebody can tell. Else they are not covered."""

    # ---- what others ask ----

    def counts(self, written_at: float) -> bool:
        """Return whether what was written then is new enough to be counted."""
        return self._clock.now() - written_at <= self._retention_seconds

    def record_of(
        self,
        told: ObjectWritten | ReplicationFailed,
        *,
        written_at: float,
        channel: Channel,
        operation: Operation | None = None,
        etag: str = "",
    ) -> Record:
        """Return the record of a version that nobody follows yet, by what an event told of it.

        Args:
            told: by the event.
            written_at: when it was written, by the event; it is believed as far as it may be right.
            channel: that the event came through.
            operation: that wrote it, where that helps to recognise it.
            etag: of what was written, as the event told it.
        """
        now = self._clock.now()
        right = believable(written_at, now=now, retention_seconds=self._retention_seconds)
        return Record(
            version=told.version,
            region=told.region,
            owner=told.owner,
            size=told.size,
            written_at=written_at if right else now,
            claimed_at=None if right else written_at,
            channel=channel,
            operation=operation,
            etag=etag,
            next_look_at=now,
            counts=now - written_at <= self._retention_seconds,
        )

    def deleted(self, version: ObjectVersion) -> None:
        """Take in that a version was deleted, also while it is not in the ledger."""
        self._looker.deleted(version)

    def alone(
        self, version: ObjectVersion, *, hurry: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Wait until a version is in the ledger or nowhere, and keep it there.

        Args:
            version: that something is told of.
            hurry: whether what is told makes it worth looking at at once.
        """
        return self._tracks.alone(version, hurry=hurry)

    async def found_replica(self, written: ObjectWritten) -> bool:
        """Return whether replication wrote a version, as far as one look can tell, and note its arrival then."""
        decision = await self._origins.decided(self._record(written), uncovered=False)
        if not isinstance(decision, Settle):
            return False
        await self._recorder.carry_out(decision)
        return True

    # ---- following ----

    async def follow(self, written: ObjectWritten, hold: Hold) -> FirstLook | None:
        """Begin to make a write durable.

        Returns:
            What is to be gone on with, by `look_first`, when its time has come; None where the write is durable.

        Raises:
            GivenBack: the daemon stops.
        """
        version = written.version
        record = self._record(written)
        if self._tracks.busy(version) and await self._tracks.taken(record):
            self._meters.add(catalogue.DUPLICATES, version.bucket)
            return None
        track = self._tracks.begin(version, hold)
        later: FirstLook | None = None
        try:
            later = await self._begun(record, hold)
            if later is None:
                track.ended()
        finally:
            # Until its first look it stays the one that others hand over to.
            if later is None:
                self._tracks.end(version)
        return later

    async def look_first(self, first: FirstLook, hold: Hold) -> None:
        """Make a write durable whose first look was waited for.

        Raises:
            GivenBack: the daemon stops.
        """
        version = first.record.version
        try:
            hold.woken()
            # The replica's own event may have come meanwhile, or somebody else have counted it.
            again = await self._recorder.unless_counted(first.record)
            if again is not None:
                await self._settled(self._merged(again))
            self._tracks.of(version).ended()
        finally:
            self._tracks.end(version)

    def let_go(self, first: FirstLook) -> None:
        """Give up a write whose first look was waited for."""
        self._tracks.end(first.record.version)

    async def visit(self, record: Record) -> None:
        """Look again at a version that the ledger holds, and make durable what comes of it."""
        ready = await self._routed(record, None, self._clock.now())
        if ready is not None:
            await self._settled(ready)

    async def _begun(self, record: Record, hold: Hold) -> FirstLook | None:
        """Route a new version, and look at it if that is due; else return when it is, unless it is parked until then."""
        began_at = self._clock.now()
        ready = await self._routed(record, hold, began_at)
        if ready is None:
            return None
        decision = self._looker.settled(ready)
        if decision is None:
            first_look_at = self._looker.first_look_at(ready)
            # Whoever waits for an answer does not wait for that of a store, which may be slow for one bucket alone.
            if hold.pressing or (
                first_look_at > self._clock.now() and first_look_at > hold.until(began_at)
            ):
                await self._recorder.park(replace(ready, next_look_at=first_look_at))
                return None
            if not hold.over(first_look_at):
                return FirstLook(ready, first_look_at)
            decision = await self._looker.consider(ready)
        await self._carried_out(ready, decision)
        return None

    async def _settled(self, ready: Record) -> None:
        """Decide on a version, by a look where one is needed, and make that durable."""
        decision = self._looker.settled(ready) or await self._looker.consider(ready)
        await self._carried_out(ready, decision)

    async def _carried_out(self, ready: Record, decision: Decision) -> None:
        """Make a decision durable."""
        new = await self._recorder.carry_out(decision)
        if not new and not ready.rev:
            # A record was there: it learns what this event knows better. Where none is, this changes nothing, unless
            # an arrival was told of meanwhile that the decision did not know.
            await self._recorder.park(ready)

    # ---- where it should arrive ----

    async def _routed(self, record: Record, hold: Hold | None, since: float) -> Record | None:
        """Find the destinations; None when that ended the matter, or nobody can tell in time."""
        if record.destinations:
            return record
        if not record.rev and self._known_not_covered(record):
            return None
        if (destinations := self._configurations.at_hand(record)) is not None:
            return await self._covered(record, destinations)
        until = -math.inf if hold is None else hold.until(since)
        answer: Answer | None = await until_known(self._question(record), hold, until)
        match answer:
            case tuple() as destinations:
                return await self._covered(record, destinations)
            case NotCovered() if record.said:
                # A rule did cover it when it was written, whatever there is now.
                return routed(
                    record, tuple(Destination(destination.bucket) for destination in record.said)
                )
            case NotCovered(cause=cause):
                await self._not_covered(record, cause)
            case Later(ask_again_at=at):
                await self._unknown(record, at)
            case None:
                pass
        return None

    def _question(self, record: Record) -> Callable[[], Awaitable[Answer | None]]:
        """Return the question where a version should arrive; its answer is None once replication turned out to have
        written it, and that was dealt with.
        """
        doubted = False

        async def ask() -> Answer | None:
            nonlocal doubted
            answer = await self._configurations.destinations(record)
            if isinstance(answer, tuple) or doubted:
                return answer
            # Again with each answer: what part its bucket plays may be known by then. One look is enough, though.
            doubted = await self._origins.doubtful(record)
            uncovered = isinstance(answer, NotCovered)
            if doubted and await self._by_replication(record, uncovered=uncovered):
                return None
            return answer

        return ask

    async def _by_replication(self, record: Record, *, uncovered: bool) -> bool:
        """Deal with a version that replication wrote, or might have; return whether that was all."""
        found = record if record.rev else await self._recorder.unless_counted(record)
        if found is None:
            self._duplicate(record)
            return True
        decision = await self._origins.decided(found, uncovered=uncovered)
        if decision is None:
            return False
        await self._recorder.carry_out(decision)
        self._merged(record)
        return True

    async def _covered(
        self, record: Record, destinations: tuple[Destination, ...]
    ) -> Record | None:
        """Return the record with its destinations; None where all of them were counted before."""
        if not record.rev:
            self._without.pop(record.version, None)
        register = self._recorder.register
        if unheard := register.unheard(record.version.bucket, destinations):
            await register.heard(unheard)
        now = self._clock.now()
        if record.said:
            ready = replace(routed(record, destinations), next_look_at=now)
        else:
            ready = replace(record, destinations=destinations, next_look_at=now)
        found = await self._recorder.unless_counted(ready)
        if found is not None:
            return self._merged(found)
        if record.rev:
            await self._recorder.settle(
                Settlement(version=record.version, outcomes=(), rev=record.rev)
            )
        else:
            self._duplicate(record)
        return None

    async def _unknown(self, record: Record, ask_again_at: float) -> None:
        """Keep a version whose destinations nobody can tell."""
        if record.rev:
            reason = "replication configuration unreadable"
            later = self._looker.postponed(record, reason=reason, at=ask_again_at)
            await self._recorder.carry_out(later)
            return
        new = replace(record, next_look_at=ask_again_at)
        found = await self._recorder.unless_counted(new)
        if found is None:
            self._duplicate(record)
            return
        await self._recorder.park(self._merged(found))
        self._remember(record.version, parked=True)

    async def _not_covered(self, record: Record, cause: Cause) -> None:
        version = record.version
        if record.rev:
            outcome = for_version(
                record, Fate.NOT_COVERED, found_at=self._clock.now(), cause=cause
            )
            await self._recorder.settle(
                Settlement(version=version, outcomes=(outcome,), rev=record.rev)
            )
            return
        if self._without.get(version):
            self._duplicate(record)  # the poller counts it
            return
        await self._recorder.not_covered(record, cause)
        self._remember(version, parked=False)
        if record.counts:
            self._meters.add(catalogue.NOT_COVERED, version.bucket, cause.value)
        else:
            self._meters.add(catalogue.BEYOND_RETENTION, version.bucket)
        self._merged(record)  # what was handed over is not covered either

    def _known_not_covered(self, record: Record) -> bool:
        """Return whether a version was found to be not covered lately; a duplicate, then."""
        if self._without.get(record.version) is not False:
            return False
        self._without.move_to_end(record.version)
        self._duplicate(record)
        return True

    def _duplicate(self, record: Record) -> None:
        self._merged(record)  # what was handed over is one, too
        self._meters.add(catalogue.DUPLICATES, record.version.bucket)

    def _merged(self, record: Record) -> Record:
        """Add to a new record what others handed over since."""
        return record if record.rev else self._tracks.of(record.version).merge(record)

    def _remember(self, version: ObjectVersion, *, parked: bool) -> None:
        self._without[version] = parked
        if len(self._without) > REMEMBERED:
            self._without.popitem(last=False)

    def _record(self, written: ObjectWritten) -> Record:
        identified = written.version.identified
        return self.record_of(
            written,
            written_at=written.written_at,
            channel=written.channel,
            # What tells which version it was; not needed where its event does.
            operation=None if identified else written.operation,
            etag=written.etag,
        )
