"""What single steps cost in CPU time: HEAD, receive and delete with each client, reading a message, counting an object.

What one object needs of each is added up, so that it can be held against what the whole daemon takes: the difference
is all that joins the steps.

    python bench/calls.py             each client, in the clear and with TLS
    python bench/calls.py --quick     fewer calls
    python bench/calls.py --json      a line of JSON for each figure
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

import ledgers
from contenders import Job, crrmons, environment, settings
from crrmon import logs
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.adapters.s3 import S3Probe
from crrmon.adapters.sqs import BATCH, SqsInbox
from crrmon.config import Settings
from crrmon.connections import accounts_of, aws_of, queues_of
from crrmon.domain.events.decode import decode
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.domain.settling import Settled
from crrmon.ports.clock import SystemClock
from load import Cores, Stubs
from messages import ACCOUNT, REGION, Events, key, source, version_id
from places import PLACES

ABREAST = 32
"""Calls of a client under way at once, as in the daemon."""
STEPS = ("HEAD", "receive 10", "delete 10")
EACH = {"HEAD": 1.0, "receive 10": 0.1, "delete 10": 0.1}
"""How many calls an object needs."""

_CLOCK = SystemClock()
Item = TypeVar("Item")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What one step costs."""

    step: str
    client: str
    """Empty where it needs none."""
    tls: bool = False
    microseconds: float
    """CPU time of one, by the median of the rounds."""
    each: float = 1.0
    """How many an object needs."""


class Client(msgspec.Struct, frozen=True):
    """What the daemon calls AWS by."""

    probe: S3Probe
    inbox: SqsInbox


@contextlib.asynccontextmanager
async def client(kind: str | None, job: Job) -> AsyncIterator[Client]:
    """
    Open a client as the daemon's composition root does.

    Args:
        kind: `aws.client`; None where there is no such setting.
        job: says where the stubs are.
    """
    chosen = Settings(**settings(job, kind))
    async with aws_of(chosen) as aws:
        accounts = Accounts(aws, accounts_of(chosen), clock=_CLOCK, meters=PrometheusMeters())
        (inbox,) = queues_of(chosen, aws)
        yield Client(S3Probe(accounts, clock=_CLOCK), inbox)


# ---- calls ----


