import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable

import pytest

from crrmon.domain.latency import BUCKETS, bucket_of, edge_near, middle, quantile, upper_edge
from crrmon.domain.lessons import Learned
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Latency
from crrmon.domain.pacing import Pacer
from crrmon.domain.plans import EDGES, make_plan
from crrmon.domain.policy import DAY, HOUR, Policy

PATH = (Route("src", "dst"),)
OTHER = (Route("src", "dst"), Route("src", "dst-two"))
T0 = 1_790_000_000.0
MIDDLE = 0.5
"""Chance that neither jitters nor makes an object one of the few that are looked at early."""


def slow(rng: random.Random) -> float:
    """Draw a latency with a median of two minutes."""
    return rng.lognormvariate(math.log(120), 1)


def looked_at(latency: float, *, early: float = 10.0, step: float = 1.4) -> Latency:
    """Bound a latency as looks would that begin early and go on in small steps."""
    lower, upper = 0.0, early
    while upper < latency:
        lower, upper = upper, upper * step
    return Latency(lower, upper)


def taught(
    latency: Callable[[random.Random], float] = slow,
    *,
    samples: int = 2000,
    policy: Policy | None = None,
    early: float = 10.0,
) -> tuple[Pacer, float]:
    """Make a pacer that learned of one object each second, and say when it learned of the last."""
    pacer, rng, now = Pacer(policy or Policy()), random.Random(7), T0
    for _ in range(samples):
        now += 1.0
        pacer.learn(PATH, looked_at(latency(rng), early=early), now=now)
    return pacer, now


def first_wait(pacer: Pacer, now: float, *, age: float = 5.0, draw: float = MIDDLE) -> float:
    """Return how long an object waits for its first look."""
    return pacer.first_look_at(PATH, written_at=now - age, now=now, draw=draw) - now


def next_wait(
    pacer: Pacer, now: float, *, age: float, troubles: int = 0, draw: float = MIDDLE
) -> float:
    """Return how long an object waits for its next look."""
    at = pacer.next_look_at(PATH, written_at=now - age, now=now, troubles=troubles, draw=draw)
    return at - now


# ---- when to look ----


def test_objects_of_an_unknown_path_are_looked_at_at_once():
    """Until a path has enough samples, every object is looked at as soon as it is heard of."""
    pacer, now = taught(samples=200)

    assert pacer.samples(PATH, now=now) < 300
    assert first_wait(pacer, now) == 0
    assert first_wait(Pacer(Policy()), T0) == 0


def test_objects_of_a_known_path_are_looked_at_when_probably_done():
    """The first look falls where most objects are done, not where nearly all are."""
    pacer, now = taught()

    assert 120 < 5 + first_wait(pacer, now) < 300


def test_an_object_heard_of_late_is_looked_at_at_once():
    """Whatever is old enough to be done when its event comes waits for nothing."""
    pacer, now = taught()

    assert first_wait(pacer, now, age=400.0) == 0


def test_an_object_from_the_future_counts_as_new():
    """Where clocks disagree, a version written in an hour waits no longer than one written now."""
    pacer, now = taught()

    assert first_wait(pacer, now, age=-HOUR) == first_wait(pacer, now, age=0.0)
    assert next_wait(pacer, now, age=-HOUR) == next_wait(pacer, now, age=0.0) == 1


def test_no_first_look_is_farther_off_than_the_cap():
    """However long a path takes, what was learned of it is not believed blindly."""
    pacer, now = taught(lambda _: 8 * HOUR, policy=Policy(cap_ancient=1000.0))

    assert first_wait(pacer, now) == 1000


def test_early_looks_fade_out():
    """Between 300 and 450 samples, fewer and fewer objects are looked at early: no object more than is needed."""
    shares = []
    for samples in (300, 350, 400, 450, 500):
        pacer, now = taught(lambda _: 1000.0, samples=samples)
        waits = [first_wait(pacer, now, draw=number / 1000) for number in range(1000)]
        shares.append(sum(wait == 0 for wait in waits) / 1000)

    assert shares[0] == 1
    assert shares[-1] == 0.03
    assert shares == sorted(shares, reverse=True)
    assert shares[2] == pytest.approx(0.5, abs=0.2)


def test_a_path_that_is_always_the_same_stays_known():
    """Samples that only confirm what is known keep it alive all the same."""
    pacer, now = taught(lambda _: 8.0, samples=20_000)

    assert pacer.samples(PATH, now=now) > 1000


