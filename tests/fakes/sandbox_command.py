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

RUN_SECONDS = 600.0
WAIT_SECONDS = 90.0


class Sandbox:
    """
    A `crrmon sandbox` process.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.told: list[str] = []

    async def until(self, pattern: str) -> str:
        """
        Read its stderr until a line matches.
        """
        assert self.process.stderr is not None
        async with asyncio.timeout(WAIT_SECONDS):
            while line := (await self.process.stderr.readline()).decode():
                self.told.append(line)
                if re.search(pattern, line):
                    return line
        raise AssertionError(f"it ended without {pattern!r}:\n{''.join(self.told)}")

    async def end(self) -> tuple[int, dict[str, Any]]:
        """
        Wait for its end and return its exit code and its verdict.
        """
        async with asyncio.timeout(RUN_SECONDS):
            output, errors = await self.process.communicate()
        self.told.append(errors.decode())
        code = self.process.returncode
        assert code is not None
        assert output, "".join(self.told)
        return code, msgspec.json.decode(output)


@asynccontextmanager
async def sandbox(*options: str) -> AsyncIterator[Sandbox]:
    """
    Start it; whatever happens, it does not outlive the block, nor do its children outlive it.
    """
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


def numbers(verdict: dict[str, Any], measure: str) -> dict[tuple[str, str | None], list[int]]:
    """
    Return what truth, CloudWatch and ledger say of a measure, by source and destination.
    """
    return {
        (line["source"], line["destination"]): [
            line["truth"], line["cloudwatch"], line["ledger"]
        ]
        for line in verdict["lines"]
        if line["measure"] == measure
    }  # fmt: skip


def check_every_number(verdict: dict[str, Any], *, objects: int) -> None:
    """
    Look at all of a verdict, without believing its own judgement.
    """
    run = verdict["run"]
    routes = {("src-a", "dst-a"), ("src-b", "dst-b")}
    for measure in ("replicated", "bytes", "pending"):
        by_route = numbers(verdict, measure)
        # A key waits under an unknown destination while nobody can tell; none may stay there, see `pending` below.
        waiting = {("src-a", "unknown"), ("src-b", "unknown")} if measure == "pending" else set()
        assert set(by_route) - waiting == routes
        assert all(len(set(three)) == 1 for three in by_route.values()), (measure, by_route)
    for truth, cloudwatch, ledger in numbers(verdict, "failed").values():
        assert truth == cloudwatch == ledger
    for truth, cloudwatch, ledger in numbers(verdict, "not_covered").values():
        assert cloudwatch is None
        assert truth == ledger

    def total(measure: str) -> int:
        return sum(three[0] for three in numbers(verdict, measure).values())

    assert run["written"] == objects
    assert total("replicated") + total("failed") + total("not_covered") == objects
    assert total("pending") == 0
    assert total("bytes") > total("replicated") > 0
    assert total("failed") > 0
    assert total("not_covered") > 0
    messages = run["messages"]
    assert messages["malformed"] == 3
    assert messages["left_in_queue"] + messages["left_in_dead_letter_queue"] == 3
    assert messages["delivered"] > objects + 3
    assert run["calls"]["HeadObject"] >= objects - total("not_covered")
    replicas = run["replicas"]
    assert run["repeated_calls"] <= sum(one["kills"] for one in replicas) + run["ledger_kills"]
    assert run["doubled_datapoints"] == 0
    assert [one["exit"] for one in replicas] == [0] * len(replicas)
    assert [one["reports"] for one in replicas].count(True) == 1
    assert sum(one["looks"] for one in replicas) == run["calls"]["HeadObject"]
    for latency in run["latencies"]:
        assert 0.5 < latency["truth"] < 10
        assert latency["cloudwatch"] == pytest.approx(latency["truth"], abs=5)
    assert verdict["complaints"] == []
    assert verdict["agrees"] is True
