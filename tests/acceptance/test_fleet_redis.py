"""Several daemons on one queue and one Redis server, and what may happen to them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from crrmon.adapters.stores.redis.scripts import WRITE
from crrmon.ledger.encoding import Body
from crrmon.ledger.meta import Meta
from crrmon.sandbox.children import free_port
from crrmon.sandbox.daemon import DaemonProcess
from crrmon.sandbox.play import Stage, staged
from fakes.fleet import Proxy, change_config, playing
from fakes.frozen import Freezer, check_after, stand_still
from fakes.redis_server import redis_server
from fakes.sandbox_command import check_every_number, sandbox
from fakes.waiting import Case, check_waiting

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.usefixtures("cut_off"),
]

DURABLE = ("--appendonly", "yes", "--appendfsync", "no")
WRONG = "wr0ng-passw0rd"


async def test_killing_daemons_and_redis_loses_and_doubles_nothing() -> None:
    """Invariants 2, 5 and 9: three daemons killed in turn, and Redis once; every object is counted once."""
    async with sandbox(
        *("--objects", "1000", "--rate", "40", "--fail", "0.03", "--seed", "21"),
        *("--replicas", "3", "--ledger", "redis", "--kill", "6"),
    ) as one:
        code, verdict = await one.end()

    assert code == 0, verdict["complaints"]
    run = verdict["run"]
    assert [replica["kills"] for replica in run["replicas"]] == [2, 2, 2]
    assert run["ledger_kills"] == 1
    assert all(replica["looks"] > 100 for replica in run["replicas"])
    check_every_number(verdict, objects=1000, killed=True)


@asynccontextmanager
async def proxies(freezer: Freezer) -> AsyncIterator[Callable[[Stage], Awaitable[None]]]:
    """Give what puts a proxy between each daemon and Redis."""
    async with AsyncExitStack() as stack:

        async def prepare(stage: Stage) -> None:
            behind = urlsplit(stage.keeping.where)

            def listener(daemon: DaemonProcess) -> Callable[[bytes], None]:
                def said(piece: bytes) -> None:
                    # A write that carries an entry of the journal with tallies: something is counted.
                    if (
                        WRITE.encode() in piece
                        and b":journal\r\n" in piece
                        and b"tallies" in piece
                    ):
                        freezer.settles(daemon)

                return said

            for daemon in stage.daemons:
                proxy = Proxy(behind.hostname or "", behind.port or 0, listener(daemon))
                await stack.enter_async_context(proxy.listening())
                change_config(daemon, "ledger", redis={"url": f"redis://127.0.0.1:{proxy.port}/0"})

            by_key = {one.site.access_key: one for one in stage.daemons}

            async def on_call(operation: str, caller: str, _: bytes) -> None:
                if operation == "PutMetricData":
                    freezer.publishes(by_key[caller])

            stage.facade.on_call = on_call

        yield prepare


async def test_replicas_that_stand_still_past_their_leases_count_nothing_twice(
    tmp_path: Path,
) -> None:
    """Invariants 5 and 9: stopped in the middle of a settlement or of publishing, and continued after others took over."""
    freezer = Freezer()
    async with (
        proxies(freezer) as prepare,
        playing(tmp_path, ledger="redis", replicas=3, prepare=prepare) as fleet,
    ):
        await stand_still(fleet, freezer)
        await check_after(fleet)


async def test_a_server_that_will_not_do_is_said_and_waited_for(tmp_path: Path) -> None:
    """A wrong password, a cluster, a ledger of a newer version: nothing is received until each is mended."""
    with (
        redis_server(*DURABLE, "--requirepass", "another") as locked,
        redis_server(*DURABLE, "--cluster-enabled", "yes") as node,
        redis_server(*DURABLE) as ahead,
    ):
        meta = "{crrmon}:meta"
        with ahead.client() as client:
            client.hset(
                meta, "meta", Body(Meta).encode(Meta(format=99, readable_by=99, shards=64))
            )

        async def set_password() -> None:
            with locked.client(password="another") as client:  # noqa: S106 - of this test
                client.config_set("requirepass", WRONG)

        async def stand_alone() -> None:
            node.kill()
            node._options = DURABLE
            node.start()

        async def make_older() -> None:
            with ahead.client() as client:
                client.delete(meta)

        async with staged(tmp_path, free_port(), replicas=3) as stage:
            await check_waiting(
                stage,
                [
                    Case(
                        section=section(locked.url, password=WRONG),
                        words=("correct ledger.redis.password",),
                        mend=set_password,
                        never=WRONG,
                    ),
                    Case(
                        section=section(node.url),
                        words=("ledger.redis.cluster is false", "set it to true"),
                        mend=stand_alone,
                    ),
                    Case(
                        section=section(ahead.url),
                        words=("a newer crrmon", "ledger.redis.prefix"),
                        mend=make_older,
                    ),
                ],
            )


def section(url: str, **more: str) -> dict[str, Any]:
    """Make the ledger's settings."""
    return {"kind": "redis", "redis": {"url": url, **more}}
