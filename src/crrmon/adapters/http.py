"""The daemon's own port: /metrics, /livez, /readyz."""

from collections.abc import Callable

import msgspec
from aiohttp import web

from crrmon.ports.health import Health, Verdict

Render = Callable[[str], tuple[bytes, str]]

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
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        metrics: renders the metrics page for an Accept header.
        health: judges the daemon.
    """

    def __init__(self, *, host: str, port: int, metrics: Render, health: Health) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        app = web.Application()
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/livez", self._serve_live)
        app.router.add_get("/readyz", self._serve_ready)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS
        )

    async def start(self) -> int:
        """
        Listen.

        Returns:
            The port.

        Raises:
            PortTakenError: the address is in use or not ours.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise PortTakenError(
                f"cannot listen on {self._host}:{self._port} ({error.strerror}); set http.host and http.port"
            ) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """
        Stop listening.
        """
        await self._runner.cleanup()

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        page, content_type = self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _serve_live(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.live())

    async def _serve_ready(self, _request: web.Request) -> web.Response:
        return _verdict(self._health.ready())


def _verdict(verdict: Verdict) -> web.Response:
    body = msgspec.json.encode({"ok": verdict.ok, "details": verdict.details})
    status = 200 if verdict.ok else 503
    return web.Response(body=body, status=status, content_type="application/json")
