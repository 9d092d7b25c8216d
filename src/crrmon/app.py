"""The composition root: settings in, a running daemon out."""

import asyncio
import gc
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
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.adapters.s3 import S3Probe
from crrmon.adapters.webhook import WebhookInbox
from crrmon.config import Settings
from crrmon.connections import (
    accounts_of,
    aws_of,
    queues_of,
    sink_of,
    tried_ledger,
    webhooks_of,
)
from crrmon.daemon import Daemon, Ports
from crrmon.domain.checks import Check
from crrmon.domain.stores import BucketStores
from crrmon.front import Front
from crrmon.opening import wait_for_ledger
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger
from crrmon.services.checkup import Checkup, Estate
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.supervisor import supervise

CLOSING_SECONDS = 3.0
"""Kept of the grace for what comes after draining."""

COLLECT_AFTER = 50_000
"""How many objects more than before there may be before the garbage collector looks for cycles among the new ones.

Python's own 700 are the values of a dozen versions, and everything that is held for a first look was gone through again
and again: a sixth of the CPU time. There are hardly any cycles to be found, so memory does not show it.
"""

log = structlog.get_logger()


async def run(settings: Settings) -> None:
    """Run the daemon until SIGTERM or SIGINT; a second signal ends the process at once.

    Raises:
        UnusableLedgerError, UnusableWebhookError, PortTakenError: it could not start; the text says what to do.
        UnexpectedEndError: a part of it ended by itself.
    """
    stop = asyncio.Event()
    _heed_signals(stop)
    async with AsyncExitStack() as stack:
        front = await Front.open(settings, stack)
        aws = await stack.enter_async_context(aws_of(settings, dates=front.clock))
        ledger = await wait_for_ledger(
            settings.ledger, aws, clock=front.clock, health=front.ledger_health, stop=stop
        )
        if ledger is not None:
            stack.push_async_callback(ledger.close)
            await _live(settings, ledger, aws, front, stop)
    log.info("stopped")


async def _live(
    settings: Settings, ledger: Ledger, aws: AwsSession, front: Front, stop: asyncio.Event
) -> None:
    """Put the daemon together and run it until it is told to stop."""
    webhooks = webhooks_of(settings, meters=front.meters, oddity=front.odd)
    daemon = _daemon(settings, ledger, aws, front, webhooks)
    front.reporting = daemon.reporting

    async def drain() -> None:
        front.board.stopping()
        for webhook in webhooks:
            webhook.refuse()
        await daemon.drain()

    front.board.started()
    _leave_to_the_collector()
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
            daemon.roots(),
            stop=stop,
            drain=drain,
            grace=max(settings.shutdown_seconds - CLOSING_SECONDS, 0.5),
        )
    finally:
        await daemon.abandon()
        await asyncio.gather(*(webhook.close() for webhook in webhooks))
        await daemon.leave(within=CLOSING_SECONDS / 4)


def _daemon(
    settings: Settings,
    ledger: Ledger,
    aws: AwsSession,
    front: Front,
    webhooks: Sequence[WebhookInbox],
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
    return Daemon(
        ports,
        settings,
        runtime,
        owner=owner,
        ledger_health=front.ledger_health,
        clock_health=front.clock_health,
    )


def _leave_to_the_collector() -> None:
    """Spare the garbage collector what is there to stay: libraries, settings and the daemon's parts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _heed_signals(stop: asyncio.Event) -> None:
    def heed(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("aborted", signal=number.name)
            os._exit(128 + number)
        stop.set()
        log.info("signal", signal=number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heed, number)


async def check(settings: Settings) -> Sequence[Check]:
    """Try one call of each kind that the daemon would make by these settings; see `services.checkup`."""
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
    """Return whether AWS is asked for anything with the daemon's own credentials: not where there are stores alone."""
    stores = [account.endpoint_url and account.profile for account in settings.accounts]
    asked = settings.queues or settings.report.cloudwatch or settings.ledger.kind == "dynamodb"
    return bool(asked) or not stores or not all(stores)
