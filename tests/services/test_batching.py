"""Batches: what is asked for at about the same time is done together, and everybody gets what is theirs."""

import asyncio
import gc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.services.tracking.batching import Batcher

DAY = 86_400.0


class Work:
    """Doubles what it is given, and remembers the batches; items that are told to are refused."""

    def __init__(self, *, takes: float = 0.1, refused: Sequence[int] = ()) -> None:
        self.takes = takes
        self.refused = frozenset(refused)
        self.batches: list[list[int]] = []
        self.done: list[int] = []
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        if self.refused.intersection(items):
            raise ValueError(f"refused {items}")
        self.done.extend(items)
        return [2 * item for item in items]


def seconds() -> float:
    """Tell the simulated time."""
    return asyncio.get_running_loop().time()


class Arrival:
    """An item that is submitted at some time, and may be given up."""

    def __init__(self, delay: float, patience: float | None) -> None:
        self.delay = delay
        self.patience = patience

    def __repr__(self) -> str:
        return f"Arrival({self.delay}, {self.patience})"


delays = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.2, 1.0])
arrivals = st.lists(
    st.builds(Arrival, delays, st.sampled_from([None, None, None, 0.0, 0.03, 0.15])), max_size=40
)


@given(
    arrivals=arrivals,
    size=st.integers(1, 7),
    linger=st.sampled_from([0.0, 0.02, 0.1]),
    lanes=st.integers(1, 3),
    takes=st.sampled_from([0.0, 0.1]),
    refused=st.sets(st.integers(0, 40), max_size=2),
)
async def test_everybody_gets_what_is_theirs(
    arrivals: list[Arrival],
    size: int,
    linger: float,
    lanes: int,
    takes: float,
    refused: set[int],
) -> None:
    """Whatever comes when, and whoever gives up: own result or own error, within size and lanes, no stall."""
    work = Work(takes=takes, refused=sorted(refused))

    async def one(batcher: Batcher[int, int], number: int, arrival: Arrival) -> object:
        await asyncio.sleep(arrival.delay)
        try:
            async with asyncio.timeout(arrival.patience):
                return await batcher.submit(number)
        except (TimeoutError, ValueError) as error:
            return error

    batcher = Batcher(work, name="test", size=size, linger=linger, lanes=lanes)
    async with asyncio.timeout(DAY):
        results = await asyncio.gather(
            *(one(batcher, number, arrival) for number, arrival in enumerate(arrivals))
        )
        await batcher.drained()

    for number, (arrival, result) in enumerate(zip(arrivals, results, strict=True)):
        if isinstance(result, TimeoutError):
            assert arrival.patience is not None
        elif number in work.refused:
            assert isinstance(result, ValueError)
        else:
            assert result == 2 * number
    assert len(work.done) == len(set(work.done)), "nothing is done twice"
    assert all(0 < len(batch) <= size for batch in work.batches)
    assert work.most_under_way <= lanes


async def test_whoever_submits_again_at_once_is_served() -> None:
    """A result that makes somebody submit the next item at once finds a lane at work, on a quiet day too."""
    work = Work()
    batcher = Batcher(work, name="test", size=10)

    async with asyncio.timeout(DAY):
        assert [await batcher.submit(number) for number in range(5)] == [0, 2, 4, 6, 8]


async def test_a_full_batch_does_not_linger() -> None:
    """Lingering is for batches that are not full."""
    work = Work(takes=0)
    batcher = Batcher(work, name="test", size=3, linger=10)

    began = seconds()
    await asyncio.gather(*(batcher.submit(number) for number in range(3)))

    assert seconds() - began < 1
    assert work.batches == [[0, 1, 2]]


async def test_a_batch_that_fills_up_lingers_no_longer() -> None:
    """Whoever waits for company goes as soon as there is enough of it."""
    work = Work(takes=0)
    batcher = Batcher(work, name="test", size=3, linger=10)

    first = asyncio.ensure_future(batcher.submit(0))
    await asyncio.sleep(2)
    await asyncio.gather(batcher.submit(1), batcher.submit(2))

    assert seconds() == pytest.approx(2)
    assert await first == 0
    assert work.batches == [[0, 1, 2]]


async def test_a_lonely_item_waits_for_company_and_no_longer() -> None:
    """One item waits for `linger`; what comes in this time goes with it."""
    work = Work(takes=0)
    batcher = Batcher(work, name="test", size=10, linger=2)

    began = seconds()
    first = asyncio.ensure_future(batcher.submit(1))
    await asyncio.sleep(1.5)
    await batcher.submit(2)

    assert seconds() - began == pytest.approx(2)
    assert await first == 2
    assert work.batches == [[1, 2]]


