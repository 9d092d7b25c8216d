# ruff: noqa: S608 - only names of our own tables go into statements
"""Records, marks and halves in the SQLite ledger, as one transaction reads and writes them.

All that is known of a trail lies side by side under its digest, so that one lookup brings it in: its records, and the
marks and halves of every day that is still kept. These have a table for each day, by the time they were written, so
that old ones go a table at a time. Records are put in step with the backlog, which is kept as sums in a table of its
own: telling it lists nothing.
"""

import math
import sqlite3
from collections import defaultdict
from typing import Final

from crrmon.adapters.ledgers.stored import HALF, MARK, RECORD, pack, unpack
from crrmon.adapters.ledgers.traces import Trace, failed_at, share
from crrmon.domain.objects import Route, shard_of
from crrmon.domain.records import Record

DAY_SECONDS: Final = 86_400

_RECORD, _MARK, _HALF = range(3)
"""Kinds of what lies on a trail; in the tables of the days, a half is told from a mark by 1 against 0."""

_PUT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)"
_DROP = "DELETE FROM records WHERE trail = ? AND bucket = ?"
_ADD_BACKLOG = """
INSERT INTO backlog VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    pending_objects = pending_objects + excluded.pending_objects,
    pending_bytes = pending_bytes + excluded.pending_bytes,
    failed_objects = failed_objects + excluded.failed_objects,
    failed_bytes = failed_bytes + excluded.failed_bytes
"""
_DROP_BACKLOG = """
DELETE FROM backlog WHERE source = ? AND destination = ? AND written_from = ?
AND pending_objects = 0 AND pending_bytes = 0 AND failed_objects = 0 AND failed_bytes = 0
"""


class Trails:
    """
    The trails that one transaction touches: read when first asked for, written back where they changed.
    """

    def __init__(self, connection: sqlite3.Connection, shards: int) -> None:
        self._connection = connection
        self._shards = shards
        self._now: dict[bytes, Trace] = {}
        self._before: dict[bytes, Trace] = {}
        records = f"SELECT {_RECORD}, bucket, body FROM records WHERE trail = ?1"
        kept = (
            f"SELECT {_MARK} + half, slot, body FROM {_table(day)} WHERE trail = ?1"
            for day in _days(connection)
        )
        self._lookup = " UNION ALL ".join((records, *kept))

    def trace(self, trail: bytes) -> Trace:
        """
        Return what is known of a trail; it may be changed.
        """
        if trail not in self._now:
            self._now[trail] = self._read(trail)
            self._before[trail] = self._now[trail].copy()
        return self._now[trail]

    def _read(self, trail: bytes) -> Trace:
        trace = Trace()
        for kind, packed, body in self._connection.execute(self._lookup, (trail,)):
            name = unpack(packed)
            if kind == _RECORD:
                trace.records[name] = RECORD.decode(body)
            elif kind == _MARK:
                trace.marks[name] = MARK.decode(body)
            else:
                half = HALF.decode(body)
                # Of one noted again on another day, the earliest event stands.
                other = trace.halves.setdefault(name, half)
                trace.halves[name] = min(half, other, key=lambda one: one.replicated_at)
        for name in trace.halves.keys() & trace.marks.keys():
            del trace.halves[name]
        return trace

    def write(self, now: float | None = None) -> None:
        """
        Write what changed.

        Args:
            now: decides on which day marks and halves are kept; needed if there are new ones.
        """
        backlog = _Backlog()
        put, dropped = [], []
        for trail, trace in self._now.items():
            before = self._before[trail].records
            for bucket, record in trace.records.items():
                if record is not before.get(bucket):
                    put.append(self._row(trail, record))
                    backlog.add(record)
            for bucket, record in before.items():
                if record is not trace.records.get(bucket):
                    backlog.remove(record)
                if bucket not in trace.records:
                    dropped.append((trail, pack(bucket)))
        self._connection.executemany(_DROP, dropped)
        self._connection.executemany(_PUT, put)
        backlog.write(self._connection)
        self._write_kept(now)

    def _row(self, trail: bytes, record: Record) -> tuple[object, ...]:
        failed = failed_at(record)
        return (
            trail,
            pack(record.version.bucket),
            shard_of(trail, self._shards),
            record.next_look_at,
            None if failed is None else -failed,
            RECORD.encode(record),
        )

    def _write_kept(self, now: float | None) -> None:
        rows = []
        for trail, trace in self._now.items():
            before = self._before[trail]
            for slot, mark in trace.marks.items():
                if slot not in before.marks:
                    rows.append((trail, pack(slot), 0, MARK.encode(mark)))
            for slot, half in trace.halves.items():
                if half is not before.halves.get(slot):
                    rows.append((trail, pack(slot), 1, HALF.encode(half)))
        if not rows:
            return
        assert now is not None  # noqa: S101 - a mistake of the caller
        name = _table(math.floor(now / DAY_SECONDS))
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {name} (trail BLOB NOT NULL, slot BLOB NOT NULL, half INTEGER NOT NULL,"
            " body BLOB NOT NULL, PRIMARY KEY (trail, slot)) WITHOUT ROWID"
        )
        self._connection.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?, ?, ?, ?)", rows)


