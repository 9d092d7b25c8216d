"""`crrmon ledger`: create what the ledger needs, and move to another one."""

import typer

from crrmon.cli.ledger_copy import copy
from crrmon.cli.ledger_create import create

app = typer.Typer(help="Create the ledger, and move to another one.", no_args_is_help=True)
app.command()(create)
app.command()(copy)
