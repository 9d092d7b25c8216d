"""Trails in Redis: where everything of a shard lies, how trails are read, and written if they still are as read.

All keys of a shard share a hash tag, so that a script can change them together on any server:

- `live`: a hash, trail to its records, while there are any.
- `kept:DAY`: a hash, trail to its marks and halves (`compact`), and under `n` how many those are. A trail's lie in one
  of these only, that of the newest day on which some were added, so that old ones go by dropping a whole hash.
- `days`: which of those there are. Whoever reads or writes names the days that it knows; if there are others by now,
  it learns them and begins anew. So daemons whose clocks differ by whatever still find each other's marks.
- `due`: a sorted set of the trails in `live`, by the next look at the first of their records.
- `failed` and `failed:BUCKET`: sorted sets of open failures, newest first.
- `backlog`: a hash of sums, one field for each number that is not zero.
- `contributions`: a hash, id to body.

Nothing has a time to live: what evicts only volatile keys never touches a ledger.

A read is a script and so is a write; each handles some trails of many shards at once where one server has all keys,
and those of one shard in a cluster. A trail's tag is made of what was read: its day, and digests of both values.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from crrmon.adapters.ledgers import compact
from crrmon.adapters.ledgers.optimistic import NOTHING, Change, Held
from crrmon.adapters.ledgers.redis_damage import UNREADABLE, reading, unreadable
from crrmon.adapters.ledgers.redis_nodes import Argument, Call, Reply, script
from crrmon.adapters.ledgers.redis_scripts import READ, WRITE
from crrmon.adapters.ledgers.redis_server import Redis
from crrmon.adapters.ledgers.stored import CONTRIBUTION, RECORD, pack, unpack
from crrmon.domain.backlog import BacklogChange
from crrmon.domain.objects import Route, shard_of
from crrmon.domain.outcomes import Contribution
from crrmon.domain.records import Record
from crrmon.domain.trails import Trail, failed_at

DAY_SECONDS: Final = 86_400
COUNT: Final = b"n"
"""The field that tells how many marks and halves a day's hash holds. No trail is as short."""

_AT_ONCE: Final = 250
"""Most trails of one script: the server does nothing else meanwhile."""
_ARGUMENTS: Final = 4000
"""Most arguments of one command inside a script; Lua's stack takes about twice as many."""

Item = TypeVar("Item")
_Pair = tuple[Record | None, Record | None]


class Shard:
    """
    The names of a shard's keys.
    """

    def __init__(self, prefix: str, number: int) -> None:
        self.number = number
        self.home = f"{{{prefix}:{number}}}".encode()
        self.live = self.home + b":live"
        self.due = self.home + b":due"
        self.failed = self.home + b":failed"
        self.backlog = self.home + b":backlog"
        self.contributions = self.home + b":contributions"
        self.days = self.home + b":days"

    def kept(self, day: int) -> bytes:
        """
        Name the hash of marks and halves of a day.
        """
        return b"%b:kept:%d" % (self.home, day)

    def failed_of(self, bucket: str) -> bytes:
        """
        Name the sorted set of a source bucket's failures.
        """
        return self.failed + b":" + pack(bucket)


