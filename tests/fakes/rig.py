"""All services of a daemon on fakes of the ports, in simulated time."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from crrmon.adapters.ledgers.memory import MemoryLedger
from crrmon.domain.choice import Choice
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.domain.pacing import Pacer, Policy
from crrmon.domain.stores import BucketStores
from crrmon.services.intake.consumer import Intake
from crrmon.services.intake.dispatcher import Facts
from crrmon.services.lifecycle.health import HealthBoard
from crrmon.services.lifecycle.patience import patiently
from crrmon.services.lifecycle.timekeeper import Timekeeper
from crrmon.services.membership.delay_memory import DelayMemory
from crrmon.services.membership.heartbeat import Attendance
from crrmon.services.membership.leases import Tenure
from crrmon.services.membership.sweeper import sweeper
from crrmon.services.reporting.fleet_gauges import Fleet
from crrmon.services.reporting.orphans import Unmatched
from crrmon.services.reporting.publisher import Publisher
from crrmon.services.tracking.configurations import Routebook
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.origins import Origins
from crrmon.services.tracking.poller import Poller
from crrmon.services.tracking.recorder import Bookkeeper
from crrmon.services.tracking.second_looks import SecondLooks
from fakes.clock import LoopClock
from fakes.events import written
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.meters import FakeMeters
from fakes.s3 import FakeS3, Fate
from fakes.sink import FakeSink

WINDOW = 60
DAY = 86_400.0


class Rig:
    """
    One daemon; `ledger`, `inbox`, `s3` and `sink` may be shared with another one.

    With `local`, a machine's own clock that may be wrong, all others have the `truth`, and the daemon goes by what they
    tell of it; unless they are not `dated`: then it goes by that clock alone.
    """

    def __init__(  # noqa: PLR0913 - what tests want otherwise
        self,
        *,
        ledger: FlakyLedger | None = None,
        inbox: FakeInbox | None = None,
        s3: FakeS3 | None = None,
        sink: FakeSink | None = None,
        owner: str = "one",
        max_in_flight: int = 200,
        hold_seconds: float = 60.0,
        buckets: Sequence[str] = ("src",),
        seed: int = 1,
        ahead: float = 0.0,
        clock: LoopClock | None = None,
        local: LoopClock | None = None,
        dated: bool = True,
        window: int = WINDOW,
        give_up_after: float = 14 * DAY,
        choice: Choice | None = None,
        least_delay: Mapping[str, float] | None = None,
    ) -> None:
        self._local = local
        self.truth = clock or LoopClock(ahead=ahead)
        # Any: a daemon that has no clock of its own has the truth, and tests make that leap.
        self.clock: Any = self.truth if local is None else local
        self.timekeeper = Timekeeper(local) if local is not None and dated else None
        if self.timekeeper is not None:
            self.clock = self.timekeeper
        self.meters = FakeMeters()
        self.ledger = ledger or FlakyLedger(MemoryLedger(shards=4))
        self.inbox = inbox or FakeInbox(self.truth)
        self.s3 = s3 or FakeS3(self.truth)
        self.inbox.dates = self.s3.dates = self.timekeeper
        if local is not None:
            self.s3.daemon = self.clock
        self.sink = sink or FakeSink()
        self.board = HealthBoard(clock=self.clock, meters=self.meters)
        chance = random.Random(seed)
        ledger_health = self.board.dependency("ledger")
        s3_health = self.board.dependency("s3", tolerated=3)
        self.clock_health = self.board.dependency("clock")
        gates = (ledger_health, s3_health)
        self.unmatched = Unmatched(
            self.ledger,
            health=ledger_health,
            board=self.board,
            clock=self.clock,
            meters=self.meters,
        )
        stores = BucketStores()
        self.bookkeeper = Bookkeeper(
            self.ledger,
            health=ledger_health,
            clock=self.clock,
            meters=self.meters,
            chance=chance,
            stores=stores,
            halves=self.unmatched.noted,
            hurried=self.inbox.pushed,
        )
        self.routebook = Routebook(
            self.s3,
            bookkeeper=self.bookkeeper,
            clock=self.clock,
            meters=self.meters,
            buckets=buckets,
            reporting=lambda: self.tenure.reporting() is not None,
        )
        self.looker = Looker(
            self.s3,
            health=s3_health,
            stores=stores,
            pacer=Pacer(Policy()),
            clock=self.clock,
            meters=self.meters,
            chance=chance,
            concurrency=32,
            per_bucket_per_second=1000.0,
            give_up_after=give_up_after,
        )
        self.tenure = Tenure(
            self.ledger,
            owner=owner,
            health=ledger_health,
            board=self.board,
            chance=random.Random(f"{owner} {seed}"),
        )
        origins = Origins(self.routebook, self.looker, clock=self.clock)
        choice = choice or Choice()
        self.facts = Facts(
            bookkeeper=self.bookkeeper,
            routebook=self.routebook,
            looker=self.looker,
            origins=origins,
            stores=stores,
            choice=choice,
            clock=self.clock,
            meters=self.meters,
            horizon_seconds=4 * DAY,
        )
        self.delays = DelayMemory(
            self.ledger, clock=self.clock, least=least_delay or {}, horizon_seconds=4 * DAY
        )
        self.intake = Intake(
            self.inbox,
            queue=self.board.dependency("queue"),
            gates=gates,
            board=self.board,
            facts=self.facts,
            clock=self.clock,
            meters=self.meters,
            chance=chance,
            hold_seconds=hold_seconds,
            max_in_flight=max_in_flight,
            delays=self.delays,
            horizon_seconds=4 * DAY,
        )
        self.poller = Poller(
            gates=gates,
            board=self.board,
            bookkeeper=self.bookkeeper,
            routebook=self.routebook,
            looker=self.looker,
            origins=origins,
            clock=self.clock,
            meters=self.meters,
            shards=self.tenure.shards,
            chance=chance,
            concurrency=32,
        )
        self.publisher = Publisher(
            self.ledger,
            self.sink,
            tenure=self.tenure,
            ledger_health=ledger_health,
            sink_health=self.board.dependency("cloudwatch"),
            board=self.board,
            clock=self.clock,
            meters=self.meters,
            monitor="test",
            buckets=buckets,
            window_seconds=window,
            timed=self.routebook.timed,
            stuck_after=900.0,
            queue_age=lambda: self.intake.queue_age,
        )
        self.fleet = Fleet(
            self.ledger,
            [self.inbox],
            owner=owner,
            reporting=self.tenure.reporting,
            unsent=self.publisher.unsent,
            timed=self.routebook.timed,
            seen_at=self.routebook.seen_at,
            choice=choice,
            vouched=bool(least_delay),
            health=ledger_health,
            board=self.board,
            clock=self.clock,
            meters=self.meters,
            stuck_after=900.0,
        )
        self.attendance = Attendance(
            self.ledger,
            owner=owner,
            holders=[self.intake],
            delays=self.delays,
            health=ledger_health,
            board=self.board,
            clock=self.clock,
        )
        self.second_looks = SecondLooks(
            register=self.bookkeeper.register,
            routebook=self.routebook,
            looker=self.looker,
            reporting=lambda: self.tenure.reporting() is not None,
            board=self.board,
        )
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
        """
        Write an object that replicates after `takes` seconds, and send its event, `copies` times.
        """
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
        """
        Run all loops; at the end they are killed, as kill -9 would.
        """
        self.start()
        try:
            yield self
        finally:
            await self.kill()

    def start(self, *, without: Collection[str] = ()) -> None:
        """
        Begin with all loops, but for some by name.
        """
        loops = {
            "receiver": self._receive,
            "keeper": self.intake.keeper,
            "tenure": self.tenure.run,
            "poller": self.poller.run,
            "survey": self.routebook.survey,
            "publisher": self.publisher.run,
            "fleet": self.fleet.run,
            "presence": self.attendance.run,
            "unmatched": self.unmatched.run,
            "second looks": self.second_looks.run,
        }
        if self._local is not None:
            loops["sweeper"] = self._sweep
        if self.timekeeper is not None:
            loops["clock"] = self._keep_time
        self._tasks = [
            asyncio.create_task(run(), name=name)
            for name, run in loops.items()
            if name not in without
        ]

    async def _sweep(self) -> None:
        health = self.board.dependency("sweeping")
        await sweeper(self.ledger, clock=self.clock, health=health, board=self.board)

    async def _keep_time(self) -> None:
        assert self.timekeeper is not None
        await self.timekeeper.run(
            [self.inbox.depth], health=self.clock_health, board=self.board, meters=self.meters
        )

    async def _receive(self) -> None:
        await patiently(self.attendance.announced(), alive=self.intake.alive)
        await self.intake.receiver()

    async def kill(self) -> None:
        """
        End everything where it stands; nothing is given back or flushed.
        """
        mine = [
            *self._tasks,
            *self.intake._attending,
            *self.poller._busy.values(),
        ]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def until(self, happened: Callable[[], bool], *, within: float = 3600.0) -> None:
        """
        Let simulated time pass until something is so.
        """
        async with asyncio.timeout(within):
            while not happened():
                await asyncio.sleep(0.25)

    async def backlog(self) -> int:
        return sum(one.pending_objects for one in await self.ledger.backlog())
