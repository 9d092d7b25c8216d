"""MiniStack, the emulator of AWS, in a process of its own."""

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from crrmon.sandbox.children import LOOPBACK, Child, SandboxError, free_port
from crrmon.sandbox.environment import for_emulator

START_SECONDS = 60.0
"""It takes about one; a loaded machine may need more."""


class NotInstalledError(SandboxError):
    """
    The sandbox's extra dependencies are missing.
    """


@asynccontextmanager
async def emulator(folder: Path) -> AsyncIterator[str]:
    """
    Run MiniStack.

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
            "the sandbox needs MiniStack, an emulator of AWS: pip install 'crrmon[sandbox]'"
        )
    port = free_port()
    child = await Child.start(
        ("-m", "ministack"),
        environment=for_emulator(os.environ, port=port, folder=folder),
        log=folder / "emulator.log",
    )
    try:
        url = f"http://{LOOPBACK}:{port}"
        await _until_it_answers(child, url)
        yield url
    finally:
        await child.kill()  # it has nothing worth saving


async def _until_it_answers(child: Child, url: str) -> None:
    async with aiohttp.ClientSession() as http:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await answers(http, f"{url}/_ministack/health"):
                    if child.ended is not None:
                        break
                    await asyncio.sleep(0.05)
                else:
                    return
        except TimeoutError:
            pass
    raise SandboxError(f"MiniStack did not start; the end of {child.log}:\n{child.last_words()}")


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    """
    Tell whether a GET is answered with 200.
    """
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as response:
            return response.status == 200  # noqa: PLR2004 - OK
    except (aiohttp.ClientError, TimeoutError):
        return False
