"""Which client makes the calls that are made all day, as docs/aws-client.md has it. Nobody is asked for that."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
from structlog.testing import capture_logs

from crrmon.adapters.aws import AwsSession, Login
from crrmon.adapters.fast.client_choice import ClientChoice
from crrmon.adapters.fast.json_calls import JsonCalls
from crrmon.adapters.fast.s3 import FastHeads

REGION = "eu-west-1"
SERVICES: tuple[Literal["s3", "sqs", "dynamodb"], ...] = ("s3", "sqs", "dynamodb")
NOT_PLAIN = "its endpoint is not the plain one of a region"


@pytest.fixture(autouse=True)
def nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide how this machine is set up, and let nothing be looked up or connected to."""
    for name in ("AWS_CA_BUNDLE", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


async def made(
    choice: ClientChoice,
    *,
    region: str = REGION,
    endpoint: str | None = None,
    login: Login | None = None,
) -> tuple[dict[str, bool], list[Mapping[str, Any]]]:
    """Make the clients of all services, twice; return for each whether it is the fast one, and what was logged."""
    with capture_logs() as logs:
        async with AwsSession(
            endpoint_url=endpoint, default_region=REGION, max_connections=1, choice=choice
        ) as aws:
            for _ in range(2):
                heads = (await aws.s3(region, login)).heads
                fast = {"s3": isinstance(heads, FastHeads)}
                for service in SERVICES[1:]:
                    calls = await aws.calls(service, region, login)
                    fast[service] = isinstance(calls, JsonCalls)
    return fast, [line for line in logs if line["event"] == "sdk_used"]


def reasons(logs: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return why each service's client is the SDK's; each was told once."""
    told = {line["service"]: line["reason"] for line in logs}
    assert len(told) == len(logs)
    return told


@pytest.mark.parametrize(
    "region", ["us-east-1", "us-west-2", "eu-west-1", "us-gov-east-1", "cn-north-1"]
)
@pytest.mark.parametrize("choice", ["auto", "fast"])
async def test_plain_endpoints_of_aws(choice: ClientChoice, region: str) -> None:
    """Are asked by the fast client, which nobody need be told."""
    fast, logs = await made(choice, region=region)
    assert fast == {"s3": True, "sqs": True, "dynamodb": True}
    assert not logs


async def test_never() -> None:
    """Where it was so set, which nobody need be told, either."""
    fast, logs = await made("sdk")
    assert not any(fast.values())
    assert not logs


UNUSUAL = {
    "http": ({}, "http://localhost:4566", "its endpoint is http"),
    "an emulator": ({}, "https://localhost:4566", NOT_PLAIN),
    "a path": ({}, "https://s3.eu-west-1.amazonaws.com/base", NOT_PLAIN),
    "a port": ({}, "https://sqs.eu-west-1.amazonaws.com:8443", NOT_PLAIN),
    "a name that only begins like one": (
        {},
        "https://s3.eu-west-1.amazonaws.com.evil.example",
        NOT_PLAIN,
    ),
    "a name that only ends like one": ({}, "https://evil-s3.eu-west-1.amazonaws.com", NOT_PLAIN),
    "another region's": ({}, "https://s3.eu-west-2.amazonaws.com", NOT_PLAIN),
    "an endpoint of the SDK": ({"AWS_ENDPOINT_URL": "https://store.example"}, None, NOT_PLAIN),
    "certificates for all of Python": (
        {"REQUESTS_CA_BUNDLE": "/etc/ssl/company.pem"},
        None,
        "a CA bundle is set",
    ),
    "FIPS": ({"AWS_USE_FIPS_ENDPOINT": "true"}, None, NOT_PLAIN),
    "dual-stack": ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, None, NOT_PLAIN),
    "PrivateLink": (
        {},
        "https://bucket.vpce-0a1b2c3d-4e5f.s3.eu-west-1.vpce.amazonaws.com",
        NOT_PLAIN,
    ),
    "a CA bundle": ({"AWS_CA_BUNDLE": "/etc/ca.pem"}, None, "a CA bundle is set"),
}


@pytest.mark.parametrize(("environment", "endpoint", "reason"), UNUSUAL.values(), ids=UNUSUAL)
async def test_what_is_unusual(
    environment: Mapping[str, str],
    endpoint: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Is left to the SDK, with one line for each client that says why; but not where the fast one is wanted."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fast, logs = await made("auto", endpoint=endpoint)
    assert not any(fast.values())
    assert reasons(logs) == dict.fromkeys(SERVICES, reason)
    assert {(line["log_level"], line["region"]) for line in logs} == {("info", REGION)}
    assert all(line["host"] for line in logs)

    fast, logs = await made("fast", endpoint=endpoint)
    assert all(fast.values())
    assert not logs


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize("choice", ["auto", "fast"])
async def test_a_proxy(choice: ClientChoice, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is used by the SDK alone."""
    monkeypatch.setenv(name, "http://proxy.example:3128")
    fast, logs = await made(choice)
    assert not any(fast.values())
    assert set(reasons(logs).values()) == {"a proxy is set"}


@pytest.mark.parametrize(
    "environment",
    [
        {"NO_PROXY": "internal.example"},
        {"HTTP_PROXY": "http://proxy.example:3128"},
        {"FTP_PROXY": "http://proxy.example:3128"},
        {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ".amazonaws.com"},
        {"HTTPS_PROXY": ""},
    ],
)
async def test_a_proxy_for_others(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is none for AWS."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fast, logs = await made("auto")
    assert all(fast.values())
    assert not logs


async def test_a_proxy_for_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts where the store is asked by its scheme."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    fast, logs = await made("fast", endpoint="http://store.example")
    assert not any(fast.values())
    assert set(reasons(logs).values()) == {"a proxy is set"}


@pytest.fixture(params=["signature_version = s3", "use_accelerate_endpoint = true"])
def profile_of_s3(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """Set S3 up in the SDK's own way."""
    path = tmp_path / "config"
    path.write_text(f"[default]\ns3 =\n  {request.param}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    setting: str = request.param
    return setting.partition(" ")[0]


async def test_a_profile(profile_of_s3: str) -> None:
    """May set S3 up otherwise, and only S3; acceleration is asked for by the fast client where that is wanted."""
    accelerated = profile_of_s3 == "use_accelerate_endpoint"
    choices: tuple[ClientChoice, ...] = ("auto", "fast")
    for choice in choices:
        fast, logs = await made(choice)
        assert fast == {"s3": accelerated and choice == "fast", "sqs": True, "dynamodb": True}
        if not fast["s3"]:
            assert reasons(logs) == {
                "s3": "S3 acceleration is set"
                if accelerated
                else "another signature version is set"
            }


async def test_a_bundle_of_the_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Is a CA bundle as well."""
    path = tmp_path / "config"
    path.write_text("[default]\nca_bundle = /etc/ca.pem\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    fast, logs = await made("auto")
    assert not any(fast.values())
    assert set(reasons(logs).values()) == {"a CA bundle is set"}


async def test_an_account_with_a_store_of_its_own() -> None:
    """Is asked by the SDK, while the daemon's own account is asked by the fast client."""
    store = Login(name="s", session=None, endpoint_url="https://store.example", path_style=True)
    with capture_logs() as logs:
        async with AwsSession(
            endpoint_url=None, default_region=REGION, max_connections=1, choice="auto"
        ) as aws:
            assert not isinstance((await aws.s3(REGION, store)).heads, FastHeads)
            assert isinstance((await aws.s3(REGION)).heads, FastHeads)
    assert [(line["host"], line["reason"]) for line in logs] == [("store.example", NOT_PLAIN)]
