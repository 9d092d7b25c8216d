"""Where the ledgers that are measured lie: in memory, in a file, in a Redis server, in an emulated DynamoDB table.

Servers are started for the benchmark, on another core than the one that is measured where there are two.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

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
REDIS_START_SECONDS = 20.0
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
async def _memory(_: str) -> AsyncIterator[Place]:
    yield Place(ledger=await in_store(MemoryStore()))


@asynccontextmanager
async def _sqlite(where: str) -> AsyncIterator[Place]:
    ledger = await in_store(await SqliteStore.open(Path(where or "bench.db")))
    yield Place(ledger=ledger)
    await ledger.close()


@contextmanager
def redis_server() -> Iterator[str]:
    """
    Run a Redis server with append-only file, synced every second as is its default.

    Yields:
        Its URL.
    """
    port = free_port()
    with TemporaryDirectory(prefix="crrmon-bench-redis-") as folder:
        command = [find(), "--port", str(port), "--bind", LOOPBACK, "--dir", folder]
        command += ["--appendonly", "yes", "--save", "", "--logfile", "redis.log"]
        server = subprocess.Popen(command)  # noqa: S603 - our own command
        # Where this process has one core only, it is the one that is measured.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(server.pid, {0} if len(cores) == 1 else set(cores[:1]))
        try:
            _wait_for(port)
            yield f"redis://{LOOPBACK}:{port}/0"
        finally:
            server.terminate()
            server.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + REDIS_START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
            return
        time.sleep(0.05)  # noqa: TID251 - no daemon, and nothing else to do meanwhile
    raise RuntimeError("the Redis server did not start")


@asynccontextmanager
async def _redis(where: str) -> AsyncIterator[Place]:
    with contextlib.ExitStack() as stack:
        url = where or stack.enter_context(redis_server())
        ledger = await in_store(await RedisStore.open(RedisServer(url=url)))
        yield Place(ledger=ledger)
        await ledger.close()


@asynccontextmanager
async def _dynamodb(_: str) -> AsyncIterator[Place]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    units = Units()
    with TemporaryDirectory(prefix="crrmon-bench-dynamodb-") as folder:
        async with (
            emulator(Path(folder)) as url,
            # The emulator has no TLS, for which the fast client has to be told.
            AwsSession(
                endpoint_url=url, default_region=REGION, max_connections=64, choice="fast"
            ) as aws,
        ):
            await creation.create(aws, table=TABLE, region=REGION, tags={})
            ledger = await in_store(
                await DynamoDBStore.open(
                    aws, table=TABLE, region=REGION, clock=_CLOCK, consumed=units.add
                )
            )
            yield Place(ledger=ledger, units=units)
            await ledger.close()


PLACES: dict[str, Callable[[str], AbstractAsyncContextManager[Place]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "dynamodb": _dynamodb,
}
"""How to open one: by its file (SQLite), or by the URL of a server (Redis; a new one where that is empty)."""
