"""The sandbox as a program: its folder, its environment, its signals."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from crrmon.sandbox.children import SandboxError, is_free
from crrmon.sandbox.environment import isolated
from crrmon.sandbox.play import Play, SandboxSettings, staged
from crrmon.sandbox.rules import MISCHIEF
from crrmon.sandbox.show import Show
from crrmon.sandbox.throttling import LOST_SHARE, REFUSED_SHARE
from crrmon.sandbox.verdict import SandboxVerdict


class UsageError(SandboxError):
    """What was asked for cannot be done; the text names the option and the remedy."""


class AbortedError(Exception):
    """A signal ended the run before its verdict."""

    def __init__(self, signum: int) -> None:
        """Args:
        signum: which one.
        """
        super().__init__(signum)
        self.signum = signum


def run(settings: SandboxSettings, show: Show, *, keep: Path | None) -> SandboxVerdict:
    """Run the sandbox in this process, whose environment is cut off from every real account.

    Args:
        settings: what to do.
        show: told of progress.
        keep: folder for configuration, ledger and logs; None for a temporary one, which stays only if its content
            may explain something.

    Raises:
        UsageError: something cannot be as it was asked for.
        SandboxError: something did not work.
        AbortedError: by a second Ctrl-C or another signal.
    """
    if settings.port is not None and not is_free(settings.port):
        raise UsageError(f"--port {settings.port} is taken; leave it out to get a free one")
    if settings.replicas > 1 and settings.ledger == "sqlite":
        raise UsageError(
            f"--replicas {settings.replicas} needs --ledger redis or --ledger dynamodb: "
            "a ledger in SQLite is a file that one daemon holds for itself"
        )
    folder = _folder(keep)
    environment = isolated(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    worth_keeping = True
    try:
        verdict = asyncio.run(_interruptible(settings, show, folder))
        worth_keeping = not verdict.agrees
    except AbortedError:
        worth_keeping = False
        raise
    finally:
        if keep is None and not worth_keeping:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            show.say(f"Configuration, ledger and logs are in {folder}")
    return verdict


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="crrmon-sandbox-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise UsageError(f"--keep {keep} is not empty; each run needs a folder of its own")
    return keep.resolve()


async def _interruptible(settings: SandboxSettings, show: Show, folder: Path) -> SandboxVerdict:
    """Make the first Ctrl-C stop writing, and the second one everything."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    work = asyncio.ensure_future(_work(settings, show, folder, stop))
    aborted: list[int] = []
    interrupts: list[int] = []

    def abort(signum: int) -> None:
        aborted.append(signum)
        work.cancel()

    def interrupt() -> None:
        interrupts.append(signal.SIGINT)
        if len(interrupts) > 1:
            abort(signal.SIGINT)
            return
        stop.set()
        show.say("Ending; the verdict takes a moment. Ctrl-C again ends at once.")

    loop.add_signal_handler(signal.SIGINT, interrupt)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, abort, signum)
    try:
        return await work
    except asyncio.CancelledError:
        if aborted:
            raise AbortedError(aborted[0]) from None
        raise
    except BaseExceptionGroup as group:
        raise next(_ours(group), group) from None


async def _work(
    settings: SandboxSettings, show: Show, folder: Path, stop: asyncio.Event
) -> SandboxVerdict:
    show.say("Starting an emulator of AWS and the real daemon on this machine.")
    for line in trials(settings):
        show.say(line)
    async with staged(
        folder, settings.port, replicas=settings.replicas, ledger=settings.ledger
    ) as stage:
        with show.live():
            return await Play(stage, settings, show, stop).run()


def trials(settings: SandboxSettings) -> Iterator[str]:
    """Say what the daemons will have to bear."""
    if settings.disable_rule:
        yield (
            f"Halfway, the rule {MISCHIEF.disabled} is disabled, and the replication configuration of {MISCHIEF.deleted} "
            "is deleted; the applications go on writing."
        )
    if not settings.kills:
        return
    who = "the daemon" if settings.replicas == 1 else f"{settings.replicas} replicas in turn"
    yield f"On the way: kill -9 of {who}, {settings.kills} in all;"
    match settings.ledger:
        case "sqlite":
            yield "each is started again on the same ledger."
        case "redis":
            yield "each is started again, and so is the Redis server, which is killed once as well."
        case "dynamodb":
            yield (
                f"each is started again; DynamoDB refuses {REFUSED_SHARE:.0%} of the ledger's calls for want of "
                f"capacity, and the answers of {LOST_SHARE:.0%} get lost after it did what was asked."
            )


def _ours(group: BaseExceptionGroup[BaseException]) -> Iterator[SandboxError]:
    """Find the troubles in a group that have a clear message."""
    for exception in group.exceptions:
        if isinstance(exception, BaseExceptionGroup):
            yield from _ours(exception)
        elif isinstance(exception, SandboxError):
            yield exception
