"""All services of a daemon on fakes of the ports, in simulated time."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from crrmon.config.intake import Filter
from crrmon.config.intake import Intake as IntakeSettings
from crrmon.config.report import Report
from crrmon.config.settings import Polling, Settings
from crrmon.daemon import Daemon, Ports
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import Latency
from crrmon.domain.stores import BucketStores
from crrmon.services.lifecycle.health import HealthBoard
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.timekeeper import Timekeeper
from fakes.clock import LoopClock
from fakes.events import written
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.ledger_use import pending
from fakes.ledgers import MemoryLedger
from fakes.meters import FakeMeters
from fakes.s3 import FakeS3, Fate
from fakes.sink import FakeSink

WINDOW = 60
DAY = 86_400.0


def settings_for_tests(
    *,
    buckets: Sequence[str] = ("src",),
    selection: Filter | None = None,
    max_in_flight: int = 200,
    hold_seconds: float = 60.0,
    least_delay: Mapping[str, float] | None = None,
    give_up_after: float = 14 * DAY,
    window: int = WINDOW,
) -> Settings:
    """Return a daemon's settings, unchecked: tests want what nobody may set."""
    return Settings.model_construct(
        name="test",
        buckets=tuple(buckets),
        filter=selection or Filter(),
        intake=IntakeSettings.model_construct(
            receivers=1,
            max_in_flight=max_in_flight,
            hold_seconds=hold_seconds,
            min_event_delay_seconds=dict(least_delay or {}),
        ),
        polling=Polling.model_construct(
            concurrency=32,
            per_bucket_per_second=1000.0,
            give_up_after_days=give_up_after / DAY,
        ),
        report=Report.model_construct(window_seconds=window),
    )


class Rig:
    """
    One daemon; `ledger`, `inbox`, `s3` and `sink` may be shared with another one. The rest are `settings_for_tests`.

    With `local`, a machine's own clock that may be wrong, all others have the `truth`, and the daemon goes by what they
    tell of it; unless they are not `dated`: then it goes by that clock alone.
    """

    def __init__(
        self,
        *,
        ledger: FlakyLedger | None = None,
        inbox: FakeInbox | None = None,
        s3: FakeS3 | None = None,
        sink: FakeSink | None = None,
        owner: str = "one",
        seed: int = 1,
        clock: LoopClock | None = None,
        local: LoopClock | None = None,
        dated: bool = True,
        **settings: Any,
    ) -> None:
        self._local = local
        self.truth = clock or LoopClock()
        # Any: a daemon that has no clock of its own has the truth, and tests make that leap.
        self.clock: Any = self.truth if local is None else Timekeeper(local) if dated else local
        self.meters = FakeMeters()
        self.ledger = ledger or FlakyLedger(MemoryLedger(shards=4, clock=self.clock))
        self.inbox = inbox or FakeInbox(self.truth)
        self.s3 = s3 or FakeS3(self.truth)
        self.inbox.dates = self.s3.dates = (
            self.clock if isinstance(self.clock, Timekeeper) else None
        )
        if local is not None:
            self.s3.daemon = self.clock
        self.sink = sink or FakeSink()
        self.board = HealthBoard(clock=self.clock, meters=self.meters)
        self.daemon = Daemon(
            Ports(
                ledger=self.ledger,
                inboxes=[self.inbox],
                probe=self.s3,
                sink=self.sink,
                stores=BucketStores(),
            ),
            settings_for_tests(**settings),
            Runtime(
                clock=self.clock,
                meters=self.meters,
                board=self.board,
                rng=random.Random(f"{owner} {seed}"),
            ),
            owner=owner,
            ledger_health=self.board.dependency("ledger"),
            clock_health=self.board.dependency("clock"),
        )
        self.orphans = self.daemon.orphans
        self.recorder = self.daemon.recorder
        self.configurations = self.daemon.configurations
        self.looker = self.daemon.looker
        self.leases = self.daemon.leases
        self.facts = self.daemon.facts
        self.delays = self.daemon.delays
        (self.intake,) = self.daemon.intakes
        self.poller = self.daemon.poller
        self.publisher = self.daemon.publisher
        self.fleet = self.daemon.fleet
        self.heartbeat = self.daemon.heartbeat
        self.rechecks = self.daemon.rechecks
        self._tasks: list[asyncio.Task[None]] = []

    def put(
        self,
        key: str,
        *,
        takes: float = 0.0,
        then: Sight = Sight.COMPLETED,
        bucket: str = "src",
        version: str = "v1",
        size: int = 100,
        copies: int = 1,
        **event: Any,
    ) -> ObjectVersion:
        """Write an object that replicates after `takes` seconds, and send its event, `copies` times."""
        now = self.truth.now()
        name = ObjectVersion(bucket, key, version)
        self.s3.fates[name] = Fate(now + takes, then, size, written_at=int(now))
        self.s3.current[bucket, key] = name
        for _ in range(copies):
            event = {"version": version} | event
            self.inbox.send(written(key, at=now, bucket=bucket, size=size, **event))
        return name

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        """Run all loops; at the end they are killed, as kill -9 would."""
        self.start()
        try:
            yield self
        finally:
            await self.kill()

    def start(self, *, without: Collection[str] = ()) -> None:
        """Begin with all loops, but for some by name."""
        loops = self.daemon.roots()
        if self._local is None:
            del loops["sweeper"]  # what is past its time is what these tests want to see
        self._tasks = [
            asyncio.create_task(run(), name=name)
            for name, run in loops.items()
            if name.split()[0] not in without
        ]

    async def kill(self) -> None:
        """End everything where it stands; nothing is given back or flushed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.daemon.abandon()

    async def until(self, happened: Callable[[], bool], *, within: float = 3600.0) -> None:
        """Let simulated time pass until something is so."""
        async with asyncio.timeout(within):
            while not happened():
                await asyncio.sleep(0.25)

    async def settled(self, *, within: float = 3600.0) -> None:
        """Wait until all messages are dealt with."""
        await self.until(lambda: self.inbox.waiting == 0, within=within)

    def expect(self, lower: float, upper: float) -> None:
        """Have the pacer know for sure how long replication takes."""
        for _ in range(600):
            self.looker._pacer.learn(
                (Route("src", "dst"),), Latency(lower, upper), now=self.clock.now()
            )

    async def backlog(self) -> int:
        return await pending(self.ledger)
