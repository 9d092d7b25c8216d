"""What tests of real processes share."""

import os
from collections.abc import Iterator

import pytest

from crrmon.sandbox.environment import isolated
from fakes.moto_server import moto_server


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Run moto in this process, so that tests can reach into it."""
    with moto_server() as url:
        yield url


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing in the environment that leads off this machine, and credentials that are worth nothing."""
    environment = isolated(os.environ)
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
