"""Windows: one datapoint for each metric and window, whatever fails, and only one daemon that shows the fleet's gauges."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from crrmon.domain import catalogue
from crrmon.domain.choice import Choice
from crrmon.domain.objects import Route
from crrmon.ports.ledger import FrozenWindow
from crrmon.ports.sink import RefusedPartError, Sink
from crrmon.services.lifecycle.supervisor import supervise
from crrmon.services.membership.leases import LEASE_SECONDS, LeaseManager
from crrmon.services.reporting.fleet_gauges import Fleet
from crrmon.services.reporting.publisher import Publisher
from crrmon.services.reporting.sending import RETRY_CAP_SECONDS
from fakes.clock import EPOCH, LoopClock
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.ledger_values import done, episode, failed, record
from fakes.ledgers import MemoryLedger
from fakes.meters import FakeMeters
from fakes.runtime import runtime
from fakes.sink import FakeSink

WINDOW = 60
HOUR = 3600.0
DAY = 86_400.0
ROUTE = ("src", "dst")
_batches = itertools.count()


class Desk:
    """A daemon that publishes, and nothing else."""

    def __init__(
        self,
        ledger: MemoryLedger,
        sink: Sink | None,
        *,
        owner: str = "one",
        ahead: float = 0.0,
        buckets: Sequence[str] = (),
        window: int = WINDOW,
    ) -> None:
        self.clock = LoopClock(ahead=ahead)
        self.meters = FakeMeters()
        self.ledger = FlakyLedger(ledger)
        daemon = runtime(self.clock, meters=self.meters, seed=owner)
        self.board = daemon.board
        self.queue_age: float | None = 7.0
        self.inbox = FakeInbox(self.clock)
        health = self.board.dependency("ledger")
        self.leases = LeaseManager(
            self.ledger,
            daemon,
            owner=owner,
            health=health,
        )
        self.publisher = Publisher(
            self.ledger,
            sink,
            daemon,
            leases=self.leases,
            ledger_health=health,
            sink_health=self.board.dependency("cloudwatch"),
            monitor="test",
            buckets=buckets,
            window_seconds=window,
            timed=frozenset,
            stuck_after=900.0,
            queue_age=lambda: self.queue_age,
        )
        self.fleet = Fleet(
            self.ledger,
            [self.inbox],
            daemon,
            owner=owner,
            reporting=self.leases.reporting,
            unsent=self.publisher.unsent,
            timed=frozenset,
            seen_at=lambda _: self.clock.now(),
            choice=Choice(),
            vouched=False,
            health=health,
            stuck_after=900.0,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def count(self, *keys: str, size: int = 100) -> None:
        """Count the arrival of objects, as bookkeepers do."""
        now = self.clock.now()
        settlements = [done(record(key, written_at=now - 10, size=size)) for key in keys]
        await self.ledger.settle(f"b{next(_batches)}", settlements, now=now)

    @property
    def shown(self) -> set[str]:
        """Names of the fleet's gauges that it shows."""
        fleet = {metric.name for metric in catalogue.METRICS if metric.fleet}
        return {name for name, *_ in self.meters.gauges} & fleet

    def start(self) -> None:
        loops = (self.leases.run, self.publisher.run, self.fleet.run)
        self._tasks = [asyncio.create_task(run()) for run in loops]

    async def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Desk"]:
        self.start()
        try:
            yield self
        finally:
            await self.kill()


@pytest.fixture
def ledger() -> MemoryLedger:
    """Make what all daemons of a test share."""
    return MemoryLedger(shards=2)


@pytest.fixture
def sink() -> FakeSink:
    """Make a CloudWatch that works."""
    return FakeSink()


def stamps(sink: FakeSink, metric: str, *dimensions: str) -> list[float]:
    """Tell the times of a metric's datapoints, which must be all different."""
    found = [at for at, _ in sink.values(metric, *dimensions)]
    assert len(found) == len(set(found)), "one datapoint per metric and window"
    return found


