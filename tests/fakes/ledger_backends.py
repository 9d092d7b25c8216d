"""The ledgers that the contract suite runs on. A new one adds an entry to `BACKENDS`."""

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest

from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.ports.ledger import Ledger
from fakes.ledger_dynamodb import EmulatedLedger, SetClock, new_table
from fakes.ledgers import MemoryLedger, RedisLedger, SqliteLedger
from fakes.ministack import shared_ministack
from fakes.redis_server import shared_cluster, shared_server

RETENTION = 345_600.0
SHARDS = 4


class Backend(Protocol):
    """Opens ledgers of one kind, always the same one."""

    durable: bool
    """Whether what was closed can be opened again."""
    clock: SetClock
    """Of its ledgers."""

    def __init__(self, directory: Path) -> None: ...

    async def open(self) -> Ledger:
        """Open the ledger; not while it is open already, where it is exclusive."""
        ...


class MemoryBackend:
    """A new ledger each time."""

    durable = False

    def __init__(self, directory: Path) -> None:  # noqa: ARG002 - nothing lies in a file
        self.clock = SetClock()

    async def open(self) -> Ledger:
        """Create one."""
        return MemoryLedger(shards=SHARDS, retention_seconds=RETENTION, clock=self.clock)


class SqliteBackend:
    """A file in a directory."""

    durable = True

    def __init__(self, directory: Path) -> None:
        self._path = directory / "ledger.db"
        self.clock = SetClock()

    async def open(self) -> Ledger:
        """Open the file."""
        return await SqliteLedger.at(
            self._path, shards=SHARDS, retention_seconds=RETENTION, clock=self.clock
        )


class RedisBackend:
    """A prefix on a server that all tests of this process share."""

    durable = True

    def __init__(self, _: Path) -> None:
        self._server = RedisServer(url=shared_server(), prefix=f"t{uuid.uuid4().hex}")
        self.clock = SetClock()

    async def open(self) -> Ledger:
        """Connect."""
        return await RedisLedger.at(
            self._server, shards=SHARDS, retention_seconds=RETENTION, clock=self.clock
        )


class RedisClusterBackend(RedisBackend):
    """A prefix on a cluster of three servers."""

    def __init__(self, _: Path) -> None:
        prefix = f"t{uuid.uuid4().hex}"
        self._server = RedisServer(url=shared_cluster(), cluster=True, prefix=prefix)
        self.clock = SetClock()


class DynamoDBBackend:
    """A table of MiniStack."""

    durable = True

    def __init__(self, directory: Path) -> None:  # noqa: ARG002 - nothing lies in a file
        self._table = new_table()
        self.clock = SetClock()

    async def open(self) -> Ledger:
        """Open it; made the first time."""
        url = shared_ministack()
        return await EmulatedLedger.on(url, self._table, self.clock, retention_seconds=RETENTION)


BACKENDS: dict[str, type[Backend]] = {
    "memory": MemoryBackend,
    "sqlite": SqliteBackend,
    "redis": RedisBackend,
    "redis_cluster": RedisClusterBackend,
    "dynamodb": DynamoDBBackend,
}

SERVERLESS = ("memory", "sqlite")
"""Those that need no server."""


def each(names: Iterable[str] = BACKENDS) -> list[Any]:
    """Name backends as parameters of a test; those that need a server are marked so."""
    return [
        pytest.param(name, marks=() if name in SERVERLESS else pytest.mark.server)
        for name in sorted(names)
    ]


EXAMPLES = {"dynamodb": 8, "redis": 20, "redis_cluster": 12}
"""Histories of the stateful suite where a server answers: what they mean is decided in one place, and tried longer without."""
