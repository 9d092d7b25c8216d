# ruff: noqa: S608 - only names of our own tables go into statements
"""Records, marks and halves in the SQLite ledger, as one transaction reads and writes them.

Digests are random, so whatever is ordered by them is written to all over the file. Therefore rows lie in the order in
which they came, and small indexes lead to them by the first bits of the trail, their `place`: what is looked up and
written at random is a twentieth of the data, and stays in memory far longer.

Marks and halves are only ever added, to a table for each day; which of several rows counts is found out by reading:
a mark before a half, an early half before a late one. Old ones go a table at a time. Looking up a trail asks records
and all days at once.

Records are put in step with the backlog, which is kept as sums in a table of its own: telling it lists nothing.
"""

import math
import sqlite3
from typing import Final

import structlog

from crrmon.adapters.ledgers.stored import HALF, MARK, RECORD, pack, unpack
from crrmon.domain.backlog import BacklogChange
from crrmon.domain.objects import shard_of
from crrmon.domain.records import Record
from crrmon.domain.trails import Trail, failed_at

DAY_SECONDS: Final = 86_400

_RECORD, _MARK, _HALF = range(3)
"""Kinds of what lies on a trail; in the tables of the days, a half is told from a mark by 1 against 0."""

_LIVE: Final = "kept"
_OVER: Final = "over"
"""Kinds of tables of days: those that are looked up, and those that are past the horizon."""

