"""How long messages lie in a queue before they are received.

It shows by the messages of the last receive. While nothing is received, because intake waits for something, what lies
there grows older. Of what is pushed nobody can tell: it lies with its sender.
"""

from collections.abc import Sequence

from crrmon.ports.inbox import Message

WAIT_SECONDS = 20
"""Long poll: the longest SQS has."""


class QueueAge:
    """The age of the oldest message lately received.

    Args:
        pushed: whether senders push their messages.
    """

    def __init__(self, *, pushed: bool) -> None:
        self._pushed = pushed
        self._oldest: float | None = None
        """By the last receive; None where it told none, and before the first one."""
        self._received_at = 0.0

    def received(self, messages: Sequence[Message], *, now: float, sure: bool) -> list[float]:
        """Take in what a receive brought.

        Args:
            messages: that came, perhaps none.
            now: the time...
            sure: ...and whether it can be relied on: else no age is told.

        Returns:
            The ages that are known, in seconds.
        """
        dated = [message.sent_at for message in messages if message.sent_at is not None]
        ages = [max(now - sent_at, 0.0) for sent_at in dated] if sure else []
        self._oldest = max(ages, default=None if messages else 0.0)
        self._received_at = now
        return ages

    def told(self, now: float) -> float | None:
        """Return the age in seconds; None where nobody can tell."""
        if self._pushed or self._oldest is None:
            return None
        idle = now - self._received_at
        return self._oldest + (idle if idle > 2 * WAIT_SECONDS else 0.0)
