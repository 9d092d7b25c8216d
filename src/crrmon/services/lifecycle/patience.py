"""Waiting without looking dead: whoever waits for something says now and then that it is alive.

A loop may have to wait for as long as an outage lasts. It is late for /livez only when it does nothing and waits for
nothing, for then a restart may help.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

SLICE_SECONDS = 20.0
"""Longest time of waiting without a word; below every loop's patience."""

Result = TypeVar("Result")


async def patiently(work: Awaitable[Result], *, alive: Callable[[], None]) -> Result:
    """Wait for something as long as it takes.

    Args:
        work: what is waited for; it is cancelled with whoever waits.
        alive: called at once and then at least every `SLICE_SECONDS`.

    Returns:
        What `work` returns; what it raises is raised.
    """
    task = asyncio.ensure_future(work)
    try:
        while True:
            alive()
            await asyncio.wait({task}, timeout=SLICE_SECONDS)
            if task.done():
                return task.result()
    finally:
        if not task.done():
            task.cancel()
            # Whoever cancels us expects that nothing of ours goes on after.
            await asyncio.wait({task})
