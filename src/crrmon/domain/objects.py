"""What replicates, from where to where, and how its traces are identified.

Everything the daemon remembers of one written version (the pending record, early facts of replicas, marks of what was
counted) is found under the same 16-byte `trail_id`, a digest of key and version id alone: a replica keeps the
version id of its source, so its event leads to the same place although it names another bucket.
That place decides the shard, and a shard is the unit of atomicity.

Times are seconds since the epoch, UTC, as floats, and end in ``_at``; spans are seconds.
"""

import enum
import functools
import hashlib
import re
from collections.abc import Collection

import msgspec

UNKNOWN_DESTINATION = "unknown"
"""Stands for the destination bucket of a route where it cannot be known."""

BUCKET_NAME = r"[A-Za-z0-9._-]{3,255}"
"""What S3 ever allowed as the name of a bucket. Names become metric dimensions, and CloudWatch refuses whole calls for
the sake of one dimension that is none.
"""

_NAMED_BUCKET = re.compile(
    rf"(?:arn:[a-z0-9-]+:s3:::|arn:[a-z0-9-]+:replication:[^:]*:[^:]+:)?({BUCKET_NAME})"
)
"""An ARN of a bucket in any partition, that of a target of replication at another store, or a bare name."""

SITE = r"[A-Za-z0-9._-]{13,128}"
"""What the id of a store's site is: a UUID. It stands where AWS has the twelve digits of an account, and is longer."""

_SITE = re.compile(SITE)

Place = tuple[str, str | None]
"""A bucket, and its site where its name alone does not tell which one is meant."""


def place_of(bucket: str, owner: str | None, sites: Collection[str | None]) -> Place:
    """Return which bucket is asked: by its owner where several have its name.

    Args:
        bucket: its name.
        owner: whose it is, where known: the id of an account, or a store's site.
        sites: those that have a bucket of this name.
    """
    return bucket, owner if owner in sites else None


LARGEST_BYTES = 50 * 2**40
"""
What no object is larger than: S3's own limit is 50 TB, and what other stores have is less. Ledgers count on it: their
sums are exact as long as they fit into 64 bits.
"""

_PROVISIONAL = "?"
"""The first character of a stand-in version id. S3's own are URL-ready, so none can start like this."""


