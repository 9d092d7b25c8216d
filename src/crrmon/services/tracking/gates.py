"""In front of each bucket a gate: as many looks at once, and a second, as the bucket bears and the daemon can afford."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable

from crrmon.domain import catalogue
from crrmon.domain.congestion import Congestion
from crrmon.domain.objects import Place
from crrmon.domain.observations import Observation, Sight
from crrmon.domain.recent import Recent
from crrmon.ports.meters import Meters
from crrmon.services.lifecycle.health import CLOCK_GRAIN_SECONDS


class Gates:
    """Lets looks through.

    Args:
        meters: told how long looks take.
        concurrency: most looks under way at once, over all buckets.
        per_second: most looks started in a second at one bucket.
    """

    def __init__(self, meters: Meters, *, concurrency: int, per_second: float) -> None:
        self._meters = meters
        self._slots = _Slots(concurrency)
        self._concurrency = concurrency
        self._per_second = per_second
        self._gates: Recent[Place, _Gate] = Recent(spared=lambda gate: gate.busy)

    async def look(self, place: Place, look: Callable[[], Awaitable[Observation]]) -> Observation:
        """Look when the gate of its bucket lets it through."""
        gate = self._gates.get(place) or self._made(place)
        began_at = gate.entered_at_once()
        if began_at is None:
            began_at = await gate.entered_in_turn()
        sight: Sight | None = None
        now = began_at
        try:
            # After the gate: whoever waits for one bucket must not keep a slot from the others.
            if not self._slots.taken_at_once():
                await self._slots.take()
            try:
                sent_at = gate.time()
                seen = await look()
            finally:
                self._slots.give_back()
                now = gate.time()
            sight = seen.sight
        finally:
            gate.leave(sight, began_at=began_at, now=now)
        self._meters.observe(catalogue.HEAD_DURATION, value=now - sent_at)
        return seen

    async def look_unless(
        self,
        place: Place,
        look: Callable[[], Awaitable[Observation]],
        *,
        needless: Callable[[], bool],
    ) -> Observation | None:
        """Look when the gate of its bucket lets it through; None where it is needless by then."""

        async def look_if_needed() -> Observation:
            if needless():
                raise _NeedlessError
            return await look()

        try:
            return await self.look(place, look_if_needed)
        except _NeedlessError:
            return None

    def _made(self, place: Place) -> "_Gate":
        gate = _Gate(Congestion(most=self._concurrency, per_second=self._per_second))
        self._gates.put(place, gate)
        return gate


class _NeedlessError(Exception):
    """Nothing was looked at: it became needless while it waited."""


class _Slots:
    """So many places; first come, first served."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    def taken_at_once(self) -> bool:
        """Take a place if one is free; nobody waits then."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Wait for a place that somebody gives back."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back()  # it came at the same moment
            raise

    def give_back(self) -> None:
        """Hand a place to whoever waits longest, or set it free."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class _Gate:
    """Lets as many looks of one bucket through at once, and a second, as it bears; first come, first served."""

    def __init__(self, congestion: Congestion) -> None:
        self.time = asyncio.get_running_loop().time
        """Tells the time of everything here, by the loop's clock."""
        self._congestion = congestion
        self._waiting: deque[asyncio.Future[float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._inside = 0

    def entered_at_once(self) -> float | None:
        """Take a place if there is one and nobody waits for it.

        Returns:
            When the look began, for `leave`; None where there is to be waited.
        """
        now = self.time()
        if self._waiting or self._congestion.wait(now) > CLOCK_GRAIN_SECONDS:
            return None
        self._inside += 1
        self._congestion.began(now)
        return now

    async def entered_in_turn(self) -> float:
        """Wait for a place.

        Returns:
            When the look began, for `leave`.
        """
        place: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        first = not self._waiting
        self._waiting.append(place)
        self._inside += 1
        if first:  # else somebody inside, or the timer, lets all in who wait
            self._let_in()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # It came at the same moment.
                self.leave(None, began_at=place.result(), now=self.time())
            else:
                self._inside -= 1
            raise

    def _let_in(self) -> None:
        """Let in those for whom there is a place, and see to it that the next one gets its turn."""
        now = self.time()
        while self._waiting:
            if self._waiting[0].done():
                del self._waiting[0]  # gave up
                continue
            wait = self._congestion.wait(now)
            if wait > CLOCK_GRAIN_SECONDS:
                if wait < math.inf and self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._time_came)
                return
            self._congestion.began(now)
            self._waiting.popleft().set_result(now)

    def _time_came(self) -> None:
        self._timer = None
        self._let_in()

    @property
    def busy(self) -> bool:
        """Whether a look is under way, or waits for its place."""
        return self._inside > 0

    def leave(self, sight: Sight | None, *, began_at: float, now: float) -> None:
        """Give the place back, with what the look showed; None when it was abandoned."""
        self._inside -= 1
        self._congestion.ended(sight, began_at=began_at, now=now)
        if self._waiting:
            self._let_in()
