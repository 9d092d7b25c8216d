"""Which shards this daemon works on: claims free and lapsed leases, renews its own.

A lease has lapsed when its beat did not change for its duration, by the monotonic clock of whoever watches; wall
clocks are never compared. Correctness does not rest on any of this: two daemons on one shard waste requests and count
nothing twice.
"""

import asyncio
from collections.abc import Sequence

import structlog

from crrmon.ports.ledger import Lease, Ledger, LedgerError
from crrmon.services.health import Dependency, HealthBoard

LEASE_SECONDS = 30.0
"""How long a lease stands without being renewed."""
ROUND_SECONDS = LEASE_SECONDS / 3
RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 180.0

REPORTING_SHARD = 0
"""Whoever holds this one publishes for all."""

log = structlog.get_logger()


class Tenure:
    """
    Holds shards.

    Args:
        ledger: keeps the leases.
        owner: names this daemon; unique among those that ever ran.
        health: of the ledger.
        board: told of the loop's progress.
    """

    def __init__(
        self, ledger: Ledger, *, owner: str, health: Dependency, board: HealthBoard
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._health = health
        self._board = board
        self._held: dict[int, Lease] = {}
        self._held_until = 0.0
        self._watched: dict[int, tuple[Lease, float]] = {}

    def shards(self) -> Sequence[int]:
        """
        Tell the shards that are held now.
        """
        return list(self._held) if self._valid() else []

    def reporting(self) -> Lease | None:
        """
        Tell the lease to publish under, if it is held.
        """
        return self._held.get(REPORTING_SHARD) if self._valid() else None

    def lost(self, lease: Lease) -> None:
        """
        Note that the ledger no longer accepts a lease.
        """
        if self._held.get(lease.shard) == lease:
            del self._held[lease.shard]
            log.warning("shard_lost", shard=lease.shard)

    async def run(self) -> None:
        """
        Claim and renew, for ever.
        """
        while True:
            self._board.began("tenure", patience=PATIENCE_SECONDS)
            try:
                await self._round()
            except LedgerError as error:
                self._health.failed(str(error), "leases")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._health.succeeded("leases")
            self._board.ended("tenure")
            await asyncio.sleep(ROUND_SECONDS)

    async def give_up(self) -> None:
        """
        Let go of all shards, so that others need not wait for them to lapse.
        """
        held, self._held = list(self._held.values()), {}
        await self._ledger.release(held)

    def _valid(self) -> bool:
        return asyncio.get_running_loop().time() < self._held_until

    async def _round(self) -> None:
        began = asyncio.get_running_loop().time()
        kept = await self._ledger.renew(list(self._held.values()))
        held = {lease.shard: lease for lease in kept}
        for lease in await self._ledger.leases():
            if lease.shard not in held and self._free(lease, began):
                taken = await self._ledger.claim(lease, owner=self._owner)
                if taken is not None:
                    held[taken.shard] = taken
        if set(held) != set(self._held):
            log.info("shards_held", shards=len(held), of=self._ledger.shards)
        self._held = held
        self._held_until = began + LEASE_SECONDS

    def _free(self, lease: Lease, now: float) -> bool:
        if not lease.owner:
            return True
        seen, since = self._watched.get(lease.shard, (None, now))
        if seen != lease:
            self._watched[lease.shard] = (lease, now)
            return False
        return now - since >= LEASE_SECONDS
