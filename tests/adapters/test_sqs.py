import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sqs.models import sqs_backends

from crrmon.adapters.aws import Aws
from crrmon.adapters.sqs import SqsInbox, queue_name, region_of
from crrmon.ports.clock import SystemClock
from crrmon.ports.inbox import InboxError, Message
from fakes.aws_stub import Answer, AwsStub, Reset, json_answer, json_error

REGION = "eu-west-1"
URL = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon-ingest"


# ---- names in URLs ----


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (URL, "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs-fips.us-east-2.amazonaws.com/1/q", "us-east-2"),
        ("https://sqs.eu-west-1.api.aws/1/q", "eu-west-1"),
        ("https://eu-central-1.queue.amazonaws.com/1/q", "eu-central-1"),
        ("https://cn-north-1.queue.amazonaws.com.cn/1/q", "cn-north-1"),
        (
            "https://vpce-0a1b2c-3d4e.sqs.ap-south-2.vpce.amazonaws.com/1/q",
            "ap-south-2",
        ),
        (
            "https://vpce-0a1b2c-3d4e-ap-south-2a.sqs.ap-south-2.vpce.amazonaws.com/1/q",
            "ap-south-2",
        ),
        ("https://sqs.eu-west-1.amazonaws.com:443/1/q", "eu-west-1"),
        ("https://queue.amazonaws.com/1/q", None),
        ("http://127.0.0.1:4566/000000000000/q", None),
        ("http://localhost:4566/000000000000/sqs.eu-west-1.amazonaws.com/", None),
        ("https://sqs.eu-west-1.amazonaws.com.evil.example/1/q", None),
        ("not a url", None),
    ],
)
def test_region_of(url: str, region: str | None) -> None:
    """A queue's region is read out of every form of address that SQS has, and out of no other."""
    assert region_of(url) == region


@pytest.mark.parametrize("url", [URL, URL + "/", "crrmon-ingest"])
def test_queue_name(url: str) -> None:
    """A queue is called by the last part of its URL."""
    assert queue_name(url) == "crrmon-ingest"


# ---- against an emulator ----


class Queue:
    """
    A queue in moto, and the inbox on it.
    """

    def __init__(self, aws: Aws, sqs: Any, url: str) -> None:
        self.aws = aws
        self.sqs = sqs
        self.url = url
        self.inbox = SqsInbox(aws, url)

    async def write(self, *bodies: str) -> None:
        for body in bodies:
            await self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    async def receive(self) -> list[Message]:
        """
        Receive until nothing more comes; keep it hidden.
        """
        messages: list[Message] = []
        while got := await self.inbox.receive(wait_seconds=0, visibility_seconds=600):
            messages.extend(got)
        return messages


@pytest.fixture
def empty_moto(moto_url: str) -> Iterator[str]:
    """
    Give moto's address, and forget its queues at the end.
    """
    yield moto_url
    sqs_backends[DEFAULT_ACCOUNT_ID][REGION].reset()


@pytest.fixture
async def queue(empty_moto: str) -> AsyncIterator[Queue]:
    """
    Make a queue.
    """
    async with Aws(endpoint_url=empty_moto, default_region=REGION, max_connections=8) as aws:
        sqs = await aws.client("sqs")
        made = await sqs.create_queue(QueueName="crrmon-ingest")
        yield Queue(aws, sqs, made["QueueUrl"])


async def test_receive(queue: Queue) -> None:
    """A message comes with its body, its id, when it was sent and how often it was delivered."""
    await queue.write('{"ä": 1}')

    (first,) = await queue.inbox.receive(wait_seconds=0, visibility_seconds=0)
    (again,) = await queue.inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert queue.inbox.name == "crrmon-ingest"
    assert first.body == '{"ä": 1}'
    assert first.receive_count == 1
    assert first.sent_at is not None
    assert first.sent_at > 1_700_000_000
    assert (again.id, again.sent_at, again.receive_count) == (first.id, first.sent_at, 2)


