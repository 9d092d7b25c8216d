"""Pauses in long work: a backlog may have a million sums, and all of them in one go would stop everything else."""

import asyncio

PAUSED_AT = 2_000
"""Steps, such as adding to one sum, before others get their turn: some milliseconds."""


class Pauses:
    """Counts the steps of something long."""

    def __init__(self) -> None:
        self._left = PAUSED_AT

    async def after(self, steps: int) -> None:
        """Give others their turn if so much was done since their last one."""
        self._left -= steps
        if self._left <= 0:
            self._left = PAUSED_AT
            await asyncio.sleep(0)
