"""One run: objects are written, replication runs, the daemons watch, failures they report are repaired, all is compared."""

import asyncio
import contextlib
import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path

import aiohttp
import msgspec
from botocore.exceptions import ClientError

from crrmon.adapters.aws import AwsSession
from crrmon.ports.clock import SystemClock
from crrmon.sandbox import prometheus
from crrmon.sandbox.accounts import SandboxAccount
from crrmon.sandbox.children import free_port, is_free
from crrmon.sandbox.courier import Courier
from crrmon.sandbox.daemon import (
    NAMESPACE,
    SHUTDOWN_SECONDS,
    WINDOW_SECONDS,
    DaemonProcess,
    Site,
    follow,
    write_config,
)
from crrmon.sandbox.emulator import emulator
from crrmon.sandbox.facade import Facade, ShowAgain, served
from crrmon.sandbox.keeping import Keeping, Kind, kept
from crrmon.sandbox.plan import SERVER, Chances, kills, plan
from crrmon.sandbox.replication import Replication
from crrmon.sandbox.rules import MISCHIEF, Rules, tell_s3
from crrmon.sandbox.show import Progress, Show
from crrmon.sandbox.telling import EventTeller
from crrmon.sandbox.throttling import Throttling
from crrmon.sandbox.told import CloudWatch, LedgerReport, read_ledger
from crrmon.sandbox.truth import FAILED, PENDING, Truth
from crrmon.sandbox.verdict import (
    LatencyVerdict,
    Line,
    Messages,
    ReasonLine,
    Replica,
    Run,
    SandboxVerdict,
    compare,
    compare_reasons,
    judge,
    where,
)
from crrmon.sandbox.watermarks import SETTLED, Lookout
from crrmon.sandbox.world import WORLD, build, queue_url
from crrmon.sandbox.writer import Writer

DEFAULT_PORT = 9464
PATIENCE_SECONDS = 150.0
"""How long reports may lag behind the final truth: for keys that no rule covers, the daemon waits a minute to be sure.
"""
PATIENCE_AFTER_KILL_SECONDS = 300.0
"""After a kill, some of what the daemon held may come back only when its visibility ends."""
REPORTER_SECONDS = 60.0
"""How long it may take until one replica alone shows the fleet's numbers: leases lapse in half of it."""
QUIET_SECONDS = 2 * WINDOW_SECONDS + 1.0
"""How long to watch on when all agree: what is told twice, is told late."""
SENT_WITHIN_SECONDS = 30.0
"""How long a window may wait in the ledger after its end; one that is still there then was forgotten."""
ENDLESS_TRIALS_WITHIN_SECONDS = 60.0
SAMPLE_SECONDS = 1.0
"""How often everything that is shown of watermarks is compared with the truth."""
PASSING_SECONDS = 45.0
"""How long to wait for them to pass the last write: they lag by something more than a minute."""
REPAIR_SECONDS = 1.0
"""How often somebody looks whether failures were reported that are to be repaired."""


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for."""

    objects: int | None
    """None: for ever."""
    rate: float
    """Objects per second."""
    chances: Chances
    seed: int
    kills: int
    port: int | None
    """Of the first replica; None: the usual one, or else a free one."""
    replicas: int = 1
    ledger: Kind = "sqlite"
    disable_rule: bool = False
    """Whether rules are switched off halfway; see `rules`."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is there before the daemons start."""

    endpoint: str
    """Of AWS, as the daemons see it."""
    emulator: AwsSession
    """The sandbox's own way to AWS; what is counted is the daemons'."""
    facade: Facade
    queue: str
    dead_letter_queue: str
    """URLs of the two queues, for that way."""
    cloudwatch: CloudWatch
    truth: Truth
    keeping: Keeping
    daemons: tuple[DaemonProcess, ...]

    async def kill(self, daemon: DaemonProcess) -> None:
        """Kill a replica with -9 and start it again; what it had received shows again at once."""
        await daemon.kill_and_restart(
            meanwhile=lambda: self.facade.give_back(daemon.site.access_key)
        )


