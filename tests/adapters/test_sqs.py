import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sqs.models import sqs_backends

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.sqs import SqsInbox
from crrmon.domain.queue_address import queue_name
from crrmon.ports.clock import SystemClock
from crrmon.ports.inbox import Depth, InboxError, Message
from fakes.aws_stub import Answer, AwsStub, Reset, json_answer, json_error
from fakes.queue_hosts import HOME_REGION, ROWS

pytestmark = pytest.mark.usefixtures("both_clients")

REGION = "eu-west-1"
URL = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon-ingest"


# ---- names in URLs ----


@pytest.mark.parametrize("url", [URL, URL + "/", "crrmon-ingest"])
def test_queue_name(url: str) -> None:
    """A queue is called by the last part of its URL."""
    assert queue_name(url) == "crrmon-ingest"


# ---- whom to ask ----


async def test_the_host_of_a_queues_url_is_asked(stub: AwsStub) -> None:
    """Without any other setting: a store's or an emulator's own queue is read where its URL says."""
    stub.answer(json_answer({}))
    async with AwsSession(endpoint_url=None, default_region=REGION, max_connections=8) as aws:
        inbox = SqsInbox(aws, f"{stub.url}/000000000000/q")
        await inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert json.loads(stub.asked[0].body)["QueueUrl"] == f"{stub.url}/000000000000/q"


