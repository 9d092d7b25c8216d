"""Contributions and windows in Redis.

Contributions lie in the shards, so a window cannot be stored and its contributions dropped at once. It is stored with
their ids, under the lease; then they are dropped; then the ids are. A publisher may stop in between for however
long. Therefore whoever tells contributions reads `taken` first, leaves out what it names, and finishes the dropping.
Read in that order, what is not named any more was dropped before.
"""

from collections.abc import Sequence

import msgspec

from crrmon.adapters.ledgers.redis_damage import UNREADABLE, reading, unreadable
from crrmon.adapters.ledgers.redis_fleet import Fleet, fields, lease_of
from crrmon.adapters.ledgers.redis_nodes import Argument, Call, Reply
from crrmon.adapters.ledgers.redis_scripts import CLEAR, FORGET, FREEZE
from crrmon.adapters.ledgers.redis_server import Redis
from crrmon.adapters.ledgers.redis_trails import Shard
from crrmon.adapters.ledgers.stored import CONTRIBUTION, pack, unpack
from crrmon.domain.outcomes import Contribution
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError

_ids_encoder = msgspec.msgpack.Encoder()
_ids_decoder = msgspec.msgpack.Decoder(tuple[bytes, ...])


class Windows:
    """
    Does for the ledger what concerns contributions and windows.
    """

    def __init__(self, fleet: Fleet, redis: Redis, shards: Sequence[Shard]) -> None:
        self._fleet = fleet
        self._redis = redis
        self._shards = shards
        self._lying: dict[str, int] = {}
        """In which shards the contributions that were told last are."""

    async def contributions(self) -> Sequence[Contribution]:
        """
        Tell all contributions that no window was frozen from, oldest first.
        """
        (taken,) = await self._fleet.ask(("HGETALL", self._fleet.taken))
        with reading(self._fleet.taken):
            dropped = {
                unpack(one) for _, body in fields(taken) for one in _ids_decoder.decode(body)
            }
        told: list[Contribution] = []
        lying: dict[str, int] = {}
        calls = [Call(shard.home, ("HGETALL", shard.contributions)) for shard in self._shards]
        for number, some in enumerate(await self._redis.ask(calls)):
            for packed, body in fields(some):
                name = packed.decode(errors="replace")
                try:
                    lying[unpack(packed)] = number
                    told.append(CONTRIBUTION.decode(body))
                except UNREADABLE as error:
                    key = self._shards[number].contributions
                    raise unreadable(key, error, what=f"contribution {name}") from error
        self._lying = lying
        if taken:
            await self._drop(dropped & lying.keys())
            for starts_at, ids in fields(taken):
                await self._clear(starts_at, ids)
        return sorted(
            (one for one in told if one.id not in dropped),
            key=lambda one: (one.settled_at, one.id),
        )

    async def _drop(self, ids: set[str]) -> None:
        """
        Drop contributions.
        """
        everywhere = range(len(self._shards))
        by_shard: dict[int, list[bytes]] = {}
        for one in ids:
            for number in (self._lying[one],) if one in self._lying else everywhere:
                by_shard.setdefault(number, []).append(pack(one))
        calls = []
        for number, some in by_shard.items():
            shard = self._shards[number]
            calls.append(Call(shard.home, ("HDEL", shard.contributions, *some)))
        await self._redis.ask(calls, durable=True)

    async def _clear(self, starts_at: bytes, ids: bytes) -> None:
        """
        Forget which contributions a window took, after they were dropped.
        """
        await self._fleet.run(CLEAR, [self._fleet.taken], [starts_at, ids])

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """
        Store a window under the lease of shard 0 and drop its contributions.
        """
        fleet = self._fleet
        starts_at = repr(window.starts_at)
        ids = b""
        if window.contributions:
            ids = _ids_encoder.encode([pack(one) for one in window.contributions])
        parts: list[Argument] = []
        for place, body in enumerate(window.parts):
            if body:
                parts += (place, body)
        keys = [fleet.leases, fleet.last, fleet.frozen, fleet.taken, fleet.window(starts_at)]
        told = await self._fleet.run(
            FREEZE,
            keys,
            [*_publisher(lease), starts_at, ids, len(window.parts), *parts],
        )
        _check(told)
        if ids and told == b"frozen":
            await self._drop(set(window.contributions))
            await self._clear(starts_at.encode(), ids)

    async def frozen(self, *, limit: int = 100) -> Sequence[FrozenWindow]:
        """
        Tell the windows that are not wholly sent, oldest first.
        """
        fleet = self._fleet
        (starts,) = await self._fleet.ask(("ZRANGE", fleet.frozen, 0, limit - 1))
        calls = [Call(fleet.home, ("HGETALL", fleet.window(one.decode()))) for one in starts]
        windows = []
        for starts_at, told in zip(starts, await self._redis.ask(calls), strict=True):
            parts = dict(fields(told))
            if parts:  # else it was sent meanwhile
                with reading(fleet.window(starts_at.decode())):
                    count = int(parts[b"n"])
                    start = float(starts_at)
                bodies = tuple(parts.get(b"%d" % place, b"") for place in range(count))
                windows.append(FrozenWindow(starts_at=start, parts=bodies, contributions=()))
        return windows

    async def last_frozen(self) -> float | None:
        """
        Tell the `starts_at` of the newest window ever frozen.
        """
        (told,) = await self._fleet.ask(("GET", self._fleet.last))
        with reading(self._fleet.last):
            return None if told is None else float(told)

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """
        Drop one sent part of a window, and the window with its last one.
        """
        fleet = self._fleet
        start = repr(starts_at)
        told = await self._fleet.run(
            FORGET,
            [fleet.leases, fleet.frozen, fleet.window(start)],
            [*_publisher(lease), start, part],
        )
        _check(told)


def _publisher(lease: Lease) -> tuple[int, bytes]:
    # Only the lease of shard 0 counts: who shows another one is nobody there.
    return lease.epoch, pack(lease.owner) if lease.shard == 0 else b""


def _check(told: Reply) -> None:
    """
    Raise if a script told that shard 0 is held otherwise.
    """
    if isinstance(told, list):
        held = lease_of(0, told[0])
        raise LeaseLostError(f"shard 0 is held by {held.owner!r} in epoch {held.epoch}")
