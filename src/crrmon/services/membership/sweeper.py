"""Housekeeping of the ledger: what is past the dedup retention is dropped, a little at a time."""

from crrmon.ports.ledger import Ledger
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.rounds import Pause, rounds
from crrmon.services.lifecycle.runtime import Runtime

ROUND_SECONDS = 60.0
BUSY_SECONDS = 0.2
"""Between two portions, while there is more to drop."""
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 300.0


async def sweeper(ledger: Ledger, runtime: Runtime, *, health: Dependency) -> None:
    """Sweep, for ever."""
    clock = runtime.clock

    async def sweep() -> Pause:
        if not clock.sure:
            # What is dropped by a wrong time counts again.
            return Pause(RETRY_SECONDS, answered=False, done=False)
        dropped = await ledger.sweep(now=clock.now())
        return Pause(BUSY_SECONDS if dropped else ROUND_SECONDS)

    await rounds(
        sweep,
        name="sweeper",
        board=runtime.board,
        patience=PATIENCE_SECONDS,
        health=health,
        operation="sweep",
        retry_seconds=RETRY_SECONDS,
    )
