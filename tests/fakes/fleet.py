"""A fleet of real daemons in the sandbox, while a test does to them what it likes."""

import asyncio
import io
import json
import os
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from rich.console import Console

from crrmon.sandbox.children import free_port
from crrmon.sandbox.daemon import DaemonProcess
from crrmon.sandbox.keeping import Kind
from crrmon.sandbox.plan import Chances
from crrmon.sandbox.play import Play, SandboxSettings, Stage, staged
from crrmon.sandbox.show import Show
from crrmon.sandbox.verdict import SandboxVerdict
from fakes.patience import HANGS_SECONDS

SHARDS = 64
CHANCES = Chances(fail=0.05, median=2.0, spread=0.8, uncovered=0.0)
"""Nothing uncovered: for that the daemon takes a minute, and every test would last as long."""


class Fleet:
    """Daemons that follow what is written without end, until the test asks for the verdict."""

    def __init__(
        self, stage: Stage, playing: asyncio.Task[SandboxVerdict], stop: asyncio.Event
    ) -> None:
        self.stage = stage
        self._playing = playing
        self._stop = stop

    @property
    def daemons(self) -> tuple[DaemonProcess, ...]:
        """The replicas."""
        return self.stage.daemons

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait until something is so, while all else goes on."""
        async with asyncio.timeout(HANGS_SECONDS):
            while not happened():
                if self._playing.done():
                    self._playing.result()
                    raise AssertionError("the play is over")
                await asyncio.sleep(0.05)

    async def until_written(self, objects: int) -> None:
        """Wait until so many more objects are written."""
        enough = len(self.stage.truth) + objects
        await self.until(lambda: len(self.stage.truth) >= enough)

    async def verdict(self, *, after_all: bool = False) -> SandboxVerdict:
        """
        Write nothing more, wait until all was told, and judge; no daemon may have met what it did not expect.

        Args:
            after_all: first write all that was planned.
        """
        if not after_all:
            self._stop.set()
        verdict = await self._playing
        for daemon in self.daemons:
            surprises = [line for line in events(daemon) if "exception" in line]
            assert not surprises, surprises
        return verdict

    def received(self) -> int:
        """Return how often the queue was asked for messages."""
        return self.stage.facade.calls["ReceiveMessage"]

    def shards(self) -> list[int]:
        """Return how many shards each replica last said that it holds; 0 for one that just began."""
        return [self.shards_of(daemon) for daemon in self.daemons]

    def shards_of(self, daemon: DaemonProcess) -> int:
        """Return how many shards a replica last said that it holds."""
        held = 0
        for line in events(daemon):
            match line["event"]:
                case "started":
                    held = 0
                case "leases_changed":
                    held = line["shards"]
                case "lease_lost":
                    held -= 1
        return held

    def even(self) -> bool:
        """Return whether every shard has one holder, and none holds two more than another."""
        held = self.shards()
        return sum(held) == SHARDS and max(held) - min(held) <= 1


def events(daemon: DaemonProcess, name: str | None = None) -> list[dict[str, Any]]:
    """Read a daemon's log; what a kill cut off is left out."""
    found = []
    for line in daemon.site.log.read_bytes().splitlines() if daemon.site.log.exists() else ():
        with suppress(json.JSONDecodeError):
            event = json.loads(line)
            if name is None or event["event"] == name:
                found.append(event)
    return found


@asynccontextmanager
async def playing(
    folder: Path,
    *,
    ledger: Kind,
    replicas: int,
    prepare: Callable[[Stage], Awaitable[None]] | None = None,
    **changes: Any,
) -> AsyncIterator[Fleet]:
    """
    Start a fleet; it ends with the block.

    Args:
        folder: for everything.
        ledger: which.
        replicas: how many.
        prepare: changes the stage before daemons start.
        changes: to the settings of the play.
    """
    settings: dict[str, Any] = {
        "objects": None, "rate": 6.0, "chances": CHANCES, "seed": 1, "kills": 0, "port": None,
    }  # fmt: skip
    async with staged(folder, free_port(), replicas=replicas, ledger=ledger) as stage:
        if prepare is not None:
            await prepare(stage)
        stop = asyncio.Event()
        shown = io.StringIO()
        play = Play(
            stage,
            SandboxSettings(**{**settings, **changes}, replicas=replicas, ledger=ledger),
            Show(Console(file=shown)),
            stop,
        )
        task = asyncio.create_task(play.run())
        fleet = Fleet(stage, task, stop)
        try:
            await fleet.until(lambda: all(events(one, "leases_changed") for one in stage.daemons))
            yield fleet
        finally:
            for daemon in stage.daemons:
                with suppress(ProcessLookupError):
                    os.kill(daemon.pid, signal.SIGCONT)
            task.cancel()
            await asyncio.wait([task])
            print(shown.getvalue())  # noqa: T201 - shown when the test fails


def change_config(daemon: DaemonProcess, section: str, **values: Any) -> None:
    """Change a section of a daemon's configuration."""
    config = yaml.safe_load(daemon.site.config.read_text(encoding="utf-8"))
    config[section] = {**config.get(section, {}), **values}
    daemon.site.config.write_text(yaml.safe_dump(config), encoding="utf-8")


async def page(daemon: DaemonProcess, path: str) -> tuple[int, str]:
    """Ask a daemon's port."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{daemon.site.url}{path}") as response,
    ):
        return response.status, await response.text()


class Proxy:
    """Passes bytes on between clients and a server, and looks at what clients say."""

    def __init__(self, host: str, port: int, said: Callable[[bytes], None]) -> None:
        """
        Args:
            host: of the server.
            port: of the server.
            said: called with every piece that a client sent, before it is passed on.
        """
        self._behind = (host, port)
        self._said = said
        self._writers: set[StreamWriter] = set()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen on loopback until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            their_reader, their_writer = await asyncio.open_connection(*self._behind)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, their_writer}
        await asyncio.gather(
            self._copy(reader, their_writer, self._said),
            self._copy(their_reader, writer, lambda _: None),
        )
        self._writers -= {writer, their_writer}

    @staticmethod
    async def _copy(
        reader: StreamReader, writer: StreamWriter, said: Callable[[bytes], None]
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                said(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()
