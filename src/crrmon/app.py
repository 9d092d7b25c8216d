"""The composition root: settings in, a running daemon out.

A ledger on a server that cannot be opened does not end the process: it says why, is not ready, receives nothing and
tries again, so that nothing restarts in circles while somebody mends what is wrong.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog

from crrmon import __version__
from crrmon.adapters.access import AwsAccess
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import Aws
from crrmon.adapters.http import HttpServer
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.adapters.s3 import S3Probe
from crrmon.adapters.webhook import WebhookInbox
from crrmon.config import Settings
from crrmon.connections import (
    accounts_of,
    aws_of,
    open_ledger,
    queues_of,
    sink_of,
    tried_ledger,
    webhooks_of,
)
from crrmon.daemon import Daemon, Ports, Root
from crrmon.domain import catalogue
from crrmon.domain.checks import Check
from crrmon.domain.stores import BucketStores
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger, LedgerError, UnusableLedgerError
from crrmon.services.checkup import Checkup, Estate
from crrmon.services.lifecycle.health import HealthBoard
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.supervisor import supervise
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.lifecycle.timekeeper import Timekeeper

OPENING_FIRST_SECONDS = 1.0
OPENING_CAP_SECONDS = 30.0
"""Between two tries to open a ledger on a server."""

CLOSING_SECONDS = 3.0
"""Kept of the grace for what comes after draining."""

log = structlog.get_logger()


async def run(settings: Settings) -> None:
    """
    Run the daemon until SIGTERM or SIGINT; a second signal ends the process at once.

    Raises:
        UnusableLedgerError, UnusableWebhookError, PortTakenError: it could not start; the text says what to do.
        UnexpectedEndError: a part of it ended by itself.
    """
    stop = asyncio.Event()
    _heed_signals(stop)
    async with AsyncExitStack() as stack:
        front = await _Front.open(settings, stack)
        aws = await stack.enter_async_context(aws_of(settings, dates=front.clock))
        ledger = await _opened(settings, aws, front, stop)
        if ledger is not None:
            stack.push_async_callback(ledger.close)
            await _live(settings, ledger, aws, front, stop)
    log.info("stopped")


async def _live(
    settings: Settings, ledger: Ledger, aws: Aws, front: "_Front", stop: asyncio.Event
) -> None:
    """
    Put the daemon together and run it until it is told to stop.
    """
    webhooks = webhooks_of(settings, meters=front.meters, oddity=front.odd)
    daemon = _daemon(settings, ledger, aws, front, webhooks)

    async def drain() -> None:
        front.board.stopping()
        for webhook in webhooks:
            webhook.refuse()
        await daemon.drain()

    front.board.started()
    try:
        for webhook in webhooks:
            await webhook.start()
        # Not before: a token or a port that cannot be used ends it here.
        log.info(
            "started",
            version=__version__,
            queues=[intake.name for intake in daemon.intakes],
            ledger=settings.ledger.kind,
            http=front.url,
        )
        await supervise(
            _roots(daemon, front),
            stop=stop,
            drain=drain,
            grace=max(settings.shutdown_seconds - CLOSING_SECONDS, 0.5),
        )
    finally:
        await daemon.abandon()
        await asyncio.gather(*(webhook.close() for webhook in webhooks))
        await daemon.leave(within=CLOSING_SECONDS / 3)


def _daemon(
    settings: Settings, ledger: Ledger, aws: Aws, front: "_Front", webhooks: Sequence[WebhookInbox]
) -> Daemon:
    accounts = Accounts(aws, accounts_of(settings), clock=front.clock, meters=front.meters)
    ports = Ports(
        ledger=ledger,
        inboxes=[*queues_of(settings, aws), *webhooks],
        probe=S3Probe(accounts, clock=front.clock),
        sink=sink_of(settings, aws),
        stores=BucketStores(accounts.elsewhere),
    )
    runtime = Runtime(
        clock=front.clock,
        meters=front.meters,
        board=front.board,
        rng=random.Random(),  # noqa: S311 - jitter, not secrets
    )
    owner = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
    daemon = Daemon(ports, settings, runtime, owner=owner, ledger_health=front.ledger_health)
    front.daemon = daemon
    return daemon


def _roots(daemon: Daemon, front: "_Front") -> dict[str, Root]:
    return {
        **daemon.roots(),
        "clock": lambda: front.clock.run(
            daemon.questions(), health=front.clock_health, board=front.board, meters=front.meters
        ),
    }


def _heed_signals(stop: asyncio.Event) -> None:
    def heed(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("aborted", signal=number.name)
            os._exit(128 + number)
        stop.set()
        log.info("signal", signal=number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heed, number)


class _Front:
    """
    What tells how the daemon is, from before it has a ledger to the end.
    """

    def __init__(self) -> None:
        self.clock = Timekeeper(SystemClock())
        self.meters = PrometheusMeters(shows_fleet=self.speaks_for_fleet)
        self.meters.set(catalogue.BUILD_INFO, __version__, value=1)
        self.board = HealthBoard(clock=self.clock, meters=self.meters)
        self.board.starting()
        self.ledger_health = self.board.dependency("ledger")
        self.clock_health = self.board.dependency("clock")
        self.url = ""
        self.daemon: Daemon | None = None
        self._refused = ThrottledLog(log, "request_refused")

    @classmethod
    async def open(cls, settings: Settings, stack: AsyncExitStack) -> "_Front":
        """
        Start to serve; the stack ends that.
        """
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
        """
        Log what a stranger did on the port; strangers may do so without end.
        """
        self._refused.met(reason, example=whom, reason=reason)

    def speaks_for_fleet(self) -> bool:
        """
        Return whether this daemon reports for all.
        """
        return self.daemon is not None and self.daemon.reporting()


async def _opened(
    settings: Settings, aws: Aws, front: _Front, stop: asyncio.Event
) -> Ledger | None:
    """
    Open the ledger, as often as it takes: not ready meanwhile, and nothing is received.

    Returns:
        The ledger; None when the daemon is to stop before there is one.

    Raises:
        UnusableLedgerError: it lies on this machine and cannot be used. One on a server may be mended from elsewhere.
    """
    delay = OPENING_FIRST_SECONDS
    while not stop.is_set():
        try:
            ledger = await open_ledger(settings.ledger, aws, clock=front.clock)
        except UnusableLedgerError as error:
            if settings.ledger.kind in ("memory", "sqlite"):
                raise
            front.ledger_health.failed(str(error), "open")
        except LedgerError as error:
            front.ledger_health.failed(str(error), "open")
        else:
            front.ledger_health.succeeded("open")
            return ledger
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await stop.wait()
        delay = min(delay * 2, OPENING_CAP_SECONDS)
    return None


async def check(settings: Settings) -> Sequence[Check]:
    """
    Try one call of each kind that the daemon would make by these settings; see `services.checkup`.
    """
    async with aws_of(settings) as aws:
        clock, meters = SystemClock(), PrometheusMeters()
        accounts = Accounts(aws, accounts_of(settings), clock=clock, meters=meters)
        kind = settings.ledger.kind
        estate = Estate(
            own_credentials=_own_credentials(settings),
            accounts=[account.id for account in settings.accounts],
            inboxes=queues_of(settings, aws),
            buckets=settings.buckets,
            sink=sink_of(settings, aws),
            namespace=settings.report.namespace,
            ledger_kind=kind,
        )
        checkup = Checkup(
            estate,
            access=AwsAccess(aws, accounts),
            probe=S3Probe(accounts, clock=clock),
            ledger=None
            if kind == "memory"
            else partial(tried_ledger, settings.ledger, aws, clock),
            rng=random.SystemRandom(),
        )
        return await checkup.run()


def _own_credentials(settings: Settings) -> bool:
    """
    Tell whether AWS is asked for anything with the daemon's own credentials: not where there are stores alone.
    """
    stores = [one.endpoint_url and one.profile for one in settings.accounts]
    asked = settings.queues or settings.report.cloudwatch or settings.ledger.kind == "dynamodb"
    return bool(asked) or not stores or not all(stores)
