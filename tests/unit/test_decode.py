"""Messages as they come from AWS, one file of `tests/data` per shape, and what is read out of them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import (
    Channel,
    Decoded,
    MalformedMessageError,
    MarkerCreated,
    ObjectWritten,
    Operation,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    TargetOffline,
    Threshold,
    ThresholdPassed,
    VersionDeleted,
)
from crrmon.domain.objects import (
    LARGEST_BYTES,
    UNKNOWN_DESTINATION,
    ObjectVersion,
    plausible_size,
    provisional,
)
from crrmon.domain.stores import StoreKind, store_of
from fakes import events

DATA = Path(__file__).parent.parent / "data"

SOURCE = "acme-ledger-src"
DESTINATION = "acme-ledger-dst"
KEY = "2026/03/invoice 17.pdf"
VERSION = "Zk3.exampleVersionId"
MARKER = "Mk1.exampleMarkerId"
OWNER = "210987654321"
WRITTEN_AT = 1772600767.0  # 2026-03-04T05:06:07Z
REPLICATED_AT = 1772600781.0
CREATED_AT = 1772600768.0
NOTIFIED_AT = 1772600768.412
ARRIVED_AT = 1772600781.731
ARCHIVE = "2026/03/archive.tar"
SITE = "00000000-0000-4000-8000-0000000000d1"
"""The deployment of MinIO's records."""
MINIO = ObjectVersion(SOURCE, KEY, "b8f9a3c2-0000-4000-8000-00000000c0de")


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


def deleted(**changes: Any) -> VersionDeleted:
    """Say what cloudtrail_delete_object_version.json says, but for some fields."""
    plain: dict[str, Any] = {
        "version": ObjectVersion(SOURCE, KEY, VERSION),
        "region": "eu-west-1",
        "deleted_at": WRITTEN_AT,
        "owner": OWNER,
    }
    return VersionDeleted(**plain | changes)


def marker(**changes: Any) -> MarkerCreated:
    """Say what cloudtrail_delete_object_marker.json says, but for some fields."""
    plain: dict[str, Any] = {
        "version": ObjectVersion(SOURCE, KEY, MARKER),
        "region": "eu-west-1",
        "created_at": WRITTEN_AT,
        "owner": OWNER,
    }
    return MarkerCreated(**plain | changes)


def native(**changes: Any) -> ObjectWritten:
    """Say what eventbridge_object_created.json says, but for some fields."""
    return written(**{"written_at": CREATED_AT, "channel": Channel.EVENTBRIDGE} | changes)


def notified(**changes: Any) -> ObjectWritten:
    """Say what s3_notification.json says, but for some fields."""
    return written(
        **{"written_at": NOTIFIED_AT, "channel": Channel.NOTIFICATION, "owner": None} | changes
    )


def arrived(**changes: Any) -> ReplicaWritten:
    """Say what s3_notification_replica.json says, but for some fields."""
    return replica(**{"written_at": ARRIVED_AT, "owner": None} | changes)


def minio(**changes: Any) -> ObjectWritten:
    """Say what minio_put.json says, but for some fields."""
    told = {
        "version": MINIO,
        "region": "",
        "channel": Channel.EVENTBRIDGE,
        "owner": SITE,
        "store": StoreKind.MINIO,
    }
    return notified(**told | changes)


def failed(**changes: Any) -> ReplicationFailed:
    """Say what s3_replication_notice.json says, but for some fields."""
    plain: dict[str, Any] = {
        "version": ObjectVersion(SOURCE, KEY, VERSION),
        "destination": DESTINATION,
        "reason": "DstKmsKeyNotFound",
        "rule": "ledger-to-fra",
        "operation": "OBJECT_PUT",
        "region": "eu-west-1",
        "noticed_at": NOTIFIED_AT,
        "written_at": WRITTEN_AT + 0.412,
        "size": 48213,
    }
    return ReplicationFailed(**plain | changes)


def passed(threshold: Threshold) -> ThresholdPassed:
    """Say what the notices about the threshold say."""
    return ThresholdPassed(
        version=ObjectVersion(SOURCE, KEY, VERSION),
        destination=DESTINATION,
        threshold=threshold,
        rule="ledger-to-fra",
        region="eu-west-1",
        noticed_at=NOTIFIED_AT,
    )


NOTHING = {
    "destination": UNKNOWN_DESTINATION,
    "reason": "",
    "rule": "",
    "operation": "",
    "written_at": None,
}
"""What a notice says that says nothing about the replication."""


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


def changed_record(name: str = "s3_notification", **record: Any) -> str:
    """Read a message of `tests/data` and set fields of its first record."""
    message = json.loads(stored(name))
    message["Records"][0] |= record
    return json.dumps(message)


def changed_object(name: str = "s3_notification", **about: Any) -> str:
    """Read a message of `tests/data` and set fields of the object of its first record."""
    message = json.loads(stored(name))
    message["Records"][0]["s3"]["object"] |= about
    return json.dumps(message)


