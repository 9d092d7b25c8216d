"""The survey: the configurations of all sources, read now and then, whatever events ask for.

A daemon that met only the destination's event so far must know that it is one; and a route is complete only as long as
its rules are seen.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from crrmon.ports.probe import (
    NoBucketError,
    Probe,
    UnreadableConfigurationError,
    UnusableAccountError,
)
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.tracking.configurations import NAMED, ConfigurationCache
from crrmon.services.tracking.recorder import Recorder

SURVEY_SECONDS = 300.0
"""Between two rounds of reading the configurations of all sources..."""

REPORTING_SURVEY_SECONDS = 60.0
"""...and where this daemon reports: a route is not complete beyond the moment at which its rules were last seen."""

SURVEY_LANES = 4
"""Most configurations that a survey reads at once: it must leave room for what events ask for."""

SURVEY_REMINDER_SECONDS = 3600.0
"""How often a survey tells again what it told already."""

log = structlog.get_logger()


class Survey:
    """Has all configurations read.

    Args:
        probe: knows the sites that have buckets of one name.
        buckets: sources that are surveyed even before anything is known of them.
        reporting: tells whether this daemon reports for all.
    """

    def __init__(
        self,
        probe: Probe,
        runtime: Runtime,
        *,
        recorder: Recorder,
        configurations: ConfigurationCache,
        buckets: Sequence[str],
        reporting: Callable[[], bool],
    ) -> None:
        self._probe = probe
        self._recorder = recorder
        self._configurations = configurations
        self._clock = runtime.clock
        self._buckets = frozenset(buckets)
        self._reporting = reporting
        self._told: frozenset[str] = frozenset()
        self._told_at = float("-inf")

    async def run(self) -> None:
        """Read the configurations of all sources now and then, for ever."""
        while True:
            await self._round()
            self._configurations.surveyed_once()
            await self._pause()

    async def _round(self) -> None:
        routes = await self._recorder.known_routes()
        self._configurations.remembered(routes)
        await self._recorder.register.refresh()
        lanes = asyncio.Semaphore(SURVEY_LANES)
        buckets = sorted(self._buckets.union(route.source for route in routes))
        places = [(bucket, site) for bucket in buckets for site in self._probe.sites(bucket)]

        async def reread(bucket: str, site: str | None) -> UnreadableConfigurationError | None:
            async with lanes:
                return await self._configurations.reread(bucket, site)

        errors = await asyncio.gather(*(reread(*place) for place in places))
        self._tell(
            {
                bucket if site is None else f"{bucket} at {site}": str(error)
                for (bucket, site), error in zip(places, errors, strict=True)
                if error is not None
                and not isinstance(error, UnusableAccountError)
                and not (isinstance(error, NoBucketError) and self._configurations.read(bucket))
            },
            of=len(places),
        )

    @property
    def _survey_seconds(self) -> float:
        return REPORTING_SURVEY_SECONDS if self._reporting() else SURVEY_SECONDS

    async def _pause(self) -> None:
        """Wait for the next round, which comes sooner where this daemon begins to report meanwhile."""
        loop = asyncio.get_running_loop()
        ended_at = loop.time()
        while loop.time() < ended_at + SURVEY_SECONDS:
            await asyncio.sleep(REPORTING_SURVEY_SECONDS)
            if self._reporting():
                return

    def _tell(self, unreadable: Mapping[str, str], *, of: int) -> None:
        """Log which configurations could not be read, when they are others than before, and now and then."""
        now = self._clock.now()
        same = self._told == unreadable.keys()
        if same and (not unreadable or 0 <= now - self._told_at < SURVEY_REMINDER_SECONDS):
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
        self._told, self._told_at = frozenset(unreadable), now
