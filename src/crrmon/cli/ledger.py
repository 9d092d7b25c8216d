"""`crrmon ledger`: make what the ledger needs, and move to another one."""

import asyncio
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal, NoReturn, get_args
from urllib.parse import urlsplit

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from crrmon import connections
from crrmon.adapters.stores.dynamodb import table as dynamodb_table
from crrmon.cli.settings import (
    EXIT_CONFIGURATION,
    ConfigFile,
    complain,
    sdk_or_exit,
    settings_or_exit,
)
from crrmon.config import PREFIX, Settings
from crrmon.ports.clock import SystemClock
from crrmon.ports.ledger import Ledger, LedgerError, UnusableLedgerError
from crrmon.services.membership.leases import LEASE_SECONDS
from crrmon.services.migration import DisturbedError, Move, Moved, OccupiedError, RefusedError

EXIT_INTERRUPTED = 130
LINE_SECONDS = 5.0
"""How often a line of progress is printed where there is no terminal."""

Kind = Literal["sqlite", "redis", "dynamodb"]
KINDS: tuple[str, ...] = get_args(Kind)

NOT_COPIED = (
    "Not copied: what tells that objects settled before were counted. Events that come again for those would be"
    " counted again: let the old daemon empty its queue before you stop it, or let what is left in the queue grow"
    " older than ledger.horizon_days."
)

app = typer.Typer(help="Make the ledger, and move to another one.", no_args_is_help=True)


# ---- create ----


