"""`crrmon config`: what the settings are, and what they may be."""

from typing import Annotated, Literal

import typer

from crrmon.cli.commands.options import ConfigFile

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
    from crrmon.cli.config import show

    show(config, output)


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    from crrmon.cli.config import schema

    schema()


@app.command()
def example() -> None:
    """Print a configuration file that shows every setting with its meaning and its default."""
    from crrmon.cli.config import example

    example()
