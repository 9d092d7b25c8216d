"""The messages of the sandbox, read by the daemon's own decoder."""

from itertools import islice

import msgspec
import pytest

from crrmon.domain.events.decode import decode
from crrmon.domain.events.facts import (
    MalformedMessageError,
    MarkerCreated,
    ObjectWritten,
    Operation,
    ReplicationRestarted,
    VersionDeleted,
)
from crrmon.domain.objects import ObjectVersion
from crrmon.sandbox.cloudtrail import (
    deleted_body,
    marker_body,
    restarted_body,
    stray_body,
    written_body,
)
from crrmon.sandbox.plan import HARMLESS, Chances, Stray, plan
from crrmon.sandbox.truth import Written
from crrmon.sandbox.world import ACCOUNT, WORLD

WRITTEN = [
    Written(
        version=ObjectVersion(one.bucket, one.key, f"v{number}"),
        region=WORLD.region(one.bucket),
        written_at=1_790_000_000.9,
        size=one.size,
        operation=one.operation,
        copy_of=one.copy_of,
    )
    for number, one in enumerate(islice(plan(WORLD, Chances(), seed=3), 100))
]


def test_events_say_what_was_written_as_cloudtrail_says_it() -> None:
    """Bucket, odd key, version and owner come through; times are cut to seconds, copies and uploads have no size."""
    for number, written in enumerate(WRITTEN):
        (fact,) = decode(written_body(written, chance=number)).facts

        assert fact == ObjectWritten(
            version=written.version,
            region=written.region,
            written_at=1_790_000_000.0,
            operation=written.operation,
            size=written.size if written.operation is Operation.PUT else None,
            owner=ACCOUNT,
        )


def test_the_same_chance_makes_the_same_body() -> None:
    """A duplicate is the same message again, ids and all."""
    bodies = {written_body(WRITTEN[0], chance=chance) for chance in (1, 1, 2)}

    assert len(bodies) == 2


def test_sizes_of_copies_and_uploads_are_not_in_their_events() -> None:
    """CloudTrail counts the bytes of the request; for these, that is not the object."""
    for written in WRITTEN:
        told = msgspec.json.decode(written_body(written, chance=1))["detail"][
            "additionalEventData"
        ]["bytesTransferredIn"]
        by_operation = {Operation.PUT: written.size, Operation.COPY: 0}

        assert told == by_operation.get(written.operation, 312)


def test_sizes_are_sometimes_floats() -> None:
    """CloudTrail was seen to send 2143.0 as well as 2143."""
    put = next(one for one in WRITTEN if one.operation is Operation.PUT and one.size > 1)
    sizes = [
        msgspec.json.decode(written_body(put, chance=chance))["detail"]["additionalEventData"][
            "bytesTransferredIn"
        ]
        for chance in (1, 2)
    ]

    assert sizes == [put.size, float(put.size)]
    assert {type(one) for one in sizes} == {int, float}


def test_deletions_markers_and_restarts_name_their_version() -> None:
    """A deletion for good names the version in the call, a marker's id is in the answer, Batch Replication's event too."""
    one = WRITTEN[0]
    place = {"version": one.version, "region": one.region, "owner": ACCOUNT}
    bodies = (
        deleted_body(one, at=1_790_000_009.9, chance=1),
        marker_body(one, chance=2),
        restarted_body(one, at=1_790_000_019.9, chance=3),
    )

    assert [decode(body).facts for body in bodies] == [
        (VersionDeleted(deleted_at=1_790_000_009.0, **place),),
        (MarkerCreated(created_at=1_790_000_000.0, **place),),
        (ReplicationRestarted(restarted_at=1_790_000_019.0, **place),),
    ]


@pytest.mark.parametrize("stray", HARMLESS)
def test_strays_are_of_no_interest(stray: Stray) -> None:
    """Reads, failed calls, batch deletes and test events are understood and concern nobody."""
    decoded = decode(stray_body(stray, WRITTEN[0], chance=5))

    assert decoded.facts == ()
    assert len(decoded.irrelevant) == 1


@pytest.mark.parametrize("chance", range(3))
def test_malformed_messages_fit_no_envelope(chance: int) -> None:
    """What is meant for the dead-letter queue cannot be taken for anything else."""
    with pytest.raises(MalformedMessageError):
        decode(stray_body(Stray.MALFORMED, WRITTEN[0], chance=chance))
