from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from crrmon.adapters.aws import AwsSession
from fakes.aws_stub import AwsStub
from fakes.moto_server import moto_server


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give the SDK credentials that open nothing, and hide the machine's own."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    for name in (*proxies, "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Run moto in this process, so that tests can reach into it."""
    with moto_server() as url:
        yield url


@pytest.fixture
async def stub() -> AsyncIterator[AwsStub]:
    """Run a server that answers as it is told to."""
    async with AwsStub() as server:
        yield server


@pytest.fixture(params=["sdk", "fast"])
def both_clients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test of a module twice: AWS is asked by the SDK's client, and by the fast one."""
    choice: str = request.param
    monkeypatch.setitem(AwsSession.__init__.__kwdefaults__ or {}, "choice", choice)
    return choice
