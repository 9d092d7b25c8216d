"""What settling costs and what a mark takes when tens of millions are kept already: four days at 150 objects a second.

Settling that many for real would take an hour; so the ledger is filled with marks of the same size by the database's
own means, spread over the days that are kept, and only what comes on top is settled for real and measured.

    python bench/marks.py --backend sqlite --marks 50000000 --file /var/tmp/marks.db
    python bench/marks.py --backend redis --marks 50000000    with 10 GiB of memory to spare
"""

import argparse
import asyncio
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from redis.asyncio import Redis

import ledgers
from crrmon.adapters.stores.redis.names import KindGroup, Names, registry_of
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.adapters.stores.redis.store import RedisStore
from crrmon.adapters.stores.sqlite.store import SqliteStore
from crrmon.domain.outcomes import mark
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Trail
from crrmon.ledger import compact
from crrmon.ledger.layout import TRAILS
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger
from places import in_store, redis_server

DAYS = 4
SETTLED = 200_000
"""Measured, on top of what is there."""
ON_TOP = 2_000_000_000
"""Where the numbers of those begin."""
_CLOCK = SystemClock()


class Measured(msgspec.Struct, kw_only=True):
    """What settling cost on top of so many marks."""

    backend: str
    marks: int
    items: int
    seconds: float
    cpu_seconds: float
    bytes_kept: int
    """All that the ledger takes."""

    @property
    def per_second(self) -> float:
        """Items settled per second."""
        return self.items / self.seconds

    @property
    def bytes_per_mark(self) -> float:
        """What a mark takes, with its share of all else."""
        return self.bytes_kept / (self.marks + self.items)


def _body(number: int, now: float) -> bytes:
    """Return the mark of an object as settling writes it."""
    outcome = ledgers.settlement(ledgers.fresh(number, now), now).outcomes[0]
    return compact.encode(Trail({}, {outcome.mark.slot: mark(outcome, uuid.uuid4().hex)}))


class Kept(Protocol):
    """A ledger that can be filled by other means than settling."""

    async def open(self) -> Ledger:
        """Open it as the daemon does."""
        ...

    async def fill(self, marks: int, now: float) -> None:
        """Add marks, spread over the days that are kept; nobody has it open."""
        ...

    async def size(self) -> int:
        """Return how many bytes it takes; nobody has it open."""
        ...


# ---- SQLite ----


class Sqlite:
    """A file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def open(self) -> Ledger:
        """Open it as the daemon does."""
        return await in_store(await SqliteStore.open(self._file))

    async def fill(self, marks: int, now: float) -> None:
        """Add marks."""
        await asyncio.to_thread(_fill_sqlite, self._file, marks, now)

    async def size(self) -> int:
        """Weigh the file, which is whole when it is closed."""
        return self._file.stat().st_size


def _fill_sqlite(file: Path, marks: int, now: float) -> None:
    """Add marks to the tables of the last days, with keys as random as digests are."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.create_function("place", 1, lambda trail: int.from_bytes(trail[:6], "big"))
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -1048576")
    for day in range(DAYS):
        table = f"trail kept {int(now // ledgers.DAY) + DAYS - day}"
        began = time.perf_counter()
        connection.execute("BEGIN")
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{table}" (number INTEGER PRIMARY KEY, place INTEGER NOT NULL,'
            " sort BLOB NOT NULL, body BLOB NOT NULL)"
        )
        connection.execute(f'DROP INDEX IF EXISTS "{table} by place"')
        connection.execute(
            "WITH RECURSIVE one(number, place) AS (SELECT 1, random() & 0xffffffffffff UNION ALL"  # noqa: S608
            f" SELECT number + 1, random() & 0xffffffffffff FROM one LIMIT {marks // DAYS})"
            f' INSERT INTO "{table}" (place, sort, body) SELECT place, randomblob(16), ? FROM one',
            (_body(day, now),),
        )
        connection.execute(f'CREATE INDEX "{table} by place" ON "{table}" (place)')
        connection.execute("COMMIT")
        took = time.perf_counter() - began
        print(f"filled {marks // DAYS:,} marks of day -{day} in {took:.0f} s", flush=True)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


# ---- Redis ----

_FILL = """
redis.call('SET', KEYS[2], ARGV[1])
local body, count, seed = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
for at = 1, count do
    local trail = struct.pack('>I4I4I4I4', math.random(0, 2147483647), math.random(0, 2147483647), at, seed)
    redis.call('HSET', KEYS[1], trail, body)
end
"""
_FILLED_AT_ONCE = 20_000


