"""What kinds of stores there are, as their own events tell.

They differ in what they do by themselves, and so in what people have to do.
"""

import enum


class Store(enum.StrEnum):
    """
    A kind of store.
    """

    S3 = "s3"
    """AWS. It gives up, and does not try again."""
    MINIO = "minio"
    """It tries again for ever: after every look, and when its scanner comes by."""
    CEPH = "ceph"
    """Its sites synchronise, until they are the same."""
    OTHER = "other"
    """A store that nobody knows more of."""


_BY_SOURCE = {"aws:s3": Store.S3, "minio:s3": Store.MINIO, "ceph:s3": Store.CEPH}


def store_of(event_source: str) -> Store:
    """
    Return the kind of store that sends events of an `eventSource`.
    """
    return _BY_SOURCE.get(event_source, Store.OTHER)
