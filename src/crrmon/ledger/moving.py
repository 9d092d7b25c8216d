"""Taking all that is pending out of a ledger, a page at a time, and into another one."""

from collections.abc import Sequence

import msgspec

from crrmon.domain.trails import Trail
from crrmon.ledger.encoding import TRAIL_BYTES
from crrmon.ledger.layout import TRAILS
from crrmon.ledger.trails import NOTHING, Change, Trails
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import Due, Key, Store, TooMuchError

_TRIES = 20


class _PageEnd(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended."""

    shard: int
    due: float
    trail: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_PageEnd)


async def export_page(
    store: Store, trails: Trails, shards: int, *, after: str | None, limit: int
) -> tuple[list[Trail], str | None]:
    """Read a page of the trails that hold a record: every record has a next look, by which they are gone through.

    Raises:
        ValueError: `after` is not what a page ended with.
        LedgerError: somebody works on the ledger, or trying again may help.
    """
    shard, last = (0, None) if after is None else await _after(trails, _place_of(after, shards))
    found: list[Due] = []
    while shard < shards and len(found) <= limit:
        wanted = limit + 1 - len(found)
        some = await store.walk(TRAILS, shard, after=last, limit=wanted)
        found += some
        if len(some) < wanted:
            shard, last = shard + 1, None
    page = found[:limit]
    held = await trails.read([one.key.sort for one in page]) if page else {}
    told = [held[one.key.sort].trail for one in page if one.key.sort in held]
    token = _token_of(page[-1]) if len(found) > limit else None
    return [trail for trail in told if trail.records], token


async def _after(trails: Trails, place: _PageEnd) -> tuple[int, Due]:
    """Return where to go on."""
    held = (await trails.read([place.trail])).get(place.trail, NOTHING)
    dues = [record.next_look_at for record in held.trail.records.values()]
    if not dues or min(dues) != place.due:
        raise LedgerError(
            f"the object where the last page ended ({place.trail.hex()}) is no longer pending as it was: another process is working"
            " on the ledger; stop all daemons that use it, and start over"
        )
    return place.shard, Due(place.due, Key(TRAILS, place.shard, place.trail))


def _token_of(due: Due) -> str:
    return _encoder.encode(_PageEnd(due.key.group, due.at, due.key.sort)).hex()


def _place_of(token: str, shards: int) -> _PageEnd:
    try:
        place = _decoder.decode(bytes.fromhex(token))
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{token!r} is not the end of a page of trails") from error
    if len(place.trail) != TRAIL_BYTES or not 0 <= place.shard < shards:
        raise ValueError(f"{token!r} is not the end of a page of trails")
    return place


async def restore_trails(trails: Trails, given: Sequence[Trail], *, now: float) -> None:
    """Take over trails; one of which anything is held already stays as it is."""
    by_id = {trail.id: trail for trail in given}
    for chunk in trails.chunks(list(by_id), alone=False):
        await _restore(trails, {trail: by_id[trail] for trail in chunk}, now=now)


async def _restore(trails: Trails, given: dict[bytes, Trail], *, now: float) -> None:
    for _ in range(_TRIES):
        held = await trails.read(list(given))
        changes = []
        for trail, told in given.items():
            before = held.get(trail, NOTHING)
            if before.trail.empty:
                after = Trail()
                after.take_over(told)
                changes.append(Change(trail, before, after))
        try:
            if not changes or not await trails.write(changes, added=None, now=now):
                return
        except TooMuchError:
            if len(given) == 1:
                raise
            for trail, told in given.items():
                await _restore(trails, {trail: told}, now=now)
            return
    raise LedgerError("another process works on this ledger during the copy")
