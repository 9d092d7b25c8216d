"""Holds: each wakes once, at its time or when it is hurried or stopped, however many share one timer."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop

from crrmon.services.tracking.holds import MOST_NEEDLESS, Alarms, GivenBack, Hold
from fakes.clock import LoopClock
from fakes.patience import HANGS_SECONDS


class Held:
    """Holds of one queue, and when each of them woke."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.woken: dict[int, list[float]] = {}
        self.began_at = asyncio.get_running_loop().time()

    def hold(self) -> Hold:
        """Begin to hold a message."""
        return Hold(LoopClock(), self.alarms, lambda: 60.0)

    def call(self, number: int, hold: Hold, seconds: float) -> None:
        """Have a hold note when it wakes."""
        hold.call(LoopClock().now() + seconds, lambda: self._woke(number))

    def _woke(self, number: int) -> None:
        now = asyncio.get_running_loop().time()
        self.woken.setdefault(number, []).append(round(now - self.began_at, 3))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
@settings(deadline=None)
def test_each_wakes_once_at_its_time(waits: list[int]) -> None:
    """In whatever order they begin, an earlier one does not wait for a later one."""

    async def scenario() -> dict[int, list[float]]:
        held = Held()
        for number, seconds in enumerate(waits):
            held.call(number, held.hold(), seconds)
        await asyncio.sleep(60)
        return held.woken

    loop = new_event_loop()
    try:
        woken = loop.run_until_complete(scenario())
    finally:
        loop.close()

    assert woken == {number: [float(seconds)] for number, seconds in enumerate(waits)}


async def test_who_is_hurried_goes_on_at_once_and_not_again() -> None:
    """Its alarm comes to nothing, also where it waits for another moment by then."""
    held = Held()
    hold = held.hold()
    held.call(1, hold, 10)
    hold.hurry()
    assert held.woken == {1: [0.0]}
    hold.woken()

    held.call(2, hold, 30)
    await asyncio.sleep(20)
    assert held.woken == {1: [0.0]}
    await asyncio.sleep(20)
    assert held.woken == {1: [0.0], 2: [30.0]}


async def test_who_was_hurried_before_does_not_wait_next_time() -> None:
    """What made it needless came while something else was asked for; that counts once."""
    held = Held()
    hold = held.hold()
    hold.hurry()
    assert await hold.wait(LoopClock().now() + 10)
    began = asyncio.get_running_loop().time()
    assert await hold.wait(LoopClock().now() + 10)
    assert asyncio.get_running_loop().time() - began == pytest.approx(10)


async def test_who_is_stopped_goes_on_to_be_given_back() -> None:
    """Whatever it waits for, and whatever it would wait for afterwards."""
    held = Held()
    hold = held.hold()
    held.call(1, hold, 10)
    hold.stop()
    assert held.woken == {1: [0.0]}
    with pytest.raises(GivenBack):
        hold.woken()
    with pytest.raises(GivenBack):
        await hold.wait(LoopClock().now() + 10)


async def test_who_was_stopped_before_waits_for_nothing() -> None:
    """Stopped while something was found out that it would wait for, it goes on at once, to be given back."""
    held = Held()
    hold = held.hold()
    assert not hold.over(LoopClock().now() + 10)
    hold.stop()
    held.call(1, hold, 10)
    assert held.woken == {1: [0.0]}
    with pytest.raises(GivenBack):
        hold.woken()


async def test_who_is_dropped_goes_on_with_nothing() -> None:
    """Neither by its alarm nor by being stopped."""
    held = Held()
    hold = held.hold()
    held.call(1, hold, 10)
    hold.drop()
    hold.stop()
    await asyncio.sleep(20)
    assert held.woken == {}


def on_uvloop(scenario: Callable[[], Awaitable[dict[int, list[float]]]]) -> dict[int, list[float]]:
    """Run something on the loop that the daemon has: its timers have whole milliseconds, and handles of two kinds."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(scenario(), HANGS_SECONDS))


def test_all_wake_on_the_loop_of_the_daemon() -> None:
    """Each once, though many are set while another one is all but due."""

    async def scenario() -> dict[int, list[float]]:
        held = Held()
        rng = random.Random(1)
        for number in range(500):
            held.call(number, held.hold(), rng.random() / 50)
            if number % 7 == 0:
                await asyncio.sleep(0)
        while len(held.woken) < 500:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        return held.woken

    assert {number: len(times) for number, times in on_uvloop(scenario).items()} == dict.fromkeys(
        range(500), 1
    )


def test_one_may_be_set_while_another_is_all_but_due() -> None:
    """uvloop has another kind of handle for less than half a millisecond."""

    async def scenario() -> dict[int, list[float]]:
        held = Held()
        held.call(1, held.hold(), 0.0002)
        held.call(2, held.hold(), 0.0001)
        held.call(3, held.hold(), 0.01)
        while len(held.woken) < 3:
            await asyncio.sleep(0)
        return held.woken

    assert on_uvloop(scenario).keys() == {1, 2, 3}


async def test_what_breaks_by_an_alarm_keeps_no_other_from_waking() -> None:
    """The others have alarms of their own."""
    held = Held()

    def broken() -> None:
        raise ZeroDivisionError

    loop = asyncio.get_running_loop()
    met: list[object] = []
    loop.set_exception_handler(lambda _, context: met.append(context.get("exception")))
    held.hold().call(LoopClock().now() + 5, broken)
    held.call(2, held.hold(), 5)
    held.call(3, held.hold(), 6)
    await asyncio.sleep(10)

    assert [type(one) for one in met] == [ZeroDivisionError]
    assert held.woken.keys() == {2, 3}


async def test_alarms_of_those_that_were_hurried_are_forgotten() -> None:
    """They would wake nobody for as long as messages may be held."""
    held = Held()
    waiting = [held.hold() for _ in range(100)]
    for number, hold in enumerate(waiting):
        held.call(number, hold, 50)
    for number in range(10 * MOST_NEEDLESS):
        hold = held.hold()
        held.call(1000 + number, hold, 600)
        hold.hurry()

    assert len(held.alarms._set) <= 2 * MOST_NEEDLESS + len(waiting)
    await asyncio.sleep(60)
    assert all(held.woken[number] == [50.0] for number in range(100))