def test_a_few_objects_are_looked_at_at_once_for_ever():
    """A share of all objects is looked at early whatever is known, and by chance alone."""
    pacer, now = taught()
    waits = [first_wait(pacer, now, draw=number / 1000) for number in range(1000)]

    assert sum(wait == 0 for wait in waits) == 30


def test_early_ones_go_on_in_small_steps():
    """An object that was looked at before its time is looked at often until then: only that tells when it was done."""
    pacer, now = taught()

    assert next_wait(pacer, now, age=30.0) == pytest.approx(15)
    assert next_wait(pacer, now, age=200.0) > 100


def test_fresher_means_earlier():
    """Along the one setting, objects are looked at ever earlier and ever more often."""
    pacers = [
        taught(policy=Policy(freshness=freshness))[0] for freshness in (0, 0.25, 0.5, 0.75, 1)
    ]
    firsts = [first_wait(pacer, T0 + 2000) for pacer in pacers]
    nexts = [next_wait(pacer, T0 + 2000, age=500.0) for pacer in pacers]

    assert firsts == sorted(firsts, reverse=True)
    assert firsts[0] > 2 * firsts[-1]
    assert nexts == sorted(nexts, reverse=True)


@pytest.mark.parametrize(
    ("age", "cap"),
    [(1000, 300), (HOUR, 300), (HOUR + 1, 900), (DAY, 900), (DAY + 1, HOUR), (30 * DAY, HOUR)],
)
def test_waits_grow_to_a_cap(age, cap):
    """However old an object is, it is looked at again within what its age allows, and not much sooner."""
    for pacer in (Pacer(Policy()), taught()[0]):
        waits = [next_wait(pacer, T0, age=age, draw=draw / 100) for draw in range(100)]

        assert max(waits) == pytest.approx(cap)
        assert min(waits) == pytest.approx(cap * 0.85, rel=0.01)


@pytest.mark.parametrize(
    ("troubles", "wait"), [(1, 2), (2, 4), (5, 32), (8, 256), (9, 300), (10**6, 300)]
)
def test_looks_that_told_nothing_are_repeated_soon_then_rarely(troubles, wait):
    """Trouble doubles the wait from two seconds to five minutes, and chance takes off up to half of it."""
    pacer = Pacer(Policy())

    assert next_wait(pacer, T0, age=50.0, troubles=troubles, draw=0.0) == max(wait / 2, 1)
    assert next_wait(pacer, T0, age=50.0, troubles=troubles, draw=1 - 1e-9) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("age", "wait"), [(-5, HOUR), (0, HOUR), (DAY - 1, HOUR), (DAY, DAY), (400 * DAY, DAY)]
)
def test_open_failures_are_looked_at_hourly_then_daily(age, wait):
    """A failure may be repaired soon after it happened; later, once a day will do."""
    pacer = Pacer(Policy())
    at = pacer.failed_look_at(failed_at=T0 - age, now=T0, draw=MIDDLE)

    assert at - T0 == pytest.approx(wait)


# ---- the plan ----


def cost_of(shares: list[float], ages: list[float], *, price: float, grace: float) -> float:
    """Return what looking at these ages costs on average, counted from the first."""
    cost = 0.0
    for bucket, share in enumerate(shares):
        done_at = middle(bucket)
        looks = next(number for number, age in enumerate(ages) if age >= done_at)
        cost += share * (looks + 1 + price * (ages[looks] - done_at) / (done_at + grace))
    return cost


@pytest.mark.parametrize("price", [0.05, 0.35, 3.0])
def test_no_schedule_is_cheaper_than_the_plan(price):
    """Whatever the first look and the steps after it, the plan's ages cost no more."""
    weights = [math.exp(-((bucket - 30) ** 2) / 60) + 1e-3 for bucket in range(BUCKETS)]
    shares = [weight / sum(weights) for weight in weights]
    plan = make_plan(shares, price=price, grace=10.0)
    # The first age is fitted between the edges; what was proved cheapest is the edge next to it.
    ages = [EDGES[edge_near(plan.first[0])]]
    while ages[-1] < EDGES[-1]:
        ages.append(EDGES[edge_near(ages[-1] + plan.wait[edge_near(ages[-1])])])
    best = cost_of(shares, ages, price=price, grace=10.0)

    for first, step in itertools.product(range(1, 60, 2), range(1, 17)):
        others = [*EDGES[first::step], EDGES[-1]]
        assert best <= cost_of(shares, others, price=price, grace=10.0) + 1e-9


