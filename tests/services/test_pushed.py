"""Messages that senders push, and wait for: what they may wait for, what ends their waiting, and what nobody can know."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from crrmon.domain import catalogue
from crrmon.domain.events.facts import Fact
from crrmon.services.intake.consumer import MOST_FAULTS
from crrmon.services.tracking.holds import Hold
from crrmon.services.tracking.tracker import FirstLook
from fakes.clock import LoopClock
from fakes.events import notification, written
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.ledgers import MemoryLedger
from fakes.rig import Rig

POISON = json.dumps({"Records": "none"})


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """Collect what is logged."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def pushed(**settings: Any) -> Rig:
    """Make a daemon whose events are pushed, and a rule."""
    clock = LoopClock()
    rig = Rig(clock=clock, inbox=FakeInbox(clock, pushed=True), **settings)
    rig.s3.rule("src", "dst")
    return rig


def completed(rig: Rig) -> float:
    """Count what was found replicated."""
    return rig.meters.count(catalogue.REPLICATIONS, "src", "dst", "completed")


async def accepted(rig: Rig) -> float:
    """Wait until nothing is to be sent any more; return how long that took."""
    began_at = rig.clock.now()
    async with asyncio.timeout(3600):
        while rig.inbox.waiting:
            await asyncio.sleep(0.01)
    waited: float = rig.clock.now() - began_at
    return waited


async def test_m8_an_event_is_in_the_ledger_before_its_answer_and_nothing_is_looked_at_for_it() -> (
    None
):
    """M8: a sender waits for the ledger alone: not for the time that objects take, and for no store's answer."""
    rig = pushed()
    async with rig.running():
        await asyncio.sleep(5)
        for number, takes in enumerate((0, 10, 300)):
            rig.put(f"a{number}", takes=takes)
            assert await accepted(rig) < 0.03, "nothing is gathered while somebody waits"
            assert (await rig.backlog(), rig.s3.looks) == (1, [])
            await rig.until(lambda number=number: completed(rig) == number + 1)  # type: ignore[misc]
            rig.s3.looks.clear()
    assert await rig.backlog() == 0


async def test_m8_a_store_that_hangs_holds_up_no_sender() -> None:
    """M8, invariant 10: while looks at one bucket take a minute each, what others tell is taken as fast as ever."""
    rig = pushed()
    async with rig.running():
        await asyncio.sleep(5)
        rig.s3.slow = 60.0
        for number in range(20):
            # So old that it would be looked at at once.
            rig.inbox.send(written(f"a{number}", at=rig.clock.now() - 600, version="v1"))
            assert await accepted(rig) < 0.03


async def test_m8_nobody_waits_for_a_configuration_that_cannot_be_read() -> None:
    """M8: where an object should arrive may be found out after its event is accepted; then it is counted as any other."""
    rig = pushed()
    rig.s3.unreadable = True
    async with rig.running():
        await asyncio.sleep(5)
        rig.put("a")
        assert await accepted(rig) < 0.05
        assert completed(rig) == 0
        rig.s3.unreadable = False
        await rig.until(lambda: completed(rig) == 1)


async def test_m8_without_the_ledger_nothing_is_accepted_and_all_is_counted_once_afterwards() -> (
    None
):
    """M8, invariants 1 and 2: an outage of the ledger loses nothing and doubles nothing, however often things are sent."""
    rig = pushed()
    async with rig.running():
        await asyncio.sleep(5)
        rig.ledger.away = True
        for number in range(5):
            rig.put(f"a{number}", copies=2)
        await asyncio.sleep(600)
        assert rig.inbox.acknowledged == []
        rig.ledger.away = False
        await rig.until(lambda: completed(rig) == 5)
        await rig.until(lambda: not rig.inbox.waiting)
        assert completed(rig) == 5


async def test_m8_two_replicas_that_are_told_the_same_count_it_once() -> None:
    """M8, invariant 2: a sender whose answer got lost goes to the other replica with what the first one has."""
    ledger, clock = FlakyLedger(MemoryLedger(shards=4)), LoopClock()
    one = Rig(clock=clock, ledger=ledger, inbox=FakeInbox(clock, pushed=True))
    two = Rig(
        clock=clock, ledger=ledger, s3=one.s3, inbox=FakeInbox(clock, pushed=True), owner="two"
    )
    one.s3.rule("src", "dst")
    async with one.running(), two.running():
        for number in range(10):
            version = one.put(f"a{number}", takes=30)
            two.inbox.send(written(version.key, at=clock.now(), bucket="src", version="v1"))
        await one.until(lambda: completed(one) + completed(two) == 10)
        await asyncio.sleep(300)
    assert completed(one) + completed(two) == 10


