import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.config import Polling
from crrmon.domain.congestion import START, Congestion
from crrmon.domain.observations import Sight


def answer(congestion: Congestion, sight: Sight | None, *, at: float, busy: int = 0) -> None:
    """Let one request begin and end at a moment, with others under way beside it."""
    for _ in range(busy + 1):
        congestion.began(at)
    congestion.ended(sight, began_at=at, now=at)
    for _ in range(busy):
        congestion.ended(None, began_at=at, now=at)


@pytest.mark.parametrize("sight", [Sight.THROTTLED, Sight.UNREACHABLE])
def test_a_refusal_halves_the_limit(sight):
    """One answer that S3 is overloaded or silent halves what may be under way."""
    congestion = Congestion(most=100)
    answer(congestion, sight, at=10.0)

    assert congestion.limit == START // 2


def test_refusals_of_one_round_trip_count_once():
    """Requests that began before the limit was halved, or just after, do not halve it again."""
    congestion = Congestion(most=100)
    for _ in range(8):
        congestion.began(10.0)
    for _ in range(8):
        congestion.ended(Sight.THROTTLED, began_at=10.0, now=12.0)
    answer(congestion, Sight.THROTTLED, at=12.9)

    assert congestion.limit == START // 2

    answer(congestion, Sight.THROTTLED, at=13.0)

    assert congestion.limit == START // 4


def test_the_limit_never_falls_below_one():
    """However long S3 refuses, one request may be under way."""
    congestion = Congestion(most=100)
    for second in range(50):
        answer(congestion, Sight.THROTTLED, at=second * 2.0)

    assert congestion.limit == 1
    assert congestion.wait(1000.0) == 0


def test_the_limit_grows_by_one_in_each_round():
    """As many answers as the limit is high raise it by about one."""
    congestion = Congestion(most=100)
    for _ in range(START + 1):
        answer(congestion, Sight.PENDING, at=1.0, busy=START - 1)

    assert congestion.limit == START + 1


def seconds_of(congestion: Congestion, seconds: float, *, refused: float, since: float) -> float:
    """Ask as often as may be, each answered after 20 ms, a share of them by a refusal; return how many in a second."""
    now, count, owed = since, 0, 0.0
    while now < since + seconds:
        under_way = congestion.limit
        for _ in range(under_way):
            congestion.began(now)
        for _ in range(under_way):
            owed += refused
            sight = Sight.THROTTLED if owed >= 1 else Sight.COMPLETED
            owed -= owed >= 1
            congestion.ended(sight, began_at=now, now=now + 0.02)
        count += under_way
        now += 0.02
    return count / seconds


def test_few_answers_among_refusals_do_not_make_up_for_them():
    """While S3 refuses nine in ten, one request is under way at a time; some are let through all the same."""
    congestion = Congestion(most=100)
    seconds_of(congestion, 10.0, refused=0.9, since=0.0)

    assert seconds_of(congestion, 10.0, refused=0.9, since=20.0) == pytest.approx(50, abs=2)
    assert congestion.limit == 1


def test_the_limit_grows_again_when_refusals_end():
    """Within some seconds as much is under way as before."""
    congestion = Congestion(most=100)
    seconds_of(congestion, 10.0, refused=0.9, since=0.0)

    seconds_of(congestion, 4.0, refused=0.0, since=20.0)

    assert congestion.limit > START


def test_a_refusal_now_and_then_does_not_hold_the_limit_down():
    """One in a thousand, as of a large service at any time, leaves most of what may be under way."""
    congestion = Congestion(most=100)
    seconds_of(congestion, 60.0, refused=0.001, since=0.0)

    assert congestion.limit >= START


def test_an_idle_bucket_earns_no_limit():
    """Answers while few requests are under way say nothing of how many more would be borne."""
    congestion = Congestion(most=100)
    for _ in range(1000):
        answer(congestion, Sight.COMPLETED, at=1.0)

    assert congestion.limit == START


def test_the_limit_stays_below_the_most():
    """What was configured is never passed, not at the start and not by growing."""
    congestion = Congestion(most=3)

    assert congestion.limit == 3

    for _ in range(100):
        answer(congestion, Sight.COMPLETED, at=1.0, busy=2)

    assert congestion.limit == 3


def test_no_more_begin_than_the_limit_allows():
    """At the limit, the wait ends only with a request."""
    congestion = Congestion(most=2)
    congestion.began(0.0)

    assert congestion.wait(0.0) == 0

    congestion.began(0.0)

    assert congestion.wait(5.0) == math.inf

    congestion.ended(None, began_at=0.0, now=5.0)

    assert congestion.wait(5.0) == 0


def test_abandoned_requests_change_nothing():
    """A request that was cancelled frees its place and says nothing of the bucket."""
    congestion = Congestion(most=100)
    for _ in range(100):
        answer(congestion, None, at=1.0, busy=START - 1)

    assert congestion.limit == START


@given(
    per_second=st.floats(min_value=0.1, max_value=500),
    pauses=st.lists(st.floats(min_value=0, max_value=20), max_size=5),
)
def test_the_ceiling_per_second_holds(per_second, pauses):
    """Whoever waits as told begins at most so many a second, but for a burst of half a second's worth."""
    congestion = Congestion(most=1_000_000, per_second=per_second)
    congestion._limit = 1e6
    now = 0.0
    begun: list[float] = []
    for pause in [*pauses, *[0.0] * 30]:
        now += pause
        now += congestion.wait(now)
        congestion.began(now)
        begun.append(now)

    for first, last in ((0, -1), (-20, -1), (5, 15)):
        count = len(begun[first:last])
        assert count <= max(per_second * 0.5, 1) + per_second * (begun[last] - begun[first]) + 1e-6


def test_a_steady_flow_reaches_the_ceiling():
    """The ceiling is used up when there is enough to do."""
    congestion = Congestion(most=1_000_000, per_second=50)
    congestion._limit = 1e6
    now, count = 0.0, 0
    while now < 10:
        now += congestion.wait(now)
        congestion.began(now)
        count += 1

    assert count == pytest.approx(525, abs=2)


def test_the_default_ceiling_leaves_most_of_a_prefix_to_others():
    """S3 bears 5,500 reads a second and prefix: the daemon's own share is a small one unless somebody raises it."""
    congestion = Congestion(most=1_000_000, per_second=Polling().per_bucket_per_second)
    congestion._limit = 1e6
    now, count = 0.0, 0
    while now < 60:
        now += congestion.wait(now)
        congestion.began(now)
        count += 1

    assert count / 60 <= 5500 / 10


def test_what_was_halved_recovers_by_steps():
    """After S3 refused, the limit goes up by one a round, not back at once."""
    congestion = Congestion(most=100)
    answer(congestion, Sight.THROTTLED, at=10.0)
    rounds = 0
    while congestion.limit < START:
        for _ in range(congestion.limit + 1):
            answer(congestion, Sight.PENDING, at=20.0 + rounds, busy=congestion.limit - 1)
        rounds += 1

    assert rounds >= START // 2
