"""A soak in short: the real daemon while everything around it breaks, and a verdict that tells when something is wrong."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = pytest.mark.acceptance


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("soak")


def seen(soak: ModuleType, **truth: Any) -> Any:
    """Return what is seen of a run of a minute in which nothing goes wrong, but for what is said."""
    told = {
        "released": 100,
        "failing": 1,
        "acknowledged": 100,
        "keys_given": 60,
        "datapoints": {"ReplicationObjects a b 1": 99.0, "FailedReplications a 1": 1.0},
    }
    return soak.Outcome(
        ledger="sqlite",
        seconds=60.0,
        objects_per_second=2.0,
        truth=soak.Truth(**told | truth),
        ends=[0],
        lives=[soak.Life(number=1, seconds=60.0, rss_mib=80.0, slope_kib_per_minute=1.0)],
        heads_per_second=100.0,
        heads_per_second_busy=2.0,
    )


def failures(soak: ModuleType, outcome: Any) -> list[str]:
    """Name what does not hold."""
    return [one.name for one in soak.verdict(outcome, refresh_seconds=1.0) if not one.holds]


def test_nothing_is_lost_or_counted_twice_while_everything_breaks() -> None:
    """503s, resets, cut answers, a restart and changing credentials: what is reported is what happened.

    How fast it is, and how much memory it takes, depends on the machine: a soak of an hour judges that.
    """
    done = subprocess.run(
        [sys.executable, "soak.py", "--minutes", "0.4", "--json"],
        cwd=BENCH,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )

    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)
    truth = told["outcome"]["truth"]
    assert {"503", "resets", "cut short"} <= set(truth["calls_broken"])
    assert truth["released"] > 100
    found = {finding["name"]: finding for finding in told["verdict"]}
    for name in ("nothing lost", "nothing counted twice", "credentials fresh", "orderly ends"):
        assert found[name]["holds"], (found[name], done.stderr[-2000:])


def test_a_run_without_fault_passes(soak: ModuleType) -> None:
    """All that is judged holds."""
    assert failures(soak, seen(soak)) == []


@pytest.mark.parametrize(
    ("truth", "failing"),
    [
        (
            {"datapoints": {"ReplicationObjects a b 1": 98.0, "FailedReplications a 1": 1.0}},
            "nothing lost",
        ),
        ({"acknowledged": 99}, "nothing lost"),
        (
            {"datapoints": {"ReplicationObjects a b 1": 100.0, "FailedReplications a 1": 1.0}},
            "nothing counted twice",
        ),
        ({"reported_otherwise": 1}, "nothing counted twice"),
        ({"reported_again": 1}, "nothing counted twice"),
        ({"keys_refused": 1}, "credentials fresh"),
        ({"keys_given": 30}, "credentials fresh"),
    ],
)
def test_what_went_wrong_is_told(soak: ModuleType, truth: dict[str, Any], failing: str) -> None:
    """An object too few or too many, a datapoint that changed, a stale key: each fails the run."""
    assert failures(soak, seen(soak, **truth)) == [failing]


def test_what_was_seen_of_the_process_is_judged(soak: ModuleType) -> None:
    """Memory that grows, looks that are late, HEADs that go on through 503, and an end by a fault fail the run."""
    outcome = seen(soak)
    outcome.lives[0].slope_kib_per_minute = 1.1 * (soak.MAX_GROWTH_KIB + soak.PAGES_KIB["sqlite"])
    outcome.max_lag_seconds = 2 * soak.MAX_LAG_SECONDS
    outcome.heads_per_second_busy = 90.0
    outcome.ends.append(1)

    assert failures(soak, outcome) == [
        "memory flat",
        "looks in time",
        "503 heeded",
        "orderly ends",
    ]


def test_a_line_is_fitted_through_what_comes_after_warming_up(soak: ModuleType) -> None:
    """What is taken at the start of a life says nothing of a leak; what comes after it does."""
    rising = [(float(second), 1000.0 if second < 60 else 2000.0 + second) for second in range(180)]

    life = soak._life(1, rising)

    assert life.slope_kib_per_minute == pytest.approx(60.0)