async def test_receive_ten(queue: Queue) -> None:
    """Up to ten messages come at once, and none twice while they are hidden."""
    await queue.write(*(str(number) for number in range(12)))

    first = await queue.inbox.receive(wait_seconds=0, visibility_seconds=30)
    rest = await queue.receive()

    assert len(first) == 10
    assert sorted(int(one.body) for one in (*first, *rest)) == list(range(12))


async def test_receive_nothing(queue: Queue) -> None:
    """An empty queue gives no messages."""
    assert await queue.receive() == []


async def test_acknowledge(queue: Queue) -> None:
    """An acknowledged message is deleted; the others come again."""
    await queue.write("one", "two", "three")
    held = await queue.receive()

    failed = await queue.inbox.acknowledge([one.receipt for one in held if one.body != "two"])

    assert list(failed) == []
    await queue.inbox.extend([one.receipt for one in held], seconds=0)
    assert [one.body for one in await queue.receive()] == ["two"]


async def test_release(queue: Queue) -> None:
    """Extending by nothing gives a message back at once."""
    await queue.write("one")
    (held,) = await queue.receive()
    assert await queue.receive() == []

    assert list(await queue.inbox.extend([held.receipt], seconds=0)) == []

    assert [one.id for one in await queue.receive()] == [held.id]


async def test_extend(queue: Queue) -> None:
    """An extended message stays hidden for longer than it was received for."""
    await queue.write("one")
    (held,) = await queue.inbox.receive(wait_seconds=0, visibility_seconds=1)

    assert list(await queue.inbox.extend([held.receipt], seconds=600)) == []

    assert await queue.inbox.receive(wait_seconds=2, visibility_seconds=30) == []


async def test_unknown_receipts(queue: Queue) -> None:
    """A receipt that is not valid comes back, and harms no other of its batch."""
    await queue.write("one")
    (held,) = await queue.receive()

    assert list(await queue.inbox.extend(["stale", held.receipt], seconds=60)) == ["stale"]
    assert list(await queue.inbox.acknowledge(["stale", held.receipt])) == ["stale"]


async def test_no_such_queue(queue: Queue) -> None:
    """A queue that is not there is an error that names the setting."""
    inbox = SqsInbox(queue.aws, queue.url + "-not")

    with pytest.raises(InboxError, match=r"crrmon-ingest-not .* queues\[\]\.url"):
        await inbox.receive(wait_seconds=0, visibility_seconds=30)


# ---- what no emulator does ----


