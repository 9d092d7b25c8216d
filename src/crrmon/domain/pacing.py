"""When to look at an object, so that most are found soon and few are looked at twice.

A HEAD too early is wasted, one too late makes the numbers stale, and when replication ends cannot be seen: a look
only says "before" or "not yet". So each path (the set of routes that a version takes at once; a HEAD shows one merged
status for them) has its latency distribution learned from such intervals, and the plan that is cheapest under it is
looked up for each object: `Policy.freshness` sets the price of lateness in HEADs.

What is learned must not depend on what is believed. A plan that waits until objects are probably done would never
learn that they are done far sooner. So all objects are looked at early until a path is known, and a few for ever.
The intervals of all the others count as well: for whoever weighs them as intervals, as `latency.fit` does, they are
vague, not biased, because when a look falls depends on what was seen before and on chance alone.

On a path where looks stay pending that should have found something, looking more is of no use: all but one object
in a while are *held*, for about half as long as the outage has lasted. Looks then go on at about the usual rate however
many objects gather, and come due one by one when it is over.

Nothing here knows the time or throws dice: `now` and `chance`, from 0 up to 1, are arguments.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from crrmon.domain.latency import (
    BUCKETS,
    PER_DOUBLING,
    edge_near,
    fit,
    lower_edge,
    middle,
    quantile,
    span_of,
    upper_edge,
)
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Latency

Path = tuple[Route, ...]
Interval = tuple[int, int]
"""Latency buckets from the first up to but without the second."""
Spread = tuple[tuple[int, float], ...]
"""Weights of latency buckets."""

HOUR = 3600.0
DAY = 86400.0
EDGES = (*(lower_edge(bucket) for bucket in range(BUCKETS)), upper_edge(BUCKETS - 1))
MIDDLES = tuple(middle(bucket) for bucket in range(BUCKETS))


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """
    How to weigh few HEADs against fresh numbers. `freshness` is for users, the rest for simulations.
    """

    freshness: float = 0.5
    """0: fewest HEADs; 1: found soonest."""
    lateness_price: float = 0.3
    """HEADs that finding an object twice as late as it took may cost, at `freshness` 0.5."""
    price_range: float = 8.0
    """Factor on that price at `freshness` 1, and divisor at 0."""
    grace: float = 10.0
    """Seconds added to an object's own latency before lateness is compared with it: nobody minds these few."""

    early_samples: float = 300.0
    """Look at every object at once until a path has this many samples; at ever fewer with up to half as many more..."""
    early_share: float = 0.03
    """...and at this share for ever, to keep the estimate honest."""
    early_step: float = 0.5
    """An object that was looked at early waits this multiple of its age, until it is as old as usual ones then are."""
    jitter: float = 0.15
    """Waits are spread by this share to either side. It is exploration, too: it costs next to nothing."""

    memory_samples: float = 5000.0
    """Each sample fades the older ones by one in this many..."""
    memory_shortest: float = 1800.0
    """...but none faster than by 1/e in this time, however many come,..."""
    memory_longest: float = 6 * HOUR
    """...and all of them at least by 1/e in this one."""

    shortest_wait: float = 1.0
    cap_young: float = 300.0
    """Longest wait of an object up to an hour old."""
    cap_old: float = 900.0
    """Up to a day old."""
    cap_ancient: float = HOUR
    """Beyond; also the longest wait for a first look, lest an estimate gone wrong be believed for long."""
    retry_first: float = 2.0
    """Wait after the first look that told nothing; doubled for each one more."""
    retry_longest: float = 300.0
    failed_young: float = HOUR
    """Between looks at an open failure in its first day; somebody may be repairing it."""
    failed_old: float = DAY

    outage_evidence: float = 14.0
    """
    Call it an outage when that much was against completions being only late by chance: minus the logarithm of the
    probability. 14 is one in a million.
    """
    outage_quiet: float = 60.0
    """...and when that went on for so long."""
    probe_every: float = 15.0
    """In an outage, seconds between objects that are treated as if there was none."""
    hold_share: float = 0.5
    """In an outage, hold objects for this share of the time that it has lasted; at `freshness` 0.5."""
    hold_range: float = 2.0
    """Factor on that share at `freshness` 0, and divisor at 1."""
    hold_shortest: float = 30.0
    hold_longest: float = HOUR

    paths: int = 1024
    """Learn about this many at most; beyond, forget the one that was learned about longest ago."""

    def cap(self, age: float) -> float:
        """
        Return the longest wait of an object that is so old.
        """
        if age <= HOUR:
            return self.cap_young
        return self.cap_old if age <= DAY else self.cap_ancient


