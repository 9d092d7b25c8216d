"""`crrmon ledger`: the table is made, what is pending is copied, and what goes wrong is said in a line."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from crrmon import connections
from crrmon.adapters.aws import AwsSession
from crrmon.cli import app
from crrmon.config import LedgerSettings
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Settlement
from crrmon.domain.trails import Trail
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import Ledger, LedgerError
from fakes.ledger_use import holding, window
from fakes.ledger_values import NOW, arrived, done, failed, record
from fakes.ledgers import MemoryLedger, SqliteLedger
from fakes.ministack import shared_ministack
from fakes.moto_server import moto_server
from fakes.patience import HANGS_SECONDS
from fakes.redis_server import shared_server

QUEUES = [{"url": "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"}]


def crrmon(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, ["ledger", *arguments])


def write_config(path: Path, **sections: object) -> str:
    """Write a configuration file."""
    path.write_text(yaml.safe_dump({"queues": QUEUES, **sections}))
    return str(path)


def sqlite(directory: Path, name: str) -> str:
    """Write a configuration file for a ledger in SQLite."""
    ledger = {"kind": "sqlite", "path": str(directory / f"{name}.db")}
    return write_config(directory / f"{name}.yaml", ledger=ledger)


async def _use(ledger: Ledger) -> None:
    """Work as a daemon does: three pending, one of them half done, a failure, two batches, a window."""
    two = record("two", to=("dst", "two"))
    others = [record("a", next_look_at=NOW - 1), record("b", next_look_at=NOW - 2)]
    await ledger.park([two, *others, failed("c", next_look_at=NOW - 3)])
    keep = Settlement(version=two.version, outcomes=(arrived(two),), keep=replace(two, rev=1))
    await ledger.settle("b1", [keep], now=NOW)
    await ledger.settle("b2", [done(record("settled"))], now=NOW)
    await ledger.remember_routes([Route("src", "dst"), Route("src", "two")])
    await ledger.swap("delays", None, b"{}")
    await ledger.freeze(window(300.0), lease=await holding(ledger, owner="daemon"))
    await ledger.close()


def used(path: Path) -> None:
    """Make a ledger's file that a daemon worked with."""

    async def work() -> None:
        await _use(await SqliteLedger.at(path))

    asyncio.run(work())


async def _told(path: Path) -> list[object]:
    ledger = await SqliteLedger.at(path)
    try:
        return [
            await ledger.find("two", "v1"),
            [one.version.key for one in await ledger.due(range(64), now=NOW, limit=9)],
            await ledger.failures(),
            await ledger.backlog(),
            await ledger.deltas(),
            await ledger.frozen(),
            await ledger.last_frozen(),
            await ledger.known_routes(),
        ]
    finally:
        await ledger.close()


def told(path: Path) -> list[object]:
    """Tell what a ledger's file holds."""
    return asyncio.run(_told(path))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """The configuration files of a ledger that was used, `old.db`, and of one that is to be made, `new.db`."""
    used(tmp_path / "old.db")
    return sqlite(tmp_path, "old"), sqlite(tmp_path, "new")


# ---- copy ----


