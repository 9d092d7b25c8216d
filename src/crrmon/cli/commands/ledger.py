"""`crrmon ledger`: create what the ledger needs, and move to another one."""

from typing import Annotated, Literal

import typer

from crrmon.cli.commands.options import ConfigFile

app = typer.Typer(help="Create the ledger, and move to another one.", no_args_is_help=True)


@app.command()
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
    from crrmon.cli.ledger_create import create

    create(config, dry_run=dry_run)


@app.command()
def copy(
    *,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="The ledger that the daemon used: sqlite, redis, dynamodb, or another configuration file.",
        ),
    ],
    target: Annotated[
        str,
        typer.Option("--to", metavar="WHERE", help="An empty ledger, named in the same way."),
    ],
    config: ConfigFile = None,
    output: Annotated[
        Literal["table", "json"],
        typer.Option(
            "--output", "-o", help="Format of the result; everything else goes to stderr."
        ),
    ] = "table",
) -> None:
    """Copy what is pending to another ledger, while the daemon is stopped.

    WHERE is a kind (sqlite, redis, dynamodb), with the settings of that
    kind from the configuration in use; or the path of another
    configuration file, whose ledger.kind applies. Passwords are never
    given on the command line, only in those settings.

    It copies pending objects and open failures with everything known about
    them, counts and windows not yet reported, and the routes. The source
    is only read. At the end both ledgers are compared.

    Not copied: the record of objects that settled before and were counted.
    If their events are redelivered, they are counted again. So let the
    daemon empty its queue before you stop it; or wait until the messages
    left in the queue are older than ledger.dedup_retention_days.

    A daemon that was killed seems to keep working for half a minute, which
    the copy waits for. After an interruption, start the copy again with an
    empty target: another file, table or ledger.redis.prefix.

    Exit codes: 0 copied and both agree, 1 refused, failed or they differ,
    2 wrong usage or configuration, 130 interrupted.
    """
    from crrmon.cli.ledger_copy import copy

    copy(source, target, config, output)
