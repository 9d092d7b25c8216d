import asyncio
import contextlib
import gc
import warnings
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from crrmon.adapters import aws as aws_module
from crrmon.adapters.aws import AwsSession, Login
from crrmon.adapters.border import (
    THROTTLED_CODES,
    NoAnswerError,
    TooManyClientsError,
    border,
    code_of,
    status_of,
)
from crrmon.adapters.fast import json_calls
from crrmon.adapters.heads import HeadRequest
from crrmon.adapters.remedies import explain
from crrmon.adapters.stores.dynamodb import answers as dynamodb
from fakes.aws_stub import Answer, AwsStub, Hang
from fakes.patience import until

REGION = "eu-west-1"
NOBODY = "http://127.0.0.1:1"


def session(url: str | None = NOBODY, region: str | None = REGION) -> AwsSession:
    """Make a session that need not reach anybody."""
    return AwsSession(endpoint_url=url, default_region=region, max_connections=8)


async def test_one_client_for_all() -> None:
    """Callers that ask at the same time, or later, all get the same client of a service and region."""
    async with session() as aws:
        first, *others = await asyncio.gather(*(aws.client("s3", REGION) for _ in range(20)))

        assert all(other is first for other in others)
        assert await aws.client("s3", REGION) is first
        assert await aws.client("s3") is first
        assert await aws.client("s3", "") is first
        assert await aws.client("s3", "us-east-2") is not first
        assert (await aws.client("sqs", REGION)).meta.service_model.service_name == "sqs"


async def test_a_caller_that_gives_up() -> None:
    """A caller that is cancelled takes the client from nobody else."""
    async with session() as aws:
        hasty = asyncio.create_task(aws.client("s3"))
        patient = asyncio.create_task(aws.client("s3"))
        await asyncio.sleep(0)
        hasty.cancel()

        client = await patient
        assert hasty.cancelled()
        assert await aws.client("s3") is client


async def test_no_credentials_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client is made without credentials: it would never get any. Later ones are found."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with session() as aws:
        failed = await asyncio.gather(
            *(aws.client("s3") for _ in range(3)), return_exceptions=True
        )
        assert [type(one.met) for one in failed] == [NoCredentialsError] * 3  # type: ignore[union-attr]

        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        assert await aws.client("s3") is await aws.client("s3")


async def test_all_is_closed(stub: AwsStub) -> None:
    """At the end connections and clients are closed, those just being made as well."""
    async with session(stub.url) as aws:
        s3 = await aws.client("s3")
        await s3.head_object(Bucket="src", Key="key")
        making = asyncio.create_task(aws.client("cloudwatch"))
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await making
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


@pytest.mark.usefixtures("both_clients")
async def test_nothing_is_opened_once_all_is_closed(stub: AwsStub) -> None:
    """Nobody would close it any more. What has a client already is told so, too."""
    async with session(stub.url) as aws:
        heads = (await aws.s3()).heads
    with pytest.raises(NoAnswerError):
        await aws.client("cloudwatch")
    with pytest.raises(NoAnswerError):
        await aws.s3("us-east-2")
    with pytest.raises(NoAnswerError):
        await aws.calls("sqs", REGION)
    with pytest.raises(NoAnswerError), border():
        await heads.head(HeadRequest(bucket="src", key="k"))
    assert not stub.asked


async def test_default_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """The region is the setting, else AWS_REGION, else what the SDK finds."""
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    async with session(region="eu-west-1") as aws:
        assert (await aws.client("sqs")).meta.region_name == "eu-west-1"
    async with session(region=None) as aws:
        assert (await aws.client("sqs")).meta.region_name == "eu-north-1"
    monkeypatch.delenv("AWS_REGION")
    async with session(region=None) as aws:
        assert (await aws.client("sqs")).meta.region_name == "sa-east-1"