def changed_notice(**about: Any) -> str:
    """Read S3's failure notice and set what it says about the replication."""
    message = json.loads(stored("s3_replication_notice"))
    message["Records"][0]["replicationEventData"] |= about
    return json.dumps(message)


def changed_event(name: str = "eventbridge_object_created", **detail: Any) -> str:
    """Read S3's own event and set fields of its detail."""
    event = json.loads(stored(name))
    event["detail"] |= detail
    return json.dumps(event)


def changed_envelope(name: str = "eventbridge_object_created", **envelope: Any) -> str:
    """Read an event of EventBridge and set fields around its detail."""
    return json.dumps(json.loads(stored(name)) | envelope)


ETAG = "0123456789abcdef0123456789abcdef"

COPIED = written(operation=Operation.COPY, size=None)
UPLOADED = written(
    version=ObjectVersion(SOURCE, ARCHIVE, VERSION), operation=Operation.MULTIPART, size=None
)

FACTS = {
    "cloudtrail_put_object": written(),
    "cloudtrail_post_object": written(size=None),
    "cloudtrail_copy_object": COPIED,
    "cloudtrail_complete_multipart_upload": UPLOADED,
    "cloudtrail_put_object_without_version": written(
        version=provisional(SOURCE, KEY, WRITTEN_AT), size=2143
    ),
    "cloudtrail_put_object_access_point_alias": written(),
    "cloudtrail_put_object_access_point_arn": written(),
    "cloudtrail_put_object_china": written(region="cn-north-1"),
    "cloudtrail_put_object_newer_minor_version": written(),
    "cloudtrail_put_object_null_parameters": written(),
    "cloudtrail_replica_put_object": replica(),
    "cloudtrail_replica_complete_multipart_upload": replica(
        version=ObjectVersion(DESTINATION, ARCHIVE, VERSION), size=None
    ),
    "cloudtrail_delete_object_version": deleted(),
    "cloudtrail_delete_object_marker": marker(),
    "cloudtrail_replica_delete_object": marker(
        version=ObjectVersion(DESTINATION, KEY, MARKER),
        region="eu-central-1",
        created_at=REPLICATED_AT,
        owner="987654321098",
        by_replication=True,
    ),
    "cloudtrail_delete_object_of_batch": deleted(owner=None),
    "cloudtrail_delete_object_of_batch_resources_only": marker(
        version=provisional(SOURCE, KEY, WRITTEN_AT)
    ),
    "cloudtrail_initiate_replication": ReplicationRestarted(
        version=ObjectVersion(SOURCE, KEY, VERSION),
        region="eu-west-1",
        restarted_at=WRITTEN_AT,
        owner=OWNER,
    ),
    "sns_notification": written(),
    "lambda_sns": written(),
    "bare_record": written(),
    "input_transformer": written(),
    "eventbridge_object_created": native(),
    "eventbridge_object_created_post": native(),
    "eventbridge_object_created_copy": native(operation=Operation.COPY),
    "eventbridge_object_created_multipart": native(
        version=ObjectVersion(SOURCE, ARCHIVE, VERSION),
        operation=Operation.MULTIPART,
        size=73400320,
    ),
    "eventbridge_object_created_other_account": native(),
    "eventbridge_object_created_without_version": native(
        version=provisional(SOURCE, KEY, CREATED_AT), etag=ETAG
    ),
    "eventbridge_object_deleted": deleted(deleted_at=CREATED_AT),
    "eventbridge_lifecycle_deleted": deleted(deleted_at=CREATED_AT),
    "eventbridge_delete_marker": marker(created_at=CREATED_AT, channel=Channel.EVENTBRIDGE),
    "s3_notification": notified(),
    "s3_notification_sns": notified(),
    "s3_notification_bare": notified(),
    "s3_notification_post": notified(),
    "s3_notification_copy": notified(operation=Operation.COPY),
    "s3_notification_multipart": notified(
        version=ObjectVersion(SOURCE, ARCHIVE, VERSION),
        operation=Operation.MULTIPART,
        size=73400320,
    ),
    "s3_notification_encoded_key": notified(
        version=ObjectVersion(SOURCE, "2026/03/caf\u00e9 +% \U0001f600.pdf", VERSION)
    ),
    "s3_notification_without_version": notified(
        version=provisional(SOURCE, KEY, NOTIFIED_AT), etag=ETAG
    ),
    "s3_notification_replica": arrived(),
    "s3_notification_replica_multipart": arrived(
        version=ObjectVersion(DESTINATION, ARCHIVE, VERSION), size=73400320
    ),
    "s3_notification_deleted": deleted(deleted_at=NOTIFIED_AT, owner=None),
    "s3_notification_lifecycle_deleted": deleted(deleted_at=NOTIFIED_AT, owner=None),
    "s3_notification_delete_marker": marker(
        created_at=NOTIFIED_AT, owner=None, channel=Channel.NOTIFICATION
    ),
    "s3_notification_replica_delete_marker": marker(
        version=ObjectVersion(DESTINATION, KEY, MARKER),
        region="eu-central-1",
        created_at=ARRIVED_AT,
        owner=None,
        channel=Channel.NOTIFICATION,
        by_replication=True,
    ),
    "s3_replication_notice": failed(),
    "s3_replication_notice_china": failed(region="cn-north-1"),
    "s3_replication_notice_without_data": failed(**NOTHING),
    "s3_replication_missed_threshold": passed(Threshold.MISSED),
    "s3_replication_after_threshold": passed(Threshold.REPLICATED_AFTER),
    "s3_replication_not_tracked": passed(Threshold.NOT_TRACKED),
    "s3_replication_notice_without_version": failed(
        version=provisional(SOURCE, KEY, WRITTEN_AT + 0.412)
    ),
    "minio_not_tracked_without_version": TargetOffline(
        version=provisional(SOURCE, KEY, NOTIFIED_AT), region="", noticed_at=NOTIFIED_AT
    ),
    "minio_put": minio(),
    "minio_deleted": deleted(version=MINIO, region="", deleted_at=NOTIFIED_AT, owner=SITE),
    "minio_delete_marker": marker(
        version=ObjectVersion(SOURCE, KEY, "00000000-0000-4000-8000-00000000dead"),
        region="",
        created_at=NOTIFIED_AT,
        owner=SITE,
        channel=Channel.NOTIFICATION,
    ),
    "minio_replication_failed": failed(
        version=MINIO, region="", owner=SITE, store=StoreKind.MINIO, **NOTHING
    ),
    "ceph_put": minio(
        region="zonegroup1", written_at=1772600768.412724, owner=None, store=StoreKind.CEPH
    ),
}