async def test_the_next_batch_gathers_while_one_is_under_way() -> None:
    """What comes during a slow call is done by the next one, all of it."""
    work = Work(takes=5)
    batcher = Batcher(work, name="test", size=100)

    first = asyncio.ensure_future(batcher.submit(0))
    await asyncio.sleep(1)
    await asyncio.gather(first, *(batcher.submit(number) for number in range(1, 50)))

    assert work.batches == [[0], list(range(1, 50))]


async def test_whoever_gave_up_is_not_worth_a_place() -> None:
    """An item whose submitter was cancelled before its turn is not done at all, and holds up nobody."""
    work = Work(takes=5)
    batcher = Batcher(work, name="test", size=2)

    first = asyncio.ensure_future(batcher.submit(0))
    await asyncio.sleep(1)
    given_up = [asyncio.ensure_future(batcher.submit(number)) for number in (1, 2)]
    patient = asyncio.ensure_future(batcher.submit(3))
    await asyncio.sleep(1)
    for task in given_up:
        task.cancel()

    assert await first == 0
    assert await patient == 6
    assert work.batches == [[0], [3]]


async def test_giving_up_during_the_call_harms_nobody_else() -> None:
    """A submitter that is cancelled while its batch is under way leaves the others their results."""
    work = Work(takes=5)
    batcher = Batcher(work, name="test", size=2)

    gone, patient = (asyncio.ensure_future(batcher.submit(number)) for number in (1, 2))
    await asyncio.sleep(1)
    gone.cancel()

    assert await patient == 4
    assert gone.cancelled()


async def test_giving_up_on_what_then_fails_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error for somebody who is gone goes nowhere; the next one is served."""
    work = Work(takes=5, refused=[1])
    batcher = Batcher(work, name="test", size=1)

    gone = asyncio.ensure_future(batcher.submit(1))
    await asyncio.sleep(1)
    gone.cancel()
    await asyncio.sleep(10)
    del gone  # it remembers the task that it began

    assert await batcher.submit(2) == 4
    gc.collect()  # only then is it told of what a task raised
    assert caplog.messages == []


async def test_a_batch_with_too_few_results_is_an_error_for_all_of_it() -> None:
    """Whoever does a batch wrongly is heard of; nobody waits for a result that never comes."""

    async def act(items: Sequence[int]) -> list[int]:
        return list(items)[1:]

    batcher = Batcher(act, name="test", size=2)

    async with asyncio.timeout(DAY):
        results = await asyncio.gather(
            batcher.submit(1), batcher.submit(2), return_exceptions=True
        )

    assert all(isinstance(result, ValueError) for result in results)


async def test_an_error_harms_its_own_item_only() -> None:
    """Invariant 10: a batch that fails is done again one by one, so that only the bad item gets the error."""
    work = Work(refused=[3])
    batcher = Batcher(work, name="test", size=2)

    results = await asyncio.gather(
        *(batcher.submit(number) for number in range(6)), return_exceptions=True
    )

    assert isinstance(results.pop(3), ValueError)
    assert results == [0, 2, 4, 8, 10]


async def test_lanes_work_side_by_side() -> None:
    """With several lanes, several batches are under way at once, and no more."""
    work = Work(takes=1)
    batcher = Batcher(work, name="test", size=1, lanes=3)

    began = seconds()
    await asyncio.gather(*(batcher.submit(number) for number in range(6)))

    assert seconds() - began == pytest.approx(2)
    assert work.most_under_way == 3


async def test_drained_waits_for_what_waits_and_what_is_under_way() -> None:
    """After `drained` everything that was submitted before is done."""
    work = Work(takes=1)
    batcher = Batcher(work, name="test", size=1)
    waiting = [asyncio.ensure_future(batcher.submit(number)) for number in range(3)]
    await asyncio.sleep(0)

    await batcher.drained()

    assert len(work.batches) == 3
    assert await asyncio.gather(*waiting) == [0, 2, 4]


async def test_a_batch_that_is_cancelled_cancels_all_who_wait_for_it() -> None:
    """When the loop ends its tasks, nobody is left waiting for a batch that is gone."""
    work = Work(takes=DAY)
    batcher = Batcher(work, name="test", size=2)
    waiting = [asyncio.ensure_future(batcher.submit(number)) for number in range(2)]
    await asyncio.sleep(1)

    for task in asyncio.all_tasks():
        if task.get_name() == "batch test":
            task.cancel()

    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
