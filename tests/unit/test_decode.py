"""Messages as they come from AWS, one file of `tests/data` per shape, and what is read out of them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from crrmon.domain.decode import decode
from crrmon.domain.events import (
    Decoded,
    MalformedMessageError,
    ObjectDeleted,
    ObjectWritten,
    Operation,
    ReplicaWritten,
)
from crrmon.domain.objects import ObjectVersion, provisional

DATA = Path(__file__).parent.parent / "data"

SOURCE = "acme-ledger-src"
DESTINATION = "acme-ledger-dst"
KEY = "2026/03/invoice 17.pdf"
VERSION = "Zk3.exampleVersionId"
MARKER = "Mk1.exampleMarkerId"
OWNER = "210987654321"
WRITTEN_AT = 1772600767.0  # 2026-03-04T05:06:07Z
REPLICATED_AT = 1772600781.0


def written(**changes: Any) -> ObjectWritten:
    """Say what cloudtrail_put_object.json says, but for some fields."""
    plain: dict[str, Any] = {
        "version": ObjectVersion(SOURCE, KEY, VERSION),
        "region": "eu-west-1",
        "written_at": WRITTEN_AT,
        "operation": Operation.PUT,
        "size": 48213,
        "owner": OWNER,
    }
    return ObjectWritten(**plain | changes)


def replica(**changes: Any) -> ReplicaWritten:
    """Say what cloudtrail_replica_put_object.json says, but for some fields."""
    plain: dict[str, Any] = {
        "version": ObjectVersion(DESTINATION, KEY, VERSION),
        "region": "eu-central-1",
        "written_at": REPLICATED_AT,
        "size": 48213,
        "owner": "987654321098",
    }
    return ReplicaWritten(**plain | changes)


def deleted(**changes: Any) -> ObjectDeleted:
    """Say what cloudtrail_delete_object_version.json says, but for some fields."""
    plain: dict[str, Any] = {
        "bucket": SOURCE,
        "key": KEY,
        "version_id": VERSION,
        "marker_id": None,
        "region": "eu-west-1",
        "deleted_at": WRITTEN_AT,
    }
    return ObjectDeleted(**plain | changes)


def stored(name: str) -> str:
    """Read a message of `tests/data`."""
    return (DATA / f"{name}.json").read_text()


def changed(name: str = "cloudtrail_put_object", **record: Any) -> str:
    """Read a message of `tests/data` and set fields of its CloudTrail record."""
    event = json.loads(stored(name))
    event["detail"] |= record
    return json.dumps(event)


def without(*fields: str, name: str = "cloudtrail_put_object") -> str:
    """Read a message of `tests/data` and drop fields of its CloudTrail record."""
    event = json.loads(stored(name))
    for field in fields:
        del event["detail"][field]
    return json.dumps(event)


def s3_resources(*arns: str, account: str | None = None) -> list[dict[str, Any]]:
    """List resources as CloudTrail does."""
    return [{"ARN": arn} | ({"accountId": account} if account else {}) for arn in arns]


FACTS = {
    "cloudtrail_put_object": written(),
    "cloudtrail_post_object": written(size=None),
    "cloudtrail_put_object_without_version": written(
        version=provisional(SOURCE, KEY, WRITTEN_AT), size=2143
    ),
    "cloudtrail_put_object_access_point_alias": written(),
    "cloudtrail_put_object_access_point_arn": written(),
    "cloudtrail_put_object_china": written(region="cn-north-1"),
    "cloudtrail_put_object_newer_minor_version": written(),
    "cloudtrail_replica_put_object": replica(),
    "cloudtrail_replica_complete_multipart_upload": replica(
        version=ObjectVersion(DESTINATION, "2026/03/archive.tar", VERSION), size=None
    ),
    "cloudtrail_delete_object_version": deleted(),
    "cloudtrail_delete_object_marker": deleted(version_id=None, marker_id=MARKER),
    "cloudtrail_delete_object_of_batch": deleted(),
    "cloudtrail_delete_object_of_batch_resources_only": deleted(version_id=None),
    "sns_notification": written(),
    "lambda_sns": written(),
    "bare_record": written(),
    "input_transformer": written(),
}

IRRELEVANT = {
    "cloudtrail_delete_objects": "delete_objects",
    "cloudtrail_failed_replica_put_object": "failed_replica_write",
    "cloudtrail_other_service": "other_event",
    "cloudtrail_put_object_tagging": "other_call",
    "cloudtrail_replica_delete_object": "replica_deleted",
    "cloudtrail_replica_without_version": "replica_without_version",
    "eventbridge_object_created": "s3_event",
    "eventbridge_other_source": "other_event",
    "s3_notification": "s3_notification",
    "s3_replication_notice": "s3_notification",
    "s3_test_event": "s3_test_event",
    "sns_subscription_confirmation": "sns_subscription",
    "sns_unsubscribe_confirmation": "sns_subscription",
}


@pytest.mark.parametrize(("name", "fact"), FACTS.items(), ids=FACTS)
def test_reads_the_fact(name, fact):
    """A message that tells of one write or deletion gives that fact, and nothing else."""
    assert decode(stored(name)) == Decoded((fact,))


@pytest.mark.parametrize(("name", "kind"), IRRELEVANT.items(), ids=IRRELEVANT)
def test_names_what_is_irrelevant(name, kind):
    """A message that concerns nobody here gives one word for what it is, so it can be counted and acknowledged."""
    assert decode(stored(name)) == Decoded((), (kind,))


@pytest.mark.parametrize("name", ["cloudtrail_put_object", "sns_notification", "lambda_sqs"])
def test_text_and_bytes_are_the_same(name):
    """It does not matter whether the body comes as text or as bytes."""
    assert decode(stored(name).encode()) == decode(stored(name))


# The predecessor's defects.


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("cloudtrail_copy_object", written(operation=Operation.COPY, size=None)),
        (
            "cloudtrail_complete_multipart_upload",
            written(
                version=ObjectVersion(SOURCE, "2026/03/archive.tar", VERSION),
                operation=Operation.MULTIPART,
                size=None,
            ),
        ),
    ],
    ids=["copy", "multipart"],
)
def test_d1_copies_and_multipart_uploads_count(name, fact):
    """
    D1: copies and multipart uploads are writes like any other.

    The bytes of the call are not the object's, so the size is unknown.
    """
    assert decode(stored(name)) == Decoded((fact,))


@pytest.mark.parametrize("event", ["PutObject", "CopyObject", "DeleteObject", "ListObjects"])
def test_d2_failed_calls_are_no_writes(event):
    """D2: a call with an errorCode changed nothing, whatever it was."""
    body = changed("cloudtrail_failed_put_object", eventName=event)

    assert decode(body) == Decoded((), ("failed_call",))


def test_d2_errors_that_are_null_or_empty_are_none():
    """D2: an errorCode without content does not make a call fail."""
    assert decode(changed(errorCode=None)).facts == (written(),)
    assert decode(changed(errorCode="")).facts == (written(),)


def test_d3_null_parameters_are_made_up_for_by_resources():
    """D3: without requestParameters, bucket and key are read from the ARNs of the resources."""
    body = stored("cloudtrail_put_object_null_parameters")

    assert decode(body) == Decoded((written(),))


def test_d3_null_parameters_and_resources_are_malformed():
    """D3: a write of which nobody knows where it went is left for the dead-letter queue, with a reason."""
    with pytest.raises(MalformedMessageError, match=r"^message\.detail: .*bucketName.*resources"):
        decode(stored("cloudtrail_put_object_null_parameters_null_resources"))


@pytest.mark.parametrize("version_id", ["AbCdEf12345", "'x'", '"x"', "null", " ", "a"])
def test_d13_version_ids_are_exact(version_id):
    """D13: nothing is cut off a version id, whatever it looks like."""
    body = changed(responseElements={"x-amz-version-id": version_id})

    assert decode(body).facts == (written(version=ObjectVersion(SOURCE, KEY, version_id)),)


# Versions.


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"x-amz-version-id": None}, {"x-amz-version-id": ""}],
    ids=["null", "empty", "null id", "empty id"],
)
def test_a_write_without_version_id_gets_a_stand_in(answer):
    """A write whose answer names no version is a fact all the same, the same for every delivery of the event."""
    body = changed(responseElements=answer)

    assert decode(body).facts == (written(version=provisional(SOURCE, KEY, WRITTEN_AT)),)


def test_a_write_does_not_take_its_version_from_the_request():
    """Only replication asks for a version id; what another caller sends there proves nothing."""
    body = changed(
        requestParameters={"bucketName": SOURCE, "key": KEY, "x-amz-version-id": "claimed"},
        responseElements=None,
    )

    assert not decode(body).facts[0].version.identified


def test_a_replica_prefers_the_version_of_the_answer():
    """What S3 answered is what was written, whatever was asked for."""
    body = changed(
        "cloudtrail_replica_complete_multipart_upload",
        responseElements={"x-amz-version-id": "answered"},
    )

    assert decode(body).facts[0].version.version_id == "answered"


def test_a_deletion_of_a_marker_is_of_that_version():
    """Deleting a marker for good names it twice; it is a deleted version and no new marker."""
    body = changed(
        "cloudtrail_delete_object_version",
        responseElements={"x-amz-version-id": VERSION, "x-amz-delete-marker": "true"},
    )

    assert decode(body) == Decoded((deleted(),))


def test_a_marker_without_id_is_a_marker():
    """D4: a deletion that names no version lays a marker, told apart from writes, even if the answer is missing."""
    body = changed("cloudtrail_delete_object_marker", responseElements=None)

    assert decode(body) == Decoded((deleted(version_id=None, marker_id=None),))


def test_request_parameters_win_over_service_event_details():
    """What the request says is better known than what the undocumented details of service events say."""
    asked = {"bucketName": "acme-asked", "key": "asked", "versionId": "asked"}
    body = changed("cloudtrail_delete_object_of_batch", requestParameters=asked)

    assert decode(body) == Decoded(
        (deleted(bucket="acme-asked", key="asked", version_id="asked"),)
    )


# Who wrote.


@pytest.mark.parametrize(
    ("identity", "is_replica"),
    [
        ({"principalId": "AROAEXAMPLE:s3-replication"}, True),
        ({"arn": "arn:aws:sts::210987654321:assumed-role/crr/s3-replication"}, True),
        ({"arn": "arn:aws-us-gov:sts::210987654321:assumed-role/crr/s3-replication"}, True),
        ({"principalId": "AROAEXAMPLE:not-s3-replication"}, False),
        ({"principalId": "s3-replication"}, False),
        ({"arn": "arn:aws:sts::210987654321:assumed-role/s3-replication/somebody"}, False),
        ({"principalId": "AIDAEX", "arn": "arn:aws:iam::210987654321:user/s3-replication"}, False),
        ({"principalId": None, "arn": None}, False),
        ({"type": "AWSAccount", "accountId": "anonymous"}, False),
        (None, False),
    ],
)
def test_replication_is_known_by_its_session(identity, is_replica):
    """A write is a replica's when the session is S3's own; a user or role of that name is anybody."""
    fact = decode(changed(userIdentity=identity)).facts[0]

    assert isinstance(fact, ReplicaWritten if is_replica else ObjectWritten)


@pytest.mark.parametrize("event", ["PutObject", "CopyObject", "CompleteMultipartUpload"])
def test_every_write_of_replication_is_a_replica(event):
    """Replication writes in the same ways as anybody."""
    body = changed("cloudtrail_replica_put_object", eventName=event)

    assert isinstance(decode(body).facts[0], ReplicaWritten)


def test_failed_calls_of_replication_that_do_not_write_are_only_failed():
    """What replication could not tag is no replica that could not be written."""
    body = changed("cloudtrail_failed_replica_put_object", eventName="PutObjectTagging")

    assert decode(body) == Decoded((), ("failed_call",))


@pytest.mark.parametrize("event", ["PutObjectAcl", "UploadPart", "Secret", "", "putobject"])
def test_other_calls_are_one_kind(event):
    """Names of calls never become kinds: there is no end to them."""
    assert decode(changed(eventName=event)) == Decoded((), ("other_call",))


# Where it went.


@pytest.mark.parametrize("alias", ["ap-1a2b-s3alias", "ap-1a2b--ol-s3", "mfz1a2b.mrap"])
def test_an_access_point_without_resources_is_malformed(alias):
    """An alias is never taken for a bucket; if nothing names the bucket behind it, that is said."""
    body = changed(requestParameters={"bucketName": alias, "key": KEY}, resources=None)

    with pytest.raises(MalformedMessageError, match="bucketName"):
        decode(body)


def test_several_buckets_behind_an_access_point_are_malformed():
    """A copy through an access point may list two buckets: no guess is made which was written to."""
    body = changed(
        requestParameters={"bucketName": "ap-s3alias", "key": KEY},
        resources=s3_resources("arn:aws:s3:::acme-one", "arn:aws:s3:::acme-two"),
    )

    with pytest.raises(MalformedMessageError, match="resources"):
        decode(body)


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
@pytest.mark.parametrize(
    "key", ["plain", "a/b:c", "/", "arn:aws:s3:::x/y", "two\nlines", "caf\u00e9%2F+ \U0001f600"]
)
def test_keys_are_the_tail_of_the_arn(partition, key):
    """In every partition, all that follows the bucket in an ARN is the key, as it is."""
    body = changed(
        requestParameters=None,
        resources=s3_resources(
            f"arn:{partition}:s3:::{SOURCE}/{key}", f"arn:{partition}:s3:::{SOURCE}"
        ),
    )

    assert decode(body).facts[0].version.key == key


def test_keys_of_other_buckets_are_not_taken():
    """Only an object within the bucket of the call can give its key."""
    body = changed(
        requestParameters={"bucketName": SOURCE},
        resources=s3_resources(f"arn:aws:s3:::{SOURCE}/mine", "arn:aws:s3:::acme-inbox/theirs"),
    )

    assert decode(body).facts[0].version.key == "mine"


@pytest.mark.parametrize(
    "arns",
    [
        [f"arn:aws:s3:::{SOURCE}/one", f"arn:aws:s3:::{SOURCE}/two"],
        [f"arn:aws:s3:::{SOURCE}", "arn:aws:s3:::acme-inbox/theirs"],
        [f"arn:aws:s3:::{SOURCE}/"],
    ],
    ids=["two objects", "object of another bucket", "no object"],
)
def test_a_key_that_cannot_be_told_is_malformed(arns):
    """A write of nobody knows which object is left for the dead-letter queue, with a reason."""
    body = changed(requestParameters={"bucketName": SOURCE}, resources=s3_resources(*arns))

    with pytest.raises(MalformedMessageError, match=r"^message\.detail: .*requestParameters\.key"):
        decode(body)


def test_the_region_of_the_envelope_fills_in():
    """Without awsRegion, the Region of the event is that of the call."""
    assert decode(without("awsRegion")).facts == (written(),)


def test_the_region_of_the_call_comes_first():
    """An event may have been sent on from another Region than the call's."""
    event = json.loads(stored("cloudtrail_put_object")) | {"region": "us-east-1"}

    assert decode(json.dumps(event)) == Decoded((written(),))


