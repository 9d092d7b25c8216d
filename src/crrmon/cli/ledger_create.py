"""`crrmon ledger create`: the table of a dynamodb ledger."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from crrmon import connections
from crrmon.adapters.stores.dynamodb import creation
from crrmon.adapters.stores.dynamodb.table import description
from crrmon.cli.output import EXIT_INTERRUPTED, print_json, refuse
from crrmon.cli.progress import status, wait_aloud
from crrmon.cli.settings import sdk_or_exit, settings_or_exit
from crrmon.config import Settings
from crrmon.ports.ledger import LedgerError, UnusableLedgerError


def create(config: Path | None, *, dry_run: bool) -> None:
    """Create the table, or print what would be requested for it."""
    settings = settings_or_exit(config, queues=False)
    kind, of = settings.ledger.kind, settings.ledger.dynamodb
    if kind != "dynamodb":
        if dry_run:
            typer.echo("{}")
        typer.echo(
            f"crrmon: ledger.kind is {kind}: there is nothing to create, the daemon creates the ledger when it first starts",
            err=True,
        )
        return
    if dry_run:
        print_json(description(of.table, of.tags))
        return
    sdk_or_exit(settings)
    console = Console(stderr=True)
    try:
        with status(console, f"creating table {of.table}"):
            done = asyncio.run(_create(settings, console))
    except KeyboardInterrupt:
        refuse(f"interrupted: run it again to finish table {of.table}", EXIT_INTERRUPTED)
    except (LedgerError, UnusableLedgerError) as error:
        refuse(str(error))
    typer.echo(
        f"Table {of.table} is ready: {', '.join(done) if done else 'there was nothing to do'}."
    )


async def _create(settings: Settings, console: Console) -> Sequence[str]:
    of = settings.ledger.dynamodb
    waiting = asyncio.create_task(wait_aloud(console, f"still creating table {of.table}"))
    try:
        async with connections.aws_of(settings, choice="sdk") as aws:
            return await creation.create(aws, table=of.table, region=of.region, tags=of.tags)
    finally:
        waiting.cancel()