IRRELEVANT = {
    "cloudtrail_insight": "insight",
    "cloudtrail_network_activity_denied_delete_object": "network_activity",
    "cloudtrail_network_activity_put_object": "network_activity",
    "cloudtrail_delete_objects": "delete_objects",
    "cloudtrail_failed_put_object": "failed_call",
    "cloudtrail_failed_replica_put_object": "failed_replica_write",
    "cloudtrail_initiate_replication_without_version": "restart_without_version",
    "cloudtrail_other_service": "other_event",
    "cloudtrail_put_object_tagging": "other_call",
    "cloudtrail_replica_without_version": "replica_without_version",
    "eventbridge_lifecycle_marker": "lifecycle_marker",
    "eventbridge_object_deleted_without_version": "deleted_without_version",
    "eventbridge_object_tags_added": "other_s3_event",
    "eventbridge_other_source": "other_event",
    "minio_put_retention": "other_notification",
    "minio_replication_completed": "other_notification",
    "s3_notification_deleted_without_version": "deleted_without_version",
    "s3_notification_lifecycle_marker": "lifecycle_marker",
    "s3_notification_replica_without_version": "replica_without_version",
    "s3_notification_tagging": "other_notification",
    "s3_test_event": "s3_test_event",
    "sns_subscription_confirmation": "sns_subscription",
    "sns_unsubscribe_confirmation": "sns_subscription",
}

MIXED = {"lambda_sqs": Decoded((written(), deleted()), ("other_call",))}

UNREADABLE = {
    "cloudtrail_object_arn_without_key": r"message\.detail: no key",
    "cloudtrail_put_object_null_parameters_null_resources": r"message\.detail: no bucket",
    "s3_replication_notice_without_version_and_time": r"message\.Records\[0\]: .*requestTime",
    "s3_notification_key_not_utf8": r"message\.Records\[0\]\.s3\.object\.key: not UTF-8",
}


def test_every_file_has_its_row():
    """No message of `tests/data` lies there without a row that says what is read out of it."""
    rows = [*FACTS, *IRRELEVANT, *MIXED, *UNREADABLE]

    assert sorted(rows) == sorted(path.stem for path in DATA.glob("*.json"))


@pytest.mark.parametrize(("name", "fact"), FACTS.items(), ids=FACTS)
def test_reads_the_fact(name, fact):
    """A message that tells of one thing that happened gives that fact, and nothing else."""
    assert decode(stored(name)) == Decoded((fact,))


@pytest.mark.parametrize(("name", "kind"), IRRELEVANT.items(), ids=IRRELEVANT)
def test_names_what_is_irrelevant(name, kind):
    """A message that concerns nobody here gives one word for what it is, so it can be counted and acknowledged."""
    assert decode(stored(name)) == Decoded((), (kind,))


@pytest.mark.parametrize(("name", "expected"), MIXED.items(), ids=MIXED)
def test_reads_all_of_a_batch(name, expected):
    """Of several records in one message nothing is lost, and their order is kept."""
    assert decode(stored(name)) == expected


