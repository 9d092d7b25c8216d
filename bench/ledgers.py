"""What the ledgers cost by themselves: items per second and CPU time per item, with few and with many parked beside.

Each backend is asked as the daemon asks it, in batches. Records that only lie there are due in a month; those that
are measured are due at once. `bench/daemon.py` runs this in a process of its own; alone:

    python bench/ledgers.py --backend sqlite --parked 10000 --parked 1000000 --where /tmp/bench.db
"""

import argparse
import asyncio
import gc
import sys
import time
import uuid
from collections.abc import Awaitable, Iterator, Sequence
from typing import TypeVar

import msgspec

from crrmon import logs
from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope, trail_id
from crrmon.domain.outcomes import Fate, Latency, Outcome, Settlement
from crrmon.domain.records import Destination, Record
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import FrozenWindow, Ledger
from messages import ACCOUNT, REGION, destination, key, source, version_id
from places import PLACES, Place, Units

BATCH = 500
"""The daemon's own; see `crrmon.ports.ledger.IN_PROCESS`."""
FILL_BATCH = 5000
DAY = 86_400.0
FAR = 30 * DAY
LYING, MEASURED = 50_000_000, 60_000_000
"""Where the numbers of these objects begin; those of the messages begin at 0."""
LATER = 60.0
"""When a record that was rescheduled is due again."""
FEW_DUE = 100
FINDING = 20
"""How often those few are looked for among all that lie there."""

OWNER = "bench"
FEW = "find 100 due"
"""Items of this row are calls."""

Item = TypeVar("Item")
Result = TypeVar("Result")
_CLOCK = SystemClock()


class Progress(msgspec.Struct, tag="progress"):
    """Tells what is going on."""

    text: str


class Row(msgspec.Struct, tag="row", kw_only=True):
    """One operation of one backend, measured; `filling` parks what only lies there."""

    backend: str
    parked: int
    """Records lying beside."""
    operation: str
    items: int
    seconds: float
    cpu_seconds: float
    """Of this process, all threads: what the ledger costs the daemon."""
    write_units: float | None = None
    read_units: float | None = None
    """Of DynamoDB, as it says itself."""

    @property
    def per_second(self) -> float:
        """Items per second of wall time."""
        return self.items / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """CPU time of one item."""
        return self.cpu_seconds / self.items * 1e6


def lying(number: int, *, now: float) -> Record:
    """Create a record as it lies in a ledger: written in the last day, seen pending, not due for a month."""
    spread = number * 7919 % DAY
    return _record(LYING + number, written_at=now - spread, next_look_at=now + FAR + spread)


def _record(number: int, *, written_at: float, next_look_at: float) -> Record:
    return Record(
        version=ObjectVersion(source(number), key(number), version_id(number)),
        region=REGION,
        owner=ACCOUNT,
        size=1_000_000 + number % 7919,
        written_at=written_at,
        next_look_at=next_look_at,
        destinations=(Destination(bucket=destination(number), rule="lake"),),
        looks=3,
        pending_seen_at=written_at + 60,
    )


def fresh(number: int, now: float) -> Record:
    """Create a record of an object written lately, due at once."""
    return _record(number, written_at=now - 80, next_look_at=now - 1)


async def fill(ledger: Ledger, parked: int, *, have: int = 0) -> None:
    """
    Park records that only lie there.

    Args:
        ledger: where to.
        parked: how many there shall be.
        have: how many of them there are already.
    """
    now = _CLOCK.now()
    # In the order of a tree's leaves, or filling a large file takes several times as long.
    numbers = sorted(
        range(have, parked), key=lambda one: trail_id(key(LYING + one), version_id(LYING + one))
    )
    gc.disable()  # nothing of this is garbage
    for batch in _batches(numbers, FILL_BATCH):
        await ledger.park([lying(number, now=now) for number in batch])
    gc.enable()


def settlement(record: Record, found_at: float) -> Settlement:
    """Settle a record as arrived: decided without a record when it has none."""
    (there,) = record.destinations
    outcome = Outcome(
        mark=record.replica_mark(there.bucket),
        fate=Fate.COMPLETED,
        route=Route(record.version.bucket, there.bucket),
        written_at=record.written_at,
        found_at=found_at,
        size=record.size or 0,
        latency=Latency(30.0, 80.0),
        spread=((21, 0.25), (22, 0.5), (23, 0.25)),
        seconds=51.0,
        looks=1,
    )
    return Settlement(version=record.version, outcomes=(outcome,), rev=record.rev)


