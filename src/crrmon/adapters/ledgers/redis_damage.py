"""Values in Redis that cannot be read: damaged, or written by a version that came later.

They do not end the daemon: it stays, is not ready where it needs them, and says so. Which value it is, and where, is
told; somebody mends it, or starts the newer version.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from crrmon.ports.ledger import LedgerError

UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, IndexError)
"""What reading such a value raises."""


def unreadable(key: bytes, error: Exception, *, what: str = "") -> LedgerError:
    """
    Make the error that names a value.

    Args:
        key: under which it is; in it is the shard's number.
        error: what reading it raised.
        what: which of those under the key.
    """
    of = f" of {what}" if what else ""
    return LedgerError(
        f"what the ledger holds{of} under the Redis key {key.decode(errors='replace')}{_shard(key)} cannot be read:"
        f" it is damaged, or written by a newer version of crrmon ({' '.join(str(error).split())})"
    )


@contextmanager
def reading(key: bytes) -> Iterator[None]:
    """
    Name the value when it cannot be read.
    """
    try:
        yield
    except UNREADABLE as error:
        raise unreadable(key, error) from error


def _shard(key: bytes) -> str:
    """
    Tell the shard of a key, which is the number in its hash tag.
    """
    _, colon, number = key.partition(b"}")[0].rpartition(b":")
    return f" (shard {number.decode()})" if colon and number.isdigit() else ""
