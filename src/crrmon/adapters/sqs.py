"""An SQS queue as the inbox.

Batches in SQS fail entry by entry: what was not deleted or changed is returned by receipt, for the caller to try just
that again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog
from botocore.exceptions import ClientError

from crrmon.adapters.aws import AwsSession, Login
from crrmon.adapters.border import NoAnswerError, border
from crrmon.adapters.remedies import explain
from crrmon.domain.queue_address import queue_address, queue_name, region_of
from crrmon.ports.inbox import Depth, InboxError, Message

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.literals import QueueAttributeNameType

BATCH = 10
"""Messages that SQS takes or gives in one call."""

REMINDER_SECONDS = 3600.0
"""Between two warnings that a dead-letter queue cannot be read."""

_VISIBLE: "QueueAttributeNameType" = "ApproximateNumberOfMessages"
_IN_FLIGHT: "QueueAttributeNameType" = "ApproximateNumberOfMessagesNotVisible"
_DELAYED: "QueueAttributeNameType" = "ApproximateNumberOfMessagesDelayed"
_REDRIVE: "QueueAttributeNameType" = "RedrivePolicy"
_COUNTS = (_VISIBLE, _IN_FLIGHT, _DELAYED)

_NO_QUEUE = "check queues[].url: its region, account and name"
_ADVICE = {
    "AWS.SimpleQueueService.NonExistentQueue": _NO_QUEUE,
    "QueueDoesNotExist": _NO_QUEUE,
    "InvalidAddress": _NO_QUEUE,
    "KMS.AccessDeniedException": "grant kms:Decrypt on the queue's key to the daemon's role",
    "KmsAccessDenied": "grant kms:Decrypt on the queue's key to the daemon's role",
    "OverLimit": "120,000 messages are in flight: another consumer reads this queue and does not delete its messages",
}

_NO_DEAD_LETTER_QUEUE = "check the queue's redrive policy: the dead-letter queue does not exist"
_DEAD_LETTER_PERMISSION = "sqs:GetQueueUrl and sqs:GetQueueAttributes on the dead-letter queue"
_DEAD_LETTER_ADVICE = {
    "AWS.SimpleQueueService.NonExistentQueue": _NO_DEAD_LETTER_QUEUE,
    "QueueDoesNotExist": _NO_DEAD_LETTER_QUEUE,
}

log = structlog.get_logger()

_Kind = TypeVar("_Kind")


def _login(endpoint: str | None) -> Login | None:
    """Return the login of an endpoint that is not the SDK's default; None for the default one."""
    if endpoint is None:
        return None
    return Login(name=endpoint, session=None, endpoint_url=endpoint, path_style=True)


