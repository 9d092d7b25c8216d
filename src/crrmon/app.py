"""The composition root: settings in, a running daemon out. The only place that knows adapters and services."""

import asyncio
import os
import random
import signal
import socket
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog

from crrmon import __version__
from crrmon.adapters.aws import Aws
from crrmon.adapters.cloudwatch import CloudWatchSink
from crrmon.adapters.http import HttpServer
from crrmon.adapters.ledgers.memory import MemoryLedger
from crrmon.adapters.ledgers.sqlite import SqliteLedger
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.adapters.s3 import S3Probe
from crrmon.adapters.sqs import SqsInbox, queue_name, region_of
from crrmon.config import Queue, Settings
from crrmon.domain import catalogue
from crrmon.domain.pacing import Pacer, Policy
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger, LedgerError
from crrmon.ports.sink import Sink
from crrmon.services.bookkeeper import Bookkeeper
from crrmon.services.health import Dependency, HealthBoard
from crrmon.services.intake import Intake
from crrmon.services.looker import Looker
from crrmon.services.poller import Poller
from crrmon.services.publisher import Publisher
from crrmon.services.routebook import Routebook
from crrmon.services.supervisor import supervise
from crrmon.services.tenure import Tenure
from crrmon.services.upkeep import sweeper

DAY_SECONDS = 86_400.0

S3_TOLERATED_FAILURES = 10
"""Unreachable looks in a row, over all buckets, before S3 counts as away."""

SPARE_CONNECTIONS = 16
"""For deletes and extensions, beside the long polls."""

CLOSING_SECONDS = 3.0
"""Kept of the grace for what comes after draining."""

log = structlog.get_logger()

Root = Callable[[], Coroutine[Any, Any, None]]


async def run(settings: Settings) -> None:
    """
    Run the daemon until SIGTERM or SIGINT; a second signal ends the process at once.

    Raises:
        UnusableLedgerError, PortTakenError: it could not start; the text says what to do.
        UnexpectedEndError: a part of it ended by itself.
    """
    stop = asyncio.Event()
    _heed_signals(stop)
    async with AsyncExitStack() as stack:
        daemon = await _Daemon.build(settings, stack)
        await daemon.run(stop)
    log.info("stopped")