@pytest.mark.parametrize(("name", "reason"), UNREADABLE.items(), ids=UNREADABLE)
def test_says_why_a_message_is_unreadable(name, reason):
    """A message that names no object is left for the dead-letter queue, with a reason."""
    with pytest.raises(MalformedMessageError, match=f"^{reason}"):
        decode(stored(name))


@pytest.mark.parametrize("name", ["cloudtrail_put_object", "sns_notification", "lambda_sqs"])
def test_text_and_bytes_are_the_same(name):
    """It does not matter whether the body comes as text or as bytes."""
    assert decode(stored(name).encode()) == decode(stored(name))


# The predecessor's defects.


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("cloudtrail_copy_object", COPIED),
        ("cloudtrail_complete_multipart_upload", UPLOADED),
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

    assert decode(body) == Decoded((marker(version=provisional(SOURCE, KEY, WRITTEN_AT)),))


def test_request_parameters_win_over_service_event_details():
    """What the request says is better known than what the undocumented details of service events say."""
    asked = {"bucketName": "acme-asked", "key": "asked", "versionId": "asked"}
    body = changed("cloudtrail_delete_object_of_batch", requestParameters=asked)

    assert decode(body) == Decoded(
        (deleted(version=ObjectVersion("acme-asked", "asked", "asked"), owner=None),)
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


@pytest.mark.parametrize(
    "event",
    [
        *("PutObjectAcl", "UploadPart", "RestoreObject", "UpdateObjectEncryption", "RenameObject"),
        *("GetObjectAttributes", "HeadObject", "ListObjectVersions", "PutBucketReplication"),
    ],
)
def test_other_calls_are_one_kind(event):
    """Names of calls never become kinds: there is no end to them."""
    body = changed(eventName=event, readOnly=None)

    assert decode(body) == Decoded((), ("other_call",))


@pytest.mark.parametrize("event", ["PutManyObjects", "Secret", "", "putobject"])
def test_t13_a_call_that_nobody_told_us_of_is_refused_unless_it_only_reads(event):
    """T13: what may write and is not known is malformed, for acknowledging it might lose a write; a reading call is not."""
    with pytest.raises(MalformedMessageError, match=r"^message\.detail\.eventName: "):
        decode(changed(eventName=event))
    with pytest.raises(MalformedMessageError, match=r"^message\.detail\.eventName: "):
        decode(changed(eventName=event, readOnly=None))
    assert decode(changed(eventName=event, readOnly=True)) == Decoded((), ("other_call",))


@pytest.mark.parametrize("event", ["PutObject", "CompleteMultipartUpload", "DeleteObject"])
@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"eventCategory": "NetworkActivity", "eventType": "AwsVpceEvent"}, "network_activity"),
        ({"eventCategory": "NetworkActivity"}, "network_activity"),
        ({"eventCategory": None, "eventType": "AwsVpceEvent"}, "network_activity"),
        ({"eventCategory": "Insight", "eventType": "AwsCloudTrailInsight"}, "insight"),
        ({"eventCategory": "Management"}, "other_call"),
    ],
)
def test_t13_category_and_type_decide_whether_a_record_tells_of_a_call(event, record, kind):
    """T13: what only passed a VPC endpoint, or is unusually frequent, is no write and no marker, whatever its name."""
    assert decode(changed(eventName=event, **record)) == Decoded((), (kind,))


@pytest.mark.parametrize(
    "record",
    [
        {"eventCategory": "Data", "eventType": "AwsServiceEvent"},
        {"eventCategory": None, "eventType": None},
        {"eventCategory": "", "eventType": ""},
    ],
    ids=["service", "null", "empty"],
)
def test_t13_calls_by_services_and_old_records_are_read(record):
    """T13: S3's own calls are calls, and so is what was written down before there were categories."""
    assert decode(changed(**record)) == Decoded((written(),))


@pytest.mark.parametrize(
    "record", [{"eventCategory": "Surprise"}, {"eventType": "AwsSurprise"}, {"eventCategory": 7}]
)
def test_t13_records_of_unknown_categories_and_types_are_refused(record):
    """T13: nobody knows whether they tell of a write, so they are neither followed nor acknowledged."""
    with pytest.raises(MalformedMessageError, match=r"^message\.detail: "):
        decode(changed(**record))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3.amazonaws.com", Decoded((written(),))),
        ("s3.amazonaws.eu", Decoded((written(),))),
        ("s3express.amazonaws.com", Decoded((), ("other_event",))),
        ("s3-outposts.amazonaws.com", Decoded((), ("other_event",))),
        ("s3", None),
        ("", None),
        ("acme", None),
    ],
)
def test_t13_the_service_is_the_first_label_of_the_source(source, expected):
    """T13: S3 is S3 in every partition, another service is another service, and what is none is refused."""
    if expected is not None:
        assert decode(changed(eventSource=source)) == expected
        return
    with pytest.raises(MalformedMessageError, match=r"^message\.detail.*eventSource"):
        decode(changed(eventSource=source))


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