class SqsInbox:
    """One SQS standard queue."""

    pushed = False
    """SQS took the message off its senders."""

    def __init__(
        self, aws: AwsSession, url: str, *, region: str | None = None, name: str | None = None
    ) -> None:
        """Use a queue. Asks nobody anything yet: credentials may turn up later.

        Args:
            aws: gives the client.
            url: of the queue.
            region: of the queue; else what its URL names, else the default one.
            name: for logs and labels, when the queue's own would not do.
        """
        self._aws = aws
        self._region = region or region_of(url)
        self._login = _login(None if aws.redirected else queue_address(url).endpoint)
        self._url = url
        self.name = name or queue_name(url)
        self._dead_letter_urls: dict[str, str] = {}
        """By ARN."""
        self._warned_at = float("-inf")
        self._policy: str | None = None
        """The queue's redrive policy as last read; empty for none."""

    async def client(self) -> "SQSClient":
        """Return the client that asks whoever has the queue."""
        return await self._aws.client("sqs", self._region, self._login)

    async def receive(self, *, wait_seconds: int, visibility_seconds: int) -> Sequence[Message]:
        """Wait for messages and take up to ten."""
        try:
            with border():
                fields = {
                    "MaxNumberOfMessages": BATCH,
                    "WaitTimeSeconds": wait_seconds,
                    "VisibilityTimeout": visibility_seconds,
                    "MessageSystemAttributeNames": ["SentTimestamp"],
                }
                received = await self._call("ReceiveMessage", fields, _Messages)
                return list(map(_message, received.Messages))
        except (ClientError, NoAnswerError) as error:
            raise self._error("received", "sqs:ReceiveMessage", error) from error

    async def depth(self) -> Depth:
        """Count what is in the queue and in its dead-letter queue."""
        try:
            with border():
                client = await self.client()
                if self._policy is None:
                    self._policy = (await self._attributes(client, _REDRIVE)).get(_REDRIVE, "")
                # NB: before the queue, or a message that is moved back meanwhile would be in neither.
                dead, trouble = await self._dead(client, self._policy) if self._policy else (0, "")
                queue = await self._attributes(client, *_COUNTS, _REDRIVE)
                visible, in_flight, delayed = (int(queue[name]) for name in _COUNTS)
        except (ClientError, NoAnswerError) as error:
            raise self._error("counted", "sqs:GetQueueAttributes", error) from error
        policy = queue.get(_REDRIVE, "")
        if policy != self._policy:
            self._policy, dead = policy, None
        return Depth(
            visible=visible, in_flight=in_flight, delayed=delayed, dead=dead, trouble=trouble
        )

    async def _attributes(
        self, client: "SQSClient", *names: "QueueAttributeNameType"
    ) -> Mapping[str, str]:
        answer = await client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)
        return msgspec.convert(answer.get("Attributes", {}), dict[str, str])

    async def _dead(self, client: "SQSClient", policy: str) -> tuple[int | None, str]:
        """Count what is in the dead-letter queue that a redrive policy names; None and why when it cannot be read."""
        try:
            with border():
                # Its JSON holds also how many receives lead there.
                arn = msgspec.json.decode(policy, type=_Redrive).deadLetterTargetArn
                url = await self._dead_letter_url(client, arn)
                answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=[*_COUNTS])
                return sum(int(answer["Attributes"][name]) for name in _COUNTS), ""
        except (ClientError, NoAnswerError) as error:
            self._dead_letter_urls.clear()
            reason = explain(error, permission=_DEAD_LETTER_PERMISSION, advice=_DEAD_LETTER_ADVICE)
            self._warn_of_dead_letter_queue(reason)
            return None, reason

    async def _dead_letter_url(self, client: "SQSClient", arn: str) -> str:
        if arn not in self._dead_letter_urls:
            *_, account, name = arn.split(":")
            answer = await client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
            self._dead_letter_urls[arn] = msgspec.convert(answer["QueueUrl"], str)
        return self._dead_letter_urls[arn]

    def _warn_of_dead_letter_queue(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at < REMINDER_SECONDS:
            return
        self._warned_at = now
        log.warning(
            "dead_letter_queue_unreadable",
            queue=self.name,
            reason=reason,
            permission=_DEAD_LETTER_PERMISSION,
        )

    async def acknowledge(self, receipts: Sequence[str]) -> Sequence[str]:
        """Delete up to ten delivered messages; return the receipts that were not deleted."""
        return await self._batch("DeleteMessage", receipts, "deleted")

    async def extend(self, receipts: Sequence[str], *, seconds: int) -> Sequence[str]:
        """Keep up to ten delivered messages hidden for `seconds` from now; return the receipts that were not changed."""
        return await self._batch(
            "ChangeMessageVisibility", receipts, "kept hidden", VisibilityTimeout=seconds
        )

    async def _batch(
        self, action: str, receipts: Sequence[str], what: str, **fields: int
    ) -> Sequence[str]:
        """Do one thing to messages, and return the receipts of those to which it was not done.

        Args:
            action: its name, as permissions have it.
            receipts: of the messages.
            what: was to be done to them, for people.
            fields: of each entry.
        """
        if not receipts:
            return ()
        entries = [
            {"Id": str(place), "ReceiptHandle": receipt, **fields}
            for place, receipt in enumerate(receipts)
        ]
        try:
            with border():
                outcome = await self._call(f"{action}Batch", {"Entries": entries}, _Outcome)
                return _left(receipts, outcome)
        except (ClientError, NoAnswerError) as error:
            raise self._error(what, f"sqs:{action}", error) from error

    async def _call(self, operation: str, fields: Mapping[str, Any], kind: type[_Kind]) -> _Kind:
        """Make one of the calls that are made all day; as `Calls.call`."""
        calls = await self._aws.calls("sqs", self._region, self._login)
        return await calls.call(operation, {"QueueUrl": self._url, **fields}, kind)

    def _error(self, what: str, permission: str, error: Exception) -> InboxError:
        reason = explain(error, permission=f"{permission} on the queue", advice=_ADVICE)
        return InboxError(f"messages of queue {self.name} could not be {what}: {reason}")


class _Redrive(msgspec.Struct):
    """What is read of a redrive policy."""

    deadLetterTargetArn: str  # noqa: N815 - as SQS writes it


class _Entry(msgspec.Struct, frozen=True):
    """One entry of a batch that was carried out."""

    Id: str


class _Outcome(msgspec.Struct, frozen=True):
    """What became of a batch."""

    Successful: list[_Entry] = []
    Failed: list[_Entry] = []


class _MessageAttributes(msgspec.Struct, frozen=True):
    """What is asked about a message."""

    SentTimestamp: str | None = None


class _Received(msgspec.Struct, frozen=True):
    """What is read of a message."""

    MessageId: str
    ReceiptHandle: str
    Body: str
    Attributes: _MessageAttributes = _MessageAttributes()


class _Messages(msgspec.Struct, frozen=True):
    """What was received."""

    Messages: list[_Received] = []


def _left(receipts: Sequence[str], outcome: _Outcome) -> Sequence[str]:
    """Return the receipts of those entries of a batch, whose ids are their places, that are not among the successful."""
    done = {one.Id for one in outcome.Successful}
    if not done and not outcome.Failed:
        raise KeyError("Successful")  # every entry is named in one of the two
    return [receipt for place, receipt in enumerate(receipts) if str(place) not in done]


def _message(received: _Received) -> Message:
    sent = received.Attributes.SentTimestamp
    return Message(
        id=received.MessageId,
        receipt=received.ReceiptHandle,
        body=received.Body,
        sent_at=None if sent is None else int(sent) / 1000,
    )
