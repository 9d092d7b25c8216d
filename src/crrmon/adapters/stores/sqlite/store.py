"""Implements the store in one SQLite file: one process, one thread, one transaction and one sync for each write."""

import heapq
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeVar

from crrmon.adapters.stores.sqlite.file import LedgerFile, translated
from crrmon.adapters.stores.sqlite.ordered import OrderedItems
from crrmon.adapters.stores.sqlite.thread import LedgerThread
from crrmon.adapters.stores.sqlite.unordered import UnorderedItems
from crrmon.ports.ledger import Pace
from crrmon.ports.store import (
    WHOLE,
    Action,
    ConflictError,
    Delete,
    Due,
    Found,
    ItemKind,
    Key,
    Limits,
    Put,
    Span,
    Tag,
)

_EXPIRED_AT_ONCE: Final = 20_000

T = TypeVar("T")


class SqliteStore:
    """Implements the `Store` port."""

    exclusive = True
    """The file is locked."""
    limits = Limits(items=500)
    pace = Pace(size=500, linger=0.1, lanes=1)
    """
    A commit and its sync cost 0.4 ms of CPU time however little is in it, and each item in it 0.02: waiting makes calls of two
    dozen at 250 objects a second. One call at a time, for one at a time is all a file takes.
    """

    def __init__(self, file: LedgerFile, thread: LedgerThread) -> None:
        self.name = f"ledger.path {file.path}"
        self._file = file
        self._connection = file.connection
        self._thread = thread
        self._ordered = OrderedItems(file.connection)
        self._unordered = UnorderedItems(file.connection)

    @classmethod
    async def open(cls, path: Path | str) -> Self:
        """Open a ledger's file, or make one, and hold it until `close` or the end of the process.

        Args:
            path: the file, on a local filesystem.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help.
        """
        # NB: a connection belongs to the thread that opened it.
        thread = LedgerThread()
        try:
            file = await thread.run(lambda: LedgerFile.open(Path(path)))
        except BaseException:
            thread.stop()
            raise
        return cls(file, thread)

    async def _run(self, work: Callable[[], T]) -> T:
        """Do something in the store's thread and in one transaction, committed when this returns."""
        return await self._thread.run(lambda: self._guarded(work))

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
        except BaseException:
            # SQLite itself rolls back on some errors, such as a full disk; the connection can be used again in any case.
            self._unordered.forget()
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        return result

    def where(self, key: Key) -> str:
        """Name an item for people."""
        return f"{key.kind.name} x'{key.sort.hex()}' of {self.name}"

    def tag_of(self, body: bytes) -> Tag:
        """Return the tag of a body: itself."""
        return Tag(body)

    # ---- reading ----

    async def get(self, keys: Sequence[Key]) -> Sequence[Found]:
        """Read items."""
        by_kind: dict[ItemKind, list[Key]] = defaultdict(list)
        for key in keys:
            by_kind[key.kind].append(key)

        def work() -> list[Found]:
            found: list[Found] = []
            for kind, some in by_kind.items():
                found += (
                    self._ordered.get(some) if kind.ordered else self._unordered.get(kind, some)
                )
            return found

        return await self._run(work)

    async def scan(
        self,
        kind: ItemKind,
        groups: Sequence[int],  # noqa: ARG002 - all are in one table
        span: Span = WHOLE,
    ) -> Sequence[Found]:
        """Read items of an ordered kind, in the order of their sort keys."""
        return await self._run(lambda: self._ordered.scan(kind, span))

    # ---- writing ----

    async def write(self, actions: Sequence[Action]) -> None:
        """Do all of it or nothing."""
        await self._run(lambda: self._write(actions))

    async def write_each(self, actions: Sequence[Put | Delete]) -> None:
        """Do unconditional actions, all at once."""
        if actions:
            await self.write(actions)

    def _write(self, actions: Sequence[Action]) -> None:
        ordered: list[tuple[int, Action]] = []
        others: dict[ItemKind, list[tuple[int, Action]]] = defaultdict(list)
        for place, action in enumerate(actions):
            kind = action.key.kind
            (ordered if kind.ordered else others[kind]).append((place, action))
        conflicts = self._ordered.write(ordered)
        for kind, some in others.items():
            conflicts += self._unordered.write(kind, some)
        if conflicts:
            raise ConflictError(conflicts)

    # ---- time ----

    async def due(
        self, kind: ItemKind, groups: Sequence[int], *, until: float, limit: int
    ) -> Sequence[Due]:
        """Find unordered items that are due, the longest due first."""
        return await self._run(lambda: self._due(kind, groups, until, limit))

    def _due(self, kind: ItemKind, groups: Sequence[int], until: float, limit: int) -> list[Due]:
        # Each group's share comes sorted from the index; merging takes no more of each than it needs.
        cursors = self._unordered.due(kind, groups, until)
        try:
            rows = list(islice(heapq.merge(*cursors), limit))
        finally:
            # NB: no cursor may leave this thread: where it is dropped, it touches a statement that is in use here.
            for cursor in cursors:
                cursor.close()
        items = self._unordered.items(kind, [number for _, number in rows])
        return [Due(at, *items[number]) for at, number in rows]

    async def walk(
        self, kind: ItemKind, group: int, *, after: Due | None, limit: int
    ) -> Sequence[Due]:
        """Go through all items of a group that are due at whatever time."""
        return await self._run(lambda: self._unordered.walk(kind, group, after, limit))

    async def expire(
        self,
        kind: ItemKind,
        groups: Sequence[int],  # noqa: ARG002 - all are in one table
        *,
        now: float,
    ) -> int:
        """Drop a bounded number of items of a kind that have expired."""
        items = self._ordered if kind.ordered else self._unordered
        return await self._run(lambda: items.expire(kind, now=now, most=_EXPIRED_AT_ONCE))

    async def close(self) -> None:
        """Release the file."""
        await self._thread.run(self._file.close)
        self._thread.stop()
