"""Ordered items in the SQLite store: one table, clustered by kind and sort key. They are few."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from crrmon.ports.store import ABSENT, ANY, Action, Found, Guard, ItemKind, Key, Put, Span, Tag

SCHEMA: Final = """
CREATE TABLE items (kind TEXT NOT NULL, sort BLOB NOT NULL, grp INTEGER NOT NULL, expires_at REAL, body BLOB NOT NULL,
PRIMARY KEY (kind, sort)) WITHOUT ROWID;
CREATE INDEX items_by_expiry ON items (kind, expires_at) WHERE expires_at IS NOT NULL
"""
_GET: Final = "SELECT body FROM items WHERE kind = ? AND sort = ?"
_SCAN: Final = "SELECT sort, grp, body FROM items WHERE kind = ? AND sort >= ?"
_PUT: Final = (
    "INSERT OR REPLACE INTO items (kind, sort, grp, expires_at, body) VALUES (?, ?, ?, ?, ?)"
)
_DELETE: Final = "DELETE FROM items WHERE kind = ? AND sort = ?"
_EXPIRE: Final = """
DELETE FROM items WHERE kind = ?1 AND sort IN
(SELECT sort FROM items WHERE kind = ?1 AND expires_at IS NOT NULL AND expires_at <= ?2 ORDER BY expires_at LIMIT ?3)
"""


class OrderedItems:
    """The items of ordered kinds in a database; whoever calls has started a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, keys: Sequence[Key]) -> list[Found]:
        """Read items."""
        found = ((key, self._body(key)) for key in keys)
        return [Found(key, body, Tag(body)) for key, body in found if body is not None]

    def _body(self, key: Key) -> bytes | None:
        row = self._connection.execute(_GET, (key.kind.name, key.sort)).fetchone()
        return None if row is None else row[0]

    def scan(self, kind: ItemKind, span: Span) -> list[Found]:
        """Read items in the order of their sort keys."""
        query, values = _SCAN, [kind.name, span.low]
        if span.high is not None:
            query, values = f"{query} AND sort < ?", [*values, span.high]
        query += " ORDER BY sort DESC LIMIT ?" if span.reverse else " ORDER BY sort LIMIT ?"
        limit = -1 if span.limit is None else span.limit
        rows = self._connection.execute(query, (*values, limit))
        return [Found(Key(kind, group, sort), body, Tag(body)) for sort, group, body in rows]

    def write(self, actions: Sequence[tuple[int, Action]]) -> list[int]:
        """Carry out actions, if all items are what they were.

        Args:
            actions: each with its place among others.

        Returns:
            The places of those whose items are others by now: then nothing was done.
        """
        others = [at for at, one in actions if not self._holds(one)]
        if others:
            return others
        some = [one for _, one in actions if not isinstance(one, Guard)]
        puts = [one for one in some if isinstance(one, Put)]
        self._connection.executemany(
            _PUT,
            [
                (put.key.kind.name, put.key.sort, put.key.group, put.expires_at, put.body)
                for put in puts
            ],
        )
        self._connection.executemany(
            _DELETE,
            [(one.key.kind.name, one.key.sort) for one in some if not isinstance(one, Put)],
        )
        return []

    def _holds(self, action: Action) -> bool:
        if action.tag is ANY:
            return True
        body = self._body(action.key)
        return body is None if action.tag is ABSENT else body == action.tag.value

    def expire(self, kind: ItemKind, *, now: float, most: int) -> int:
        """Drop some of the items of a kind that have expired; return how many."""
        return self._connection.execute(_EXPIRE, (kind.name, now, most)).rowcount
