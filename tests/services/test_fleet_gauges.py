"""The fleet's gauges: shown by the daemon that reports, kept fresh whatever else it does, and by nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from typing_extensions import override

from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.domain import catalogue
from crrmon.domain.backlog import BacklogSlot
from crrmon.domain.choice import Choice
from crrmon.domain.metric import Metric
from crrmon.domain.objects import Route
from crrmon.domain.observations import Sight
from crrmon.domain.route_state import (
    Abandoned,
    RouteState,
    Selected,
    encode,
    name_of,
)
from crrmon.domain.watermark import SILENT_SECONDS
from crrmon.domain.windows import Standing
from crrmon.ports.ledger import Member
from crrmon.ports.sink import Sink
from crrmon.services.membership.delay_memory import DelayMemory
from crrmon.services.membership.heartbeat import Heartbeat
from crrmon.services.membership.leases import LEASE_SECONDS, LeaseManager
from crrmon.services.reporting.fleet_gauges import (
    FORGOTTEN_SECONDS,
    REFRESH_SECONDS,
    Fleet,
    standing,
)
from crrmon.services.reporting.publisher import Publisher
from crrmon.services.reporting.sending import SENDING_WINDOWS
from fakes.clock import EPOCH, LoopClock
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.ledger_values import record
from fakes.ledgers import MemoryLedger
from fakes.rig import Rig
from fakes.runtime import runtime
from fakes.s3 import FakeS3, Fate
from fakes.sink import FakeSink

WINDOW = 60
HOUR = 3600.0
ROUTE = ("src", "dst")
FLEET = {metric.name for metric in catalogue.METRICS if metric.fleet}

UP_TO = {catalogue.COMPLETE_UP_TO.name, catalogue.SETTLED_UP_TO.name}


class SlowLedger(FlakyLedger):
    """Takes its time over some calls."""

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
    """One that holds shards, publishes and shows gauges on a real page."""

    def __init__(
        self,
        ledger: MemoryLedger,
        sink: Sink | None,
        *,
        owner: str = "one",
        inbox: FakeInbox | None = None,
    ) -> None:
        self.ledger = SlowLedger(ledger)
        self.clock = LoopClock()
        self.inbox = inbox or FakeInbox(self.clock)
        self.timed: frozenset[Route] = frozenset()
        self.held_since: float | None = None
        self.delays = DelayMemory(self.ledger, least={"notification": 5.0}, retention_seconds=HOUR)
        self.meters = PrometheusMeters(shows_fleet=lambda: self.leases.reporting() is not None)
        daemon = runtime(self.clock, meters=self.meters, seed=owner)
        self.board = daemon.board
        health = self.board.dependency("ledger")
        self.leases = LeaseManager(self.ledger, daemon, owner=owner, health=health)
        self.publisher = Publisher(
            self.ledger,
            sink,
            daemon,
            leases=self.leases,
            ledger_health=health,
            sink_health=self.board.dependency("cloudwatch"),
            monitor="test",
            buckets=["src"],
            window_seconds=WINDOW,
            timed=frozenset,
            stuck_after=900.0,
            queue_age=lambda: 0.0,
        )
        self.fleet = Fleet(
            self.ledger,
            [self.inbox],
            daemon,
            owner=owner,
            reporting=self.leases.reporting,
            unsent=self.publisher.unsent,
            timed=lambda: self.timed,
            seen_at=lambda _: self.clock.now(),
            choice=Choice(),
            vouched=False,
            health=health,
            stuck_after=900.0,
        )
        self.heartbeat = Heartbeat(
            self.ledger,
            daemon,
            owner=owner,
            holders=[self],
            delays=self.delays,
            health=health,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loops = (self.leases.run, self.publisher.run, self.heartbeat.run, self.fleet.run)
        self._tasks = [asyncio.create_task(run()) for run in loops]

    def gauge(self, metric: Metric, *labels: str) -> float | None:
        """Read one series, shown or not."""
        return self.meters._values[metric].get(labels)

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
        """What its page shows of the fleet."""
        text = self.meters.page("")[0].decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {
            series.split("{")[0]: float(value)
            for series, value in lines
            if series.split("{")[0] in FLEET
        }

    @property
    def kept(self) -> set[str]:
        """Names of the fleet's gauges that it keeps, shown or not."""
        return {metric.name for metric, series in self.meters._values.items() if series} & FLEET