async def test_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 7: nonsense for regions fills no memory; the clients that are there, and other services, go on."""
    monkeypatch.setattr(aws_module, "MAX_S3_CLIENTS", 2)
    async with session() as aws:
        first = await aws.client("s3", "eu-west-1")
        await aws.client("s3", "eu-west-2")

        with pytest.raises(TooManyClientsError):
            await aws.client("s3", "eu-west-3")
        assert await aws.client("s3", "eu-west-1") is first
        await aws.client("cloudwatch")
        await aws.client("sqs")


@pytest.mark.parametrize(
    ("service", "attempts", "read_timeout"),
    [("s3", 1, 10), ("sqs", 2, 35), ("cloudwatch", 1, 30)],
)
async def test_settings(service: str, attempts: int, read_timeout: int) -> None:
    """Each service has its time-outs and retries; SQS may answer a long poll after 20 s."""
    async with session() as aws:
        config = (await aws.client(service)).meta.config  # type: ignore[call-overload]

    assert config.retries["total_max_attempts"] == attempts
    assert config.read_timeout == read_timeout
    assert config.connect_timeout == 5
    assert config.max_pool_connections == 8


async def test_s3_asks_once(stub: AwsStub) -> None:
    """Beneath a look nothing is retried: pacing is ours."""
    stub.answer(Answer(503))
    async with session(stub.url) as aws:
        s3 = await aws.client("s3")
        with pytest.raises(ClientError):
            await s3.head_object(Bucket="src", Key="key")

    assert len(stub.asked) == 1
    assert stub.asked[0].headers["User-Agent"].startswith("crrmon/")


async def test_connections_are_bounded(stub: AwsStub) -> None:
    """A client opens no more connections than it may."""
    stub.answer(Hang())
    async with session(stub.url) as aws:
        s3 = await aws.client("s3")
        looks = [asyncio.create_task(s3.head_object(Bucket="src", Key="key")) for _ in range(20)]
        await until(lambda: len(stub.asked) == 8)
        # Whatever was on its way before this has come when this has.
        address = urlsplit(stub.url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: stub\r\n\r\n")
        await until(lambda: any(one.method == "GET" for one in stub.asked))
        writer.close()
        arrived = sum(one.method == "HEAD" for one in stub.asked)
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    assert arrived == 8


def error(code: str | None, *, status: int = 400, message: str = "") -> ClientError:
    """Make an error as the SDK raises it."""
    told = {} if code is None else {"Error": {"Code": code, "Message": message}}
    return ClientError({**told, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")


@pytest.mark.parametrize(
    ("met", "said"),
    [
        pytest.param(
            error("AccessDenied", message="Not you."),
            "AccessDenied (Not you.); grant x:Do to the daemon's role",
            id="denied",
        ),
        pytest.param(
            error("ExpiredToken"),
            "ExpiredToken; check the daemon's credentials and the machine's clock",
            id="expired",
        ),
        pytest.param(
            error("SlowDown"),
            "SlowDown; AWS is throttling and asks for fewer calls",
            id="throttled",
        ),
        pytest.param(error("Strange"), "Strange; do this", id="advice"),
        pytest.param(error("Other", message="m" * 1000), f"Other ({'m' * 300})", id="long"),
        pytest.param(error(None, status=502), "502", id="no-body"),
        pytest.param(
            NoCredentialsError(),
            "NoCredentialsError; check the daemon's credentials: its role, or the AWS_* variables",
            id="no-credentials",
        ),
        pytest.param(
            EndpointConnectionError(endpoint_url="https://b.s3.amazonaws.com/secret-key"),
            "EndpointConnectionError; check the network, the region and aws.endpoint_url",
            id="network",
        ),
        pytest.param(
            TooManyClientsError("there are already 1024 S3 clients"),
            "TooManyClientsError; one daemon handles at most 1024 pairs of account and region: "
            "check the accounts and regions in the messages, or use several daemons, each with its own queues",
            id="too-many",
        ),
    ],
)
def test_explain(met: Exception, said: str) -> None:
    """An error is told by its code and AWS's sentence, with a remedy, and without a URL."""
    assert explain(met, permission="x:Do", advice={"Strange": "do this"}) == said


@pytest.mark.parametrize("code", sorted(THROTTLED_CODES))
def test_a_code_of_throttling(code: str) -> None:
    """Is one to all who ask: each asks again, and says why it is slow."""
    throttled = error(code)
    assert json_calls._passes(throttled)
    assert dynamodb.passes(throttled)
    assert "fewer calls" in explain(throttled, permission="x:Do")


