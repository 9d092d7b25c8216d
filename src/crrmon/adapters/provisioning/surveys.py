"""Reads accounts, their buckets and their trails; every call that it makes has its action in `DISCOVERY`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, TypeVar

from botocore.exceptions import ClientError

from crrmon.adapters.border import NoAnswerError, code_of
from crrmon.adapters.provisioning.clients import Clients
from crrmon.domain.deployment import notifications
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.trail_selectors import Trail
from crrmon.ports.bucket_survey import (
    BucketReading,
    ClosedRegionError,
    Identity,
    ListedBucket,
    ListedTrail,
    SurveyError,
)

T = TypeVar("T")

_CLOSED_CODES = frozenset(
    {
        "AuthFailure",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "OptInRequired",
        "UnrecognizedClientException",
    }
)
"""What services of a region answer that the account has not enabled: to them, its credentials are none."""

_ACTIONS = {
    "ListBuckets": "s3:ListAllMyBuckets",
    "GetBucketReplication": "s3:GetReplicationConfiguration",
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "DescribeTrails": "cloudtrail:DescribeTrails",
    "GetTrailStatus": "cloudtrail:GetTrailStatus",
    "GetEventSelectors": "cloudtrail:GetEventSelectors",
}
"""What IAM calls the operations that are called here."""

_PAGE = 1000


class AwsBucketSurvey:
    """Implements the `BucketSurvey` port.

    Args:
        clients: make the calls.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._identities: dict[str, Identity] = {}

    @property
    def accounts(self) -> Sequence[str]:
        """The names of the accounts that can be searched."""
        return self._clients.accounts

    async def enter(self, account: str) -> Identity:
        """Find out who asks in an account."""
        told = await self._asked(
            account, "sts", None, lambda sts: sts.get_caller_identity()["Arn"]
        )
        _, partition, _, _, number, _ = str(told).split(":", 5)
        identity = Identity(account=number, partition=partition, arn=told)
        self._identities[account] = identity
        return identity

    async def buckets(self, account: str) -> Sequence[ListedBucket]:
        """List all buckets of an account."""
        identity = self._identities[account]

        def listed(s3: Any) -> list[ListedBucket]:
            # NB: only to a request that limits the page, S3 tells the regions.
            pages = s3.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": _PAGE})
            return [
                ListedBucket(
                    name=bucket["Name"],
                    place=Place(
                        account=identity.account,
                        region=bucket["BucketRegion"],
                        partition=identity.partition,
                    ),
                )
                for page in pages
                for bucket in page.get("Buckets", ())
            ]

        return await self._asked(account, "s3", None, listed)

    async def trails(self, account: str, region: str) -> Sequence[ListedTrail]:
        """List the trails that there are for a region of an account."""

        def listed(cloudtrail: Any) -> list[ListedTrail]:
            return [
                ListedTrail(
                    arn=trail["TrailARN"],
                    home_region=trail["HomeRegion"],
                    only_management=not trail.get("HasCustomEventSelectors", True),
                )
                for trail in cloudtrail.describe_trails()["trailList"]
            ]

        return await self._asked(account, "cloudtrail", region, listed)

    async def trail(self, account: str, trail: ListedTrail) -> Trail | None:
        """Read what a trail records; None where it is switched off."""

        def read(cloudtrail: Any) -> Trail | None:
            if not cloudtrail.get_trail_status(Name=trail.arn)["IsLogging"]:
                return None
            selectors = cloudtrail.get_event_selectors(TrailName=trail.arn)
            selectors.pop("ResponseMetadata", None)
            return Trail(arn=trail.arn, selectors=selectors)

        return await self._asked(
            account,
            "cloudtrail",
            trail.home_region,
            read,
            what=f" on {trail.arn}",
        )

    async def read(self, account: str, bucket: ListedBucket) -> BucketReading | None:
        """Read how a bucket is configured; None where it is gone."""

        def read(s3: Any) -> BucketReading | None:
            try:
                replication = _replication(s3, bucket.name)
                told = s3.get_bucket_notification_configuration(Bucket=bucket.name)
            except ClientError as error:
                if code_of(error) == "NoSuchBucket":
                    return None
                raise
            return BucketReading(replication=replication, notifications=notifications.parse(told))

        return await self._asked(
            account, "s3", bucket.place.region, read, what=f" on bucket {bucket.name}"
        )

    async def _asked(
        self,
        account: str,
        service: str,
        region: str | None,
        work: Callable[[Any], T],
        *,
        what: str = "",
    ) -> T:
        """Make calls; what goes wrong is said in the port's words.

        Args:
            account: its name.
            service: which.
            region: where; None for what is of no region.
            work: makes the calls.
            what: on what whoever asks needs the permission.
        """
        try:
            return await self._clients.call(account, service, region, work)
        except (ClientError, NoAnswerError) as error:
            identity = self._identities.get(account)
            if region and identity and _closed(error):
                raise ClosedRegionError(
                    f"{code_of(error)}; the credentials are good elsewhere, so the region is probably not enabled in the "
                    f"account: enable it, or leave it out (--exclude-region {region})"
                ) from error
            action = (
                _ACTIONS.get(error.operation_name, "") if isinstance(error, ClientError) else ""
            )
            whom = identity.arn if identity else ""
            said = self._clients.explain(error, account, permission=f"{action}{what}", whom=whom)
            raise SurveyError(said) from error


def _closed(error: ClientError | NoAnswerError) -> TypeGuard[ClientError]:
    return isinstance(error, ClientError) and code_of(error) in _CLOSED_CODES


def _replication(s3: Any, bucket: str) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = s3.get_bucket_replication(Bucket=bucket)
    except ClientError as error:
        if code_of(error) == "ReplicationConfigurationNotFoundError":
            return None
        raise
    configuration: dict[str, Any] = told["ReplicationConfiguration"]
    return configuration
