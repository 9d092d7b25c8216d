"""Headers as many and as long as AWS has them, wherever they pass: session tokens above all, which grow."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from crrmon.adapters.account_way import KnownAccount
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.http import HttpServer
from crrmon.adapters.prometheus import PrometheusMeters
from crrmon.adapters.s3 import S3Probe
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.ports.clock import SystemClock
from crrmon.sandbox.facade import served
from crrmon.services.lifecycle.health import HealthBoard
from fakes.aws_stub import (
    Answer,
    Asked,
    AwsStub,
    Hang,
    Raw,
    Reset,
    head,
    json_answer,
    role_credentials,
    s3_error,
)
from fakes.meters import FakeMeters

pytestmark = pytest.mark.usefixtures("both_clients")

REGION = "eu-west-1"
TOKEN = "FwoGZXIvYXdzE" + 10_227 * "x"
"""Of a session, of 10 KB."""
VERSION = ObjectVersion("src", "k", "Zx81")


def probe_of(aws: AwsSession, *accounts: KnownAccount) -> S3Probe:
    """Make what looks, with some accounts."""
    reach = Accounts(aws, accounts, clock=SystemClock(), meters=FakeMeters())
    return S3Probe(reach, clock=SystemClock())


def let_in(asked: Asked) -> Answer:
    """Answer as S3 does to who signs with the token."""
    if asked.headers.get("x-amz-security-token") != TOKEN:
        return s3_error(403, "InvalidToken")
    return head("Zx81", "PENDING")


def sts(action: str) -> Callable[[Asked], Answer | Hang | Reset]:
    """Answer as STS and S3 at one address: a token, to be shown again."""
    given = role_credentials("ASIA1", ends_at=time.time() + 3600, token=TOKEN, action=action)  # noqa: TID251 - the SDK's own clock reads it
    return lambda asked: given if asked.method == "POST" else let_in(asked)


async def test_e6_a_long_token_of_the_environment_is_sent(
    stub: AwsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, with calls of S3 and of others."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        stub.answer_by(let_in)
        assert (
            await probe_of(aws).look(VERSION, region=REGION, owner=None)
        ).sight is Sight.PENDING
        stub.answer(json_answer({}))
        await (await aws.client("sqs")).receive_message(QueueUrl=f"{stub.url}/1/q")

    assert stub.asked[0].headers["x-amz-security-token"] == TOKEN


async def test_e6_a_long_token_of_a_role_is_sent(stub: AwsStub) -> None:
    """As STS gives it for a role that the daemon takes."""
    stub.answer_by(sts("AssumeRole"))
    account = KnownAccount(id="222222222222", role_arn="arn:aws:iam::222222222222:role/crrmon")
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        seen = await probe_of(aws, account).look(VERSION, region=REGION, owner=account.id)

    assert seen.sight is Sight.PENDING


async def test_e6_a_long_token_of_a_web_identity_is_sent(
    stub: AwsStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As STS gives it to a service account of Kubernetes, whose own token is long as well."""
    (tmp_path / "token").write_text(TOKEN)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::222222222222:role/crrmon")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    stub.answer_by(sts("AssumeRoleWithWebIdentity"))
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        seen = await probe_of(aws).look(VERSION, region=REGION, owner=None)

    assert seen.sight is Sight.PENDING
    assert TOKEN in stub.asked[0].body.decode()


HEADERS = b"".join(b"x-amz-meta-%d: \xe9\r\n" % at for at in range(500)) + (
    b"x-amz-meta-a: " + 12_000 * b"a" + b"\r\nx-note: " + "\u4e2d".encode("gbk") + b"\r\n"
)


async def ask_sqs(aws: AwsSession) -> object:
    """Receive messages."""
    return await (await aws.client("sqs")).receive_message(QueueUrl="http://127.0.0.1/1/q")


async def ask_dynamodb(aws: AwsSession) -> object:
    """Describe a table."""
    return await (await aws.client("dynamodb")).describe_table(TableName="crrmon")


async def ask_cloudwatch(aws: AwsSession) -> object:
    """Send a metric."""
    return await (await aws.client("cloudwatch")).put_metric_data(
        Namespace="N", MetricData=[{"MetricName": "M", "Value": 1.0}]
    )


SERVICES: dict[str, Callable[[AwsSession], Awaitable[object]]] = {
    "sqs": ask_sqs,
    "dynamodb": ask_dynamodb,
    "cloudwatch": ask_cloudwatch,
}


@pytest.mark.parametrize("service", ["s3", *SERVICES])
async def test_e6_answers_of_every_service_may_have_many_and_long_headers(
    service: str, stub: AwsStub
) -> None:
    """What S3 keeps of users' metadata, in whatever encoding, and what proxies add to the answers of others."""
    body, kind = (b"", b"") if service == "s3" else (b"{}", b"application/x-amz-json-1.0")
    text = (
        b"HTTP/1.1 200 OK\r\nx-amz-request-id: TX1\r\nx-amzn-requestid: TX1\r\nx-amz-version-id: Zx81\r\n"
        b"Content-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (kind, len(body), HEADERS, body)
    )
    stub.answer(Raw(text))
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        if service == "s3":
            seen = await probe_of(aws).look(VERSION, region=REGION, owner=None)
            assert seen.sight is Sight.NO_STATUS
        else:
            assert await SERVICES[service](aws)


async def test_e6_the_sandbox_passes_long_and_many_headers_on(stub: AwsStub) -> None:
    """Tokens on the way to the emulator, and users' metadata on the way back."""
    more = {f"x-amz-meta-{at}": "v" for at in range(500)}
    stub.answer(head("Zx81", **more))
    async with (
        served(stub.url) as (_, url),
        aiohttp.ClientSession(max_headers=2048) as http,
        http.head(f"{url}/src/k", headers={"x-amz-security-token": TOKEN}) as answer,
    ):
        assert answer.headers["x-amz-meta-499"] == "v"

    assert stub.asked[0].headers["x-amz-security-token"] == TOKEN


async def test_e6_the_daemons_own_port_reads_long_headers() -> None:
    """Load balancers of AWS add tokens of who logged in, up to 16 KB."""
    meters = PrometheusMeters()
    board = HealthBoard(clock=SystemClock(), meters=meters)
    server = HttpServer(
        host="127.0.0.1", port=0, metrics=meters.page, health=board, oddity=lambda *_: None
    )
    port = await server.start()
    async with (
        aiohttp.ClientSession() as http,
        http.get(
            f"http://127.0.0.1:{port}/metrics", headers={"x-amzn-oidc-data": 16_384 * "t"}
        ) as answer,
    ):
        assert answer.status == 200
    await server.stop()
