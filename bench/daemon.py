"""What an object costs crrmon, side by side with what one would run instead: CPU time, AWS calls and memory.

Real processes against stubs of SQS, S3 and CloudWatch on this machine, in turn, in the clear and with TLS. Everything
is done at the first look, which is due at once: that is each at its fastest, and the steady state of a healthy
replication. Parked records lie beside the load and are not due.

    python bench/daemon.py                      everything, and docs/img/bench.png; also `make bench`
    python bench/daemon.py --quick              one round of few objects, no other conditions
    python bench/daemon.py --rounds 3           of each contender in the side by side
    python bench/daemon.py --beside ../other    with the crrmon of another checkout, as "before"
    python bench/daemon.py --wires              only crrmon, its requests carried by libraries instead; see wires.py
    python bench/daemon.py --json bench.json    the figures for machines
    python bench/daemon.py --profile p.txt      only where the CPU time goes, by stack, SQLite only; see profiles.py
    python bench/daemon.py --fold p.txt q.txt   only the table of such profiles, by wing

Nothing fails for being slow. What was set out to be reached is compared at the end.
"""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

import plot
from calls import Call
from contenders import CLIENTS, HERE, Contender, all_contenders, crrmons, wired
from crrmon.ports.clock import SystemClock
from crrmon.sandbox.redis import NoRedisError
from ledgers import Progress, Row
from load import Bench, BrokenRunError, Case
from places import redis_server
from profiles import fold
from report import (
    BESIDE,
    CONCURRENCY,
    SIDE_BY_SIDE,
    Report,
    few,
    for_machines,
    label,
    runs_table,
    show,
    summaries,
)

WIDTH = 170
PLOT = HERE.parent / "docs" / "img" / "bench.png"


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    objects: int
    """In each run."""
    warm_up: int
    rounds: int
    """Of the side by side."""
    others: int
    """Rounds of each other condition; none without."""
    fills: tuple[int, ...]
    """Records parked beside."""
    concurrencies: tuple[int, ...]
    """Points of the curve."""
    items: int
    """Of each operation of a ledger by itself."""
    emulated: int
    """The same, of one that is emulated; 0 leaves it out."""


FULL = Scale(
    objects=8_000,
    warm_up=1_000,
    rounds=5,
    others=3,
    fills=(10_000, 1_000_000),
    concurrencies=(16, 32, 64, 128, 256, 512),
    items=10_000,
    emulated=2_000,
)
QUICK = Scale(
    objects=1_000, warm_up=200, rounds=1, others=0, fills=(), concurrencies=(), items=0, emulated=0
)
LATE_MILLISECONDS = (20, 100)
CURVE_MILLISECONDS = 100
LEAST_OF_A_POINT = 1_500


