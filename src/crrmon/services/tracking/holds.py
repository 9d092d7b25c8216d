"""A message that is held: until when it may wait, and what ends its waiting early."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from functools import partial

import msgspec

from crrmon.ports.clock import Clock
from crrmon.services.lifecycle.timekeeper import CERTAIN_SECONDS


class GivenBack(Exception):  # noqa: N818 - not an error: the daemon stops
    """The daemon stops: the message goes back to the queue."""


class Alarms:
    """Wakes the holds of one queue, each at its time, by one timer: thousands may wait."""

    def __init__(self) -> None:
        self._set: list[tuple[float, int, Hold]] = []
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None

    def set(self, hold: "Hold", seconds: float) -> int:
        """Wake a hold after so many seconds, unless it waits for something else by then; return what it knows that by."""
        loop = asyncio.get_running_loop()
        at, number = loop.time() + seconds, next(self._numbers)
        heapq.heappush(self._set, (at, number, hold))
        if self._timer is None or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(at, self._ring)
        return number

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._set and self._set[0][0] <= now:
            _, number, hold = heapq.heappop(self._set)
            hold.due(number)
        self._timer = loop.call_at(self._set[0][0], self._ring) if self._set else None


class Hold(msgspec.Struct, eq=False):
    """The waiting of one message.

    There is one for each message that is held, and nothing in it that is only needed while it waits.

    Args:
        _clock: tells how long to wait.
        _alarms: wake it.
        _seconds: tells for how long a message may be held now; the fuller it is here, the shorter.
        pressing: whether its sender waits for the end: then nothing is looked at meanwhile, however soon that is due.
    """

    _clock: Clock
    _alarms: Alarms
    _seconds: Callable[[], float]
    pressing: bool = False
    _then: Callable[[], object] | None = None
    """What goes on when it wakes; None while it does not wait."""
    _alarm: int = 0
    """Of several alarms, the one that it waits for."""
    _hurried: bool = False
    _stopped: bool = False

    def until(self, since: float | None = None) -> float:
        """Return until when it may wait, if that begins now, or began at a moment before."""
        return (self._clock.now() if since is None else since) + self._seconds()

    def hurry(self) -> None:
        """End the present waiting, or the next one: something was heard that makes it needless."""
        self._hurried = True
        self._wake()

    def stop(self) -> None:
        """Give the message back, now or as soon as it is to wait."""
        self._stopped = True
        self._wake()

    async def certain(self) -> None:
        """Wait until the clock is sure.

        Raises:
            GivenBack: the daemon stops before.
        """
        while not self._clock.sure:
            if self._stopped:
                raise GivenBack
            await asyncio.sleep(CERTAIN_SECONDS)

    async def wait(self, at: float) -> bool:
        """Wait for a moment.

        Returns:
            Whether there was anything to wait.

        Raises:
            GivenBack: the daemon stops before.
        """
        if self.over(at):
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call(at, partial(_end, waiter))
        try:
            await waiter
        finally:
            self._then = None
        self.woken()
        return True

    def over(self, at: float) -> bool:
        """Return whether there is nothing to wait for until a moment.

        Raises:
            GivenBack: the daemon stops.
        """
        if self._stopped:
            raise GivenBack
        return at <= self._clock.now()

    def call(self, at: float, then: Callable[[], object]) -> None:
        """Go on with something at a moment, or as soon as somebody ends the waiting; `woken` is its first step."""
        self._then = then
        if self._hurried or self._stopped:
            self._wake()
        else:
            self._alarm = self._alarms.set(self, at - self._clock.now())

    def woken(self) -> None:
        """Take in that the waiting is over.

        Raises:
            GivenBack: the daemon stops.
        """
        if self._stopped:
            raise GivenBack
        self._hurried = False

    def due(self, alarm: int) -> None:
        """Wake up by an alarm, if it still waits for that one."""
        if alarm == self._alarm:
            self._wake()

    def drop(self) -> None:
        """Wait no more, and go on with nothing."""
        self._then = None

    def _wake(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
