"""The measurements can be made: nothing else would show that a bench's servers fell behind what the daemon asks of them."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = pytest.mark.acceptance


def test_the_bench_measures_a_daemon(tmp_path: Path) -> None:
    """It starts on the bench's own servers, settles what they release, and ends; its stacks are written down."""
    stacks = tmp_path / "stacks.txt"
    command = [sys.executable, "daemon.py", "--quick", "--objects", "200"]
    asked = [*command, "--profile", str(stacks), "--folder", str(tmp_path)]

    done = subprocess.run(  # noqa: S603 - our own script
        asked, cwd=BENCH, capture_output=True, text=True, timeout=300, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "crrmon/services/tracking/looker" in stacks.read_text()
