"""The fast client's connections, before servers that mean ill, over real sockets, with and without TLS.

Servers tell the client nothing of time: where the order matters, each step waits for what must come before it.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.fast import pool as pools
from crrmon.adapters.fast.pool import ConnectionPool, Limits, Origin
from crrmon.adapters.fast.reading import Answer, MalformedAnswerError, NotHttpError
from crrmon.adapters.heads import HeadRequest
from crrmon.ports.clock import SystemClock
from fakes.patience import HANGS_SECONDS, until

LIMITS = Limits(
    connect_seconds=HANGS_SECONDS,
    silent_seconds=HANGS_SECONDS,
    whole_seconds=HANGS_SECONDS,
    idle_seconds=HANGS_SECONDS,
    most_bytes=1000,
    most_connections=8,
)
SOON = 0.1
"""For what is to run out."""

REQUEST = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"

Serve = Callable[["Line"], Awaitable[None]]


def ok(body: bytes = b"ok", *headers: bytes) -> bytes:
    """Make a plain answer."""
    more = b"".join(b"%s\r\n" % header for header in headers)
    return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (more, len(body), body)


class Line:
    """One connection, as the server has it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.reader, self.writer, self.number = reader, writer, number

    async def asked(self) -> int:
        """Wait for a request, and return its number."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ")[1][1:])

    def say(self, text: bytes) -> None:
        """Send something."""
        self.writer.write(text)

    def reset(self) -> None:
        """Break the connection."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def over(self) -> None:
        """Wait until the client ends the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass


class Server:
    """Listens on an address of this machine, and serves each connection in a way of its own; a context."""

    def __init__(
        self,
        *ways: Serve,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.ways = ways
        self.lines: list[Line] = []
        self.open = 0
        self.most_open = 0
        self._tls, self._host, self._port = tls, host, port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for line in self.lines:
            line.writer.transport.abort()
        await self._server.wait_closed()
        await until(lambda: not self.open, every=0.001)

    @property
    def origin(self) -> Origin:
        return Origin(self._host, self.port, self._tls is not None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer, len(self.lines))
        self.lines.append(line)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.ways[min(line.number, len(self.ways) - 1)](line)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def well(line: Line) -> None:
    """Answer each request with its number, for ever."""
    while True:
        line.say(ok(b"%d" % await line.asked()))


def saying(*pieces: bytes, stays: bool = False) -> Serve:
    """Answer one request with some bytes, and end the connection unless it is to stay."""

    async def serve(line: Line) -> None:
        await line.asked()
        for piece in pieces:
            line.say(piece)
            await line.writer.drain()
        if stays:
            await line.over()

    return serve


# ---- certificates ----


SIGNS = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
"""What Python 3.13 wants to see of an authority."""


class Authority:
    """Makes certificates of servers of this machine."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        self._directory = directory
        own = (
            self._made(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(SIGNS, critical=True)
        )
        self.bundle = directory / "ca.pem"
        self.bundle.write_bytes(
            own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def _made(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int = 1
    ) -> x509.CertificateBuilder:
        now = dt.datetime.fromtimestamp(SystemClock.now(), dt.UTC)
        begin = now - dt.timedelta(days=10)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def server(self, host: str, *, days: int = 1) -> ssl.SSLContext:
        """Make what a server of some name or address needs, good for some days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
        made = (
            self._made(subject, key, days=days)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        path = self._directory / f"{host}{days}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, authority: Authority) -> ssl.SSLContext | None:
    """Run a test twice: without and with TLS."""
    return authority.server("127.0.0.1") if request.param == "tls" else None


Make = Callable[..., ConnectionPool]


@pytest.fixture
async def make(authority: Authority) -> AsyncIterator[Make]:
    """Make pools that trust the authority, and end them."""
    made: list[ConnectionPool] = []

    async def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(authority.bundle))

    def make(**limits: Any) -> ConnectionPool:
        pool = ConnectionPool(
            replace(LIMITS, **limits),
            tls=trusting,
            rng=random.Random(1),
        )
        made.append(pool)
        return pool

    yield make
    for pool in made:
        await pool.close()
        assert not pool._all
        assert not pool._idle
        assert not pool._opening
        assert not pool._waiting


async def ask(pool: ConnectionPool, server: Server | Origin, number: int = 0) -> bytes:
    """Ask, and return the answer's body."""
    origin = server if isinstance(server, Origin) else server.origin
    return (await pool.ask(origin, REQUEST % number, idempotent=True)).body


# ---- good answers ----


async def test_one_connection_serves_many_requests(make: Make, tls: ssl.SSLContext | None) -> None:
    """One after the other."""
    async with Server(well, tls=tls) as server:
        pool = make()
        assert [await ask(pool, server, number) for number in range(20)] == [
            b"%d" % number for number in range(20)
        ]
        assert len(server.lines) == 1


async def test_each_gets_its_own_answer(make: Make, tls: ssl.SSLContext | None) -> None:
    """However many ask at once, over however few connections."""
    rng = random.Random(2)

    async def slowly(line: Line) -> None:
        while True:
            text = ok(b"%d" % await line.asked())
            cut = rng.randrange(len(text))
            line.say(text[:cut])
            await asyncio.sleep(rng.random() / 500)
            line.say(text[cut:])

    async with Server(slowly, tls=tls) as server:
        pool = make()
        told = await asyncio.gather(*(ask(pool, server, number) for number in range(200)))
        assert told == [b"%d" % number for number in range(200)]
        assert server.most_open == LIMITS.most_connections
        assert len(server.lines) == LIMITS.most_connections


async def test_an_answer_that_drips(make: Make, tls: ssl.SSLContext | None) -> None:
    """Is whole when its last byte has come."""
    async with Server(saying(*(bytes([byte]) for byte in ok(b"hello"))), tls=tls) as server:
        assert await ask(make(), server) == b"hello"


async def test_an_answer_until_the_end(make: Make, tls: ssl.SSLContext | None) -> None:
    """Ends with its connection."""
    async with Server(saying(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"), tls=tls) as server:
        assert await ask(make(), server) == b"hello"


async def test_a_head_with_a_length(make: Make, tls: ssl.SSLContext | None) -> None:
    """Has no body, and the next answer is read from its first byte on."""

    async def serve(line: Line) -> None:
        while True:
            await line.asked()
            line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5000000\r\n\r\n")

    async with Server(serve, tls=tls) as server:
        pool = make()
        for _ in range(3):
            answer = await pool.ask(server.origin, REQUEST % 0, bodiless=True)
            assert answer == Answer(200, {"content-length": "5000000"}, b"")
        assert len(server.lines) == 1


# ---- bad ones ----

BAD = {
    "nothing": ((), ConnectionClosedError),
    "half a head": ((b"HTTP/1.1 200 OK\r\ncontent-le",), ConnectionClosedError),
    "half a body": ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",), ConnectionClosedError),
    "half the chunks": (
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",),
        ConnectionClosedError,
    ),
    "hints alone": ((b"HTTP/1.1 100 Continue\r\n\r\n",), ConnectionClosedError),
    "garbage": ((b"\x00\x01garbage",), NotHttpError),
    "another protocol": ((b"220 mail.example ESMTP\r\n",), NotHttpError),
    "garbage in the head": ((b"HTTP/1.1 200 OK\r\n\x00\r\n\r\n",), MalformedAnswerError),
    "a body too long": (
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n",),
        MalformedAnswerError,
    ),
    "a body without end": ((b"HTTP/1.1 200 OK\r\n\r\n", 1001 * b"x"), MalformedAnswerError),
    "a head without end": ((b"HTTP/1.1 200 OK\r\n", 70_000 * b"x"), MalformedAnswerError),
}


@pytest.mark.parametrize(("pieces", "error"), BAD.values(), ids=BAD)
async def test_an_answer_that_is_none(
    make: Make, tls: ssl.SSLContext | None, pieces: tuple[bytes, ...], error: type[Exception]
) -> None:
    """Is an error at once; the connection is not used again, and the next request is answered."""
    async with Server(saying(*pieces), well, tls=tls) as server:
        pool = make()
        with pytest.raises(error):
            await ask(pool, server)
        assert len(server.lines) == 1
        assert await ask(pool, server, 7) == b"7"


async def test_a_break_before_the_first_byte(make: Make, tls: ssl.SSLContext | None) -> None:
    """On a connection that was used before, has the request made once more, on a new one, whatever is left of others."""

    async def resets(line: Line) -> None:
        line.say(ok(b"%d" % await line.asked()))
        await line.asked()
        line.reset()

    async with Server(resets, resets, well, tls=tls) as server:
        pool = make()
        await asyncio.gather(ask(pool, server, 1), ask(pool, server, 2))
        assert len(server.lines) == 2
        assert await ask(pool, server, 3) == b"3"
        assert len(server.lines) == 3


async def answered_once(
    pool: ConnectionPool, server: socket.socket, origin: Origin
) -> socket.socket:
    """Answer a pool's first request by hand; return the connection that it came over, to be closed."""
    loop = asyncio.get_running_loop()
    server.setblocking(False)  # noqa: FBT003 - its signature
    first = asyncio.ensure_future(ask(pool, origin, 1))
    line, _ = await loop.sock_accept(server)
    await loop.sock_recv(line, 4096)
    await loop.sock_sendall(line, ok(b"1"))
    assert await first == b"1"
    return line


async def test_an_end_before_a_request_is_sent(make: Make) -> None:
    """Is no reason not to send it on another connection, for it cannot have arrived."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = Origin("127.0.0.1", server.getsockname()[1], tls=False)
        pool, loop = make(), asyncio.get_running_loop()
        (await answered_once(pool, server, origin)).close()
        # NB: no turn of the loop between the end and this.
        second = asyncio.ensure_future(pool.ask(origin, REQUEST % 2))
        accepting = asyncio.ensure_future(loop.sock_accept(server))
        await asyncio.wait([second, accepting], return_when=asyncio.FIRST_COMPLETED)
        assert not second.done()
        again, _ = await accepting
        with again:
            assert b"/2 " in await loop.sock_recv(again, 4096)
            await loop.sock_sendall(again, ok(b"2"))
            assert (await second).body == b"2"


async def test_a_break_where_a_request_may_not_be_made_twice(
    make: Make, tls: ssl.SSLContext | None
) -> None:
    """Is an error at once: whoever asked must judge whether it was done."""
    asked = []

    async def resets(line: Line) -> None:
        line.say(ok(b"%d" % await line.asked()))
        asked.append(await line.asked())
        line.reset()

    async with Server(resets, well, tls=tls) as server:
        pool = make()
        await ask(pool, server, 1)
        with pytest.raises(ConnectionClosedError):
            await pool.ask(server.origin, REQUEST % 2)
        assert asked == [2]
        assert await ask(pool, server, 3) == b"3"


async def test_a_break_on_the_new_connection_too(make: Make, tls: ssl.SSLContext | None) -> None:
    """Is the end of it: a request is made twice at the most."""
    asked = []

    async def resets(line: Line) -> None:
        if line.number == 0:
            line.say(ok(b"%d" % await line.asked()))
        asked.append(await line.asked())
        line.reset()

    async with Server(resets, tls=tls) as server:
        pool = make()
        await ask(pool, server, 1)
        with pytest.raises(ConnectionClosedError):
            await ask(pool, server, 2)
        assert asked == [2, 2]


async def test_a_break_within_an_answer(make: Make, tls: ssl.SSLContext | None) -> None:
    """Is no reason to ask again, for somebody took the request."""

    async def resets(line: Line) -> None:
        line.say(ok(b"%d" % await line.asked()))
        await line.asked()
        line.say(b"H")
        await line.writer.drain()
        line.writer.close()

    async with Server(resets, tls=tls) as server:
        pool = make()
        await ask(pool, server, 1)
        with pytest.raises(ConnectionClosedError):
            await ask(pool, server, 2)
        assert len(server.lines) == 1


async def test_a_connection_that_ended_while_idle(make: Make, tls: ssl.SSLContext | None) -> None:
    """Is not used again, even where the loop does not know yet."""
    ended = asyncio.Event()

    async def once(line: Line) -> None:
        line.say(ok(b"%d" % await line.asked()))
        line.writer.close()
        ended.set()

    async with Server(once, well, tls=tls) as server:
        pool = make()
        await ask(pool, server, 1)
        await ended.wait()
        assert await ask(pool, server, 2) == b"2"


# ---- bytes that nobody asked for ----


@pytest.mark.parametrize("together", [True, False])
async def test_bytes_after_an_answer(
    make: Make, tls: ssl.SSLContext | None, *, together: bool
) -> None:
    """Are never taken for the next one, whether they come with it or later."""
    sent = asyncio.Event()

    async def strays(line: Line) -> None:
        number = await line.asked()
        if together:
            line.say(ok(b"%d" % number) + ok(b"stray"))
        else:
            line.say(ok(b"%d" % number))
            await line.writer.drain()
            line.say(ok(b"stray"))
        await line.writer.drain()
        sent.set()
        await line.over()

    async with Server(strays, well, tls=tls) as server:
        pool = make()
        assert await ask(pool, server, 1) == b"1"
        await sent.wait()
        assert await ask(pool, server, 2) == b"2"
        assert len(server.lines) == 2


async def test_bytes_that_the_loop_has_not_read_yet(make: Make) -> None:
    """Are no answer to a request that is sent after them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = Origin("127.0.0.1", server.getsockname()[1], tls=False)
        pool, loop = make(), asyncio.get_running_loop()
        with await answered_once(pool, server, origin) as line:
            line.send(ok(b"stray"))
            # NB: no turn of the loop between these two.
            second = asyncio.ensure_future(ask(pool, origin, 2))
            again, _ = await loop.sock_accept(server)
            with again:
                assert b"/2 " in await loop.sock_recv(again, 4096)
                await loop.sock_sendall(again, ok(b"2"))
                assert await second == b"2"


async def test_an_answer_before_its_request(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is none, also on a new connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as lines:
        pool = make()
        connected = pool._connected

        async def spoken_to(origin: Origin) -> pools.Connection:
            connection = await connected(origin)
            line, _ = server.accept()
            lines.enter_context(line).sendall(ok(b"eager"))
            return connection

        monkeypatch.setattr(pool, "_connected", spoken_to)
        with pytest.raises(ConnectionClosedError):
            await ask(pool, Origin("127.0.0.1", server.getsockname()[1], tls=False))


# ---- connections ----


async def test_a_connection_that_is_to_be_closed(make: Make, tls: ssl.SSLContext | None) -> None:
    """Is, and another one made."""

    async def serve(line: Line) -> None:
        line.say(ok(b"%d" % await line.asked(), b"Connection: close"))
        await line.over()

    async with Server(serve, tls=tls) as server:
        pool = make()
        assert [await ask(pool, server, number) for number in range(3)] == [b"0", b"1", b"2"]
        assert len(server.lines) == 3
        await until(lambda: not server.open)


async def test_idle_connections_are_closed(make: Make, tls: ssl.SSLContext | None) -> None:
    """After a while that is not lengthened by time-outs of requests."""
    async with Server(well, tls=tls) as server:
        pool = make(idle_seconds=SOON)
        await asyncio.gather(*(ask(pool, server) for _ in range(3)))
        await until(lambda: not server.open)
        assert not pool._all
        assert await ask(pool, server) == b"0"


async def test_connections_are_recycled_by_count(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many requests."""
    monkeypatch.setattr(pools, "MAX_REQUESTS", 3)
    async with Server(well) as server:
        pool = make()
        for number in range(7):
            await ask(pool, server, number)
        assert len(server.lines) == 3


async def test_connections_are_recycled_by_age(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However busy they are."""
    monkeypatch.setattr(pools, "YOUNGEST_SECONDS", 0.0)
    monkeypatch.setattr(pools, "OLDEST_SECONDS", SOON)
    async with Server(well) as server:
        pool = make()
        async with asyncio.timeout(HANGS_SECONDS):
            while len(server.lines) < 3:
                await ask(pool, server)


class Names:
    """Stands in for the loop's way to look up addresses."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *addresses: str,
        answered: asyncio.Event | None = None,
    ) -> None:
        self.addresses = addresses
        self.asked = 0
        self._answered = answered
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._told)

    async def _told(self, host: str, port: int, **_: object) -> list[Any]:
        if host != "a.name":
            family = socket.AF_INET
            return [(family, socket.SOCK_STREAM, 6, "", (host, port))]
        self.asked += 1
        if self._answered is not None:
            await self._answered.wait()
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in self.addresses
        ]


async def test_connections_go_to_all_addresses(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a name, which is asked for once in a while; one that is refused is passed over."""
    async with (
        Server(well, host="127.0.0.1") as one,
        Server(well, host="127.0.0.2", port=one.port) as two,
    ):
        names = Names(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.9")
        pool = make(most_connections=40)
        await ask(pool, Origin("a.name", one.port, tls=False))
        await asyncio.gather(
            *(ask(pool, Origin("a.name", one.port, tls=False)) for _ in range(40))
        )
        assert names.asked == 1
        assert min(len(one.lines), len(two.lines)) > 5
        assert len(one.lines) + len(two.lines) == 40


@contextlib.contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """Take an address at which nobody answers, as behind a firewall: so many wait that new ones are passed over."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((host, port))
        server.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - its signature
            waiting.connect_ex((host, port))
        yield


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
async def test_addresses_that_do_not_answer(
    make: Make, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Do not use up the time to connect while another one answers, of whichever family it is."""
    try:
        server = await Server(well, host=host).__aenter__()
    except OSError:
        pytest.skip("this machine has no such address")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_exit(server)
        for dead in ("127.0.0.3", "127.0.0.4"):
            stack.enter_context(silent(dead, server.port))
        Names(monkeypatch, "127.0.0.3", "127.0.0.4", host)
        pool = make(connect_seconds=30.0)
        told = await asyncio.gather(
            *(ask(pool, Origin("a.name", server.port, tls=False), number) for number in range(8))
        )
        assert told == [b"%d" % number for number in range(8)]


async def test_the_preferred_family_comes_first(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its addresses by turns, and those of the other family after it."""
    Names(monkeypatch, "127.0.0.1", "127.0.0.2", "::9", "::8")
    pool = make()
    orders = set()
    for _ in range(80):
        addresses = await pool._names.addresses(Origin("a.name", 1, tls=False))
        orders.add(tuple(address[4][0] for address in addresses))
    ours, others = ("127.0.0.1", "127.0.0.2"), ("::8", "::9")
    assert orders == {a + b for a in (ours, ours[::-1]) for b in (others, others[::-1])}


async def test_a_name_is_looked_up_once_for_all(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who connect to it at the same time, and after a while again; one that gives up takes the answer from nobody."""
    answered = asyncio.Event()
    names = Names(monkeypatch, "127.0.0.1", answered=answered)
    async with Server(well) as server:
        pool = make()
        origin = Origin("a.name", server.port, tls=False)
        asking = [asyncio.create_task(ask(pool, origin, number)) for number in range(5)]
        await until(lambda: names.asked)
        asking[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking[0]
        asking.append(asyncio.create_task(ask(pool, origin, 5)))
        await until(lambda: pool._opening == 5)
        answered.set()
        assert await asyncio.gather(*asking[1:]) == [b"%d" % number for number in range(1, 6)]
        await pool._names.addresses(origin)
        assert names.asked == 1

        monkeypatch.setattr(pools, "ADDRESSES_SECONDS", -1.0)
        await pool._names.addresses(origin)
        assert names.asked == 2


async def test_a_name_that_was_not_found_is_looked_up_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever comes next, also where nobody waited for it to the end."""
    answered = asyncio.Event()
    names = Names(monkeypatch, answered=answered)
    async with Server(well) as server:
        pool = make()
        origin = Origin("a.name", server.port, tls=False)
        given_up = asyncio.create_task(ask(pool, origin))
        await until(lambda: names.asked)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        answered.set()
        with pytest.raises(EndpointConnectionError):
            await ask(pool, origin)
        names.addresses = ("127.0.0.1",)
        assert await ask(pool, origin) == b"0"


async def test_names_do_not_fill_the_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets' names come out of messages, and each is a host's name."""

    async def told(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", told)
    pool = make()
    for number in range(6000):
        await pool._names.addresses(Origin(f"b{number}.s3.example", 443, tls=True))
    assert len(pool._names._known) < 6000


@pytest.mark.parametrize("host", ["no.such.name.invalid", f"{'a' * 64}.example", "a..b"])
async def test_a_name_without_address(make: Make, host: str) -> None:
    """Is nobody who could be asked, also where no name server could have it."""
    with pytest.raises(EndpointConnectionError):
        await ask(make(), Origin(host, 1, tls=False))


async def test_nobody_listens(make: Make) -> None:
    """Is told as such."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(EndpointConnectionError):
        await ask(make(), Origin("127.0.0.1", port, tls=False))


# ---- as many as there may be ----


async def test_no_more_connections_than_allowed(make: Make, tls: ssl.SSLContext | None) -> None:
    """Whoever comes later waits, and is let in by turns; other origins get room that nobody uses."""
    async with Server(well, tls=tls) as one, Server(well, tls=tls) as two:
        pool = make(most_connections=2)
        told = await asyncio.gather(
            *(ask(pool, (one, two)[number % 2], number) for number in range(40))
        )
        assert told == [b"%d" % number for number in range(40)]
        await until(lambda: one.open + two.open <= 2)


async def test_the_longest_idle_connection_makes_room(make: Make) -> None:
    """Whichever it leads to: among many origins, those in use keep theirs."""
    async with contextlib.AsyncExitStack() as stack:
        one, two, three = [await stack.enter_async_context(Server(well)) for _ in range(3)]
        pool = make(most_connections=2)
        for server in (one, two, one, three, one):
            await ask(pool, server)
        assert [len(server.lines) for server in (one, two, three)] == [1, 1, 1]
        await until(lambda: not two.open)


async def test_who_waits_is_not_overtaken(make: Make) -> None:
    """By those who ask again and again."""
    async with Server(well) as server:
        pool = make(most_connections=1)
        done = asyncio.Event()

        async def always() -> None:
            while not done.is_set():
                await ask(pool, server)

        asking = asyncio.create_task(always())
        await until(lambda: server.open)
        async with asyncio.timeout(HANGS_SECONDS):
            for number in range(5):
                assert await ask(pool, server, number) == b"%d" % number
        done.set()
        await asking


async def test_who_waits_for_one_that_could_not_be_made(make: Make) -> None:
    """Is let in as well."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    pool = make(most_connections=1)
    async with asyncio.timeout(HANGS_SECONDS):
        told = await asyncio.gather(
            *(ask(pool, Origin("127.0.0.1", port, tls=False)) for _ in range(5)),
            return_exceptions=True,
        )
    assert [type(error) for error in told] == 5 * [EndpointConnectionError]


@pytest.mark.parametrize("seed", range(10))
async def test_whoever_gives_up_leaves_no_hole(make: Make, seed: int) -> None:
    """Whatever it waited for is left to the next one, at whatever moment."""
    rng = random.Random(seed)
    async with Server(well) as server:
        pool = make(most_connections=2)
        asking = [asyncio.create_task(ask(pool, server, number)) for number in range(60)]
        for task in rng.sample(asking, 30):
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(HANGS_SECONDS):
            told = await asyncio.gather(*asking, return_exceptions=True)
            assert await ask(pool, server, 77) == b"77"
        for number, body in enumerate(told):
            assert body == b"%d" % number or isinstance(body, asyncio.CancelledError)


async def test_a_wake_up_and_a_cancellation_at_once(make: Make) -> None:
    """Somebody else is woken instead."""
    async with Server(saying(stays=True), well) as server:
        pool = make(most_connections=1)
        first = asyncio.create_task(ask(pool, server, 1))
        await until(lambda: pool._all)
        second = asyncio.create_task(ask(pool, server, 2))
        third = asyncio.create_task(ask(pool, server, 3))
        await until(lambda: len(pool._waiting) == 2)
        next(iter(pool._all)).cut(ConnectionClosedError(endpoint_url="x"))  # wakes the second
        second.cancel()
        with pytest.raises(ConnectionClosedError):
            await first
        async with asyncio.timeout(HANGS_SECONDS):
            assert await third == b"3"


# ---- giving up ----


async def test_a_request_that_is_given_up(make: Make, tls: ssl.SSLContext | None) -> None:
    """Takes its connection with it: the answer reaches nobody else."""
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def late(line: Line) -> None:
        await line.asked()
        line.say(ok(b"late")[:-2])
        await line.writer.drain()
        halfway.set()
        await go_on.wait()
        line.say(b"te")
        await line.over()

    async with Server(late, well, tls=tls) as server:
        pool = make()
        asking = asyncio.create_task(ask(pool, server, 1))
        await halfway.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go_on.set()
        assert await ask(pool, server, 2) == b"2"
        await until(lambda: server.open == 1)


async def test_no_answer_in_time(make: Make, tls: ssl.SSLContext | None) -> None:
    """Is told, and an answer after it reaches nobody."""
    go_on = asyncio.Event()

    async def late(line: Line) -> None:
        await line.asked()
        await go_on.wait()
        line.say(ok(b"late"))
        await line.over()

    async with Server(late, well, tls=tls) as server:
        pool = make(silent_seconds=SOON)
        with pytest.raises(ReadTimeoutError):
            await ask(pool, server, 1)
        go_on.set()
        pool.limits = LIMITS
        assert await ask(pool, server, 2) == b"2"


async def test_no_answer_in_time_on_a_connection_used_before(make: Make) -> None:
    """Is no reason to ask again."""

    async def once(line: Line) -> None:
        line.say(ok(b"%d" % await line.asked()))
        await line.asked()
        await line.over()

    async with Server(once) as server:
        pool = make(silent_seconds=SOON)
        await ask(pool, server, 1)
        with pytest.raises(ReadTimeoutError):
            await ask(pool, server, 2)
        assert len(server.lines) == 1


async def test_an_answer_that_never_ends_to_drip(make: Make) -> None:
    """Is over after a while, however lively it is."""

    async def drips(line: Line) -> None:
        await line.asked()
        line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
        while True:
            line.say(b"x")
            await line.writer.drain()
            await asyncio.sleep(0.01)

    async with Server(drips) as server:
        pool = make(whole_seconds=3 * SOON)
        with pytest.raises(ReadTimeoutError):
            await ask(pool, server)


async def test_close_while_others_wait(make: Make) -> None:
    """Ends them all, for an answer or for a connection, and nobody opens another one."""
    async with Server(saying(stays=True)) as server:
        pool = make(most_connections=2)
        asking = [asyncio.create_task(ask(pool, server, number)) for number in range(5)]
        await until(lambda: server.open == 2 and len(pool._waiting) == 3)
        await pool.close()
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(error) for error in told] == 5 * [ConnectionClosedError]
        with pytest.raises(ConnectionClosedError):
            await ask(pool, server)
        assert len(server.lines) == 2


# ---- TLS ----


async def test_a_certificate_of_another_name(make: Make, authority: Authority) -> None:
    """Is refused."""
    async with Server(well, tls=authority.server("127.0.0.2")) as server:
        with pytest.raises(SSLError):
            await ask(make(), server)


async def test_a_certificate_of_another_authority(make: Make, tmp_path: Path) -> None:
    """Is refused."""
    async with Server(well, tls=Authority(tmp_path).server("127.0.0.1")) as server:
        with pytest.raises(SSLError):
            await ask(make(), server)


async def test_a_certificate_that_ran_out(make: Make, authority: Authority) -> None:
    """Is refused."""
    async with Server(well, tls=authority.server("127.0.0.1", days=-1)) as server:
        with pytest.raises(SSLError):
            await ask(make(), server)


async def test_the_name_is_checked_not_the_address(
    make: Make, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is for who is asked, wherever that is."""
    async with Server(well, tls=authority.server("a.name")) as server:
        Names(monkeypatch, "127.0.0.1")
        assert await ask(make(), Origin("a.name", server.port, tls=True)) == b"0"
        with pytest.raises(SSLError):
            await ask(make(), server)


async def test_certificates_are_read_once_and_beside_the_loop(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections wait for it: that takes as long as hundreds of requests."""
    threads = []
    real = ssl.create_default_context

    def create(*args: Any, **options: Any) -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return real(*args, **options)

    async def nothing(line: Line) -> None:
        while True:
            await line.reader.readuntil(b"\r\n\r\n")
            line.say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n")

    monkeypatch.setattr(ssl, "create_default_context", create)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.bundle))
    async with Server(nothing, tls=authority.server("127.0.0.1")) as server:
        async with AwsSession(
            endpoint_url=server.origin.shown,
            default_region="eu-west-1",
            max_connections=5,
            choice="fast",
        ) as aws:
            heads = (await aws.s3()).heads
            asked = [heads.head(HeadRequest(bucket="src", key=str(number))) for number in range(9)]
            assert {answer.status for answer in await asyncio.gather(*asked)} == {404}
        assert server.most_open == 5
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_a_handshake_that_never_comes(make: Make) -> None:
    """Is waited for as long as for a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = make(connect_seconds=SOON, most_connections=1)
        for _ in range(2):
            with pytest.raises(ConnectTimeoutError):
                await ask(pool, Origin("127.0.0.1", server.getsockname()[1], tls=True))


async def test_no_tls_where_there_should_be(make: Make) -> None:
    """Is an error of TLS, for nobody else may listen in."""

    async def plain(line: Line) -> None:
        await line.reader.read(1)
        line.say(ok())
        await line.over()

    async with Server(plain) as server:
        with pytest.raises(SSLError):
            await ask(make(), Origin("127.0.0.1", server.port, tls=True))
