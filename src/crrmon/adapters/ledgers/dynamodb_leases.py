"""The leases: all shards (256 an item) in one item under a version, so that renewing them is one write.

Renewing 64 shards is one read and one write of one unit. Who holds shard 0 stands beside as plain attributes: what
the publisher commits is conditional on them.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from crrmon.adapters.ledgers.dynamodb_bodies import PackedBody
from crrmon.adapters.ledgers.dynamodb_calls import (
    NEW,
    Calls,
    ConditionError,
    Item,
    Key,
    at,
    unchanged,
)
from crrmon.adapters.ledgers.dynamodb_damage import reading
from crrmon.adapters.ledgers.dynamodb_table import BODY, TAG
from crrmon.ports.ledger import Lease, LeaseLostError, LedgerError

_IN_ONE: Final = 256
_OWNER: Final = "owner"
_EPOCH: Final = "epoch"
_TRIES = 20
_FIRST_PAUSE_SECONDS = 0.01
_MOST_PAUSE_SECONDS = 0.3


class _Packed(msgspec.Struct, frozen=True):
    """
    Some shards' leases; each owner's name once.
    """

    owners: tuple[str, ...]
    leases: tuple[tuple[int, int, int], ...]
    """Number of the owner, epoch, beat."""


_BODY = PackedBody(_Packed)


class Leases:
    """
    Keeps who works on which shard.
    """

    def __init__(self, calls: Calls, *, shards: int, chance: random.Random) -> None:
        self._calls = calls
        self._shards = shards
        self._chance = chance
        # Shards are claimed one by one and side by side; here each change waits for the one before.
        self._turns = asyncio.Lock()

    async def all(self) -> list[Lease]:
        """
        Tell the lease of every shard, by shard.
        """
        numbers = range(-(-self._shards // _IN_ONE))
        items = await asyncio.gather(*(self._read(number) for number in numbers))
        return [lease for leases, _ in items for lease in leases]

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """
        Take a shard, if its lease still is the one seen.
        """

        def change(now: Lease) -> Lease:
            if (now.owner, now.epoch) == (owner, seen.epoch + 1):
                return now  # the same claim, made before
            if (now.epoch, now.beat) != (seen.epoch, seen.beat):
                return now
            return replace(now, owner=owner, epoch=now.epoch + 1, beat=now.beat + 1)

        (now,) = await self._change([seen.shard], change)
        return now if (now.owner, now.epoch) == (owner, seen.epoch + 1) else None

    async def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """
        Change the beat of the leases that are still held.
        """
        asked = {lease.shard: lease for lease in leases}
        now = await self._change(
            list(asked),
            lambda now: replace(now, beat=now.beat + 1) if _held(asked[now.shard], now) else now,
        )
        return [lease for lease in now if _held(asked[lease.shard], lease)]

    async def release(self, leases: Sequence[Lease]) -> None:
        """
        Give up leases that are still held.
        """
        asked = {lease.shard: lease for lease in leases}
        await self._change(
            list(asked),
            lambda now: replace(now, owner="") if _held(asked[now.shard], now) else now,
        )

    async def check(self, lease: Lease) -> None:
        """
        Make sure that a lease of shard 0 is held.

        Raises:
            LeaseLostError: it is not.
        """
        (now, *_), _ = await self._read(0)
        if lease.shard != 0 or not _held(lease, now):
            raise LeaseLostError(f"shard 0 is held by {now.owner!r} in epoch {now.epoch}")

    async def _change(
        self, shards: Sequence[int], change: Callable[[Lease], Lease]
    ) -> list[Lease]:
        """
        Change leases, item by item; return them as they are now, in the order asked.
        """
        result: dict[int, Lease] = {}
        async with self._turns:
            for number in sorted({shard // _IN_ONE for shard in shards}):
                mine = {shard for shard in shards if shard // _IN_ONE == number}
                result |= await self._change_one(number, mine, change)
        return [result[shard] for shard in shards]

    async def _change_one(
        self, number: int, shards: set[int], change: Callable[[Lease], Lease]
    ) -> dict[int, Lease]:
        for tries in range(_TRIES):
            before, tag = await self._read(number)
            after = [change(one) if one.shard in shards else one for one in before]
            if after != before:
                try:
                    await self._write(number, after, tag)
                except ConditionError:
                    # Another daemon was faster, or this was done before and its answer got lost, which the leases tell.
                    # Daemons that start together would otherwise meet at every try.
                    most = min(_FIRST_PAUSE_SECONDS * 2**tries, _MOST_PAUSE_SECONDS)
                    await asyncio.sleep(most * self._chance.random())
                    continue
            return {one.shard: one for one in after if one.shard in shards}
        raise LedgerError("other daemons changed the leases again and again")

    async def _read(self, number: int) -> tuple[list[Lease], int]:
        first = number * _IN_ONE
        shards = range(first, min(first + _IN_ONE, self._shards))
        item = await self._calls.get(_key(number))
        if item is None:
            return [Lease(shard=shard, owner="", epoch=0, beat=0) for shard in shards], 0
        with reading(item, table=self._calls.table):
            packed = _BODY.decode(item[BODY]["B"])
            leases = [
                Lease(shard=shard, owner=packed.owners[owner], epoch=epoch, beat=beat)
                for shard, (owner, epoch, beat) in zip(shards, packed.leases, strict=True)
            ]
            return leases, int(item[TAG]["N"])

    async def _write(self, number: int, leases: Sequence[Lease], tag: int) -> None:
        owners = tuple(dict.fromkeys(lease.owner for lease in leases))
        places = {owner: place for place, owner in enumerate(owners)}
        packed = tuple((places[one.owner], one.epoch, one.beat) for one in leases)
        item: Item = {
            **at(_key(number)),
            TAG: {"N": str(tag + 1)},
            BODY: {"B": _BODY.encode(_Packed(owners, packed))},
        }
        if number == 0:
            item |= {_OWNER: {"S": leases[0].owner}, _EPOCH: {"N": str(leases[0].epoch)}}
        await self._calls.put(item, NEW if tag == 0 else unchanged(TAG, {"N": str(tag)}))


def held_check(lease: Lease) -> dict[str, Any]:
    """
    Make the action of a transaction that fails unless shard 0 is held under this lease.
    """
    return {
        "ConditionCheck": {
            "Key": at(_key(0)),
            "ConditionExpression": "#owner = :owner AND #epoch = :epoch",
            "ExpressionAttributeNames": {"#owner": _OWNER, "#epoch": _EPOCH},
            "ExpressionAttributeValues": {
                ":owner": {"S": lease.owner},
                ":epoch": {"N": str(lease.epoch)},
            },
        }
    }


def _held(lease: Lease, now: Lease) -> bool:
    return bool(now.owner) and (now.owner, now.epoch) == (lease.owner, lease.epoch)


def _key(number: int) -> Key:
    return "leases", f"{number:04d}"
