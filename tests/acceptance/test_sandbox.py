"""The sandbox as a user runs it: one command, the real daemon, a verdict."""

import asyncio
import signal
from pathlib import Path

import pytest

from fakes.patience import HANGS_SECONDS
from fakes.sandbox_command import (
    ROUTES,
    check_every_number,
    check_watermarks,
    numbers,
    sandbox,
    total,
)

pytestmark = pytest.mark.acceptance


async def test_every_object_is_accounted_for() -> None:
    """
    Truth, CloudWatch, Prometheus and ledger agree on every route: two destinations, a two-way pair, S3's own events
    beside CloudTrail's, notices with reasons, repairs, deletions and delete markers, duplicates and nonsense.
    """
    async with sandbox("--objects", "120", "--fail", "0.1", "--seed", "7") as one:
        code, verdict = await one.end()

    assert code == 0, verdict["complaints"]
    (one_daemon,) = verdict["run"]["replicas"]
    assert one_daemon["kills"] == 0
    assert one_daemon["looks"] == verdict["run"]["calls"]["HeadObject"]
    assert verdict["run"]["repeated_calls"] == 0
    check_every_number(verdict, objects=120)
    assert len({line["reason"] for line in verdict["reasons"]}) > 2


async def test_killing_the_daemon_loses_nothing() -> None:
    """Invariants 2 and 5: kill -9 and a restart on the same ledger lose no object and count none twice."""
    async with sandbox(
        "--objects", "120", "--fail", "0.1", "--seed", "11", "--kill", "2"
    ) as one:  # fmt: skip
        code, verdict = await one.end()

    assert code == 0, verdict["complaints"]
    assert [one["kills"] for one in verdict["run"]["replicas"]] == [2]
    check_every_number(verdict, objects=120, killed=True)


async def test_t1_rules_that_go_are_seen_to_be_gone() -> None:
    """
    Halfway a rule is disabled and another bucket's configuration deleted, and writes go on: all of them are counted as
    not covered, by CloudWatch, Prometheus and ledger; both are shown as gone; and at no moment was either copy told to
    be complete beyond what it has.
    """
    async with sandbox(
        "--objects", "120", "--fail", "0", "--seed", "8", "--disable-rule"
    ) as one:  # fmt: skip
        code, verdict = await one.end()

    assert code == 0, verdict["complaints"]
    gone = {("src-a", "dst-a"), ("src-a", "dst-c"), ("src-b", "dst-b")}
    assert {place: told["truth"] for place, told in numbers(verdict, "configured").items()} == {
        route: int(route not in gone) for route in ROUTES
    }
    for measure, mute in (("configured", {"cloudwatch", "ledger"}), ("not_covered", set())):
        for place, told in numbers(verdict, measure).items():
            assert {teller for teller, number in told.items() if number is None} == mute
            assert len({one for one in told.values() if one is not None}) == 1, (measure, place)
    assert numbers(verdict, "not_covered")["src-a", None]["truth"] > 10
    assert numbers(verdict, "not_covered")["src-b", None]["truth"] > 10
    check_watermarks(verdict, all_shown=True)
    assert {
        (one["source"], one["destination"]) for one in verdict["watermarks"] if one["last"] is None
    } == gone


async def test_ctrl_c_ends_the_writing_and_leads_to_a_verdict(tmp_path: Path) -> None:
    """An endless sandbox that is interrupted compares what it has; the folder to keep has everything."""
    folder = tmp_path / "kept"
    async with sandbox(
        *("--fail", "0.1", "--seed", "3", "--median", "1", "--keep", str(folder))
    ) as one:
        await one.until(r"written [1-9]\d")
        one.process.send_signal(signal.SIGINT)
        code, verdict = await one.end()

    assert code == 0, verdict["complaints"]
    assert verdict["agrees"] is True
    written = verdict["run"]["written"]
    ends = ("replicated", "gone", "open_failures", "not_covered")
    assert written >= 10
    assert sum(total(verdict, one) for one in ends) >= written
    assert total(verdict, "pending") == 0
    assert names_in(folder) >= {
        "crrmon.db", "crrmon.yaml", "daemon.log", "emulator.log",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
async def test_nothing_is_left_behind(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    """A second Ctrl-C, a SIGTERM or even kill -9 ends everything at once, emulator and daemon included."""
    async with sandbox("--seed", "1", "--keep", str(tmp_path / "kept")) as one:
        await one.until(r"written [1-9]")
        children = children_of(one.process.pid)
        if signum == signal.SIGINT:
            one.process.send_signal(signal.SIGINT)
            await one.until("Ctrl-C again")
        one.process.send_signal(signum)
        async with asyncio.timeout(HANGS_SECONDS):
            output, _ = await one.process.communicate()
            while any(is_running(child) for child in children):
                await asyncio.sleep(0.05)

    assert one.process.returncode == code
    assert output == b""
    assert len(children) == 2


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(one) for one in listed.split()]


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {one.name for one in folder.iterdir()}


def is_running(pid: int) -> bool:
    """Tell whether a process is there, and not only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fail", "1.5"), "--fail"),
        (("--objects", "0"), "--objects"),
        (("--port", "{taken}"), "is taken; leave it out"),
        (("--keep", "{full}"), "is not empty"),
        (("--replicas", "3"), "--replicas 3 needs --ledger redis or --ledger dynamodb"),
        (("--replicas", "0"), "--replicas"),
    ],
)
async def test_wrong_usage_is_explained(
    tmp_path: Path, options: tuple[str, str], words: str
) -> None:
    """What cannot be done as asked ends with 2, names the option, and starts nothing."""
    (tmp_path / "something").touch()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    taken = server.sockets[0].getsockname()[1]
    filled = [one.format(taken=taken, full=tmp_path) for one in options]
    async with sandbox(*filled) as one, asyncio.timeout(HANGS_SECONDS):
        output, errors = await one.process.communicate()
    server.close()

    assert one.process.returncode == 2
    assert output == b""
    assert words in errors.decode()
    assert names_in(tmp_path) == {"something"}
