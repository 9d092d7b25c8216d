"""What time it is, reckoned from a monotonic clock and from what AWS's answers say about theirs.

The machine's own wall clock is believed only as far as it agrees with AWS. It may have been wrong from the start, be
set, or leap; so time goes on by the monotonic clock, and all that is to be found out is what to add to that, the
*base*. The wall clock makes the first guess at it. Each answer of AWS bounds it: when the answer was made it was its
`Date`, which is cut to whole seconds, and that was after it was asked for and before it came. A long poll bounds it
by 20 s, a HEAD by little more than one; what bounds have in common is narrow soon.

No single witness is believed against another one. What the machine's clock and one answer agree on is believed at
once, and so is what several answers in a row agree on. While an answer contradicts what is believed, nothing is sure.
Nor is it after the wall clock moved against the monotonic one: somebody set it, or the machine stood still and the
monotonic clock with it; the next answer tells which.
"""

import msgspec
from msgspec.structs import replace

TOLERANCE_SECONDS = 5.0
"""How far the machine's clock may be off before somebody is told, or leap before answers must confirm the time.

Clocks that are kept in step are within a tenth of a second, and Date with its whole seconds, servers that differ and
pauses of the process blur it by one or two: five are no blur. And they harm nothing yet: AWS refuses signatures that
are five minutes off, windows last a minute, and no age that ends anything is below hours.
"""

GRAIN_SECONDS = 1.0
"""Date is cut to whole seconds."""

APART_SECONDS = 1.0
"""How far servers may differ among themselves without contradicting each other."""

DRIFT = 2e-4
"""By how much a monotonic clock may go too fast or too slow: twice what cheap crystals do."""

AGREEING = 3
"""How many answers in a row must agree to be believed against all else."""

KNOWN_SECONDS = 1.0
"""For how long answers that say the same need not be reckoned with one by one: busy daemons hear hundreds a second."""

STEADY_SECONDS = 0.01
"""By how much less than a leap the machine's clocks may have moved against each other meanwhile."""

LONE_SECONDS = 300.0
"""Where no server ever told a Date: for how long the machine's clocks must have kept step to be believed."""


class Bounds(msgspec.Struct, frozen=True):
    """Between what the base lies."""

    low: float
    high: float

    def shared(self, other: "Bounds") -> "Bounds | None":
        """Return what two have in common; None where that is nothing."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Bounds(low, high) if low <= high else None

    def near(self, other: "Bounds") -> bool:
        """Return whether two differ by no more than servers do among themselves."""
        apart = max(self.low, other.low) - min(self.high, other.high)
        return apart <= APART_SECONDS

    def between(self, other: "Bounds") -> "Bounds":
        """Return the gap between two that share nothing."""
        return Bounds(min(self.high, other.high), max(self.low, other.low))

    def widened(self, seconds: float) -> "Bounds":
        """Return bounds further apart."""
        return Bounds(self.low - seconds, self.high + seconds)

    def nearest(self, base: float) -> float:
        """Return the base within the bounds that is nearest to one."""
        return min(max(base, self.low), self.high)


def told(date: float, *, asked_at: float, answered_at: float) -> Bounds:
    """Return how an answer bounds the base.

    Args:
        date: of the answer, whole seconds since the epoch.
        asked_at: by the monotonic clock.
        answered_at: by the monotonic clock.
    """
    return Bounds(date - answered_at, date + GRAIN_SECONDS - asked_at)


class Reckoning(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the time. Moments in here are the monotonic clock's."""

    base: float
    """Added to the monotonic clock, it gives the time."""
    bounds: Bounds
    lead: float
    """What the machine's wall clock was ahead of its monotonic one when this was last confirmed."""
    confirmed_at: float
    """When; as long as no server tells, since when the machine's clocks have kept step."""
    proved: bool = False
    """Whether it was ever confirmed."""
    told: bool = False
    """Whether a server confirmed it; else it is the machine's clocks alone."""
    misfits: tuple[Bounds, ...] = ()
    """Of the last answers, those that contradict the bounds and agree with each other."""

    def sure(self, *, lead: float) -> bool:
        """Return whether it can be relied on.

        Args:
            lead: what the wall clock is ahead of the monotonic one now.
        """
        return self.proved and not self.misfits and abs(lead - self.lead) <= TOLERANCE_SECONDS

    def offset(self, *, lead: float) -> float | None:
        """Return how far the wall clock is ahead of AWS's; None while no answer settled that."""
        return lead - self.base if self.told else None

    def heard(self, said: Bounds, *, lead: float, at: float) -> "Reckoning":
        """Take in an answer that came at a moment; nothing changes where one lately confirmed as much."""
        if self._knows(said, lead=lead, at=at):
            return self
        bounds = self.bounds.widened(DRIFT * max(at - self.confirmed_at, 0.0))
        own = Bounds(lead - TOLERANCE_SECONDS, lead + TOLERANCE_SECONDS)
        if bounds.near(said):
            # Servers that differ by so little are both right: the truth is between them.
            shared = bounds.shared(said) or bounds.between(said)
            return self._confirmed(shared, lead=lead, at=at)
        if (agreed := own.shared(said)) is not None:
            return self._confirmed(agreed, lead=lead, at=at)
        misfits = (*(one for one in self.misfits if one.near(said)), said)
        if len(misfits) < AGREEING:
            return replace(self, misfits=misfits)
        agreed = said
        for misfit in misfits:
            agreed = agreed.shared(misfit) or agreed
        return self._confirmed(agreed, lead=lead, at=at)

    def _knows(self, said: Bounds, *, lead: float, at: float) -> bool:
        """Return whether an answer would make no bound narrower, nor prove anything that is not proved."""
        grown = DRIFT * KNOWN_SECONDS
        return (
            self.told
            and not self.misfits
            and 0.0 <= at - self.confirmed_at < KNOWN_SECONDS
            and abs(lead - self.lead) < STEADY_SECONDS
            and said.low <= self.bounds.low - grown
            and said.high >= self.bounds.high + grown
        )

    def _confirmed(self, bounds: Bounds, *, lead: float, at: float) -> "Reckoning":
        return Reckoning(
            base=bounds.nearest(self.base),
            bounds=bounds,
            lead=lead,
            confirmed_at=at,
            proved=True,
            told=True,
        )

    def alone(self, *, lead: float, at: float) -> "Reckoning":
        """Go on where no server has told anything: the machine's clocks count when they have kept step for a while."""
        if self.told:
            return self
        if abs(lead - self.lead) > TOLERANCE_SECONDS:
            return replace(self, lead=lead, confirmed_at=at, proved=False)
        steady = at - self.confirmed_at >= LONE_SECONDS
        base = lead if steady else self.base + lead - self.lead
        return replace(
            self,
            base=base,
            bounds=_around(base),
            lead=lead,
            proved=steady,
        )


def started(*, lead: float, at: float) -> Reckoning:
    """Begin with the machine's own clocks.

    Args:
        lead: what the wall clock is ahead of the monotonic one.
        at: now, by the monotonic clock.
    """
    return Reckoning(base=lead, bounds=_around(lead), lead=lead, confirmed_at=at)


def _around(base: float) -> Bounds:
    return Bounds(base - TOLERANCE_SECONDS, base + TOLERANCE_SECONDS)
