"""`crrmon ledger create`: the table of a dynamodb ledger."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from crrmon import connections
from crrmon.adapters.stores.dynamodb import creation
from crrmon.adapters.stores.dynamodb.table import description
from crrmon.cli.output import EXIT_INTERRUPTED, print_json, refuse
from crrmon.cli.progress import status, wait_aloud
from crrmon.cli.settings import ConfigFile, sdk_or_exit, settings_or_exit
from crrmon.config import Settings
from crrmon.ports.ledger import LedgerError, UnusableLedgerError


def create(
    *,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print as JSON what would be requested from AWS; request nothing."
        ),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Create the table of a dynamodb ledger, or finish creating it.

    The table is on-demand, expires old items by itself (time to live), and
    can be restored to any second of the last weeks (point-in-time
    recovery). An existing table is left as it is, except that whatever it
    lacks of this is added. Other ledgers need nothing: the daemon creates
    them when it first starts.

    Needs the permissions dynamodb:CreateTable, DescribeTable,
    UpdateTimeToLive, DescribeTimeToLive, UpdateContinuousBackups and
    DescribeContinuousBackups on the table; for ledger.dynamodb.tags also
    TagResource and ListTagsOfResource. The daemon never changes the table.

    Exit codes: 0 the table is ready, 1 failed, 2 wrong usage or
    configuration, 130 interrupted.
    """
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
        async with connections.aws_of(settings) as aws:
            return await creation.create(aws, table=of.table, region=of.region, tags=of.tags)
    finally:
        waiting.cancel()
