"""The daemon's own port: /metrics, /livez, /readyz."""

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web

from crrmon.adapters.door import Door, Oddity, RequestLimits
from crrmon.domain.authority import authority
from crrmon.ports.health import Health, HealthVerdict

Render = Callable[[str], tuple[bytes, str]]

REQUEST_SECONDS = 10.0
"""From a connection, or a request's first byte, to its last."""
ANSWER_SECONDS = 30.0
"""How long somebody may take to read an answer."""
IDLE_SECONDS = 75.0
"""Between two requests of one connection; scrapers come every 15 to 60 s."""
MOST_CONNECTIONS = 100

STOP_SECONDS = 0.5
"""How long, at the end, somebody who is being answered may take to read it."""


class HttpServer:
    """Serves metrics and health.

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
        self._door = Door(
            RequestLimits(
                request_seconds=REQUEST_SECONDS,
                answer_seconds=ANSWER_SECONDS,
                idle_seconds=IDLE_SECONDS,
                connections=MOST_CONNECTIONS,
            ),
            oddity,
        )
        self._listening: asyncio.Server | None = None
        self.url = ""
        """Where it listens, once it does."""

    async def start(self) -> int:
        """Listen.

        Returns:
            The port.

        Raises:
            PortTakenError: the address is in use or not ours.
        """
        self._listening = await self._door.listen(
            self._runner, host=self._host, port=self._port, setting="http"
        )
        host, port = self._listening.sockets[0].getsockname()[:2]
        self.url = f"http://{authority(host, port)}"
        return int(port)

    async def stop(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        page, content_type = self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _serve_live(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.live())

    async def _serve_ready(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.ready())


def _verdict(verdict: HealthVerdict) -> web.Response:
    body = msgspec.json.encode({"ok": verdict.ok, "details": verdict.details})
    status = 200 if verdict.ok else 503
    return web.Response(body=body, status=status, content_type="application/json")
