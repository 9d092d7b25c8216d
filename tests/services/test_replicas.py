"""Several daemons on one queue and one ledger: together they count what one would, whatever happens to each of them."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from typing_extensions import override

from crrmon.domain import catalogue
from crrmon.domain.observations import Sight
from crrmon.services.membership.leases import LEASE_SECONDS, ROUND_SECONDS
from fakes.clock import LoopClock
from fakes.events import written
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import ASYNC, FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import DAY, WINDOW, Rig
from fakes.s3 import FakeS3
from fakes.sink import FakeSink

SHARDS = 12
HOUR = 3600.0


class Ice:
    """Lets a daemon stand still, as SIGSTOP does: in or around a call, and nothing else of it gets through either."""

    def __init__(self) -> None:
        self._moving = asyncio.Event()
        self._moving.set()
        self._at: tuple[str, str] | None = None
        self.stood_still = 0

    def when(self, call: str, moment: str) -> None:
        """
        Stand still the next time a call is about to be made ("before") or was made and not yet heard of ("after").
        """
        self._at = (call, moment)

    def thaw(self) -> None:
        self._moving.set()

    async def at(self, call: str, moment: str) -> None:
        """Come by here."""
        if self._at == (call, moment):
            self._at = None
            self.stood_still += 1
            self._moving.clear()
        await self._moving.wait()


class IcyLedger(FlakyLedger):
    """The way of a daemon to the ledger."""

    def __init__(self, ledger: MemoryLedger, ice: Ice) -> None:
        super().__init__(ledger)
        self._ice = ice

    @override
    def __getattr__(self, name: str) -> Any:
        inner = super().__getattr__(name)
        if name not in ASYNC:
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._ice.at(name, "before")
            result = await inner(*args, **kwargs)
            await self._ice.at(name, "after")
            return result

        return call


class IcySink(FakeSink):
    """The way of a daemon to CloudWatch."""

    def __init__(self, sink: FakeSink, ice: Ice) -> None:
        super().__init__()
        self.calls = sink.calls
        self._ice = ice

    @override
    async def send(self, part: bytes) -> None:
        await self._ice.at("send", "before")
        await super().send(part)
        await self._ice.at("send", "after")


class IcyInbox:
    """The way of a daemon to the queue. It takes a while, never the same, so that nobody is always the first."""

    def __init__(self, inbox: FakeInbox, ice: Ice, rng: random.Random) -> None:
        self._inbox = inbox
        self._ice = ice
        self._rng = rng

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inbox, name)
        if name not in {"receive", "acknowledge", "extend"}:
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(self._rng.uniform(0, 0.02))
            await self._ice.at(name, "before")
            result = await inner(*args, **kwargs)
            await self._ice.at(name, "after")
            return result

        return call


class World:
    """What all daemons share, and the truth to compare with."""

    def __init__(self, *, rng: random.Random | None = None, max_receives: int = 50) -> None:
        self.rng = rng or random.Random(1)
        self.clock = LoopClock()
        self.ledger = MemoryLedger(shards=SHARDS)
        self.inbox = FakeInbox(self.clock, max_receives=max_receives)
        self.s3 = FakeS3(self.clock)
        self.sink = FakeSink()
        self.routes = {"src": "dst", "other": "else"}
        for source, destination in self.routes.items():
            self.s3.rule(source, destination)
        self.truth: Counter[tuple[str, ...]] = Counter()
        self.rigs: list[Rig] = []
        self._numbers = itertools.count()

    def rig(self, *, ice: Ice | None = None, **options: Any) -> Rig:
        """Make one more daemon."""
        number = len(self.rigs)
        ice = ice or Ice()
        inbox: Any = IcyInbox(self.inbox, ice, random.Random(number))
        one = Rig(
            ledger=IcyLedger(self.ledger, ice),
            inbox=inbox,
            s3=self.s3,
            sink=IcySink(self.sink, ice),
            owner=f"d{number}",
            seed=number,
            buckets=tuple(self.routes),
            **options,
        )
        self.rigs.append(one)
        return one

    def write(self, *, takes: float, copies: int = 1, fails: bool = False) -> None:
        """Write an object to one of the buckets, and count what must come of it."""
        number = next(self._numbers)
        bucket = self.rng.choice(list(self.routes))
        size = self.rng.randrange(1000)
        self.rigs[0].put(
            f"k{number}",
            bucket=bucket,
            version=f"v{number}",
            takes=takes,
            then=Sight.FAILED if fails else Sight.COMPLETED,
            size=size,
            copies=copies,
        )
        if fails:
            self.truth["FailedReplications", bucket] += 1
        else:
            self.truth["ReplicationObjects", bucket, self.routes[bucket]] += 1
            self.truth["ReplicatedBytes", bucket, self.routes[bucket]] += size

    async def write_many(self, count: int, *, every: float, takes: float = 100.0) -> None:
        """Write objects for a while: some fail, some are told of several times."""
        for _ in range(count):
            self.write(
                takes=self.rng.expovariate(1 / takes),
                copies=self.rng.choice([1, 1, 1, 2, 3]),
                fails=self.rng.random() < 0.2,
            )
            await asyncio.sleep(self.rng.uniform(0, 2 * every))

    async def finished(self, *, within: float = 4 * HOUR) -> None:
        """Wait until nothing is in the queue or pending, and everything was published."""
        async with asyncio.timeout(within):
            while self.inbox.waiting or any(
                one.pending_objects for one in await self.ledger.backlog()
            ):
                await asyncio.sleep(1)
            while await self.ledger.deltas() or await self.ledger.frozen():
                await asyncio.sleep(1)

    def told(self, *, repeated: int = 0) -> None:
        """
        Check what CloudWatch was told against the truth.

        Args:
            repeated: how many calls may have been made twice, byte by byte.
        """
        assert self.inbox.dead == []
        once = FakeSink()
        once.calls = list(dict.fromkeys(self.sink.calls))
        assert len(self.sink.calls) - len(once.calls) <= repeated
        for (metric, *dimensions), amount in self.truth.items():
            assert once.total(metric, *dimensions) == amount, (metric, dimensions)
        series = Counter(
            (one["MetricName"], one["Timestamp"], *(two["Value"] for two in one["Dimensions"]))
            for one in once.datums
        )
        assert set(series.values()) == {1}, "one datapoint for each metric and window"


@asynccontextmanager
async def running(*rigs: Rig) -> AsyncIterator[None]:
    """Run daemons; they are killed in the end."""
    async with AsyncExitStack() as stack:
        for rig in rigs:
            await stack.enter_async_context(rig.running())
        yield


def looks(rig: Rig) -> float:
    """Tell how many looks a daemon did."""
    return sum(
        count
        for (name, *_), count in rig.meters.counters.items()
        if name == catalogue.HEAD_REQUESTS.name
    )


def spread(counts: Sequence[float]) -> float:
    """Tell the share of whoever did the least."""
    return min(counts) / sum(counts)


# ---- together ----


async def test_three_replicas_share_the_work() -> None:
    """What is parked is looked at by all of them, evenly enough, and counted once."""
    world = World()
    rigs = [world.rig() for _ in range(3)]
    async with running(*rigs):
        await asyncio.sleep(2 * ROUND_SECONDS)
        await world.write_many(300, every=0.5, takes=300)
        await world.finished()

    world.told()
    assert spread([looks(rig) for rig in rigs]) > 0.2


@pytest.mark.parametrize("seed", range(3))
async def test_invariant_2_duplicates_at_several_replicas_count_once(seed: int) -> None:
    """Invariant 2: events that come up to three times, at whichever replica, also while answers get lost."""
    world = World(rng=random.Random(seed))
    rigs = [world.rig() for _ in range(3)]
    async with running(*rigs):
        for _ in range(6):
            for rig in rigs:
                rig.ledger.deaf = 1
            await world.write_many(20, every=1, takes=60)
        await world.finished()

    world.told()
    counted = sum(
        rig.meters.count(catalogue.REPLICATIONS, source, destination, "completed")
        for rig in rigs
        for source, destination in world.routes.items()
    )
    assert counted == sum(
        count for (metric, *_), count in world.truth.items() if metric == "ReplicationObjects"
    )


@pytest.mark.parametrize("seed", range(3))
async def test_invariant_5_replicas_killed_at_random_lose_and_double_nothing(seed: int) -> None:
    """Invariant 5: while three replicas are killed and replaced again and again, every object is counted once."""
    world = World(rng=random.Random(seed))
    rng = random.Random(seed + 100)
    alive = [world.rig() for _ in range(3)]
    for rig in alive:
        rig.start()

    async def strike() -> None:
        for _ in range(10):
            await asyncio.sleep(rng.uniform(0, 60))
            await alive.pop(rng.randrange(len(alive))).kill()
            await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 60)]))
            alive.append(world.rig())
            alive[-1].start()

    await asyncio.gather(strike(), world.write_many(200, every=3))
    await world.finished()
    for rig in alive:
        await rig.kill()

    world.told(repeated=10)


async def test_invariant_5_an_hour_without_the_ledger_for_three_replicas() -> None:
    """Invariant 5: nobody receives while the ledger is away; the dead-letter queue stays empty, all is counted once."""
    world = World(max_receives=3)
    rigs = [world.rig() for _ in range(3)]
    async with running(*rigs):
        await world.write_many(60, every=5)
        for rig in rigs:
            rig.ledger.away = True
        await world.write_many(120, every=30)
        assert world.inbox.most_receives <= 1
        assert not any(rig.board.ready().ok for rig in rigs)
        assert all(rig.board.live().ok for rig in rigs)
        for rig in rigs:
            rig.ledger.away = False
        await world.write_many(60, every=5)
        await world.finished()
        assert all(rig.board.ready().ok for rig in rigs)

    world.told()


async def test_invariant_7_intake_and_poller_are_bounded_at_each_replica() -> None:
    """Invariant 7: with far more in queue and ledger than fits, no replica holds more than its limit."""
    world = World()
    limit = 40
    rigs = [world.rig(max_in_flight=limit) for _ in range(3)]
    most: Counter[str] = Counter()
    for _ in range(1200):
        world.write(takes=200)
    async with running(*rigs):
        while world.inbox.waiting or any(
            one.pending_objects for one in await world.ledger.backlog()
        ):
            for rig in rigs:
                most["held"] = max(most["held"], len(rig.intake._held))
                most["attending"] = max(most["attending"], len(rig.intake._attending))
                most["busy"] = max(most["busy"], len(rig.poller._busy))
            await asyncio.sleep(0.2)
        await world.finished()

    assert 0 < most["held"] <= limit
    assert most["attending"] <= limit
    assert 0 < most["busy"] <= 32
    assert world.inbox.most_receives <= 1
    world.told()


# ---- days later ----


@pytest.mark.parametrize("days", [3, 10])
async def test_invariant_2_what_is_redriven_days_later_is_not_newly_counted(days: int) -> None:
    """
    Invariant 2; D6: on day 3 the marks are there and the event is a duplicate; on day 10 it is too old, whether it
    was seen before or not.
    """
    world = World()
    rigs = [world.rig() for _ in range(3)]
    sent_at = world.clock.now()
    bodies = [written(f"k{number}", at=sent_at, version=f"v{number}") for number in range(30)]
    late = [written(f"n{number}", at=sent_at, version=f"v{number}") for number in range(10)]
    async with running(*rigs):
        for number, body in enumerate(bodies):
            rigs[0].put(f"k{number}", version=f"v{number}", copies=0)
            world.inbox.send(body)
        for number in range(10):
            rigs[0].put(f"n{number}", version=f"v{number}", copies=0)
        await world.finished()
        world.truth["ReplicationObjects", "src", "dst"] = 30

        for clock in (world.clock, *(rig.clock for rig in rigs)):
            clock.leap(days * DAY)
        while await world.ledger.sweep(now=world.clock.now()):
            pass
        for body in bodies + bodies:
            world.inbox.send(body)
        if days > 4:
            for body in late:
                world.inbox.send(body)
        await world.finished()
        await asyncio.sleep(3 * WINDOW)

    world.told()
    duplicates = sum(rig.meters.count(catalogue.DUPLICATES, "src") for rig in rigs)
    too_old = sum(rig.meters.count(catalogue.BEYOND_RETENTION, "src") for rig in rigs)
    if days > 4:
        assert too_old == 40
        assert duplicates <= 30
    else:
        assert too_old == 0
        assert duplicates == 60
        assert len(world.s3.looks) == 30, "known without a look"


# ---- clocks ----


async def test_invariant_9_clocks_a_minute_apart_lose_and_double_nothing() -> None:
    """Invariant 9: whoever publishes, a minute ahead or behind: counts are the truth, one datapoint per window."""
    world = World()
    alive = [world.rig(clock=LoopClock(ahead=ahead)) for ahead in (0.0, 60.0, -60.0)]
    for rig in alive:
        rig.start()
        await asyncio.sleep(1)
    held: list[str] = []
    for _ in range(9):
        await world.write_many(20, every=4, takes=30)
        (publisher,) = [rig for rig in alive if rig.leases.reporting() is not None]
        held.append(f"{publisher.clock.ahead:+.0f}")
        await publisher.kill()
        await publisher.leases.give_up()
        alive.remove(publisher)
        await asyncio.sleep(2 * ROUND_SECONDS)
        alive.append(world.rig(clock=LoopClock(ahead=publisher.clock.ahead)))
        alive[-1].start()
        await asyncio.sleep(2 * ROUND_SECONDS)
        assert all(rig.board.ready().ok for rig in alive)
    await world.finished()
    for rig in alive:
        await rig.kill()

    assert set(held) == {"+0", "+60", "-60"}, "each had its turn"
    world.told(repeated=len(held))


# ---- standing still ----


@asynccontextmanager
async def standing_still(
    world: World, call: str, moment: str, *, seconds: float
) -> AsyncIterator[tuple[Rig, Rig]]:
    """Have one daemon that reports stand still at a call for a while, and another one that takes over."""
    ice = Ice()
    one, two = world.rig(ice=ice), world.rig()
    async with running(one):
        await asyncio.sleep(1)
        async with running(two):
            await world.write_many(20, every=2, takes=30)
            ice.when(call, moment)
            async with asyncio.timeout(10 * WINDOW):
                while not ice.stood_still:
                    world.write(takes=world.rng.choice([20, 300]), copies=2)
                    await asyncio.sleep(1)
            await asyncio.sleep(seconds)
            assert two.leases.reporting() is not None
            ice.thaw()
            yield one, two
            await world.write_many(20, every=5, takes=30)
            await world.finished()


@pytest.mark.parametrize(
    ("call", "moment", "repeated"),
    [
        ("send", "before", 1),
        ("send", "after", 1),
        ("freeze", "before", 0),
        ("freeze", "after", 0),
        ("forget", "before", 1),
        ("forget", "after", 0),
        ("deltas", "after", 0),
    ],
)
async def test_invariant_5_a_publisher_that_stood_still_repeats_one_call_at_most(
    call: str, moment: str, repeated: int
) -> None:
    """Invariant 5: wherever a publisher stops, past its lease, one call with identical bytes may repeat."""
    world = World()
    async with standing_still(world, call, moment, seconds=150.0):
        pass

    world.told(repeated=repeated)


@pytest.mark.own_rounds
async def test_invariant_5_a_publisher_that_stood_still_does_not_go_on_with_old_windows() -> None:
    """Invariant 5: windows that had piled up were sent by another daemon meanwhile; none of them is sent again."""
    world = World()
    before = world.rig()
    before.sink.away = True
    async with running(before):
        await world.write_many(60, every=5, takes=30)
    await before.leases.give_up()
    assert len(await world.ledger.frozen()) >= 3

    ice = Ice()
    ice.when("forget", "after")
    one, two = world.rig(ice=ice), world.rig()
    async with running(one):
        await asyncio.sleep(2)
        assert ice.stood_still
        async with running(two):
            # As long as the lease and a little more: its time to send what has piled up is not over yet.
            await asyncio.sleep(LEASE_SECONDS + 3)
            assert two.leases.reporting() is not None
            assert await world.ledger.frozen() == []
            ice.thaw()
            await world.finished()

    world.told(repeated=0)


@pytest.mark.parametrize("call", ["settle", "park", "reschedule", "acknowledge"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_invariant_2_a_daemon_that_stood_still_while_settling_doubles_nothing(
    call: str, moment: str
) -> None:
    """Invariants 2, 5: others settle meanwhile what it was about to settle, or had settled; it counts once."""
    world = World()
    async with standing_still(world, call, moment, seconds=200.0):
        pass

    # The window it was about to send may have been sent by the other one.
    world.told(repeated=1)
