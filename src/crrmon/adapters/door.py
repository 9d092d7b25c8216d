"""Ports of the daemon's own, and whoever comes to them.

Whoever reaches a port may be a stranger: a scanner, a client that dawdles, a load balancer gone wrong. A connection is
there to ask something soon and to read the answer soon, and there are only so many; the one that was longest idle
makes room for a new one, so that whoever asks at once is answered at once.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from socket import create_server
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from typing_extensions import override

from crrmon.domain.authority import authority

Oddity = Callable[[str, str], None]
"""Told what a stranger did, and from which address."""

MAX_HEADER_BYTES = 65_536
"""Of one header: load balancers add tokens of who logged in."""

EVERYWHERE = "::"
"""The host that stands for all addresses of this machine, whatever their family."""

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)
"""What a kernel says that has none, or has it switched off."""


class PortTakenError(Exception):
    """The address cannot be listened on; the text names the settings."""


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection may take."""

    request_seconds: float
    """From a connection, or a request's first byte, to its last."""
    answer_seconds: float
    """How long somebody may take to read an answer."""
    idle_seconds: float
    """Between two requests of one connection."""
    connections: int
    """Most at once."""


class Door:
    """Knows who is connected, and shows those out that take too long or are too many.

    Args:
        limits: of each connection, and of all together.
        oddity: told of requests that are none, and of connections that were closed for what they did.
    """

    def __init__(self, limits: RequestLimits, oddity: Oddity) -> None:
        self.limits = limits
        self.oddity = oddity
        self._connections: dict[Connection, None] = {}
        """The one longest idle first."""

    def moved(self, connection: "Connection") -> None:
        """Note that a connection came, or that something came or went on it."""
        self._connections.pop(connection, None)
        self._connections[connection] = None
        if len(self._connections) > self.limits.connections:
            # Whoever waits for an answer of ours is not idle.
            idle = next((one for one in self._connections if not one.attended), connection)
            idle.cut(f"more than {self.limits.connections} connections")

    def left(self, connection: "Connection") -> None:
        """Note that a connection is gone."""
        self._connections.pop(connection, None)

    async def listen(
        self,
        runner: web.AppRunner,
        *,
        host: str,
        port: int,
        setting: str,
        tls: ssl.SSLContext | None = None,
    ) -> asyncio.Server:
        """Let connections in to an application.

        Args:
            runner: of the application; set up here, and cleaned up again where nothing comes of it.
            host: address to listen on; `EVERYWHERE` for all of IPv6 and IPv4, or of what there is of them.
            port: port to listen on; 0 takes a free one.
            setting: section of the settings that names both.
            tls: for connections that are encrypted.

        Raises:
            PortTakenError: the address is in use or not ours.
        """
        await runner.setup()
        server = runner.server
        assert server is not None  # noqa: S101 - for the type checker: it is set up
        loop, patience = asyncio.get_running_loop(), self.limits.request_seconds if tls else None

        def connection() -> Connection:
            return Connection(self, server)

        try:
            if host == EVERYWHERE:
                return await loop.create_server(
                    connection, sock=_everywhere(port), ssl=tls, ssl_handshake_timeout=patience
                )
            return await loop.create_server(
                connection, host, port, ssl=tls, ssl_handshake_timeout=patience
            )
        except OSError as error:
            await runner.cleanup()
            # asyncio's own sentence names the address again. A name without an address has a number of another kind.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror
            raise PortTakenError(
                f"cannot listen on {authority(host, port)} ({reason}); "
                f"set {setting}.host and {setting}.port"
            ) from error


def _everywhere(port: int) -> socket.socket:
    """Create a socket for all addresses of both families; of IPv4 where there is no IPv6.

    Raises:
        OSError: the port is not to be had in one of them.
    """
    try:
        # NB: "has_dualstack_ipv6" asks whether such a socket can be made, which does not tell whether it can be bound.
        return create_server((EVERYWHERE, port), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return create_server(("0.0.0.0", port))  # noqa: S104 - as the settings ask


class Connection(web.RequestHandler):
    """A connection with deadlines: for a request to be complete, and for its answer to be read."""

    __slots__ = ("_answered", "_deadline", "_door", "_timer", "attended")

    def __init__(self, door: Door, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=door.limits.idle_seconds,
            access_log=None,  # type: ignore[arg-type]
            # A few bytes of a stranger must not become gigabytes.
            auto_decompress=False,
            max_field_size=MAX_HEADER_BYTES,
        )
        self._door = door
        self.attended = False
        """Whether a request came whole, and the one on the other side waits for its answer."""
        self._deadline: float | None = None
        self._answered = False
        """Whether the deadline is for the rest of an answer to be read."""
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.moved(self)
        self._within(self._door.limits.request_seconds)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.left(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if data:
            self._door.moved(self)
            if self._deadline is None:
                self._within(self._door.limits.request_seconds)
        super().data_received(data)

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self.attended = False
        self._within(self._door.limits.answer_seconds)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._answered = True
            if self._read():
                self._deadline = None

    @override
    def log_exception(self, *args: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        if isinstance(error, HttpProcessingError):
            # Where it was raised tells nothing, and what it says holds what was sent.
            self._door.oddity(type(error).__name__, self.whom())
        else:
            super().log_exception(*args, **kw)

    def attend(self, seconds: float) -> None:
        """Note that a request came whole and is being dealt with, for so long at the most."""
        self.attended = True
        self._within(seconds)

    def cut(self, why: str) -> None:
        """End the connection, whatever is still to be read or written."""
        self._door.left(self)
        self._door.oddity(why, self.whom())
        if self.transport is not None:
            # NB: closed, it would wait until all was read that is written.
            self.transport.abort()

    def whom(self) -> str:
        told = self.peername
        # NB: to a socket of both families, an IPv4 address is a piece of IPv6.
        return str(told[0]).removeprefix("::ffff:") if isinstance(told, tuple) else ""

    def _read(self) -> bool:
        """Return whether all that was written has left this machine's hands."""
        return self.transport is None or not self.transport.get_write_buffer_size()

    def _within(self, seconds: float) -> None:
        self._deadline, self._answered = self._loop.time() + seconds, False
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self._deadline is None or (self._answered and self._read()):
            self._deadline = None
        elif self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        else:
            self.cut("no request in time, or its response was not read in time")
