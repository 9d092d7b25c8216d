"""Short ways to do with a ledger what daemons do with it."""

from collections.abc import Sequence

from msgspec.structs import replace

from crrmon.domain.outcomes import Delta, Settlement, fold
from crrmon.ports.ledger import FrozenWindow, Lease, Ledger
from fakes.ledger_values import done, record

PARTS = (b"first" * 3, b"second")


async def holding(ledger: Ledger, shard: int = 0, *, owner: str = "me") -> Lease:
    """Take a shard, whoever has it."""
    lease = await ledger.claim((await ledger.leases())[shard], owner=owner)
    assert lease is not None
    return lease


def batch(name: str, size: int = 3) -> list[Settlement]:
    """Settle a few new versions."""
    return [replace(done(record(f"{name}.{at}")), rev=0) for at in range(size)]


def window(
    starts_at: float, taken: Sequence[Delta] = (), *, parts: Sequence[bytes] = PARTS
) -> FrozenWindow:
    """Create a window of what was counted."""
    return FrozenWindow(
        starts_at=starts_at,
        parts=tuple(parts),
        deltas=tuple(delta.id for delta in taken),
    )


async def publish(
    ledger: Ledger, lease: Lease, starts_at: float, *, parts: Sequence[bytes] = PARTS
) -> list[Delta]:
    """Freeze all that waits; return it."""
    taken = list(await ledger.deltas())
    await ledger.freeze(window(starts_at, taken, parts=parts), lease=lease)
    return taken


async def completed(ledger: Ledger) -> int:
    """Count the arrivals that wait to be reported."""
    return sum(tally.completed for tally in fold(list(await ledger.deltas())).values())


async def pending(ledger: Ledger) -> int:
    """Count the objects that the backlog knows as pending."""
    return sum(slot.pending_objects for slot in await ledger.backlog())
