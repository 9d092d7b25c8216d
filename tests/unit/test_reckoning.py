"""What time it is, from the machine's clocks and what servers say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.reckoning import (
    AGREEING,
    KNOWN_SECONDS,
    LONE_SECONDS,
    TOLERANCE_SECONDS,
    Bounds,
    Reckoning,
    started,
    told,
)

BASE = 1_800_000_000.0
DAY = 86_400.0


def answer(at: float, *, took: float = 0.1, base: float = BASE) -> Bounds:
    """Make what an answer says that comes at a moment from a server with the right time, or another one."""
    return told(float(int(base + at - took / 2)), asked_at=at - took, answered_at=at)


def hear(one: Reckoning, *at: float, lead: float, base: float = BASE) -> Reckoning:
    """Take in answers."""
    for moment in at:
        one = one.heard(answer(moment, base=base), lead=lead, at=moment)
    return one


def test_an_answer_bounds_the_time_by_its_whole_second_and_its_way() -> None:
    """Asked at 10, answered at 12 with Date 1000: the server's clock was in [1000, 1001) at some moment between."""
    assert told(1000.0, asked_at=10.0, answered_at=12.0) == Bounds(988.0, 991.0)


def test_t7_a_clock_that_aws_agrees_with_is_sure_at_its_first_answer() -> None:
    """Before, it is a guess; after, it is the time, and the offset is less than Date's whole seconds blur."""
    one = started(lead=BASE + 0.3, at=0.0)
    assert not one.sure(lead=BASE + 0.3)
    assert one.offset(lead=BASE + 0.3) is None
    one = hear(one, 1.0, lead=BASE + 0.3)
    assert one.sure(lead=BASE + 0.3)
    assert one.offset(lead=BASE + 0.3) == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("off", [DAY, -DAY, 15 * DAY, 70.0, -70.0, TOLERANCE_SECONDS + 2])
def test_t7_several_answers_are_believed_against_the_machine(off: float) -> None:
    """Two that contradict its clock leave all unsure; the third one that agrees with them tells the time."""
    lead = BASE + off
    one = started(lead=lead, at=0.0)
    for number in range(1, AGREEING + 1):
        assert not one.sure(lead=lead)
        one = hear(one, number * 1.3, lead=lead)
    assert one.sure(lead=lead)
    assert one.base == pytest.approx(BASE, abs=1.1)
    assert one.offset(lead=lead) == pytest.approx(off, abs=1.1)


@pytest.mark.parametrize("off", [-6.5, -6.0, -5.5, 5.5, 6.0, 6.5])
def test_t7_a_clock_just_beyond_what_is_tolerated_is_put_right(off: float) -> None:
    """No answer contradicts it by much, and all together do: the time comes near theirs, and the rest is told."""
    lead = BASE + off
    one = hear(started(lead=lead, at=0.0), *(at * 1.7 for at in range(1, 20)), lead=lead)
    assert one.sure(lead=lead)
    assert one.base == pytest.approx(BASE, abs=1.2)
    assert one.offset(lead=lead) == pytest.approx(off, abs=1.2)


def test_t7_one_wrong_answer_changes_no_time() -> None:
    """A server with a wrong clock, or something in between: unsure until the next answer, and never by its time."""
    one = hear(started(lead=BASE, at=0.0), 1.0, 2.0, lead=BASE)
    before = one.base
    one = hear(one, 3.0, lead=BASE, base=BASE - 3600)
    assert not one.sure(lead=BASE)
    assert one.base == before
    one = hear(one, 4.0, lead=BASE)
    assert one.sure(lead=BASE)
    assert one.base == pytest.approx(before, abs=1.0)


def test_t7_a_wall_clock_that_leaps_moves_nothing_and_must_be_confirmed() -> None:
    """The time goes on by the monotonic clock; an answer makes it sure again, and the offset tells the leap."""
    one = hear(started(lead=BASE, at=0.0), 1.0, lead=BASE)
    before = one.base
    leapt = BASE + DAY
    assert not one.sure(lead=leapt)
    one = hear(one, 2.0, lead=leapt)
    assert one.sure(lead=leapt)
    assert one.base == pytest.approx(before, abs=1.0)
    assert one.offset(lead=leapt) == pytest.approx(DAY, abs=1.1)
    assert not one.sure(lead=BASE)
    assert hear(one, 3.0, lead=BASE).sure(lead=BASE)