class Trails:
    """
    Implements `optimistic.Store`.

    Args:
        redis: the server.
        prefix: of all keys.
        shards: how many there are.
        cluster: whether shards may lie on different servers.
    """

    def __init__(self, redis: Redis, *, prefix: str, shards: int, cluster: bool) -> None:
        self._redis = redis
        self._cluster = cluster
        self.shards = [Shard(prefix, number) for number in range(shards)]
        self._days: list[tuple[int, ...]] = [()] * shards
        """Of each shard, as last told."""

    def shard_of(self, trail: bytes) -> Shard:
        """
        Return where a trail lies.
        """
        return self.shards[shard_of(trail, len(self.shards))]

    def chunks(self, trails: Sequence[bytes], *, alone: bool) -> Sequence[Sequence[bytes]]:
        """
        Split trails into what one script may handle, sorted by shard.
        """
        del alone  # a script is one anyway
        by_shard = self._by_shard(trails)
        if self._cluster:
            return [
                part for _, some in sorted(by_shard.items()) for part in _parts(some, _AT_ONCE)
            ]
        return _parts([one for _, some in sorted(by_shard.items()) for one in some], _AT_ONCE)

    def _by_shard(self, trails: Iterable[bytes]) -> dict[int, list[bytes]]:
        shards = len(self.shards)
        by_shard: dict[int, list[bytes]] = {}
        for trail in trails:
            by_shard.setdefault(shard_of(trail, shards), []).append(trail)
        return by_shard

    # ---- reading ----

    async def read(self, trails: Sequence[bytes]) -> Mapping[bytes, Held]:
        """
        Read trails.
        """
        held: dict[bytes, Held] = {}
        left = trails
        while left:
            chunks = [self._by_shard(chunk) for chunk in self.chunks(left, alone=True)]
            calls = [self._read_call(chunk) for chunk in chunks]
            left = []
            for chunk, told in zip(chunks, await self._redis.ask(calls), strict=True):
                for (number, some), found in zip(chunk.items(), told, strict=True):
                    if isinstance(found, bytes):
                        self.learn_days(number, found)
                        left += some
                    else:
                        held.update(_held(self.shards[number], some, found))
        return held

    def _read_call(self, chunk: Mapping[int, Sequence[bytes]]) -> Call:
        keys: list[bytes] = []
        arguments: list[Argument] = []
        for number, some in chunk.items():
            self._name(keys, number)
            arguments += (len(some), self._registry(number))
            arguments += some
        return script(self.shards[next(iter(chunk))].home, READ, keys, arguments)

    def _name(self, keys: list[bytes], number: int) -> None:
        """
        Add the keys by which trails of a shard are looked up.
        """
        shard = self.shards[number]
        keys += (shard.live, shard.days)
        keys += [shard.kept(day) for day in self._days[number]]

    def days(self, number: int) -> tuple[int, ...]:
        """
        Tell the days of which a shard keeps something, as far as is known.
        """
        return self._days[number]

    def learn_days(self, number: int, registry: bytes) -> None:
        """
        Take note of what the days of a shard are.
        """
        with reading(self.shards[number].days):
            self._days[number] = days_of(registry)

    def _registry(self, number: int) -> bytes:
        return registry_of(self._days[number])

    # ---- writing ----

    async def write(
        self, changes: Sequence[Change], *, added: Contribution | None, now: float
    ) -> Sequence[bytes]:
        """
        Write the changes of one chunk.
        """
        by_shard: dict[int, list[Change]] = defaultdict(list)
        shards = len(self.shards)
        for change in changes:
            by_shard[shard_of(change.trail, shards)].append(change)
        while True:
            writing = _Writing(math.floor(now / DAY_SECONDS))
            for number, some in by_shard.items():
                writing.look_up(self._registry(number), some)
                self._name(writing.keys, number)
            for number, some in by_shard.items():
                writing.change(self.shards[number], self._days[number], some)
            home = self.shards[next(iter(by_shard))]
            if added is not None:
                body = CONTRIBUTION.encode(added)
                writing.do("HSET", home.contributions, [pack(added.id), body])
            arguments = [len(by_shard), *writing.arguments]
            (refused,) = await self._redis.ask(
                [script(home.home, WRITE, writing.keys, arguments)], durable=True
            )
            if refused is None:
                for number, days in writing.days.items():
                    self._days[number] = days
                return []
            turned, others = refused
            numbers = list(by_shard)
            for place, registry in _pairs(turned):
                self.learn_days(numbers[place], registry)
            if others:
                trails = [change.trail for some in by_shard.values() for change in some]
                return [trails[place] for place in others]


