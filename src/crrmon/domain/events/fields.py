"""Read the fields that messages about objects have in common, whoever sends them."""

import re
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from crrmon.domain.objects import BUCKET_NAME, ObjectVersion, plausible_size, provisional

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""ISO 8601 with a time zone: without one it would be a guess."""

BucketName = Annotated[str, msgspec.Meta(pattern=rf"\A{BUCKET_NAME}\Z")]

Key = Annotated[str, msgspec.Meta(min_length=1)]

T = TypeVar("T")
U = TypeVar("U")


class NamedBucket(msgspec.Struct, frozen=True, gc=False):
    """A bucket as S3's own messages name it."""

    name: BucketName


_REPLICATION = ":s3-replication"
"""S3 calls its session so when it writes replicas, whatever role it was given; roles end up before the colon."""

_ACCOUNT = re.compile(r"[0-9]{12}")
_NUMBER = msgspec.json.Decoder(int | float)
_TEXT = msgspec.json.Decoder(str)


def lenient(raw: Raw | UnsetType, decoder: msgspec.json.Decoder[T], default: U) -> T | U:
    """Return what a field says; the default where it is not there, or of another shape than is known."""
    try:
        return default if raw is UNSET else decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return default


def size(raw: Raw | UnsetType) -> int | None:
    """Return a number of bytes; None for what is no sensible one.

    It is not worth losing a write for: a look will tell the size.
    """
    told = lenient(raw, _NUMBER, None)
    try:
        # NB: some senders write 2143.0.
        return None if told is None else plausible_size(int(told))
    except OverflowError:
        return None


def etag(raw: Raw | UnsetType) -> str:
    """Return an ETag without its quotes; the empty string for what is none."""
    return lenient(raw, _TEXT, "").strip('"')


def account(told: str | None) -> str | None:
    """Return the id of an account; None for everything else, such as the word anonymous."""
    return told if told and _ACCOUNT.fullmatch(told) else None


def is_replication(principal: str | None) -> bool:
    """Return whether a principal id is that of S3's own replication."""
    return principal is not None and principal.endswith(_REPLICATION)


def version(bucket: str, key: str, version_id: str | None, *, at: float) -> ObjectVersion:
    """Name a version.

    Args:
        bucket: its name.
        key: the object key, decoded.
        version_id: as the message says it; None or the empty string where it says none.
        at: when the version came to be, for a stand-in.
    """
    if version_id:
        return ObjectVersion(bucket, key, version_id)
    return provisional(bucket, key, at)
