"""The leases: all shards (256 an item) in one item under a condition, so that renewing them is one write.

Who holds shard 0 publishes, and what the publisher commits is conditional on that. As the beats of the leases change all
the time, that condition has an item of its own, the *holder*, written together with the lease whenever shard 0 changes
hands.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from crrmon.ledger.damage import reading
from crrmon.ledger.encoding import Body
from crrmon.ledger.layout import LEASES, fleet_key
from crrmon.ports.ledger import Lease, LeaseLostError, LedgerError
from crrmon.ports.store import ABSENT, Action, ConflictError, Found, Guard, Key, Put, Store, Tag

_IN_ONE: Final = 256
_TRIES = 20
_FIRST_PAUSE_SECONDS = 0.01
_MOST_PAUSE_SECONDS = 0.3


class _Packed(msgspec.Struct, frozen=True):
    """Some shards' leases; each owner's name once."""

    owners: tuple[str, ...]
    leases: tuple[tuple[int, int, int], ...]
    """Number of the owner, epoch, beat."""


class _Holder(msgspec.Struct, frozen=True):
    """Who holds shard 0."""

    owner: str
    epoch: int


_BODY = Body(_Packed)
_HOLDER_BODY = Body(_Holder)
_HOLDER: Final = fleet_key(LEASES, "holder")


class Leases:
    """Keeps who works on which shard."""

    def __init__(self, store: Store, *, shards: int, chance: random.Random) -> None:
        self._store = store
        self._shards = shards
        self._chance = chance
        # Shards are claimed one by one and side by side; here each change waits for the one before.
        self._one_change = asyncio.Lock()

    async def all(self) -> list[Lease]:
        """Return the lease of every shard, by shard."""
        items = await self._read(range(-(-self._shards // _IN_ONE)))
        return [lease for leases, _ in items for lease in leases]

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """Take a shard, if its lease still is the one seen."""

        def change(now: Lease) -> Lease:
            if (now.owner, now.epoch) == (owner, seen.epoch + 1):
                return now  # the same claim, made before
            if (now.epoch, now.beat) != (seen.epoch, seen.beat):
                return now
            return replace(now, owner=owner, epoch=now.epoch + 1, beat=now.beat + 1)

        (now,) = await self._change([seen.shard], change)
        return now if (now.owner, now.epoch) == (owner, seen.epoch + 1) else None

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Change the beat of the leases that are still held."""
        asked = {lease.shard: lease for lease in leases}
        now = await self._change(
            list(asked),
            lambda now: replace(now, beat=now.beat + 1) if _held(asked[now.shard], now) else now,
        )
        return [lease for lease in now if _held(asked[lease.shard], lease)]

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give up leases that are still held."""
        asked = {lease.shard: lease for lease in leases}
        await self._change(
            list(asked),
            lambda now: replace(now, owner="") if _held(asked[now.shard], now) else now,
        )

    async def check(self, lease: Lease) -> Guard:
        """Make sure that a lease of shard 0 is held.

        Returns:
            What makes a write fail once it is not any more.

        Raises:
            LeaseLostError: it is not.
        """
        holder, tag = _Holder("", 0), ABSENT
        for key, body, found in await self._store.get([_HOLDER]):
            with reading(self._store, key):
                holder, tag = _HOLDER_BODY.decode(body), found
        if lease.shard != 0 or not holder.owner or holder != _Holder(lease.owner, lease.epoch):
            raise LeaseLostError(f"shard 0 is held by {holder.owner!r} in epoch {holder.epoch}")
        return Guard(_HOLDER, tag)

    async def _change(
        self, shards: Sequence[int], change: Callable[[Lease], Lease]
    ) -> list[Lease]:
        """Change leases, item by item; return them as they are now, in the order asked."""
        result: dict[int, Lease] = {}
        async with self._one_change:
            for number in sorted({shard // _IN_ONE for shard in shards}):
                mine = {shard for shard in shards if shard // _IN_ONE == number}
                result |= await self._change_one(number, mine, change)
        return [result[shard] for shard in shards]

    async def _change_one(
        self, number: int, shards: set[int], change: Callable[[Lease], Lease]
    ) -> dict[int, Lease]:
        for tries in range(_TRIES):
            ((before, tag),) = await self._read([number])
            after = [change(one) if one.shard in shards else one for one in before]
            if after != before:
                try:
                    await self._store.write(_actions(number, before, after, tag))
                except ConflictError:
                    # Another daemon was faster, or this was done before and its answer got lost, which the leases tell.
                    # Daemons that start together would otherwise meet at every try.
                    most = min(_FIRST_PAUSE_SECONDS * 2**tries, _MOST_PAUSE_SECONDS)
                    await asyncio.sleep(most * self._chance.random())
                    continue
            return {one.shard: one for one in after if one.shard in shards}
        raise LedgerError("other daemons keep changing the leases")

    async def _read(self, numbers: Sequence[int]) -> list[tuple[list[Lease], Tag]]:
        """Read items of leases, each with its tag."""
        keys = [_key(number) for number in numbers]
        found = {one.key: one for one in await self._store.get(keys)}
        return [
            self._leases_in(number, found.get(key))
            for number, key in zip(numbers, keys, strict=True)
        ]

    def _leases_in(self, number: int, found: Found | None) -> tuple[list[Lease], Tag]:
        first = number * _IN_ONE
        shards = range(first, min(first + _IN_ONE, self._shards))
        if found is None:
            return [Lease(shard=shard, owner="", epoch=0, beat=0) for shard in shards], ABSENT
        with reading(self._store, found.key):
            packed = _BODY.decode(found.body)
            leases = [
                Lease(shard=shard, owner=packed.owners[owner], epoch=epoch, beat=beat)
                for shard, (owner, epoch, beat) in zip(shards, packed.leases, strict=True)
            ]
        return leases, found.tag


def _actions(
    number: int, before: Sequence[Lease], after: Sequence[Lease], tag: Tag
) -> list[Action]:
    """Return what writes an item of leases and, when shard 0 changes hands, who holds it."""
    owners = tuple(dict.fromkeys(lease.owner for lease in after))
    places = {owner: place for place, owner in enumerate(owners)}
    packed = tuple((places[one.owner], one.epoch, one.beat) for one in after)
    actions: list[Action] = [Put(_key(number), _BODY.encode(_Packed(owners, packed)), tag)]
    was, now = (_Holder(some[0].owner, some[0].epoch) for some in (before, after))
    if number == 0 and was != now:
        actions.append(Put(_HOLDER, _HOLDER_BODY.encode(now)))
    return actions


def _held(lease: Lease, now: Lease) -> bool:
    return bool(now.owner) and (now.owner, now.epoch) == (lease.owner, lease.epoch)


def _key(number: int) -> Key:
    return fleet_key(LEASES, f"{number:04d}")
