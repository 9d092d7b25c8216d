"""The real daemon, as a user would start it: ``crrmon run`` with a configuration file."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from prometheus_client.parser import text_string_to_metric_families

from crrmon.domain.catalogue import METRICS
from crrmon.sandbox.children import LOOPBACK, Restartable
from crrmon.sandbox.emulator import answers
from crrmon.sandbox.world import World, queue_url

NAMESPACE = "CRRMonitor"
SHUTDOWN_SECONDS = 20
WINDOW_SECONDS = 5
_PAGE_TIMEOUT = aiohttp.ClientTimeout(total=5)
_FLEET = {metric.name for metric in METRICS if metric.fleet}


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where the things of one replica are."""

    folder: Path
    endpoint: str
    port: int
    number: int = 1
    """Which replica, from 1 on."""
    alone: bool = True
    """Whether it is the only one."""

    @property
    def name(self) -> str:
        """What people call it."""
        return "the daemon" if self.alone else f"replica {self.number}"

    @property
    def access_key(self) -> str:
        """What it signs its calls with: by this they are told apart."""
        return f"sandbox-{self.number}"

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.folder / f"crrmon{self._suffix}.yaml"

    @property
    def log(self) -> Path:
        """Its output."""
        return self.folder / f"daemon{self._suffix}.log"

    @property
    def url(self) -> str:
        """Its HTTP server."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def _suffix(self) -> str:
        return "" if self.alone else f"-{self.number}"


def write_config(site: Site, world: World, *, ledger: Mapping[str, Any]) -> None:
    """Write the configuration: what a user of AWS would write, but for the endpoint and shorter times.

    Args:
        site: whose.
        world: what it is to watch.
        ledger: that section.
    """
    config = {
        "name": "sandbox",
        "queues": [{"url": queue_url(site.endpoint, world.queue), "region": world.queue_region}],
        "buckets": [bucket.name for bucket in world.sources],
        "aws": {
            "endpoint_url": site.endpoint,
            "region": world.queue_region,
            "client": "fast",  # as on AWS itself: by itself it is chosen for https alone
        },
        "polling": {"freshness": 0.5},
        "ledger": dict(ledger),
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


class DaemonProcess(Restartable):
    """One replica of the daemon."""

    def __init__(self, site: Site, http: aiohttp.ClientSession) -> None:
        """Args:
        site: with the configuration written.
        http: asks it how it is.
        """
        super().__init__(
            site.name,
            (sys.executable, "-m", "crrmon", "run", "--config", str(site.config)),
            environment={**os.environ, "AWS_ACCESS_KEY_ID": site.access_key},
            log=site.log,
            answers=lambda: answers(http, f"{site.url}/livez"),
        )
        self.site = site
        self._http = http

    async def reports(self) -> bool:
        """Return whether it shows the numbers of the whole fleet on /metrics."""
        return any(
            family.samples
            for family in text_string_to_metric_families(await self.metrics())
            if family.name in _FLEET
        )

    async def metrics(self) -> str:
        """Read its /metrics; the empty string when it does not answer."""
        try:
            async with self._http.get(
                f"{self.site.url}/metrics", timeout=_PAGE_TIMEOUT
            ) as response:
                return await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return ""


async def follow(log: Path, show: Callable[[str], None]) -> None:
    """Show every line that a log gets, for ever."""
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
