"""When it is doubted that objects are gone, and when it is believed after all."""

import pytest

from crrmon.domain.waves import (
    BELIEVED_AFTER_SECONDS,
    BELIEVED_ALONE_AFTER_SECONDS,
    LATELY_SECONDS,
    Answers,
    Wave,
    far_above,
)

DAY = 86_400.0


def told(wave: Wave, *, gone: int = 0, there: int = 0, now: float) -> None:
    """Tell a wave so many answers at once, those of objects that are there first."""
    for number in range(gone + there):
        wave.told(gone=number >= there, now=now)


@pytest.mark.parametrize(
    ("lately", "past", "far"),
    [
        pytest.param(Answers(3, 0), Answers(1, 49), False, id="three-may-be-chance"),
        pytest.param(Answers(4, 0), Answers(1, 49), True, id="four-in-a-row-are-none"),
        pytest.param(Answers(40, 60), Answers(1, 49), False, id="less-than-half-way-up"),
        pytest.param(Answers(60, 40), Answers(1, 49), True, id="more-than-half-way-up"),
        pytest.param(Answers(20, 0), Answers(600, 400), False, id="most-vanish-there-anyway"),
        pytest.param(Answers(40, 0), Answers(600, 400), True, id="not-all-of-them-though"),
        pytest.param(Answers(0, 0), Answers(1, 49), False, id="nothing-told"),
    ],
)
def test_t5_far_above_is_a_matter_of_share_and_of_chance(
    lately: Answers, past: Answers, *, far: bool
) -> None:
    """At least half-way from the usual share to all, and too many for chance."""
    assert far_above(lately, past) is far


def test_t5_a_wave_is_doubted_until_its_share_falls() -> None:
    """All 404 is doubted, also while nobody looks; so are some more 404 after the first that are there."""
    wave = Wave()
    told(wave, there=100, now=0.0)
    told(wave, gone=10, now=2000.0)
    assert wave.doubted

    told(wave, gone=1, now=2000.0 + 20 * LATELY_SECONDS)
    assert wave.doubted
    assert wave.lasted(2000.0 + 20 * LATELY_SECONDS) == pytest.approx(20 * LATELY_SECONDS)

    told(wave, gone=10, now=10_000.0)
    told(wave, there=10, now=10_000.0)
    assert wave.doubted
    told(wave, there=40, now=10_000.0)
    assert not wave.doubted


def test_t5_a_route_on_which_most_vanish_is_no_wave_once_that_is_known() -> None:
    """A share that was always so high is what is usual there."""
    wave = Wave()
    doubted = []
    for minute in range(600):
        told(wave, there=1, gone=1, now=60.0 * minute)
        doubted.append(wave.doubted)
    told(wave, gone=3, now=36_000.0)

    assert not any(doubted[300:])
    assert not wave.doubted
    assert wave.usual_share == pytest.approx(0.5, abs=0.1)


def test_t5_a_wave_may_be_believed_after_an_hour_if_others_are_there_else_after_a_day() -> None:
    """A bucket in which everything asked for is gone may be the wrong one."""
    alone, mixed = Wave(), Wave()
    for wave in (alone, mixed):
        told(wave, gone=20, now=0.0)
    told(mixed, there=1, now=1.0)

    assert not mixed.may_be_believed(BELIEVED_AFTER_SECONDS - 1)
    assert mixed.may_be_believed(BELIEVED_AFTER_SECONDS)
    assert not alone.may_be_believed(BELIEVED_ALONE_AFTER_SECONDS - 1)
    assert alone.may_be_believed(BELIEVED_ALONE_AFTER_SECONDS)


def test_t5_what_is_believed_is_no_wave_until_it_is_over_and_the_next_one_is() -> None:
    """Believed once, the rest of a mass deletion is believed at once; a later wave is doubted again."""
    wave = Wave()
    told(wave, gone=20, now=0.0)
    wave.believe()
    told(wave, gone=20, now=60.0)
    assert not wave.doubted

    told(wave, there=200, now=DAY)
    told(wave, there=200, now=2 * DAY)
    told(wave, gone=50, now=2 * DAY + 3600)
    assert wave.doubted
