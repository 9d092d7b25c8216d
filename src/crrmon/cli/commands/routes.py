"""`crrmon routes`: what holds each route back, and its release."""

from typing import Annotated

import typer

from crrmon.cli.commands.options import ConfigFile, Output

app = typer.Typer(help="Show what holds each route back, and release it.", no_args_is_help=True)


@app.command("list")
def list_routes(*, config: ConfigFile = None, output: Output = "table") -> None:
    """List the routes that the ledger knows.

    For each: whether an enabled replication rule leads there, since when,
    and which objects were abandoned without having arrived, which holds
    crrmon_complete_up_to_timestamp_seconds back.

    A sqlite ledger can be read only while its daemon is stopped.

    Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
    """
    from crrmon.cli.routes import list_routes

    list_routes(config, output)


@app.command()
def release(
    *,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source bucket.")],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="The destination bucket.")
    ],
    config: ConfigFile = None,
) -> None:
    """Release a route from objects abandoned without having arrived.

    Do so when you have replicated those objects by other means, or do not
    want them there: "complete up to" then moves past them. A route without
    an enabled rule is retired: it is no longer reported until a rule leads
    there again.

    A sqlite ledger can be changed only while its daemon is stopped.

    Exit codes: 0 released, 1 failed, 2 wrong usage or configuration.
    """
    from crrmon.cli.routes import release

    release(source, destination, config)
