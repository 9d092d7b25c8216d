"""Which kind of store a bucket is in: what its events say, else what is known of the address at which it is asked.

Nothing but advice goes by it. After a restart that is general, until the bucket's next event.
"""

from collections.abc import Callable

from crrmon.domain.recent import Recent
from crrmon.domain.stores import Store


class Stores:
    """
    Remembers what kind of store buckets are in.

    Args:
        elsewhere: tells whether a bucket is in a store with an endpoint of its own.
    """

    def __init__(self, elsewhere: Callable[[str], bool] = lambda _: False) -> None:
        self._elsewhere = elsewhere
        self._told: Recent[str, Store] = Recent()

    def heard(self, bucket: str, store: Store) -> None:
        """
        Take in who sent an event of a bucket. Some stores call themselves by the name of S3: that says nothing.
        """
        if store is not Store.S3:
            self._told.put(bucket, store)

    def of(self, bucket: str) -> Store:
        """
        Tell what kind of store a bucket is in.
        """
        told = self._told.get(bucket)
        if told is not None:
            return told
        return Store.OTHER if self._elsewhere(bucket) else Store.S3
