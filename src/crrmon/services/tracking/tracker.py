"""From a write to its fate: route it, hold it until the first look is due, look, settle or park.

One version is followed once at a time, whichever queues its events come through. Who comes while it is followed hands
over what it knows better, and need not follow it again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from crrmon.domain import catalogue
from crrmon.domain.decide import Settle
from crrmon.domain.events.facts import ObjectWritten
from crrmon.domain.events.times import believable
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.outcomes import Cause
from crrmon.domain.record_changes import merged
from crrmon.domain.records import Record
from crrmon.domain.routes import NotCovered
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from crrmon.services.tracking.configurations import Routebook
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.origins import Origins
from crrmon.services.tracking.recorder import Bookkeeper

REMEMBERED = 20_000
"""
How many versions without destinations are remembered, so that one told of twice is counted as not covered once.

NB: by this process only, and only lately: another replica, or this one after a restart, counts it again. A mark in
the ledger for each would cost as much as a replicated object.
"""


class _Track:
    """
    A version that is dealt with right now.
    """

    def __init__(self, hold: Hold | None) -> None:
        self.done = asyncio.Event()
        self._hold = hold
        self._told: list[Record] = []
        self._merged = 0
        self._durable = False

    def hurry(self) -> None:
        """
        Have it looked at now.
        """
        if self._hold is not None:
            self._hold.hurry()

    def hand_over(self, record: Record) -> int:
        """
        Tell what another event says; returns what to ask `took` by.
        """
        self._told.append(record)
        return len(self._told)

    def took(self, number: int) -> bool:
        """
        Tell whether that is durable now.
        """
        return self._durable and number <= self._merged

    def merge(self, record: Record) -> Record:
        """
        Add to a record what was handed over since.
        """
        for one in self._told[self._merged :]:
            record = merged(record, one)
        self._merged = len(self._told)
        return record

    def ended(self) -> None:
        """
        Note that all that was merged is durable.
        """
        self._durable = True


class Following:
    """
    Follows what was written, until it is durable in the ledger.

    Args:
        horizon_seconds: events older than this are not counted as new.
    """

    def __init__(
        self,
        *,
        bookkeeper: Bookkeeper,
        routebook: Routebook,
        looker: Looker,
        origins: Origins,
        clock: Clock,
        meters: Meters,
        horizon_seconds: float,
    ) -> None:
        self._bookkeeper = bookkeeper
        self._routebook = routebook
        self._looker = looker
        self._origins = origins
        self._clock = clock
        self._meters = meters
        self._horizon_seconds = horizon_seconds
        self._tracks: dict[ObjectVersion, _Track] = {}
        self._without: OrderedDict[ObjectVersion, bool] = OrderedDict()
        """Versions without destinations: whether they are parked until somebody can tell. Else they are not covered."""

    def counts(self, written_at: float) -> bool:
        """
        Tell whether what was written then is new enough to be counted.
        """
        return self._clock.now() - written_at <= self._horizon_seconds

    def deleted(self, version: ObjectVersion) -> None:
        """
        Take in that a version was deleted, also while it is not in the ledger.
        """
        self._looker.deleted(version)

    async def follow(self, written: ObjectWritten, hold: Hold) -> None:
        """
        Make a write durable.

        Raises:
            GivenBack: the daemon stops.
        """
        version = written.version
        record = self._record(written)
        while (busy := self._tracks.get(version)) is not None:
            number = busy.hand_over(record)
            await busy.done.wait()
            if busy.took(number):
                self._meters.add(catalogue.DUPLICATES, version.bucket)
                return
        track = self._tracks[version] = _Track(hold)
        try:
            await self._follow(record, hold, track)
            track.ended()
        finally:
            del self._tracks[version]
            track.done.set()

    async def found_replica(self, written: ObjectWritten) -> bool:
        """
        Tell whether replication wrote a version, as far as one look can tell, and note its arrival then.
        """
        decision = await self._origins.decided(self._record(written), uncovered=False)
        if not isinstance(decision, Settle):
            return False
        await self._bookkeeper.carry_out(decision)
        return True

    @asynccontextmanager
    async def alone(self, version: ObjectVersion, *, hurry: bool = False) -> AsyncIterator[None]:
        """
        Wait until a version is in the ledger or nowhere, and keep it there.

        Args:
            version: that something is told of.
            hurry: whether what is told makes it worth looking at at once.
        """
        while (busy := self._tracks.get(version)) is not None:
            if hurry:
                busy.hurry()
            await busy.done.wait()
        track = self._tracks[version] = _Track(None)
        try:
            yield
        finally:
            del self._tracks[version]
            track.done.set()

    def believed(self, at: float) -> tuple[float, float | None]:
        """
        Tell when something was written, as far as its event can be believed.

        Args:
            at: what the event says.

        Returns:
            `written_at` and `claimed_at` of its record.
        """
        now = self._clock.now()
        if believable(at, now=now, horizon_seconds=self._horizon_seconds):
            return at, None
        return now, at

    def _record(self, written: ObjectWritten) -> Record:
        named = written.version.identified
        written_at, claimed_at = self.believed(written.written_at)
        return Record(
            version=written.version,
            region=written.region,
            owner=written.owner,
            size=written.size,
            written_at=written_at,
            claimed_at=claimed_at,
            channel=written.channel,
            # What tells which version it was; not needed where its event does.
            operation=None if named else written.operation,
            etag=written.etag,
            next_look_at=self._clock.now(),
            counts=self.counts(written.written_at),
        )

    async def _follow(self, record: Record, hold: Hold, track: _Track) -> None:
        until = hold.until()
        routed = await self._routed(record, hold, until)
        if routed is None:
            track.merge(record)  # what was handed over is not covered either
            return
        found = await self._bookkeeper.unless_counted(routed)
        if found is None:
            track.merge(routed)
            self._meters.add(catalogue.DUPLICATES, record.version.bucket)
            return
        found = track.merge(found)
        if not found.destinations:
            await self._bookkeeper.park(found)
            self._remember(record.version, parked=True)
            return
        decision = self._looker.settled(found)
        if decision is None:
            first_look_at = self._looker.first_look_at(found)
            # Whoever waits for an answer does not wait for that of a store, which may be slow for one bucket alone.
            if hold.pressing or first_look_at > max(until, self._clock.now()):
                await self._bookkeeper.park(replace(found, next_look_at=first_look_at))
                return
            if await hold.wait(first_look_at):
                # The replica's own event may have come meanwhile, or somebody else have counted it.
                again = await self._bookkeeper.unless_counted(found)
                if again is None:
                    return
                found = track.merge(again)
                decision = self._looker.settled(found)
        if decision is None:
            decision = await self._looker.consider(found)
        if not await self._bookkeeper.carry_out(decision):
            # A record was there: it learns what this event knows better. Where none is, this changes nothing.
            await self._bookkeeper.park(found)

    async def _routed(self, record: Record, hold: Hold, until: float) -> Record | None:
        """
        Find the destinations; None when that ended the matter. Without any when nobody can tell in time.
        """
        version = record.version
        parked = self._without.get(version)
        if parked is False:
            self._without.move_to_end(version)
            self._meters.add(catalogue.DUPLICATES, version.bucket)
            return None
        asked = False
        while True:
            answer = await self._routebook.destinations(record)
            now = self._clock.now()
            if isinstance(answer, tuple):
                self._without.pop(version, None)
                buckets = [one.bucket for one in answer]
                await self._bookkeeper.register.heard(version.bucket, buckets)
                return replace(record, destinations=answer, next_look_at=now)
            if not asked and await self._origins.doubtful(record):
                asked = True
                if await self._decided(record, uncovered=isinstance(answer, NotCovered)):
                    return None
            if isinstance(answer, NotCovered):
                if parked:
                    self._meters.add(catalogue.DUPLICATES, version.bucket)  # the poller counts it
                else:
                    await self._not_covered(record, answer.cause)
                return None
            if answer.ask_again_at > until:
                return replace(record, next_look_at=answer.ask_again_at)
            await hold.wait(answer.ask_again_at)

    async def _decided(self, record: Record, *, uncovered: bool) -> bool:
        """
        Deal with a version that replication wrote, or might have; tell whether that was all.
        """
        open_one = await self._bookkeeper.unless_counted(record)
        if open_one is None:
            self._meters.add(catalogue.DUPLICATES, record.version.bucket)
            return True
        decision = await self._origins.decided(open_one, uncovered=uncovered)
        if decision is None:
            return False
        await self._bookkeeper.carry_out(decision)
        return True

    async def _not_covered(self, record: Record, cause: Cause) -> None:
        await self._bookkeeper.not_covered(record, cause)
        self._remember(record.version, parked=False)
        if record.counts:
            self._meters.add(catalogue.NOT_COVERED, record.version.bucket, cause.value)
        else:
            self._meters.add(catalogue.TOO_OLD, record.version.bucket)

    def _remember(self, version: ObjectVersion, *, parked: bool) -> None:
        self._without[version] = parked
        if len(self._without) > REMEMBERED:
            self._without.popitem(last=False)