class _Session:
    """
    Measures everything, one after the other.

    Args:
        scale: how much.
        folder: on a local disk, for a gigabyte; SQLite's syncs are part of what is measured.
        beside: another checkout of crrmon.
        go: the program that builds; None to look for it.
        wires: whether crrmon's own wire is compared with others, and nothing else.
        console: for progress.
    """

    def __init__(
        self,
        scale: Scale,
        *,
        folder: Path,
        beside: Path | None,
        go: str | None,
        wires: bool,
        console: Console,
    ) -> None:
        self._scale = scale
        self._wires = wires
        self._folder = folder
        self._console = console
        self._status = console.status("")
        self._bench = Bench(folder=folder, warm_up=scale.warm_up, tell=self._tell)
        self._doing = ""
        self.report = Report(
            measured_at=datetime.fromtimestamp(SystemClock().now(), UTC).isoformat(
                timespec="minutes"
            ),
            python=platform.python_version(),
            machine=f"{os.cpu_count()} cores, {_processor()}, {platform.system()}",
            load_before=os.getloadavg(),
        )
        self._contenders = (
            wired()
            if wires
            else all_contenders(
                beside=beside,
                go=go,
                folder=folder,
                tell=console.print,
                left_out=self.report.left_out,
            )
        )

    def measure(self) -> Report:
        """Measure; return what came of it."""
        with self._status:
            self._side_by_side()
            if not self._wires:
                self._calls()
            if self._scale.others and not self._wires:
                self._late()
                self._curve()
            if self._scale.fills and not self._wires:
                self._ledgers()
        self.report.load_after = os.getloadavg()
        return self.report

    def _side_by_side(self) -> None:
        """Have each contender in turn, so that whatever else the machine does falls upon all of them."""
        for turn in range(self._scale.rounds):
            for tls in (False, True):
                for contender in self._contenders:
                    case = Case(group=SIDE_BY_SIDE, contender=contender.name, tls=tls)
                    self._run(case, contender, turn=turn)

    def _calls(self) -> None:
        stubs = self._bench.cores.stubs
        arguments = [str(HERE / "calls.py"), "--json"]
        arguments += ["--stubs-core", str(stubs)] if stubs is not None else []
        arguments += [] if self._scale.others else ["--quick"]
        with self._step("single steps"):
            for line in self._bench.lines(arguments):
                self.report.calls.append(msgspec.json.decode(line, type=Call))

    def _late(self) -> None:
        for turn in range(self._scale.others):
            for milliseconds in (0, *LATE_MILLISECONDS):
                self._other(turn=turn, head_milliseconds=milliseconds)

    def _curve(self) -> None:
        for abreast in self._scale.concurrencies:
            own = self._contenders[0]
            case = Case(
                group=CONCURRENCY,
                contender=own.name,
                head_milliseconds=CURVE_MILLISECONDS,
                concurrency=abreast,
            )
            # As long a run at each point, as far as may be: few at once are slow.
            objects = min(self._scale.objects, max(LEAST_OF_A_POINT, 50 * abreast))
            self._run(case, own, objects=objects)

    def _ledgers(self) -> None:
        fills = self._scale.fills
        self._ledger("memory", fills)
        filled = str(self._folder / "filled.db")
        self._filled("sqlite", filled)
        try:
            with redis_server() as url:
                for turn in range(self._scale.others):
                    self._other(turn=turn, ledger="redis", where=url)
                self._filled("redis", url)
        except NoRedisError as error:
            self.report.left_out.append(f"Redis is left out: {error}")
            self._console.print(self.report.left_out[-1])
        # Emulated: what it costs is right, how fast it is says nothing of DynamoDB.
        self._ledger("dynamodb", fills[:1], items=self._scale.emulated)

    def _filled(self, backend: str, where: str) -> None:
        """Measure a ledger by itself and then in the daemon, with ever more in it."""
        for have, parked in pairwise((0, *self._scale.fills)):
            self._ledger(backend, (parked,), where=where, have=have)
            for turn in range(self._scale.others):
                self._other(turn=turn, ledger=backend, parked=parked, where=where)

    def _tell(self, text: str) -> None:
        self._status.update(f"{self._doing}: {text}")

    @contextlib.contextmanager
    def _step(self, doing: str) -> Iterator[None]:
        self._doing = doing
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        self._console.print(f"[dim]{doing}: {took:.0f} s[/]", highlight=False)

    def _other(
        self,
        *,
        turn: int,
        head_milliseconds: int = 0,
        ledger: str = "sqlite",
        parked: int = 0,
        where: str = "",
    ) -> None:
        """Measure the first contender under another condition."""
        own = self._contenders[0]
        case = Case(
            group=BESIDE,
            contender=own.name,
            head_milliseconds=head_milliseconds,
            ledger=ledger,
            parked=parked,
        )
        self._run(case, own, turn=turn, where=where)

    def _run(
        self,
        case: Case,
        contender: Contender,
        *,
        turn: int = 0,
        objects: int | None = None,
        where: str = "",
    ) -> None:
        with self._step(f"{case.group}: {label(case)}"):
            run = self._bench.run(
                case, contender, objects=objects or self._scale.objects, turn=turn, where=where
            )
            self.report.runs.append(run)

    def _ledger(
        self,
        backend: str,
        fills: tuple[int, ...],
        *,
        where: str = "",
        have: int = 0,
        items: int | None = None,
    ) -> None:
        """Measure a ledger by itself, in a process on the core of who is measured."""
        arguments = [str(HERE / "ledgers.py"), "--backend", backend, "--have", str(have)]
        arguments += ["--items", str(items or self._scale.items), "--where", where]
        for parked in fills:
            arguments += ["--parked", str(parked)]
        amounts = ", ".join(few(parked) for parked in fills)
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


