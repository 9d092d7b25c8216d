"""What was measured, for eyes and for machines: medians of rounds, and how each compares with the ordinary pipeline."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

import calls
from calls import Call
from contenders import ORDINARY
from crrmon.domain.deployment import prices
from ledgers import FEW, Row
from load import Case, Run

MIB = 1024 * 1024
AIM_PER_SECOND, AIM_CALLS, AIM_MIB = 250, 1.5, 200

SIDE_BY_SIDE, BESIDE, CONCURRENCY = "side by side", "under other conditions", "HEADs at once"
"""The questions: who is faster, what that depends on, and what more HEADs at once bring."""

_OF_SQS = {
    "ReceiveMessage",
    "ReceiveMessage (empty)",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
    "GetQueueAttributes",
}


class Report(msgspec.Struct, kw_only=True):
    """All that was measured, and where."""

    measured_at: str
    python: str
    machine: str
    load_before: tuple[float, float, float]
    load_after: tuple[float, float, float] = (0.0, 0.0, 0.0)
    left_out: list[str] = []
    """What could not be measured here, and why."""
    runs: list[Run] = []
    calls: list[Call] = []
    ledgers: list[Row] = []


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A case: the medians of its rounds."""

    case: Case
    rounds: int
    objects: int
    per_second: float
    per_core: float
    """Settled objects for each second of CPU time."""
    cpu_milliseconds: float
    """Of one object."""
    cpu_lowest: float
    cpu_highest: float
    to_ordinary: float | None
    """
    How many times as many objects for a CPU second as the ordinary pipeline, by the median of ratios within one round.
    """
    calls_per_object: float
    heads_per_object: float
    dollars_per_million: float
    """Of HEADs and of the queue."""
    rss_started: float
    rss_peak: float
    own_share: float
    """Of its core, of the time."""
    others_share: float
    stubs_share: float
    """Of the stubs' core: far from one, or it was them who were measured."""
    connections: float


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """Put the rounds of each case together, in the order in which they were measured first."""
    ordinary = {_turn(run): run.cpu_milliseconds for run in runs if run.case.contender == ORDINARY}
    return [
        _summary([run for run in runs if run.case == case], ordinary)
        for case in dict.fromkeys(run.case for run in runs)
    ]


def _turn(run: Run) -> tuple[object, ...]:
    case = run.case
    return case.group, case.tls, case.head_milliseconds, run.turn


def _summary(runs: Sequence[Run], ordinary: dict[tuple[object, ...], float]) -> Summary:
    def middle(figure: Callable[[Run], float]) -> float:
        return statistics.median(figure(run) for run in runs)

    ratios = [
        ordinary[_turn(run)] / run.cpu_milliseconds for run in runs if _turn(run) in ordinary
    ]
    return Summary(
        case=runs[0].case,
        rounds=len(runs),
        objects=runs[0].objects,
        per_second=middle(lambda run: run.per_second),
        per_core=middle(lambda run: run.per_core),
        cpu_milliseconds=middle(lambda run: run.cpu_milliseconds),
        cpu_lowest=min(run.cpu_milliseconds for run in runs),
        cpu_highest=max(run.cpu_milliseconds for run in runs),
        to_ordinary=statistics.median(ratios) if ratios else None,
        calls_per_object=middle(lambda run: run.calls_per_object),
        heads_per_object=middle(lambda run: run.calls.get("HeadObject", 0) / run.objects),
        dollars_per_million=middle(_dollars),
        rss_started=middle(lambda run: run.rss_started),
        rss_peak=middle(lambda run: run.rss_peak),
        own_share=middle(lambda run: run.cpu_seconds / run.seconds),
        others_share=middle(lambda run: run.others_seconds / run.seconds),
        stubs_share=middle(lambda run: run.stub_seconds / run.seconds),
        connections=middle(lambda run: run.connections),
    )


def _dollars(run: Run) -> float:
    """Return the list price of a million objects' HEADs and of their way through the queue."""
    heads = run.calls.get("HeadObject", 0) * prices.PER_MILLION_HEADS
    queue = sum(run.calls.get(name, 0) for name in _OF_SQS) * prices.PER_MILLION_SQS
    return (heads + queue) / run.objects


