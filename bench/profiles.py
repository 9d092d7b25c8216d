"""Where the CPU time of a daemon goes: stacks, sampled from within, and folded into the wings of the program.

A profile has a line for each stack, outermost frame first, with the microseconds of CPU time that were spent in it:
`a;b;c 1700`, as flame graph tools want it. Each sample weighs what its thread really used since the one before, so
the lines add up to what the process used, and threads count by themselves.
"""

import collections
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

BEGIN = signal.SIGUSR1
"""Has sampling begin: what went before was start and warming up."""
SAMPLE_SECONDS = 0.002
"""CPU time between two samples."""
OUTSIDE = "outside Python"
"""CPU time of threads that Python knows nothing of."""


class Sampler:
    """Adds up the CPU time of each stack, of all threads."""

    def __init__(self) -> None:
        self.stacks: collections.Counter[str] = collections.Counter()
        """Microseconds."""
        self._main = threading.main_thread().ident or 0
        self._used: dict[int, float] = {}
        self._process = 0.0

    def begin(self, _signal: int, _frame: FrameType | None) -> None:
        """Begin to sample."""
        self._used = {thread: _cpu_seconds(thread) for thread in sys._current_frames()}  # noqa: SLF001 - no other way
        self._process = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)

    def sample(self, _signal: int, frame: FrameType | None) -> None:
        """Take what each thread used since the last time for that of the stack in which it is now."""
        frames: dict[int, FrameType | None] = {**sys._current_frames()}  # noqa: SLF001 - no other way
        frames[self._main] = frame
        known = 0.0
        for thread, top in frames.items():
            # NB: only of threads that are in this list, which live: the clock of one that ended would be no memory of ours.
            used = _cpu_seconds(thread)
            took, self._used[thread] = used - self._used.get(thread, 0.0), used
            known += took
            if took > 0:
                self.stacks[_stack(top)] += round(took * 1e6)
        process = time.process_time()
        self.stacks[OUTSIDE] += max(0, round((process - self._process - known) * 1e6))
        # Sampling itself is nobody's.
        self._used[self._main], self._process = time.thread_time(), time.process_time()

    def end(self) -> None:
        """Sample no more."""
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextlib.contextmanager
def profiled(file: Path) -> Iterator[None]:
    """Write down where the time went from the signal `BEGIN` on."""
    sampler = Sampler()
    signal.signal(BEGIN, sampler.begin)
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.siginterrupt(signal.SIGPROF, False)  # noqa: FBT003 - its signature
    try:
        yield
    finally:
        sampler.end()
        lines = (f"{stack} {used}\n" for stack, used in sampler.stacks.most_common() if used)
        file.write_text("".join(lines))


def _cpu_seconds(thread: int) -> float:
    return time.clock_gettime(time.pthread_getcpuclockid(thread))


def _stack(frame: FrameType | None) -> str:
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append(f"{_place(code.co_filename)}:{code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(stack))


def _place(path: str) -> str:
    """Shorten the path of a module."""
    for root in (
        "/site-packages/",
        "/src/",
        f"/python{sys.version_info[0]}.{sys.version_info[1]}/",
    ):
        if root in path:
            return path.rpartition(root)[2].removesuffix(".py")
    return path


# ---- by wing ----

LOOP = "event loop, sockets"
CONNECTIONS = "connections, for any call"
WINGS: Mapping[str, tuple[str, ...]] = {
    "HEAD": ("crrmon/adapters/s3:S3Probe.look", "crrmon/adapters/s3:S3Probe._look"),
    "receive": ("crrmon/adapters/sqs:SqsInbox.receive",),
    "delete": ("crrmon/adapters/sqs:SqsInbox.acknowledge",),
    "other calls": (
        "crrmon/adapters/s3:S3Probe.configuration",
        "crrmon/adapters/sqs:SqsInbox.extend",
        "crrmon/adapters/sqs:SqsInbox.depth",
        "crrmon/adapters/cloudwatch",
    ),
    "decode": ("crrmon/domain/events/", "crrmon/services/intake/reading"),
    "intake": ("crrmon/services/intake/",),
    "judging and learning": ("crrmon/services/tracking/",),
    "ledger": (
        "crrmon/ledger/",
        "crrmon/adapters/stores/",
        "crrmon/services/tracking/recorder",
        "crrmon/services/tracking/batching",
    ),
    "metrics": (
        "crrmon/adapters/prometheus",
        "crrmon/services/reporting/outcome_metrics",
        "prometheus_client/",
    ),
    "reports, leases, gauges": ("crrmon/services/reporting/", "crrmon/services/membership/"),
    CONNECTIONS: (),
    LOOP: (),
}
"""What each consists of, by how its frames begin; of several that fit the longest. Other frames are their callers'."""

_BY_LENGTH = sorted(
    ((start, wing) for wing, starts in WINGS.items() for start in starts),
    key=lambda pair: -len(pair[0]),
)
_OF_CONNECTIONS = ("aiohttp/", "asyncio/sslproto", "asyncio/streams", "ssl:", "crrmon/adapters/")


def wing_of(stack: str) -> str:
    """Return which wing a stack belongs to: that of the innermost frame that belongs to any."""
    frames = stack.split(";")
    for frame in reversed(frames):
        for start, wing in _BY_LENGTH:
            if frame.startswith(start):
                return wing
    if stack == OUTSIDE:
        return OUTSIDE
    return CONNECTIONS if any(one.startswith(_OF_CONNECTIONS) for one in frames) else LOOP


def fold(file: Path) -> dict[str, float]:
    """Return the CPU seconds of each wing in a profile."""
    seconds = dict.fromkeys(WINGS, 0.0)
    for line in file.read_text().splitlines():
        stack, _, used = line.rpartition(" ")
        wing = wing_of(stack)
        seconds[wing] = seconds.get(wing, 0.0) + int(used) / 1e6
    return seconds
