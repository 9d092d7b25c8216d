# ruff: noqa: ASYNC240 - files are what is tested, and nothing else runs beside
"""What is peculiar to the SQLite ledger: its file, its lock, its transactions and its query plans."""

import asyncio
import contextlib
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from crrmon.adapters.stores.sqlite import file as sqlite_file
from crrmon.adapters.stores.sqlite import store as sqlite_store
from crrmon.adapters.stores.sqlite import unordered
from crrmon.adapters.stores.sqlite.store import SqliteStore
from crrmon.adapters.stores.sqlite.tables import Table
from crrmon.adapters.stores.sqlite.thread import LedgerThread
from crrmon.domain.objects import LARGEST_BYTES, Route
from crrmon.domain.outcomes import Tally, fold
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked
from crrmon.ledger.journal import Entry, entry_put
from crrmon.ports.ledger import LedgerError, UnusableLedgerError
from fakes import ledger_settler
from fakes.ledger_use import holding, pending, publish
from fakes.ledger_values import MEMBER, NOW, done, episode, failed, record, replica, whole
from fakes.ledgers import SqliteLedger

DAY = 86_400.0
RETENTION = 345_600.0
TESTS = Path(__file__).parents[1]
T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger lies."""
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    """A new ledger."""
    ledger = await SqliteLedger.at(path)
    yield ledger
    await ledger.close()


def store_of(ledger: SqliteLedger) -> SqliteStore:
    """Return the store that a ledger lies in."""
    store = ledger._store
    assert isinstance(store, SqliteStore)
    return store


async def on(ledger: SqliteLedger, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do something with the ledger's own connection, in its thread."""
    store = store_of(ledger)
    return await store._run(lambda: work(store._connection))


async def rows(ledger: SqliteLedger, query: str) -> list[Any]:
    """Ask the ledger's own connection."""
    return await on(ledger, lambda connection: connection.execute(query).fetchall())


async def counted(ledger: SqliteLedger) -> Tally:
    """Tell what was counted and not yet reported."""
    return fold(list(await ledger.deltas())).get(Route("src", "dst"), Tally())


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Tell what lies in a directory, to the byte and to the moment."""
    return {
        one.name: (one.read_bytes(), one.stat().st_mtime_ns)
        for one in directory.iterdir()
        if one.is_file()
    }


# ---- whose file it is ----


def other_database(path: Path) -> None:
    """Make somebody else's database, in WAL mode."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE leases (shard, owner)")


def newer_ledger(path: Path) -> None:
    """Make a ledger as a later version might."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {sqlite_file.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE future (what)")


def unreleased_ledger(path: Path) -> None:
    """Make a ledger as versions before the first release did."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {sqlite_file.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("CREATE TABLE records (number INTEGER PRIMARY KEY)")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (other_database, "is not a crrmon ledger"),
        (newer_ledger, "newer crrmon"),
        (unreleased_ledger, "before the first release .* remove it"),
        (lambda path: path.write_bytes(b"\x00\xff" * 5000), "is not a crrmon ledger"),
        (lambda path: path.write_text("source: bucket\n"), "is not a crrmon ledger"),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), "is not a crrmon ledger"),
    ],
    ids=["database", "newer", "unreleased", "garbage", "text", "torn"],
)
async def test_a_file_that_is_not_ours_is_refused_untouched(
    path: Path, make: Callable[[Path], object], reason: str
) -> None:
    """Byte for byte, with nothing beside it; the text says what to set."""
    make(path)
    before = contents(path.parent)

    with pytest.raises(UnusableLedgerError, match=reason) as caught:
        await SqliteLedger.at(path)

    assert str(path) in str(caught.value)
    assert "ledger.path" in str(caught.value)
    assert contents(path.parent) == before


async def test_a_newer_schema_that_only_the_log_tells_of_is_refused(path: Path) -> None:
    """A newer version may have been killed before its change reached the file itself."""
    await (await SqliteLedger.at(path)).close()
    copy = path.with_name("copy.db")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        copy.write_bytes(path.read_bytes())
        copy.with_name("copy.db-wal").write_bytes(Path(f"{path}-wal").read_bytes())

    with pytest.raises(UnusableLedgerError, match="newer crrmon"):
        await SqliteLedger.at(copy)


