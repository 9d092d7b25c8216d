"""The ledger on a store that fails, lies about what it did, or lets others in between, at every step of every operation."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from crrmon.adapters.stores.memory import MemoryStore
from crrmon.domain.lessons import Lesson
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Delta, Settlement, Tally, fold
from crrmon.domain.policy import Policy
from crrmon.domain.trails import Trail
from crrmon.ledger.layout import JOURNAL, PIECES, WINDOWS
from crrmon.ledger.stored_ledger import StoredLedger
from crrmon.ports.ledger import Lease, LeaseLostError, Ledger, LedgerError
from crrmon.ports.store import Found, Guard, ItemKind, Put
from fakes.clock import LoopClock
from fakes.faulty_store import Fault, FaultyStore
from fakes.ledger_backends import RETENTION, SHARDS
from fakes.ledger_use import batch, holding, pending, publish, window
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
)

KEYS = ("new", "parked", "two", "failure", "half")
ONCE = (Fault.REFUSED, Fault.UNANSWERED, Fault.REPEATED)


def ledger_on(store: FaultyStore, seed: int = 1) -> StoredLedger:
    """Return a ledger, as a daemon that has just started has it."""
    return StoredLedger(
        store,
        shards=SHARDS,
        retention_seconds=RETENTION,
        clock=LoopClock(),
        chance=random.Random(seed),
    )


# ---- operations that are repeated ----


async def used(ledger: Ledger) -> Lease:
    """Have some of everything in a ledger; return the lease of shard 0."""
    lease = await holding(ledger)
    await ledger.park([record("old", written_at=NOW - 200_000)])
    await ledger.settle("b0", [done(record("counted"))], now=NOW)
    await publish(ledger, lease, NOW - 300)
    two = record("two", to=("dst", "far"))
    await ledger.park([record("parked"), two, failed("failure")])
    await ledger.note([replica("half", at=NOW - 2)], now=NOW)
    await ledger.settle("b1", [done(record("counted too"))], now=NOW)
    await ledger.announce(MEMBER)
    await ledger.swap("state", None, b"old")
    await ledger.teach(_lesson("1"), now=NOW, policy=Policy())
    return lease


async def state_of(ledger: Ledger) -> list[Any]:
    """Return all that a ledger tells, but for names and beats that chance or a repetition makes others."""
    trails = [await ledger.find(key, "v1") for key in (*KEYS, "old", "counted", "counted too")]
    windows = await ledger.frozen()
    return [
        [
            (
                [replace(one, rev=0) for one in trail.records.values()],
                trail.marks,
                trail.early_facts,
            )
            for trail in trails
        ],
        fold(list(await ledger.deltas())),
        [(one.starts_at, one.parts) for one in windows],
        await ledger.last_frozen(),
        await ledger.backlog(),
        [replace(one, rev=0) for one in (await ledger.failures())[0]],
        [(one.shard, one.owner, one.epoch) for one in await ledger.leases()],
        await ledger.members(),
        await ledger.known_routes(),
        await ledger.states(""),
        await ledger.latencies(now=NOW),
    ]


async def _reschedule(ledger: Ledger, lease: Lease) -> None:
    del lease
    later = replace(record("parked"), rev=1, next_look_at=NOW + 60)
    await ledger.reschedule([later, replace(failed("failure"), rev=1, looks=7)])


async def _settle(ledger: Ledger, lease: Lease) -> None:
    del lease
    two = replace(record("two", to=("dst", "far")), rev=1)
    keep = Settlement(version=two.version, outcomes=(arrived(two),), rev=1, keep=two)
    settlements = [done(record("new")), done(replace(record("parked"), rev=1)), keep]
    await ledger.settle("batch", [*settlements, done(replace(failed("failure"), rev=1))], now=NOW)


async def _note(ledger: Ledger, lease: Lease) -> None:
    del lease
    news = [
        replica("parked", at=NOW - 1),
        gave_up("two", at=NOW),
        restarted("failure", at=NOW),
    ]
    await ledger.note(news, now=NOW)


async def _freeze(ledger: Ledger, lease: Lease) -> None:
    taken = list(await ledger.deltas())
    # A publisher that tries again decides on what is told then: of the same window, all of it or nothing is left.
    await ledger.freeze(window(NOW, taken), lease=lease)


OPERATIONS: dict[str, Callable[[Ledger, Lease], Awaitable[Any]]] = {
    "park": lambda ledger, _: ledger.park(
        [record("new"), record("half"), replace(failed("parked"), rev=0)]
    ),
    "reschedule": _reschedule,
    "settle": _settle,
    "note": _note,
    "freeze": _freeze,
    "forget": lambda ledger, lease: ledger.forget(NOW - 300, 1, lease=lease),
    "renew": lambda ledger, lease: ledger.renew([lease]),
    "release": lambda ledger, lease: ledger.release([lease]),
    "announce": lambda ledger, _: ledger.announce(replace(MEMBER, owner="you")),
    "dismiss": lambda ledger, _: ledger.dismiss(MEMBER),
    "swap": lambda ledger, _: ledger.swap("state", b"old", b"new"),
    "teach": lambda ledger, _: ledger.teach(_lesson("2"), now=NOW, policy=Policy()),
    "remember_routes": lambda ledger, _: ledger.remember_routes([Route("a", "b")]),
    "restore": lambda ledger, _: ledger.restore([_moved()], now=NOW),
    "append": lambda ledger, _: ledger.append([_uncovered()]),
}


def _lesson(name: str) -> Lesson:
    return Lesson(id=name, path=(Route("src", "dst"),), counts={(10, 12): 3.0})


def _moved() -> Trail:
    return Trail({"src": replace(record("new"), rev=3)})


def _uncovered() -> Delta:
    return Delta(id="others", settled_at=NOW, tallies=((Route("src", ""), Tally(not_covered=2)),))


async def undisturbed(name: str) -> tuple[int, list[Any]]:
    """Carry out an operation on a store without fault; return its steps, and what is there afterwards."""
    store = FaultyStore(MemoryStore())
    ledger = ledger_on(store)
    lease = await used(ledger)
    before = store.steps
    await OPERATIONS[name](ledger, lease)
    return store.steps - before, await state_of(ledger)


@pytest.mark.parametrize("fault", ONCE)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_invariant_5_whatever_fails_on_the_way_a_repetition_makes_it_good(
    name: str, fault: Fault
) -> None:
    """
    Invariants 2, 5: at each step in turn; another daemon, or the same one started again, repeats it with the same words.
    """
    steps, expected = await undisturbed(name)
    assert steps > 0
    for at in range(steps):
        inner = MemoryStore()
        lease = await used(ledger_on(FaultyStore(inner)))
        try:
            await OPERATIONS[name](
                ledger_on(FaultyStore(inner, at=at, fault=fault), seed=2), lease
            )
        except LedgerError:
            again = ledger_on(FaultyStore(inner), seed=3)
            await OPERATIONS[name](again, lease)
        assert await state_of(ledger_on(FaultyStore(inner))) == expected, (at, steps)


@pytest.mark.parametrize("fault", ONCE)
async def test_invariant_5_a_claim_of_which_nothing_was_heard_is_made_once(fault: Fault) -> None:
    """Whoever repeats a claim has the lease under the same epoch, or nobody has it."""
    for at in range(2):
        inner = MemoryStore()
        free = (await ledger_on(FaultyStore(inner)).leases())[0]
        ledger = ledger_on(FaultyStore(inner, at=at, fault=fault))
        try:
            lease = await ledger.claim(free, owner="me")
        except LedgerError:
            lease = await ledger.claim(free, owner="me")
        assert lease is not None
        assert (lease.owner, lease.epoch) == ("me", 1)
        # The lease that was claimed is the one that is held.
        await ledger.freeze(window(NOW), lease=lease)


# ---- a publisher that stands still ----


async def prepared(ledger: Ledger) -> None:
    """Have something of every kind to fold: earlier sums, changes of them, deltas."""
    lease = await holding(ledger)
    await ledger.park([record(f"old{at}", written_at=NOW - 200_000) for at in range(3)])
    await publish(ledger, lease, NOW - 300)
    await ledger.settle("b0", [done(record("old0"))], now=NOW)
    await ledger.park([record(f"new{at}") for at in range(4)])
    await ledger.settle("b1", [done(record("new0")), *batch("k")], now=NOW)


async def steps_of_publishing() -> int:
    """Count the steps that publishing a window takes."""
    store = FaultyStore(MemoryStore())
    ledger = ledger_on(store)
    await prepared(ledger)
    lease = await holding(ledger)
    before = store.steps
    await publish(ledger, lease, NOW)
    return store.steps - before


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
async def test_d31_invariant_5_a_publisher_stopped_anywhere_loses_and_doubles_nothing(
    fault: Fault,
) -> None:
    """
    D31, invariants 5 and 9: it stops between any two steps, another takes over, and then it goes on.

    Every count is in exactly one window, or waits for one; the backlog is that of the records, at every moment.
    """
    steps = await steps_of_publishing()
    assert steps > 10
    for at in range(steps):
        await _stop_publishing(at, fault)


async def _stop_publishing(at: int, fault: Fault) -> None:
    inner = MemoryStore()
    other = ledger_on(FaultyStore(inner))
    await prepared(other)
    old = await holding(other)
    store = FaultyStore(inner, at=at, fault=fault)
    reported: list[Delta] = []
    first = asyncio.create_task(publish(ledger_on(store, seed=2), old, NOW))
    await store.stood_still.wait()

    assert await pending(other) == 5
    lease = await holding(other, owner="you")
    more = [done(record("new1")), done(record("old1", written_at=NOW - 200_000)), *batch("l")]
    await other.settle("b2", more, now=NOW + 1)
    assert await pending(other) == 3
    committed = await other.last_frozen() == NOW
    reported += await publish(other, lease, NOW + 300)
    assert await pending(other) == 3

    store.go_on.set()
    outcome = (await asyncio.gather(first, return_exceptions=True))[0]
    if isinstance(outcome, list):
        assert committed
    else:
        assert isinstance(outcome, LeaseLostError | LedgerError), outcome
    assert await pending(other) == 3
    await other.settle("b3", [done(record("new2")), *batch("m")], now=NOW + 301)
    reported += await publish(other, lease, NOW + 600)
    assert await pending(other) == 2

    # What the first window holds is all that was counted and is in none of the others.
    in_others = fold(reported).get(Route("src", "dst"), Tally()).completed
    assert in_others == 9 + (0 if committed else 5)
    windows = await other.frozen()
    assert [one.starts_at for one in windows] == [
        NOW - 300,
        *([NOW] * committed),
        NOW + 300,
        NOW + 600,
    ]
    assert {one.parts for one in windows} == {(b"first" * 3, b"second")}
    assert {one.deltas for one in windows} == {()}
    assert await other.deltas() == []
    assert await inner.scan(JOURNAL, range(SHARDS)) == []
    kept = [one.key.sort for one in await inner.scan(PIECES, (-1,))]
    assert not any(b"#taken#" in sort for sort in kept)


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
async def test_a_publisher_whose_shard_was_only_taken_commits_nothing_any_more(
    fault: Fault,
) -> None:
    """The new holder of shard 0 has frozen nothing yet; all the same the old one is too late from then on."""
    too_late = 0
    for at in range(await steps_of_publishing()):
        inner = MemoryStore()
        other = ledger_on(FaultyStore(inner))
        await prepared(other)
        old = await holding(other)
        store = FaultyStore(inner, at=at, fault=fault)
        first = asyncio.create_task(publish(ledger_on(store, seed=2), old, NOW))
        await store.stood_still.wait()
        committed = await other.last_frozen() == NOW
        await holding(other, owner="you")

        store.go_on.set()
        (outcome,) = await asyncio.gather(first, return_exceptions=True)

        assert isinstance(outcome, list if committed else LeaseLostError), (at, outcome)
        assert (await other.last_frozen() == NOW) is committed
        too_late += not committed
    assert too_late > 3


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
async def test_two_windows_frozen_at_once_under_one_lease_are_one_after_the_other(
    fault: Fault,
) -> None:
    """A publisher gave up waiting for an answer and freezes the next window, while the first is on its way still."""
    for at in range(await steps_of_publishing()):
        inner = MemoryStore()
        ledger = ledger_on(FaultyStore(inner))
        await prepared(ledger)
        lease = await holding(ledger)
        store = FaultyStore(inner, at=at, fault=fault)
        first = asyncio.create_task(publish(ledger_on(store, seed=2), lease, NOW))
        await store.stood_still.wait()
        reported = await publish(ledger, lease, NOW + 300)

        store.go_on.set()
        (outcome,) = await asyncio.gather(first, return_exceptions=True)

        # If the first one did not get through, what it would have taken is in the other.
        if isinstance(outcome, list):
            reported += outcome
        else:
            assert isinstance(outcome, LedgerError), outcome
        assert fold(reported)[Route("src", "dst")].completed == 5
        assert await ledger.deltas() == []
        assert await pending(ledger) == 5
        assert {b"first" * 3, b"second"} == {
            part for one in await ledger.frozen() for part in one.parts
        }


# ---- several at once ----


@pytest.mark.parametrize("seed", range(20))
async def test_d16_daemons_that_settle_the_same_at_once_count_each_once(seed: int) -> None:
    """D16, invariants 2 and 5: three of them, each standing still at some step of its own, in any order."""
    chance = random.Random(seed)
    inner = MemoryStore()
    await ledger_on(FaultyStore(inner)).park([record("a"), record("b")])
    settlements = [done(replace(record(key), rev=1)) for key in "ab"] + [done(record("c"))]
    stores = [
        FaultyStore(
            inner, at=chance.randrange(3), fault=chance.choice([Fault.BEFORE, Fault.AFTER])
        )
        for _ in range(3)
    ]
    tasks = [
        asyncio.create_task(ledger_on(store, seed=at).settle(f"b{at}", settlements, now=NOW))
        for at, store in enumerate(stores)
    ]
    for store in chance.sample(stores, 3):
        await asyncio.sleep(0)
        store.go_on.set()
    await asyncio.gather(*tasks)

    ledger = ledger_on(FaultyStore(inner))
    assert fold(list(await ledger.deltas()))[Route("src", "dst")].completed == 3
    assert await ledger.backlog() == []


# ---- what is left behind ----


class NoCommits(FaultyStore):
    """A store that takes whatever stands alone, and no commit of a window."""

    refuses = True

    def __getattr__(self, name: str) -> Any:
        inner = super().__getattr__(name)
        if name != "write":
            return inner

        async def write(actions: Sequence[Any]) -> None:
            if self.refuses and any(isinstance(action, Guard) for action in actions):
                raise LedgerError("not allowed")
            await inner(actions)

        return write


async def pieces(store: MemoryStore) -> set[str]:
    """Tell of which windows something is there besides their headers."""
    return {one.key.sort.decode().split("#")[0] for one in await store.scan(PIECES, (-1,))}


async def test_a_window_that_cannot_be_committed_again_and_again_is_written_once() -> None:
    """A publisher tries every second for as long as it takes; what it wrote the first time is written over."""
    inner = MemoryStore()
    ledger = ledger_on(store := NoCommits(inner))
    lease = await holding(ledger)
    await ledger.settle("b", batch("k"), now=NOW)
    for _ in range(5):
        with pytest.raises(LedgerError, match="not allowed"):
            await publish(ledger, lease, NOW)
    assert len(await pieces(inner)) == 1

    store.refuses = False
    taken = await publish(ledger, lease, NOW)

    assert len(taken) == 1
    assert [one.starts_at for one in await ledger.frozen()] == [NOW]
    assert len(await pieces(inner)) == 1


async def test_what_a_publisher_wrote_that_was_killed_before_its_commit_is_deleted_by_the_next() -> (
    None
):
    """Nobody else knows the name under which it lies; its number does."""
    inner = MemoryStore()
    first = ledger_on(NoCommits(inner))
    lease = await holding(first)
    await first.settle("b", batch("k"), now=NOW)
    with pytest.raises(LedgerError):
        await publish(first, lease, NOW)
    (left,) = await pieces(inner)

    second = ledger_on(FaultyStore(inner), seed=2)
    await publish(second, lease, NOW)
    third = ledger_on(FaultyStore(inner), seed=3)
    await publish(third, lease, NOW + 300)

    assert left not in await pieces(inner)
    assert [one.parts for one in await third.frozen()] == [(b"first" * 3, b"second")] * 2


async def test_counting_by_itself_reads_nothing_of_the_journal() -> None:
    """Invariant 6: what no rule covers is counted so, once a second, however much waits to be published."""
    store = FaultyStore(MemoryStore())
    ledger = ledger_on(store)
    (counted,) = await _contributions_of_another()
    before = store.steps

    for _ in range(2):
        await ledger.append([counted])

    assert store.steps - before == 2
    assert await ledger.deltas() == [counted]


async def _contributions_of_another() -> Sequence[Delta]:
    other = ledger_on(FaultyStore(MemoryStore()))
    await other.settle("b", batch("k"), now=NOW)
    return await other.deltas()


async def test_invariant_9_a_window_of_a_newer_version_is_sent_and_forgotten() -> None:
    """Invariant 9: what its header says besides is not known here, and not in the way."""
    inner = MemoryStore()
    ledger = ledger_on(FaultyStore(inner))
    lease = await holding(ledger)
    await publish(ledger, lease, NOW)
    (found,) = (one for one in await inner.scan(WINDOWS, (-1,)) if b"at#" in one.key.sort)
    newer = msgspec.msgpack.encode(msgspec.msgpack.decode(found.body) | {"news": 1})
    await inner.write([Put(found.key, newer)])

    for part in range(2):
        (window_,) = await ledger.frozen()
        assert window_.parts[part] in {b"first" * 3, b"second"}
        await ledger.forget(NOW, part, lease=lease)

    assert await ledger.frozen() == []


class Torn(FaultyStore):
    """Tells of the windows as they were, with one that is committed meanwhile."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.old: list[Found] = []

    def __getattr__(self, name: str) -> Any:
        inner = super().__getattr__(name)
        if name != "scan":
            return inner

        async def scan(kind: ItemKind, *args: Any, **kwargs: Any) -> Sequence[Found]:
            found = list(await inner(kind, *args, **kwargs))
            if kind is WINDOWS and self.old:
                old, self.old = self.old, []
                return [*old, *(one for one in found if one.key not in {o.key for o in old})]
            return found

        return scan


async def test_windows_that_are_committed_while_they_are_read_are_read_again() -> None:
    """Invariant 11: a query of DynamoDB may see a part of a transaction; the backlog is right all the same."""
    inner = MemoryStore()
    ledger = ledger_on(torn := Torn(inner))
    await prepared(ledger)
    lease = await holding(ledger)
    torn.old = []
    before = list(await inner.scan(WINDOWS, (-1,)))
    await publish(ledger, lease, NOW)

    torn.old = before
    assert await pending(ledger) == 5
    assert torn.old == []
    assert [one.starts_at for one in await ledger.frozen()] == [NOW - 300, NOW]