# ---- for eyes ----


def show(console: Console, report: Report) -> None:
    """Print everything, and whether it reaches what was set out to be reached."""
    console.print()
    found = summaries(report.runs)
    for group in dict.fromkeys(summary.case.group for summary in found):
        console.print(runs_table(group, [one for one in found if one.case.group == group]))
    if report.calls:
        console.print(calls.table(report.calls))
    if report.ledgers:
        real = [row for row in report.ledgers if row.write_units is None]
        console.print(_ledgers_table(real, "items per s", _rate))
        console.print(_ledgers_table(report.ledgers, "CPU µs per item", _cpu))
    if any(row.write_units is not None for row in report.ledgers):
        console.print(_units_table(report.ledgers))
    where = (
        f"{report.measured_at}, Python {report.python}, {report.machine}; load average"
        f" {report.load_before[0]:.1f} before, {report.load_after[0]:.1f} after"
    )
    console.print(where, style="dim", highlight=False)
    for left_out in report.left_out:
        console.print(left_out, highlight=False)
    for aim, reached in targets(found).items():
        console.print(f"{'reached' if reached else '[bold red]MISSED[/]'}: {aim}")


_FIGURES: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("settled per\nCPU second", lambda one: f"{one.per_core:,.0f}"),
    ("CPU ms per\nobject", lambda one: f"{one.cpu_milliseconds:.3f}"),
    ("lowest and\nhighest", lambda one: f"{one.cpu_lowest:.2f} to {one.cpu_highest:.2f}"),
    ("times the\nordinary", lambda one: f"{one.to_ordinary:.2f}" if one.to_ordinary else ""),
    ("calls per\nobject", lambda one: f"{one.calls_per_object:.3f}"),
    ("of them\nHEAD", lambda one: f"{one.heads_per_object:.3f}"),
    ("$ per\nmillion", lambda one: f"{one.dollars_per_million:.3f}"),
    ("MiB at\nstart", lambda one: f"{one.rss_started / MIB:.0f}"),
    ("at the\npeak", lambda one: f"{one.rss_peak / MIB:.0f}"),
    ("settled\nper s", lambda one: f"{one.per_second:,.0f}"),
    ("of its\ncore", lambda one: f"{one.own_share:.0%}"),
    ("others\non it", lambda one: f"{one.others_share:.0%}"),
    ("stubs, of\ntheirs", lambda one: f"{one.stubs_share:.0%}"),
)


def runs_table(group: str, found: Sequence[Summary]) -> Table:
    """Show the cases of one question."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(f"{group[:1].upper()}{group[1:]}\n({_rounds(found)})", no_wrap=True)
    for name, _ in _FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(label(one.case), *(figure(one) for _, figure in _FIGURES))
    return table


def _rounds(found: Sequence[Summary]) -> str:
    rounds = max(one.rounds for one in found)
    return f"medians of {rounds}" if rounds > 1 else "one round"


def label(case: Case) -> str:
    """Name a case: who, and what is special about it."""
    parts = [case.contender, "TLS" if case.tls else "plain"]
    if case.head_milliseconds:
        parts.append(f"{case.head_milliseconds} ms")
    if case.concurrency:
        parts.append(f"{case.concurrency} at once")
    if case.parked or case.ledger != "sqlite":
        parts.append(f"{NAMES[case.ledger]} {few(case.parked)}")
    return ", ".join(parts)


NAMES = {"memory": "memory", "sqlite": "SQLite", "redis": "Redis", "dynamodb": "DynamoDB"}


def _ledgers_table(rows: list[Row], title: str, cell: Callable[[Row], str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(f"The ledgers alone:\n{title}", no_wrap=True)
    columns = list(dict.fromkeys((row.backend, row.parked) for row in rows))
    for backend, parked in columns:
        table.add_column(f"{backend}\n{few(parked)}", justify="right")
    figures = {(row.operation, row.backend, row.parked): row for row in rows}
    for operation in dict.fromkeys(row.operation for row in rows):
        table.add_row(operation, *(cell(figures[operation, *column]) for column in columns))
    return table


def _rate(row: Row) -> str:
    if row.operation == FEW:
        return f"{row.seconds / row.items * 1e3:.1f} ms"
    return f"{row.per_second / 1000:,.0f} k"


def _cpu(row: Row) -> str:
    return f"{row.cpu_microseconds:,.0f}"


# ---- what DynamoDB costs ----

PREDECESSOR_DOLLARS = 3.75
"""Of a million objects: 2 HEAD requests and 9.4 calls each, as measured of the original in the same way."""
LEAST_READ = {"seen, two marks": 0.5, "due": 1.0}
"""Units by DynamoDB's rules: the emulator takes nothing for an item that is not there, and too little for a batch."""
FIRST_LOOK = {"seen, two marks": 1, "settle at first look": 1, "freeze, by object": 1}
PARKED = {
    "seen, two marks": 1, "park": 1, "due": 3, "reschedule": 2, "settle a parked one": 1,
    "freeze, by object": 1,
}  # fmt: skip
"""With two further looks that found it pending, and a third that found it done."""