def test_no_region_at_all_is_malformed():
    """A bare record has nothing around it that could name the Region."""
    record = json.loads(stored("bare_record"))
    del record["awsRegion"]

    with pytest.raises(MalformedMessageError, match=r"^message: .*awsRegion"):
        decode(json.dumps(record))


@pytest.mark.parametrize(
    ("bucket_account", "recipient", "owner"),
    [
        ("111122223333", OWNER, "111122223333"),
        (None, OWNER, None),
        ("anonymous", OWNER, None),
        (None, None, None),
        (None, "12345678901", None),
        (None, "1234567890123", None),
        (None, "\u0661" * 12, None),
    ],
)
def test_owners_are_accounts(bucket_account, recipient, owner):
    """The owner is the bucket's account; the recipient may be a caller from elsewhere, and only ids of accounts count."""
    body = changed(
        resources=s3_resources(f"arn:aws:s3:::{SOURCE}", account=bucket_account),
        recipientAccountId=recipient,
    )

    assert decode(body).facts[0].owner == owner


def test_the_owner_of_another_bucket_is_not_the_owner():
    """A copy may list the bucket it came from, too, and that may be somebody else's."""
    body = changed(
        resources=s3_resources("arn:aws:s3:::acme-inbox", account="111122223333"),
        recipientAccountId=OWNER,
    )

    assert decode(body).facts[0].owner is None


