# ruff: noqa: S608 - only names of our own tables go into statements
"""Unordered items in the SQLite store: many, under random digests, and most of them to be dropped some days later.

Digests are random, so whatever is ordered by them is written to all over the file. Therefore rows lie in the order in
which they came, and small indexes lead to them by the first bits of the digest, their `place`: what is looked up and
written at random is a twentieth of the data, and stays in memory far longer.

Items that are due lie in one table, where another index finds them by when. Those that expire lie in a table for each
day, and go a table at a time. An item lies in one of these tables only.
"""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from crrmon.adapters.stores.sqlite.tables import Table, place, table_named, table_of
from crrmon.ports.store import ABSENT, Action, Due, Found, Guard, ItemKind, Key, Put, Tag

_IS: Final = "number = ? AND sort = ? AND body = ?"
"""What a row is known by to be the one that was read."""


class _ItemRow(NamedTuple):
    """Where an item lies, and what it was: the value of its tag."""

    table: Table
    number: int
    body: bytes


_RowsOfOne = list[tuple[object, ...]]
_Rows = dict[Table, _RowsOfOne]

_PORTIONS: Final = (64, 16, 4, 1)
"""Rows that are inserted by one statement."""


class UnorderedItems:
    """The items of unordered kinds in a database; whoever calls has started a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tables: list[Table] | None = None

    def forget(self) -> None:
        """Read again which tables there are, because a transaction was rolled back."""
        self._tables = None

    def _all(self) -> list[Table]:
        if self._tables is None:
            rows = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            self._tables = sorted(
                (table for (name,) in rows if (table := table_named(name)) is not None),
                key=lambda table: table.day or 0,
            )
        return self._tables

    def _in_use(self, kind: ItemKind) -> list[Table]:
        return [table for table in self._all() if table.kind == kind.name and not table.over]

    # ---- reading ----

    def get(self, kind: ItemKind, keys: Sequence[Key]) -> list[Found]:
        """Read items."""
        by_sort = {key.sort: key for key in keys}
        return [
            Found(by_sort[sort], row.body, Tag(row)) for sort, row in self._rows(kind, by_sort)
        ]

    def _rows(self, kind: ItemKind, sorts: Iterable[bytes]) -> Iterator[tuple[bytes, _ItemRow]]:
        """Find the rows of some items."""
        wanted = set(sorts)
        places = json.dumps([place(sort) for sort in wanted])
        for table in self._in_use(kind):
            # NB: a cross join is done in the order in which it is written: each place is looked up in the index.
            found = self._connection.execute(
                f"SELECT number, sort, body FROM json_each(?) AS wanted CROSS JOIN {table.name}"
                " WHERE place = wanted.value",
                (places,),
            )
            for number, sort, body in found:
                if sort in wanted:  # two may share a place
                    yield sort, _ItemRow(table, number, body)

    def due(self, kind: ItemKind, groups: Iterable[int], until: float) -> list[sqlite3.Cursor]:
        """Return what is due, for each group by itself, the longest due first: when, and the number of the row."""
        table = Table(kind.name)
        if table not in self._all():
            return []
        # Both are in the index: of a group of which nothing is taken, no row need be looked up.
        query = (
            f"SELECT due, number FROM {table.name} WHERE grp = ? AND due <= ? ORDER BY due, number"
        )
        return [self._connection.execute(query, (group, until)) for group in groups]

    def items(self, kind: ItemKind, numbers: Sequence[int]) -> dict[int, Found]:
        """Return the items of rows that are due, by their numbers."""
        if not numbers:
            return {}
        table = Table(kind.name)
        found = self._connection.execute(
            f"SELECT number, grp, sort, body FROM json_each(?) AS wanted CROSS JOIN {table.name}"
            " WHERE number = wanted.value",
            (json.dumps(numbers),),
        )
        return {
            number: Found(Key(kind, group, sort), body, Tag(_ItemRow(table, number, body)))
            for number, group, sort, body in found
        }

    def walk(self, kind: ItemKind, group: int, after: Due | None, limit: int) -> list[Due]:
        """Go through what is due in a group."""
        table = Table(kind.name)
        if table not in self._all():
            return []
        at, number = -math.inf, 0
        if after is not None:
            at = after.at
            number = next((row.number for _, row in self._rows(kind, [after.key.sort])), 0)
        found = self._connection.execute(
            f"SELECT due, sort FROM {table.name} WHERE grp = ? AND (due, number) > (?, ?)"
            " ORDER BY due, number LIMIT ?",
            (group, at, number, limit),
        )
        return [Due(due, Key(kind, group, sort)) for due, sort in found]

    # ---- writing ----

    def write(self, kind: ItemKind, actions: Sequence[tuple[int, Action]]) -> list[int]:
        """Carry out actions, if all items are what they were.

        Args:
            kind: of all items.
            actions: each with its place among others.

        Returns:
            The places of those whose items are others by now: then the transaction was started again, to do nothing in it.
        """
        new = [one.key.sort for _, one in actions if one.tag is ABSENT]
        there = {sort for sort, _ in self._rows(kind, new)} if new else set()
        wrong = any(
            self._is_other(one)
            for _, one in actions
            if isinstance(one, Guard) or self._is_gone(one)
        )
        if there or wrong or not self._carried_out([one for _, one in actions]):
            # NB: what was carried out by then would look as if others had done it.
            self._connection.rollback()
            self.forget()
            self._connection.execute("BEGIN IMMEDIATE")
            return [at for at, one in actions if one.key.sort in there or self._is_other(one)]
        return []

    def _is_gone(self, action: Action) -> bool:
        """Return whether the table of an item was dropped since it was read, for its day is over."""
        row = action.tag.value
        return isinstance(row, _ItemRow) and row.table not in self._all()

    def _carried_out(self, actions: Sequence[Action]) -> bool:
        """Carry actions out; return whether all rows were as expected."""
        gone, changed, come = _plan(actions)
        return (
            self._changed("DELETE FROM {table} WHERE " + _IS, gone)
            and self._changed("UPDATE {table} SET due = ?, body = ? WHERE " + _IS, changed)
            and self._inserted(come)
        )

    def _changed(self, statement: str, rows: _Rows) -> bool:
        """Change rows, table by table; return whether each was there as it was read."""
        return all(
            self._connection.executemany(statement.format(table=table.name), some).rowcount
            == len(some)
            for table, some in rows.items()
        )

    def _inserted(self, rows: _Rows) -> bool:
        for table, some in rows.items():
            if table not in self._all():
                self._make(table)
            columns = "place, sort, grp, due, body" if table.day is None else "place, sort, body"
            marks = ", ".join("?" for _ in columns.split())
            into = f"INSERT INTO {table.name} ({columns}) VALUES "
            for rows_at_once, part in _portions(some):
                self._connection.execute(
                    into + ", ".join([f"({marks})"] * rows_at_once),
                    list(chain.from_iterable(part)),
                )
        return True

    def _make(self, table: Table) -> None:
        for statement in table.definitions:
            self._connection.execute(statement)
        self.forget()

    def _is_other(self, action: Action) -> bool:
        row = action.tag.value
        if not isinstance(row, _ItemRow):
            return False
        if row.table not in self._all():
            return True
        found = self._connection.execute(
            f"SELECT 1 FROM {row.table.name} WHERE {_IS}", (row.number, action.key.sort, row.body)
        )
        return found.fetchone() is None

    # ---- letting go ----

    def expire(self, kind: ItemKind, *, now: float, most: int) -> int:
        """Drop some of the items of days that are over.

        Args:
            kind: of the items.
            now: days that end by then are.
            most: about how many to drop.

        Returns:
            How many were dropped.
        """
        dropped = 0
        while dropped < most:
            table = self._over(kind, now)
            if table is None:
                break
            dropped += self._drop_first(table, most - dropped)
        return dropped

    def _over(self, kind: ItemKind, now: float) -> Table | None:
        """Return a table of a day that is over, set apart."""
        # NB: first those that were before: a day that is written to once more gets another table of the same name.
        for table in self._all():
            if table.over and table.kind == kind.name:
                return table
        for table in self._in_use(kind):
            if table.ended(now):
                # From here on it is looked up no more, and goes in the order in which its rows lie.
                self._connection.execute(f"DROP INDEX {table.index_name('place')}")
                over = table._replace(over=True)
                self._connection.execute(f"ALTER TABLE {table.name} RENAME TO {over.name}")
                self.forget()
                return over
        return None

    def _drop_first(self, table: Table, most: int) -> int:
        """Drop the first rows of a table, or the table when no more are left."""
        # NB: dropping a full table would read all of it in one go.
        edge = self._connection.execute(
            f"SELECT number FROM {table.name} ORDER BY number LIMIT 1 OFFSET ?", (most - 1,)
        ).fetchone()
        if edge is not None:
            return self._connection.execute(
                f"DELETE FROM {table.name} WHERE number <= ?", edge
            ).rowcount
        (rows,) = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()
        self._connection.execute(f"DROP TABLE {table.name}")
        self.forget()
        return int(rows)


def _portions(rows: _RowsOfOne) -> Iterator[tuple[int, _RowsOfOne]]:
    """Cut rows into portions of few different sizes, each of which has a statement that is prepared once.

    With each step of a statement the loop's thread and this one hand the interpreter over to each other, so that a step
    for each row costs more than the row.
    """
    at = 0
    for size in _PORTIONS:
        while len(rows) - at >= size:
            yield size, rows[at : at + size]
            at += size


def _plan(actions: Sequence[Action]) -> tuple[_Rows, _Rows, _Rows]:
    """Return the rows to be deleted, changed and added, by table."""
    gone: _Rows = defaultdict(list)
    changed: _Rows = defaultdict(list)
    come: _Rows = defaultdict(list)
    for action in actions:
        if isinstance(action, Guard):
            continue
        sort, row = action.key.sort, action.tag.value
        target = table_of(action) if isinstance(action, Put) else None
        if isinstance(row, _ItemRow):
            known = (row.number, sort, row.body)
            if isinstance(action, Put) and target == row.table and target.day is None:
                changed[row.table].append((action.due, action.body, *known))
                continue
            gone[row.table].append(known)
        if isinstance(action, Put) and target is not None:
            if target.day is None:
                come[target].append((place(sort), sort, action.key.group, action.due, action.body))
            else:
                come[target].append((place(sort), sort, action.body))
    return gone, changed, come
