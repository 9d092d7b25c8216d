"""Libraries that could carry the fast client's requests instead of its own wire, to know what that one is worth.

Each stands in for `ConnectionPool` in a daemon that is otherwise the same: signer, judgement and all that an object costs. The
requests come signed and whole, and are taken apart again here; that is a few microseconds of each.
`python bench/daemon.py --wires` compares them. pycurl is no dependency of crrmon: `pip install pycurl` first, or it is
left out.
"""

import asyncio
import io
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import yarl

from crrmon.adapters.fast import factory
from crrmon.adapters.fast.pool import Limits, Origin
from crrmon.adapters.fast.reading import Answer, read_head

try:
    import pycurl
except ImportError:
    pycurl = None


def known() -> list[str]:
    """Return the names of those that can be used here."""
    return ["own", "aiohttp", *(["pycurl"] if pycurl else [])]


def use(name: str) -> None:
    """Have every client that is made from now on carry its requests by a library; "own" changes nothing."""
    others: dict[str, Any] = {"aiohttp": AiohttpWire, "pycurl": CurlWire}
    factory.ConnectionPool = others.get(name, factory.ConnectionPool)  # type: ignore[misc]


def _parts(request: bytes) -> tuple[str, str, dict[str, str], bytes]:
    """Take a request apart again: libraries put it together themselves."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    return method, target, headers, body


class AiohttpWire:
    """Carries requests by aiohttp's client."""

    def __init__(
        self, limits: Limits, *, tls: Callable[[], Awaitable[ssl.SSLContext]], rng: random.Random
    ) -> None:
        del rng
        self._limits = limits
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, origin: Origin, request: bytes, *, bodiless: bool = False, idempotent: bool = False
    ) -> Answer:
        """Send a request and wait for its answer."""
        del bodiless, idempotent
        tls = await self._tls() if self._session is None and origin.tls else True
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._limits.most_connections, ssl=tls)
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(sock_read=self._limits.silent_seconds),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            )
        method, target, headers, body = _parts(request)
        url = yarl.URL(origin.shown + target, encoded=True)
        async with self._session.request(
            method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            told = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, told, await answer.read())

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()


class CurlWire:
    """Carries requests by libcurl's multi interface, whose sockets and timer the loop watches."""

    def __init__(
        self, limits: Limits, *, tls: Callable[[], Awaitable[ssl.SSLContext]], rng: random.Random
    ) -> None:
        del tls, rng
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._remind)
        self._multi.setopt(pycurl.M_MAXCONNECTS, limits.most_connections)
        self._timer: asyncio.TimerHandle | None = None
        self._free: list[Any] = []
        self._waiting: dict[Any, asyncio.Future[None]] = {}

    async def ask(
        self, origin: Origin, request: bytes, *, bodiless: bool = False, idempotent: bool = False
    ) -> Answer:
        """Send a request and wait for its answer."""
        del idempotent
        method, target, headers, body = _parts(request)
        curl = self._free.pop() if self._free else self._curl()
        head, content = bytearray(), io.BytesIO()
        curl.setopt(pycurl.URL, origin.shown + target)
        curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])
        curl.setopt(pycurl.HEADERFUNCTION, head.extend)
        curl.setopt(pycurl.WRITEDATA, content)
        if bodiless:
            curl.setopt(pycurl.NOBODY, 1)
        else:
            curl.setopt(pycurl.NOBODY, 0)
            curl.setopt(pycurl.CUSTOMREQUEST, method)
            curl.setopt(pycurl.POSTFIELDS, body)
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting[curl] = done
        self._multi.add_handle(curl)
        await done
        self._free.append(curl)
        status, told = read_head(bytes(head[:-4]))
        return Answer(status, told, content.getvalue())

    async def close(self) -> None:
        """End all connections."""
        self._multi.close()

    def _curl(self) -> Any:
        curl = pycurl.Curl()
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TCP_NODELAY, 1)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.CONNECTTIMEOUT, int(self._limits.connect_seconds))
        curl.setopt(pycurl.TIMEOUT, int(self._limits.whole_seconds))
        bundle = _bundle()
        if bundle:
            curl.setopt(pycurl.CAINFO, bundle)
        return curl

    def _watch(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        if what in (pycurl.POLL_IN, pycurl.POLL_INOUT):
            self._loop.add_reader(fd, self._act, fd, pycurl.CSELECT_IN)
        if what in (pycurl.POLL_OUT, pycurl.POLL_INOUT):
            self._loop.add_writer(fd, self._act, fd, pycurl.CSELECT_OUT)

    def _remind(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if milliseconds >= 0:
            self._timer = self._loop.call_later(
                milliseconds / 1e3, self._act, pycurl.SOCKET_TIMEOUT, 0
            )

    def _act(self, fd: int, what: int) -> None:
        self._multi.socket_action(fd, what)
        left = 1
        while left:
            left, good, bad = self._multi.info_read()
            for curl in good:
                self._multi.remove_handle(curl)
                self._waiting.pop(curl).set_result(None)
            for curl, _number, why in bad:
                self._multi.remove_handle(curl)
                self._waiting.pop(curl).set_exception(OSError(why))


def _bundle() -> str | None:
    return os.environ.get("AWS_CA_BUNDLE")
