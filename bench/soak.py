"""The daemon for an hour under half load, while everything around it breaks; and at the end what came of it.

    python bench/soak.py --minutes 60 --ledger sqlite

A real process of it runs on a queue, a store and CloudWatch of its own (`soak_aws.py`). In turn S3 and CloudWatch
answer 503, connections are reset, answers are cut short; the daemon is ended and killed, and so is the ledger's server
where it has one; its credentials change every minute. Then all faults end, what is left is let through, and what was
reported is held against what really happened.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from aiohttp import web

from crrmon.sandbox.children import LOOPBACK, Restartable, SandboxError, free_port
from crrmon.sandbox.environment import isolated
from crrmon.sandbox.redis import redis
from soak_aws import ACCOUNT, COUNTS, QUEUE, REGION, ROUTES, Cloud, Fault, Truth

TICK = os.sysconf("SC_CLK_TCK")
HALF = 0.5
"""Of a core: what the daemon is kept busy with."""
SLOWEST, FASTEST = 20.0, 1000.0
"""Objects per second, within which the load is found that does that."""
WINDOW_SECONDS = 10
DRAIN_SECONDS = 420.0
"""For all that is left when the faults are over: a killed daemon's messages come again after 120 s, and between two looks
at an object that stays pending lie up to five minutes.
"""
GRACE_SECONDS = 40.0
SETTLING_SECONDS = 2.0
"""Of a burst of 503: how long the daemon may take to notice."""
USUAL_PACE_SECONDS = 180.0
"""In a shorter run, events, replication and redelivery take less time as well."""
WARM_SECONDS = 60.0
"""Of a life: what is then in memory stays there."""
SHORTEST_SECONDS = 30.0
"""Of what a line is fitted through, after that."""
LIVES = 6
"""Restarts end after half of them, so that the last life is long enough to tell how its memory grows."""
MAX_LAG_SECONDS = 90.0
"""A burst, the leases of a killed daemon (24 s), and a start on a busy machine."""
MAX_BUSY_RATIO = 0.5
"""HEADs per second while S3 answers 503, of those otherwise."""
MAX_GROWTH_KIB = 16 * 1024.0
"""By which the fitted line may rise over a life after warming up..."""
PAGES_KIB = {"sqlite": 32 * 1024.0, "redis": 0.0}
"""...and by the ledger's own cache of pages, which fills as long as its file grows."""
PARTS = ((Fault.BUSY, 0.15, 0.25), (Fault.RESET, 0.28, 0.35), (Fault.SHORT, 0.35, 0.42))
"""Of each round of faults: which there are from when to when."""


class Life(msgspec.Struct, kw_only=True):
    """One process of the daemon, after warming up."""

    number: int
    seconds: float
    rss_mib: float
    """At the end."""
    slope_kib_per_minute: float


class Outcome(msgspec.Struct, kw_only=True):
    """What was seen of a soak."""

    ledger: str
    seconds: float
    objects_per_second: float
    truth: Truth
    kills: int = 0
    ends: list[int | None] = []
    """Exit codes after SIGTERM."""
    ledger_kills: int = 0
    lives: list[Life] = []
    max_lag_seconds: float = 0.0
    heads_per_second: float = 0.0
    heads_per_second_busy: float = 0.0


class Finding(msgspec.Struct):
    """What a soak says of one thing that must hold."""

    name: str
    holds: bool
    told: str


