"""Take queue messages out of their envelopes.

What S3 and CloudTrail say reaches a queue by many ways, and each wraps it in its own manner: EventBridge, SNS, the
batches that Lambda is given, templates of rules, and any of them inside another.
Here the wrapping comes off, layer by layer, until parts are left that one reader each understands.

`where` is the path to a piece of a message, for errors: it is made of names of fields, never of what they hold.
"""

import enum
from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from crrmon.domain.events.facts import MalformedMessageError

_MOST_LAYERS = 8
"""SQS in Lambda, SNS, a template and EventBridge make 4. Beyond these it is nonsense or malice."""

_TEMPLATE_VERSION = 1
"""Of the only input transformer template there is: {"crrmon": 1, "event": <aws.events.event.json>}."""

T = TypeVar("T")


class Irrelevant(enum.StrEnum):
    """
    What a part of a message is when it is known to concern nobody here: the whole list, so it can be a metric's label.

    Whatever is not known to be one of these, and cannot be followed, is malformed: acknowledging it might lose a write.
    """

    S3_TEST_EVENT = "s3_test_event"
    """S3 tries the queue when notifications are set up."""
    SNS_SUBSCRIPTION = "sns_subscription"
    """SNS asks to confirm a subscription, or tells of its end."""
    OTHER_S3_EVENT = "other_s3_event"
    """S3's own event through EventBridge, about something else than a write or a deletion."""
    OTHER_NOTIFICATION = "other_notification"
    """The same of S3's own notifications."""
    OTHER_EVENT = "other_event"
    """Of another service than S3."""
    OTHER_CALL = "other_call"
    """A call to S3 that neither writes nor deletes a version."""
    NETWORK_ACTIVITY = "network_activity"
    """CloudTrail's word that a call passed a VPC endpoint, or was stopped there; the call has an event of its own."""
    INSIGHT = "insight"
    """CloudTrail's word that there are unusually many calls."""
    DELETE_OBJECTS = "delete_objects"
    """A batch delete as a whole; each of its keys has an event of its own."""
    FAILED_CALL = "failed_call"
    """Nothing was changed."""
    FAILED_REPLICA_WRITE = "failed_replica_write"
    """Replication tried to write to a destination and could not."""
    REPLICA_WITHOUT_VERSION = "replica_without_version"
    """
    A replica's event without the version id, which alone would lead to its source. The source has an event of its own,
    and looks find that it arrived.
    """
    RESTART_WITHOUT_VERSION = "restart_without_version"
    """
    A call of Batch Replication without the version id: any version of the key may be meant. A later look finds what it
    changed.
    """
    DELETED_WITHOUT_VERSION = "deleted_without_version"
    """An object deleted for good from a bucket without versions, out of which nothing replicates."""
    LIFECYCLE_MARKER = "lifecycle_marker"
    """A delete marker of a lifecycle rule. These do not replicate."""


class Shape(enum.Enum):
    """Who can read a part."""

    CLOUDTRAIL = enum.auto()
    """A CloudTrail record."""
    S3_EVENT = enum.auto()
    """The detail of S3's own event in EventBridge."""
    S3_NOTIFICATION = enum.auto()
    """One record of S3's own notification."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a message, out of all its envelopes."""

    shape: Shape
    raw: bytes | Raw
    """JSON."""
    where: str
    name: str | None = None
    """What happened, in the words that the envelope has for it."""
    region: str | None = None
    time: Raw | None = None
    """When it happened, as the envelope says it, where that may matter."""
    account: str | None = None
    """Whose event it is, by the envelope."""


