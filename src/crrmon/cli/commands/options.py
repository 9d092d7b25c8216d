"""The options that several commands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="CRRMON_CONFIG",
        help="The YAML file of settings; see config.example.yaml. CRRMON_* variables override it.",
        show_default="settings from the environment only",
    ),
]

Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to print.")]