def test_the_plan_waits_for_what_is_certain():
    """Where all objects take the same time, the first look falls just after it, and later ones at once."""
    shares = [1e-6] * BUCKETS
    shares[30] = 1.0
    plan = make_plan(shares, price=0.35, grace=10.0)

    assert plan.first[0] == plan.first[30]
    assert upper_edge(30) <= plan.first[0] < upper_edge(31)
    assert plan.first[31] == 0


# ---- learning ----


def test_the_distribution_is_learned():
    """From intervals alone the median comes out, and what is reported adds up to the truth."""
    pacer, now = taught()
    rng = random.Random(1)
    reported: dict[int, float] = {}
    for _ in range(2000):
        spread = pacer.spread(PATH, looked_at(slow(rng), early=200.0), now=now)
        for bucket, weight in spread:
            reported[bucket] = reported.get(bucket, 0.0) + weight

    assert pacer.median(PATH) == pytest.approx(120, rel=0.1)
    assert quantile(reported, 0.5) == pytest.approx(120, rel=0.1)
    assert quantile(reported, 0.9) == pytest.approx(120 * math.exp(1.2816), rel=0.15)


def test_late_looks_do_not_deceive():
    """When nearly all objects are looked at late and a few early, the estimate is that of the few."""
    pacer, now, rng = Pacer(Policy()), T0, random.Random(5)
    for number in range(6000):
        now += 1.0
        latency = rng.lognormvariate(math.log(20), 0.8)
        early = 2.0 if number < 300 or number % 25 == 0 else 200.0
        pacer.learn(PATH, looked_at(latency, early=early), now=now)

    assert pacer.median(PATH) == pytest.approx(20, rel=0.15)


def test_a_route_that_became_slower_is_learned_again():
    """Some thousand samples later, the old distribution is forgotten."""
    pacer, now = taught(lambda rng: rng.lognormvariate(math.log(10), 0.5), samples=8000)
    rng = random.Random(3)

    assert pacer.median(PATH) == pytest.approx(10, rel=0.15)

    for _ in range(8000):
        now += 1.0
        pacer.learn(PATH, looked_at(slow(rng)), now=now)

    assert pacer.median(PATH) == pytest.approx(100, rel=0.25)


def test_rare_samples_fade_without_end():
    """Samples that come years apart replace each other, for ever."""
    pacer, now = Pacer(Policy()), T0
    for _ in range(100):
        now += 1000 * DAY
        pacer.learn(PATH, Latency(10.0, 12.0), now=now)

        assert 0 < pacer.samples(PATH, now=now) < 2


def test_a_rush_of_samples_does_not_wipe_out_the_rest():
    """However many objects complete in one second, what was learned before them fades with time, not with them."""
    pacer, now, rng = Pacer(Policy()), T0, random.Random(2)
    for _ in range(20_000):
        now += 0.1
        pacer.learn(PATH, looked_at(slow(rng)), now=now)
    for _ in range(4000):
        pacer.learn(PATH, Latency(5000.0, 5000.0), now=now + 1)

    assert pacer.median(PATH) < 300


def test_exact_latencies_count_as_they_are():
    """A path whose replica events are seen is known to within a bucket."""
    pacer, now = Pacer(Policy()), T0
    for number in range(1000):
        now += 1.0
        pacer.learn(PATH, Latency(60.0 + number % 5, 60.0 + number % 5), now=now)

    assert pacer.median(PATH) == pytest.approx(62, rel=0.1)
    assert pacer.hidden(PATH) < 0.1


def test_vague_samples_do_not_make_a_path_known():
    """Objects found after a long downtime say little, so they count little: looks go on early."""
    pacer, now = Pacer(Policy()), T0
    for _ in range(3000):
        now += 0.1
        pacer.learn(PATH, Latency(0.0, 2 * DAY), now=now)

    assert pacer.samples(PATH, now=now) < 300
    assert pacer.hidden(PATH) > 0.9


def test_what_is_done_before_looks_begin_is_called_hidden():
    """Where events come later than objects replicate, the share of those is told; else there is next to none."""
    fast, _ = taught(lambda rng: rng.lognormvariate(math.log(5), 1), early=10.0)
    seen, _ = taught(early=10.0)

    assert fast.hidden(PATH) == pytest.approx(0.75, abs=0.06)
    assert seen.hidden(PATH) < 0.05
    assert seen.hidden(OTHER) == 1