async def know(ledger: MemoryLedger, *abandoned: Abandoned) -> None:
    """Let a ledger know the route, with a rule, and what was let go on it."""
    route = Route(*ROUTE)
    await ledger.remember_routes([route])
    state = RouteState(
        read_at=EPOCH,
        changed_at=EPOCH,
        selects=(Selected("", EPOCH),),
        abandoned=abandoned,
        heard=True,
    )
    await ledger.swap(name_of(route), None, encode(state))


@pytest.fixture
async def ledger() -> MemoryLedger:
    """Make what all daemons of a test share, with one object pending."""
    one = MemoryLedger(shards=2)
    await know(one, Abandoned("a", "v", EPOCH - 900, "given_up"))
    await one.park([record("a", written_at=EPOCH)])
    return one


class StuckSink(FakeSink):
    """A CloudWatch that does not answer while `stuck`."""

    stuck = False

    @override
    async def send(self, part: bytes) -> None:
        while self.stuck:
            await asyncio.sleep(1)
        await super().send(part)


async def pend(ledger: MemoryLedger, count: int) -> None:
    """Have more objects pending."""
    await ledger.park([record(f"more{number}", written_at=EPOCH) for number in range(count)])


# ---- what is shown ----


@pytest.mark.own_rounds
async def test_every_gauge_of_the_fleet_is_shown(ledger: MemoryLedger) -> None:
    """What the catalogue calls the fleet's is on the page of the daemon that reports, within seconds."""
    daemon = Daemon(ledger, FakeSink())
    async with daemon.running():
        await asyncio.sleep(25)
        # As old as the round in which it was found.
        assert EPOCH - 55 <= daemon.page["crrmon_settled_up_to_timestamp_seconds"] <= EPOCH - 54
        assert daemon.page == daemon.page | {
            "crrmon_pending_objects": 1,
            "crrmon_pending_bytes": 100,
            "crrmon_stuck_objects": 0,
            "crrmon_oldest_pending_timestamp_seconds": EPOCH,
            "crrmon_failed_objects": 0,
            "crrmon_pending_objects_by_age": 0,
            "crrmon_complete_up_to_timestamp_seconds": EPOCH - 900,
            "crrmon_queue_messages": 0,
            "crrmon_unsent_windows": 0,
            "crrmon_route_configured": 1,
            "crrmon_complete_up_to_blocked_timestamp_seconds": EPOCH - 900,
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
    assert standing(slots, now=1020.0, timed=frozenset(), stuck_after=900.0) == {
        one: Standing(
            pending_objects=4,
            pending_bytes=35,
            failed_objects=2,
            stuck_objects=3,
            by_age=(1, 3, 0, 0),
            oldest_written_at=60.0,
            oldest_failed_at=0.0,
        ),
        two: Standing(failed_objects=1, oldest_failed_at=0.0),
    }


def test_age_bands_and_the_threshold_of_timed_routes() -> None:
    """Each pending object is in one band; under Replication Time Control 15 minutes are stuck, whatever is set."""
    timed, other = Route("a", "x"), Route("a", "y")
    now = 200_000.0
    slots = [
        BacklogSlot(route=route, written_from=now - 60 - age, pending_objects=1)
        for route in (timed, other)
        for age in (0, 899, 900, 3599, 3600, 86_399, 86_400)
    ]
    sums = standing(slots, now=now, timed=frozenset([timed]), stuck_after=7200.0)
    assert {one.by_age for one in sums.values()} == {(2, 2, 2, 1)}
    assert (sums[timed].stuck_objects, sums[other].stuck_objects) == (5, 2)


# ---- up to when all is known ----


@pytest.mark.own_rounds
async def test_the_queue_is_counted_and_unknown_is_absent(ledger: MemoryLedger) -> None:
    """A dead-letter queue that holds something or cannot be read, or a queue that does not answer: no series at all."""
    daemon = Daemon(ledger, None)

    def shown(state: str) -> float | None:
        return daemon.gauge(catalogue.QUEUE_MESSAGES, "queue", state)

    async with daemon.running():
        await asyncio.sleep(25)
        assert daemon.kept >= UP_TO
        daemon.inbox.dead.append("m")
        await asyncio.sleep(REFRESH_SECONDS + 1)
        assert (shown("visible"), shown("dead")) == (0, 1)
        assert not UP_TO & daemon.kept
        daemon.inbox.dead_readable = False
        await asyncio.sleep(REFRESH_SECONDS + 1)
        assert (shown("visible"), shown("dead")) == (0, None)
        assert not UP_TO & daemon.kept
        daemon.inbox.away = True
        await asyncio.sleep(REFRESH_SECONDS + 1)
        assert shown("visible") is None
        assert catalogue.PENDING_OBJECTS.name in daemon.kept
        assert not UP_TO & daemon.kept
        daemon.inbox.away = False
        daemon.inbox.dead_readable = True
        daemon.inbox.dead.clear()
        # What was found empty before tells nothing any more: what lay there may have been moved back.
        await asyncio.sleep(REFRESH_SECONDS + 1)
        assert not UP_TO & daemon.kept
        await asyncio.sleep(2 * REFRESH_SECONDS)
        assert daemon.kept >= UP_TO


async def test_queues_then_daemons_then_the_ledger() -> None:
    """
    What moves on while it is asked for is met: in a daemon's word, or in the backlog read after it.

    The other daemon took a message before the queue was counted, and has it parked and says so between the two
    reads of a round. With the backlog read first, it would be in neither.
    """
    other = Member(owner="other", announced_at=EPOCH, held_since=None, delay=0.0)
    old = EPOCH - 1000.0

    class Moving(SlowLedger):
        """Has the message move on after the first of the two reads in the round at 60 s."""

        moved = False

        @override
        def __getattr__(self, name: str) -> Any:
            inner = super().__getattr__(name)

            async def call() -> Any:
                result = await inner()
                if daemon.clock.now() >= EPOCH + 60 and not self.moved:
                    self.moved = True
                    await ledger.park([record("old", written_at=old)])
                    await ledger.announce(replace(other, announced_at=daemon.clock.now()))
                return result

            return call if name in {"members", "backlog"} else inner

    ledger = MemoryLedger(shards=2)
    await know(ledger)
    await ledger.announce(other)
    daemon = Daemon(ledger, None)
    daemon.fleet._ledger = moving = Moving(ledger)
    bounds = set()
    async with daemon.running():
        for _ in range(900):
            await asyncio.sleep(0.1)
            bounds.add(daemon.gauge(catalogue.SETTLED_UP_TO, *ROUTE))
    assert moving.moved
    assert max(bound for bound in bounds if bound is not None) <= old


async def test_a_message_held_by_a_killed_daemon_is_not_passed() -> None:
    """A daemon is killed with a message in its hands: nothing passes its write until another made it durable."""
    clock = LoopClock()
    shared: dict[str, Any] = {
        "ledger": FlakyLedger(MemoryLedger(shards=4)),
        "inbox": FakeInbox(clock),
        "s3": FakeS3(clock),
    }
    one, two = Rig(**shared, owner="one"), Rig(**shared, owner="two", seed=2)
    one.s3.rule("src", "dst")

    def bound() -> float:
        return one.meters.gauge(catalogue.SETTLED_UP_TO, *ROUTE) or 0.0

    # The one that reports takes nothing at first, so that the other one takes the message.
    one.start(without=["receiver"])
    await asyncio.sleep(60)
    two.start()
    one.put("before")
    await asyncio.sleep(300)
    assert bound() > clock.now() - 120
    written_at = clock.now()
    version = one.put("held", takes=5000.0)
    await asyncio.sleep(0.01)
    assert len(two.intake._held) == 1
    await two.kill()
    receiving = asyncio.create_task(one.intake.receiver())
    durable = False
    while not durable:
        await asyncio.sleep(0.5)
        assert bound() <= written_at
        durable = bool((await one.ledger.find(version.key, version.version_id)).records)
    assert clock.now() > written_at + 100
    await asyncio.sleep(1000)
    assert 0 < bound() <= written_at
    one.s3.fates[version] = Fate(0.0, Sight.COMPLETED, 100, written_at=int(written_at))
    await one.until(lambda: bound() > written_at)
    assert [member.owner for member in await one.ledger.members()] == ["one"]
    receiving.cancel()
    await one.kill()


# ---- windows that were not sent ----


async def test_unsent_windows_are_not_zero_before_they_are_known(ledger: MemoryLedger) -> None:
    """A daemon that takes over says nothing of the windows that wait until it has counted them, then the truth."""
    away = FakeSink()
    away.away = True
    before = Daemon(ledger, away, owner="before")
    async with before.running():
        await asyncio.sleep(10 * WINDOW)
    await before.leases.give_up()
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
            # What the first one holds cannot be told yet: it has not been silent for long enough.
            assert set(two.page) == FLEET - UP_TO
            await asyncio.sleep(SILENT_SECONDS)
            assert set(two.page) == FLEET


async def test_invariant_9_a_late_answer_brings_no_gauge_back(ledger: MemoryLedger) -> None:
    """Invariant 9: a backlog that was asked for with the role and is told after it was lost is not shown."""
    daemon = Daemon(ledger, None)
    async with daemon.running():
        await asyncio.sleep(3)
        daemon.ledger.seconds["backlog"] = 15
        await asyncio.sleep(9)
        lease = daemon.leases.reporting()
        assert lease is not None
        for metric in catalogue.METRICS:
            if metric.fleet:
                daemon.meters.clear(metric)
        await ledger.claim((await ledger.leases())[0], owner="two")
        daemon.leases.lost(lease)
        for _ in range(int(4 * LEASE_SECONDS) - 4):
            await asyncio.sleep(0.25)
            assert daemon.leases.reporting() is None
            assert daemon.kept == set()


@pytest.mark.looptime(noop_cycles=1)
async def test_a_daemon_that_does_not_announce_itself_makes_it_unknown() -> None:
    """One of the version before holds shards, and nobody knows what else."""
    ledger = MemoryLedger(shards=4)
    await know(ledger)
    daemon = Daemon(ledger, FakeSink())
    async with daemon.running():
        await asyncio.sleep(4 * REFRESH_SECONDS)
        assert daemon.kept >= UP_TO
        assert await ledger.claim((await ledger.leases())[3], owner="of the version before")
        await asyncio.sleep(REFRESH_SECONDS + 1)
        assert not UP_TO & daemon.kept
        await asyncio.sleep(3 * LEASE_SECONDS)
        assert daemon.kept >= UP_TO, "it is gone, and its shard was taken over"


@pytest.mark.looptime(noop_cycles=1)
async def test_a_word_older_than_any_message_is_dropped() -> None:
    """Whatever it says: nothing that was in a queue then is there now."""
    ledger = MemoryLedger(shards=4)
    daemon = Daemon(ledger, FakeSink())
    daemon.inbox.send("never taken")
    old = daemon.clock.now() - FORGOTTEN_SECONDS - 1
    await ledger.announce(Member(owner="old", announced_at=old, held_since=old, delay=0.0))
    async with daemon.running():
        await asyncio.sleep(SILENT_SECONDS + 3 * REFRESH_SECONDS)
        assert "old" not in {one.owner for one in await ledger.members()}


@pytest.mark.looptime(noop_cycles=1)
async def test_t7_a_daemon_that_speaks_is_not_dropped_for_what_its_clock_shows() -> None:
    """A replica whose clock is fifteen days behind goes on being heard: what it holds stands."""
    ledger = MemoryLedger(shards=4)
    daemon = Daemon(ledger, FakeSink())
    daemon.inbox.send("never taken")
    async with daemon.running():
        for place in range(40):
            at = daemon.clock.now() - FORGOTTEN_SECONDS - 86_400
            said = Member(owner="behind", announced_at=at, held_since=at, delay=0.0)
            await ledger.announce(said)
            await asyncio.sleep(REFRESH_SECONDS)
            if place > 2:
                assert "behind" in {one.owner for one in await ledger.members()}


async def test_t7_nothing_new_is_shown_on_an_unsure_clock() -> None:
    """Ages and moments would be wrong: the fleet's gauges come when it is sure."""
    daemon = Daemon(MemoryLedger(shards=4), FakeSink())
    daemon.clock.sure = False
    async with daemon.running():
        await asyncio.sleep(60)
        assert catalogue.QUEUE_MESSAGES.name not in daemon.kept
        daemon.clock.sure = True
        await asyncio.sleep(60)
        assert daemon.gauge(catalogue.QUEUE_MESSAGES, "queue", "visible") == 0
