"""The composition root: settings in, a running daemon out. The only place that knows adapters and services.

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
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog

from crrmon import __version__
from crrmon.adapters.access import AwsAccess
from crrmon.adapters.accounts import Account, Accounts
from crrmon.adapters.aws import SET_REGION, Aws
from crrmon.adapters.cloudwatch import CloudWatchSink
from crrmon.adapters.http import HttpServer
from crrmon.adapters.ledgers.dynamodb import DynamoDBLedger
from crrmon.adapters.ledgers.memory import MemoryLedger
from crrmon.adapters.ledgers.redis import RedisLedger
from crrmon.adapters.ledgers.redis_server import RedisServer
from crrmon.adapters.ledgers.sqlite import SqliteLedger
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.adapters.s3 import S3Probe
from crrmon.adapters.sdk_settings import SdkSettingsError, faults, forget_blanks
from crrmon.adapters.sqs import SqsInbox
from crrmon.adapters.webhook import WebhookInbox
from crrmon.config import LedgerSettings, Queue, Settings, Watch, Webhook
from crrmon.domain import catalogue
from crrmon.domain.checks import Check
from crrmon.domain.choice import Choice, pattern
from crrmon.domain.pacing import Pacer, Policy
from crrmon.domain.queue_address import queue_name, region_of
from crrmon.domain.stores import BucketStores
from crrmon.ports.clock import Clock, Dates, SystemClock
from crrmon.ports.inbox import Inbox
from crrmon.ports.ledger import Ledger, LedgerError, UnusableLedgerError
from crrmon.ports.sink import Sink
from crrmon.services.checkup import Checkup, Estate
from crrmon.services.intake.consumer import Intake
from crrmon.services.intake.dispatcher import Facts
from crrmon.services.lifecycle.health import Dependency, HealthBoard
from crrmon.services.lifecycle.patience import patiently
from crrmon.services.lifecycle.supervisor import supervise
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.lifecycle.timekeeper import Question, Timekeeper
from crrmon.services.membership.delay_memory import DelayMemory
from crrmon.services.membership.heartbeat import Attendance
from crrmon.services.membership.leases import Tenure
from crrmon.services.membership.sweeper import sweeper
from crrmon.services.reporting.fleet_gauges import Fleet
from crrmon.services.reporting.orphans import Unmatched
from crrmon.services.reporting.publisher import Publisher
from crrmon.services.tracking.configurations import Routebook
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.origins import Origins
from crrmon.services.tracking.poller import Poller
from crrmon.services.tracking.recorder import Bookkeeper
from crrmon.services.tracking.second_looks import SecondLooks

DAY_SECONDS = 86_400.0

S3_TOLERATED_FAILURES = 10
"""Unreachable looks in a row, over all buckets, before S3 counts as away."""

SPARE_CONNECTIONS = 24
"""For deletes and extensions, beside the long polls."""

OPENING_FIRST_SECONDS = 1.0
OPENING_CAP_SECONDS = 30.0
"""Between two tries to open a ledger on a server."""

CLOSING_SECONDS = 3.0
"""Kept of the grace for what comes after draining."""

log = structlog.get_logger()

Root = Callable[[], Coroutine[Any, Any, None]]


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
            await _Daemon(settings, ledger, aws, front).run(stop)
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
        self.tenure: Tenure | None = None
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
        return self.tenure is not None and self.tenure.reporting() is not None


class _Daemon:
    """
    All parts of one daemon, put together.
    """

    def __init__(self, settings: Settings, ledger: Ledger, aws: Aws, front: _Front) -> None:
        self._settings = settings
        self._ledger = ledger
        self._front = front
        self._clock = front.clock
        self._chance = random.Random()  # noqa: S311 - jitter, not secrets
        self._meters = front.meters
        self._board = front.board
        self._ledger_health = front.ledger_health
        self._s3_health = self._board.dependency("s3", tolerated=S3_TOLERATED_FAILURES)
        known = Accounts(aws, _accounts(settings), clock=self._clock, meters=self._meters)
        self._probe = probe = S3Probe(known, clock=self._clock)
        stores = BucketStores(known.elsewhere)
        self._unmatched = Unmatched(
            ledger,
            health=self._ledger_health,
            board=self._board,
            clock=self._clock,
            meters=self._meters,
        )
        self._bookkeeper = Bookkeeper(
            ledger,
            health=self._ledger_health,
            clock=self._clock,
            meters=self._meters,
            chance=self._chance,
            stores=stores,
            halves=self._unmatched.noted,
            hurried=bool(settings.inboxes),
        )
        self._routebook = Routebook(
            probe,
            bookkeeper=self._bookkeeper,
            clock=self._clock,
            meters=self._meters,
            buckets=settings.buckets,
            reporting=front.speaks_for_fleet,
        )
        self._looker = Looker(
            probe,
            health=self._s3_health,
            stores=stores,
            pacer=Pacer(Policy(freshness=settings.looks.freshness)),
            clock=self._clock,
            meters=self._meters,
            chance=self._chance,
            concurrency=settings.looks.concurrency,
            per_bucket_per_second=settings.looks.per_bucket_per_second,
            give_up_after=settings.looks.give_up_after_days * DAY_SECONDS,
        )
        choice = _choice(settings.watch)
        origins = Origins(self._routebook, self._looker, clock=self._clock)
        self._facts = Facts(
            bookkeeper=self._bookkeeper,
            routebook=self._routebook,
            looker=self._looker,
            origins=origins,
            stores=stores,
            choice=choice,
            clock=self._clock,
            meters=self._meters,
            horizon_seconds=settings.ledger.horizon_days * DAY_SECONDS,
        )
        owner = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._tenure = Tenure(
            ledger,
            owner=owner,
            health=self._ledger_health,
            board=self._board,
            chance=self._chance,
        )
        front.tenure = self._tenure
        self._second_looks = SecondLooks(
            register=self._bookkeeper.register,
            routebook=self._routebook,
            looker=self._looker,
            reporting=front.speaks_for_fleet,
            board=self._board,
        )
        self._poller = Poller(
            gates=self._gates,
            board=self._board,
            bookkeeper=self._bookkeeper,
            routebook=self._routebook,
            looker=self._looker,
            origins=origins,
            clock=self._clock,
            meters=self._meters,
            shards=self._tenure.shards,
            chance=self._chance,
            concurrency=settings.looks.concurrency,
        )
        self._intakes: list[Intake] = []
        self._delays = DelayMemory(
            ledger,
            clock=self._clock,
            least={
                str(name): least
                for name, least in settings.intake.least_event_delay_seconds.items()
            },
            horizon_seconds=settings.ledger.horizon_days * DAY_SECONDS,
        )
        self._publisher = self._make_publisher(_sink(settings, aws))
        self._webhooks = [self._webhook(one, place) for place, one in enumerate(settings.inboxes)]
        inboxes: list[Inbox] = [*_queue_inboxes(settings, aws), *self._webhooks]
        self._inboxes = inboxes
        self._fleet = Fleet(
            ledger,
            inboxes,
            owner=owner,
            reporting=self._tenure.reporting,
            unsent=self._publisher.unsent,
            timed=self._routebook.timed,
            seen_at=self._routebook.seen_at,
            choice=choice,
            vouched=bool(settings.intake.least_event_delay_seconds),
            health=self._ledger_health,
            board=self._board,
            clock=self._clock,
            meters=self._meters,
            stuck_after=settings.looks.stuck_after_seconds,
        )
        for inbox in inboxes:
            self._add_queue(inbox)
        self._attendance = Attendance(
            ledger,
            owner=owner,
            holders=self._intakes,
            delays=self._delays,
            health=self._ledger_health,
            board=self._board,
            clock=self._clock,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """
        Run until told to stop.
        """
        self._board.started()
        try:
            for webhook in self._webhooks:
                await webhook.start()
            # Not before: a token or a port that cannot be used ends it here.
            log.info(
                "started",
                version=__version__,
                queues=[intake.name for intake in self._intakes],
                ledger=self._settings.ledger.kind,
                http=self._front.url,
            )
            await supervise(
                self._roots(),
                stop=stop,
                drain=self._drain,
                grace=max(self._settings.shutdown_seconds - CLOSING_SECONDS, 0.5),
            )
        finally:
            await self._let_go()

    @property
    def _gates(self) -> tuple[Dependency, ...]:
        return (self._ledger_health, self._s3_health)

    def _roots(self) -> dict[str, Root]:
        roots: dict[str, Root] = {
            "ledger": self._bookkeeper.intact,
            "tenure": self._tenure.run,
            "clock": self._keep_time,
            "poller": self._poller.run,
            "survey": self._routebook.survey,
            "publisher": self._publisher.run,
            "fleet": self._fleet.run,
            "presence": self._attendance.run,
            "unmatched": self._unmatched.run,
            "second looks": self._second_looks.run,
            "sweeper": lambda: sweeper(
                self._ledger, clock=self._clock, health=self._ledger_health, board=self._board
            ),
        }
        for intake in self._intakes:
            roots[f"keeper {intake.name}"] = intake.keeper
            for number in range(1, self._settings.intake.receivers + 1):
                roots[f"receiver {intake.name} {number}"] = partial(self._receive, intake)
        return roots

    async def _keep_time(self) -> None:
        await self._front.clock.run(
            self._questions(),
            health=self._front.clock_health,
            board=self._board,
            meters=self._meters,
        )

    def _questions(self) -> list[Question]:
        """
        Tell who can be asked for the time: the queues; where there are none, those who have the buckets.
        """
        queues: list[Question] = [one.depth for one in self._inboxes if not one.pushed]
        return queues or [
            partial(self._probe.configuration, bucket, region="", owner=None)
            for bucket in self._settings.buckets
        ]

    async def _receive(self, intake: Intake) -> None:
        # What nobody knows to be held here, others would pass over.
        await patiently(self._attendance.announced(), alive=intake.alive)
        await intake.receiver()

    async def _drain(self) -> None:
        self._board.stopping()
        for intake in self._intakes:
            intake.stop()
        for webhook in self._webhooks:
            webhook.refuse()
        self._poller.stop()
        self._publisher.stop()
        await asyncio.gather(
            self._publisher.drained(), *(intake.drained() for intake in self._intakes)
        )
        await self._poller.drained()
        await self._bookkeeper.drained()

    async def _let_go(self) -> None:
        # What outlived the grace must not meet a ledger that is closed.
        await asyncio.gather(*(intake.abandon() for intake in self._intakes))
        await asyncio.gather(*(webhook.close() for webhook in self._webhooks))
        await self._poller.abandon()
        try:
            async with asyncio.timeout(CLOSING_SECONDS / 3):
                await self._tenure.give_up()
        except (LedgerError, TimeoutError) as error:
            log.warning("shards_kept", reason=repr(error))
        try:
            async with asyncio.timeout(CLOSING_SECONDS / 3):
                await self._attendance.leave()
        except (LedgerError, TimeoutError) as error:
            log.warning("presence_kept", reason=repr(error))

    def _webhook(self, one: Webhook, place: int) -> WebhookInbox:
        return WebhookInbox(
            name=one.name,
            setting=f"inboxes[{place}]",
            host=one.host,
            port=one.port,
            token=one.token.get_secret_value() if one.token else None,
            token_file=one.token_file,
            certificate_file=one.certificate_file,
            key_file=one.key_file,
            meters=self._meters,
            oddity=self._front.odd,
        )

    def _add_queue(self, inbox: Inbox) -> None:
        self._intakes.append(
            Intake(
                inbox,
                queue=self._board.dependency(f"queue {inbox.name}"),
                gates=self._gates,
                board=self._board,
                facts=self._facts,
                clock=self._clock,
                meters=self._meters,
                chance=self._chance,
                hold_seconds=self._settings.intake.hold_seconds,
                max_in_flight=self._settings.intake.max_in_flight,
                delays=self._delays,
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
            timed=self._routebook.timed,
            stuck_after=self._settings.looks.stuck_after_seconds,
            queue_age=self._queue_age,
        )

    def _queue_age(self) -> float | None:
        queues = zip(self._inboxes, self._intakes, strict=True)
        ages = [intake.queue_age for inbox, intake in queues if not inbox.pushed]
        return (
            None if None in ages else max((age for age in ages if age is not None), default=None)
        )


def _accounts(settings: Settings) -> list[Account]:
    """
    Hand the settings of accounts over to what uses them.
    """
    return [Account(**account.model_dump()) for account in settings.accounts]


def _queue_inboxes(settings: Settings, aws: Aws) -> list[SqsInbox]:
    """
    Make the queues that the settings name.
    """
    return [
        SqsInbox(aws, queue.url, region=queue.region, name=name)
        for queue, name in zip(settings.queues, queue_names(settings.queues), strict=True)
    ]


def _sink(settings: Settings, aws: Aws) -> CloudWatchSink | None:
    """
    Make what windows are sent to; None where nothing is.
    """
    report = settings.report
    if not report.cloudwatch:
        return None
    return CloudWatchSink(aws, namespace=report.namespace, region=report.region)


def _choice(watch: Watch) -> Choice:
    """
    Make the choice that the settings describe.
    """
    return Choice([pattern(one) for one in watch.include], [pattern(one) for one in watch.exclude])


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


def aws_of(settings: Settings, *, dates: Dates | None = None) -> Aws:
    """
    Make the way to AWS; an asynchronous context.

    Args:
        settings: of the daemon.
        dates: told what AWS's answers say about the time.
    """
    return Aws(
        endpoint_url=settings.aws.endpoint_url,
        default_region=settings.aws.region,
        max_connections=_connections(settings),
        dates=dates,
        # Without a queue, nothing of AWS is asked before an event comes; and what stores write, they date.
        stores_tell_time=not settings.queues,
    )


def check_sdk(settings: Settings, *, daemon: bool = True) -> None:
    """
    Make sure that AWS's SDK can be used as it is set up, as far as that can be known without asking anybody.

    Its variables without a value are taken out of the environment: they count as not set.

    Args:
        settings: say what the SDK is needed for.
        daemon: whether for all of it; else for the table of the ledger alone.

    Raises:
        SdkSettingsError: it cannot.
    """
    forget_blanks(os.environ)
    found = faults(os.environ)
    needing = ", ".join(_without_region(settings, daemon=daemon))
    if not found and needing and aws_of(settings).default_region() is None:
        found = [f"no region is known for {needing}: {SET_REGION}"]
    if found:
        raise SdkSettingsError("\n".join(found))


def _without_region(settings: Settings, *, daemon: bool) -> Iterator[str]:
    """
    List what is reached in the default region.
    """
    for number, queue in enumerate(settings.queues if daemon else ()):
        if not (queue.region or region_of(queue.url)):
            yield f"queues[{number}]"
    if daemon and settings.report.cloudwatch and not settings.report.region:
        yield "report"
    if settings.ledger.kind == "dynamodb" and not settings.ledger.dynamodb.region:
        yield "ledger.dynamodb"


async def open_ledger(
    settings: LedgerSettings, aws: Aws, *, clock: Clock, create: bool = True
) -> Ledger:
    """
    Open the ledger that the settings name.

    Args:
        settings: of the ledger.
        aws: the way to a table.
        clock: tells a ledger on a server the time.
        create: whether a new one may be made on a Redis server that has none of this name.

    Raises:
        UnusableLedgerError: somebody must act; the text says how.
        LedgerError: trying again may help.
    """
    horizon = settings.horizon_days * DAY_SECONDS
    match settings.kind:
        case "memory":
            return MemoryLedger(shards=settings.shards, horizon_seconds=horizon)
        case "sqlite":
            return await SqliteLedger.open(
                settings.path, shards=settings.shards, horizon_seconds=horizon
            )
        case "redis":
            redis = settings.redis
            server = RedisServer(
                url=redis.url,
                password=redis.password.get_secret_value() if redis.password else None,
                password_file=redis.password_file,
                ca_file=redis.ca_file,
                cluster=redis.cluster,
                prefix=redis.prefix,
            )
            return await RedisLedger.open(
                server,
                shards=settings.shards,
                horizon_seconds=horizon,
                clock=clock,
                create=create,
            )
        case "dynamodb":
            return await DynamoDBLedger.open(
                aws,
                table=settings.dynamodb.table,
                region=settings.dynamodb.region,
                shards=settings.shards,
                horizon_seconds=horizon,
                clock=clock,
            )


async def check(settings: Settings) -> Sequence[Check]:
    """
    Try one call of each kind that the daemon would make by these settings; see `services.checkup`.
    """
    async with aws_of(settings) as aws:
        clock, meters = SystemClock(), PrometheusMeters()
        accounts = Accounts(aws, _accounts(settings), clock=clock, meters=meters)
        kind = settings.ledger.kind
        estate = Estate(
            own_credentials=_own_credentials(settings),
            accounts=[account.id for account in settings.accounts],
            inboxes=_queue_inboxes(settings, aws),
            buckets=settings.buckets,
            sink=_sink(settings, aws),
            namespace=settings.report.namespace,
            ledger_kind=kind,
        )
        checkup = Checkup(
            estate,
            access=AwsAccess(aws, accounts),
            probe=S3Probe(accounts, clock=clock),
            ledger=None if kind == "memory" else partial(_tried, settings.ledger, aws, clock),
            chance=random.SystemRandom(),
        )
        return await checkup.run()


def _own_credentials(settings: Settings) -> bool:
    """
    Tell whether AWS is asked for anything with the daemon's own credentials: not where there are stores alone.
    """
    stores = [one.endpoint_url and one.profile for one in settings.accounts]
    asked = settings.queues or settings.report.cloudwatch or settings.ledger.kind == "dynamodb"
    return bool(asked) or not stores or not all(stores)


@contextlib.asynccontextmanager
async def _tried(settings: LedgerSettings, aws: Aws, clock: Clock) -> AsyncIterator[Ledger]:
    """
    Open the ledger and make none: one of its kind beside it stands for a file that is not there yet.
    """
    path, new = settings.path, settings.kind == "sqlite" and not settings.path.exists()
    if new:
        beside = path.with_name(f".{path.name}.check-{uuid.uuid4().hex[:12]}")
        settings = settings.model_copy(update={"path": beside})
    try:
        ledger = await open_ledger(settings, aws, clock=clock, create=False)
        try:
            yield ledger
        finally:
            await ledger.close()
    finally:
        if new:
            for left in settings.path.parent.glob(f"{settings.path.name}*"):
                left.unlink(missing_ok=True)


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