# Sizes and times.


@pytest.mark.parametrize(
    ("told", "size"),
    [
        ("0", 0),
        ("48213", 48213),
        ("2143.0", 2143),
        ("1e3", 1000),
        ("-0.0", 0),
        ("-1", None),
        ("1e999", None),
        ("9" * 30, None),
        ("9" * 5000, None),
        ('"NaN"', None),
        ('"48213"', None),
        ("null", None),
        ("true", None),
        ("[]", None),
        ("{}", None),
    ],
)
def test_sizes_are_numbers_or_unknown(told, size):
    """A size that is no sensible number is unknown; the write is not lost for it."""
    body = stored("cloudtrail_put_object").replace(
        '"bytesTransferredIn": 48213', f'"bytesTransferredIn": {told}'
    )

    fact = decode(body).facts[0]

    assert fact == written(size=size)
    assert not isinstance(fact.size, float)


@pytest.mark.parametrize("extra", [None, {}], ids=["null", "empty"])
def test_sizes_may_be_missing(extra):
    """Additional data is what its name says."""
    assert decode(changed(additionalEventData=extra)).facts == (written(size=None),)


@pytest.mark.parametrize(
    ("told", "written_at"),
    [
        ("2026-03-04T05:06:07Z", WRITTEN_AT),
        ("2026-03-04T05:06:07.412Z", WRITTEN_AT + 0.412),
        ("2026-03-04T05:06:07.123456789Z", WRITTEN_AT + 0.123457),
        ("2026-03-04T05:06:07+00:00", WRITTEN_AT),
        ("2026-03-04T07:06:07+02:00", WRITTEN_AT),
        ("2026-03-03T23:36:07-05:30", WRITTEN_AT),
    ],
)
def test_times_are_read(told, written_at):
    """Times are ISO 8601 in UTC or with an offset, with or without fractions of seconds."""
    fact = decode(changed(eventTime=told)).facts[0]

    assert math.isclose(fact.written_at, written_at, abs_tol=1e-6)