async def test_m8_a_malformed_body_is_told_of_and_acknowledged(
    logged: list[dict[str, Any]],
) -> None:
    """M8: nobody keeps dead letters for a sender, and what it cannot get rid of is all that it ever sends."""
    rig = pushed()
    async with rig.running():
        rig.inbox.send(POISON)
        rig.put("a")
        await rig.until(lambda: completed(rig) == 1)
        await rig.until(lambda: not rig.inbox.waiting)
    assert rig.inbox.received == 2
    assert rig.meters.count(catalogue.MESSAGES, "queue", "malformed") == 1
    (told,) = [line for line in logged if line["event"] == "message_malformed"]
    assert (told["log_level"], told["left_for"]) == ("error", "nobody")


async def test_m8_a_message_that_makes_the_daemon_fail_is_let_go_in_the_end(
    logged: list[dict[str, Any]],
) -> None:
    """M8, invariant 10: it is sent again some times, for the fault may pass; then others are heard again."""
    rig = pushed()
    take_in = rig.facts.take_in

    class Faulty:
        async def take_in(self, fact: Fact, hold: Hold) -> FirstLook | None:
            if fact.version.key == "bad":
                raise ZeroDivisionError
            return await take_in(fact, hold)

    rig.intake._facts = Faulty()  # type: ignore[assignment] - a fault of ours, which there should be none of
    async with rig.running():
        rig.put("bad")
        rig.put("good")
        await rig.until(lambda: not rig.inbox.waiting, within=MOST_FAULTS * 10)
        await rig.until(lambda: completed(rig) == 1)
    assert rig.inbox.received == 1 + MOST_FAULTS
    (discarded,) = [line for line in logged if line["event"] == "message_discarded"]
    assert (discarded["log_level"], discarded["times"]) == ("error", MOST_FAULTS)
    assert rig.meters.count(catalogue.MESSAGES, "queue", "discarded") == 1


async def test_m8_at_the_end_nothing_is_kept_that_is_not_durable() -> None:
    """M8: when the daemon stops, whoever still waits is sent away, and holds what it has."""
    rig = pushed()
    async with rig.running():
        await asyncio.sleep(5)
        rig.ledger.away = True
        rig.put("a")
        await asyncio.sleep(1)
        rig.intake.stop()
        rig.ledger.away = False
        async with asyncio.timeout(60):
            await rig.intake.drained()
    durable = await rig.backlog()
    assert durable + rig.inbox.waiting == 1


async def test_m8_nothing_is_claimed_of_what_nobody_can_see() -> None:
    """M8, invariant 11: no age of a queue, no counts, and no moment up to which all is known: for hours of quiet, too."""
    rig = pushed(least_delay={"notification": 60.0})
    async with rig.running():
        for number in range(20):
            rig.put(f"a{number}")
            await asyncio.sleep(60)
            assert rig.intake.queue_age is None
            assert rig.meters.gauge(catalogue.QUEUE_AGE, "queue") is None
        await asyncio.sleep(3600)
        assert completed(rig) == 20
        names = {name for name, *_ in rig.meters.gauges}
        assert catalogue.PENDING_OBJECTS.name in names
        assert catalogue.COMPLETE_UP_TO.name not in names
        assert catalogue.SETTLED_UP_TO.name not in names
        assert catalogue.QUEUE_MESSAGES.name not in names
    assert "crrmon_message_queue_duration_seconds" not in {
        name for name, *_ in rig.meters.observed
    }


async def test_m8_how_late_events_come_is_measured_where_they_arrive() -> None:
    """M8: a sender may have kept what it tells for hours; from the write to its arrival here is what can be seen of it."""
    rig = pushed()
    async with rig.running():
        await asyncio.sleep(5)
        rig.inbox.send(notification("a", at=rig.clock.now() - 7200))
        await rig.until(lambda: not rig.inbox.waiting)
    ((delay, _),) = rig.meters.observed[catalogue.EVENT_DELAY.name, "notification"]
    assert delay == pytest.approx(7200, abs=1)