class _Writing:
    """
    The keys and arguments of one write, as they are put together.
    """

    def __init__(self, today: int) -> None:
        self._today = today
        self.keys: list[bytes] = []
        self.arguments: list[Argument] = []
        self._places: dict[bytes, int] = {}
        self.days: dict[int, tuple[int, ...]] = {}
        """Of shards for which a new day begins."""

    def look_up(self, registry: bytes, changes: Sequence[Change]) -> None:
        """
        Let the trails of a shard be compared with what they were.
        """
        self.arguments += (len(changes), registry)
        self.arguments += [change.trail for change in changes]
        self.arguments += [change.tag for change in changes]

    def do(self, command: str, key: bytes, arguments: Sequence[Argument]) -> None:
        """
        Let a command be carried out.
        """
        if not arguments:
            return
        place = self._places.get(key)
        if place is None:
            self.keys.append(key)
            place = self._places[key] = len(self.keys)
        for part in _parts(arguments, _ARGUMENTS):
            self.arguments += (command, place, len(part))
            self.arguments += part

    def change(self, shard: Shard, days: tuple[int, ...], changes: Sequence[Change]) -> None:
        """
        Let what differs in the trails of a shard be written.
        """
        moved = [
            (one, pairs)
            for one in changes
            if (one.before.records or one.after.records) and (pairs := list(one.records))
        ]
        if moved:
            self._live(shard, [one for one, _ in moved])
            self._failed(shard, moved)
            self._backlog(shard, moved)
        self._kept(shard, days, changes)

    def _live(self, shard: Shard, changes: Sequence[Change]) -> None:
        put: list[Argument] = []
        due: list[Argument] = []
        dropped: list[Argument] = []
        for change in changes:
            before, after = change.before.records, change.after.records
            if not after:
                dropped.append(change.trail)
                continue
            put += (change.trail, live_body(after.values()))
            first = _first_look(after)
            if not before or first != _first_look(before):
                due += (repr(first), change.trail)
        self.do("HSET", shard.live, put)
        self.do("ZADD", shard.due, due)
        self.do("HDEL", shard.live, dropped)
        self.do("ZREM", shard.due, dropped)

    def _failed(self, shard: Shard, moved: Sequence[tuple[Change, Sequence[_Pair]]]) -> None:
        for change, pairs in moved:
            for old, new in pairs:
                was = None if old is None else failed_at(old)
                now = None if new is None else failed_at(new)
                if was == now:
                    continue
                one = new or old
                assert one is not None  # noqa: S101 - one of them differs from the other
                bucket = one.version.bucket
                member = change.trail + pack(bucket)
                for key in (shard.failed, shard.failed_of(bucket)):
                    if now is None:
                        self.do("ZREM", key, [member])
                    else:
                        self.do("ZADD", key, [repr(-now), member])

    def _backlog(self, shard: Shard, moved: Sequence[tuple[Change, Sequence[_Pair]]]) -> None:
        change = BacklogChange()
        for _, pairs in moved:
            for old, new in pairs:
                if old is None or new is None or _weighs_otherwise(old, new):
                    change.replace(old, new)
        sums: list[Argument] = []
        for slot, amounts in change.sums():
            for kind, amount in enumerate(amounts):
                if amount:
                    sums += (backlog_field(slot, kind), amount)
        self.do("SUM", shard.backlog, sums)

    def _kept(self, shard: Shard, days: tuple[int, ...], changes: Sequence[Change]) -> None:
        put: dict[int, list[Argument]] = defaultdict(list)
        dropped: dict[int, list[Argument]] = defaultdict(list)
        counts: dict[int, int] = defaultdict(int)
        for change in changes:
            before, after = change.before, change.after
            if not _kept_differs(before, after):
                continue
            was = _day_of(change.tag)
            day = self._today if was is None else max(was, self._today)
            if was is not None:
                counts[was] -= len(before.marks) + len(before.halves)
                if was != day:
                    dropped[was].append(change.trail)
            counts[day] += len(after.marks) + len(after.halves)
            put[day] += (change.trail, compact.encode(after.marks, after.halves))
        for day, some in dropped.items():
            self.do("HDEL", shard.kept(day), some)
        for day, some in put.items():
            self.do("HSET", shard.kept(day), some)
        for day, count in counts.items():
            if count:
                self.do("SUM", shard.kept(day), [COUNT, count])
        new = put.keys() - set(days)
        if new:
            self.days[shard.number] = tuple(sorted({*days, *new}))
            self.do("SET", shard.days, [registry_of(self.days[shard.number])])


