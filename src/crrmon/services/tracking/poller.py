"""The parked ones: look at what is due in the shards this daemon holds, settle it or set the next date.

Claiming writes nothing. What is being looked at here is remembered in the process; what another daemon does to the
same record at the same time is found out by its revision.
"""

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.records import Record
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.patience import patiently
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.recorder import Recorder
from crrmon.services.tracking.setbacks import Setbacks
from crrmon.services.tracking.tracker import Tracker

IDLE_SECONDS = 0.5
"""Between two questions for what is due, when nothing more was."""

ENOUGH_BUSY = 0.75
"""Share of the room that keeps looks going while more are asked for."""

FAILING_BUCKET_LOOKS = 4
"""Most records under way of a bucket that does not answer; each look at it takes until its time-out."""

PUT_OFF_SECONDS = 60.0
"""For how long others of such a bucket are put off."""

PUTTING_OFF_SECONDS = 10.0
"""How long the ledger has to take the new date of a record whose visit failed: its place is wanted.

One that it does not take is left out here, as long as this process remembers.
"""

TIDY_SECONDS = 60.0
"""How often what is known of buckets and records is gone through for what is old."""

PATIENCE_SECONDS = 120.0

log = structlog.get_logger()


class Poller:
    """Looks again at what is parked.

    Args:
        gates: what must be usable before more is looked at: ledger and S3.
        shards: tells which shards this daemon holds.
        concurrency: most records under way at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        gates: Sequence[Dependency],
        recorder: Recorder,
        looker: Looker,
        tracker: Tracker,
        shards: Callable[[], Sequence[int]],
        concurrency: int,
    ) -> None:
        self._gates = gates
        self._board = runtime.board
        self._recorder = recorder
        self._looker = looker
        self._tracker = tracker
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._shards = shards
        self._rng = runtime.rng
        self._tried: dict[str, float] = {}
        """When a bucket's turn was, while S3 or the ledger is away."""
        self._setbacks = Setbacks()
        self._visit_failed = ThrottledLog(
            log, "poll_failed", level="error", examples="example_keys"
        )
        self._tidied_at = float("-inf")
        self._concurrency = concurrency
        self._busy: dict[ObjectVersion, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Poll, until stopped."""
        while not self._stopping.is_set():
            self._alive()
            for gate in self._gates:
                await gate.usable(alive=self._alive)
            taken = await self._take_up()
            self._tidy()
            if taken is not None and not self._hindered():
                self._board.ended("poller")
            await self._pause(taken or 0)

    def _alive(self) -> None:
        self._board.began("poller", patience=PATIENCE_SECONDS)

    def _hindered(self) -> bool:
        return any(gate.away for gate in self._gates)

    def _tidy(self) -> None:
        """Forget what is no longer this daemon's to know."""
        if not self._hindered():
            self._tried.clear()
        self._meters.set(catalogue.POLLS_DEFERRED, value=len(self._setbacks))
        now = asyncio.get_running_loop().time()
        if now - self._tidied_at >= TIDY_SECONDS:
            self._tidied_at = now
            self._setbacks.tidy()
            self._looker.tidy()

    def stop(self) -> None:
        """Begin no more looks."""
        self._stopping.set()

    async def drained(self) -> None:
        """Wait until no look is under way."""
        while self._busy:
            await asyncio.wait(self._busy.values())

    async def abandon(self) -> None:
        """End where it stands whatever is still under way: it is due again."""
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_up(self) -> int | None:
        """Begin with as many due records as there is room for.

        Returns:
            How many; None where there is no room, or the ledger does not tell what is due.
        """
        if not self._clock.sure:
            self._meters.unset(catalogue.POLL_OVERDUE)
            return 0  # nobody can tell what is due
        shards = self._shards()
        if not shards:
            self._meters.unset(catalogue.POLL_OVERDUE)
            self._setbacks.clear()
            return 0
        room = self._concurrency - len(self._busy)
        if room <= 0:
            return None
        # Those under way are still due in the ledger, and the longest, as are some that failed: ask for as many more.
        needless = len(self._busy) + self._setbacks.still_due
        records = await self._recorder.due(shards, limit=room + needless)
        if records is None:
            self._meters.unset(catalogue.POLL_OVERDUE)
            return None
        if self._stopping.is_set():
            return 0
        new = self._next(records, room)
        for record in new:
            self._begin(record)
        return len(new)

    def _next(self, records: Sequence[Record], room: int) -> list[Record]:
        """Choose what is visited now of what is due, and show how long the first of it has been waiting."""
        waiting = [
            record
            for record in records
            if record.version not in self._busy and not self._setbacks.resting(record.version)
        ]
        since = min((record.next_look_at for record in waiting), default=math.inf)
        self._meters.set(catalogue.POLL_OVERDUE, value=max(self._clock.now() - since, 0.0))
        new = waiting[:room]
        if self._hindered():
            # One look is enough to find out whether all is well again; by turns, for one bucket may be gone for good.
            new.sort(key=lambda record: self._tried.get(record.version.bucket, 0.0))
            new = new[: 0 if self._busy else 1]
        return new

    def _begin(self, record: Record) -> None:
        bucket = record.version.bucket
        if self._hindered():
            self._tried[bucket] = asyncio.get_running_loop().time()
        under_way = sum(version.bucket == bucket for version in self._busy)
        crowded = under_way >= FAILING_BUCKET_LOOKS and self._looker.failing(record)
        work = self._put_off if crowded else self._revisit
        task = asyncio.create_task(self._visit(record, work), name="revisit")
        self._busy[record.version] = task
        task.add_done_callback(functools.partial(self._ended, record.version))

    async def _put_off(self, record: Record) -> None:
        """Make room for other buckets: this one does not answer, and enough looks are waiting for it."""
        at = self._clock.now() + PUT_OFF_SECONDS * (0.5 + self._rng.random())
        await self._recorder.reschedule(msgspec.structs.replace(record, next_look_at=at))

    def _ended(self, version: ObjectVersion, _task: asyncio.Task[None]) -> None:
        del self._busy[version]

    async def _pause(self, taken: int) -> None:
        """Wait for room when busy, for time to pass when not."""
        if taken and len(self._busy) >= self._concurrency:
            # Not for every single one that ends: each question also finds again what is still under way.
            while len(self._busy) > self._concurrency * ENOUGH_BUSY:
                self._alive()
                one = asyncio.wait(self._busy.values(), return_when=asyncio.FIRST_COMPLETED)
                await patiently(one, alive=self._alive_when_hindered)
            return
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _alive_when_hindered(self) -> None:
        """Say that waiting is all there is to do; visits that never end although nothing is away are a fault."""
        if self._hindered() or not self._clock.sure:
            self._alive()

    async def _visit(self, record: Record, work: Callable[[Record], Awaitable[None]]) -> None:
        try:
            # Begun here: a visit that is cancelled before must leave nothing started behind.
            await work(record)
        except Exception as error:  # noqa: BLE001 - one bad record harms itself only
            await self._failed(record, error)
        else:
            self._setbacks.over(record.version)

    async def _failed(self, record: Record, error: Exception) -> None:
        """Put a record off whose visit met a fault of ours; it would keep its place from the others."""
        version = record.version
        seconds = self._setbacks.failed(version)
        self._meters.add(catalogue.POLLS_FAILED)
        self._visit_failed.met(
            type(error).__name__,
            example=version.key,
            bucket=version.bucket,
            version_id=version.version_id,
            put_off=len(self._setbacks),
            again_in_seconds=seconds,
            exc_info=error,
        )
        later = msgspec.structs.replace(record, next_look_at=self._clock.now() + seconds)
        try:
            async with asyncio.timeout(PUTTING_OFF_SECONDS):
                await self._recorder.reschedule(later)
        except Exception as trouble:  # noqa: BLE001 - it may be the record that no ledger takes
            log.debug("poll_not_deferred", bucket=version.bucket, reason=repr(trouble))
        else:
            self._setbacks.rescheduled(version)

    async def _revisit(self, record: Record) -> None:
        lag = max(self._clock.now() - record.next_look_at, 0.0)
        self._meters.observe(catalogue.POLL_LAG, value=lag)
        await self._tracker.visit(record)
