"""Buckets' notification configurations in memory, and what S3 does with them for a while."""

from crrmon.domain.deployment.notifications import NotificationConfiguration
from crrmon.ports.notification_store import BucketAddress, InvalidDestinationError


class FakeNotificationStore:
    """Implements the `NotificationStore` port.

    Args:
        refusals: how often S3 cannot send to a destination yet, and its ARN.
        stale_reads: how many reads after a write still tell what was there before.
    """

    def __init__(self, *, refusals: tuple[str, ...] = (), stale_reads: int = 0) -> None:
        self.configurations: dict[str, NotificationConfiguration] = {}
        self.writes = 0
        self._refusals = list(refusals)
        self._stale_reads = stale_reads
        self._stale: list[NotificationConfiguration] = []

    async def read(self, bucket: BucketAddress) -> NotificationConfiguration:
        """Return a bucket's configuration."""
        if self._stale:
            return self._stale.pop()
        return self.configurations.get(bucket.name, NotificationConfiguration())

    async def write(
        self, bucket: BucketAddress, configuration: NotificationConfiguration, *, validate: bool
    ) -> None:
        """Replace a bucket's configuration."""
        if validate and self._refusals:
            arn = self._refusals.pop(0)
            raise InvalidDestinationError(f"S3 cannot send to {arn}", arns=(arn,))
        before = await self.read(bucket)
        self._stale = [before] * self._stale_reads
        self.configurations[bucket.name] = configuration
        self.writes += 1
