"""The tables of unordered items: one of those that are due, and one for each day on which others expire.

Rows lie in the order in which they came, and an index leads to each by the first bits of its digest, its `place`; how
that pays is told in `unordered`.
"""

import math
from typing import Final, NamedTuple

from crrmon.ports.store import Put

DAY_SECONDS: Final = 86_400

_OF_DUE: Final = """
CREATE TABLE {table} (number INTEGER PRIMARY KEY, place INTEGER NOT NULL, sort BLOB NOT NULL, grp INTEGER NOT NULL,
due REAL NOT NULL, body BLOB NOT NULL)
"""
_OF_A_DAY: Final = """
CREATE TABLE {table} (number INTEGER PRIMARY KEY, place INTEGER NOT NULL, sort BLOB NOT NULL, body BLOB NOT NULL)
"""


class Table(NamedTuple):
    """A table of unordered items."""

    kind: str
    day: int | None = None
    """On which its items expire; None: they are due."""
    over: bool = False
    """Whether that day is past, so that it is looked up no more and about to go."""

    @property
    def name(self) -> str:
        """Its name, quoted."""
        if self.day is None:
            return f'"{self.kind} due"'
        return f'"{self.kind} {"over" if self.over else "kept"} {self.day}"'

    def index_name(self, what: str) -> str:
        """Name one of its indexes, quoted."""
        return f'{self.name[:-1]} by {what}"'

    def ended(self, now: float) -> bool:
        """Return whether it is of a day that is over."""
        return self.day is not None and (self.day + 1) * DAY_SECONDS <= now

    @property
    def definitions(self) -> tuple[str, ...]:
        """The statements that make it."""
        name, of_due = self.name, self.day is None
        table = (_OF_DUE if of_due else _OF_A_DAY).format(table=name)
        by_place = f"CREATE INDEX {self.index_name('place')} ON {name} (place)"
        by_due = f"CREATE INDEX {self.index_name('due')} ON {name} (grp, due)"
        return (table, by_place, by_due) if of_due else (table, by_place)


def table_of(put: Put) -> Table:
    """Return the table that an item belongs into."""
    name = put.key.kind.name
    if put.due is not None:
        return Table(name)
    assert put.expires_at is not None  # noqa: S101 - an unordered item is due or expires
    return Table(name, math.floor(put.expires_at / DAY_SECONDS))


def place(sort: bytes) -> int:
    """Return what finds an item: short, so that indexes are small; two may share one."""
    return int.from_bytes(sort[:6], "big")


def table_named(name: str) -> Table | None:
    """Read the name of a table, not quoted; None for one that does not hold unordered items."""
    match name.split():
        case [kind, "due"]:
            return Table(kind)
        case [kind, ("kept" | "over") as what, day]:
            return Table(kind, int(day), over=what == "over")
        case _:
            return None
