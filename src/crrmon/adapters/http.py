"""The daemon's own port: /metrics, /livez, /readyz.

Whoever reaches it may be a stranger: a scanner, a client that dawdles, a load balancer gone wrong. A connection is
there to ask something soon and to read the answer soon, and there are only so many; the one that was longest idle
makes room for a new one, so that whoever asks at once is answered at once.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from socket import create_server
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from typing_extensions import override

from crrmon.domain.authority import authority
from crrmon.ports.health import Health, Verdict

Render = Callable[[str], tuple[bytes, str]]
Oddity = Callable[[str, str], None]
"""Told what a stranger did, and from which address."""

REQUEST_SECONDS = 10.0
"""From a connection, or a request's first byte, to its last."""
ANSWER_SECONDS = 30.0
"""How long somebody may take to read an answer."""
IDLE_SECONDS = 75.0
"""Between two requests of one connection; scrapers come every 15 to 60 s."""
MOST_CONNECTIONS = 100

MAX_HEADER_BYTES = 65_536
"""Of one header: load balancers add tokens of who logged in."""

EVERYWHERE = "::"
"""The host that stands for all addresses of this machine, whatever their family."""

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)
"""What a kernel says that has none, or has it switched off."""

STOP_SECONDS = 0.5
"""How long, at the end, somebody who is being answered may take to read it."""


class PortTakenError(Exception):
    """
    The address cannot be listened on; the text names the settings.
    """


class HttpServer:
    """
    Serves metrics and health.

    Args:
        host: address to listen on; `EVERYWHERE` for all of IPv6 and IPv4, or of what there is of them.
        port: port to listen on; 0 takes a free one.
        metrics: renders the metrics page for an Accept header.
        health: judges the daemon.
        oddity: told of requests that are none, and of connections that were closed for what they did.
    """

    def __init__(
        self, *, host: str, port: int, metrics: Render, health: Health, oddity: Oddity
    ) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        app = web.Application()
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/livez", self._serve_live)
        app.router.add_get("/readyz", self._serve_ready)
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        self._door = _Door(oddity)
        self._listening: asyncio.Server | None = None
        self.url = ""
        """Where it listens, once it does."""

    async def start(self) -> int:
        """
        Listen.

        Returns:
            The port.

        Raises:
            PortTakenError: the address is in use or not ours.
        """
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            if self._host == EVERYWHERE:
                self._listening = await loop.create_server(
                    self._connection, sock=_everywhere(self._port)
                )
            else:
                self._listening = await loop.create_server(
                    self._connection, self._host, self._port
                )
        except OSError as error:
            await self._runner.cleanup()
            raise PortTakenError(
                f"cannot listen on {authority(self._host, self._port)} ({error.strerror}); "
                "set http.host and http.port"
            ) from error
        host, port = self._listening.sockets[0].getsockname()[:2]
        self.url = f"http://{authority(host, port)}"
        return int(port)

    async def stop(self) -> None:
        """
        Stop listening.
        """
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    def _connection(self) -> "_Connection":
        server = self._runner.server
        assert server is not None  # noqa: S101 - for the type checker: it is set up
        return _Connection(self._door, server)

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        page, content_type = self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _serve_live(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.live())

    async def _serve_ready(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.ready())


def _everywhere(port: int) -> socket.socket:
    """
    Make a socket for all addresses of both families; of IPv4 where there is no IPv6.

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


def _verdict(verdict: Verdict) -> web.Response:
    body = msgspec.json.encode({"ok": verdict.ok, "details": verdict.details})
    status = 200 if verdict.ok else 503
    return web.Response(body=body, status=status, content_type="application/json")


class _Door:
    """
    Knows who is connected, and shows those out that take too long or are too many.
    """

    def __init__(self, oddity: Oddity) -> None:
        self.oddity = oddity
        self._connections: dict[_Connection, None] = {}
        """The one longest idle first."""

    def moved(self, connection: "_Connection") -> None:
        """
        Note that a connection came, or that something came or went on it.
        """
        self._connections.pop(connection, None)
        self._connections[connection] = None
        if len(self._connections) > MOST_CONNECTIONS:
            next(iter(self._connections)).cut(f"more than {MOST_CONNECTIONS} connections")

    def left(self, connection: "_Connection") -> None:
        """
        Note that a connection is gone.
        """
        self._connections.pop(connection, None)


class _Connection(web.RequestHandler):
    """
    A connection with deadlines: for a request to be complete, and for its answer to be read.
    """

    __slots__ = ("_answered", "_deadline", "_door", "_timer")

    def __init__(self, door: _Door, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,  # type: ignore[arg-type]
            max_field_size=MAX_HEADER_BYTES,
        )
        self._door = door
        self._deadline: float | None = None
        self._answered = False
        """Whether the deadline is for the rest of an answer to be read."""
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.moved(self)
        self._within(REQUEST_SECONDS)

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
                self._within(REQUEST_SECONDS)
        super().data_received(data)

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self._within(ANSWER_SECONDS)
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
            self._door.oddity(type(error).__name__, self._whom())
        else:
            super().log_exception(*args, **kw)

    def cut(self, why: str) -> None:
        """
        End the connection, whatever is still to be read or written.
        """
        self._door.left(self)
        self._door.oddity(why, self._whom())
        if self.transport is not None:
            # NB: closed, it would wait until all was read that is written.
            self.transport.abort()

    def _whom(self) -> str:
        told = self.peername
        # NB: to a socket of both families, an IPv4 address is a piece of IPv6.
        return str(told[0]).removeprefix("::ffff:") if isinstance(told, tuple) else ""

    def _read(self) -> bool:
        """
        Tell whether all that was written has left this machine's hands.
        """
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
            self.cut("no request, or its answer not read, in time")
