"""The queue that messages come from, or the senders that push them."""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class InboxError(Exception):
    """The queue did not do what was asked; asking again may help.

    The text says which queue, what was asked, and what to check.
    """


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery of one message."""

    id: str
    receipt: str
    """Names this delivery when it is acknowledged, extended or released."""
    body: str
    sent_at: float | None
    """When it entered the queue."""


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages are where, by the queue's own approximate count."""

    visible: int
    in_flight: int
    delayed: int
    dead: int | None
    """In the dead-letter queue; 0 where there is none, None where nobody can tell."""
    trouble: str = ""
    """Why nobody can tell, and what to do about it."""


class Inbox(Protocol):
    """
    One queue with at-least-once delivery (SQS standard), or a port at which senders push messages until they are accepted.

    Every method raises `InboxError` when nothing of it was done.
    """

    name: str
    """Short name for logs and labels: the queue's own."""
    pushed: bool
    """Whether messages come from senders that wait for each of them to be acknowledged or given back, and send nothing
    else meanwhile. There is no dead-letter queue then, and nobody here sees what they still keep.
    """

    async def receive(self, *, wait_seconds: int, visibility_seconds: int) -> Sequence[Message]:
        """Wait for messages and take up to ten; others cannot see them for `visibility_seconds`.

        Returns:
            0 to 10 messages, in no order; some may have been delivered before.
        """

    async def depth(self) -> Depth | None:
        """Count what is in the queue and in its dead-letter queue; None where nobody ever can.

        What was sent or received within the last minute may not be counted yet.
        """

    async def acknowledge(self, receipts: Sequence[str]) -> Sequence[str]:
        """Delete up to ten delivered messages.

        Returns:
            The receipts that were not deleted; they may be tried again.
        """

    async def extend(self, receipts: Sequence[str], *, seconds: int) -> Sequence[str]:
        """Keep up to ten delivered messages hidden for `seconds` from now; 0 gives them back at once.

        Returns:
            The receipts that could not be changed: delivered to somebody else by now, or held for 12 hours.
        """
