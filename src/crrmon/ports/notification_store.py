"""Where S3 keeps what each bucket tells of, and whom: one configuration for each bucket, replaced as a whole."""

from typing import Protocol

import msgspec

from crrmon.domain.deployment.notifications import NotificationConfiguration


class NotificationStoreError(Exception):
    """It could not be read or written; the text says why and what to do."""


class MissingBucketError(NotificationStoreError):
    """There is no such bucket, or not any more."""


class InvalidDestinationError(NotificationStoreError):
    """S3 could not send to one of the destinations, and stored nothing."""

    def __init__(self, text: str, *, arns: tuple[str, ...]) -> None:
        super().__init__(text)
        self.arns = arns
        """Those that S3 names; none where it does not say which."""


class BucketAddress(msgspec.Struct, frozen=True, order=True):
    """Which bucket."""

    account: str
    """By the name that the configuration has for it."""
    number: str
    """Of its account: twelve digits. S3 refuses where it belongs to another one by now."""
    region: str
    name: str


class NotificationStore(Protocol):
    """Reads and writes the configurations."""

    async def read(self, bucket: BucketAddress) -> NotificationConfiguration:
        """Return a bucket's configuration.

        Raises:
            MissingBucketError: there is no such bucket.
            NotificationStoreError: it could not be read.
        """

    async def write(
        self, bucket: BucketAddress, configuration: NotificationConfiguration, *, validate: bool
    ) -> None:
        """Replace a bucket's configuration.

        Args:
            bucket: which.
            configuration: all of it.
            validate: whether S3 tries all destinations first, those of others as well.

        Raises:
            MissingBucketError: there is no such bucket.
            InvalidDestinationError: S3 could not send to a destination.
            NotificationStoreError: it was not written.
        """