async def at_slot_start(desk: Desk, plus: float = 0.0) -> float:
    """Wait for the start of the next window, and some more; return the start."""
    begins = (desk.clock.now() // WINDOW + 1) * WINDOW
    await asyncio.sleep(begins + plus - desk.clock.now())
    return begins


# ---- windows ----


async def test_one_datapoint_for_each_window(ledger: MemoryLedger, sink: FakeSink) -> None:
    """D39: what was settled in a window is one datapoint, stamped with its start, however many batches it were."""
    desk = Desk(ledger, sink)
    async with desk.running():
        begins = await at_slot_start(desk, plus=1)
        for number in range(50):
            await desk.count(f"a{number}", f"b{number}")
            await asyncio.sleep(1)
        await asyncio.sleep(2 * WINDOW)

    assert [(at, value) for at, value in sink.values("ReplicationObjects", *ROUTE) if value] == [
        (begins, 100.0)
    ]
    assert sink.values("ReplicatedBytes", *ROUTE)[0] == (begins, 100 * 100.0)
    assert len([one for one in sink.datums if one["MetricName"] == "ReplicationLatency"]) == 1
    for name, *dimensions in {
        (one["MetricName"], *(two["Value"] for two in one["Dimensions"])) for one in sink.datums
    }:
        if name != "ReplicationLatency":
            stamps(sink, name, *dimensions)


async def test_d38_zeros_come_for_every_window(ledger: MemoryLedger, sink: FakeSink) -> None:
    """D38: idle or broken, a bucket that is configured or was ever routed gets its zero in every window."""
    desk = Desk(ledger, sink, buckets=["configured"])
    await ledger.remember_routes([Route("src", "dst")])
    async with desk.running():
        await asyncio.sleep(HOUR)

    for metric, *dimensions in (
        ("FailedReplications", "configured"),
        ("FailedReplications", "src"),
        ("ReplicationObjects", *ROUTE),
        ("ReplicatedBytes", *ROUTE),
        ("PendingObjects", *ROUTE),
        ("StuckObjects", *ROUTE),
    ):
        told = stamps(sink, metric, *dimensions)
        assert len(told) >= HOUR / WINDOW - 1
        assert {later - sooner for sooner, later in itertools.pairwise(told)} == {WINDOW}
        assert sink.total(metric, *dimensions) == 0
    assert sink.values("ReplicationSpeed", *ROUTE) == []
    assert {value for _, value in sink.values("Heartbeat", "test")} == {1}
    assert {value for _, value in sink.values("QueueAge", "test")} == {7}


async def test_d38_windows_that_were_missed_get_their_zeros_later(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """D38: nothing could be frozen while the ledger was away; afterwards no window is without its zero."""
    desk = Desk(ledger, sink, buckets=["src"])
    async with desk.running():
        await asyncio.sleep(5 * WINDOW)
        desk.ledger.away = True
        await asyncio.sleep(10.5 * WINDOW)
        desk.ledger.away = False
        await asyncio.sleep(3 * WINDOW)

    told = stamps(sink, "FailedReplications", "src")
    assert {later - sooner for sooner, later in itertools.pairwise(told)} == {WINDOW}
    assert len(stamps(sink, "Heartbeat", "test")) < len(told), "it was not well"


async def test_d40_speed_and_latency_are_those_of_the_window(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """D40: bytes divided by the sum of latencies, without any addition; latencies as values and counts."""
    desk = Desk(ledger, sink)
    async with desk.running():
        await at_slot_start(desk, plus=1)
        await desk.count("a", "b", size=600)
        await asyncio.sleep(2 * WINDOW)

    assert [value for _, value in sink.values("ReplicationSpeed", *ROUTE)] == [2 * 600 / (2 * 3.0)]
    (latency,) = [one for one in sink.datums if one["MetricName"] == "ReplicationLatency"]
    assert "Value" not in latency
    assert sum(latency["Counts"]) == pytest.approx(2)
    assert len(latency["Values"]) == len(latency["Counts"])


async def test_the_open_window_is_not_published_early(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """Invariant 5: until its slot is over a window stays open, also when the daemon ends in the middle of it."""
    desk = Desk(ledger, sink)
    async with desk.running():
        begins = await at_slot_start(desk, plus=1)
        await desk.count("a")
        await asyncio.sleep(WINDOW - 2)
        assert sink.total("ReplicationObjects", *ROUTE) == 0
    assert begins not in stamps(sink, "ReplicationObjects", *ROUTE)
    assert len(await ledger.deltas()) == 1

    later = Desk(ledger, sink, owner="two")
    async with later.running():
        await asyncio.sleep(3 * LEASE_SECONDS)
    assert [(at, v) for at, v in sink.values("ReplicationObjects", *ROUTE) if v] == [(begins, 1)]


async def test_what_is_counted_while_a_window_is_frozen_waits_for_its_own(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """The first instants of a slot belong to it, though the one before is being frozen just then."""
    desk = Desk(ledger, sink)
    async with desk.running():
        begins = await at_slot_start(desk)
        for number in range(20):
            await desk.count(f"a{number}")
            await asyncio.sleep(0.1)
        await asyncio.sleep(WINDOW - 4)
        assert begins not in stamps(sink, "ReplicationObjects", *ROUTE)
        await asyncio.sleep(2 * WINDOW)

    assert [(at, v) for at, v in sink.values("ReplicationObjects", *ROUTE) if v] == [(begins, 20)]


async def test_late_work_lands_in_the_next_window(ledger: MemoryLedger, sink: FakeSink) -> None:
    """What was settled in a window but became known after its freezing is counted once, in the next."""
    desk = Desk(ledger, sink)
    async with desk.running():
        begins = await at_slot_start(desk, plus=5)
        late = begins - 3
        await ledger.settle("late", [done(record("a"))], now=late)
        await asyncio.sleep(3 * WINDOW)

    assert [(at, v) for at, v in sink.values("ReplicationObjects", *ROUTE) if v] == [(begins, 1)]


async def test_failures_count_by_source(ledger: MemoryLedger, sink: FakeSink) -> None:
    """An episode of failure is one in its source bucket's FailedReplications, and none of ReplicationObjects."""
    desk = Desk(ledger, sink)
    one = failed("a")
    async with desk.running():
        settlement = done(one, episode(one))
        await ledger.settle("f", [settlement], now=desk.clock.now())
        await asyncio.sleep(2 * WINDOW)

    assert sink.total("FailedReplications", "src") == 1
    assert sink.total("ReplicationObjects", *ROUTE) == 0


async def test_an_unknown_queue_age_is_left_out(ledger: MemoryLedger, sink: FakeSink) -> None:
    """A queue that cannot be read has no age: no datapoint instead of a reassuring zero."""
    desk = Desk(ledger, sink)
    desk.queue_age = None
    async with desk.running():
        await asyncio.sleep(3 * WINDOW)

    assert sink.values("QueueAge", "test") == []
    assert sink.values("Heartbeat", "test")


# ---- sending ----


async def test_a_retry_sends_the_same_bytes(ledger: MemoryLedger, sink: FakeSink) -> None:
    """Invariant 5: a window is decided once; what failed is sent again as it was, though more was counted since."""
    desk = Desk(ledger, sink)
    sink.deaf = True
    async with desk.running():
        await at_slot_start(desk, plus=1)
        await desk.count("a")
        await at_slot_start(desk, plus=5)
        for number in range(5):
            await desk.count(f"late{number}")
            await asyncio.sleep(20)
        sink.deaf = False
        await asyncio.sleep(5 * WINDOW)

    times = Counter(sink.calls)
    again = [part for part, count in times.items() if count > 1]
    assert len(again) == 1, "only the oldest window is tried, over and over"
    unique = FakeSink()
    unique.calls = list(times)
    assert unique.total("ReplicationObjects", *ROUTE) == 6
    stamps(unique, "ReplicationObjects", *ROUTE)


async def test_cloudwatch_is_not_hammered_while_it_is_away(ledger: MemoryLedger) -> None:
    """Tries become rarer, up to one a minute; the failure is counted and the daemon says that it is not ready."""

    class Away(FakeSink):
        tries = 0

        @override
        async def send(self, part: bytes) -> None:
            self.tries += 1
            await super().send(part)

    sink = Away()
    sink.away = True
    desk = Desk(ledger, sink, buckets=["src"])
    async with desk.running():
        await asyncio.sleep(HOUR)
        assert 0.8 * HOUR / RETRY_CAP_SECONDS < sink.tries < 1.5 * HOUR / RETRY_CAP_SECONDS
        assert desk.meters.count(catalogue.CLOUDWATCH_REQUESTS, "failed") == sink.tries
        assert not desk.board.ready().ok
        unsent = desk.meters.gauge(catalogue.UNSENT_WINDOWS)
        assert unsent == pytest.approx(HOUR / WINDOW, abs=2)

        sink.away = False
        await asyncio.sleep(2 * RETRY_CAP_SECONDS)
        assert desk.board.ready().ok
        assert desk.meters.gauge(catalogue.UNSENT_WINDOWS) == 0
    told = stamps(sink, "FailedReplications", "src")
    assert told == sorted(told)
    assert len(told) >= HOUR / WINDOW


async def test_a_refused_part_is_dropped_and_holds_up_nobody(ledger: MemoryLedger) -> None:
    """Invariant 10: what CloudWatch will never take is counted and let go; the other part and later windows arrive."""

    sink = Picky()
    await ledger.remember_routes(
        [Route("bad", "dst"), *(Route(f"good{number:03}", "dst") for number in range(400))]
    )
    desk = Desk(ledger, sink)
    async with desk.running():
        await asyncio.sleep(5 * WINDOW)
        assert desk.meters.gauge(catalogue.UNSENT_WINDOWS) == 0
        assert desk.meters.count(catalogue.CLOUDWATCH_REQUESTS, "refused") >= 4
        assert desk.board.ready().ok

    told: dict[str, Any] = {
        metric: stamps(sink, metric, "good399", "dst")
        for metric in ("ReplicationObjects", "PendingObjects")
    }
    assert len(told["PendingObjects"]) >= 4
    assert await ledger.frozen() == []


async def test_without_cloudwatch_contributions_do_not_pile_up(ledger: MemoryLedger) -> None:
    """With CloudWatch switched off windows are closed all the same, and nothing waits to be sent."""
    await ledger.remember_routes([Route("src", "dst")])
    desk = Desk(ledger, None)
    async with desk.running():
        for number in range(10):
            await desk.count(f"a{number}")
            await asyncio.sleep(WINDOW / 2)
        await asyncio.sleep(2 * WINDOW)
        assert await ledger.deltas() == []
        assert await ledger.frozen() == []
        assert desk.board.ready().ok
        assert "crrmon_pending_objects" in desk.shown
        assert desk.meters.gauge(catalogue.UNSENT_WINDOWS) is None


# ---- one daemon for all ----


async def test_invariant_9_only_the_holder_shows_the_fleets_gauges(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """Invariant 9: gauges of the fleet disappear from a daemon that lost the role, before another shows them."""
    await ledger.remember_routes([Route("src", "dst")])
    await ledger.park([record("a", written_at=EPOCH)])
    one, two = Desk(ledger, sink, owner="one"), Desk(ledger, sink, owner="two")
    async with one.running():
        await asyncio.sleep(1)
        async with two.running():
            await asyncio.sleep(300)
            assert one.meters.gauge(catalogue.PENDING_OBJECTS, *ROUTE) == 1
            assert len(one.shown) == 8, (
                "every gauge of the fleet, but up to when all is known: nobody is announced"
            )
            assert two.shown == set()

            one.ledger.away = True
            for _ in range(240):
                await asyncio.sleep(0.5)
                assert not (one.shown and two.shown)
            assert one.shown == set()
            assert two.meters.gauge(catalogue.PENDING_OBJECTS, *ROUTE) == 1


async def test_invariant_9_a_window_that_was_not_sent_is_no_reason_to_go_on_showing(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """Invariant 9: a daemon that lost the role in its first round, while sending, shows nothing of the fleet either."""
    one = Desk(ledger, sink)

    class Robbed(FakeSink):
        @override
        async def send(self, part: bytes) -> None:
            lease = (await ledger.leases())[0]
            await ledger.claim(lease, owner="two")

    robbed = Desk(ledger, Robbed(), owner="one", buckets=["src"])
    sink.away = True
    async with one.running():
        await asyncio.sleep(2.5 * WINDOW)
    await one.leases.give_up()

    async with robbed.running():
        await asyncio.sleep(10)
        assert robbed.leases.reporting() is None
        assert robbed.shown == set()


async def test_invariant_9_a_fleet_sends_each_window_once(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """Invariant 9: however often the role changes hands, and whoever counts, every object is told once."""
    desks = [Desk(ledger, sink, owner=f"d{number}") for number in range(3)]
    counted = 0
    for desk in itertools.islice(itertools.cycle(desks), 12):
        async with desk.running():
            for _ in range(10):
                await desks[counted % 3].count(f"k{counted}")
                counted += 1
                await asyncio.sleep(13)
    async with desks[0].running():
        await asyncio.sleep(3 * WINDOW)

    assert sink.total("ReplicationObjects", *ROUTE) == counted
    stamps(sink, "ReplicationObjects", *ROUTE)
    stamps(sink, "Heartbeat", "test")


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_wall_clocks_an_hour_apart_lose_and_double_nothing(
    ledger: MemoryLedger, sink: FakeSink, ahead: float
) -> None:
    """Windows may come late when the role goes to a daemon whose clock is wrong; counts and stamps stay right."""
    right, wrong = (
        Desk(ledger, sink, owner="right"),
        Desk(ledger, sink, owner="wrong", ahead=ahead),
    )
    counted = 0
    for desk in (right, wrong, right, wrong):
        async with desk.running():
            for _ in range(20):
                await (right, wrong)[counted % 2].count(f"k{counted}")
                counted += 1
                await asyncio.sleep(10)
    async with right.running():
        await asyncio.sleep(HOUR + 5 * WINDOW)

    assert sink.total("ReplicationObjects", *ROUTE) == counted
    stamps(sink, "ReplicationObjects", *ROUTE)


async def test_a_slow_cloudwatch_does_not_make_the_daemon_look_dead(
    ledger: MemoryLedger,
) -> None:
    """Catching up with a backlog of windows takes its time; the loop is alive as long as parts get through."""

    class Slow(FakeSink):
        @override
        async def send(self, part: bytes) -> None:
            await asyncio.sleep(20)
            await super().send(part)

    sink = Slow()
    sink.away = True
    desk = Desk(ledger, sink, buckets=["src"])
    async with desk.running():
        await asyncio.sleep(HOUR)
        sink.away = False
        while desk.meters.gauge(catalogue.UNSENT_WINDOWS) != 0:
            await asyncio.sleep(10)
            assert desk.board.live().ok
    told = stamps(sink, "FailedReplications", "src")
    assert {later - sooner for sooner, later in itertools.pairwise(told)} == {WINDOW}


@pytest.mark.parametrize("window", [300, 60, 10])
async def test_a_clock_a_minute_behind_waits_and_alarms_nobody(
    ledger: MemoryLedger, sink: FakeSink, window: int
) -> None:
    """Taken over from a daemon two minutes ahead, windows go on when their time comes; nobody calls the clock wrong."""
    ahead = Desk(ledger, sink, owner="ahead", ahead=60, buckets=["src"], window=window)
    behind = Desk(ledger, sink, owner="behind", ahead=-60, buckets=["src"], window=window)
    counted = 0
    for desk in (ahead, behind) * 3:
        async with desk.running():
            for _ in range(40):
                await (ahead, behind)[counted % 2].count(f"k{counted}")
                counted += 1
                await asyncio.sleep(17)
                assert desk.board.ready().ok
        await desk.leases.give_up()
    async with behind.running():
        await asyncio.sleep(120 + 3 * window)

    assert sink.total("ReplicationObjects", *ROUTE) == counted
    told = stamps(sink, "FailedReplications", "src")
    assert {later - sooner for sooner, later in itertools.pairwise(told)} == {window}


async def test_t7_windows_frozen_in_the_future_hold_nobody_up(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """Frozen by a clock a day ahead they wait for their time; what is counted meanwhile is told window by window."""
    sink.away = True
    wrong = Desk(ledger, sink, owner="wrong", ahead=DAY, buckets=["src"])
    async with wrong.running():
        await at_slot_start(wrong, plus=5)
        await wrong.count("a", "b")
        await asyncio.sleep(3 * WINDOW)
    sink.away = False
    desk = Desk(ledger, sink, owner="right", buckets=["src"])
    with capture_logs() as logs:
        async with desk.running():
            await asyncio.sleep(2 * LEASE_SECONDS)
            await desk.count("c")
            await asyncio.sleep(3 * WINDOW)
            assert sink.total("ReplicationObjects", *ROUTE) == 1
            assert all(at <= desk.clock.now() for at, _ in sink.values("Heartbeat", "test"))
            assert desk.publisher.unsent()
            assert desk.board.ready().ok
    assert [one["event"] for one in logs].count("windows_ahead") == 1
    told = stamps(sink, "Heartbeat", "test")
    assert {later - sooner for sooner, later in itertools.pairwise(told)} == {WINDOW}

    desk.clock.leap(DAY)
    async with desk.running():
        await asyncio.sleep(2 * LEASE_SECONDS + 3 * WINDOW)
    assert sink.total("ReplicationObjects", *ROUTE) == 3
    stamps(sink, "ReplicationObjects", *ROUTE)


async def test_t7_who_takes_over_amid_windows_from_the_future_doubles_none(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """What was frozen before them is not known any more: the window that may have been is left out, and no count is."""
    async with Desk(ledger, sink, owner="wrong", ahead=DAY, buckets=["src"]).running():
        await asyncio.sleep(2 * WINDOW)
    sink.calls.clear()
    desks = [Desk(ledger, sink, owner=one, buckets=["src"]) for one in ("two", "three")]
    counted = 0
    for desk in desks * 3:
        async with desk.running():
            for _ in range(10):
                await desk.count(f"k{counted}")
                counted += 1
                await asyncio.sleep(17)
        await desk.leases.give_up()
    async with desks[0].running():
        await asyncio.sleep(4 * WINDOW)

    assert sink.total("ReplicationObjects", *ROUTE) == counted
    stamps(sink, "ReplicationObjects", *ROUTE)
    stamps(sink, "Heartbeat", "test")


async def test_t7_what_a_clock_a_day_ahead_settled_is_told_at_once(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """Its slot is not waited for: it comes with what is counted now."""
    desk, other = Desk(ledger, sink), Desk(ledger, sink, owner="two", ahead=DAY)
    async with desk.running():
        await at_slot_start(desk, plus=5)
        await other.count("a", "b")
        await asyncio.sleep(2 * WINDOW)
    assert sink.total("ReplicationObjects", *ROUTE) == 2
    assert all(at <= desk.clock.now() for at, _ in sink.values("ReplicationObjects", *ROUTE))


async def test_t7_nothing_is_published_on_an_unsure_clock(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """No window is frozen and none is sent until it is sure; then those since it was are."""
    desk = Desk(ledger, sink, buckets=["src"])
    desk.clock.sure = False
    async with desk.running():
        await desk.count("a")
        await asyncio.sleep(5 * WINDOW)
        assert sink.calls == []
        assert await ledger.last_frozen() is None
        desk.clock.sure = True
        await asyncio.sleep(3 * WINDOW)
    assert sink.total("ReplicationObjects", *ROUTE) == 1


async def test_what_a_clock_ahead_settled_waits_for_its_slot(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """Settled by a daemon whose clock is two minutes ahead: told once, of the slot it says, when that is over."""
    desk, other = Desk(ledger, sink), Desk(ledger, sink, owner="two", ahead=2 * WINDOW)
    async with desk.running():
        begins = await at_slot_start(desk, plus=5)
        await other.count("a", "b")
        await asyncio.sleep(3 * WINDOW - 10)
        assert sink.total("ReplicationObjects", *ROUTE) == 0
        await asyncio.sleep(10)

    told = [(at, value) for at, value in sink.values("ReplicationObjects", *ROUTE) if value]
    assert told == [(begins + 2 * WINDOW, 2)]


# ---- trouble ----


async def test_r2_a_former_reporter_says_nothing_of_cloudwatch(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """R2: CloudWatch fails, the role moves on, CloudWatch recovers: the daemon that reports no more is ready again."""
    one, two = Desk(ledger, sink, owner="one", buckets=["src"]), Desk(ledger, sink, owner="two")
    sink.away = True
    async with one.running():
        await asyncio.sleep(3 * WINDOW)
        assert not one.board.ready().ok
        assert one.meters.gauge(catalogue.DEPENDENCY_UP, "cloudwatch") == 0
        async with two.running():
            one.leases.lost((await ledger.leases())[0])
            for lease in await ledger.leases():
                await ledger.release([lease])
                await ledger.claim((await ledger.leases())[lease.shard], owner="two")
            await asyncio.sleep(2 * WINDOW)
            assert one.leases.reporting() is None
            assert two.leases.reporting() is not None
            assert one.board.ready().ok, "it is for the other one to say"
            assert one.board.ready().details["cloudwatch"] == "not asked by this replica"
            assert one.meters.gauge(catalogue.DEPENDENCY_UP, "cloudwatch") is None
            assert one.meters.gauge(catalogue.DEPENDENCY_SINCE, "cloudwatch") is None
            assert not two.board.ready().ok
            sink.away = False
            await asyncio.sleep(2 * WINDOW)
            assert two.meters.gauge(catalogue.DEPENDENCY_UP, "cloudwatch") == 1


@pytest.mark.parametrize("ledger_away", [0.0, 5.0])
async def test_r3_a_call_that_was_begun_ends_and_is_forgotten(
    ledger: MemoryLedger, sink: FakeSink, ledger_away: float
) -> None:
    """R3: told to stop in the middle of a call, the daemon waits for its end and has it forgotten: told once, not twice."""
    desk = Desk(ledger, sink)
    async with desk.running():
        begins = await at_slot_start(desk, plus=1)
        await desk.count("a")
        sink.slow = 8.0
        while sink.total("ReplicationObjects", *ROUTE) == 0:
            await asyncio.sleep(0.25)
        desk.ledger.away = bool(ledger_away)
        calls = len(sink.calls)

        def back() -> None:
            desk.ledger.away = False

        asyncio.get_running_loop().call_later(8.0 + ledger_away, back)
        stop, loops = asyncio.Event(), {"publisher": desk._tasks.pop(1)}

        async def publisher() -> None:
            await loops["publisher"]

        async def drain() -> None:
            desk.publisher.stop()
            await desk.publisher.drained()

        stop.set()
        await supervise({"publisher": publisher}, stop=stop, drain=drain, grace=20.0)
        assert len(sink.calls) == calls, "and nothing more was begun"
    sink.slow = 0.0
    async with Desk(ledger, sink, owner="next").running():
        await asyncio.sleep(3 * LEASE_SECONDS)

    assert [(at, v) for at, v in sink.values("ReplicationObjects", *ROUTE) if v] == [(begins, 1)]


@pytest.mark.parametrize("seconds", [10.0, 60.0], ids=["within the lease", "beyond it"])
async def test_r3_what_was_accepted_is_not_sent_again_because_the_ledger_was_away(
    ledger: MemoryLedger, sink: FakeSink, seconds: float
) -> None:
    """R3: that a part was accepted is remembered until the ledger has taken it in; the part is not told twice."""
    desk = Desk(ledger, sink)
    sink.slow = 3.0
    async with desk.running():
        await at_slot_start(desk, plus=1)
        await desk.count("a")
        while sink.total("ReplicationObjects", *ROUTE) == 0:
            await asyncio.sleep(0.25)
        desk.ledger.away = True
        await asyncio.sleep(seconds)
        desk.ledger.away = False
        await asyncio.sleep(2 * WINDOW)

    assert sink.total("ReplicationObjects", *ROUTE) == 1
    assert len(sink.calls) == len(set(sink.calls))


@pytest.mark.parametrize("before", [0, 10])
async def test_r5_a_sink_that_refuses_everything_is_away_and_nothing_is_lost(
    ledger: MemoryLedger, sink: FakeSink, before: int
) -> None:
    """R5: refusals with no acceptance between are CloudWatch's trouble: not ready, windows kept, and told afterwards."""
    desk = Desk(ledger, sink, buckets=["src"])
    sink.refuses = not before
    async with desk.running():
        await asyncio.sleep(before * WINDOW)
        sink.refuses = True
        for number in range(20):
            await desk.count(f"a{number}")
            await asyncio.sleep(WINDOW)
        assert not desk.board.ready().ok
        assert "refuses everything" in desk.board.ready().details["cloudwatch"]
        assert len(await ledger.frozen()) >= 19
        tries = desk.meters.count(catalogue.CLOUDWATCH_REQUESTS, "refused")
        assert 20 <= tries <= 40, "ever more rarely"
        sink.refuses = False
        await asyncio.sleep(5 * WINDOW)
        assert desk.board.ready().ok
        assert desk.meters.gauge(catalogue.UNSENT_WINDOWS) == 0

    assert sink.total("ReplicationObjects", *ROUTE) == 20
    told = stamps(sink, "FailedReplications", "src")
    assert {later - sooner for sooner, later in itertools.pairwise(sorted(told))} == {WINDOW}


class Picky(FakeSink):
    """Refuses parts that name a bucket."""

    @override
    async def send(self, part: bytes) -> None:
        if b'"bad' in part:
            raise RefusedPartError("InvalidParameterValue")
        await super().send(part)


async def test_r5_a_refused_part_is_dropped_once_others_were_accepted(
    ledger: MemoryLedger,
) -> None:
    """R5: one part a window, one of them refused: the next window's acceptance tells that it is the part, which is let go."""
    sink = Picky()
    desk = Desk(ledger, sink, buckets=["src"])
    async with desk.running():
        await asyncio.sleep(3 * WINDOW + 1)  # the last window is frozen
        now = desk.clock.now()
        lease = desk.leases.reporting()
        assert lease is not None
        bad = FrozenWindow(starts_at=now - 7, parts=(b'[{"bad":1}]',), deltas=())
        await ledger.freeze(bad, lease=lease)
        for _ in range(4 * WINDOW):
            await asyncio.sleep(1)
            assert desk.board.ready().ok, "one part's refusal is no outage"
        assert await ledger.frozen() == []
    assert 2 <= desk.meters.count(catalogue.CLOUDWATCH_REQUESTS, "refused") <= 4
    assert len(stamps(sink, "FailedReplications", "src")) >= 6


async def test_r5_what_cloudwatch_takes_no_more_for_its_age_is_let_go_at_once(
    ledger: MemoryLedger,
) -> None:
    """R5: after weeks of an outage the oldest windows are refused for their age; they hold up nobody."""

    class Fresh(FakeSink):
        @override
        async def send(self, part: bytes) -> None:
            if b'"old"' in part:
                raise RefusedPartError("older than two weeks")
            await super().send(part)

    sink = Fresh()
    desk = Desk(ledger, sink, buckets=["src"])
    now = desk.clock.now()
    (lease, *_) = await ledger.leases()
    taken = await ledger.claim(lease, owner="before")
    assert taken is not None
    for number in range(50):
        starts_at = now - 15 * 86_400 + 60 * number
        old = FrozenWindow(starts_at=starts_at, parts=(b'[{"a":"old"}]',), deltas=())
        await ledger.freeze(old, lease=taken)
    await ledger.release([taken])
    async with desk.running():
        await asyncio.sleep(3 * WINDOW)
        assert await ledger.frozen() == []
        assert desk.board.ready().ok
    assert stamps(sink, "FailedReplications", "src")


async def test_r10_missed_windows_are_frozen_a_few_at_a_time(
    ledger: MemoryLedger, sink: FakeSink
) -> None:
    """R10: three hundred windows, a second each: the loop is alive all the while, and none is left out."""
    desk = Desk(ledger, sink, buckets=["src"])
    async with desk.running():
        await asyncio.sleep(3 * WINDOW)
        desk.ledger.away = True
        await asyncio.sleep(250 * WINDOW)
        desk.ledger.delays = {"freeze": 1.0}
        desk.ledger.away = False
        while len(stamps(sink, "FailedReplications", "src")) < 250:
            await asyncio.sleep(10)
            assert desk.board.live().ok
    told = stamps(sink, "FailedReplications", "src")
    assert {later - sooner for sooner, later in itertools.pairwise(told)} == {WINDOW}
