"""An application that writes on the sandbox's stage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crrmon.ports.clock import SystemClock
from crrmon.sandbox.courier import Courier
from crrmon.sandbox.play import Stage
from crrmon.sandbox.replication import Replication
from crrmon.sandbox.rules import Rules
from crrmon.sandbox.telling import EventTeller
from crrmon.sandbox.world import WORLD
from crrmon.sandbox.writer import Writer


@asynccontextmanager
async def writing(
    stage: Stage, rules: Rules | None = None
) -> AsyncIterator[tuple[Writer, Courier, Replication]]:
    """
    Give an application that writes, and what follows from it, until the block ends.

    Args:
        stage: where.
        rules: that are in force; all of them when left out.
    """
    rules = rules or Rules(WORLD)
    sqs = await stage.emulator.client("sqs", WORLD.queue_region)
    async with asyncio.TaskGroup() as tasks:
        courier = Courier(sqs, stage.queue, tasks)
        teller = EventTeller(WORLD, courier)
        replication = Replication(
            rules,
            stage.emulator,
            stage.truth,
            teller=teller,
            clock=SystemClock(),
            tasks=tasks,
        )
        stage.facade.status_of = replication.status
        stage.facade.is_source = replication.is_source
        stage.facade.replicas = replication.replicas
        writer = Writer(
            rules,
            stage.emulator,
            replication=replication,
            teller=teller,
            courier=courier,
            clock=SystemClock(),
        )
        yield writer, courier, replication
