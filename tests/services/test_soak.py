"""A week of trouble: whatever happens to the daemons and to what they need, counts are right and nobody is misled.

Three daemons share a ledger and a queue. Objects are written every hour of a week: some are slow, some fail, some of
those are repaired, some are deleted on their way. Meanwhile what the daemons need goes away and comes back, answers get
lost, daemons are killed, stopped, or stand still, and their clocks leap. On every sample, what is shown as complete is
compared with what has arrived; at the end, all that was counted is compared with what happened.

Each hour has some minutes of simulated time; in between, wall time leaps for everybody, as if all machines had been
suspended. So a week takes seconds.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from typing_extensions import override

from crrmon.domain import catalogue
from crrmon.domain.events.facts import Channel
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.outcomes import Delta, fold
from crrmon.ports.clock import Clock, Dates
from crrmon.ports.health import HealthVerdict
from crrmon.ports.ledger import FrozenWindow, Lease
from fakes.clock import LoopClock
from fakes.estate import Estate, Voices
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import ASYNC, FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import Rig
from fakes.s3 import NEVER, FakeS3, Stored, Trip
from fakes.sink import FakeSink

HOUR = 3600.0
DAY = 24 * HOUR
HOURS = 7 * 24

STRETCHES = (90.0, 90.0, 90.0, 480.0)
"""
Simulated time of one hour after another. A dead daemon's last word stands for four minutes of it, so without long ones
nothing would be shown for the rest of the week.
"""

SAMPLE_SECONDS = 3.0

DAEMONS = 3
SHARDS = 6
WINDOW = 900

RULES = {
    "docs": ("docs-dr",),
    "logs": ("logs-dr", "logs-far"),
    "media": ("media-dr",),
    "attic": ("attic-dr",),
}
"""Destinations by source. In `media` failures are repaired, in `attic` they are not."""

OUTAGES = ("ledger", "s3", "throttled", "configurations", "queue", "cloudwatch")
LOSSES = ("ledger deaf", "cloudwatch deaf")
RESTARTS = ("kill", "stop", "all killed")
ROLES = ("still", "reporter still", "reporter killed")
CLOCKS = {
    "behind": -70.0,
    "ahead a minute": 60.0,
    "ahead a day": DAY,
    "ahead six days": 6 * DAY,
}
HAZARDS = {
    "outages": OUTAGES,
    "losses": LOSSES,
    "restarts": RESTARTS,
    "roles": ROLES,
    "late": (),
    **{one: (one,) for one in CLOCKS},
}
"""What may go wrong, by what a test can switch on. `late` makes every message come long after the write."""

LATE_SECONDS = 300.0
DELAY_SECONDS = 45.0
"""From a write to its message at the most, where nothing is late."""

NIGHT_HOURS = 8
"""Of every day: nothing is written."""


class RigClock(LoopClock):
    """The clock of one machine: right, but for what it is `ahead`."""

    def __init__(self, right: LoopClock, *, ahead: float) -> None:
        super().__init__(ahead=ahead)
        self._right = right

    @override
    def now(self) -> float:
        return self._right.now() + self.ahead


class Accounts:
    """The ledger, and all that was ever taken into a window."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger(shards=SHARDS)
        self.taken: list[Delta] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        before = list(await self.ledger.deltas())
        await self.ledger.freeze(window, lease=lease)
        left = {one.id for one in await self.ledger.deltas()}
        self.taken += [one for one in before if one.id not in left]


class Reach:
    """
    A daemon's way to something outside: while it stands still, nothing gets through, and answers are not heard.

    A receive is not held up after it was done: what SQS handed out in an answer that nobody heard is nobody's until it
    is visible again, and that may be passed over.

    Args:
        inner: what is asked.
        calls: by which names.
        moving: not set while the daemon stands still.
        right: the clock by which answers are dated, where they are.
    """

    def __init__(
        self, inner: Any, calls: set[str], moving: asyncio.Event, right: LoopClock | None = None
    ) -> None:
        self._inner = inner
        self._calls = calls
        self._moving = moving
        self._right = right
        self.dates: Dates | None = None
        self.daemon: Clock | None = None

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        if name not in self._calls:
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._moving.wait()
            asked_at = self.dates.asked() if self.dates else 0.0
            result = await inner(*args, **kwargs)
            if name != "receive":
                await self._moving.wait()
            unreachable = isinstance(result, Observation) and result.sight is Sight.UNREACHABLE
            if self.dates and self._right and not unreachable:
                self.dates.heard(float(int(self._right.now())), asked_at=asked_at)
            if isinstance(result, Observation) and self.daemon:
                return msgspec.structs.replace(result, looked_at=self.daemon.now())
            return result

        return call


