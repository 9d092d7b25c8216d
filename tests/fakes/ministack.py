"""MiniStack in a process of its own, one for all tests of this process, which it never outlives."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import BinaryIO

from crrmon.sandbox.children import LOOPBACK, free_port
from crrmon.sandbox.environment import for_emulator
from fakes.patience import HANGS_SECONDS


@contextlib.contextmanager
def ministack(program: str = "ministack", **settings: str) -> Iterator[str]:
    """
    Run it on a free port of loopback; give the address.

    Args:
        program: the module to run, for those that put something into it first.
        settings: variables of its environment.
    """
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        port = free_port()
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [
                *(sys.executable, "-m", "crrmon.sandbox.leash", str(os.getpid())),
                *(sys.executable, "-m", program),
            ],
            env=for_emulator(os.environ, port=port, folder=Path(folder)) | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(process, port, log)
            yield f"http://{LOOPBACK}:{port}"
        finally:
            process.send_signal(signal.SIGKILL)  # it has nothing worth saving
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: BinaryIO) -> None:
    until = time.monotonic() + HANGS_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, f"MiniStack ended at its start:\n{_last_words(log)}"
        with contextlib.suppress(OSError, HTTPException):
            connection = HTTPConnection(LOOPBACK, port, timeout=HANGS_SECONDS)
            connection.request("GET", "/_ministack/health")
            if connection.getresponse().status == HTTPStatus.OK:
                connection.close()
                return
        time.sleep(0.05)  # noqa: TID251 - another process has to get ready
    raise AssertionError("MiniStack did not start in time")


def _last_words(log: BinaryIO) -> str:
    log.seek(0)
    return log.read()[-4000:].decode(errors="replace")


_shared = contextlib.ExitStack()
atexit.register(_shared.close)


@cache
def shared_ministack() -> str:
    """Return the address of one for all tests of this process; each takes a table of its own."""
    return _shared.enter_context(ministack())
