"""What starting costs: CPU seconds of a process until it printed its help, or until the daemon is ready.

Everything is compiled to bytecode first, as in the image. The daemon has a queue and CloudWatch (stubs, on another core
where there is one) and a new SQLite ledger; it is ready when `/readyz` answers 200. Checkouts are measured in turn, so
that whatever else the machine does falls upon all of them.

    python bench/start.py                       medians of five, with the lowest and the highest
    python bench/start.py --beside ../other     with the crrmon of another checkout, as "before"
    python bench/start.py --imports             what took how long to import, instead; which makes them slower
"""

import argparse
import contextlib
import http.client
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from contenders import Crrmon, Job, environment
from crrmon.sandbox.children import free_port
from load import BrokenRunError, Cores, Process, Stubs

READY_SECONDS = 120.0
HELP, RUN, PASS = "crrmon --help", "crrmon run", "python -c pass"
_IMPORT = re.compile(r"import time: +(\d+) \| +\d+ \| +([\w.]+)")
"""One module's own microseconds, as `-X importtime` writes them."""


class _Starts:
    """
    Starts processes, and says what they took.

    Args:
        folder: for configurations, logs and ledgers.
        stubs: AWS.
        core: of who is measured.
    """

    def __init__(self, folder: Path, stubs: Stubs, core: int | None) -> None:
        self._folder = folder
        self._stubs = stubs
        self._core = core
        self._environment = dict(_compiling(environment()))

    def seconds(self, what: str, python: str) -> float:
        """Return the CPU seconds of one start."""
        if what == RUN:
            return self._ready([python, "-m", "crrmon"])[0]
        arguments = ["-m", "crrmon", "--help"] if what == HELP else ["-c", "pass"]
        return self._ended([python, *arguments])

    def imports(self, python: str) -> Mapping[str, float]:
        """Return how many seconds the modules of each library took until the daemon was ready."""
        told = self._ready([python, "-X", "importtime", "-m", "crrmon"])[1]
        seconds: defaultdict[str, float] = defaultdict(float)
        for microseconds, module in _IMPORT.findall(told):
            seconds[_library(module)] += int(microseconds) / 1e6
        return seconds

    def _ended(self, command: Sequence[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=self._environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - our own
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def _ready(self, python: Sequence[str]) -> tuple[float, str]:
        """Start the daemon; return its CPU seconds until it was ready, and what it wrote."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder, port = Path(name), free_port()
            ledger = {"kind": "sqlite", "path": str(folder / "crrmon.db")}
            job = Job(
                wire=self._stubs.wire,
                folder=folder,
                http_port=port,
                ledger=ledger,
                concurrency=None,
                profile=None,
            )
            run = Crrmon(RUN, python[0], "fast").command(job)[3:]
            log = folder / "crrmon.log"
            process = Process(
                [*python, *run], environment=self._environment, core=self._core, log=log
            )
            try:
                return _await_ready(process, port), log.read_text()
            finally:
                process.end()


def _await_ready(process: Process, port: int) -> float:
    deadline = time.monotonic() + READY_SECONDS
    while process.alive and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return process.cpu_seconds
        time.sleep(0.02)  # noqa: TID251 - no daemon, and nothing else to do meanwhile
    raise BrokenRunError(f"it did not get ready: {process.said}")


def _compiling(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Leave the bytecode where the next start finds it."""
    return {name: value for name, value in variables.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _library(module: str) -> str:
    top = module.partition(".")[0]
    return "Python's own" if top in sys.stdlib_module_names else top


def main() -> None:
    """Measure, and print a line for each start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, metavar="DIRECTORY", help="another checkout")
    parser.add_argument("--imports", action="store_true", help="what took how long to import")
    asked = parser.parse_args()
    pythons = {"now": sys.executable}
    if asked.beside:
        pythons["before"] = str(asked.beside.absolute() / ".venv" / "bin" / "python")
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="crrmon-bench-start-") as name:
        stubs = Stubs(core=cores.stubs, folder=Path(name))
        try:
            starts = _Starts(Path(name), stubs, cores.measured)
            if asked.imports:
                _show_imports(starts, asked.rounds)
            else:
                _show_seconds(starts, pythons, asked.rounds)
        finally:
            stubs.process.end()


def _show_seconds(starts: _Starts, pythons: Mapping[str, str], rounds: int) -> None:
    cases = [(what, name) for what in (PASS, HELP, RUN) for name in pythons]
    took: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    # The first one compiles, and counts for nothing.
    for turn in range(rounds + 1):
        for what, name in cases:
            seconds = starts.seconds(what, pythons[name])
            if turn:
                took[what, name].append(seconds)
    for (what, name), each in took.items():
        span = f"({min(each):.2f} to {max(each):.2f})"
        print(f"{what:16} {name:8} {statistics.median(each):.2f} {span}")


def _show_imports(starts: _Starts, rounds: int) -> None:
    runs = [starts.imports(sys.executable) for _ in range(rounds + 1)][1:]
    medians = {name: statistics.median(run.get(name, 0.0) for run in runs) for name in runs[0]}
    for name, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"{seconds * 1e3:6.0f} ms  {name}")
    print(f"{sum(medians.values()) * 1e3:6.0f} ms  in all")


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
