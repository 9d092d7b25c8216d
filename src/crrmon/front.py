"""The HTTP port, with metrics and health behind it: it answers before there is a ledger, and as long as anything runs."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from crrmon import __version__
from crrmon.adapters.http import HttpServer
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.config import Settings
from crrmon.domain import catalogue
from crrmon.ports.clock import SystemClock
from crrmon.services.lifecycle.health import HealthBoard
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.lifecycle.timekeeper import Timekeeper

log = structlog.get_logger()


class Front:
    """What others see of the daemon from before it has a ledger to the end, and the clock that all of it goes by."""

    def __init__(self) -> None:
        self.clock = Timekeeper(SystemClock())
        self.meters = PrometheusMeters(shows_fleet=self.speaks_for_fleet)
        self.meters.set(catalogue.BUILD_INFO, __version__, value=1)
        self.board = HealthBoard(clock=self.clock, meters=self.meters)
        self.board.starting()
        self.ledger_health = self.board.dependency("ledger")
        self.clock_health = self.board.dependency("clock")
        self.url = ""
        self.reporting: Callable[[], bool] = lambda: False
        """Tells whether the daemon reports for all, once there is one."""
        self._refused = ThrottledLog(log, "request_refused")

    @classmethod
    async def open(cls, settings: Settings, stack: AsyncExitStack) -> "Front":
        """Start to serve; the stack ends that."""
        front = cls()
        server = HttpServer(
            host=settings.http.host,
            port=settings.http.port,
            metrics=front.meters.page,
            health=front.board,
            oddity=front.odd,
        )
        await server.start()
        stack.push_async_callback(server.stop)
        front.url = server.url
        return front

    def odd(self, reason: str, whom: str) -> None:
        """Log what a stranger did on the port; strangers may do so without end."""
        self._refused.met(reason, example=whom, reason=reason)

    def speaks_for_fleet(self) -> bool:
        """Return whether this daemon reports for all."""
        return self.reporting()