async def _abreast(items: Sequence[Item], call: Callable[[Item], Awaitable[None]]) -> float:
    """Make a call for each item, some at once; return the CPU seconds of one."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await call(item)

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(ABREAST)))
    return (time.process_time() - began) / len(items)


async def _call_all(one: Client, stubs: Stubs, calls: int) -> dict[str, float]:
    """Make so many calls of each kind; return the CPU seconds of one."""
    receipts: list[Sequence[str]] = []

    async def look(number: int) -> None:
        version = ObjectVersion(source(number), key(number), version_id(number))
        seen = await one.probe.look(version, region=REGION, owner=ACCOUNT)
        if seen.sight is not Sight.COMPLETED:
            raise RuntimeError(f"a look showed {seen}")

    async def receive(_: int) -> None:
        taken = await one.inbox.receive(wait_seconds=20, visibility_seconds=120)
        receipts.append([message.receipt for message in taken])

    async def delete(batch: Sequence[str]) -> None:
        if await one.inbox.acknowledge(batch):
            raise RuntimeError("something was not deleted")

    heads = await _abreast(range(calls), look)
    stubs.release(calls * BATCH)
    received = await _abreast(range(calls), receive)
    return dict(zip(STEPS, (heads, received, await _abreast(receipts, delete)), strict=True))


async def of_clients(
    clients: Mapping[str, str | None], stubs: Stubs, folder: Path, *, calls: int, rounds: int
) -> list[Call]:
    """Measure clients in turn over one wire."""
    job = Job(
        wire=stubs.wire, folder=folder, http_port=0, ledger={}, concurrency=None, profile=None
    )
    tls = stubs.wire.authority is not None
    os.environ.clear()
    os.environ.update(environment(stubs.wire))
    taken: dict[tuple[str, str], list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        open_ = {
            name: await stack.enter_async_context(client(kind, job))
            for name, kind in clients.items()
        }
        for one in open_.values():
            await _call_all(
                one, stubs, ABREAST * 4
            )  # connections, and code that runs the first time
        for _ in range(rounds):
            for name, one in open_.items():
                for step, seconds in (await _call_all(one, stubs, calls)).items():
                    taken.setdefault((step, name), []).append(seconds)
    return [
        Call(
            step=step,
            client=name,
            tls=tls,
            microseconds=statistics.median(seconds) * 1e6,
            each=EACH[step],
        )
        for (step, name), seconds in taken.items()
    ]


# ---- our own part ----


def decoding(messages: int) -> Call:
    """Measure reading a message."""
    events, now = Events(), _CLOCK.now()
    bodies = [events.body(number, now) for number in range(messages)]
    began = time.process_time()
    facts = sum(len(decode(body).facts) for body in bodies)
    took = time.process_time() - began
    if facts != messages:
        raise RuntimeError(f"{messages} messages told {facts} facts")
    return Call(step="decode one message", client="", microseconds=took / messages * 1e6)


async def counting(file: Path, objects: int) -> list[Call]:
    """Measure asking for an object's marks and settling it at its first look, in SQLite, in the daemon's batches."""
    now, seen, settled = _CLOCK.now(), 0.0, 0.0
    async with PLACES["sqlite"](str(file)) as place:
        for start in range(0, objects, ledgers.BATCH):
            records = [
                ledgers.fresh(number, now) for number in range(start, start + ledgers.BATCH)
            ]
            settlements = [ledgers.settlement(record, now) for record in records]
            marks = [mark for record in records for mark in ledgers.marks_of(record)]
            began = time.process_time()
            await place.ledger.seen(marks)
            seen += time.process_time() - began
            began = time.process_time()
            results = await place.ledger.settle(uuid.uuid4().hex, settlements, now=now)
            settled += time.process_time() - began
            if any(result != [Settled.COUNTED] for result in results):
                raise RuntimeError("something was counted before")
    return [
        Call(step=step, client="", microseconds=seconds / objects * 1e6)
        for step, seconds in (("seen, two marks", seen), ("settle at first look", settled))
    ]


def per_object(calls: Sequence[Call], client: str, *, tls: bool) -> float:
    """Return the CPU microseconds of all that an object needs."""
    needed = [
        call for call in calls if not call.client or (call.client, call.tls) == (client, tls)
    ]
    return sum(call.microseconds * call.each for call in needed)


def ways(calls: Sequence[Call]) -> list[tuple[str, bool]]:
    """Return the clients and wires that were measured."""
    return list(dict.fromkeys((call.client, call.tls) for call in calls if call.step in STEPS))


def table(calls: Sequence[Call]) -> Table:
    """Show them for eyes."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("Single steps: CPU µs", no_wrap=True)
    for name, tls in ways(calls):
        shown.add_column(f"{name}\n{'TLS' if tls else 'plain'}", justify="right")
    for step in dict.fromkeys(call.step for call in calls):
        cells = []
        for way in ways(calls):
            fitting = [call for call in calls if call.step == step]
            (call,) = [one for one in fitting if not one.client or (one.client, one.tls) == way]
            cells.append(f"{call.microseconds:,.0f}")
        shown.add_row(step, *cells)
    sums = [f"[bold]{per_object(calls, name, tls=tls):,.0f}[/]" for name, tls in ways(calls)]
    shown.add_row("[bold]one object[/]", *sums)
    return shown


def measure(*, calls: int, rounds: int, stubs_core: int | None) -> Iterator[Call]:
    """Measure everything; what needs no client comes first."""
    clients = {one.client or "sdk": one.client for one in crrmons("crrmon", sys.executable)}
    with tempfile.TemporaryDirectory(prefix="crrmon-bench-calls-") as name:
        folder = Path(name)
        yield decoding(calls * BATCH)
        yield from uvloop.run(counting(folder / "marks.db", calls * BATCH))
        for tls in (False, True):
            stubs = Stubs(core=stubs_core, folder=folder, tls=tls)
            try:
                yield from uvloop.run(
                    of_clients(clients, stubs, folder, calls=calls, rounds=rounds)
                )
            finally:
                stubs.process.end()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    parser.add_argument("--json", action="store_true", help="lines for machines")
    parser.add_argument("--stubs-core", type=int, help="where it is not to be chosen here")
    asked = parser.parse_args()
    logs.configure(level="warning", format="json")  # as the daemon's
    core = asked.stubs_core
    if core is None:
        cores = Cores.choose()
        core = cores.stubs
        if cores.measured is not None:
            os.sched_setaffinity(0, {cores.measured})
    calls, rounds = (200, 1) if asked.quick else (1000, 3)
    found = []
    for call in measure(calls=calls, rounds=rounds, stubs_core=core):
        found.append(call)
        if asked.json:
            print(msgspec.json.encode(call).decode(), flush=True)
    if not asked.json:
        Console().print(table(found))


if __name__ == "__main__":
    main()
