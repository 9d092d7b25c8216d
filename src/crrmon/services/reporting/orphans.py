"""Replicas whose source's event never came: evidence that events are lost.

A replica's event that comes first is kept as an early fact. If after an hour nothing is known of its source yet, somebody
does not tell of writes. Batch Replication copies what was written long ago; that it restarted a version is kept, too. Where there are many, a sample stands for all of them: a share of the trails, by their
digest, each counted as many times as there are others like it.
"""

import msgspec

from crrmon.domain import catalogue
from crrmon.domain.events.facts import ReplicaWritten
from crrmon.domain.objects import MarkId, ObjectVersion, Scope
from crrmon.domain.outcomes import Fate
from crrmon.domain.trails import Trail
from crrmon.ports.ledger import Ledger
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.rounds import Pause, rounds
from crrmon.services.lifecycle.runtime import Runtime

WAIT_SECONDS = 3600.0
"""Time that a source's event has."""
REMEMBERED = 10_000
"""Most replicas that are remembered at once."""
ROUND_SECONDS = 10.0
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 180.0

_DIGEST_BITS = 64


class _Remembered(msgspec.Struct, frozen=True):
    """A replica to be judged."""

    due_at: float
    halvings: int
    """How often the sample was halved in its time: it stands for two to the power of that."""


class OrphanWatch:
    """Counts replicas that stay without a source."""

    def __init__(
        self,
        ledger: Ledger,
        runtime: Runtime,
        *,
        health: Dependency,
    ) -> None:
        self._ledger = ledger
        self._health = health
        self._board = runtime.board
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._remembered: dict[ObjectVersion, _Remembered] = {}
        """The first due comes first."""
        self._halvings = 0

    def noted(self, replica: ReplicaWritten) -> None:
        """Remember a replica that was kept as an early fact."""
        version = replica.version
        if not version.identified or version in self._remembered:
            return  # without a version id, nothing tells what its source is
        if _sampled(version, self._halvings):
            due_at = self._clock.now() + WAIT_SECONDS
            self._remembered[version] = _Remembered(due_at, self._halvings)
        while len(self._remembered) > REMEMBERED:
            self._halve()

    async def run(self) -> None:
        """Judge what is due, for ever."""
        await rounds(
            self._once,
            name="orphaned",
            board=self._board,
            patience=PATIENCE_SECONDS,
            health=self._health,
            operation="find",
            retry_seconds=RETRY_SECONDS,
        )

    async def _once(self) -> Pause:
        if await self._judge_first():
            return Pause(0.0)
        self._health.forgo("find")
        return Pause(ROUND_SECONDS, answered=False)

    async def _judge_first(self) -> bool:
        """Judge the replica that is due first; return whether any was."""
        version = next(iter(self._remembered), None)
        if version is None or not self._clock.sure:
            return False
        if self._remembered[version].due_at > self._clock.now():
            return False
        trail = await self._ledger.find(version.key, version.version_id)
        # It may have been let go while the ledger was asked.
        one = self._remembered.pop(version, None)
        if one is not None and not _matched(trail, version):
            weight = float(2**one.halvings)
            self._meters.add(catalogue.REPLICAS_ORPHANED, version.bucket, amount=weight)
        if len(self._remembered) < REMEMBERED // 4:
            self._halvings = max(self._halvings - 1, 0)
        return True

    def _halve(self) -> None:
        """Go on with half of the trails."""
        self._halvings += 1
        self._remembered = {
            version: msgspec.structs.replace(one, halvings=max(one.halvings, self._halvings))
            for version, one in self._remembered.items()
            if _sampled(version, self._halvings)
        }


def _sampled(version: ObjectVersion, halvings: int) -> bool:
    """Return whether a version's trail is in the sample; what is in one is in all larger ones."""
    # Not of the bytes that make the shard.
    return int.from_bytes(version.trail_id[-8:], "big") >> (_DIGEST_BITS - halvings) == 0


def _matched(trail: Trail, replica: ObjectVersion) -> bool:
    """Return whether the source of a replica is known: it is followed, was counted, or Batch Replication restarted it."""
    arrival = MarkId.of(Scope.REPLICA, replica).slot
    whole = f"{Scope.SOURCE.value}:"
    restart = f"{Scope.RESTART.value}:"
    # A look that showed a replica tells where it arrived, not where it came from.
    counted = any(
        slot == arrival or (slot.startswith(whole) and mark.fate is not Fate.IS_REPLICA)
        for slot, mark in trail.marks.items()
    )
    restarted = any(slot.startswith(restart) for slot in trail.early_facts)
    return bool(trail.records) or counted or restarted