def _make_prior() -> tuple[float, ...]:
    """
    Make the distribution believed in before anything is known: 15 s, give or take, with long tails to either side.

    The tails fall by half every two doublings, so that from any age on the next doubling is as likely as the last.
    """
    weights = [math.exp2(-abs(math.log2(middle / 15.0)) / 2) for middle in MIDDLES]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


_PRIOR = _make_prior()
_PRIOR_SAMPLES = 5.0
_PRIOR_CREDIT = tuple(_PRIOR_SAMPLES * share for share in _PRIOR)
_FIT_ROUNDS = 10
_FIT_EVERY = (20, 250)
"""Fit again after 5 % more samples, within these bounds."""
_PENDING_TO_SEE = 20.0
"""Once so many objects were seen pending up to an age, what lies above it is no longer hidden."""
_FARTHEST = 4 * 4
"""Plans wait for at most four doublings of the age."""
_MOST_SURE = 0.9
"""However sure the estimate is, one look that stays pending is no stronger evidence than this."""
_VAGUE = 0.8
"""A sample tells nothing whose interval was so probable before anything was known."""
_NEGLIGIBLE = 1e-3
_TINY = 1e-12
_LONG_AGO = 50.0
_LARGE_UNIT = 1e9


def _cumulated(shares: Iterable[float]) -> tuple[float, ...]:
    return (0.0, *accumulate(shares))


_PRIOR_BELOW = _cumulated(_PRIOR)


class Plan(msgspec.Struct, frozen=True):
    """
    The cheapest ages to look at, under one distribution and one price.
    """

    first: tuple[float, ...]
    """For an object that is known from an age (an edge) on: the age to look first at, or 0 for at once."""
    wait: tuple[float, ...]
    """For an object that was still pending at an age (an edge): seconds to the next look."""


def make_plan(shares: Sequence[float], *, price: float, grace: float) -> Plan:
    """
    Find the ages to look at that cost least: 1 for each look, and `price` for each time an object's own latency.

    From the oldest age backwards: whoever knows what goes on costs from each later edge knows the best next one.

    Args:
        shares: of each latency bucket.
        price: of finding an object later by its latency and `grace`.
        grace: seconds.
    """
    below = _cumulated(shares)
    dues = [share * price / (mid + grace) for share, mid in zip(shares, MIDDLES, strict=True)]
    # What is done between two edges is found at the second: its lateness costs due * (edge - middle), summed up.
    slope = _cumulated(dues)
    offset = _cumulated(due * mid for due, mid in zip(dues, MIDDLES, strict=True))
    # What an object costs that is looked at first at an edge, beside that look.
    total = [EDGES[BUCKETS] * slope[BUCKETS] - offset[BUCKETS]] * (BUCKETS + 1)
    wait = [0.0] * (BUCKETS + 1)
    for here in range(BUCKETS - 1, -1, -1):
        slope_here, last = slope[here], min(here + _FARTHEST, BUCKETS)
        cost, there = min(
            (total[edge] - EDGES[edge] * slope_here, edge) for edge in range(here + 1, last + 1)
        )
        ahead = 1 - below[here] + cost + offset[here]
        total[here] = EDGES[here] * slope[here] - offset[here] + ahead
        wait[here] = EDGES[there] - EDGES[here]
    wait[BUCKETS] = wait[BUCKETS - 1]
    return Plan(_cheapest_from(total), tuple(wait))


def _cheapest_from(costs: Sequence[float]) -> tuple[float, ...]:
    """
    Return for each edge the age from there on that costs least, or 0 where that is the edge itself.

    Edges are coarse and the costs flat where they are least: a parabola through the neighbours finds the age between,
    without which plans would leap from edge to edge with every fit.
    """
    ages = [0.0] * len(costs)
    best = len(costs) - 1
    for here in range(len(costs) - 2, -1, -1):
        if costs[here] <= costs[best]:
            best = here
            continue
        before, least, after = (costs[min(best + step, BUCKETS)] for step in (-1, 0, 1))
        bend = before + after - 2 * least
        shift = max(-0.5, min((before - after) / 2 / bend, 0.5)) if bend > 0 else 0.0
        ages[here] = EDGES[best] * math.exp2(shift / PER_DOUBLING)
    return tuple(ages)


