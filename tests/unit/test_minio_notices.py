"""What MinIO's own notifications say, by bodies that real servers sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import (
    Channel,
    Decoded,
    DeletionTried,
    Fact,
    MarkerCreated,
    ObjectWritten,
    Operation,
    ReplicationFailed,
    TargetOffline,
    VersionReplicated,
)
from crrmon.domain.events.times import in_time
from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion, provisional
from crrmon.domain.stores import StoreKind

SEEN = Path(__file__).parents[1] / "data" / "minio"
EMPTY = ObjectVersion("a-one", "base/put-0005", "a2827fe6-ce67-444e-9976-5fb3033ad553")
BROKEN = ObjectVersion("a-one", "down/put-0000", "d6723fd4-4c84-4d0b-8a20-f11a40893f94")
NOW = 1_795_993_000.0
SITE = "35184ec2-4345-4928-847a-363729e46e5b"


def body(name: str, record: dict[str, Any] | None = None, **changes: Any) -> str:
    """Read a body, with other values for some fields of its record and of its object."""
    told = json.loads((SEEN / f"event_{name}.json").read_text())
    told["Records"][0] |= record or {}
    told["Records"][0]["s3"]["object"] |= changes
    return json.dumps(told)


FACTS: dict[str, Fact] = {
    "put_of_zero_bytes_has_no_size": ObjectWritten(
        version=EMPTY,
        region="",
        written_at=1795991606.366,
        operation=Operation.PUT,
        size=0,
        channel=Channel.EVENTBRIDGE,
        owner=SITE,
        store=StoreKind.MINIO,
    ),
    "completed_of_an_object": VersionReplicated(
        version=EMPTY, region="", replicated_at=1795991606.429, size=0
    ),
    "failed_of_an_object": ReplicationFailed(
        version=BROKEN,
        destination=UNKNOWN_DESTINATION,
        reason="",
        rule="",
        operation="",
        region="",
        noticed_at=1795991712.656,
        size=1,
        owner=SITE,
        store=StoreKind.MINIO,
    ),
    "not_tracked_target_offline": TargetOffline(
        version=BROKEN, region="", noticed_at=1795991712.638
    ),
    "not_tracked_without_version": TargetOffline(
        version=provisional("a-one", "c/new-5", 1795992440.633),
        region="",
        noticed_at=1795992440.633,
    ),
    "failed_of_a_delete_marker": DeletionTried(
        version=ObjectVersion("a-one", "c/new-5", "908ca9ee-6e1d-4bb7-bdf8-e0fed432c672"),
        region="",
        tried_at=1795992440.636,
        done=False,
        owner=SITE,
    ),
    "failed_of_a_version_purge_or_marker": DeletionTried(
        version=ObjectVersion("a-one", "down/copy-0033", "e2d16355-7534-499e-af7e-1174686b69f3"),
        region="",
        tried_at=1795991713.896,
        done=False,
        owner=SITE,
    ),
    "marker_by_a_user_in_a_two_way_bucket": MarkerCreated(
        version=ObjectVersion("x-east", "fromeast/1", "d818adc4-6da6-4914-8127-64fb4f00ab8d"),
        region="",
        created_at=1795992302.380,
        owner=SITE,
        channel=Channel.NOTIFICATION,
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_m4_m5_what_minio_says_is_what_it_means(name: str) -> None:
    """M4, M5: arrivals with their moment, failures of objects apart from those of deletions, a target that is offline."""
    assert decode(body(name)) == Decoded((FACTS[name],))


def test_m4_a_deletion_that_arrived_is_told_like_one_that_failed() -> None:
    """M4: by another name of the event, and as little of what was deleted."""
    told = body(
        "failed_of_a_delete_marker",
        {"eventName": "s3:Replication:OperationCompletedReplication"},
    )

    (fact,) = decode(told).facts

    assert isinstance(fact, DeletionTried)
    assert fact.done


@pytest.mark.parametrize(
    ("metadata", "proved"),
    [
        ({"X-Amz-Replication-Status": "COMPLETED"}, True),
        ({"x-amz-replication-status": "COMPLETED", "note": "x"}, True),
        ({"X-Amz-Replication-Status": "PENDING"}, False),
        ({"content-type": "text/plain"}, False),
        ({"X-Amz-Replication-Status": 17}, False),
        (["COMPLETED"], False),
        (None, False),
    ],
)
def test_m4_only_its_status_proves_an_arrival(metadata: Any, *, proved: bool) -> None:
    """M4: MinIO calls every try completed that did not fail, also one with nowhere to go."""
    decoded = decode(body("completed_of_an_object", userMetadata=metadata))

    assert [type(one) for one in decoded.facts] == [VersionReplicated] * proved
    assert decoded.irrelevant == (() if proved else ("other_notification",))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("completed_of_an_object", "other_notification"),
        ("failed_of_a_delete_marker", "deleted_without_version"),
    ],
)
def test_m4_m5_what_names_no_version_is_of_no_use(name: str, kind: str) -> None:
    """M4, M5: it would join nothing, and looks tell."""
    assert decode(body(name, versionId="")) == Decoded((), (kind,))


@pytest.mark.parametrize("source", ["aws:s3", "ceph:s3"])
def test_m5_other_stores_mean_what_they_say(source: str) -> None:
    """M5: the meaning is MinIO's only; a size that nobody told is unknown."""
    told = {
        name: decode(body(name, {"eventSource": source}))
        for name in (
            "completed_of_an_object",
            "failed_of_a_delete_marker",
            "put_of_zero_bytes_has_no_size",
        )
    }

    assert told["completed_of_an_object"].irrelevant == ("other_notification",)
    (failed,) = told["failed_of_a_delete_marker"].facts
    assert isinstance(failed, ReplicationFailed)
    (written,) = told["put_of_zero_bytes_has_no_size"].facts
    assert isinstance(written, ObjectWritten)
    assert written.size is None


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00.000Z", "2031-11-29T22:33:26.429Z"])
def test_m4_a_moment_that_cannot_be_is_now(at: str) -> None:
    """M4: a clock that is off makes no latency of years."""
    (arrived,) = decode(body("completed_of_an_object", {"eventTime": at})).facts
    (deletion,) = decode(body("failed_of_a_delete_marker", {"eventTime": at})).facts

    told = (in_time(arrived, now=NOW), in_time(deletion, now=NOW))

    assert isinstance(told[0], VersionReplicated)
    assert isinstance(told[1], DeletionTried)
    assert (told[0].replicated_at, told[1].tried_at) == (NOW, NOW)