@asynccontextmanager
async def staged(
    folder: Path, port: int | None, *, replicas: int = 1, ledger: Kind = "sqlite"
) -> AsyncIterator[Stage]:
    """Start the emulator and the facade, build the world, make the ledger, and write the daemons' configurations.

    Args:
        folder: for configurations, ledger and logs.
        port: for the first daemon's HTTP server; None for the usual one, or a free one.
        replicas: how many daemons.
        ledger: of which kind.
    """
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        emulator_url = await stack.enter_async_context(emulator(folder))
        facade, facade_url = await stack.enter_async_context(served(emulator_url))
        aws = await stack.enter_async_context(_aws(emulator_url))
        async with _aws(facade_url) as before:
            await build(WORLD, before)
        facade.calls.clear()
        facade.show_again = await _shower(aws, emulator_url)
        keeping = await stack.enter_async_context(kept(ledger, folder, aws, WORLD))
        daemons = tuple(
            DaemonProcess(site, http)
            for site in sites(folder, facade_url, port, replicas=replicas)
        )
        for daemon in daemons:
            write_config(daemon.site, WORLD, ledger=keeping.settings)
            stack.push_async_callback(daemon.abandon)
        yield Stage(
            endpoint=facade_url,
            emulator=aws,
            facade=facade,
            queue=queue_url(emulator_url, WORLD.queue),
            dead_letter_queue=queue_url(emulator_url, WORLD.dead_letter_queue),
            cloudwatch=CloudWatch(await aws.client("cloudwatch", WORLD.queue_region), NAMESPACE),
            truth=Truth(),
            keeping=keeping,
            daemons=daemons,
        )


def sites(folder: Path, endpoint: str, port: int | None, *, replicas: int) -> list[Site]:
    """Find a place for each replica."""
    ports = [port or _port()]
    while len(ports) < replicas:
        if (free := free_port()) not in ports:
            ports.append(free)
    return [
        Site(folder=folder, endpoint=endpoint, port=one, number=number, alone=replicas == 1)
        for number, one in enumerate(ports, start=1)
    ]


async def _shower(aws: AwsSession, emulator_url: str) -> ShowAgain:
    sqs = await aws.client("sqs", WORLD.queue_region)

    async def show_again(queue: str, receipt: str) -> None:
        # NB: the queue's URL is the facade's; whoever got the message may have deleted it after all.
        name = queue.rpartition("/")[2]
        with contextlib.suppress(ClientError):
            await sqs.change_message_visibility(
                QueueUrl=queue_url(emulator_url, name), ReceiptHandle=receipt, VisibilityTimeout=0
            )

    return show_again


def _aws(endpoint: str) -> AwsSession:
    return AwsSession(
        endpoint_url=endpoint,
        default_region=WORLD.queue_region,
        max_connections=50,
        # Its log would stand in what people read.
        choice="sdk",
    )


def _calls(stage: Stage) -> Counter[str]:
    """Count the daemons' calls by operation, and nobody else's."""
    calls = (stage.facade.calls_of[daemon.site.access_key] for daemon in stage.daemons)
    return sum(calls, Counter())


def _name(line: Line | ReasonLine) -> str:
    what = line.measure.replace("_", " ") if isinstance(line, Line) else f"{line.reason} failures"
    return f"{what} of {where(line)}"


def _port() -> int:
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else free_port()