@pytest.mark.parametrize("source", ["acme.forwarder", "awss3", "", "AWS.S3"])
def test_t13_events_of_strangers_are_refused(source):
    """T13: only AWS's own other services are known to tell of no write; who sends events on may have S3's in them."""
    event = json.loads(stored("eventbridge_other_source")) | {"source": source}

    with pytest.raises(MalformedMessageError, match=r"^message\.source: "):
        decode(json.dumps(event))


# S3's own events.


@pytest.mark.parametrize("reason", ["PutObject", "POST Object", "Surprise", "", None])
def test_writes_for_unknown_reasons_are_puts(reason):
    """A reason that nobody told us of makes an object all the same."""
    assert decode(changed_event(reason=reason)) == Decoded((native(),))


@pytest.mark.parametrize(
    ("account", "owner"),
    [(OWNER, OWNER), ("12345678901", None), ("anonymous", None), ("", None), (None, None)],
)
def test_the_owner_is_the_account_of_the_envelope(account, owner):
    """S3's own events are those of the bucket's owner, whoever wrote."""
    assert decode(changed_envelope(account=account)) == Decoded((native(owner=owner),))


def test_events_without_region_have_none():
    """The bucket's region is found out otherwise then."""
    assert decode(changed_envelope(region=None)) == Decoded((native(region=""),))


@pytest.mark.parametrize("time", [None, "", "yesterday", "2026-03-04T05:06:08", 1772600768])
def test_events_without_time_are_malformed(time):
    """A time that is none, or of no known zone, is not guessed at."""
    with pytest.raises(MalformedMessageError, match=r"^message\.detail: .*time"):
        decode(changed_envelope(time=time))


def test_keys_of_events_are_as_they_are():
    """S3's own events do not encode keys, so nothing is decoded."""
    about = {"key": "a+b%20c%2F%zz", "version-id": VERSION, "size": 48213}

    (fact,) = decode(changed_event(object=about)).facts

    assert fact == native(version=ObjectVersion(SOURCE, "a+b%20c%2F%zz", VERSION))


@pytest.mark.parametrize(
    "detail_type",
    [
        *("Object ACL Updated", "Async Copy Completion", "Object Tags Deleted"),
        *("Object Restore Expired", "Object Storage Class Changed", "Object Access Tier Changed"),
    ],
)
def test_other_events_are_one_kind(detail_type):
    """Whatever else S3 tells of its objects is no write, even if it looks like one."""
    body = changed_envelope(**{"detail-type": detail_type})

    assert decode(body) == Decoded((), ("other_s3_event",))


@pytest.mark.parametrize("detail_type", ["object created", "Object Surprise", "", None])
def test_t13_events_that_nobody_told_us_of_are_refused(detail_type):
    """T13: it may be a write under a new name, or under a name that somebody changed on the way."""
    with pytest.raises(MalformedMessageError, match=r"^message\.detail: .*detail-type"):
        decode(changed_envelope(**{"detail-type": detail_type}))


@pytest.mark.parametrize("kind", ["Surprise", "", None])
def test_t13_deletions_of_unknown_type_are_refused(kind):
    """T13: nobody knows whether the version is gone or a marker was laid, which is counted."""
    body = changed_event("eventbridge_object_deleted", **{"deletion-type": kind})

    with pytest.raises(MalformedMessageError, match=r"^message\.detail\.deletion-type: "):
        decode(body)


# S3's notifications.


@pytest.mark.parametrize(
    "name",
    [
        "s3_notification",
        "s3_notification_copy",
        "s3_replication_notice",
        "s3_notification_deleted",
    ],
)
def test_names_of_events_may_have_a_prefix(name):
    """Some stores write `s3:` before the name of the event, as S3 does in its settings."""
    told = json.loads(stored(name))["Records"][0]["eventName"]

    assert decode(changed_record(name, eventName=f"s3:{told}")) == decode(stored(name))


@pytest.mark.parametrize(
    ("told", "key"),
    [
        ("plain", "plain"),
        ("a+b", "a b"),
        ("a%20b%2Bc", "a b+c"),
        ("2026%2F03%2Fx", "2026/03/x"),
        ("2026/03/x", "2026/03/x"),
        ("caf%C3%A9", "caf\u00e9"),
        ("caf\u00e9+%C3%A9", "caf\u00e9 \u00e9"),
        ("%F0%9F%98%80", "\U0001f600"),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("+", " "),
        ("%0A%00", "\n\0"),
    ],
)
def test_keys_of_notifications_are_decoded_once(told, key):
    """Keys come as fields of forms do, and are decoded exactly once; what is no code stays as it is."""
    assert decode(changed_object(key=told)).facts == (
        notified(version=ObjectVersion(SOURCE, key, VERSION)),
    )


