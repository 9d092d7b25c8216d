"""A store that fails, lies about what it did, or stands still, at one step of all that it is asked."""

import asyncio
import enum
from typing import Any

from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import Store

STEPS = {"get", "scan", "write", "write_each", "due", "walk", "expire"}


class Fault(enum.Enum):
    """What happens at the step."""

    REFUSED = "refused"
    """It is not done, and that is said."""
    UNANSWERED = "unanswered"
    """It is done, and nobody hears of it."""
    REPEATED = "repeated"
    """It is done, and done once more, which conflicts with itself where it is conditional."""
    BEFORE = "before"
    """Whoever asked stands still before it is done."""
    AFTER = "after"
    """Whoever asked stands still after it was done."""


class FaultyStore:
    """
    Passes everything on, but for one step.

    Args:
        store: where everything lies.
        at: which step, from 0 on; None for none.
        fault: what happens then.
    """

    def __init__(
        self, store: Store, *, at: int | None = None, fault: Fault = Fault.REFUSED
    ) -> None:
        self._store = store
        self._at = at
        self._fault = fault
        self.steps = 0
        self.stood_still = asyncio.Event()
        self.go_on = asyncio.Event()

    @property
    def exclusive(self) -> bool:
        """Whether only one process can have it open: others are to come in between."""
        return False

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._store, name)
        if name not in STEPS:
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            step, self.steps = self.steps, self.steps + 1
            if step != self._at:
                return await inner(*args, **kwargs)
            return await self._faulty(lambda: inner(*args, **kwargs), changes=name == "write")

        return call

    async def _faulty(self, do: Any, *, changes: bool) -> Any:
        match self._fault:
            case Fault.REFUSED:
                raise LedgerError("nobody there")
            case Fault.UNANSWERED:
                await do()
                raise LedgerError("no answer")
            case Fault.REPEATED:
                result = await do()
                return await do() if changes else result
            case Fault.BEFORE:
                await self._stand_still()
                return await do()
            case Fault.AFTER:
                result = await do()
                await self._stand_still()
                return result

    async def _stand_still(self) -> None:
        self.stood_still.set()
        await self.go_on.wait()
