"""What each command is called, takes and says of itself; whatever does its work is imported when it is called.

The daemon's imports take a second: whoever asks for help, or mistypes, need not wait for them.
"""

from typing import Annotated

import typer

from crrmon.cli.commands import check, config, deploy, ledger, routes, run, sandbox

app = typer.Typer(
    name="crrmon",
    help="Follow every object through Amazon S3 replication: what arrived, how long it took, what is late, what failed.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Daemon")(run.run)
app.command(rich_help_panel="Daemon")(check.check)
app.add_typer(deploy.app, name="deploy", rich_help_panel="Deployment")
app.command(rich_help_panel="Trying out")(sandbox.sandbox)
app.add_typer(ledger.app, name="ledger", rich_help_panel="Ledger")
app.add_typer(routes.app, name="routes", rich_help_panel="Ledger")
app.add_typer(config.app, name="config", rich_help_panel="Configuration")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        from crrmon import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass
