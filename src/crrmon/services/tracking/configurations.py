"""Which destinations a key should reach, and what part a bucket plays: the replication configurations, remembered.

A configuration is read when a bucket is first met, again when it is old, and when a key seems not to be covered by
one that was read before the key was written; never more often than once a minute and bucket.
One that cannot be read says nothing: the last one read goes on covering keys, but proves none uncovered.

A bucket that stands under one name at several sites has a configuration at each. Its routes have names only, so what is
told of a route is told of all sites together, and known once all of them were read.

Beside what events ask for, a survey reads the configurations of all sources now and then: a daemon that met only
the destination's event so far must know that it is one.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.events.facts import MarkerLaid, ObjectWritten
from crrmon.domain.objects import Place, Route
from crrmon.domain.records import Destination, Record
from crrmon.domain.routes import (
    WRITE_SLACK_SECONDS,
    Configuration,
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
from crrmon.services.tracking.recorder import Bookkeeper

REFRESH_SECONDS = 300.0
"""Age at which a configuration is read again although it covers the key."""

SPACING_SECONDS = 60.0
"""Least time between two reads for one bucket."""

SURVEY_SECONDS = 300.0
"""Between two rounds of reading the configurations of all sources..."""

REPORTING_SURVEY_SECONDS = 60.0
"""...and where this daemon reports: a route is not complete beyond the moment at which its rules were last seen."""

EARLY_SECONDS = 5.0
"""How much sooner than that a survey may read: its rounds must not come out a moment too early for every other one."""

SURVEY_LANES = 4
"""Most configurations that a survey reads at once: it must leave room for what events ask for."""

SURVEY_PATIENCE_SECONDS = 10.0
"""Longest time that anybody waits for the first survey; what is not known by then is asked of S3 object by object."""

NAMED = 5
"""How many unreadable buckets, or rules that are not understood, one line of the log names."""

REMINDER_SECONDS = 60.0
"""Least time between two lines about configurations that events asked for and nobody could read."""

SURVEY_REMINDER_SECONDS = 3600.0
"""How often a survey tells again what it told already."""

MAX_PAGES = 10_000
"""
Names of buckets come out of messages: more are not kept, except for those of sources, which others than messages name.

What is forgotten is read again when it is met again.
"""

log = structlog.get_logger()

Rules = TypeVar("Rules")


class Later(msgspec.Struct, frozen=True):
    """
    Nobody can tell yet.
    """

    ask_again_at: float


Answer = tuple[Destination, ...] | NotCovered | Later
"""Where a version should arrive; that it should nowhere, proved; or when to ask again."""


async def until_known(
    ask: Callable[[], Awaitable[Rules | Later]], hold: Hold | None, until: float
) -> Rules | Later:
    """
    Ask the rules until they are known, or the hold is over.

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
    """
    What part a bucket plays, as far as is known.
    """

    source: bool
    """Whether rules replicate from it, or might: its configuration was never readable."""
    destination: bool
    """Whether a route leads to it."""
    known: bool
    """Whether its own configuration was ever readable."""


class _Page:
    """
    What is known of one bucket's configuration.
    """

    def __init__(self) -> None:
        self.configuration: Configuration | None = None
        self.missing = False
        """Whether there is no such bucket, by the word of its store."""
        self.asked_at = float("-inf")
        self.noted_at: float | None = None
        """When the configuration was read that all daemons know of by now."""
        self.reading = asyncio.Lock()
        self.region = ""
        self.owner: str | None = None
        """Both as events told them: they decide who is asked, and in whose name."""

    @property
    def rules(self) -> bool:
        """
        Whether there are any, as far as is known.
        """
        return self.configuration is not None and bool(self.configuration.rules)


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
        """
        Take one in.
        """
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