@pytest.mark.parametrize("variable", [None, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"])
async def test_an_endpoint_that_is_set_goes_over_the_queues_url(
    stub: AwsStub, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    """Emulators tell URLs of hosts that nobody can reach from elsewhere."""
    answer = json_answer({})
    answer.headers["x-amzn-RequestId"] = "00000000-0000-4000-8000-000000000001"
    stub.answer(answer)
    if variable:
        monkeypatch.setenv(variable, stub.url)
    endpoint = None if variable else stub.url
    async with AwsSession(endpoint_url=endpoint, default_region=REGION, max_connections=8) as aws:
        inbox = SqsInbox(aws, "http://nowhere.invalid:9324/000000000000/q")
        await inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert len(stub.asked) == 1


async def test_e2_the_host_of_the_url_is_asked_and_signed_for_its_region() -> None:
    """An endpoint in a VPC, one for FIPS, an emulator; where the URL names no region, the default one is signed for."""
    async with AwsSession(endpoint_url=None, default_region=HOME_REGION, max_connections=8) as aws:
        clients = [await SqsInbox(aws, row.url).client() for row in ROWS]

    assert [(one.meta.endpoint_url, one.meta.region_name) for one in clients] == [
        (row.asked, row.region or HOME_REGION) for row in ROWS
    ]


async def test_e2_a_region_that_is_set_is_signed_for_where_the_url_names_none() -> None:
    """A name that people gave an endpoint in a VPC."""
    async with AwsSession(endpoint_url=None, default_region=HOME_REGION, max_connections=8) as aws:
        inbox = SqsInbox(aws, "https://sqs.acme.example/1/q", region="eu-west-3")
        client = await inbox.client()

    assert client.meta.endpoint_url == "https://sqs.acme.example"
    assert client.meta.region_name == "eu-west-3"


# ---- against an emulator ----


class Queue:
    """A queue in moto, and the inbox on it."""

    def __init__(self, aws: AwsSession, sqs: Any, url: str) -> None:
        self.aws = aws
        self.sqs = sqs
        self.url = url
        self.inbox = SqsInbox(aws, url)

    async def write(self, *bodies: str) -> None:
        for body in bodies:
            await self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    async def receive(self) -> list[Message]:
        """Receive until nothing more comes; keep it hidden."""
        messages: list[Message] = []
        while got := await self.inbox.receive(wait_seconds=0, visibility_seconds=600):
            messages.extend(got)
        return messages


@pytest.fixture
def empty_moto(moto_url: str) -> Iterator[str]:
    """Give moto's address, and forget its queues at the end."""
    yield moto_url
    sqs_backends[DEFAULT_ACCOUNT_ID][REGION].reset()


@pytest.fixture
async def queue(empty_moto: str) -> AsyncIterator[Queue]:
    """Make a queue."""
    async with AwsSession(
        endpoint_url=empty_moto, default_region=REGION, max_connections=8
    ) as aws:
        sqs = await aws.client("sqs")
        made = await sqs.create_queue(QueueName="crrmon-ingest")
        yield Queue(aws, sqs, made["QueueUrl"])


async def test_receive(queue: Queue) -> None:
    """A message comes with its body, its id and when it was sent."""
    await queue.write('{"ä": 1}')

    (first,) = await queue.inbox.receive(wait_seconds=0, visibility_seconds=0)
    (again,) = await queue.inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert queue.inbox.name == "crrmon-ingest"
    assert first.body == '{"ä": 1}'
    assert first.sent_at is not None
    assert first.sent_at > 1_700_000_000
    assert (again.id, again.sent_at) == (first.id, first.sent_at)


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


async def test_depth(queue: Queue) -> None:
    """What is visible, in flight and delayed is told; without a redrive policy nothing is dead."""
    await queue.write("one", "two", "three")
    await queue.inbox.receive(wait_seconds=0, visibility_seconds=0)
    await queue.sqs.send_message(QueueUrl=queue.url, MessageBody="later", DelaySeconds=600)
    assert await queue.inbox.depth() == Depth(visible=3, in_flight=0, delayed=1, dead=0)

    await queue.receive()
    assert await queue.inbox.depth() == Depth(visible=0, in_flight=3, delayed=1, dead=0)


async def test_depth_of_the_dead_letter_queue(queue: Queue) -> None:
    """The dead-letter queue is found by the redrive policy, and all that is in it counts, also what is in flight."""
    dead = (await queue.sqs.create_queue(QueueName="crrmon-dead"))["QueueUrl"]
    await redrive_to(queue, await arn_of(queue, dead))
    assert (await queue.inbox.depth()).dead == 0

    for body in ("one", "two"):
        await queue.sqs.send_message(QueueUrl=dead, MessageBody=body)
    await queue.sqs.receive_message(QueueUrl=dead, VisibilityTimeout=600)
    assert (await queue.inbox.depth()).dead == 2


async def test_depth_without_the_dead_letter_queue(queue: Queue) -> None:
    """A dead-letter queue that is not there is not an empty one; when it is back it is found."""
    dead = (await queue.sqs.create_queue(QueueName="crrmon-dead"))["QueueUrl"]
    await redrive_to(queue, await arn_of(queue, dead))
    assert (await queue.inbox.depth()).dead == 0
    await queue.sqs.delete_queue(QueueUrl=dead)

    with structlog.testing.capture_logs() as logs:
        assert [(await queue.inbox.depth()).dead for _ in range(3)] == [None] * 3

    assert [line["event"] for line in logs] == ["dead_letter_queue_unreadable"]
    assert "redrive policy" in logs[0]["reason"]
    await queue.sqs.create_queue(QueueName="crrmon-dead")
    assert (await queue.inbox.depth()).dead == 0


async def arn_of(queue: Queue, url: str) -> str:
    """Ask for a queue's ARN."""
    told = await queue.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(told["Attributes"]["QueueArn"])


async def redrive_to(queue: Queue, arn: str) -> None:
    """Give a queue a dead-letter queue."""
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"})
    await queue.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"RedrivePolicy": policy})


# ---- what no emulator does ----


@pytest.fixture
async def inbox(stub: AwsStub) -> AsyncIterator[SqsInbox]:
    """Make an inbox on the stub."""
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
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
        "MessageSystemAttributeNames": ["SentTimestamp"],
    }


DEAD_ARN = "arn:aws:sqs:eu-west-1:555555555555:crrmon-dead"


def counts(visible: int, in_flight: int = 0, delayed: int = 0, **others: str) -> Answer:
    """Make SQS's answer about a queue's attributes: numbers as text."""
    told = {
        "ApproximateNumberOfMessages": str(visible),
        "ApproximateNumberOfMessagesNotVisible": str(in_flight),
        "ApproximateNumberOfMessagesDelayed": str(delayed),
    }
    return json_answer({"Attributes": told | others})


