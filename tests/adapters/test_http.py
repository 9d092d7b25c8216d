"""The daemon's own port, asked over real sockets."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from crrmon.adapters import door, http
from crrmon.adapters.door import PortTakenError
from crrmon.adapters.http import HttpServer
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.domain import catalogue
from crrmon.domain.authority import authority
from crrmon.ports.health import HealthVerdict
from fakes.dawdler import closed, dawdle
from fakes.patience import HANGS_SECONDS, until

HOST = "127.0.0.1"


def _ignored(_reason: str, _whom: str) -> None:
    """Stand for whoever is told of strangers."""


class Board:
    """A health that is as the test says."""

    def __init__(self) -> None:
        self.alive = HealthVerdict(ok=True, details={"poller": "ok"})
        self.well = HealthVerdict(ok=True, details={"ledger": "ok"})

    def live(self) -> HealthVerdict:
        return self.alive

    def ready(self) -> HealthVerdict:
        return self.well


class Port:
    """A server on a free port, and a client for it."""

    def __init__(self, server: HttpServer, port: int, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.number = port
        self._session = session

    async def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Return status, content type and body."""
        url = f"http://{HOST}:{self.number}{path}"
        async with self._session.request(method, url, headers=headers) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), await answer.text()


@pytest.fixture
def board() -> Board:
    """Make a health that is fine."""
    return Board()


@pytest.fixture
def meters() -> PrometheusMeters:
    """Make meters with something on them."""
    made = PrometheusMeters()
    made.add(catalogue.DUPLICATES, "a-bucket", amount=3)
    return made


@pytest.fixture
async def port(board: Board, meters: PrometheusMeters) -> AsyncIterator[Port]:
    """Serve."""
    server = HttpServer(host=HOST, port=0, metrics=meters.page, health=board, oddity=_ignored)
    number = await server.start()
    async with aiohttp.ClientSession() as session:
        yield Port(server, number, session)
    await server.stop()


async def test_metrics_in_the_format_asked_for(port: Port) -> None:
    """Prometheus' own text without a wish, OpenMetrics when asked for: with its ending."""
    status, content_type, page = await port.ask("/metrics")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'crrmon_objects_duplicate_total{source_bucket="a-bucket"} 3.0' in page.splitlines()

    wish = "application/openmetrics-text;version=1.0.0;q=0.7,text/plain;q=0.3"
    status, content_type, page = await port.ask("/metrics", Accept=wish)
    assert status == 200
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert page.endswith("# EOF\n")


