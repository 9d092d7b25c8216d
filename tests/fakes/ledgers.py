"""The ledger in each store, opened as the daemon opens it."""

import random
from pathlib import Path
from typing import Any, Self

from crrmon.adapters.stores.dynamodb.calls import Consumed
from crrmon.adapters.stores.dynamodb.store import DynamoDBStore
from crrmon.adapters.stores.memory import MemoryStore
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.store import RedisStore
from crrmon.adapters.stores.sqlite.store import SqliteStore
from crrmon.ledger.stored_ledger import StoredLedger
from crrmon.ports.clock import Clock, SystemClock
from fakes.clock import LoopClock


class MemoryLedger(StoredLedger):
    """One in memory, which needs no opening."""

    def __init__(
        self,
        *,
        shards: int = 64,
        retention_seconds: float = 345_600.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            MemoryStore(),
            shards=shards,
            retention_seconds=retention_seconds,
            clock=clock or LoopClock(),
            chance=random.Random(1),
        )


class SqliteLedger(StoredLedger):
    """One in a file."""

    @classmethod
    async def at(cls, path: Path | str, *, clock: Clock | None = None, **options: Any) -> Self:
        """Open it."""
        store = await SqliteStore.open(path)
        return await cls.open(store, clock=clock or SystemClock(), **options)


class RedisLedger(StoredLedger):
    """One on a server."""

    @classmethod
    async def at(
        cls,
        server: RedisServer,
        *,
        clock: Clock | None = None,
        create: bool = True,
        **options: Any,
    ) -> Self:
        """Open it."""
        store = await RedisStore.open(server, rehearse=create)
        return await cls.open(store, clock=clock or SystemClock(), create=create, **options)


class DynamoDBLedger(StoredLedger):
    """One in a table."""

    @classmethod
    async def at(
        cls,
        aws: Any,
        *,
        table: str,
        clock: Clock,
        region: str | None = None,
        chance: random.Random | None = None,
        consumed: Consumed | None = None,
        **options: Any,
    ) -> Self:
        """Open it."""
        store = await DynamoDBStore.open(
            aws, table=table, region=region, clock=clock, chance=chance, consumed=consumed
        )
        return await cls.open(store, clock=clock, chance=chance, **options)