def _heed_signals(stop: asyncio.Event) -> None:
    def heed(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("aborted", signal=number.name)
            os._exit(128 + number)
        stop.set()
        log.info("signal", signal=number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heed, number)


class _Daemon:
    """
    All parts of one daemon, put together.
    """

    def __init__(self, settings: Settings, ledger: Ledger, aws: Aws, sink: Sink | None) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = SystemClock()
        self._chance = random.Random()  # noqa: S311 - jitter, not secrets
        self._meters = PrometheusMeters()
        self._meters.set(catalogue.BUILD_INFO, __version__, value=1)
        self._board = HealthBoard(clock=self._clock, meters=self._meters)
        self._ledger_health = self._board.dependency("ledger")
        self._s3_health = self._board.dependency("s3", tolerated=S3_TOLERATED_FAILURES)
        probe = S3Probe(aws, clock=self._clock)
        self._bookkeeper = Bookkeeper(
            ledger,
            health=self._ledger_health,
            clock=self._clock,
            meters=self._meters,
            chance=self._chance,
        )
        self._routebook = Routebook(
            probe, bookkeeper=self._bookkeeper, clock=self._clock, meters=self._meters
        )
        self._looker = Looker(
            probe,
            health=self._s3_health,
            pacer=Pacer(Policy(freshness=settings.looks.freshness)),
            clock=self._clock,
            meters=self._meters,
            chance=self._chance,
            concurrency=settings.looks.concurrency,
            per_bucket_per_second=settings.looks.per_bucket_per_second,
            give_up_after=settings.looks.give_up_after_days * DAY_SECONDS,
        )
        self._tenure = Tenure(
            ledger,
            owner=f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}",
            health=self._ledger_health,
            board=self._board,
        )
        self._poller = Poller(
            gates=self._gates,
            board=self._board,
            bookkeeper=self._bookkeeper,
            routebook=self._routebook,
            looker=self._looker,
            clock=self._clock,
            meters=self._meters,
            shards=self._tenure.shards,
            chance=self._chance,
            concurrency=settings.looks.concurrency,
        )
        self._intakes: list[Intake] = []
        self._publisher = self._make_publisher(sink)

    @classmethod
    async def build(cls, settings: Settings, stack: AsyncExitStack) -> "_Daemon":
        """
        Open ledger and AWS clients; the stack closes them.
        """
        ledger = await _open_ledger(settings)
        stack.push_async_callback(ledger.close)
        aws = await stack.enter_async_context(
            Aws(
                endpoint_url=settings.aws.endpoint_url,
                default_region=settings.aws.region,
                max_connections=_connections(settings),
            )
        )
        report = settings.report
        sink = None
        if report.cloudwatch:
            sink = CloudWatchSink(aws, namespace=report.namespace, region=report.region)
        daemon = cls(settings, ledger, aws, sink)
        for queue, name in zip(settings.queues, queue_names(settings.queues), strict=True):
            daemon._add_queue(queue, name, aws)
        return daemon

    async def run(self, stop: asyncio.Event) -> None:
        """
        Run until told to stop.
        """
        server = HttpServer(
            host=self._settings.http.host,
            port=self._settings.http.port,
            metrics=self._meters.page,
            health=self._board,
        )
        port = await server.start()
        log.info(
            "started",
            version=__version__,
            queues=[intake.name for intake in self._intakes],
            ledger=self._settings.ledger.kind,
            http=f"http://{self._settings.http.host}:{port}",
        )
        try:
            await supervise(
                self._roots(),
                stop=stop,
                drain=self._drain,
                grace=max(self._settings.shutdown_seconds - CLOSING_SECONDS, 0.5),
            )
        finally:
            await self._let_go()
            await server.stop()

    @property
    def _gates(self) -> tuple[Dependency, ...]:
        return (self._ledger_health, self._s3_health)

    def _roots(self) -> dict[str, Root]:
        roots: dict[str, Root] = {
            "ledger": self._bookkeeper.intact,
            "tenure": self._tenure.run,
            "poller": self._poller.run,
            "publisher": self._publisher.run,
            "sweeper": lambda: sweeper(
                self._ledger, clock=self._clock, health=self._ledger_health, board=self._board
            ),
        }
        for intake in self._intakes:
            roots[f"keeper {intake.name}"] = intake.keeper
            for number in range(1, self._settings.intake.receivers + 1):
                roots[f"receiver {intake.name} {number}"] = intake.receiver
        return roots

    async def _drain(self) -> None:
        self._board.stopping()
        for intake in self._intakes:
            intake.stop()
        self._poller.stop()
        await asyncio.gather(*(intake.drained() for intake in self._intakes))
        await self._poller.drained()
        await self._bookkeeper.drained()

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(CLOSING_SECONDS / 2):
                await self._tenure.give_up()
        except (LedgerError, TimeoutError) as error:
            log.warning("shards_kept", reason=repr(error))

    def _add_queue(self, queue: Queue, name: str, aws: Aws) -> None:
        inbox = SqsInbox(aws, queue.url, region=queue.region, name=name)
        self._intakes.append(
            Intake(
                inbox,
                queue=self._board.dependency(f"queue {inbox.name}"),
                gates=self._gates,
                board=self._board,
                bookkeeper=self._bookkeeper,
                routebook=self._routebook,
                looker=self._looker,
                clock=self._clock,
                meters=self._meters,
                chance=self._chance,
                hold_seconds=self._settings.intake.hold_seconds,
                max_in_flight=self._settings.intake.max_in_flight,
                horizon_seconds=self._settings.ledger.horizon_days * DAY_SECONDS,
            )
        )

    def _make_publisher(self, sink: Sink | None) -> Publisher:
        return Publisher(
            self._ledger,
            sink,
            tenure=self._tenure,
            ledger_health=self._ledger_health,
            sink_health=self._board.dependency("cloudwatch"),
            board=self._board,
            clock=self._clock,
            meters=self._meters,
            monitor=self._settings.monitor,
            buckets=self._settings.buckets,
            window_seconds=self._settings.report.window_seconds,
            stuck_after=self._settings.looks.stuck_after_seconds,
            queue_age=self._queue_age,
        )

    def _queue_age(self) -> float | None:
        ages = [intake.queue_age for intake in self._intakes]
        return (
            None if None in ages else max((age for age in ages if age is not None), default=None)
        )


def _connections(settings: Settings) -> int:
    """
    Tell how many connections one client may need: long polls must not take the place of what is urgent.
    """
    polls = settings.intake.receivers * len(settings.queues)
    return max(settings.looks.concurrency, polls + SPARE_CONNECTIONS)


def queue_names(queues: Sequence[Queue]) -> list[str]:
    """
    Name each queue for logs, labels and loops: by its own name, with the region where several share it.

    One name in all regions is usual. No two may come out the same: they would take each other's place.
    """
    short = [queue_name(queue.url) for queue in queues]
    regional = [
        f"{name}@{one.region or region_of(one.url) or ''}"
        for name, one in zip(short, queues, strict=True)
    ]
    candidates = zip(short, regional, (one.url for one in queues), strict=True)
    return [
        name if short.count(name) == 1 else place if regional.count(place) == 1 else url
        for name, place, url in candidates
    ]


async def _open_ledger(settings: Settings) -> Ledger:
    horizon = settings.ledger.horizon_days * DAY_SECONDS
    if settings.ledger.kind == "memory":
        return MemoryLedger(shards=settings.ledger.shards, horizon_seconds=horizon)
    return await SqliteLedger.open(
        settings.ledger.path, shards=settings.ledger.shards, horizon_seconds=horizon
    )