class Machine:
    """One place for a daemon: what it runs, and how it reaches others."""

    def __init__(self, world: "World", number: int) -> None:
        self._world = world
        self._number = number
        self._lives = itertools.count()
        self.clock = RigClock(world.clock, ahead=world.chance.uniform(-4, 4))
        self.moving = asyncio.Event()
        self.moving.set()
        self.ledger = FlakyLedger(world.accounts)  # type: ignore[arg-type]
        self.sink = FakeSink()
        self.sink.calls = world.sink.calls
        self.rig = self._daemon()

    def _daemon(self) -> Rig:
        world, life = self._world, next(self._lives)
        ledger: Any = Reach(self.ledger, ASYNC, self.moving)
        calls = {"receive", "acknowledge", "extend", "depth"}
        inbox: Any = Reach(world.inbox, calls, self.moving, world.clock)
        s3: Any = Reach(world.s3, {"look"}, self.moving, world.clock)
        sink: Any = Reach(self.sink, {"send"}, self.moving)
        return Rig(
            ledger=ledger,
            inbox=inbox,
            s3=s3,
            sink=sink,
            owner=f"d{self._number}.{life}",
            seed=1000 * self._number + life,
            buckets=tuple(RULES),
            clock=world.clock,
            local=self.clock,
            window=WINDOW,
        )

    def start(self) -> None:
        """Start the daemon."""
        self.rig.start()

    async def kill(self) -> None:
        """End the daemon where it stands."""
        await self.rig.kill()

    async def stop(self) -> None:
        """End the daemon as SIGTERM does."""
        rig = self.rig
        rig.intake.stop()
        rig.poller.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(22):
                await rig.intake.drained()
                await rig.poller.drained()
                await rig.recorder.drained()
        for farewell in (rig.leases.give_up, rig.heartbeat.leave):
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await farewell()
        await rig.kill()

    def renew(self) -> None:
        """Start another daemon in the place of one that ended."""
        self.rig = self._daemon()
        self.rig.start()

    def put_clock_back(self, seconds: float) -> None:
        """Have the clock be right again."""
        self.clock.ahead -= seconds

    @property
    def reports(self) -> bool:
        """Whether its page shows the fleet."""
        return self.moving.is_set() and self.rig.leases.reporting() is not None


class Written(msgspec.Struct, frozen=True):
    """One object, and when it is over at each of its destinations."""

    at: float
    over: dict[str, float]