class Outside(msgspec.Struct, frozen=True, gc=False):
    """The fields by which envelopes are told apart, of all of them."""

    detail_type: str | UnsetType | None = msgspec.field(name="detail-type", default=UNSET)
    source: str | UnsetType = UNSET
    region: str | None = None
    time: Raw | UnsetType = UNSET
    account: str | None = None

    sns_type: str | UnsetType = msgspec.field(name="Type", default=UNSET)
    message: str | UnsetType = msgspec.field(name="Message", default=UNSET)

    records: list[Raw] | UnsetType = msgspec.field(name="Records", default=UNSET)

    event_name: Raw | UnsetType = msgspec.field(name="eventName", default=UNSET)
    event_source: Raw | UnsetType = msgspec.field(name="eventSource", default=UNSET)

    crrmon: int | UnsetType = UNSET
    event: Raw | UnsetType = UNSET

    s3_event: str | UnsetType = msgspec.field(name="Event", default=UNSET)


class _Envelope(Outside, frozen=True, gc=False):
    """An envelope, with what EventBridge put into it."""

    detail: Raw | UnsetType = UNSET


class _Notification(msgspec.Struct, frozen=True, gc=False):
    message: str = msgspec.field(name="Message")


class _Record(msgspec.Struct, frozen=True, gc=False):
    """One of `Records`: of a Lambda batch or of an S3 notification."""

    event_source: str | None = msgspec.field(name="eventSource", default=None)
    event_name: str | None = msgspec.field(name="eventName", default=None)
    body: str | UnsetType = UNSET
    # NB: SNS alone writes it with a capital letter.
    sns_event_source: str | None = msgspec.field(name="EventSource", default=None)
    sns: _Notification | UnsetType = msgspec.field(name="Sns", default=UNSET)


class _Named(msgspec.Struct, frozen=True, gc=False):
    """What tells records of calls from those of S3's own notifications."""

    event_source: str | UnsetType = msgspec.field(name="eventSource", default=UNSET)
    event_name: Raw | UnsetType = msgspec.field(name="eventName", default=UNSET)


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_RECORD = msgspec.json.Decoder(_Record)
_NAMED = msgspec.json.Decoder(_Named)
_TEXT = msgspec.json.Decoder(str)


def utf8(body: str | bytes) -> bytes:
    """Return the body of a message as bytes.

    Raises:
        MalformedMessageError: it is no UTF-8.
    """
    try:
        # msgspec does not look into strings that it skips, so all of the body is checked here.
        text = body if isinstance(body, str) else body.decode()
        return text.encode()
    except UnicodeError:
        raise MalformedMessageError("message: not UTF-8") from None


def unwrap(data: bytes) -> Iterator[Part | Irrelevant]:
    """Take a message out of its envelopes.

    Args:
        data: its body, as `utf8` returns it.

    Returns:
        Its parts in their order, read as they are asked for; those that no reader is needed for as what they are.

    Raises:
        MalformedMessageError: while it is iterated over.
    """
    return _open(data, "message", 1)


def parse(decoder: msgspec.json.Decoder[T], data: bytes | Raw, where: str) -> T:
    """Decode JSON into the decoder's type.

    Raises:
        MalformedMessageError: it is no JSON, or does not fit the type.
    """
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        # Its text consists of types, names of fields and offsets; it quotes no values.
        raise MalformedMessageError(f"{where}: {error}") from error
    except RecursionError:
        raise MalformedMessageError(f"{where}: nested too deeply") from None


def _open(data: bytes | Raw, where: str, layer: int) -> Iterator[Part | Irrelevant]:
    """Take off the outermost envelope, and those within it."""
    if layer > _MOST_LAYERS:
        raise MalformedMessageError(f"{where}: more than {_MOST_LAYERS} envelopes, one in another")
    outer = parse(_ENVELOPE, data, where)
    if outer.source is not UNSET and outer.detail_type is not UNSET:
        yield _from_eventbridge(outer, where)
    elif outer.sns_type is not UNSET:
        yield from _from_sns(outer, where, layer)
    elif outer.records is not UNSET:
        yield from _from_records(outer.records, where, layer)
    elif outer.event_name is not UNSET and outer.event_source is not UNSET:
        yield _record(parse(_NAMED, data, where), data, where)
    elif outer.crrmon is not UNSET:
        yield from _from_template(outer, where, layer)
    elif outer.s3_event == "s3:TestEvent":
        yield Irrelevant.S3_TEST_EVENT
    else:
        raise MalformedMessageError(f"{where}: none of the known envelopes")


