"""Items that cannot be read: damaged, or written by a version that came later.

They do not end the daemon: it stays, is not ready where it needs them, and says which item it is.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec

from crrmon.ledger.encoding import Body
from crrmon.ledger.layout import BUCKET_FAILURES, FAILURES, MEMBERS, ROUTES, TRAILS
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import Found, Key, Store

T = TypeVar("T")

UNREADABLE = (struct.error, msgspec.MsgspecError, ValueError, KeyError, IndexError, TypeError)
"""What reading such an item raises."""


_RESTORE: Final = "restore a backup, because without it counts or the backlog are wrong"
_REMEDIES: Final = {
    TRAILS: "delete it: that object is then no longer followed",
    FAILURES: "delete it",
    BUCKET_FAILURES: "delete it",
    MEMBERS: "delete it: that daemon announces itself again",
    ROUTES: "delete it: the route is remembered again when something goes there",
}
"""What else can be done about an item that cannot be read, by what it is of."""


class DamagedError(LedgerError):
    """An item cannot be read; the text names it."""


@contextmanager
def reading(store: Store, key: Key) -> Iterator[None]:
    """Name an item when it cannot be read.

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


def decoded(store: Store, found: Found, body: Body[T]) -> T:
    """Read the body of an item that was found.

    Raises:
        DamagedError: it cannot be read.
    """
    with reading(store, found.key):
        return body.decode(found.body)


def damaged(store: Store, key: Key, error: Exception) -> DamagedError:
    """Return the error that names an item."""
    return DamagedError(
        f"{store.where(key)} cannot be read: it is damaged, or written by a newer version; upgrade crrmon, or"
        f" {_REMEDIES.get(key.kind, _RESTORE)} ({' '.join(str(error).split())})"
    )
