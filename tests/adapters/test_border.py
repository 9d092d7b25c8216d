"""What AWS's SDK makes of answers that are none: no adapter lets through what it raises, or takes them for success."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from crrmon.adapters.account_way import AccountError, KnownAccount
from crrmon.adapters.accounts import Accounts
from crrmon.adapters.aws import AwsSession
from crrmon.adapters.border import NoAnswerError, TooManyClientsError, border
from crrmon.adapters.cloudwatch import CloudWatchSink
from crrmon.adapters.s3 import S3Probe
from crrmon.adapters.sqs import SqsInbox
from crrmon.adapters.stores.dynamodb.attributes import at
from crrmon.adapters.stores.dynamodb.calls import Calls
from crrmon.adapters.stores.dynamodb.client import client_of
from crrmon.adapters.stores.dynamodb.creation import create
from crrmon.adapters.stores.redis.client import Redis
from crrmon.adapters.stores.redis.server import RedisServer
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from crrmon.ports.inbox import InboxError
from crrmon.ports.ledger import LedgerError
from crrmon.ports.probe import UnreadableConfigurationError
from crrmon.ports.sink import RefusedPartError, SinkError
from crrmon.ports.store import UnwritableError
from fakes.aws_stub import Answer, AwsStub, json_answer, json_error
from fakes.clock import LoopClock
from fakes.meters import FakeMeters

pytestmark = pytest.mark.usefixtures("both_clients")

REGION = "eu-west-1"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/210987654321/ingest"
OWNER = "333333333333"
ROLE = KnownAccount(id=OWNER, role_arn=f"arn:aws:iam::{OWNER}:role/crrmon")
VERSION = ObjectVersion("src", "a", "v1")

_JSON = {"Content-Type": "application/x-amz-json-1.0"}
_HTML = {"Content-Type": "text/html"}

STRANGE = {
    "null": Answer(200, _JSON, b"null"),
    "list": Answer(200, _JSON, b"[]"),
    "text": Answer(200, _JSON, b'"text"'),
    "number": Answer(200, _JSON, b"7"),
    "no UTF-8": Answer(200, _JSON, b"\xff\xfe"),
    "page": Answer(200, _HTML, b"<html>Please log in</html>"),
    "nothing": Answer(200),
    "elsewhere": Answer(302, {"Location": "https://portal.example/", **_HTML}),
}
"""Answers with which proxies, portals and load balancers stand in for a service."""


@pytest.fixture
async def aws(stub: AwsStub) -> AsyncIterator[AwsSession]:
    """Ask the stub whatever is asked."""
    async with AwsSession(endpoint_url=stub.url, default_region=REGION, max_connections=8) as aws:
        yield aws


@pytest.fixture
def inbox(aws: AwsSession) -> SqsInbox:
    """Make an inbox on the stub."""
    return SqsInbox(aws, QUEUE)


@pytest.fixture
async def calls(aws: AwsSession) -> Calls:
    """Ask a table on the stub."""
    client, _ = await client_of(aws, REGION)
    return Calls(client, table="t", region=REGION, chance=random.Random(1))


def probe(aws: AwsSession) -> S3Probe:
    """Look with the role of another account."""
    accounts = Accounts(aws, [ROLE], clock=LoopClock(), meters=FakeMeters())
    return S3Probe(accounts, clock=LoopClock())


OF_THE_QUEUE: dict[str, Callable[[SqsInbox], Awaitable[Any]]] = {
    "receive": lambda inbox: inbox.receive(wait_seconds=0, visibility_seconds=30),
    "acknowledge": lambda inbox: inbox.acknowledge(["a"]),
    "extend": lambda inbox: inbox.extend(["a"], seconds=60),
    "depth": lambda inbox: inbox.depth(),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
async def test_r6_sqs_that_answers_nonsense_does_not_answer(
    stub: AwsStub, inbox: SqsInbox, answer: Answer
) -> None:
    """R6: null, a list, text, a page with the status 200: nothing was received, deleted, kept hidden or counted."""
    stub.answer(answer)

    for ask in OF_THE_QUEUE.values():
        with pytest.raises(InboxError, match="queue ingest could not be"):
            await ask(inbox)


async def test_r6_the_text_says_what_the_client_raised(stub: AwsStub, inbox: SqsInbox) -> None:
    """R6: who reads it learns the kind of error, and where to look; a page is told as somebody else's answer."""
    stub.answer(STRANGE["null"])
    with pytest.raises(InboxError, match=r"(AttributeError|ValidationError); check the network"):
        await OF_THE_QUEUE["receive"](inbox)

    stub.answer(STRANGE["page"])
    with pytest.raises(InboxError, match="something other than AWS answered"):
        await OF_THE_QUEUE["acknowledge"](inbox)


_SOUND = {"MessageId": "m", "ReceiptHandle": "r", "Body": "text"}


@pytest.mark.parametrize(
    "message",
    [
        *(None, {}, {"MessageId": "m", "ReceiptHandle": "r"}),
        *(_SOUND | {"MessageId": 7}, _SOUND | {"ReceiptHandle": ["r"]}, _SOUND | {"Body": None}),
        *(_SOUND | {"Attributes": told} for told in ({"SentTimestamp": "soon"}, [], "none")),
        _SOUND | {"Attributes": {"SentTimestamp": {}}},
    ],
)
async def test_r6_messages_without_what_makes_one_are_no_answer(
    stub: AwsStub, inbox: SqsInbox, message: Any
) -> None:
    """R6: a message that cannot be named, deleted or read is told as the queue's trouble, not as a fault of ours."""
    stub.answer(json_answer({"Messages": [_SOUND, message]}))

    with pytest.raises(InboxError, match="could not be received"):
        await OF_THE_QUEUE["receive"](inbox)


@pytest.mark.parametrize("batch", ["acknowledge", "extend"])
async def test_r6_what_is_not_told_as_done_was_not_done(
    stub: AwsStub, inbox: SqsInbox, batch: str
) -> None:
    """R6: of a batch only those entries were carried out that the answer names; one that names none is no answer."""
    ask = {
        "acknowledge": lambda: inbox.acknowledge(["a", "b", "c"]),
        "extend": lambda: inbox.extend(["a", "b", "c"], seconds=60),
    }[batch]

    stub.answer(json_answer({"Successful": [{"Id": "1"}]}))
    assert list(await ask()) == ["a", "c"]
    stub.answer(json_answer({"Failed": [{"Id": "-1"}, {"Id": "x"}, {"Id": "77"}]}))
    assert list(await ask()) == ["a", "b", "c"]
    for nothing in ({}, {"Successful": None}, {"Successful": [None]}, {"Successful": [{}]}):
        stub.answer(json_answer(nothing))
        with pytest.raises(InboxError):
            await ask()


@pytest.mark.parametrize("name", ["page", "nothing", "elsewhere"])
async def test_r6_cloudwatch_took_nothing_that_it_did_not_say_it_took(
    stub: AwsStub, aws: AwsSession, name: str
) -> None:
    """R6: a page with the status 200 is no acceptance: the window is kept and sent again."""
    stub.answer(STRANGE[name])
    part = msgspec.json.encode([{"MetricName": "m", "Timestamp": 1_794_997_200.0, "Value": 1.0}])

    with pytest.raises(SinkError) as caught:
        await CloudWatchSink(aws, namespace="CRRMonitor").send(part)

    assert not isinstance(caught.value, RefusedPartError)


OF_THE_TABLE: dict[str, Callable[[Calls], Awaitable[Any]]] = {
    "put": lambda calls: calls.single("Put", {"Item": at(("p", "s"))}),
    "delete": lambda calls: calls.single("Delete", {"Key": at(("p", "s"))}),
    "query": lambda calls: calls.query("p"),
    "get_all": lambda calls: calls.get_all([("p", "s")]),
    "write_each": lambda calls: calls.write_each([{"PutRequest": {"Item": at(("p", "s"))}}]),
    "transact": lambda calls: calls.transact([{"Put": {"Item": at(("p", "s"))}}], token="t"),  # noqa: S106 - it names a request
    "describe": lambda calls: calls.describe(),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
async def test_r6_dynamodb_that_answers_nonsense_did_nothing(
    stub: AwsStub, calls: Calls, answer: Answer
) -> None:
    """R6: what is not DynamoDB's own word is neither durable nor absent: asked again, then told as trouble."""
    stub.answer(answer)

    for ask in OF_THE_TABLE.values():
        with pytest.raises(LedgerError, match="DynamoDB"):
            await ask(calls)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(("query", told) for told in ({}, {"Items": None}, {"Items": 7})),
        *(("get_all", told) for told in ({}, {"Responses": None})),
        ("describe", {"Table": None}),
    ],
)
async def test_r6_answers_of_dynamodb_have_what_they_are_for(
    stub: AwsStub, calls: Calls, name: str, told: dict[str, Any]
) -> None:
    """R6: an answer without its items is not the answer that there are none."""
    stub.answer(json_answer(told))

    with pytest.raises(LedgerError, match="DynamoDB"):
        await OF_THE_TABLE[name](calls)


async def test_r6_a_transaction_cancelled_for_no_told_reason_is_trouble(
    stub: AwsStub, calls: Calls
) -> None:
    """R6: errors are read with the same care."""
    answer = json_error(400, "TransactionCanceledException")
    answer.body = json.dumps(
        json.loads(answer.body) | {"CancellationReasons": [None, {}]}
    ).encode()
    stub.answer(answer)

    with pytest.raises(LedgerError, match="TransactWriteItems"):
        await OF_THE_TABLE["transact"](calls)


async def test_r6_a_table_is_not_made_by_nonsense(stub: AwsStub, aws: AwsSession) -> None:
    """R6: the command that makes the table says what it met instead of falling over it."""
    stub.answer(STRANGE["null"])

    with pytest.raises(LedgerError, match="AttributeError"):
        await create(aws, table="t", region=REGION, tags={})


@pytest.mark.parametrize(
    "body",
    [b"null", b"<html/>", b"<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>", b""],
)
async def test_r6_sts_that_answers_nonsense_gives_no_credentials(
    stub: AwsStub, aws: AwsSession, body: bytes
) -> None:
    """R6: the looks at that account are told so, and nothing else ends."""
    stub.answer(Answer(200, {"Content-Type": "text/xml"}, body))

    seen = await probe(aws).look(VERSION, region=REGION, owner=OWNER)

    assert seen.sight is Sight.DENIED
    assert f"account {OWNER}: no credentials" in seen.detail


_NO_RULES = (
    *(b"", b"<html/>", b"<ReplicationConfiguration/>"),
    b"<ReplicationConfiguration><Role>r</Role></ReplicationConfiguration>",
    b"\xff\xfe",
)


@pytest.mark.parametrize("body", _NO_RULES)
async def test_r6_a_configuration_that_is_none_proves_nothing(
    stub: AwsStub, aws: AwsSession, body: bytes
) -> None:
    """R6: S3 keeps no configuration without rules, so an empty one is nobody's word that nothing is replicated."""
    stub.answer(Answer(200, {"Content-Type": "application/xml"}, body))

    with pytest.raises(UnreadableConfigurationError, match="bucket src could not be read"):
        await probe(aws).configuration("src", region=REGION, owner=None)


@pytest.mark.parametrize("answer", [b"!!! hello\r\n" * 9, b"*x\r\n", b":x\r\n$-7\r\n"])
async def test_r6_redis_that_answers_nonsense_is_away(answer: bytes) -> None:
    """R6: whatever redis-py makes of bytes that are no answer is told as the ledger's trouble."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(LedgerError):
            await Redis.open(RedisServer(url=f"redis://127.0.0.1:{port}/0"))


# ---- the border itself ----


async def test_r6_the_border_lets_through_what_means_something() -> None:
    """R6: a service's own word, what we refuse to ask, and being told to stop; all else is no answer, with its type."""
    for mine in (ClientError({}, "x"), TooManyClientsError("full"), AccountError("none")):
        with pytest.raises(type(mine)), border():
            raise mine
    for other in (AttributeError("x"), TimeoutError(), RecursionError(), OSError(), KeyError("x")):
        with pytest.raises(NoAnswerError, match=type(other).__name__) as caught, border():
            raise other
        assert caught.value.met is other

    async def asking() -> None:
        with border():
            await asyncio.sleep(60)

    task = asyncio.create_task(asking())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_r6_aws_itself_is_known_by_the_ids_of_its_requests(
    stub: AwsStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6: where no endpoint is configured, an answer in the right format without AWS's id is somebody else's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
    async with AwsSession(endpoint_url=None, default_region=REGION, max_connections=8) as aws:
        inbox = SqsInbox(aws, QUEUE)
        stub.answer(json_answer({}))
        with pytest.raises(InboxError, match="something other than AWS answered"):
            await OF_THE_QUEUE["receive"](inbox)

        signed = json_answer({})
        signed.headers["x-amzn-RequestId"] = "00000000-0000-4000-8000-000000000001"
        stub.answer(signed)
        assert list(await OF_THE_QUEUE["receive"](inbox)) == []


HALF = "a\ud800"
"""Half of a character: what Python and JSON can hold, and no UTF-8."""


async def test_half_a_character_reaches_dynamodb_and_comes_from_it(
    stub: AwsStub, calls: Calls
) -> None:
    """As an escape of JSON, in which either client writes and reads it."""
    item = {"pk": {"S": HALF}, "b": {"B": b"\0\xff"}}
    stub.answer(json_answer({}), json_answer({"Items": [item | {"b": {"B": "AP8="}}]}))
    await calls.single("Put", {"Item": item})
    assert b'"a\\ud800"' in stub.asked[0].body
    assert json.loads(stub.asked[0].body)["Item"] == {"pk": {"S": HALF}, "b": {"B": "AP8="}}
    assert await calls.query("p") == [item]


async def test_half_a_character_that_dynamodb_refuses(stub: AwsStub, calls: Calls) -> None:
    """Is told of its item, for good: no other item need wait for it, and no outage is reported."""
    stub.answer(json_error(400, "SerializationException"))
    with pytest.raises(UnwritableError, match=r"PutItem of item .*SerializationException"):
        await calls.single("Put", {"Item": at((HALF, "s"))})
    assert len(stub.asked) == 1