@pytest.mark.parametrize(
    "told", ["2026-03-04T05:06:07", "yesterday", "", "2026-02-30T00:00:00Z", 1772600767, None]
)
def test_bad_times_are_malformed(told):
    """A time that is none, or of no known zone, is not guessed at."""
    with pytest.raises(MalformedMessageError, match=r"^message\.detail: .*eventTime"):
        decode(changed(eventTime=told))


# Envelopes.


def test_lambda_batches_give_all_their_facts_in_order():
    """Of several records in one message nothing is lost, and their order is kept."""
    assert decode(stored("lambda_sqs")) == Decoded((written(), deleted()), ("other_call",))


def test_one_malformed_record_makes_the_message_malformed():
    """A message cannot be acknowledged in part, so all of it is left, and the text says which record it was."""
    message = json.loads(stored("lambda_sqs"))
    message["Records"][1]["body"] = "{"

    with pytest.raises(MalformedMessageError, match=r"^message\.Records\[1\]\.body: "):
        decode(json.dumps(message))


def test_envelopes_of_notices_are_opened():
    """S3's test message comes through SNS just as well."""
    message = json.loads(stored("sns_notification"))
    message["Message"] = stored("s3_test_event")

    assert decode(json.dumps(message)) == Decoded((), ("s3_test_event",))