def verdict(seen: Outcome, *, refresh_seconds: float) -> list[Finding]:
    """Hold what was reported against what happened."""
    truth = seen.truth
    counted, failed = (truth.counted(metric) for metric in COUNTS)
    whole = truth.released - truth.failing
    lost = max(whole - counted, 0) + max(truth.failing - failed, 0)
    twice = max(counted - whole, 0) + max(failed - truth.failing, 0)
    # A call whose answer was lost is repeated, and so is the one that a killed daemon had begun.
    may_repeat = truth.reports_broken + 2 * ROUTES * seen.kills
    left = truth.released - truth.acknowledged
    most = MAX_GROWTH_KIB + PAGES_KIB[seen.ledger]
    growth = max((one.slope_kib_per_minute * one.seconds / 60 for one in seen.lives), default=0.0)
    calm, busy = seen.heads_per_second, seen.heads_per_second_busy
    changes = seen.seconds / refresh_seconds
    # Each life begins by asking for credentials; that is no renewal.
    renewed = truth.keys_given - len(seen.ends) - seen.kills
    return [
        Finding(
            "nothing lost",
            truth.released > 0 and not lost and not left,
            f"{lost} of {truth.released} objects not reported, {left} messages left",
        ),
        Finding(
            "nothing counted twice",
            not (twice or truth.reported_otherwise) and truth.reported_again <= may_repeat,
            f"{twice} objects too many, {truth.reported_otherwise} datapoints changed, {truth.reported_again} repeated"
            f" (of lost answers: up to {may_repeat})",
        ),
        Finding(
            "memory flat",
            bool(seen.lives) and growth <= most,
            f"the line through a life rises by {growth:.0f} KiB at the most (allowed {most:.0f}), of {len(seen.lives)} that"
            " were long enough",
        ),
        Finding(
            "looks in time",
            seen.max_lag_seconds <= MAX_LAG_SECONDS,
            f"{seen.max_lag_seconds:.0f} s overdue at the most",
        ),
        Finding(
            "503 heeded",
            calm > 0 and busy <= MAX_BUSY_RATIO * calm,
            f"{busy:.0f} HEADs per s meanwhile, {calm:.0f} otherwise",
        ),
        Finding(
            "credentials fresh",
            renewed >= changes / 2 and not truth.keys_refused,
            f"renewed {renewed} times, {truth.keys_refused} calls with one that was not valid",
        ),
        Finding(
            "orderly ends",
            bool(seen.ends) and not any(code != 0 for code in seen.ends),
            f"exit codes {seen.ends} after SIGTERM",
        ),
    ]


