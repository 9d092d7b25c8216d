"""What holds of every message, however strange."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crrmon.domain.events.decode import decode, decode_anyhow
from crrmon.domain.events.envelopes import Irrelevant
from crrmon.domain.events.facts import Decoded, MalformedMessageError

DATA = Path(__file__).parent.parent / "data"
MESSAGES = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}

SECRETS = ("invoice", "acme", "Zk3", "top-secret")
"""Pieces of the keys, buckets and version ids of the data, and of what is put in their places."""

WORDS = (
    *("detail-type", "source", "region", "detail", "Type", "Message", "Records", "Event"),
    *("crrmon", "event", "EventSource", "Sns", "body", "eventSource", "eventName", "eventTime"),
    *("errorCode", "userIdentity", "principalId", "arn", "awsRegion", "requestParameters"),
    *("bucketName", "key", "versionId", "x-amz-version-id", "responseElements", "resources"),
    *("ARN", "accountId", "additionalEventData", "bytesTransferredIn", "serviceEventDetails"),
    *("aws.s3", "s3.amazonaws.com", "aws:s3", "aws:sqs", "aws:sns", "Notification"),
    *("s3:TestEvent", "PutObject", "CopyObject", "DeleteObject", "2026-03-04T05:06:07Z"),
    *("arn:aws:s3:::acme", "arn:aws:s3:::acme/top-secret", "AROAEXAMPLE:s3-replication"),
    *("time", "account", "bucket", "object", "name", "size", "version-id", "deletion-type", "s3"),
    *("replicationEventData", "destinationBucket", "requestTime", "Object Created", "minio:s3"),
    *("Object Deleted", "Delete Marker Created", "ObjectCreated:Put", "s3:ObjectRemoved:Delete"),
    *("Replication:OperationFailedReplication", "top-secret%FF", "InitiateReplication"),
)
"""Fields and values that mean something, so that chance finds its way into the depths."""

texts = st.sampled_from(WORDS) | st.text(st.characters())  # with lone surrogates
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=6)
        | inner.map(json.dumps)  # a message within a message
    ),
    max_leaves=25,
)


def understood(body: str | bytes) -> Decoded | None:
    """Decode, or fail in the one way that is allowed, and say nothing that ought not to be said."""
    try:
        decoded = decode(body)
    except MalformedMessageError as error:
        told = f"{error} {error.__cause__}"
    else:
        assert set(decoded.irrelevant) <= set(Irrelevant)
        assert decoded.facts or decoded.irrelevant
        return decoded
    assert not [secret for secret in SECRETS if secret in told]
    return None


@given(st.text(st.characters()) | st.binary())
def test_any_body_is_decoded_or_malformed(body):
    """Whatever comes, the answer is a Decoded that says something, or MalformedMessageError."""
    understood(body)


@given(values, st.booleans())
def test_any_json_is_decoded_or_malformed(value, escaped):
    """The same of everything that looks like JSON, with floats that JSON does not have."""
    understood(json.dumps(value, ensure_ascii=escaped))


def places(value: Any) -> list[tuple[Any, Any]]:
    """List every field and element within a JSON value, as what holds it and where."""
    if isinstance(value, dict):
        held = list(value.items())
    elif isinstance(value, list):
        held = list(enumerate(value))
    else:
        return []
    return [(value, at) for at, _ in held] + [
        place for _, inner in held for place in places(inner)
    ]


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=20)
@given(data=st.data())
def test_any_mutation_is_decoded_or_malformed(name, data):
    """The same of every sound message of which fields were dropped or replaced."""
    message = copy.deepcopy(MESSAGES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(message)
        if not found:
            break
        holder, at = data.draw(st.sampled_from(found))
        if data.draw(st.booleans()):
            del holder[at]
        else:
            holder[at] = data.draw(values | st.just("top-secret"))
    understood(json.dumps(message))


def outcome(act: Callable[[], Decoded]) -> Decoded | str:
    """Return what a message says, or what is told of it where it is malformed."""
    try:
        return act()
    except MalformedMessageError as error:
        return str(error)


@pytest.mark.parametrize("name", [name for name in MESSAGES if name.startswith("cloudtrail")])
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_read_in_one_go_says_the_same(name, data):
    """A record in EventBridge's envelope is read as it would be envelope by envelope, whatever is wrong with it."""
    message = copy.deepcopy(MESSAGES[name])
    for _ in range(data.draw(st.integers(0, 3))):
        found = places(message)
        if not found:
            break
        holder, at = data.draw(st.sampled_from(found))
        if data.draw(st.booleans()):
            del holder[at]
        else:
            holder[at] = data.draw(values)
    body = json.dumps(message).encode()

    assert outcome(lambda: decode(body)) == outcome(lambda: decode_anyhow(body))


