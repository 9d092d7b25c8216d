"""Where the ledgers that are measured lie: in memory, in a file, in a Redis server, in an emulated DynamoDB table.

Servers are started for the benchmark, on another core than the one that is measured where there are two.
"""

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NotThereError

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.stores.dynamodb import creation
from crrmon.adapters.stores.dynamodb.store import DynamoDBStore
from crrmon.adapters.stores.memory import MemoryStore
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.store import RedisStore
from crrmon.adapters.stores.sqlite.store import SqliteStore
from crrmon.ledger.stored_ledger import StoredLedger
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger
from crrmon.ports.store import Store
from crrmon.sandbox.children import LOOPBACK, free_port
from crrmon.sandbox.emulator import emulator
from crrmon.sandbox.redis import find
from messages import REGION

RETENTION_SECONDS = 4 * 86_400.0
TABLE = "bench"
READS = {"BatchGetItem", "Query"}
_CLOCK = SystemClock()


class Units(msgspec.Struct):
    """Capacity units that DynamoDB says were consumed, by call."""

    calls: Counter[str] = msgspec.field(default_factory=Counter)
    write: float = 0.0
    read: float = 0.0

    def add(self, told: Mapping[str, Any]) -> None:
        """Add the consumed capacity of a call."""
        operation = told["Operation"]
        self.calls[operation] += 1
        units = float(told.get("CapacityUnits", 0.0))
        if operation in READS:
            self.read += units
        else:
            self.write += units


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An open ledger."""

    ledger: Ledger
    units: Units | None = None
    """Of DynamoDB; they go on being added to."""


async def in_store(store: Store) -> Ledger:
    """Open the ledger in a store, as the daemon does."""
    return await StoredLedger.open(store, retention_seconds=RETENTION_SECONDS, clock=_CLOCK)


@asynccontextmanager
async def _memory(_: Path) -> AsyncIterator[Place]:
    yield Place(ledger=await in_store(MemoryStore()))


@asynccontextmanager
async def _sqlite(file: Path) -> AsyncIterator[Place]:
    ledger = await in_store(await SqliteStore.open(file))
    yield Place(ledger=ledger)
    await ledger.close()


@asynccontextmanager
async def redis_server() -> AsyncIterator[tuple[str, "Redis[bytes]"]]:
    """
    Run a Redis server with append-only file, synced every second as is its default.

    Yields:
        Its URL, and a connection of the benchmark's own.
    """
    port = free_port()
    with TemporaryDirectory(prefix="crrmon-bench-redis-") as folder:
        command = [find(), "--port", str(port), "--bind", LOOPBACK, "--dir", folder]
        command += ["--appendonly", "yes", "--save", "", "--logfile", "redis.log"]
        server = subprocess.Popen(command)  # noqa: ASYNC220, S603 - at the start; our own command
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(server.pid, {0} if len(cores) == 1 else set(cores[:1]))
        url = f"redis://{LOOPBACK}:{port}/0"
        own: Redis[bytes] = Redis.from_url(url)
        try:
            await _answering(own)
            yield url, own
        finally:
            await own.aclose()
            server.terminate()
            server.wait()


async def _answering(server: "Redis[bytes]") -> None:
    for _ in range(200):
        try:
            await server.ping()
        except NotThereError:
            await asyncio.sleep(0.05)
        else:
            return
    raise RuntimeError("the Redis server did not start")


@asynccontextmanager
async def _redis(_: Path) -> AsyncIterator[Place]:
    async with redis_server() as (url, _own):
        ledger = await in_store(await RedisStore.open(RedisServer(url=url)))
        yield Place(ledger=ledger)
        await ledger.close()


@asynccontextmanager
async def _dynamodb(_: Path) -> AsyncIterator[Place]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    units = Units()
    with TemporaryDirectory(prefix="crrmon-bench-dynamodb-") as folder:
        async with (
            emulator(Path(folder)) as url,
            AwsSession(endpoint_url=url, default_region=REGION, max_connections=64) as aws,
        ):
            await creation.create(aws, table=TABLE, region=REGION, tags={})
            ledger = await in_store(
                await DynamoDBStore.open(
                    aws, table=TABLE, region=REGION, clock=_CLOCK, consumed=units.add
                )
            )
            yield Place(ledger=ledger, units=units)
            await ledger.close()


PLACES: dict[str, Callable[[Path], AbstractAsyncContextManager[Place]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "dynamodb": _dynamodb,
}