class RedisKept:
    """A server."""

    def __init__(self, url: str, own: "Redis[bytes]") -> None:
        self._url = url
        self._own = own

    async def open(self) -> Ledger:
        """Open it as the daemon does."""
        return await in_store(await RedisStore.open(RedisServer(url=self._url)))

    async def fill(self, marks: int, now: float) -> None:
        """Add marks to the hashes of the last days; the append-only file is off meanwhile, for it would be as large."""
        await self._own.config_set("appendonly", "no")
        body = _body(0, now)
        print(f"a mark is {len(body)} bytes as it is written", flush=True)
        names = Names("crrmon")
        shards = [names.of(KindGroup(TRAILS, number)) for number in range(64)]
        last = int(now // ledgers.DAY) + DAYS
        days = registry_of(tuple(range(last - DAYS + 1, last + 1)))
        began, filled = time.perf_counter(), 0
        while filled < marks:
            shard = shards[filled // _FILLED_AT_ONCE % len(shards)]
            day = last - filled // _FILLED_AT_ONCE // len(shards) % DAYS
            keys = (shard.kept(day), shard.days)
            count = min(_FILLED_AT_ONCE, marks - filled)
            await self._own.eval(_FILL, 2, *keys, days, body, str(count), str(filled))
            filled += count
        print(f"filled {marks:,} marks in {time.perf_counter() - began:.0f} s", flush=True)

    async def size(self) -> int:
        """Ask for the memory in use."""
        return int((await self._own.info("memory"))["used_memory"])


@asynccontextmanager
async def _sqlite(file: Path) -> AsyncIterator[Kept]:
    yield Sqlite(file)


@asynccontextmanager
async def _redis(_: Path) -> AsyncIterator[Kept]:
    with redis_server() as url:
        async with Redis.from_url(url) as own:
            yield RedisKept(url, own)


BACKENDS: dict[str, Callable[[Path], AbstractAsyncContextManager[Kept]]] = {
    "sqlite": _sqlite,
    "redis": _redis,
}


# ---- measuring ----


async def _settle(ledger: Ledger, numbers: Sequence[int], now: float) -> tuple[float, float]:
    """Settle objects at their first look, in batches; return wall and CPU seconds."""
    wall = cpu = 0.0
    for start in range(0, len(numbers), ledgers.BATCH):
        records = [ledgers.fresh(number, now) for number in numbers[start : start + ledgers.BATCH]]
        settlements = [ledgers.settlement(record, now) for record in records]
        began, began_cpu = time.perf_counter(), time.process_time()
        results = await ledger.settle(uuid.uuid4().hex, settlements, now=now)
        wall += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        if any(result != [Settled.COUNTED] for result in results):
            raise RuntimeError("something was counted before")
    return wall, cpu


async def measure(backend: str, file: Path, marks: int) -> Measured:
    """Fill, settle on top, and weigh."""
    async with BACKENDS[backend](file) as kept:
        now = _CLOCK.now()
        ledger = await kept.open()  # makes what filling needs
        await _settle(ledger, range(ON_TOP - 1000, ON_TOP), now)
        await ledger.close()
        await kept.fill(marks, now)
        ledger = await kept.open()
        wall, cpu = await _settle(ledger, range(ON_TOP, ON_TOP + SETTLED), _CLOCK.now())
        await ledger.close()
        return Measured(
            backend=backend,
            marks=marks,
            items=SETTLED,
            seconds=wall,
            cpu_seconds=cpu,
            bytes_kept=await kept.size(),
        )


def main() -> None:
    """Measure one backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=BACKENDS, required=True)
    parser.add_argument("--marks", type=int, default=50_000_000)
    parser.add_argument("--file", type=Path, default=Path("marks.db"))
    asked = parser.parse_args()
    found = asyncio.run(measure(asked.backend, asked.file, asked.marks))
    print(
        f"{found.backend}, {found.marks:,} marks: {found.per_second:,.0f} settled per second,"
        f" {found.cpu_seconds / found.items * 1e6:.0f} CPU µs each,"
        f" {found.bytes_per_mark:.0f} bytes per mark, {found.bytes_kept / 2**30:.1f} GiB in all"
    )


if __name__ == "__main__":
    main()
