"""Killed at any moment and started again on the same ledger and queue: the counts equal the truth."""

import asyncio
import random

import pytest

from crrmon.domain.observations import Sight
from fakes.ledger_flaky import FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import WINDOW, Rig


class LossyLedger(FlakyLedger):
    """Lets go of leases, as one that is opened exclusively after a crash does."""

    async def reopen(self) -> None:
        await self._ledger.release(await self._ledger.leases())


@pytest.mark.parametrize("seed", range(6))
async def test_invariant_5_kill_minus_9_loses_and_doubles_nothing(seed: int) -> None:
    """Invariants 1, 2, 5; D44: twelve crashes at random moments, with duplicates; every object is counted once."""
    rng = random.Random(seed)
    ledger = LossyLedger(MemoryLedger(shards=4))
    rig = Rig(ledger=ledger, owner="run 0")
    shared = {"inbox": rig.inbox, "s3": rig.s3, "sink": rig.sink, "ledger": ledger}
    rig.inbox._max_receives = 50
    rig.s3.rule("src", "dst")
    truth = {"completed": 0, "failed": 0, "bytes": 0}
    for run in range(12):
        rig.start()
        for number in range(10):
            fails = rng.random() < 0.2
            size = rng.randrange(1000)
            rig.put(
                f"a{run}-{number}",
                version=f"v{run}-{number}",
                takes=rng.expovariate(1 / 60),
                then=Sight.FAILED if fails else Sight.COMPLETED,
                size=size,
                copies=rng.choice([1, 1, 1, 2, 3]),
            )
            truth["failed" if fails else "completed"] += 1
            truth["bytes"] += 0 if fails else size
            await asyncio.sleep(rng.uniform(0, 3))
        await asyncio.sleep(rng.uniform(0, 100))
        await rig.kill()
        await ledger.reopen()
        rig = Rig(**shared, owner=f"run {run + 1}", seed=seed)
    async with rig.running():
        await rig.settled()
        async with asyncio.timeout(7200):
            while await rig.backlog():
                await asyncio.sleep(5)
        await asyncio.sleep(3 * WINDOW)

    assert rig.inbox.dead == []
    told = list(dict.fromkeys(rig.sink.calls))
    rig.sink.calls = told
    assert rig.sink.total("ReplicationObjects", "src", "dst") == truth["completed"]
    assert rig.sink.total("ReplicatedBytes", "src", "dst") == truth["bytes"]
    assert rig.sink.total("FailedReplications", "src") == truth["failed"]