def _from_eventbridge(event: _Envelope, where: str) -> Part | Irrelevant:
    """Return whose event it is.

    NB: not by the detail-type, which is not the same words in every partition.

    Raises:
        MalformedMessageError: neither of S3 nor of another service of AWS: who sent it on may have written anything.
    """
    assert event.source is not UNSET  # noqa: S101 - for the type checker
    if event.source != "aws.s3":
        if event.source.startswith("aws."):
            return Irrelevant.OTHER_EVENT
        raise MalformedMessageError(f"{where}.source: none of AWS's own")
    if event.detail is UNSET:
        raise MalformedMessageError(f"{where}: an event without detail")
    where = f"{where}.detail"
    named = parse(_NAMED, event.detail, where)
    if named.event_source is not UNSET:
        return _record(named, event.detail, where, region=event.region)
    return Part(
        shape=Shape.S3_EVENT,
        raw=event.detail,
        where=where,
        name=event.detail_type or None,
        region=event.region,
        time=event.time or None,
        account=event.account,
    )


def _record(named: _Named, raw: bytes | Raw, where: str, *, region: str | None = None) -> Part:
    """Return whether a record outside of any list is CloudTrail's, or one of S3's own notifications."""
    if named.event_source is UNSET or not of_a_store(named.event_source):
        return Part(shape=Shape.CLOUDTRAIL, raw=raw, where=where, region=region)
    if named.event_name is UNSET:
        raise MalformedMessageError(f"{where}: a record of S3 without eventName")
    name = parse(_TEXT, named.event_name, f"{where}.eventName")
    return Part(shape=Shape.S3_NOTIFICATION, raw=raw, where=where, name=name)


def of_a_store(event_source: str) -> bool:
    """Return whether a record is one of S3's own notifications: every store has a prefix of its own: aws, minio, ceph."""
    return event_source.endswith(":s3")


def _from_sns(notice: _Envelope, where: str, layer: int) -> Iterator[Part | Irrelevant]:
    match notice.sns_type:
        case "Notification" if notice.message is not UNSET:
            yield from _open(notice.message.encode(), f"{where}.Message", layer + 1)
        case "Notification":
            raise MalformedMessageError(f"{where}: an SNS notification without Message")
        case "SubscriptionConfirmation" | "UnsubscribeConfirmation":
            yield Irrelevant.SNS_SUBSCRIPTION
        case _:
            raise MalformedMessageError(f"{where}.Type: no type of SNS messages")


def _from_records(records: list[Raw], where: str, layer: int) -> Iterator[Part | Irrelevant]:
    if not records:
        raise MalformedMessageError(f"{where}.Records: empty")
    for number, raw in enumerate(records):
        at = f"{where}.Records[{number}]"
        record = parse(_RECORD, raw, at)
        if record.event_source and of_a_store(record.event_source):
            if not record.event_name:
                raise MalformedMessageError(f"{at}: a record of S3 without eventName")
            yield Part(shape=Shape.S3_NOTIFICATION, raw=raw, where=at, name=record.event_name)
        elif record.event_source == "aws:sqs" and record.body is not UNSET:
            yield from _open(record.body.encode(), f"{at}.body", layer + 1)
        elif record.sns_event_source == "aws:sns" and record.sns is not UNSET:
            yield from _open(record.sns.message.encode(), f"{at}.Sns.Message", layer + 1)
        else:
            raise MalformedMessageError(
                f"{at}: neither of S3, nor of SQS with body, nor of SNS with Sns"
            )


def _from_template(outer: _Envelope, where: str, layer: int) -> Iterator[Part | Irrelevant]:
    if outer.crrmon != _TEMPLATE_VERSION:
        raise MalformedMessageError(f"{where}.crrmon: no known version of the template")
    if outer.event is UNSET:
        raise MalformedMessageError(f"{where}: a template without event")
    yield from _open(outer.event, f"{where}.event", layer + 1)
