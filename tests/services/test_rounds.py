"""Loops that ask the ledger: how they tell that they go on, and how they go on when it does not answer."""

import asyncio
from collections.abc import Sequence

import pytest

from crrmon.domain import catalogue
from crrmon.ports.ledger import LedgerError
from crrmon.services.lifecycle.rounds import Pause, rounds
from fakes.clock import LoopClock
from fakes.meters import FakeMeters
from fakes.runtime import runtime


class Loop:
    """A loop whose rounds come out as a test wants, and the moments at which they begin."""

    def __init__(self, ends: Sequence[Pause | LedgerError]) -> None:
        self.meters = FakeMeters()
        shared = runtime(LoopClock(), meters=self.meters)
        self.board = shared.board
        self.health = self.board.dependency("ledger")
        self.stopping = asyncio.Event()
        self.began: list[float] = []
        self._ends = list(ends)

    async def once(self) -> Pause:
        self.began.append(asyncio.get_running_loop().time())
        end = self._ends.pop(0)
        if not self._ends:
            self.stopping.set()
        if isinstance(end, LedgerError):
            raise end
        return end

    async def run(self) -> None:
        await rounds(
            self.once,
            name="loop",
            board=self.board,
            patience=60.0,
            health=self.health,
            operation="work",
            retry_seconds=1.0,
            stopping=self.stopping,
        )

    @property
    def succeeded(self) -> float | None:
        return self.meters.gauge(catalogue.LOOP_SUCCESS, "loop")


async def test_rounds_follow_each_other_as_they_say_themselves() -> None:
    """Each round says when the next one is due; a ledger that does not answer is asked again sooner."""
    loop = Loop([Pause(10.0), LedgerError("away"), Pause(5.0), Pause(5.0)])
    await loop.run()
    assert [at - loop.began[0] for at in loop.began] == pytest.approx([0.0, 10.0, 11.0, 16.0])
    assert not loop.health.away
    assert loop.board.live().ok


@pytest.mark.parametrize(
    ("end", "away", "success"),
    [
        (Pause(1.0), False, True),
        (Pause(1.0, answered=False), True, True),
        (Pause(1.0, done=False), False, False),
        (Pause(1.0, answered=False, done=False), True, False),
        (LedgerError("still away"), True, False),
    ],
)
async def test_only_what_was_done_is_told_as_done(
    end: Pause | LedgerError, *, away: bool, success: bool
) -> None:
    """Whoever did not ask the ledger does not say that it is back, nor that a round went well which did nothing."""
    loop = Loop([LedgerError("away"), end])
    await loop.run()
    assert loop.health.away is away
    assert (loop.succeeded is not None) is success


async def test_a_loop_that_is_told_to_stop_ends_at_once() -> None:
    """However long it would wait."""
    loop = Loop([Pause(3600.0), Pause(3600.0)])
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(1)
    loop.stopping.set()
    await asyncio.wait_for(task, 0.1)
    assert len(loop.began) == 1
