"""Which objects are followed, by patterns of bucket and prefix.

A pattern is `BUCKET` or `BUCKET/PREFIX`. In the bucket's name, `*` stands for any characters and `?` for one; the
prefix is taken as it is written. What an exclusion fits is left out, whatever includes it; without inclusions,
everything else is in.
"""

import fnmatch
import functools
import re
from collections.abc import Sequence

import msgspec

_PATTERN_BUCKET = re.compile(r"[A-Za-z0-9._*?-]{1,255}")

REMEMBERED_BUCKETS = 4096
"""For how many buckets the prefixes that matter are kept at hand."""


class Pattern(msgspec.Struct, frozen=True):
    """Some buckets, and in them the keys with a prefix."""

    bucket: str
    """Name, in which * and ? stand for others."""
    prefix: str = ""
    """What keys must begin with; empty for all."""

    def fits(self, bucket: str) -> bool:
        """Return whether it is about a bucket."""
        # Of what may stand in a pattern, only * and ? mean anything to fnmatch.
        return fnmatch.fnmatchcase(bucket, self.bucket)


def pattern(text: str) -> Pattern:
    """Read a pattern.

    Raises:
        ValueError: it can fit nothing; the text says what to write instead.
    """
    if "://" in text or text.startswith("arn:"):
        raise ValueError("write BUCKET or BUCKET/PREFIX, without s3:// and without arn:")
    bucket, _, prefix = text.partition("/")
    if not _PATTERN_BUCKET.fullmatch(bucket):
        raise ValueError(
            "write BUCKET or BUCKET/PREFIX; a bucket's name has letters, digits, dots, hyphens and underscores, "
            "and * and ? stand for others (*/PREFIX for a prefix in all buckets)"
        )
    if prefix.endswith("*"):
        raise ValueError("a prefix matches all keys that start with it: remove the * at its end")
    return Pattern(bucket, prefix)


class Choice:
    """What to follow.

    Args:
        include: patterns of what to follow; none for everything.
        exclude: patterns of what not to follow, whatever includes it.
    """

    def __init__(self, include: Sequence[Pattern] = (), exclude: Sequence[Pattern] = ()) -> None:
        self._include = tuple(include) or (Pattern("*"),)
        self._exclude = tuple(exclude)
        self._of = functools.lru_cache(maxsize=REMEMBERED_BUCKETS)(self._prefixes)

    def includes(self, bucket: str, key: str) -> bool:
        """Return whether an object is to be followed."""
        included, excluded = self._of(bucket)
        return key.startswith(included) and not key.startswith(excluded)

    def whole(self, bucket: str, prefix: str) -> bool:
        """Return whether every key of a bucket that begins with a prefix is followed."""
        included, excluded = self._of(bucket)
        out = any(one.startswith(prefix) for one in excluded) or prefix.startswith(excluded)
        return prefix.startswith(included) and not out

    def touches(self, bucket: str) -> bool:
        """Return whether any object of a bucket can be among those to be followed."""
        included, excluded = self._of(bucket)
        return any(not prefix.startswith(excluded) for prefix in included)

    def void(self) -> list[str]:
        """Return the buckets of inclusions of which exclusions leave nothing, with their wildcards."""
        return [
            one.bucket
            for one in self._include
            if any(
                out.fits(one.bucket) and one.prefix.startswith(out.prefix) for out in self._exclude
            )
        ]

    def _prefixes(self, bucket: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return which prefixes are in and which are out in a bucket."""
        return (
            tuple(one.prefix for one in self._include if one.fits(bucket)),
            tuple(one.prefix for one in self._exclude if one.fits(bucket)),
        )
