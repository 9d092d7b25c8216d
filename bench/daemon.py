"""What an object costs: speed, CPU time, AWS calls and memory of the real daemon, against stubs on this machine.

Everything is done at the first look, which is due at once: that is the daemon at its fastest, and the steady state of
a healthy replication. Parked records lie beside the load and are not due.

    python bench/daemon.py                    everything, a quarter of an hour; also `make bench`
    python bench/daemon.py --quick            fewer objects, and no million of parked records
    python bench/daemon.py --json bench.json  the figures for machines
    python bench/daemon.py --profile p.txt    where the CPU time goes, by stack, SQLite only; see wrapped.py

Nothing fails for being slow. What was set out to be reached is compared at the end.
"""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from crrmon.ports.clock import SystemClock
from dynamodb_units import dollars
from ledgers import FEW, Progress, Row
from load import HERE, Bench, BrokenRunError, Case, Run

MIB = 1024 * 1024
AIM_PER_SECOND, AIM_CALLS, AIM_MIB = 250, 1.5, 200


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    objects: int
    fills: tuple[int, ...]
    """Records parked beside."""
    items: int
    """Of each operation of a ledger by itself."""
    emulated: int
    """The same, of one that is emulated."""


FULL = Scale(objects=10_000, fills=(10_000, 1_000_000), items=10_000, emulated=2_000)
QUICK = Scale(objects=3_000, fills=(10_000,), items=5_000, emulated=1_000)


class Report(msgspec.Struct, kw_only=True):
    """All that was measured, and where."""

    measured_at: str
    python: str
    machine: str
    load_before: tuple[float, float, float]
    load_after: tuple[float, float, float] = (0.0, 0.0, 0.0)
    runs: list[Run] = []
    ledgers: list[Row] = []


class _Session:
    """
    Measures everything, one after the other.

    Args:
        scale: how much.
        folder: on a local disk, for a gigabyte; SQLite's syncs are part of what is measured.
        console: for progress.
    """

    def __init__(self, scale: Scale, *, folder: Path, console: Console) -> None:
        self._scale = scale
        self._folder = folder
        self._console = console
        self._status = console.status("")
        self._bench = Bench(folder=folder, tell=self._tell)
        self._doing = ""
        self.report = Report(
            measured_at=datetime.fromtimestamp(SystemClock().now(), UTC).isoformat(
                timespec="minutes"
            ),
            python=platform.python_version(),
            machine=f"{os.cpu_count()} cores, {_processor()}, {platform.system()}",
            load_before=os.getloadavg(),
        )

    def measure(self) -> Report:
        """Measure; return what came of it."""
        fills = self._scale.fills
        with self._status:
            for parked in (0, *fills):
                self._run("memory", parked)
            self._ledger("memory", fills)
            self._run("sqlite", 0, self._folder / "empty.db")
            filled = self._folder / "filled.db"
            for have, parked in pairwise((0, *fills)):
                self._ledger("sqlite", (parked,), file=filled, have=have)
                self._run("sqlite", parked, filled)
            self._ledger("redis", fills)
            # Emulated: what it costs is right, how fast it is says nothing of DynamoDB.
            self._ledger("dynamodb", fills[:1], items=self._scale.emulated)
        self.report.load_after = os.getloadavg()
        return self.report

    def _tell(self, text: str) -> None:
        self._status.update(f"{self._doing}: {text}")

    @contextlib.contextmanager
    def _step(self, doing: str) -> Iterator[None]:
        self._doing = doing
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        self._console.print(f"[dim]{doing}: {took:.0f} s[/]", highlight=False)

    def _run(self, ledger: str, parked: int, file: Path | None = None) -> None:
        with self._step(f"daemon, {ledger} ledger, {parked:,} parked"):
            case = Case(ledger=ledger, parked=parked, objects=self._scale.objects)
            self.report.runs.append(self._bench.run(case, file=file))

    def _ledger(
        self,
        backend: str,
        fills: tuple[int, ...],
        *,
        file: Path | None = None,
        have: int = 0,
        items: int | None = None,
    ) -> None:
        """Measure a ledger by itself, in a process on the daemon's core."""
        arguments = [str(HERE / "ledgers.py"), "--backend", backend, "--have", str(have)]
        arguments += ["--items", str(items or self._scale.items)]
        arguments += ["--file", str(file)] if file else []
        for parked in fills:
            arguments += ["--parked", str(parked)]
        amounts = ", ".join(f"{parked:,}" for parked in fills)
        with self._step(f"{backend} ledger by itself, {amounts} parked"):
            for line in self._bench.lines(arguments):
                told = msgspec.json.decode(line, type=Progress | Row)
                if isinstance(told, Row):
                    self.report.ledgers.append(told)
                else:
                    self._tell(told.text)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


# ---- for eyes ----


def show(console: Console, report: Report) -> None:
    """Print everything, and whether it reaches what was set out to be reached."""
    console.print()
    console.print(_runs_table(report.runs))
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
    for aim, reached in targets(report.runs).items():
        console.print(f"{'reached' if reached else '[bold red]MISSED[/]'}: {aim}")


