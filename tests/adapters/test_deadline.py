"""A deadline ends what takes too long, and nothing else."""

import asyncio

import pytest

from crrmon.adapters.deadline import Deadline

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def ends_after(deadline: Deadline, seconds: float) -> float | None:
    """Do something for so many seconds within a deadline; return when it was ended, None when it was done."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with deadline.kept():
            await asyncio.sleep(seconds)
    except TimeoutError:
        return loop.time() - began
    return None


async def test_only_what_takes_too_long_is_ended() -> None:
    """Each has its own time from its own beginning, whatever others take."""
    deadline = Deadline(10.0)

    async def begun_after(wait: float, seconds: float) -> float | None:
        await asyncio.sleep(wait)
        return await ends_after(deadline, seconds)

    ended = await asyncio.gather(
        begun_after(0, 9),
        begun_after(1, 20),
        begun_after(2, 1),
        begun_after(5, 30),
        begun_after(40, 11),
    )

    assert ended == [None, 10, None, 10, 10]


async def test_it_serves_again_after_all_were_done() -> None:
    """Nothing of those that are over is left to end others."""
    deadline = Deadline(10.0)

    assert [await ends_after(deadline, 8) for _ in range(4)] == [None] * 4
    assert await ends_after(deadline, 12) == 10


async def test_a_task_that_is_cancelled_ends_as_one() -> None:
    """Whoever cancelled it waits for that, even where the deadline came at the same moment."""
    deadline = Deadline(10.0)
    early = asyncio.create_task(ends_after(deadline, 100))
    late = asyncio.create_task(ends_after(deadline, 100))
    await asyncio.sleep(5)
    early.cancel()
    asyncio.get_running_loop().call_later(5, late.cancel)

    with pytest.raises(asyncio.CancelledError):
        await early
    with pytest.raises(asyncio.CancelledError):
        await late


async def test_a_task_goes_on_after_its_time_was_over() -> None:
    """It is not cancelled any more."""
    deadline = Deadline(1.0)

    assert await ends_after(deadline, 5) == 1
    await asyncio.sleep(3)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_error_of_its_own_stays() -> None:
    """What was raised within is not taken for the deadline."""
    with pytest.raises(KeyError), Deadline(1.0).kept():
        raise KeyError
