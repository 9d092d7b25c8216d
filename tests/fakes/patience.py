"""How long tests wait, in real time, for what must happen.

Never how fast it should be: that is measured in bench/, for a machine that is busy with something else is not at fault.
"""

import asyncio
from collections.abc import Callable
from typing import Final

HANGS_SECONDS: Final = 600.0
"""What takes longer than this is never going to happen; a slow machine with much else to do is well below it."""


async def until(happened: Callable[[], object], *, every: float = 0.05) -> None:
    """
    Wait until something is so.

    Args:
        happened: tells whether it is.
        every: how often to ask, in seconds.

    Raises:
        TimeoutError: it is never going to be.
    """
    async with asyncio.timeout(HANGS_SECONDS):
        while not happened():
            await asyncio.sleep(every)
