"""Daemons sharing shards: every shard gets a holder, the dead are replaced, and nobody compares clocks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from crrmon.adapters.ledgers.memory import MemoryLedger
from crrmon.services.health import HealthBoard
from crrmon.services.tenure import LEASE_SECONDS, REPORTING_SHARD, ROUND_SECONDS, Tenure
from fakes.clock import LoopClock
from fakes.ledger_flaky import FlakyLedger
from fakes.meters import FakeMeters

SHARDS = 4
ALL = list(range(SHARDS))
HOUR = 3600.0


@pytest.fixture
def shared() -> MemoryLedger:
    """
    Make what all daemons of a test share.
    """
    return MemoryLedger(shards=SHARDS)


class Holder:
    """
    One daemon's tenure, its own way to the ledger, and its own wall clock.
    """

    def __init__(self, shared: MemoryLedger, owner: str, *, ahead: float = 0.0) -> None:
        self.ledger = FlakyLedger(shared)
        board = HealthBoard(clock=LoopClock(ahead=ahead), meters=FakeMeters())
        self.health = board.dependency("ledger")
        self.tenure = Tenure(self.ledger, owner=owner, health=self.health, board=board)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.tenure.run())

    async def kill(self) -> None:
        """
        End without letting go of anything.
        """
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def shards(self) -> list[int]:
        return sorted(self.tenure.shards())


@asynccontextmanager
async def holding(*holders: Holder) -> AsyncIterator[None]:
    """
    Have daemons run; the first one gets all shards.
    """
    try:
        for holder in holders:
            holder.start()
            await asyncio.sleep(1)
        yield
    finally:
        for holder in holders:
            await holder.kill()


async def test_one_daemon_gets_everything_at_once(shared: MemoryLedger) -> None:
    """Free shards need not lapse first: alone on a new ledger, all of them are held in the first round."""
    one = Holder(shared, "one")
    assert one.tenure.reporting() is None
    async with holding(one):
        assert one.shards == ALL
        lease = one.tenure.reporting()
        assert lease is not None
        assert lease.shard == REPORTING_SHARD


async def test_what_is_renewed_does_not_lapse(shared: MemoryLedger) -> None:
    """A daemon that lives keeps its shards; others that watch for an hour take none."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        for _ in range(int(HOUR)):
            await asyncio.sleep(1)
            assert one.shards == ALL
            assert two.shards == []


async def test_the_dead_are_replaced_when_their_leases_lapsed(shared: MemoryLedger) -> None:
    """Invariant 9: after kill -9 the shards go to another daemon, no sooner than a lease, no later than two."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await asyncio.sleep(HOUR)
        await one.kill()
        killed_at = asyncio.get_running_loop().time()
        while two.shards != ALL:
            await asyncio.sleep(0.5)
            assert asyncio.get_running_loop().time() - killed_at < 2 * LEASE_SECONDS
        assert asyncio.get_running_loop().time() - killed_at > LEASE_SECONDS - ROUND_SECONDS


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_wall_clocks_an_hour_apart_do_no_harm(shared: MemoryLedger, ahead: float) -> None:
    """Whether a lease lapsed is judged by the watcher's own monotonic clock: no wall clock is compared."""
    one, two = Holder(shared, "one"), Holder(shared, "two", ahead=ahead)
    async with holding(one, two):
        for _ in range(int(HOUR)):
            await asyncio.sleep(1)
            assert two.shards == []
            assert one.shards == ALL
        await one.kill()
        await asyncio.sleep(2 * LEASE_SECONDS)
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
            assert one.tenure.reporting() is None or two.tenure.reporting() is None
        assert one.health.away
        assert one.shards == []
        assert two.shards == ALL

        one.ledger.away = False
        await asyncio.sleep(60)
        assert not one.health.away
        assert one.shards == []
        assert two.shards == ALL


async def test_a_short_outage_costs_no_shards(shared: MemoryLedger) -> None:
    """Renewing is tried again every second: an outage shorter than a lease changes nothing."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await asyncio.sleep(300)
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
            assert one.shards == ALL
            assert two.shards == []


async def test_whoever_ends_in_order_lets_go_at_once(shared: MemoryLedger) -> None:
    """After `give_up` others need not wait for leases to lapse, only for their own next round."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        await one.kill()
        await one.tenure.give_up()
        assert one.shards == []
        assert one.tenure.reporting() is None
        await asyncio.sleep(ROUND_SECONDS + 1)
        assert two.shards == ALL


async def test_epochs_grow_with_every_change_of_holder(shared: MemoryLedger) -> None:
    """What was published under an older epoch can be told from what is published now."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    async with holding(one, two):
        before = one.tenure.reporting()
        await one.kill()
        await asyncio.sleep(2 * LEASE_SECONDS)
        after = two.tenure.reporting()
    assert before is not None
    assert after is not None
    assert after.epoch == before.epoch + 1


async def test_a_lease_that_the_ledger_refused_is_not_held_any_more(shared: MemoryLedger) -> None:
    """Whoever finds out that a lease is lost says so; the other shards are kept."""
    one = Holder(shared, "one")
    async with holding(one):
        lease = one.tenure.reporting()
        assert lease is not None
        one.tenure.lost(lease)
        assert one.tenure.reporting() is None
        assert one.shards == ALL[1:]


async def test_two_that_claim_at_once_do_not_share_a_shard(shared: MemoryLedger) -> None:
    """Started together, two daemons have every shard between them and none twice."""
    one, two = Holder(shared, "one"), Holder(shared, "two")
    one.start()
    two.start()
    try:
        await asyncio.sleep(1)
        assert sorted([*one.shards, *two.shards]) == ALL
    finally:
        await one.kill()
        await two.kill()