def _kept_differs(before: Trail, after: Trail) -> bool:
    # NB: marks are only ever added.
    return (
        len(before.marks) != len(after.marks)
        or before.halves.keys() != after.halves.keys()
        or any(one is not before.halves[slot] for slot, one in after.halves.items())
    )


def _weighs_otherwise(old: Record, new: Record) -> bool:
    """
    Tell whether the backlog may change; most changes only set another date.
    """
    return (
        old.destinations != new.destinations
        or old.state is not new.state
        or old.size != new.size
        or old.written_at != new.written_at
    )


def _first_look(records: Mapping[str, Record]) -> float:
    return min([one.next_look_at for one in records.values()])


# ---- values ----


_SEVERAL: Final = {*range(0x90, 0xA0), 0xDC, 0xDD}
"""How MessagePack's arrays begin; one record is a map, or marked as JSON."""

_several_encoder = msgspec.msgpack.Encoder()
_several_decoder = msgspec.msgpack.Decoder(tuple[bytes, ...])


def live_body(records: Iterable[Record]) -> bytes:
    """
    Write down the records of a trail: mostly one, as itself; several as a list of such.
    """
    bodies = [RECORD.encode(one) for one in records]
    return bodies[0] if len(bodies) == 1 else _several_encoder.encode(bodies)


def live_records(body: bytes) -> list[Record]:
    """
    Read the records of a trail.
    """
    if body[0] in _SEVERAL:
        return [RECORD.decode(one) for one in _several_decoder.decode(body)]
    return [RECORD.decode(body)]


def _held(
    shard: Shard, trails: Sequence[bytes], found: Sequence[Reply]
) -> Iterator[tuple[bytes, Held]]:
    """
    Read what the script told of some trails: of each that it found the place, live, day and kept.
    """
    for at in range(0, len(found), 4):
        place, live, day, kept = found[at : at + 4]
        key = shard.live
        try:
            records = live_records(live) if live else ()
            key = shard.home + b":kept:" + day
            marks, halves = compact.decode(kept) if kept else ({}, {})
        except UNREADABLE as error:
            raise unreadable(key, error, what=f"trail {trails[place].hex()}") from error
        trace = Trail({one.version.bucket: one for one in records}, marks, halves)
        tag = f"{day.decode()} {_digest(live)} {_digest(kept)}"
        yield trails[place], Held(trace, tag)


def _digest(body: bytes) -> str:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest() if body else ""


def _day_of(tag: str) -> int | None:
    if tag == NOTHING:
        return None
    day, _, _ = tag.partition(" ")
    return int(day) if day else None


@lru_cache(maxsize=64)
def registry_of(days: tuple[int, ...]) -> bytes:
    """
    Write down which days there are.
    """
    return " ".join(map(str, days)).encode()


def days_of(registry: bytes) -> tuple[int, ...]:
    """
    Read which days there are.
    """
    return tuple(map(int, registry.split()))


_field_decoder = msgspec.msgpack.Decoder(tuple[int, float, bytes, bytes])


@lru_cache(maxsize=4096)
def backlog_field(slot: tuple[Route, float], kind: int) -> bytes:
    """
    Name a sum of the backlog: its route, where its slot starts, and which of the four amounts it is.
    """
    route, starts_at = slot
    return _several_encoder.encode((kind, starts_at, pack(route.source), pack(route.destination)))


def backlog_place(field: bytes) -> tuple[tuple[Route, float], int]:
    """
    Undo `backlog_field`.
    """
    kind, starts_at, source, destination = _field_decoder.decode(field)
    return (Route(unpack(source), unpack(destination)), starts_at), kind


def _parts(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _pairs(flat: Sequence[Reply]) -> Iterator[tuple[Reply, Reply]]:
    return zip(flat[::2], flat[1::2], strict=True)
