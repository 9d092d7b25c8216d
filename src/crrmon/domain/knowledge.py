"""What was learned of the latencies of one path, and how that fades.

A sample is an interval, and a heap of them is fitted now and then; between two fits everything is answered from the
last one.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

import msgspec

from crrmon.domain.latency import BUCKETS, MIDDLES, fit, mean, span_of
from crrmon.domain.plans import Plan, cumulated, make_plan
from crrmon.domain.policy import Policy

Interval = tuple[int, int]
"""Latency buckets from the first up to but without the second."""
Spread = tuple[tuple[int, float], ...]
"""Weights of latency buckets."""


def _make_prior() -> tuple[float, ...]:
    """Create the distribution believed in before anything is known: 15 s, give or take, with long tails to either side.

    The tails fall by half every two doublings, so that from any age on the next doubling is as likely as the last.
    """
    weights = [math.exp2(-abs(math.log2(middle / 15.0)) / 2) for middle in MIDDLES]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


PRIOR = _make_prior()
_PRIOR_BELOW = cumulated(PRIOR)
_PRIOR_SAMPLES = 5.0
_PRIOR_CREDIT = tuple(_PRIOR_SAMPLES * share for share in PRIOR)
_FIT_ROUNDS = 10
_FIT_SHARE, _FIT_EVERY = 0.1, (20, 1000)
"""Fit again after so many samples more, of those that there are, within these bounds."""
_PLAN_SHARE = 0.01
"""Plan again once so many objects are thought to take another time: what is cheapest hardly changes by fewer."""
_PENDING_TO_SEE = 20.0
"""Once so many objects were seen pending up to an age, what lies above it is no longer hidden."""
_VAGUE = 0.8
"""A sample tells nothing whose interval was so probable before anything was known."""
_NEGLIGIBLE = 1e-3
_TINY = 1e-12
_LONG_AGO = 50.0
_LARGE_UNIT = 1e9


class Estimate(msgspec.Struct, frozen=True):
    """What is thought of a latency that is known as an interval."""

    spread: Spread
    """It sums to 1."""
    seconds: float
    """To be expected."""


class Knowledge(msgspec.Struct):
    """What was learned of the latencies of one path."""

    plan: Plan
    planned_for: tuple[float, ...] = PRIOR
    """The shares that the plan was made for."""
    shares: tuple[float, ...] = PRIOR
    below: tuple[float, ...] = _PRIOR_BELOW
    """Share of objects below each edge."""
    hidden: float = 1.0
    """Share of objects that are done before any are seen pending."""
    counts: dict[Interval, float] = {}
    untold: dict[Interval, float] = {}
    """Those of the counts that nobody else knows of yet."""
    unit: float = 1.0
    """What a new sample counts. It grows, which makes the older ones fade without touching them."""
    samples: float = 0.0
    """Sum of the counts."""
    informed: float = 0.0
    """The same, each sample weighed by how much it told."""
    unfitted: int = 0
    """Samples since the last fit."""
    learned_at: float | None = None
    estimates: dict[Interval, Estimate] = {}
    """What `estimate` answered since the last fit."""

    def learn(self, interval: Interval, *, now: float, policy: Policy, price: float) -> bool:
        """Take in a sample; return whether all that is known was fitted again."""
        self._fade(now, policy)
        self.counts[interval] = self.counts.get(interval, 0.0) + self.unit
        self.untold[interval] = self.untold.get(interval, 0.0) + self.unit
        self.samples += self.unit
        self.informed += self.unit * _told(interval)
        self.unfitted += 1
        return self._fit_if_due(policy, price)

    def drawn(self) -> dict[Interval, float]:
        """Take out what nobody else knows of yet, to be told."""
        untold, self.untold = self._in_samples(self.untold), {}
        return untold

    @property
    def untold_samples(self) -> float:
        """How many samples nobody else knows of yet."""
        return sum(self.untold.values()) / self.unit

    @property
    def all_samples(self) -> float:
        """How many samples this rests on, as of the last one."""
        return self.samples / self.unit

    def adopt(
        self, counts: Mapping[Interval, float], *, as_of: float, policy: Policy, price: float
    ) -> bool:
        """Go by what all daemons learned together, and by what nobody else knows of yet.

        Args:
            counts: of samples; what was learned here is among them, but for what was not told.
            as_of: of when they are.
            policy, price: as for `learn`.

        Returns:
            Whether anything is answered otherwise from now on.
        """
        before = self.all_samples
        self.untold = self._in_samples(self.untold)
        self.counts = dict(counts)
        for interval, count in self.untold.items():
            self.counts[interval] = self.counts.get(interval, 0.0) + count
        self.unit = 1.0
        self.samples = sum(self.counts.values())
        self.informed = sum(count * _told(span) for span, count in self.counts.items())
        self.learned_at = as_of if self.learned_at is None else max(as_of, self.learned_at)
        self.unfitted += round(abs(self.samples - before))
        return self._fit_if_due(policy, price)

    def informed_at(self, now: float, policy: Policy) -> float:
        """Return how many samples this rests on, each weighed by how much it told, as far as they have not faded."""
        if self.learned_at is None:
            return 0.0
        since = max(now - self.learned_at, 0.0)
        return self.informed / self.unit * math.exp(-since / policy.memory_longest)

    def expected(self, before: int, at: int) -> float:
        """Return how probably an object is done at an edge that was not at the one before."""
        known = self.below[before]
        return (self.below[at] - known) / max(1 - known, _TINY)

    def odds(self, lower: float, upper: float) -> float:
        """Return how probably it takes from `lower` to `upper` seconds, of all that takes no longer."""
        first, end = span_of(lower, upper)
        return max(self.below[end] - self.below[first], _TINY) / max(self.below[end], _TINY)

    def estimate(self, interval: Interval) -> Estimate:
        """Spread one over the buckets of an interval, in proportion to their shares but for negligible ones."""
        known = self.estimates.get(interval)
        if known is not None:
            return known
        first, end = interval
        shares = self.shares
        least = _NEGLIGIBLE * sum(shares[first:end])
        kept = [
            (bucket, shares[bucket]) for bucket in range(first, end) if shares[bucket] >= least
        ]
        total = sum(share for _, share in kept)
        spread = tuple((bucket, share / total) for bucket, share in kept)
        made = self.estimates[interval] = Estimate(spread, mean(spread))
        return made

    def _fade(self, now: float, policy: Policy) -> None:
        since = 0.0 if self.learned_at is None else max(now - self.learned_at, 0.0)
        self.unit *= math.exp(min(policy.fading(1.0, since), _LONG_AGO))
        self.learned_at = now
        # Before floats run out of range: it grows for as long as the process lives.
        if self.unit > _LARGE_UNIT:
            self._rescale()

    def _rescale(self) -> None:
        """Make a sample count one again, and drop what has faded."""
        self.counts, self.untold = self._in_samples(self.counts), self._in_samples(self.untold)
        self.samples /= self.unit
        self.informed /= self.unit
        self.unit = 1.0

    def _in_samples(self, counts: Mapping[Interval, float]) -> dict[Interval, float]:
        """Return counts in samples, without what has faded."""
        scaled = {interval: count / self.unit for interval, count in counts.items()}
        return {interval: count for interval, count in scaled.items() if count > _NEGLIGIBLE}

    def _fit_if_due(self, policy: Policy, price: float) -> bool:
        least, most = _FIT_EVERY
        # A fit costs as much as a thousand samples.
        if self.unfitted < max(least, min(_FIT_SHARE * self.all_samples, most)):
            return False
        self._fit(policy, price)
        return True

    def _fit(self, policy: Policy, price: float) -> None:
        self._rescale()
        shares = fit(self.counts, start=self.shares, prior=_PRIOR_CREDIT, rounds=_FIT_ROUNDS)
        self.shares, self.below = tuple(shares), cumulated(shares)
        self.hidden = self._hidden()
        if _moved(self.planned_for, self.shares) > _PLAN_SHARE:
            self.plan = make_plan(self.shares, price=price, grace=policy.grace)
            self.planned_for = self.shares
        # They were made of the shares before.
        self.estimates.clear()
        self.unfitted = 0

    def _hidden(self) -> float:
        """Estimate the share of objects that are done before the age at which any are seen pending."""
        pending = [0.0] * BUCKETS
        for (first, _), count in self.counts.items():
            pending[first] += count
        for edge, seen in enumerate(accumulate(pending[1:]), start=1):
            if seen >= _PENDING_TO_SEE:
                return self.below[edge]
        return 1.0


def _moved(before: Iterable[float], after: Iterable[float]) -> float:
    """Return the share of objects that would have to take another time to make one distribution of another."""
    return sum([abs(one - other) for one, other in zip(before, after, strict=True)]) / 2


@functools.cache
def _told(interval: Interval) -> float:
    """Weigh a sample by what its interval tells, from 0 to 1.

    Against what was believed before anything was known: an estimate that is sure of itself would call all samples
    worthless, and fade into not knowing.
    """
    first, end = interval
    return max(0.0, 1 - (_PRIOR_BELOW[end] - _PRIOR_BELOW[first]) / _VAGUE)
