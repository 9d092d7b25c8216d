"""Which shards this daemon works on: an even share of them, found without a coordinator.

Every daemon reads all leases, sees from them how many daemons there are, and decides by itself (`share`): it claims
what is free or lapsed up to its share, and takes over from whoever holds the most while it has less. One that was
taken from learns it when it renews. Nobody gives anything up, so nothing is ever without a holder on the way.

A lease has lapsed when its beat did not change for its duration, by the monotonic clock of whoever watches; wall
clocks are never compared. Correctness does not rest on any of this: two daemons on one shard waste requests and count
nothing twice.
"""

import asyncio
import random
from collections.abc import Collection, Sequence

import msgspec
import structlog

from crrmon.ports.ledger import Lease, Ledger
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.rounds import Pause, rounds
from crrmon.services.lifecycle.runtime import Runtime

LEASE_SECONDS = 24.0
"""How long a lease stands without being renewed.

What a killed daemon held has new holders in less than a minute: its last beat is seen up to a round late, the lapse
up to another round after this, and a few rounds are left for sharing it out evenly.
"""
ROUND_SECONDS = LEASE_SECONDS / 4
"""From one renewal to the next; each costs the ledger a call of each kind, so not more often than it must be."""
RETRY_SECONDS = 1.0
CLAIMS = 8
"""How many shards are claimed before leases are read again.

Others that came at the same time are seen once they hold something; whoever took all at once would take too many.
"""
TRIES = 3
"""How often in a round somebody else may be faster, before the next round is waited for."""
PATIENCE_SECONDS = 180.0

REPORTING_SHARD = 0
"""Whoever holds this one publishes for all."""

