"""The fleet's gauges: shown by the daemon that reports, kept fresh whatever else it does, and by nobody else."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typing_extensions import override

from crrmon.adapters.ledgers.memory import MemoryLedger
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.domain import catalogue
from crrmon.domain.objects import Route
from crrmon.domain.windows import Standing
from crrmon.ports.ledger import BacklogSlot
from crrmon.ports.sink import Sink
from crrmon.services.fleet import REFRESH_SECONDS, Fleet, standing
from crrmon.services.health import HealthBoard
from crrmon.services.publisher import SENDING_WINDOWS, Publisher
from crrmon.services.tenure import LEASE_SECONDS, Tenure
from fakes.clock import EPOCH, LoopClock
from fakes.ledger_flaky import FlakyLedger
from fakes.ledger_values import record
from fakes.sink import FakeSink

WINDOW = 60
HOUR = 3600.0
ROUTE = ("src", "dst")
FLEET = {metric.name for metric in catalogue.METRICS if metric.fleet}


class SlowLedger(FlakyLedger):
    """
    Takes its time over some calls.
    """

    def __init__(self, ledger: MemoryLedger) -> None:
        super().__init__(ledger)
        self.seconds: dict[str, float] = {}

    @override
    def __getattr__(self, name: str) -> Any:
        inner = super().__getattr__(name)
        if name not in self.seconds:
            return inner

        async def call(**kwargs: Any) -> Any:
            result = await inner(**kwargs)
            await asyncio.sleep(self.seconds[name])
            return result

        return call


class Daemon:
    """
    One that holds shards, publishes and shows gauges on a real page.
    """

    def __init__(self, ledger: MemoryLedger, sink: Sink | None, *, owner: str = "one") -> None:
        self.ledger = SlowLedger(ledger)
        self.clock = LoopClock()
        self.meters = PrometheusMeters(shows_fleet=lambda: self.tenure.reporting() is not None)
        self.board = HealthBoard(clock=self.clock, meters=self.meters)
        health = self.board.dependency("ledger")
        self.tenure = Tenure(
            self.ledger, owner=owner, health=health, board=self.board, chance=random.Random(owner)
        )
        self.publisher = Publisher(
            self.ledger,
            sink,
            tenure=self.tenure,
            ledger_health=health,
            sink_health=self.board.dependency("cloudwatch"),
            board=self.board,
            clock=self.clock,
            meters=self.meters,
            monitor="test",
            buckets=["src"],
            window_seconds=WINDOW,
            stuck_after=900.0,
            queue_age=lambda: 0.0,
        )
        self.fleet = Fleet(
            self.ledger,
            reporting=self.tenure.reporting,
            unsent=self.publisher.unsent,
            health=health,
            board=self.board,
            clock=self.clock,
            meters=self.meters,
            stuck_after=900.0,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loops = (self.tenure.run, self.publisher.run, self.fleet.run)
        self._tasks = [asyncio.create_task(run()) for run in loops]

    async def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Daemon"]:
        self.start()
        try:
            yield self
        finally:
            await self.kill()

    @property
    def page(self) -> dict[str, float]:
        """
        What its page shows of the fleet.
        """
        text = self.meters.page("")[0].decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {
            series.split("{")[0]: float(value)
            for series, value in lines
            if series.split("{")[0] in FLEET
        }

    @property
    def kept(self) -> set[str]:
        """
        Names of the fleet's gauges that it keeps, shown or not.
        """
        return {metric.name for metric, series in self.meters._values.items() if series} & FLEET


@pytest.fixture
async def ledger() -> MemoryLedger:
    """
    Make what all daemons of a test share, with one object pending.
    """
    one = MemoryLedger(shards=2)
    await one.remember_routes([Route(*ROUTE)])
    await one.park([record("a", written_at=EPOCH)])
    return one


class StuckSink(FakeSink):
    """
    A CloudWatch that does not answer while `stuck`.
    """

    stuck = False

    @override
    async def send(self, part: bytes) -> None:
        while self.stuck:
            await asyncio.sleep(1)
        await super().send(part)


async def pend(ledger: MemoryLedger, count: int) -> None:
    """
    Have more objects pending.
    """
    await ledger.park([record(f"more{number}", written_at=EPOCH) for number in range(count)])


# ---- what is shown ----


async def test_every_gauge_of_the_fleet_is_shown(ledger: MemoryLedger) -> None:
    """What the catalogue calls the fleet's is on the page of the daemon that reports, from the first seconds on."""
    daemon = Daemon(ledger, FakeSink())
    async with daemon.running():
        await asyncio.sleep(2)
        assert daemon.page == {
            "crrmon_pending_objects": 1,
            "crrmon_pending_bytes": 100,
            "crrmon_stuck_objects": 0,
            "crrmon_oldest_pending_timestamp_seconds": EPOCH,
            "crrmon_failed_objects": 0,
            "crrmon_unsent_windows": 0,
        }
        assert set(daemon.page) == FLEET


async def test_gauges_are_fresh_while_cloudwatch_hangs(ledger: MemoryLedger) -> None:
    """A call to CloudWatch that takes for ever holds up no gauge: they have a loop of their own."""
    sink = StuckSink()
    sink.stuck = True
    daemon = Daemon(ledger, sink)
    async with daemon.running():
        await asyncio.sleep(2 * WINDOW)
        await pend(ledger, 5)
        await asyncio.sleep(REFRESH_SECONDS + 1)
        assert daemon.page["crrmon_pending_objects"] == 6
        assert daemon.page["crrmon_unsent_windows"] >= 1


