"""Facts that queue messages tell, whatever envelope they came in."""

import enum

import msgspec

from crrmon.domain.objects import ObjectVersion
from crrmon.domain.stores import StoreKind


class Channel(enum.StrEnum):
    """Who told of a write: they differ in how exact they are, and in whether they know who wrote."""

    NOTICE = "notice"
    """S3's notice about the replication itself: when the write was is only guessed, if it does not say."""
    CLOUDTRAIL = "cloudtrail"
    """Whole seconds; a size for plain puts only; tells replication's writes apart."""
    EVENTBRIDGE = "eventbridge"
    """S3's own event: whole seconds, always a size; does not tell replication's writes apart."""
    NOTIFICATION = "notification"
    """S3's own notification: milliseconds, always a size; tells replication's writes apart."""

    @property
    def rank(self) -> int:
        """The higher, the better its times and sizes."""
        return list(Channel).index(self)


class Operation(enum.StrEnum):
    """How a version came to be."""

    PUT = "put"
    COPY = "copy"
    MULTIPART = "multipart"


class ObjectWritten(msgspec.Struct, frozen=True, kw_only=True):
    """A version was written to a bucket, by anybody but S3's own replication; only `Channel.EVENTBRIDGE` cannot tell."""

    version: ObjectVersion
    """With a stand-in version id (`objects.provisional`) where the event gave none."""
    region: str
    """Region of the bucket as the event says it; the empty string where it says none."""
    written_at: float
    """When the write ended. CloudTrail cuts this to whole seconds."""
    operation: Operation
    size: int | None = None
    """Bytes, where the event can be believed: not for copies and multipart uploads in CloudTrail."""
    etag: str = ""
    """Without quotes, where the event tells it and no version id: it helps to tell which version it was."""
    owner: str | None = None
    """Whose bucket it is, where known: the id of an account, or a store's site. So in all facts."""
    channel: Channel = Channel.CLOUDTRAIL
    store: StoreKind = StoreKind.S3
    """Whose event it is."""


class ReplicaWritten(msgspec.Struct, frozen=True, kw_only=True):
    """S3's replication wrote a version to a destination bucket. It does not name the source bucket."""

    version: ObjectVersion
    """Bucket of the destination; key and version id are those of the source."""
    region: str
    written_at: float
    size: int | None = None
    owner: str | None = None


class VersionDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """A version was deleted for good, by somebody or by a lifecycle rule. That never replicates."""

    version: ObjectVersion
    region: str
    deleted_at: float
    owner: str | None = None


class MarkerCreated(msgspec.Struct, frozen=True, kw_only=True):
    """A delete marker was created over a key. Those of lifecycle rules are never reported: they do not replicate."""

    version: ObjectVersion
    """The marker's own version id; a stand-in (`objects.provisional`) where the event gave none."""
    region: str
    created_at: float
    owner: str | None = None
    channel: Channel = Channel.CLOUDTRAIL
    by_replication: bool = False
    """Whether replication created it: it arrived here. `Channel.EVENTBRIDGE` cannot tell."""


class ReplicationFailed(msgspec.Struct, frozen=True, kw_only=True):
    """S3 says itself that it gave up to replicate a version to one destination, and why."""

    version: ObjectVersion
    """Bucket of the source; with a stand-in version id (`objects.provisional`) where the notice gave none."""
    destination: str
    """Bucket; `objects.UNKNOWN_DESTINATION` where the notice names none."""
    reason: str
    """S3's code (`reasons`), perhaps one that nobody told us of; the empty string where it gives none."""
    rule: str
    """Id of the replication rule; the empty string where the notice names none."""
    operation: str
    """What was to be replicated, in S3's words, such as OBJECT_PUT."""
    region: str
    noticed_at: float
    """When S3 gave up."""
    written_at: float | None = None
    """When the request was made that was to be replicated, where the notice tells."""
    size: int | None = None
    owner: str | None = None
    store: StoreKind = StoreKind.S3
    """Whose notice it is."""

    @property
    def of_delete_marker(self) -> bool:
        """Whether a delete marker was to be replicated, not an object."""
        return "DELETE" in self.operation.upper()


class Threshold(enum.StrEnum):
    """What S3 says about its promise of 15 minutes."""

    MISSED = "missed"
    """Not replicated in time."""
    REPLICATED_AFTER = "replicated_after"
    """Replicated after all."""
    NOT_TRACKED = "not_tracked"
    """S3 does not measure it any more. It may replicate yet."""


class ThresholdPassed(msgspec.Struct, frozen=True, kw_only=True):
    """S3 says itself how a version stands against its promise of 15 minutes."""

    version: ObjectVersion
    """Bucket of the source; with a stand-in version id (`objects.provisional`) where the notice gave none."""
    destination: str
    """Bucket; `objects.UNKNOWN_DESTINATION` where the notice names none."""
    threshold: Threshold
    rule: str
    region: str
    noticed_at: float


class VersionReplicated(msgspec.Struct, frozen=True, kw_only=True):
    """A store says at the source that a version is at all its destinations (MinIO; S3 says so nowhere)."""

    version: ObjectVersion
    """Bucket of the source."""
    region: str
    replicated_at: float
    """When it came to the last destination that it was sent to just then."""
    size: int | None = None


class TargetOffline(msgspec.Struct, frozen=True, kw_only=True):
    """A store did not try to replicate, for it took the destination's server to be offline (MinIO)."""

    version: ObjectVersion
    """Bucket of the source; with a stand-in version id (`objects.provisional`) where the notice gave none."""
    region: str
    noticed_at: float


class DeletionTried(msgspec.Struct, frozen=True, kw_only=True):
    """
    A store tried to replicate a deletion: a delete marker's, or that of a version for good. It does not say which (MinIO).
    """

    version: ObjectVersion
    """Bucket of the source; the marker's own version id, or that of the version that was deleted."""
    region: str
    tried_at: float
    done: bool
    """Whether that succeeded."""
    owner: str | None = None


class ReplicationRestarted(msgspec.Struct, frozen=True, kw_only=True):
    """Batch Replication put a version back to pending."""

    version: ObjectVersion
    """Bucket of the source."""
    region: str
    restarted_at: float
    owner: str | None = None


RarerFact = (
    ReplicaWritten
    | VersionDeleted
    | MarkerCreated
    | ReplicationFailed
    | ThresholdPassed
    | ReplicationRestarted
    | VersionReplicated
    | TargetOffline
    | DeletionTried
)
"""All but a write, which nearly all facts are."""

Fact = ObjectWritten | RarerFact

News = (
    ReplicaWritten
    | ReplicationFailed
    | ThresholdPassed
    | ReplicationRestarted
    | VersionDeleted
    | VersionReplicated
    | DeletionTried
)
"""What adds to that which the ledger holds of a version already."""


class Decoded(msgspec.Struct, frozen=True):
    """All that one queue message said: facts, and the kinds of what concerns nobody here."""

    facts: tuple[Fact, ...]
    irrelevant: tuple[str, ...] = ()
    """One bounded, countable word for each part that was understood and is of no interest."""


class MalformedMessageError(Exception):
    """A message body that none of the known envelopes fits.

    Its text names what was wrong and never quotes the body, which may hold anything.
    """
