"""Whether S3 is there, by what looks at all buckets showed lately.

S3 is away when no bucket answers: each that was looked at lately was unreachable at its last look, or all that S3 says
for minutes is that it is asked too much. One bucket that does so among others that answer is its own trouble.
"""

import asyncio

import msgspec

from crrmon.domain.objects import Place
from crrmon.domain.observations import Sight
from crrmon.domain.recent import Recent
from crrmon.services.lifecycle.health import Dependency

LATELY_SECONDS = 600.0
"""Buckets looked at within this time are asked about how S3 is."""

THROTTLED_SECONDS = 180.0
THROTTLED_LOOKS = 10
"""Nothing but refusals for so long and in so many looks: no bucket is scaled up for, S3 is away."""


AGAIN_SECONDS = 1.0
"""After which it is noted again that a bucket answers."""


class _Bucket(msgspec.Struct, frozen=True):
    looked_at: float
    unreachable: bool
    """At the last look that told whether it is."""


class Reach:
    """Judges S3.

    Args:
        health: of S3, which is told.
    """

    def __init__(self, health: Dependency) -> None:
        self._health = health
        self._buckets: Recent[Place, _Bucket] = Recent()
        self._refused = 0
        """Looks that were throttled since any was answered."""
        self._refused_since = 0.0
        self._well_until = 0.0
        """Until when it need not be told again that S3 answers."""

    def failing(self, place: Place) -> bool:
        """Return whether the last look at a bucket did not reach it."""
        known = self._buckets.get(place)
        return known is not None and known.unreachable

    def told(self, place: Place, sight: Sight, detail: str) -> None:
        """Take in what a look showed."""
        now = asyncio.get_running_loop().time()
        before = self._buckets.get(place)
        unreachable = before is not None and before.unreachable
        match sight:
            case Sight.UNREACHABLE:
                self._well_until = 0.0
                self._put(place, now, unreachable=True)
                if self._all_unreachable(now):
                    self._health.failed(detail)
            case Sight.THROTTLED:
                self._put(place, now, unreachable=unreachable)
                self._throttled(now, detail)
            case Sight.REFUSED | Sight.UNREADABLE:
                # It answered, and what it said is about the object or about us.
                self._put(place, now, unreachable=unreachable)
            case _:
                known = before is not None and now - before.looked_at < AGAIN_SECONDS
                if known and not unreachable and not self._refused and now < self._well_until:
                    return  # as of thousands of others in this second
                self._put(place, now, unreachable=False)
                self._refused = 0
                self._health.succeeded()
                self._well_until = now + AGAIN_SECONDS

    def tidy(self) -> None:
        """Forget what is old; an outage is over for a daemon that has nothing to look at any more."""
        now = asyncio.get_running_loop().time()
        while (first := self._buckets.oldest()) and now - first[1].looked_at > LATELY_SECONDS:
            self._buckets.pop(first[0])
        if not len(self._buckets):
            self._refused = 0
        self._health.retire(unasked_for=LATELY_SECONDS)

    def _put(self, place: Place, now: float, *, unreachable: bool) -> None:
        self._buckets.put(place, _Bucket(now, unreachable))

    def _throttled(self, now: float, detail: str) -> None:
        if not self._refused:
            self._refused_since = now
        self._refused += 1
        silent = now - self._refused_since
        if self._refused >= THROTTLED_LOOKS and silent >= THROTTLED_SECONDS:
            self._health.failed(
                f"{detail}: no other answer for {silent:.0f} s, from any bucket", certain=True
            )

    def _all_unreachable(self, now: float) -> bool:
        lately = now - LATELY_SECONDS
        return all(one.unreachable for _, one in self._buckets.items() if one.looked_at >= lately)
