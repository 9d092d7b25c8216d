"""Two replicas that stop, one in the middle of settling and one in the middle of publishing, until another went on."""

import asyncio
import os
import signal

from crrmon.sandbox.daemon import DaemonProcess
from fakes.fleet import SHARDS, Fleet, page


class Freezer:
    """Stops a replica when it sends a settlement, and another one when it sends a call to CloudWatch."""

    def __init__(self) -> None:
        self.settling: DaemonProcess | None = None
        self.publishing: DaemonProcess | None = None
        self._armed = False

    def arm(self) -> None:
        """Stop those who send something from now on."""
        self._armed = True

    def settles(self, daemon: DaemonProcess) -> None:
        """Note that a replica sends a settlement."""
        # Whoever publishes is stopped for that, and must not be stopped before.
        if self._armed and self.publishing not in (None, daemon) and self.settling is None:
            self.settling = daemon
            os.kill(daemon.pid, signal.SIGSTOP)

    def publishes(self, daemon: DaemonProcess) -> None:
        """Note that a replica sends a call to CloudWatch."""
        if self._armed and self.publishing is None:
            self.publishing = daemon
            os.kill(daemon.pid, signal.SIGSTOP)


async def stand_still(fleet: Fleet, freezer: Freezer) -> None:
    """
    Stop two of three replicas until the third has all shards and has published; then let them go on.

    What the two had sent is passed on; the answers wait for them.
    """
    facade = fleet.stage.facade
    await fleet.until(fleet.even)
    while not any([await one.reports() for one in fleet.daemons]):
        await fleet.until_written(1)
    freezer.arm()
    await fleet.until(lambda: freezer.settling)
    settling, publishing = freezer.settling, freezer.publishing
    assert settling is not None
    assert publishing is not None
    (awake,) = (daemon for daemon in fleet.daemons if daemon not in (settling, publishing))
    told = facade.calls_of[awake.site.access_key]
    before = told["PutMetricData"]
    await fleet.until(lambda: fleet.shards_of(awake) == SHARDS)
    await fleet.until(lambda: told["PutMetricData"] >= before + 2)

    # What they had received shows again, as when they had stood still for longer: the third gets it as well.
    for one in (settling, publishing):
        await facade.give_back(one.site.access_key)
    await fleet.until_written(10)
    asked = asyncio.create_task(page(publishing, "/metrics"))
    await asyncio.wait([asked], timeout=0.2)  # it is on its way, and answered first of all
    for one in (settling, publishing):
        os.kill(one.pid, signal.SIGCONT)
    _, shown = await asked
    assert "crrmon_pending_objects{" not in shown
    while not fleet.even():
        assert not await publishing.reports()
        await fleet.until_written(1)
    assert await awake.reports()


async def check_after(fleet: Fleet) -> None:
    """Check that everything was counted once, and told once but for the one call that two replicas sent."""
    verdict = await fleet.verdict()
    run = verdict.run
    assert run.repeated_calls <= 1
    assert run.doubled_datapoints == 0
    assert set(verdict.complaints) <= {"1 calls to CloudWatch were repeated, with 0 kills"}
