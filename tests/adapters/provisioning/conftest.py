"""The emulator that deployments are tested on, and clients as the root of an account."""

from collections.abc import Iterator

import pytest

from crrmon.adapters.provisioning.clients import Clients
from crrmon.domain.deployment.logins import Login
from fakes.whole_ministack import OURS, REGION, WholeMiniStack, whole_ministack


@pytest.fixture(scope="module")
def cloud() -> Iterator[WholeMiniStack]:
    with whole_ministack() as running:
        yield running


@pytest.fixture
def clients(cloud: WholeMiniStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OURS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ministack")
    login = Login(name="", region=REGION)
    with Clients([login], endpoint_url=cloud.url, default_region=REGION) as made:
        yield made
