"""One version is followed once at a time, whichever queues its events come through.

Who comes while it is followed hands over what it knows better, and need not follow it again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from crrmon.domain.objects import ObjectVersion
from crrmon.domain.record_changes import merged
from crrmon.domain.records import Record
from crrmon.services.tracking.holds import Hold


class Track(msgspec.Struct, eq=False):
    """A version that is dealt with right now."""

    _hold: Hold | None
    _done: asyncio.Event | None = None
    _told: list[Record] | None = None
    _merged: int = 0
    _durable: bool = False

    def hurry(self) -> None:
        """Make its look due now."""
        if self._hold is not None:
            self._hold.hurry()

    def hand_over(self, record: Record) -> int:
        """Take in what another event says; return what to ask `took` by."""
        # Made by whoever tells something: hardly any version is told of twice at a time.
        if self._told is None:
            self._told = []
        self._told.append(record)
        return len(self._told)

    def took(self, number: int) -> bool:
        """Return whether that is durable now."""
        return self._durable and number <= self._merged

    def merge(self, record: Record) -> Record:
        """Add to a record what was handed over since."""
        if self._told is None:
            return record
        for told in self._told[self._merged :]:
            record = merged(record, told)
        self._merged = len(self._told)
        return record

    def ended(self) -> None:
        """Note that all that was merged is durable."""
        self._durable = True

    async def over(self) -> None:
        """Wait until nobody deals with it any more."""
        # Made by whoever waits, for the same reason.
        self._done = self._done or asyncio.Event()
        await self._done.wait()

    def let_go(self) -> None:
        """Wake up whoever waits for that."""
        if self._done is not None:
            self._done.set()


class Tracks:
    """Knows what is dealt with right now."""

    def __init__(self) -> None:
        self._tracks: dict[ObjectVersion, Track] = {}

    def of(self, version: ObjectVersion) -> Track:
        """Return the track of a version that is dealt with."""
        return self._tracks[version]

    def busy(self, version: ObjectVersion) -> bool:
        """Return whether somebody deals with a version."""
        return version in self._tracks

    async def taken(self, record: Record) -> bool:
        """Wait until nobody else deals with a version; return whether what is told here is durable by that."""
        while (busy := self._tracks.get(record.version)) is not None:
            number = busy.hand_over(record)
            await busy.over()
            if busy.took(number):
                return True
        return False

    def begin(self, version: ObjectVersion, hold: Hold | None = None) -> Track:
        """Begin to deal with a version that nobody else deals with now; to be ended.

        Args:
            version: that something is told of.
            hold: what others may hurry meanwhile.
        """
        track = self._tracks[version] = Track(hold)
        return track

    def end(self, version: ObjectVersion) -> None:
        """Let others deal with a version."""
        self._tracks.pop(version).let_go()

    @asynccontextmanager
    async def alone(self, version: ObjectVersion, *, hurry: bool = False) -> AsyncIterator[None]:
        """Wait until nobody else deals with a version, and keep it so.

        Args:
            version: that something is told of.
            hurry: whether what is told makes it worth looking at at once.
        """
        while (busy := self._tracks.get(version)) is not None:
            if hurry:
                busy.hurry()
            await busy.over()
        self.begin(version)
        try:
            yield
        finally:
            self.end(version)