def test_code_and_status() -> None:
    """An error without a body is called by its HTTP status."""
    assert code_of(error("Strange")) == "Strange"
    assert code_of(error(None, status=502)) == "502"
    assert status_of(ClientError({}, "Operation")) == 0


# ---- what time it is ----

DATE = "Fri, 15 Jan 2027 08:00:00 GMT"
DATED_AT = 1_800_000_000.0
S3_ID = {"x-amz-request-id": "4442587FB7D0A2F9"}
AMZN_ID = {"x-amzn-RequestId": "0a1b2c3d"}


class Ear:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard_of: list[tuple[float, float]] = []

    def asked(self) -> float:
        return 17.0

    def heard(self, date: float, *, asked_at: float) -> None:
        self.heard_of.append((date, asked_at))


async def _ask(aws: AwsSession, service: str, login: Login | None = None) -> None:
    with contextlib.suppress(ClientError):
        match service:
            case "s3":
                await (await aws.client("s3", login=login)).head_object(Bucket="src", Key="k")
            case "sqs":
                await (await aws.client("sqs")).receive_message(QueueUrl=f"{NOBODY}/1/q")
            case "cloudwatch":
                await (await aws.client("cloudwatch")).put_metric_data(
                    Namespace="n", MetricData=[{"MetricName": "m", "Value": 1}]
                )
            case _:
                await (await aws.client("dynamodb")).describe_table(TableName="crrmon")


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize(
    ("service", "named"),
    [("s3", S3_ID), ("sqs", AMZN_ID), ("cloudwatch", AMZN_ID), ("dynamodb", AMZN_ID)],
)
async def test_t7_every_answer_of_aws_tells_the_time(
    stub: AwsStub, service: str, named: dict[str, str], status: int
) -> None:
    """Its Date is heard, with when it was asked for; that of a refusal, too: a wrong clock is why AWS refuses."""
    body = b"" if service == "s3" else b"{}"
    stub.answer(Answer(status, {"Date": DATE, **named}, body, signed=False))
    ear = Ear()
    async with AwsSession(
        endpoint_url=stub.url, default_region=REGION, max_connections=8, dates=ear
    ) as aws:
        await _ask(aws, service)
    assert ear.heard_of == [(DATED_AT, 17.0)]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Date": DATE}, id="somebody on the way"),
        pytest.param({"Date": DATE, "Age": "3600", **S3_ID}, id="a cache"),
        pytest.param({"Date": "yesterday", **S3_ID}, id="no date"),
        pytest.param({"Date": "Fri, 99 Jan 2027 08:00:00 GMT", **S3_ID}, id="no day"),
        pytest.param({"Date": "Fri, 31 Dec 9999 23:59:59 GMT", **S3_ID}, id="no clock's"),
    ],
)
async def test_t7_who_is_not_aws_tells_no_time(stub: AwsStub, headers: dict[str, str]) -> None:
    """An answer without AWS's id of the request, out of a cache, or without a date that some clock has."""
    stub.answer(Answer(200, headers, signed=False))
    ear = Ear()
    async with AwsSession(
        endpoint_url=stub.url, default_region=REGION, max_connections=8, dates=ear
    ) as aws:
        await _ask(aws, "s3")
    assert len(stub.asked) == 1
    assert ear.heard_of == []


@pytest.mark.parametrize("alone", [False, True])
async def test_t7_m8_a_store_of_its_own_tells_the_time_only_where_nobody_else_does(
    stub: AwsStub,
    alone: bool,  # noqa: FBT001 - a table
) -> None:
    """Its clock need not be AWS's; but where events come from stores alone, it is what dates them."""
    stub.answer(Answer(200, {"Date": DATE, **S3_ID}))
    ear = Ear()
    login = Login(name="store", session=None, endpoint_url=stub.url, path_style=True)
    async with AwsSession(
        endpoint_url=NOBODY,
        default_region=REGION,
        max_connections=8,
        dates=ear,
        stores_tell_time=alone,
    ) as aws:
        await _ask(aws, "s3", login)
    assert len(stub.asked) == 1
    assert len(ear.heard_of) == int(alone)