class Routebook:
    """
    Answers which destinations a written version should reach.

    Args:
        probe: reads configurations.
        buckets: sources that are surveyed even before anything is known of them.
        reporting: tells whether this daemon reports for all.
    """

    def __init__(
        self,
        probe: Probe,
        runtime: Runtime,
        *,
        bookkeeper: Bookkeeper,
        buckets: Sequence[str] = (),
        reporting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._probe = probe
        self._bookkeeper = bookkeeper
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._buckets = frozenset(buckets)
        self._reporting = reporting
        self._pages: dict[Place, _Page] = {}
        """The one longest not asked for first."""
        self._room = MAX_PAGES
        self._known: Mapping[str, frozenset[str]] = {}
        """The destinations of each source, as the ledger remembers them."""
        self._leads: dict[str, frozenset[str]] = {}
        """The destinations of each source that has any; `_sources` is the same, turned round."""
        self._sources: dict[str, set[str]] = {}
        self._surveyed = asyncio.Event()
        self._unread = _Unread(runtime.clock)
        self._survey_told: frozenset[str] = frozenset()
        self._survey_told_at = float("-inf")

    # ---- what events ask for ----

    async def destinations(self, written: ObjectWritten | Record) -> Answer:
        """
        Return where a version should arrive.

        Returns:
            The destinations; or NotCovered, proved by a configuration read after the write; or when to ask again.
        """
        bucket = written.version.bucket
        page = self._page(bucket, written.owner)
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

    async def marker_destinations(self, marker: MarkerLaid) -> tuple[Destination, ...] | Later:
        """
        Return where a delete marker should arrive, by the configuration of the moment.

        It need not be newer than the marker, as with objects: most buckets replicate no markers, and each of theirs
        would wait for a reading. So what was changed within `REFRESH_SECONDS` may be missed.

        Returns:
            The destinations, perhaps none; or when to ask again, where no configuration could be read yet.
        """
        bucket = marker.version.bucket
        page = self._page(bucket, marker.owner)
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
        """
        Return what part a bucket plays, by its own configuration and by those that lead to it.

        Args:
            bucket: any.
            region: of it, as far as known.
            owner: whose it is, where known: the id of an account, or a store's site.
        """
        await self.surveyed()
        page = self._page(bucket, owner)
        async with page.reading:
            await self._fresh(page, bucket, region, owner)
        source = page.configuration is None or bool(page.configuration.rules)
        return Role(
            source=source,
            destination=bool(self.sources(bucket)),
            known=page.configuration is not None,
        )

    async def surveyed(self) -> None:
        """
        Wait until the first survey is over, but not for long.
        """
        if not self._surveyed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SURVEY_PATIENCE_SECONDS):
                    await self._surveyed.wait()

    def sources(self, bucket: str) -> frozenset[str]:
        """
        Return the buckets known to replicate to a bucket.
        """
        return frozenset(self._sources.get(bucket, ()))

    def timed(self) -> frozenset[Route]:
        """
        Return the routes on which S3 promises to replicate in time, by the configurations read so far.
        """
        return frozenset(
            Route(source, destination)
            for source in self._leads
            for page in self._read_pages(source)
            if page.configuration is not None
            for destination in page.configuration.timed
        )

    def seen_at(self, route: Route) -> float | None:
        """
        Return when rules were last seen to lead along a route; None while they do not, or none could be read yet.
        """
        known = self._merged(route.source)
        if known is None or route.destination not in known.all_destinations:
            return None
        # Not before the register knows what it says: until then, what is remembered of the route may be older.
        return self._noted_at(route.source)

    def whereabouts(self, bucket: str) -> list[tuple[str, str | None]]:
        """
        Return the region of a bucket and whose it is, as far as events told; of all that have its name.
        """
        sites = self._probe.sites(bucket)
        pages = [(site, self._pages.get((bucket, site))) for site in sites]
        return [(page.region, page.owner or site) if page else ("", site) for site, page in pages]

    @staticmethod
    def _covered(
        page: _Page, key: str, written_at: float
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

    async def survey(self) -> None:
        """
        Read the configurations of all sources now and then, for ever.
        """
        while True:
            self._remembered(await self._bookkeeper.known_routes())
            await self._bookkeeper.register.refresh()
            lanes = asyncio.Semaphore(SURVEY_LANES)
            buckets = sorted(self._buckets.union(self._known))
            places = [(bucket, site) for bucket in buckets for site in self._probe.sites(bucket)]
            errors = await asyncio.gather(*(self._visit(*one, lanes) for one in places))
            self._tell_survey(
                {
                    bucket if site is None else f"{bucket} at {site}": str(error)
                    for (bucket, site), error in zip(places, errors, strict=True)
                    if error is not None
                    and not isinstance(error, UnusableAccountError)
                    and not (isinstance(error, NoBucketError) and self._read_pages(bucket))
                },
                of=len(places),
            )
            self._surveyed.set()
            await self._pause()

    @property
    def _survey_seconds(self) -> float:
        return REPORTING_SURVEY_SECONDS if self._reporting() else SURVEY_SECONDS

    async def _pause(self) -> None:
        """
        Wait for the next round, which comes sooner where this daemon begins to report meanwhile.
        """
        loop = asyncio.get_running_loop()
        ended_at = loop.time()
        while loop.time() < ended_at + SURVEY_SECONDS:
            await asyncio.sleep(REPORTING_SURVEY_SECONDS)
            if self._reporting():
                return

    def _tell_survey(self, unreadable: Mapping[str, str], *, of: int) -> None:
        """
        Return which configurations could not be read, when they are others than before, and now and then.
        """
        now = self._clock.now()
        same = self._survey_told == unreadable.keys()
        if same and (not unreadable or 0 <= now - self._survey_told_at < SURVEY_REMINDER_SECONDS):
            return
        if unreadable:
            log.warning(
                "survey_incomplete",
                unreadable=len(unreadable),
                of=of,
                reasons=dict(list(unreadable.items())[:NAMED]),
                again_in_seconds=self._survey_seconds,
            )
        else:
            log.info("survey_complete", of=of)
        self._survey_told, self._survey_told_at = frozenset(unreadable), now

    async def _visit(
        self, bucket: str, site: str | None, lanes: asyncio.Semaphore
    ) -> UnreadableConfigurationError | None:
        """
        Read a configuration, unless events had it read lately; return why not, if that fails.
        """
        page = self._page(bucket, site)
        async with lanes, page.reading:
            if self._clock.now() - page.asked_at < SPACING_SECONDS - EARLY_SECONDS:
                return None
            asked_at = page.asked_at
            error = await self._ask(page, bucket, "", site)
            if error is not None and page.owner is None:
                # An event will tell whose bucket it is; then it can be asked at once.
                page.asked_at = asked_at
            return error

    # ---- reading ----

    def _page(self, bucket: str, owner: str | None) -> _Page:
        place = (bucket, owner if owner in self._probe.sites(bucket) else None)
        page = self._pages.pop(place, None)
        if page is None:
            page = _Page()
            if len(self._pages) >= self._room:
                self._make_room()
        self._pages[place] = page
        if page.asked_at > self._clock.now() + WRITE_SLACK_SECONDS:
            # The clock was set back since: nobody knows when that was, so it is neither new nor proves anything.
            page.asked_at = float("-inf")
            page.noted_at = None
            if page.configuration is not None:
                page.configuration = msgspec.structs.replace(
                    page.configuration, fetched_at=page.asked_at
                )
        return page

    def _make_room(self) -> None:
        """
        Forget what was longest not asked for, of the buckets that only messages name; a tenth, to do it seldom.
        """
        spare = MAX_PAGES // 10
        needless = (
            (bucket, site)
            for (bucket, site), page in self._pages.items()
            if not page.rules
            and not page.reading.locked()
            and bucket not in self._buckets
            and bucket not in self._known
        )
        for place in list(itertools.islice(needless, spare)):
            del self._pages[place]
        self._room = max(MAX_PAGES, len(self._pages) + spare)

    async def _fresh(self, page: _Page, bucket: str, region: str, owner: str | None) -> None:
        """
        Have a configuration that is not old, if it can be read.
        """
        if self._clock.now() - page.asked_at >= REFRESH_SECONDS:
            await self._read(page, bucket, region, owner)

    async def _read(self, page: _Page, bucket: str, region: str, owner: str | None) -> None:
        error = await self._ask(page, bucket, region, owner)
        if error is not None:
            self._unread.met(bucket, error)

    async def _ask(
        self, page: _Page, bucket: str, region: str, owner: str | None
    ) -> UnreadableConfigurationError | None:
        """
        Read a configuration; return why not, if that fails.
        """
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
                "rule_not_understood", bucket=bucket, rules=len(doubts), doubts=doubts[:NAMED]
            )
        self._connect(bucket)
        if (merged := self._merged(bucket)) is not None:
            await self._bookkeeper.register.observed(
                bucket, merged, seen_at=self._noted_at(bucket)
            )
        page.noted_at = page.configuration.fetched_at
        if destinations := page.configuration.all_destinations:
            await self._bookkeeper.remember([Route(bucket, one) for one in destinations])
        return None

    def _remembered(self, routes: Sequence[Route]) -> None:
        """
        Take in what the ledger remembers.
        """
        before, known = self._known, dict[str, set[str]]()
        for route in routes:
            known.setdefault(route.source, set()).add(route.destination)
        self._known = {source: frozenset(leads) for source, leads in known.items()}
        for source in before.keys() | self._known.keys():
            self._connect(source)

    def _connect(self, source: str) -> None:
        """
        Work out where a bucket leads: configurations that were read go before what the ledger remembers.
        """
        leads = frozenset(
            destination
            for page in self._read_pages(source)
            if page.configuration is not None
            for destination in page.configuration.all_destinations
        )
        if self._merged(source) is None:
            leads |= self._known.get(source, frozenset())
        before = self._leads.pop(source, frozenset())
        if leads:
            self._leads[source] = leads
        for gone in before - leads:
            self._sources[gone].discard(source)
            if not self._sources[gone]:
                del self._sources[gone]
        for one in leads - before:
            self._sources.setdefault(one, set()).add(source)

    def _read_pages(self, bucket: str) -> list[_Page]:
        """
        Return what is known of the configurations of all buckets of a name, as far as they were read.
        """
        return [
            page
            for page in self._pages_of(bucket)
            if page is not None and page.configuration is not None
        ]

    def _pages_of(self, bucket: str) -> list[_Page | None]:
        """
        Return what is known of all buckets of a name; of sites that have none only where no other one has it.
        """
        pages = [self._pages.get((bucket, site)) for site in self._probe.sites(bucket)]
        return [page for page in pages if page is None or not page.missing] or pages

    def _noted_at(self, bucket: str) -> float | None:
        """
        Return of when the oldest of the configurations is that all daemons know of; None while any is unknown to them.
        """
        noted = [page.noted_at for page in self._read_pages(bucket)]
        known = [at for at in noted if at is not None]
        return min(known) if known and len(known) == len(noted) else None

    def _merged(self, bucket: str) -> Configuration | None:
        """
        Return the rules of all buckets of a name, as old as the oldest of them; None while not all could be read.
        """
        read = [
            page.configuration
            for page in self._read_pages(bucket)
            if page.configuration is not None
        ]
        if len(read) < len(self._pages_of(bucket)):
            return None
        if len(read) == 1:
            return read[0]
        return Configuration(
            rules=tuple(rule for one in read for rule in one.rules),
            fetched_at=min(one.fetched_at for one in read),
        )

    def _count(self, bucket: str, result: str) -> None:
        self._meters.add(catalogue.CONFIGURATION_READS, bucket, result)