@pytest.mark.parametrize("detail_type", ["AWS API Call via CloudTrail", "Anything", "", None])
def test_cloudtrail_is_not_known_by_the_detail_type(detail_type):
    """The detail-type's words differ between partitions; what counts is the source and the record."""
    event = json.loads(stored("cloudtrail_put_object")) | {"detail-type": detail_type}

    assert decode(json.dumps(event)) == Decoded((written(),))


@pytest.mark.parametrize("detail", [None, 5, "text", {"eventSource": 7}, {"eventName": {}}])
def test_events_of_others_may_hold_anything(detail):
    """What another source puts into its events is not looked at."""
    event = json.loads(stored("eventbridge_other_source")) | {"detail": detail}

    assert decode(json.dumps(event)) == Decoded((), ("other_event",))


MALFORMED = {
    "empty": ("", "message: "),
    "no JSON": ("hello", "message: "),
    "cut off": (stored("cloudtrail_put_object")[:-9], "message: "),
    "two documents": ("{}{}", "message: "),
    "array": ("[]", "message: "),
    "null": ("null", "message: "),
    "number": ("17", "message: "),
    "empty object": ("{}", "message: none of the known envelopes"),
    "byte order mark": ("\ufeff{}", "message: "),
    "raw control character": ('{"Event": "a\nb"}', "message: "),
    "not UTF-8": (b'{"ignored": "\xff"}', "message: not UTF-8"),
    "UTF-16": ("{}".encode("utf-16"), "message: not UTF-8"),
    "surrogate in text": ('{"ignored": "\ud800"}', "message: not UTF-8"),
    "surrogate in escape": ('{"ignored": "\\ud800"}', "message: "),
    "surrogate in key": (
        changed(requestParameters={"bucketName": "b", "key": "\udc00"}),
        "message: ",
    ),
    "event without detail": ('{"source": "aws.s3", "detail-type": ""}', "message: .*detail"),
    "detail no object": (
        '{"source": "aws.s3", "detail-type": "", "detail": 1}',
        r"message\.detail: ",
    ),
    "record without name": (without("eventName"), r"message\.detail: .*eventName"),
    "record of wrong type": (changed(resources="all"), r"message\.detail: .*\$\.resources"),
    "SNS without message": ('{"Type": "Notification"}', "message: .*Message"),
    "SNS of text": ('{"Type": "Notification", "Message": "hi"}', r"message\.Message: "),
    "SNS of unknown type": ('{"Type": "Surprise", "Message": "{}"}', r"message\.Type: "),
    "no records": ('{"Records": []}', r"message\.Records: empty"),
    "records no array": ('{"Records": {}}', r"message: .*\$\.Records"),
    "unknown record": (
        '{"Records": [{"eventSource": "aws:kinesis"}]}',
        r"message\.Records\[0\]: ",
    ),
    "record without body": (
        '{"Records": [{"eventSource": "aws:sqs"}]}',
        r"message\.Records\[0\]: ",
    ),
    "record without Sns": (
        '{"Records": [{"EventSource": "aws:sns"}]}',
        r"message\.Records\[0\]: ",
    ),
    "template of tomorrow": ('{"crrmon": 2, "event": {}}', r"message\.crrmon: "),
    "template without event": ('{"crrmon": 1}', "message: .*event"),
    "other test event": ('{"Event": "s3:Other"}', "message: none of the known envelopes"),
}


