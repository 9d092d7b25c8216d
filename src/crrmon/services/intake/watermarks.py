"""From when on writes may be unknown to the ledger: what "complete up to" must not pass.

A message's *floor* is the oldest time of a write that it may tell of: before it is decoded, that is guessed from when
it was sent and from how late messages lately were; afterwards it says so itself.
"""

from collections import OrderedDict

LEFT_SECONDS = 1800.0
"""For how long a message that was left in the queue counts here: by then the queue's own depth tells of it."""

RELEASED_SECONDS = 90.0
"""The same for one that was given back: it is visible at once, but counts of a queue are a minute old."""

REMEMBERED_MESSAGES = 10_000
"""Most messages of those that are remembered."""


class QueueWatermarks:
    """The low watermarks of one queue's messages that were left in it."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._abandoned: tuple[float, float] | None = None
        """The lowest floor of those that were too many to remember, and when the last of them may be forgotten."""

    def left(self, message_id: str, watermark: float, *, until: float) -> None:
        """Note that a message stays in the queue.

        Args:
            message_id: the same in each of its deliveries.
            watermark: the oldest write that it may tell of.
            until: when to forget it.
        """
        self._left[message_id] = (watermark, until)
        if len(self._left) > REMEMBERED_MESSAGES:
            # The limit must not let anybody pass over what was there. Not even when it comes again: which it was is
            # not known any more.
            _, (watermark, until) = self._left.popitem(last=False)
            if self._abandoned is not None:
                watermark, until = (
                    min(watermark, self._abandoned[0]),
                    max(until, self._abandoned[1]),
                )
            self._abandoned = watermark, until

    def came(self, message_id: str) -> None:
        """Note that a message came again: it is held now."""
        self._left.pop(message_id, None)

    def lowest(self, *, now: float) -> float | None:
        """Return the lowest floor of what was left; None when nothing was lately."""
        for message_id in [one for one, (_, until) in self._left.items() if until <= now]:
            del self._left[message_id]
        if self._abandoned is not None and self._abandoned[1] <= now:
            self._abandoned = None
        watermarks = [watermark for watermark, _ in self._left.values()]
        if self._abandoned is not None:
            watermarks.append(self._abandoned[0])
        return min(watermarks, default=None)
