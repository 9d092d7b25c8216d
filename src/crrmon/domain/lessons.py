"""What daemons learned of a path's latencies, put together, so that it outlives each of them.

Each daemon hands on what it learned since it last did, as a *lesson*; what is kept is the sum of all lessons, which
fades as a daemon's own knowledge does. A sum is the same in whatever order it is added up, so daemons learn at once and
in turn alike, and a lesson that is handed on again is known by its id.

Only samples are kept. What was concluded from them is concluded again, and outages and waves are nobody's knowledge
but of whoever sees them: they are found again within a minute, and none outlives its end.
"""

import math
from collections.abc import Mapping

import msgspec

from crrmon.domain.knowledge import Interval
from crrmon.domain.objects import Route
from crrmon.domain.policy import DAY, Policy

KEPT_SECONDS = DAY
"""Of what nobody added to for so long, too little is left to be worth keeping."""
AHEAD_SECONDS = 300.0
"""Clocks may be apart by so much; what is from a later time is nonsense."""
LESSONS_KNOWN = 8
"""How many of the newest lessons are known again."""
MOST_INTERVALS = 128
"""More are not kept: simulated paths of every kind had 96 to 110, and the 100 most frequent of them held 99.98 % of the samples."""

FEWEST_SAMPLES = 20.0
"""Fewer are not worth a write, but when the daemon ends..."""
SHARE = 0.05
"""...nor are fewer than this share of all that is known..."""
SOONEST_SECONDS = 30.0
"""...within this time since the last one; none are within this one."""
LATEST_SECONDS = 300.0

_LEAST = 1e-3
_MOST = 1e9
_LONG_AGO = 50.0

Counts = Mapping[Interval, float]
"""How often each interval was seen, faded."""


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What one daemon learned of a path since it last handed on what it had learned."""

    id: str
    """Of no other lesson, and short: the newest are kept."""
    path: tuple[Route, ...]
    counts: Counts


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What all daemons learned of a path."""

    path: tuple[Route, ...]
    counts: Counts
    as_of: float
    """When something was added last; it fades from then on."""
    lessons: tuple[str, ...] = ()
    """Ids of the newest lessons in it, oldest first."""


def worth_telling(samples: float, *, known: float, since: float) -> bool:
    """Return whether so many new samples are worth a write to the ledger.

    The less is known, the sooner: a daemon may not live long, and the first few hundred samples save the most looks.

    Args:
        samples: learned since the last lesson.
        known: all there are, these among them.
        since: seconds since the last lesson.
    """
    if samples < FEWEST_SAMPLES or since < SOONEST_SECONDS:
        return False
    return samples >= SHARE * known or since >= LATEST_SECONDS


def believable(learned: Learned, *, now: float) -> bool:
    """Return whether what is kept can be true, and is recent enough to be of use."""
    counts = learned.counts.values()
    return (
        -AHEAD_SECONDS <= now - learned.as_of <= KEPT_SECONDS
        and all(0 <= count <= _MOST for count in counts)
        and len(learned.counts) <= MOST_INTERVALS
    )


def taught(known: Learned | None, lesson: Lesson, *, now: float, policy: Policy) -> Learned:
    """Add a lesson to what is known; one that is in it already changes nothing.

    Args:
        known: of the lesson's path; None for nothing.
        lesson: what is new.
        now: the time.
        policy: says how what was known before fades.
    """
    if known is None:
        known = Learned(path=lesson.path, counts={}, as_of=now)
    if lesson.id in known.lessons:
        return known
    since = max(now - known.as_of, 0.0)
    fading = policy.fading(sum(lesson.counts.values()), since)
    left = math.exp(-min(fading, _LONG_AGO))
    counts = {interval: left * count for interval, count in known.counts.items()}
    for interval, count in lesson.counts.items():
        counts[interval] = counts.get(interval, 0.0) + count
    return Learned(
        path=known.path,
        counts=_bounded(counts),
        as_of=max(now, known.as_of),
        lessons=(*known.lessons, lesson.id)[-LESSONS_KNOWN:],
    )


def _bounded(counts: Counts) -> dict[Interval, float]:
    """Return the counts that are kept, the most frequent if there are too many."""
    kept = [(count, interval) for interval, count in counts.items() if count > _LEAST]
    if len(kept) > MOST_INTERVALS:
        kept = sorted(kept, reverse=True)[:MOST_INTERVALS]
    return {interval: count for count, interval in kept}
