"""The lists of open failures: one of all, one of each source bucket, newest first.

An entry is a key and nothing else, written and deleted together with what changes the record. A list is spread over the
shards, so that a bucket whose objects all fail does not write into one partition.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from crrmon.domain.records import Record, State
from crrmon.domain.trails import failed_at, failed_towards
from crrmon.ledger.damage import reading
from crrmon.ledger.encoding import FailurePlace, pack, place_of, token_of, unpack
from crrmon.ledger.layout import BUCKET_FAILURES, FAILURES, joined, sortable, time_of
from crrmon.ports.store import Action, Delete, Key, Put, Store, prefixed


def failure_actions(
    group: int, trail: bytes, pairs: Iterable[tuple[Record | None, Record | None]]
) -> list[Action]:
    """Return what to do to the lists when records of a trail change.

    Args:
        group: the shard of the trail.
        trail: its id.
        pairs: records before and after.
    """
    actions: list[Action] = []
    for old, new in pairs:
        gone, come = _keys(group, trail, old), _keys(group, trail, new)
        if gone != come:
            actions += [Delete(key) for key in gone]
            actions += [Put(key, b"") for key in come]
    return actions


def _keys(group: int, trail: bytes, record: Record | None) -> list[Key]:
    at_time = None if record is None else failed_at(record)
    if record is None or at_time is None:
        return []
    bucket = record.version.bucket
    place = _sort((at_time, trail, bucket))
    return [
        Key(FAILURES, group, place),
        Key(BUCKET_FAILURES, group, _list(bucket) + place),
    ]


def _sort(place: FailurePlace) -> bytes:
    time, trail, bucket = place
    return pack(f"{sortable(time)}#{trail.hex()}#{bucket}")


def _list(bucket: str) -> bytes:
    return pack(joined(bucket) + "#")


async def failures_page(
    store: Store, shards: int, *, bucket: str | None, after: str | None, limit: int
) -> tuple[list[tuple[bytes, str]], str | None]:
    """Read a page of a list.

    Returns:
        The trail and source bucket of each failure, newest first, and what to go on with; None after the last.

    Raises:
        ValueError: `after` is not what a page ended with.
    """
    kind, start = (FAILURES, b"") if bucket is None else (BUCKET_FAILURES, _list(bucket))
    # One more than asked for tells whether there is a next page.
    span = replace(prefixed(start), reverse=True, limit=limit + 1)
    if after is not None:
        span = replace(span, high=start + _sort(place_of(after)))
    found = await store.scan(kind, range(shards), span)
    places = []
    for one in found:
        with reading(store, one.key):
            places.append(_place(one.key.sort[len(start) :]))
    page = [(trail, source) for _, trail, source in places[:limit]]
    more = bool(page) and len(places) > limit
    return page, token_of(places[limit - 1]) if more else None


def _place(sort: bytes) -> FailurePlace:
    time, trail, bucket = unpack(sort).split("#", 2)
    return time_of(time), bytes.fromhex(trail), bucket


def open_failures(
    page: Sequence[tuple[bytes, str]], records: Iterable[Record], destination: str | None
) -> list[Record]:
    """Return the records of a page in its order; one that was repaired since the list was read is left out.

    Args:
        page: trail and source bucket of each.
        records: of those trails.
        destination: bucket on the way to which they stand as failed; None for any.
    """
    failed = {
        (record.version.trail_id, record.version.bucket): record
        for record in records
        if record.state is State.FAILED and failed_towards(record, destination)
    }
    return [failed[at] for at in page if at in failed]
