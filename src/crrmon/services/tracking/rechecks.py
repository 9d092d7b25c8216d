"""Objects that were let go, looked at again now and then: whether they have arrived after all.

Nothing is counted by that: what became of them was counted. But a route is held back by them only as long as they are
missing, and somebody may have replicated them since, with Batch Replication for one.
"""

import asyncio
from collections.abc import Callable

from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.observations import Sight
from crrmon.services.lifecycle.patience import patiently
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.tracking.configurations import ConfigurationCache
from crrmon.services.tracking.looker import Looker
from crrmon.services.tracking.route_register import RouteRegister

ROUND_SECONDS = 3600.0
"""Between two looks at the same object."""

STEP_SECONDS = 10.0
"""How often it is seen whether this daemon reports, and whether it is time."""

PATIENCE_SECONDS = 180.0


class Rechecks:
    """Looks again at what was let go, while this daemon reports."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        register: RouteRegister,
        configurations: ConfigurationCache,
        looker: Looker,
        reporting: Callable[[], bool],
    ) -> None:
        self._register = register
        self._configurations = configurations
        self._looker = looker
        self._reporting = reporting
        self._board = runtime.board
        self._gone: set[ObjectVersion] = set()
        """What was not there in the last round."""

    async def run(self) -> None:
        """Look again, for ever."""
        loop = asyncio.get_running_loop()
        due_at = loop.time() + ROUND_SECONDS
        while True:
            self._alive()
            if loop.time() >= due_at and self._reporting():
                await self._round()
                due_at = loop.time() + ROUND_SECONDS
            self._board.ended("rechecks")
            await asyncio.sleep(STEP_SECONDS)

    def _alive(self) -> None:
        self._board.began("rechecks", patience=PATIENCE_SECONDS)

    async def _round(self) -> None:
        missing: set[ObjectVersion] = set()
        for route, lost in self._register.abandoned_objects():
            for one in lost:
                self._alive()
                version = ObjectVersion(route.source, one.key, one.version_id)
                if version.identified:
                    look = self._look(route, version, missing)
                    await patiently(look, alive=self._alive)
        self._gone = missing

    async def _look(
        self, route: Route, version: ObjectVersion, missing: set[ObjectVersion]
    ) -> None:
        """Look at one; what is gone twice in a row is believed to be."""
        # Where several buckets have the name, the version is in one of them, and may be a replica in another.
        sights = {
            await self._looker.glance(version, region=region, owner=owner)
            for region, owner in self._configurations.whereabouts(route.source)
        }
        if Sight.COMPLETED in sights and self._register.alone(route):
            # Beside others it would not tell: it is the status of those that a rule led to at the time.
            await self._register.arrived(
                ObjectVersion(route.destination, version.key, version.version_id)
            )
        elif sights == {Sight.GONE}:
            if version in self._gone:
                await self._register.over(version)
            missing.add(version)