def test_what_is_learned_is_told_as_news_whenever_it_changes_an_answer():
    """Of the first sample, whatever it is, and whenever all is fitted again: nobody need ask after each sample."""
    pacer, rng = Pacer(Policy()), random.Random(5)
    before, news = None, []
    for number in range(500):
        latency = Latency(0.0, rng.uniform(1, 30) if number else math.inf)
        news.append(pacer.learn(PATH, latency, now=1e9 + number))
        known = pacer.hidden(PATH), pacer.spread(PATH, Latency(0.0, 30.0), now=1e9 + number)
        assert news[-1] or known == before
        before = known

    assert news[:2] == [True, True]
    assert 10 < sum(news) < 50


def test_what_others_learned_is_news_as_well():
    """After a restart the first arrival tells what was recalled; and what others taught since is told by the next one."""
    others, rng = Pacer(Policy()), random.Random(5)
    for number in range(5000):
        others.learn(PATH, Latency(0.0, rng.uniform(1, 30)), now=1e9 + number)
    counts = others.untold(now=1e9 + 5000, leaving=True)[PATH]
    learned = Learned(path=PATH, counts=counts, as_of=1e9 + 5000)

    pacer = Pacer(Policy())
    pacer.recall([learned])
    first_wait(pacer, 1e9 + 5000)
    told = [pacer.learn(PATH, Latency(0.0, 5.0), now=1e9 + 5000 + number) for number in range(3)]
    assert told == [True, False, False]

    pacer.adopt(Learned(path=PATH, counts={(0, 3): 9000.0}, as_of=1e9 + 5010))
    assert pacer.learn(PATH, Latency(0.0, 5.0), now=1e9 + 5020)


def test_knowledge_fades_with_time():
    """A path of which nothing was heard for long is unknown again."""
    pacer, now = taught()

    assert pacer.samples(PATH, now=now) > 1000
    assert pacer.samples(PATH, now=now + 12 * HOUR) < 300
    assert first_wait(pacer, now + 12 * HOUR) == 0
    assert pacer.samples(OTHER, now=now) == 0
    assert pacer.median(OTHER) is None

    pacer.learn(PATH, Latency(10.0, 12.0), now=now + 1000 * DAY)

    assert 0 < pacer.samples(PATH, now=now + 1000 * DAY) < 2


def test_paths_are_apart_and_bounded():
    """Each path has its own distribution; of too many, the one that learned longest ago is forgotten."""
    pacer, now = taught(policy=Policy(paths=3))
    for name in ("one", "two"):
        pacer.learn((Route("src", name),), Latency(1.0, 2.0), now=now)
    for _ in range(300):
        pacer.learn(PATH, looked_at(100.0), now=now)

    assert pacer.samples((Route("src", "one"),), now=now) > 0

    pacer.learn((Route("src", "three"),), Latency(1.0, 2.0), now=now)

    assert pacer.samples((Route("src", "one"),), now=now) == 0
    assert pacer.samples(PATH, now=now) > 1000
    assert len(pacer._paths) == 3


def test_nonsense_is_not_learned():
    """A latency that is no number or has its bounds crossed leaves no trace."""
    pacer = Pacer(Policy())
    for latency in (
        Latency(0, math.inf),
        Latency(math.nan, 5),
        Latency(0, math.nan),
        Latency(9, 5),
    ):
        pacer.learn(PATH, latency, now=T0)

    assert pacer.samples(PATH, now=T0) == 0


def test_the_spread_follows_what_was_learned():
    """An interval is weighed by the learned distribution, an exact latency stands for itself."""
    pacer, now = taught(lambda rng: rng.choice((20.0, 200.0)))
    spread = dict(pacer.spread(PATH, Latency(0.0, 1000.0), now=now))
    near_20 = sum(spread.get(bucket_of(20.0) + step, 0) for step in (-2, -1, 0, 1, 2))

    assert near_20 == pytest.approx(0.5, abs=0.06)

    for _ in range(10_000):
        now += 1.0
        pacer.learn(PATH, looked_at(200.0), now=now)

    spread = dict(pacer.spread(PATH, Latency(0.0, 1000.0), now=now))

    assert spread[bucket_of(200.0)] > 0.3
    assert pacer.spread(PATH, Latency(77.0, 77.0), now=now) == ((bucket_of(77.0), 1.0),)


