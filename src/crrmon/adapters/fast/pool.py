"""A pool of HTTP/1.1 connections, with one request at a time on each.

A response can belong to no other request than the one that waits for it: whatever is odd about a connection closes it.
S3 closes idle connections, sometimes just as they are used again. Where a reused connection breaks before a byte of
the response, the request is sent again at once, a single time, on a new one: if it is idempotent or was not sent yet.
"""

import asyncio
import collections
import random
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

import aiohappyeyeballs
import msgspec
from aiohappyeyeballs import AddrInfoType
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from typing_extensions import override

from crrmon.adapters.fast.reading import Answer, MalformedAnswerError, NotHttpError, Reader
from crrmon.domain.recent import Recent

ADDRESSES_SECONDS = 5.0
"""How long the addresses of a name are believed: S3 names others every few seconds, and wants all of them used."""

STAGGER_SECONDS = 0.25
"""After which another address is tried beside one that has not answered yet, of the other family first (RFC 8305)."""

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

    def __init__(self, *, sent: bool) -> None:
        super().__init__()
        self.sent = sent
        """Whether the request may have arrived."""


class _Waiter(msgspec.Struct, frozen=True, eq=False):
    """A request that waits for a connection, as there is no room for another one."""

    origin: Origin
    new: bool
    """Whether one that was used before will not do."""
    granted: "asyncio.Future[Connection | None]"
    """A connection that became free; None for leave to open one."""


class ConnectionPool:
    """The connection pool.

    Args:
        limits: of each request, and of all connections.
        tls: returns the context for certificates; not called before it is needed.
        rng: spreads connections over addresses and time.
    """

    def __init__(
        self, limits: Limits, *, tls: Callable[[], Awaitable[ssl.SSLContext]], rng: random.Random
    ) -> None:
        self.limits = limits
        self.rng = rng
        self._tls = tls
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._opening = 0
        """Connections that are being opened, or may be opened by a waiter."""
        self._waiting: collections.deque[_Waiter] = collections.deque()
        self._closed = False
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
        connection = self._reusable(origin) or await self._open(origin)
        try:
            return await connection.ask(request, bodiless=bodiless)
        except _StaleError as error:
            if error.sent and not idempotent:
                raise ConnectionClosedError(endpoint_url=origin.shown) from error
            connection = await self._open(origin, new=True)
        return await connection.ask(request, bodiless=bodiless)

    async def close(self) -> None:
        """End all connections, for good; whoever waits for an answer gets none."""
        self._closed = True
        while (waiter := self._next()) is not None:
            waiter.granted.set_exception(ConnectionClosedError(endpoint_url=waiter.origin.shown))
        for connection in list(self._all):
            connection.cut(ConnectionClosedError(endpoint_url=connection.origin.shown))
        await asyncio.sleep(0)  # for their transports to close

    # ---- called by connections ----

    def opened(self, connection: "Connection") -> None:
        """Count a connection from now on."""
        self._all.add(connection)
        if self._closed:
            connection.cut(None)

    def freed(self, connection: "Connection") -> None:
        """Take a connection back that may be used again."""
        if not connection.fit():  # also where it ended while it was handed over
            connection.cut(None)
            return
        waiter = self._next()
        if waiter is None:
            self._idle.setdefault(connection.origin, []).append(connection)
        elif waiter.new or waiter.origin != connection.origin:
            self._waiting.appendleft(waiter)
            connection.cut(None)  # which makes room
        else:
            waiter.granted.set_result(connection)

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
        """Return a connection that was used before, if there is one that may be used again."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.fit():
                return connection
            connection.cut(None)
        return None

    def _room(self) -> bool:
        return len(self._all) + self._opening < self.limits.most_connections

    def _next(self) -> _Waiter | None:
        """Take whoever has waited longest, and still does."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.granted.done():
                return waiter
        return None

    def _admit(self) -> None:
        while self._room() and (waiter := self._next()) is not None:
            self._opening += 1
            waiter.granted.set_result(None)

    async def _open(self, origin: Origin, *, new: bool = False) -> "Connection":
        """Return a connection: a new one, or one that became free while there was no room for another."""
        if self._closed:
            raise ConnectionClosedError(endpoint_url=origin.shown)
        if self._room() or self._spare():
            self._opening += 1
        elif (left := await self._left_by_others(origin, new=new)) is not None:
            return left
        try:
            return await self._connected(origin)
        finally:
            self._opening -= 1
            self._admit()

    def _spare(self) -> bool:
        """Close the connection that was longest idle; return whether there was one."""
        oldest = [idle[0] for idle in self._idle.values() if idle]
        if not oldest:
            return False
        min(oldest, key=lambda connection: connection.idle_until).cut(None)
        return True

    async def _left_by_others(self, origin: Origin, *, new: bool) -> "Connection | None":
        """Wait for a connection to become free; None is leave to open one, which counts as opening already."""
        waiter = _Waiter(origin, new, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            granted = waiter.granted
            # NB: granted and cancelled at the same moment: somebody else may be waiting for just this.
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                left = granted.result()
                if left is not None:
                    self.freed(left)
                else:
                    self._opening -= 1
                    self._admit()
            raise

    async def _connected(self, origin: Origin) -> "Connection":
        loop, url = asyncio.get_running_loop(), origin.shown
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                context = await self._tls() if origin.tls else None
                sock = await aiohappyeyeballs.start_connection(
                    await self._names.addresses(origin), happy_eyeballs_delay=STAGGER_SECONDS
                )
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin),
                    sock=sock,
                    ssl=context,
                    server_hostname=origin.host if origin.tls else None,
                )
                return connection
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=url, error=error) from error
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=url, error=error) from error
        # The latter of names that no name server could have.
        except (OSError, UnicodeError) as error:
            self._names.forget(origin)
            raise EndpointConnectionError(endpoint_url=url, error=error) from error


