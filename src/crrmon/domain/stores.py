"""What kinds of stores there are, as their own events tell, and which of them each bucket is in.

They differ in what they do by themselves, and so in what people have to do.
"""

import enum
from collections.abc import Callable

from crrmon.domain.recent import Recent


class StoreKind(enum.StrEnum):
    """A kind of store."""

    S3 = "s3"
    """AWS. It gives up, and does not try again."""
    MINIO = "minio"
    """It tries again for ever: after every look, and when its scanner comes by."""
    CEPH = "ceph"
    """Its sites synchronise, until they are the same."""
    OTHER = "other"
    """A store that nobody knows more of."""


_BY_SOURCE = {"aws:s3": StoreKind.S3, "minio:s3": StoreKind.MINIO, "ceph:s3": StoreKind.CEPH}


def store_of(event_source: str) -> StoreKind:
    """Return the kind of store that sends events of an `eventSource`."""
    return _BY_SOURCE.get(event_source, StoreKind.OTHER)


class BucketStores:
    """
    Which kind of store each bucket is in: what its events say, else what is known of the address at which it is asked.

    Nothing but advice goes by it. After a restart that is general, until the bucket's next event.

    Args:
        elsewhere: tells whether a bucket is in a store with an endpoint of its own.
    """

    def __init__(self, elsewhere: Callable[[str], bool] = lambda _: False) -> None:
        self._elsewhere = elsewhere
        self._told: Recent[str, StoreKind] = Recent()

    def heard(self, bucket: str, store: StoreKind) -> None:
        """Take in who sent an event of a bucket. Some stores call themselves by the name of S3: that says nothing."""
        if store is not StoreKind.S3:
            self._told.put(bucket, store)

    def of(self, bucket: str) -> StoreKind:
        """Return what kind of store a bucket is in."""
        told = self._told.get(bucket)
        if told is not None:
            return told
        return StoreKind.OTHER if self._elsewhere(bucket) else StoreKind.S3
