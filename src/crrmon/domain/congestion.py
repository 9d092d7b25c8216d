"""How many requests to one bucket may be under way, and how many may begin in a second.

S3 scales a bucket up as it is used and answers 503 SlowDown meanwhile; how much it bears changes and is told nowhere.
So the number of requests under way is felt for, as TCP does: a little more after every answer, half after a refusal;
and no more while many are refused, or the few that are not would make up for it: answers come in milliseconds.
Beside that stands a ceiling per second that somebody may have configured.

Nothing here waits: whoever asks is told how long to.
"""

import math

from crrmon.domain.observations import Sight

START = 16
"""Requests under way at once before anything is known."""
ROUND_TRIP_SECONDS = 1.0
"""The limit is halved at most once in this time; requests that began sooner after that did not know better."""
TOLERATED = 0.1
"""Share of refusals among the last answers, above which the limit does not grow."""
AMONG = 32
"""So many answers are the last ones, about: each fades those before it by one in this many."""
BURST_SECONDS = 0.5
"""So much of the ceiling per second may be used at once after a pause."""

_REFUSALS = (Sight.THROTTLED, Sight.UNREACHABLE)


class Congestion:
    """What one bucket bears at the moment.

    Args:
        most: requests under way at once, whatever happens; at least 1.
        per_second: ceiling of requests started in a second; infinite for none.
    """

    def __init__(self, *, most: int, per_second: float = math.inf) -> None:
        self._most = float(most)
        self._limit = min(float(START), self._most)
        self._under_way = 0
        self._halved_at = -math.inf
        self._refused = 0.0
        """Share of refusals among the last answers."""
        self._spacing = 1 / per_second
        self._burst = max(BURST_SECONDS, self._spacing) - self._spacing
        self._next_at = -math.inf

    @property
    def limit(self) -> int:
        """How many requests may be under way at once now."""
        return int(self._limit)

    def wait(self, now: float) -> float:
        """Return the seconds to wait before a request may begin: 0 for none, infinite until one ends."""
        if self._under_way >= int(self._limit):
            return math.inf
        wait = self._next_at - self._burst - now
        return wait if wait > 0 else 0.0

    def began(self, now: float) -> None:
        """Take in that a request begins."""
        self._under_way += 1
        self._next_at = max(self._next_at, now) + self._spacing

    def ended(self, sight: Sight | None, *, began_at: float, now: float) -> None:
        """Take in that a request ended.

        Args:
            sight: its answer; None where it was abandoned.
            began_at: when it began.
            now: any clock that never goes back, the same for all calls.
        """
        was_full = 2 * self._under_way >= int(self._limit)
        self._under_way -= 1
        if sight is None:
            return
        refused = sight in _REFUSALS
        self._refused += (refused - self._refused) / AMONG
        if not refused:
            # An answer says nothing of a limit that nobody comes near.
            if was_full and self._refused <= TOLERATED:
                self._limit = min(self._limit + 1 / self._limit, self._most)
        elif began_at >= self._halved_at + ROUND_TRIP_SECONDS:
            self._halved_at = now
            self._limit = max(self._limit / 2, 1.0)
