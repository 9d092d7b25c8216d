"""How far a search is: a bar on a terminal, else a line now and then."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from crrmon.cli.progress import LINE_SECONDS, say
from crrmon.services.deployment import discoverer


class SearchProgress:
    """Shows how far a search is.

    Args:
        console: of standard error, as results are on standard output.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("searching", total=None)
        self._told_at = float("-inf")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the last line of a terminal for the bar."""
        if not self._console.is_terminal:
            yield
            return
        with self._bar:
            yield

    def show(self, progress: discoverer.Progress) -> None:
        """Show how far it is."""
        if not progress.accounts:
            return
        listed = progress.accounts_listed == progress.accounts
        text = f"buckets of {progress.accounts_listed} of {progress.accounts} accounts listed"
        if progress.buckets:
            text = f"{progress.buckets_read:,} of {progress.buckets:,} buckets read; {text}"
        # Until all accounts are listed, nobody knows how many buckets there are.
        total = progress.buckets if listed else None
        self._bar.update(
            self._task, description=text, completed=progress.buckets_read, total=total
        )
        now = asyncio.get_running_loop().time()
        if not self._console.is_terminal and now - self._told_at >= LINE_SECONDS:
            self._told_at = now
            say(self._console, text)
