"""Whether anything completes on one path: how surprising it is that nothing does, and what is held meanwhile."""

import math

import msgspec

from crrmon.domain.policy import Policy

_MOST_SURE = 0.9
"""However sure the estimate is, one look that stays pending is no stronger evidence than this."""


class Flow(msgspec.Struct):
    """What completes on one path, and for how long nothing did."""

    evidence: float = 0.0
    """Of an outage, since the last completion; see `Policy.outage_evidence`."""
    suspected_at: float | None = None
    """When there was any evidence worth the name; None while there is none."""
    outage: bool = False
    ceased_at: float = -math.inf
    """When the last outage that is over began..."""
    resumed_at: float = -math.inf
    """...and when something completed again."""
    probe_at: float = -math.inf
    """From when on one object is treated as if there was no outage."""

    def completed(self, at: float) -> None:
        """Take in that something completed: whatever was suspected is over."""
        if self.outage and self.suspected_at is not None:
            self.outage = False
            # Kept: what completes later may have been written within.
            self.ceased_at, self.resumed_at = self.suspected_at, at
        self.evidence = 0.0
        self.suspected_at = None

    def stayed_pending(self, expected: float, *, now: float, policy: Policy) -> None:
        """Take in that an object stayed pending.

        Args:
            expected: how probable it was that it would be done.
            now: when it was looked at.
            policy: says how much evidence makes an outage.
        """
        self.evidence -= math.log1p(-min(expected, _MOST_SURE))
        if self.suspected_at is None and self.evidence > 1:
            self.suspected_at = now
        # Many looks at the same moment are one observation, however surprising: it must go on for a while.
        if (
            self.suspected_at is not None
            and self.evidence >= policy.outage_evidence
            and now - self.suspected_at >= policy.outage_quiet
        ):
            self.outage = True

    def held(self, at: float, *, now: float, draw: float, share: float, policy: Policy) -> float:
        """Return a date, put off while there is an outage but for one object in a while, which finds its end.

        Args:
            at: the date that there would be without an outage.
            now: the time.
            draw: 0 up to 1.
            share: of the time that the outage has lasted, for which to hold.
            policy: says within which bounds.
        """
        if not self.outage or self.suspected_at is None:
            return at
        # One is looked at as usual: else nobody would notice the end.
        if now >= self.probe_at:
            self.probe_at = now + policy.probe_every
            return at
        hold = share * (now - self.suspected_at)
        hold = max(policy.hold_shortest, min(hold, policy.hold_longest))
        # Over a wide span: what is held together must not come due together.
        return max(at, now + hold * (0.5 + draw))

    def survived(self, written_at: float, lower: float, upper: float) -> float:
        """
        Return the lower bound of a latency, raised where the last outage tells more: nothing else of its path completed.
        """
        if lower < upper and self.ceased_at <= written_at + lower < self.resumed_at:
            return min(self.resumed_at - written_at, upper)
        return lower
