"""Buckets' notification configurations, by boto3."""

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from botocore.exceptions import ClientError

from crrmon.adapters.border import NoAnswerError, code_of
from crrmon.adapters.provisioning.clients import Clients
from crrmon.domain.deployment import notifications
from crrmon.domain.deployment.notifications import NotificationConfiguration
from crrmon.ports.notification_store import (
    BucketAddress,
    InvalidDestinationError,
    MissingBucketError,
    NotificationStoreError,
)

T = TypeVar("T")

_ACTIONS = {
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "PutBucketNotificationConfiguration": "s3:PutBucketNotification",
}
"""What IAM calls the operations that are called here."""

_INVALID_DESTINATION = "Unable to validate the following destination configurations"
_ARN = re.compile(r"arn:[a-z0-9-]+:(?:sqs|sns|lambda):[^\s,\]]+")


class AwsNotificationStore:
    """Implements the `NotificationStore` port.

    Args:
        clients: make the calls.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def read(self, bucket: BucketAddress) -> NotificationConfiguration:
        """Return a bucket's configuration."""
        return await self._done(
            bucket,
            lambda s3: notifications.parse(
                s3.get_bucket_notification_configuration(
                    Bucket=bucket.name, ExpectedBucketOwner=bucket.number
                )
            ),
        )

    async def write(
        self, bucket: BucketAddress, configuration: NotificationConfiguration, *, validate: bool
    ) -> None:
        """Replace a bucket's configuration."""
        await self._done(
            bucket,
            lambda s3: s3.put_bucket_notification_configuration(
                Bucket=bucket.name,
                ExpectedBucketOwner=bucket.number,
                NotificationConfiguration=notifications.serialize(configuration),
                SkipDestinationValidation=not validate,
            ),
        )

    async def _done(self, bucket: BucketAddress, work: Callable[[Any], T]) -> T:
        try:
            return await self._clients.call(bucket.account, "s3", bucket.region, work)
        except (ClientError, NoAnswerError) as error:
            self._fail(error, bucket)

    def _fail(self, error: ClientError | NoAnswerError, bucket: BucketAddress) -> NoReturn:
        permission = ""
        if isinstance(error, ClientError):
            text = str(error.response.get("Error", {}).get("Message", ""))
            if code_of(error) == "NoSuchBucket":
                raise MissingBucketError(f"bucket {bucket.name} is gone") from error
            if _INVALID_DESTINATION in text:
                arns = tuple(_ARN.findall(_told(error)))
                raise InvalidDestinationError(
                    f"bucket {bucket.name}: S3 cannot send to {', '.join(arns) or 'a destination'}",
                    arns=arns,
                ) from error
            action = _ACTIONS.get(error.operation_name, error.operation_name)
            permission = f"{action} on bucket {bucket.name}"
        reason = self._clients.explain(error, bucket.account, permission=permission)
        raise NotificationStoreError(f"bucket {bucket.name}: {reason}") from error


def _told(error: ClientError) -> str:
    """Return all that S3 says: it names the destinations in arguments beside the message, or in it."""
    told = error.response.get("Error", {})
    return " ".join(str(value) for value in told.values())