async def test_a_wish_that_nobody_understands_is_no_error(port: Port) -> None:
    """A garbled Accept header gets the page."""
    status, content_type, _ = await port.ask(
        "/metrics", Accept="application/openmetrics-text; version=none"
    )
    assert status == 200
    assert content_type.startswith("text/plain")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_health(port: Port, board: Board, path: str) -> None:
    """200 when fine, 503 when not; either way JSON that says by what it was judged."""
    assert await port.ask(path) == (
        200,
        "application/json",
        json.dumps(
            {"ok": True, "details": {"poller" if path == "/livez" else "ledger": "ok"}}
        ).replace(" ", ""),
    )

    reason = 'unavailable for 7 s: "no\n\x1b[31m way"'
    board.alive = board.well = HealthVerdict(ok=False, details={"some\nloop": reason})
    status, _, body = await port.ask(path)
    assert status == 503
    assert json.loads(body) == {"ok": False, "details": {"some\nloop": reason}}
    assert body.isprintable()


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/Metrics", "/livez/x", "/api/v1/", "/%00", "/..%2f..%2fetc/passwd"]
)
async def test_other_paths_are_not_found(port: Port, path: str) -> None:
    """What there is not is 404."""
    assert (await port.ask(path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_changed(port: Port, method: str) -> None:
    """Everything is to be read only."""
    assert (await port.ask("/metrics", method=method))[0] == 405


async def test_a_taken_port_is_named_with_the_settings(port: Port, board: Board) -> None:
    """Whoever cannot listen learns address, reason and which settings to change."""
    other = HttpServer(
        host=HOST, port=port.number, metrics=lambda _: (b"", ""), health=board, oddity=_ignored
    )

    with pytest.raises(PortTakenError) as caught:
        await other.start()

    assert str(caught.value) == (
        f"cannot listen on {HOST}:{port.number} (Address already in use); set http.host and http.port"
    )


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
async def test_an_address_that_is_not_ours(board: Board, host: str) -> None:
    """An address of another machine, or none at all, is told as such."""
    server = HttpServer(
        host=host, port=0, metrics=lambda _: (b"", ""), health=board, oddity=_ignored
    )

    with pytest.raises(PortTakenError, match=r"http\.host"):
        await server.start()


async def _asked_at(*hosts: str, port: int) -> list[int]:
    """Return the status of /livez at addresses of this machine; 0 where nobody answers."""
    told = []
    async with aiohttp.ClientSession() as session:
        for host in hosts:
            try:
                async with session.get(f"http://{authority(host, port)}/livez") as answer:
                    told.append(answer.status)
            except aiohttp.ClientConnectionError:
                told.append(0)
    return told


@pytest.mark.parametrize(
    ("host", "answers"),
    [("::", [200, 200]), ("0.0.0.0", [200, 0]), ("127.0.0.1", [200, 0]), ("::1", [0, 200])],  # noqa: S104 - a test's machine
)
async def test_e1_each_family_of_addresses_is_listened_on_and_both_by_two_colons(
    board: Board, host: str, answers: list[int]
) -> None:
    """:: is every address of this machine, where a kubelet knows its pods by IPv6 and a health check asks 127.0.0.1."""
    if not socket.has_dualstack_ipv6():
        answers = [200, 0] if host == "::" else answers
    server = HttpServer(
        host=host, port=0, metrics=lambda _: (b"", ""), health=board, oddity=_ignored
    )
    if host == "::1" and not socket.has_dualstack_ipv6():
        with pytest.raises(PortTakenError):
            await server.start()
        return
    port = await server.start()
    try:
        assert await _asked_at("127.0.0.1", "::1", port=port) == answers
        assert server.url == f"http://{authority(host, port)}"
    finally:
        await server.stop()


@pytest.mark.parametrize("reason", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
async def test_e1_a_machine_without_ipv6_listens_on_all_it_has(
    board: Board, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """A kernel that knows no IPv6, or has it switched off: the same setting, and only IPv4."""
    created = door.create_server

    def without_ipv6(address: tuple[str, int], **more: Any) -> socket.socket:
        if more.get("family") is socket.AF_INET6:
            raise OSError(reason, os.strerror(reason))
        return created(address, **more)

    monkeypatch.setattr(door, "create_server", without_ipv6)
    server = HttpServer(
        host="::", port=0, metrics=lambda _: (b"", ""), health=board, oddity=_ignored
    )
    port = await server.start()
    try:
        assert await _asked_at("127.0.0.1", "::1", port=port) == [200, 0]
        assert server.url == f"http://0.0.0.0:{port}"
    finally:
        await server.stop()


async def test_e1_a_taken_port_is_told_of_whichever_family_has_it(
    port: Port, board: Board
) -> None:
    """Where somebody listens on IPv4 alone, :: is not silently IPv6 alone; and the address has its brackets."""
    other = HttpServer(
        host="::", port=port.number, metrics=lambda _: (b"", ""), health=board, oddity=_ignored
    )

    with pytest.raises(PortTakenError, match=rf"\[::\]:{port.number} .*in use"):
        await other.start()


async def test_e1_strangers_are_told_by_the_address_that_they_have(board: Board) -> None:
    """One that came by IPv4 is not shown as a piece of IPv6."""
    whom: list[str] = []
    server = HttpServer(
        host="::",
        port=0,
        metrics=lambda _: (b"", ""),
        health=board,
        oddity=lambda _, address: whom.append(address),
    )
    port = await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
    await until(lambda: whom)
    writer.close()
    await server.stop()

    assert whom == ["127.0.0.1"]


async def test_garbage_harms_nobody(port: Port) -> None:
    """Invariant 10: whoever speaks no HTTP is cut off; others go on being served."""
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET /" + b"a" * 100_000, b"\r\n" * 100, b"\x00"):
        reader, writer = await asyncio.open_connection(HOST, port.number)
        writer.write(garbage)
        writer.write_eof()
        async with asyncio.timeout(HANGS_SECONDS):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()

    assert (await port.ask("/livez"))[0] == 200


async def test_it_stops_although_clients_dawdle(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scrapers that keep connections open, send half a request or do not read answers do not hold up the end."""
    for name in ("REQUEST_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(http, name, 2 * HANGS_SECONDS)
    server = HttpServer(
        host=HOST,
        port=0,
        metrics=lambda _: (b"x" * 5_000_000, "text/plain"),
        health=board,
        oddity=_ignored,
    )
    number = await server.start()
    writers = []
    for said in (
        b"",
        b"GET /livez HTTP/1.1\r\nHost",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 9,
    ):
        _, writer = await asyncio.open_connection(HOST, number, limit=1)
        writer.write(said)
        writers.append(writer)
    await until(lambda: len(server._door._connections) == len(writers))

    async with asyncio.timeout(HANGS_SECONDS):
        await server.stop()

    with pytest.raises(ConnectionError):
        await asyncio.open_connection(HOST, number)
    for writer in writers:
        writer.close()


# ---- strangers ----


@pytest.fixture
async def guarded(
    request: pytest.FixtureRequest, board: Board, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Port, list[tuple[str, str]]]]:
    """
    Serve with short deadlines, for requests the one that is asked for, and few connections; what strangers did is
    collected.
    """
    monkeypatch.setattr(http, "REQUEST_SECONDS", getattr(request, "param", 1.0))
    monkeypatch.setattr(http, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 10)
    odd: list[tuple[str, str]] = []
    server = HttpServer(
        host=HOST,
        port=0,
        metrics=lambda _: (b"x" * 20_000_000, "text/plain"),
        health=board,
        oddity=lambda reason, whom: odd.append((reason, whom)),
    )
    number = await server.start()
    async with aiohttp.ClientSession() as session:
        yield Port(server, number, session), odd
    await server.stop()


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost"])
async def test_r11_a_request_must_be_complete_in_time(
    guarded: tuple[Port, list[tuple[str, str]]], said: bytes
) -> None:
    """R11: a connection without a whole request is closed after some seconds, also when bytes go on to trickle in."""
    port, odd = guarded
    await dawdle(port.number, said)
    assert odd == [("no request in time, or its response was not read in time", HOST)]
    assert (await port.ask("/livez"))[0] == 200


async def test_r11_the_second_request_of_a_connection_must_be_complete_too(
    guarded: tuple[Port, list[tuple[str, str]]],
) -> None:
    """R11: a connection that asked well may be idle for long, but not in the middle of its next request."""
    port, odd = guarded
    reader, writer = await asyncio.open_connection(HOST, port.number)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"}}")
    await asyncio.sleep(2 * http.REQUEST_SECONDS)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"}}")
    assert odd == []
    writer.write(b"GET /li")
    await closed(reader)
    writer.close()
    assert len(odd) == 1


async def test_r11_who_does_not_read_is_cut_off(
    guarded: tuple[Port, list[tuple[str, str]]],
) -> None:
    """R11: an answer of megabytes that nobody takes does not stay in memory."""
    port, odd = guarded
    reader, writer = await asyncio.open_connection(HOST, port.number, limit=1)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: odd)
    writer.close()
    del reader
    assert odd == [("no request in time, or its response was not read in time", HOST)]


@pytest.mark.parametrize("guarded", [HANGS_SECONDS], indirect=True)
async def test_r11_however_many_connect_a_probe_is_answered(
    guarded: tuple[Port, list[tuple[str, str]]],
) -> None:
    """R11: beyond the limit the connection that was longest idle goes; whoever asks at once is answered."""
    port, odd = guarded
    idle = [await asyncio.open_connection(HOST, port.number) for _ in range(50)]
    await asyncio.gather(*(closed(reader) for reader, _ in idle[:40]))
    assert (await port.ask("/livez"))[0] == 200
    assert {reason for reason, _ in odd} == {"more than 10 connections"}
    assert not idle[-1][0].at_eof(), "the newest are still there"
    for _, writer in idle:
        writer.close()


async def test_r11_garbage_leaves_no_tracebacks(
    guarded: tuple[Port, list[tuple[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    """R11: what is no HTTP is told by its kind and its sender's address to whoever counts, and logged by nobody else."""
    port, odd = guarded
    caplog.set_level(logging.DEBUG)
    for garbage in (
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /" + b"a" * 9000,
    ):
        reader, writer = await asyncio.open_connection(HOST, port.number)
        writer.write(garbage)
        await closed(reader)
        writer.close()
    assert odd == [("BadHttpMessage", HOST), ("LineTooLong", HOST)], (
        "one that is no HTTP at all is no news"
    )
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
