"""`crrmon routes`: what holds each route back, and its release."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crrmon import connections
from crrmon.cli.output import print_json, refuse
from crrmon.cli.settings import sdk_or_exit, settings_or_exit
from crrmon.config import Settings
from crrmon.domain.objects import Route
from crrmon.domain.route_state import RouteState
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger, LedgerError, UnusableLedgerError
from crrmon.services.tracking import route_release
from crrmon.services.tracking.route_release import DisturbedReleaseError, UnknownRouteError

T = TypeVar("T")


def list_routes(config: Path | None, output: str) -> None:
    """Print what the ledger knows of its routes."""
    settings = settings_or_exit(config, queues=False)
    states = _asked(settings, route_release.states)
    if output == "json":
        values = [_plain(route, state) for route, state in states.items()]
        print_json(values)
        return
    _print(states)


def release(source: str, destination: str, config: Path | None) -> None:
    """Release a route, and say from what."""
    settings = settings_or_exit(config, queues=False)
    route = Route(source, destination)

    async def act(ledger: Ledger) -> RouteState:
        return await route_release.release(ledger, route, now=SystemClock().now())

    before = _asked(settings, act)
    what = f"the route from {source} to {destination}"
    if not before.configured:
        typer.echo(f"Retired {what}: no enabled rule leads there.")
    elif before.blocked_at is None:
        typer.echo(f"Released {what}: nothing held it back yet.")
    else:
        held = _number(before) if before.abandoned else "what is in doubt"
        typer.echo(f"Released {what} from {held}, since {_time(before.blocked_at)}.")


def _asked(settings: Settings, ask: Callable[[Ledger], Awaitable[T]]) -> T:
    """Ask the ledger that the settings name, or say why that failed and exit with 1."""
    ledger = settings.ledger
    if ledger.kind == "memory":
        refuse(
            "ledger.kind is memory: the ledger ends with its daemon, and no other process can read it"
        )
    if ledger.kind == "sqlite" and not ledger.path.is_file():
        refuse(f"ledger.path {ledger.path}: there is no such file")

    sdk_or_exit(settings)

    async def work() -> T:
        clock = SystemClock()
        async with (
            connections.aws_of(settings, choice="sdk") as aws,
            connections.opened_ledger(ledger, aws, clock=clock) as opened,
        ):
            return await ask(opened)

    try:
        return asyncio.run(work())
    except (UnknownRouteError, DisturbedReleaseError, LedgerError, UnusableLedgerError) as error:
        refuse(str(error))
    except msgspec.MsgspecError as error:
        refuse(f"what the ledger remembers about a route is damaged: {error}")


_WHOLE = 240
"""Characters that a line may have where no terminal breaks it: the longest names of two buckets, and all else."""


def _print(states: Mapping[Route, RouteState]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WHOLE)
    if not states:
        console.print("The ledger knows no routes yet.")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("source", "destination", "rule", "changed", "held back by", "since"):
        whole = heading in ("changed", "since")
        table.add_column(heading, no_wrap=whole, overflow="fold")
    for route, state in states.items():
        rule = "enabled" if state.configured else "retired" if state.retired else "gone"
        blocked_at = "" if state.blocked_at is None else _time(state.blocked_at)
        table.add_row(
            Text(route.source),
            Text(route.destination),
            rule,
            _time(state.changed_at),
            "" if state.blocked_at is None else _number(state),
            blocked_at,
        )
    console.print(table)


def _plain(route: Route, state: RouteState) -> dict[str, Any]:
    return {
        "source_bucket": route.source,
        "destination_bucket": route.destination,
        "configured": state.configured,
        "retired": state.retired,
        "changed_at": _time(state.changed_at),
        "prefixes": [select.prefix for select in state.selects],
        "prefixes_without_rule": [one.prefix for one in state.lost],
        "held_back_since": None if state.blocked_at is None else _time(state.blocked_at),
        "abandoned": [
            {
                "key": one.key,
                "version_id": one.version_id,
                "written_at": _time(one.written_at),
                "why": one.why,
            }
            for one in state.abandoned
        ],
        "more_were_abandoned": state.others_from is not None,
    }


def _number(state: RouteState) -> str:
    if not state.abandoned:
        return "a doubt"
    count = len(state.abandoned)
    more = state.others_from is not None
    return f"{count:,} object{'' if count == 1 else 's'}{' and more' if more else ''}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
