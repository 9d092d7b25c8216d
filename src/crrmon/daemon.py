"""The daemon: its parts, put together over the ports that it is given, and the order in which they start and end.

Knows services, no adapter: `app` hands over what talks to AWS and stores; tests hand over fakes of the same ports, and
put nothing together themselves.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from crrmon.config import Settings
from crrmon.domain.pacing import Pacer
from crrmon.domain.policy import Policy
from crrmon.domain.stores import BucketStores
from crrmon.ports.inbox import Inbox
from crrmon.ports.ledger import Ledger, LedgerError
from crrmon.ports.probe import Probe
from crrmon.ports.sink import Sink
from crrmon.services.intake.consumer import Consumer
from crrmon.services.intake.dispatcher import Dispatcher
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.patience import patiently
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.timekeeper import Question, Timekeeper
from crrmon.services.membership.delay_memory import DelayMemory
from crrmon.services.membership.heartbeat import Heartbeat
from crrmon.services.membership.latency_memory import LatencyMemory
from crrmon.services.membership.leases import LeaseManager
from crrmon.services.membership.sweeper import sweeper
from crrmon.services.reporting.fleet_gauges import Fleet
from crrmon.services.reporting.orphans import OrphanWatch
from crrmon.services.reporting.publisher import Publisher
from crrmon.services.tracking.configurations import ConfigurationCache
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.origins import Origins
from crrmon.services.tracking.poller import Poller
from crrmon.services.tracking.rechecks import Rechecks
from crrmon.services.tracking.recorder import Recorder
from crrmon.services.tracking.survey import Survey
from crrmon.services.tracking.tracker import Tracker

S3_TOLERATED_FAILURES = 10
"""Unreachable looks in a row, over all buckets, before S3 counts as away."""

log = structlog.get_logger()

Root = Callable[[], Coroutine[Any, Any, None]]


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon reaches others by."""

    ledger: Ledger
    inboxes: Sequence[Inbox]
    probe: Probe
    sink: Sink | None
    """None where nothing is sent to CloudWatch."""
    stores: BucketStores
    """Which kind of store each bucket is in."""


