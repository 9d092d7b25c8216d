"""What a person sees: where to look, a live line, and the closing table."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crrmon.sandbox.daemon import DaemonProcess
from crrmon.sandbox.keeping import Keeping
from crrmon.sandbox.verdict import Line, ReasonLine, SandboxVerdict, where

PLAIN_SECONDS = 5.0
"""How often a changed live line is printed where there is no terminal."""
UNCHANGED_SECONDS = 30.0
"""How often one that says the same."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far things are."""

    phase: str
    written: int
    replicated: int
    """Arrivals: a version counts at each of its destinations."""
    reported: int
    """The same, according to CloudWatch."""
    pending: int
    failed: int
    """Not repaired."""
    heads_per_object: float


class Show:
    """Tells on a console how the sandbox is doing."""

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        """Args:
        console: not the one that results go to.
        verbose: also show the daemon's log.
        """
        self._console = console
        self.verbose = verbose
        self._live: Live | None = None
        self._printed = ""
        self._printed_at = float("-inf")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the last line of a terminal for the live line."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=4, transient=True) as self._live:
            yield
        self._live = None

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def places(
        self, daemons: Sequence[DaemonProcess], keeping: Keeping, *, endpoint: str, seed: int
    ) -> None:
        """Print where to look, and how to repeat this."""
        said = [
            *(("metrics", f"{daemon.site.url}/metrics") for daemon in daemons),
            *(("health", f"{one.site.url}/readyz  {one.site.url}/livez") for one in daemons),
            ("AWS", f"{endpoint}  (any credentials, any service)"),
            *(("configuration", str(one.site.config)) for one in daemons),
            ("ledger", keeping.where),
            *(("daemon's log", str(one.site.log)) for one in daemons),
            ("seed", str(seed)),
        ]
        before = ""
        for name, place in said:
            self.say(f"{'' if name == before else name:>14}  {place}")
            before = name

    def progress(self, progress: Progress) -> None:
        """Show the live line, if it is time."""
        line = Text.assemble(
            (f"{progress.phase}: ", "bold"),
            f"written {progress.written}, ",
            (f"replicated {progress.replicated}", "green"),
            f" (CloudWatch: {progress.reported}), ",
            (f"pending {progress.pending}", "yellow"),
            ", ",
            (f"failed {progress.failed}", "red" if progress.failed else ""),
            f", {progress.heads_per_object:.2f} HEADs per object",
        )
        if self._live is not None:
            self._live.update(line)
            return
        pause = UNCHANGED_SECONDS if line.plain == self._printed else PLAIN_SECONDS
        now = asyncio.get_running_loop().time()
        if now - self._printed_at >= pause:
            self._printed, self._printed_at = line.plain, now
            self.say(line.plain)


def table(verdict: SandboxVerdict) -> Table:
    """Lay out the comparison."""
    made = _narrow("Truth and what was told of it")
    for name in ("where", "what"):
        made.add_column(name, no_wrap=True)
    for name in ("truth", "CloudWatch", "ledger", "Prometheus", ""):
        made.add_column(name, justify="right", no_wrap=True)
    for line in sorted(verdict.lines, key=lambda one: (one.source, one.destination or "~")):
        if not line.agrees or _worth_showing(line):
            made.add_row(
                where(line),
                line.measure.replace("_", " "),
                *map(_number, (line.truth, line.cloudwatch, line.ledger, line.prometheus)),
                _judgement(line),
            )
    for latency in verdict.run.latencies:
        made.add_row(
            where(latency),
            "median seconds",
            *("" if one is None else f"{one:.1f}" for one in (latency.truth, latency.cloudwatch)),
            "",
            "",
            "",
        )
    return made


_SHOWN_AT_ZERO = ("replicated", "failed", "pending")
"""Of the other measures, what is zero and agrees is left out."""


def _worth_showing(line: Line) -> bool:
    """Return whether a line that agrees is of interest; that rules lead along a route is not."""
    if line.measure == "configured":
        return not line.truth
    return bool(line.truth) or line.measure in _SHOWN_AT_ZERO


def reasons(verdict: SandboxVerdict) -> Table:
    """Lay out why S3 gave up."""
    made = _narrow("Failures by reason")
    for name in ("where", "reason"):
        made.add_column(name, no_wrap=True)
    for name in ("S3's notices", "Prometheus", ""):
        made.add_column(name, justify="right", no_wrap=True)
    for line in sorted(verdict.reasons, key=where):
        numbers = map(_number, (line.truth, line.prometheus))
        made.add_row(where(line), line.reason, *numbers, _judgement(line))
    return made


def _narrow(title: str) -> Table:
    """Create a table that fits into 80 columns."""
    return Table(
        title=f"\n{title}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        show_edge=False,
    )


def _judgement(line: Line | ReasonLine) -> Text:
    return Text("ok", "green") if line.agrees else Text("differs", "bold red")


def fleet(verdict: SandboxVerdict) -> Table:
    """Lay out what each replica did."""
    made = Table(title="Replicas", title_justify="left", box=box.SIMPLE_HEAD)
    made.add_column("who", no_wrap=True)
    for name in ("HEADs", "share", "kills", "exit code"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("fleet's numbers on /metrics", no_wrap=True)
    all_looks = sum(one.looks for one in verdict.run.replicas)
    for replica in verdict.run.replicas:
        made.add_row(
            replica.name,
            _number(replica.looks),
            f"{replica.looks / all_looks:.0%}" if all_looks else "",
            _number(replica.kills),
            "killed" if replica.exit is None else str(replica.exit),
            "shown here" if replica.reports else "",
        )
    return made


def summary(verdict: SandboxVerdict) -> Iterator[Text]:
    """Say the rest in words."""
    run = verdict.run
    left = run.messages
    yield Text(
        f"{run.written} versions in {run.seconds:.0f} s (seed {run.seed}); "
        f"{run.heads_per_object:.2f} HEADs per object and {run.looks_elsewhere} at destinations; "
        f"{left.delivered} messages, "
        f"{left.malformed} malformed: {left.left_in_queue} left in the queue, "
        f"{left.left_in_dead_letter_queue} in the dead-letter queue."
    )
    if run.kills:
        yield Text(
            f"Kills of {'the daemon' if len(run.replicas) == 1 else 'daemons'}: "
            f"{run.kills - run.ledger_kills}; of the ledger's server: {run.ledger_kills}; "
            f"calls to CloudWatch that were repeated word for word and counted once: {run.repeated_calls}."
        )
    if run.ledger_calls_refused or run.ledger_answers_lost:
        yield Text(
            f"Calls that DynamoDB refused for want of capacity: {run.ledger_calls_refused}; "
            f"that it carried out and whose answer got lost: {run.ledger_answers_lost}."
        )
    if verdict.watermarks:
        yield Text(
            f"Up to when all is complete, or settled, was read {sum(watermark.shown for watermark in verdict.watermarks):,} times in "
            f"{run.samples:,} samples, and was ahead of the truth {sum(one.ahead for one in verdict.watermarks):,} times."
        )
    for complaint in verdict.complaints:
        yield Text(complaint, "red")
    yield (
        Text("All agree.", "bold green")
        if verdict.agrees
        else Text("They do not agree.", "bold red")
    )


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
