"""Accounts with buckets and trails, as `BucketSurvey` shows them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from crrmon.domain.deployment import notifications
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.trail_selectors import Trail
from crrmon.ports.bucket_survey import (
    OWN_ACCOUNT,
    BucketReading,
    Identity,
    ListedBucket,
    ListedTrail,
    SurveyError,
)

HOME = "111122223333"


class FakeSurvey:
    """Implements the `BucketSurvey` port; each bucket takes some simulated time to be read."""

    def __init__(self, *, seconds: float = 0.1) -> None:
        self.identities: dict[str, str] = {OWN_ACCOUNT: HOME}
        """Numbers of accounts by their names."""
        self.listed: dict[str, list[ListedBucket]] = {}
        """By the numbers of accounts."""
        self.replications: dict[str, dict[str, Any]] = {}
        self.region_trails: dict[tuple[str, str], list[ListedTrail]] = {}
        """By number of the account and region."""
        self.selectors: dict[str, Mapping[str, Any] | None] = {}
        """By ARN; None for a trail that is switched off."""
        self.broken: dict[str, SurveyError] = {}
        """What fails, by the name of an account, `list NUMBER`, `NUMBER REGION`, a trail's ARN or a bucket's name."""
        self.gone: set[str] = set()
        self.began: list[float] = []
        """When buckets were begun to be read."""
        self.asked: list[str] = []
        """The ARNs of trails that were read."""
        self.read_as: dict[str, str] = {}
        """By the names of buckets, the name of the account that they were read by."""
        self.most_at_once = 0
        self._now_reading = 0
        self._seconds = seconds

    def bucket(
        self, name: str, *destinations: str, account: str = HOME, region: str = "eu-west-1"
    ) -> None:
        """Put a bucket there that replicates to others."""
        place = Place(account=account, region=region)
        self.listed.setdefault(account, []).append(ListedBucket(name=name, place=place))
        self.replications[name] = {
            "Rules": [
                {
                    "ID": destination,
                    "Status": "Enabled",
                    "Prefix": "",
                    "Destination": {"Bucket": f"arn:aws:s3:::{destination}"},
                }
                for destination in destinations
            ]
        }

    @property
    def accounts(self) -> Sequence[str]:
        return tuple(self.identities)

    async def enter(self, account: str) -> Identity:
        self._fail(account)
        number = self.identities[account]
        return Identity(account=number, partition="aws", arn=f"arn:aws:iam::{number}:user/me")

    async def buckets(self, account: str) -> Sequence[ListedBucket]:
        number = self.identities[account]
        self._fail(f"list {number}")
        return self.listed.get(number, [])

    async def trails(self, account: str, region: str) -> Sequence[ListedTrail]:
        number = self.identities[account]
        self._fail(f"{number} {region}")
        return self.region_trails.get((number, region), [])

    async def trail(self, account: str, trail: ListedTrail) -> Trail | None:
        assert account in self.identities
        self.asked.append(trail.arn)
        self._fail(trail.arn)
        selectors = self.selectors[trail.arn]
        return None if selectors is None else Trail(arn=trail.arn, selectors=selectors)

    async def read(self, account: str, bucket: ListedBucket) -> BucketReading | None:
        assert self.identities[account] == bucket.place.account
        self.read_as[bucket.name] = account
        self.began.append(asyncio.get_running_loop().time())
        self._now_reading += 1
        self.most_at_once = max(self.most_at_once, self._now_reading)
        await asyncio.sleep(self._seconds)
        self._now_reading -= 1
        self._fail(bucket.name)
        if bucket.name in self.gone:
            return None
        return BucketReading(
            replication=self.replications[bucket.name], notifications=notifications.parse({})
        )

    def _fail(self, subject: str) -> None:
        if subject in self.broken:
            raise self.broken[subject]
