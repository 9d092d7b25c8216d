"""Buckets, what becomes of the versions in them, and all that S3 and CloudTrail say about it: the truth is known.

Nothing here decides what a daemon should make of it, nor when a message reaches the queue: that is for tests.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from crrmon.domain.events.facts import Channel, Operation
from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Sight
from fakes import events
from fakes.s3 import NEVER, FakeS3, Stored

REASON = "DstKmsKeyNotFound"
"""Why everything fails."""


class Told(msgspec.Struct, frozen=True):
    """A message, and when what it tells came to pass."""

    at: float
    body: str


class Voices(msgspec.Struct, frozen=True, kw_only=True):
    """Who tells of what happens."""

    source: frozenset[Channel]
    """Of what is done to source buckets."""
    replicas: frozenset[Channel] = frozenset()
    """Of what replication does to destinations."""
    notices: bool = False
    """Whether S3 tells of failures."""
    restarts: bool = False
    """Whether CloudTrail tells of Batch Replication."""


class _Words(msgspec.Struct, frozen=True):
    """How each channel calls an operation."""

    cloudtrail: str
    notification: str


_WORDS = {
    Operation.PUT: _Words("PutObject", "ObjectCreated:Put"),
    Operation.COPY: _Words("CopyObject", "ObjectCreated:Copy"),
    Operation.MULTIPART: _Words(
        "CompleteMultipartUpload", "ObjectCreated:CompleteMultipartUpload"
    ),
}

_REPLICA_OPERATION = {
    Operation.PUT: Operation.PUT,
    Operation.COPY: Operation.PUT,
    Operation.MULTIPART: Operation.MULTIPART,
}
"""How replication writes what was written so."""


class Estate:
    """
    Writes versions, and tells what is said about them.

    Args:
        s3: where they lie.
    """

    def __init__(self, s3: FakeS3) -> None:
        self._s3 = s3

    def write(
        self,
        version: ObjectVersion,
        stored: Stored,
        voices: Voices,
        *,
        operation: Operation = Operation.PUT,
    ) -> list[Told]:
        """
        Write a version and let it go its ways.

        Returns:
            All that is ever said about it, in no order.
        """
        self._s3.store(version, stored)
        return [
            *_told_of_write(version, stored, voices.source, operation),
            *_told_of_trips(version, stored, voices, operation),
            *_told_of_deletion(version, stored, voices.source),
        ]

    def lay_marker(
        self,
        version: ObjectVersion,
        voices: Voices,
        *,
        at: float,
        arrives: Mapping[str, float] | None = None,
    ) -> list[Told]:
        """Lay a delete marker, which arrives in other buckets at these times."""
        self._s3.store(version, Stored(written_at=at, shows=Sight.DELETE_MARKER))
        told = [*_told_of_marker(version, voices.source, at=at, by_replication=False)]
        for bucket, arrived_at in (arrives or {}).items():
            copy = ObjectVersion(bucket, version.key, version.version_id)
            self._s3.store(copy, Stored(written_at=arrived_at, shows=Sight.DELETE_MARKER))
            told += _told_of_marker(copy, voices.replicas, at=arrived_at, by_replication=True)
        return told


def told_of_replica(
    replica: ObjectVersion,
    channels: Collection[Channel],
    *,
    at: float,
    size: int,
    operation: Operation = Operation.PUT,
) -> list[Told]:
    """Return what is said when replication writes a version."""
    words = _WORDS[_REPLICA_OPERATION[operation]]
    named: dict[str, Any] = {"at": at, "bucket": replica.bucket, "version": replica.version_id}
    told = []
    for channel in sorted(channels):
        match channel:
            case Channel.CLOUDTRAIL:
                # Of the end of an upload it counts the request's bytes, and those hold no object.
                sent = size if _REPLICA_OPERATION[operation] is Operation.PUT else 7
                body = events.replica_cloudtrail(
                    replica.key, name=words.cloudtrail, size=sent, **named
                )
            case Channel.EVENTBRIDGE:
                body = events.native_created(
                    replica.key, reason=words.cloudtrail, size=size, **named
                )
            case _:
                body = events.replica_notification(
                    replica.key, event=words.notification, size=size, **named
                )
        told.append(Told(at, body))
    return told


def _told_of_write(
    version: ObjectVersion, stored: Stored, channels: Collection[Channel], operation: Operation
) -> Iterator[Told]:
    words, at = _WORDS[operation], stored.written_at
    named: dict[str, Any] = {"at": at, "bucket": version.bucket, "version": version.version_id}
    for channel in sorted(channels):
        match channel:
            case Channel.CLOUDTRAIL:
                # It counts the request's bytes, and those of a copy or of the end of an upload hold no object.
                size = stored.size if operation is Operation.PUT else 7
                body = events.written(version.key, name=words.cloudtrail, size=size, **named)
            case Channel.EVENTBRIDGE:
                body = events.native_created(
                    version.key, reason=words.cloudtrail, size=stored.size, **named
                )
            case _:
                body = events.notification(
                    version.key, event=words.notification, size=stored.size, **named
                )
        yield Told(at, body)


def _told_of_trips(
    version: ObjectVersion, stored: Stored, voices: Voices, operation: Operation
) -> Iterator[Told]:
    for bucket, trip in stored.trips.items():
        if trip.arrives_at < NEVER:
            replica = ObjectVersion(bucket, version.key, version.version_id)
            yield from told_of_replica(
                replica,
                voices.replicas,
                at=trip.arrives_at,
                size=stored.size,
                operation=operation,
            )
        for at, sight in trip.steps:
            if sight is Sight.FAILED and voices.notices:
                yield Told(at, _notice(version, stored, bucket, at))
            if sight is Sight.PENDING and voices.restarts:
                yield Told(
                    at,
                    events.restarted(
                        version.key, at=at, bucket=version.bucket, version=version.version_id
                    ),
                )


def _notice(version: ObjectVersion, stored: Stored, bucket: str, at: float) -> str:
    return events.notice(
        version.key,
        at=at,
        bucket=version.bucket,
        version=version.version_id,
        destination=bucket,
        rule=f"to-{bucket}",
        reason=REASON,
        requested_at=stored.written_at,
        size=stored.size,
    )


def _told_of_deletion(
    version: ObjectVersion, stored: Stored, channels: Collection[Channel]
) -> Iterator[Told]:
    at = stored.deleted_at
    if at == NEVER:
        return
    named: dict[str, Any] = {"at": at, "bucket": version.bucket, "version": version.version_id}
    for channel in sorted(channels):
        match channel:
            case Channel.CLOUDTRAIL:
                body = events.deleted(version.key, **named)
            case Channel.EVENTBRIDGE:
                body = events.native_deleted(version.key, **named)
            case _:
                body = events.notification(
                    version.key, event="ObjectRemoved:Delete", size=None, **named
                )
        yield Told(at, body)


def _told_of_marker(
    version: ObjectVersion, channels: Collection[Channel], *, at: float, by_replication: bool
) -> Iterator[Told]:
    named: dict[str, Any] = {"at": at, "bucket": version.bucket, "version": version.version_id}
    writer = "s3-replication" if by_replication else "writer"
    for channel in sorted(channels):
        match channel:
            case Channel.CLOUDTRAIL:
                body = events.marker(version.key, by_replication=by_replication, **named)
            case Channel.EVENTBRIDGE:
                body = events.native_deleted(version.key, marker=True, **named)
            case _:
                body = events.notification(
                    version.key,
                    event="ObjectRemoved:DeleteMarkerCreated",
                    size=None,
                    principal=f"AWS:AROAEXAMPLE:{writer}",
                    **named,
                )
        yield Told(at, body)
