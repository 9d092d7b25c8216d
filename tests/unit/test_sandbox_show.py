"""What a person is shown at the end of a run."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from crrmon.domain.objects import Route
from crrmon.sandbox.accounts import SandboxAccount
from crrmon.sandbox.show import reasons, table
from crrmon.sandbox.verdict import (
    Messages,
    Replica,
    Run,
    SandboxVerdict,
    compare,
    compare_reasons,
    judge,
)

A, C = Route("src-a", "dst-a"), Route("src-a", "dst-c")
TRUTH = SandboxAccount(
    replicated={A: 1234, C: 1233},
    bytes={A: 1_234_567, C: 1_234_000},
    repaired={A: 2, C: 0},
    markers_arrived={A: 3},
    failed={"src-a": 4},
    configured={A: 1, C: 0},
    not_covered={"src-a": 5},
    reasons={(A, "DstMultipartCompleteNotPermitted"): 2},
)


def verdict(told: SandboxAccount) -> SandboxVerdict:
    """Judge a run of which CloudWatch, ledger and Prometheus were told the same."""
    run = Run(
        seed=1,
        seconds=60.0,
        ledger="sqlite",
        written=1240,
        replicas=(Replica(name="the daemon", looks=20, reports=True, exit=0),),
        calls={},
        repeated_calls=0,
        doubled_datapoints=0,
        messages=Messages(delivered=20, malformed=0, left_in_queue=0, left_in_dead_letter_queue=0),
        latencies=(),
    )
    return judge(
        compare(TRUTH, told, told, told),
        run,
        reasons=compare_reasons(TRUTH, told),
        statuses={},
        open_failures=({}, {}),
        unreported=0,
        unsent=0,
    )


def shown(laid_out: Table) -> list[str]:
    """Print to a terminal of 80 columns; return the lines."""
    text = io.StringIO()
    Console(file=text, width=80).print(laid_out)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def line_with(lines: list[str], *words: str) -> list[str]:
    """Return the words of the only line that has these."""
    (found,) = (line.split() for line in lines if all(word in line for word in words))
    return found


def test_the_table_shows_what_all_were_told() -> None:
    """Nothing is cut off at 80 columns; what is zero and agrees is left out, but for the measures people look for."""
    lines = shown(table(verdict(TRUTH)))

    assert not [line for line in lines if "…" in line]
    assert line_with(lines, "dst-a", "replicated")[-5:] == ["1,234"] * 4 + ["ok"]
    assert line_with(lines, "dst-a", "markers arrived")[-5:] == ["3"] * 4 + ["ok"]
    assert line_with(lines, "dst-a", "repaired")[-5:] == ["2"] * 4 + ["ok"]
    assert line_with(lines, "src-a ", "not covered")[-5:] == ["5"] * 4 + ["ok"]
    assert not [line for line in lines if "dst-c" in line and "repaired" in line]
    assert line_with(lines, "dst-c", "configured")[-5:] == ["0"] * 4 + ["ok"]
    assert not [line for line in lines if "dst-a" in line and "configured" in line]


@pytest.mark.parametrize(("told", "judgement"), [(2, "ok"), (1, "differs")])
def test_reasons_have_a_table_of_their_own(told: int, judgement: str) -> None:
    """For each route and reason: how often S3 said it, and how often it was counted."""
    reason = "DstMultipartCompleteNotPermitted"
    lines = shown(reasons(verdict(SandboxAccount(reasons={(A, reason): told}))))

    assert line_with(lines, "src-a → dst-a", reason)[-3:] == ["2", str(told), judgement]
    assert not [line for line in lines if "…" in line]


def test_a_difference_is_shown_where_it_is() -> None:
    """Also for a measure that is otherwise left out at zero."""
    lines = shown(table(verdict(SandboxAccount(repaired={C: 1}))))

    assert line_with(lines, "dst-c", "repaired")[-5:] == ["0", "1", "1", "1", "differs"]
