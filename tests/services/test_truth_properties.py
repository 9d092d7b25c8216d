"""Whatever happens, and however often and late it is told: in the end the counts are the truth.

Hypothesis invents objects, what becomes of them, who tells of it, how often, in which order and how late, and when
daemons are killed. Two daemons share a queue and a ledger. Wall time leaps between short stretches of simulated time,
so that half a day takes a second.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from typing_extensions import override

from crrmon.domain import catalogue
from crrmon.domain.events.facts import Channel, Operation
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.domain.outcomes import Delta, fold
from crrmon.domain.records import State
from crrmon.ports.ledger import FrozenWindow, Lease
from fakes.clock import LoopClock
from fakes.estate import Estate, Told, Voices
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import Rig
from fakes.s3 import NEVER, FakeS3, Stored, Trip
from fakes.simulated import simulate
from fakes.sink import FakeSink

HOUR = 3600.0

RULES = {
    "one": ("dst",),
    "two": ("dst", "far"),
    "left": ("right",),
    "right": ("left",),
    "tagged": ("dst",),
    "marking": ("marked",),
}
"""Destinations by source; `left` and `right` are both."""

SEEN_FOR = 2.5 * HOUR
"""What shows for so long is seen: open failures are looked at every hour, give or take."""

STRETCH = 20.0
"""Simulated seconds between two leaps."""

LEAP = 880.0
WINDOW = 900


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One version: what becomes of it, and what is said about it. Times are seconds, each from the one before."""

    source: str
    way: str
    """arrives, fails, repaired, fails_again, gone, fails_gone, nothing."""
    written: int
    first: int
    """Until it arrives at the first destination."""
    second: int
    """Until it arrives at the second one, or fails where it fails."""
    shown: int
    """How long it shows failed, beyond what is surely seen, until it is restarted or deleted."""
    mended: int
    """From the restart until it arrives, or fails again."""
    both: bool
    """Whether it fails at every destination, or at the last one only."""
    size: int
    operation: Operation
    channels: frozenset[Channel]
    replicas: frozenset[Channel]
    notices: bool
    restarts: bool
    marker: bool
    """Whether somebody lays a delete marker an hour after the write."""
    delays: tuple[tuple[int, ...], ...]
    """For each message in turn, again and again: when its copies reach the queue."""


DELAYS = st.sampled_from([0, 1, 5, 60, 600, 3000, 7200, 4 * 3600])
CHANNELS = st.sampled_from([Channel.CLOUDTRAIL, Channel.EVENTBRIDGE, Channel.NOTIFICATION])