class _Backlog:
    """
    How the backlog changes in one transaction.
    """

    def __init__(self) -> None:
        self._changes: dict[tuple[Route, float], list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def add(self, record: Record) -> None:
        """
        Count a record.
        """
        self._change(record, sign=1)

    def remove(self, record: Record) -> None:
        """
        Count a record no more.
        """
        self._change(record, sign=-1)

    def _change(self, record: Record, *, sign: int) -> None:
        amounts, slots = share(record)
        for slot in slots:
            change = self._changes[slot]
            for place, amount in enumerate(amounts):
                change[place] += sign * amount

    def write(self, connection: sqlite3.Connection) -> None:
        """
        Add the changes to the sums; those that end at nothing are taken out.
        """
        rows = [
            (pack(route.source), pack(route.destination), written_from, *change)
            for (route, written_from), change in self._changes.items()
            if any(change)
        ]
        connection.executemany(_ADD_BACKLOG, rows)
        connection.executemany(_DROP_BACKLOG, (row[:3] for row in rows))


def drop_kept(connection: sqlite3.Connection, *, written_before: float, most: int) -> int:
    """
    Drop some of the marks and halves of days that are over.

    Args:
        connection: to the ledger.
        written_before: up to here nothing is needed any more.
        most: about how many to drop.

    Returns:
        How many were dropped.
    """
    dropped = 0
    for day in _days(connection):
        if (day + 1) * DAY_SECONDS <= written_before and dropped < most:
            dropped += _drop_first(connection, _table(day), most - dropped)
    return dropped


def _drop_first(connection: sqlite3.Connection, name: str, most: int) -> int:
    """
    Drop the first rows of a table, or the table when no more are left.
    """
    # NB: dropping a full table would write to all its pages in one go.
    found = connection.execute(
        f"SELECT trail FROM {name} ORDER BY trail LIMIT 1 OFFSET ?", (most,)
    )
    edge = found.fetchone()
    if edge is not None:
        return connection.execute(f"DELETE FROM {name} WHERE trail <= ?", edge).rowcount
    (rows,) = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
    connection.execute(f"DROP TABLE {name}")
    return int(rows)


def _days(connection: sqlite3.Connection) -> list[int]:
    """
    Tell the days since the epoch that have a table, oldest first.
    """
    rows = connection.execute("SELECT name FROM sqlite_master WHERE name GLOB 'kept *'")
    return sorted(int(name.removeprefix("kept ")) for (name,) in rows)


def _table(day: int) -> str:
    """
    Name the table of marks and halves of a day, quoted.
    """
    return f'"kept {day}"'
