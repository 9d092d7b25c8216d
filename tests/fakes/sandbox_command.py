"""`crrmon sandbox` as a process, and a second opinion on its verdict."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from crrmon.sandbox.children import free_port
from fakes.patience import HANGS_SECONDS


class Sandbox:
    """A `crrmon sandbox` process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.told: list[str] = []

    async def until(self, pattern: str) -> str:
        """Read its stderr until a line matches."""
        assert self.process.stderr is not None
        async with asyncio.timeout(HANGS_SECONDS):
            while line := (await self.process.stderr.readline()).decode():
                self.told.append(line)
                if re.search(pattern, line):
                    return line
        raise AssertionError(f"it ended without {pattern!r}:\n{''.join(self.told)}")

    async def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end and return its exit code and its verdict."""
        async with asyncio.timeout(HANGS_SECONDS):
            output, errors = await self.process.communicate()
        self.told.append(errors.decode())
        code = self.process.returncode
        assert code is not None
        assert output, "".join(self.told)
        return code, msgspec.json.decode(output)


@asynccontextmanager
async def sandbox(*options: str) -> AsyncIterator[Sandbox]:
    """Start it; whatever happens, it does not outlive the block, nor do its children outlive it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crrmon", "sandbox", "--output", "json"),
        *("--port", str(free_port()), *options),
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield Sandbox(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


ROUTES = {
    ("src-a", "dst-a"), ("src-a", "dst-c"), ("src-b", "dst-b"), ("src-c", "src-d"), ("src-d", "src-c"),
}  # fmt: skip
TELLERS = ("truth", "cloudwatch", "ledger", "prometheus")


def numbers(
    verdict: dict[str, Any], measure: str
) -> dict[tuple[str, str | None], dict[str, int | None]]:
    """Return what truth, CloudWatch, ledger and Prometheus say of a measure, by source and destination."""
    return {
        (line["source"], line["destination"]): {teller: line[teller] for teller in TELLERS}
        for line in verdict["lines"]
        if line["measure"] == measure
    }


def total(verdict: dict[str, Any], measure: str) -> int:
    """Return the true sum of a measure."""
    return sum(told["truth"] or 0 for told in numbers(verdict, measure).values())


def check_every_number(verdict: dict[str, Any], *, objects: int, killed: bool = False) -> None:
    """
    Look at all of a verdict, without believing its own judgement.

    Args:
        verdict: of the run.
        objects: how many were written.
        killed: whether nobody can ask Prometheus: a daemon was killed, or there were several.
    """
    run = verdict["run"]
    silent = {"prometheus"} if killed else set()
    cloudwatch_too = {"replicated", "bytes", "pending", "failed", "not_covered"}
    for measure in (
        *("replicated", "bytes", "pending", "repaired", "gone", "open_failures", "failures"),
        *("markers_created", "markers_arrived", "failed", "not_covered", "configured"),
    ):
        mute = silent if measure in cloudwatch_too else {*silent, "cloudwatch"}
        mute = {*mute, "prometheus"} if measure == "failed" else mute
        # It leaves no mark: a kill has some of it told twice, which is not compared.
        mute = {*mute, "cloudwatch"} if measure == "not_covered" and killed else mute
        mute = {*mute, "ledger"} if measure in ("failures", "configured") else mute
        for place, told in numbers(verdict, measure).items():
            assert {teller for teller, number in told.items() if number is None} == mute, measure
            assert len({one for one in told.values() if one is not None}) == 1, (measure, place)
    # A key waits under an unknown destination while nobody can tell; none may stay there, see `pending` below.
    unknown = {(source, "unknown") for source, _ in ROUTES}
    assert set(numbers(verdict, "replicated")) == ROUTES
    assert set(numbers(verdict, "pending")) - unknown == ROUTES
    for line in verdict["reasons"]:
        assert line["prometheus"] == (None if killed else line["truth"])
    check_the_run(run, objects=objects)

    twice = sum(
        told["truth"] or 0
        for measure in ("replicated", "gone", "open_failures")
        for place, told in numbers(verdict, measure).items()
        if place == ("src-a", "dst-c")
    )  # every version of src-a stands on two routes
    ends = sum(total(verdict, one) for one in ("replicated", "gone", "open_failures"))
    assert run["written"] == objects
    assert ends - twice + total(verdict, "not_covered") == objects
    assert total(verdict, "pending") == 0
    assert total(verdict, "bytes") > total(verdict, "replicated") > objects / 2
    assert total(verdict, "failed") > 0
    assert total(verdict, "repaired") > 0
    assert total(verdict, "open_failures") > 0
    assert total(verdict, "gone") > 0
    assert total(verdict, "not_covered") > 0
    assert total(verdict, "markers_created") == total(verdict, "markers_arrived") > 0
    assert total(verdict, "failures") == sum(one["truth"] for one in verdict["reasons"])
    check_watermarks(verdict, all_shown=not killed)
    reasons = sum(one["truth"] for one in verdict["reasons"])
    assert reasons == total(verdict, "repaired") + total(verdict, "open_failures")
    assert verdict["complaints"] == []
    assert verdict["agrees"] is True


def check_watermarks(verdict: dict[str, Any], *, all_shown: bool) -> None:
    """
    Look at what became of "complete up to" and "settled up to".

    Args:
        verdict: of the run.
        all_shown: whether they must have been there on every route; a killed daemon's last word takes them away for
            minutes.
    """
    lines = verdict["watermarks"]
    assert verdict["run"]["samples"] > 30
    assert {(line["ahead"], line["worst"]) for line in lines} <= {(0, None)}
    if all_shown:
        assert {(one["source"], one["destination"], one["measure"]) for one in lines} == {
            (*route, measure)
            for route in ROUTES
            for measure in ("complete_up_to", "settled_up_to")
        }


def check_the_run(run: dict[str, Any], *, objects: int) -> None:
    """Look at messages, calls, processes and latencies."""
    messages = run["messages"]
    assert messages["malformed"] == 3
    assert messages["left_in_queue"] + messages["left_in_dead_letter_queue"] == 3
    assert messages["delivered"] > 1.5 * objects
    assert 0 < run["looks_elsewhere"] < run["calls"]["HeadObject"]
    replicas = run["replicas"]
    assert run["repeated_calls"] <= sum(one["kills"] for one in replicas) + run["ledger_kills"]
    assert run["doubled_datapoints"] == 0
    assert [replica["exit"] for replica in replicas] == [0] * len(replicas)
    assert [one["reports"] for one in replicas].count(True) == 1
    assert sum(one["looks"] for one in replicas) == run["calls"]["HeadObject"]
    for latency in run["latencies"]:
        if latency["source"] in ("src-a", "src-b"):  # the others have a few only
            assert 0.5 < latency["truth"] < 10
            assert latency["cloudwatch"] == pytest.approx(latency["truth"], abs=5)
