"""A message that is held: until when it may wait, and what ends its waiting early."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from functools import partial

import msgspec

from crrmon.ports.clock import Clock
from crrmon.services.lifecycle.health import CLOCK_GRAIN_SECONDS
from crrmon.services.lifecycle.timekeeper import CERTAIN_SECONDS


class GivenBack(Exception):  # noqa: N818 - not an error: the daemon stops
    """The daemon stops: the message goes back to the queue."""


MOST_NEEDLESS = 1000
"""Alarms that are kept although nobody waits for them any more, and as many as there are others."""


class Alarms:
    """Wakes the holds of one queue, each at its time, by one timer: thousands may wait."""

    def __init__(self) -> None:
        self._set: list[tuple[float, int, Hold]] = []
        self._numbers = itertools.count(1)
        self._needless = 0
        """Those of holds that woke before; they stay in the list for a while."""
        self._timer: asyncio.Handle | None = None
        self._rings_at = math.inf
        """Kept here: what uvloop returns for a moment that is all but over does not tell it."""

    def set(self, hold: "Hold", seconds: float) -> int:
        """Wake a hold after so many seconds, unless it waits for something else by then; return what it knows that by."""
        loop = asyncio.get_running_loop()
        at, number = loop.time() + seconds, next(self._numbers)
        heapq.heappush(self._set, (at, number, hold))
        if at < self._rings_at:
            self._arm(at)
        return number

    def needless(self) -> None:
        """Note that one of them will wake nobody any more."""
        self._needless += 1
        if self._needless > MOST_NEEDLESS and 2 * self._needless > len(self._set):
            self._set = [one for one in self._set if one[2].waits_for(one[1])]
            heapq.heapify(self._set)
            self._needless = 0

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)
        self._rings_at = at

    def _ring(self) -> None:
        self._rings_at = math.inf
        now = asyncio.get_running_loop().time() + CLOCK_GRAIN_SECONDS
        try:
            while self._set and self._set[0][0] <= now:
                _, number, hold = heapq.heappop(self._set)
                if hold.waits_for(number):
                    hold.due()
                else:
                    self._needless = max(self._needless - 1, 0)
        finally:
            if self._set and self._set[0][0] < self._rings_at:
                self._arm(self._set[0][0])


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
            self.drop()
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

    def waits_for(self, alarm: int) -> bool:
        """Return whether it is this alarm that wakes it."""
        return self._then is not None and alarm == self._alarm

    def due(self) -> None:
        """Wake up by the alarm that it waits for."""
        self._alarm = 0
        self._wake()

    def drop(self) -> None:
        """Wait no more, and go on with nothing."""
        self._forget_alarm()
        self._then = None

    def _wake(self) -> None:
        self._forget_alarm()
        then, self._then = self._then, None
        if then is not None:
            then()

    def _forget_alarm(self) -> None:
        if self._alarm:
            self._alarm = 0
            self._alarms.needless()


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
