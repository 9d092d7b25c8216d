"""Daemons sharing shards: an even share each, the dead are replaced, and nobody compares clocks."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs
from typing_extensions import override

from crrmon.ports.ledger import Lease, LedgerError
from crrmon.services.membership.leases import (
    LEASE_SECONDS,
    REPORTING_SHARD,
    ROUND_SECONDS,
    LeaseManager,
    share,
)
from fakes.clock import LoopClock
from fakes.ledger_flaky import ASYNC, FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.runtime import runtime

SHARDS = 4
ALL = list(range(SHARDS))
MINUTE = 60.0
HOUR = 3600.0


class FarLedger(FlakyLedger):
    """Takes its time over every call, before and after doing it; with `mute`, does not answer that many claims."""

    def __init__(
        self, ledger: MemoryLedger, *, seconds: float = 0.0, rng: random.Random | None = None
    ) -> None:
        super().__init__(ledger)
        self.seconds = seconds
        self.slow = ASYNC
        self.mute = 0
        self.renewed_at: list[float] = []
        self._rng = rng or random.Random(1)

    @override
    def __getattr__(self, name: str) -> Any:
        inner = super().__getattr__(name)
        if name not in ASYNC:
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            seconds = self.seconds if name in self.slow else 0.0
            await asyncio.sleep(seconds * self._rng.random())
            if name == "renew":
                self.renewed_at.append(asyncio.get_running_loop().time())
            result = await inner(*args, **kwargs)
            await asyncio.sleep(seconds * self._rng.random())
            if name == "claim" and self.mute:
                self.mute -= 1
                raise LedgerError("no answer")
            return result

        return call


class Holder:
    """One daemon's leases, its own way to the ledger, and its own wall clock."""

    def __init__(
        self, shared: MemoryLedger, owner: str, *, ahead: float = 0.0, seconds: float = 0.0
    ) -> None:
        daemon = runtime(LoopClock(ahead=ahead), seed=owner)
        self.ledger = FarLedger(shared, seconds=seconds, rng=daemon.rng)
        self.health = daemon.board.dependency("ledger")
        self.leases = LeaseManager(self.ledger, daemon, owner=owner, health=self.health)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.leases.run())

    async def kill(self) -> None:
        """End without letting go of anything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def leave(self) -> None:
        """End in order."""
        await self.kill()
        await self.leases.give_up()

    @property
    def shards(self) -> list[int]:
        return sorted(self.leases.shards())


@pytest.fixture
def shared() -> MemoryLedger:
    """Make what all daemons of a test share."""
    return MemoryLedger(shards=SHARDS)


@asynccontextmanager
async def holding(*holders: Holder) -> AsyncIterator[None]:
    """Have daemons run; the first one gets the reporting shard."""
    try:
        for holder in holders:
            holder.start()
            await asyncio.sleep(1)
        yield
    finally:
        for holder in holders:
            await holder.kill()


def even(holders: Sequence[Holder], shards: int = SHARDS) -> bool:
    """Tell whether every shard has one holder, and no holder two more than another."""
    counts = [len(one.shards) for one in holders]
    held = Counter(shard for one in holders for shard in one.shards)
    return held == Counter(range(shards)) and max(counts) - min(counts) <= 1


def claims(holders: Sequence[Holder]) -> int:
    """Tell how many claims were made."""
    return sum(one.ledger.calls.count("claim") for one in holders)


# ---- the decision ----


def leases(owners: Sequence[str]) -> list[Lease]:
    """Make the leases of shards with these owners, "" for none."""
    return [Lease(shard=shard, owner=owner, epoch=1, beat=1) for shard, owner in enumerate(owners)]


owners = st.lists(st.sampled_from(["", "me", "a", "b", "c", "d", "e"]), min_size=1, max_size=64)


@given(owners, st.sets(st.integers(0, 63)), st.sets(st.integers(0, 63)), st.randoms())
@example(["a"] * 4, {REPORTING_SHARD}, set(), random.Random(1))
def test_a_share_is_fair(
    who: list[str], lapsed: set[int], held: set[int], rng: random.Random
) -> None:
    """Whatever is seen: never more than the largest even share is claimed, nothing is taken from the poor."""
    seen = leases(who)
    held = {one.shard for one in seen if one.shard in held and one.owner == "me"}
    mine = [one for one in seen if one.owner == "me"]
    living = Counter(
        one.owner for one in seen if one.owner not in {"", "me"} and one.shard not in lapsed
    )
    floor, most = len(who) // (len(living) + 1), -(-len(who) // (len(living) + 1))

    todo = share(seen, lapsed=lapsed, held=held, me="me", rng=rng)

    assert todo.replicas == len(living) + 1
    assert len({one.shard for one in todo.claim}) == len(todo.claim)
    assert not {one.shard for one in todo.claim} & held
    orphans = [one for one in mine if one.shard not in held]
    assert all(one in todo.claim for one in orphans), "what says that it is mine is never left"
    new = [one for one in todo.claim if one.owner != "me"]
    assert not new or len(mine) + len(new) <= most
    taken = Counter(one.owner for one in new if one.owner and one.shard not in lapsed)
    assert all(living[owner] - count >= floor for owner, count in taken.items())
    # Whoever lives may have let one lease lapse all the same: that one is as free as any.
    free = [one for one in seen if one.owner != "me" and (not one.owner or one.shard in lapsed)]
    reporting = [one for one in new if one.shard == REPORTING_SHARD]
    if len(mine) < most:
        assert reporting == [one for one in free if one.shard == REPORTING_SHARD]
    else:
        assert not reporting
    if len(mine) + len(new) < floor:
        pytest.fail("below an even share although others have more")
    if not living:
        assert all(one in todo.claim for one in free), "alone, everything"


@given(owners, st.randoms())
def test_decisions_in_any_order_come_to_an_end(who: list[str], rng: random.Random) -> None:
    """Daemons that decide one after another, in any order, come to even shares in few rounds, and then rest."""
    seen = leases(who)
    names = sorted({"me", *who} - {""})
    rounds = 0
    while True:
        claimed = 0
        rng.shuffle(names)
        for name in names:
            held = {one.shard for one in seen if one.owner == name}
            for one in share(seen, lapsed=(), held=held, me=name, rng=rng).claim:
                seen[one.shard] = replace(one, owner=name)
                claimed += 1
        if not claimed:
            break
        rounds += 1
        assert rounds <= 3

    counts = Counter(one.owner for one in seen)
    assert "" not in counts
    assert max(counts.values()) - min(counts[name] for name in names) <= 1


def test_two_newcomers_seldom_want_the_same() -> None:
    """Which shards are taken is left to chance, so that those who come together do not all want the same ones."""
    seen = leases(["a"] * 64)
    wanted = {
        share(seen, lapsed=(), held=(), me="me", rng=random.Random(seed)).claim
        for seed in range(20)
    }
    assert len(wanted) == 20


# ---- sharing ----


async def test_one_daemon_gets_everything_at_once(shared: MemoryLedger) -> None:
    """Free shards need not lapse first: alone on a new ledger, all of them are held in the first round."""
    one = Holder(shared, "one")
    assert one.leases.reporting() is None
    async with holding(one):
        assert one.shards == ALL
        lease = one.leases.reporting()
        assert lease is not None
        assert lease.shard == REPORTING_SHARD


@settings(max_examples=30)
@given(
    shards=st.integers(1, 64) | st.just(64),
    first=st.integers(1, 10),
    joining=st.integers(0, 5),
    leaving=st.integers(0, 5),
    killed=st.integers(0, 5),
    seconds=st.sampled_from([0.0, 0.01, 0.1]),
    rng=st.randoms(use_true_random=False),
)
async def test_shares_are_even_within_a_minute(
    shards: int,
    first: int,
    joining: int,
    leaving: int,
    killed: int,
    seconds: float,
    rng: random.Random,
) -> None:
    """From any start, after any number came, left and were killed: even within a minute, and then nobody claims."""
    shared = MemoryLedger(shards=shards)
    fleet: list[Holder] = []
    number = 0

    async def join() -> None:
        nonlocal number
        fleet.append(Holder(shared, f"d{number}", seconds=seconds, ahead=rng.uniform(-60, 60)))
        number += 1
        fleet[-1].start()

    async def leave() -> None:
        await fleet.pop(rng.randrange(len(fleet))).leave()

    async def kill() -> None:
        await fleet.pop(rng.randrange(len(fleet))).kill()

    try:
        for _ in range(first):
            await join()
            await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 10)]))
        events = [join] * joining + [leave] * leaving + [kill] * killed
        rng.shuffle(events)
        for event in events:
            if len(fleet) > 1 or event is join:
                await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 40)]))
                await event()

        await asyncio.sleep(MINUTE)
        assert even(fleet, shards)
        so_far = claims(fleet)
        for _ in range(20):
            await asyncio.sleep(rng.uniform(0, 20))
            assert even(fleet, shards)
        assert claims(fleet) == so_far, "once even, nobody claims any more"
    finally:
        for one in fleet:
            await one.kill()


async def test_more_daemons_than_shards(shared: MemoryLedger) -> None:
    """Those for whom there is no shard hold none, claim none, and take over when one is free."""
    fleet = [Holder(shared, f"d{number}") for number in range(SHARDS + 3)]
    async with holding(*fleet):
        await asyncio.sleep(MINUTE)
        assert sorted(len(one.shards) for one in fleet) == [0] * 3 + [1] * SHARDS
        before = claims(fleet)
        await asyncio.sleep(HOUR)
        assert claims(fleet) == before
        await fleet[0].leave()
        await asyncio.sleep(2 * ROUND_SECONDS)
        assert even(fleet[1:])


async def test_the_reporting_shard_stays_where_it_is(shared: MemoryLedger) -> None:
    """Those who join take other shards: the daemon that publishes goes on doing so."""
    one = Holder(shared, "one")
    others = [Holder(shared, f"d{number}") for number in range(10)]
    async with holding(one):
        lease = one.leases.reporting()
        assert lease is not None
        async with holding(*others):
            for _ in range(100):
                held = one.leases.reporting()
                assert held is not None
                assert held.epoch == lease.epoch
                await asyncio.sleep(1)


async def test_sharing_out_is_told(shared: MemoryLedger) -> None:
    """Whoever reads the log sees how many daemons there are and how many shards this one holds, when that changes."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    with capture_logs() as logs:
        async with holding(one, two):
            await asyncio.sleep(HOUR)
    told = [line for line in logs if line["event"] == "leases_changed"]
    assert [(line["shards"], line["of"], line["replicas"]) for line in told] == [
        (SHARDS, SHARDS, 1),
        (SHARDS // 2, SHARDS, 2),
        (SHARDS // 2, SHARDS, 2),
    ]


# ---- leases ----


async def test_what_is_renewed_does_not_lapse(shared: MemoryLedger) -> None:
    """Daemons that live keep their shards; watching each other for an hour changes nothing."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await asyncio.sleep(2 * ROUND_SECONDS)
        before = one.shards, two.shards
        for _ in range(int(HOUR)):
            await asyncio.sleep(1)
            assert (one.shards, two.shards) == before


async def test_the_dead_are_replaced_when_their_leases_lapsed(shared: MemoryLedger) -> None:
    """
    Invariant 9: after kill -9, at whatever moment, the shards go to another daemon: no sooner than a lease, and well
    within a minute, for there may be more to even out afterwards.
    """
    loop = asyncio.get_running_loop()
    for number in range(24):
        one, two = Holder(shared, f"one {number}"), Holder(shared, f"two {number}")
        async with holding(one, two):
            await asyncio.sleep(HOUR + number * ROUND_SECONDS / 24)
            assert even([one, two])
            await one.kill()
            killed_at = loop.time()
            while two.shards != ALL:
                await asyncio.sleep(0.25)
            assert LEASE_SECONDS - ROUND_SECONDS < loop.time() - killed_at < MINUTE / 2


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_wall_clocks_an_hour_apart_do_no_harm(shared: MemoryLedger, ahead: float) -> None:
    """Whether a lease lapsed is judged by the watcher's own monotonic clock: no wall clock is compared."""
    one, two = Holder(shared, "one"), Holder(shared, "two", ahead=ahead)
    async with holding(one, two):
        await asyncio.sleep(2 * ROUND_SECONDS)
        before = one.shards, two.shards
        for _ in range(int(HOUR)):
            await asyncio.sleep(1)
            assert (one.shards, two.shards) == before
        await one.kill()
        await asyncio.sleep(MINUTE)
        assert two.shards == ALL


async def test_nobody_believes_in_a_lease_that_was_not_renewed(shared: MemoryLedger) -> None:
    """Invariant 9: cut off from the ledger, a daemon stops acting for its shards before anybody else may begin."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await asyncio.sleep(300)
        one.ledger.away = True
        for _ in range(240):
            await asyncio.sleep(0.5)
            assert not (set(one.shards) & set(two.shards))
            assert one.leases.reporting() is None or two.leases.reporting() is None
        assert one.health.away
        assert one.shards == []
        assert two.shards == ALL

        one.ledger.away = False
        await asyncio.sleep(MINUTE)
        assert not one.health.away
        assert even([one, two])
        assert two.leases.reporting() is not None


async def test_a_short_outage_costs_no_shards(shared: MemoryLedger) -> None:
    """Renewing is tried again every second: an outage shorter than a lease changes nothing."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await asyncio.sleep(300)
        before = one.shards, two.shards
        beat = (await shared.leases())[0].beat
        while (await shared.leases())[0].beat == beat:
            await asyncio.sleep(0.1)
        one.ledger.away = True
        one.ledger.calls.clear()
        for second in range(120):
            await asyncio.sleep(1)
            if second == LEASE_SECONDS - 4:
                assert one.ledger.calls.count("renew") > LEASE_SECONDS - ROUND_SECONDS - 5
                one.ledger.away = False
            assert (one.shards, two.shards) == before


async def test_whoever_ends_in_order_lets_go_at_once(shared: MemoryLedger) -> None:
    """After `give_up` others need not wait for leases to lapse, only for their own next round."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await one.leave()
        assert one.shards == []
        assert one.leases.reporting() is None
        await asyncio.sleep(ROUND_SECONDS + 1)
        assert two.shards == ALL


async def test_epochs_grow_with_every_change_of_holder(shared: MemoryLedger) -> None:
    """What was published under an older epoch can be told from what is published now."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        before = one.leases.reporting()
        await one.kill()
        await asyncio.sleep(MINUTE)
        after = two.leases.reporting()
    assert before is not None
    assert after is not None
    assert after.epoch == before.epoch + 1


async def test_a_lease_that_the_ledger_refused_is_not_held_any_more(shared: MemoryLedger) -> None:
    """Whoever finds out that a lease is lost says so, though it was renewed since; the other shards are kept."""
    one = Holder(shared, "one")
    async with holding(one):
        lease = one.leases.reporting()
        assert lease is not None
        await asyncio.sleep(ROUND_SECONDS)
        assert one.leases.reporting() != lease, "renewed"
        one.leases.lost(lease)
        assert one.leases.reporting() is None
        assert one.shards == ALL[1:]


async def test_a_newer_lease_is_not_lost_with_an_older_one(shared: MemoryLedger) -> None:
    """News about a lease of an older epoch says nothing about the one that is held by now."""
    one = Holder(shared, "one")
    async with holding(one):
        lease = one.leases.reporting()
        assert lease is not None
        one.leases.lost(lease)
        await asyncio.sleep(ROUND_SECONDS)
        again = one.leases.reporting()
        assert again is not None
        assert again.epoch > lease.epoch
        one.leases.lost(lease)
        assert one.leases.reporting() == again


async def test_two_that_claim_at_once_do_not_share_a_shard(shared: MemoryLedger) -> None:
    """Started together, two daemons have every shard between them and none twice."""
    one, two = Holder(shared, "one", seconds=0.1), Holder(shared, "two", seconds=0.1)
    one.start()
    two.start()
    try:
        await asyncio.sleep(2 * ROUND_SECONDS)
        assert even([one, two])
    finally:
        await one.kill()
        await two.kill()


# ---- trouble ----


async def test_a_claim_whose_answer_got_lost_leaves_no_orphan(shared: MemoryLedger) -> None:
    """A lease that names a daemon which does not know of it is claimed anew in the next round, not left to lapse."""
    one = Holder(shared, "one")
    one.ledger.mute = 1
    async with holding(one):
        assert {lease.owner for lease in await shared.leases()} == {"one", ""}
        assert one.shards == []
        await asyncio.sleep(2)
        assert one.shards == ALL
        assert not one.health.away
        epochs = {lease.shard: lease.epoch for lease in await shared.leases()}
        assert sorted(epochs.values()) == [1] * (SHARDS - 1) + [2]


async def test_a_slow_ledger_lets_no_lease_lapse(shared: MemoryLedger) -> None:
    """However long claims take, renewals keep their time: what is held stays held, and in the end all is shared."""
    shared = MemoryLedger(shards=64)
    one, two = Holder(shared, "one"), Holder(shared, "two")
    two.ledger.slow = {"claim"}
    two.ledger.seconds = 2.0
    async with holding(one, two):
        for _ in range(300):
            before = set(two.shards)
            await asyncio.sleep(1)
            assert before <= set(two.shards), "what was got once is not lost"
        assert even([one, two], 64)
    gaps = [b - a for a, b in zip(two.ledger.renewed_at, two.ledger.renewed_at[1:], strict=False)]
    assert max(gaps) <= LEASE_SECONDS / 2


async def test_a_claim_that_hangs_holds_up_no_renewal(shared: MemoryLedger) -> None:
    """A claim that never comes back is given up at the end of the round; the shards held so far stay."""
    one = Holder(shared, "one")
    async with holding(one):
        two = Holder(shared, "two")
        async with holding(two):
            await asyncio.sleep(ROUND_SECONDS)
            assert even([one, two])
            mine = one.shards
            one.ledger.slow = {"claim"}
            one.ledger.seconds = 1e6
            await two.leave()
        with capture_logs() as logs:
            for _ in range(int(HOUR)):
                await asyncio.sleep(1)
                assert one.shards == mine
        assert "lease_rebalance_slow" in {line["event"] for line in logs}
        one.ledger.seconds = 0.0
        await asyncio.sleep(2 * ROUND_SECONDS)
        assert one.shards == ALL


async def test_a_round_asks_no_more_than_it_must(shared: MemoryLedger) -> None:
    """Once shared out, a round costs one renewal and one reading, however many shards there are."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await asyncio.sleep(MINUTE)
        one.ledger.calls.clear()
        await asyncio.sleep(HOUR)
    calls = Counter(one.ledger.calls)
    assert set(calls) == {"renew", "leases"}
    assert all(count <= HOUR / ROUND_SECONDS + 1 for count in calls.values())


async def test_r3_a_claim_that_was_cut_off_is_let_go_too(shared: MemoryLedger) -> None:
    """R3: told to stop while a claim is under way, the daemon gives up what the ledger says that it has."""
    one = Holder(shared, "one", seconds=4.0)
    one.ledger.slow = {"claim"}
    one.start()
    while not any(lease.owner for lease in await shared.leases()):
        await asyncio.sleep(0.05)
    assert one.shards == [], "no answer came yet"
    await one.leave()

    assert [lease.owner for lease in await shared.leases()] == [""] * SHARDS
