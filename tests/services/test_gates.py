"""Gates: no more looks at once and a second than there may be, first come, first served, and no place gets lost."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.congestion import BURST_SECONDS, START
from crrmon.domain.objects import Place
from crrmon.domain.observations import Observation, Sight
from crrmon.services.tracking.gates import Gates
from fakes.meters import FakeMeters

ONE: Place = ("one", None)
OTHER: Place = ("other", None)


class Looks:
    """Looks that take a while, counted; each says its number when it begins."""

    def __init__(self, gates: Gates, *, takes: float = 1.0) -> None:
        self.gates = gates
        self.takes = takes
        self.begun: list[int] = []
        self.begun_at: list[float] = []
        self.under_way = 0
        self.most_under_way = 0

    async def at(self, place: Place, number: int) -> None:
        """Look once."""
        await self.gates.look(place, lambda: self._look(number))

    async def _look(self, number: int) -> Observation:
        self.begun.append(number)
        self.begun_at.append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        return Observation(sight=Sight.COMPLETED, looked_at=0.0)


def gates(*, concurrency: int, per_second: float = 1e6) -> Gates:
    return Gates(FakeMeters(), concurrency=concurrency, per_second=per_second)


async def test_looks_are_let_through_in_the_order_in_which_they_come() -> None:
    """As many at once as there may be over all buckets, and nobody is overtaken by who comes later."""
    looks = Looks(gates(concurrency=3))
    await asyncio.gather(*(looks.at(OTHER if number % 2 else ONE, number) for number in range(20)))
    assert looks.begun == list(range(20))
    assert looks.most_under_way == 3


async def test_a_bucket_that_is_full_keeps_no_place_from_another() -> None:
    """Whoever waits for one bucket waits before its gate, not at a place that others could have."""
    looks = Looks(gates(concurrency=START + 1))
    crowd = [asyncio.create_task(looks.at(ONE, number)) for number in range(3 * START)]
    await asyncio.sleep(0.1)
    await asyncio.wait_for(looks.at(OTHER, 1000), 1.5)
    await asyncio.gather(*crowd)


async def test_so_many_begin_in_a_second_and_no_more() -> None:
    """The ceiling of a bucket holds also for those who wait, and they wait no longer than they must."""
    looks = Looks(gates(concurrency=100, per_second=10.0), takes=0.0)
    await asyncio.gather(*(looks.at(ONE, number) for number in range(50)))
    assert looks.begun == list(range(50))
    took = looks.begun_at[-1] - looks.begun_at[0]
    assert took == pytest.approx(5.0 - BURST_SECONDS, abs=0.2)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ONE, OTHER]),
            st.sampled_from([0.0, 0.5, 1.0, 2.0]),
            st.sampled_from([None, None, 0.0, 0.5, 1.0, 1.5]),
        ),
        max_size=60,
    ),
    st.sampled_from([1, 2, START, 2 * START]),
    st.sampled_from([2.0, 1e6]),
)
async def test_who_gives_up_leaves_its_place_to_others(
    visits: list[tuple[Place, float, float | None]], concurrency: int, per_second: float
) -> None:
    """Whenever somebody gives up, also at the moment at which it is let in: no place is lost, and none is made."""
    within = gates(concurrency=concurrency, per_second=per_second)
    looks = Looks(within)

    async def visit(number: int, place: Place, after: float, patience: float | None) -> None:
        await asyncio.sleep(after)
        try:
            async with asyncio.timeout(patience):
                await looks.at(place, number)
        except TimeoutError:
            return

    await asyncio.gather(*(visit(number, *one) for number, one in enumerate(visits)))
    assert looks.most_under_way <= concurrency
    assert not any(gate.busy for _, gate in within._gates.items())

    # As many at once as ever get through together afterwards.
    await asyncio.sleep(BURST_SECONDS + 1)
    again = Looks(within)
    await asyncio.gather(
        *(again.at(ONE if number % 2 else OTHER, number) for number in range(2 * START))
    )
    assert len(again.begun) == 2 * START
    assert again.most_under_way <= concurrency
    if per_second > START:
        assert again.most_under_way == min(concurrency, 2 * START)


async def test_a_place_that_comes_too_late_goes_on_to_others() -> None:
    """Whoever is cancelled at the very moment at which it is let in gives its place back."""
    narrow = gates(concurrency=1)
    ended = asyncio.Event()
    order: list[str] = []

    async def look(name: str) -> Observation:
        order.append(name)
        await ended.wait()
        return Observation(sight=Sight.COMPLETED, looked_at=0.0)

    first, second, third = (
        asyncio.create_task(narrow.look(ONE, lambda name=name: look(name)))
        for name in ("first", "second", "third")
    )
    await asyncio.sleep(0.1)
    ended.set()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait_for(asyncio.gather(first, third), 1.0)
    assert (order, second.cancelled()) == (["first", "third"], True)
