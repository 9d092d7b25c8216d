"""``crrmon sandbox``: AWS on this machine, and the real daemon on it."""

import random
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console

from crrmon.cli.settings import EXIT_CONFIGURATION, complain
from crrmon.sandbox.children import SandboxError
from crrmon.sandbox.emulator import NotInstalledError
from crrmon.sandbox.plan import Chances
from crrmon.sandbox.play import Settings
from crrmon.sandbox.redis import NoRedisError
from crrmon.sandbox.session import AbortedError, UsageError, run
from crrmon.sandbox.show import Show, fleet, reasons, summary, table

_SIGNAL = 128
_HOW = "How it behaves"


def sandbox(  # noqa: PLR0913 - options, not arguments
    *,
    objects: Annotated[
        int | None,
        typer.Option(
            min=1, help="Write so many objects, then compare and end. Without: until Ctrl-C."
        ),
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(
            min=1, max=10, help="Daemons that share the queue; several need redis or dynamodb."
        ),
    ] = 1,
    ledger: Annotated[
        Literal["sqlite", "redis", "dynamodb"],
        typer.Option(
            help="Where what is pending is remembered: a file, a Redis server of the sandbox's own, or the "
            "emulator's DynamoDB."
        ),
    ] = "sqlite",
    rate: Annotated[
        float, typer.Option(min=0.1, max=200, help="Objects per second.", rich_help_panel=_HOW)
    ] = 8.0,
    fail: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of replications that fail.", rich_help_panel=_HOW),
    ] = 0.02,
    repair: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of those failures that are repaired, once they were reported.",
            rich_help_panel=_HOW,
        ),
    ] = 0.5,
    median: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=60,
            help="Seconds that half of the replications take.",
            rich_help_panel=_HOW,
        ),
    ] = 3.0,
    spread: Annotated[
        float,
        typer.Option(
            min=0,
            max=3,
            help="How far the others are from it: sigma of a lognormal distribution, cut at a minute.",
            rich_help_panel=_HOW,
        ),
    ] = 1.0,
    event_delay: Annotated[
        float,
        typer.Option(
            min=0,
            max=60,
            help="Seconds within which most events reach the queue; some take longer.",
            rich_help_panel=_HOW,
        ),
    ] = 2.0,
    kill: Annotated[
        int,
        typer.Option(
            min=0,
            max=20,
            help="Kill daemons in turn with -9, so many times in all, and start them again. On the ledger redis, "
            "its server is killed once as well; on dynamodb, a tenth of the ledger's calls is refused for want of "
            "capacity, and some answers get lost.",
            rich_help_panel=_HOW,
        ),
    ] = 0,
    disable_rule: Annotated[
        bool,
        typer.Option(
            "--disable-rule",
            help="Halfway, disable the rule of src-b and delete the replication configuration of src-a, and go on "
            "writing to both.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Repeat a run's chances. Without: new ones.", rich_help_panel=_HOW
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port of the first daemon's metrics; the others take free ones. "
            "Without: 9464, or a free one if that is taken.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Empty folder for configuration, ledger and logs. Without: a temporary one.",
        ),
    ] = None,
    output: Annotated[
        Literal["table", "json"],
        typer.Option("--output", "-o", help="Print the verdict as this; all else goes to stderr."),
    ] = "table",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the daemon's log as well.")
    ] = False,
) -> None:
    """
    Watch the real daemon follow a replication that takes time and may fail.

    Starts an emulator of AWS on this machine, writes objects, and runs the
    daemon on it, or several of them on one queue and one ledger. Nothing
    leaves the machine. src-a replicates to two destinations, src-b a prefix
    to one, src-c and src-d to each other; CloudTrail and S3 itself tell of
    it. Some versions fail, and some of those are repaired; some are deleted
    before they replicate. At the end, what really happened is compared with
    what CloudWatch, Prometheus and the ledger were told.

    Ctrl-C ends the writing and leads to the verdict; a second one ends all.

    Exit codes: 0 all agree, 1 they do not or something broke, 2 wrong
    usage, 130 ended by a second Ctrl-C.
    """
    settings = Settings(
        objects=objects,
        rate=rate,
        chances=Chances(
            fail=fail, repair=repair, median=median, spread=spread, event_delay=event_delay
        ),
        seed=random.SystemRandom().randrange(1_000_000) if seed is None else seed,
        kills=kill,
        port=port,
        replicas=replicas,
        ledger=ledger,
        disable_rule=disable_rule,
    )
    show = Show(Console(stderr=True), verbose=verbose)
    try:
        verdict = run(settings, show, keep=keep)
    except AbortedError as aborted:
        raise typer.Exit(_SIGNAL + aborted.signum) from None
    except SandboxError as trouble:
        complain(str(trouble))
        misused = isinstance(trouble, UsageError | NotInstalledError | NoRedisError)
        raise typer.Exit(EXIT_CONFIGURATION if misused else 1) from None
    if output == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(verdict)).decode())
    else:
        console = Console()
        console.print(table(verdict))
        if verdict.reasons:
            console.print(reasons(verdict))
        if replicas > 1:
            console.print(fleet(verdict))
        for line in summary(verdict):
            console.print(line, soft_wrap=True)
    raise typer.Exit(0 if verdict.agrees else 1)
