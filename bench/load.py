"""The daemon under load: a real process of it, the stubs beside, and what the kernel says of both.

Each has a core of its own where there are two. A run first lets some objects through to warm everything up (clients,
routes, caches), then releases the rest at once and watches until the last message is deleted.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from messages import ACCOUNT, QUEUE, REGION, ROUTES
from stubs import Counts

HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 120.0
"""For the daemon to start; long because a ledger may have to be filled first."""
STALL_SECONDS = 60.0
"""Without any progress for so long, a run is broken off."""
WARM_UP = 1000
"""Objects that are let through before anything is measured."""
WINDOW_SECONDS = 10
"""Length of a CloudWatch window: short, so that publishing is part of what is measured."""

Tell = Callable[[str], None]


class BrokenRunError(Exception):
    """The daemon did not do what it was to do; the text says what is known."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    ledger: str
    parked: int
    """Records lying in the ledger."""
    objects: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    ledger: str
    parked: int
    objects: int
    seconds: float
    """From the moment the messages were there until the last of them was deleted."""
    cpu_seconds: float
    """Of the daemon, user and system, all threads."""
    others_seconds: float
    """CPU time that everybody else took on the daemon's core."""
    stub_seconds: float
    """CPU time of the stubs: far from `seconds`, or it was them who were measured."""
    calls: dict[str, int]
    """AWS calls by operation."""
    rss_started: int
    """Resident memory in bytes, when the daemon had settled its first objects."""
    rss_peak: int

    @property
    def per_second(self) -> float:
        """Settled objects per second, as it was."""
        return self.objects / self.seconds

    @property
    def per_core(self) -> float:
        """Settled objects per second of the daemon's CPU time: per second, had it had the core for itself."""
        return self.objects / self.cpu_seconds

    @property
    def cpu_milliseconds(self) -> float:
        """CPU time of one object."""
        return self.cpu_seconds / self.objects * 1e3

    @property
    def calls_per_object(self) -> float:
        """AWS calls of one object."""
        return sum(self.calls.values()) / self.objects


class Cores(msgspec.Struct, frozen=True):
    """Who runs where; None on a machine with one core."""

    daemon: int | None
    stubs: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """Take the last core for the daemon and the first one for everything else."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[-1], usable[0]) if len(usable) > 1 else cls(None, None)


class Process:
    """A child process on a core of its own, and the kernel's figures of it."""

    def __init__(self, arguments: Sequence[str], *, core: int | None, log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._child = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_environment(),
            )
        if core is not None:
            # Before it has started any thread: they inherit it.
            os.sched_setaffinity(self._child.pid, {core})

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.poll() is None

    @property
    def said(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-2000:]

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its threads."""
        stat = Path(f"/proc/{self._child.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, what: str) -> int:
        """Return VmRSS or VmHWM in bytes."""
        for line in Path(f"/proc/{self._child.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == what:
                return int(value.split()[0]) * 1024
        raise KeyError(what)

    def end(self, *, patience: float = 40.0) -> int:
        """End it as an orchestrator would; return its exit code."""
        if self.alive:
            self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(patience)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            raise BrokenRunError(f"SIGTERM did not end it in {patience} s: {self.said}") from None


class Stubs:
    """The stubs' process."""

    def __init__(self, *, core: int | None, folder: Path, first: int) -> None:
        self.port = _free_port()
        arguments = [str(HERE / "stubs.py"), "--port", str(self.port), "--first", str(first)]
        self.process = Process(arguments, core=core, log=folder / "stubs.log")
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                self.counts()
                return
            if not self.process.alive or time.monotonic() > deadline:
                self.process.end()
                raise BrokenRunError(f"the stubs did not start: {self.process.said}")
            _pause(0.05)

    def counts(self) -> Counts:
        """Ask what they saw so far."""
        return self._ask("GET", "/-/counts")

    def release(self, objects: int) -> Counts:
        """Put messages into the queue."""
        return self._ask("POST", f"/-/release?objects={objects}")

    def _ask(self, method: str, path: str) -> Counts:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path)
            return msgspec.json.decode(connection.getresponse().read(), type=Counts)