async def test_what_a_crash_leaves_of_a_new_file_is_used(path: Path) -> None:
    """An empty file is as good as none."""
    path.touch()

    ledger = await SqliteLedger.at(path)

    assert await ledger.park([record("k")]) == [Parked.PARKED]
    await ledger.close()


async def test_the_file_says_what_it_is(path: Path) -> None:
    """Other programs can tell it apart, and read its schema number."""
    await (await SqliteLedger.at(path)).close()

    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x6372726D,)
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_shards_are_fixed_when_the_file_is_made(path: Path) -> None:
    """Another number in the configuration changes nothing."""
    first = await SqliteLedger.at(path, shards=8)
    await first.close()

    second = await SqliteLedger.at(path, shards=3)

    assert second.shards == 8
    assert len(await second.leases()) == 8
    await second.close()


async def test_nothing_lies_beside_a_closed_ledger(path: Path) -> None:
    """One file can be copied away as it is."""
    ledger = await SqliteLedger.at(path)
    await ledger.park([record("k")])
    await ledger.close()

    assert [one.name for one in path.parent.iterdir()] == [path.name]


# ---- sums ----


@pytest.mark.parametrize("size", [2**53 - 1, LARGEST_BYTES, 2**62 + 1])
async def test_t11_sums_are_exact_however_large(path: Path, size: int) -> None:
    """T11: 2,000 objects of sizes that no float holds, in one slot: exact to the last byte on the way up and down."""
    ledger = await SqliteLedger.at(path)
    records = [replace(record(f"k{number}"), size=size - number % 7) for number in range(2000)]
    for start in range(0, 2000, 500):
        await ledger.park(records[start : start + 500])
    (slot,) = await ledger.backlog()
    assert slot.pending_objects == 2000
    assert slot.pending_bytes == sum(one.size or 0 for one in records)

    await ledger.settle("b1", [done(one, whole(one)) for one in records[1:]], now=NOW)
    (slot,) = await ledger.backlog()
    assert (slot.pending_objects, slot.pending_bytes) == (1, size)
    await ledger.settle("b2", [done(records[0], whole(records[0]))], now=NOW)
    assert await ledger.backlog() == []
    await ledger.close()


async def test_t11_a_sum_below_zero_is_never_told(ledger: SqliteLedger) -> None:
    """T11: whatever fault made it, nobody reads of less than nothing."""
    one = record("k")
    await ledger.park([one])
    (slot,) = await ledger.backlog()
    wrong = ("src", "dst", slot.written_from, (0, -1548, 0, 0))
    await store_of(ledger).write([entry_put(("wrong", 0), Entry(moved=(wrong,)))])

    assert await ledger.backlog() == [replace(slot, pending_bytes=0)]


# ---- where it lies ----


async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """With a word on what is wanted."""
    with pytest.raises(UnusableLedgerError, match="is a directory: name a file"):
        await SqliteLedger.at(tmp_path)
    with pytest.raises(UnusableLedgerError, match="is no regular file: name a file"):
        await SqliteLedger.at("/dev/null")


async def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    """Where a volume was to be mounted, a ledger beside it would be lost."""
    with pytest.raises(UnusableLedgerError, match="mount the volume"):
        await SqliteLedger.at(tmp_path / "volume" / "ledger.db")

    assert list(tmp_path.iterdir()) == []


async def test_an_unwritable_directory_is_refused() -> None:
    """Naming the setting and what to check. Not even root can make files in /proc."""
    with pytest.raises(
        UnusableLedgerError, match=r"ledger\.path .* cannot be written .* permissions"
    ):
        await SqliteLedger.at("/proc/ledger.db")


