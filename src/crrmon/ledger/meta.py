"""How a ledger was made: its format and its number of shards, which is fixed then."""

from typing import Final

import msgspec

from crrmon.ledger.damage import DamagedError, reading
from crrmon.ledger.encoding import Body
from crrmon.ledger.layout import META, fleet_key
from crrmon.ports.ledger import AbsentLedgerError, LedgerError, UnusableLedgerError
from crrmon.ports.store import ABSENT, ConflictError, Put, Store

FORMAT: Final = 2
"""Grows when something is kept in another way."""
READABLE_BY: Final = 2
"""The oldest format whose daemons can work on what this version writes."""
READS_FROM: Final = 2
"""The oldest format that this version reads. Before it, names and fields were others, and nothing was released."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger says of itself."""

    format: int
    readable_by: int
    shards: int


_BODY = Body(Meta)
_KEY: Final = fleet_key(META, "meta")


async def read_or_begin(store: Store, *, shards: int, create: bool) -> Meta:
    """Return what a ledger says of itself; a new one is created.

    Args:
        store: where it lies.
        shards: how many a new one gets.
        create: whether to create one where there is none.

    Raises:
        UnusableLedgerError: a newer daemon made it, or one from before the first release, and this one cannot work on it; or what lies there is none.
        AbsentLedgerError: there is none, and none is to be made.
        LedgerError: trying again may help.
    """
    meta = await _read(store)
    if meta is None and not create:
        raise AbsentLedgerError(f"there is no ledger at {store.name}")
    if meta is None:
        new = Meta(format=FORMAT, readable_by=READABLE_BY, shards=shards)
        try:
            await store.write([Put(_KEY, _BODY.encode(new), ABSENT)])
        except ConflictError:
            pass  # another daemon was faster, or the answer to this one got lost
        else:
            return new
        meta = await _read(store)
        if meta is None:
            raise LedgerError(f"{store.name} gives contradictory answers")
    if meta.readable_by > FORMAT:
        raise UnusableLedgerError(
            f"{store.name} was written by a newer crrmon (format {meta.format}; this one reads {FORMAT}): upgrade"
            " crrmon, or name another ledger"
        )
    if meta.format < READS_FROM:
        raise UnusableLedgerError(
            f"{store.name} was written by a crrmon from before its first release (format {meta.format}; this one reads"
            f" from {READS_FROM} on): name another ledger, or delete this one; what is pending in it is found no more"
        )
    return meta


async def _read(store: Store) -> Meta | None:
    for key, body, _ in await store.get([_KEY]):
        try:
            with reading(store, key):
                return _BODY.decode(body)
        except DamagedError as error:
            # Not to be deleted: without the number of shards, all the rest would be lost.
            raise UnusableLedgerError(
                f"{store.name} holds no ledger, or a damaged one: name another ledger"
                f" ({error.__cause__})"
            ) from error
    return None
