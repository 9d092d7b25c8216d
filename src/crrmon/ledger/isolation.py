"""One object that cannot be worked on harms itself only, though it came together with others."""

from collections.abc import Awaitable, Iterable
from typing import TypeVar

from crrmon.ledger.damage import DamagedError
from crrmon.ports.store import UnwritableError

T = TypeVar("T")


class BadItemError(ValueError):
    """One of several objects cannot be worked on; whoever asks for each by itself is told which, and the others go on."""


async def isolated(asked: Awaitable[T], *, trails: Iterable[bytes]) -> T:
    """Do what is asked of some trails, so that one that is no good harms itself only.

    Args:
        asked: what is asked.
        trails: of which; gone through only when something is no good.

    Raises:
        BadItemError: the store does not take one of them, however often it is asked; or one of several is damaged.
        LedgerError: the only one is damaged; somebody has to fix it, or to upgrade.
    """
    try:
        return await asked
    except UnwritableError as error:
        raise BadItemError(str(error)) from error
    except DamagedError as error:
        if len(set(trails)) == 1:
            raise
        raise BadItemError(str(error)) from error
