"""What time it is, and whether that can be relied on."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time. Waiting is the event loop's business; tests derive one from the other."""

    @property
    def sure(self) -> bool:
        """Whether `now` can be relied on; while it cannot, nothing is done by it that cannot be undone."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""


class Local(Protocol):
    """The clocks of a machine: one that may be set, leap and be wrong, and one that only goes on."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC, as the machine has them."""

    def monotonic(self) -> float:
        """Return seconds since some moment in the past."""


class Dates(Protocol):
    """Takes in what servers say about the time."""

    def asked(self) -> float:
        """Note that a server is about to be asked; the result is for `heard`."""

    def heard(self, date: float, *, asked_at: float) -> None:
        """Take in an answer that came just now.

        Args:
            date: seconds since the epoch, cut to whole ones, as HTTP's Date is.
            asked_at: what `asked` returned.
        """


class SystemClock:
    """The machine's own clocks, believed: for commands that people run."""

    sure = True
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
