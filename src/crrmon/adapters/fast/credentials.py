"""Credentials of the fast client: the SDK finds and refreshes them."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiobotocore.credentials import AioRefreshableCredentials
from botocore.exceptions import NoCredentialsError

from crrmon.adapters.fast.signing import Credentials

RENEWAL_SECONDS = 60.0
"""Between two times that credentials are renewed because a service took them for expired."""

ASKED_SECONDS = 0.5
"""How often the SDK is asked for credentials: it renews them minutes before they end."""


class CredentialsProvider:
    """Provides the credentials of a session, as the SDK refreshes them; one for all services that the session calls.

    Args:
        held: the SDK's own, which refreshes them.
        monotonic: the loop's clock.
    """

    def __init__(self, held: Any, *, monotonic: Callable[[], float]) -> None:
        self._held = held
        self._monotonic = monotonic
        self._frozen: Any = None
        self._current: Credentials | None = None
        self._renewing = asyncio.Lock()
        self._asked_at = self._renewed_at = self._changed_at = float("-inf")

    def at_hand(self) -> Credentials | None:
        """Return what to sign with, where the SDK was asked for it just now; else None."""
        return self._current if self._monotonic() < self._asked_at + ASKED_SECONDS else None

    async def current(self) -> Credentials:
        """Return what to sign with now.

        Raises:
            NoCredentialsError: there are none; whatever the SDK raises where it could not refresh them.
        """
        frozen = await self._held.get_frozen_credentials()
        if frozen is None or not frozen.access_key:
            raise NoCredentialsError
        if frozen is not self._frozen or self._current is None:
            if self._current is not None:
                self._changed_at = self._monotonic()
            self._frozen = frozen
            self._current = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        self._asked_at = self._monotonic()
        return self._current

    async def renew(self, *, asked_at: float) -> bool:
        """Refresh credentials that a service called expired before their time.

        Args:
            asked_at: when the call was made that failed for it, by the loop's clock. Of several that failed together, the
                first refreshes for all.

        Returns:
            Whether there are newer ones: none where they cannot be refreshed, or a refresh just failed to help.
        """
        if not isinstance(self._held, AioRefreshableCredentials):
            return False
        async with self._renewing:
            now = self._monotonic()
            if asked_at < self._changed_at:
                return True
            if now - self._renewed_at < RENEWAL_SECONDS:
                return False
            self._renewed_at = now
            before = await self.current()
            # NB: the SDK itself asks for newer ones by the clock alone.
            held: Any = self._held
            async with held._refresh_lock:  # noqa: SLF001
                await held._protected_refresh(is_mandatory=False)  # noqa: SLF001
            return await self.current() != before
