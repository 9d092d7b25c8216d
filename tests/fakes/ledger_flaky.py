"""A ledger that can be away, or do what it was asked and not say so."""

import asyncio
import inspect
from typing import Any

from crrmon.ports.ledger import Ledger, LedgerError, UnusableLedgerError

ASYNC = {name for name, _ in inspect.getmembers(Ledger, inspect.iscoroutinefunction)} - {"close"}


class FlakyLedger:
    """Passes everything on, unless `away`; with `deaf`, does it and then fails, that many times."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.away = False
        self.broken = False
        self.deaf = 0
        self.refusing: set[str] = set()
        """Names of calls that fail, while all others are answered."""
        self.delays: dict[str, float] = {}
        """How long calls take, by name."""
        self.poison: set[str] = set()
        """Keys of records that it stumbles over when they are rescheduled."""
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._ledger, name)
        if name not in ASYNC:
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.broken:
                raise UnusableLedgerError("broken for good")
            if self.away or name in self.refusing:
                raise LedgerError("nobody there")
            if name in self.delays:
                await asyncio.sleep(self.delays[name])
            if name == "reschedule" and any(arg.version.key in self.poison for arg in args[0]):
                raise ValueError("no ledger takes this record")
            result = await inner(*args, **kwargs)
            if self.deaf and name in {"settle", "park", "reschedule"}:
                self.deaf -= 1
                raise LedgerError("no answer")
            return result

        return call