# ---- outages ----


def struck(pacer: Pacer, now: float, *, seconds: int = 120) -> float:
    """Let looks that should have found objects done stay pending for a while, one a second."""
    for _ in range(seconds):
        now += 1.0
        pacer.note(PATH, done=False, written_at=now - 300.0, now=now)
    return now


def holds(pacer: Pacer, now: float) -> list[float]:
    """Return how long objects wait that should be looked at at once, but for one that probes."""
    return sorted(first_wait(pacer, now, age=400.0, draw=draw / 50) for draw in range(50))


def test_an_outage_holds_objects():
    """When nothing completes any more, objects wait for about half as long as that has lasted, spread in time."""
    pacer, now = taught()
    now = struck(pacer, now, seconds=1000)
    probe, *waits = holds(pacer, now)

    assert probe == 0
    assert 0.2 * 1000 < waits[0] < 0.3 * 1000
    assert 0.7 * 1000 < waits[-1] < 0.8 * 1000
    assert next_wait(pacer, now, age=600.0) == pytest.approx(500, rel=0.05)


def test_no_object_is_held_for_much_longer_than_an_hour():
    """However long an outage lasts, its end is found within two hours for every object."""
    pacer, now = taught()
    now = struck(pacer, now, seconds=10 * 3600)
    probe, *waits = holds(pacer, now)

    assert probe == 0
    assert waits[0] >= HOUR / 2
    assert waits[-1] <= HOUR * 1.5


def test_fresher_means_held_for_less():
    """Along the one setting, an outage holds objects for ever shorter."""
    waits = []
    for freshness in (0, 0.5, 1):
        pacer, now = taught(policy=Policy(freshness=freshness))
        waits.append(statistics.median(holds(pacer, struck(pacer, now, seconds=1000))))

    assert waits == pytest.approx([1000, 500, 250], rel=0.1)


def test_an_outage_is_probed():
    """In an outage, one object every quarter of a minute is looked at as usual."""
    pacer, now = taught()
    now = struck(pacer, now)
    probes = [second for second in range(60) if first_wait(pacer, now + second, age=400.0) == 0]

    assert probes == [0, 15, 30, 45]


@pytest.mark.parametrize("seconds", [10, 50])
def test_a_short_silence_is_no_outage(seconds):
    """Less than a minute without completions holds nobody."""
    pacer, now = taught()
    now = struck(pacer, now, seconds=seconds)

    assert set(holds(pacer, now)) == {0}


@pytest.mark.parametrize("age", [-HOUR, 300.0, 30 * DAY])
def test_a_few_late_objects_are_no_outage(age):
    """However old they are, a handful of pending looks may be chance."""
    pacer, now = taught()
    for _ in range(5):
        now += 300
        pacer.note(PATH, done=False, written_at=now - age, now=now)

    assert set(holds(pacer, now)) == {0}


def test_stuck_objects_are_no_outage():
    """Objects that have been pending for days are expected to be so, and hold up no others."""
    pacer, now = taught()
    for _ in range(500):
        now += 10
        pacer.note(PATH, done=False, written_at=now - 5 * DAY, now=now, pending_seen_at=now - HOUR)

    assert set(holds(pacer, now)) == {0}


def test_early_looks_are_no_outage():
    """Looks that were not expected to find anything prove nothing."""
    pacer, now = taught()
    for _ in range(500):
        now += 1
        pacer.note(PATH, done=False, written_at=now - 8.0, now=now)

    assert set(holds(pacer, now)) == {0}


def test_completions_keep_an_outage_away():
    """As long as anything completes, many pending looks are no outage."""
    pacer, now = taught()
    for _ in range(20):
        now = struck(pacer, now, seconds=50)
        pacer.note(PATH, done=True, written_at=now - 300, now=now)

    assert set(holds(pacer, now)) == {0}


@pytest.mark.parametrize("how", ["look", "event"])
def test_one_completion_ends_an_outage(how):
    """The first object that completes, seen by a look or told by an event, lets all others be looked at as usual."""
    pacer, now = taught()
    now = struck(pacer, now)
    if how == "look":
        pacer.note(PATH, done=True, written_at=now - 300, now=now)
    else:
        pacer.learn(PATH, Latency(300.0, 300.0), now=now)

    assert set(holds(pacer, now)) == {0}

    now = struck(pacer, now, seconds=10)

    assert set(holds(pacer, now)) == {0}


