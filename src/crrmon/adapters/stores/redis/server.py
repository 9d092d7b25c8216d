"""The Redis server that the settings name, and how to get in. No text holds a password, nor the user's name."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError
from typing_extensions import override

from crrmon.adapters.stores.redis.calls import Servers
from crrmon.adapters.stores.redis.cluster import Cluster
from crrmon.adapters.stores.redis.nodes import ANSWER_SECONDS, Node, Standalone
from crrmon.domain.authority import authority


class RedisServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where the ledger is, and how to get in."""

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
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "localhost", parts.port or 6379

    @property
    def database(self) -> int:
        """Which of the server's databases."""
        return int(urlsplit(self.url).path.strip("/") or 0)

    @override
    def __repr__(self) -> str:
        """Leave the password out."""
        return f"RedisServer({self.place})"

    @property
    def place(self) -> str:
        """Name the server, without a user."""
        return f"{urlsplit(self.url).scheme}://{authority(*self.seed)}"

    def connections(self, address: tuple[str, int]) -> ConnectionPool:
        """Create the pool of connections to one of its servers."""
        parts = urlsplit(self.url)
        more: dict[str, Any] = {}
        if parts.scheme == "rediss":
            more["connection_class"] = SSLConnection
            if self.ca_file is not None:
                more["ssl_ca_certs"] = str(self.ca_file)
        else:
            more["connection_class"] = Connection
        if parts.username or self.password is not None or self.password_file is not None:
            more["credential_provider"] = _ServerCredentials(self)
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
        """Create what asks it; nothing is connected yet."""
        if self.cluster:
            return Cluster(self.seed, self.connections)
        return Standalone(Node(self.connections(self.seed)))


class NoPasswordError(AuthenticationError):
    """The file with the password cannot be read."""


class _ServerCredentials(CredentialProvider):
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
                raise NoPasswordError(
                    f"ledger.redis.password_file: {server.password_file} cannot be read: {reason}"
                ) from error
        user = urlsplit(server.url).username
        return (unquote(user), password) if user else (password,)
