"""What this daemon learned of latencies, shared with the others by way of the ledger, and there for whoever comes after.

Without it, each process would look at every object early until it has its own few hundred samples of the path: after
each restart, with each roll-out, at each further replica.
"""

import asyncio
from collections.abc import Sequence

from crrmon.domain.lessons import Lesson
from crrmon.domain.pacing import Pacer, Path
from crrmon.domain.policy import Policy
from crrmon.domain.slicing import sliced
from crrmon.ports.ledger import Ledger
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.rounds import Pause, rounds
from crrmon.services.lifecycle.runtime import Runtime

ROUND_SECONDS = 10.0
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
AT_ONCE = 16
"""Lessons that are written at the same time."""


class LatencyMemory:
    """Has a pacer begin with what others learned, and hands on what it learns.

    Args:
        pacer: whose knowledge it is.
        policy: the pacer's.
        health: of the ledger.
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
        self._recalled = asyncio.Event()
        self._untaught: dict[Path, Lesson] = {}
        """Taken out of the pacer, and not known to be in the ledger."""

    async def run(self) -> None:
        """Recall, then teach, for ever."""
        await rounds(
            self._round,
            name="latencies",
            board=self._board,
            patience=PATIENCE_SECONDS,
            health=self._health,
            operation="teach",
            retry_seconds=RETRY_SECONDS,
        )

    async def recalled(self) -> None:
        """Wait until what others learned is known here."""
        await self._recalled.wait()

    async def leave(self) -> None:
        """Hand on the rest; call it when nothing is learned any more.

        Raises:
            LedgerError: the rest is lost, and will be learned again.
        """
        if self._recalled.is_set() and self._clock.sure:
            await self._teach()
            await self._teach(leaving=True)

    async def _round(self) -> Pause:
        if not self._recalled.is_set():
            self._pacer.recall(await self._ledger.latencies(now=self._clock.now()))
            self._recalled.set()
            return Pause(ROUND_SECONDS)
        if not self._clock.sure:
            # A wrong time would fade what everybody knows.
            return Pause(ROUND_SECONDS, answered=False)
        return Pause(ROUND_SECONDS, answered=await self._teach())

    async def _teach(self, *, leaving: bool = False) -> bool:
        """Hand on what is worth it, or first what could not be handed on before; return whether there was any."""
        if not self._untaught:
            told = self._pacer.untold(now=self._clock.now(), leaving=leaving)
            for path, counts in told.items():
                name = f"{self._rng.getrandbits(32):08x}"
                self._untaught[path] = Lesson(id=name, path=path, counts=counts)
        lessons = list(self._untaught.values())
        for some in sliced(lessons, AT_ONCE):
            await self._teach_each(some)
        return bool(lessons)

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