def test_nothing_is_learned_from_an_outage():
    """What an outage held up says nothing of what comes after it."""
    pacer, now = taught()
    median = pacer.median(PATH)
    now = struck(pacer, now, seconds=3600)
    pacer.note(PATH, done=True, written_at=now - 300, now=now)
    for _ in range(2000):
        now += 1.0
        pacer.learn(PATH, Latency(2000.0, 3700.0), now=now)

    assert pacer.median(PATH) == median


def test_latencies_through_an_outage_reach_beyond_it():
    """An object that an outage held up took at least until its end, however quick the path is otherwise."""
    pacer, now = taught(lambda rng: rng.lognormvariate(math.log(5), 1))
    written_at = now + 600
    resumed_at = struck(pacer, now, seconds=3600)
    pacer.note(PATH, done=True, written_at=resumed_at - 300, now=resumed_at)
    found_at = resumed_at + 400
    spread = pacer.spread(PATH, Latency(0.0, found_at - written_at), now=found_at)

    assert sum(weight for _, weight in spread) == pytest.approx(1)
    assert spread[0][0] >= bucket_of(resumed_at - written_at) - 1
    assert spread[-1][0] <= bucket_of(found_at - written_at)


def test_a_clock_set_back_does_not_lengthen_latencies():
    """Whoever asks with a time before an outage's end still gets a spread within the latency's bounds."""
    pacer, now = taught()
    resumed_at = struck(pacer, now, seconds=3600)
    pacer.note(PATH, done=True, written_at=resumed_at - 300, now=resumed_at)
    spread = pacer.spread(PATH, Latency(0.0, 500.0), now=resumed_at - 1000)

    assert spread[-1][0] <= bucket_of(500.0)


class World:
    """Objects written one a second, and a pacer that follows them."""

    def __init__(self, policy: Policy, *, outage: tuple[float, float], objects: int) -> None:
        self.looks: list[float] = []
        self.delays: list[float] = []
        self._pacer = Pacer(policy)
        self._rng = random.Random(11)
        agenda: list[tuple[float, float, float, float | None]] = []
        for written_at in range(objects):
            done_at = written_at + self._rng.lognormvariate(math.log(20), 0.7)
            if outage[0] <= done_at < outage[1]:
                done_at = outage[1] + self._rng.uniform(0, 60)
            at = written_at + self._rng.uniform(1, 5)
            heapq.heappush(agenda, (at, written_at, done_at, math.nan))
        while agenda:
            for again in self._step(*heapq.heappop(agenda)):
                heapq.heappush(agenda, again)

    def _step(self, now, written_at, done_at, seen_at):
        pacer, draw = self._pacer, self._rng.random
        if seen_at is not None and math.isnan(seen_at):
            at = pacer.first_look_at(PATH, written_at=written_at, now=now, draw=draw())
            return [(at, written_at, done_at, None)]
        self.looks.append(now)
        done = now >= done_at
        pacer.note(PATH, done=done, written_at=written_at, now=now, pending_seen_at=seen_at)
        if done:
            lower = 0.0 if seen_at is None else seen_at - written_at
            pacer.learn(PATH, Latency(lower, now - written_at), now=now)
            self.delays.append(now - done_at)
            return []
        at = pacer.next_look_at(PATH, written_at=written_at, now=now, troubles=0, draw=draw())
        return [(at, written_at, done_at, now)]

    def rate(self, start: float, end: float) -> float:
        """Return the looks per second between two times."""
        return sum(start <= at < end for at in self.looks) / (end - start)


def test_an_outage_costs_few_looks_and_ends_without_a_burst():
    """Looks stay near the usual rate while nothing completes and when it does again, and all objects are found."""
    outage = (2000.0, 4000.0)
    noticed = World(Policy(), outage=outage, objects=7000)
    unnoticed = World(Policy(outage_evidence=math.inf), outage=outage, objects=7000)
    usual = noticed.rate(1000, 2000)

    assert noticed.rate(3000, 4000) < unnoticed.rate(3000, 4000) / 2
    assert noticed.rate(3000, 4000) < 3 * usual
    assert max(noticed.rate(start, start + 60) for start in range(4000, 6000, 60)) < 5 * usual
    assert noticed.rate(6000, 7000) < 1.5 * usual
    assert len(noticed.delays) == 7000
    assert max(noticed.delays) < 2000
    assert statistics.median(noticed.delays) < 60
