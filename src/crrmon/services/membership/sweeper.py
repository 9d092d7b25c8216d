"""Housekeeping of the ledger: what is past the horizon is dropped, a little at a time."""

import asyncio

from crrmon.ports.ledger import Ledger, LedgerError
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.runtime import Runtime

ROUND_SECONDS = 60.0
BUSY_SECONDS = 0.2
"""Between two portions, while there is more to drop."""
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 300.0


async def sweeper(ledger: Ledger, runtime: Runtime, *, health: Dependency) -> None:
    """
    Sweep, for ever.
    """
    clock, board = runtime.clock, runtime.board
    while True:
        board.began("sweeper", patience=PATIENCE_SECONDS)
        if not clock.sure:
            await asyncio.sleep(RETRY_SECONDS)  # what is dropped by a wrong time counts again
            continue
        try:
            dropped = await ledger.sweep(now=clock.now())
        except LedgerError as error:
            health.failed(str(error), "sweep")
            await asyncio.sleep(RETRY_SECONDS)
            continue
        health.succeeded("sweep")
        board.ended("sweeper")
        await asyncio.sleep(BUSY_SECONDS if dropped else ROUND_SECONDS)
