"""Processes that the sandbox starts, and that never outlive it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"


class SandboxError(Exception):
    """
    The sandbox cannot go on; the text says why and what to do.
    """


class Child:
    """
    One process in a session of its own, so that Ctrl-C in the terminal does not reach it.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        """
        Args:
            process: the process.
            log: where its output goes.
        """
        self._process = process
        self.log = log

    @classmethod
    async def start(
        cls, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> Self:
        """
        Start this interpreter with arguments.

        Args:
            arguments: as after ``python``.
            environment: all of it.
            log: file that output and errors are appended to.
        """
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "crrmon.sandbox.leash", str(os.getpid()), sys.executable, *arguments),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """
        Its process id.
        """
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """
        Its exit code, negative for a signal; None while it runs.
        """
        return self._process.returncode

    async def wait(self) -> int:
        """
        Wait until it ends and return its exit code.
        """
        return await self._process.wait()

    async def stop(self, *, grace: float) -> int | None:
        """
        Ask it to end.

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
        """
        End it with SIGKILL.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def last_words(self, lines: int = 15) -> str:
        """
        Return the end of its log.
        """
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def is_free(port: int) -> bool:
    """
    Tell whether nobody listens on a port of this machine.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """
    Return a port that nobody listens on at the moment.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
