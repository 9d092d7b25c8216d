"""`crrmon ledger copy`: what is pending moves to another ledger."""

import asyncio
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from crrmon import connections
from crrmon.cli.ledger_named import NamedLedger, check_apart, named_ledger
from crrmon.cli.output import EXIT_INTERRUPTED, complain, print_json, refuse
from crrmon.cli.progress import Screen
from crrmon.cli.settings import sdk_or_exit
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import LedgerError, UnusableLedgerError
from crrmon.services.migration import DisturbedCopyError, Move, Moved, OccupiedError, RefusedError

NOT_COPIED = (
    "Not copied: the record of objects that settled before and were counted. If their events are redelivered, they"
    " are counted again: let the old daemon empty its queue before you stop it, or wait until the messages left in"
    " the queue are older than ledger.dedup_retention_days."
)


def copy(source: str, target: str, config: Path | None, output: str) -> None:
    """Copy what is pending, and say what came of it.

    Args:
        source: names a ledger, as `named_ledger` reads it.
        target: names another one, in the same way.
        config: the file of settings.
        output: how to print what was copied.
    """
    places = named_ledger(source, config, "--from"), named_ledger(target, config, "--to")
    check_apart(*places)
    for place in places:
        sdk_or_exit(place.settings)
    screen = Screen(Console(stderr=True))
    try:
        with screen.live():
            moved = asyncio.run(_copy(*places, screen))
    except KeyboardInterrupt:
        _end("interrupted", places[1], screen, EXIT_INTERRUPTED)
    except OccupiedError as error:
        refuse(f"{error}: {places[1].emptying}, or name another one")
    except (RefusedError, DisturbedCopyError, LedgerError, UnusableLedgerError) as error:
        _end(str(error), places[1], screen, 1)
    _print(moved, places, output)
    if moved.differences:
        _end("\n".join(moved.differences), places[1], screen, 1)
    typer.echo(NOT_COPIED, err=True)


async def _copy(source: NamedLedger, target: NamedLedger, screen: Screen) -> Moved:
    clock = SystemClock()
    async with (
        connections.aws_of(source.settings, choice="sdk") as here,
        connections.opened_ledger(source.settings.ledger, here, clock=clock) as old,
        connections.aws_of(target.settings, choice="sdk") as there,
        connections.opened_ledger(target.settings.ledger, there, clock=clock, create=True) as new,
    ):
        move = Move(
            old,
            new,
            clock=clock,
            owner=f"ledger-copy-{socket.gethostname()}-{uuid.uuid4().hex[:12]}",
            teller=screen,
        )
        return await move.run()


def _print(moved: Moved, places: Sequence[NamedLedger], output: str) -> None:
    source, target = (place.name for place in places)
    if output == "json":
        print_json({"from": source, "to": target, **msgspec.to_builtins(moved)})
        return
    console = Console()
    console.print(
        f"Copied from {source} to {target}:", markup=False, highlight=False, soft_wrap=True
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("what")
    table.add_column("number", justify="right")
    for what, number in (
        ("pending objects", moved.pending),
        ("open failures", moved.failures),
        ("batches not yet reported", moved.batches),
        ("windows not yet sent", moved.windows),
        ("routes", moved.routes),
        ("small states", moved.states),
    ):
        table.add_row(what, f"{number:,}")
    console.print(table)


def _end(reason: str, target: NamedLedger, screen: Screen, code: int) -> NoReturn:
    """Say why a copy failed, and what to do with the incomplete one."""
    complain(reason)
    if screen.began:
        complain(
            f"the source is unchanged, but the target is incomplete: {target.emptying}, before you try again"
        )
    raise typer.Exit(code)
