"""Holds: each wakes once, at its time or when it is hurried or stopped, however many share one timer."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looptime import new_event_loop

from crrmon.services.tracking.holds import Alarms, GivenBack, Hold
from fakes.clock import LoopClock


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


async def test_who_is_dropped_goes_on_with_nothing() -> None:
    """Neither by its alarm nor by being stopped."""
    held = Held()
    hold = held.hold()
    held.call(1, hold, 10)
    hold.drop()
    hold.stop()
    await asyncio.sleep(20)
    assert held.woken == {}