class Soak:
    """One run of it.

    Args:
        folder: for configuration, ledger and logs.
        ledger: its kind, sqlite or redis.
        seconds: how long there is load.
        refresh_seconds: how often credentials change.
    """

    def __init__(
        self, folder: Path, *, ledger: str, seconds: float, refresh_seconds: float
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        pace = min(seconds / USUAL_PACE_SECONDS, 1.0)
        rng = random.Random(1)  # noqa: S311 - no secrets
        self._cloud = Cloud(rng, refresh_seconds=refresh_seconds, pace=pace)
        self._port, self._ledger_port, endpoint = free_port(), free_port(), free_port()
        self._endpoint = endpoint
        self._server = redis(folder, self._ledger_port) if ledger == "redis" else None
        self._began = 0.0
        self._busy: list[float] = []
        self._calm: list[float] = []
        self._memory: dict[int, list[tuple[float, float]]] = {}
        self._rate = 100.0
        self.seen = Outcome(
            ledger=ledger, seconds=seconds, objects_per_second=0.0, truth=self._cloud.truth
        )

    async def run(self) -> Outcome:
        """Let it soak.

        Raises:
            SandboxError: a process ended that nobody had ended.
        """
        async with aiohttp.ClientSession() as http, _served(self._cloud, self._endpoint):
            self._http = http
            self._daemon = self._process()
            try:
                if self._server:
                    await self._server.start()
                await self._daemon.start()
                await self._warm_up()
                await self._soak()
                self.seen.ends.append(await self._daemon.stop(grace=GRACE_SECONDS))
            finally:
                await self._daemon.abandon()
                if self._server:
                    await self._server.abandon()
        self._reckon()
        return self.seen

    async def _warm_up(self) -> None:
        """Have every bucket's replication configuration be known before anything breaks, which takes minutes else."""
        self._cloud.release(ROUTES, time.time())  # noqa: TID251
        async with asyncio.timeout(DRAIN_SECONDS):
            while self._cloud.truth.heads < ROUTES:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _soak(self) -> None:
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(work)
                for work in (self._daemon.guard(), self._sample(), self._tell())
            ]
            async with asyncio.TaskGroup() as load:
                load.create_task(self._feed())
                load.create_task(self._break())
                load.create_task(self._restart())
            self._cloud.fault = Fault.NONE
            await self._drain()
            for task in watching:
                task.cancel()

    @property
    def _passed(self) -> float:
        return time.monotonic() - self._began

    async def _feed(self) -> None:
        owed = 0.0
        while self._passed < self._seconds:
            owed += self._rate * 0.1
            self._cloud.release(int(owed), time.time())  # noqa: TID251 - it is the world's clock
            owed %= 1
            await asyncio.sleep(0.1)

    async def _break(self) -> None:
        """Go through all faults, again and again; each lasts until it broke a call, however slow the machine is."""
        length = 120.0 if self._seconds >= USUAL_PACE_SECONDS else 40.0
        broken = self._cloud.truth.calls_broken
        for turn in itertools.count():
            for fault, start, end in PARTS:
                await self._until((turn + start) * length)
                if self._passed >= self._seconds and broken[fault.value]:
                    return
                before = broken[fault.value]
                self._cloud.fault = fault
                await self._until((turn + end) * length)
                while broken[fault.value] == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                self._cloud.fault = Fault.NONE

    async def _until(self, passed: float) -> None:
        """Wait until so much of the load's time has passed, or all of it."""
        await asyncio.sleep(max(min(passed, self._seconds) - self._passed, 0.0))

    async def _restart(self) -> None:
        """End the daemon, kill it, and kill the ledger's server, in turn."""
        every = min(max(self._seconds / LIVES, 7.0), 600.0)
        turn = 0
        while self._passed + LIVES / 2 * every <= self._seconds:
            await asyncio.sleep(every)
            match turn % (3 if self._server else 2):
                case 0:
                    self.seen.ends.append(await self._daemon.restart(grace=GRACE_SECONDS))
                case 1:
                    await self._daemon.kill_and_restart()
                case _ if self._server:
                    await self._server.kill_and_restart()
            turn += 1

    async def _drain(self) -> None:
        until = time.monotonic() + DRAIN_SECONDS
        while self._cloud.queued or self._uncounted():
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.5)

    def _uncounted(self) -> bool:
        truth = self._cloud.truth
        return sum(truth.counted(metric) for metric in COUNTS) < truth.released

    async def _sample(self) -> None:
        """Look at the daemon every second, and keep it at half load."""
        cpu, heads, since, last = 0.0, 0, 0.0, (0, Fault.NONE)
        while True:
            await asyncio.sleep(1)
            now = (self._daemon.starts, self._cloud.fault)
            with contextlib.suppress(OSError, SandboxError):
                used, rss = _figures(self._daemon.pid)
                share, cpu = used - cpu, used
                if now == last and since >= SETTLING_SECONDS:
                    if now[1] is Fault.NONE and self._passed < self._seconds:
                        self._rate = _next_rate(
                            self._rate, share=share, waiting=self._cloud.waiting
                        )
                    delta = self._cloud.truth.heads - heads
                    if self._passed < self._seconds and now[1] in (Fault.NONE, Fault.BUSY):
                        (self._busy if now[1] is Fault.BUSY else self._calm).append(delta)
                    self._memory.setdefault(now[0], []).append((time.monotonic(), rss))
            since = since + 1 if now == last else 0.0
            last, heads = now, self._cloud.truth.heads
            lag = re.search(
                r"^crrmon_poll_overdue_seconds (\S+)", await self._page(), re.MULTILINE
            )
            if lag:
                self.seen.max_lag_seconds = max(self.seen.max_lag_seconds, float(lag[1]))

    async def _page(self) -> str:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.get(f"http://{LOOPBACK}:{self._port}/metrics") as answer:
                return await answer.text()
        return ""

    async def _ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.get(f"http://{LOOPBACK}:{self._port}/readyz") as answer:
                return answer.status == 200
        return False

    async def _tell(self) -> None:
        """Say how it goes on."""
        while True:
            truth = self._cloud.truth
            counted = sum(truth.counted(metric) for metric in COUNTS)
            _say(
                f"{self._passed:5.0f} s  {self._cloud.fault.value:9}  {self._rate:4.0f}/s  released {truth.released}, "
                f"queued {self._cloud.queued}, reported {counted}, life {self._daemon.starts}, "
                f"worst lag {self.seen.max_lag_seconds:.0f} s"
            )
            await asyncio.sleep(min(30.0, self._seconds / 10))

    def _reckon(self) -> None:
        seen = self.seen
        seen.objects_per_second = seen.truth.released / self._seconds
        seen.kills = self._daemon.kills
        seen.ledger_kills = self._server.kills if self._server else 0
        lives = (_life(number, samples) for number, samples in self._memory.items())
        seen.lives = [life for life in lives if life]
        seen.heads_per_second = statistics.fmean(self._calm or [0])
        seen.heads_per_second_busy = statistics.fmean(self._busy or [0])

    def _process(self) -> Restartable:
        url = f"http://{LOOPBACK}:{self._endpoint}"
        config = self._folder / "crrmon.yaml"
        settings: dict[str, Any] = {
            "queues": [{"url": f"{url}/{ACCOUNT}/{QUEUE}", "region": REGION}],
            "aws": {"region": REGION, "endpoint_url": url, "client": "fast"},
            "ledger": {
                "kind": self.seen.ledger,
                "path": str(self._folder / "crrmon.db"),
                "redis": {"url": f"redis://{LOOPBACK}:{self._ledger_port}/0"},
            },
            "report": {"window_seconds": WINDOW_SECONDS},
            "http": {"port": self._port},
            "log": {"level": "warning", "format": "json"},
        }
        config.write_text(yaml.safe_dump(settings))
        environment = isolated(os.environ)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del environment[name]
        return Restartable(
            "the daemon",
            (sys.executable, "-m", "crrmon", "run", "--config", str(config)),
            environment={
                **environment,
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/credentials",
            },
            log=self._folder / "crrmon.log",
            answers=self._ready,
        )