async def test_a_network_filesystem_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 1: neither locks nor syncs can be relied on there. Nothing is made."""
    mounts = path.with_name("mountinfo")
    mounts.write_text(
        "22 27 0:21 / / rw - ext4 /dev/vda rw\n"
        f"23 22 0:45 / {path.parent.resolve()} rw shared:1 - nfs4 10.0.0.1:/export rw,hard\n"
    )
    monkeypatch.setattr(sqlite_file, "_MOUNTS", mounts)

    with pytest.raises(UnusableLedgerError, match=r"network filesystem \(nfs4\).*local disk"):
        await SqliteLedger.at(path)

    assert not path.exists()


async def test_a_link_to_a_network_filesystem_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is where the file really lies."""
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"23 22 0:45 / {(tmp_path / 'far').resolve()} rw - cifs //host/share rw\n")
    monkeypatch.setattr(sqlite_file, "_MOUNTS", mounts)

    with pytest.raises(UnusableLedgerError, match=r"network filesystem \(cifs\)"):
        await SqliteLedger.at(tmp_path / "near" / "ledger.db")


async def test_systems_that_do_not_tell_their_mounts_are_trusted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no /proc outside Linux."""
    monkeypatch.setattr(sqlite_file, "_MOUNTS", path.with_name("no such file"))

    await (await SqliteLedger.at(path)).close()


# ---- who has it ----

OPEN = """
import asyncio, sys
from fakes.ledgers import SqliteLedger
async def main():
    ledger = await SqliteLedger.at(sys.argv[1])
    await ledger.close()
    print("opened")
asyncio.run(main())
"""


async def run(script: str, *arguments: str) -> tuple[str, str]:
    """Run a script in a process of its own; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        *arguments,
        cwd=TESTS,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return out.decode(), err.decode()


async def test_a_second_daemon_is_refused(path: Path) -> None:
    """Invariant 1: held exclusively; the text names the file, the setting and the remedy. The first goes on."""
    ledger = await SqliteLedger.at(path)

    # NB: before the other process, for this is how the first one's POSIX locks are lost.
    with pytest.raises(UnusableLedgerError, match="in use by another process: stop that one"):
        await SqliteLedger.at(path)
    out, err = await run(OPEN, str(path))

    assert out == ""
    assert f"OccupiedLedgerError: ledger.path {path} is in use by another process" in err
    assert await ledger.park([record("k")]) == [Parked.PARKED]
    await ledger.close()
    assert await run(OPEN, str(path)) == ("opened\n", "")


async def test_a_reader_of_the_file_keeps_the_daemon_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody at a prompt has the file, too; the daemon says so, and starts when they are gone."""
    monkeypatch.setattr(sqlite_file, "_BUSY_SECONDS", 0.1)
    await (await SqliteLedger.at(path)).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM items").fetchall()
        with pytest.raises(UnusableLedgerError, match="in use by another process"):
            await SqliteLedger.at(path)

    await (await SqliteLedger.at(path)).close()


async def test_kill_9_loses_nothing_and_leaves_nothing_half_done(path: Path) -> None:
    """
    Invariants 1 and 5: whatever was told as settled is there once; the batch under way is there wholly or not at all,
    and repeated it counts exactly what is missing.
    """
    following = 0
    for word, after in (("settled", 7), ("parked", 4), ("settled", 2), ("parked", 4)):
        # NB: by then it may have gone on by any number, which the end of its output tells.
        settled = await settle_until(path, f"{word} {following + after}", first=following)
        ledger = await SqliteLedger.at(path)
        under_way = settled + 1

        ids = [one.id.partition(".")[0] for one in await ledger.deltas()]
        assert sorted(set(ids), key=ids.index) == ids
        assert ids in (
            [f"b{number}" for number in range(settled + 1)],
            [f"b{number}" for number in range(under_way + 1)],
        )
        whole = len(ids) * ledger_settler.SIZE
        assert (await counted(ledger)).completed == whole
        wanted = [one.replica_mark("dst") for one in ledger_settler.records(under_way)]
        marks = {mark is not None for mark in await ledger.seen(wanted)}
        assert marks == {f"b{under_way}" in ids}
        parked = await pending(ledger)
        assert parked == len(await ledger.due(range(64), now=NOW, limit=1000))
        assert parked in (0, ledger_settler.SIZE)

        results = await ledger.settle(
            f"b{under_way}", ledger_settler.batch(under_way), now=NOW + under_way
        )
        assert results == [[Settled.COUNTED]] * ledger_settler.SIZE
        total = (under_way + 1) * ledger_settler.SIZE
        assert (await counted(ledger)).completed == total
        assert await ledger.backlog() == []
        following = under_way + 1
        await ledger.close()


async def settle_until(path: Path, last_word: str, *, first: int) -> int:
    """
    Let a process settle until it says something, and kill it at once; return the last batch that it told as settled.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fakes.ledger_settler",
        str(path),
        str(first),
        cwd=TESTS,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    settled = first - 1
    killed = False
    while line := (await process.stdout.readline()).decode().strip():
        if line.startswith("settled"):
            settled = int(line.split()[1])
        if line == last_word:
            process.kill()
            killed = True
    await process.wait()
    assert killed
    return settled