log = structlog.get_logger()


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one daemon is to do for an even share."""

    claim: tuple[Lease, ...]
    """In this order."""
    replicas: int
    """How many daemons there are, this one included. One that holds nothing is not seen by others."""


def share(
    leases: Sequence[Lease],
    *,
    lapsed: Collection[int],
    held: Collection[int],
    me: str,
    rng: random.Random,
) -> Share:
    """Decide which shards to claim now.

    When all daemons have done so, none holds two more than another, and nobody claims anything any more. The
    reporting shard is never taken from a daemon that renews it: windows would change hands for nothing. Once it is free
    or lapsed, nobody publishes, so it is claimed before any other, whoever had it.

    Args:
        leases: of all shards, as seen.
        lapsed: shards whose lease has lapsed.
        held: shards that this daemon holds.
        me: name of this daemon.
        rng: makes daemons that decide at the same time seldom want the same.
    """
    # An answer that got lost: the ledger says that it is mine, so nobody else will want it.
    claims = [one for one in leases if one.owner == me and one.shard not in held]
    free: list[Lease] = []
    others: dict[str, list[Lease]] = {}
    for lease in leases:
        if lease.shard in held or lease.owner == me:
            continue
        if not lease.owner or lease.shard in lapsed:
            free.append(lease)
        else:
            others.setdefault(lease.owner, []).append(lease)
    replicas = len(others) + 1
    most = -(-len(leases) // replicas)
    mine = len(held) + len(claims)

    rng.shuffle(free)
    free.sort(key=lambda one: one.shard != REPORTING_SHARD)
    free = free[: max(most - mine, 0)]
    claims += free
    mine += len(free)

    for of in others.values():
        rng.shuffle(of)
        # Last of all, and never reached: whoever gives keeps at least one.
        of.sort(key=lambda one: one.shard == REPORTING_SHARD, reverse=True)
    while mine < most and others:
        richest = max(others.values(), key=lambda of: (len(of), rng.random()))
        if len(richest) - mine < 2:  # noqa: PLR2004 - what one more and one less makes even
            break
        claims.append(richest.pop())
        mine += 1
    return Share(claim=tuple(claims), replicas=replicas)


class LeaseManager:
    """Holds shards.

    Args:
        ledger: keeps the leases.
        runtime: chance, which picks among shards that are as good as each other, and the board.
        owner: names this daemon; unique among those that ever ran.
        health: of the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        runtime: Runtime,
        *,
        owner: str,
        health: Dependency,
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._health = health
        self._board = runtime.board
        self._rng = runtime.rng
        self._held: dict[int, Lease] = {}
        self._held_until = 0.0
        self._watched: dict[int, tuple[Lease, float]] = {}
        self._replicas = 1
        self._told: tuple[frozenset[int], int] | None = None

    def shards(self) -> Sequence[int]:
        """Return the shards that are held now."""
        return list(self._held) if self._valid() else []

    def reporting(self) -> Lease | None:
        """Return the lease to publish under, if it is held."""
        return self._held.get(REPORTING_SHARD) if self._valid() else None

    def lost(self, lease: Lease) -> None:
        """Note that the ledger no longer accepts a lease."""
        held = self._held.get(lease.shard)
        # Whatever its beat: it may have been renewed since it was handed out.
        if held is not None and held.epoch == lease.epoch:
            del self._held[lease.shard]
            log.warning("lease_lost", shard=lease.shard)

    async def run(self) -> None:
        """Renew and claim, for ever."""
        await rounds(
            self._once,
            name="leases",
            board=self._board,
            patience=PATIENCE_SECONDS,
            health=self._health,
            operation="leases",
            retry_seconds=RETRY_SECONDS,
        )

    async def give_up(self) -> None:
        """Release all shards, so that others need not wait for them to lapse."""
        held, self._held = list(self._held.values()), {}
        await self._ledger.release(held)
        # A claim that was cut off when this daemon was told to stop may have been carried out.
        mine = [one for one in await self._ledger.leases() if one.owner == self._owner]
        if mine:
            await self._ledger.release(mine)

    def _valid(self) -> bool:
        return asyncio.get_running_loop().time() < self._held_until

    async def _once(self) -> Pause:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._round(began)
        return Pause(max(began + ROUND_SECONDS - loop.time(), 0.0))

    async def _round(self, began: float) -> None:
        if self._held:
            kept = await self._ledger.renew(list(self._held.values()))
            self._held = {lease.shard: lease for lease in kept}
        self._held_until = began + LEASE_SECONDS
        try:
            # What is held must be renewed in time, however long claiming takes.
            async with asyncio.timeout(ROUND_SECONDS):
                await self._even_out()
        except TimeoutError:
            log.warning("lease_rebalance_slow", seconds=ROUND_SECONDS, shards=len(self._held))
        self._tell()

    async def _even_out(self) -> None:
        missed = 0
        while missed < TRIES:
            leases = await self._ledger.leases()
            todo = share(
                leases,
                lapsed=self._lapsed(leases),
                held=self._held,
                me=self._owner,
                rng=self._rng,
            )
            self._replicas = todo.replicas
            if not todo.claim:
                return
            if not await self._claim(todo.claim[:CLAIMS]):
                missed += 1

    async def _claim(self, wanted: Sequence[Lease]) -> bool:
        """Claim shards; tell whether all of them were got."""
        all_got = True
        for lease in wanted:
            taken = await self._ledger.claim(lease, owner=self._owner)
            if taken is None:
                all_got = False
            else:
                self._held[taken.shard] = taken
        return all_got

    def _lapsed(self, leases: Sequence[Lease]) -> set[int]:
        now = asyncio.get_running_loop().time()
        lapsed = set()
        for lease in leases:
            seen, since = self._watched.get(lease.shard, (None, now))
            if seen != lease:
                self._watched[lease.shard] = (lease, now)
            elif now - since >= LEASE_SECONDS:
                lapsed.add(lease.shard)
        return lapsed

    def _tell(self) -> None:
        held = (frozenset(self._held), self._replicas)
        if held != self._told:
            self._told = held
            log.info(
                "leases_changed",
                shards=len(self._held),
                of=self._ledger.shards,
                replicas=self._replicas,
            )
