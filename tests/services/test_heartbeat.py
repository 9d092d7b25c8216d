"""What a daemon says about itself: often, first of all, and never after it left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from crrmon.ports.ledger import Member
from crrmon.services.membership.delay_memory import DelayMemory
from crrmon.services.membership.heartbeat import ROUND_SECONDS, Heartbeat
from fakes.clock import EPOCH, LoopClock
from fakes.ledger_flaky import FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.runtime import runtime


class Hands(msgspec.Struct):
    """What an intake holds."""

    held_since: float | None = None


class Desk:
    """A daemon that says how it is, and nothing else."""

    def __init__(self, *hands: Hands) -> None:
        self.ledger = FlakyLedger(MemoryLedger(shards=1))
        daemon = runtime(LoopClock())
        self.board = daemon.board
        self.delays = DelayMemory(self.ledger, least={}, retention_seconds=86_400.0)
        self.heartbeat = Heartbeat(
            self.ledger,
            daemon,
            owner="me",
            holders=hands,
            delays=self.delays,
            health=self.board.dependency("ledger"),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Desk"]:
        task = asyncio.create_task(self.heartbeat.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def said(self) -> Member | None:
        """Tell what the others see."""
        return next(iter(await self.ledger.members()), None)


async def test_it_says_the_oldest_and_the_latest_of_all_queues() -> None:
    """What is held in any queue bounds, and the largest delay of any counts."""
    one, two = Hands(EPOCH - 50), Hands(None)
    async with Desk(one, two).running() as desk:
        desk.delays.note("notification", 3.0, now=EPOCH)
        desk.delays.note("cloudtrail", 8.0, now=EPOCH)
        await asyncio.sleep(1)
        assert await desk.said() == Member(
            owner="me", announced_at=EPOCH, held_since=EPOCH - 50, delay=8.0
        )
        two.held_since = EPOCH - 70
        one.held_since = None
        await asyncio.sleep(ROUND_SECONDS)
        assert await desk.said() == Member(
            owner="me", announced_at=EPOCH + 10, held_since=EPOCH - 70, delay=8.0
        )


async def test_it_waits_until_others_can_know_of_it() -> None:
    """Whoever waits to receive goes on only when the ledger has taken the first word, however long that takes."""
    desk = Desk(Hands())
    desk.ledger.away = True
    async with desk.running():
        waiting = asyncio.create_task(desk.heartbeat.announced())
        await asyncio.sleep(600)
        assert not waiting.done()
        assert not desk.board.ready().ok
        desk.ledger.away = False
        await asyncio.sleep(2)
        assert waiting.done()
        assert desk.board.ready().ok
        assert desk.board.live().ok


async def test_it_leaves_no_word_behind() -> None:
    """A daemon that holds nothing any more takes its word back, and says nothing after."""
    async with Desk(Hands()).running() as desk:
        await asyncio.sleep(25)
        await desk.heartbeat.leave()
        assert await desk.said() is None
        await asyncio.sleep(100)
        assert await desk.said() is None


async def test_what_it_leaves_in_the_queue_stays_said() -> None:
    """Messages that it left undeleted are still to come: its last word stands, with what it knows by then."""
    hands = Hands()
    async with Desk(hands).running() as desk:
        await asyncio.sleep(25)
        hands.held_since = EPOCH - 5
        await desk.heartbeat.leave()
        said = await desk.said()
        assert said is not None
        assert (said.held_since, said.announced_at) == (EPOCH - 5, EPOCH + 25)
        await asyncio.sleep(100)
        assert await desk.said() == said


async def test_a_daemon_that_never_spoke_leaves_without_a_word() -> None:
    """One that is stopped before its ledger answered took nothing, and asks for nothing."""
    desk = Desk(Hands())
    desk.ledger.away = True
    async with desk.running():
        await asyncio.sleep(5)
        await desk.heartbeat.leave()
    assert "dismiss" not in desk.ledger.calls