class World:
    """The daemons, what they share, and the truth."""

    def __init__(self, seed: int, hazards: tuple[str, ...]) -> None:
        self.chance = random.Random(seed)
        self.clock = LoopClock()
        self.s3 = FakeS3(self.clock)
        for source, destinations in RULES.items():
            self.s3.rule(source, *destinations)
        self.estate = Estate(self.s3)
        self.inbox = FakeInbox(self.clock, max_receives=1000)
        self.accounts = Accounts()
        self.sink = FakeSink()
        self.machines = [Machine(self, number) for number in range(DAEMONS)]
        self.hazards = [one for name in hazards for one in HAZARDS[name]]
        self.late = "late" in hazards
        self.open: list[tuple[str, Written]] = []
        self.truth: Counter[str] = Counter()
        self.ahead: list[str] = []
        self.shown: list[float] = []
        """How far behind each line was."""
        self.samples = 0
        self.began = self.clock.now()
        self.left: dict[str, int] = {}
        """What was not over a day after the week, by where it was."""
        self.verdicts: list[HealthVerdict] = []
        """Of every daemon, at the end."""
        self._stretches = itertools.cycle(STRETCHES)
        self._mail: list[tuple[float, int, str]] = []
        self._numbers = itertools.count()
        self._trouble: set[asyncio.Task[None]] = set()

    # ---- what is written ----

    def write(self, at: float) -> None:
        """Have an object written, with all that becomes of it and is said about it."""
        number, chance = next(self._numbers), self.chance
        source = chance.choice(list(RULES))
        version = ObjectVersion(source, f"in/{number}", f"v{number}")
        slowest = 1500.0 if source == "docs" else 3 * HOUR
        takes = chance.choice([5.0, 20.0, 60.0, 400.0, slowest]) * chance.uniform(0.5, 1)
        trips, deleted_at = self._trips(source, at, takes), NEVER
        if source == "docs" and chance.random() < 0.05:
            trips, deleted_at = {"docs-dr": Trip()}, at + takes
        stored = Stored(
            written_at=at, trips=trips, size=chance.randrange(1, 1000), deleted_at=deleted_at
        )
        voices = Voices(
            source=frozenset({Channel.CLOUDTRAIL, chance.choice(list(_DELAYS))}),
            replicas=frozenset({Channel.NOTIFICATION} if chance.random() < 0.3 else ()),
            notices=True,
            restarts=True,
        )
        for told in self.estate.write(version, stored, voices):
            for _ in range(chance.choice([1, 1, 1, 2])):
                heapq.heappush(
                    self._mail, (told.at + self._delay(), next(self._numbers), told.body)
                )
            if chance.random() < 0.02:
                later = told.at + chance.uniform(0.5, 2) * HOUR
                heapq.heappush(self._mail, (later, next(self._numbers), told.body))
        over = {bucket: min(trip.arrives_at, deleted_at) for bucket, trip in trips.items()}
        self.open.append((source, Written(at, over)))
        self._tell(source, stored)

    def _trips(self, source: str, at: float, takes: float) -> dict[str, Trip]:
        chance = self.chance
        trips = {}
        for bucket in RULES[source]:
            steps = [(at + takes * chance.uniform(0.5, 1), Sight.COMPLETED)]
            if source in {"media", "attic"} and chance.random() < 0.15:
                failed = at + takes
                steps = [(failed, Sight.FAILED)]
                if source == "media":
                    again = failed + chance.uniform(5, 9) * HOUR
                    steps += [(again, Sight.PENDING), (again + 300, Sight.COMPLETED)]
            trips[bucket] = Trip(tuple(steps))
        return trips

    def _delay(self) -> float:
        return LATE_SECONDS if self.late else self.chance.uniform(1, DELAY_SECONDS)

    def _tell(self, source: str, stored: Stored) -> None:
        for bucket, trip in stored.trips.items():
            route = f"{source}>{bucket}"
            failed = any(sight is Sight.FAILED for _, sight in trip.steps)
            self.truth[f"failed {source}"] += failed
            if trip.arrives_at < NEVER:
                self.truth[f"completed {route}"] += 1
                self.truth[f"bytes {route}"] += stored.size
                self.truth[f"repaired {route}"] += failed
            elif stored.deleted_at < NEVER:
                self.truth[f"gone {route}"] += 1

    async def post(self) -> None:
        """Put messages into the queue when it is time, for ever."""
        while True:
            self._deliver()
            await asyncio.sleep(1)

    def _deliver(self) -> None:
        now = self.clock.now()
        while self._mail and self._mail[0][0] <= now:
            at, _, body = heapq.heappop(self._mail)
            self.inbox.send(body, sent_at=at)

    # ---- what goes wrong ----

    async def _endure(self, what: str, *, wait: float, lasts: float) -> None:
        """Have something go wrong for a while."""
        await asyncio.sleep(wait)
        if what in OUTAGES:
            mend = self._break(what)
        elif what in LOSSES:
            mend = self._deafen(what)
        elif what in RESTARTS:
            mend = await self._end(what)
        elif what in ROLES:
            mend = await self._unseat(what)
        else:
            machine = self._reporter()
            machine.clock.ahead += CLOCKS[what]
            mend = partial(machine.put_clock_back, CLOCKS[what])
        await asyncio.sleep(lasts)
        mend()

    def _break(self, what: str) -> Callable[[], None]:
        """Have something that daemons need go away; return what brings it back."""
        some = self._some()

        def switch(*, on: bool) -> None:
            match what:
                case "ledger":
                    for one in some:
                        one.ledger.away = on
                case "cloudwatch":
                    for one in self.machines:
                        one.sink.away = on
                case "queue":
                    self.inbox.away = on
                case "configurations":
                    self.s3.unreadable = on
                case _:
                    away = Sight.UNREACHABLE if what == "s3" else Sight.THROTTLED
                    self.s3.away = away if on else None

        switch(on=True)
        return partial(switch, on=False)

    def _deafen(self, what: str) -> Callable[[], None]:
        """Have answers get lost; return what ends that."""
        some = self._some()

        def switch(*, on: bool) -> None:
            for one in some:
                if what == "ledger deaf":
                    one.ledger.deaf = 2 if on else 0
                else:
                    one.sink.deaf = on

        switch(on=True)
        return partial(switch, on=False)

    async def _end(self, what: str) -> Callable[[], None]:
        """End one daemon, or all; return what starts others."""
        some = self.machines if what == "all killed" else [self.chance.choice(self.machines)]
        await asyncio.gather(*(one.stop() if what == "stop" else one.kill() for one in some))

        def renew() -> None:
            for one in some:
                one.renew()

        return renew

    async def _unseat(self, what: str) -> Callable[[], None]:
        """Have a daemon lose its roles; return what ends its trouble."""
        machine = self.chance.choice(self.machines) if what == "still" else self._reporter()
        if what == "reporter killed":
            await machine.kill()
            return machine.renew
        machine.moving.clear()
        return machine.moving.set

    def _reporter(self) -> Machine:
        return next((one for one in self.machines if one.reports), self.machines[0])

    def _some(self) -> list[Machine]:
        one = self.chance.choice(self.machines)
        return [one] if self.chance.random() < 0.3 else self.machines

    def disturb(self) -> None:
        """Have something go wrong in this hour; each of it once at a time."""
        chance = self.chance
        under_way = {task.get_name() for task in self._trouble}
        for what in chance.sample(
            self.hazards, k=min(len(self.hazards), chance.choice([0, 1, 2]))
        ):
            group = next(name for name, ones in HAZARDS.items() if what in ones)
            group = "daemons" if group in {"restarts", "roles"} else what
            if group in under_way:
                continue
            task = asyncio.create_task(
                self._endure(what, wait=chance.uniform(0, 60), lasts=chance.uniform(5, 150)),
                name=group,
            )
            under_way.add(group)
            self._trouble.add(task)
            task.add_done_callback(self._trouble.discard)

    # ---- what is shown ----

    async def watch(self) -> None:
        """Compare what is shown with what has arrived, for ever."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self) -> None:
        """Compare what every daemon that speaks for the fleet shows with what has arrived."""
        now = self.clock.now()
        self.open = [one for one in self.open if max(one[1].over.values()) > now]
        self.samples += 1
        for machine in self.machines:
            if not machine.reports:
                continue
            lines = {
                (source, bucket): at
                for (name, *labels), at in machine.rig.meters.gauges.items()
                if name == catalogue.COMPLETE_UP_TO.name
                for source, bucket in [labels]
            }
            self.shown += [now - at for (source, _), at in lines.items() if source == "docs"]
            self._compare(lines, now, machine)

    def _compare(self, lines: dict[tuple[str, str], float], now: float, machine: Machine) -> None:
        knowable = now - (LATE_SECONDS if self.late else DELAY_SECONDS)
        told = f"in hour {(now - self.began) / HOUR:.2f}, clock {machine.clock.ahead:+.0f}"
        for route, line in lines.items():
            if line > knowable:
                # Whatever was written after that, nobody can have heard of.
                self.ahead.append(f"{route}: {line - now:.0f} s, nothing known so late; {told}")
        for source, written in self.open:
            for bucket, over in written.over.items():
                line = lines.get((source, bucket), 0.0)
                if written.at < line and written.at <= now < over:
                    self.ahead.append(
                        f"{source}>{bucket}: {line - now:.0f} s, written {written.at - now:.0f} s; {told}"
                    )

    # ---- the week ----

    async def play(self, hours: int = HOURS) -> None:
        """Let the week pass, and wait until everything is over."""
        for machine in self.machines:
            machine.start()
        helpers = [asyncio.create_task(self.post()), asyncio.create_task(self.watch())]
        try:
            for hour in range(hours):
                day = hour % 24 >= NIGHT_HOURS
                for _ in range(self.chance.randrange(2, 9) if day else 0):
                    self.write(self.clock.now() + self.chance.triangular(0, HOUR, 0))
                self.disturb()
                await self._pass()
            await asyncio.gather(*self._trouble)
            for _ in range(24):
                self.left = await self._left()
                if not self.left:
                    break
                await self._pass()
            await asyncio.sleep(max(STRETCHES))
            self.verdicts = [
                verdict
                for machine in self.machines
                for verdict in (machine.rig.board.ready(), machine.rig.board.live())
            ]
        finally:
            for task in (*helpers, *self._trouble):
                task.cancel()
            for machine in self.machines:
                await machine.kill()

    async def _pass(self) -> None:
        stretch = next(self._stretches)
        await asyncio.sleep(stretch)
        self.clock.leap(HOUR - stretch)
        self._deliver()

    async def _left(self) -> dict[str, int]:
        """Tell what is still to be done, by where it is."""
        counts = {
            "underway": len(self._mail),
            "queue": self.inbox.waiting,
            "pending": sum(one.pending_objects for one in await self.accounts.backlog()),
            "deltas": len(await self.accounts.deltas()),
            "frozen": len(await self.accounts.frozen()),
        }
        return {where: count for where, count in counts.items() if count}

    def counted(self) -> Counter[str]:
        """Tell all that was counted."""
        found: Counter[str] = Counter()
        for route, tally in fold(self.accounts.taken).items():
            name = f"{route.source}>{route.destination}" if route.destination else route.source
            for what in (
                "completed", "repaired", "failed", "gone", "not_covered", "bytes", "unreadable",
                "given_up", "unidentified", "too_old",
            ):  # fmt: skip
                found[f"{what} {name}"] += getattr(tally, what)
        return +found

    def published(self) -> Counter[str]:
        """Tell what CloudWatch got; a call that was made twice, byte by byte, counts once there as well."""
        once = FakeSink()
        once.calls = list(dict.fromkeys(self.sink.calls))
        found: Counter[str] = Counter()
        for source, destinations in RULES.items():
            found[f"failed {source}"] = int(once.total(catalogue.CW_FAILED.name, source))
            for bucket in destinations:
                route = f"{source}>{bucket}"
                for what, metric in (
                    ("completed", catalogue.CW_OBJECTS),
                    ("bytes", catalogue.CW_BYTES),
                ):
                    found[f"{what} {route}"] = int(once.total(metric.name, source, bucket))
        return +found

    def check(self) -> None:
        """See that nobody was misled, all was counted, and nothing is wrong any more."""
        told, sent = self.counted(), self.published()
        truth = +self.truth
        assert not self.ahead, (len(self.ahead), self.ahead[:5])
        assert not self.left, self.left
        assert told == truth, {
            one: (truth[one], told[one]) for one in {*truth, *told} if truth[one] != told[one]
        }
        expected = {
            one: n
            for one, n in truth.items()
            if one.split()[0] in {"completed", "bytes", "failed"}
        }
        assert sent == expected, {
            one: (expected.get(one), sent[one])
            for one in {*expected, *sent}
            if expected.get(one, 0) != sent[one]
        }
        assert not self.inbox.dead, self.inbox.dead
        assert all(verdict.ok for verdict in self.verdicts), self.verdicts
        assert len(self.shown) > self.samples / 5, "hardly ever shown"
        assert sorted(self.shown)[len(self.shown) // 2] < 3 * HOUR, "shown, and hours behind"


_DELAYS = (Channel.EVENTBRIDGE, Channel.NOTIFICATION)


@pytest.mark.parametrize("hazard", ["", *HAZARDS], ids=lambda name: name or "calm")
async def test_soak_of_hours(hazard: str) -> None:
    """A night and a morning with one kind of trouble alone, which tells who is to blame."""
    world = World(1, (hazard,) if hazard else ())
    await world.play(18)
    world.check()


@pytest.mark.timeout(600)
async def test_soak_of_a_week() -> None:
    """Counts equal the truth, what is shown as complete is never ahead of it, and at the end nothing is away."""
    world = World(1, tuple(HAZARDS))
    await world.play()
    world.check()
