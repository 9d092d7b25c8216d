"""A client that says too little, and too slowly."""

import asyncio
import contextlib

from fakes.patience import HANGS_SECONDS


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other side ends a connection."""
    async with asyncio.timeout(HANGS_SECONDS):
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def dawdle(port: int, said: bytes) -> None:
    """
    Begin a request on this machine, and go on with a byte now and then until the other side ends it.

    Args:
        port: where.
        said: at once; with nothing, nothing comes later either.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)

    async def trickle() -> None:
        while said:
            writer.write(b"x")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    await closed(reader)
    trickling.cancel()
    writer.close()