@pytest.fixture
async def inbox(stub: AwsStub) -> AsyncIterator[SqsInbox]:
    """
    Make an inbox on the stub.
    """
    async with Aws(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        yield SqsInbox(aws, URL, name="ingest")


async def test_asks_for_what_it_needs(stub: AwsStub, inbox: SqsInbox) -> None:
    """D43: a receive polls long, for ten messages, and asks for the attributes that it reads."""
    stub.answer(json_answer({}))

    assert list(await inbox.receive(wait_seconds=20, visibility_seconds=120)) == []

    assert json.loads(stub.asked[0].body) == {
        "QueueUrl": URL,
        "MaxNumberOfMessages": 10,
        "WaitTimeSeconds": 20,
        "VisibilityTimeout": 120,
        "MessageSystemAttributeNames": ["SentTimestamp", "ApproximateReceiveCount"],
    }


async def test_message_attributes(stub: AwsStub, inbox: SqsInbox) -> None:
    """SQS tells milliseconds and counts as text."""
    told = {"SentTimestamp": "1794997230500", "ApproximateReceiveCount": "3"}
    raw = {"MessageId": "m", "ReceiptHandle": "r", "Body": "text", "Attributes": told}
    stub.answer(json_answer({"Messages": [raw]}))

    (got,) = await inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert (got.sent_at, got.receive_count) == (1_794_997_230.5, 3)


async def test_message_without_attributes(stub: AwsStub, inbox: SqsInbox) -> None:
    """A message whose attributes are not told was sent nobody knows when."""
    bare = {"MessageId": "m", "ReceiptHandle": "r", "Body": "text"}
    stub.answer(json_answer({"Messages": [bare]}))

    got = await inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert list(got) == [Message(id="m", receipt="r", body="text", sent_at=None, receive_count=1)]


async def test_d42_entries_fail_alone(stub: AwsStub, inbox: SqsInbox) -> None:
    """Invariant 10, D42: of a batch only the receipts of failed entries come back."""
    failures = [
        {"Id": "2", "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": "expired"},
        {"Id": "0", "SenderFault": False, "Code": "InternalError"},
    ]
    stub.answer(json_answer({"Successful": [{"Id": "1"}], "Failed": failures}))

    receipts = ["a", "b", "c"]
    assert sorted(await inbox.acknowledge(receipts)) == ["a", "c"]
    assert sorted(await inbox.extend(receipts, seconds=60)) == ["a", "c"]


async def test_no_call_for_nothing(stub: AwsStub, inbox: SqsInbox) -> None:
    """Nothing to delete or to change asks nobody."""
    assert list(await inbox.acknowledge([])) == []
    assert list(await inbox.extend([], seconds=60)) == []
    assert stub.asked == []


async def test_tries_twice(stub: AwsStub, inbox: SqsInbox) -> None:
    """One failure of the service is tried again beneath."""
    stub.answer(json_error(500, "InternalError"), json_answer({}))

    assert list(await inbox.receive(wait_seconds=0, visibility_seconds=30)) == []
    assert len(stub.asked) == 2


def _not_there() -> Answer:
    answer = json_error(400, "QueueDoesNotExist", "The specified queue does not exist.")
    answer.headers["x-amzn-query-error"] = "AWS.SimpleQueueService.NonExistentQueue;Sender"
    return answer


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        pytest.param(_not_there(), ["queues[].url", "does not exist"], id="no-queue"),
        pytest.param(
            json_error(400, "QueueDoesNotExist"), ["queues[].url"], id="no-queue-plainly"
        ),
        pytest.param(
            json_error(400, "AccessDeniedException", "User: x is not authorized"),
            ["AccessDenied", "not authorized", "grant {permission}"],
            id="denied",
        ),
        pytest.param(
            json_error(400, "KMS.AccessDeniedException"), ["grant kms:Decrypt"], id="kms"
        ),
        pytest.param(
            json_error(403, "InvalidClientTokenId"), ["check the daemon's credentials"], id="token"
        ),
        pytest.param(
            json_error(403, "ExpiredToken"), ["check the daemon's credentials"], id="expired"
        ),
        pytest.param(json_error(403, "OverLimit"), ["in flight"], id="over-limit"),
        pytest.param(
            json_error(400, "RequestThrottled"),
            ["RequestThrottled", "fewer calls"],
            id="throttled",
        ),
        pytest.param(Answer(502), ["502"], id="proxy"),
        pytest.param(Reset(), ["check the network"], id="broken"),
    ],
)
async def test_errors(
    stub: AwsStub, inbox: SqsInbox, answer: Answer | Reset, parts: list[str]
) -> None:
    """Every error names the queue, what was tried and what to check."""
    stub.answer(answer)
    calls = {
        "received": ("sqs:ReceiveMessage", inbox.receive(wait_seconds=0, visibility_seconds=1)),
        "deleted": ("sqs:DeleteMessage", inbox.acknowledge(["a"])),
        "kept hidden": ("sqs:ChangeMessageVisibility", inbox.extend(["a"], seconds=5)),
    }

    for tried, (permission, call) in calls.items():
        with pytest.raises(InboxError) as caught:
            await call
        text = str(caught.value)
        assert "queue ingest" in text
        assert tried in text
        for part in parts:
            assert part.format(permission=permission) in text
        assert caught.value.__cause__ is not None


async def test_credentials_that_cannot_be_renewed(
    stub: AwsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that run out and cannot be renewed are an error that says so, not a crash."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", stub.url + "/role")
    soon = datetime.fromtimestamp(SystemClock().now() + 60, UTC).isoformat()
    once = {"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "c", "Expiration": soon}
    stub.answer(json_answer(once), Answer(500))

    async with Aws(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        inbox = SqsInbox(aws, URL)
        with pytest.raises(InboxError, match="CredentialRetrievalError; check the daemon's cred"):
            await inbox.acknowledge(["a"])