def in_eventbridge(record: Any) -> Any:
    """Wrap a record as EventBridge does."""
    return {"source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "detail": record}


ENVELOPES = {
    "SNS": lambda inner: {"Type": "Notification", "Message": json.dumps(inner)},
    "Lambda SNS": lambda inner: {
        "Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(inner)}}]
    },
    "Lambda SQS": lambda inner: {
        "Records": [{"eventSource": "aws:sqs", "body": json.dumps(inner, ensure_ascii=False)}]
    },
    "template": lambda inner: {"crrmon": 1, "event": inner},
}


@given(
    name=st.sampled_from(
        [
            "cloudtrail_copy_object",
            "cloudtrail_delete_object_marker",
            "cloudtrail_delete_objects",
            "cloudtrail_failed_put_object",
            "cloudtrail_put_object",
            "cloudtrail_replica_put_object",
        ]
    ),
    around=st.lists(st.sampled_from(sorted(ENVELOPES)), max_size=4),
    bare=st.booleans(),
)
def test_envelopes_do_not_change_what_a_record_says(name, around, bare):
    """The same record says the same through every envelope, and through envelopes in envelopes."""
    record = MESSAGES[name]["detail"]
    message = record if bare else in_eventbridge(record)
    for envelope in around:
        message = ENVELOPES[envelope](message)

    assert decode(json.dumps(message)) == decode(json.dumps(record))


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_envelopes_in_envelopes_come_to_an_end(envelope):
    """Seven envelopes around an event are opened, eight are malformed, whichever they are."""
    message = in_eventbridge({"eventSource": "s3.amazonaws.com", "eventName": "GetObject"})
    for _ in range(7):
        message = ENVELOPES[envelope](message)

    assert understood(json.dumps(message)) == Decoded((), ("other_call",))
    assert understood(json.dumps(ENVELOPES[envelope](message))) is None


@given(
    key=st.text(min_size=1),
    event=st.sampled_from(["PutObject", "DeleteObject"]),
    from_arn=st.booleans(),
    escaped=st.booleans(),
    envelope=st.sampled_from([*sorted(ENVELOPES), None]),
)
def test_any_key_survives(key, event, from_arn, escaped, envelope):
    """A key comes out as it went in, be it line breaks, `%2F`, `+`, control characters or emoji."""
    event_ = in_eventbridge(
        MESSAGES["cloudtrail_put_object"]["detail"]
        | {
            "eventName": event,
            "requestParameters": None if from_arn else {"bucketName": "acme", "key": key},
            "resources": [{"ARN": f"arn:aws:s3:::acme/{key}"}, {"ARN": "arn:aws:s3:::acme"}],
        }
    )
    message = ENVELOPES[envelope](event_) if envelope else event_

    (fact,) = decode(json.dumps(message, ensure_ascii=escaped)).facts

    assert key == fact.version.key


@given(
    key=st.text(min_size=1),
    slashes=st.booleans(),
    envelope=st.sampled_from([*sorted(ENVELOPES), None]),
)
def test_any_key_survives_the_encoding_of_notifications(key, slashes, envelope):
    """A key that was encoded as S3 does it comes out as it went in, whether or not slashes were."""
    message = copy.deepcopy(MESSAGES["s3_notification"])
    message["Records"][0]["s3"]["object"]["key"] = quote_plus(key, safe="/" if slashes else "")
    message = ENVELOPES[envelope](message) if envelope else message

    (fact,) = decode(json.dumps(message)).facts

    assert fact.version.key == key


@given(key=st.text(min_size=1), escaped=st.booleans())
def test_any_key_survives_in_events(key, escaped):
    """S3's own events hold keys as they are."""
    message = copy.deepcopy(MESSAGES["eventbridge_object_created"])
    message["detail"]["object"]["key"] = key

    (fact,) = decode(json.dumps(message, ensure_ascii=escaped)).facts

    assert fact.version.key == key


@given(version_id=st.text(min_size=1))
def test_d13_any_version_id_survives(version_id):
    """D13: a version id comes out as it went in, for writes, replicas and deletions alike."""
    told = {"responseElements": {"x-amz-version-id": version_id}}
    gone = {"requestParameters": {"bucketName": "acme", "key": "k", "versionId": version_id}}

    def said(name: str, changes: dict[str, Any]) -> Any:
        return decode(json.dumps(MESSAGES[name]["detail"] | changes)).facts[0]

    assert said("cloudtrail_put_object", told).version.version_id == version_id
    assert said("cloudtrail_replica_put_object", told).version.version_id == version_id
    assert said("cloudtrail_delete_object_version", gone).version.version_id == version_id


@given(st.lists(st.sampled_from(sorted(MESSAGES)), min_size=1, max_size=6))
def test_batches_say_what_their_messages_say(names):
    """A batch says exactly what its messages say, in order; it is malformed when one of them is."""
    bodies = [json.dumps(MESSAGES[name]) for name in names]
    batch = json.dumps({"Records": [{"eventSource": "aws:sqs", "body": body} for body in bodies]})
    apart = [understood(body) for body in bodies]
    together = understood(batch)

    if None in apart:
        assert together is None
    else:
        assert together == Decoded(
            tuple(fact for decoded in apart for fact in decoded.facts),
            tuple(kind for decoded in apart for kind in decoded.irrelevant),
        )
