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
        """Take the bar away at the end."""
        try:
            yield
        finally:
            self._bar.stop()

    def show(self, progress: discoverer.Progress) -> None:
        """Show how far it is."""
        if not progress.accounts:
            return
        listed = progress.accounts_listed == progress.accounts
        text = f"{progress.buckets_read:,} of {progress.buckets:,} buckets read"
        if not listed:
            text = f"buckets of {progress.accounts_listed} of {progress.accounts} accounts listed"
        # Until all accounts are listed, nobody knows how many buckets there are.
        total = progress.buckets if listed else None
        self._bar.update(
            self._task, description=text, completed=progress.buckets_read, total=total
        )
        if self._console.is_terminal:
            # Not before accounts are entered: the SDK may ask for a code of MFA then.
            self._bar.start()
            return
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= LINE_SECONDS:
            self._told_at = now
            say(self._console, text)
