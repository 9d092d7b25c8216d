"""What there is at AWS to be told of: accounts, their buckets, and their trails. Nothing is changed by asking."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from crrmon.domain.deployment.notifications import NotificationConfiguration
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.trail_selectors import Trail

OWN_ACCOUNT = ""
"""The name of the account that the credentials at hand belong to."""


class SurveyError(Exception):
    """Something could not be read; the text says why and what to do."""


class ClosedRegionError(SurveyError):
    """Nothing can be read in a region of an account."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks in an account."""

    account: str
    """Twelve digits."""
    partition: str
    arn: str


class ListedBucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket that is there."""

    name: str
    place: Place


class ListedTrail(msgspec.Struct, frozen=True, kw_only=True):
    """A trail that is there, and may be switched off."""

    arn: str
    home_region: str
    """Where it was made, and is asked for; one of all regions is listed in others, too."""
    only_management: bool = False
    """Whether it is known to record no events of objects."""


class BucketReading(msgspec.Struct, frozen=True, kw_only=True):
    """How a bucket is configured."""

    replication: Mapping[str, Any] | None
    """GetBucketReplication's ReplicationConfiguration; None for a bucket that has none."""
    notifications: NotificationConfiguration


class BucketSurvey(Protocol):
    """Reads accounts and their buckets. Accounts have the names of the configuration."""

    @property
    def accounts(self) -> Sequence[str]:
        """The names of the accounts that can be searched; `OWN_ACCOUNT` is one of them."""

    async def enter(self, account: str) -> Identity:
        """Find out who asks in an account.

        Raises:
            SurveyError: there are no credentials for it, or AWS refuses them.
        """

    async def buckets(self, account: str) -> Sequence[ListedBucket]:
        """List all buckets of an account.

        Raises:
            SurveyError: they could not be listed.
        """

    async def trails(self, account: str, region: str) -> Sequence[ListedTrail]:
        """List the trails that there are for a region of an account.

        Raises:
            ClosedRegionError: nothing can be read there.
            SurveyError: they could not be listed.
        """

    async def trail(self, account: str, trail: ListedTrail) -> Trail | None:
        """Read what a trail records; None where it is switched off.

        Raises:
            SurveyError: it could not be read.
        """

    async def read(self, account: str, bucket: ListedBucket) -> BucketReading | None:
        """Read how a bucket is configured; None where it is gone.

        Raises:
            ClosedRegionError: nothing can be read in its region.
            SurveyError: it could not be read.
        """
