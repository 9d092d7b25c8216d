"""MiniStack, the emulator of AWS, in a process of its own."""

import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from crrmon.sandbox.children import LOOPBACK, Restartable, SandboxError, free_port
from crrmon.sandbox.environment import for_emulator


class NotInstalledError(SandboxError):
    """The sandbox's extra dependencies are missing."""


@asynccontextmanager
async def emulator(folder: Path) -> AsyncIterator[str]:
    """Run MiniStack.

    Args:
        folder: for its log.

    Yields:
        The URL of its endpoint for all services.

    Raises:
        NotInstalledError: it is not there.
        SandboxError: it did not start.
    """
    if importlib.util.find_spec("ministack") is None:
        raise NotInstalledError(
            "the sandbox needs MiniStack, an emulator of AWS: pip install ministack"
        )
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    async with aiohttp.ClientSession() as http:
        ministack = Restartable(
            "MiniStack",
            (sys.executable, "-m", "ministack"),
            environment=for_emulator(os.environ, port=port, folder=folder),
            log=folder / "emulator.log",
            answers=lambda: answers(http, f"{url}/_ministack/health"),
        )
        try:
            await ministack.start()
            yield url
        finally:
            await ministack.abandon()  # it has nothing worth saving


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    """Return whether a GET is answered with 200."""
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as response:
            return response.status == 200  # noqa: PLR2004 - OK
    except (aiohttp.ClientError, TimeoutError):
        return False
