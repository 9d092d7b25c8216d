"""From messages to durable facts: receive, decode, have each fact made durable, acknowledge.

A message is acknowledged only when everything it said is durable in the ledger or concerns nobody. Until then it is
*held*: kept hidden from other receivers, for as long as it takes. What is still waiting when the daemon stops is
given back; what is malformed is left alone until the queue moves it to its dead-letter queue.

Senders that push their messages wait for each one's end, and have no dead-letter queue: nothing of theirs is held for
a first look, and what will never be dealt with is acknowledged after it was told of, or nothing else would ever come.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from crrmon.domain import catalogue
from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import Decoded, Fact
from crrmon.ports.inbox import Inbox, InboxError, Message
from crrmon.services.intake.acknowledging import Acknowledger
from crrmon.services.intake.admission import Admission
from crrmon.services.intake.dispatcher import Dispatcher
from crrmon.services.intake.queue_age import WAIT_SECONDS, QueueAge
from crrmon.services.intake.reading import Reader
from crrmon.services.intake.visibility import VISIBILITY_SECONDS, HeldMessage, Visibility
from crrmon.services.intake.watermarks import LEFT_SECONDS, RELEASED_SECONDS, QueueWatermarks
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.patience import patiently
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.membership.delay_memory import DelayMemory
from crrmon.services.tracking.batching import Batcher
from crrmon.services.tracking.holds import Alarms, GivenBack, Hold

KEEPER_SECONDS = 10.0
"""How often held messages are checked for that."""

DELETES_IDLE_SECONDS = 600.0
"""After so long without anything to delete, that it failed is over."""

RECEIVE_BATCH = 10
"""Most messages of one receive."""

ACKNOWLEDGE_LINGER_SECONDS = 0.2
RETRY_SECONDS = 5.0
REMEMBERED_FAULTS = 1000

MOST_FAULTS = 20
"""How often a pushed message that makes the daemon fail is given back before it is let go."""

UNKNOWN_DELAY_SECONDS = 86_400.0
"""How late a message may be that is not read yet, as long as none was ever seen."""

RECEIVER_PATIENCE_SECONDS = 180.0
"""A receiver that did not begin a round for so long is not alive."""

log = structlog.get_logger()


class Consumer:
    """Takes in the messages of one queue.

    Args:
        inbox: the queue.
        queue: told how the queue is.
        gates: what must be usable before more is received: ledger and S3.
        facts: makes durable what messages say.
        hold_seconds: longest time to hold a message until a first look.
        max_in_flight: most facts held at once; a message that tells more is held alone.
        delays: told how late events come.
        retention_seconds: the times of events older than this are not believed.
    """

    def __init__(
        self,
        inbox: Inbox,
        runtime: Runtime,
        *,
        queue: Dependency,
        gates: Sequence[Dependency],
        facts: Dispatcher,
        hold_seconds: float,
        max_in_flight: int,
        delays: DelayMemory,
        retention_seconds: float,
    ) -> None:
        self._inbox = inbox
        self._queue = queue
        # Of its own: whoever may receive need not be allowed to delete, and must hear of that.
        self._deletes = runtime.board.dependency(f"deleting from {inbox.name}", tolerated=2)
        self._gates = gates
        self._board = runtime.board
        self._facts = facts
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._rng = runtime.rng
        self._hold_seconds = 0.0 if inbox.pushed else hold_seconds
        self._admission = Admission(max_in_flight)
        self._delays = delays
        self._reader = Reader(inbox, runtime, delays=delays, retention_seconds=retention_seconds)
        self._watermarks = QueueWatermarks()
        self._held: dict[str, HeldMessage] = {}
        self._visibility = Visibility(inbox, queue, self._held)
        self._alarms = Alarms()
        self._attending: set[asyncio.Task[None]] = set()
        self._receivers: set[asyncio.Task[None]] = set()
        self._faults: OrderedDict[str, int] = OrderedDict()
        """How often pushed messages failed, by id."""
        self._failed_log = ThrottledLog(log, "message_failed", level="error")
        self._release_log = ThrottledLog(log, "message_return_failed")
        self._stopping = asyncio.Event()
        self._room = asyncio.Event()
        self._expected = 0
        self._age = QueueAge(pushed=inbox.pushed)
        self._acknowledger = Acknowledger(
            self._do_acknowledge,
            ended=self._drop,
            broken=self._tell_failure,
            linger=0.0 if inbox.pushed else ACKNOWLEDGE_LINGER_SECONDS,
            name=inbox.name,
        )
        self._release = Batcher(
            self._do_release, name=f"release {inbox.name}", size=10, linger=0.05, lanes=4
        )

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._inbox.name

    @property
    def queue_age(self) -> float | None:
        """Age in seconds of the oldest message lately received; None while nobody can tell."""
        return None if self._queue.away else self._age.told(self._clock.now())

    @property
    def held_since(self) -> float | None:
        """The oldest time of a write that may be known here only; None when there is none.

        That of messages that are held, and of those lately left in the queue.
        """
        watermarks = [held.watermark for held in self._held.values()]
        watermarks.append(self._watermarks.lowest(now=self._clock.now()))
        return min((watermark for watermark in watermarks if watermark is not None), default=None)

    # ---- loops ----

    async def receiver(self) -> None:
        """Receive, until stopped; several of these may run."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._receivers.add(task)
        try:
            await self._receive()
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
        finally:
            self._receivers.discard(task)

    async def _receive(self) -> None:
        while not self._stopping.is_set():
            self.alive()
            for gate in self._gates:
                await gate.usable(alive=self.alive)
            await self._enough_room()
            self._expected += RECEIVE_BATCH
            try:
                messages = await self._inbox.receive(
                    wait_seconds=WAIT_SECONDS, visibility_seconds=VISIBILITY_SECONDS
                )
            except InboxError as error:
                self._queue.failed(str(error))
                await asyncio.sleep(RETRY_SECONDS * (0.5 + self._rng.random()))
                continue
            finally:
                self._expected -= RECEIVE_BATCH
            self._queue.succeeded()
            if not any(gate.away for gate in self._gates):
                # Else this was a probe.
                self._board.ended(f"intake {self.name}")
            self._take_up(messages)

    def alive(self) -> None:
        """Say that receiving makes progress, or waits for what it needs."""
        self._board.began(f"intake {self.name}", patience=RECEIVER_PATIENCE_SECONDS)

    async def _enough_room(self) -> None:
        """Wait until what a receive may bring fits, together with what the others may bring."""
        while not self._admission.fits(self._expected + RECEIVE_BATCH):
            self.alive()
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEPER_SECONDS):
                    await self._room.wait()

    async def keeper(self) -> None:
        """Keep held messages hidden, for ever."""
        name = f"visibility {self.name}"
        while True:
            if await patiently(self._visibility.extended(), alive=self._keeper_alive):
                self._board.ended(name)
            self._show_age()
            self._deletes.retire(unasked_for=DELETES_IDLE_SECONDS)
            await asyncio.sleep(KEEPER_SECONDS)

    def _keeper_alive(self) -> None:
        self._board.began(f"visibility {self.name}", patience=RECEIVER_PATIENCE_SECONDS)

    def _show_age(self) -> None:
        if (age := self.queue_age) is None:
            self._meters.unset(catalogue.QUEUE_AGE, self.name)
        else:
            self._meters.set(catalogue.QUEUE_AGE, self.name, value=age)

    def stop(self) -> None:
        """Take in nothing more and give back what only waits.

        NB: a long poll under way must end first, or it would take again what is given back. A message that is on its
        way to it at this very moment comes again when its visibility ends.
        """
        self._stopping.set()
        for task in self._receivers:
            task.cancel()
        for held in self._held.values():
            held.hold.stop()
        self._admission.close()

    async def drained(self) -> None:
        """Wait until nothing is held any more; call `stop` first."""
        while pending := self._receivers | self._attending:
            await asyncio.wait(pending)
        await self._acknowledger.drained()
        await self._release.drained()
        for told in (self._reader, self._failed_log, self._release_log):
            told.tell()

    async def abandon(self) -> None:
        """End where it stands whatever is still under way: its messages come again."""
        for held in self._held.values():
            self._let_go(held)
        attending = list(self._attending)
        for task in attending:
            task.cancel()
        await asyncio.gather(*attending, return_exceptions=True)
        self._attending.clear()  # of those that never began, too
        await self._acknowledger.abandon()

    # ---- one message ----

    def _take_up(self, messages: Sequence[Message]) -> None:
        now = self._clock.now()
        hidden_until = asyncio.get_running_loop().time() + VISIBILITY_SECONDS
        # Ages by a clock that may be wrong would stay in the sums for good.
        sure = self._clock.sure
        for age in self._age.received(messages, now=now, sure=sure):
            self._meters.observe(catalogue.QUEUE_DURATION, self.name, value=age)
        delay = self._delays.largest
        for message in messages:
            # Nobody knows yet how old what it tells of is; without any delay known, it may be as old as it likes.
            sent_at = now if message.sent_at is None else message.sent_at
            guessed = sent_at - (UNKNOWN_DELAY_SECONDS if delay is None else delay)
            hold = Hold(self._clock, self._alarms, self._hold_for, pressing=self._inbox.pushed)
            if self._stopping.is_set():
                hold.stop()
            held = HeldMessage(
                message.id, message.receipt, hidden_until=hidden_until, guessed=guessed, hold=hold
            )
            self._held[message.receipt] = held
            self._watermarks.came(message.id)
            self._begin(message, held, now=now, sure=sure)
        self._mind_the_room()

    def _begin(self, message: Message, held: HeldMessage, *, now: float, sure: bool) -> None:
        """Begin to deal with a message. It is read at once, unless something is to be waited for."""
        if not (sure and self._admission.open):
            self._admission.came()
            self._spawn(self._attend(held, message=message))
            return
        try:
            decoded = self._reader.read(message, now=now)
            weight = self._weigh(decoded, held, now)
        except Exception:  # noqa: BLE001 - one bad message harms itself only
            # It is read again where that it fails is told of, and its sender can be waited for.
            self._admission.came()
            self._spawn(self._attend(held, message=message))
            return
        if decoded is None and not self._inbox.pushed:
            self._leave(held, LEFT_SECONDS)  # for the dead-letter queue
            return
        if not self._admission.entered(weight):
            self._admission.came()
            # Without what it says, which takes more memory than its body: it is read again.
            self._spawn(self._attend(held, message=message, weight=weight))
            return
        held.weight = weight
        if decoded is not None and decoded.facts:
            self._spawn(self._attend(held, list(decoded.facts[::-1])))
        else:
            self._acknowledger.add(held)

    def _go_on(self, held: HeldMessage) -> None:
        self._spawn(self._attend(held, held.facts))

    def _spawn(self, dealing: Coroutine[Any, Any, None]) -> None:
        self._attending.add(asyncio.create_task(dealing))

    def _weigh(self, decoded: Decoded | None, held: HeldMessage, now: float) -> int:
        """Take in what a message says, and return how much that is; it says nothing where it cannot be read."""
        if decoded is None:
            return 1
        held.watermark = self._reader.watermark(decoded, held.guessed, now=now)
        return len(decoded.facts) or 1

    def _hold_for(self) -> float:
        """Return for how long anything is held: the fuller it is here, the shorter."""
        return self._hold_seconds * min(2 * self._admission.free, 1.0)

    async def _attend(
        self,
        held: HeldMessage,
        facts: list[Fact] | None = None,
        *,
        message: Message | None = None,
        weight: int | None = None,
    ) -> None:
        """See one message through until it can be acknowledged, or a first look is to be waited for.

        Args:
            held: the message.
            facts: what it says, the last first.
            message: its body, where it was not let in yet.
            weight: what it weighs, where that is known.
        """
        left_for: float | None = LEFT_SECONDS
        try:
            if message is not None:
                facts = await self._let_in(message, held, weight)
                message = None  # the body may be large, and is not needed any more
                if facts is None:
                    return  # left for the dead-letter queue
            if held.first is not None:
                first, held.first = held.first, None
                await self._facts.look_first(first, held.hold)
                self._dealt_with(held)
            while facts:
                later = await self._facts.take_in(facts.pop(), held.hold)
                if later is not None:
                    # A task that waits takes several times the memory of what it waits for.
                    held.first, held.facts = later, facts or None
                    held.hold.call(later.at, partial(self._go_on, held))
                    left_for = None
                    return
                self._dealt_with(held)
            self._acknowledger.add(held)
            left_for = None
        except GivenBack:
            await self._release.submit(held.receipt)
            self._meters.add(catalogue.RETURNED_MESSAGES, self.name)
            left_for = RELEASED_SECONDS
        except Exception as error:  # noqa: BLE001 - one bad message harms itself only
            await self._failed(held, error)
        finally:
            self._attending.discard(asyncio.current_task())
            if left_for is not None:
                self._let_go(held)
                self._leave(held, left_for)

    def _let_go(self, held: HeldMessage) -> None:
        """Wait for nothing of a message any more."""
        held.hold.drop()
        if held.first is not None:
            self._facts.let_go(held.first)
            held.first = None

    async def _failed(self, held: HeldMessage, error: Exception) -> None:
        """Tell of a message that made the daemon fail."""
        # It comes back when its visibility ends, and in the end goes to the dead-letter queue, if there is one.
        self._tell_failure(held, error)
        if self._inbox.pushed:
            await self._send_back(held.receipt, held.message_id)

    def _tell_failure(self, held: HeldMessage, error: Exception) -> None:
        self._failed_log.met(
            type(error).__name__,
            example=held.message_id,
            queue=self.name,
            message_id=held.message_id,
            exc_info=error,
        )

    async def _send_back(self, receipt: str, message_id: str) -> None:
        """Ask for a pushed message that failed here to be sent again; not forever, because all others wait behind it."""
        times = self._faults.pop(message_id, 0) + 1
        if times >= MOST_FAULTS:
            log.error("message_discarded", queue=self.name, message_id=message_id, times=times)
            self._meters.add(catalogue.MESSAGES, self.name, "discarded")
            await self._do_acknowledge([receipt])
            return
        self._faults[message_id] = times
        if len(self._faults) > REMEMBERED_FAULTS:
            self._faults.popitem(last=False)
        await self._release.submit(receipt)

    async def _let_in(
        self, message: Message, held: HeldMessage, weight: int | None
    ) -> list[Fact] | None:
        """Read a message, and wait until what it tells may be dealt with; None for one that is left where it is, malformed."""
        decoded: Decoded | None = None
        try:
            await held.hold.certain()
            if weight is None:
                now = self._clock.now()
                decoded = self._reader.read(message, now=now)
                if decoded is None:
                    return [] if self._inbox.pushed else None
                weight = self._weigh(decoded, held, now)
        finally:
            self._admission.weighed()
        if not self._admission.may_enter(weight):
            decoded = None  # what it says takes more memory than its body: read again
        await self._admission.enter(weight)
        held.weight = weight
        self._room.set()
        return list((decoded or decode(message.body)).facts[::-1])

    def _dealt_with(self, held: HeldMessage) -> None:
        """Make room for a fact; the last one's is needed until the message is acknowledged."""
        if held.weight > 1:
            held.weight -= 1
            self._admission.left(1)
            self._room.set()

    # ---- the queue's side ----

    def _leave(self, held: HeldMessage, seconds: float) -> None:
        """Note that a message is not dealt with here any more, and stays in the queue: at least for a while."""
        watermark = held.guessed if held.watermark is None else min(held.guessed, held.watermark)
        until = self._clock.now() + seconds
        self._watermarks.left(held.message_id, watermark, until=until)
        self._drop([held])

    def _drop(self, ended: Sequence[HeldMessage]) -> None:
        """Note that messages are not held any more."""
        for held in ended:
            del self._held[held.receipt]
            self._admission.left(held.weight)
        self._mind_the_room()

    def _mind_the_room(self) -> None:
        self._meters.set(catalogue.MESSAGES_IN_FLIGHT, self.name, value=len(self._held))
        self._room.set()

    async def _do_acknowledge(self, receipts: Sequence[str]) -> None:
        try:
            failed = await self._inbox.acknowledge(receipts)
            if failed:
                failed = await self._inbox.acknowledge(failed)
        except InboxError as error:
            # They come again, are found in the ledger and acknowledged then.
            self._deletes.failed(str(error))
        else:
            if failed:
                self._deletes.failed(f"{len(failed)} messages were not deleted")
            else:
                self._deletes.succeeded()

    async def _do_release(self, receipts: Sequence[str]) -> Sequence[None]:
        try:
            await self._inbox.extend(receipts, seconds=0)
        except InboxError as error:
            self._release_log.met(self.name, queue=self.name, reason=str(error))
        return [None] * len(receipts)