_ADD = """
INSERT INTO records (place, trail, bucket, shard, next_look_at, newest, body) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_CHANGE = "UPDATE records SET next_look_at = ?, newest = ?, body = ? WHERE number = ?"
_DROP = "DELETE FROM records WHERE number = ?"
_BACKLOG = """
SELECT pending_objects, pending_bytes, failed_objects, failed_bytes FROM backlog
WHERE source = ? AND destination = ? AND written_from = ?
"""
_PUT_BACKLOG = "INSERT OR REPLACE INTO backlog VALUES (?, ?, ?, ?, ?, ?, ?)"
_DROP_BACKLOG = "DELETE FROM backlog WHERE source = ? AND destination = ? AND written_from = ?"
_WRONG_BACKLOG = """
SELECT count(*) FROM backlog WHERE typeof(pending_bytes) = 'real' OR typeof(failed_bytes) = 'real'
OR min(pending_objects, pending_bytes, failed_objects, failed_bytes) < 0
OR (pending_objects = 0 AND pending_bytes <> 0) OR (failed_objects = 0 AND failed_bytes <> 0)
"""
"""Sums that no records make: of floats, below zero, or bytes of no objects."""

_MOST: Final = 2**63
"""What an integer of SQLite is less than."""

log = structlog.get_logger()


class Trails:
    """
    The trails that one transaction touches: read when first asked for, written back where they changed.
    """

    def __init__(self, connection: sqlite3.Connection, shards: int) -> None:
        self._connection = connection
        self._shards = shards
        self._now: dict[bytes, Trail] = {}
        self._before: dict[bytes, Trail] = {}
        self._numbers: dict[tuple[bytes, str], int] = {}
        """Of the records that the ledger has, by trail and bucket."""
        self._added: list[tuple[object, ...]] = []
        self._changed: list[tuple[object, ...]] = []
        self._dropped: list[tuple[int]] = []
        found = "WHERE place = :place AND trail = :trail"
        records = f"SELECT {_RECORD}, number, bucket, body FROM records {found}"
        kept = (
            f"SELECT {_MARK} + half, number, slot, body FROM {_table(day)} {found}"
            for day in _days(connection, _LIVE)
        )
        self._lookup = " UNION ALL ".join((records, *kept))

    def trace(self, trail: bytes) -> Trail:
        """
        Return what is known of a trail; it may be changed.
        """
        if trail not in self._now:
            self._now[trail] = self._read(trail)
            self._before[trail] = self._now[trail].copy()
        return self._now[trail]

    def _read(self, trail: bytes) -> Trail:
        trace = Trail()
        found = self._connection.execute(self._lookup, {"place": place(trail), "trail": trail})
        for kind, number, packed, body in found:
            name = unpack(packed)
            if kind == _RECORD:
                self._numbers[trail, name] = number
                trace.records[name] = RECORD.decode(body)
            elif kind == _MARK:
                trace.marks[name] = MARK.decode(body)
            else:
                half = HALF.decode(body)
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
        backlog = BacklogChange()
        for trail, trace in self._now.items():
            before = self._before[trail].records
            for bucket in before.keys() | trace.records.keys():
                old, new = before.get(bucket), trace.records.get(bucket)
                if old is new:
                    continue
                backlog.replace(old, new)
                self._plan(trail, bucket, old, new)
        self._connection.executemany(_DROP, self._dropped)
        self._connection.executemany(_CHANGE, self._changed)
        self._connection.executemany(_ADD, self._added)
        _add_to_backlog(self._connection, backlog)
        self._write_kept(now)

    def _plan(self, trail: bytes, bucket: str, old: Record | None, new: Record | None) -> None:
        """
        Add a record that came, changed or went to what will be written.
        """
        if new is None:
            self._dropped.append((self._numbers[trail, bucket],))
            return
        failed = failed_at(new)
        values = (new.next_look_at, None if failed is None else -failed, RECORD.encode(new))
        if old is None:
            shard = shard_of(trail, self._shards)
            self._added.append((place(trail), trail, pack(bucket), shard, *values))
        else:
            self._changed.append((*values, self._numbers[trail, bucket]))

    def _write_kept(self, now: float | None) -> None:
        rows = []
        for trail, trace in self._now.items():
            before = self._before[trail]
            for slot, mark in trace.marks.items():
                if slot not in before.marks:
                    rows.append((place(trail), trail, pack(slot), 0, MARK.encode(mark)))
            for slot, half in trace.halves.items():
                if half is not before.halves.get(slot):
                    rows.append((place(trail), trail, pack(slot), 1, HALF.encode(half)))
        if not rows:
            return
        assert now is not None  # noqa: S101 - a mistake of the caller
        name = _table(math.floor(now / DAY_SECONDS))
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {name} (number INTEGER PRIMARY KEY, place INTEGER NOT NULL,"
            " trail BLOB NOT NULL, slot BLOB NOT NULL, half INTEGER NOT NULL, body BLOB NOT NULL)"
        )
        self._connection.execute(f"CREATE INDEX IF NOT EXISTS {_index(name)} ON {name} (place)")
        self._connection.executemany(
            f"INSERT INTO {name} (place, trail, slot, half, body) VALUES (?, ?, ?, ?, ?)", rows
        )


def _add_to_backlog(connection: sqlite3.Connection, change: BacklogChange) -> None:
    """
    Add to the sums of the backlog.
    """
    # NB: here, not in a statement. What does not fit into an integer becomes a float there, without a word, and is never
    # right again.
    for (route, written_from), amounts in change.sums():
        key = (pack(route.source), pack(route.destination), written_from)
        have = connection.execute(_BACKLOG, key).fetchone() or (0, 0, 0, 0)
        sums = [int(old) + more for old, more in zip(have, amounts, strict=True)]
        if any(sums):
            connection.execute(_PUT_BACKLOG, (*key, *map(_whole, sums)))
        else:
            connection.execute(_DROP_BACKLOG, key)


def _whole(number: int) -> int | bytes:
    """
    Return a number as SQLite keeps it to the last digit.
    """
    return number if -_MOST <= number < _MOST else str(number).encode()


def mend_backlog(connection: sqlite3.Connection) -> None:
    """
    Sum up the backlog anew from the records, if any of its sums cannot be right.
    """
    (wrong,) = connection.execute(_WRONG_BACKLOG).fetchone()
    if not wrong:
        return
    log.warning("backlog_summed_anew", wrong=wrong)
    change = BacklogChange()
    for (body,) in connection.execute("SELECT body FROM records"):
        change.replace(None, RECORD.decode(body))
    connection.execute("DELETE FROM backlog")
    _add_to_backlog(connection, change)


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
    for day in set(_days(connection, _LIVE)).difference(_days(connection, _OVER)):
        if (day + 1) * DAY_SECONDS <= written_before:
            name, over = _table(day), _table(day, _OVER)
            # From here on it is looked up no more, and goes in the order in which its rows lie.
            connection.execute(f"DROP INDEX {_index(name)}")
            connection.execute(f"ALTER TABLE {name} RENAME TO {over}")
    for day in _days(connection, _OVER):
        if dropped < most:
            dropped += _drop_first(connection, _table(day, _OVER), most - dropped)
    return dropped


def _drop_first(connection: sqlite3.Connection, name: str, most: int) -> int:
    """
    Drop the first rows of a table, or the table when no more are left.
    """
    # NB: dropping a full table would read all of it in one go.
    found = connection.execute(
        f"SELECT number FROM {name} ORDER BY number LIMIT 1 OFFSET ?", (most - 1,)
    )
    edge = found.fetchone()
    if edge is not None:
        return connection.execute(f"DELETE FROM {name} WHERE number <= ?", edge).rowcount
    (rows,) = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
    connection.execute(f"DROP TABLE {name}")
    return int(rows)


def place(trail: bytes) -> int:
    """
    Return what finds a trail: short, so that indexes are small; two may share one.
    """
    return int.from_bytes(trail[:6], "big")


def _days(connection: sqlite3.Connection, kind: str) -> list[int]:
    """
    Tell the days since the epoch that have a table of a kind, oldest first.
    """
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    names = (name.split() for (name,) in rows)
    return sorted(int(name[1]) for name in names if name[0] == kind)


def _table(day: int, kind: str = _LIVE) -> str:
    """
    Name the table of marks and halves of a day, quoted.
    """
    return f'"{kind} {day}"'


def _index(name: str) -> str:
    """
    Name the index of such a table, quoted.
    """
    return f'"{name[1:-1]} by place"'
