"""Which destinations a key should reach, and what part a bucket plays: the replication configurations, remembered.

A configuration is read when a bucket is first met, again when it is old, and when a key seems not to be covered by
one that was read before the key was written; never more often than once a minute and bucket.
One that cannot be read says nothing: the last one read goes on covering keys, but proves none uncovered.

A bucket that stands under one name at several sites has a configuration at each. Its routes have names only, so what is
told of a route is told of all sites together, and known once all of them were read.

Beside what events ask for, a survey (`survey.py`) reads the configurations of all sources now and then.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.events.facts import MarkerCreated, ObjectWritten
from crrmon.domain.objects import Route
from crrmon.domain.records import Destination, Record
from crrmon.domain.routes import (
    WRITE_SLACK_SECONDS,
    Covered,
    NotCovered,
    coverage,
    parse,
)
from crrmon.ports.clock import Clock
from crrmon.ports.probe import (
    NoBucketError,
    Probe,
    UnreadableConfigurationError,
    UnusableAccountError,
)
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.timekeeper import certain
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.pages import Page, Pages
from crrmon.services.tracking.recorder import Recorder

REFRESH_SECONDS = 300.0
"""Age at which a configuration is read again although it covers the key."""

SPACING_SECONDS = 60.0
"""Least time between two reads for one bucket."""

EARLY_SECONDS = 5.0
"""How much sooner than that a survey may read: its rounds must not come out a moment too early for every other one."""

SURVEY_PATIENCE_SECONDS = 10.0
"""Longest time that anybody waits for the first survey; what is not known by then is asked of S3 object by object."""

NAMED = 5
"""How many unreadable buckets, or rules that are not understood, one line of the log names."""

REMINDER_SECONDS = 60.0
"""Least time between two lines about configurations that events asked for and nobody could read."""

log = structlog.get_logger()

Rules = TypeVar("Rules")


class Later(msgspec.Struct, frozen=True):
    """Nobody can tell yet."""

    ask_again_at: float


Answer = tuple[Destination, ...] | NotCovered | Later
"""Where a version should arrive; that it should nowhere, proved; or when to ask again."""


async def until_known(
    ask: Callable[[], Awaitable[Rules | Later]], hold: Hold | None, until: float
) -> Rules | Later:
    """Ask the rules until they are known, or the hold is over.

    Args:
        ask: the question.
        hold: of the message that wants to know; None asks once.
        until: when the hold is over.

    Raises:
        GivenBack: the daemon stops.
    """
    while isinstance(answer := await ask(), Later):
        if hold is None or answer.ask_again_at > until:
            return answer
        await hold.wait(answer.ask_again_at)
    return answer


class Role(msgspec.Struct, frozen=True):
    """What part a bucket plays, as far as is known."""

    source: bool
    """Whether rules replicate from it, or might: its configuration was never readable."""
    destination: bool
    """Whether a route leads to it."""
    known: bool
    """Whether its own configuration was ever readable."""


class _Unread:
    """
    Tells of configurations that events asked for and nobody could read: in one line a minute, however many there are.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_at = float("-inf")
        self._reads = 0
        self._examples: dict[str, str] = {}

    def met(self, bucket: str, error: UnreadableConfigurationError) -> None:
        """Take one in."""
        if isinstance(error, UnusableAccountError):
            return  # told by those who look after the account, which may own a thousand buckets
        self._reads += 1
        if len(self._examples) < NAMED:
            self._examples[bucket] = str(error)
        now = self._clock.now()
        # NB: a wall clock may be set back.
        if 0 <= now - self._told_at < REMINDER_SECONDS:
            return
        log.warning("configuration_unreadable", reads=self._reads, reasons=self._examples)
        self._told_at, self._reads, self._examples = now, 0, {}