@contextlib.asynccontextmanager
async def _served(cloud: Cloud, port: int) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", cloud.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield
    finally:
        await runner.cleanup()


def _next_rate(rate: float, *, share: float, waiting: int) -> float:
    """Change the load towards half of a core; less where a machine busy with other work cannot give that."""
    change = 0.9 if waiting > 2 * rate else 1 + 0.2 * (HALF - share)
    return min(max(rate * change, SLOWEST), FASTEST)


def _figures(pid: int) -> tuple[float, float]:
    """Return the CPU seconds and the resident KiB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(fields[21])
    return (int(fields[11]) + int(fields[12])) / TICK, pages * os.sysconf("SC_PAGE_SIZE") / 1024


def _life(number: int, samples: Sequence[tuple[float, float]]) -> Life | None:
    """Fit a line to the resident memory of a process after warming up; None where it was too short for that."""
    began, ended = samples[0][0], samples[-1][0]
    warm = [one for one in samples if one[0] - began >= WARM_SECONDS]
    if ended - began < WARM_SECONDS + SHORTEST_SECONDS:
        return None
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope
    return Life(
        number=number,
        seconds=warm[-1][0] - warm[0][0],
        rss_mib=warm[-1][1] / 1024,
        slope_kib_per_minute=slope * 60,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(seen: Outcome, findings: Sequence[Finding]) -> None:
    """Print what was done, and whether it went well."""
    broken = ", ".join(f"{number} {name}" for name, number in seen.truth.calls_broken.items())
    print(
        f"{seen.seconds / 60:g} min on {seen.ledger}: {seen.truth.released} objects, {seen.objects_per_second:.0f} per s;"
        f" calls broken: {broken}; {seen.truth.delivered_again} messages delivered again; the daemon ended"
        f" {len(seen.ends)} times and killed {seen.kills} times, the ledger's server {seen.ledger_kills} times"
    )
    for life in seen.lives:
        print(
            f"life {life.number}: {life.rss_mib:.0f} MiB, {life.slope_kib_per_minute:+.0f} KiB/min over {life.seconds:.0f} s"
        )
    for one in findings:
        print(f"{'ok    ' if one.holds else 'FAILED'} {one.name}: {one.told}")


def main() -> int:
    """Soak and judge.

    Exit codes: 0 all is well, 1 it is not, or a process ended by itself.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60.0, help="of load")
    parser.add_argument("--ledger", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    asked = parser.parse_args()
    seconds = asked.minutes * 60
    refresh = min(60.0, seconds / 5)
    with tempfile.TemporaryDirectory(prefix="crrmon-soak-") as folder:
        soak = Soak(Path(folder), ledger=asked.ledger, seconds=seconds, refresh_seconds=refresh)
        try:
            seen = asyncio.run(soak.run())
        except* (SandboxError, TimeoutError) as trouble:
            sys.exit(f"soak: {trouble.exceptions[0]!r}")
    findings = verdict(seen, refresh_seconds=refresh)
    if asked.json:
        seen.truth.datapoints.clear()
        values = {"outcome": seen, "verdict": findings}
        print(msgspec.json.format(msgspec.json.encode(values)).decode())
    else:
        show(seen, findings)
    return 0 if all(one.holds for one in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
