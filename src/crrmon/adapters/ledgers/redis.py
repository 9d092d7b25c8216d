"""The ledger on a Redis server or cluster, for several daemons.

Trails are decided on in this process (`optimistic`), compared and written by one script (`redis_trails`). What is of
the whole fleet, and not of a shard, is in `redis_fleet` and `redis_windows`; `redis_server` and `redis_nodes` connect.

What is said to be durable here is so as far as the server is: it keeps what it acknowledged through a crash if its
append-only file is written to disk (`appendonly yes`), and a replica that takes over has it, for at least one must
have acknowledged it. `RedisServer` and a warning at opening tell what to set.
"""

import asyncio
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Self

import msgspec
import structlog

from crrmon.adapters.ledgers.optimistic import NOTHING, Change, Decider, Held
from crrmon.adapters.ledgers.redis_damage import UNREADABLE, reading
from crrmon.adapters.ledgers.redis_fleet import Fleet, Leases, fields
from crrmon.adapters.ledgers.redis_nodes import Call, script
from crrmon.adapters.ledgers.redis_scripts import CLEAR, PAGE, REHEARSE, SWAP, SWEEP
from crrmon.adapters.ledgers.redis_server import Redis, RedisServer
from crrmon.adapters.ledgers.redis_trails import (
    COUNT,
    DAY_SECONDS,
    Shard,
    Trails,
    backlog_place,
    days_of,
    live_records,
    registry_of,
)
from crrmon.adapters.ledgers.redis_windows import Windows
from crrmon.adapters.ledgers.stored import (
    CONTRIBUTION,
    PRESENCE,
    pack,
    place_of,
    token_of,
    token_of_trail,
    trail_of,
    unpack,
)
from crrmon.domain.backlog import BacklogSlot, backlog_slot
from crrmon.domain.events.facts import News
from crrmon.domain.noting import Noted
from crrmon.domain.objects import MarkId, Route, trail_id
from crrmon.domain.outcomes import Contribution, Half, Mark, Settlement
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled, Trail, failed_at, failed_towards
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import (
    AbsentLedgerError,
    FrozenWindow,
    Lease,
    LedgerError,
    Pace,
    Presence,
    UnusableLedgerError,
)

FORMAT: Final = 1
"""Grows when something is stored in another way."""
READABLE_BY: Final = 1
"""The oldest format whose daemons can work on what this one writes."""

_PACE: Final = Pace(size=500, linger=0.05, lanes=2)
"""
A call costs 0.2 ms of CPU time, and each item in it 0.02: waiting makes calls of a dozen at 250 objects a second, and
an outcome takes 40 microseconds, not 200. It also keeps the contributions few.
"""
_SWEPT_AT_ONCE: Final = 1_000_000
"""After so many a call of `sweep` ends. The server frees dropped hashes beside its work."""
_TRIES: Final = 20
_READ_AT_ONCE: Final = 2_000
"""Sums of the backlog that are read before others get their turn: some milliseconds."""

log = structlog.get_logger()


class _Meta(msgspec.Struct, kw_only=True):
    format: int
    readable_by: int
    shards: int


_meta_decoder = msgspec.json.Decoder(_Meta)
_pair_encoder = msgspec.msgpack.Encoder()
_pair_decoder = msgspec.msgpack.Decoder(tuple[bytes, bytes])


