"""Services run in simulated time: an hour takes milliseconds."""

from pathlib import Path

import pytest

from fakes.clock import LoopClock
from fakes.minio import Minio
from fakes.rig import Rig

HERE = Path(__file__).parent

ROUNDS = {
    "crrmon.services.tracking.poller.IDLE_SECONDS": 2.0,
    "crrmon.services.reporting.publisher.ROUND_SECONDS": 4.0,
    "crrmon.services.reporting.fleet_gauges.ROUND_SECONDS": 4.0,
}
"""
How often loops that have nothing to do see whether they have: four times as seldom as in the daemon, for such rounds
are most of what a simulated day costs. What depends on their length is marked `own_rounds`.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have every test of this folder run on a loop whose time is simulated."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.looptime(noop_cycles=1))


@pytest.fixture(autouse=True)
def _long_rounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("own_rounds") is None:
        for name, seconds in ROUNDS.items():
            monkeypatch.setattr(name, seconds)


@pytest.fixture
async def rig() -> Rig:
    """Make a daemon for one bucket, which replicates to another one."""
    rig = Rig()
    rig.s3.rule("src", "dst")
    return rig


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Minio:
    """Make a world of MinIO without any site yet, in simulated time; the SDK has credentials that open nothing."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return Minio(LoopClock().now)
