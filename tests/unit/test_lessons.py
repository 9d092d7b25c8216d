"""What daemons learned is put together, fades, and is believed only where it can be true."""

import math
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crrmon.domain.latency import BUCKETS
from crrmon.domain.lessons import (
    AHEAD_SECONDS,
    FEWEST_SAMPLES,
    KEPT_SECONDS,
    LATEST_SECONDS,
    LESSONS_KNOWN,
    MOST_INTERVALS,
    SOONEST_SECONDS,
    Counts,
    Learned,
    Lesson,
    believable,
    taught,
    worth_telling,
)
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Latency
from crrmon.domain.pacing import Pacer
from crrmon.domain.policy import Policy

PATH = (Route("src", "dst"),)
OTHER = (Route("src", "far"),)
T0 = 1_790_000_000.0
HOUR = 3600.0
POLICY = Policy()

intervals = st.integers(0, BUCKETS - 1).flatmap(
    lambda first: st.tuples(st.just(first), st.integers(first + 1, BUCKETS))
)
counts = st.dictionaries(intervals, st.floats(0.01, 5000), min_size=1, max_size=40)
times = st.floats(T0 - 2 * KEPT_SECONDS, T0 + 2 * KEPT_SECONDS)


def lesson(name: str, told: Counts, *, path: tuple[Route, ...] = PATH) -> Lesson:
    return Lesson(id=name, path=path, counts=told)


def all_taught(lessons: list[tuple[float, Counts]]) -> Learned:
    known: Learned | None = None
    for number, (at, told) in enumerate(lessons):
        known = taught(known, lesson(str(number), told), now=at, policy=POLICY)
    assert known is not None
    return known


def samples(learned: Learned) -> float:
    return sum(learned.counts.values())


