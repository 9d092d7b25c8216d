"""What failed through a fault of our own: how often, and for how long it is left alone.

Such a thing would fail again at once, and again, in a place that others need. So it is tried ever more rarely.
Only this process remembers: another version of the program, or another machine, may do better.
"""

import asyncio

import msgspec

from crrmon.domain.objects import ObjectVersion
from crrmon.domain.recent import Recent

FIRST_SECONDS = 60.0
LONGEST_SECONDS = 3600.0
FORGOTTEN_SECONDS = 3600.0
"""So long after its time came and nobody tried it, it is no longer this daemon's."""


class _Setback(msgspec.Struct):
    times: int = 0
    until: float = 0.0
    """By the loop's clock."""
    still_due: bool = False
    """Whether the ledger could not be told of the new date: it goes on naming the record."""


class Setbacks:
    """Remembers records whose visit failed."""

    def __init__(self) -> None:
        self._setbacks: Recent[ObjectVersion, _Setback] = Recent()

    def __len__(self) -> int:
        return len(self._setbacks)

    @property
    def still_due(self) -> int:
        """How many of them the ledger goes on naming as due."""
        return sum(one.still_due for _, one in self._setbacks.items())

    def resting(self, version: ObjectVersion) -> bool:
        """Return whether a version is to be left alone for now."""
        known = self._setbacks.get(version)
        return known is not None and asyncio.get_running_loop().time() < known.until

    def failed(self, version: ObjectVersion) -> float:
        """Take in that a version's visit failed; return for how many seconds it is left alone."""
        known = self._setbacks.get(version) or _Setback()
        seconds = min(FIRST_SECONDS * 2.0**known.times, LONGEST_SECONDS)
        known.times = min(known.times + 1, 32)
        known.until = asyncio.get_running_loop().time() + seconds
        known.still_due = True
        self._setbacks.put(version, known)
        return seconds

    def rescheduled(self, version: ObjectVersion) -> None:
        """Note that the ledger knows the new date."""
        if (known := self._setbacks.get(version)) is not None:
            known.still_due = False

    def over(self, version: ObjectVersion) -> None:
        """Forget a version: its visit went well."""
        self._setbacks.pop(version)

    def clear(self) -> None:
        """Forget all: they are others' to visit."""
        self._setbacks = Recent()

    def tidy(self) -> None:
        """Forget those that nobody tried when their time came."""
        long_ago = asyncio.get_running_loop().time() - FORGOTTEN_SECONDS
        for version in [one for one, known in self._setbacks.items() if known.until < long_ago]:
            self._setbacks.pop(version)
