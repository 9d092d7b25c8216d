"""What this daemon learned of latencies, shared with the others by way of the ledger, and there for whoever comes after.

Without it, each process would look at every object early until it has its own few hundred samples of the path: after
each restart, with each roll-out, at each further replica.
"""

import asyncio
from collections.abc import Sequence

import structlog

from crrmon.domain.lessons import Lesson
from crrmon.domain.pacing import Pacer, Path
from crrmon.domain.policy import Policy
from crrmon.domain.slicing import sliced
from crrmon.ports.ledger import Ledger, LedgerError
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.lifecycle.throttled_log import ThrottledLog
from crrmon.services.lifecycle.timekeeper import certain

ROUND_SECONDS = 10.0
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
AT_ONCE = 16
"""Lessons that are written at the same time."""

_LOOP = "latencies"

log = structlog.get_logger()


class LatencyMemory:
    """Has a pacer begin with what others learned, and hands on what it learns.

    Args:
        pacer: whose knowledge it is.
        policy: the pacer's.
        health: of the ledger, as others find it.
    """

    def __init__(
        self,
        ledger: Ledger,
        runtime: Runtime,
        *,
        pacer: Pacer,
        policy: Policy,
        health: Dependency,
    ) -> None:
        self._ledger = ledger
        self._pacer = pacer
        self._policy = policy
        self._health = health
        self._board = runtime.board
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._known = False
        """Whether what others learned is, by a time that is sure."""
        self._recalled = asyncio.Event()
        self._failures = 0
        self._troubles = ThrottledLog(log, "latencies_not_shared")
        self._untaught: dict[Path, Lesson] = {}
        """Taken out of the pacer, and not known to be in the ledger."""

    async def run(self) -> None:
        """Recall, then teach, for ever.

        What is looked at too early or too late for want of it harms nobody: so the ledger is not called away for that.
        """
        while True:
            self._alive()
            seconds = ROUND_SECONDS
            try:
                await self._round()
            except LedgerError as error:
                seconds = RETRY_SECONDS
                operation = "teach" if self._known else "recall"
                self._troubles.met(operation, operation=operation, reason=str(error))
                self._do_without()
            else:
                self._board.ended(_LOOP)
            await asyncio.sleep(seconds)

    async def recalled(self) -> None:
        """Wait until what others learned is known here, or cannot be had from a ledger that does all else."""
        await self._recalled.wait()

    async def leave(self) -> None:
        """Hand on the rest; call it when nothing is learned any more.

        Raises:
            LedgerError: the rest is lost, and will be learned again.
        """
        if self._known and self._clock.sure:
            await self._teach()
            await self._teach(leaving=True)

    def _alive(self) -> None:
        self._board.began(_LOOP, patience=PATIENCE_SECONDS)

    async def _round(self) -> None:
        if not self._known:
            await self._recall()
        elif self._clock.sure:  # a wrong time would fade what everybody knows
            await self._teach()

    async def _recall(self) -> None:
        sure = self._clock.sure
        self._pacer.recall(await self._ledger.latencies(now=self._clock.now()))
        self._recalled.set()
        if not sure:
            # By a wrong time, what is known is old or of the future. Nobody is kept waiting: what is taken in meanwhile
            # waits for the clock itself.
            await certain(self._clock, alive=self._alive)
            self._pacer.recall(await self._ledger.latencies(now=self._clock.now()))
        self._known = True

    def _do_without(self) -> None:
        """Keep nobody waiting for what fails again while others do not call the ledger away."""
        self._failures += 1
        if self._failures > 1 and not self._health.away:
            self._recalled.set()

    async def _teach(self, *, leaving: bool = False) -> None:
        """Hand on what is worth it, or first what could not be handed on before."""
        if not self._untaught:
            told = self._pacer.untold(now=self._clock.now(), leaving=leaving)
            for path, counts in told.items():
                name = f"{self._rng.getrandbits(32):08x}"
                self._untaught[path] = Lesson(id=name, path=path, counts=counts)
        lessons = list(self._untaught.values())
        for some in sliced(lessons, AT_ONCE):
            await self._teach_each(some)

    async def _teach_each(self, lessons: Sequence[Lesson]) -> None:
        done = await asyncio.gather(*map(self._taught, lessons), return_exceptions=True)
        # Those that can be handed on are, before the others' trouble is told.
        for trouble in done:
            if trouble is not None:
                raise trouble

    async def _taught(self, lesson: Lesson) -> None:
        now = self._clock.now()
        self._pacer.adopt(await self._ledger.teach(lesson, now=now, policy=self._policy))
        del self._untaught[lesson.path]