PLANS = st.builds(
    Plan,
    source=st.sampled_from(sorted(RULES)),
    way=st.sampled_from(
        ["arrives", "fails", "repaired", "fails_again", "gone", "fails_gone", "nothing"]
    ),
    written=st.integers(0, 3600),
    first=st.integers(0, 3000),
    second=st.integers(1, 3000),
    shown=st.integers(0, 3600),
    mended=st.integers(1, 1800),
    both=st.booleans(),
    size=st.integers(1, 1000),
    operation=st.sampled_from(Operation),
    channels=st.frozensets(CHANNELS, min_size=1),
    replicas=st.frozensets(CHANNELS),
    notices=st.booleans(),
    restarts=st.booleans(),
    marker=st.booleans(),
    delays=st.lists(
        st.lists(DELAYS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8
    ).map(tuple),
)


class Truth(msgspec.Struct):
    """What must be counted: by route and kind, at least and at most."""

    least: Counter[str] = msgspec.field(default_factory=Counter)
    most: Counter[str] = msgspec.field(default_factory=Counter)
    open_failures: set[ObjectVersion] = msgspec.field(default_factory=set)

    def exactly(self, what: str, amount: int = 1) -> None:
        """Count what any daemon must find."""
        self.between(what, amount, amount)

    def between(self, what: str, least: int, most: int) -> None:
        """Count what may have passed unseen."""
        self.least[what] += least
        self.most[what] += most


class Object:
    """
    A plan carried out: the version, its ways, and all messages with the time at which each copy reaches the queue.
    """

    def __init__(self, number: int, plan: Plan, s3: FakeS3, began: float) -> None:
        self.plan = plan
        self.version = ObjectVersion(plan.source, f"in/{number} a+b", f"v{number}")
        at = began + plan.written + 0.4
        fails, restarted = at + plan.first + plan.second, 0.0
        restarted = fails + SEEN_FOR + plan.shown
        destinations = RULES[plan.source]
        trips: dict[str, Trip] = {}
        deleted_at = NEVER
        for bucket in destinations:
            well = not plan.both and bucket != destinations[-1]
            steps: list[tuple[float, Sight]] = []
            if well or plan.way == "arrives":
                steps = [(at + plan.first + (0 if well else plan.second), Sight.COMPLETED)]
            elif plan.way in {"fails", "repaired", "fails_again", "fails_gone"}:
                steps = [(fails, Sight.FAILED)]
            if steps and steps[0][1] is Sight.FAILED and plan.way in {"repaired", "fails_again"}:
                again = Sight.COMPLETED if plan.way == "repaired" else Sight.FAILED
                steps += [(restarted, Sight.PENDING), (restarted + plan.mended, again)]
            trips[bucket] = Trip(tuple(steps))
        if plan.way == "gone":
            deleted_at = fails
        if plan.way == "fails_gone":
            deleted_at = restarted
        if plan.way == "nothing":
            trips = {}
        self.stored = Stored(written_at=at, trips=trips, size=plan.size, deleted_at=deleted_at)
        self.failing = tuple(
            bucket
            for bucket, trip in trips.items()
            if any(sight is Sight.FAILED for _, sight in trip.steps)
        )
        self.shown = (fails, NEVER if plan.way == "fails" else restarted)
        self.voices = Voices(
            source=plan.channels,
            replicas=plan.replicas,
            notices=plan.notices,
            # Only who is told of it can know that it failed anew.
            restarts=plan.restarts or plan.way == "fails_again",
        )
        estate = Estate(s3)
        delays = itertools.cycle(plan.delays)
        told = estate.write(self.version, self.stored, self.voices, operation=plan.operation)
        self.messages = [(one, [one.at + delay for delay in next(delays)]) for one in told]
        self.known_at = min(
            at for one, copies in self.messages if self._makes_known(one) for at in copies
        )
        self.named_at = {
            bucket: min(
                at for one, copies in self.messages if _names(one, bucket) for at in copies
            )
            for bucket in (self.failing if plan.notices else ())
        }
        """When the first notice that it failed there reached the queue."""
        if plan.marker:
            self.messages += [
                (one, [one.at + delay for delay in next(delays)])
                for one in self._marker(estate, at + HOUR)
            ]

    def _makes_known(self, told: Told) -> bool:
        """
        Whether a message alone makes a daemon follow the version: that of the write, and S3's notice of a failure.
        """
        return _is_notice(told) or told.at == self.stored.written_at

    def _marker(self, estate: Estate, at: float) -> list[Told]:
        marker = ObjectVersion(
            self.version.bucket, self.version.key, f"m{self.version.version_id}"
        )
        arrives = {"marked": at + 30} if self.plan.source == "marking" else {}
        return estate.lay_marker(marker, self.voices, at=at, arrives=arrives)

    def tell(self, truth: Truth) -> None:
        """Add what is true of it."""
        source = self.plan.source
        for bucket, trip in self.stored.trips.items():
            route = f"{source}>{bucket}"
            if trip.arrives_at <= self.stored.deleted_at and trip.arrives_at < NEVER:
                truth.exactly(f"completed {route}")
                truth.exactly(f"bytes {route}", self.plan.size)
                if bucket in self.failing:
                    least, most = self._episodes()
                    truth.between(
                        f"repaired {route}", 0 if self._unproved(bucket) else least, most
                    )
            elif self.stored.deleted_at < NEVER:
                truth.exactly(f"gone {route}")
        if self.failing:
            truth.between(f"failed {source}", *self._episodes())
            if self.plan.way in {"fails", "fails_again"}:
                truth.open_failures.add(self.version)
        if self.plan.way == "nothing":
            truth.exactly(f"not_covered {source}")
        if self.plan.marker and source == "marking":
            truth.exactly("markers marking>marked")
            truth.exactly("markers_arrived marking>marked", int(bool(self.plan.replicas)))

    def _unproved(self, bucket: str) -> bool:
        """
        Tell whether S3's word that it failed at another destination may be all that was known when it arrived here.

        FAILED does not say whether it failed here as well or was only slow: S3 may show it as soon as one destination
        failed. Who hears of that one, and of this one only when both have arrived, sees one repair and one arrival.
        """
        arrived_at = self.stored.trips[bucket].arrives_at
        if self.named_at.get(bucket, NEVER) <= arrived_at:
            return False
        return any(at <= arrived_at + SEEN_FOR for at in self.named_at.values())

    def _episodes(self) -> tuple[int, int]:
        """Tell how many episodes of failure were surely seen, and how many may have been."""
        begin, end = self.shown
        most = 2 if self.plan.way == "fails_again" else 1
        if self.known_at > end:
            return most - 1, most - 1
        seen = max(self.known_at, begin) + SEEN_FOR <= end
        return most if seen else most - 1, most


def _is_notice(told: Told) -> bool:
    """Tell whether a message is S3's notice of a failure."""
    return "OperationFailedReplication" in told.body


def _names(told: Told, bucket: str) -> bool:
    """Tell whether a message is S3's notice of a failure at a destination."""
    return _is_notice(told) and f'"arn:aws:s3:::{bucket}"' in told.body


class Accounts(FlakyLedger):
    """The ledger, and all that was ever taken into a window."""

    def __init__(self) -> None:
        super().__init__(MemoryLedger(shards=4))
        self.taken: list[Delta] = []

    @override
    def __getattr__(self, name: str) -> Any:
        inner = super().__getattr__(name)
        if name != "freeze":
            return inner

        async def freeze(window: FrozenWindow, *, lease: Lease) -> None:
            before = list(await self.deltas())
            await inner(window, lease=lease)
            left = {one.id for one in await self.deltas()}
            self.taken += [one for one in before if one.id not in left]

        return freeze


class World:
    """Two daemons, what they share, and the objects."""

    def __init__(self, plans: Sequence[Plan], kills: dict[int, int], *, hasty: bool) -> None:
        self.clock = LoopClock()
        self.s3 = FakeS3(self.clock)
        self.s3.hasty = hasty
        for source, destinations in RULES.items():
            self.s3.rule(
                source,
                *destinations,
                tagged=source == "tagged",
                markers=source == "marking",
            )
        self.inbox = FakeInbox(self.clock, max_receives=1000)
        self.ledger = Accounts()
        self.sink = FakeSink()
        self.kills = kills
        self.names = itertools.count()
        self.rigs = [self.rig(), self.rig()]
        began = self.clock.now() + 60
        self.objects = [Object(number, plan, self.s3, began) for number, plan in enumerate(plans)]
        self.mail = sorted(
            (at, number, one.body)
            for number, (one, copies) in enumerate(
                message for thing in self.objects for message in thing.messages
            )
            for at in copies
        )

    def rig(self) -> Rig:
        """Make a daemon."""
        number = next(self.names)
        return Rig(
            ledger=self.ledger,
            inbox=self.inbox,
            s3=self.s3,
            sink=self.sink,
            owner=f"daemon {number}",
            buckets=tuple(RULES),
            seed=number,
            window=WINDOW,
            clock=self.clock,
        )

    async def play(self) -> None:
        """Let everything happen, and two hours and a window more."""
        for rig in self.rigs:
            rig.start()
        last = max(
            self.mail[-1][0],
            *(
                at
                for one in self.objects
                for trip in one.stored.trips.values()
                for at, _ in trip.steps
            ),
            0.0,
        )
        try:
            for beat in itertools.count():
                while self.mail and self.mail[0][0] <= self.clock.now():
                    self.inbox.send(self.mail.pop(0)[2])
                await asyncio.sleep(STRETCH)
                await self.check_waterline()
                if beat in self.kills:
                    which = self.kills[beat]
                    await self.rigs[which].kill()
                    self.rigs[which] = self.rig()
                    self.rigs[which].start()
                if self.clock.now() > last + SEEN_FOR + 2 * WINDOW:
                    return
                self.clock.leap(LEAP)
        finally:
            for rig in self.rigs:
                await rig.kill()

    async def check_waterline(self) -> None:
        """See that nothing that came out of the queue and is older than a watermark is still open."""
        lines: dict[tuple[str, ...], float] = {}
        for rig in self.rigs:
            for (name, *route), at in rig.meters.gauges.items():
                if name == catalogue.SETTLED_UP_TO.name:
                    lines[tuple(route)] = at
        for one in self.objects:
            written_at = float(int(one.stored.written_at))
            if one.known_at > self.clock.now() - STRETCH:
                continue  # it may be on its way
            trail = await self.ledger.find(one.version.key, one.version.version_id)
            pending = any(record.state is State.PENDING for record in trail.records.values())
            for bucket in RULES[one.plan.source]:
                line = lines.get((one.plan.source, bucket))
                if line is not None and line > written_at + 1:
                    assert trail.marks or trail.records, (one.plan, line)
                    if len(RULES[one.plan.source]) == 1:
                        assert not pending, (one.plan, line)

    def counted(self) -> Counter[str]:
        """Tell all that was counted, by the ledger's deltas."""
        found: Counter[str] = Counter()
        for route, tally in fold(self.ledger.taken).items():
            name = f"{route.source}>{route.destination}" if route.destination else route.source
            for what in (
                "completed", "repaired", "failed", "gone", "not_covered", "bytes", "unreadable",
                "given_up", "unidentified", "too_old", "markers", "markers_arrived", "markers_failed",
            ):  # fmt: skip
                found[f"{what} {name}"] += getattr(tally, what)
        return +found


NAMED_TOO_LATE = Plan(
    source="two",
    way="repaired",
    written=263,
    first=2999,
    second=285,
    shown=1400,
    mended=512,
    both=True,
    size=522,
    operation=Operation.PUT,
    channels=frozenset({Channel.CLOUDTRAIL, Channel.EVENTBRIDGE}),
    replicas=frozenset({Channel.CLOUDTRAIL, Channel.EVENTBRIDGE, Channel.NOTIFICATION}),
    notices=True,
    restarts=False,
    marker=True,
    delays=((3000, 7200), (600, 1), (5, 14400), (60,), (14400, 14400)),
)
"""It fails at both, and is repaired at both an hour before S3's notice about the second one comes."""

NAMED_WHILE_RETRIED = replace(
    NAMED_TOO_LATE,
    mended=3000,
    restarts=True,
    delays=(*[(0,)] * 5, (60,), (5,), *[(0,)] * 3, (int(SEEN_FOR) + 1400 + 1000,), (5,)),
)
"""The same, but that notice comes after the restart is told of, and before the repair."""

GONE_BEFORE_HEARD_OF = replace(
    NAMED_TOO_LATE,
    way="gone",
    first=100,
    second=200,
    both=False,
    size=225,
    operation=Operation.COPY,
    channels=frozenset({Channel.CLOUDTRAIL}),
    replicas=frozenset(),
    notices=False,
    marker=False,
    delays=((3000,),),
)
"""It arrives at one of two and is deleted before anybody tells of it, and no event tells its size."""

GONE_AND_ARRIVAL_HEARD_OF = replace(
    GONE_BEFORE_HEARD_OF,
    operation=Operation.MULTIPART,
    replicas=frozenset({Channel.CLOUDTRAIL}),
)
"""The same, but its arrival is told, without a size."""


# Without shrinking, which would take minutes.
@example(plans=[GONE_BEFORE_HEARD_OF, GONE_AND_ARRIVAL_HEARD_OF], kills={}, hasty=False)
@example(plans=[NAMED_TOO_LATE], kills={}, hasty=False)
@example(plans=[NAMED_WHILE_RETRIED], kills={}, hasty=False)
@settings(
    max_examples=20,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=12),
    kills=st.dictionaries(st.integers(0, 40), st.integers(0, 1), max_size=3),
    hasty=st.booleans(),
)
def test_counts_equal_the_truth(plans: list[Plan], kills: dict[int, int], hasty: bool) -> None:  # noqa: FBT001
    """Every arrival, episode, repair, deletion and marker is counted once; nothing is left pending."""

    async def play() -> None:
        world = World(plans, kills, hasty=hasty)
        truth = Truth()
        for one in world.objects:
            one.tell(truth)
        await world.play()
        found = world.counted()
        wrong = {
            what: (truth.least[what], found[what], truth.most[what])
            for what in {*truth.most, *found}
            if not truth.least[what] <= found[what] <= truth.most[what]
        }
        assert not wrong, wrong
        _check_cloudwatch(world.sink, found)
        for one in world.objects:
            trail = await world.ledger.find(one.version.key, one.version.version_id)
            states = {record.state for record in trail.records.values()}
            assert states == ({State.FAILED} if one.version in truth.open_failures else set())
        assert not world.inbox.waiting
        assert not world.inbox.dead

    simulate(play())


def _check_cloudwatch(sink: FakeSink, found: Counter[str]) -> None:
    """See that CloudWatch was told what the ledger holds."""
    for source, destinations in RULES.items():
        assert sink.total(catalogue.CW_FAILED.name, source) == found[f"failed {source}"]
        for bucket in destinations:
            route = f"{source}>{bucket}"
            completed = sink.total(catalogue.CW_OBJECTS.name, source, bucket)
            assert completed == found[f"completed {route}"]
            assert sink.total(catalogue.CW_BYTES.name, source, bucket) == found[f"bytes {route}"]