class ObjectVersion(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """One version of one object: the identity of what replicates.

    `version_id` is a stand-in (see `provisional`) while S3 has not told it yet.
    """

    bucket: str
    key: str
    version_id: str

    @property
    def identified(self) -> bool:
        """Whether S3 told the version id."""
        return self.version_id[:1] != _PROVISIONAL

    @property
    def trail_id(self) -> bytes:
        """16 bytes shared by all that is remembered of this key and version id."""
        return trail_id(self.key, self.version_id)


class Route(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """A way that objects take: source bucket to destination bucket."""

    source: str
    destination: str


AT_HAND = 4096
"""Results of cheap questions about names that are kept, of each kind, for they are asked many times of each object."""


@functools.lru_cache(maxsize=AT_HAND)
def route_between(source: str, destination: str) -> Route:
    """Return the route from one bucket to another, mostly the same object."""
    return Route(source, destination)


class Scope(enum.StrEnum):
    """What a mark stands for; part of its identity."""

    # An enum's own is a call of Python, each time that an identity is looked up.
    __hash__ = str.__hash__

    REPLICA = "r"
    """The arrival (or not) of a version in one destination bucket, which `MarkId.bucket` names."""
    SOURCE = "s"
    """What was found out about the source version as a whole, not about one destination."""
    EPISODE = "f"
    """One failure episode of the source version; `MarkId.episode` numbers them from 1."""
    EPISODE_THERE = "e"
    """The same at one destination bucket, which `MarkId.bucket` names."""
    MARKER = "d"
    """A delete marker that should reach the destination bucket which `MarkId.bucket` names."""
    MARKER_ARRIVED = "a"
    """The arrival of a delete marker there."""
    MARKER_FAILED = "x"
    """S3's word that a delete marker will not arrive there."""
    PURGE_FAILED = "p"
    """A store's word that it could not delete a version there for good."""
    REPLICATED = "c"
    """A store's word that a version of the source bucket which `MarkId.bucket` names is everywhere. Nothing is counted by
    it, nor by the next ones."""
    DELETION = "g"
    """The same of a deletion there, be it a delete marker's or for good."""
    RESTART = "b"
    """That Batch Replication put a version of a source bucket back to pending. Nothing is counted by it."""
    UNREFUTED = "w"
    """
    That a version of a source bucket ended as one of which nobody can see more, although its store's word that it failed
    was known. Nothing is counted by it; the same word again is no news.
    """
    MISSED = "m"
    """That S3 told of a missed threshold at the destination bucket which `MarkId.bucket` names. This and the next two
    only tell a notice that comes again from a new one."""
    REPLICATED_AFTER = "l"
    NOT_TRACKED = "n"


class MarkId(msgspec.Struct, frozen=True, gc=False, order=True):
    """The identity of one thing that must be counted at most once."""

    scope: Scope
    bucket: str
    key: str
    version_id: str
    episode: int = 0

    @classmethod
    def of(
        cls, scope: Scope, version: ObjectVersion, *, at: str | None = None, episode: int = 0
    ) -> "MarkId":
        """Identify what is counted of a version: in its own bucket, or `at` another one."""
        bucket = version.bucket if at is None else at
        return cls(scope, bucket, version.key, version.version_id, episode)

    @property
    def trail_id(self) -> bytes:
        """16 bytes shared by all that is remembered of this key and version id."""
        return trail_id(self.key, self.version_id)

    @property
    def slot(self) -> str:
        """What sets this mark apart from the others of its trail: short, printable, stable."""
        if not self.episode:  # as nearly always
            return self.scope + ":" + self.bucket
        return f"{self.scope}{self.episode}:{self.bucket}"


@functools.lru_cache(maxsize=AT_HAND)
def trail_id(key: str, version_id: str) -> bytes:
    """Digest key and version id.

    Args:
        key: the object key as S3 knows it, decoded. Anything JSON can hold is accepted.
        version_id: the version id, or a stand-in.

    Returns:
        16 bytes. The same on every machine and in every version of the daemon: ledgers depend on it.
    """
    # Remembered of those that are at work: a dozen steps ask for it while an object is looked at and settled.
    text = f"{key}\0{version_id}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


@functools.lru_cache(maxsize=AT_HAND)
def site_of(owner: str | None) -> str | None:
    """Return the site that owns a bucket; None where an account does, or nobody knows."""
    return owner if owner is not None and _SITE.fullmatch(owner) else None


def shard_of(trail: bytes, shards: int) -> int:
    """Return the shard (0 to `shards` - 1) to which a trail belongs; part of the ledger's format."""
    return int.from_bytes(trail[:4], "big") % shards


def named_bucket(told: str) -> str | None:
    """Return the name of the bucket that a rule or a notice tells, as each store writes it; None for what names none.

    S3 gives the ARN of the bucket, MinIO that of its target for replication (`arn:minio:replication:REGION:ID:BUCKET`),
    Ceph a name.
    """
    found = _NAMED_BUCKET.fullmatch(told)
    return found[1] if found else None


def plausible_size(told: int | None) -> int | None:
    """Return a size in bytes if an object can have it; None for what is none: it is unknown then."""
    return told if told is not None and 0 <= told <= LARGEST_BYTES else None


def provisional(bucket: str, key: str, written_at: float) -> ObjectVersion:
    """Name a version whose event gave no version id.

    The same event, delivered again, gets the same name.
    """
    return ObjectVersion(bucket, key, f"{_PROVISIONAL}{round(written_at * 1000)}")
