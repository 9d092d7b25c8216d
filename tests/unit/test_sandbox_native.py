"""The messages that the sandbox's S3 makes itself, read by the daemon's own decoder."""

from itertools import islice

import pytest

from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import (
    Channel,
    Fact,
    MarkerCreated,
    ObjectWritten,
    ReplicationFailed,
    ReplicaWritten,
    VersionDeleted,
)
from crrmon.domain.objects import ObjectVersion
from crrmon.sandbox.native import (
    created_event,
    created_notification,
    deleted_event,
    deleted_notification,
    failed_notice,
    marker_event,
    marker_notification,
)
from crrmon.sandbox.plan import Chances, plan
from crrmon.sandbox.truth import Written
from crrmon.sandbox.world import WORLD

AT = 1_790_000_000.25
WRITTEN = [
    Written(
        version=ObjectVersion(one.bucket, one.key, f"v{number}"),
        region=WORLD.region(one.bucket),
        written_at=AT,
        size=one.size,
        operation=one.operation,
        copy_of=one.copy_of,
    )
    for number, one in enumerate(islice(plan(WORLD, Chances(), seed=3), 100))
]


def fact(body: str) -> Fact:
    """Return the only thing that a message says."""
    (told,) = decode(body).facts
    return told


def test_events_and_notifications_say_what_was_written() -> None:
    """Odd keys come through both, with sizes for copies and uploads, too; EventBridge cuts times to seconds."""
    for number, written in enumerate(WRITTEN):
        event = fact(created_event(written, chance=number))
        notification = fact(created_notification(written, by_replication=False, chance=number))

        for told, channel, at in (
            (event, Channel.EVENTBRIDGE, AT - 0.25),
            (notification, Channel.NOTIFICATION, AT),
        ):
            assert isinstance(told, ObjectWritten)
            assert (told.version, told.region) == (written.version, written.region)
            assert (told.operation, told.size) == (written.operation, written.size)
            assert (told.channel, told.written_at) == (channel, at)


def test_only_notifications_tell_a_replica() -> None:
    """The name of replication's session is in them; an event through EventBridge looks like any write."""
    for number, written in enumerate(WRITTEN):
        told = fact(created_notification(written, by_replication=True, chance=number))

        assert isinstance(told, ReplicaWritten)
        assert (told.version, told.size) == (written.version, written.size)
        assert told.written_at == AT


def test_deletions_are_told_by_both() -> None:
    """A version deleted for good is named with its id, key and all."""
    for number, one in enumerate(WRITTEN):
        for made in (deleted_event, deleted_notification):
            told = fact(made(one.version, one.region, at=AT + 5, chance=number))

            assert isinstance(told, VersionDeleted)
            assert told.version == one.version


@pytest.mark.parametrize("by_replication", [False, True])
def test_markers_are_told_by_both(by_replication: bool) -> None:  # noqa: FBT001 - a table
    """A delete marker has an id of its own; who laid it is in notifications only."""
    one = WRITTEN[0]
    event = fact(marker_event(one.version, one.region, at=AT, chance=1))
    notification = fact(
        marker_notification(
            one.version, one.region, at=AT, by_replication=by_replication, chance=2
        )
    )

    assert isinstance(event, MarkerCreated)
    assert isinstance(notification, MarkerCreated)
    assert event.version == notification.version == one.version
    assert notification.by_replication is by_replication


def test_a_notice_says_what_failed_where_and_why() -> None:
    """Destination, rule and reason come through, and when the write was."""
    one = WRITTEN[0]
    told = fact(
        failed_notice(
            one,
            destination="dst-c",
            rule="a-to-c",
            reason="DstKmsKeyNotFound",
            at=AT + 9,
            chance=1,
        )
    )

    assert isinstance(told, ReplicationFailed)
    assert (told.version, told.destination, told.rule) == (one.version, "dst-c", "a-to-c")
    assert (told.reason, told.noticed_at, told.written_at) == ("DstKmsKeyNotFound", AT + 9, AT)


def test_the_same_chance_makes_the_same_body() -> None:
    """A duplicate is the same message again, ids and all."""
    for made in (created_event,):
        assert len({made(WRITTEN[0], chance=chance) for chance in (1, 1, 2)}) == 2
