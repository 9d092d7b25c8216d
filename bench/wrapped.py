"""The daemon, told to start otherwise than `crrmon run` does, for what cannot be done from outside the process.

    python bench/wrapped.py --config FILE --parked 1000000    a memory ledger in which so much lies already
    python bench/wrapped.py --config FILE --profile FILE      samples of where the CPU time goes, by stack

Everything else is as in `crrmon run`: the same settings, the same composition root, the same event loop.
"""

import argparse
import collections
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import uvloop

import ledgers
from crrmon import app, config, logs, opening
from crrmon.adapters.aws import AwsSession
from crrmon.config import LedgerSettings
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import Ledger

PROFILE_SECONDS = 0.002
"""CPU time between two samples."""


def prefill(parked: int) -> None:
    """Have the composition root open a ledger in which records lie already."""
    open_ledger = opening.open_ledger

    async def open_filled(settings: LedgerSettings, aws: AwsSession, *, clock: Clock) -> Ledger:
        ledger = await open_ledger(settings, aws, clock=clock)
        if settings.kind != "memory":
            raise TypeError("--parked is for ledger.kind memory; others are filled from outside")
        await ledgers.fill(ledger, parked)
        return ledger

    opening.open_ledger = open_filled


@contextlib.contextmanager
def profiled(file: Path) -> Iterator[None]:
    """
    Write down the stack of the main thread again and again; a line for each, outermost first, with its count.

    That is the format of flame graph tools: `a;b;c 17`. Threads beside the main one are not seen.
    """
    stacks: collections.Counter[str] = collections.Counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append(f"{_place(code.co_filename)}:{code.co_qualname}")
            frame = frame.f_back
        stacks[";".join(reversed(stack))] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.siginterrupt(signal.SIGPROF, False)  # noqa: FBT003 - its signature
    signal.setitimer(signal.ITIMER_PROF, PROFILE_SECONDS, PROFILE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = (f"{stack} {count}\n" for stack, count in stacks.most_common())
        file.write_text("".join(lines))


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


def main() -> None:
    """Run the daemon until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--parked", type=int, default=0)
    parser.add_argument("--profile", type=Path)
    asked = parser.parse_args()
    settings = config.load(asked.config)
    logs.configure(level=settings.log.level, format=settings.log.format)
    if asked.parked:
        prefill(asked.parked)
    with profiled(asked.profile) if asked.profile else contextlib.nullcontext():
        uvloop.run(app.run(settings))


if __name__ == "__main__":
    main()
