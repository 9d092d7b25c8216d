"""The ledger in one SQLite file: the default. One daemon, one thread, one transaction and one sync for each call.

What happens to records, marks and halves is decided on plain values (`trails`, `settling` and `noting` of the domain), which
`sqlite_trails` reads and writes within the transaction of a call.
"""

import asyncio
import heapq
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from crrmon.adapters.ledgers.sqlite_file import LedgerFile, translated
from crrmon.adapters.ledgers.sqlite_trails import Trails, drop_kept, place
from crrmon.adapters.ledgers.stored import (
    CONTRIBUTION,
    PRESENCE,
    RECORD,
    pack,
    place_of,
    token_of,
    token_of_trail,
    trail_of,
    unpack,
)
from crrmon.domain.backlog import BacklogSlot, backlog_slot
from crrmon.domain.events.facts import News
from crrmon.domain.noting import Noted, note
from crrmon.domain.objects import MarkId, Route, trail_id
from crrmon.domain.outcomes import Contribution, Half, Mark, Settlement, contribution
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled, part_of, settle
from crrmon.domain.trails import Parked, Rescheduled, Trail, failed_towards
from crrmon.ports.ledger import IN_PROCESS, FrozenWindow, Lease, LeaseLostError, Pace, Presence

_SWEPT_AT_ONCE: Final = 20_000
_DUE = """
SELECT next_look_at, number FROM records WHERE shard = ? AND next_look_at <= ? ORDER BY next_look_at, number
"""
_BODY = "SELECT body FROM records WHERE number = ?"
_FAILURES = """
SELECT newest, trail, bucket, body FROM records INDEXED BY failures
WHERE newest IS NOT NULL AND (newest, trail, bucket) > (?, ?, ?) ORDER BY newest, trail, bucket LIMIT ?
"""
_FAILURES_OF_BUCKET = """
SELECT newest, trail, bucket, body FROM records INDEXED BY failures_of_bucket
WHERE newest IS NOT NULL AND bucket = ? AND (newest, trail) > (?, ?) ORDER BY newest, trail LIMIT ?
"""
_FROZEN = """
SELECT starts_at, body FROM windows
WHERE starts_at IN (SELECT DISTINCT starts_at FROM windows ORDER BY starts_at LIMIT ?) ORDER BY starts_at, part
"""
_CLAIM = """
UPDATE leases SET owner = ?, epoch = epoch + 1, beat = beat + 1 WHERE shard = ? AND epoch = ? AND beat = ?
"""
_RENEW = "UPDATE leases SET beat = beat + 1 WHERE shard = ? AND owner = ? AND epoch = ?"
_RELEASE = "UPDATE leases SET owner = '' WHERE shard = ? AND owner = ? AND epoch = ?"
_HELD = """
SELECT DISTINCT trail FROM records WHERE place >= ? AND (place, trail) > (?, ?) ORDER BY place, trail LIMIT ?
"""
_ADD_CONTRIBUTION = """
INSERT INTO contributions (id, body) SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM contributions WHERE id = ?)
"""
_LEASE = "SELECT shard, owner, epoch, beat FROM leases WHERE shard = ?"

T = TypeVar("T")


