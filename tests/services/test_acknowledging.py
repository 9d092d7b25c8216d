"""Messages that are dealt with are deleted in few calls, soon, and without anybody waiting."""

import asyncio
from collections.abc import Sequence

from crrmon.services.intake.acknowledging import BATCH, LANES, Acknowledger
from crrmon.services.intake.visibility import HeldMessage
from crrmon.services.tracking.holds import Alarms, Hold
from fakes.clock import LoopClock

LINGER = 0.2


class _Queue:
    """Remembers what was deleted and when, and who was told."""

    def __init__(self, *, linger: float = LINGER, takes: float = 0.0) -> None:
        self.takes = takes
        self.poison = ""
        self.calls: list[tuple[float, list[str]]] = []
        self.under_way = self.most_under_way = 0
        self.ended: list[str] = []
        self.broken: list[str] = []
        self.acknowledger = Acknowledger(
            self._delete,
            ended=lambda held: self.ended.extend(one.receipt for one in held),
            broken=lambda held, _: self.broken.append(held.receipt),
            linger=linger,
            name="queue",
        )

    async def _delete(self, receipts: Sequence[str]) -> None:
        self.calls.append((asyncio.get_running_loop().time(), list(receipts)))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        if self.poison in receipts:
            raise RuntimeError("poison")

    def add(self, first: int, past: int) -> None:
        clock = LoopClock()
        for number in range(first, past):
            hold = Hold(clock, Alarms(), lambda: 0.0)
            self.acknowledger.add(
                HeldMessage(f"m{number}", f"r{number}", hidden_until=0, guessed=0, hold=hold)
            )

    @property
    def sizes(self) -> list[int]:
        return [len(receipts) for _, receipts in self.calls]


async def test_full_batches_are_deleted_at_once_and_the_rest_after_a_while() -> None:
    """25 messages are three calls: two at once, and one when nobody else came for a while."""
    queue = _Queue()
    began_at = asyncio.get_running_loop().time()
    queue.add(0, 25)
    await asyncio.sleep(LINGER / 2)
    assert queue.sizes == [BATCH, BATCH]
    await asyncio.sleep(LINGER)

    assert queue.sizes == [BATCH, BATCH, 5]
    assert queue.calls[-1][0] - began_at <= LINGER * 1.01
    assert sorted(queue.ended) == sorted(f"r{number}" for number in range(25))


async def test_a_message_that_comes_alone_waits_no_longer_than_the_first_time() -> None:
    """However few there are, each is deleted within the linger, again and again."""
    queue = _Queue()
    for number in range(5):
        queue.add(number, number + 1)
        await asyncio.sleep(LINGER * 1.1)
        assert queue.ended[-1] == f"r{number}"


async def test_only_so_many_calls_are_under_way_and_then_batches_fill() -> None:
    """What comes while all lanes are busy makes full batches, and all of it is deleted."""
    queue = _Queue(takes=1.0)
    for step in range(40):
        queue.add(step * 5, step * 5 + 5)
        await asyncio.sleep(0.01)
    await queue.acknowledger.drained()

    assert queue.most_under_way == LANES
    assert queue.sizes == [BATCH] * 20
    assert len(set(queue.ended)) == 200


async def test_whoever_waits_for_an_answer_does_not_wait_for_others() -> None:
    """Without a linger each message is deleted at once."""
    queue = _Queue(linger=0.0)
    queue.add(0, 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert queue.sizes == [1]


async def test_one_message_that_breaks_its_batch_harms_itself_only() -> None:
    """Invariant 10: the others of its batch are deleted, it alone is told of, and none of them is held for ever."""
    queue = _Queue()
    queue.poison = "r3"
    queue.add(0, BATCH)
    await queue.acknowledger.drained()

    assert queue.broken == ["r3"]
    assert sorted(queue.ended) == sorted(f"r{number}" for number in range(BATCH))


async def test_what_is_abandoned_is_not_deleted_later() -> None:
    """Whatever waits or is under way ends there; later messages are deleted as before."""
    queue = _Queue(takes=1.0)
    queue.add(0, 15)
    await asyncio.sleep(LINGER / 2)
    await queue.acknowledger.abandon()
    await asyncio.sleep(5)
    assert queue.sizes == [BATCH]
    assert not queue.ended

    queue.add(15, 16)
    await queue.acknowledger.drained()
    assert queue.ended == ["r15"]