def marks_of(record: Record) -> tuple[MarkId, MarkId]:
    """Return what intake asks for before it looks at a version."""
    version = record.version
    whole = MarkId(Scope.SOURCE, version.bucket, version.key, version.version_id)
    return whole, record.replica_mark(record.destinations[0].bucket)


class _Watch:
    """Adds up wall time, CPU time and capacity units of what is awaited."""

    def __init__(self, units: Units | None) -> None:
        self._units = units or Units()
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.write_units = 0.0
        self.read_units = 0.0

    async def time(self, work: Awaitable[Result]) -> Result:
        """Do something and add what it took."""
        units = self._units
        write, read = units.write, units.read
        cpu, wall = time.process_time(), time.perf_counter()
        result = await work
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu
        self.write_units += units.write - write
        self.read_units += units.read - read
        return result


class Measurement:
    """All operations of one backend on one fill."""

    def __init__(
        self, place: Place, *, backend: str, parked: int, items: int, batch: int = BATCH
    ) -> None:
        self._ledger = place.ledger
        self._units = place.units
        self._backend = backend
        self._parked = parked
        self._items = items
        self._batch = batch
        # Of every measurement other objects, and records not made while the watch runs.
        self._start = MEASURED + 10 * parked

    async def rows(self) -> list[Row]:
        """Measure in the order of an object's life: one settled at its first look, then one that is parked."""
        now = _CLOCK.now()
        await self._freeze(now - 1)  # what filling left
        rows = [await self._seen(now), await self._settle_new(now), await self._freeze(now)]
        rows.append(await self._park(now))
        rows += await self._visit(now)
        rows.append(await self._settle_parked(now + LATER))
        return [*rows, await self._find_few(now)]

    def _row(self, operation: str, watch: _Watch, *, items: int | None = None) -> Row:
        metered = self._units is not None
        return Row(
            backend=self._backend,
            parked=self._parked,
            operation=operation,
            items=items or self._items,
            seconds=watch.seconds,
            cpu_seconds=watch.cpu_seconds,
            write_units=watch.write_units if metered else None,
            read_units=watch.read_units if metered else None,
        )

    async def _find_few(self, now: float) -> Row:
        """Find a hundred that are due among all that are not; they are settled afterwards."""
        start = self._start + 2 * self._items
        few = [fresh(number, now) for number in range(start, start + FEW_DUE)]
        await self._ledger.park(few)
        watch, found = _Watch(self._units), []
        for _ in range(FINDING):
            shards = range(self._ledger.shards)
            found = await watch.time(self._ledger.due(shards, now=now, limit=FEW_DUE))
            if len(found) != FEW_DUE:
                raise RuntimeError(f"{len(found)} of {FEW_DUE} were found")
        row = self._row(FEW, watch, items=FINDING)
        await self._settle(list(found), now)
        return row

    def _records(self, now: float, *, offset: int) -> list[Record]:
        start = self._start + offset * self._items
        return [fresh(number, now) for number in range(start, start + self._items)]

    async def _seen(self, now: float) -> Row:
        watch = _Watch(self._units)
        for batch in _batches(self._records(now, offset=0), self._batch):
            ids = [mark for record in batch for mark in marks_of(record)]
            found = await watch.time(self._ledger.seen(ids))
            _expect(found, None)
        return self._row("seen, two marks", watch)

    async def _settle_new(self, now: float) -> Row:
        records = self._records(now, offset=0)
        return self._row("settle at first look", await self._settle(records, now))

    async def _freeze(self, now: float) -> Row:
        """Create a window of what was just settled; its objects are the items."""
        (first, *_) = await self._ledger.leases()
        lease = first if first.owner == OWNER else await self._ledger.claim(first, owner=OWNER)
        if lease is None:
            raise RuntimeError("somebody else works on this ledger")
        watch = _Watch(self._units)
        deltas = await watch.time(self._ledger.deltas())
        window = FrozenWindow(
            starts_at=now,
            parts=(b"[]",),
            deltas=tuple(delta.id for delta in deltas),
        )
        await watch.time(self._ledger.freeze(window, lease=lease))
        await watch.time(self._ledger.forget(now, 0, lease=lease))
        return self._row("freeze, by object", watch)

    async def _park(self, now: float) -> Row:
        watch = _Watch(self._units)
        for batch in _batches(self._records(now, offset=1), self._batch):
            _expect(await watch.time(self._ledger.park(batch)), Parked.PARKED)
        return self._row("park", watch)

    async def _visit(self, now: float) -> list[Row]:
        """Find what is due and give it another date, as the poller does in turn."""
        due, reschedule = _Watch(self._units), _Watch(self._units)
        visited: list[Record] = []
        shards = range(self._ledger.shards)
        while len(visited) < self._items:
            records = await due.time(self._ledger.due(shards, now=now, limit=self._batch))
            if not records:
                raise RuntimeError(f"only {len(visited)} of {self._items} were due")
            later = [
                msgspec.structs.replace(record, next_look_at=now + LATER) for record in records
            ]
            results = await reschedule.time(self._ledger.reschedule(later))
            _expect(results, Rescheduled.RESCHEDULED)
            visited += records
        return [self._row("due", due), self._row("reschedule", reschedule)]

    async def _settle_parked(self, now: float) -> Row:
        """Find what is due and settle it, as the poller does in turn."""
        watch, settled = _Watch(self._units), 0
        while settled < self._items:
            records = await self._ledger.due(
                range(self._ledger.shards), now=now, limit=self._batch
            )
            if not records:
                raise RuntimeError(f"only {settled} of {self._items} were due")
            await self._settle(records, now, watch)
            settled += len(records)
        return self._row("settle a parked one", watch)

    async def _settle(
        self, records: Sequence[Record], now: float, watch: _Watch | None = None
    ) -> _Watch:
        watch = watch or _Watch(self._units)
        for batch in _batches(records, self._batch):
            settlements = [settlement(record, now) for record in batch]
            results = await watch.time(self._ledger.settle(uuid.uuid4().hex, settlements, now=now))
            for result in results:
                _expect(result, Settled.COUNTED)
        return watch


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _expect(results: Sequence[object], wanted: object) -> None:
    wrong = [result for result in results if result != wanted]
    if wrong:
        raise RuntimeError(f"the ledger answered {wrong[0]!r}, not {wanted!r}")


