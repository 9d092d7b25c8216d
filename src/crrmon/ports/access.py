"""Who the daemon is to AWS, and to the accounts whose buckets it looks at."""

from typing import Protocol


class AccessError(Exception):
    """Whoever was asked refused, or there is nothing to ask with; the text says what to do."""


class UnansweredError(AccessError):
    """Nobody answered, so nothing is known."""


class Access(Protocol):
    """Tells whose credentials are used."""

    async def identity(self) -> str:
        """Return the ARN of whoever the daemon is.

        Raises:
            AccessError: there are no credentials, or AWS does not know them.
            UnansweredError: nobody answered.
        """

    async def enter(self, account: str) -> str:
        """Get credentials for an account of the configuration, as the first look at its buckets would.

        Args:
            account: its `id`.

        Returns:
            Whose they are.

        Raises:
            AccessError: there are none.
            UnansweredError: nobody answered.
        """
