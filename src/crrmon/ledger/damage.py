"""Items that cannot be read: damaged, or written by a version that came later.

They do not end the daemon: it stays, is not ready where it needs them, and says which item it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import Key, Store

UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, IndexError, TypeError)
"""What reading such an item raises."""


class DamagedError(LedgerError):
    """
    An item cannot be read; the text names it.
    """


@contextmanager
def reading(store: Store, key: Key) -> Iterator[None]:
    """
    Name an item when it cannot be read.

    Args:
        store: where it is.
        key: which item.

    Raises:
        DamagedError: it cannot.
    """
    try:
        yield
    except UNREADABLE as error:
        raise damaged(store, key, error) from error


def damaged(store: Store, key: Key, error: Exception) -> DamagedError:
    """
    Return the error that names an item.
    """
    return DamagedError(
        f"{store.where(key)} cannot be read: it is damaged, or written by a newer version; upgrade crrmon, or delete it"
        f" ({' '.join(str(error).split())})"
    )
