"""Progress of something long: a bar or a spinner on a terminal, else a line now and then."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from crrmon.services.membership.leases import LEASE_SECONDS

LINE_SECONDS = 5.0
"""How often a line of progress is printed where there is no terminal."""


class Screen:
    """Shows the progress of a copy: a bar on a terminal, else a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._phase = ""
        self._told_at = float("-inf")
        self.began = False

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the last line of a terminal for the bar."""
        if not self._console.is_terminal:
            yield
            return
        with self._bar:
            yield

    def watching(self, owner: str, left: float) -> None:
        """Report that a lease is being watched."""
        self._first(
            "watching",
            f"{owner} held a part of the ledger: watching for {LEASE_SECONDS:.0f} s to see whether it is still working",
        )
        self._show("watching", LEASE_SECONDS - left, LEASE_SECONDS, f"watching: {left:.0f} s left")

    def copying(self, done: int, total: int) -> None:
        """Report how many objects are copied."""
        self.began = True
        self._first("copying", f"copying {total:,} objects (each once for each destination)")
        self._show("copying", done, total, f"{done:,} of {total:,} objects copied")

    def retrying(self, reason: str) -> None:
        """Report that a ledger failed."""
        self._say(f"{reason}; trying again")

    def _first(self, phase: str, text: str) -> None:
        if self._phase != phase:
            self._phase = phase
            self._told_at = asyncio.get_running_loop().time()
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(phase)
            self._say(text)

    def _show(self, phase: str, done: float, total: float, line: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=phase, completed=done, total=total)
        now = asyncio.get_running_loop().time()
        if not self._console.is_terminal and now - self._told_at >= LINE_SECONDS:
            self._told_at = now
            self._say(line)

    def _say(self, text: str) -> None:
        say(self._console, text)


def status(console: Console, text: str) -> AbstractContextManager[object]:
    """Show that something goes on, on a terminal; else say it once."""
    if console.is_terminal:
        return console.status(text)
    say(console, text)
    return nullcontext()


async def wait_aloud(console: Console, text: str) -> None:
    """Say again and again that something goes on, where there is no terminal."""
    while not console.is_terminal:
        await asyncio.sleep(LINE_SECONDS)
        say(console, text)


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(f"crrmon: {text}", markup=False, highlight=False, soft_wrap=True)