def _tell(line: Progress | Row) -> None:
    print(msgspec.json.encode(line).decode(), flush=True)


async def measure(
    backend: str,
    where: str,
    *,
    fills: Sequence[int],
    have: int,
    items: int,
    batch: int = BATCH,
    collect: bool = True,
) -> None:
    """
    Measure a backend on one fill after the other; print a line of JSON for each thing there is to tell.

    Args:
        backend: one of `places.PLACES`.
        where: it lies; see `places.PLACES`.
        fills: how many records shall lie there; the measurement adds none.
        have: how many lie there already, from an earlier run.
        items: of each operation.
        batch: how many of them in a call.
        collect: whether Python may collect garbage while the watch runs, as it does in the daemon.
    """
    async with PLACES[backend](where) as place:
        for parked in sorted(fills):
            _tell(Progress(f"{backend}: parking {parked:,} records"))
            await fill(place.ledger, parked, have=have)
            watch = time.perf_counter()
            gc.collect()
            took = time.perf_counter() - watch
            _tell(Progress(f"{backend}: beside {parked:,}; full garbage collection {took:.2f} s"))
            if not collect:
                gc.disable()
            have = parked
            measurement = Measurement(
                place, backend=backend, parked=parked, items=items, batch=batch
            )
            for row in await measurement.rows():
                _tell(row)


def main() -> None:
    """Measure one backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=PLACES, required=True)
    parser.add_argument("--parked", type=int, action="append", required=True)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--where", default="", help="file, or URL of a server that runs")
    parser.add_argument("--have", type=int, default=0)
    parser.add_argument("--no-gc", action="store_true")
    asked = parser.parse_args()
    # Standard output is for lines of results.
    logs.configure(level="error", format="json", stream=sys.stderr)
    asyncio.run(
        measure(
            asked.backend,
            asked.where,
            fills=asked.parked,
            have=asked.have,
            items=asked.items,
            batch=asked.batch,
            collect=not asked.no_gc,
        )
    )


if __name__ == "__main__":
    main()
