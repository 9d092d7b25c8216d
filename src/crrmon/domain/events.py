"""Facts that queue messages tell, whatever envelope they came in."""

import enum

import msgspec

from crrmon.domain.objects import ObjectVersion


class Operation(enum.StrEnum):
    """
    How a version came to be.
    """

    PUT = "put"
    COPY = "copy"
    MULTIPART = "multipart"


class ObjectWritten(msgspec.Struct, frozen=True, kw_only=True):
    """
    A version was written to a bucket, by anybody but S3's own replication.
    """

    version: ObjectVersion
    """With a stand-in version id (`objects.provisional`) where the event gave none."""
    region: str
    """Region of the bucket as the event says it."""
    written_at: float
    """When the write ended. CloudTrail cuts this to whole seconds."""
    operation: Operation
    size: int | None = None
    """Bytes, where the event can be believed: not for copies and multipart uploads in CloudTrail."""
    owner: str | None = None
    """Account id of the bucket's owner."""


class ReplicaWritten(msgspec.Struct, frozen=True, kw_only=True):
    """
    S3's replication wrote a version to a destination bucket. It does not name the source bucket.
    """

    version: ObjectVersion
    """Bucket of the destination; key and version id are those of the source."""
    region: str
    written_at: float
    size: int | None = None
    owner: str | None = None


class ObjectDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """
    A version was deleted for good, or a delete marker was laid over a key.
    """

    bucket: str
    key: str
    version_id: str | None
    """The version that is gone; None when a delete marker was made instead."""
    marker_id: str | None
    """Version id of the new delete marker, where the event tells it."""
    region: str
    deleted_at: float


Fact = ObjectWritten | ReplicaWritten | ObjectDeleted


class Decoded(msgspec.Struct, frozen=True):
    """
    All that one queue message said: facts, and the kinds of what concerns nobody here.
    """

    facts: tuple[Fact, ...]
    irrelevant: tuple[str, ...] = ()
    """One bounded, countable word for each part that was understood and is of no interest."""


class MalformedMessageError(Exception):
    """
    A message body that none of the known envelopes fits.

    Its text names what was wrong and never quotes the body, which may hold anything.
    """