async def test_gauges_outlive_a_short_outage_of_the_ledger(ledger: MemoryLedger) -> None:
    """While the ledger is away the last gauges stay as long as the lease, and it is tried again every second."""
    daemon = Daemon(ledger, FakeSink())
    async with daemon.running():
        await asyncio.sleep(5)
        daemon.ledger.away = True
        await asyncio.sleep(REFRESH_SECONDS)
        await pend(ledger, 1)
        assert daemon.page["crrmon_pending_objects"] == 1
        assert not daemon.board.ready().ok
        daemon.ledger.away = False
        await asyncio.sleep(2)
        assert daemon.page["crrmon_pending_objects"] == 2


def test_the_backlog_is_summed_up_by_route() -> None:
    """An object is stuck when its whole slot is; the oldest is that of what is pending, not of what failed."""
    one, two = Route("a", "x"), Route("b", "x")
    slots = [
        BacklogSlot(route=one, written_from=0.0, failed_objects=2),
        BacklogSlot(route=one, written_from=60.0, pending_objects=3, pending_bytes=30),
        BacklogSlot(route=one, written_from=120.0, pending_objects=1, pending_bytes=5),
        BacklogSlot(route=two, written_from=0.0, failed_objects=1),
    ]
    assert standing(slots, now=1020.0, stuck_after=900.0) == {
        one: Standing(
            pending_objects=4,
            pending_bytes=35,
            failed_objects=2,
            stuck_objects=3,
            oldest_written_at=60.0,
        ),
        two: Standing(failed_objects=1),
    }


# ---- windows that were not sent ----


async def test_unsent_windows_are_not_zero_before_they_are_known(ledger: MemoryLedger) -> None:
    """A daemon that takes over says nothing of the windows that wait until it has counted them, then the truth."""
    away = FakeSink()
    away.away = True
    before = Daemon(ledger, away, owner="before")
    async with before.running():
        await asyncio.sleep(10 * WINDOW)
    await before.tenure.give_up()
    waiting = len(await ledger.frozen())
    assert waiting >= 8

    sink = StuckSink()
    sink.stuck = True
    daemon = Daemon(ledger, sink)
    daemon.ledger.seconds["frozen"] = 2.5
    async with daemon.running():
        shown = set()
        for _ in range(200):
            await asyncio.sleep(0.3)
            shown.add(daemon.page.get("crrmon_unsent_windows"))
        assert {None} < shown <= {None, waiting, waiting + 1}
        assert waiting in shown
        sink.stuck = False
        await asyncio.sleep(10)
        assert daemon.page["crrmon_unsent_windows"] == 0
    assert "crrmon_unsent_windows" not in Daemon(ledger, None).page


async def test_many_unsent_windows_are_never_called_none(ledger: MemoryLedger) -> None:
    """More windows than are read at once: 100 stands for any more, and zero comes only when all are sent."""

    class Slow(FakeSink):
        @override
        async def send(self, part: bytes) -> None:
            if not self.away:
                await asyncio.sleep(0.7)
            await super().send(part)

    sink = Slow()
    sink.away = True
    daemon = Daemon(ledger, sink)
    async with daemon.running():
        await asyncio.sleep(130 * WINDOW)
        assert daemon.page["crrmon_unsent_windows"] == SENDING_WINDOWS
        sink.away = False
        shown = []
        while not shown or shown[-1]:
            await asyncio.sleep(0.9)
            shown.append(daemon.page["crrmon_unsent_windows"])
            left = len(await ledger.frozen(limit=1000))
            assert (shown[-1] == 0) <= (left == 0)
            assert left <= shown[-1] + 1 or shown[-1] == SENDING_WINDOWS
        assert min(shown[:-1]) >= 1
    assert len(sink.calls) >= 129


# ---- one daemon at a time ----


async def test_invariant_9_a_process_that_stood_still_shows_nothing_of_the_fleet(
    ledger: MemoryLedger,
) -> None:
    """Invariant 9: after SIGSTOP and SIGCONT the first page, made before any loop ran, has no fleet gauge."""
    daemon = Daemon(ledger, FakeSink())
    async with daemon.running():
        await asyncio.sleep(20)
        assert set(daemon.page) == FLEET
    # None of its loops runs any more, and its meters are as they were.
    await asyncio.sleep(LEASE_SECONDS)
    assert daemon.kept == FLEET
    assert daemon.page == {}


async def test_invariant_9_gauges_are_withdrawn_with_the_role(ledger: MemoryLedger) -> None:
    """Invariant 9: a daemon that lost the role lets go of the gauges within a second, so they are not shown again."""
    one, two = Daemon(ledger, FakeSink()), Daemon(ledger, FakeSink(), owner="two")
    async with one.running():
        await asyncio.sleep(1)
        async with two.running():
            await asyncio.sleep(100)
            assert (set(one.page), two.page) == (FLEET, {})
            assert two.kept == set()
            one.ledger.away = True
            for _ in range(400):
                await asyncio.sleep(0.3)
                assert not (one.page and two.page)
            assert one.kept == set()
            assert set(two.page) == FLEET


async def test_invariant_9_a_late_answer_brings_no_gauge_back(ledger: MemoryLedger) -> None:
    """Invariant 9: a backlog that was asked for with the role and is told after it was lost is not shown."""
    daemon = Daemon(ledger, None)
    async with daemon.running():
        await asyncio.sleep(3)
        daemon.ledger.seconds["backlog"] = 15
        await asyncio.sleep(9)
        lease = daemon.tenure.reporting()
        assert lease is not None
        for metric in catalogue.METRICS:
            if metric.fleet:
                daemon.meters.clear(metric)
        await ledger.claim((await ledger.leases())[0], owner="two")
        daemon.tenure.lost(lease)
        for _ in range(int(4 * LEASE_SECONDS) - 4):
            await asyncio.sleep(0.25)
            assert daemon.tenure.reporting() is None
            assert daemon.kept == set()