@pytest.mark.parametrize("told", ["%FF", "caf%E9", "%ED%A0%80", "%C3", "%C0%AF"])
def test_keys_that_are_not_utf8_are_malformed(told):
    """S3 has no keys that are not UTF-8: no object could be found by one."""
    with pytest.raises(MalformedMessageError, match=r"^message\.Records\[0\]\.s3\.object\.key: "):
        decode(changed_object(key=told))


def test_names_of_buckets_are_not_decoded():
    """A percent sign is part of no bucket's name."""
    message = json.loads(stored("s3_notification"))
    message["Records"][0]["s3"]["bucket"]["name"] = "acme%2Dsrc"

    with pytest.raises(MalformedMessageError, match="bucket"):
        decode(json.dumps(message))


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("null", ObjectVersion(SOURCE, KEY, "null")),
        ("", provisional(SOURCE, KEY, NOTIFIED_AT)),
        (None, provisional(SOURCE, KEY, NOTIFIED_AT)),
    ],
)
def test_version_ids_of_notifications_are_exact(told, version):
    """The id `null` is an id like any other; none at all gives a stand-in."""
    etag = "" if version.identified else ETAG
    assert decode(changed_object(versionId=told)).facts == (notified(version=version, etag=etag),)


@pytest.mark.parametrize("region", ["", None])
def test_notifications_without_region_have_none(region):
    """Stores that are not Amazon's leave it empty."""
    assert decode(changed_record(awsRegion=region)) == Decoded((notified(region=""),))


@pytest.mark.parametrize(
    ("source", "identity", "channel"),
    [
        ("aws:s3", {"principalId": "AWS:AIDAEXAMPLE"}, Channel.NOTIFICATION),
        ("aws:s3", {"principalId": "EXAMPLE:not-s3-replication"}, Channel.NOTIFICATION),
        ("aws:s3", {"principalId": ""}, Channel.EVENTBRIDGE),
        ("aws:s3", {}, Channel.EVENTBRIDGE),
        ("aws:s3", None, Channel.EVENTBRIDGE),
        ("minio:s3", {"principalId": "ingest"}, Channel.EVENTBRIDGE),
        ("ceph:s3", {"principalId": "ingest"}, Channel.EVENTBRIDGE),
    ],
)
def test_only_amazon_tells_replicas_apart(source, identity, channel):
    """A store that has no name for its replication might have written the object itself, so a HEAD must decide."""
    body = changed_record(eventSource=source, userIdentity=identity)

    assert decode(body) == Decoded((notified(channel=channel, store=store_of(source)),))


@pytest.mark.parametrize(
    "kind",
    [
        *("ObjectCreated:PutTagging", "ObjectCreated:PutLegalHold", "s3:ObjectRemoved:NoOP"),
        *("ObjectRestore:Post", "ReducedRedundancyLostObject", "ObjectAnnotation:Put"),
        *("ObjectAccessed:Get", "BucketCreated:*", "LifecycleTransition", "IntelligentTiering"),
        *("ObjectRetention:Put", "ObjectTagging:Surprise", "s3:Scanner:ManyVersions"),
    ],
)
def test_other_notifications_are_one_kind(kind):
    """Names of events never become kinds, and what is no write is not looked into."""
    body = changed_record(eventName=kind, s3=None, eventTime=None)

    assert decode(body) == Decoded((), ("other_notification",))


@pytest.mark.parametrize(
    "kind", [*("", None, "s3:", "Surprise:Put", "ObjectRemoved:Surprise"), "Replication:Surprise"]
)
@pytest.mark.parametrize("bare", [False, True])
def test_t13_notifications_that_nobody_told_us_of_are_refused(kind, *, bare):
    """T13: without a name, or with one that may tell of a deletion, a failure or anything, it is not acknowledged."""
    body = changed_record(eventName=kind)
    if bare:
        body = json.dumps(json.loads(body)["Records"][0])

    with pytest.raises(MalformedMessageError, match=r"^message.*eventName|^message: .*envelopes"):
        decode(body)


def test_t13_a_record_without_a_name_is_refused():
    """T13: nobody knows what it tells of."""
    message = json.loads(stored("s3_notification"))
    del message["Records"][0]["eventName"]

    with pytest.raises(MalformedMessageError, match=r"^message\.Records\[0\]: .*eventName"):
        decode(json.dumps(message))


def test_t13_objects_that_were_created_somehow_are_followed():
    """T13: by S3's word ObjectCreated is a new object, whatever the call; other stores call changes of tags so, too."""
    body = changed_record(eventName="ObjectCreated:Surprise")

    assert decode(body) == Decoded((notified(),))
    with pytest.raises(MalformedMessageError, match=r"^message\.Records\[0\]\.eventName: "):
        decode(changed_record("minio_put", eventName="s3:ObjectCreated:Surprise"))


