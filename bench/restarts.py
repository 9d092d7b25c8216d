"""What restarts cost: HEADs per object while replicas are killed again and again, with what was learned kept and without.

All services of three daemons, on one ledger in memory and one queue, in simulated time; what replicates, and how long it
takes, is that of `pacing.py`. None of the daemons lives long enough to learn all by itself.

    python bench/restarts.py            a table, in some minutes
    python bench/restarts.py --quick    only what is told of at once, and fewer objects
"""

import argparse
import asyncio
import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import looptime
import msgspec
import structlog
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crrmon.domain.objects import ObjectVersion
from fakes.clock import LoopClock
from fakes.events import written
from fakes.inbox import FakeInbox
from fakes.ledger_flaky import FlakyLedger
from fakes.ledger_use import pending
from fakes.ledgers import MemoryLedger
from fakes.rig import Rig
from fakes.s3 import FakeS3, Fate
from fakes.sink import FakeSink
from pacing import SCENARIOS, SEED, Scenario

REPLICAS = 3
REPLICATIONS = (
    msgspec.structs.replace(SCENARIOS[0], name="fast, told of at once", event_delay=(0.5, 3.0)),
    SCENARIOS[1],
)
"""Told of by S3's notifications at once, or by CloudTrail; mostly before it is done, either way."""
PATIENCE_SECONDS = 86_400.0
"""How long to wait for the last object at the most; the kills go on meanwhile."""
RECEIVES = 1000
"""After which a message is given up: killed daemons alone must not use them up."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    scenario: Scenario
    objects: int
    rate: float
    """Objects written per second."""
    killed_after: float | None
    """Seconds that a replica lives; None for on and on."""
    kept: bool = True
    """Whether what was learned is."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    heads: float
    """Per object, of all."""
    second_half: float
    """Per object, of those written in the second half."""
    kills: int
    taught: int
    """Lessons that were written to the ledger."""


class Estate:
    """What outlives the daemons, and who they are at the moment."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._clock = LoopClock()
        self.ledger = FlakyLedger(MemoryLedger(shards=12, clock=self._clock))
        self.inbox = FakeInbox(self._clock, max_receives=RECEIVES)
        self.s3 = FakeS3(self._clock)
        self.s3.rule("src", "dst")
        self._sink = FakeSink()
        self._begun = 0
        self.kills = 0
        self.rigs = [self._begin() for _ in range(REPLICAS)]

    def _begin(self) -> Rig:
        self._begun += 1
        rig = Rig(
            ledger=self.ledger,
            inbox=self.inbox,
            s3=self.s3,
            sink=self._sink,
            clock=self._clock,
            owner=f"daemon {self._begun}",
            max_in_flight=2000,
        )
        if not self._case.kept:
            rig.daemon.latencies._recalled.set()  # noqa: SLF001 - to nothing, as it was before
        rig.start(without=() if self._case.kept else ("latencies",))
        return rig

    async def kill_in_turn(self) -> None:
        """Kill the one that has lived longest, and begin another, again and again."""
        while self._case.killed_after is not None:
            await asyncio.sleep(self._case.killed_after / REPLICAS)
            await self.rigs.pop(0).kill()
            self.kills += 1
            self.rigs.append(self._begin())

    async def write_all(self) -> None:
        """Write objects, and send their events when they are due."""
        rng = random.Random(SEED)  # noqa: S311 - a simulation
        loop = asyncio.get_running_loop()
        for number in range(self._case.objects):
            await asyncio.sleep(rng.expovariate(self._case.rate))
            key, now = f"{number:06}", self._clock.now()
            name = ObjectVersion("src", key, "v1")
            takes = self._case.scenario.latency(rng)
            self.s3.fates[name] = Fate(now + takes, written_at=int(now))
            event = written(key, at=now)
            loop.call_later(rng.uniform(*self._case.scenario.event_delay), self.inbox.send, event)


async def run(case: Case) -> Cost:
    """Have all objects written, and wait until all are counted."""
    estate = Estate(case)
    killing = asyncio.create_task(estate.kill_in_turn())
    await estate.write_all()
    await asyncio.sleep(case.scenario.event_delay[1])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while estate.inbox.waiting or await pending(estate.ledger):  # noqa: ASYNC110 - simulated
            await asyncio.sleep(5)
    killing.cancel()
    for rig in estate.rigs:
        await rig.kill()
    looks = [int(version.key) for version in estate.s3.looks]
    half = case.objects // 2
    return Cost(
        heads=len(looks) / case.objects,
        second_half=sum(number >= half for number in looks) / (case.objects - half),
        kills=estate.kills,
        taught=estate.ledger.calls.count("teach"),
    )


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Return what to run: undisturbed, killed and forgetting, killed and remembering."""
    for scenario in REPLICATIONS[: 1 if options.quick else None]:
        for killed_after, kept in (
            (None, True),
            (options.killed_after, False),
            (options.killed_after, True),
        ):
            yield Case(
                scenario=scenario,
                objects=3000 if options.quick else 20_000,
                rate=options.rate,
                killed_after=killed_after,
                kept=kept,
            )


def simulate(case: Case) -> Cost:
    """Run a case in simulated time."""
    loop = looptime.new_event_loop(start=0.0, noop_cycles=1)
    try:
        return loop.run_until_complete(run(case))
    finally:
        loop.close()


def main() -> None:
    """Run all cases and print what each cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one replication, fewer objects")
    parser.add_argument("--rate", type=float, default=20.0, help="objects written per second")
    parser.add_argument("--killed-after", type=float, default=50.0, help="seconds a replica lives")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=max(Console().width, 120))
    table = Table(
        "replication", "objects", "a replica lives", "kept", "HEADs per object", "second half", "kills", "lessons",
        title=f"{REPLICAS} replicas, {options.rate:g} objects a second",
    )  # fmt: skip
    for case in cases(options):
        with console.status(f"simulating {case.scenario.name}"):
            cost = simulate(case)
        table.add_row(
            case.scenario.name,
            f"{case.objects:,}",
            "on" if case.killed_after is None else f"{case.killed_after:g} s",
            "yes" if case.kept else "no",
            f"{cost.heads:.2f}",
            f"{cost.second_half:.2f}",
            str(cost.kills),
            str(cost.taught),
        )
        console.print(msgspec.json.encode(cost).decode(), highlight=False, soft_wrap=True)
    console.print(table)


if __name__ == "__main__":
    main()
