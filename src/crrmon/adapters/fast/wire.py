"""Connections over which requests go and answers come, HTTP/1.1, one at a time on each.

An answer can belong to no other request than the one that waits for it: whatever is odd about a connection ends it.
S3 closes connections when it likes, at best between two answers; so one that was used before and breaks without a
byte of an answer is replaced at once, a single time, for what may be asked twice.
"""

import asyncio
import collections
import random
import socket
import ssl
from collections.abc import Callable
from typing import cast

import msgspec
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from typing_extensions import override

from crrmon.adapters.fast.reading import Answer, MalformedAnswerError, NotHttpError, Reader

ADDRESSES_SECONDS = 5.0
"""How long the addresses of a name are believed: S3 names others every few seconds, and wants all of them used."""

YOUNGEST_SECONDS, OLDEST_SECONDS = 60.0, 300.0
"""After which a connection is not used again, by chance between the two, so that they are not all renewed at once."""

MAX_REQUESTS = 10_000
"""Of one connection."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may take."""

    connect_seconds: float
    """For name, connection and TLS."""
    silent_seconds: float
    """Without a byte of the answer."""
    whole_seconds: float
    """From the request's last byte to the answer's."""
    idle_seconds: float = 20.0
    """How long a connection is kept that nobody uses."""
    most_bytes: int
    """Of an answer's body."""
    most_connections: int
    """At once, to all origins together."""


