"""Contenders under load: a real process of each, the stubs beside, and what the kernel says of both.

Each has a core of its own where there are two. A run first lets some objects through to warm everything up (clients,
connections, routes, caches), then releases the rest at once and watches until the last message is deleted.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from certificates import make
from contenders import HERE, Contender, Job, Wire, environment
from messages import ROUTES
from profiles import BEGIN
from stubs import Counts

TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 120.0
"""For a contender to start."""
STALL_SECONDS = 60.0
"""Without any progress for so long, a run is broken off."""

Tell = Callable[[str], None]


class BrokenRunError(Exception):
    """Somebody did not do what it was to do; the text says what is known."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    group: str
    """The question that it is asked for."""
    contender: str
    tls: bool = False
    head_milliseconds: int = 0
    """How long S3 takes to answer a HEAD."""
    ledger: str = "sqlite"
    parked: int = 0
    """Records lying in the ledger."""
    concurrency: int | None = None
    """Most HEADs at once; None for the default."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    case: Case
    turn: int
    """The round: what has the same one was measured in turn."""
    objects: int
    seconds: float
    """From the moment the messages were there until the last of them was deleted."""
    cpu_seconds: float
    """Of the contender, user and system, all threads."""
    others_seconds: float
    """CPU time that everybody else took on its core."""
    stub_seconds: float
    """CPU time of the stubs: far from `seconds`, or it was them who were measured."""
    calls: dict[str, int]
    """AWS calls by operation."""
    connections: int
    """Made meanwhile: more than a few, and they were not kept alive."""
    rss_started: int
    """Resident memory in bytes, when it had settled its first objects."""
    rss_peak: int

    @property
    def per_second(self) -> float:
        """Settled objects per second, as it was."""
        return self.objects / self.seconds

    @property
    def per_core(self) -> float:
        """Settled objects per second of its CPU time: per second, had it had the core for itself."""
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

    measured: int | None
    stubs: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """Take the last core for who is measured and the first one for everything else."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[-1], usable[0]) if len(usable) > 1 else cls(None, None)