def test_t7_a_machine_that_stood_still_has_the_time_with_its_first_answer() -> None:
    """The monotonic clock stands with it: the wall clock and one answer agree, and that is enough."""
    one = hear(started(lead=BASE, at=0.0), 1.0, lead=BASE)
    later = BASE + 6 * DAY
    assert not one.sure(lead=later)
    one = hear(one, 2.0, lead=later, base=later)
    assert one.sure(lead=later)
    assert one.base == pytest.approx(later, abs=1.1)


def test_t7_clocks_that_stop_together_are_found_out() -> None:
    """A paused machine may tell nothing itself: only the answers differ, and after three of them it is put right."""
    one = hear(started(lead=BASE, at=0.0), *(float(at) for at in range(1, 50)), lead=BASE)
    one = hear(one, 50.0, 51.0, lead=BASE, base=BASE + 900)
    assert not one.sure(lead=BASE)
    one = hear(one, 52.0, lead=BASE, base=BASE + 900)
    assert one.sure(lead=BASE)
    assert one.offset(lead=BASE) == pytest.approx(-900, abs=1.1)


def test_t7_without_any_server_the_machines_clocks_must_keep_step_first() -> None:
    """Then they count, follow what is slewed, and after a leap they must keep step anew."""
    one = started(lead=BASE, at=0.0)
    for at in range(int(LONE_SECONDS)):
        one = one.alone(lead=BASE + at * 0.001, at=float(at))
        assert not one.sure(lead=BASE + at * 0.001)
    one = one.alone(lead=BASE + 0.3, at=LONE_SECONDS)
    assert one.sure(lead=BASE + 0.3)
    assert one.base == BASE + 0.3
    assert one.offset(lead=BASE + 0.3) is None
    leapt = BASE + DAY
    one = one.alone(lead=leapt, at=LONE_SECONDS + 1)
    assert not one.sure(lead=leapt)
    assert one.base == BASE + 0.3
    one = one.alone(lead=leapt, at=2 * LONE_SECONDS + 2)
    assert one.sure(lead=leapt)
    assert one.base == leapt


@given(
    off=st.floats(-30 * DAY, 30 * DAY),
    drift=st.floats(-1e-4, 1e-4),
    answers=st.lists(
        st.tuples(st.floats(0.01, 300.0), st.floats(0.01, 20.0), st.floats(0.0, 1.0)),
        min_size=4,
        max_size=40,
    ),
)
def test_t7_whatever_the_machine_shows_a_sure_time_is_right(
    off: float, drift: float, answers: list[tuple[float, float, float]]
) -> None:
    """Answers of any delay, a clock that is off and drifts: what is sure is within the blur of its answers."""
    lead = BASE + off
    one = started(lead=lead, at=0.0)
    at, quickest = 0.0, float("inf")
    for pause, took, share in answers:
        at += pause + took
        made = at - took * share
        date = float(int(BASE + made * (1 + drift)))
        one = one.heard(told(date, asked_at=at - took, answered_at=at), lead=lead, at=at)
        quickest = min(quickest, took)
        if one.sure(lead=lead):
            truth = BASE + at * (1 + drift)
            assert abs(at + one.base - truth) <= max(took, 20.0) + TOLERANCE_SECONDS + 2.0


def test_what_was_confirmed_a_moment_ago_is_not_reckoned_again() -> None:
    """An answer that fits loosely changes nothing for a second; one that narrows, contradicts or meets a leap does."""
    one = hear(started(lead=BASE, at=0.0), *(1.3 * number for number in range(1, 9)), lead=BASE)
    loose = Bounds(one.bounds.low - 0.2, one.bounds.high + 0.2)
    soon, late = one.confirmed_at + 0.5, one.confirmed_at + KNOWN_SECONDS

    assert one.heard(loose, lead=BASE, at=soon) is one
    assert one.heard(loose, lead=BASE, at=late).confirmed_at == late
    narrow = Bounds(one.bounds.low - 0.2, one.bounds.high - 0.01)
    assert one.heard(narrow, lead=BASE, at=soon).bounds.high == narrow.high
    far = Bounds(one.bounds.low + DAY, one.bounds.high + DAY)
    assert not one.heard(far, lead=BASE, at=soon).sure(lead=BASE)
    leapt = BASE + 2 * TOLERANCE_SECONDS
    assert one.heard(loose, lead=leapt, at=soon).sure(lead=leapt)