class Origin(msgspec.Struct, frozen=True):
    """Where requests are sent to."""

    host: str
    port: int
    tls: bool

    @property
    def shown(self) -> str:
        """The address, for errors."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"


class _StaleError(Exception):
    """A connection that was used before ended before a byte of this answer."""


class Wire:
    """Sends requests and reads their answers.

    Args:
        limits: of each request, and of all connections.
        tls: makes the one context of the process, when it is first needed.
        rng: spreads connections over addresses and time.
    """

    def __init__(
        self, limits: Limits, *, tls: Callable[[], ssl.SSLContext], rng: random.Random
    ) -> None:
        self.limits = limits
        self.rng = rng
        self._tls = tls
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._opening = 0
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._names = _Names(rng)

    async def ask(
        self, origin: Origin, request: bytes, *, bodiless: bool = False, idempotent: bool = False
    ) -> Answer:
        """Send a request and wait for its answer.

        Args:
            origin: where to.
            request: all of its bytes.
            bodiless: whether it is a HEAD.
            idempotent: whether it may be sent once more, where it may have arrived already.

        Raises:
            EndpointConnectionError, ConnectTimeoutError, SSLError: nobody could be asked.
            ReadTimeoutError, ConnectionClosedError, NotHttpError, MalformedAnswerError: no answer came, or none that can
                be read.
        """
        connection = self._reusable(origin)
        if connection is not None:
            try:
                return await connection.ask(request, bodiless=bodiless)
            except _StaleError as error:
                if not idempotent:
                    raise ConnectionClosedError(endpoint_url=origin.shown) from error
        connection = await self._open(origin)
        try:
            return await connection.ask(request, bodiless=bodiless)
        except _StaleError as error:
            raise ConnectionClosedError(endpoint_url=origin.shown) from error

    async def close(self) -> None:
        """End all connections; whoever waits for an answer gets none."""
        for connection in list(self._all):
            connection.cut(ConnectionClosedError(endpoint_url=connection.origin.shown))
        await asyncio.sleep(0)  # for their transports to close

    # ---- told by connections ----

    def opened(self, connection: "Connection") -> None:
        """Count a connection from now on."""
        self._all.add(connection)

    def freed(self, connection: "Connection") -> None:
        """Take a connection back that may be used again."""
        self._idle.setdefault(connection.origin, []).append(connection)
        self._admit()

    def gone(self, connection: "Connection") -> None:
        """Forget a connection."""
        self._all.discard(connection)
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.origin, None)
        self._admit()

    # ---- opening ----

    def _reusable(self, origin: Origin) -> "Connection | None":
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.fit():
                return connection
            connection.cut(None)
        return None

    def _admit(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _open(self, origin: Origin) -> "Connection":
        loop = asyncio.get_running_loop()
        while len(self._all) + self._opening >= self.limits.most_connections:
            if not self._spare(origin):
                waiter = loop.create_future()
                self._waiting.append(waiter)
                await waiter
            # Meanwhile somebody may have left one for us.
            if (connection := self._reusable(origin)) is not None:
                return connection
        self._opening += 1
        try:
            connection = await self._connected(origin)
        finally:
            self._opening -= 1
        return connection

    def _spare(self, origin: Origin) -> bool:
        """End a connection that nobody uses, to another origin; return whether there was one."""
        for other, idle in self._idle.items():
            if other != origin and idle:
                idle[0].cut(None)
                return True
        return False

    async def _connected(self, origin: Origin) -> "Connection":
        loop, url = asyncio.get_running_loop(), origin.shown
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                failed: OSError = OSError("no address")
                for address in await self._names.addresses(origin):
                    try:
                        _, connection = await loop.create_connection(
                            lambda: Connection(self, origin),
                            address,
                            origin.port,
                            ssl=self._tls() if origin.tls else None,
                            server_hostname=origin.host if origin.tls else None,
                        )
                    except ssl.SSLError:
                        raise
                    except OSError as error:
                        failed = error
                    else:
                        return connection
                raise failed
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=url, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=url, error=error) from error
        except OSError as error:
            self._names.forget(origin)
            raise EndpointConnectionError(endpoint_url=url, error=error) from error


class Connection(asyncio.Protocol):
    """One connection; used by one request at a time."""

    def __init__(self, wire: Wire, origin: Origin) -> None:
        self.origin = origin
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(most_bytes=wire.limits.most_bytes)
        self._waiter: asyncio.Future[Answer] | None = None
        self._requests = 0
        now = self._loop.time()
        self._retire_at = now + wire.rng.uniform(YOUNGEST_SECONDS, OLDEST_SECONDS)
        self._silent_at = now + wire.limits.idle_seconds
        self._whole_at = self._silent_at
        self._timer: asyncio.TimerHandle | None = None

    def fit(self) -> bool:
        """Return whether it may be used once more."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._requests < MAX_REQUESTS
            and self._loop.time() < self._retire_at
        )

    async def ask(self, request: bytes, *, bodiless: bool) -> Answer:
        """Send a request and wait for its answer; as `Wire.ask`."""
        if self._transport is None:
            raise _StaleError
        self._requests += 1
        self._reader.expect(bodiless=bodiless)
        now, limits = self._loop.time(), self._wire.limits
        self._silent_at = now + limits.silent_seconds
        self._whole_at = now + limits.whole_seconds
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        self._transport.write(request)
        try:
            return await waiter
        finally:
            if self._waiter is waiter:  # given up: its answer must reach nobody else
                self._waiter = None
                self.cut(None)

    def cut(self, why: Exception | None) -> None:
        """End the connection, with an error for whoever waits."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done() and why is not None:
            waiter.set_exception(why)
        if self._transport is not None:
            self._transport.abort()
        self._left()

    # ---- told by the loop ----

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's has the methods, but not the base class.
        self._transport = cast("asyncio.Transport", transport)
        self._wire.opened(self)
        self._look_at_the_clock()

    @override
    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # nobody asked
            self.cut(None)
            return
        self._silent_at = self._loop.time() + self._wire.limits.silent_seconds
        try:
            answer = self._reader.feed(data)
        except (NotHttpError, MalformedAnswerError) as error:
            self.cut(error)
            return
        if answer is not None:
            self._answered(answer)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        waiter = self._waiter
        if waiter is not None:
            try:
                answer = self._reader.end() if exc is None else None
            except MalformedAnswerError as error:
                self.cut(self._broken(error))
                return
            if answer is not None:
                self._answered(answer)
                return
            self.cut(self._broken(exc))
            return
        self._left()

    # ---- within ----

    def _broken(self, cause: Exception | None) -> Exception:
        if self._requests > 1 and not self._reader.began:
            return _StaleError()
        error = ConnectionClosedError(endpoint_url=self.origin.shown)
        error.__cause__ = cause
        return error

    def _answered(self, answer: Answer) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)
        if self._reader.closing or self._transport is None:
            self.cut(None)
            return
        self._silent_at = self._whole_at = self._loop.time() + self._wire.limits.idle_seconds
        self._wire.freed(self)

    def _look_at_the_clock(self) -> None:
        """End what takes too long. One timer serves all requests: most are over long before it fires."""
        self._timer = None
        if self._transport is None:
            return
        now, due = self._loop.time(), min(self._silent_at, self._whole_at)
        if now < due:
            # Never later than a request that begins in the meantime may be silent.
            when = min(due, now + self._wire.limits.silent_seconds)
            self._timer = self._loop.call_at(when, self._look_at_the_clock)
        elif self._waiter is None:
            self.cut(None)
        else:
            self.cut(ReadTimeoutError(endpoint_url=self.origin.shown))

    def _left(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wire.gone(self)


class _Names:
    """Knows the addresses of names, for a moment.

    Args:
        rng: says with which address to begin.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._known: dict[Origin, tuple[float, tuple[str, ...]]] = {}

    async def addresses(self, origin: Origin) -> tuple[str, ...]:
        """Return the addresses to try, in this order: those of the family that the system prefers, by chance, before all others."""
        loop = asyncio.get_running_loop()
        known = self._known.get(origin)
        if known is None or loop.time() - known[0] > ADDRESSES_SECONDS:
            told = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            first = [one for one in told if one[0] == told[0][0]]
            others = [one for one in told if one[0] != told[0][0]]
            self._rng.shuffle(first)
            found = tuple(dict.fromkeys(str(one[4][0]) for one in [*first, *others]))
            self._known[origin] = known = (loop.time(), found)
        turned = self._rng.randrange(len(known[1])) if len(known[1]) > 1 else 0
        return known[1][turned:] + known[1][:turned]

    def forget(self, origin: Origin) -> None:
        """Ask again for the addresses of a name: none of them was any good."""
        self._known.pop(origin, None)
