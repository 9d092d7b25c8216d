"""What a ledger says of itself, and which ledgers this version works on."""

import pytest

from crrmon.adapters.stores.memory import MemoryStore
from crrmon.ledger.encoding import Body
from crrmon.ledger.layout import META, fleet_key
from crrmon.ledger.meta import FORMAT, READS_FROM, Meta, read_or_begin
from crrmon.ports.ledger import UnusableLedgerError
from crrmon.ports.store import Put

KEY = fleet_key(META, "meta")


async def made(store: MemoryStore, *, format: int, readable_by: int) -> None:  # noqa: A002 - its field
    """Leave in a store what another version says of its ledger."""
    meta = Meta(format=format, readable_by=readable_by, shards=8)
    await store.write([Put(KEY, Body(Meta).encode(meta))])


async def test_a_newer_ledger_that_says_so_can_be_worked_on() -> None:
    """Formats expand before they contract: only `readable_by` refuses."""
    store = MemoryStore()
    await made(store, format=FORMAT + 1, readable_by=FORMAT)

    assert (await read_or_begin(store, shards=4, create=True)).shards == 8


@pytest.mark.parametrize(
    ("format_", "readable_by", "told"),
    [
        pytest.param(FORMAT + 2, FORMAT + 1, "upgrade crrmon", id="newer"),
        pytest.param(READS_FROM - 1, READS_FROM - 1, "before its first release", id="older"),
    ],
)
async def test_a_ledger_of_another_format_is_refused(
    format_: int, readable_by: int, told: str
) -> None:
    """Its names would be passed over as unknown, and what they held be lost without a word."""
    store = MemoryStore()
    await made(store, format=format_, readable_by=readable_by)

    with pytest.raises(UnusableLedgerError, match=told):
        await read_or_begin(store, shards=4, create=True)