class Bench:
    """
    Runs cases one after the other, each with a new daemon and new stubs.

    Args:
        folder: for configurations, logs and ledgers.
        tell: told what is going on, for eyes.
    """

    def __init__(self, *, folder: Path, tell: Tell) -> None:
        self._folder = folder
        self._tell = tell
        self._used = 0
        self.cores = Cores.choose()
        if self.cores.stubs is not None:
            os.sched_setaffinity(0, {self.cores.stubs})

    def run(self, case: Case, *, file: Path | None = None, profile: Path | None = None) -> Run:
        """
        Measure one case.

        Args:
            case: what.
            file: of the SQLite ledger, filled already.
            profile: where to write samples of the daemon's stacks.

        Raises:
            BrokenRunError: it could not be measured.
        """
        # Other objects each time: a ledger that was there in an earlier run has counted those.
        first, self._used = self._used, self._used + ROUTES + WARM_UP + case.objects
        stubs = Stubs(core=self.cores.stubs, folder=self._folder, first=first)
        with contextlib.ExitStack() as stack:
            stack.callback(stubs.process.end)
            port = _free_port()
            daemon = self._start(case, stubs, port=port, file=file, profile=profile)
            stack.callback(daemon.end)
            self._wait_for_start(stubs, daemon)
            rss_started = daemon.memory("VmRSS")
            self._let_through(stubs, daemon, WARM_UP, "warming up")
            run = self._measure(case, stubs, daemon, port=port, rss_started=rss_started)
            code = daemon.end()
        if code or daemon.said:
            raise BrokenRunError(f"the daemon ended with {code} and wrote: {daemon.said}")
        return run

    def lines(self, arguments: Sequence[str]) -> Iterator[bytes]:
        """Run another script on the daemon's core and tell the lines that it writes."""
        with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as child:  # noqa: S603
            if self.cores.daemon is not None:
                os.sched_setaffinity(child.pid, {self.cores.daemon})
            yield from child.stdout or ()
        if child.returncode:
            raise BrokenRunError(f"{arguments[0]} ended with {child.returncode}")

    def _start(
        self, case: Case, stubs: Stubs, *, port: int, file: Path | None, profile: Path | None
    ) -> Process:
        config = self._folder / "crrmon.yaml"
        config.write_text(yaml.safe_dump(_settings(case, stubs.port, port, file)))
        arguments = ["-m", "crrmon", "run", "--config", str(config)]
        filled = case.parked and case.ledger == "memory"
        if filled or profile:
            arguments = [str(HERE / "wrapped.py"), "--config", str(config)]
            arguments += ["--parked", str(case.parked)] if filled else []
            arguments += ["--profile", str(profile)] if profile else []
        return Process(arguments, core=self.cores.daemon, log=self._folder / "crrmon.log")

    def _wait_for_start(self, stubs: Stubs, daemon: Process) -> None:
        self._tell("starting")
        deadline = time.monotonic() + START_SECONDS
        # One object of each bucket, so that all replication configurations are known from now on.
        stubs.release(ROUTES)
        while stubs.counts().acknowledged < ROUTES:
            if not daemon.alive or time.monotonic() > deadline:
                raise BrokenRunError(f"the daemon did not start: {daemon.said}")
            _pause(0.1)

    def _let_through(self, stubs: Stubs, daemon: Process, objects: int, doing: str) -> Counts:
        """Put messages into the queue and wait until all of them are deleted."""
        counts = stubs.release(objects)
        progress, moved_at = -1, time.monotonic()
        while counts.acknowledged < counts.released:
            _pause(0.2)
            counts = stubs.counts()
            done = objects - (counts.released - counts.acknowledged)
            self._tell(f"{doing}: {done:,} of {objects:,} objects")
            if done != progress:
                progress, moved_at = done, time.monotonic()
            if not daemon.alive or time.monotonic() - moved_at > STALL_SECONDS:
                raise BrokenRunError(f"stuck at {done} of {objects}: {counts} {daemon.said}")
        return counts

    def _measure(
        self, case: Case, stubs: Stubs, daemon: Process, *, port: int, rss_started: int
    ) -> Run:
        before = self._figures(stubs, daemon)
        calls = stubs.counts().calls
        counts = self._let_through(stubs, daemon, case.objects, "measuring")
        after = self._figures(stubs, daemon)
        own, stub, core = (end - start for start, end in zip(before, after, strict=True))
        if counts.acknowledged_again:
            raise BrokenRunError(f"{counts.acknowledged_again} messages were deleted twice")
        completed = _completed(port)
        if completed != counts.released:
            raise BrokenRunError(
                f"{counts.released} messages were deleted, but {completed} objects counted"
            )
        return Run(
            ledger=case.ledger,
            parked=case.parked,
            objects=case.objects,
            seconds=counts.acknowledged_at - counts.released_at,
            cpu_seconds=own,
            others_seconds=max(core - own, 0.0),
            stub_seconds=stub,
            calls={
                name: count - calls.get(name, 0)
                for name, count in counts.calls.items()
                if count > calls.get(name, 0)
            },
            rss_started=rss_started,
            rss_peak=daemon.memory("VmHWM"),
        )

    def _figures(self, stubs: Stubs, daemon: Process) -> tuple[float, float, float]:
        """Return the CPU seconds so far of the daemon, of the stubs, and of all on the daemon's core."""
        core = _busy_seconds(self.cores.daemon)
        return daemon.cpu_seconds, stubs.process.cpu_seconds, core


def _settings(case: Case, endpoint: int, port: int, file: Path | None) -> dict[str, Any]:
    url = f"http://127.0.0.1:{endpoint}"
    return {
        "queues": [{"url": f"{url}/{ACCOUNT}/{QUEUE}", "region": REGION}],
        "aws": {"region": REGION, "endpoint_url": url},
        "ledger": {"kind": case.ledger, **({"path": str(file)} if file else {})},
        "report": {"window_seconds": WINDOW_SECONDS},
        "http": {"port": port},
        "log": {"level": "warning", "format": "json"},
    }


def _environment() -> dict[str, str]:
    """Create an environment that leads to no account and no other endpoint."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("AWS_", "CRRMON_")) and not name.upper().endswith("_PROXY")
    }
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _completed(port: int) -> float:
    """Ask the daemon how many objects it counted as completed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith("crrmon_replications_total{") and 'status="completed"' in line
    )


def _busy_seconds(core: int | None) -> float:
    """Return how long a core (all of them for None) has worked since the machine was started."""
    name = "cpu" if core is None else f"cpu{core}"
    for line in Path("/proc/stat").read_text().splitlines():
        if line.split()[0] == name:
            user, nice, system, _idle, _iowait, irq, softirq, steal = line.split()[1:9]
            parts = (user, nice, system, irq, softirq, steal)
            return sum(int(part) for part in parts) / TICK
    raise KeyError(name)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _pause(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251 - no daemon, and nothing else to do meanwhile
