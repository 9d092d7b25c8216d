"""Moving from one ledger to another: what is pending comes along, and nobody works on either meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from crrmon.domain.events.facts import Channel
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import EarlyFact, Mark, Settlement
from crrmon.domain.records import Destination, Record
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Trail
from crrmon.ports.ledger import FrozenWindow, Lease, Ledger, LedgerError
from crrmon.services.membership.leases import LEASE_SECONDS, ROUND_SECONDS
from crrmon.services.migration import (
    PAGE,
    RETRY_SECONDS,
    DisturbedCopyError,
    Move,
    Moved,
    OccupiedError,
    RefusedError,
)
from fakes.clock import LoopClock
from fakes.ledger_use import holding
from fakes.ledger_values import (
    MEMBER,
    NOW,
    arrived,
    done,
    failed,
    gave_up,
    record,
    replica,
    restarted,
    threshold,
)
from fakes.ledgers import MemoryLedger

SHARDS = 4
ALL = range(SHARDS)


class Shared(MemoryLedger):
    """A ledger that others could have open, too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.exclusive = False


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.watched: list[tuple[str, float]] = []
        self.copied: list[tuple[int, int]] = []
        self.retried: list[str] = []

    def watching(self, owner: str, left: float) -> None:
        """Keep it."""
        self.watched.append((owner, left))

    def copying(self, done: int, total: int) -> None:
        """Keep it."""
        self.copied.append((done, total))

    def retrying(self, reason: str) -> None:
        """Keep it."""
        self.retried.append(reason)