class Connection(asyncio.Protocol):
    """One connection; used by one request at a time."""

    def __init__(self, pool: ConnectionPool, origin: Origin) -> None:
        self.origin = origin
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(most_bytes=pool.limits.most_bytes)
        self._waiter: asyncio.Future[Answer] | None = None
        self._requests = 0
        limits = pool.limits
        self._step = min(limits.silent_seconds, limits.whole_seconds, limits.idle_seconds)
        self._retire_at = self._silent_at = self._whole_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._incoming = select.poll()

    def fit(self) -> bool:
        """Return whether it may be used once more."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._requests < MAX_REQUESTS
            and self._loop.time() < min(self._retire_at, self._silent_at)
        )

    @property
    def idle_until(self) -> float:
        """When it is closed, by the loop's clock, if nobody uses it."""
        return self._silent_at

    async def ask(self, request: bytes, *, bodiless: bool) -> Answer:
        """Send a request and wait for its answer; as `ConnectionPool.ask`."""
        self._requests += 1
        self._reader.expect(bodiless=bodiless)
        if self._transport is None or self._spoken_to():
            self.cut(None)
            raise self._broken(None)
        now, limits = self._loop.time(), self._pool.limits
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

    def _spoken_to(self) -> bool:
        """
        Return whether something has come that the loop has not read yet: an answer before its request, or the end. Of
        TLS, the other side's last words about keys may come after all is set up.
        """
        asked_before = self._requests > 1
        return (asked_before or not self.origin.tls) and bool(self._incoming.poll(0))

    def cut(self, why: Exception | None) -> None:
        """End the connection, with an error for whoever waits."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done() and why is not None:
            waiter.set_exception(why)
        if self._transport is not None:
            self._transport.abort()
        self._left()

    # ---- called by the loop ----

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's has the methods, but not the base class.
        self._transport = cast("asyncio.Transport", transport)
        self._incoming.register(transport.get_extra_info("socket"), select.POLLIN)
        now = self._loop.time()
        self._retire_at = now + self._pool.rng.uniform(YOUNGEST_SECONDS, OLDEST_SECONDS)
        self._silent_at = self._whole_at = now + self._pool.limits.idle_seconds
        self._look_at_the_clock()
        self._pool.opened(self)

    @override
    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # nobody asked
            self.cut(None)
            return
        try:
            answer = self._reader.feed(data)
        except (NotHttpError, MalformedAnswerError) as error:
            self.cut(error)
            return
        if answer is not None:
            self._answered(answer)
        else:
            self._silent_at = self._loop.time() + self._pool.limits.silent_seconds

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
            # Somebody waits from the moment at which the request is written.
            return _StaleError(sent=self._waiter is not None)
        error = ConnectionClosedError(endpoint_url=self.origin.shown)
        error.__cause__ = cause
        return error

    def _answered(self, answer: Answer) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)
        transport = self._transport
        # NB: who answers before all was sent reads on at its own pleasure.
        if self._reader.closing or transport is None or transport.get_write_buffer_size():
            self.cut(None)
            return
        self._silent_at = self._whole_at = self._loop.time() + self._pool.limits.idle_seconds
        self._pool.freed(self)

    def _look_at_the_clock(self) -> None:
        """End what takes too long. One timer serves all requests: most are over long before it fires."""
        self._timer = None
        if self._transport is None:
            return
        now, due = self._loop.time(), min(self._silent_at, self._whole_at)
        if now < due:
            # Never later than what begins in the meantime may be due.
            when = min(due, now + self._step)
            self._timer = self._loop.call_at(when, self._look_at_the_clock)
        elif self._waiter is None:
            self.cut(None)
        else:
            self.cut(ReadTimeoutError(endpoint_url=self.origin.shown))

    def _left(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pool.gone(self)


class _Found(msgspec.Struct, frozen=True):
    """The addresses of a host."""

    at: float
    """When they were found, by the loop's clock."""
    addresses: list[AddrInfoType]
    """As the resolver gives them, in the order that the system prefers."""


class _Names:
    """Looks up the addresses of hosts, and keeps them for a moment.

    Args:
        rng: says with which address to begin.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._known: Recent[Origin, asyncio.Task[_Found]] = Recent()

    async def addresses(self, origin: Origin) -> list[AddrInfoType]:
        """Return the addresses to try: in random order, those of the family that the system prefers before the others.

        All who ask for a host while it is looked up share the answer.

        Raises:
            OSError, UnicodeError: there are none.
        """
        lookup = self._known.get(origin)
        if lookup is None or _stale(lookup):
            lookup = asyncio.create_task(_looked_up(origin), name=f"look up {origin.host}")
            # Or the loop complains of an error for which nobody waited to the end.
            lookup.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._known.put(origin, lookup)
        found = (await asyncio.shield(lookup)).addresses
        preferred = found[0][0]
        return sorted(
            self._rng.sample(found, len(found)), key=lambda address: address[0] != preferred
        )

    def forget(self, origin: Origin) -> None:
        """Look up a host anew the next time: none of its addresses was any good."""
        self._known.pop(origin)


async def _looked_up(origin: Origin) -> _Found:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return _Found(loop.time(), list(addresses))


def _stale(lookup: "asyncio.Task[_Found]") -> bool:
    """Return whether a host is to be looked up again."""
    if not lookup.done():
        return False
    if lookup.cancelled() or lookup.exception() is not None:
        return True
    return asyncio.get_running_loop().time() - lookup.result().at > ADDRESSES_SECONDS