class Play:
    """What happens on the stage."""

    def __init__(
        self, stage: Stage, settings: SandboxSettings, show: Show, stop: asyncio.Event
    ) -> None:
        """Args:
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
        self._lookout = Lookout(stage.truth)
        self._rules = Rules(WORLD)

    async def run(self) -> SandboxVerdict:
        """Play it to the end."""
        stage = self._stage
        self._show.places(
            stage.daemons, stage.keeping, endpoint=stage.endpoint, seed=self._settings.seed
        )
        if self._settings.kills and stage.keeping.kind == "dynamodb":
            stage.facade.throttling = Throttling(self._chance("throttling"))
        began = self._clock.now()
        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(self._narrate())]
            if self._show.verbose:
                watchers += [
                    tasks.create_task(follow(daemon.site.log, self._show.say))
                    for daemon in stage.daemons
                ]
            await asyncio.gather(*(daemon.start() for daemon in stage.daemons))
            guarded = (*stage.daemons, *([stage.keeping.server] if stage.keeping.server else ()))
            watchers += [tasks.create_task(one.guard()) for one in guarded]
            watchers.append(tasks.create_task(self._look_out()))
            delivered, malformed = await self._write(tasks)
            await self._until_told(malformed)
            await self._until_passed()
            reporting = await self._reporting()
            counted = await self._counted()
            for watcher in watchers:
                watcher.cancel()
        self._show.say(
            "Stopping the daemon." if len(stage.daemons) == 1 else "Stopping the daemons."
        )
        stopped_at = self._clock.now()
        exits = await asyncio.gather(
            *(daemon.stop(grace=SHUTDOWN_SECONDS + 5) for daemon in stage.daemons)
        )
        in_queue = await self._left_in(stage.queue)
        dead = await self._left_in(stage.dead_letter_queue)
        throttled = stage.facade.throttling.counts if stage.facade.throttling else {}
        return await self._verdict(
            Run(
                seed=self._settings.seed,
                seconds=round(self._clock.now() - began, 1),
                ledger=stage.keeping.kind,
                written=len(stage.truth),
                samples=self._lookout.samples,
                replicas=tuple(
                    Replica(
                        name=daemon.name,
                        looks=stage.facade.calls_of[daemon.site.access_key]["HeadObject"],
                        kills=daemon.kills,
                        reports=daemon in reporting,
                        exit=code,
                    )
                    for daemon, code in zip(stage.daemons, exits, strict=True)
                ),
                ledger_kills=stage.keeping.server.kills if stage.keeping.server else 0,
                ledger_calls_refused=throttled.get("refused", 0),
                ledger_answers_lost=throttled.get("lost", 0),
                calls=dict(sorted(_calls(stage).items())),
                looks_elsewhere=stage.facade.looks_elsewhere,
                repeated_calls=stage.facade.repeated,
                doubled_datapoints=sum(times > 1 for times in stage.facade.datapoints.values()),
                messages=Messages(
                    delivered=delivered,
                    malformed=malformed,
                    left_in_queue=in_queue,
                    left_in_dead_letter_queue=dead,
                ),
                latencies=await self._latencies(),
            ),
            counted,
            sent_before=stopped_at - SENT_WITHIN_SECONDS - WINDOW_SECONDS,
        )

    async def _reporting(self) -> list[DaemonProcess]:
        """Return who shows the fleet's numbers; wait for it to be one alone."""
        self._phase = "waiting for one replica to speak for all"
        reporting: list[DaemonProcess] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORTER_SECONDS):
                while len(reporting) != 1:
                    reporting = [
                        daemon for daemon in self._stage.daemons if await daemon.reports()
                    ]
                    await asyncio.sleep(0.5)
        return reporting

    async def _look_out(self) -> None:
        """Compare the watermarks that are shown with the truth, again and again."""
        while True:
            await asyncio.gather(*(self._sample(daemon) for daemon in self._stage.daemons))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _sample(self, daemon: DaemonProcess) -> None:
        page = await daemon.metrics()
        # NB: the truth of the moment after: what arrived while the page was on its way is no reproach.
        self._lookout.take(daemon.name, page, at=self._clock.now())

    async def _until_passed(self) -> None:
        """
        Wait until the watermarks have passed all that was written, or too long: what they never came near, they cannot
        have passed wrongly.

        A killed daemon's last word holds them for minutes, which nobody waits for.
        """
        if self._settings.kills:
            return
        last = self._stage.truth.last_written_at
        followed = [route for route, leads in self._rules.leads().items() if leads]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PASSING_SECONDS):
                while behind := [
                    route
                    for route in followed
                    if (self._lookout.last(SETTLED, route) or 0.0) < last
                ]:
                    self._phase = f"waiting for {len(behind)} watermarks to pass what was written"
                    await asyncio.sleep(SAMPLE_SECONDS)

    def _chance(self, of: str) -> random.Random:
        return random.Random(f"{of} {self._settings.seed}")  # noqa: S311 - a simulation

    async def _write(self, tasks: asyncio.TaskGroup) -> tuple[int, int]:
        """Write all objects and wait for what follows from them.

        Returns:
            How many messages were delivered, and how many of them are malformed.
        """
        stage, settings = self._stage, self._settings
        courier = Courier(
            await stage.emulator.client("sqs", WORLD.queue_region), stage.queue, tasks
        )
        teller = EventTeller(WORLD, courier)
        replication = Replication(
            self._rules, stage.emulator, stage.truth, teller=teller, clock=self._clock, tasks=tasks
        )
        stage.facade.status_of = replication.status
        stage.facade.is_source = replication.is_source
        stage.facade.replicas = replication.replicas
        writer = Writer(
            self._rules,
            stage.emulator,
            replication=replication,
            teller=teller,
            courier=courier,
            clock=self._clock,
        )
        self._phase = "writing"
        over = asyncio.Event()
        repairing = tasks.create_task(self._repair(replication, over))
        trials = (
            tasks.create_task(self._kill_now_and_then()),
            tasks.create_task(self._switch_off_halfway()),
        )
        planned = islice(plan(WORLD, settings.chances, seed=settings.seed), settings.objects)
        await writer.write(planned, rate=settings.rate, stop=self._stop)
        self._stop.set()
        self._phase = "replicating"
        await asyncio.gather(*trials)
        await replication.finished()
        self._phase = "waiting for failures to be reported"
        over.set()
        try:
            async with asyncio.timeout(self._patience):
                await repairing
        except TimeoutError:
            self._show.say(f"Gave up {self._phase} after {self._patience:.0f} s.")
        self._phase = "repairing"
        await replication.finished()
        await courier.finished()
        return courier.delivered, writer.malformed

    async def _repair(self, replication: Replication, over: asyncio.Event) -> None:
        """
        Repair what is to be repaired, but nothing that was not reported yet, until nothing is left and `over` is set.

        Whoever looks only after a failure was repaired sees none, and is not to blame.
        """
        truth = self._stage.truth
        while replication.to_repair() or not over.is_set():
            await asyncio.sleep(REPAIR_SECONDS)
            for bucket in replication.to_repair():
                failures = truth.failures(bucket)
                told = await self._stage.cloudwatch.failed()
                if told.get(bucket, 0) >= failures == truth.failures(bucket):
                    replication.repair(bucket)

    @property
    def _patience(self) -> float:
        return PATIENCE_AFTER_KILL_SECONDS if self._settings.kills else PATIENCE_SECONDS

    async def _kill_now_and_then(self) -> None:
        stage, settings = self._stage, self._settings
        rng = self._chance("kills")
        for kill in kills(
            settings.kills,
            replicas=len(stage.daemons),
            server=stage.keeping.server is not None,
            rng=rng,
        ):
            if not await self._have_written(kill.after):
                return
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            victim = stage.keeping.server if kill.victim == SERVER else stage.daemons[kill.victim]
            if victim is None:
                continue
            self._show.say(f"Killing {victim.name} with -9 and starting it again.")
            if isinstance(victim, DaemonProcess):
                await stage.kill(victim)
            else:
                await victim.kill_and_restart()

    async def _switch_off_halfway(self) -> None:
        if not self._settings.disable_rule or not await self._have_written(0.5):
            return
        self._show.say(
            f"Disabling the rule {MISCHIEF.disabled}, and deleting the replication configuration of {MISCHIEF.deleted}."
        )
        # The truth first: what a daemon reads a moment too early is old, and no lie.
        self._rules.switch_off(MISCHIEF)
        async with _aws(self._stage.endpoint) as aws:
            await tell_s3(MISCHIEF, WORLD, aws)

    async def _have_written(self, share: float) -> bool:
        """Wait until so much was written.

        Returns:
            False when writing ended before.
        """
        settings = self._settings
        span = settings.objects or settings.rate * ENDLESS_TRIALS_WITHIN_SECONDS
        while len(self._stage.truth) < share * span:
            if self._stop.is_set():
                return False
            await asyncio.sleep(0.05)
        return True

    async def _until_told(self, malformed: int) -> None:
        """Wait until the truth was told, no more and no less, and the queue is empty; or too long."""
        truth = self._account()
        patience = self._patience
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

    async def _missing(self, truth: SandboxAccount, malformed: int) -> str:
        """Say what the daemon still has to do; nothing when all was told."""
        stage = self._stage
        left = await self._left_in(stage.queue) + await self._left_in(stage.dead_letter_queue)
        if left != malformed:
            return f"{left - malformed} messages"
        counted = await self._counted()
        told: tuple[Line | ReasonLine, ...] = (
            *compare(truth, await self._reported(), None, counted),
            *compare_reasons(truth, counted),
        )
        return next((_name(line) for line in told if not line.agrees), "")

    async def _reported(self) -> SandboxAccount:
        """Sum up what CloudWatch was told, as far as that can be compared.

        What no rule covers leaves no mark: an event that comes again to another daemon, or after a kill, is told again.
        """
        account = await self._stage.cloudwatch.account()
        again = self._settings.kills or len(self._stage.daemons) > 1
        return msgspec.structs.replace(account, not_covered=None) if again else account

    def _account(self) -> SandboxAccount:
        """Sum up what is true."""
        leads = {route: int(one) for route, one in self._rules.leads().items()}
        return msgspec.structs.replace(self._stage.truth.account(), configured=leads)

    async def _counted(self) -> SandboxAccount | None:
        """Read what Prometheus would; None where a process that counted is gone, or there are several."""
        daemons = self._stage.daemons
        if len(daemons) > 1 or daemons[0].starts > 1:
            return None
        return prometheus.account(await daemons[0].metrics())

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
            facade = self._stage.facade
            heads = facade.calls["HeadObject"] - facade.looks_elsewhere
            self._show.progress(
                Progress(
                    phase=self._phase,
                    written=len(truth),
                    replicated=truth.arrivals,
                    reported=sum(told.values()),
                    pending=truth.count(PENDING),
                    failed=truth.count(FAILED),
                    heads_per_object=heads / max(len(truth), 1),
                )
            )
            await asyncio.sleep(1.0)

    async def _latencies(self) -> tuple[LatencyVerdict, ...]:
        found = []
        for route in WORLD.routes:
            seconds = self._stage.truth.latencies(route)
            found.append(
                LatencyVerdict(
                    source=route.source,
                    destination=route.destination,
                    truth=round(statistics.median(seconds), 3) if seconds else None,
                    cloudwatch=await self._stage.cloudwatch.median(route),
                )
            )
        return tuple(found)

    async def _verdict(
        self, run: Run, counted: SandboxAccount | None, *, sent_before: float
    ) -> SandboxVerdict:
        truth = self._stage.truth
        account = self._account()
        report = await self._read(truth, sent_before=sent_before)
        return judge(
            compare(account, await self._reported(), report.account, counted),
            run,
            reasons=compare_reasons(account, counted),
            watermarks=self._lookout.lines(),
            statuses={
                story.written.version: (story.told, report.statuses[story.written.version])
                for story in truth
            },
            open_failures=(truth.open_failures(), report.open_failures),
            unreported=report.unreported,
            unsent=report.unsent,
        )

    async def _read(self, truth: Truth, *, sent_before: float) -> LedgerReport:
        ledger = await self._stage.keeping.open()
        try:
            return await read_ledger(
                ledger,
                (story.written.version for story in truth),
                markers=truth.markers,
                sent_before=sent_before,
            )
        finally:
            await ledger.close()
