"""The stores that their contract suite runs on. A new one adds an entry to `STORES`."""

import atexit
import contextlib
import random
import uuid
from functools import cache
from pathlib import Path
from typing import Protocol, Self

import pytest

from crrmon.adapters.stores import memory
from crrmon.adapters.stores.dynamodb.creation import create
from crrmon.adapters.stores.dynamodb.store import DynamoDBStore
from crrmon.adapters.stores.memory import MemoryStore
from crrmon.adapters.stores.redis import store as redis
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.store import RedisStore
from crrmon.adapters.stores.sqlite import store as sqlite
from crrmon.adapters.stores.sqlite.store import SqliteStore
from crrmon.ports.store import Store
from fakes.ledger_dynamodb import REGION, EmulatorAws, SetClock, new_table
from fakes.ministack import shared_ministack
from fakes.moto_server import moto_server
from fakes.redis_server import shared_cluster, shared_server


class StoreBackend(Protocol):
    """Opens stores of one kind, always on the same database."""

    durable: bool
    """Whether what was closed can be opened again."""
    drops: bool
    """Whether `expire` drops anything; else the database does by its own clock."""
    clock: SetClock
    """Tells those that need it what has expired."""

    def __init__(self, directory: Path) -> None: ...

    def expire_few(self, patch: pytest.MonkeyPatch, number: int) -> None:
        """Have `expire` drop no more than this of a group's ordered items at once."""
        ...

    async def open(self) -> Store:
        """Open the database; not while it is open already, where it is exclusive."""
        ...


class MemoryBackend:
    """A new store each time."""

    durable = False
    drops = True

    def __init__(self, directory: Path) -> None:  # noqa: ARG002 - nothing lies in a file
        self.clock = SetClock()

    def expire_few(self, patch: pytest.MonkeyPatch, number: int) -> None:
        """Set how many that is."""
        patch.setattr(memory, "_EXPIRED_AT_ONCE", number)

    async def open(self) -> Store:
        """Create one."""
        return MemoryStore()


class SqliteBackend:
    """A file in a directory."""

    durable = True
    drops = True

    def __init__(self, directory: Path) -> None:
        self._path = directory / "store.db"
        self.clock = SetClock()

    def expire_few(self, patch: pytest.MonkeyPatch, number: int) -> None:
        """Set how many that is."""
        patch.setattr(sqlite, "_EXPIRED_AT_ONCE", number)

    async def open(self) -> Store:
        """Open the file."""
        return await SqliteStore.open(self._path)


class RedisBackend:
    """A prefix on a server that all tests of this process share."""

    durable = True
    drops = True

    def __init__(self, directory: Path) -> None:  # noqa: ARG002 - nothing lies in a file
        self._server = self._place(f"t{uuid.uuid4().hex}")
        self.clock = SetClock()

    def _place(self, prefix: str) -> RedisServer:
        return RedisServer(url=shared_server(), prefix=prefix)

    def expire_few(self, patch: pytest.MonkeyPatch, number: int) -> None:
        """Set how many that is."""
        patch.setattr(redis, "_ORDERED_AT_ONCE", number)

    async def open(self) -> Store:
        """Connect."""
        return await RedisStore.open(self._server)


class RedisClusterBackend(RedisBackend):
    """A prefix on a cluster of three servers."""

    def _place(self, prefix: str) -> RedisServer:
        return RedisServer(url=shared_cluster(), cluster=True, prefix=prefix)


class DynamoDBBackend:
    """A table of MiniStack."""

    durable = True
    drops = False

    def __init__(self, directory: Path) -> None:  # noqa: ARG002 - nothing lies in a file
        self._table = new_table()
        self.clock = SetClock()

    def _url(self) -> str:
        return shared_ministack()

    def expire_few(self, patch: pytest.MonkeyPatch, number: int) -> None:
        """Do nothing: it drops none."""

    async def open(self) -> Store:
        """Open it; made the first time."""
        return await EmulatedStore.on(self._url(), self._table, self.clock)


class MotoBackend(DynamoDBBackend):
    """A table of moto."""

    def _url(self) -> str:
        return shared_moto()


class EmulatedStore(DynamoDBStore):
    """One with a session of its own."""

    aws: EmulatorAws

    @classmethod
    async def on(cls, url: str, table: str, clock: SetClock) -> Self:
        """Open a table, and make it if it is not there."""
        aws = EmulatorAws(url)
        try:
            await create(aws, table=table, region=REGION, tags={})
            store = await cls.open(
                aws, table=table, region=REGION, clock=clock, chance=random.Random(1)
            )
        except BaseException:
            await aws.__aexit__(None, None, None)
            raise
        store.aws = aws
        return store

    async def close(self) -> None:
        """Close the session, too."""
        await super().close()
        await self.aws.__aexit__(None, None, None)


_shared = contextlib.ExitStack()
atexit.register(_shared.close)


@cache
def shared_moto() -> str:
    """Return the address of a moto for all tests of this process; each takes a table of its own."""
    return _shared.enter_context(moto_server())


STORES: dict[str, type[StoreBackend]] = {
    "memory": MemoryBackend,
    "sqlite": SqliteBackend,
    "redis": RedisBackend,
    "redis_cluster": RedisClusterBackend,
    "dynamodb": DynamoDBBackend,
    "dynamodb_moto": MotoBackend,
}
