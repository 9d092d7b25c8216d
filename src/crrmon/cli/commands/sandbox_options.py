"""The options of `crrmon sandbox`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

_HOW = "How it behaves"

Objects = Annotated[
    int | None,
    typer.Option(
        min=1, help="Write this many objects, then compare and exit. Default: until Ctrl-C."
    ),
]
Replicas = Annotated[
    int,
    typer.Option(
        min=1, max=10, help="Daemons that share the queue; several need redis or dynamodb."
    ),
]
Ledger = Annotated[
    Literal["sqlite", "redis", "dynamodb"],
    typer.Option(
        help="Where pending objects are remembered: a file, the sandbox's own Redis server, or the "
        "emulator's DynamoDB."
    ),
]
Rate = Annotated[
    float, typer.Option(min=0.1, max=200, help="Objects per second.", rich_help_panel=_HOW)
]
Fail = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of replications that fail.", rich_help_panel=_HOW),
]
Repair = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of those failures that are repaired after being reported.",
        rich_help_panel=_HOW,
    ),
]
Median = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=60,
        help="Median replication time in seconds.",
        rich_help_panel=_HOW,
    ),
]
Spread = Annotated[
    float,
    typer.Option(
        min=0,
        max=3,
        help="Spread around the median: sigma of a lognormal distribution, capped at a minute.",
        rich_help_panel=_HOW,
    ),
]
EventDelay = Annotated[
    float,
    typer.Option(
        min=0,
        max=60,
        help="Seconds within which most events reach the queue; some take longer.",
        rich_help_panel=_HOW,
    ),
]
Kill = Annotated[
    int,
    typer.Option(
        min=0,
        max=20,
        help="Kill daemons in turn with -9, this many times in all, and restart them. With the redis ledger, "
        "its server is killed once as well; with dynamodb, a tenth of the ledger's calls are refused for lack of "
        "capacity, and some answers are lost.",
        rich_help_panel=_HOW,
    ),
]
DisableRule = Annotated[
    bool,
    typer.Option(
        "--disable-rule",
        help="Halfway, disable the rule of src-b and delete the replication configuration of src-a, and go on "
        "writing to both.",
        rich_help_panel=_HOW,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, help="Repeat the random choices of a run. Default: new ones.", rich_help_panel=_HOW
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        help="Port of the first daemon's metrics; the others take free ports. "
        "Default: 9464, or a free port if that is taken.",
        show_default=False,
    ),
]
Keep = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="Empty folder for configuration, ledger and logs. Default: a temporary one.",
    ),
]
Output = Annotated[
    Literal["table", "json"],
    typer.Option("--output", "-o", help="Format of the verdict; everything else goes to stderr."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the daemon's log as well.")]