# ---- when something is wrong ----


async def test_a_full_disk_fails_the_call_and_nothing_else(
    ledger: SqliteLedger, path: Path
) -> None:
    """
    Invariant 5: the whole batch is undone, the error names the file, and once there is room the same batch counts.
    """
    await ledger.park([record("before")])
    batch = [done(record(f"k{number}")) for number in range(500)]
    ((pages,),) = await rows(ledger, "PRAGMA page_count")
    await rows(ledger, f"PRAGMA max_page_count = {pages + 3}")

    with pytest.raises(LedgerError, match="full") as caught:
        await ledger.settle("b1", batch, now=NOW)

    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert await ledger.deltas() == []
    assert set(await ledger.seen([one.outcomes[0].mark for one in batch])) == {None}
    assert len(await ledger.due(range(64), now=NOW, limit=9)) == 1

    await rows(ledger, "PRAGMA max_page_count = 100000")
    assert await ledger.settle("b1", batch, now=NOW) == [[Settled.COUNTED]] * 500
    assert (await counted(ledger)).completed == 500


@pytest.mark.parametrize(
    "table", ["trail due", f"trail kept {int((NOW + RETENTION) // DAY)}", "items"]
)
async def test_a_call_is_done_wholly_or_not_at_all(ledger: SqliteLedger, table: str) -> None:
    """
    Invariant 5: whichever of its writes fails, no mark stands without its delta and no record goes without its
    mark; the same batch counts afterwards.
    """
    one = record("k")
    await ledger.park([one, record("other")])
    await ledger.settle("b0", [done(record("before"))], now=NOW)

    def forbid(action: int, name: str | None, *_: object) -> int:
        wrote = action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_UPDATE)
        return sqlite3.SQLITE_DENY if wrote and name == table else sqlite3.SQLITE_OK

    await on(ledger, lambda connection: connection.set_authorizer(forbid))
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        await ledger.settle("b1", [done(one)], now=NOW)
    await on(ledger, lambda connection: connection.set_authorizer(None))

    assert await ledger.seen([one.replica_mark("dst")]) == [None]
    assert len(await ledger.due(range(64), now=NOW, limit=9)) == 2
    assert await pending(ledger) == 2
    assert [found.id.partition(".")[0] for found in await ledger.deltas()] == ["b0"]
    assert await ledger.settle("b1", [done(one)], now=NOW) == [[Settled.COUNTED]]
    assert (await counted(ledger)).completed == 2


LIMITED = """
import asyncio, os, resource, sys
from fakes.ledgers import SqliteLedger
from crrmon.ledger.journal import Entry, entry_put
from crrmon.ports.ledger import FrozenWindow, LedgerError
from fakes.ledger_values import NOW, done, record
async def main():
    ledger = await SqliteLedger.at(sys.argv[1])
    batch = [done(record(f"k{number}")) for number in range(500)]
    room = os.stat(f"{sys.argv[1]}-wal").st_size + 20_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        await ledger.settle("b1", batch, now=NOW)
    except LedgerError as error:
        print("failed", sys.argv[1] in str(error), len(await ledger.deltas()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await ledger.settle("b1", batch, now=NOW)
    print("settled", sum(tally.completed for one in await ledger.deltas() for _, tally in one.tallies))
    await ledger.close()
asyncio.run(main())
"""


