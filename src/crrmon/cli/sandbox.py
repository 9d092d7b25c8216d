"""``crrmon sandbox``: AWS on this machine, and the real daemon on it."""

from pathlib import Path

import typer
from rich.console import Console

from crrmon.cli.output import EXIT_CONFIGURATION, print_json, refuse
from crrmon.sandbox.children import SandboxError
from crrmon.sandbox.emulator import NotInstalledError
from crrmon.sandbox.play import SandboxSettings
from crrmon.sandbox.redis import NoRedisError
from crrmon.sandbox.session import AbortedError, UsageError, run
from crrmon.sandbox.show import Show, fleet, reasons, summary, table
from crrmon.sandbox.verdict import SandboxVerdict

_SIGNAL = 128


def sandbox(settings: SandboxSettings, *, keep: Path | None, output: str, verbose: bool) -> None:
    """Play, and print what came of it.

    Args:
        settings: what is played.
        keep: the folder for what it leaves behind; None for none.
        output: how to print the verdict.
        verbose: whether the daemon's log is shown as well.
    """
    try:
        verdict = run(settings, Show(Console(stderr=True), verbose=verbose), keep=keep)
    except AbortedError as aborted:
        raise typer.Exit(_SIGNAL + aborted.signum) from None
    except SandboxError as trouble:
        misused = isinstance(trouble, UsageError | NotInstalledError | NoRedisError)
        refuse(str(trouble), EXIT_CONFIGURATION if misused else 1)
    if output == "json":
        print_json(verdict)
    else:
        _print(verdict, several=settings.replicas > 1)
    raise typer.Exit(0 if verdict.agrees else 1)


def _print(verdict: SandboxVerdict, *, several: bool) -> None:
    console = Console()
    console.print(table(verdict))
    if verdict.reasons:
        console.print(reasons(verdict))
    if several:
        console.print(fleet(verdict))
    for line in summary(verdict):
        console.print(line, soft_wrap=True)
