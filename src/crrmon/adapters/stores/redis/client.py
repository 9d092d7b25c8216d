"""A connected Redis server or cluster, once it is known that it will do."""

import re
import ssl
from collections.abc import Sequence
from typing import Final, Self

import structlog
from redis.exceptions import RedisError

from crrmon.adapters.stores.redis.calls import Call, Reply, Servers, facts
from crrmon.adapters.stores.redis.nodes import Node
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.trouble import translated
from crrmon.ports.ledger import LedgerError, UnusableLedgerError

OLDEST: Final = (6, 2)
"""The first version of Redis with all that is needed."""

log = structlog.get_logger()


class Redis:
    """A connected server or cluster, whose errors are those of the ledger."""

    def __init__(self, server: RedisServer, servers: Servers) -> None:
        self._server = server
        self._servers = servers

    @classmethod
    async def open(cls, server: RedisServer) -> Self:
        """Connect, and find out whether the server will do.

        Raises:
            UnusableLedgerError: it is too old, or a cluster where none is expected or the reverse.
            LedgerError: it cannot be asked now.
        """
        if server.cluster and server.database:
            raise UnusableLedgerError(
                f"ledger.redis.url names database {server.database}, but ledger.redis.cluster is true, and a cluster"
                " only has database 0: remove the number at the end of ledger.redis.url"
            )
        if server.ca_file is not None:
            try:
                ssl.create_default_context(cafile=server.ca_file)
            except OSError as error:
                reason = error.strerror or str(error)
                raise LedgerError(
                    f"ledger.redis.ca_file: {server.ca_file} cannot be read: {reason}"
                ) from error
        # As a single server first: a cluster's slots are not asked for before it is known to be one.
        node = Node(server.connections(server.seed))
        try:
            await _check(server, node)
        finally:
            await node.close()
        return cls(server, server.servers())

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """Carry out commands; see `Servers`."""
        try:
            return await self._servers.ask(calls, durable=durable)
        except (RedisError, OSError) as error:
            raise translated(self._server, error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()


async def _check(server: RedisServer, node: Node) -> None:
    sections = ("server", "cluster", "persistence", "memory")
    try:
        told = await node.ask([Call(b"", ("INFO", section)) for section in sections])
        (_,) = await node.ask([Call(b"", ("PING",))])
    except (RedisError, OSError) as error:
        raise translated(server, error) from error
    found: dict[str, str] = {}
    for one in told:
        if isinstance(one, Exception):
            log.warning("redis_info_unavailable", reason=str(translated(server, one)))
        else:
            found |= facts(one)
    _check_version(server, found)
    _check_kind(server, found)
    _warn(server, found)


def _check_version(server: RedisServer, found: dict[str, str]) -> None:
    version = found.get("redis_version", "")
    numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:2])
    if numbers and numbers < OLDEST:
        raise UnusableLedgerError(
            f"ledger.redis.url: {server.place} is Redis {version}; 6.2 or later is required, or Valkey"
        )


def _check_kind(server: RedisServer, found: dict[str, str]) -> None:
    kind = found.get("cluster_enabled")
    if kind == "1" and not server.cluster:
        raise UnusableLedgerError(
            f"ledger.redis.cluster is false, but {server.place} is a node of a cluster: set it to true"
        )
    if kind == "0" and server.cluster:
        raise UnusableLedgerError(
            f"ledger.redis.cluster is true, but {server.place} is not a node of a cluster: set it to false"
        )


def _warn(server: RedisServer, found: dict[str, str]) -> None:
    if found.get("aof_enabled") == "0":
        log.warning(
            "redis_not_durable",
            server=server.place,
            advice="the latest writes are lost when it restarts: set appendonly yes on the server",
        )
    policy = found.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        log.warning(
            "redis_evicts_keys",
            server=server.place,
            policy=policy,
            advice="it drops pending objects when memory runs short: set maxmemory-policy noeviction on the server",
        )
