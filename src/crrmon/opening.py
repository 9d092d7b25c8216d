"""The ledger, opened as often as it takes.

A ledger on a server that cannot be opened does not end the process: it says why, is not ready, receives nothing and
tries again, so that nothing restarts in circles while somebody fixes what is wrong.
"""

import asyncio
import contextlib

from crrmon.adapters.aws import AwsSession
from crrmon.config import LedgerSettings
from crrmon.connections import open_ledger
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import Ledger, LedgerError, UnusableLedgerError
from crrmon.services.lifecycle.health import Dependency

FIRST_SECONDS = 1.0
CAP_SECONDS = 30.0
"""Between two tries."""


async def wait_for_ledger(
    settings: LedgerSettings,
    aws: AwsSession,
    *,
    clock: Clock,
    health: Dependency,
    stop: asyncio.Event,
) -> Ledger | None:
    """Open the ledger, again and again until that succeeds.

    Args:
        settings: of the ledger.
        aws: the way to a table.
        clock: tells what is past the dedup retention.
        health: of the ledger; told of each try.
        stop: set when the daemon is to stop.

    Returns:
        The ledger; None when the daemon is to stop before there is one.

    Raises:
        UnusableLedgerError: it lies on this machine and cannot be used. One on a server may be fixed from elsewhere.
    """
    delay = FIRST_SECONDS
    while not stop.is_set():
        try:
            ledger = await open_ledger(settings, aws, clock=clock)
        except (LedgerError, UnusableLedgerError) as error:
            if isinstance(error, UnusableLedgerError) and settings.kind in ("memory", "sqlite"):
                raise
            health.failed(str(error), "open")
        else:
            health.succeeded("open")
            return ledger
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await stop.wait()
        delay = min(delay * 2, CAP_SECONDS)
    return None