async def test_a_file_that_cannot_grow_fails_the_call_and_nothing_else(path: Path) -> None:
    """Invariant 5: the operating system itself refuses the write, in the middle of a transaction."""
    assert await run(LIMITED, str(path)) == ("failed True 0\nsettled 500\n", "")


async def test_a_commit_that_fails_leaves_nothing_in_memory_of_what_it_undid(
    ledger: SqliteLedger,
) -> None:
    """
    Invariant 5: SQLite rolls back by itself when the disk is full; a day's table that was made by then is not there.
    """
    store = ledger._store
    assert isinstance(store, SqliteStore)
    await ledger.park([record("parked")])

    def undone() -> None:
        # As COMMIT does on a full disk: what was begun is over before anybody is told.
        store._unordered._make(Table("trail", 99_999))
        assert Table("trail", 99_999) in store._unordered._all()
        store._connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError):
        await store._run(undone)

    await ledger.settle("b1", [done(record("new"))], now=NOW)
    assert await ledger.sweep(now=NOW) == 0
    assert len(await ledger.due(range(64), now=NOW, limit=9)) == 1


async def test_a_damaged_file_is_for_people_to_mend(path: Path) -> None:
    """Trying again would not help."""
    ledger = await SqliteLedger.at(path)
    await ledger.park([record(f"k{number}") for number in range(500)])
    await ledger.close()
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)

    with pytest.raises(UnusableLedgerError, match=r"is damaged .*malformed.* restore"):
        await SqliteLedger.at(path)