class ConfigurationCache:
    """Answers which destinations a written version should reach.

    Args:
        probe: reads configurations.
        buckets: sources that are remembered even before anything is known of them.
    """

    def __init__(
        self,
        probe: Probe,
        runtime: Runtime,
        *,
        recorder: Recorder,
        buckets: Sequence[str] = (),
    ) -> None:
        self._probe = probe
        self._recorder = recorder
        self._clock = runtime.clock
        self._meters = runtime.meters
        surveyed = frozenset(buckets)
        self._pages = Pages(
            probe,
            runtime.clock,
            spared=lambda bucket: bucket in surveyed or bucket in self._known,
        )
        self._known: Mapping[str, frozenset[str]] = {}
        """The destinations of each source, as the ledger remembers them."""
        self._leads: dict[str, frozenset[str]] = {}
        """The destinations of each source that has any; `_sources` is the same, turned round."""
        self._sources: dict[str, set[str]] = {}
        self._surveyed = asyncio.Event()
        self._unread = _Unread(runtime.clock)

    # ---- what events ask for ----

    def at_hand(self, written: ObjectWritten | Record) -> tuple[Destination, ...] | None:
        """Return where a version should arrive, if that can be told without asking anybody; else see `destinations`."""
        now = self._clock.now()
        page = self._pages.get(written.version.bucket, written.owner, now=now)
        if page.configuration is None or page.reading.locked():
            return None
        if now - page.asked_at >= REFRESH_SECONDS:
            return None
        return page.configuration.destinations(written.version.key) or None

    async def destinations(self, written: ObjectWritten | Record) -> Answer:
        """Return where a version should arrive.

        Returns:
            The destinations; or NotCovered, proved by a configuration read after the write; or when to ask again.
        """
        bucket = written.version.bucket
        page = self._pages.get(bucket, written.owner)
        written_at, now = written.written_at, self._clock.now()
        if written_at > now:
            # A clock that goes wrong: whenever it was, it was before this question.
            written_at = now - WRITE_SLACK_SECONDS
        # Whoever asks while somebody reads waits for what that brings: many ask at the same moment.
        async with page.reading:
            await self._fresh(page, bucket, written.region, written.owner)
            answer = self._covered(page, written.version.key, written_at)
            if answer is None and self._clock.now() - page.asked_at >= SPACING_SECONDS:
                await self._read(page, bucket, written.region, written.owner)
                answer = self._covered(page, written.version.key, written_at)
        if answer is None:
            return Later(page.asked_at + SPACING_SECONDS)
        return answer

    async def marker_destinations(self, marker: MarkerCreated) -> tuple[Destination, ...] | Later:
        """Return where a delete marker should arrive, by the configuration of the moment.

        It need not be newer than the marker, as with objects: most buckets replicate no markers, and each of theirs
        would wait for a reading. So what was changed within `REFRESH_SECONDS` may be missed.

        Returns:
            The destinations, perhaps none; or when to ask again, where no configuration could be read yet.
        """
        bucket = marker.version.bucket
        page = self._pages.get(bucket, marker.owner)
        async with page.reading:
            if page.configuration is None:
                if self._clock.now() - page.asked_at >= SPACING_SECONDS:
                    await self._read(page, bucket, marker.region, marker.owner)
            else:
                await self._fresh(page, bucket, marker.region, marker.owner)
        if page.configuration is None:
            return Later(page.asked_at + SPACING_SECONDS)
        return page.configuration.marker_destinations(marker.version.key)

    async def role(self, bucket: str, *, region: str, owner: str | None) -> Role:
        """Return what part a bucket plays, by its own configuration and by those that lead to it.

        Args:
            bucket: any.
            region: of it, as far as known.
            owner: whose it is, where known: the id of an account, or a store's site.
        """
        await self.surveyed()
        page = self._pages.get(bucket, owner)
        async with page.reading:
            await self._fresh(page, bucket, region, owner)
        source = page.configuration is None or bool(page.configuration.rules)
        return Role(
            source=source,
            destination=bool(self.sources(bucket)),
            known=page.configuration is not None,
        )

    async def surveyed(self) -> None:
        """Wait until the first survey is over, but not for long."""
        if not self._surveyed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SURVEY_PATIENCE_SECONDS):
                    await self._surveyed.wait()

    def sources(self, bucket: str) -> frozenset[str]:
        """Return the buckets known to replicate to a bucket."""
        return frozenset(self._sources.get(bucket, ()))

    def timed(self) -> frozenset[Route]:
        """Return the routes on which S3 promises to replicate in time, by the configurations read so far."""
        return frozenset(
            Route(source, destination)
            for source in self._leads
            for page in self._pages.read(source)
            if page.configuration is not None
            for destination in page.configuration.timed
        )

    def seen_at(self, route: Route) -> float | None:
        """Return when rules were last seen to lead along a route; None while they do not, or none could be read yet."""
        known = self._pages.merged(route.source)
        if known is None or route.destination not in known.all_destinations:
            return None
        # Not before the register knows what it says: until then, what is remembered of the route may be older.
        return self._pages.noted_at(route.source)

    def whereabouts(self, bucket: str) -> list[tuple[str, str | None]]:
        """Return the region of a bucket and whose it is, as far as events told; of all that have its name."""
        return [
            (page.region, page.owner or site) if page else ("", site)
            for site, page in self._pages.at_sites(bucket)
        ]

    @staticmethod
    def _covered(
        page: Page, key: str, written_at: float
    ) -> tuple[Destination, ...] | NotCovered | None:
        if page.configuration is None:
            return None
        match coverage(page.configuration, key, written_at=written_at):
            case Covered(destinations=destinations):
                return destinations
            case NotCovered() as uncovered:
                return uncovered
            case _:
                return None

    # ---- the survey ----

    async def reread(self, bucket: str, site: str | None) -> UnreadableConfigurationError | None:
        """Read a configuration, unless events had it read lately; return why not, if that fails."""
        page = self._pages.get(bucket, site)
        async with page.reading:
            if self._clock.now() - page.asked_at < SPACING_SECONDS - EARLY_SECONDS:
                return None
            asked_at = page.asked_at
            error = await self._ask(page, bucket, "", site)
            if error is not None and page.owner is None:
                # An event will tell whose bucket it is; then it can be asked at once.
                page.asked_at = asked_at
            return error

    def read(self, bucket: str) -> bool:
        """Return whether the configuration of any bucket of a name could be read."""
        return bool(self._pages.read(bucket))

    def surveyed_once(self) -> None:
        """Take in that all sources were asked."""
        self._surveyed.set()

    # ---- reading ----

    async def _fresh(self, page: Page, bucket: str, region: str, owner: str | None) -> None:
        """Get a configuration that is not old, if it can be read."""
        if self._clock.now() - page.asked_at >= REFRESH_SECONDS:
            await self._read(page, bucket, region, owner)

    async def _read(self, page: Page, bucket: str, region: str, owner: str | None) -> None:
        error = await self._ask(page, bucket, region, owner)
        if error is not None:
            self._unread.met(bucket, error)

    async def _ask(
        self, page: Page, bucket: str, region: str, owner: str | None
    ) -> UnreadableConfigurationError | None:
        """Read a configuration; return why not, if that fails."""
        page.region, page.owner = region or page.region, owner or page.owner
        await certain(self._clock)
        # The moment before asking: what S3 answers is at least as new.
        page.asked_at = self._clock.now()
        try:
            raw = await self._probe.configuration(bucket, region=page.region, owner=page.owner)
        except UnreadableConfigurationError as error:
            self._count(bucket, "unreadable")
            page.missing = isinstance(error, NoBucketError)
            return error
        page.missing = False
        self._count(bucket, "none" if raw is None else "read")
        before = page.configuration
        page.configuration = parse(raw, fetched_at=page.asked_at)
        doubts = page.configuration.doubts
        if doubts and (before is None or before.doubts != doubts):
            log.warning(
                "rule_unsupported", bucket=bucket, rules=len(doubts), doubts=doubts[:NAMED]
            )
        self._connect(bucket)
        if (merged := self._pages.merged(bucket)) is not None:
            await self._recorder.register.observed(
                bucket, merged, seen_at=self._pages.noted_at(bucket)
            )
        page.noted_at = page.configuration.fetched_at
        if destinations := page.configuration.all_destinations:
            await self._recorder.remember(
                [Route(bucket, destination) for destination in destinations]
            )
        return None

    def remembered(self, routes: Sequence[Route]) -> None:
        """Take in what the ledger remembers."""
        before, known = self._known, dict[str, set[str]]()
        for route in routes:
            known.setdefault(route.source, set()).add(route.destination)
        self._known = {source: frozenset(leads) for source, leads in known.items()}
        for source in before.keys() | self._known.keys():
            self._connect(source)

    def _connect(self, source: str) -> None:
        """Work out where a bucket leads: configurations that were read go before what the ledger remembers."""
        leads = frozenset(
            destination
            for page in self._pages.read(source)
            if page.configuration is not None
            for destination in page.configuration.all_destinations
        )
        if self._pages.merged(source) is None:
            leads |= self._known.get(source, frozenset())
        before = self._leads.pop(source, frozenset())
        if leads:
            self._leads[source] = leads
        for gone in before - leads:
            self._sources[gone].discard(source)
            if not self._sources[gone]:
                del self._sources[gone]
        for destination in leads - before:
            self._sources.setdefault(destination, set()).add(source)

    def _count(self, bucket: str, result: str) -> None:
        self._meters.add(catalogue.CONFIGURATION_READS, bucket, result)