class _Knowledge(msgspec.Struct):
    """
    What was learned of the latencies of one path.
    """

    plan: Plan
    shares: tuple[float, ...] = _PRIOR
    below: tuple[float, ...] = _PRIOR_BELOW
    """Share of objects below each edge."""
    hidden: float = 1.0
    """Share of objects that are done before any are seen pending."""
    counts: dict[Interval, float] = {}
    unit: float = 1.0
    """What a new sample counts. It grows, which makes the older ones fade without touching them."""
    samples: float = 0.0
    """Sum of the counts."""
    informed: float = 0.0
    """The same, each sample weighed by how much it told."""
    unfitted: int = 0
    """Samples since the last fit."""
    learned_at: float | None = None
    spreads: dict[Interval, Spread] = {}
    """What `Pacer.spread` answered since the last fit."""

    def rescale(self) -> None:
        """
        Make a sample count one again, and drop what has faded.
        """
        counts = {interval: count / self.unit for interval, count in self.counts.items()}
        self.counts = {key: count for key, count in counts.items() if count > _NEGLIGIBLE}
        self.samples /= self.unit
        self.informed /= self.unit
        self.unit = 1.0


class _Flow(msgspec.Struct):
    """
    Whether anything completes on one path.
    """

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


class _PathState(msgspec.Struct):
    """
    All that is remembered of one path.
    """

    knowledge: _Knowledge
    flow: _Flow