async def test_depth_asks_little(stub: AwsStub, inbox: SqsInbox) -> None:
    """
    The dead-letter queue's address is asked for once, with the account that its ARN names; it is read before the queue,
    so that what is moved back meanwhile is in one of them.
    """
    policy = json.dumps({"deadLetterTargetArn": DEAD_ARN, "maxReceiveCount": 5})
    queue, dead = counts(3, 2, 1, RedrivePolicy=policy), counts(4, 2, 1)
    url = "https://sqs.eu-west-1.amazonaws.com/555555555555/crrmon-dead"
    stub.answer(queue, json_answer({"QueueUrl": url}), dead, queue, dead, queue)

    for _ in range(2):
        assert await inbox.depth() == Depth(visible=3, in_flight=2, delayed=1, dead=7)

    asked = [
        (one.headers["X-Amz-Target"].partition(".")[2], json.loads(one.body)) for one in stub.asked
    ]
    assert [action for action, _ in asked] == [
        "GetQueueAttributes",
        "GetQueueUrl",
        "GetQueueAttributes",
        "GetQueueAttributes",
        "GetQueueAttributes",
        "GetQueueAttributes",
    ]
    assert asked[1][1] == {"QueueName": "crrmon-dead", "QueueOwnerAWSAccountId": "555555555555"}
    assert [body["QueueUrl"] for _, body in asked if "QueueUrl" in body] == [
        *(URL, url, URL),
        *(url, URL),
    ]


@pytest.mark.parametrize(
    "refused", [["GetQueueUrl"], ["GetQueueAttributes"]], ids=["address", "attributes"]
)
async def test_depth_with_a_dead_letter_queue_that_is_denied(
    stub: AwsStub, inbox: SqsInbox, refused: list[str]
) -> None:
    """Without the permission nobody can tell what is dead; one warning an hour names what to grant."""
    policy = json.dumps({"deadLetterTargetArn": DEAD_ARN, "maxReceiveCount": 5})
    queue, denied = counts(1, RedrivePolicy=policy), json_error(400, "AccessDeniedException")
    address = json_answer({"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/5/crrmon-dead"})
    once = [denied, queue] if refused == ["GetQueueUrl"] else [address, denied, queue]
    stub.answer(queue, *once, *once)

    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            depth = await inbox.depth()
            assert (depth.visible, depth.dead) == (1, None)
            assert "grant sqs:GetQueueUrl and sqs:GetQueueAttributes" in depth.trouble

    (line,) = logs
    assert line["queue"] == "ingest"
    assert "grant sqs:GetQueueUrl and sqs:GetQueueAttributes" in line["reason"]


@pytest.mark.looptime
async def test_the_warning_comes_again_after_an_hour() -> None:
    """A dead-letter queue that stays unreadable is told of once an hour."""
    inbox = SqsInbox(AwsSession(endpoint_url=None, default_region=REGION, max_connections=1), URL)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3 * 60 + 1):
            inbox._warn_of_dead_letter_queue("away")
            await asyncio.sleep(60)
    assert len(logs) == 4


async def test_depth_that_tells_nothing(stub: AwsStub, inbox: SqsInbox) -> None:
    """An answer without the counts is an error, not an empty queue."""
    stub.answer(json_answer({"Attributes": {}}))

    with pytest.raises(InboxError, match="ingest could not be counted"):
        await inbox.depth()


async def test_message_attributes(stub: AwsStub, inbox: SqsInbox) -> None:
    """SQS tells milliseconds as text."""
    told = {"SentTimestamp": "1794997230500"}
    raw = {"MessageId": "m", "ReceiptHandle": "r", "Body": "text", "Attributes": told}
    stub.answer(json_answer({"Messages": [raw]}))

    (got,) = await inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert got.sent_at == 1_794_997_230.5


async def test_message_without_attributes(stub: AwsStub, inbox: SqsInbox) -> None:
    """A message whose attributes are not told was sent nobody knows when."""
    bare = {"MessageId": "m", "ReceiptHandle": "r", "Body": "text"}
    stub.answer(json_answer({"Messages": [bare]}))

    got = await inbox.receive(wait_seconds=0, visibility_seconds=30)

    assert list(got) == [Message(id="m", receipt="r", body="text", sent_at=None)]


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
        "counted": ("sqs:GetQueueAttributes", inbox.depth()),
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

    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        inbox = SqsInbox(aws, URL)
        with pytest.raises(InboxError, match="CredentialRetrievalError; check the daemon's cred"):
            await inbox.acknowledge(["a"])
