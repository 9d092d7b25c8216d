"""Opening the SQLite ledger's file: only one of ours, by one daemon at a time, where it is safe.

A file that is not ours is found out by its first bytes, before SQLite opens it, so that it stays as it is and nothing
appears beside it. Daemons keep each other out by a lock on the file (flock(2)), which ends with the process, however
that ends. SQLite's own exclusive lock keeps everybody else out; alone it would not do, for it is lost as soon as any
part of the same process opens the file once more and closes it (POSIX locks). While a daemon runs, nobody else can
read the file: running daemons answer questions over HTTP.
"""

import fcntl
import os
import sqlite3
import struct
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from crrmon.adapters.stores.sqlite.filesystems import filesystem_of, is_remote
from crrmon.adapters.stores.sqlite.ordered import SCHEMA
from crrmon.ports.ledger import LedgerError, OccupiedLedgerError, UnusableLedgerError

APPLICATION_ID: Final = int.from_bytes(b"crrm", "big")
SCHEMA_NUMBER: Final = 2

_MAGIC = b"SQLite format 3\0"
_HEADER = struct.Struct(">60xi4xi")
"""User version and application id; https://sqlite.org/fileformat.html"""
_HEADER_SIZE = 100
_MOUNTS = Path("/proc/self/mountinfo")
_BUSY_SECONDS = 2.0
"""How long to wait for somebody who is only making a copy of the file."""

_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY,
    }
)  # fmt: skip
"""Trouble of the machine, not of the program: it may pass."""

_PRAGMAS = (
    # A commit is on the disk when it returns.
    "synchronous = FULL",
    # The whole of SQLite's memory: a million parked records must not be felt.
    "cache_size = -32768",
    "mmap_size = 0",
    # Containers may have no place for temporary files; ours are tiny.
    "temp_store = MEMORY",
    # 64 MiB: pages that change often are copied back once in a while, not every few batches.
    "wal_autocheckpoint = 16384",
    "journal_size_limit = 134217728",
    # Some systems' builds overwrite whatever is deleted, which doubles the writing.
    "secure_delete = OFF",
)


class LedgerFile:
    """A ledger's file, open and locked.

    Args:
        path: where it lies.
        connection: in autocommit mode, to be used by the thread that opened it alone.
        lock: the descriptor that holds the lock.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        self.path = path
        self.connection = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a ledger's file, or make one.

        Args:
            path: the file.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help.
        """
        _check_place(path)
        lock = _lock(path)
        try:
            _check_header(path, os.pread(lock, _HEADER_SIZE, 0))
            return cls(path, _connect(path), lock)
        except sqlite3.Error as error:
            os.close(lock)
            raise _refusal(path, error) from error
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Release the file."""
        self.connection.close()
        os.close(self._lock)


def translated(path: Path, error: sqlite3.Error) -> LedgerError | UnusableLedgerError | None:
    """Say what an error at work means; None where it is a mistake of ours, which trying again would only hide."""
    match _code(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return UnusableLedgerError(
                f"ledger.path {path} is damaged ({error}): keep a copy, then restore a backup or recover it with"
                " sqlite3's .recover"
            )
        case code if code in _PASSING:
            return LedgerError(f"ledger.path {path}: {error}")
        case _:
            return None


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS, cached_statements=256
    )
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # The lock is taken here; from now on nobody can change the file beneath our hands.
        connection.execute("BEGIN EXCLUSIVE")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            _make(connection)
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        _check_schema(path, schema)
        connection.execute("COMMIT")
        # NB: not before the file says what it is, or a crash in between would leave one that says nothing.
        connection.execute("PRAGMA journal_mode = WAL")
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_NUMBER}")


def _check_place(path: Path) -> None:
    directory = path.absolute().parent
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    if path.exists() and not path.is_file():
        what = "a directory" if path.is_dir() else "no regular file"
        raise UnusableLedgerError(f"ledger.path {path} is {what}: name a file, such as ledger.db")
    if not directory.is_dir():
        # Not made on the way: where a volume was to be mounted, the ledger would land beside it and be lost.
        raise UnusableLedgerError(
            f"ledger.path {path}: there is no directory {directory}: make it, or mount the volume"
        )
    try:
        mounts = _MOUNTS.read_text()
    except OSError:
        return  # not Linux: nobody to ask
    kind = filesystem_of(str(path.resolve().parent), mounts)
    if kind is not None and is_remote(kind):
        raise UnusableLedgerError(
            f"ledger.path {path} lies on a network filesystem ({kind}), where neither locks nor syncs can be relied on:"
            " put it on a local disk or block volume, or choose another ledger.kind"
        )


def _lock(path: Path) -> int:
    """Open a file, or make an empty one, and keep all other daemons out of it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise _in_use(path) from error
        raise UnusableLedgerError(
            f"ledger.path {path} lies on a filesystem without locks ({error.strerror}): choose another"
        ) from error
    return lock


def _check_header(path: Path, header: bytes) -> None:
    if not header:
        return  # new, or what a crash left of a new one
    if not header.startswith(_MAGIC) or len(header) < _HEADER_SIZE:
        raise _foreign(path)
    schema, application = _HEADER.unpack_from(header)
    if application != APPLICATION_ID:
        raise _foreign(path)
    _check_schema(path, schema)


def _check_schema(path: Path, schema: int) -> None:
    if schema > SCHEMA_NUMBER:
        raise UnusableLedgerError(
            f"ledger.path {path} was written by a newer crrmon (schema {schema}; this one knows {SCHEMA_NUMBER}):"
            " run that version, or set ledger.path to another file"
        )
    if schema < SCHEMA_NUMBER:
        raise UnusableLedgerError(
            f"ledger.path {path} was written by a crrmon of before the first release (schema {schema}; this one knows"
            f" {SCHEMA_NUMBER}): remove it, or set ledger.path to another file"
        )


def _foreign(path: Path) -> UnusableLedgerError:
    return UnusableLedgerError(
        f"ledger.path {path} is not a crrmon ledger, and was not touched: set ledger.path to another file"
    )


def _in_use(path: Path) -> OccupiedLedgerError:
    return OccupiedLedgerError(
        f"ledger.path {path} is in use by another process: stop that one, or set ledger.path to another file"
    )


def _unwritable(path: Path, reason: object) -> UnusableLedgerError:
    return UnusableLedgerError(
        f"ledger.path {path} cannot be written ({reason}): check owner and permissions of the file and its directory,"
        " and that the volume is not mounted read-only"
    )


def _refusal(path: Path, error: sqlite3.Error) -> LedgerError | UnusableLedgerError:
    """Say what an error while opening means."""
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _in_use(path)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _unwritable(path, error)
        case _:
            refusal = translated(path, error)
            return (
                UnusableLedgerError(f"ledger.path {path}: {error}") if refusal is None else refusal
            )


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for what Python's module says by itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
