"""Daemons whose ledger cannot be used as it is: they must say so, wait, take nothing in, and go on when it is mended."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from crrmon.sandbox.daemon import SHUTDOWN_SECONDS, DaemonProcess
from crrmon.sandbox.play import Stage
from crrmon.sandbox.world import WORLD
from fakes.fleet import change_config, events, page
from fakes.patience import HANGS_SECONDS

WAITING = re.compile(r"unavailable for ([7-9]|\d\d+) s")
"""By then it has tried several times."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be wrong with a ledger."""

    section: dict[str, Any]
    """The ledger's settings."""
    words: tuple[str, ...]
    """What must be said: the setting and the remedy."""
    mend: Callable[[], Awaitable[None]]
    never: str = "\n"
    """What must not be said."""


async def check_waiting(stage: Stage, cases: Sequence[Case]) -> None:
    """Start a daemon for each case, and see how all of them wait and go on."""
    sqs = await stage.emulator.client("sqs", WORLD.queue_region)
    await sqs.send_message(QueueUrl=stage.queue, MessageBody='{"Event":"s3:TestEvent"}')
    pairs = list(zip(stage.daemons, cases, strict=True))
    for daemon, case in pairs:
        change_config(daemon, "ledger", **case.section)
    async with asyncio.TaskGroup() as tasks:
        for daemon, case in pairs:
            tasks.create_task(_check_waits(stage, daemon, case))
    told = await sqs.get_queue_attributes(QueueUrl=stage.queue, AttributeNames=["All"])
    assert told["Attributes"]["ApproximateNumberOfMessages"] == "1"
    assert told["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"
    async with asyncio.TaskGroup() as tasks:
        for daemon, case in pairs:
            tasks.create_task(_check_goes_on(stage, daemon, case))


async def _check_waits(stage: Stage, daemon: DaemonProcess, case: Case) -> None:
    await daemon.start()
    status, text = await _ready_text(daemon, WAITING.search)
    assert status == 503
    details = json.loads(text)["details"]
    assert {name for name, one in details.items() if one != "ok"} == {"daemon", "ledger"}
    said = details["ledger"]
    (line,) = events(daemon, "dependency_unavailable")
    for words in case.words:
        assert words in said, said
        assert words in line["reason"]
    assert case.never not in said
    assert case.never not in daemon.site.log.read_text(encoding="utf-8").replace("\n", " ")
    assert (await page(daemon, "/livez"))[0] == 200
    assert await daemon.restart(grace=SHUTDOWN_SECONDS) == 0
    await _ready_text(daemon, lambda text: case.words[0] in text)
    assert stage.facade.calls_of[daemon.site.access_key]["ReceiveMessage"] == 0


async def _check_goes_on(stage: Stage, daemon: DaemonProcess, case: Case) -> None:
    await case.mend()
    asked = stage.facade.calls_of[daemon.site.access_key]
    async with asyncio.timeout(HANGS_SECONDS):
        while not asked["ReceiveMessage"] or (await page(daemon, "/readyz"))[0] != 200:
            await asyncio.sleep(0.1)
    assert await daemon.stop(grace=SHUTDOWN_SECONDS + 5) == 0


async def _ready_text(daemon: DaemonProcess, said: Callable[[str], object]) -> tuple[int, str]:
    """Wait until /readyz says something."""
    async with asyncio.timeout(HANGS_SECONDS):
        while True:
            status, text = await page(daemon, "/readyz")
            if said(text):
                return status, text
            await asyncio.sleep(0.1)
