"""Rounds: what a loop does again and again, asking the ledger, and how it goes on when that does not answer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from crrmon.ports.ledger import LedgerError
from crrmon.services.lifecycle.health import Dependency, HealthBoard


class Pause(msgspec.Struct, frozen=True):
    """What a round ends with."""

    seconds: float
    """Until the next one."""
    answered: bool = True
    """Whether the ledger was asked, and did what it was to do."""
    done: bool = True
    """Whether the round did what it is for; else how the loop does is as it was."""


async def rounds(
    once: Callable[[], Awaitable[Pause]],
    *,
    name: str,
    board: HealthBoard,
    patience: float,
    health: Dependency,
    operation: str,
    retry_seconds: float,
    stopping: asyncio.Event | None = None,
) -> None:
    """Do rounds, until told to stop.

    Args:
        once: one round.
        name: of the loop.
        board: told of each round.
        patience: seconds within which the next round must begin.
        health: of the ledger.
        operation: what a round asks of it.
        retry_seconds: until the next round, where the ledger did not answer.
        stopping: ends the loop at once; None for one that is cancelled.
    """
    stopping = stopping or asyncio.Event()
    while not stopping.is_set():
        board.began(name, patience=patience)
        try:
            pause = await once()
        except LedgerError as error:
            health.failed(str(error), operation)
            seconds = retry_seconds
        else:
            if pause.answered:
                health.succeeded(operation)
            if pause.done:
                board.ended(name)
            seconds = pause.seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stopping.wait()
