"""One run: the world is set up, objects are written, replication runs, the daemon watches, all is compared."""

import asyncio
import random
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import msgspec

from crrmon.adapters.aws import Aws
from crrmon.adapters.ledgers.sqlite import SqliteLedger
from crrmon.domain.objects import Route
from crrmon.ports.clock import SystemClock
from crrmon.sandbox.accounts import Account
from crrmon.sandbox.children import free_port, is_free
from crrmon.sandbox.courier import Courier
from crrmon.sandbox.daemon import NAMESPACE, WINDOW_SECONDS, Daemon, Site, follow, write_config
from crrmon.sandbox.emulator import emulator
from crrmon.sandbox.facade import Facade, served
from crrmon.sandbox.plan import Chances, plan
from crrmon.sandbox.replication import Replication
from crrmon.sandbox.show import Progress, Show
from crrmon.sandbox.told import CloudWatch, LedgerReport, read_ledger
from crrmon.sandbox.truth import COMPLETED, FAILED, PENDING, Truth
from crrmon.sandbox.verdict import Latency, Messages, Run, Verdict, compare, judge
from crrmon.sandbox.world import WORLD, build, queue_url
from crrmon.sandbox.writer import Writer

DEFAULT_PORT = 9464
PATIENCE_SECONDS = 150.0
"""
How long reports may lag behind the final truth: for keys that no rule covers, the daemon waits a minute to be sure.
"""
PATIENCE_AFTER_KILL_SECONDS = 300.0
"""After a kill, what the daemon held comes back only when its visibility ends."""
QUIET_SECONDS = 2 * WINDOW_SECONDS + 1.0
"""How long to watch on when all agree: what is told twice, is told late."""
ENDLESS_KILLS_WITHIN_SECONDS = 60.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the user asked for.
    """

    objects: int | None
    """None: for ever."""
    rate: float
    """Objects per second."""
    chances: Chances
    seed: int
    kills: int
    port: int | None
    """None: the usual one, or else a free one."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that is there before the daemon starts.
    """

    site: Site
    emulator: Aws
    """The sandbox's own way to AWS; what is counted is the daemon's."""
    facade: Facade
    queue: str
    dead_letter_queue: str
    """URLs of the two queues, for that way."""
    cloudwatch: CloudWatch
    truth: Truth
    daemon: Daemon


@asynccontextmanager
async def staged(folder: Path, port: int | None) -> AsyncIterator[Stage]:
    """
    Start the emulator and the facade, build the world, and put the daemon's configuration beside it.

    Args:
        folder: for the configuration, the ledger and the logs.
        port: for the daemon's HTTP server; None for the usual one, or a free one.
    """
    truth = Truth()
    async with (
        emulator(folder) as emulator_url,
        served(emulator_url) as (facade, facade_url),
        _aws(emulator_url) as aws,
    ):
        async with _aws(facade_url) as before:
            await build(WORLD, before)
        facade.calls.clear()
        site = Site(folder=folder, endpoint=facade_url, port=port or _port())
        write_config(site, WORLD)
        daemon = Daemon(site)
        try:
            yield Stage(
                site=site,
                emulator=aws,
                facade=facade,
                queue=queue_url(emulator_url, WORLD.queue),
                dead_letter_queue=queue_url(emulator_url, WORLD.dead_letter_queue),
                cloudwatch=CloudWatch(
                    await aws.client("cloudwatch", WORLD.queue_region), NAMESPACE
                ),
                truth=truth,
                daemon=daemon,
            )
        finally:
            await daemon.abandon()


def _aws(endpoint: str) -> Aws:
    return Aws(endpoint_url=endpoint, default_region=WORLD.queue_region, max_connections=50)


def _port() -> int:
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else free_port()


class Play:
    """
    What happens on the stage.
    """

    def __init__(self, stage: Stage, settings: Settings, show: Show, stop: asyncio.Event) -> None:
        """
        Args:
            stage: everything set up.
            settings: what the user asked for.
            show: told of progress.
            stop: when set, nothing more is written.
        """
        self._stage = stage
        self._settings = settings
        self._show = show
        self._stop = stop
        self._clock = SystemClock()
        self._phase = "starting"

    async def run(self) -> Verdict:
        """
        Play it to the end.
        """
        daemon = self._stage.daemon
        self._show.places(self._stage.site, seed=self._settings.seed)
        began = self._clock.now()
        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(self._narrate())]
            if self._show.verbose:
                watchers.append(tasks.create_task(follow(self._stage.site.log, self._show.say)))
            await daemon.start()
            watchers.append(tasks.create_task(daemon.guard()))
            delivered, malformed = await self._write(tasks)
            await self._until_told(malformed)
            for watcher in watchers:
                watcher.cancel()
        self._show.say("Stopping the daemon.")
        daemon_exit = await daemon.stop()
        in_queue = await self._left_in(self._stage.queue)
        dead = await self._left_in(self._stage.dead_letter_queue)
        return await self._verdict(
            Run(
                seed=self._settings.seed,
                seconds=round(self._clock.now() - began, 1),
                written=len(self._stage.truth),
                kills=daemon.kills,
                daemon_exit=daemon_exit,
                calls=dict(sorted(self._stage.facade.calls.items())),
                repeated_calls=self._stage.facade.repeated,
                messages=Messages(
                    delivered=delivered,
                    malformed=malformed,
                    left_in_queue=in_queue,
                    left_in_dead_letter_queue=dead,
                ),
                latencies=await self._latencies(),
            )
        )

    async def _write(self, tasks: asyncio.TaskGroup) -> tuple[int, int]:
        """
        Write all objects and wait for what follows from them.

        Returns:
            How many messages were delivered, and how many of them are malformed.
        """
        stage, settings = self._stage, self._settings
        courier = Courier(
            await stage.emulator.client("sqs", WORLD.queue_region), stage.queue, tasks
        )
        replication = Replication(
            WORLD, stage.emulator, stage.truth, clock=self._clock, tasks=tasks
        )
        stage.facade.status_of = replication.status
        writer = Writer(
            WORLD, stage.emulator, replication=replication, courier=courier, clock=self._clock
        )
        self._phase = "writing"
        killing = tasks.create_task(self._kill_now_and_then())
        planned = islice(plan(WORLD, settings.chances, seed=settings.seed), settings.objects)
        await writer.write(planned, rate=settings.rate, stop=self._stop)
        self._stop.set()
        self._phase = "replicating"
        await killing
        await courier.finished()
        await replication.finished()
        return courier.delivered, writer.malformed

    async def _kill_now_and_then(self) -> None:
        rng = random.Random(f"kills {self._settings.seed}")  # noqa: S311 - a simulation
        span = self._settings.objects or self._settings.rate * ENDLESS_KILLS_WITHIN_SECONDS
        for number in range(self._settings.kills):
            moment = (number + rng.uniform(0.2, 1.0)) / self._settings.kills * span
            while len(self._stage.truth) < moment:
                if self._stop.is_set():
                    return
                await asyncio.sleep(0.05)
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            self._show.say("Killing the daemon with -9 and starting it again.")
            await self._stage.daemon.kill_and_restart()

    async def _until_told(self, malformed: int) -> None:
        """
        Wait until CloudWatch was told the truth, no more and no less, and the queue is empty; or too long.
        """
        truth = self._stage.truth.account()
        patience = PATIENCE_AFTER_KILL_SECONDS if self._stage.daemon.kills else PATIENCE_SECONDS
        try:
            async with asyncio.timeout(patience):
                agreed = False
                while not agreed:
                    while missing := await self._missing(truth, malformed):
                        self._phase = f"waiting for {missing}"
                        await asyncio.sleep(1.0)
                    self._phase = "making sure"
                    await asyncio.sleep(QUIET_SECONDS)
                    agreed = not await self._missing(truth, malformed)
        except TimeoutError:
            self._show.say(f"Gave up {self._phase} after {patience:.0f} s.")

    async def _missing(self, truth: Account, malformed: int) -> str:
        """
        Say what the daemon still has to do; nothing when all was told.
        """
        stage = self._stage
        left = await self._left_in(stage.queue) + await self._left_in(stage.dead_letter_queue)
        if left != malformed:
            return f"{left - malformed} messages"
        told = compare(truth, await stage.cloudwatch.account(), None)
        return next((f"{line.measure} of {line.source}" for line in told if not line.agrees), "")

    async def _left_in(self, queue_url: str) -> int:
        sqs = await self._stage.emulator.client("sqs", WORLD.queue_region)
        answer = await sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
        return sum(
            int(answer["Attributes"][name])
            for name in (
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            )
        )

    async def _narrate(self) -> None:
        truth = self._stage.truth
        while True:
            told = await self._stage.cloudwatch.replicated()
            heads = self._stage.facade.calls["HeadObject"]
            self._show.progress(
                Progress(
                    phase=self._phase,
                    written=len(truth),
                    replicated=truth.count(COMPLETED),
                    reported=sum(told.values()),
                    pending=truth.count(PENDING),
                    failed=truth.count(FAILED),
                    heads_per_object=heads / max(len(truth), 1),
                )
            )
            await asyncio.sleep(1.0)

    async def _latencies(self) -> tuple[Latency, ...]:
        routes = [Route(rule.source, rule.destination) for rule in WORLD.rules]
        found = []
        for route in routes:
            seconds = self._stage.truth.latencies(route)
            found.append(
                Latency(
                    source=route.source,
                    destination=route.destination,
                    truth=round(statistics.median(seconds), 3) if seconds else None,
                    cloudwatch=await self._stage.cloudwatch.median(route),
                )
            )
        return tuple(found)

    async def _verdict(self, run: Run) -> Verdict:
        truth = self._stage.truth
        account = truth.account()
        report = await _read(self._stage.site, truth)
        return judge(
            compare(account, await self._stage.cloudwatch.account(), report.account),
            run,
            statuses={
                story.written.version: (story.status, report.statuses[story.written.version])
                for story in truth
            },
            open_failures=(account.failed, report.open_failures),
            unreported=report.unreported,
            unsent=report.unsent,
        )


async def _read(site: Site, truth: Truth) -> LedgerReport:
    ledger = await SqliteLedger.open(site.ledger)
    try:
        return await read_ledger(ledger, (story.written.version for story in truth))
    finally:
        await ledger.close()
