"""What was learned lasts: whoever starts or joins looks when it is worth it, and no trouble with that harms anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from crrmon.domain.lessons import FEWEST_SAMPLES, LATEST_SECONDS, SOONEST_SECONDS, Learned
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Latency
from crrmon.domain.pacing import Pacer
from crrmon.domain.policy import Policy
from crrmon.ledger.latency_items import _key
from crrmon.ledger.layout import LATENCIES
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import ANY, Put
from crrmon.services.membership.latency_memory import ROUND_SECONDS, LatencyMemory
from fakes.clock import LoopClock
from fakes.ledger_flaky import FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import Rig
from fakes.runtime import runtime

PATH = (Route("src", "dst"),)
TAKES = 300.0
DAY = 86_400.0


class Desk:
    """A daemon that learns and remembers, and nothing else."""

    def __init__(
        self, ledger: FlakyLedger | None = None, *, clock: LoopClock | None = None, seed: int = 1
    ) -> None:
        self.clock = clock or LoopClock()
        daemon = runtime(self.clock, seed=seed)
        self.board = daemon.board
        self.health = self.board.dependency("ledger")
        self.ledger = ledger or FlakyLedger(MemoryLedger(shards=1))
        self.pacer = Pacer(Policy())
        self.memory = LatencyMemory(
            self.ledger, daemon, pacer=self.pacer, policy=Policy(), health=self.health
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Desk"]:
        task = asyncio.create_task(self.memory.run())
        try:
            # Else a test would wait for ever for a loop that has ended.
            async with asyncio.timeout(DAY):
                yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def learn(self, objects: float, *, seconds: float = TAKES) -> None:
        """Learn of objects that took so long."""
        for _ in range(round(objects)):
            latency = Latency(seconds / 1.2, seconds * 1.05)
            self.pacer.learn(PATH, latency, now=self.clock.now())

    @property
    def wait(self) -> float:
        """How long it would wait before the first look at an object written now."""
        now = self.clock.now()
        return self.pacer.first_look_at(PATH, written_at=now, now=now, draw=0.5) - now

    async def kept(self) -> float:
        """Return how many samples the ledger holds."""
        latencies = await self.ledger.latencies(now=self.clock.now())
        return sum(sum(learned.counts.values()) for learned in latencies)

    @property
    def taught(self) -> int:
        return self.ledger.calls.count("teach")


class Deaf(FlakyLedger):
    """Learns, and twice does not say so."""

    silent = 2

    async def teach(self, *args: Any, **kwargs: Any) -> Learned:
        told = await self._ledger.teach(*args, **kwargs)
        if self.silent:
            self.silent -= 1
            raise LedgerError("no answer")
        return told


async def test_after_a_crash_all_but_the_last_minutes_is_known() -> None:
    """Killed without a word, a daemon begins again with what it knew."""
    async with Desk().running() as desk:
        await asyncio.sleep(1)
        desk.learn(1000)
        await asyncio.sleep(ROUND_SECONDS)
        desk.learn(FEWEST_SAMPLES - 1)
        await asyncio.sleep(LATEST_SECONDS)

    async with Desk(desk.ledger).running() as again:
        assert again.wait == 0
        await again.memory.recalled()
        assert again.wait > TAKES / 2
        assert await again.kept() == pytest.approx(1000, rel=0.01)


async def test_who_leaves_in_order_hands_on_all() -> None:
    """An orderly end loses nothing, however little it was."""
    async with Desk().running() as desk:
        await asyncio.sleep(1)
        desk.learn(3)
    await desk.memory.leave()

    assert await desk.kept() == pytest.approx(3)
    await desk.memory.leave()
    assert desk.taught == 1


async def test_who_never_knew_the_ledger_leaves_without_a_word() -> None:
    """One that is stopped before its ledger answered hands nothing on: it may have learned what is known."""
    desk = Desk()
    desk.ledger.away = True
    async with desk.running():
        await asyncio.sleep(3)
        desk.learn(3)
        await desk.memory.leave()

    assert desk.taught == 0


async def test_writes_are_few() -> None:
    """However many objects there are, a path is written at most every half minute, and a quiet one not at all."""
    async with Desk().running() as desk:
        for _ in range(60):
            desk.learn(1000)
            await asyncio.sleep(ROUND_SECONDS)
        assert desk.taught <= 1 + 600 / SOONEST_SECONDS
        before = desk.taught
        for _ in range(6):
            desk.learn(FEWEST_SAMPLES)
            await asyncio.sleep(LATEST_SECONDS)
        assert 5 <= desk.taught - before <= 7
        before = desk.taught
        await asyncio.sleep(7200)
        assert desk.taught == before


async def test_what_several_learn_at_once_adds_up() -> None:
    """Each daemon's samples count once, and each knows the others'."""
    one = Desk()
    two, three = Desk(one.ledger, seed=2), Desk(one.ledger, seed=3)
    async with one.running(), two.running(), three.running():
        for _ in range(20):
            for desk in (one, two, three):
                desk.learn(8)
            await asyncio.sleep(ROUND_SECONDS)
        for desk in (one, two, three):
            await desk.memory.leave()

        assert await one.kept() == pytest.approx(480, rel=0.06)
        for desk in (one, two, three):
            assert desk.wait > TAKES / 2


async def test_an_outage_while_writing_harms_nothing() -> None:
    """What could not be written is written when the ledger is back, once; looks go by what is known meanwhile."""
    async with Desk().running() as desk:
        await asyncio.sleep(1)
        desk.learn(1000)
        desk.ledger.away = True
        await asyncio.sleep(3 * ROUND_SECONDS)
        assert desk.taught > 1
        assert desk.wait > TAKES / 2
        desk.learn(500)
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(3600)
        assert 0 < len(logs) <= 61
        assert {one["event"] for one in logs} == {"latencies_not_shared"}
        assert desk.board.live().ok
        desk.ledger.away = False
        await asyncio.sleep(2 * ROUND_SECONDS)
        await desk.memory.leave()

        assert 1200 < await desk.kept() <= 1500
        assert desk.wait > TAKES / 2


async def test_an_answer_that_got_lost_doubles_nothing() -> None:
    """A lesson that was learned and not heard of is handed on again under its name."""
    desk = Desk(Deaf(MemoryLedger(shards=1)))
    async with desk.running():
        await asyncio.sleep(1)
        desk.learn(1000)
        await asyncio.sleep(5 * ROUND_SECONDS)

        assert await desk.kept() == pytest.approx(1000, rel=0.01)


async def test_a_clock_that_is_unsure_teaches_nothing() -> None:
    """A time that may be wrong by a day would fade what everybody knows."""
    clock = LoopClock(sure=False)
    async with Desk(clock=clock).running() as desk:
        await asyncio.sleep(1)
        desk.learn(1000)
        await asyncio.sleep(600)
        assert desk.taught == 0
        await desk.memory.leave()
        assert desk.taught == 0
        clock.sure = True
        await asyncio.sleep(2 * ROUND_SECONDS)
        assert desk.taught == 1


async def test_what_is_known_is_not_read_by_a_clock_that_is_wrong() -> None:
    """By a time of last week, what everybody knows would be of the future, and not be believed."""
    first = Desk()
    first.learn(1000)
    async with first.running():
        await asyncio.sleep(2 * ROUND_SECONDS)
    clock = LoopClock(ahead=-7 * DAY, sure=False)
    async with Desk(first.ledger, clock=clock).running() as desk:
        await asyncio.sleep(600)
        assert desk.board.live().ok
        clock.ahead, clock.sure = 0.0, True
        await asyncio.sleep(1)
        assert desk.wait > TAKES / 2


DAMAGED = {
    "no message": b"\xc1not json",
    "cut off": b"\x85",
    "nothing": b"",
    "another shape": b"\x81\xa4path\xa3abc",
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
async def test_damage_ends_no_daemon_and_is_written_over(body: bytes) -> None:
    """What cannot be read is as if it was not there, and the next lesson takes its place."""
    desk = Desk()
    store = desk.ledger._ledger._store  # type: ignore[attr-defined]
    await store.write([Put(_key(PATH), body, ANY)])
    async with desk.running():
        await desk.memory.recalled()
        assert desk.wait == 0
        desk.learn(1000)
        await asyncio.sleep(2 * ROUND_SECONDS)

    assert desk.board.ready().ok
    assert await desk.kept() == pytest.approx(1000, rel=0.01)


async def test_invariant_9_what_another_version_keeps_in_another_format_is_left_alone() -> None:
    """It is neither read nor written over: both go on with their own."""
    desk = Desk()
    store = desk.ledger._ledger._store  # type: ignore[attr-defined]
    theirs = _key(PATH)._replace(sort=_key(PATH).sort.replace(b"1#", b"2#", 1))
    await store.write([Put(theirs, b"of the next version", ANY)])
    async with desk.running():
        await desk.memory.recalled()
        desk.learn(1000)
        await asyncio.sleep(2 * ROUND_SECONDS)

    assert [found.body for found in await store.get([theirs])] == [b"of the next version"]
    assert len(await store.scan(LATENCIES, (-1,))) == 2


# ---- whole daemons ----


async def looks_at_each(rig: Rig, objects: int) -> float:
    """Have objects written, one a second, that all take a minute; return the looks at each."""
    before = len(rig.s3.looks)
    for number in range(objects):
        key = f"{before}-{number}"
        rig.put(key, version=key, takes=60.0)
        await asyncio.sleep(1)
    await asyncio.sleep(120)
    return (len(rig.s3.looks) - before) / objects


async def test_a_restart_does_not_look_early() -> None:
    """A daemon that was killed looks as it did before it was, and so does one that joins it; others look early."""
    first = Rig(owner="first", max_in_flight=2000)
    first.s3.rule("src", "dst")
    async with first.running():
        learning = await looks_at_each(first, 900)
        knowing = await looks_at_each(first, 50)
    shared = {"inbox": first.inbox, "s3": first.s3, "sink": first.sink}
    second = Rig(owner="second", ledger=first.ledger, max_in_flight=2000, **shared)
    async with second.running():
        restarted = await looks_at_each(second, 50)
    other = Rig(owner="other", max_in_flight=2000)
    other.s3.rule("src", "dst")
    async with other.running():
        unknowing = await looks_at_each(other, 50)

    assert min(learning, unknowing) > 2
    assert max(knowing, restarted) < 2


async def rig_after_lessons() -> Rig:
    """Return a daemon, not started yet, whose ledger has what another one learned."""
    first = Desk()
    first.learn(1000)
    async with first.running():
        await asyncio.sleep(2 * ROUND_SECONDS)
    rig = Rig(ledger=first.ledger)
    rig.s3.rule("src", "dst")
    return rig


async def test_nothing_is_received_before_what_others_learned_is_known() -> None:
    """A ledger that is slow to tell it is waited for: else the first objects would be looked at early."""
    rig = await rig_after_lessons()
    rig.ledger.delays["latencies"] = 90.0
    rig.put("k", takes=TAKES)
    async with rig.running():
        await asyncio.sleep(80)
        assert rig.inbox.received == 0
        assert rig.board.live().ok
        await asyncio.sleep(30)
        assert rig.inbox.received == 1
        assert rig.s3.looks == []


@pytest.mark.parametrize("refused", ["latencies", "teach"])
async def test_a_ledger_that_refuses_latencies_alone_holds_nothing_up(refused: str) -> None:
    """It is not called away for that: objects are followed, and what can be shared is, once it takes it."""
    rig = Rig()
    rig.s3.rule("src", "dst")
    rig.ledger.refusing.add(refused)
    async with rig.running():
        for number in range(600):
            rig.put(f"{number}", takes=1.0)
            await asyncio.sleep(1)
        assert rig.ledger.calls.count(refused) > 10
        assert rig.board.ready().ok
        await asyncio.sleep(120)
        assert rig.inbox.waiting == 0
        rig.ledger.refusing.clear()
        await asyncio.sleep(LATEST_SECONDS)
        (learned,) = await rig.ledger.latencies(now=rig.clock.now())
        assert sum(learned.counts.values()) == pytest.approx(600, rel=0.1)


async def test_a_ledger_that_is_away_at_the_start_is_waited_for() -> None:
    """What it knows is known before the first object is looked at, however often it failed to tell before."""
    rig = await rig_after_lessons()
    rig.ledger.away = True
    rig.put("k", takes=TAKES)
    async with rig.running():
        await asyncio.sleep(90)
        rig.ledger.away = False
        await asyncio.sleep(90)
        assert rig.inbox.received == 1
        assert rig.s3.looks == []
