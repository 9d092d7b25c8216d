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

Nothing here knows the time or throws dice: `now` and `draw`, from 0 up to 1, are arguments.
"""

import functools
import math
import operator
from collections.abc import Iterable, Sequence

import msgspec

from crrmon.domain.knowledge import PRIOR, Estimate, Knowledge, Spread
from crrmon.domain.latency import edge_near, quantile, span_of
from crrmon.domain.lessons import Counts, Learned, worth_telling
from crrmon.domain.objects import AT_HAND, UNKNOWN_DESTINATION, Route
from crrmon.domain.outages import Flow
from crrmon.domain.outcomes import Latency
from crrmon.domain.plans import make_plan
from crrmon.domain.policy import DAY, Policy
from crrmon.domain.records import Record

Path = tuple[Route, ...]


def path_of(record: Record) -> Path:
    """Return all ways that a version takes at once, those too whose end was found: its status is that of all."""
    source, destinations = record.version.bucket, record.destinations
    if len(destinations) == 1:  # as nearly always
        return _path(source, destinations[0].bucket)
    if not destinations:
        return _path(source, UNKNOWN_DESTINATION)
    return _path(source, *map(_bucket, destinations))


_bucket = operator.attrgetter("bucket")


@functools.lru_cache(maxsize=AT_HAND)
def _path(source: str, *destinations: str) -> Path:
    return tuple(Route(source, bucket) for bucket in destinations)


def apart(path: Path, route: Route) -> Path:
    """Return by what to remember the latencies at one of several destinations; the whole path where they are the same."""
    return (route,) if len(path) > 1 and route in path else path


class _PathState(msgspec.Struct):
    """All that is remembered of one path."""

    knowledge: Knowledge
    flow: Flow
    told_at: float = -math.inf
    """When it was last taken out what others do not know yet."""
    news: bool = True
    """Whether anything is answered otherwise than when `learn` last said so."""


class Pacer:
    """Says when to look; learns from what the looks showed."""

    def __init__(self, policy: Policy) -> None:
        """Start without any knowledge."""
        self._policy = policy
        eager = 2 * policy.freshness - 1
        self._price: float = policy.lateness_price * policy.price_range**eager
        self._hold_share: float = policy.hold_share / policy.hold_range**eager
        self._plan = make_plan(PRIOR, price=self._price, grace=policy.grace)
        self._paths: dict[Path, _PathState] = {}
        self._recalled: dict[Path, Learned] = {}
        """Of paths that nothing was asked about yet."""

    # ---- when to look ----

    def first_look_at(self, path: Path, *, written_at: float, now: float, draw: float) -> float:
        """Return when to look at an object that was heard of just now: `now` where it should be at once."""
        policy, state = self._policy, self._state(path)
        at = now
        # Some are looked at before their time, so that faster replication than is believed in is noticed at all.
        early = self._early_share(state.knowledge, now)
        if draw < early:
            # One draw decides twice: what is left of it is as evenly spread as it was.
            draw /= early
        else:
            draw = (draw - early) / (1 - early)
            age = max(now - written_at, 0.0)
            wait = state.knowledge.plan.first[edge_near(age)] * self._jittered(draw) - age
            at = now + max(0.0, min(wait, policy.cap_ancient))
        return self._held(state.flow, at, now=now, draw=draw)

    def next_look_at(
        self, path: Path, *, written_at: float, now: float, troubles: int, draw: float
    ) -> float:
        """Return when to look again at an object that is pending, or whose look told nothing.

        Args:
            path: the routes that the version takes.
            written_at: when it was written.
            now: when it was looked at.
            troubles: looks that told nothing since the last that did.
            draw: 0 up to 1.
        """
        policy = self._policy
        if troubles > 0:
            wait = min(policy.retry_first * 2.0 ** min(troubles - 1, 30), policy.retry_longest)
            # Downwards only, and far: what an outage put off together must not come back together.
            return now + wait * (0.5 + 0.5 * draw)
        state = self._state(path)
        age = now - written_at
        wait = min(
            # What was written together must not be looked at together.
            self._usual_wait(state.knowledge, age, now=now) * self._jittered(draw),
            policy.cap(age) * (1 - policy.jitter * draw),
        )
        at = now + max(wait, policy.shortest_wait)
        return self._held(state.flow, at, now=now, draw=draw)

    def failed_look_at(self, *, failed_at: float, now: float, draw: float) -> float:
        """Return when to look again at an open failure, in case somebody repaired it."""
        policy = self._policy
        wait = policy.failed_young if now - failed_at < DAY else policy.failed_old
        return now + wait * self._jittered(draw)

    def _early_share(self, knowledge: Knowledge, now: float) -> float:
        policy = self._policy
        beyond = knowledge.informed_at(now, self._policy) / policy.early_samples - 1
        return max(policy.early_share, min(1.0, 1 - 2 * beyond))

    def _usual_wait(self, knowledge: Knowledge, age: float, *, now: float) -> float:
        here = edge_near(age)
        usual_first = knowledge.plan.first[here] * (1 - self._policy.jitter)
        # Whatever was looked at before its time was looked at to learn: go on in small steps, else the first look
        # would have told little.
        policy = self._policy
        unknown = knowledge.informed_at(now, policy) < policy.early_samples
        early = age < usual_first or unknown
        return policy.early_step * age if early else knowledge.plan.wait[here]

    def _jittered(self, draw: float) -> float:
        return 1 + self._policy.jitter * (2 * draw - 1)

    def _held(self, flow: Flow, at: float, *, now: float, draw: float) -> float:
        if not flow.outage:
            return at
        return flow.held(at, now=now, draw=draw, share=self._hold_share, policy=self._policy)

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
        """Take in whether a look that told something found the object done; outages show in this.

        Args:
            path: the routes that the version takes.
            done: whether S3 was through with it, for better or worse.
            written_at: when it was written.
            now: when it was looked at.
            pending_seen_at: when it was last seen pending before this look.
        """
        state = self._state(path)
        if done:
            state.flow.completed(now)
            return
        # How surprising that is: it might long have been stuck, or be looked at early.
        before = 0 if pending_seen_at is None else edge_near(pending_seen_at - written_at)
        expected = state.knowledge.expected(before, edge_near(now - written_at))
        state.flow.stayed_pending(expected, now=now, policy=self._policy)

    def learn(
        self, path: Path, latency: Latency, *, now: float, written_at: float | None = None
    ) -> bool:
        """Take in the latency of an object that completed, found just now.

        Args:
            path: the routes that the version takes.
            latency: its bounds.
            now: when it was found.
            written_at: when it was written; None where it was found by the look that is the upper bound.

        Returns:
            Whether anything is answered otherwise by this, or asked for the first time.
        """
        known = self._paths.get(path)
        lower, upper = max(latency.lower, 0.0), max(latency.upper, 0.0)
        if not lower <= upper < math.inf:
            return known is None or _news(known)
        state = self._state(path)
        done_at = now if written_at is None else min(now, written_at + upper)
        written_at = now - upper if written_at is None else written_at
        suspected_at = state.flow.suspected_at
        # Events of arrivals may come late: one from before anything was suspected ends no outage.
        if suspected_at is None or done_at >= suspected_at:
            state.flow.completed(done_at)
        if written_at < state.flow.resumed_at:
            # Written before or during an outage: what it took says nothing of the next one.
            return _news(state)
        interval = span_of(lower, upper)
        if state.knowledge.learn(interval, now=now, policy=self._policy, price=self._price):
            state.news = True
            # The first is forgotten first, when there are too many.
            self._paths[path] = self._paths.pop(path)
        return _news(state)

    # ---- what is known ----

    def spread(self, path: Path, latency: Latency, *, now: float) -> Spread:
        """Return a latency as weights of latency buckets that sum to 1, spread by what is known of the path.

        Args:
            path: the routes that the version takes.
            latency: its bounds.
            now: when it was found.
        """
        return self.estimate(path, latency, now=now).spread

    def estimate(self, path: Path, latency: Latency, *, now: float) -> Estimate:
        """Return a latency as `spread` does, and what is to be expected of it."""
        state = self._state(path)
        lower = max(latency.lower, 0.0)
        upper = max(latency.upper, lower)
        lower = state.flow.survived(now - upper, lower, upper)
        return state.knowledge.estimate(span_of(lower, upper))

    def spread_among(
        self, route: Route, among: Sequence[Route], latency: Latency, *, now: float
    ) -> Spread:
        """Return a latency as `spread` does, where looks only told that one of several routes took so long.

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
        bounds = max(slow.lower, 0.0), slow.upper
        odds = {way: self._state((way,)).knowledge.odds(*bounds) for way in (route, *among)}
        likely = odds[route] / sum(odds.values())
        own = Latency(latency.lower, latency.upper)
        blend: dict[int, float] = {}
        for within, weight in ((slow, likely), (own, 1 - likely)):
            for bucket, share in self.spread((route,), within, now=now):
                blend[bucket] = blend.get(bucket, 0.0) + weight * share
        return tuple(sorted((bucket, share) for bucket, share in blend.items() if share > 0))

    def samples(self, path: Path, *, now: float) -> float:
        """Return how many samples the knowledge of a path rests on, each weighed by how much it told."""
        state = self._paths.get(path)
        return 0.0 if state is None else state.knowledge.informed_at(now, self._policy)

    def median(self, path: Path) -> float | None:
        """Return the median latency of a path in seconds; None before anything was learned."""
        state = self._paths.get(path)
        if state is None or not state.knowledge.counts:
            return None
        return quantile(dict(enumerate(state.knowledge.shares)), 0.5)

    def hidden(self, path: Path) -> float:
        """Return the share of a path's objects that are done before looks begin and see any pending, 0 to 1.

        What their latencies are, within that time, is a guess: every quantile up to this one is only a bound.
        """
        state = self._paths.get(path)
        return 1.0 if state is None else state.knowledge.hidden

    def _state(self, path: Path) -> _PathState:
        state = self._paths.get(path)
        if state is None:
            if len(self._paths) >= self._policy.paths:
                del self._paths[next(iter(self._paths))]
            state = self._paths[path] = _PathState(Knowledge(self._plan), Flow())
            if (learned := self._recalled.pop(path, None)) is not None:
                self._adopt(state, learned)
        return state

    # ---- what all daemons know ----

    def recall(self, learned: Iterable[Learned]) -> None:
        """Take over what others learned before; of too many paths, those of which something was learned last."""
        newest = sorted(learned, key=_as_of, reverse=True)[: self._policy.paths]
        # A fit for each of them at once would be a long one: each is made when its path is first asked about.
        self._recalled = {each.path: each for each in newest if each.path not in self._paths}
        for each in newest:
            self.adopt(each)

    def untold(self, *, now: float, leaving: bool = False) -> dict[Path, Counts]:
        """Take out what was learned here and others do not know, of each path of which it is worth telling.

        Args:
            now: the time.
            leaving: whether this is the last time, so that all is.
        """
        told: dict[Path, Counts] = {}
        for path, state in self._paths.items():
            knowledge = state.knowledge
            samples, since = knowledge.untold_samples, abs(now - state.told_at)
            if not (
                worth_telling(samples, known=knowledge.all_samples, since=since)
                or (leaving and samples)
            ):
                continue
            state.told_at = now
            told[path] = knowledge.drawn()
        return told

    def adopt(self, learned: Learned) -> None:
        """Go by what all daemons learned of a path, what was taken out here among it."""
        state = self._paths.get(learned.path)
        if state is not None:
            self._adopt(state, learned)

    def _adopt(self, state: _PathState, learned: Learned) -> None:
        if state.knowledge.adopt(
            learned.counts, as_of=learned.as_of, policy=self._policy, price=self._price
        ):
            state.news = True


def _news(state: _PathState) -> bool:
    """Return whether there is anything new of a path, and take it for told."""
    news, state.news = state.news, False
    return news


def _as_of(learned: Learned) -> float:
    return learned.as_of
