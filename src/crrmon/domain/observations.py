"""What a look, one HeadObject, showed."""

import enum

import msgspec


class Sight(enum.StrEnum):
    """The answers of S3 to a HEAD, by what they mean for replication."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    REPLICA = "replica"
    NO_STATUS = "no_status"
    """200 without a replication status."""
    SILENT = "silent"
    """200, from a store that is known to tell no replication status."""
    UNKNOWN = "unknown"
    """200 with a status that nobody told us of; treated as not final."""
    GONE = "gone"
    """404."""
    DENIED = "denied"
    """403. May hide a 404 from whoever lacks s3:ListBucket."""
    DELETE_MARKER = "delete_marker"
    """405: the version is a delete marker."""
    REFUSED = "refused"
    """400: a customer-provided key is wanted, or the daemon's own request or credentials are bad."""
    THROTTLED = "throttled"
    """503, 429."""
    UNREACHABLE = "unreachable"
    """A time-out, a broken connection, any other 5xx, or an answer that is not S3's own: nobody knows."""
    UNREADABLE = "unreadable"
    """S3 answered, and we cannot read it. That is about this one object, and says nothing of S3."""
    DOUBTED = "doubted"
    """404 or 405, as far more of its bucket's objects than ever before show: not believed yet."""

    @property
    def answered(self) -> bool:
        """Whether S3 said something about the version."""
        return self not in _UNANSWERED

    @property
    def ended(self) -> bool:
        """Whether S3 said that there is nothing to replicate any more."""
        return self in _ENDED

    @property
    def exists(self) -> bool:
        """Whether S3 said that the version is there."""
        return self not in _NOT_THERE


_UNANSWERED = frozenset(
    {
        Sight.DENIED,
        Sight.THROTTLED,
        Sight.UNREACHABLE,
        Sight.REFUSED,
        Sight.UNREADABLE,
        Sight.DOUBTED,
    }
)
_ENDED = frozenset({Sight.GONE, Sight.DELETE_MARKER})
_NOT_THERE = _UNANSWERED | _ENDED


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one look."""

    sight: Sight
    looked_at: float
    """When the answer came, by the daemon's clock."""
    version_id: str | None = None
    """The version that the answer is about."""
    size: int | None = None
    last_modified_at: float | None = None
    """Of a multipart object: when its upload was initiated."""
    etag: str = ""
    """Without its quotes; that of a multipart object ends in its number of parts."""
    storage_class: str = ""
    """In S3's words; the empty string for STANDARD, which it does not mention."""
    encryption: str = ""
    """In S3's words, such as aws:kms; the empty string where it mentions none."""
    asked: bool = True
    """Whether the store was asked at all: not where there are no credentials to ask with."""
    unproved: bool = False
    """Whether nothing proves that the store itself says so: then its end is believed when it is told again."""
    of_store: bool = False
    """Whether a store with an endpoint of its own answered, which need not be AWS."""
    detail: str = ""
    """For the log: the unknown status, the HTTP status or the error's name. Never an object key."""

    @property
    def tells_of_arrival(self) -> bool:
        """Whether it tells, of a destination, if the version arrived there.

        A version of S3 has its id wherever it is, so that it is there is enough. Another store may tell what a third
        one has: there the status of a replica must say so, unless it is known to tell no statuses.
        """
        if not self.sight.answered:
            return False
        shown = not self.sight.exists or self.sight in (Sight.REPLICA, Sight.SILENT)
        return shown or not self.of_store
