"""Implements the store on a Redis server or cluster.

What a write rests on is compared and what it does is done by one script, so that it is atomic (`scripts`); where items
lie is told in `names`; `client` and `nodes` connect.

What is said to be durable here is so as far as the server is: it keeps what it acknowledged through a crash if its
append-only file is written to disk (`appendonly yes`), and a replica that takes over has it, for at least one must
have acknowledged it. `RedisServer` and a warning at opening tell what to set.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, Self

from crrmon.adapters.stores.redis.calls import Argument, Call, Reply, script
from crrmon.adapters.stores.redis.client import Redis
from crrmon.adapters.stores.redis.names import DAY_SECONDS, KindGroup, Names, registry_of
from crrmon.adapters.stores.redis.scripts import DROP_DAY, EXPIRE, REHEARSE, SCAN, WRITE
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.unordered import AT_ONCE, UnorderedReading
from crrmon.adapters.stores.redis.writing import Writing, digest, due_tag
from crrmon.domain.slicing import sliced
from crrmon.ports.ledger import LedgerError, Pace
from crrmon.ports.store import (
    FLEET,
    WHOLE,
    Action,
    ConflictError,
    Delete,
    Due,
    Found,
    ItemKind,
    Key,
    Limits,
    Put,
    Span,
    Tag,
)

_EXPIRED_AT_ONCE: Final = 1_000_000
"""After so many a call of `expire` ends. The server frees dropped hashes beside its work."""
_TRIES: Final = 50
_ORDERED_AT_ONCE: Final = 1_000


class RedisStore:
    """Implements the `Store` port.

    Args:
        redis: the server.
        server: how it is set.
    """

    exclusive = False
    pace = Pace(size=500, linger=0.05, lanes=2)
    """
    A call costs 0.2 ms of CPU time, and each item in it 0.02: waiting makes calls of a dozen at 250 objects a second, and
    an outcome takes 40 microseconds, not 200. It also keeps the entries of the journal few.
    """

    def __init__(self, redis: Redis, server: RedisServer) -> None:
        self.name = (
            f"ledger.redis.prefix {server.prefix!r} on {server.place}, database {server.database}"
        )
        self.limits = Limits(items=AT_ONCE, spans_groups=not server.cluster)
        self._redis = redis
        self._server = server
        self._names = Names(server.prefix)
        self._unordered = UnorderedReading(redis, server, self._names)

    @classmethod
    async def open(cls, server: RedisServer, *, rehearse: bool = True) -> Self:
        """Connect to a server.

        Args:
            server: where.
            rehearse: whether to find out if the user may do all that is needed. That writes, and takes it away again.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help.
        """
        redis = await Redis.open(server)
        store = cls(redis, server)
        try:
            if rehearse:
                await store._rehearse()
        # A start that is cancelled must not leave connections open either.
        except BaseException:
            await redis.close()
            raise
        return store

    async def _rehearse(self) -> None:
        # A user who may run only some of a script's commands would leave half of its work.
        names = self._names.of(KindGroup(_REHEARSAL, FLEET))
        (forbidden,) = await self._redis.ask([script(names.home, REHEARSE, [names.items])])
        if forbidden is not None:
            raise LedgerError(
                f"ledger.redis.url: {self._server.place} does not let this user run {forbidden.decode()}:"
                " grant what docs/operations.md lists"
            )

    def where(self, key: Key) -> str:
        """Name an item for people."""
        names = self._names.at(key)
        return f"field {_printed(key)} of the Redis key {names.items.decode()} at {self._server.place}"

    def tag_of(self, body: bytes) -> Tag:
        """Return the tag of a body: its digest."""
        return Tag(digest(body))

    # ---- reading ----

    async def get(self, keys: Sequence[Key]) -> Sequence[Found]:
        """Read items."""
        # Ordered items are in the one hash of their group; unordered ones may be in that of any day.
        ordered = [(key, self._names.at(key)) for key in keys if key.kind.ordered]
        calls = [Call(names.home, ("HGET", names.items, key.sort)) for key, names in ordered]
        bodies = await self._redis.ask(calls) if calls else []
        found = [
            Found(key, body, self.tag_of(body))
            for (key, _), body in zip(ordered, bodies, strict=True)
            if body is not None
        ]
        return found + await self._unordered.read([key for key in keys if not key.kind.ordered])

    async def scan(
        self, kind: ItemKind, groups: Sequence[int], span: Span = WHOLE
    ) -> Sequence[Found]:
        """Read items of an ordered kind, in the order of their sort keys."""
        homes = [self._names.of(KindGroup(kind, group)) for group in groups]
        # In what order does not matter: all are sorted below.
        whole = not span.low and span.high is None and span.limit is None
        arguments = _scan_arguments(span)
        calls = [
            Call(names.home, ("HGETALL", names.items))
            if whole
            else script(names.home, SCAN, [names.order, names.items], arguments)
            for names in homes
        ]
        told = await self._redis.ask(calls)
        found = (
            Found(Key(kind, group, sort), body, self.tag_of(body))
            for group, flat in zip(groups, told, strict=True)
            for sort, body in _pairs(flat)
        )
        return sorted(found, key=lambda one: one.key.sort, reverse=span.reverse)[: span.limit]

    # ---- writing ----

    async def write(self, actions: Sequence[Action]) -> None:
        """Do all of it or nothing."""
        # Days come and go about once a day, so a second try nearly always knows them all.
        for _ in range(_TRIES):
            writing = Writing(self._names, self._unordered.days)
            arguments = writing.arguments(actions)
            home = self._names.at(actions[0].key).home
            (refused,) = await self._redis.ask(
                [script(home, WRITE, writing.keys, arguments)], durable=True
            )
            if refused is None:
                self._unordered.days |= writing.turned
                return
            turned, others, changed = refused
            for at, registry in _pairs(turned):
                self._unordered.learn_days(writing.groups[at], registry)
            if others or changed:
                raise ConflictError(sorted(writing.conflicts(others, changed)))
        raise LedgerError("the list of days changes faster than it can be read")

    async def write_each(self, actions: Sequence[Put | Delete]) -> None:
        """Do unconditional actions, some at a time."""
        homes: dict[bytes, list[Action]] = defaultdict(list)
        for action in actions:
            # In a cluster one script may touch one hash slot only.
            homes[self._names.at(action.key).home if self._server.cluster else b""].append(action)
        for some in homes.values():
            for part in sliced(some, _ORDERED_AT_ONCE):
                await self.write(part)

    # ---- time ----

    async def due(
        self, kind: ItemKind, groups: Sequence[int], *, until: float, limit: int
    ) -> Sequence[Due]:
        """Find unordered items that are due, the longest due first."""
        # Each group is asked for little more than its share, and one that has more of the longest due once again.
        asked = dict.fromkeys(groups, 2 * limit // max(len(groups), 1) + 8)
        found: dict[int, list[Due]] = {}
        while asked:
            calls = [
                self._due_call(KindGroup(kind, group), "-inf", repr(until), count)
                for group, count in asked.items()
            ]
            for group, told in zip(asked, await self._redis.ask(calls), strict=True):
                found[group] = _dues(kind, group, told)
            first = _first(found, limit)
            last = _order(first[-1]) if len(first) == limit else (math.inf, b"")
            asked = {
                group: limit
                for group, count in asked.items()
                if len(found[group]) == count < limit and _order(found[group][-1]) < last
            }
        return await self._with_bodies(kind, _first(found, limit))

    async def _with_bodies(self, kind: ItemKind, dues: Sequence[Due]) -> list[Due]:
        """Read what is due; what is not any more is left out."""
        # Not in one script with the search: that names keys only for the few that are taken of all groups.
        by_group: dict[int, list[Due]] = defaultdict(list)
        for due in dues:
            by_group[due.key.group].append(due)
        calls = []
        for group, some in by_group.items():
            names = self._names.of(KindGroup(kind, group))
            calls.append(Call(names.home, ("HMGET", names.items, *(due.key.sort for due in some))))
        bodies: dict[Key, bytes] = {}
        for some, told in zip(by_group.values(), await self._redis.ask(calls), strict=True):
            bodies |= {
                due.key: body for due, body in zip(some, told, strict=True) if body is not None
            }
        # Between the two calls somebody may have settled it.
        return [
            Due(due.at, due.key, bodies[due.key], due_tag(bodies[due.key]))
            for due in dues
            if due.key in bodies
        ]

    def _due_call(self, group: KindGroup, low: str, high: str, count: int) -> Call:
        names = self._names.of(group)
        command = ("ZRANGEBYSCORE", names.due, low, high, "WITHSCORES", "LIMIT", 0, count)
        return Call(names.home, command)

    async def walk(
        self, kind: ItemKind, group: int, *, after: Due | None, limit: int
    ) -> Sequence[Due]:
        """Go through all items of a group that are due at whatever time."""
        low = "-inf" if after is None else repr(after.at)
        # A time alone is no place to go on from: many may be due at the same one.
        passed = (-math.inf, b"") if after is None else _order(after)
        count = limit
        while True:
            call = self._due_call(KindGroup(kind, group), low, "+inf", count)
            (told,) = await self._redis.ask([call])
            dues = _dues(kind, group, told)
            found = [due for due in dues if _order(due) > passed]
            if len(found) >= limit or len(dues) < count:
                return found[:limit]
            count = 2 * count + limit  # many of the same time as the last one

    async def expire(self, kind: ItemKind, groups: Sequence[int], *, now: float) -> int:
        """Drop a bounded number of items of a kind that have expired."""
        if not kind.ordered:
            return await self._drop_days(kind, groups, now)
        calls = []
        for group in groups:
            names = self._names.of(KindGroup(kind, group))
            keys = [names.items, names.order, names.expiry]
            calls.append(script(names.home, EXPIRE, keys, [repr(now), _ORDERED_AT_ONCE]))
        return sum(map(int, await self._redis.ask(calls, durable=True)))

    async def _drop_days(self, kind: ItemKind, groups: Sequence[int], now: float) -> int:
        dropped = 0
        homes = [self._names.of(KindGroup(kind, number)) for number in groups]
        calls = [Call(names.home, ("GET", names.days)) for names in homes]
        for number, registry in zip(groups, await self._redis.ask(calls), strict=True):
            group = KindGroup(kind, number)
            self._unordered.learn_days(group, registry or b"")
            for day in self._unordered.days[group]:
                # Days are in order, so those after the first that is not over are not over either.
                if (day + 1) * DAY_SECONDS > now or dropped >= _EXPIRED_AT_ONCE:
                    break
                count = await self._drop_day(group, day)
                if count is None:
                    break  # another day began, or somebody else drops it; the next call goes on
                dropped += count
        return dropped

    async def _drop_day(self, group: KindGroup, day: int) -> int | None:
        names = self._names.of(group)
        days = self._unordered.days[group]
        # On condition of the list of days: whoever begins a day meanwhile must not lose it.
        left = tuple(one for one in days if one != day)
        arguments = [registry_of(days), registry_of(left)]
        call = script(names.home, DROP_DAY, [names.days, names.kept(day)], arguments)
        (count,) = await self._redis.ask([call], durable=True)
        if count is not None:
            self._unordered.days[group] = left
        return None if count is None else int(count)

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.close()


_REHEARSAL: Final = ItemKind(name="rehearsal")


def _scan_arguments(span: Span) -> list[Argument]:
    # All have the score 0, so Redis orders them by name, byte by byte, as Python does.
    first = b"[" + span.low if span.low else b"-"
    last = b"+" if span.high is None else b"(" + span.high
    count: Argument = "" if span.limit is None else span.limit
    if span.reverse:
        return ["ZREVRANGEBYLEX", last, first, count]
    return ["ZRANGEBYLEX", first, last, count]


def _printed(key: Key) -> str:
    return repr(key.sort) if key.kind.ordered else key.sort.hex()


def _dues(kind: ItemKind, group: int, flat: Sequence[bytes]) -> list[Due]:
    return [Due(float(at), Key(kind, group, sort)) for sort, at in _pairs(flat)]


def _first(found: dict[int, list[Due]], limit: int) -> list[Due]:
    return sorted(chain.from_iterable(found.values()), key=_order)[:limit]


def _order(due: Due) -> tuple[float, bytes]:
    return due.at, due.key.sort


def _pairs(flat: Sequence[Reply]) -> Iterator[tuple[Reply, Reply]]:
    return zip(flat[::2], flat[1::2], strict=True)