@app.command()
def create(
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print as JSON what would be asked of AWS; ask nothing."),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """
    Make the table of a dynamodb ledger, or finish one that was begun.

    The table is on-demand, drops by itself what is past its time, and can
    be brought back as it was at any second of the last weeks. One that is
    there already is left as it is, but for what it lacks of this. Other
    ledgers need nothing: the daemon makes them when it first starts.

    Needs the permissions dynamodb:CreateTable, DescribeTable,
    UpdateTimeToLive, DescribeTimeToLive, UpdateContinuousBackups and
    DescribeContinuousBackups on the table; for ledger.dynamodb.tags also
    TagResource and ListTagsOfResource. The daemon never changes the table.

    Exit codes: 0 it is there, 1 failed, 2 wrong usage or configuration,
    130 interrupted.
    """
    settings = settings_or_exit(config, queues=False)
    kind, of = settings.ledger.kind, settings.ledger.dynamodb
    if kind != "dynamodb":
        if dry_run:
            typer.echo("{}")
        typer.echo(
            f"crrmon: ledger.kind is {kind}: nothing is to be created, the daemon makes it at its first start",
            err=True,
        )
        return
    if dry_run:
        requests = dynamodb_table.description(of.table, of.tags)
        typer.echo(msgspec.json.format(msgspec.json.encode(requests)).decode())
        return
    sdk_or_exit(settings)
    console = Console(stderr=True)
    try:
        with _status(console, f"making table {of.table}"):
            done = asyncio.run(_create(settings, console))
    except KeyboardInterrupt:
        complain(f"interrupted: run it again to finish table {of.table}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (LedgerError, UnusableLedgerError) as error:
        _refuse(str(error))
    typer.echo(
        f"Table {of.table} is ready: {', '.join(done) if done else 'nothing was to be done'}."
    )


async def _create(settings: Settings, console: Console) -> Sequence[str]:
    of = settings.ledger.dynamodb
    waiting = asyncio.create_task(_wait_aloud(console, f"still making table {of.table}"))
    try:
        async with connections.aws_of(settings) as aws:
            return await dynamodb_table.create(aws, table=of.table, region=of.region, tags=of.tags)
    finally:
        waiting.cancel()


def _status(console: Console, text: str) -> AbstractContextManager[object]:
    """
    Show that something goes on, on a terminal; else say it once.
    """
    if console.is_terminal:
        return console.status(text)
    _say(console, text)
    return nullcontext()


async def _wait_aloud(console: Console, text: str) -> None:
    while not console.is_terminal:
        await asyncio.sleep(LINE_SECONDS)
        _say(console, text)


# ---- copy ----


class Place(msgspec.Struct, frozen=True):
    """
    One ledger that is named on the command line.
    """

    settings: Settings
    """With `ledger.kind` as it was named."""

    @property
    def identity(self) -> tuple[str, ...]:
        """
        What tells this ledger from others, as far as settings can.
        """
        ledger, aws = self.settings.ledger, self.settings.aws
        match ledger.kind:
            case "redis":
                url = urlsplit(ledger.redis.url)
                server = f"{url.hostname}:{url.port or 6379}/{url.path.strip('/') or '0'}"
                return ("redis", server, ledger.redis.prefix)
            case "dynamodb":
                region = ledger.dynamodb.region or aws.region or os.environ.get("AWS_REGION", "")
                return ("dynamodb", aws.endpoint_url or "", region, ledger.dynamodb.table)
            case _:
                return ("sqlite", str(ledger.path.resolve()))

    @property
    def name(self) -> str:
        """
        What to call it.
        """
        ledger = self.settings.ledger
        match ledger.kind:
            case "redis":
                return f"redis {urlsplit(ledger.redis.url).netloc.rpartition('@')[2]} (prefix {ledger.redis.prefix})"
            case "dynamodb":
                return f"dynamodb table {ledger.dynamodb.table}"
            case _:
                return f"sqlite {ledger.path}"

    @property
    def emptying(self) -> str:
        """
        How to make it empty.
        """
        ledger = self.settings.ledger
        match ledger.kind:
            case "redis":
                return f"set another ledger.redis.prefix than {ledger.redis.prefix}, or delete the keys that begin with it"
            case "dynamodb":
                return f"delete the table {ledger.dynamodb.table} and make it anew with crrmon ledger create"
            case _:
                return f"delete {ledger.path} and, if it is there, {ledger.path}-wal"


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
        typer.Option("--output", "-o", help="Print the result as this; all else goes to stderr."),
    ] = "table",
) -> None:
    """
    Copy what is pending to another ledger, while the daemon is stopped.

    WHERE is a kind (sqlite, redis, dynamodb), with the settings of that
    kind from the configuration in use; or the path of another
    configuration file, whose ledger.kind counts. A password never stands
    on the command line, but in those settings.

    Copied are pending objects and open failures with all that is known of
    them, counts and windows that are not yet reported, and the routes. The
    source is only read. At the end both ledgers are compared.

    Not copied: what tells that objects settled before were counted. Events
    that come again for those would be counted again. So let the daemon
    empty its queue before you stop it; or let what is left in the queue
    grow older than ledger.horizon_days.

    A daemon that was killed seems to work for half a minute more, which is
    waited for. A copy that was interrupted is begun again, with the target
    emptied: another file, table or ledger.redis.prefix.

    Exit codes: 0 copied and both agree, 1 refused, failed or they differ,
    2 wrong usage or configuration, 130 interrupted.
    """
    places = _place(source, config, "--from"), _place(target, config, "--to")
    _check(*places)
    for place in places:
        sdk_or_exit(place.settings)
    screen = _Screen(Console(stderr=True))
    try:
        with screen.live():
            moved = asyncio.run(_copy(*places, screen))
    except KeyboardInterrupt:
        _end("interrupted", places[1], screen, EXIT_INTERRUPTED)
    except OccupiedError as error:
        _refuse(f"{error}: {places[1].emptying}, or name another one")
    except (RefusedError, DisturbedError, LedgerError, UnusableLedgerError) as error:
        _end(str(error), places[1], screen, 1)
    _print(moved, places, output)
    if moved.differences:
        _end("\n".join(moved.differences), places[1], screen, 1)
    typer.echo(NOT_COPIED, err=True)


def _place(where: str, config: Path | None, option: str) -> Place:
    if where in KINDS:
        settings = settings_or_exit(config, queues=False)
        ledger = settings.ledger.model_copy(update={"kind": where})
        return Place(settings.model_copy(update={"ledger": ledger}))
    if where == "memory":
        _misused(f"{option} memory: a ledger in memory ends with its daemon")
    if "://" in where:
        # Not repeated here: there may be a password in it.
        _misused(f"{option}: a URL belongs into the configuration; name a kind or a file")
    path = Path(where)
    if not path.is_file():
        _misused(f"{option} {where}: is neither {', '.join(KINDS)} nor a configuration file")
    settings = settings_or_exit(path, queues=False)
    if settings.ledger.kind == "memory":
        _misused(f"{option} {where}: its ledger.kind is memory, which ends with its daemon")
    return Place(settings)


def _check(source: Place, target: Place) -> None:
    if source.identity == target.identity:
        forced = [name for name in os.environ if name.upper().startswith(f"{PREFIX}LEDGER")]
        hint = f"; {', '.join(sorted(forced))} override what any file says" if forced else ""
        _misused(f"--from and --to are the same: {source.name}{hint}")
    ledger = source.settings.ledger
    if ledger.kind == "sqlite" and not ledger.path.is_file():
        # Opening it would make it.
        _refuse(f"ledger.path {ledger.path}: there is no such file to copy from")


async def _copy(source: Place, target: Place, screen: "_Screen") -> Moved:
    clock = SystemClock()
    async with AsyncExitStack() as stack:

        async def opened(place: Place, *, create: bool) -> Ledger:
            aws = await stack.enter_async_context(connections.aws_of(place.settings))
            ledger = await connections.open_ledger(
                place.settings.ledger, aws, clock=clock, create=create
            )
            stack.push_async_callback(ledger.close)
            return ledger

        move = Move(
            await opened(source, create=False),
            await opened(target, create=True),
            clock=clock,
            owner=f"ledger-copy-{socket.gethostname()}-{uuid.uuid4().hex[:12]}",
            teller=screen,
        )
        return await move.run()


def _print(moved: Moved, places: Sequence[Place], output: str) -> None:
    source, target = (place.name for place in places)
    if output == "json":
        values = {"from": source, "to": target, **msgspec.to_builtins(moved)}
        typer.echo(msgspec.json.format(msgspec.json.encode(values)).decode())
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


def _end(reason: str, target: Place, screen: "_Screen", code: int) -> NoReturn:
    """
    Say why a copy was not made, and what is to be done with what there is of it.
    """
    complain(reason)
    if screen.began:
        complain(
            f"the source is as it was, but the target is incomplete: {target.emptying}, before the next try"
        )
    raise typer.Exit(code)


def _refuse(text: str) -> NoReturn:
    complain(text)
    raise typer.Exit(1)


def _misused(text: str) -> NoReturn:
    complain(text)
    raise typer.Exit(EXIT_CONFIGURATION)


class _Screen:
    """
    Shows how far a copy is: a bar on a terminal, else a line now and then.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._phase = ""
        self._told_at = float("-inf")
        self.began = False

    @contextmanager
    def live(self) -> Iterator[None]:
        """
        Keep the last line of a terminal for the bar.
        """
        if not self._console.is_terminal:
            yield
            return
        with self._bar:
            yield

    def watching(self, owner: str, left: float) -> None:
        """
        Tell that a lease is watched.
        """
        self._first(
            "watching",
            f"{owner} held a part of the ledger: watching for {LEASE_SECONDS:.0f} s whether it still works",
        )
        self._show("watching", LEASE_SECONDS - left, LEASE_SECONDS, f"watching: {left:.0f} s left")

    def copying(self, done: int, total: int) -> None:
        """
        Tell how many objects are copied.
        """
        self.began = True
        self._first("copying", f"copying {total:,} objects (each once for each destination)")
        self._show("copying", done, total, f"{done:,} of {total:,} objects copied")

    def retrying(self, reason: str) -> None:
        """
        Tell that a ledger failed.
        """
        self._say(f"{reason}; trying again")

    def _first(self, phase: str, text: str) -> None:
        if self._phase != phase:
            self._phase = phase
            self._told_at = asyncio.get_running_loop().time()
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(phase)
            self._say(text)

    def _show(self, phase: str, done: float, total: float, line: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=phase, completed=done, total=total)
        now = asyncio.get_running_loop().time()
        if not self._console.is_terminal and now - self._told_at >= LINE_SECONDS:
            self._told_at = now
            self._say(line)

    def _say(self, text: str) -> None:
        _say(self._console, text)


def _say(console: Console, text: str) -> None:
    console.print(f"crrmon: {text}", markup=False, highlight=False, soft_wrap=True)
