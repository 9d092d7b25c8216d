"""What is of the whole fleet, in Redis: under a hash tag of its own, so that a script can check a lease and change it.

- `meta`: how the ledger was made: its format, the oldest format that may read it, its number of shards.
- `leases`: a hash, shard to epoch, beat and owner.
- `presences`: a hash, owner to what that daemon says about itself.
- `routes`: a set.
- `states`: a hash, name to small state.
- `last`, `frozen`, `window:START`: the newest start, a sorted set of unsent windows, a hash of one's unsent parts.
- `taken`: a hash, start of a window to the ids of its contributions, while those may not be dropped yet.
"""

from collections.abc import Iterator, Sequence

from crrmon.adapters.ledgers.redis_damage import reading
from crrmon.adapters.ledgers.redis_nodes import Argument, Call, Reply, script
from crrmon.adapters.ledgers.redis_scripts import CLAIM, TOUCH
from crrmon.adapters.ledgers.redis_server import Redis
from crrmon.adapters.ledgers.stored import pack, unpack
from crrmon.ports.ledger import Lease


class Fleet:
    """
    The names of its keys, and ways to ask for them.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self.home = f"{{{prefix}}}".encode()
        self.meta = self.home + b":meta"
        self.leases = self.home + b":leases"
        self.presences = self.home + b":presences"
        self.routes = self.home + b":routes"
        self.states = self.home + b":states"
        self.last = self.home + b":last"
        self.frozen = self.home + b":frozen"
        self.taken = self.home + b":taken"

    def window(self, starts_at: str) -> bytes:
        """
        Name the hash of a window.
        """
        return self.home + b":window:" + starts_at.encode()

    async def ask(self, *commands: tuple[Argument, ...], durable: bool = False) -> list[Reply]:
        """
        Carry out commands.
        """
        return await self._redis.ask([Call(self.home, one) for one in commands], durable=durable)

    async def run(
        self, digest: str, keys: Sequence[bytes], arguments: Sequence[Argument]
    ) -> Reply:
        """
        Run a script that may write.
        """
        call = script(self.home, digest, keys, arguments)
        (told,) = await self._redis.ask([call], durable=True)
        return told


class Leases:
    """
    Who works on which shard.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def told(self, shards: int) -> Sequence[Lease]:
        """
        Tell the lease of every shard, by shard.
        """
        (told,) = await self._fleet.ask(("HGETALL", self._fleet.leases))
        with reading(self._fleet.leases):
            known = {int(shard): body for shard, body in fields(told)}
            return [lease_of(shard, known.get(shard, b"0 0 ")) for shard in range(shards)]

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """
        Take a shard, if its lease still is the one seen.
        """
        arguments = (seen.shard, seen.epoch, seen.beat, pack(owner))
        told = await self._fleet.run(CLAIM, [self._fleet.leases], arguments)
        return None if told is None else lease_of(seen.shard, told)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """
        Change the beat of the leases that are still held.
        """
        told = await self._touch("renew", leases)
        return [lease_of(one.shard, body) for one, body in zip(leases, told, strict=True) if body]

    async def release(self, leases: Sequence[Lease]) -> None:
        """
        Give up leases that are still held.
        """
        await self._touch("release", leases)

    async def _touch(self, what: str, leases: Sequence[Lease]) -> Sequence[bytes]:
        arguments: list[Argument] = [what]
        for lease in leases:
            arguments += (lease.shard, lease.epoch, pack(lease.owner))
        told: Sequence[bytes] = await self._fleet.run(TOUCH, [self._fleet.leases], arguments)
        return told


def lease_of(shard: int, body: bytes) -> Lease:
    """
    Read a lease.
    """
    epoch, beat, owner = body.split(b" ", 2)
    return Lease(shard=shard, owner=unpack(owner), epoch=int(epoch), beat=int(beat))


def fields(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """
    Read the fields of a hash with their values.
    """
    return zip(flat[::2], flat[1::2], strict=True)
