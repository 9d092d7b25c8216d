"""Messages that are held: kept hidden from other receivers for as long as it takes."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from crrmon.domain.events.facts import Fact
from crrmon.domain.slicing import sliced
from crrmon.ports.inbox import Inbox, InboxError
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.tracker import FirstLook

VISIBILITY_SECONDS = 120
"""How long a message stays hidden from the last time we asked for it."""

EXTEND_BELOW_SECONDS = 60.0
"""Time left hidden at which a held message is extended."""

EXTEND_BATCH = 10
EXTEND_LANES = 16
EXTEND_SECONDS = 1.0
"""What one call may take: where many are held, extending begins sooner by the time that all of them need..."""
EXTEND_BELOW_MOST_SECONDS = 100.0
"""...but no sooner than at this much time left."""


class HeldMessage:
    """A message that was received and is not yet dealt with.

    Args:
        message_id: the same in each of its deliveries.
        receipt: names this delivery.
        hidden_until: until when nobody else receives it, by the event loop's clock.
        guessed: the oldest time of a write that it may tell of, as long as it is not read.
        hold: what it waits by.
    """

    __slots__ = (
        "facts",
        "first",
        "guessed",
        "hidden_until",
        "hold",
        "message_id",
        "receipt",
        "watermark",
        "weight",
    )

    def __init__(
        self, message_id: str, receipt: str, *, hidden_until: float, guessed: float, hold: Hold
    ) -> None:
        self.message_id = message_id
        self.receipt = receipt
        self.hidden_until = hidden_until
        self.guessed = guessed
        self.watermark: float | None = guessed
        """The oldest time of a write that it tells of; None when it tells of none."""
        self.hold = hold
        self.first: FirstLook | None = None
        """What its hold waits for, if it does."""
        self.facts: list[Fact] | None = None
        """What else it tells, to be dealt with afterwards, the last first; None for nothing."""
        self.weight = 0
        """Facts that it was let in with and that are not dealt with yet, at least 1; 0 before it was let in."""


class Visibility:
    """Keeps messages hidden.

    Args:
        inbox: their queue.
        queue: told when it does not extend them.
        held: by receipt.
    """

    def __init__(self, inbox: Inbox, queue: Dependency, held: Mapping[str, HeldMessage]) -> None:
        self._inbox = inbox
        self._queue = queue
        self._held = held

    async def extended(self) -> bool:
        """Extend the messages that would soon be visible again; return whether the queue did it."""
        loop = asyncio.get_running_loop()
        needed = len(self._held) / EXTEND_BATCH / EXTEND_LANES * EXTEND_SECONDS
        soon = loop.time() + min(EXTEND_BELOW_SECONDS + needed, EXTEND_BELOW_MOST_SECONDS)
        ending = [receipt for receipt, held in self._held.items() if held.hidden_until < soon]
        ending.sort(key=lambda receipt: self._held[receipt].hidden_until)
        batches = deque(sliced(ending, EXTEND_BATCH))
        lanes = (self._extend_all(batches) for _ in range(min(EXTEND_LANES, len(batches))))
        return all(await asyncio.gather(*lanes))

    async def _extend_all(self, batches: deque[list[str]]) -> bool:
        """Extend batches as long as there are any and the queue does it."""
        while batches:
            batch = [receipt for receipt in batches.popleft() if receipt in self._held]
            try:
                await self._extend(batch)
            except InboxError as error:
                self._queue.failed(str(error))
                batches.clear()
                return False
        return True

    async def _extend(self, receipts: Sequence[str]) -> None:
        asked_at = asyncio.get_running_loop().time()
        lost = set(await self._inbox.extend(receipts, seconds=VISIBILITY_SECONDS))
        for receipt in receipts:
            # One that could not be extended comes again elsewhere: harmless, it is counted once.
            if receipt in self._held and receipt not in lost:
                self._held[receipt].hidden_until = asked_at + VISIBILITY_SECONDS