# ---- profiles ----


def profile(
    file: Path, scale: Scale, *, client: str | None, folder: Path, console: Console
) -> None:
    """Run the daemon once, write down where its CPU time goes, and show it."""
    known = crrmons("crrmon", sys.executable)
    chosen = [one for one in known if client in (None, one.client)]
    if not chosen:
        raise BrokenRunError(f"this crrmon knows no aws.client {client}")
    bench = Bench(folder=folder, warm_up=scale.warm_up, tell=lambda _: None)
    case = Case(group="profiled", contender=chosen[0].name)
    run = bench.run(case, chosen[0], objects=scale.objects, profile=file)
    console.print(runs_table(case.group, summaries([run])))
    console.print(folded([file], objects=scale.objects))


def folded(files: Sequence[Path], *, objects: int | None) -> Table:
    """Show profiles by wing, side by side."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("CPU time by wing", no_wrap=True)
    for file in files:
        table.add_column(f"{file.name}\nshare", justify="right")
        table.add_column("µs per object" if objects else "ms", justify="right")
    profiles = [fold(file) for file in files]
    wings = list(dict.fromkeys(wing for one in profiles for wing in one))
    scale = 1e6 / objects if objects else 1e3
    for wing in [*wings, "all"]:
        cells = []
        for one in profiles:
            whole = sum(one.values()) or 1.0
            used = one.get(wing, 0.0) if wing != "all" else whole
            cells += [f"{used / whole:.1%}", f"{used * scale:,.0f}"]
        table.add_row(wing, *cells)
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round, no other conditions")
    parser.add_argument("--rounds", type=int, help="of each contender in the side by side")
    parser.add_argument("--objects", type=int, help="in each run; --fold: what was profiled")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another crrmon")
    parser.add_argument("--wires", action="store_true", help="only compare wires")
    parser.add_argument("--go", metavar="PROGRAM", help="that builds the pipeline in Go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help=f"default in full: {PLOT.name}")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="only sample stacks")
    parser.add_argument("--client", choices=CLIENTS, help="--profile: whose")
    parser.add_argument("--fold", type=Path, nargs="+", metavar="FILE", help="only show profiles")
    parser.add_argument("--folder", type=Path, help="for the ledgers' files; on a local disk")
    return parser.parse_args()


def _scale(asked: argparse.Namespace) -> Scale:
    scale = QUICK if asked.quick else FULL
    changes = {"objects": asked.objects, "rounds": asked.rounds}
    given = {name: value for name, value in changes.items() if value}
    return msgspec.structs.replace(scale, **given)


def main() -> None:
    """
    Measure, print, and write down.

    Exit codes: 0 measured, 1 somebody did not do the work and nothing could be measured.
    """
    asked = _arguments()
    console = Console(width=max(Console().width, WIDTH))
    if asked.fold:
        console.print(folded(asked.fold, objects=asked.objects))
        return
    scale = _scale(asked)
    with tempfile.TemporaryDirectory(prefix="crrmon-bench-", dir=asked.folder) as name:
        folder = Path(name).absolute()
        if asked.profile:
            profile(asked.profile, scale, client=asked.client, folder=folder, console=console)
            return
        session = _Session(
            scale,
            folder=folder,
            beside=asked.beside,
            go=asked.go,
            wires=asked.wires,
            console=console,
        )
        try:
            report = session.measure()
        finally:  # what was measured before something broke took its time, too
            if asked.json:
                figures = msgspec.json.encode(for_machines(session.report))
                asked.json.write_text(msgspec.json.format(figures).decode())
    show(console, report)
    drawing = asked.plot or (None if asked.quick or asked.wires else PLOT)
    if drawing:
        plot.draw(drawing, report)
        console.print(f"\ndrawn: {drawing}", highlight=False)


if __name__ == "__main__":
    try:
        main()
    except BrokenRunError as error:
        sys.exit(f"bench: {error}")
