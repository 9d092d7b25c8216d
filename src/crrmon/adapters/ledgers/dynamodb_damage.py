"""Items that cannot be read: damaged, or written by a version that came later.

They do not end the daemon: it stays, is not ready where it needs them, and says which item it is.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from crrmon.adapters.ledgers.dynamodb_table import PK, SK
from crrmon.ports.ledger import LedgerError

_UNREADABLE = (
    zlib.error,
    struct.error,
    msgspec.MsgspecError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
)
"""What reading such an item raises."""


class DamagedError(LedgerError):
    """
    An item cannot be read; the text names it.
    """


@contextmanager
def reading(item: Mapping[str, Any], *, table: str) -> Iterator[None]:
    """
    Name the item when it cannot be read.

    Args:
        item: as DynamoDB told it.
        table: where it is.

    Raises:
        DamagedError: it cannot.
    """
    try:
        yield
    except _UNREADABLE as error:
        raise DamagedError(
            f"item {item[PK]['S']!r}, {item[SK]['S']!r} of ledger.dynamodb.table {table!r} cannot be read: it is damaged, "
            f"or written by a newer version; upgrade crrmon, or delete the item ({' '.join(str(error).split())})"
        ) from error
