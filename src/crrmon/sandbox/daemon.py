"""The real daemon, as a user would start it: ``crrmon run`` with a configuration file."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import yaml

from crrmon.sandbox.children import LOOPBACK, Child, SandboxError
from crrmon.sandbox.emulator import answers
from crrmon.sandbox.world import World, queue_url

NAMESPACE = "CRRMonitor"
START_SECONDS = 60.0
SHUTDOWN_SECONDS = 20
WINDOW_SECONDS = 5


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where the daemon's things are.
    """

    folder: Path
    endpoint: str
    port: int

    @property
    def config(self) -> Path:
        """
        Its configuration.
        """
        return self.folder / "crrmon.yaml"

    @property
    def ledger(self) -> Path:
        """
        Its ledger.
        """
        return self.folder / "crrmon.db"

    @property
    def log(self) -> Path:
        """
        Its output.
        """
        return self.folder / "daemon.log"

    @property
    def url(self) -> str:
        """
        Its HTTP server.
        """
        return f"http://{LOOPBACK}:{self.port}"


def write_config(site: Site, world: World) -> None:
    """
    Write the configuration: what a user of AWS would write, but for the endpoint and shorter times.
    """
    config = {
        "monitor": "sandbox",
        "queues": [{"url": queue_url(site.endpoint, world.queue), "region": world.queue_region}],
        "buckets": [bucket.name for bucket in world.sources],
        "aws": {"endpoint_url": site.endpoint},
        "looks": {"freshness": 0.5},
        "ledger": {"kind": "sqlite", "path": str(site.ledger)},
        "report": {
            "window_seconds": WINDOW_SECONDS,
            "cloudwatch": True,
            "namespace": NAMESPACE,
            "region": world.queue_region,
        },
        "http": {"host": LOOPBACK, "port": site.port},
        "log": {"format": "json"},
        "shutdown_seconds": SHUTDOWN_SECONDS,
    }
    site.config.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


class Daemon:
    """
    The daemon, which may be killed and started again.
    """

    def __init__(self, site: Site) -> None:
        """
        Args:
            site: with the configuration written.
        """
        self._site = site
        self._child: Child | None = None
        self._killing = asyncio.Lock()
        self.kills = 0

    async def start(self) -> None:
        """
        Start it and wait until it is alive.

        Raises:
            SandboxError: it ended, or did not come to life in time.
        """
        self._child = await Child.start(
            ("-m", "crrmon", "run", "--config", str(self._site.config)),
            environment=os.environ,
            log=self._site.log,
        )
        async with aiohttp.ClientSession() as http:
            try:
                async with asyncio.timeout(START_SECONDS):
                    while not await answers(http, f"{self._site.url}/livez"):
                        if self._child.ended is not None:
                            raise self._died()
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise self._died() from None

    async def kill_and_restart(self) -> None:
        """
        Kill it with -9 and start it again on the same ledger.
        """
        async with self._killing:
            await self.abandon()
            self.kills += 1
            await self.start()

    async def guard(self) -> None:
        """
        Watch it.

        Raises:
            SandboxError: it ended and nobody had asked it to.
        """
        while True:
            child = self._child
            if child is not None:
                await child.wait()
                async with self._killing:  # waits for the restart, if it was that
                    if child is self._child:
                        raise self._died()

    async def stop(self) -> int | None:
        """
        Ask it to end.

        Returns:
            Its exit code; None when it took longer than it may and was killed.
        """
        if self._child is None:
            return None
        return await self._child.stop(grace=SHUTDOWN_SECONDS + 5)

    async def abandon(self) -> None:
        """
        Kill it, if it runs.
        """
        if self._child is not None and self._child.ended is None:
            await self._child.kill()

    def _died(self) -> SandboxError:
        child = self._child
        if child is None:
            return SandboxError("the daemon was not started")
        ended = "did not come to life" if child.ended is None else f"ended with {child.ended}"
        return SandboxError(f"the daemon {ended}; the end of {child.log}:\n{child.last_words()}")


async def follow(log: Path, show: Callable[[str], None]) -> None:
    """
    Show every line that a log gets, for ever.
    """
    position = 0
    while True:
        whole = _lines_from(log, position)
        position += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            show(line)
        await asyncio.sleep(0.2)


def _lines_from(log: Path, position: int) -> bytes:
    if not log.exists():
        return b""
    with log.open("rb") as file:
        file.seek(position)
        text = file.read()
    return text[: text.rfind(b"\n") + 1]