class Daemon:
    """All parts of one daemon; making it is the one place where they are put together.

    Args:
        ports: what it reaches others by.
        settings: all of them; what they name outside was made into the ports before.
        runtime: clock, meters, health and chance.
        owner: its name in leases and heartbeats; no two daemons of a ledger share one.
        ledger_health: of the ledger, which was watched before there was one.
        clock_health: of this machine's clock.
    """

    def __init__(
        self,
        ports: Ports,
        settings: Settings,
        runtime: Runtime,
        *,
        owner: str,
        ledger_health: Dependency,
        clock_health: Dependency,
    ) -> None:
        self.ports = ports
        self.settings = settings
        self.runtime = runtime
        self.owner = owner
        self.ledger_health = ledger_health
        self.clock_health = clock_health
        self.s3_health = runtime.board.dependency("s3", tolerated=S3_TOLERATED_FAILURES)
        self.retention = settings.ledger.dedup_retention_seconds
        self.choice = settings.filter.choice
        self.leases = LeaseManager(ports.ledger, runtime, owner=owner, health=self.ledger_health)
        self._track()
        self._take_in()
        self._report()

    @property
    def gates(self) -> tuple[Dependency, ...]:
        """What must be there before anything is taken in or looked at."""
        return (self.ledger_health, self.s3_health)

    def reporting(self) -> bool:
        """Return whether this daemon reports for all."""
        return self.leases.reporting() is not None

    # ---- its parts ----

    def _track(self) -> None:
        """Put together what follows each version until it is final."""
        ports, settings, runtime = self.ports, self.settings, self.runtime
        self.orphans = OrphanWatch(ports.ledger, runtime, health=self.ledger_health)
        self.recorder = Recorder(
            ports.ledger,
            runtime,
            health=self.ledger_health,
            stores=ports.stores,
            early_facts=self.orphans.noted,
            hurried=any(inbox.pushed for inbox in ports.inboxes),
        )
        self.configurations = ConfigurationCache(
            ports.probe,
            runtime,
            recorder=self.recorder,
            buckets=settings.buckets,
        )
        self.survey = Survey(
            ports.probe,
            runtime,
            recorder=self.recorder,
            configurations=self.configurations,
            buckets=settings.buckets,
            reporting=self.reporting,
        )
        policy = Policy(freshness=settings.polling.freshness)
        pacer = Pacer(policy)
        self.latencies = LatencyMemory(
            ports.ledger, runtime, pacer=pacer, policy=policy, health=self.ledger_health
        )
        self.looker = Looker(
            ports.probe,
            runtime,
            health=self.s3_health,
            stores=ports.stores,
            pacer=pacer,
            concurrency=settings.polling.concurrency,
            per_bucket_per_second=settings.polling.per_bucket_per_second,
            give_up_after=settings.polling.give_up_after_seconds,
        )
        self.origins = Origins(runtime, configurations=self.configurations, looker=self.looker)
        self.tracker = Tracker(
            runtime,
            recorder=self.recorder,
            configurations=self.configurations,
            looker=self.looker,
            origins=self.origins,
            retention_seconds=self.retention,
        )
        self._look_again()

    def _look_again(self) -> None:
        """Put together what looks at versions that were looked at before."""
        settings, runtime = self.settings, self.runtime
        self.rechecks = Rechecks(
            runtime,
            register=self.recorder.register,
            configurations=self.configurations,
            looker=self.looker,
            reporting=self.reporting,
        )
        self.poller = Poller(
            runtime,
            gates=self.gates,
            recorder=self.recorder,
            looker=self.looker,
            tracker=self.tracker,
            shards=self.leases.shards,
            concurrency=settings.polling.concurrency,
        )

    def _take_in(self) -> None:
        """Put together what events come in by."""
        ports, settings, runtime = self.ports, self.settings, self.runtime
        least = settings.intake.min_event_delay_seconds
        self.delays = DelayMemory(
            ports.ledger,
            least={str(channel): seconds for channel, seconds in least.items()},
            retention_seconds=self.retention,
        )
        self.facts = Dispatcher(
            runtime,
            recorder=self.recorder,
            configurations=self.configurations,
            looker=self.looker,
            origins=self.origins,
            tracker=self.tracker,
            stores=ports.stores,
            choice=self.choice,
        )
        self.intakes = [
            Consumer(
                inbox,
                runtime,
                queue=runtime.board.dependency(f"queue {inbox.name}"),
                gates=self.gates,
                facts=self.facts,
                hold_seconds=settings.intake.hold_seconds,
                max_in_flight=settings.intake.max_in_flight,
                delays=self.delays,
                retention_seconds=self.retention,
            )
            for inbox in ports.inboxes
        ]
        self.heartbeat = Heartbeat(
            ports.ledger,
            runtime,
            owner=self.owner,
            holders=self.intakes,
            delays=self.delays,
            health=self.ledger_health,
        )

    def _report(self) -> None:
        """Put together what tells others."""
        ports, settings, runtime = self.ports, self.settings, self.runtime
        self.publisher = Publisher(
            ports.ledger,
            ports.sink,
            runtime,
            leases=self.leases,
            ledger_health=self.ledger_health,
            sink_health=runtime.board.dependency("cloudwatch"),
            monitor=settings.name,
            buckets=settings.buckets,
            window_seconds=settings.report.window_seconds,
            timed=self.configurations.timed,
            stuck_after=settings.polling.stuck_after_seconds,
            queue_age=self._queue_age,
        )
        self.fleet = Fleet(
            ports.ledger,
            ports.inboxes,
            runtime,
            owner=self.owner,
            reporting=self.leases.reporting,
            unsent=self.publisher.unsent,
            timed=self.configurations.timed,
            seen_at=self.configurations.seen_at,
            choice=self.choice,
            vouched=bool(settings.intake.min_event_delay_seconds),
            health=self.ledger_health,
            stuck_after=settings.polling.stuck_after_seconds,
        )

    def _queue_age(self) -> float | None:
        queues = zip(self.ports.inboxes, self.intakes, strict=True)
        ages = [intake.queue_age for inbox, intake in queues if not inbox.pushed]
        return (
            None if None in ages else max((age for age in ages if age is not None), default=None)
        )

    # ---- its life ----

    def roots(self) -> dict[str, Root]:
        """Return the loops that make up its life, by name."""
        roots: dict[str, Root] = {
            "ledger": self.recorder.intact,
            "leases": self.leases.run,
            "poller": self.poller.run,
            "survey": self.survey.run,
            "publisher": self.publisher.run,
            "fleet": self.fleet.run,
            "heartbeat": self.heartbeat.run,
            "latencies": self.latencies.run,
            "orphaned": self.orphans.run,
            "rechecks": self.rechecks.run,
            "sweeper": self._sweep,
        }
        if isinstance(self.runtime.clock, Timekeeper):
            roots["clock"] = partial(self._keep_time, self.runtime.clock)
        for intake in self.intakes:
            roots[f"visibility {intake.name}"] = intake.keeper
            for number in range(1, self.settings.intake.receivers + 1):
                roots[f"receiver {intake.name} {number}"] = partial(self._receive, intake)
        return roots

    async def _keep_time(self, clock: Timekeeper) -> None:
        await clock.run(
            self._questions(),
            health=self.clock_health,
            board=self.runtime.board,
            meters=self.runtime.meters,
        )

    def _questions(self) -> list[Question]:
        """Return who can be asked for the time: the queues; where there are none, those who have the buckets."""
        queues: list[Question] = [inbox.depth for inbox in self.ports.inboxes if not inbox.pushed]
        return queues or [
            partial(self.ports.probe.configuration, bucket, region="", owner=None)
            for bucket in self.settings.buckets
        ]

    async def _sweep(self) -> None:
        await sweeper(self.ports.ledger, self.runtime, health=self.ledger_health)

    async def _receive(self, intake: Consumer) -> None:
        # What nobody knows to be held here, others would pass over.
        await patiently(self.heartbeat.announced(), alive=intake.alive)
        # Nor is anything looked at before its time that others know the time of.
        await patiently(self.latencies.recalled(), alive=intake.alive)
        await intake.receiver()

    async def drain(self) -> None:
        """Take in nothing more, and wait until what is under way is done."""
        for intake in self.intakes:
            intake.stop()
        self.poller.stop()
        self.publisher.stop()
        await asyncio.gather(
            self.publisher.drained(), *(intake.drained() for intake in self.intakes)
        )
        await self.poller.drained()
        await self.recorder.drained()

    async def abandon(self) -> None:
        """End what outlived the grace where it stands: it must not meet a ledger that is closed."""
        await asyncio.gather(*(intake.abandon() for intake in self.intakes))
        await self.poller.abandon()

    async def leave(self, *, within: float) -> None:
        """Give up the leases, take leave of the others, and hand on what was learned.

        So the others need not wait until the leases lapse, and whoever comes next need not learn it again.

        Args:
            within: seconds for each of these.
        """
        for event, farewell in (
            ("lease_release_failed", self.leases.give_up),
            ("member_removal_failed", self.heartbeat.leave),
            ("latencies_not_saved", self.latencies.leave),
        ):
            try:
                async with asyncio.timeout(within):
                    await farewell()
            except (LedgerError, TimeoutError) as error:
                log.warning(event, reason=repr(error))
