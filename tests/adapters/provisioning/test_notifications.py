"""Buckets' notification configurations: ours goes in and comes out, and everybody else's stays."""

import itertools
from typing import Any

import pytest

from crrmon.adapters.provisioning.clients import Clients
from crrmon.adapters.provisioning.notifications import AwsNotificationStore
from crrmon.domain.deployment.notifications import Entry, queue_entry
from crrmon.ports.notification_store import (
    BucketAddress,
    InvalidDestinationError,
    MissingBucketError,
    NotificationStoreError,
)
from crrmon.services.deployment.notification_writer import NotificationWriter, Written
from fakes.whole_ministack import OURS, REGION, WholeMiniStack

pytestmark = pytest.mark.server

IDENTITY = "crrmon-acme"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cloud(cloud: WholeMiniStack) -> WholeMiniStack:
    """Make the queues that all tests send to."""
    for name in ("acme-events", "of-others"):
        cloud.client("sqs").create_queue(QueueName=name)
    return cloud


@pytest.fixture
def store(clients: Clients) -> AwsNotificationStore:
    return AwsNotificationStore(clients)


@pytest.fixture
def writer(store: AwsNotificationStore) -> NotificationWriter:
    return NotificationWriter(store, IDENTITY, patience_seconds=0.0)


@pytest.fixture
def bucket(cloud: WholeMiniStack) -> BucketAddress:
    """Make a bucket that no other test has."""
    name = f"bucket-{next(_numbers)}"
    cloud.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return BucketAddress(account="", number=OURS, region=REGION, name=name)


def arn(queue: str) -> str:
    return f"arn:aws:sqs:{REGION}:{OURS}:{queue}"


def entry(queue: str = "acme-events") -> Entry:
    """Return ours."""
    return queue_entry(IDENTITY, arn=arn(queue), events=("s3:ObjectCreated:*",))


def theirs(*, queue: str = "of-others", event: str = "s3:ObjectRemoved:*") -> dict[str, Any]:
    """Return an entry of somebody else."""
    return {
        "Id": "backup",
        "QueueArn": arn(queue),
        "Events": [event],
        "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": "logs/"}]}},
    }


def put(cloud: WholeMiniStack, bucket: BucketAddress, **configuration: object) -> None:
    """Configure a bucket as somebody else."""
    cloud.client("s3").put_bucket_notification_configuration(
        Bucket=bucket.name,
        NotificationConfiguration=configuration,
        SkipDestinationValidation=True,
    )


def configured(cloud: WholeMiniStack, bucket: BucketAddress) -> dict[str, Any]:
    """Return what a bucket has."""
    told = cloud.client("s3").get_bucket_notification_configuration(Bucket=bucket.name)
    return {name: value for name, value in told.items() if name != "ResponseMetadata"}


