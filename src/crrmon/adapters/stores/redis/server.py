"""Connecting to the Redis server that the settings name, and putting its errors into plain words.

Whatever may pass is a `LedgerError`: also a refused password, for it may be mended in its file or on the server while
the daemon waits. No text holds a password, nor the user's name.
"""

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as LostError,
)
from redis.exceptions import (
    TimeoutError as SlowError,
)
from typing_extensions import override

from crrmon.adapters.stores.redis.cluster import Cluster
from crrmon.adapters.stores.redis.nodes import (
    ANSWER_SECONDS,
    WAIT_SECONDS,
    Call,
    Node,
    Reply,
    Servers,
    Standalone,
    UnacknowledgedError,
    facts,
)
from crrmon.domain.authority import authority
from crrmon.ports.ledger import LedgerError, UnusableLedgerError

OLDEST: Final = (6, 2)
"""The first version of Redis with all that is needed."""

log = structlog.get_logger()


class RedisServer(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where the ledger is, and how to get in.
    """

    url: str
    """redis://NAME@HOST:PORT/DATABASE, or rediss:// for TLS; without a password."""
    password: str | None = None
    password_file: Path | None = None
    """Holds the password; read again for every new connection."""
    ca_file: Path | None = None
    """Certificates to trust; else those of the system."""
    cluster: bool = False
    prefix: str = "crrmon"
    """Starts the name of every key."""

    @property
    def seed(self) -> tuple[str, int]:
        """
        Host and port.
        """
        parts = urlsplit(self.url)
        return parts.hostname or "localhost", parts.port or 6379

    @property
    def database(self) -> int:
        """
        Which of the server's databases.
        """
        return int(urlsplit(self.url).path.strip("/") or 0)

    @override
    def __repr__(self) -> str:
        """
        Leave the password out.
        """
        return f"RedisServer({self.place})"

    @property
    def place(self) -> str:
        """
        Name the server, without a user.
        """
        return f"{urlsplit(self.url).scheme}://{authority(*self.seed)}"

    def connections(self, address: tuple[str, int]) -> ConnectionPool:
        """
        Make the pool of connections to one of its servers.
        """
        parts = urlsplit(self.url)
        more: dict[str, Any] = {}
        if parts.scheme == "rediss":
            more["connection_class"] = SSLConnection
            if self.ca_file is not None:
                more["ssl_ca_certs"] = str(self.ca_file)
        else:
            more["connection_class"] = Connection
        if parts.username or self.password is not None or self.password_file is not None:
            more["credential_provider"] = _Credentials(self)
        return ConnectionPool(
            host=address[0],
            port=address[1],
            db=self.database,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            **more,
        )

    def servers(self) -> Servers:
        """
        Make what asks it; nothing is connected yet.
        """
        if self.cluster:
            return Cluster(self.seed, self.connections)
        return Standalone(Node(self.connections(self.seed)))


class _NoPasswordError(AuthenticationError):
    """
    The file with the password cannot be read.
    """


class _Credentials(CredentialProvider):
    def __init__(self, server: RedisServer) -> None:
        self._server = server

    @override
    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        server = self._server
        password = server.password or ""
        if server.password_file is not None:
            try:
                password = server.password_file.read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise _NoPasswordError(
                    f"ledger.redis.password_file: {server.password_file} cannot be read: {reason}"
                ) from error
        user = urlsplit(server.url).username
        return (unquote(user), password) if user else (password,)


_NOT_ALLOWED: Final = (
    "does not let this user do what is needed ({text}): grant what docs/operations.md lists, on the keys ~{{PREFIX*"
    " where PREFIX is ledger.redis.prefix"
)
_NOT_ADMITTED: Final = (
    "refuses this user or password: correct ledger.redis.password, or ledger.redis.password_file, and the name in"
    " ledger.redis.url"
)
_BY_KIND: Final[tuple[tuple[type[Exception], str], ...]] = (
    (
        UnacknowledgedError,
        f"answered, but no replica has what was written last, {WAIT_SECONDS:g} s later: see to its replicas",
    ),
    (_NoPasswordError, "was not asked: {text}"),
    (AuthenticationError, _NOT_ADMITTED),
    (SlowError, f"did not answer within {ANSWER_SECONDS:g} s"),
    (NoPermissionError, _NOT_ALLOWED),
    (
        InvalidResponse,
        "is no Redis server, or speaks TLS: correct host and port in ledger.redis.url, or begin it with rediss://",
    ),
)
_BY_CODE: Final = (
    ("NOPERM|can't (run|access)", _NOT_ALLOWED),
    ("LOADING", "is still reading its data: it will answer when it is done"),
    ("BUSY", "is busy with a script that does not end: SCRIPT KILL ends it"),
    ("OOM", "is out of memory: raise its maxmemory, or shorten ledger.horizon_days"),
    ("READONLY", "is a replica and takes no writes: ledger.redis.url must lead to the primary"),
    ("MISCONF", "cannot save its data and takes no writes: see its log and its disk"),
    ("NOREPLICAS", "has too few replicas to take writes, see its min-replicas-to-write"),
    ("MASTERDOWN", "is a replica without a primary: ledger.redis.url must lead to the primary"),
    ("CLUSTERDOWN", "is a cluster that does not work: CLUSTER INFO tells more"),
    ("TRYAGAIN", "is moving these keys to another node: that will be over"),
    (
        "DB index is out of range|invalid DB index|not an integer or out of range",
        "does not have this database: correct the number at the end of ledger.redis.url",
    ),
    (
        "SELECT is not allowed",
        "is of a cluster and has only database 0: set ledger.redis.cluster, and no number in ledger.redis.url",
    ),
    ("MOVED|CROSSSLOT", "does not have these keys: it is a cluster, see ledger.redis.cluster"),
    (
        "WRONGTYPE",
        "holds something else under ledger.redis.prefix {prefix!r}: choose another ledger.redis.prefix",
    ),
)
"""What is found in the text: inside of scripts, old servers put the code in the middle."""


def translated(server: RedisServer, error: Exception) -> LedgerError:
    """
    Put an error of the server into plain words.
    """
    words = _trouble(server, error)
    if isinstance(error, LostError) or "connecting" in str(error):
        words += _tls_hint(server, str(error))
    return LedgerError(f"ledger.redis.url: {server.place} {words}")


def _tls_hint(server: RedisServer, text: str) -> str:
    """
    Tell what else it may be: one side that speaks TLS and one that does not hear each other's silence.
    """
    if server.place.startswith("rediss:"):
        # A server that does not know TLS waits for the rest of what it takes for a command.
        if "WRONG_VERSION" in text or "connecting to server" in text:
            return " (if it does not speak TLS, ledger.redis.url must begin with redis://)"
    elif "closed by server" in text:
        return " (if it speaks TLS, ledger.redis.url must begin with rediss://)"
    return ""


def _trouble(server: RedisServer, error: Exception) -> str:
    text = " ".join(str(error).split())
    for kind, words in _BY_KIND:
        if isinstance(error, kind):
            return words.format(text=text)
    coded = f"{getattr(error, 'status_code', None) or ''} {text}"
    for codes, words in _BY_CODE:
        if re.search(rf"\b({codes})\b", coded):
            return words.format(text=text, prefix=server.prefix)
    if "certificate" in text.lower():
        return f"cannot be trusted, see ledger.redis.ca_file: {text}"
    if isinstance(error, (LostError, OSError)):
        return f"cannot be reached: {text}"
    return f"answered: {text}"


class Redis:
    """
    A connected server or cluster, whose errors are those of the ledger.
    """

    def __init__(self, server: RedisServer, servers: Servers) -> None:
        self._server = server
        self._servers = servers

    @classmethod
    async def open(cls, server: RedisServer) -> "Redis":
        """
        Connect, and find out whether the server will do.

        Raises:
            UnusableLedgerError: it is too old, or a cluster where none is expected or the reverse.
            LedgerError: it cannot be asked now.
        """
        if server.cluster and server.database:
            raise UnusableLedgerError(
                f"ledger.redis.url names database {server.database}, but ledger.redis.cluster is true, and a cluster"
                " has no database but 0: take the number from the end of ledger.redis.url"
            )
        if server.ca_file is not None:
            try:
                ssl.create_default_context(cafile=server.ca_file)
            except OSError as error:
                reason = error.strerror or str(error)
                raise LedgerError(
                    f"ledger.redis.ca_file: {server.ca_file} cannot be read: {reason}"
                ) from error
        node = Node(server.connections(server.seed))
        try:
            await _check(server, node)
        finally:
            await node.close()
        return cls(server, server.servers())

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """
        Carry out commands; see `Servers`.
        """
        try:
            return await self._servers.ask(calls, durable=durable)
        except (RedisError, OSError) as error:
            raise translated(self._server, error) from error

    async def close(self) -> None:
        """
        Close all connections.
        """
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
            f"ledger.redis.url: {server.place} is Redis {version}; at least 6.2 is needed, or Valkey"
        )


def _check_kind(server: RedisServer, found: dict[str, str]) -> None:
    kind = found.get("cluster_enabled")
    if kind == "1" and not server.cluster:
        raise UnusableLedgerError(
            f"ledger.redis.cluster is false, but {server.place} is a node of a cluster: set it to true"
        )
    if kind == "0" and server.cluster:
        raise UnusableLedgerError(
            f"ledger.redis.cluster is true, but {server.place} is no node of a cluster: set it to false"
        )


def _warn(server: RedisServer, found: dict[str, str]) -> None:
    if found.get("aof_enabled") == "0":
        log.warning(
            "redis_not_durable",
            server=server.place,
            advice="what was written last is lost when it restarts: set appendonly yes on the server",
        )
    policy = found.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        log.warning(
            "redis_evicts",
            server=server.place,
            policy=policy,
            advice="it drops what is pending when memory runs short: set maxmemory-policy noeviction on the server",
        )
