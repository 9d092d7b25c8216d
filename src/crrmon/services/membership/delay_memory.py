"""How late events come, as all daemons of the ledger know it together, across restarts."""

from collections.abc import Mapping

import msgspec
import structlog

from crrmon.domain.event_delays import STATE, EventDelays, decode, encode
from crrmon.ports.ledger import Ledger

log = structlog.get_logger()


class DelayMemory:
    """Remembers delays, and shares them through the ledger.

    Args:
        least: delays in seconds to reckon with in any case, by channel.
        retention_seconds: a delay beyond this is of an old event sent again, and tells nothing of the others.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        least: Mapping[str, float],
        retention_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._least = least
        self._retention_seconds = retention_seconds
        self._delays = EventDelays()
        self._body: bytes | None = None
        """As the ledger had it when it was last asked."""
        self._shared = False

    @property
    def largest(self) -> float | None:
        """The largest delay in seconds that is known; None when none is."""
        return self._delays.largest(self._least)

    def note(self, channel: str, seconds: float, *, now: float) -> None:
        """Note how long after a write its message was sent."""
        if seconds > self._retention_seconds:
            return
        delays = self._delays.noted(channel, seconds, now=now)
        if delays is not self._delays:
            self._delays, self._shared = delays, False

    async def share(self) -> None:
        """Write what is new to the ledger, and take over what others wrote.

        Raises:
            LedgerError: it is to be tried again.
        """
        if self._body is None:
            self._take((await self._ledger.states(STATE)).get(STATE))
        while not self._shared:
            delays = self._delays
            body = encode(delays)
            if body == self._body or await self._ledger.swap(STATE, self._body, body):
                self._body, self._shared = body, delays is self._delays
                return
            self._take((await self._ledger.states(STATE)).get(STATE))

    def _take(self, body: bytes | None) -> None:
        self._body = body
        if body is None:
            return
        try:
            self._delays = self._delays.merged(decode(body))
        except msgspec.MsgspecError as error:
            # What is known here takes its place.
            log.warning("delays_damaged", reason=str(error))
