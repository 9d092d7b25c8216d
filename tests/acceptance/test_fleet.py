"""Several daemons while their ledger is away, while they are restarted one by one, and while two versions run."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from crrmon.sandbox.daemon import SHUTDOWN_SECONDS
from crrmon.sandbox.play import Stage
from fakes.fleet import events, playing

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.usefixtures("cut_off"),
]

NEXT_VERSION = Path(__file__).parent.parent / "fakes" / "next_version.py"
OUTAGE_SECONDS = 60.0
PROBES = 6
"""How often a replica tries in that time whether the ledger is back: after 1, 2, 4, 8, 16 and 30 seconds."""


async def test_an_outage_of_redis_stops_intake_and_loses_nothing(tmp_path: Path) -> None:
    """Invariant 5: while the server does not answer, nothing is received but to see whether it is back."""
    async with playing(tmp_path, ledger="redis", replicas=2) as fleet:
        server = fleet.stage.keeping.server
        assert server is not None
        await fleet.until_written(40)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await fleet.until(
                lambda: all(events(one, "dependency_unavailable") for one in fleet.daemons)
            )
            before = fleet.received()
            await asyncio.sleep(OUTAGE_SECONDS)
            meanwhile = fleet.received() - before
        finally:
            os.kill(server.pid, signal.SIGCONT)
        verdict = await fleet.verdict()

    assert meanwhile <= 2 * PROBES
    assert verdict.complaints == ()
    assert verdict.run.messages.left_in_dead_letter_queue <= verdict.run.messages.malformed


async def test_two_versions_share_a_ledger(tmp_path: Path) -> None:
    """Invariant 9: this version and the next, which stores more, read each other's work while both are killed."""

    async def prepare(stage: Stage) -> None:
        newer = stage.daemons[1]
        newer._command = (
            sys.executable, str(NEXT_VERSION), "run", "--config", str(newer.site.config),
        )  # fmt: skip

    async with playing(
        tmp_path, ledger="redis", replicas=2, prepare=prepare, objects=240, rate=20.0, kills=4
    ) as fleet:
        verdict = await fleet.verdict(after_all=True)

    assert verdict.complaints == ()
    assert [one.kills for one in verdict.run.replicas] == [2, 2]
    assert all(one.looks > 20 for one in verdict.run.replicas)
    assert stored_in(tmp_path).count(b"of the next version") > 50


def stored_in(folder: Path) -> bytes:
    """Return all that Redis wrote into its append-only files."""
    return b"".join(one.read_bytes() for one in folder.rglob("*.aof"))


async def test_a_rolling_restart_loses_nothing_and_shares_evenly_again(tmp_path: Path) -> None:
    """Three replicas asked to end one after the other, as a new version is rolled out: each ends well."""
    async with playing(tmp_path, ledger="dynamodb", replicas=3) as fleet:
        await fleet.until(fleet.even)
        await fleet.until_written(20)
        for daemon in fleet.daemons:
            assert await daemon.restart(grace=SHUTDOWN_SECONDS + 5) == 0
            await fleet.until(lambda: len(events(daemon, "started")) == 2)  # noqa: B023 - awaited at once
        await fleet.until(fleet.even)
        verdict = await fleet.verdict()

    assert verdict.complaints == ()
    assert verdict.run.repeated_calls == 0
