"""A queue like SQS: at least once, hidden for a while, and a dead-letter queue after too many receives.

Or one whose messages are pushed: their sender sends again what is given back, without end.
"""

import asyncio
import itertools
from collections.abc import Sequence

import msgspec

from crrmon.ports.clock import Clock, Dates
from crrmon.ports.inbox import Depth, InboxError, Message

RESENT_SECONDS = 3
"""After which a sender pushes again what was given back."""


class _Stored(msgspec.Struct):
    id: str
    body: str
    sent_at: float
    visible_at: float
    receives: int = 0
    receipt: str = ""


class FakeInbox:
    """
    Holds messages, their visibility and their receive counts; `away` makes every call fail.

    Unlike SQS's, its counts are exact. Without `dead_readable` nobody can tell what is in the dead-letter queue. With
    `pushed`, nobody can tell anything.
    """

    def __init__(
        self, clock: Clock, *, name: str = "queue", max_receives: int = 3, pushed: bool = False
    ) -> None:
        self.name = name
        self.pushed = pushed
        self.away = False
        self.undeletable = False
        """Whether nothing can be acknowledged."""
        self.slow = 0.0
        """How long it takes to extend messages."""
        self.dead_readable = True
        self.dead: list[str] = []
        self.received = 0
        self.extended = 0
        self.acknowledged: list[str] = []
        self._clock = clock
        self.dates: Dates | None = None
        """Told the Date of every answer."""
        self._max_receives = max_receives
        self._stored: dict[str, _Stored] = {}
        self._numbers = itertools.count(1)
        self._arrived = asyncio.Event()

    def send(self, body: str, *, sent_at: float | None = None) -> str:
        number = f"m{next(self._numbers)}"
        now = self._clock.now()
        self._stored[number] = _Stored(number, body, now if sent_at is None else sent_at, now)
        self._arrived.set()
        return number

    @property
    def waiting(self) -> int:
        return len(self._stored)

    @property
    def visible(self) -> int:
        return sum(one.visible_at <= self._clock.now() for one in self._stored.values())

    @property
    def most_receives(self) -> int:
        return max((one.receives for one in self._stored.values()), default=0)

    async def receive(self, *, wait_seconds: int, visibility_seconds: int) -> Sequence[Message]:
        deadline = self._clock.now() + wait_seconds
        asked_at = self._asked()
        while True:
            self._check()
            taken = self._take(visibility_seconds)
            left = deadline - self._clock.now()
            if taken or left <= 0:
                self._tell_date(asked_at)
                return taken
            soonest = min((one.visible_at for one in self._stored.values()), default=deadline)
            self._arrived.clear()
            try:
                async with asyncio.timeout(max(min(left, soonest - self._clock.now()), 0.001)):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    def _take(self, visibility_seconds: int) -> list[Message]:
        now = self._clock.now()
        taken: list[Message] = []
        for one in list(self._stored.values()):
            if one.visible_at > now or len(taken) == 10:
                continue
            if one.receives >= self._max_receives and not self.pushed:
                self.dead.append(one.id)
                del self._stored[one.id]
                continue
            one.receives += 1
            one.receipt = f"{one.id}#{one.receives}"
            one.visible_at = now + visibility_seconds
            taken.append(
                Message(
                    id=one.id,
                    receipt=one.receipt,
                    body=one.body,
                    sent_at=None if self.pushed else one.sent_at,
                )
            )
        self.received += len(taken)
        return taken

    async def depth(self) -> Depth | None:
        self._check()
        self._tell_date(self._asked())
        if self.pushed:
            return None
        return Depth(
            visible=self.visible,
            in_flight=self.waiting - self.visible,
            delayed=0,
            dead=len(self.dead) if self.dead_readable else None,
        )

    async def acknowledge(self, receipts: Sequence[str]) -> Sequence[str]:
        self._check()
        assert len(receipts) <= 10
        if self.undeletable:
            raise InboxError(f"{self.name}: not allowed")
        failed = []
        for receipt in receipts:
            one = self._stored.get(receipt.split("#")[0])
            if one is None or one.receipt != receipt:
                failed.append(receipt)
            else:
                del self._stored[one.id]
                self.acknowledged.append(one.id)
        return failed

    async def extend(self, receipts: Sequence[str], *, seconds: int) -> Sequence[str]:
        self._check()
        assert len(receipts) <= 10
        if self.slow:
            await asyncio.sleep(self.slow)
        lost = []
        for receipt in receipts:
            one = self._stored.get(receipt.split("#")[0])
            if one is None or one.receipt != receipt:
                lost.append(receipt)
            else:
                again = RESENT_SECONDS if self.pushed and not seconds else seconds
                one.visible_at = self._clock.now() + again
                self.extended += 1
                self._arrived.set()
        return lost

    def _asked(self) -> float:
        return self.dates.asked() if self.dates is not None else 0.0

    def _tell_date(self, asked_at: float) -> None:
        if self.dates is not None:
            self.dates.heard(float(int(self._clock.now())), asked_at=asked_at)

    def _check(self) -> None:
        if self.away:
            raise InboxError(f"{self.name}: nobody there")
