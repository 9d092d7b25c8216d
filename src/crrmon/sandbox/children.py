"""Processes that the sandbox starts, and that never outlive it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0
"""In which a program comes to life; it takes a few, but a loaded machine may need more."""


class SandboxError(Exception):
    """The sandbox cannot go on; the text says why and what to do."""


class Child:
    """One process in a session of its own, so that Ctrl-C in the terminal does not reach it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        """Args:
        process: the process.
        log: where its output goes.
        """
        self._process = process
        self.log = log

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> Self:
        """Start a program.

        Args:
            command: its path, then its arguments.
            environment: all of it.
            log: file that output and errors are appended to.
        """
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "crrmon.sandbox.leash", str(os.getpid()), *command),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it ends and return its exit code."""
        return await self._process.wait()

    async def stop(self, *, grace: float) -> int | None:
        """Ask it to end.

        Returns:
            Its exit code; None when it had to be killed after `grace` seconds.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return None

    async def kill(self) -> None:
        """End it with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def last_words(self, lines: int = 15) -> str:
        """Return the end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


async def _nothing() -> None:
    pass


class Restartable:
    """A program that may be killed and started again, and must not end by itself."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        answers: Callable[[], Awaitable[bool]],
    ) -> None:
        """Args:
        name: for people.
        command: its path, then its arguments.
        environment: all of it.
        log: file that output and errors are appended to.
        answers: tells whether it has come to life.
        """
        self.name = name
        self._command = command
        self._environment = environment
        self._log = log
        self._answers = answers
        self._child: Child | None = None
        self._killing = asyncio.Lock()
        self.kills = 0
        self.starts = 0

    @property
    def pid(self) -> int:
        """Its process id; start it first."""
        if self._child is None:
            raise self._died()
        return self._child.pid

    async def start(self) -> None:
        """Start it and wait until it is alive.

        Raises:
            SandboxError: it ended, or did not come to life in time.
        """
        self.starts += 1
        self._child = await Child.start(
            self._command, environment=self._environment, log=self._log
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._answers():
                    if self._child.ended is not None:
                        raise self._died()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise self._died() from None

    async def kill_and_restart(
        self, *, meanwhile: Callable[[], Awaitable[None]] = _nothing
    ) -> None:
        """Kill it with -9 and start it again on what it left.

        Args:
            meanwhile: what is to be done while it is not there.
        """
        async with self._killing:
            await self.abandon()
            self.kills += 1
            await meanwhile()
            await self.start()

    async def restart(self, *, grace: float) -> int | None:
        """Ask it to end, and start it again when it has.

        Returns:
            Its exit code; None when it took longer than `grace` seconds and was killed.
        """
        async with self._killing:
            code = await self.stop(grace=grace)
            await self.start()
        return code

    async def guard(self) -> None:
        """Watch it.

        Raises:
            SandboxError: it ended and nobody had asked it to.
        """
        while True:
            child = self._child
            if child is None:
                raise self._died()
            await child.wait()
            async with self._killing:  # waits for the restart, if it was that
                if child is self._child:
                    raise self._died()

    async def stop(self, *, grace: float) -> int | None:
        """Ask it to end.

        Returns:
            Its exit code; None when it took longer than `grace` seconds and was killed.
        """
        return None if self._child is None else await self._child.stop(grace=grace)

    async def abandon(self) -> None:
        """Kill it, if it runs."""
        if self._child is not None and self._child.ended is None:
            await self._child.kill()

    def _died(self) -> SandboxError:
        child = self._child
        if child is None:
            return SandboxError(f"{self.name} was not started")
        ended = "did not come to life" if child.ended is None else f"ended with {child.ended}"
        return SandboxError(f"{self.name} {ended}; the end of {child.log}:\n{child.last_words()}")


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


_ports: set[int] = set()
"""Those that were given away: whoever has one may not listen on it yet."""


def free_port() -> int:
    """Return a port that nobody listens on at the moment, and that this process did not give away before."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in _ports:
            _ports.add(port)
            return port