@given(st.lists(counts, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_lessons_of_one_moment_are_the_same_in_any_order(told, rng):
    """Whoever writes first, what is known of the latencies afterwards is the same."""
    shuffled = list(told)
    rng.shuffle(shuffled)

    one = all_taught([(T0, each) for each in told]).counts
    other = all_taught([(T0, each) for each in shuffled]).counts
    seen = {interval for each in told for interval in each}

    if len(seen) <= MOST_INTERVALS:
        assert one == pytest.approx(other)


@given(st.lists(st.tuples(times, counts), min_size=1, max_size=8))
def test_what_is_known_is_bounded_and_never_negative(lessons):
    """Whatever comes, in whatever order of times: no count is negative or more than all that was told."""
    known = all_taught(lessons)
    told = sum(sum(each.values()) for _, each in lessons)

    assert len(known.counts) <= MOST_INTERVALS
    assert all(0 < count < math.inf for count in known.counts.values())
    assert samples(known) <= told * (1 + 1e-9)
    assert known.as_of == max(at for at, _ in lessons)


@given(counts, counts, st.floats(0, KEPT_SECONDS))
def test_a_lesson_is_learned_once(first, second, later):
    """One that is handed on again, as its answer got lost, is known by its id."""
    known = all_taught([(T0, first), (T0 + 1, second)])

    assert taught(known, lesson("0", first), now=T0 + later, policy=POLICY) is known
    assert taught(known, lesson("1", second), now=T0 + later, policy=POLICY) is known


def test_only_the_newest_lessons_are_known_again():
    """What is kept of them does not grow."""
    known = all_taught([(T0 + at, {(1, 2): 1.0}) for at in range(50)])

    assert known.lessons == tuple(str(at) for at in range(50 - LESSONS_KNOWN, 50))


def test_the_most_frequent_of_too_many_intervals_are_kept():
    """An item stays small, and what was seen a few times makes room."""
    many = {(first, first + 1 + width): 1.0 + first for first in range(60) for width in range(4)}
    known = all_taught([(T0, many)])

    assert len(known.counts) == MOST_INTERVALS
    assert min(known.counts.values()) == 1.0 + 60 - MOST_INTERVALS / 4


def test_old_knowledge_fades_as_a_daemons_own_does():
    """By the samples that come after it, not faster than in half an hour, and by time."""
    old, new = {(10, 12): 1000.0}, {(20, 22): 500.0}

    at_once = all_taught([(T0, old), (T0 + 1, new)]).counts[10, 12]
    by_samples = all_taught([(T0, old), (T0 + HOUR, new)]).counts[10, 12]
    by_time = all_taught([(T0, old), (T0 + 12 * HOUR, {(20, 22): 1.0})]).counts[10, 12]

    assert at_once == pytest.approx(1000 * math.exp(-1 / POLICY.memory_shortest))
    assert by_samples == pytest.approx(1000 * math.exp(-HOUR / POLICY.memory_longest))
    assert by_time == pytest.approx(1000 * math.exp(-2))


@given(st.floats(1, 1000), st.integers(1, 40))
def test_what_a_fleet_knows_stays_within_its_memory(each, replicas):
    """Many daemons that tell for hours leave no more behind than one alone would remember."""
    known: Learned | None = None
    for number in range(40 * replicas):
        now = T0 + number * LATEST_SECONDS / replicas
        told = lesson(f"{number:08x}", {(10, 12): each})
        known = taught(known, told, now=now, policy=POLICY)
    assert known is not None
    rate = each * replicas / LATEST_SECONDS

    most = max(POLICY.memory_samples, rate * POLICY.memory_shortest)
    assert samples(known) <= most + each


def test_nonsense_is_not_believed():
    """Of another day, or of a time to come, counts that are none, or too many of them."""
    known = all_taught([(T0, {(1, 2): 3.0})])

    assert believable(known, now=T0)
    assert believable(known, now=T0 - AHEAD_SECONDS)
    assert not believable(known, now=T0 - AHEAD_SECONDS - 1)
    assert not believable(known, now=T0 + KEPT_SECONDS + 1)
    for count in (-1.0, math.nan, math.inf, 1e30):
        assert not believable(replace(known, counts={(1, 2): count}), now=T0)
    assert not believable(replace(known, as_of=math.nan), now=T0)
    many = {(first, end): 1.0 for first in range(20) for end in range(20, 40)}
    assert not believable(replace(known, counts=many), now=T0)


def test_a_write_is_made_soon_where_little_is_known_and_seldom_where_much_is():
    """A few samples are told at once of a new path; of a known one they wait for more, or for minutes."""
    few = FEWEST_SAMPLES
    assert worth_telling(few, known=few, since=math.inf)
    assert not worth_telling(few - 1, known=few - 1, since=math.inf)
    assert not worth_telling(few, known=few, since=SOONEST_SECONDS - 1)
    assert worth_telling(few, known=20 * few, since=SOONEST_SECONDS)
    assert not worth_telling(few, known=5000, since=LATEST_SECONDS - 1)
    assert worth_telling(few, known=5000, since=LATEST_SECONDS)
    assert worth_telling(250, known=5000, since=SOONEST_SECONDS)


# ---- pacers that know what others learned ----


class Fleet:
    """Pacers that teach each other by what is kept, as daemons do by the ledger."""

    def __init__(self, replicas: int) -> None:
        self.kept: dict[tuple[Route, ...], Learned] = {}
        self.pacers = [self.new() for _ in range(replicas)]
        self._numbers: Iterator[int] = iter(range(10**9))
        self._rng = random.Random(7)

    def new(self) -> Pacer:
        """Begin one that knows what is kept."""
        pacer = Pacer(POLICY)
        pacer.recall(self.kept.values())
        return pacer

    def share(self, now: float, *, leaving: bool = False) -> int:
        """Have each hand on what is worth it; return how many lessons that were."""
        lessons = 0
        for pacer in self.pacers:
            for path, told in pacer.untold(now=now, leaving=leaving).items():
                name = str(next(self._numbers))
                known = taught(
                    self.kept.get(path), lesson(name, told, path=path), now=now, policy=POLICY
                )
                self.kept[path] = known
                pacer.adopt(known)
                lessons += 1
        return lessons

    def live(self, start: float, *, objects: int, median: float, rate: float = 1.0) -> float:
        """Have objects complete, seen by looks a fifth apart, and share every ten seconds; return when that ends."""
        now = start
        for number in range(objects):
            now = start + number / rate
            took = self._rng.lognormvariate(math.log(median), 0.6)
            pacer = self.pacers[number % len(self.pacers)]
            pacer.learn(PATH, Latency(took / 1.2, took * 1.05), now=now)
            if int(now / 10) != int((now - 1 / rate) / 10):
                self.share(now)
        return now


def test_what_one_learned_is_known_to_whoever_begins():
    """The distribution comes back as it was, within what is left to guess."""
    fleet = Fleet(1)
    now = fleet.live(T0, objects=3000, median=120.0)
    fleet.share(now, leaving=True)
    (old,) = fleet.pacers
    new = fleet.new()

    at = new.first_look_at(PATH, written_at=now, now=now, draw=0.5)
    assert at == pytest.approx(old.first_look_at(PATH, written_at=now, now=now, draw=0.5), rel=0.1)
    assert at > now + 60
    assert new.samples(PATH, now=now) == pytest.approx(old.samples(PATH, now=now), rel=0.02)
    assert new.median(PATH) == pytest.approx(old.median(PATH), rel=0.05)
    assert new.hidden(PATH) == pytest.approx(old.hidden(PATH), abs=0.05)


def test_whoever_learns_of_a_path_from_others_knows_it_with_its_first_lesson():
    """A path that is new to a daemon is not learned again, though others learned it after the daemon began."""
    fleet = Fleet(2)
    one, two = fleet.pacers
    fleet.pacers = [one]
    now = fleet.live(T0, objects=3000, median=120.0)
    fleet.pacers = [two]
    now = fleet.live(now, objects=40, median=120.0)

    assert two.samples(PATH, now=now) > 300
    assert two.median(PATH) == pytest.approx(one.median(PATH), rel=0.1)


def test_nothing_is_counted_twice():
    """What was taken out is not taken out again, and what came back is not added to what is here."""
    fleet = Fleet(3)
    now = fleet.live(T0, objects=1000, median=60.0)
    fleet.share(now, leaving=True)

    assert fleet.share(now, leaving=True) == 0
    assert samples(fleet.kept[PATH]) == pytest.approx(sum(map(_left, range(1000))), rel=0.15)
    for pacer in fleet.pacers:
        assert pacer._paths[PATH].knowledge.all_samples <= 1000


def _left(number: int) -> float:
    return math.exp(-number / POLICY.memory_samples)


def objects_to_follow(fleet: Fleet, start: float, *, median: float) -> int:
    """Return after how many objects of another speed the first pacer's median has come within a quarter of theirs."""
    now, objects = start, 0
    while abs(math.log((fleet.pacers[0].median(PATH) or 1e9) / median)) > math.log(1.25):
        now = fleet.live(now + 1, objects=200, median=median)
        objects += 200
        assert objects < 40_000
    return objects


@pytest.mark.parametrize("median", [8.0, 400.0])
def test_a_route_that_changes_its_speed_is_followed_as_fast_as_by_one_that_shares_nothing(median):
    """What is kept does not hold on to what was."""
    alone, shared = Fleet(1), Fleet(3)
    alone.share = lambda *_, **__: 0
    for fleet in (alone, shared):
        fleet.live(T0, objects=6000, median=60.0)

    alone_needs = objects_to_follow(alone, T0 + 6000, median=median)

    assert objects_to_follow(shared, T0 + 6000, median=median) <= 1.2 * alone_needs + 200


def test_what_restarts_remember_is_forgotten_too():
    """Killed every 50 s, daemons follow a route that became slower, though none ever saw it change."""
    fleet = Fleet(1)
    now = fleet.live(T0, objects=6000, median=10.0, rate=20.0)
    for _ in range(40):
        fleet.pacers = [fleet.new()]
        now = fleet.live(now + 1, objects=1000, median=200.0, rate=20.0)

    assert fleet.pacers[0].median(PATH) == pytest.approx(200.0, rel=0.25)


def test_paths_that_are_recalled_are_bounded():
    """Of too many, those are known of which something was learned last."""
    kept = [
        Learned(path=(Route("src", f"dst{at}"),), counts={(10, 12): 900.0}, as_of=T0 + at)
        for at in range(9)
    ]
    pacer = Pacer(Policy(paths=3))
    pacer.recall(reversed(kept))
    assert len(pacer._recalled) == 3

    for learned in kept:
        pacer.first_look_at(learned.path, written_at=T0, now=T0 + 10, draw=0.5)
        known = pacer.samples(learned.path, now=T0 + 10) > 0
        assert known == (learned.as_of >= T0 + 6)


def test_a_clock_that_is_set_back_holds_no_lesson_back():
    """What is learned is told soon, though the last lesson seems to be of a time to come."""
    fleet = Fleet(1)
    now = fleet.live(T0, objects=100, median=60.0)
    (pacer,) = fleet.pacers
    pacer.untold(now=now + 1000)
    fleet.live(now - HOUR, objects=25, median=60.0)

    assert sum(pacer._paths[PATH].knowledge.untold.values()) < 25


def test_what_is_known_of_another_path_is_left_alone():
    """Each path has a memory of its own."""
    fleet = Fleet(1)
    now = fleet.live(T0, objects=1000, median=60.0)

    assert fleet.new().samples(OTHER, now=now) == 0
    assert list(fleet.kept) == [PATH]