def test_t13_a_record_of_s3_is_read_wherever_it_lies():
    """T13: outside of any list, in EventBridge, in SNS: the same record says the same."""
    record = json.loads(stored("s3_notification_bare"))
    sent_on = {"source": "aws.s3", "detail-type": "S3", "detail": record}
    told = {"Type": "Notification", "Message": json.dumps(record)}

    for message in (record, sent_on, told):
        assert decode(json.dumps(message)) == Decoded((notified(),))


def test_t13_failures_of_delete_markers_count_without_a_version_id():
    """T13: a marker is never looked at, so a notice of its failure counts under any name; the same notice, the same one."""
    message = json.loads(stored("s3_replication_notice_without_version_and_time"))
    message["Records"][0]["replicationEventData"]["s3Operation"] = "DELETE_MARKER"

    (fact,) = decode(json.dumps(message)).facts

    assert fact.version == provisional(SOURCE, KEY, NOTIFIED_AT)
    assert fact.of_delete_marker


@pytest.mark.parametrize(
    ("told", "size"),
    [
        *((0, 0), (48213.0, 48213), ("48213", None), (None, None), (-1, None)),
        *((LARGEST_BYTES, LARGEST_BYTES), (LARGEST_BYTES - 1, LARGEST_BYTES - 1)),
        *((LARGEST_BYTES + 1, None), (2**53, None), (2**60, None), (10**40, None), (1e300, None)),
    ],
)
@pytest.mark.parametrize("shape", ["event", "notification"])
def test_sizes_of_s3_are_numbers_or_unknown(shape, told, size):
    """A size that is no sensible number is unknown; the write is not lost for it."""
    about = {"key": KEY, "version-id": VERSION, "size": told}
    body = changed_event(object=about) if shape == "event" else changed_object(size=told)

    assert decode(body).facts[0].size == size


@pytest.mark.parametrize(
    "body",
    [
        changed_record(s3={}),
        changed_record(s3=None),
        changed_record(eventTime="2026-03-04T05:06:08"),
        changed_record(eventTime=None),
        changed_object(key=""),
        changed_object(key=None),
        changed_event(bucket={}),
        changed_event(bucket={"name": "no bucket"}),
        changed_event(bucket={"name": f"{SOURCE}\n"}),
        changed_event(object={"key": ""}),
        changed_event(object=None),
    ],
)
def test_writes_that_name_no_object_are_malformed(body):
    """Bucket, key and time are what a write is made of."""
    with pytest.raises(MalformedMessageError, match=r"^message\."):
        decode(body)


# The sites of stores.


def test_m6_an_event_names_its_site():
    """M6: where buckets of one name are at several sites, MinIO's own event tells at which it happened."""
    body = (DATA / "minio" / "event_put_same_bucket_name_site_19000.json").read_text()

    (fact,) = decode(body).facts

    assert isinstance(fact, ObjectWritten)
    assert fact.owner == "35184ec2-4345-4928-847a-363729e46e5b"


@pytest.mark.parametrize(
    ("source", "response"),
    [
        ("aws:s3", {"x-minio-deployment-id": SITE}),
        ("minio:s3", {}),
        ("minio:s3", None),
        ("minio:s3", "told"),
        ("minio:s3", {"x-minio-deployment-id": ""}),
        ("minio:s3", {"x-minio-deployment-id": 7}),
        ("minio:s3", {"x-minio-deployment-id": "210987654321"}),
        ("minio:s3", {"x-minio-deployment-id": "a site\n"}),
        ("minio:s3", {"x-minio-deployment-id": "x" * 129}),
    ],
)
def test_m6_what_is_no_site_names_none(source, response):
    """A site is what an id of one can be, and nothing that could be taken for an account of AWS."""
    (fact,) = decode(
        changed_record("minio_put", eventSource=source, responseElements=response)
    ).facts

    assert isinstance(fact, ObjectWritten)
    assert fact.owner is None


# S3's notices.


@pytest.mark.parametrize(
    ("told", "destination"),
    [
        ("arn:aws:s3:::acme-ledger-dst", DESTINATION),
        ("arn:aws-us-gov:s3:::acme-ledger-dst", DESTINATION),
        ("acme-ledger-dst", DESTINATION),
        ("arn:aws:s3:::", UNKNOWN_DESTINATION),
        ("arn:aws:s3:::acme-ledger-dst/key", UNKNOWN_DESTINATION),
        ("arn:minio:replication::00000000:acme-ledger-dst", DESTINATION),
        ("arn:minio:replication::00000000:", UNKNOWN_DESTINATION),
        ("", UNKNOWN_DESTINATION),
        (None, UNKNOWN_DESTINATION),
        (17, UNKNOWN_DESTINATION),
        ({}, UNKNOWN_DESTINATION),
    ],
)
def test_m1_destinations_are_arns_of_any_partition_and_store(told, destination):
    """A destination that is not understood is unknown; the failure is not lost for it."""
    body = changed_notice(destinationBucket=told)

    assert decode(body) == Decoded((failed(destination=destination),))


