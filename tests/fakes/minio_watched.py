"""A daemon, in simulated time, that watches sites of MinIO as users run them: nothing else tells it of anything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from crrmon.adapters.account_way import KnownAccount
from crrmon.domain.metric import Metric
from fakes.clock import LoopClock
from fakes.meters import FakeMeters
from fakes.minio import Minio, probing
from fakes.rig import Rig


@asynccontextmanager
async def watched(
    world: Minio, accounts: Sequence[KnownAccount], *, reversed_within: float = 0.0, **more: Any
) -> AsyncIterator[Rig]:
    """
    Run a daemon that hears of all that happens at the sites, which replicate once a second.

    Args:
        world: the sites.
        accounts: how buckets are reached.
        reversed_within: over how many seconds events are gathered, and told in the reverse order; 0: told as they come.
        more: for the `Rig`.
    """
    probe: Any
    async with probing(world, accounts, clock=LoopClock(), meters=FakeMeters()) as probe:
        rig = Rig(s3=probe, **{"buckets": ()} | more)
        gathered: list[str] = []
        for site in world.sites:
            site.hear = gathered.append if reversed_within else rig.inbox.send
        tasks = [asyncio.create_task(_replicate(world))]
        if reversed_within:
            tasks.append(asyncio.create_task(_reverse(gathered, rig, reversed_within)))
        try:
            async with rig.running():
                yield rig
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _replicate(world: Minio) -> None:
    while True:
        await asyncio.sleep(1)
        if not world.paused:
            world.work()


async def _reverse(gathered: list[str], rig: Rig, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        while gathered:
            rig.inbox.send(gathered.pop())


def told(rig: Rig, metric: Metric, *route: str) -> dict[str, float]:
    """Return what a counter shows, by its last label, for those before."""
    found = rig.meters.counters.items()
    return {key[-1]: one for key, one in found if key[:-1] == (metric.name, *route) and one}
