"""Messages that are dealt with, deleted from their queue: in full batches while there is much to do, else soon.

Nobody waits for it: that a message was dealt with is durable by then, and one that is not deleted comes again, is
recognised, and is tried again then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from crrmon.services.intake.visibility import HeldMessage

BATCH = 10
"""Most messages of one call."""

LANES = 8
"""Most calls under way at once."""


class Acknowledger:
    """Gathers messages that are dealt with.

    Args:
        delete: deletes the messages of some receipts.
        ended: told of messages whose deletion was tried.
        broken: told of a message whose deletion failed for no reason of the queue's.
        linger: seconds for which a batch that is not full waits for more.
        name: of its tasks, for whoever debugs.
    """

    def __init__(
        self,
        delete: Callable[[Sequence[str]], Awaitable[None]],
        *,
        ended: Callable[[Sequence[HeldMessage]], None],
        broken: Callable[[HeldMessage, Exception], None],
        linger: float,
        name: str,
    ) -> None:
        self._delete = delete
        self._ended = ended
        self._broken = broken
        self._linger = linger
        self._name = name
        self._waiting: list[HeldMessage] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        """Whether what waits has waited for long enough."""
        self._lanes: set[asyncio.Task[None]] = set()
        self._starting = 0
        """Lanes that have not taken their first batch yet."""

    def add(self, held: HeldMessage) -> None:
        """Delete a message, soon."""
        self._waiting.append(held)
        if not self._linger:
            self._flush()
        elif len(self._waiting) >= BATCH:
            self._begin()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._flush)

    async def drained(self) -> None:
        """Wait until nothing is left to delete."""
        while self._waiting or self._lanes:
            self._flush()
            if self._lanes:
                await asyncio.wait(self._lanes)

    async def abandon(self) -> None:
        """End where it stands: what is not deleted comes again."""
        self._waiting.clear()
        self._rest()
        lanes = list(self._lanes)
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        self._lanes.clear()  # of those that never began, too
        self._starting = 0

    def _flush(self) -> None:
        self._timer = None
        self._due = bool(self._waiting)
        self._begin()

    def _begin(self) -> None:
        """Open a lane, if there is anything for it beside what lanes that were just opened will take."""
        left = len(self._waiting) - BATCH * self._starting
        if len(self._lanes) < LANES and (left >= BATCH or (self._due and left > 0)):
            self._starting += 1
            self._lanes.add(asyncio.create_task(self._work(), name=f"acknowledge {self._name}"))

    async def _work(self) -> None:
        self._starting -= 1
        try:
            while len(self._waiting) >= BATCH or (self._waiting and self._due):
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                if not self._waiting:
                    self._rest()
                await self._try(batch)
        finally:
            # NB: not by a callback, which comes later: what is added in between would find all lanes taken.
            self._lanes.discard(asyncio.current_task())

    def _rest(self) -> None:
        """Note that nothing waits: the next batch lingers anew."""
        self._due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _try(self, batch: Sequence[HeldMessage]) -> None:
        try:
            await self._delete([held.receipt for held in batch])
        except Exception as error:  # noqa: BLE001 - one bad message harms itself only
            if len(batch) > 1:
                for held in batch:
                    await self._try([held])
                return
            self._broken(batch[0], error)
        self._ended(batch)
