"""The object store that is looked at."""

from typing import Any, Protocol

from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Observation


class UnreadableConfigurationError(Exception):
    """A bucket's replication configuration could not be read: denied, throttled, unreachable.

    It says nothing about whether there is one.
    """


class NoBucketError(UnreadableConfigurationError):
    """A store says that it has no bucket of this name."""


class UnusableAccountError(UnreadableConfigurationError):
    """There are no credentials for the bucket's account now; who gets them has told what to do about it."""


class Probe(Protocol):
    """Reads replication status and configuration."""

    async def look(self, version: ObjectVersion, *, region: str, owner: str | None) -> Observation:
        """HEAD one version; one request, no retries beneath.

        Args:
            version: with a stand-in version id, the current version is asked for.
            region: of the bucket, as far as known; a bucket elsewhere is found.
            owner: whose bucket it is, where known: the id of an account, or a store's site.

        Returns:
            What was seen; trouble of every kind is an observation, not an exception.
        """

    async def look_at_replica(
        self,
        version: ObjectVersion,
        bucket: str,
        *,
        region: str,
        owner: str | None,
        source_owner: str | None,
    ) -> Observation:
        """HEAD one version in a destination, which may have its source's name at another site; otherwise as `look`.

        Args:
            version: of the source.
            bucket: of the destination.
            region: of the source; a bucket elsewhere is found.
            owner: account id that must own the destination, where known.
            source_owner: whose bucket the source is, where known.

        Returns:
            What was seen; not asked where nobody can tell at which site the destination is.
        """

    def sites(self, bucket: str) -> tuple[str | None, ...]:
        """Return under which owners there are buckets of a name; never empty.

        Returns:
            The sites of stores that have one; None alone where the name tells the bucket.
        """

    async def configuration(
        self, bucket: str, *, region: str, owner: str | None
    ) -> dict[str, Any] | None:
        """Read a bucket's replication configuration, as GetBucketReplication's ReplicationConfiguration.

        Returns:
            None when S3 says that the bucket has none.

        Raises:
            UnreadableConfigurationError: S3 did not tell.
            NoBucketError: a store with an endpoint of its own has no such bucket.
        """

    async def lists(self, bucket: str, *, region: str, owner: str | None) -> bool:
        """Return whether a bucket may be listed: whoever may not is answered 403 for what is not there.

        Raises:
            UnreadableConfigurationError: S3 did not tell.
        """
