"""The settings and what they may be, printed."""

from pathlib import Path

import typer
import yaml

from crrmon import config as settings_module
from crrmon.cli.output import print_json
from crrmon.cli.settings import settings_or_exit


def show(config: Path | None, output: str) -> None:
    """Print the effective settings."""
    values = settings_module.public(settings_or_exit(config))
    if output == "json":
        print_json(values)
    else:
        typer.echo(yaml.safe_dump(values, sort_keys=False), nl=False)


def schema() -> None:
    """Print the JSON schema of the configuration file."""
    print_json(settings_module.schema())


def example() -> None:
    """Print a configuration file that shows every setting."""
    typer.echo(settings_module.example(), nl=False)
