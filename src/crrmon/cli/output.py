"""What commands print, and how they end where they cannot go on."""

from typing import Any, NoReturn

import msgspec
import typer

EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130


def print_json(value: Any) -> None:
    """Print a value as JSON that people can read."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def complain(text: str) -> None:
    """Say on standard error why a command cannot go on."""
    for line in text.splitlines():
        typer.echo(f"crrmon: {line}", err=True)


def refuse(text: str, code: int = 1) -> NoReturn:
    """Say why a command cannot go on, and end it."""
    complain(text)
    raise typer.Exit(code)


def misuse(text: str) -> NoReturn:
    """Say what is wrong with how a command was called, or with the configuration, and end it."""
    refuse(text, EXIT_CONFIGURATION)