class SqliteLedger:
    """
    Implements the `Ledger` port.
    """

    def __init__(
        self, file: LedgerFile, thread: ThreadPoolExecutor, *, horizon_seconds: float
    ) -> None:
        self._file = file
        self._connection = file.connection
        self._thread = thread
        self._horizon = horizon_seconds

    @classmethod
    async def open(
        cls, path: Path | str, *, shards: int = 64, horizon_seconds: float = 345_600.0
    ) -> Self:
        """
        Open a ledger's file, or make one, and hold it until `close` or the end of the process.

        Args:
            path: the file, on a local filesystem.
            shards: how many a new one gets; one that exists keeps its own.
            horizon_seconds: how long marks and halves are kept at least.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help.
        """
        loop = asyncio.get_running_loop()
        # NB: a connection belongs to the thread that opened it.
        thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            file = await loop.run_in_executor(
                thread, lambda: LedgerFile.open(Path(path), shards=shards)
            )
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(file, thread, horizon_seconds=horizon_seconds)

    @property
    def shards(self) -> int:
        """
        How many shards it was made with.
        """
        return self._file.shards

    @property
    def exclusive(self) -> bool:
        """
        Whether only one daemon can have it open: the file is locked.
        """
        return True

    async def _run(self, work: Callable[[], T]) -> T:
        """
        Do something in the ledger's thread and in one transaction, committed when this returns.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return self._transaction(work)
        except sqlite3.Error as error:
            known = translated(self._file.path, error)
            if known is None:
                raise
            raise known from error

    def _transaction(self, work: Callable[[], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            self._connection.execute("COMMIT")
        finally:
            # SQLite itself rolls back on some errors; the connection can be used again in any case.
            if self._connection.in_transaction:
                self._connection.rollback()
        return result

    @property
    def pace(self) -> Pace:
        """
        How to ask it.
        """
        return IN_PROCESS

    # ---- intake and looking ----

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | Half | None]:
        """
        Tell what is kept under each id.
        """

        def work() -> list[Mark | Half | None]:
            trails = self._trails()
            traces = [trails.trace(wanted.trail_id) for wanted in ids]
            return [
                trace.marks.get(wanted.slot) or trace.halves.get(wanted.slot)
                for wanted, trace in zip(ids, traces, strict=True)
            ]

        return await self._run(work)

    async def park(self, records: Sequence[Record]) -> Sequence[Parked]:
        """
        Store new records.
        """

        def work() -> list[Parked]:
            trails = self._trails()
            results = [trails.trace(one.version.trail_id).park(one) for one in records]
            trails.write()
            return results

        return await self._run(work)

    async def due(self, shards: Sequence[int], *, now: float, limit: int) -> Sequence[Record]:
        """
        Find the records to be looked at, the longest due first.
        """
        return await self._run(lambda: self._due(shards, now, limit))

    def _due(self, shards: Sequence[int], now: float, limit: int) -> list[Record]:
        # Each shard's share comes sorted from the index; merging takes no more of each than it needs.
        cursors = [self._connection.execute(_DUE, (shard, now)) for shard in set(shards)]
        try:
            places = list(islice(heapq.merge(*cursors), limit))
        finally:
            for cursor in cursors:
                cursor.close()
        bodies = (self._connection.execute(_BODY, place[1:]).fetchone() for place in places)
        return [RECORD.decode(body) for (body,) in bodies]

    async def reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        """
        Replace records that nobody changed meanwhile.
        """

        def work() -> list[Rescheduled]:
            trails = self._trails()
            results = [trails.trace(one.version.trail_id).reschedule(one) for one in records]
            trails.write()
            return results

        return await self._run(work)

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        """
        Count outcomes, each at most once, and let their records go.
        """

        def work() -> list[list[Settled]]:
            trails = self._trails()
            results, counted = settle(batch, settlements, trails.trace)
            trails.write(now)
            if counted:
                name = part_of(batch, counted)
                body = CONTRIBUTION.encode(contribution(name, counted, settled_at=now))
                self._connection.execute(
                    "INSERT INTO contributions (id, body) VALUES (?, ?)", (name, body)
                )
            return results

        return await self._run(work)

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        """
        Add what others told of versions.
        """

        def work() -> list[Noted]:
            trails = self._trails()
            results = [note(trails.trace(one.version.trail_id), one, now=now) for one in news]
            trails.write(now)
            return results

        return await self._run(work)

    # ---- reporting ----

    async def remember_routes(self, routes: Sequence[Route]) -> None:
        """
        Remember routes for ever.
        """
        rows = [(pack(route.source), pack(route.destination)) for route in routes]

        def work() -> None:
            # NB: no cursor may leave this thread: where it is dropped, it touches a statement that is in use here.
            self._connection.executemany("INSERT OR IGNORE INTO routes VALUES (?, ?)", rows)

        await self._run(work)

    async def known_routes(self) -> Sequence[Route]:
        """
        Tell all routes remembered so far, sorted.
        """
        rows = await self._rows("SELECT source, destination FROM routes")
        return sorted(Route(unpack(source), unpack(destination)) for source, destination in rows)

    async def contributions(self) -> Sequence[Contribution]:
        """
        Tell all contributions that no window was frozen from, oldest first.
        """
        rows = await self._rows("SELECT body FROM contributions ORDER BY number")
        return [CONTRIBUTION.decode(body) for (body,) in rows]

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """
        Store a window under the lease of shard 0 and drop its contributions.
        """

        def work() -> None:
            self._check(lease)
            newest = self._meta("last_frozen")
            if window.starts_at == newest or self._exists(window.starts_at):
                return
            if any(window.parts):
                self._connection.executemany(
                    "INSERT INTO windows VALUES (?, ?, ?)",
                    ((window.starts_at, part, body) for part, body in enumerate(window.parts)),
                )
            self._connection.executemany(
                "DELETE FROM contributions WHERE id = ?", ((one,) for one in window.contributions)
            )
            if newest is None or newest < window.starts_at:
                self._connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('last_frozen', ?)", (window.starts_at,)
                )

        await self._run(work)

    def _exists(self, starts_at: float) -> bool:
        found = self._connection.execute("SELECT 1 FROM windows WHERE starts_at = ?", (starts_at,))
        return found.fetchone() is not None

    async def frozen(self, *, limit: int = 100) -> Sequence[FrozenWindow]:
        """
        Tell the windows that are not wholly sent, oldest first.
        """
        rows = await self._rows(_FROZEN, (limit,))
        return [
            FrozenWindow(
                starts_at=starts_at, parts=tuple(body for _, body in parts), contributions=()
            )
            for starts_at, parts in groupby(rows, key=itemgetter(0))
        ]

    async def last_frozen(self) -> float | None:
        """
        Tell the `starts_at` of the newest window ever frozen.
        """
        return await self._run(lambda: self._meta("last_frozen"))

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """
        Drop one sent part of a window, and the window with its last one.
        """

        def work() -> None:
            self._check(lease)
            self._connection.execute(
                "UPDATE windows SET body = x'' WHERE starts_at = ? AND part = ?", (starts_at, part)
            )
            left = self._connection.execute(
                "SELECT 1 FROM windows WHERE starts_at = ? AND body <> x''", (starts_at,)
            )
            if left.fetchone() is None:
                self._connection.execute("DELETE FROM windows WHERE starts_at = ?", (starts_at,))

        await self._run(work)

    def _check(self, lease: Lease) -> None:
        held = _lease(self._connection.execute(_LEASE, (0,)).fetchone())
        if (lease.shard, lease.owner, lease.epoch) != (0, held.owner, held.epoch):
            raise LeaseLostError(f"shard 0 is held by {held.owner!r} in epoch {held.epoch}")

    async def backlog(self) -> Sequence[BacklogSlot]:
        """
        Tell what is pending and failed, from the sums kept of it.
        """
        rows = await self._rows("SELECT * FROM backlog")
        return [
            backlog_slot(Route(unpack(source), unpack(destination)), written_from, amounts)
            for source, destination, written_from, *amounts in rows
        ]

    # ---- the daemons among themselves ----

    async def announce(self, presence: Presence) -> None:
        """
        Keep a daemon's presence, instead of its last one.
        """
        row = pack(presence.owner), PRESENCE.encode(presence)

        def work() -> None:
            self._connection.execute("INSERT OR REPLACE INTO presences VALUES (?, ?)", row)

        await self._run(work)

    async def presences(self) -> Sequence[Presence]:
        """
        Tell the presence of every daemon, by owner.
        """
        rows = await self._rows("SELECT body FROM presences ORDER BY owner")
        return [PRESENCE.decode(body) for (body,) in rows]

    async def dismiss(self, presence: Presence) -> None:
        """
        Drop a presence, if it still is this one.
        """
        owner = (pack(presence.owner),)

        def work() -> None:
            found = self._connection.execute("SELECT body FROM presences WHERE owner = ?", owner)
            row = found.fetchone()
            if row is not None and PRESENCE.decode(row[0]) == presence:
                self._connection.execute("DELETE FROM presences WHERE owner = ?", owner)

        await self._run(work)

    # ---- small state by name ----

    async def states(self, prefix: str) -> Mapping[str, bytes]:
        """
        Return the small named states whose names begin with a prefix.
        """
        query = "SELECT name, body FROM states WHERE substr(name, 1, ?) = ? ORDER BY name"
        return dict(await self._rows(query, (len(prefix), prefix)))

    async def swap(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """
        Replace a small named state if it is still as it was seen.
        """

        def work() -> bool:
            found = self._connection.execute("SELECT body FROM states WHERE name = ?", (name,))
            row = found.fetchone()
            now = None if row is None else row[0]
            if now != before:
                return bool(now == after)
            if after is None:
                self._connection.execute("DELETE FROM states WHERE name = ?", (name,))
            else:
                insert = "INSERT OR REPLACE INTO states VALUES (?, ?)"
                self._connection.execute(insert, (name, after))
            return True

        return await self._run(work)

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
        newest, trail, last = (-float("inf"), b"", "") if after is None else place_of(after)
        # One more than asked for tells whether there is a next page.
        if bucket is None:
            rows = await self._rows(_FAILURES, (newest, trail, pack(last), limit + 1))
        else:
            rows = await self._rows(_FAILURES_OF_BUCKET, (pack(bucket), newest, trail, limit + 1))
        page = rows[:limit]
        token = None
        if page and len(rows) > limit:
            newest, trail, last_packed, _ = page[-1]
            token = token_of((newest, trail, unpack(last_packed)))
        failed = [RECORD.decode(body) for *_, body in page]
        return [one for one in failed if failed_towards(one, destination)], token

    async def find(self, key: str, version_id: str) -> Trail:
        """
        Tell all that is known of a key and version id.
        """
        return await self._run(lambda: self._trails().trace(trail_id(key, version_id)))

    # ---- work sharing and upkeep ----

    async def leases(self) -> Sequence[Lease]:
        """
        Tell the lease of every shard, by shard.
        """
        rows = await self._rows("SELECT shard, owner, epoch, beat FROM leases ORDER BY shard")
        return [_lease(row) for row in rows]

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """
        Take a shard, if its lease still is the one seen.
        """

        def work() -> Lease | None:
            self._connection.execute(_CLAIM, (owner, seen.shard, seen.epoch, seen.beat))
            now = _lease(self._connection.execute(_LEASE, (seen.shard,)).fetchone())
            # Also true when the same claim was made before.
            return now if (now.owner, now.epoch) == (owner, seen.epoch + 1) else None

        return await self._run(work)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """
        Change the beat of the leases that are still held.
        """

        def work() -> list[Lease]:
            held = [one for one in leases if self._touch(_RENEW, one)]
            rows = (self._connection.execute(_LEASE, (one.shard,)).fetchone() for one in held)
            return [_lease(row) for row in rows]

        return await self._run(work)

    async def release(self, leases: Sequence[Lease]) -> None:
        """
        Give up leases that are still held.
        """
        await self._run(lambda: [self._touch(_RELEASE, one) for one in leases])

    def _touch(self, statement: str, lease: Lease) -> bool:
        if not lease.owner:
            return False
        condition = (lease.shard, lease.owner, lease.epoch)
        return self._connection.execute(statement, condition).rowcount > 0

    async def sweep(self, *, now: float) -> int:
        """
        Drop a bounded number of marks and halves past the horizon.
        """

        return await self._run(
            lambda: drop_kept(
                self._connection, written_before=now - self._horizon, most=_SWEPT_AT_ONCE
            )
        )

    # ---- moving ----

    async def export(
        self, *, after: str | None = None, limit: int = 100
    ) -> tuple[Sequence[Trail], str | None]:
        """
        Tell all trails that hold a record, a page at a time.
        """
        start = b"" if after is None else trail_of(after)

        def work() -> tuple[list[Trail], str | None]:
            values = (place(start), place(start), start, limit + 1)
            found = [trail for (trail,) in self._connection.execute(_HELD, values)]
            trails = self._trails()
            told = [trails.trace(trail) for trail in found[:limit]]
            return told, token_of_trail(found[limit - 1]) if len(found) > limit else None

        return await self._run(work)

    async def restore(
        self, trails: Sequence[Trail], contributions: Sequence[Contribution], *, now: float
    ) -> None:
        """
        Take over what another ledger exported.
        """

        def work() -> None:
            ours = self._trails()
            for trail in trails:
                ours.trace(trail.id).take_over(trail)
            ours.write(now)
            self._connection.executemany(
                _ADD_CONTRIBUTION,
                ((one.id, CONTRIBUTION.encode(one), one.id) for one in contributions),
            )

        await self._run(work)

    async def close(self) -> None:
        """
        Let go of the file.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._file.close)
        self._thread.shutdown()

    def _trails(self) -> Trails:
        return Trails(self._connection, self.shards)

    def _meta(self, name: str) -> Any:
        found = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,))
        row = found.fetchone()
        return None if row is None else row[0]

    async def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return await self._run(lambda: self._connection.execute(query, values).fetchall())


def _lease(row: tuple[int, str, int, int]) -> Lease:
    shard, owner, epoch, beat = row
    return Lease(shard=shard, owner=owner, epoch=epoch, beat=beat)
