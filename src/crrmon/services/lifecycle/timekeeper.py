"""The daemon's clock: it goes by AWS's time, whatever this machine's wall clock shows.

It is AWS's time, or that of the stores where no queue of AWS is read: the machine's clock, corrected by the Date of
their answers. While it leaps against the monotonic clock, or is not confirmed after it did, it is not sure. An event's
own time tells which version it was; the time that is believed tells how old it is.

Everybody asks it, ledgers and accounts included, so a machine whose clock is wrong harms no age, no latency, no
window and no mark. While it is not sure, whoever would do something that cannot be undone waits for `certain`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from crrmon.domain import catalogue
from crrmon.domain.reckoning import TOLERANCE_SECONDS, started, told
from crrmon.ports.clock import Clock, Local
from crrmon.ports.inbox import InboxError
from crrmon.ports.meters import Meters
from crrmon.ports.probe import UnreadableConfigurationError
from crrmon.services.lifecycle.health import Dependency, HealthBoard
from crrmon.services.lifecycle.patience import patiently

ROUND_SECONDS = 1.0
ASK_SECONDS = 5.0
"""Between two questions of its own, while it is not sure: all others may be waiting for the answer."""
ANSWER_SECONDS = 20.0
"""How long such a question may take."""
UNSURE_SECONDS = 10.0
"""For how long it may be unsure before somebody is told: the first answers mostly come sooner."""
CERTAIN_SECONDS = 0.2
"""How often those who wait look again."""
PATIENCE_SECONDS = 180.0


Question = Callable[[], Awaitable[object]]
"""Asks somebody whose answers are dated; what is asked does not matter, nor whether it is refused."""


async def certain(clock: Clock, *, alive: Callable[[], None] | None = None) -> None:
    """Wait until a clock is sure.

    Args:
        clock: any.
        alive: called now and then while waiting.
    """
    while not clock.sure:
        if alive is not None:
            alive()
        await asyncio.sleep(CERTAIN_SECONDS)


class Timekeeper:
    """Keeps the time; implements the ports' `Clock` and `Dates`."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._monotonic = local.monotonic
        at = self._monotonic()
        self._reckoning = started(lead=local.now() - at, at=at)
        self._unsure_since: float | None = None
        self._asked_at = float("-inf")

    @property
    def sure(self) -> bool:
        """Whether `now` can be relied on, judged by how the machine's clocks stand at this moment."""
        return self._reckoning.sure(lead=self._lead())

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return self._monotonic() + self._reckoning.base

    def asked(self) -> float:
        """Note that a server is about to be asked."""
        return self._monotonic()

    def heard(self, date: float, *, asked_at: float) -> None:
        """Take in an answer that came just now."""
        at = self._monotonic()
        said = told(date, asked_at=asked_at, answered_at=at)
        self._reckoning = self._reckoning.heard(said, lead=self._local.now() - at, at=at)

    async def run(
        self,
        questions: Sequence[Question],
        *,
        health: Dependency,
        board: HealthBoard,
        meters: Meters,
    ) -> None:
        """Ask while it is not sure, and tell how this machine's clock does, for ever.

        Args:
            questions: can be asked at any time.
            health: of the clock.
            board: told that this goes on.
            meters: told how far the clock is off.
        """
        while True:
            board.began("clock", patience=PATIENCE_SECONDS)
            self._reckoning = self._reckoning.alone(lead=self._lead(), at=self._local.monotonic())
            if not self.sure:
                await patiently(
                    self._ask(questions),
                    alive=lambda: board.began("clock", patience=PATIENCE_SECONDS),
                )
            self._tell(health, meters)
            board.ended("clock")
            await asyncio.sleep(ROUND_SECONDS)

    async def _ask(self, questions: Sequence[Question]) -> None:
        at = self._local.monotonic()
        if at - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = at
        for question in questions:
            # Whether anybody is there, others tell; a refusal has a date as well.
            with contextlib.suppress(InboxError, UnreadableConfigurationError, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await question()
            if self.sure:
                return

    def _tell(self, health: Dependency, meters: Meters) -> None:
        offset = self._reckoning.offset(lead=self._lead())
        if offset is not None:
            meters.set(catalogue.CLOCK_OFFSET, value=offset)
        if self.sure:
            self._unsure_since = None
            if offset is not None and abs(offset) > TOLERANCE_SECONDS:
                health.failed(_off(offset))
            else:
                health.succeeded()
            return
        at = self._local.monotonic()
        self._unsure_since = at if self._unsure_since is None else self._unsure_since
        if at - self._unsure_since >= UNSURE_SECONDS:
            health.failed(
                "no AWS response confirms the current time: nothing is counted, given up, dropped or published "
                "until one does; check this machine's time synchronisation, and the connection to the queues, or to the "
                "stores if there are no queues"
            )

    def _lead(self) -> float:
        return self._local.now() - self._monotonic()


def _off(offset: float) -> str:
    where = "ahead of" if offset > 0 else "behind"
    return (
        f"this machine's clock is {abs(offset):.0f} s {where} AWS's, which the daemon uses; check its time "
        "synchronisation: from 5 minutes on, AWS refuses requests signed with it"
    )
