"""The endpoint of one service: requests are signed, sent, and signed anew where the clock turns out to be wrong."""

from collections.abc import Callable

from crrmon import __version__
from crrmon.adapters.answers import read_date, tells_time
from crrmon.adapters.fast.addresses import Address
from crrmon.adapters.fast.credentials import CredentialsProvider
from crrmon.adapters.fast.pool import ConnectionPool, Origin
from crrmon.adapters.fast.reading import Answer
from crrmon.adapters.fast.signing import Request, Signer
from crrmon.domain.queue_address import is_of_aws
from crrmon.ports.clock import Dates

UNSIGNED = f"user-agent: crrmon/{__version__}\r\naccept-encoding: identity\r\n"
"""Lines of every request's head that are not signed, as proxies may change them."""

SKEW_SECONDS = 60.0
"""Of the machine's clock against the service's, beyond which requests are signed by the service's: it takes 5 minutes."""

HEARD_SECONDS = 0.1
"""After which a date is taken in that says the same as the one before: dates have whole seconds."""

MAX_SKEW_SECONDS = 86_400.0
"""The most that the service's clock is believed to differ. A signature for another day can be used on that day, by
whoever claimed that it is today.
"""

_REFUSALS = (400, 403)
"""What a service answers to a signature of another time, among other things."""


class ServiceEndpoint:
    """The endpoint of one service in one region.

    Args:
        address: where it is.
        pool: of connections.
        credentials: what to sign with.
        now: returns seconds since the epoch, by this machine's clock.
        dates: takes in the dates of responses; None where they say nothing of AWS's time.
    """

    def __init__(
        self,
        address: Address,
        *,
        pool: ConnectionPool,
        credentials: CredentialsProvider,
        now: Callable[[], float],
        dates: Dates | None,
    ) -> None:
        self.address = address
        self._pool = pool
        self._credentials = credentials
        self._now = now
        self._dates = dates
        self._signer = Signer(address.service, address.region)
        self._heard, self._heard_at = "", 0.0
        """The last date that was taken in, and when its answer was asked for."""
        self._skew = 0.0
        """Seconds that the service's clock is ahead of this machine's, where that is much."""

    async def ask(self, request: Request, *, origin: Origin | None = None) -> Answer:
        """Sign a request, send it and return the answer.

        A clock that turns out to be wrong is corrected, and the request made once more.

        Args:
            request: what to ask.
            origin: where to, if not at the address itself.

        Raises:
            NoCredentialsError: there are no credentials.
            Exception: as `ConnectionPool.ask`, or what the SDK raises where it cannot refresh credentials.
        """
        skew = self._skew
        answer = await self._ask(request, origin)
        if answer.status in _REFUSALS and self._skew != skew:
            answer = await self._ask(request, origin)
        return answer

    async def _ask(self, request: Request, origin: Origin | None) -> Answer:
        credentials = self._credentials.at_hand() or await self._credentials.current()
        asked_at = self._dates.asked() if self._dates is not None else 0.0
        sent = self._signer.signed(request, credentials, at=self._now() + self._skew)
        answer = await self._pool.ask(
            origin or self.address.origin,
            sent,
            bodiless=request.method == "HEAD",
            idempotent=request.method != "POST",
        )
        headers = answer.headers
        text = headers.get("date", "")
        # What says the same as the one before tells next to nothing; one in a while is enough. A refusal may be for the time.
        news = text != self._heard or asked_at - self._heard_at > HEARD_SECONDS
        if (news or answer.status in _REFUSALS) and tells_time(headers):
            self._heard, self._heard_at = text, asked_at
            date = read_date(text)
            if date is not None:
                self._dated(date, asked_at)
        return answer

    def _dated(self, date: float, asked_at: float) -> None:
        ahead = date - self._now()
        if abs(ahead - self._skew) > SKEW_SECONDS and self._believed(ahead):
            self._skew = ahead if abs(ahead) > SKEW_SECONDS else 0.0
        if self._dates is not None:
            self._dates.heard(date, asked_at=asked_at)

    def _believed(self, ahead: float) -> bool:
        """Return whether the service's clock may be that far ahead: over plain HTTP, AWS's could be anybody's."""
        origin = self.address.origin
        return abs(ahead) <= MAX_SKEW_SECONDS and (origin.tls or not is_of_aws(origin.shown))
