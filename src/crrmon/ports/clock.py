"""What time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """
    Wall time. Waiting is the event loop's business; tests derive one from the other.
    """

    def now(self) -> float:
        """
        Return seconds since the epoch, UTC.
        """
        ...


class SystemClock:
    """
    The machine's clock.
    """

    def now(self) -> float:
        """
        Return seconds since the epoch, UTC.
        """
        return time.time()
