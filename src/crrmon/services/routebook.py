"""Which destinations a key should reach: the replication configurations, read seldom and remembered.

A configuration is read when a bucket is first met, again when it is old, and when a key seems not to be covered by
one that was read before the key was written; never more often than once a minute and bucket.
One that cannot be read says nothing: the last one read goes on covering keys, but proves none uncovered.
"""

import asyncio

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.events import ObjectWritten
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

log = structlog.get_logger()


class Later(msgspec.Struct, frozen=True):
    """
    Nobody can tell yet.
    """

    ask_again_at: float


class _Page:
    """
    What is known of one bucket's configuration.
    """

    def __init__(self) -> None:
        self.configuration: Configuration | None = None
        self.asked_at = float("-inf")
        self.reading = asyncio.Lock()


class Routebook:
    """
    Answers which destinations a written version should reach.
    """

    def __init__(
        self, probe: Probe, *, bookkeeper: Bookkeeper, clock: Clock, meters: Meters
    ) -> None:
        self._probe = probe
        self._bookkeeper = bookkeeper
        self._clock = clock
        self._meters = meters
        self._pages: dict[str, _Page] = {}

    async def destinations(
        self, written: ObjectWritten | Record
    ) -> tuple[Destination, ...] | NotCovered | Later:
        """
        Tell where a version should arrive.

        Returns:
            The destinations; or NotCovered, proved by a configuration read after the write; or when to ask again.
        """
        page = self._pages.setdefault(written.version.bucket, _Page())
        # Whoever asks while somebody reads waits for what that brings: many ask at the same moment.
        async with page.reading:
            if self._clock.now() - page.asked_at >= REFRESH_SECONDS:
                await self._read(page, written)
            answer = self._covered(page, written)
            if answer is None and self._clock.now() - page.asked_at >= SPACING_SECONDS:
                await self._read(page, written)
                answer = self._covered(page, written)
        if answer is None:
            return Later(page.asked_at + SPACING_SECONDS)
        return answer

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

    async def _read(self, page: _Page, written: ObjectWritten | Record) -> None:
        bucket = written.version.bucket
        # The moment before asking: what S3 answers is at least as new.
        page.asked_at = self._clock.now()
        try:
            raw = await self._probe.configuration(
                bucket, region=written.region, owner=written.owner
            )
        except UnreadableConfigurationError as error:
            self._count(bucket, "unreadable")
            log.warning("configuration_unreadable", bucket=bucket, reason=str(error))
            return
        self._count(bucket, "none" if raw is None else "read")
        page.configuration = parse(raw, fetched_at=page.asked_at)
        for doubt in page.configuration.doubts:
            log.warning("rule_not_understood", bucket=bucket, doubt=doubt)
        destinations = page.configuration.all_destinations
        await self._bookkeeper.remember([Route(bucket, one) for one in destinations])

    def _count(self, bucket: str, result: str) -> None:
        self._meters.add(catalogue.CONFIGURATION_READS, bucket, result)
