"""This daemon's word to the others: how old what it holds is. Whoever reports needs it of every daemon.

A daemon must have said it once before it takes anything out of a queue: what a daemon holds that nobody heard of
would be passed over.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from crrmon.ports.ledger import Ledger, Member
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.rounds import Pause, rounds
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.membership.delay_memory import DelayMemory

ROUND_SECONDS = 10.0
RETRY_SECONDS = 1.0
"""After a ledger did not take it: what others report stands still meanwhile."""
PATIENCE_SECONDS = 180.0


class Holder(Protocol):
    """What takes messages out of a queue."""

    @property
    def held_since(self) -> float | None:
        """The oldest time of a write that it knows of and that is not durable yet; None when it holds nothing.

        What it left to the queue undeleted counts until the queue's own depth surely tells of it again.
        """
        ...


class Heartbeat:
    """Announces this daemon, and dismisses it in the end.

    Args:
        owner: this daemon, as in its leases.
        holders: all that take messages.
        delays: how late events come, which is shared on the way.
    """

    def __init__(
        self,
        ledger: Ledger,
        runtime: Runtime,
        *,
        owner: str,
        holders: Sequence[Holder],
        delays: DelayMemory,
        health: Dependency,
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._holders = holders
        self._delays = delays
        self._health = health
        self._board = runtime.board
        self._clock = runtime.clock
        self._announced = asyncio.Event()
        self._saying = asyncio.Lock()
        """An announcement under way would undo a dismissal."""
        self._leaving = asyncio.Event()

    async def run(self) -> None:
        """Announce, until it leaves."""
        await rounds(
            self._announce,
            name="heartbeat",
            board=self._board,
            patience=PATIENCE_SECONDS,
            health=self._health,
            operation="announce",
            retry_seconds=RETRY_SECONDS,
            stopping=self._leaving,
        )

    async def announced(self) -> None:
        """Wait until the others can know of this daemon."""
        await self._announced.wait()

    async def leave(self) -> None:
        """Take this daemon's word back; call it when nothing is taken any more.

        One that left messages undeleted leaves its last word, too: it stands until they are in the queue again.

        Raises:
            LedgerError: others take it for dead, which does no more harm than that.
        """
        self._leaving.set()
        if not self._announced.is_set():
            return
        async with self._saying:
            member = self._member()
            await self._ledger.announce(member)
            if member.held_since is None:
                await self._ledger.dismiss(member)

    async def _announce(self) -> Pause:
        async with self._saying:
            if not self._leaving.is_set():
                await self._delays.share()
                await self._ledger.announce(self._member())
                self._announced.set()
        return Pause(ROUND_SECONDS)

    def _member(self) -> Member:
        held = [holder.held_since for holder in self._holders]
        return Member(
            owner=self._owner,
            announced_at=self._clock.now(),
            held_since=min((since for since in held if since is not None), default=None),
            delay=self._delays.largest,
        )