_USUAL = {"HeadObject", "ReceiveMessage", "DeleteMessageBatch"}
_FIGURES: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("settled objects per s", lambda run: f"{run.per_second:.0f}"),
    ("  per s of own CPU time", lambda run: f"{run.per_core:.0f}"),
    ("CPU ms per object", lambda run: f"{run.cpu_milliseconds:.2f}"),
    ("AWS calls per object", lambda run: f"{run.calls_per_object:.3f}"),
    ("  HeadObject", lambda run: _calls(run, "HeadObject")),
    ("  ReceiveMessage", lambda run: _calls(run, "ReceiveMessage")),
    ("  DeleteMessageBatch", lambda run: _calls(run, "DeleteMessageBatch")),
    ("  all others", lambda run: _calls(run, *(set(run.calls) - _USUAL))),
    ("MiB resident, at start", lambda run: f"{run.rss_started / MIB:.0f}"),
    ("  at the peak", lambda run: f"{run.rss_peak / MIB:.0f}"),
    ("daemon's share of its core", lambda run: f"{run.cpu_seconds / run.seconds:.0%}"),
    ("  everybody else's", lambda run: f"{run.others_seconds / run.seconds:.0%}"),
    ("stubs' share of theirs", lambda run: f"{run.stub_seconds / run.seconds:.0%}"),
)


def _calls(run: Run, *kinds: str) -> str:
    return f"{sum(run.calls.get(kind, 0) for kind in kinds) / run.objects:.3f}"


def _runs_table(runs: list[Run]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("The daemon", no_wrap=True)
    for run in runs:
        table.add_column(f"{run.ledger}\n{_few(run.parked)}", justify="right")
    for name, figure in _FIGURES:
        table.add_row(name, *(figure(run) for run in runs))
    return table


def _ledgers_table(rows: list[Row], title: str, cell: Callable[[Row], str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(f"The ledgers alone:\n{title}", no_wrap=True)
    columns = list(dict.fromkeys((row.backend, row.parked) for row in rows))
    for backend, parked in columns:
        table.add_column(f"{backend}\n{_few(parked)}", justify="right")
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
    return f"{write:.2f}", f"{read:.2f}", f"{dollars(write, read) * 1e6:.2f}"


def _few(parked: int) -> str:
    """Write a number of parked records into a narrow column."""
    if not parked:
        return "empty"
    return f"{parked // 1_000_000} M" if parked >= 1_000_000 else f"{parked // 1000} k"


def targets(runs: list[Run]) -> dict[str, bool]:
    """Compare with what was set out to be reached."""
    slowest = min(runs, key=lambda run: run.per_core)
    aims = {
        f"at least {AIM_PER_SECOND} objects settled per second and core": (
            slowest.per_core >= AIM_PER_SECOND
        ),
        f"at most {AIM_CALLS} AWS calls per object": all(
            run.calls_per_object <= AIM_CALLS for run in runs
        ),
    }
    for run in runs:
        if run.ledger == "sqlite" and run.parked >= 1_000_000:
            aim = f"at most {AIM_MIB} MiB resident with {run.parked:,} parked in SQLite"
            aims[aim] = run.rss_peak <= AIM_MIB * MIB
    return aims


def for_machines(report: Report) -> dict[str, Any]:
    """Return the report with what follows from its figures."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    for run, entry in zip(report.runs, plain["runs"], strict=True):
        entry["objects_per_second"] = run.per_second
        entry["objects_per_cpu_second"] = run.per_core
        entry["cpu_ms_per_object"] = run.cpu_milliseconds
        entry["calls_per_object"] = run.calls_per_object
    for row, entry in zip(report.ledgers, plain["ledgers"], strict=True):
        entry["items_per_second"] = row.per_second
        entry["cpu_us_per_item"] = row.cpu_microseconds
    return plain | {"targets": targets(report.runs)}


def main() -> None:
    """
    Measure, print, and write down.

    Exit codes: 0 measured, 1 the daemon did not do its work and nothing could be measured.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer objects, no million")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--objects", type=int, help="in each run of the daemon")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="only sample stacks")
    parser.add_argument("--folder", type=Path, help="for the ledgers' files; on a local disk")
    asked = parser.parse_args()
    scale = QUICK if asked.quick else FULL
    if asked.objects:
        scale = msgspec.structs.replace(scale, objects=asked.objects)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="crrmon-bench-", dir=asked.folder) as folder:
        if asked.profile:
            bench = Bench(folder=Path(folder), tell=lambda _: None)
            case = Case(ledger="sqlite", parked=0, objects=scale.objects)
            run = bench.run(case, file=Path(folder) / "crrmon.db", profile=asked.profile)
            console.print(_runs_table([run]))
            return
        report = _Session(scale, folder=Path(folder), console=console).measure()
    show(console, report)
    if asked.json:
        asked.json.write_text(
            msgspec.json.format(msgspec.json.encode(for_machines(report))).decode()
        )


if __name__ == "__main__":
    try:
        main()
    except BrokenRunError as error:
        sys.exit(f"bench: {error}")
