"""Writing a bucket's configuration while AWS takes its time."""

import asyncio

import pytest

from crrmon.domain.deployment.notifications import Entry, queue_entry
from crrmon.ports.notification_store import BucketAddress, InvalidDestinationError
from crrmon.services.deployment.notification_writer import (
    PATIENCE_SECONDS,
    NotificationWriter,
    WriteResult,
    Written,
)
from fakes.notification_store import FakeNotificationStore

IDENTITY = "crrmon-acme"
ARN = "arn:aws:sqs:eu-west-1:111111111111:acme-events"
BUCKET = BucketAddress("", "111111111111", "eu-west-1", "a")


def entry() -> Entry:
    return queue_entry(IDENTITY, arn=ARN, events=("s3:ObjectCreated:*",))


async def put(store: FakeNotificationStore) -> WriteResult:
    """Have a bucket tell us."""
    return await NotificationWriter(store, IDENTITY).put(BUCKET, entry=entry(), switch=False)


async def test_a_new_queue_is_waited_for() -> None:
    """Its policy takes a while to be heeded: S3 cannot send there yet."""
    store = FakeNotificationStore(refusals=(ARN, ARN, ARN))

    result = await put(store)

    assert result.written is Written.CHANGED
    assert result.sentences == ()
    assert store.configurations["a"].entry(IDENTITY) == entry()


async def test_a_queue_that_is_never_ready() -> None:
    """In the end it is said, and nothing was stored."""
    store = FakeNotificationStore(refusals=(ARN,) * 100)
    began_at = asyncio.get_running_loop().time()

    with pytest.raises(InvalidDestinationError):
        await put(store)

    assert store.configurations == {}
    assert asyncio.get_running_loop().time() - began_at == pytest.approx(PATIENCE_SECONDS)


async def test_what_s3_still_tells_of_before_is_nobody_elses_doing() -> None:
    """It is read again until it is another."""
    store = FakeNotificationStore(stale_reads=3)

    result = await put(store)

    assert result.written is Written.CHANGED
    assert store.writes == 1
