"""A message that is held: until when it may wait, and what ends its waiting early."""

import asyncio
from collections.abc import Callable

import msgspec

from crrmon.ports.clock import Clock
from crrmon.services.lifecycle.timekeeper import CERTAIN_SECONDS


class GivenBack(Exception):  # noqa: N818 - not an error: the daemon stops
    """The daemon stops: the message goes back to the queue."""


class Hold(msgspec.Struct, eq=False):
    """The waiting of one message.

    There is one for each message that is held, and nothing in it that is only needed while it waits.

    Args:
        _clock: tells how long to wait.
        _seconds: tells for how long a message may be held now; the fuller it is here, the shorter.
        pressing: whether its sender waits for the end: then nothing is looked at meanwhile, however soon that is due.
    """

    _clock: Clock
    _seconds: Callable[[], float]
    pressing: bool = False
    _waiter: asyncio.Future[None] | None = None
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
        if self._stopped:
            raise GivenBack
        wait = at - self._clock.now()
        if wait <= 0:
            return False
        if not self._hurried:
            await self._slept(wait)
        if self._stopped:
            raise GivenBack
        self._hurried = False
        return True

    async def _slept(self, seconds: float) -> None:
        """Sleep until somebody wakes it, but no longer than so many seconds."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