async def test_damage_found_at_work_ends_the_work(path: Path) -> None:
    """The same where only a part is damaged that is read later."""
    ledger = await SqliteLedger.at(path)
    await ledger.park([record(f"k{number}") for number in range(500)])
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'trail due by due'"
    ((root,),) = await rows(ledger, query)
    await ledger.close()
    damaged = bytearray(path.read_bytes())
    damaged[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
    path.write_bytes(damaged)

    ledger = await SqliteLedger.at(path)
    with pytest.raises(UnusableLedgerError, match="is damaged"):
        await ledger.due(range(64), now=NOW, limit=9)
    await ledger.close()


async def test_a_call_that_is_given_up_leaves_the_ledger_working(ledger: SqliteLedger) -> None:
    """A cancelled settle is done or not; repeated, it counts once."""
    batch = [done(record(f"k{number}")) for number in range(500)]
    task = asyncio.create_task(ledger.settle("b1", batch, now=NOW))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await ledger.settle("b1", batch, now=NOW) == [[Settled.COUNTED]] * 500
    assert (await counted(ledger)).completed == 500


# ---- how much work it is ----


async def watched(ledger: SqliteLedger, record_count: int) -> set[str]:
    """Do each kind of steady work once on a ledger with records; return the statements it took."""
    await ledger.park(
        [record(f"p{number}", next_look_at=NOW + number) for number in range(record_count)]
    )
    await ledger.park([failed(f"f{number}", at=NOW + number) for number in range(record_count)])
    for day in range(3):
        one = record(f"old{day}")
        await ledger.settle(f"old{day}", [done(one), done(one, episode(one))], now=NOW - day * DAY)
    statements: set[str] = set()
    await on(ledger, lambda connection: connection.set_trace_callback(statements.add))

    (due, *_) = await ledger.due(range(64), now=NOW + 5, limit=5)
    await ledger.seen([due.replica_mark("dst"), record("old0").replica_mark("dst")])
    await ledger.park([record("new"), due])
    await ledger.reschedule([due])
    await ledger.note([replica("half", at=NOW), replica(due.version.key, at=NOW)], now=NOW)
    await ledger.settle("b1", [done(due), done(record("new")), done(record("unparked"))], now=NOW)
    _, after = await ledger.failures(limit=2)
    await ledger.failures(after=after, limit=2)
    _, after = await ledger.failures(bucket="src", limit=2)
    await ledger.failures(bucket="src", after=after, limit=2)
    await ledger.find("old0", "v1")
    await ledger.export(after=(await ledger.export(limit=2))[1], limit=2)
    await ledger.announce(MEMBER)
    await ledger.members()
    await ledger.dismiss(MEMBER)
    await ledger.swap("a", None, b"b")
    await ledger.swap("a", b"b", None)
    await ledger.states("a")
    await ledger.remember_routes([Route("src", "dst")])
    await ledger.known_routes()
    await ledger.renew(await ledger.leases())
    await freeze_all(ledger)
    await ledger.sweep(now=NOW)

    await on(ledger, lambda connection: connection.set_trace_callback(None))
    return statements


async def freeze_all(ledger: SqliteLedger) -> None:
    """Freeze a window of all that was counted, send it, and read what is left."""
    lease = await holding(ledger)
    await publish(ledger, lease, NOW)
    await ledger.frozen()
    await ledger.forget(NOW, 0, lease=lease)
    await ledger.last_frozen()
    await ledger.backlog()


async def plans_of(ledger: SqliteLedger, statements: Iterable[str]) -> dict[str, list[str]]:
    """Ask how statements are carried out."""
    plans: dict[str, list[str]] = {}
    for statement in statements:
        if statement.split()[0] in {"SELECT", "UPDATE", "DELETE", "INSERT"}:
            readable = statement.replace("-Inf", "-9e999")
            steps = await rows(ledger, f"EXPLAIN QUERY PLAN {readable}")
            plans[statement] = [step[3] for step in steps]
    return plans


FEW = re.compile(r"SCAN (sqlite_master|wanted VIRTUAL TABLE INDEX 1:)")
"""
The table of tables has a row for each of the few of them; what is asked for is the outer loop of a join, as it should.
"""


def scans(plan: Iterable[str]) -> list[str]:
    """Return the steps of a plan that take the longer the more there is."""
    return [
        one for one in plan if ("SCAN" in one or "TEMP B-TREE" in one) and not FEW.fullmatch(one)
    ]


async def test_no_steady_work_scans_a_table(ledger: SqliteLedger) -> None:
    """Invariant 6, D29: every statement of all steady work goes by a key or an index, and none sorts."""
    plans = await plans_of(ledger, await watched(ledger, 50))

    assert len([plan for plan in plans.values() if plan]) > 30
    for statement, plan in plans.items():
        assert scans(plan) == [], statement
        # What is asked for is looked up, not looked for: nothing of ours is the outer loop.
        assert [step for step in plan[1:] if FEW.fullmatch(step)] == [], statement


async def test_sweeping_scans_only_what_it_drops(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 6: what expires one by one goes by an index, and a day that is over in the order of its rows."""
    monkeypatch.setattr(sqlite_store, "_EXPIRED_AT_ONCE", 10)
    await ledger.settle("b", [done(record(f"k{number}")) for number in range(25)], now=NOW)
    await freeze_all(ledger)
    statements: set[str] = set()
    await on(ledger, lambda connection: connection.set_trace_callback(statements.add))
    assert await ledger.sweep(now=NOW + 30 * DAY) == 11, "ten marks and what is left of a window"
    await on(ledger, lambda connection: connection.set_trace_callback(None))

    plans = await plans_of(ledger, statements)
    found = {one for plan in plans.values() for one in scans(plan)}
    assert found == {f"SCAN trail over {int((NOW + RETENTION) // DAY)}"}


async def test_work_does_not_grow_with_what_is_pending(tmp_path: Path) -> None:
    """Invariant 6: SQLite takes as many steps for the same work with 100 records as with 4,000."""
    taken = []
    for number in (100, 4000):
        ledger = await SqliteLedger.at(tmp_path / f"{number}.db")
        records = [record(f"k{at}", next_look_at=NOW - at) for at in range(number)]
        await ledger.park([*records, *(failed(f"f{at}") for at in range(number))])
        taken.append(await steps_of_work(ledger, records[-3:]))
        await ledger.close()

    few, many = taken
    assert many == pytest.approx(few, rel=0.1)


async def steps_of_work(ledger: SqliteLedger, records: list[Record]) -> int:
    """Look for what is due, change it, settle it, and list failures; return the steps of SQLite's machine."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    await on(ledger, lambda connection: connection.set_progress_handler(step, 1))
    due = await ledger.due(range(64), now=NOW, limit=3)
    assert sorted(one.version for one in due) == sorted(one.version for one in records)
    assert await ledger.due(range(64), now=NOW - DAY, limit=3) == []
    await ledger.seen([one.replica_mark("dst") for one in due])
    await ledger.reschedule(due)
    await ledger.settle("b1", [done(one) for one in due], now=NOW)
    await ledger.park(records)
    await ledger.failures(limit=3)
    await on(ledger, lambda connection: connection.set_progress_handler(None, 1))
    return steps


async def test_sweeping_goes_in_portions_and_takes_the_tables_along(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D26: no call takes long, and in the end nothing is left of the days that are over."""
    monkeypatch.setattr(sqlite_store, "_EXPIRED_AT_ONCE", 10)
    for day in range(3):
        batch = [done(record(f"k{day}.{number}")) for number in range(25)]
        await ledger.settle(f"b{day}", batch, now=NOW + day * DAY)

    portions = []
    while dropped := await ledger.sweep(now=NOW + 30 * DAY):
        portions.append(dropped)

    assert sum(portions) == 75
    assert max(portions) <= 11
    assert await tables_of_days(ledger) == []


async def tables_of_days(ledger: SqliteLedger) -> list[str]:
    """Tell the tables that hold marks and early facts, and their indexes."""
    query = "SELECT name FROM sqlite_master WHERE name GLOB '* [0-9]*'"
    return [name for (name,) in await rows(ledger, query)]


async def test_a_clock_that_was_ahead_for_a_while_harms_nothing(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day that is being dropped and is written to again is two tables, and both go in the end."""
    monkeypatch.setattr(sqlite_store, "_EXPIRED_AT_ONCE", 10)
    await ledger.settle("b1", [done(record(f"k{at}")) for at in range(25)], now=NOW)
    assert await ledger.sweep(now=NOW + 30 * DAY) == 10

    await ledger.settle("b2", [done(record("again"))], now=NOW)
    assert await ledger.seen([record("again").replica_mark("dst")]) != [None]
    portions = []
    while dropped := await ledger.sweep(now=NOW + 30 * DAY):
        portions.append(dropped)

    assert portions == [10, 6]
    assert await tables_of_days(ledger) == []


async def test_two_trails_may_share_a_place(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 2: indexes hold a part of the digest; what decides is all of it."""
    monkeypatch.setattr(unordered, "place", lambda _: 7)
    one, other = record("one"), record("other", size=3)
    await ledger.park([one, other])

    assert await ledger.settle("b1", [done(one)], now=NOW) == [[Settled.COUNTED]]
    assert await ledger.park([one, other, record("third")]) == [
        Parked.SETTLED,
        Parked.PARKED,
        Parked.PARKED,
    ]
    assert await ledger.settle("b2", [done(one), done(other)], now=NOW) == [
        [Settled.DUPLICATE],
        [Settled.COUNTED],
    ]
    (left,) = await ledger.due(range(64), now=NOW, limit=9)
    assert left.version.key == "third"


async def test_every_commit_is_synced_and_memory_is_bounded(ledger: SqliteLedger) -> None:
    """Invariants 1 and 7: the settings that these rest on are in force."""

    names = ("synchronous", "journal_mode", "locking_mode", "cache_size", "mmap_size")
    told = [(await rows(ledger, f"PRAGMA {name}"))[0][0] for name in names]

    assert told == [2, "wal", "exclusive", -32768, 0]


async def test_who_stops_waiting_stops_nobody_else(ledger: SqliteLedger) -> None:
    """What a cancelled caller asked for is finished in the thread, and what others asked for is done and told."""
    first = asyncio.create_task(ledger.park([record("k1")]))
    await asyncio.sleep(0)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first

    assert await asyncio.wait_for(ledger.park([record("k2")]), timeout=60) == [Parked.PARKED]


async def test_what_fails_in_the_thread_is_raised_where_it_was_asked_for() -> None:
    """And the thread goes on."""
    thread = LedgerThread()

    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: 1) == 1
    thread.stop()
