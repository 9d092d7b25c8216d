"""In front of each bucket a gate: as many looks at once, and a second, as the bucket bears and the daemon can afford."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from crrmon.domain import catalogue
from crrmon.domain.congestion import Congestion
from crrmon.domain.objects import Place
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.recent import Recent
from crrmon.ports.meters import Meters

CLOCK_GRAIN_SECONDS = 0.001
"""Timers may fire a little early: what is left by then is over."""


class Gates:
    """Lets looks through.

    Args:
        meters: told how long looks take.
        concurrency: most looks under way at once, over all buckets.
        per_second: most looks started in a second at one bucket.
    """

    def __init__(self, meters: Meters, *, concurrency: int, per_second: float) -> None:
        self._meters = meters
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._per_second = per_second
        self._gates: Recent[Place, _Gate] = Recent(spared=lambda gate: gate.busy)

    async def look(self, place: Place, look: Callable[[], Awaitable[Observation]]) -> Observation:
        """Look when the gate of its bucket lets it through."""
        seen = await self.look_unless(place, look, needless=lambda: False)
        assert seen is not None  # noqa: S101 - for the type checker
        return seen

    async def look_unless(
        self,
        place: Place,
        look: Callable[[], Awaitable[Observation]],
        *,
        needless: Callable[[], bool],
    ) -> Observation | None:
        """Look when the gate of its bucket lets it through; None where it is needless by then."""
        loop = asyncio.get_running_loop()
        gate = self._gate(place)
        began_at = await gate.enter()
        sight: Sight | None = None
        try:
            if needless():
                return None
            # After the gate: whoever waits for one bucket must not keep a slot from the others.
            async with self._slots:
                sent_at = loop.time()
                seen = await look()
            sight = seen.sight
        finally:
            gate.leave(sight, began_at=began_at)
        self._meters.observe(catalogue.HEAD_DURATION, value=loop.time() - sent_at)
        return seen

    def _gate(self, place: Place) -> "_Gate":
        gate = self._gates.get(place)
        if gate is None:
            gate = _Gate(Congestion(most=self._concurrency, per_second=self._per_second))
            self._gates.put(place, gate)
        return gate


class _Gate:
    """Lets as many looks of one bucket through at once, and a second, as it bears; first come, first served."""

    def __init__(self, congestion: Congestion) -> None:
        self._congestion = congestion
        self._door = asyncio.Lock()
        self._ended = asyncio.Event()
        self._inside = 0

    async def enter(self) -> float:
        """Wait for a place.

        Returns:
            When the look began, for `leave`.
        """
        loop = asyncio.get_running_loop()
        self._inside += 1
        try:
            return await self._entered(loop)
        except BaseException:
            self._inside -= 1
            raise

    async def _entered(self, loop: asyncio.AbstractEventLoop) -> float:
        async with self._door:
            while (wait := self._congestion.wait(loop.time())) > CLOCK_GRAIN_SECONDS:
                self._ended.clear()
                try:
                    async with asyncio.timeout(None if math.isinf(wait) else wait):
                        await self._ended.wait()
                except TimeoutError:
                    continue
            began_at = loop.time()
            self._congestion.began(began_at)
        return began_at

    @property
    def busy(self) -> bool:
        """Whether a look is under way, or waits for its place."""
        return self._inside > 0

    def leave(self, sight: Sight | None, *, began_at: float) -> None:
        """Give the place back, with what the look showed; None when it was abandoned."""
        now = asyncio.get_running_loop().time()
        self._inside -= 1
        self._congestion.ended(sight, began_at=began_at, now=now)
        self._ended.set()
