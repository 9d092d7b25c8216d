"""`crrmon config`: what the settings are, and what they may be."""

from typing import Annotated, Literal

import typer
import yaml

from crrmon import config as settings_module
from crrmon.cli.output import print_json
from crrmon.cli.settings import ConfigFile, settings_or_exit

app = typer.Typer(help="Show the settings and their allowed values.", no_args_is_help=True)


@app.command()
def show(
    config: ConfigFile = None,
    output: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", help="How to print.")
    ] = "yaml",
) -> None:
    """Print the effective settings: file, environment and defaults together.

    Secrets, and users in addresses, are masked: the output can be passed on.
    """
    values = settings_module.public(settings_or_exit(config))
    if output == "json":
        print_json(values)
    else:
        typer.echo(yaml.safe_dump(values, sort_keys=False), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    print_json(settings_module.schema())


@app.command()
def example() -> None:
    """Print a configuration file that shows every setting with its meaning and its default."""
    typer.echo(settings_module.example(), nl=False)
