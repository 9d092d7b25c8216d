"""What a person sees: where to look, a live line, and the closing table."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crrmon.sandbox.daemon import Site
from crrmon.sandbox.verdict import Verdict, where

PLAIN_SECONDS = 5.0
"""How often a changed live line is printed where there is no terminal."""
UNCHANGED_SECONDS = 30.0
"""How often one that says the same."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """
    How far things are.
    """

    phase: str
    written: int
    replicated: int
    reported: int
    """Replicated, according to CloudWatch."""
    pending: int
    failed: int
    heads_per_object: float


class Show:
    """
    Tells on a console how the sandbox is doing.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        """
        Args:
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
        """
        Keep the last line of a terminal for the live line.
        """
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=4, transient=True) as self._live:
            yield
        self._live = None

    def say(self, text: str) -> None:
        """
        Print a line.
        """
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def places(self, site: Site, *, seed: int) -> None:
        """
        Print where to look, and how to repeat this.
        """
        for name, place in (
            ("metrics", f"{site.url}/metrics"),
            ("health", f"{site.url}/readyz  {site.url}/livez"),
            ("AWS", f"{site.endpoint}  (any credentials, any service)"),
            ("configuration", str(site.config)),
            ("ledger", str(site.ledger)),
            ("daemon's log", str(site.log)),
            ("seed", str(seed)),
        ):
            self.say(f"{name:>14}  {place}")

    def progress(self, progress: Progress) -> None:
        """
        Show the live line, if it is time.
        """
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


def table(verdict: Verdict) -> Table:
    """
    Lay out the comparison.
    """
    made = Table(title="Truth and what was told of it", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("where", "what"):
        made.add_column(name, no_wrap=True)
    for name in ("truth", "CloudWatch", "ledger", ""):
        made.add_column(name, justify="right", no_wrap=True)
    for line in sorted(verdict.lines, key=lambda one: (one.source, one.destination or "~")):
        made.add_row(
            where(line),
            line.measure.replace("_", " "),
            *(_number(one) for one in (line.truth, line.cloudwatch, line.ledger)),
            Text("ok", "green") if line.agrees else Text("differs", "bold red"),
        )
    for latency in verdict.run.latencies:
        made.add_row(
            where(latency),
            "median seconds",
            *("" if one is None else f"{one:.1f}" for one in (latency.truth, latency.cloudwatch)),
            "",
            "",
        )
    return made


def summary(verdict: Verdict) -> Iterator[Text]:
    """
    Say the rest in words.
    """
    run = verdict.run
    left = run.messages
    yield Text(
        f"{run.written} versions in {run.seconds:.0f} s (seed {run.seed}); "
        f"{run.heads_per_object:.2f} HEADs per object; {left.delivered} messages, "
        f"{left.malformed} malformed: {left.left_in_queue} left in the queue, "
        f"{left.left_in_dead_letter_queue} in the dead-letter queue."
    )
    if run.kills:
        yield Text(
            f"Kills of the daemon: {run.kills}; calls to CloudWatch that were repeated word for word "
            f"and counted once: {run.repeated_calls}."
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
