"""How much may be dealt with at once: counted in facts, for one message may tell thousands of them.

A message weighs what it tells, at least 1. One that does not fit waits, all that came later wait behind it, and nothing
more is received meanwhile, nor before what was received is weighed; so what waits is what receivers had asked for. One that would never fit is let in when
nothing else is in: then it is alone.
"""

import asyncio
from collections import deque

import msgspec

from crrmon.services.tracking.holds import GivenBack


class _Waiting(msgspec.Struct, frozen=True):
    """A message that did not fit."""

    weight: int
    let_in: "asyncio.Future[None]"


class Admission:
    """Lets messages in, in the order in which they ask.

    Args:
        most: facts at once, but for a message that tells more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._unweighed = 0
        self._waiting: deque[_Waiting] = deque()
        self._closed = False

    @property
    def free(self) -> float:
        """The share that is free, from 0 to 1."""
        waiting = len(self._waiting) + self._unweighed
        return max(1 - (self._inside + waiting) / self._most, 0.0)

    def fits(self, messages: int) -> bool:
        """Return whether so many messages more may be received, if each weighs 1."""
        waits = self._waiting or self._unweighed
        return not waits and self._inside + messages <= self._most

    def came(self) -> None:
        """Note that a message was received, and that nobody knows yet what it tells."""
        self._unweighed += 1

    @property
    def open(self) -> bool:
        """Whether nobody waits who came before, nor may yet."""
        return not self._waiting and not self._unweighed

    def may_enter(self, weight: int) -> bool:
        """Return whether a message would be let in at once."""
        return not self._waiting and self._has_room(weight)

    def entered(self, weight: int) -> bool:
        """Let a message in, if that can be at once; return whether it is."""
        if not self.may_enter(weight):
            return False
        self._inside += weight
        return True

    def weighed(self) -> None:
        """Note that it is known of a message that came, or that it never will be; who wants it in asks at once."""
        self._unweighed -= 1

    async def enter(self, weight: int) -> None:
        """Wait until a message is let in.

        Raises:
            GivenBack: the daemon stops.
        """
        if self.entered(weight):
            return
        if self._closed:
            raise GivenBack
        waiting = _Waiting(weight, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.let_in
        except BaseException:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif _was_let_in(waiting):
                self._inside -= weight  # it was told to stop just then
            self._let_in()
            raise

    def left(self, weight: int) -> None:
        """Note that facts that were let in are dealt with."""
        self._inside -= weight
        self._let_in()

    def close(self) -> None:
        """Stop admitting anything that would have to wait."""
        self._closed = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.let_in.done():
                waiting.let_in.set_exception(GivenBack())

    def _has_room(self, weight: int) -> bool:
        return not self._inside or self._inside + weight <= self._most

    def _let_in(self) -> None:
        while self._waiting and self._has_room(self._waiting[0].weight):
            first = self._waiting.popleft()
            if not first.let_in.done():
                self._inside += first.weight
                first.let_in.set_result(None)


def _was_let_in(waiting: _Waiting) -> bool:
    let_in = waiting.let_in
    return let_in.done() and not let_in.cancelled() and let_in.exception() is None
