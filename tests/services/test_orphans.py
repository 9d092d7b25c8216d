"""Replicas without a source: counted after an hour, never sooner, and rightly from a sample."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from crrmon.domain import catalogue
from crrmon.domain.events.facts import ReplicaWritten
from crrmon.domain.objects import provisional
from crrmon.domain.outcomes import Settlement
from crrmon.services.reporting.orphans import REMEMBERED, WAIT_SECONDS, OrphanWatch
from fakes.clock import EPOCH, LoopClock
from fakes.ledger_flaky import FlakyLedger
from fakes.ledger_values import arrived, done, record, replica, restarted, whole
from fakes.ledgers import MemoryLedger
from fakes.meters import FakeMeters
from fakes.runtime import runtime


class Desk:
    """A daemon that judges replicas, and nothing else."""

    def __init__(self) -> None:
        clock = LoopClock()
        self.meters = FakeMeters()
        shared = runtime(clock, meters=self.meters)
        self.board = shared.board
        self.ledger = FlakyLedger(MemoryLedger(shards=1))
        self.orphans = OrphanWatch(self.ledger, shared, health=self.board.dependency("ledger"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Desk"]:
        task = asyncio.create_task(self.orphans.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def arrive(self, key: str, *, bucket: str = "dst") -> ReplicaWritten:
        """Have a replica's event come first, as intake would."""
        one = replica(key, at=EPOCH, bucket=bucket)
        await self.ledger.note([one], now=EPOCH)
        self.orphans.noted(one)
        return one

    def counted(self, bucket: str = "dst") -> float:
        return self.meters.count(catalogue.REPLICAS_ORPHANED, bucket)


async def test_a_replica_without_a_source_is_counted_after_an_hour() -> None:
    """Its source's event has an hour; then it is counted once, for the bucket it came to."""
    async with Desk().running() as desk:
        await desk.arrive("a")
        await desk.arrive("b", bucket="dst2")
        await asyncio.sleep(WAIT_SECONDS - 1)
        assert (desk.counted(), desk.counted("dst2")) == (0, 0)
        await asyncio.sleep(20)
        assert (desk.counted(), desk.counted("dst2")) == (1, 1)
        await asyncio.sleep(2 * WAIT_SECONDS)
        assert (desk.counted(), desk.counted("dst2")) == (1, 1)


@pytest.mark.parametrize("how", ["parked", "counted", "counted as a whole", "is a replica itself"])
async def test_a_replica_whose_source_came_is_not_counted(how: str) -> None:
    """A record of its version, its own mark, or one of the version as a whole in whatever bucket: the source told."""
    async with Desk().running() as desk:
        await desk.arrive("a")
        one = record("a")
        match how:
            case "parked":
                await desk.ledger.park([one])
            case "counted":
                await desk.ledger.settle("b", [done(one)], now=EPOCH)
            case "counted as a whole":
                await desk.ledger.settle("b", [done(one, whole(one))], now=EPOCH)
            case _:
                itself = record("a", bucket="dst")
                settlement = Settlement(version=itself.version, outcomes=(whole(itself),))
                await desk.ledger.settle("b", [settlement], now=EPOCH)
        await asyncio.sleep(WAIT_SECONDS + 20)
        assert desk.ledger.calls.count("find") == 1
        assert desk.counted() == 0


@pytest.mark.parametrize("restarted_first", [True, False])
@pytest.mark.parametrize("counted", [True, False])
async def test_t10_a_replica_of_a_version_that_was_restarted_is_not_counted(
    *, restarted_first: bool, counted: bool
) -> None:
    """T10: Batch Replication sends what was written long ago: its replica has a source, whichever event comes first."""
    async with Desk().running() as desk:
        if counted:  # at another destination
            await desk.ledger.settle("b", [done(record("a", to=("far",)))], now=EPOCH)
        if restarted_first:
            await desk.ledger.note([restarted("a", at=EPOCH)], now=EPOCH)
        await desk.arrive("a")
        await desk.arrive("nobody's")
        await asyncio.sleep(WAIT_SECONDS / 2)
        if not restarted_first:
            await desk.ledger.note([restarted("a", at=EPOCH)], now=EPOCH)
        await asyncio.sleep(WAIT_SECONDS / 2 + 20)
        assert desk.counted() == 1


async def test_a_mark_in_another_destination_proves_nothing_here() -> None:
    """What arrived in one destination tells of its source; but a replica that no rule sent stays orphaned."""
    async with Desk().running() as desk:
        await desk.arrive("a", bucket="elsewhere")
        one = record("a")
        await desk.ledger.settle("b", [done(one, arrived(one))], now=EPOCH)
        await asyncio.sleep(WAIT_SECONDS + 20)
        assert desk.counted("elsewhere") == 1


async def test_the_same_replica_is_remembered_once_and_none_without_a_version() -> None:
    """Events come twice; and without a version id nobody can tell whose replica it is."""
    async with Desk().running() as desk:
        one = await desk.arrive("a")
        desk.orphans.noted(one)
        stand_in = provisional("dst", "b", EPOCH)
        desk.orphans.noted(replace(one, version=stand_in))
        await asyncio.sleep(WAIT_SECONDS + 20)
        assert desk.counted() == 1


async def test_nothing_is_judged_while_the_ledger_is_away() -> None:
    """A ledger that does not answer proves nothing; it is asked again, and nothing is forgotten."""
    async with Desk().running() as desk:
        await desk.arrive("a")
        await desk.arrive("b")
        await desk.ledger.park([record("b")])
        desk.ledger.away = True
        await asyncio.sleep(WAIT_SECONDS + 600)
        assert desk.counted() == 0
        assert desk.board.live().ok
        desk.ledger.away = False
        await asyncio.sleep(20)
        assert desk.counted() == 1


async def test_many_are_estimated_from_a_sample() -> None:
    """Of ten times as many as are remembered, the estimate is right within 5 %."""
    many = 100_000
    async with Desk().running() as desk:
        known = 0
        for number in range(many):
            one = replica(f"k{number}", at=EPOCH, bucket="dst" if number % 4 else "dst2")
            desk.orphans.noted(one)
            known = max(known, len(desk.orphans._remembered))
        assert known <= REMEMBERED
        await asyncio.sleep(WAIT_SECONDS + 20)
        assert desk.counted() == pytest.approx(0.75 * many, rel=0.05)
        assert desk.counted("dst2") == pytest.approx(0.25 * many, rel=0.08)
        assert len(desk.ledger.calls) <= REMEMBERED


async def test_a_flood_that_comes_and_goes_is_estimated_rightly() -> None:
    """Shares shrink in a flood and grow after it; each replica counts with the share of its own time."""
    rates = [40, 400, 4000, 400, 4, 4]
    async with Desk().running() as desk:
        number = 0
        for rate in rates:
            for _ in range(36):
                for _ in range(rate):
                    desk.orphans.noted(replica(f"k{number}", at=EPOCH))
                    number += 1
                await asyncio.sleep(100)
        await asyncio.sleep(WAIT_SECONDS + 20)
        assert desk.counted() == pytest.approx(number, rel=0.05)
        assert desk.orphans._halvings == 0
