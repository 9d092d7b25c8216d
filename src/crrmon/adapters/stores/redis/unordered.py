"""Reading unordered items from Redis, which lie with what is due or with what expires on a day."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from crrmon.adapters.stores.redis.calls import Argument, Call, Reply, script
from crrmon.adapters.stores.redis.client import Redis
from crrmon.adapters.stores.redis.names import (
    Days,
    KindGroup,
    Names,
    days_of,
    lookup_keys,
    registry_of,
)
from crrmon.adapters.stores.redis.scripts import READ
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.writing import digest
from crrmon.domain.slicing import sliced
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import Found, Key, Tag

AT_ONCE: Final = 250
"""Most unordered items of one script: the server does nothing else meanwhile."""


class UnorderedReading:
    """Reads unordered items, and remembers which days each group has."""

    def __init__(self, redis: Redis, server: RedisServer, names: Names) -> None:
        self._redis = redis
        self._server = server
        self._names = names
        self.days: dict[KindGroup, Days] = {}
        """Of each group, as last told."""

    async def read(self, keys: Sequence[Key]) -> list[Found]:
        """Read items, again where the days of a group turn out to be others."""
        wanted: dict[KindGroup, list[Key]] = defaultdict(list)
        for key in keys:
            wanted[KindGroup(key.kind, key.group)].append(key)
        found: list[Found] = []
        left: list[tuple[KindGroup, Sequence[Key]]] = [
            (group, some) for group, mine in wanted.items() for some in sliced(mine, AT_ONCE)
        ]
        # Days are part of the question, for a script may touch no key that it was not given.
        while left:
            chunks = self._chunks(left)
            calls = [self._read_call(chunk) for chunk in chunks]
            left = []
            for chunk, told in zip(chunks, await self._redis.ask(calls), strict=True):
                for (group, asked), some in zip(chunk, told, strict=True):
                    # The script answers with the list of days where that is another one than was named.
                    if isinstance(some, bytes):
                        self.learn_days(group, some)
                        left.append((group, asked))
                    else:
                        found += _found(asked, some)
        return found

    def _chunks(
        self, left: Sequence[tuple[KindGroup, Sequence[Key]]]
    ) -> list[list[tuple[KindGroup, Sequence[Key]]]]:
        """Put together what goes into one script: of several groups where one server has all keys."""
        chunks: list[list[tuple[KindGroup, Sequence[Key]]]] = []
        room = 0
        for group, keys in left:
            # In a cluster a script has one group: two may be in different hash slots.
            if not chunks or self._server.cluster or len(keys) > room:
                chunks.append([])
                room = AT_ONCE
            chunks[-1].append((group, keys))
            room -= len(keys)
        return chunks

    def _read_call(self, chunk: Sequence[tuple[KindGroup, Sequence[Key]]]) -> Call:
        keys: list[bytes] = []
        arguments: list[Argument] = []
        for group, some in chunk:
            days = self.days.get(group, ())
            keys += lookup_keys(self._names.of(group), days)
            arguments += (len(some), registry_of(days))
            arguments += [key.sort for key in some]
        return script(self._names.of(chunk[0][0]).home, READ, keys, arguments)

    def learn_days(self, group: KindGroup, registry: bytes) -> None:
        """Take note of which days a group has."""
        name = self._names.of(group).days
        try:
            self.days[group] = days_of(registry)
        except ValueError as error:
            raise LedgerError(
                f"the Redis key {name.decode()} at {self._server.place} cannot be read: it is damaged, or written by a"
                f" newer version of crrmon ({error})"
            ) from error


def _found(keys: Sequence[Key], flat: Sequence[Reply]) -> Iterator[Found]:
    """Read what the script told of some unordered items: of each that it found the place, where, and body."""
    for at in range(0, len(flat), 3):
        place, where, body = flat[at : at + 3]
        yield Found(keys[place], body, Tag(f"{where.decode()} {digest(body)}"))
