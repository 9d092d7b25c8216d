import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from moto.cloudwatch.models import cloudwatch_backends
from moto.core import DEFAULT_ACCOUNT_ID

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.cloudwatch import CloudWatchSink
from crrmon.ports.sink import RefusedPartError, SinkError
from fakes.aws_stub import Answer, AwsStub, Reset, json_answer, json_error

REGION = "eu-west-1"
WINDOW = 1_794_997_200.0
PAIR = [{"Name": "SourceBucket", "Value": "src"}, {"Name": "DestBucket", "Value": "dst"}]


def datum(name: str = "ReplicationObjects", **more: Any) -> dict[str, Any]:
    """Make a datum as windows have them."""
    plain = {"MetricName": name, "Dimensions": PAIR, "Timestamp": WINDOW, "Unit": "Count"}
    return {**plain, "Value": 3.0} if not more else {**plain, **more}


def part(*data: dict[str, Any]) -> bytes:
    """Make a part of these datums, or of a plain one."""
    return msgspec.json.encode(list(data) or [datum()])


@pytest.fixture
async def sink(stub: AwsStub) -> AsyncIterator[CloudWatchSink]:
    """Make a sink that sends to the stub."""
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        yield CloudWatchSink(aws, namespace="CRRMonitor")


@pytest.fixture
def empty_moto(moto_url: str) -> Iterator[str]:
    """Give moto's address, and forget its metrics at the end."""
    yield moto_url
    cloudwatch_backends[DEFAULT_ACCOUNT_ID][REGION].reset()


async def test_moto_keeps_what_was_sent(empty_moto: str) -> None:
    """Metrics arrive with name, dimensions, unit and the window's time; values with counts as such."""
    async with AwsSession(
        endpoint_url=empty_moto, default_region=REGION, max_connections=8
    ) as aws:
        cloudwatch: Any = await aws.client("cloudwatch")
        sink = CloudWatchSink(aws, namespace="CRRMonitor")
        latency = datum("ReplicationLatency", Unit="Seconds", Values=[1.0, 9.0], Counts=[3.0, 1.0])
        await sink.send(part(datum(), latency))

        async def statistics(name: str) -> list[dict[str, Any]]:
            answer = await cloudwatch.get_metric_statistics(
                Namespace="CRRMonitor",
                MetricName=name,
                Dimensions=PAIR,
                StartTime=WINDOW - 300,
                EndTime=WINDOW + 300,
                Period=300,
                Statistics=["Sum", "SampleCount", "Maximum"],
            )
            return list(answer["Datapoints"])

        (objects,) = await statistics("ReplicationObjects")
        (seconds,) = await statistics("ReplicationLatency")

    assert objects["Timestamp"] == datetime.fromtimestamp(WINDOW, UTC)
    assert (objects["Sum"], objects["Unit"]) == (3.0, "Count")
    assert (seconds["SampleCount"], seconds["Sum"], seconds["Maximum"]) == (4.0, 12.0, 9.0)


async def test_same_bytes_same_call(stub: AwsStub, sink: CloudWatchSink) -> None:
    """Invariant 5: sending a part again makes the same call again."""
    stub.answer(json_answer({}))

    await sink.send(part(datum(), datum("PendingObjects")))
    await sink.send(part(datum(), datum("PendingObjects")))

    first, second = (one.body for one in stub.asked)
    assert first == second
    sent = json.loads(first)
    assert sent["Namespace"] == "CRRMonitor"
    assert [one["Timestamp"] for one in sent["MetricData"]] == [WINDOW, WINDOW]


async def test_large_parts_are_compressed(stub: AwsStub, sink: CloudWatchSink) -> None:
    """A thousand metrics go out as gzip."""
    stub.answer(json_answer({}))

    await sink.send(part(*(datum(f"m{number}") for number in range(1000))))

    assert stub.asked[0].headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(json_error(400, "Throttling"), "fewer calls", id="throttling"),
        pytest.param(json_error(400, "ThrottlingException"), "fewer calls", id="throttled"),
        pytest.param(json_error(500, "InternalServiceFault"), "InternalService", id="500"),
        pytest.param(Answer(503), "503", id="503"),
        pytest.param(Reset(), "check the network", id="broken"),
        pytest.param(
            json_error(400, "AccessDeniedException", "User: x is not authorized"),
            "not authorized.*grant cloudwatch:PutMetricData for namespace CRRMonitor",
            id="denied",
        ),
        pytest.param(json_error(400, "UnrecognizedClientException"), "credentials", id="client"),
        pytest.param(json_error(400, "ExpiredTokenException"), "credentials", id="expired"),
        pytest.param(json_error(403, "InvalidClientTokenId"), "credentials", id="token"),
        pytest.param(json_error(403, "SignatureDoesNotMatch"), "clock", id="signature"),
        pytest.param(json_error(400, "SomethingNew"), "SomethingNew", id="unheard-of"),
    ],
)
async def test_worth_sending_again(
    stub: AwsStub, sink: CloudWatchSink, answer: Answer | Reset, told: str
) -> None:
    """What time or somebody can mend is tried twice or once, and never called refused."""
    stub.answer(answer)

    with pytest.raises(SinkError, match=told) as caught:
        await sink.send(part())

    assert not isinstance(caught.value, RefusedPartError)
    assert 1 <= len(stub.asked) <= 2


def _query_compatible(code: str) -> Answer:
    answer = json_error(400, code + "Exception", "must specify a time within the past two weeks")
    answer.headers["x-amzn-query-error"] = f"{code};Sender"
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(_query_compatible("InvalidParameterValue"), id="too-old"),
        pytest.param(json_error(400, "InvalidParameterValueException"), id="value"),
        pytest.param(json_error(400, "InvalidParameterCombinationException"), id="combination"),
        pytest.param(json_error(400, "MissingRequiredParameterException"), id="missing"),
        pytest.param(_query_compatible("MissingParameter"), id="missing-query"),
        pytest.param(json_error(400, "ValidationError"), id="validation"),
        pytest.param(json_error(400, "SerializationException"), id="serialization"),
        pytest.param(Answer(413), id="too-large"),
    ],
)
async def test_never_again(stub: AwsStub, sink: CloudWatchSink, answer: Answer) -> None:
    """What CloudWatch says of a call's content stands for ever."""
    stub.answer(answer)

    with pytest.raises(RefusedPartError):
        await sink.send(part())

    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="no-list"),
        pytest.param(b'[{"MetricName": "x"}]', id="no-time"),
        pytest.param(b'[{"MetricName": "x", "Timestamp": "now"}]', id="text-for-time"),
        pytest.param(b'[{"MetricName": "x", "Timestamp": 1e13}]', id="no-such-year"),
        pytest.param(b'[{"MetricName": "x", "Timestamp": 1e300}]', id="no-such-time"),
        pytest.param(b'[{"MetricName": 7, "Timestamp": 1.0}]', id="no-such-parameter"),
    ],
)
async def test_no_part_at_all(stub: AwsStub, sink: CloudWatchSink, content: bytes) -> None:
    """Bytes that are no list of datapoints are refused without a call."""
    with pytest.raises(RefusedPartError):
        await sink.send(content)

    assert stub.asked == []
