"""What `crrmon check` found, printed."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crrmon import app as composition
from crrmon import logs
from crrmon.cli.escaping import on_one_line
from crrmon.cli.output import print_json
from crrmon.cli.settings import sdk_or_exit, settings_or_exit
from crrmon.domain.checks import Check, Verdict, failed

_STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.UNPROVED: "yellow"}


def check(config: Path | None, output: str) -> None:
    """Make the calls, and print what came of them."""
    settings = settings_or_exit(config)
    sdk_or_exit(settings, daemon=True)
    # What the adapters would log is in the results.
    logs.configure(
        level="error", format=settings.log.format, keys=settings.log.keys, stream=sys.stderr
    )
    checks = asyncio.run(composition.check(settings))
    if output == "json":
        values = {"failed": failed(checks), "checks": checks}
        print_json(values)
    else:
        _print(checks)
    if failed(checks):
        raise typer.Exit(1)


def _print(checks: Sequence[Check]) -> None:
    console = Console()
    # Two columns, and sentences below their call: where nobody looks at a terminal there are 80 characters.
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in checks:
        call = f"{one.subject}: {one.call}"
        if one.needs and one.verdict is not Verdict.PASSED:
            call = f"{call} (needs {one.needs})"
        grid.add_row(Text(one.verdict.value, style=_STYLES[one.verdict]), on_one_line(call))
        if one.found:
            grid.add_row("", on_one_line(one.found))
    console.print(grid)
    counts = {verdict: sum(one.verdict is verdict for one in checks) for verdict in Verdict}
    console.print(", ".join(f"{number} {verdict.value}" for verdict, number in counts.items()))