async def test_ours_goes_in_beside_others(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """Their entry and their switch are as before."""
    put(cloud, bucket, QueueConfigurations=[theirs()], EventBridgeConfiguration={})
    before = configured(cloud, bucket)

    result = await writer.put(bucket, entry=entry(), switch=False)

    assert result.written is Written.CHANGED
    assert result.sentences == ()
    after = configured(cloud, bucket)
    assert before["QueueConfigurations"][0] in after["QueueConfigurations"]
    assert [one["Id"] for one in after["QueueConfigurations"]] == ["backup", IDENTITY]
    assert after["EventBridgeConfiguration"] == {}


async def test_the_same_again_writes_nothing(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """What is there already is not written again: S3 would send a test message to every destination."""
    await writer.put(bucket, entry=entry(), switch=True)
    with cloud.interfering(bucket.name, {}, after="PUT"):
        result = await writer.put(bucket, entry=entry(), switch=True)

    assert result.written is Written.UNCHANGED
    assert configured(cloud, bucket)["QueueConfigurations"]


async def test_taking_ours_out_leaves_what_was_there(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """As if we had never been there."""
    put(cloud, bucket, QueueConfigurations=[theirs()])
    before = configured(cloud, bucket)
    await writer.put(bucket, entry=entry(), switch=True)

    result = await writer.take_out(bucket, switch_off=True)

    assert result.written is Written.CHANGED
    assert configured(cloud, bucket) == before


async def test_a_switch_of_others_stays_on(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """It is turned off only by whoever says that it was ours."""
    put(cloud, bucket, EventBridgeConfiguration={})
    await writer.put(bucket, entry=entry(), switch=True)

    await writer.take_out(bucket, switch_off=False)

    assert configured(cloud, bucket) == {"EventBridgeConfiguration": {}}


async def test_an_overlap_is_told_before_anything_is_written(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """With both entries, in words of our own: S3 names neither."""
    put(cloud, bucket, QueueConfigurations=[theirs(event="s3:ObjectCreated:Put")])
    before = configured(cloud, bucket)

    with pytest.raises(NotificationStoreError, match=r"crrmon-acme.*backup.*logs/.*plan again"):
        await writer.put(bucket, entry=entry(), switch=False)

    assert configured(cloud, bucket) == before


async def test_a_destination_of_others_that_is_gone(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """It does not keep ours out, it stays, and it is told of."""
    put(cloud, bucket, QueueConfigurations=[theirs(queue="long-gone")])

    result = await writer.put(bucket, entry=entry(), switch=False)

    assert result.written is Written.CHANGED
    (sentence,) = result.sentences
    assert arn("long-gone") in sentence
    queues = [one["QueueArn"] for one in configured(cloud, bucket)["QueueConfigurations"]]
    assert queues == [arn("long-gone"), arn("acme-events")]


async def test_our_own_destination_is_never_skipped(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """Events would be lost without a word; nothing is stored, although somebody else's destination is gone as well."""
    put(cloud, bucket, QueueConfigurations=[theirs(queue="long-gone")])
    before = configured(cloud, bucket)

    with pytest.raises(InvalidDestinationError, match="S3 cannot send to"):
        await writer.put(bucket, entry=entry("not-made-yet"), switch=False)

    assert configured(cloud, bucket) == before


async def test_somebody_writes_at_the_same_time(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """What is read back is not what was written: that is said, with what differs, and what to do."""
    with cloud.interfering(bucket.name, {"QueueConfigurations": [theirs()]}, after="PUT"):
        result = await writer.put(bucket, entry=entry(), switch=False)

    assert result.written is Written.DISTURBED
    (sentence,) = result.sentences
    assert "Entry crrmon-acme" in sentence
    assert "is missing" in sentence
    assert "backup" in sentence
    assert "Call this again" in sentence

    again = await writer.put(bucket, entry=entry(), switch=False)
    assert again.written is Written.CHANGED
    ids = [one["Id"] for one in configured(cloud, bucket)["QueueConfigurations"]]
    assert ids == ["backup", IDENTITY]


async def test_what_changed_since_the_plan_is_kept_and_told(
    cloud: WholeMiniStack,
    store: AwsNotificationStore,
    writer: NotificationWriter,
    bucket: BucketAddress,
) -> None:
    """Ours is merged with what is there now, not with what the plan saw."""
    planned_on = await store.read(bucket)
    put(cloud, bucket, QueueConfigurations=[theirs()])

    result = await writer.put(bucket, entry=entry(), switch=False, planned_on=planned_on)

    assert result.written is Written.CHANGED
    (sentence,) = result.sentences
    assert sentence.startswith("since the plan was made, somebody changed it: Entry backup")
    ids = [one["Id"] for one in configured(cloud, bucket)["QueueConfigurations"]]
    assert ids == ["backup", IDENTITY]


async def test_a_bucket_that_is_gone(
    cloud: WholeMiniStack, writer: NotificationWriter, bucket: BucketAddress
) -> None:
    """It is named, and told apart from all other trouble."""
    cloud.client("s3").delete_bucket(Bucket=bucket.name)

    with pytest.raises(MissingBucketError, match=f"bucket {bucket.name} is gone"):
        await writer.put(bucket, entry=entry(), switch=False)