class Process:
    """A child process on a core of its own, and the kernel's figures of it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        core: int | None,
        log: Path,
    ) -> None:
        self._log = log
        with log.open("wb") as out:
            self._child = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
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

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.send_signal(number)

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
    """
    The stubs' process.

    Args:
        core: its own.
        folder: for its certificates and its log.
        first: number of the first object.
        tls: whether they are reached by TLS.
        head_milliseconds: before a HEAD is answered.
    """

    def __init__(
        self,
        *,
        core: int | None,
        folder: Path,
        first: int = 0,
        tls: bool = False,
        head_milliseconds: int = 0,
    ) -> None:
        port, tls_port = _free_port(), _free_port()
        self._port = port
        command = [sys.executable, str(HERE / "stubs.py"), "--port", str(port)]
        command += ["--first", str(first), "--head-milliseconds", str(head_milliseconds)]
        self.wire = Wire(f"http://127.0.0.1:{port}", None)
        if tls:
            made = make(folder)
            command += ["--tls-port", str(tls_port), "--certificate", str(made.server)]
            self.wire = Wire(f"https://127.0.0.1:{tls_port}", made.authority)
        log = folder / "stubs.log"
        self.process = Process(command, environment=environment(), core=core, log=log)
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
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path)
            return msgspec.json.decode(connection.getresponse().read(), type=Counts)


class Bench:
    """
    Runs cases one after the other, each with a new process and new stubs.

    Args:
        folder: for configurations, logs and ledgers.
        warm_up: objects that are let through before anything is measured.
        tell: told what is going on, for eyes.
    """

    def __init__(self, *, folder: Path, warm_up: int, tell: Tell) -> None:
        self._folder = folder
        self._warm_up = warm_up
        self._tell = tell
        self._used = 0
        self.cores = Cores.choose()
        if self.cores.stubs is not None:
            os.sched_setaffinity(0, {self.cores.stubs})

    def run(
        self,
        case: Case,
        contender: Contender,
        *,
        objects: int,
        turn: int = 0,
        where: str = "",
        profile: Path | None = None,
    ) -> Run:
        """
        Measure one case.

        Args:
            case: what.
            contender: the one that it names.
            objects: how many it settles.
            turn: the round.
            where: a ledger lies that is filled already, as `places.PLACES` has it; else it is a new file.
            profile: where to write samples of its stacks.

        Raises:
            BrokenRunError: it could not be measured.
        """
        # Other objects each time: a ledger that was there in an earlier run has counted those.
        first, self._used = self._used, self._used + ROUTES + self._warm_up + objects
        with contextlib.ExitStack() as stack:
            stubs = Stubs(
                core=self.cores.stubs,
                folder=self._folder,
                first=first,
                tls=case.tls,
                head_milliseconds=case.head_milliseconds,
            )
            stack.callback(stubs.process.end)
            job = Job(
                wire=stubs.wire,
                folder=self._folder,
                http_port=_free_port(),
                ledger=_ledger(case, where or str(self._new_file(stack, first))),
                concurrency=case.concurrency,
                profile=profile,
            )
            process = Process(
                contender.command(job),
                environment=contender.environment(job),
                core=self.cores.measured,
                log=self._folder / "contender.log",
            )
            stack.callback(process.end)
            self._wait_for_start(stubs, process)
            rss_started = process.memory("VmRSS")
            self._let_through(stubs, process, self._warm_up, "warming up")
            if profile:
                process.signal(BEGIN)
            run = self._measure(case, stubs, process, objects, turn, rss_started=rss_started)
            _verify(contender, job, stubs.counts())
            code = process.end()
        if process.said or code not in ((0,) if contender.counts else (0, -signal.SIGTERM)):
            raise BrokenRunError(f"{contender.name} ended with {code} and wrote: {process.said}")
        return run

    def lines(self, arguments: Sequence[str]) -> Iterator[bytes]:
        """Run another script on the core of who is measured and tell the lines that it writes."""
        with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as child:  # noqa: S603
            if self.cores.measured is not None:
                os.sched_setaffinity(child.pid, {self.cores.measured})
            yield from child.stdout or ()
        if child.returncode:
            raise BrokenRunError(f"{arguments[0]} ended with {child.returncode}")

    def _new_file(self, stack: contextlib.ExitStack, number: int) -> Path:
        file = self._folder / f"new-{number}.db"

        def remove() -> None:
            for left in self._folder.glob(f"{file.name}*"):
                left.unlink()

        stack.callback(remove)
        return file

    def _wait_for_start(self, stubs: Stubs, process: Process) -> None:
        self._tell("starting")
        deadline = time.monotonic() + START_SECONDS
        # One object of each bucket, so that all replication configurations are known from now on.
        stubs.release(ROUTES)
        while stubs.counts().acknowledged < ROUTES:
            if not process.alive or time.monotonic() > deadline:
                raise BrokenRunError(f"it did not start: {process.said}")
            _pause(0.1)

    def _let_through(self, stubs: Stubs, process: Process, objects: int, doing: str) -> Counts:
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
            if not process.alive or time.monotonic() - moved_at > STALL_SECONDS:
                raise BrokenRunError(f"stuck at {done} of {objects}: {counts} {process.said}")
        return counts

    def _measure(
        self,
        case: Case,
        stubs: Stubs,
        process: Process,
        objects: int,
        turn: int,
        *,
        rss_started: int,
    ) -> Run:
        earlier, before = stubs.counts(), self._figures(stubs, process)
        counts = self._let_through(stubs, process, objects, "measuring")
        after = self._figures(stubs, process)
        own, stub, core = (end - start for start, end in zip(before, after, strict=True))
        return Run(
            case=case,
            turn=turn,
            objects=objects,
            seconds=counts.acknowledged_at - counts.released_at,
            cpu_seconds=own,
            others_seconds=max(core - own, 0.0),
            stub_seconds=stub - (counts.making_seconds - earlier.making_seconds),
            calls={
                name: count - earlier.calls.get(name, 0)
                for name, count in counts.calls.items()
                if count > earlier.calls.get(name, 0)
            },
            connections=counts.connections - earlier.connections,
            rss_started=rss_started,
            rss_peak=process.memory("VmHWM"),
        )

    def _figures(self, stubs: Stubs, process: Process) -> tuple[float, float, float]:
        """Return the CPU seconds so far of who is measured, of the stubs, and of all on the former's core."""
        core = _busy_seconds(self.cores.measured)
        return process.cpu_seconds, stubs.process.cpu_seconds, core


def _ledger(case: Case, where: str) -> Mapping[str, object]:
    if case.ledger == "redis":
        return {"kind": "redis", "redis": {"url": where}}
    return {"kind": case.ledger, "path": where}


def _verify(contender: Contender, job: Job, counts: Counts) -> None:
    """Make sure that the work was done, and not only the messages deleted."""
    if counts.acknowledged_again:
        raise BrokenRunError(f"{counts.acknowledged_again} messages were deleted twice")
    looks = counts.calls.get("HeadObject", 0)
    if looks < counts.released:
        raise BrokenRunError(f"{counts.released} messages were deleted after {looks} HEADs")
    if contender.counts and (completed := _completed(job.http_port)) != counts.released:
        raise BrokenRunError(
            f"{counts.released} messages were deleted, {completed} objects counted"
        )


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