@pytest.mark.parametrize(("body", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_says_what_is_malformed_and_where(body, reason):
    """A message that fits nothing is malformed, and the text begins with the layer that is at fault."""
    with pytest.raises(MalformedMessageError, match=f"^{reason}"):
        decode(body)


@pytest.mark.parametrize(
    "body",
    [
        "[" * 200_000,
        '{"source":"aws.s3","detail-type":"","detail":' + '{"a":' * 200_000,
        changed().replace('"AwsApiCall"', "[" * 100_000 + "]" * 100_000),
        '{"crrmon":1,"event":' * 5000 + "{}" + "}" * 5000,
        '{"crrmon":1,"event":' * 8 + stored("cloudtrail_put_object") + "}" * 8,
        changed(serviceEventDetails=1).replace(
            '"serviceEventDetails": 1', '"serviceEventDetails": ' + "[" * 100_000 + "]" * 100_000
        ),
    ],
    ids=["arrays", "objects", "ignored field", "envelopes", "nine envelopes", "details"],
)
def test_deep_nesting_is_malformed(body):
    """However deep a message is nested, there is no RecursionError."""
    with pytest.raises(MalformedMessageError):
        decode(body)


def test_a_few_envelopes_are_no_nesting():
    """More envelopes than anybody has use for are opened, one after the other."""
    body = '{"crrmon":1,"event":' * 7 + stored("cloudtrail_put_object") + "}" * 7

    assert decode(body) == Decoded((written(),))


def test_a_message_of_a_megabyte_is_read():
    """The largest message that SQS carries is read like any other."""
    body = changed(userAgent="x" * 2**20)

    assert decode(body) == Decoded((written(),))


@pytest.mark.parametrize(
    "body",
    [
        changed(eventTime="TOP-SECRET"),
        changed(
            requestParameters={"bucketName": "TOP-SECRET-s3alias", "key": "TOP-SECRET"},
            resources=[],
        ),
        changed(requestParameters={"key": "TOP-SECRET"}, resources=[]),
        changed(requestParameters={"bucketName": "TOP-SECRET"}, resources=[]),
        changed(requestParameters="TOP-SECRET"),
        '{"Type": "TOP-SECRET"}',
        '{"TOP-SECRET": 1}',
        '{"Event": "TOP-SECRET"}',
        '{"Records": [{"eventSource": "TOP-SECRET"}]}',
        '{"Type": "Notification", "Message": "TOP-SECRET"}',
        b"TOP-SECRET\xff",
    ],
)
def test_errors_do_not_quote_the_message(body):
    """What is wrong goes to logs; what the message holds does not, as it may be anything."""
    with pytest.raises(MalformedMessageError) as caught:
        decode(body)

    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in str(caught.value.__cause__)
