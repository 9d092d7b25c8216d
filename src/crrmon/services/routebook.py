"""Which destinations a key should reach, and what part a bucket plays: the replication configurations, remembered.

A configuration is read when a bucket is first met, again when it is old, and when a key seems not to be covered by
one that was read before the key was written; never more often than once a minute and bucket.
One that cannot be read says nothing: the last one read goes on covering keys, but proves none uncovered.

Beside what events ask for, a survey reads the configurations of all sources now and then: a daemon that met only
the destination's event so far must know that it is one.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.events import MarkerLaid, ObjectWritten
from crrmon.domain.objects import Route
from crrmon.domain.records import Destination, Record
from crrmon.domain.routes import Configuration, Covered, NotCovered, coverage, parse
from crrmon.ports.clock import Clock
from crrmon.ports.meters import Meters
from crrmon.ports.probe import Probe, UnreadableConfigurationError
from crrmon.services.bookkeeper import Bookkeeper

REFRESH_SECONDS = 300.0
"""Age at which a configuration is read again although it covers the key."""

SPACING_SECONDS = 60.0
"""Least time between two reads for one bucket."""

SURVEY_SECONDS = 300.0
"""Between two rounds of reading the configurations of all sources."""

SURVEY_LANES = 4
"""Most configurations that a survey reads at once: it must leave room for what events ask for."""

SURVEY_PATIENCE_SECONDS = 10.0
"""Longest time that anybody waits for the first survey; what is not known by then is asked of S3 object by object."""

NAMED_BUCKETS = 5
"""How many of the unreadable buckets a survey names in the log."""

log = structlog.get_logger()


class Later(msgspec.Struct, frozen=True):
    """
    Nobody can tell yet.
    """

    ask_again_at: float


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
        self.asked_at = float("-inf")
        self.reading = asyncio.Lock()
        self.region = ""
        self.owner: str | None = None
        """Both as events told them: they decide who is asked, and in whose name."""


class Routebook:
    """
    Answers which destinations a written version should reach.

    Args:
        probe: reads configurations.
        buckets: sources that are surveyed even before anything is known of them.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        bookkeeper: Bookkeeper,
        clock: Clock,
        meters: Meters,
        buckets: Sequence[str] = (),
    ) -> None:
        self._probe = probe
        self._bookkeeper = bookkeeper
        self._clock = clock
        self._meters = meters
        self._buckets = frozenset(buckets)
        self._pages: dict[str, _Page] = {}
        self._known: frozenset[Route] = frozenset()
        self._sources: dict[str, frozenset[str]] = {}
        self._surveyed = asyncio.Event()

    # ---- what events ask for ----

    async def destinations(
        self, written: ObjectWritten | Record
    ) -> tuple[Destination, ...] | NotCovered | Later:
        """
        Tell where a version should arrive.

        Returns:
            The destinations; or NotCovered, proved by a configuration read after the write; or when to ask again.
        """
        bucket = written.version.bucket
        page = self._page(bucket)
        # Whoever asks while somebody reads waits for what that brings: many ask at the same moment.
        async with page.reading:
            await self._fresh(page, bucket, written.region, written.owner)
            answer = self._covered(page, written)
            if answer is None and self._clock.now() - page.asked_at >= SPACING_SECONDS:
                await self._read(page, bucket, written.region, written.owner)
                answer = self._covered(page, written)
        if answer is None:
            return Later(page.asked_at + SPACING_SECONDS)
        return answer

    async def marker_destinations(self, marker: MarkerLaid) -> tuple[Destination, ...] | Later:
        """
        Tell where a delete marker should arrive, by the configuration of the moment.

        It need not be newer than the marker, as with objects: most buckets replicate no markers, and each of theirs
        would wait for a reading. So what was changed within `REFRESH_SECONDS` may be missed.

        Returns:
            The destinations, perhaps none; or when to ask again, where no configuration could be read yet.
        """
        bucket = marker.version.bucket
        page = self._page(bucket)
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
        Tell what part a bucket plays, by its own configuration and by those that lead to it.

        Args:
            bucket: any.
            region: of it, as far as known.
            owner: account id that must own it, where known.
        """
        await self.surveyed()
        page = self._page(bucket)
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
        Tell the buckets known to replicate to a bucket.
        """
        return self._sources.get(bucket, frozenset())

    def timed(self) -> frozenset[Route]:
        """
        Tell the routes on which S3 promises to replicate in time, by the configurations read so far.
        """
        return frozenset(
            Route(source, destination)
            for source, page in self._pages.items()
            if page.configuration is not None
            for destination in page.configuration.timed
        )

    @staticmethod
    def _covered(
        page: _Page, written: ObjectWritten | Record
    ) -> tuple[Destination, ...] | NotCovered | None:
        if page.configuration is None:
            return None
        match coverage(page.configuration, written.version.key, written_at=written.written_at):
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
            self._known = frozenset(await self._bookkeeper.known_routes())
            self._connect()
            lanes = asyncio.Semaphore(SURVEY_LANES)
            buckets = sorted(self._buckets | {route.source for route in self._known})
            reasons = await asyncio.gather(*(self._visit(one, lanes) for one in buckets))
            unreadable = {
                bucket: reason
                for bucket, reason in zip(buckets, reasons, strict=True)
                if reason is not None
            }
            if unreadable:
                log.warning(
                    "survey_incomplete",
                    unreadable=len(unreadable),
                    of=len(buckets),
                    buckets=list(unreadable)[:NAMED_BUCKETS],
                    reason=next(iter(unreadable.values())),
                    again_in_seconds=SURVEY_SECONDS,
                )
            self._surveyed.set()
            await asyncio.sleep(SURVEY_SECONDS)

    async def _visit(self, bucket: str, lanes: asyncio.Semaphore) -> str | None:
        """
        Read a configuration, unless events had it read lately; return why not, if that fails.
        """
        page = self._page(bucket)
        async with lanes, page.reading:
            if self._clock.now() - page.asked_at < SPACING_SECONDS:
                return None
            asked_at = page.asked_at
            reason = await self._ask(page, bucket, "", None)
            if reason is not None and page.owner is None:
                # An event will tell whose bucket it is; then it can be asked at once.
                page.asked_at = asked_at
            return reason

    # ---- reading ----

    def _page(self, bucket: str) -> _Page:
        page = self._pages.get(bucket)
        if page is None:
            page = self._pages[bucket] = _Page()
        return page

    async def _fresh(self, page: _Page, bucket: str, region: str, owner: str | None) -> None:
        """
        Have a configuration that is not old, if it can be read.
        """
        if self._clock.now() - page.asked_at >= REFRESH_SECONDS:
            await self._read(page, bucket, region, owner)

    async def _read(self, page: _Page, bucket: str, region: str, owner: str | None) -> None:
        reason = await self._ask(page, bucket, region, owner)
        if reason is not None:
            log.warning("configuration_unreadable", bucket=bucket, reason=reason)

    async def _ask(self, page: _Page, bucket: str, region: str, owner: str | None) -> str | None:
        """
        Read a configuration; return why not, if that fails.
        """
        page.region, page.owner = region or page.region, owner or page.owner
        # The moment before asking: what S3 answers is at least as new.
        page.asked_at = self._clock.now()
        try:
            raw = await self._probe.configuration(bucket, region=page.region, owner=page.owner)
        except UnreadableConfigurationError as error:
            self._count(bucket, "unreadable")
            return str(error)
        self._count(bucket, "none" if raw is None else "read")
        before = page.configuration
        page.configuration = parse(raw, fetched_at=page.asked_at)
        for doubt in page.configuration.doubts:
            log.warning("rule_not_understood", bucket=bucket, doubt=doubt)
        destinations = page.configuration.all_destinations
        if before is None or before.all_destinations != destinations:
            self._connect()
        await self._bookkeeper.remember([Route(bucket, one) for one in destinations])
        return None

    def _connect(self) -> None:
        """
        Work out anew which buckets lead to which: a configuration that was read goes before what the ledger remembers.
        """
        sources: defaultdict[str, set[str]] = defaultdict(set)
        for bucket, page in self._pages.items():
            for one in page.configuration.all_destinations if page.configuration else ():
                sources[one].add(bucket)
        for route in self._known:
            own = self._pages.get(route.source)
            if own is None or own.configuration is None:
                sources[route.destination].add(route.source)
        self._sources = {bucket: frozenset(found) for bucket, found in sources.items()}

    def _count(self, bucket: str, result: str) -> None:
        self._meters.add(catalogue.CONFIGURATION_READS, bucket, result)
