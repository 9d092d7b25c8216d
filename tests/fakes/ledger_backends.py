"""The ledgers that the contract suite runs on. A new one adds an entry to `BACKENDS`."""

from pathlib import Path
from typing import Protocol

from crrmon.adapters.ledgers.memory import MemoryLedger
from crrmon.adapters.ledgers.sqlite import SqliteLedger
from crrmon.ports.ledger import Ledger

HORIZON = 345_600.0
SHARDS = 4


class Backend(Protocol):
    """
    Opens ledgers of one kind, always the same one.
    """

    durable: bool
    """Whether what was closed can be opened again."""

    def __init__(self, directory: Path) -> None: ...

    async def open(self) -> Ledger:
        """
        Open the ledger; not while it is open already, where it is exclusive.
        """
        ...


class MemoryBackend:
    """
    A new ledger each time.
    """

    durable = False

    def __init__(self, directory: Path) -> None:
        pass

    async def open(self) -> Ledger:
        """
        Make one.
        """
        return MemoryLedger(shards=SHARDS, horizon_seconds=HORIZON)


class SqliteBackend:
    """
    A file in a directory.
    """

    durable = True

    def __init__(self, directory: Path) -> None:
        self._path = directory / "ledger.db"

    async def open(self) -> Ledger:
        """
        Open the file.
        """
        return await SqliteLedger.open(self._path, shards=SHARDS, horizon_seconds=HORIZON)


BACKENDS: dict[str, type[Backend]] = {
    "memory": MemoryBackend,
    "sqlite": SqliteBackend,
}