class Pacer:
    """
    Says when to look; learns from what the looks showed.
    """

    def __init__(self, policy: Policy) -> None:
        """
        Start without any knowledge.
        """
        self._policy = policy
        eager = 2 * policy.freshness - 1
        self._price: float = policy.lateness_price * policy.price_range**eager
        self._hold_share: float = policy.hold_share / policy.hold_range**eager
        self._plan = make_plan(_PRIOR, price=self._price, grace=policy.grace)
        self._paths: dict[Path, _PathState] = {}

    # ---- when to look ----

    def first_look_at(self, path: Path, *, written_at: float, now: float, chance: float) -> float:
        """
        Return when to look at an object that was heard of just now: `now` where it should be at once.
        """
        policy, state = self._policy, self._state(path)
        at = now
        early = self._early_share(state.knowledge, now)
        if chance < early:
            chance /= early
        else:
            chance = (chance - early) / (1 - early)
            age = max(now - written_at, 0.0)
            wait = state.knowledge.plan.first[edge_near(age)] * self._jittered(chance) - age
            at = now + max(0.0, min(wait, policy.cap_ancient))
        return self._held(state.flow, at, now=now, chance=chance)

    def next_look_at(
        self, path: Path, *, written_at: float, now: float, troubles: int, chance: float
    ) -> float:
        """
        Return when to look again at an object that is pending, or whose look told nothing.

        Args:
            path: the routes that the version takes.
            written_at: when it was written.
            now: when it was looked at.
            troubles: looks that told nothing since the last that did.
            chance: 0 up to 1.
        """
        policy = self._policy
        if troubles > 0:
            wait = min(policy.retry_first * 2.0 ** min(troubles - 1, 30), policy.retry_longest)
            return now + wait * (0.5 + 0.5 * chance)
        state = self._state(path)
        age = now - written_at
        wait = min(
            self._usual_wait(state.knowledge, age, now=now) * self._jittered(chance),
            policy.cap(age) * (1 - policy.jitter * chance),
        )
        at = now + max(wait, policy.shortest_wait)
        return self._held(state.flow, at, now=now, chance=chance)

    def failed_look_at(self, *, failed_at: float, now: float, chance: float) -> float:
        """
        Return when to look again at an open failure, in case somebody repaired it.
        """
        policy = self._policy
        wait = policy.failed_young if now - failed_at < DAY else policy.failed_old
        return now + wait * self._jittered(chance)

    def _early_share(self, knowledge: _Knowledge, now: float) -> float:
        policy = self._policy
        beyond = self._informed(knowledge, now) / policy.early_samples - 1
        return max(policy.early_share, min(1.0, 1 - 2 * beyond))

    def _usual_wait(self, knowledge: _Knowledge, age: float, *, now: float) -> float:
        here = edge_near(age)
        usual_first = knowledge.plan.first[here] * (1 - self._policy.jitter)
        # Whatever was looked at before its time was looked at to learn: go on in small steps, else the first look
        # would have told little.
        early = age < usual_first or self._informed(knowledge, now) < self._policy.early_samples
        return self._policy.early_step * age if early else knowledge.plan.wait[here]

    def _jittered(self, chance: float) -> float:
        return 1 + self._policy.jitter * (2 * chance - 1)

    def _held(self, flow: _Flow, at: float, *, now: float, chance: float) -> float:
        if not flow.outage or flow.suspected_at is None:
            return at
        policy = self._policy
        if now >= flow.probe_at:
            flow.probe_at = now + policy.probe_every
            return at
        hold = self._hold_share * (now - flow.suspected_at)
        hold = max(policy.hold_shortest, min(hold, policy.hold_longest))
        return max(at, now + hold * (0.5 + chance))

    # ---- what looks showed ----

    def note(
        self,
        path: Path,
        *,
        done: bool,
        written_at: float,
        now: float,
        pending_seen_at: float | None = None,
    ) -> None:
        """
        Take in whether a look that told something found the object done; outages show in this.

        Args:
            path: the routes that the version takes.
            done: whether S3 was through with it, for better or worse.
            written_at: when it was written.
            now: when it was looked at.
            pending_seen_at: when it was last seen pending before this look.
        """
        state = self._state(path)
        flow, below = state.flow, state.knowledge.below
        if done:
            self._completed(flow, now)
            return
        # How surprising that is: it might long have been stuck, or be looked at early.
        before = 0.0 if pending_seen_at is None else below[edge_near(pending_seen_at - written_at)]
        expected = (below[edge_near(now - written_at)] - before) / max(1 - before, _TINY)
        flow.evidence -= math.log1p(-min(expected, _MOST_SURE))
        if flow.suspected_at is None and flow.evidence > 1:
            flow.suspected_at = now
        if (
            flow.suspected_at is not None
            and flow.evidence >= self._policy.outage_evidence
            and now - flow.suspected_at >= self._policy.outage_quiet
        ):
            flow.outage = True

    def learn(
        self, path: Path, latency: Latency, *, now: float, written_at: float | None = None
    ) -> None:
        """
        Take in the latency of an object that completed, found just now.

        Args:
            path: the routes that the version takes.
            latency: its bounds.
            now: when it was found.
            written_at: when it was written; None where it was found by the look that is the upper bound.
        """
        lower, upper = max(latency.lower, 0.0), max(latency.upper, 0.0)
        if not lower <= upper < math.inf:
            return
        state = self._state(path)
        done_at = now if written_at is None else min(now, written_at + upper)
        written_at = now - upper if written_at is None else written_at
        suspected_at = state.flow.suspected_at
        # Events of arrivals may come late: one from before anything was suspected ends no outage.
        if suspected_at is None or done_at >= suspected_at:
            self._completed(state.flow, done_at)
        if written_at < state.flow.resumed_at:
            # Written before or during an outage: what it took says nothing of the next one.
            return
        knowledge = state.knowledge
        self._fade(knowledge, now)
        interval = span_of(lower, upper)
        knowledge.counts[interval] = knowledge.counts.get(interval, 0.0) + knowledge.unit
        knowledge.samples += knowledge.unit
        knowledge.informed += knowledge.unit * _told(interval)
        knowledge.unfitted += 1
        least, most = _FIT_EVERY
        if knowledge.unfitted >= max(least, min(0.05 * knowledge.samples / knowledge.unit, most)):
            self._fit(knowledge)
            self._paths[path] = self._paths.pop(path)

    def _completed(self, flow: _Flow, now: float) -> None:
        if flow.outage and flow.suspected_at is not None:
            flow.outage = False
            flow.ceased_at, flow.resumed_at = flow.suspected_at, now
        flow.evidence = 0.0
        flow.suspected_at = None

    def _fade(self, knowledge: _Knowledge, now: float) -> None:
        policy = self._policy
        since = 0.0 if knowledge.learned_at is None else max(now - knowledge.learned_at, 0.0)
        fading = min(1 / policy.memory_samples, since / policy.memory_shortest)
        knowledge.unit *= math.exp(min(max(fading, since / policy.memory_longest), _LONG_AGO))
        knowledge.learned_at = now
        if knowledge.unit > _LARGE_UNIT:
            knowledge.rescale()

    def _fit(self, knowledge: _Knowledge) -> None:
        knowledge.rescale()
        shares = fit(
            knowledge.counts, start=knowledge.shares, prior=_PRIOR_CREDIT, rounds=_FIT_ROUNDS
        )
        knowledge.shares, knowledge.below = tuple(shares), _cumulated(shares)
        knowledge.hidden = _hidden(knowledge)
        knowledge.plan = make_plan(shares, price=self._price, grace=self._policy.grace)
        knowledge.spreads.clear()
        knowledge.unfitted = 0

    # ---- what is known ----

    def spread(self, path: Path, latency: Latency, *, now: float) -> Spread:
        """
        Return a latency as weights of latency buckets that sum to 1, spread by what is known of the path.

        Args:
            path: the routes that the version takes.
            latency: its bounds.
            now: when it was found.
        """
        state = self._state(path)
        knowledge, flow = state.knowledge, state.flow
        lower = max(latency.lower, 0.0)
        upper = max(latency.upper, lower)
        written_at = now - upper
        if flow.ceased_at <= written_at + lower < flow.resumed_at and lower < upper:
            # It was under way during the outage, which nothing else of the path survived either.
            lower = min(flow.resumed_at - written_at, upper)
        interval = span_of(lower, upper)
        spread = knowledge.spreads.get(interval)
        if spread is None:
            spread = knowledge.spreads[interval] = _spread(knowledge.shares, interval)
        return spread

    def spread_among(
        self, route: Route, among: Sequence[Route], latency: Latency, *, now: float
    ) -> Spread:
        """
        Return a latency as `spread` does, where looks only told that one of several routes took so long.

        Each of them is thought to be that one as probably as it is known to take so long, and all alike as long as
        nothing is known. The sum over all of them is about right, then, and so is what is often so.

        Args:
            route: one of them.
            among: all of them.
            latency: its bounds, and that of the slowest.
            now: when it was found.
        """
        slowest = latency.lower if latency.slowest is None else latency.slowest
        slow = Latency(slowest, latency.upper)
        odds = {one: self._odds((one,), slow) for one in (route, *among)}
        chance = odds[route] / sum(odds.values())
        blend: dict[int, float] = {}
        for bounds, weight in (
            (slow, chance),
            (Latency(latency.lower, latency.upper), 1 - chance),
        ):
            for bucket, share in self.spread((route,), bounds, now=now):
                blend[bucket] = blend.get(bucket, 0.0) + weight * share
        return tuple(sorted((bucket, share) for bucket, share in blend.items() if share > 0))

    def _odds(self, path: Path, latency: Latency) -> float:
        """
        Tell how probably a path takes so long, of all that takes no longer.
        """
        below = self._state(path).knowledge.below
        first, end = span_of(max(latency.lower, 0.0), latency.upper)
        return max(below[end] - below[first], _TINY) / max(below[end], _TINY)

    def samples(self, path: Path, *, now: float) -> float:
        """
        Return how many samples the knowledge of a path rests on, each weighed by how much it told.
        """
        state = self._paths.get(path)
        return 0.0 if state is None else self._informed(state.knowledge, now)

    def median(self, path: Path) -> float | None:
        """
        Return the median latency of a path in seconds; None before anything was learned.
        """
        state = self._paths.get(path)
        if state is None or not state.knowledge.counts:
            return None
        return quantile(dict(enumerate(state.knowledge.shares)), 0.5)

    def hidden(self, path: Path) -> float:
        """
        Return the share of a path's objects that are done before looks begin and see any pending, 0 to 1.

        What their latencies are, within that time, is a guess: every quantile up to this one is only a bound.
        """
        state = self._paths.get(path)
        return 1.0 if state is None else state.knowledge.hidden

    def _informed(self, knowledge: _Knowledge, now: float) -> float:
        if knowledge.learned_at is None:
            return 0.0
        since = max(now - knowledge.learned_at, 0.0)
        return knowledge.informed / knowledge.unit * math.exp(-since / self._policy.memory_longest)

    def _state(self, path: Path) -> _PathState:
        state = self._paths.get(path)
        if state is None:
            if len(self._paths) >= self._policy.paths:
                del self._paths[next(iter(self._paths))]
            state = self._paths[path] = _PathState(_Knowledge(self._plan), _Flow())
        return state


def _told(interval: Interval) -> float:
    """
    Weigh a sample by what its interval tells, from 0 to 1.

    Against what was believed before anything was known: an estimate that is sure of itself would call all samples
    worthless, and fade into not knowing.
    """
    first, end = interval
    return max(0.0, 1 - (_PRIOR_BELOW[end] - _PRIOR_BELOW[first]) / _VAGUE)


def _hidden(knowledge: _Knowledge) -> float:
    """
    Estimate the share of objects that are done before the age at which any are seen pending.
    """
    pending = [0.0] * BUCKETS
    for (first, _), count in knowledge.counts.items():
        pending[first] += count
    for edge, seen in enumerate(accumulate(pending[1:]), start=1):
        if seen >= _PENDING_TO_SEE:
            return knowledge.below[edge]
    return 1.0


def _spread(shares: tuple[float, ...], interval: Interval) -> Spread:
    """
    Spread one over the buckets of an interval, in proportion to their shares but for negligible ones.
    """
    first, end = interval
    least = _NEGLIGIBLE * sum(shares[first:end])
    kept = [(bucket, shares[bucket]) for bucket in range(first, end) if shares[bucket] >= least]
    total = sum(share for _, share in kept)
    return tuple((bucket, share / total) for bucket, share in kept)