class Forgetful:
    """Does what it is asked, and loses the first answer of each kind."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._ledger, name)
        if not callable(inner):
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await inner(*args, **kwargs)
            if name not in self.asked:
                self.asked.add(name)
                raise LedgerError(f"no answer to {name}")
            return result

        return call


class Intruded(Shared):
    """Somebody does something to it when the first trails are restored, or when a window is frozen."""

    def __init__(self, intrude: Callable[[Ledger], Awaitable[object]], *, at: str) -> None:
        super().__init__(shards=SHARDS)
        self._intrude = intrude
        self._at = at

    async def restore(self, trails: Sequence[Trail], *, now: float) -> None:
        """Restore."""
        if self._at == "restore":
            await self._intrude(self)
        await super().restore(trails, now=now)

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """Freeze."""
        if self._at == "freeze":
            await self._intrude(self)
        await super().freeze(window, lease=lease)


class Lossy(Shared):
    """Loses the first trail of every page."""

    async def restore(self, trails: Sequence[Trail], *, now: float) -> None:
        """Restore all but one."""
        await super().restore(trails[1:], now=now)


async def move(source: Ledger, target: Ledger, told: Told | None = None) -> Moved:
    """Move."""
    clock = LoopClock()
    return await Move(source, target, clock=clock, owner="mover", teller=told or Told()).run()


async def freeze(ledger: Ledger, starts_at: float, *parts: bytes) -> None:
    """Freeze a window as a daemon does, and let go."""
    lease = await holding(ledger, owner="daemon")
    await ledger.freeze(FrozenWindow(starts_at=starts_at, parts=parts, deltas=()), lease=lease)
    await ledger.release([lease])


async def used(ledger: Ledger | None = None) -> Ledger:
    """Make a ledger that a daemon worked with: some of everything."""
    ledger = ledger or Shared(shards=SHARDS)
    two = record("two", to=("dst", "two"))
    await ledger.park(
        [
            two,
            record("one"),
            record("unknown", to=()),
            failed("failure"),
            record("late", size=None),
        ]
    )
    keep = Settlement(
        version=two.version, outcomes=(arrived(two),), rev=1, keep=replace(two, rev=1)
    )
    await ledger.settle("b1", [keep, done(record("settled"))], now=NOW)
    await ledger.note([replica("late", at=NOW - 1, bucket="elsewhere")], now=NOW)
    await ledger.remember_routes([Route("src", "dst"), Route("src", "two"), Route("idle", "dst")])
    await ledger.swap("delays", None, b"{}")
    await freeze(ledger, 300.0, b"one", b"two")
    await freeze(ledger, 600.0, b"three")
    await freeze(ledger, 900.0)
    lease = await holding(ledger, owner="daemon")
    await ledger.forget(300.0, 0, lease=lease)
    await ledger.release([lease])
    await ledger.settle("b2", [done(record("settled too"))], now=NOW + 1)
    return ledger


def by_name(record: Record) -> tuple[str, str]:
    """Sort records."""
    return record.version.bucket, record.version.key


async def everything(ledger: Ledger) -> list[object]:
    """Tell all that moves."""
    return [
        [
            await ledger.find(key, "v1")
            for key in ("two", "one", "unknown", "failure", "late", "nobody")
        ],
        sorted(await ledger.due(range(ledger.shards), now=NOW + 99, limit=9999), key=by_name),
        await ledger.failures(limit=9999),
        sorted(await ledger.backlog(), key=str),
        await ledger.deltas(),
        await ledger.frozen(limit=9999),
        await ledger.last_frozen(),
        await ledger.known_routes(),
    ]


async def test_all_that_is_pending_comes_along() -> None:
    """Invariant 5: objects with marks and early facts, failures, counts, windows and what was sent of them, routes."""
    source, target = await used(), Shared(shards=7)

    moved = await move(source, target)

    assert await everything(target) == await everything(source)
    assert moved == Moved(pending=4, failures=1, batches=2, windows=2, routes=3, states=1)
    assert await target.last_frozen() == 900.0
    assert [one.parts for one in await target.frozen()] == [(b"", b"two"), (b"three",)]
    assert {one.owner for one in await target.leases()} == {""}


async def test_the_source_is_only_read() -> None:
    """Whoever changes his mind goes back to it: not even a lease is claimed there."""
    source = await used()
    before = [await everything(source), await source.leases()]

    await move(source, Shared(shards=SHARDS))

    assert [await everything(source), await source.leases()] == before


async def test_d15_what_arrived_at_one_destination_counts_only_at_the_other_afterwards() -> None:
    """D15, invariant 2: marks of what is still pending come along."""
    source, target = await used(), Shared(shards=SHARDS)
    await move(source, target)
    one = record("two", to=("dst", "two"))

    results = await target.settle("b9", [done(one, arrived(one), arrived(one, "two"))], now=NOW)

    assert results == [[Settled.DUPLICATE, Settled.COUNTED]]


async def test_all_that_is_known_of_each_destination_comes_along() -> None:
    """What is counted at some of them, what S3 said and how exact the times are; told as it goes, each way once."""
    source, target, told = Shared(shards=SHARDS), Shared(shards=7), Told()
    one = record("k", to=("dst", "two"), channel=Channel.NOTIFICATION)
    counted = replace(one, destinations=(Destination("dst", counted=True), Destination("two")))
    partial = Settlement(version=one.version, outcomes=(arrived(one),), rev=0, keep=counted)
    await source.settle("b1", [partial], now=NOW)
    await source.park([failed("nowhere", to=("dst", "two")), failed("reopened", at=NOW - 9)])
    await source.note(
        [
            gave_up("k", at=NOW, destination="two"),
            threshold("k", destination="two"),
            restarted("reopened", at=NOW),
        ],
        now=NOW,
    )
    kept = [await source.find(key, "v1") for key in ("k", "nowhere", "reopened")]

    moved = await move(source, target, told)

    assert [await target.find(key, "v1") for key in ("k", "nowhere", "reopened")] == kept
    assert await everything(target) == await everything(source)
    assert (moved.pending, moved.failures, moved.differences) == (2, 1, ())
    # One way that is left of the first, the unknown one and two that wait of the second, one of the third.
    assert told.copied[-1] == (5, 5)


async def test_presences_stay_behind() -> None:
    """They are of daemons that ran on the source."""
    source, target = await used(), Shared(shards=SHARDS)
    await source.announce(MEMBER)

    await move(source, target)

    assert await target.members() == []
    assert await source.members() == [MEMBER]


async def test_more_than_a_page_is_copied_and_told_as_it_goes() -> None:
    """Page by page, with how much there is in all; each object once for each of its destinations."""
    source, target, told = Shared(shards=SHARDS), Shared(shards=SHARDS), Told()
    number = 2 * PAGE + 50
    await source.park([record(f"k{at}", to=("dst", "two")) for at in range(number)])
    for at in range(PAGE + 1):
        await source.settle(f"b{at}", [done(record(f"s{at}"))], now=NOW)
        await freeze(source, 300.0 * at, b"x")

    moved = await move(source, target, told)

    assert (moved.pending, moved.batches, moved.windows) == (number, PAGE + 1, PAGE + 1)
    assert moved.differences == ()
    assert told.copied[0] == (0, 2 * number)
    assert told.copied[-1] == (2 * number, 2 * number)
    assert [done for done, _ in told.copied] == [0, 2 * PAGE, 4 * PAGE, 2 * number]
    assert await everything(target) == await everything(source)


async def test_the_time_of_the_last_window_comes_along_when_all_were_sent() -> None:
    """Else the windows since would be reported twice, or a gap filled with zeros."""
    source, target = Shared(shards=SHARDS), Shared(shards=SHARDS)
    await freeze(source, 900.0)

    moved = await move(source, target)

    assert await target.last_frozen() == 900.0
    assert moved.windows == 0


async def test_what_never_had_a_window_gets_none() -> None:
    """The first window of a new set-up is for its daemon to choose; nobody claims anything then."""
    source, target = Shared(shards=SHARDS), Shared(shards=SHARDS)
    await source.park([record("k")])

    await move(source, target)

    assert await target.last_frozen() is None
    assert {one.epoch for one in await target.leases()} == {0}


async def test_marks_and_halves_are_kept_for_the_retention_from_the_move() -> None:
    """Invariant 2: what was counted long ago is not forgotten the moment it arrives."""
    clock = LoopClock()
    source, target = await used(), Shared(shards=SHARDS, retention_seconds=100, clock=clock)
    counted = record("two").replica_mark("dst")
    noted = record("late").replica_mark("elsewhere")

    await move(source, target)

    clock.leap(99)
    assert [type(one) for one in await target.seen([counted, noted])] == [Mark, EarlyFact]
    clock.leap(2)
    assert await target.seen([counted, noted]) == [None, None]


# ---- refusals ----


async def test_a_source_that_holds_nothing_is_refused() -> None:
    """It is the wrong one."""
    with pytest.raises(RefusedError, match="holds nothing"):
        await move(Shared(shards=SHARDS), Shared(shards=SHARDS))


async def settled(ledger: Ledger) -> None:
    await ledger.settle("b", [done(record("k"))], now=NOW)


@pytest.mark.parametrize(
    ("put", "named"),
    [
        (lambda ledger: ledger.park([record("k")]), "1 arrivals pending"),
        (lambda ledger: ledger.park([failed("k")]), "1 arrivals failed"),
        (settled, "1 batches not yet reported"),
        (lambda ledger: freeze(ledger, 300.0, b"x"), "1 windows not yet sent, the time of its"),
        (lambda ledger: freeze(ledger, 300.0), "the time of its last window"),
        (lambda ledger: ledger.remember_routes([Route("a", "b")]), "1 routes"),
        (lambda ledger: ledger.swap("delays", None, b"{}"), "1 small states"),
    ],
)
async def test_a_target_that_holds_anything_is_refused(
    put: Callable[[Ledger], Awaitable[object]], named: str
) -> None:
    """Invariant 2: two histories are never mixed; it is said what is there, and nothing is changed."""
    source, target, told = await used(), Shared(shards=SHARDS), Told()
    await put(target)
    before = await everything(target)

    with pytest.raises(OccupiedError, match=f"it holds {named}"):
        await move(source, target, told)

    assert await everything(target) == before
    assert told.copied == []


@pytest.mark.parametrize("where", ["source", "target"])
async def test_a_daemon_that_works_on_either_is_noticed(where: str) -> None:
    """Its lease changes while it is watched: nothing is copied."""
    ledgers = {"source": await used(), "target": Shared(shards=SHARDS)}
    lease = await holding(ledgers[where], shard=2, owner="the old daemon")

    async def work() -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await ledgers[where].renew([lease])

    daemon = asyncio.create_task(work())
    try:
        with pytest.raises(
            RefusedError, match=rf"is using the {where} \(the old daemon\): stop it"
        ):
            await move(ledgers["source"], ledgers["target"])
    finally:
        daemon.cancel()
    assert await ledgers["target"].known_routes() == []


async def test_a_lease_left_behind_is_watched_for_its_duration_and_then_believed() -> None:
    """A daemon that was killed let go of nothing; how long it takes is told."""
    source, target, told = await used(), Shared(shards=SHARDS), Told()
    await holding(source, shard=1, owner="killed")
    await holding(target, shard=0, owner="killed, too")
    loop = asyncio.get_running_loop()
    began = loop.time()

    moved = await move(source, target, told)

    assert moved.differences == ()
    assert loop.time() - began == pytest.approx(LEASE_SECONDS)
    assert told.watched[0] == ("killed", LEASE_SECONDS)
    assert [left for _, left in told.watched] == pytest.approx(range(int(LEASE_SECONDS), 0, -1))
    assert await target.last_frozen() == 900.0


async def test_a_daemon_that_lets_go_while_it_is_watched_is_waited_for_no_longer() -> None:
    """It was just about to stop."""
    source, target = await used(), Shared(shards=SHARDS)
    lease = await holding(source, 1, owner="daemon")
    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(4.5, lambda: asyncio.ensure_future(source.release([lease])))

    moved = await move(source, target)

    assert moved.differences == ()
    assert loop.time() - began == pytest.approx(5.0)


async def test_a_daemon_that_works_is_noticed_beside_one_that_lets_go() -> None:
    """One replica stops, another one does not."""
    source = await used()
    stops, works = (
        await holding(source, owner="daemon"),
        await holding(source, 1, owner="still there"),
    )

    async def happen() -> None:
        await source.release([stops])
        await source.renew([works])

    asyncio.get_running_loop().call_later(4.5, lambda: asyncio.ensure_future(happen()))

    with pytest.raises(RefusedError, match="still there"):
        await move(source, Shared(shards=SHARDS))


async def test_leases_found_where_only_one_can_open_are_not_watched() -> None:
    """That one is this process."""
    source, told = MemoryLedger(shards=SHARDS), Told()
    await used(source)
    await holding(source, 1, owner="daemon")

    await move(source, Shared(shards=SHARDS), told)

    assert told.watched == []


@pytest.mark.parametrize("at", ["restore", "freeze"])
async def test_a_daemon_that_starts_meanwhile_is_noticed(at: str) -> None:
    """What it did in between is in no comparison: the target is of no use."""
    target = Intruded(lambda ledger: holding(ledger, owner="the new daemon"), at=at)

    with pytest.raises(DisturbedCopyError, match="the new daemon"):
        await move(await used(), target)


async def test_a_daemon_that_starts_on_the_source_is_noticed() -> None:
    """Nothing was frozen since, nothing settled; but soon it will be."""
    source = await used()
    target = Intruded(lambda _: holding(source, shard=3, owner="the old daemon"), at="restore")

    with pytest.raises(
        DisturbedCopyError, match=r"started using the source meanwhile \(the old daemon\)"
    ):
        await move(source, target)


# ---- trouble ----


async def test_answers_that_get_lost_change_nothing() -> None:
    """Invariant 5: everything is asked again, and nothing is there twice."""
    source, target, told = await used(), Shared(shards=SHARDS), Told()
    forgetful = [Forgetful(source), Forgetful(target)]

    moved = await move(*cast(list[Ledger], forgetful), told)

    assert moved == Moved(pending=4, failures=1, batches=2, windows=2, routes=3, states=1)
    assert await everything(target) == await everything(source)
    assert {"export", "deltas", "frozen", "backlog"} <= forgetful[0].asked
    assert {"restore", "freeze", "claim", "release", "remember_routes", "swap"} <= forgetful[
        1
    ].asked
    assert "no answer to restore" in told.retried
    assert not {"claim", "release", "restore", "freeze"} & forgetful[0].asked


async def test_a_ledger_that_stays_away_ends_the_move() -> None:
    """After some tries; that it was begun has been told by then."""

    async def away(_: Ledger) -> None:
        raise LedgerError("nobody there")

    told = Told()
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(LedgerError, match="nobody there"):
        await move(await used(), Intruded(away, at="restore"), told)

    assert loop.time() - began == pytest.approx(sum(RETRY_SECONDS))
    assert told.copied == [(0, 6)]


async def test_what_did_not_arrive_is_named() -> None:
    """By route, with the numbers of both."""
    source, target = Shared(shards=SHARDS), Lossy(shards=SHARDS)
    await source.park([record(f"k{at}", size=10) for at in range(3)])

    moved = await move(source, target)

    (difference,) = moved.differences
    assert difference == (
        "src to dst: the source holds 3 pending (30 bytes) and 0 failed (0 bytes),"
        " the target 2 pending (20 bytes) and 0 failed (0 bytes)"
    )
