"""How fast calls may follow each other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Pace:
    """Spaces what is begun, and bounds what is under way.

    Args:
        per_second: how many may begin in a second.
        at_once: how many may be under way.
    """

    def __init__(self, *, per_second: float, at_once: int) -> None:
        self._interval = 1 / per_second
        self._places = asyncio.Semaphore(at_once)
        self._next_at = float("-inf")

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it within."""
        async with self._places:
            now = asyncio.get_running_loop().time()
            at = max(now, self._next_at)
            self._next_at = at + self._interval
            await asyncio.sleep(at - now)
            yield
