"""Where the ledger of a run lies: in a file, in a Redis server of the sandbox's own, or in the emulator's DynamoDB."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.stores.dynamodb import creation
from crrmon.adapters.stores.dynamodb.store import DynamoDBStore
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.store import RedisStore
from crrmon.adapters.stores.sqlite.store import SqliteStore
from crrmon.ledger.stored_ledger import StoredLedger
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger
from crrmon.ports.store import Store
from crrmon.sandbox.children import LOOPBACK, Restartable, free_port
from crrmon.sandbox.redis import redis
from crrmon.sandbox.world import World

Kind = Literal["sqlite", "redis", "dynamodb"]
TABLE = "crrmon"


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger, and how to get at it."""

    kind: Kind
    where: str
    """For people."""
    settings: dict[str, Any]
    """The section of the configuration."""
    open: Callable[[], Awaitable[Ledger]]
    """Opens it beside the daemons, or after the only one has ended."""
    server: Restartable | None = None
    """What keeps it, if that is a program of its own."""


@asynccontextmanager
async def kept(kind: Kind, folder: Path, aws: AwsSession, world: World) -> AsyncIterator[Keeping]:
    """Make a ledger; what keeps it ends with the block.

    Args:
        kind: which.
        folder: for what lies in files.
        aws: the emulator.
        world: says which region a table is made in.
    """
    match kind:
        case "sqlite":
            yield _in_a_file(folder / "crrmon.db")
        case "redis":
            port = free_port()
            server = redis(folder, port)
            try:
                await server.start()
                yield _in_redis(server, port)
            finally:
                await server.abandon()
        case "dynamodb":
            yield await _in_a_table(aws, world)


def _in_a_file(path: Path) -> Keeping:
    return Keeping(
        kind="sqlite",
        where=str(path),
        settings={"kind": "sqlite", "path": str(path)},
        open=lambda: _ledger(SqliteStore.open(path)),
    )


def _in_redis(server: Restartable, port: int) -> Keeping:
    url = f"redis://{LOOPBACK}:{port}/0"
    return Keeping(
        kind="redis",
        where=url,
        settings={"kind": "redis", "redis": {"url": url}},
        open=lambda: _ledger(RedisStore.open(RedisServer(url=url))),
        server=server,
    )


async def _in_a_table(aws: AwsSession, world: World) -> Keeping:
    region = world.queue_region
    await creation.create(aws, table=TABLE, region=region, tags={})
    return Keeping(
        kind="dynamodb",
        where=f"table {TABLE} of the emulator's DynamoDB in {region}",
        settings={"kind": "dynamodb", "dynamodb": {"table": TABLE, "region": region}},
        open=lambda: _ledger(
            DynamoDBStore.open(aws, table=TABLE, region=region, clock=SystemClock())
        ),
    )


async def _ledger(store: Awaitable[Store]) -> Ledger:
    return await StoredLedger.open(await store, clock=SystemClock())