class RedisLedger:
    """
    Implements the `Ledger` port.
    """

    def __init__(
        self, redis: Redis, trails: Trails, fleet: Fleet, *, horizon_seconds: float, clock: Clock
    ) -> None:
        self._redis = redis
        self._trails = trails
        self._fleet = fleet
        self._horizon = horizon_seconds
        self._clock = clock
        self._decider = Decider(trails)
        self._leases = Leases(fleet)
        self._windows = Windows(fleet, redis, trails.shards)
        self._unreadable: set[bytes] = set()
        """Trails of which it was said that their records cannot be read."""

    @classmethod
    async def open(
        cls,
        server: RedisServer,
        *,
        clock: Clock,
        shards: int = 64,
        horizon_seconds: float = 345_600.0,
        create: bool = True,
    ) -> Self:
        """
        Open the ledger on a server, or make one.

        Args:
            server: where.
            clock: tells when something is parked or rescheduled.
            shards: how many a new one gets; one that exists keeps its own.
            horizon_seconds: how long marks and halves are kept at least.
            create: whether to make one where there is none. If not, opening writes nothing, and does not find out
                whether the user may.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help; or there is none, and none is to be made.
        """
        redis = await Redis.open(server)
        try:
            fleet = Fleet(redis, server.prefix)
            meta = await _meta(fleet, server, shards, create=create)
        except BaseException:
            await redis.close()
            raise
        trails = Trails(redis, prefix=server.prefix, shards=meta.shards, cluster=server.cluster)
        return cls(redis, trails, fleet, horizon_seconds=horizon_seconds, clock=clock)

    @property
    def shards(self) -> int:
        """
        How many shards it was made with.
        """
        return len(self._trails.shards)

    @property
    def exclusive(self) -> bool:
        """
        Whether only one daemon can have it open: no.
        """
        return False

    @property
    def pace(self) -> Pace:
        """
        How to ask it.
        """
        return _PACE

    # ---- intake and looking ----

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | Half | None]:
        """
        Tell what is kept under each id.
        """
        return await self._decider.seen(ids)

    async def park(self, records: Sequence[Record]) -> Sequence[Parked]:
        """
        Store new records.
        """
        return await self._decider.park(records, now=self._clock.now())

    async def due(self, shards: Sequence[int], *, now: float, limit: int) -> Sequence[Record]:
        """
        Find the records to be looked at, the longest due first.
        """
        # Those that cannot be read stay the longest due, and must not be in the way of the others.
        most = limit + len(self._unreadable)
        places = await self._first_due(sorted(set(shards)), now, most)
        by_shard: dict[int, list[bytes]] = {}
        for _, trail, number in places:
            by_shard.setdefault(number, []).append(trail)
        found = (record for record in await self._records(by_shard) if record.next_look_at <= now)
        return heapq.nsmallest(limit, found, key=lambda one: one.next_look_at)

    async def _first_due(
        self, shards: Sequence[int], now: float, limit: int
    ) -> list[tuple[float, bytes, int]]:
        """
        Find the trails that are the longest due: when, trail, shard.
        """
        # Each shard is asked for little more than its share, and one that has more of the longest due once again.
        asked = dict.fromkeys(shards, 2 * limit // max(len(shards), 1) + 8)
        found: dict[int, list[tuple[float, bytes, int]]] = {}
        while asked:
            calls = [
                _due_call(self._trails.shards[number], now, count)
                for number, count in asked.items()
            ]
            for number, told in zip(asked, await self._redis.ask(calls), strict=True):
                found[number] = [(score, trail, number) for trail, score in _scored(told)]
            first = heapq.nsmallest(limit, (one for some in found.values() for one in some))
            last = first[-1] if len(first) == limit else (math.inf, b"", 0)
            asked = {
                number: limit
                for number, count in asked.items()
                if len(found[number]) == count < limit and found[number][-1] < last
            }
        return heapq.nsmallest(limit, (one for some in found.values() for one in some))

    async def _records(self, by_shard: dict[int, list[bytes]]) -> list[Record]:
        """
        Read the records of some trails; without those that cannot be read, each of which is said once.
        """
        calls = []
        for number, trails in by_shard.items():
            shard = self._trails.shards[number]
            calls.append(Call(shard.home, ("HMGET", shard.live, *trails)))
        found: list[Record] = []
        told = await self._redis.ask(calls)
        for (number, trails), bodies in zip(by_shard.items(), told, strict=True):
            for trail, body in zip(trails, bodies, strict=True):
                if body is None:
                    continue
                try:
                    found += live_records(body)
                except UNREADABLE as error:
                    self._say_unreadable(number, trail, error)
        return found

    def _say_unreadable(self, number: int, trail: bytes, error: Exception) -> None:
        if trail not in self._unreadable:
            self._unreadable.add(trail)
            log.error(
                "redis_record_unreadable",
                shard=number,
                trail=trail.hex(),
                reason=" ".join(str(error).split()),
                advice="it is damaged, or written by a newer version of crrmon, and nobody follows it",
            )

    async def reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        """
        Replace records that nobody changed meanwhile.
        """
        return await self._decider.reschedule(records, now=self._clock.now())

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        """
        Count outcomes, each at most once, and let their records go.
        """
        return await self._decider.settle(batch, settlements, now=now)

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        """
        Add what others told of versions.
        """
        return await self._decider.note(news, now=now)

    # ---- reporting ----

    async def remember_routes(self, routes: Sequence[Route]) -> None:
        """
        Remember routes for ever.
        """
        if routes:
            members = (
                _pair_encoder.encode((pack(one.source), pack(one.destination))) for one in routes
            )
            await self._fleet.ask(("SADD", self._fleet.routes, *members), durable=True)

    async def known_routes(self) -> Sequence[Route]:
        """
        Tell all routes remembered so far, sorted.
        """
        (told,) = await self._fleet.ask(("SMEMBERS", self._fleet.routes))
        with reading(self._fleet.routes):
            pairs = map(_pair_decoder.decode, told)
            return sorted(
                Route(unpack(source), unpack(destination)) for source, destination in pairs
            )

    async def contributions(self) -> Sequence[Contribution]:
        """
        Tell all contributions that no window was frozen from, oldest first.
        """
        return await self._windows.contributions()

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """
        Store a window under the lease of shard 0 and drop its contributions.
        """
        await self._windows.freeze(window, lease=lease)

    async def frozen(self, *, limit: int = 100) -> Sequence[FrozenWindow]:
        """
        Tell the windows that are not wholly sent, oldest first.
        """
        return await self._windows.frozen(limit=limit)

    async def last_frozen(self) -> float | None:
        """
        Tell the `starts_at` of the newest window ever frozen.
        """
        return await self._windows.last_frozen()

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """
        Drop one sent part of a window, and the window with its last one.
        """
        await self._windows.forget(starts_at, part, lease=lease)

    async def backlog(self) -> Sequence[BacklogSlot]:
        """
        Tell what is pending and failed, from the sums kept of it.
        """
        # There may be a million fields: others get their turn again and again. Shards name a sum alike, so each name is
        # read but once.
        sums: dict[Route, dict[float, list[int]]] = {}
        places: dict[bytes, tuple[list[int], int]] = {}
        for shard in self._trails.shards:
            (told,) = await self._redis.ask([Call(shard.home, ("HGETALL", shard.backlog))])
            for start in range(0, len(told), 2 * _READ_AT_ONCE):
                with reading(shard.backlog):
                    for field, amount in fields(told[start : start + 2 * _READ_AT_ONCE]):
                        place = places.get(field)
                        if place is None:
                            (route, written_from), kind = backlog_place(field)
                            slots = sums.setdefault(route, {})
                            place = slots.setdefault(written_from, [0, 0, 0, 0]), kind
                            places[field] = place
                        amounts, kind = place
                        amounts[kind] += int(amount)
                await asyncio.sleep(0)
        told_slots: list[BacklogSlot] = []
        for route in sorted(sums):
            for written_from, of in sorted(sums[route].items()):
                told_slots.append(backlog_slot(route, written_from, of))
                if len(told_slots) % _READ_AT_ONCE == 0:
                    await asyncio.sleep(0)
        return told_slots

    # ---- the daemons among themselves ----

    async def announce(self, presence: Presence) -> None:
        """
        Keep a daemon's presence, instead of its last one.
        """
        body = PRESENCE.encode(presence)
        command = ("HSET", self._fleet.presences, pack(presence.owner), body)
        await self._fleet.ask(command, durable=True)

    async def presences(self) -> Sequence[Presence]:
        """
        Tell the presence of every daemon, by owner.
        """
        (told,) = await self._fleet.ask(("HGETALL", self._fleet.presences))
        with reading(self._fleet.presences):
            return [PRESENCE.decode(body) for _, body in sorted(fields(told))]

    async def dismiss(self, presence: Presence) -> None:
        """
        Drop a presence, if it still is this one.
        """
        presences, owner = self._fleet.presences, pack(presence.owner)
        (body,) = await self._fleet.ask(("HGET", presences, owner))
        if body is None:
            return
        with reading(presences):
            same = PRESENCE.decode(body) == presence
        if same:
            await self._fleet.run(CLEAR, [presences], [owner, body])

    # ---- small state by name ----

    async def states(self, prefix: str) -> Mapping[str, bytes]:
        """
        Return the small named states whose names begin with a prefix.
        """
        (told,) = await self._fleet.ask(("HGETALL", self._fleet.states))
        found = ((name.decode(), body) for name, body in fields(told))
        return {name: body for name, body in sorted(found) if name.startswith(prefix)}

    async def swap(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """
        Replace a small named state if it is still as it was seen.
        """
        marked = [b"-" if body is None else b"+" + body for body in (before, after)]
        return bool(await self._fleet.run(SWAP, [self._fleet.states], [name, *marked]))

    # ---- answers to people ----

    async def failures(
        self,
        *,
        bucket: str | None = None,
        destination: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[Sequence[Record], str | None]:
        """
        List open failures, newest first, a page at a time.
        """
        start: tuple[str, bytes] | tuple[()] = ()
        if after is not None:
            newest, trail, last = place_of(after)
            start = (repr(newest), trail + pack(last))
        calls = []
        for shard in self._trails.shards:
            key = shard.failed if bucket is None else shard.failed_of(bucket)
            # One more than asked for tells whether there is a next page.
            calls.append(script(shard.home, PAGE, [key], [limit + 1, *start]))
        told = await self._redis.ask(calls)
        listed = [(score, member) for some in told for member, score in _scored(some)]
        page = heapq.nsmallest(limit + 1, listed)
        more = len(page) > limit
        page = page[:limit]
        token = None
        if page and more:
            score, member = page[-1]
            token = token_of((score, member[:16], unpack(member[16:])))
        failed = await self._failed(page)
        return [one for one in failed if failed_towards(one, destination)], token

    async def _failed(self, page: Sequence[tuple[float, bytes]]) -> list[Record]:
        """
        Read open failures, in order; without those that were closed or opened anew since they were listed.
        """
        by_shard: dict[int, list[bytes]] = {}
        for trail in {member[:16] for _, member in page}:
            by_shard.setdefault(self._trails.shard_of(trail).number, []).append(trail)
        records: dict[tuple[float | None, bytes], Record] = {}
        for one in await self._records(by_shard):
            records[failed_at(one), one.version.trail_id + pack(one.version.bucket)] = one
        found = (records.get((-score, member)) for score, member in page)
        return [one for one in found if one is not None]

    async def find(self, key: str, version_id: str) -> Trail:
        """
        Tell all that is known of a key and version id.
        """
        trail = trail_id(key, version_id)
        held = await self._trails.read([trail])
        return held[trail].trace if trail in held else Trail()

    # ---- work sharing and upkeep ----

    async def leases(self) -> Sequence[Lease]:
        """
        Tell the lease of every shard, by shard.
        """
        return await self._leases.told(self.shards)

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """
        Take a shard, if its lease still is the one seen.
        """
        return await self._leases.claim(seen, owner=owner)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """
        Change the beat of the leases that are still held.
        """
        return await self._leases.renew(leases)

    async def release(self, leases: Sequence[Lease]) -> None:
        """
        Give up leases that are still held.
        """
        await self._leases.release(leases)

    async def sweep(self, *, now: float) -> int:
        """
        Drop a bounded number of marks and halves past the horizon.
        """
        dropped = 0
        calls = [Call(shard.home, ("GET", shard.days)) for shard in self._trails.shards]
        for number, registry in enumerate(await self._redis.ask(calls)):
            with reading(self._trails.shards[number].days):
                days = days_of(registry or b"")
            for day in days:
                if (day + 1) * DAY_SECONDS > now - self._horizon or dropped >= _SWEPT_AT_ONCE:
                    break
                shard = self._trails.shards[number]
                left = tuple(one for one in days if one > day)
                arguments = [registry_of((day, *left)), registry_of(left), COUNT]
                call = script(shard.home, SWEEP, [shard.days, shard.kept(day)], arguments)
                (count,) = await self._redis.ask([call], durable=True)
                if count is None:
                    break  # another day began, or somebody else sweeps; the next call goes on
                dropped += int(count)
        return dropped

    # ---- moving ----

    async def export(
        self, *, after: str | None = None, limit: int = 100
    ) -> tuple[Sequence[Trail], str | None]:
        """
        Tell all trails that hold a record, a page at a time.
        """
        number, rank = (0, 0) if after is None else await self._after(after)
        found: list[bytes] = []
        while number < self.shards and len(found) <= limit:
            key = self._trails.shards[number].due
            last = rank + limit - len(found)
            (some,) = await self._redis.ask(
                [Call(self._trails.shards[number].home, ("ZRANGE", key, rank, last))]
            )
            found += some
            number, rank = number + 1, 0
        page = found[:limit]
        held = await self._trails.read(page)
        told = [held[trail].trace for trail in page if trail in held]
        return told, token_of_trail(page[-1]) if len(found) > limit else None

    async def _after(self, token: str) -> tuple[int, int]:
        """
        Find where a page of trails begins: shard and rank.
        """
        trail = trail_of(token)
        shard = self._trails.shard_of(trail)
        (rank,) = await self._redis.ask([Call(shard.home, ("ZRANK", shard.due, trail))])
        if rank is None:
            raise LedgerError(
                f"the object where the last page ended ({token}) is not pending any more: somebody works on the ledger;"
                " stop all daemons that do, and begin anew"
            )
        return shard.number, rank + 1

    async def restore(
        self, trails: Sequence[Trail], contributions: Sequence[Contribution], *, now: float
    ) -> None:
        """
        Take over what another ledger exported.
        """
        left = {one.id: one for one in trails}
        for _ in range(_TRIES):
            others: list[bytes] = []
            for chunk in self._trails.chunks(list(left), alone=True):
                others += await self._restore([left[one] for one in chunk], now)
            if not others:
                break
            left = {one: left[one] for one in others}
        else:
            raise LedgerError("somebody else changed the same objects again and again")
        have = {one.id for one in await self.contributions()} if contributions else set()
        calls = []
        for one in contributions:
            if one.id not in have:
                # Repeated, it finds itself in the same place.
                shard = self._trails.shard_of(trail_id(one.id, ""))
                body = CONTRIBUTION.encode(one)
                calls.append(Call(shard.home, ("HSETNX", shard.contributions, pack(one.id), body)))
        await self._redis.ask(calls, durable=True)

    async def _restore(self, trails: Sequence[Trail], now: float) -> Sequence[bytes]:
        held = await self._trails.read([one.id for one in trails])
        changes = []
        for one in trails:
            trail = one.id
            if held.get(trail, Held(Trail(), NOTHING)).tag == NOTHING:
                after = Trail()
                after.take_over(one)
                changes.append(Change(trail=trail, tag=NOTHING, before=Trail(), after=after))
        return await self._trails.write(changes, added=None, now=now) if changes else []

    async def close(self) -> None:
        """
        Close all connections.
        """
        await self._redis.close()


async def _meta(fleet: Fleet, server: RedisServer, shards: int, *, create: bool) -> _Meta:
    """
    Read how the ledger was made, or make it.
    """
    read = ("GET", fleet.meta)
    (body,) = await fleet.ask(read)
    if body is None and not create:
        raise AbsentLedgerError(
            f"there is no ledger under ledger.redis.prefix {server.prefix!r} on {server.place}, database"
            f" {server.database}: correct that, or ledger.redis.url"
        )
    if body is None:
        new = msgspec.json.encode(_Meta(format=FORMAT, readable_by=READABLE_BY, shards=shards))
        _, body = await fleet.ask(("SET", fleet.meta, new, "NX"), read, durable=True)
    try:
        meta = _meta_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise UnusableLedgerError(
            f"{server.place} holds no ledger under ledger.redis.prefix {server.prefix!r}: choose another one"
        ) from error
    if meta.readable_by > FORMAT:
        raise UnusableLedgerError(
            f"the ledger at {server.place} was written by a newer version of crrmon: use that version, or make"
            f" another ledger under another ledger.redis.prefix than {server.prefix!r}"
        )
    if not create:
        return meta
    # A user who may run only some of a script's commands would leave half of its work.
    forbidden = await fleet.run(REHEARSE, [fleet.meta, fleet.meta + b":none"], ())
    if forbidden is not None:
        raise LedgerError(
            f"ledger.redis.url: {server.place} does not let this user run {forbidden.decode()}:"
            " grant what docs/operations.md lists"
        )
    return meta


def _due_call(shard: Shard, now: float, count: int) -> Call:
    command = ("ZRANGEBYSCORE", shard.due, "-inf", repr(now), "WITHSCORES", "LIMIT", 0, count)
    return Call(shard.home, command)


def _scored(flat: Sequence[bytes]) -> Iterator[tuple[bytes, float]]:
    """
    Read members with their scores.
    """
    return zip(flat[::2], map(float, flat[1::2]), strict=True)