@pytest.mark.parametrize("told", ["yesterday", "", "2026-03-04T05:06:07", 1772600767, None, []])
def test_request_times_that_cannot_be_read_are_unknown(told):
    """When the write was is asked of S3 then."""
    assert decode(changed_notice(requestTime=told)) == Decoded((failed(written_at=None),))


@pytest.mark.parametrize("told", [None, 17, {}, [], True])
def test_texts_of_notices_may_be_anything(told):
    """What is no text says nothing."""
    body = changed_notice(failureReason=told, replicationRuleId=told, s3Operation=told)

    assert decode(body) == Decoded((failed(reason="", rule="", operation=""),))


@pytest.mark.parametrize("told", [None, 17, "text", [], {}])
def test_notices_may_say_nothing_about_the_replication(told):
    """The version is known from the rest of the notice."""
    body = changed_record("s3_replication_notice", replicationEventData=told)

    assert decode(body) == Decoded((failed(**NOTHING),))


def test_unknown_reasons_pass_through_but_not_without_end():
    """A code that nobody told us of is kept; one that is as long as a book is cut."""
    assert decode(changed_notice(failureReason="Surprise")).facts == (failed(reason="Surprise"),)
    assert decode(changed_notice(failureReason="x" * 9999)).facts == (failed(reason="x" * 255),)


@pytest.mark.parametrize("told", [-1, LARGEST_BYTES + 1, 2**53 - 1, 2**63])
def test_t11_a_size_that_no_object_has_is_unknown(told):
    """T11: beyond S3's own limit, or below nothing, it is nobody's; sums of what is left fit into 64 bits."""
    assert 50e12 < LARGEST_BYTES < 2**46
    assert plausible_size(told) is None
    assert decode(changed_object(size=told)).facts[0].size is None
    assert decode(changed(additionalEventData={"bytesTransferredIn": told})).facts[0].size is None
    assert plausible_size(LARGEST_BYTES) == LARGEST_BYTES
    assert plausible_size(0) == 0


# Batch Replication.


@pytest.mark.parametrize(
    "record",
    [
        {"requestParameters": {"bucketName": SOURCE, "key": KEY, "x-amz-version-id": VERSION}},
        {
            "requestParameters": {"bucketName": SOURCE, "key": KEY},
            "responseElements": {"x-amz-version-id": VERSION},
        },
        {
            "requestParameters": None,
            "serviceEventDetails": {"bucketName": SOURCE, "key": KEY, "versionId": VERSION},
        },
    ],
    ids=["request", "answer", "details"],
)
def test_restarts_may_name_their_version_anywhere(record):
    """Where the call names its version is not documented, so every likely place is looked at."""
    body = changed("cloudtrail_initiate_replication", **record)

    assert decode(body) == decode(stored("cloudtrail_initiate_replication"))


def test_d2_failed_restarts_change_nothing():
    """D2: a restart that was denied left the version as it was."""
    body = changed("cloudtrail_initiate_replication", errorCode="AccessDenied")

    assert decode(body) == Decoded((), ("failed_call",))


def test_the_builders_of_messages_say_what_they_are_named():
    """What the other tests put into queues is read as what it stands for."""
    at = 1772600767.25
    bodies = [
        events.written(KEY, at=at),
        events.replica_cloudtrail(KEY, at=at),
        events.deleted(KEY, at=at),
        events.marker(KEY, at=at),
        events.restarted(KEY, at=at),
        events.native_created(KEY, at=at),
        events.native_deleted(KEY, at=at),
        events.native_deleted(KEY, at=at, marker=True),
        events.notification(KEY, at=at),
        events.replica_notification(KEY, at=at),
        events.notice(KEY, at=at),
        events.notice(KEY, at=at, kind="OperationMissedThreshold"),
    ]
    facts = [fact for body in bodies for fact in decode(body).facts]

    assert [type(fact).__name__ for fact in facts] == [
        *("ObjectWritten", "ReplicaWritten", "VersionDeleted", "MarkerCreated"),
        *("ReplicationRestarted", "ObjectWritten", "VersionDeleted", "MarkerCreated"),
        *("ObjectWritten", "ReplicaWritten", "ReplicationFailed", "ThresholdPassed"),
    ]
    assert {fact.version.key for fact in facts} == {KEY}
    assert [getattr(fact, "written_at", 0.0) % 1 for fact in facts[:2]] == [0.0, 0.0]
    assert [fact.written_at for fact in facts[8:10]] == [at, at]


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
        changed_object(key="TOP-SECRET%FF"),
        changed_object(key=["TOP-SECRET"]),
        changed_record(eventTime="TOP-SECRET"),
        changed_envelope(time="TOP-SECRET"),
        changed_event(bucket={"name": "TOP SECRET"}),
    ],
)
def test_errors_do_not_quote_the_message(body):
    """What is wrong goes to logs; what the message holds does not, as it may be anything."""
    with pytest.raises(MalformedMessageError) as caught:
        decode(body)

    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in str(caught.value.__cause__)
