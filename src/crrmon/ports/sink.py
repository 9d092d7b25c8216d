"""Where frozen windows are sent."""

from typing import Protocol


class SinkError(Exception):
    """The sink did not accept a part; sending the same bytes again may help."""


class RefusedPartError(SinkError):
    """The sink will never accept these bytes (a bad request, or older than it takes)."""


class Sink(Protocol):
    """Takes the parts of windows (`windows.parts`), each in one call."""

    async def send(self, part: bytes) -> None:
        """Deliver one part; the same bytes make the same call.

        Raises:
            RefusedPartError: never to be sent again.
            SinkError: it may have arrived or not; send it again later.
        """
