"""Wall time derived from the event loop's: in simulated time, waiting moves both."""

import asyncio

EPOCH = 1_800_000_000.0


class LoopClock:
    def __init__(self, *, ahead: float = 0.0, sure: bool = True) -> None:
        self.ahead = ahead
        self.sure = sure

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> float:
        return EPOCH + self.ahead + asyncio.get_running_loop().time()

    def leap(self, seconds: float) -> None:
        """Let wall time pass, and nothing else: no loop runs meanwhile."""
        self.ahead += seconds


class StandingClock(LoopClock):
    """Wall time that passes by leaps alone, however long what goes on takes."""

    def now(self) -> float:
        return EPOCH + self.ahead