def _units_table(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("DynamoDB, for each object", no_wrap=True)
    for name in ("write units", "read units", "$ per million"):
        table.add_column(name, justify="right")
    units = {
        row.operation: (
            row.write_units / row.items,
            max((row.read_units or 0.0) / row.items, LEAST_READ.get(row.operation, 0.0)),
        )
        for row in rows
        if row.write_units is not None
    }
    for operation, one in units.items():
        if operation != FEW:
            table.add_row(operation, *_priced(*one))
    for name, lives in (
        ("settled at its first look", FIRST_LOOK),
        ("parked, two more looks", PARKED),
    ):
        write = sum(units[operation][0] * times for operation, times in lives.items())
        read = sum(units[operation][1] * times for operation, times in lives.items())
        table.add_row(f"[bold]{name}[/]", *_priced(write, read))
    table.add_row("the predecessor", "", "", f"{PREDECESSOR_DOLLARS:.2f}")
    return table


def _priced(write: float, read: float) -> tuple[str, str, str]:
    return f"{write:.2f}", f"{read:.2f}", f"{prices.of_units(write, read) * 1e6:.2f}"


def few(parked: int) -> str:
    """Write a number of parked records into a narrow column."""
    if not parked:
        return "empty"
    return f"{parked // 1_000_000} M" if parked >= 1_000_000 else f"{parked // 1000} k"


# ---- aims ----


def targets(found: Sequence[Summary]) -> dict[str, bool]:
    """Compare crrmon with what was set out to be reached."""
    own = [one for one in found if one.case.contender.startswith("crrmon")]
    if not own:
        return {}
    aims = {
        f"at least {AIM_PER_SECOND} objects settled per second and core": all(
            one.per_core >= AIM_PER_SECOND for one in own
        ),
        f"at most {AIM_CALLS} AWS calls per object": all(
            one.calls_per_object <= AIM_CALLS for one in own
        ),
    }
    for one in own:
        if one.case.ledger == "sqlite" and one.case.parked >= 1_000_000:
            aim = f"at most {AIM_MIB} MiB resident with {one.case.parked:,} parked in SQLite"
            aims[aim] = one.rss_peak <= AIM_MIB * MIB
    return aims


def for_machines(report: Report) -> dict[str, Any]:
    """Return the report with what follows from its figures."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    found = summaries(report.runs)
    for row, entry in zip(report.ledgers, plain["ledgers"], strict=True):
        entry["items_per_second"] = row.per_second
        entry["cpu_us_per_item"] = row.cpu_microseconds
    steps = [
        {"client": name, "tls": tls, "cpu_us": calls.per_object(report.calls, name, tls=tls)}
        for name, tls in calls.ways(report.calls)
    ]
    return plain | {
        "summaries": msgspec.to_builtins(found),
        "steps_per_object": steps,
        "targets": targets(found),
    }