def test_what_is_pending_is_copied_and_shown_in_a_table(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """The numbers go to stdout; how far it is, and what does not come along, to stderr."""
    before = told(tmp_path / "old.db")

    result = crrmon("copy", "--from", pair[0], "--to", pair[1])

    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["pending", "objects", "3"] in rows
    assert ["open", "failures", "1"] in rows
    assert ["batches", "not", "yet", "reported", "2"] in rows
    assert ["windows", "not", "yet", "sent", "1"] in rows
    assert ["routes", "2"] in rows
    assert ["small", "states", "1"] in rows
    assert "copying 5 objects" in result.stderr
    assert (
        "Not copied: the record of objects that settled before and were counted" in result.stderr
    )
    assert "ledger.dedup_retention_days" in result.stderr
    assert told(tmp_path / "new.db") == told(tmp_path / "old.db") == before


def test_the_result_can_be_had_as_json(tmp_path: Path, pair: tuple[str, str]) -> None:
    """Nothing but JSON on stdout."""
    result = crrmon("copy", "--from", pair[0], "--to", pair[1], "--output", "json")

    assert json.loads(result.stdout) == {
        "from": f"sqlite {tmp_path}/old.db",
        "to": f"sqlite {tmp_path}/new.db",
        "pending": 3,
        "failures": 1,
        "batches": 2,
        "windows": 1,
        "routes": 2,
        "states": 1,
        "differences": [],
    }


def test_a_kind_takes_its_settings_from_the_configuration_in_use(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """Whatever ledger.kind that names: the target is chosen there before the source is left."""
    ledger = {"kind": "dynamodb", "path": str(tmp_path / "old.db")}
    main = write_config(tmp_path / "main.yaml", ledger=ledger)

    result = crrmon("copy", "--from", "sqlite", "--to", pair[1], "--config", main)

    assert result.exit_code == 0, result.output
    assert told(tmp_path / "new.db") == told(tmp_path / "old.db")


def test_it_runs_as_a_process(tmp_path: Path, pair: tuple[str, str]) -> None:
    """As people and scripts call it: the exit code, and nothing on stdout but the result."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "crrmon",
            "ledger",
            "copy",
            "--from",
            "old.yaml",
            "--to",
            "new.yaml",
            "--output",
            "json",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        env={"PATH": os.environ["PATH"]},
    )

    assert json.loads(done.stdout)["differences"] == []
    assert "Traceback" not in done.stderr
    assert told(tmp_path / "new.db") == told(tmp_path / "old.db")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("memory", "--from memory: a ledger in memory ends with its daemon"),
        ("mysql", "--from mysql: is neither sqlite, redis, dynamodb nor a configuration file"),
        ("no/such.yaml", "--from no/such.yaml: is neither"),
        ("redis://:hunter2@host/0", "--from: a URL belongs in the configuration"),
    ],
)
def test_a_place_that_is_none_is_wrong_usage(pair: tuple[str, str], where: str, said: str) -> None:
    """It is said what a place is; a password that was typed all the same is not repeated."""
    result = crrmon("copy", "--from", where, "--to", pair[1])

    assert result.exit_code == 2
    assert said in result.stderr
    assert "hunter2" not in result.output


def test_a_configuration_whose_ledger_is_memory_is_wrong_usage(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """There is nothing that could be copied to or from it."""
    forgetful = write_config(tmp_path / "memory.yaml", ledger={"kind": "memory"})

    result = crrmon("copy", "--from", pair[0], "--to", forgetful)

    assert result.exit_code == 2
    assert "its ledger.kind is memory" in result.stderr


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kind": "sqlite", "path": "a.db"}, {"kind": "sqlite", "path": "./sub/../a.db"}),
        (
            {"kind": "redis", "redis": {"url": "redis://h"}},
            {"kind": "redis", "redis": {"url": "redis://user@H:6379/0"}},
        ),
        ({"kind": "dynamodb"}, {"kind": "dynamodb", "dynamodb": {"table": "crrmon"}}),
    ],
)
def test_source_and_target_must_not_be_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: object, other: object
) -> None:
    """However they are written."""
    monkeypatch.chdir(tmp_path)
    files = (
        write_config(tmp_path / "one.yaml", ledger=one),
        write_config(tmp_path / "other.yaml", ledger=other),
    )

    result = crrmon("copy", "--from", files[0], "--to", files[1])

    assert result.exit_code == 2
    assert "--from and --to are the same: " in result.stderr


def test_what_the_environment_forces_on_both_is_named(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables win over any file: they are why two files name one ledger."""
    monkeypatch.setenv("CRRMON_LEDGER__PATH", str(tmp_path / "old.db"))

    result = crrmon("copy", "--from", pair[0], "--to", pair[1])

    assert result.exit_code == 2
    assert "CRRMON_LEDGER__PATH override what any file says" in result.stderr


def test_a_source_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A misspelt path is no empty ledger."""
    files = sqlite(tmp_path, "old"), sqlite(tmp_path, "new")

    result = crrmon("copy", "--from", files[0], "--to", files[1])

    assert result.exit_code == 1
    assert f"{tmp_path}/old.db: there is no such file" in result.stderr
    assert not (tmp_path / "old.db").exists()


def test_a_target_that_holds_something_is_refused_with_what_and_how(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """One line: what is there, and how to make it empty."""
    used(tmp_path / "new.db")

    result = crrmon("copy", "--from", pair[0], "--to", pair[1])

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert (
        "the target is not empty: it holds 4 arrivals pending, 1 arrivals failed, 2 batches"
        in line
    )
    assert f"delete {tmp_path}/new.db" in line


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_file_that_a_daemon_has_open_is_refused(
    tmp_path: Path, pair: tuple[str, str], which: str
) -> None:
    """It says which, and to stop that process."""

    async def copy_meanwhile() -> Result:
        ledger = await SqliteLedger.at(tmp_path / f"{which}.db")
        try:
            return await asyncio.to_thread(crrmon, "copy", "--from", pair[0], "--to", pair[1])
        finally:
            await ledger.close()

    result = asyncio.run(copy_meanwhile())

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"{which}.db is in use by another process: stop that one" in line


class Hindered(MemoryLedger):
    """Something happens when trails are restored."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__()
        self._happen = happen

    async def restore(self, trails: Sequence[Trail], *, now: float) -> None:
        """Let it happen."""
        self._happen()
        await asyncio.sleep(0)
        await super().restore(trails[1:], now=now)


def target_is(monkeypatch: pytest.MonkeyPatch, target: Ledger) -> None:
    """Have this ledger opened in place of `new.db`."""
    real = connections.open_ledger

    async def open_ledger(
        settings: LedgerSettings, aws: AwsSession, *, clock: Clock, create: bool
    ) -> Ledger:
        if settings.path.name == "new.db":
            return target
        return await real(settings, aws, clock=clock)

    monkeypatch.setattr(connections, "open_ledger", open_ledger)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, as at a terminal; where tests run in the background, it may be ignored from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_says_that_the_target_is_incomplete(
    tmp_path: Path, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, and how the target is emptied before you try again; the source is unchanged."""
    before = told(tmp_path / "old.db")
    target_is(monkeypatch, Hindered(lambda: os.kill(os.getpid(), signal.SIGINT)))

    result = crrmon("copy", "--from", pair[0], "--to", pair[1])

    assert result.exit_code == 130
    assert result.stdout == ""
    assert "crrmon: interrupted\n" in result.stderr
    assert (
        "the source is unchanged, but the target is incomplete: "
        f"delete {tmp_path}/new.db and, if it exists, {tmp_path}/new.db-wal, before you try again"
    ) in result.stderr
    assert told(tmp_path / "old.db") == before


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("kind", "emptying"),
    [
        ("redis", "set a ledger.redis.prefix other than crrmon"),
        ("dynamodb", "delete the table crrmon and recreate it with crrmon ledger create"),
    ],
)
def test_how_a_target_is_emptied_depends_on_its_kind(
    tmp_path: Path,
    pair: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    emptying: str,
) -> None:
    """Without deleting what does not belong to it."""
    target_is(monkeypatch, Hindered(lambda: os.kill(os.getpid(), signal.SIGINT)))
    ledger = {"kind": kind, "path": "new.db"}
    target = write_config(tmp_path / "server.yaml", ledger=ledger, aws={"region": "eu-west-1"})

    result = crrmon("copy", "--from", pair[0], "--to", target)

    assert result.exit_code == 130
    assert f"the target is incomplete: {emptying}" in result.stderr


def test_what_differs_afterwards_is_said(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, a line for each route, and that the target is of no use; the numbers are printed all the same."""
    target_is(monkeypatch, Hindered(lambda: None))

    result = crrmon("copy", "--from", pair[0], "--to", pair[1])

    assert result.exit_code == 1
    assert "crrmon: src to dst: the source holds" in result.stderr
    assert "the target is incomplete" in result.stderr
    assert "pending objects" in result.stdout


def test_a_ledger_that_fails_before_anything_was_copied_needs_no_emptying(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line: why."""

    async def open_ledger(
        _: LedgerSettings, __: AwsSession, *, clock: Clock, create: bool
    ) -> Ledger:
        raise LedgerError("redis://h: nobody there; check ledger.redis.url")

    monkeypatch.setattr(connections, "open_ledger", open_ledger)

    result = crrmon("copy", "--from", pair[0], "--to", pair[1])

    assert result.exit_code == 1
    assert result.stderr == "crrmon: redis://h: nobody there; check ledger.redis.url\n"


def test_the_help_says_what_is_not_copied_and_the_exit_codes() -> None:
    """Whoever plans a move reads it there first."""
    said = " ".join(crrmon("copy", "--help").stdout.split())

    assert "Not copied: the record of objects that settled before and were counted." in said
    assert "0 copied and both agree, 1 refused, failed or they differ, 2 wrong usage" in said


# ---- create ----


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that open nothing, and no others."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def dynamodb(directory: Path, endpoint: str) -> str:
    """Write a configuration file for a ledger in DynamoDB."""
    return write_config(
        directory / "dynamodb.yaml",
        aws={"region": "eu-west-1", "endpoint_url": endpoint},
        ledger={"kind": "dynamodb", "dynamodb": {"table": "moved", "tags": {"team": "storage"}}},
    )


@pytest.mark.server
@pytest.mark.usefixtures("_credentials")
def test_the_table_is_made_once(tmp_path: Path) -> None:
    """The second time nothing is left to do; both times it is ready."""
    with moto_server() as url:
        first = crrmon("create", "--config", dynamodb(tmp_path, url))
        second = crrmon("create", "--config", dynamodb(tmp_path, url))

    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("Table moved is ready: CreateTable, UpdateTimeToLive")
    assert "creating table moved" in first.stderr
    assert second.stdout == "Table moved is ready: there was nothing to do.\n"


def test_a_dry_run_prints_the_requests_and_asks_nobody(tmp_path: Path) -> None:
    """JSON on stdout; no credentials are needed, and nobody is there to answer."""
    result = crrmon("create", "--dry-run", "--config", dynamodb(tmp_path, "http://127.0.0.1:9"))

    assert result.exit_code == 0, result.output
    requests = json.loads(result.stdout)
    assert requests["CreateTable"]["TableName"] == "moved"
    assert requests["CreateTable"]["BillingMode"] == "PAY_PER_REQUEST"
    assert requests["CreateTable"]["Tags"] == [{"Key": "team", "Value": "storage"}]
    assert requests["UpdateTimeToLive"]["TableName"] == "moved"


@pytest.mark.parametrize("kind", ["sqlite", "redis", "memory"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_other_ledgers_need_nothing(tmp_path: Path, kind: str, dry: tuple[str, ...]) -> None:
    """It says so and is content; nothing is made."""
    path = write_config(
        tmp_path / "c.yaml", ledger={"kind": kind, "path": str(tmp_path / "made.db")}
    )

    result = crrmon("create", *dry, "--config", path)

    assert result.exit_code == 0
    assert f"ledger.kind is {kind}: there is nothing to create" in result.stderr
    assert result.stdout == ("{}\n" if dry else "")
    assert not (tmp_path / "made.db").exists()


@contextmanager
def denying() -> Iterator[str]:
    """Serve an AWS that allows nothing."""

    class Denial(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"__type": "x#AccessDeniedException", "message": "not you"}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Denial)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.usefixtures("_credentials")
def test_a_missing_permission_is_named_with_the_table(tmp_path: Path) -> None:
    """One line that says what to grant, on what."""
    with denying() as url:
        result = crrmon("create", "--config", dynamodb(tmp_path, url))

    assert result.exit_code == 1
    (line,) = [one for one in result.stderr.splitlines() if "creating table" not in one]
    assert "dynamodb:CreateTable" in line
    assert "moved" in line


# ---- real servers ----


@pytest.mark.server
def test_what_is_pending_goes_through_every_kind_and_comes_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file to Redis, from there to DynamoDB, and back into a file; each step says that both agree."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    used(tmp_path / "old.db")
    prefix = f"copy-{os.getpid()}"
    on_redis = {"kind": "redis", "redis": {"url": shared_server(), "prefix": prefix}}
    in_table = {"kind": "dynamodb", "dynamodb": {"table": prefix}}
    places = [
        sqlite(tmp_path, "old"),
        write_config(tmp_path / "redis.yaml", ledger=on_redis),
        write_config(
            tmp_path / "dynamodb.yaml",
            ledger=in_table,
            aws={"endpoint_url": shared_ministack(), "region": "eu-west-1"},
        ),
        sqlite(tmp_path, "new"),
    ]
    assert crrmon("create", "--config", places[2]).exit_code == 0

    for source, target in pairwise(places):
        result = crrmon("copy", "--from", source, "--to", target, "--output", "json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["differences"] == []
        again = crrmon("copy", "--from", source, "--to", target)
        assert again.exit_code == 1, "the target holds something now"

    assert told(tmp_path / "new.db") == told(tmp_path / "old.db")


@pytest.mark.server
def test_a_prefix_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A mistyped source is said, and stays what it was: nothing."""
    url, prefix = shared_server(), f"typo-{os.getpid()}"
    source = write_config(
        tmp_path / "redis.yaml",
        ledger={"kind": "redis", "redis": {"url": url, "prefix": prefix}},
    )

    result = crrmon("copy", "--from", source, "--to", sqlite(tmp_path, "new"))

    assert result.exit_code == 1
    assert f"there is no ledger at ledger.redis.prefix '{prefix}' on redis://" in result.stderr
    with redis.Redis.from_url(url) as server:
        assert server.keys(f"*{prefix}*") == []
