"""A message that is held: until when it may wait, and what ends its waiting early."""

import asyncio
from collections.abc import Callable

from crrmon.ports.clock import Clock
from crrmon.services.lifecycle.timekeeper import CERTAIN_SECONDS


class GivenBack(Exception):  # noqa: N818 - not an error: the daemon stops
    """The daemon stops: the message goes back to the queue."""


class Hold:
    """The waiting of one message.

    Args:
        clock: tells how long to wait.
        seconds: tells for how long a message may be held now; the fuller it is here, the shorter.
        pressing: whether its sender waits for the end: then nothing is looked at meanwhile, however soon that is due.
    """

    def __init__(
        self, clock: Clock, seconds: Callable[[], float], *, pressing: bool = False
    ) -> None:
        self.pressing = pressing
        self._clock = clock
        self._seconds = seconds
        self._woken = asyncio.Event()
        self._stopped = False

    def until(self) -> float:
        """Return until when it may wait, if that begins now."""
        return self._clock.now() + self._seconds()

    def hurry(self) -> None:
        """End the present waiting, or the next one: something was heard that makes it needless."""
        self._woken.set()

    def stop(self) -> None:
        """Give the message back, now or as soon as it is to wait."""
        self._stopped = True
        self._woken.set()

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
        if self._stopped:
            raise GivenBack
        wait = at - self._clock.now()
        if wait <= 0:
            return False
        try:
            async with asyncio.timeout(wait):
                await self._woken.wait()
        except TimeoutError:
            return True
        if self._stopped:
            raise GivenBack
        self._woken.clear()
        return True
