"""The lists of open failures: one of all, one of each source bucket, newest first.

An entry is a key and nothing else, written and deleted in the transaction that changes the record. Each list has a few
partitions, so that a bucket whose objects all fail does not write into one.
"""

import asyncio
import heapq
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from crrmon.adapters.ledgers.dynamodb_bodies import sortable, time_of
from crrmon.adapters.ledgers.dynamodb_calls import Calls, Key, at
from crrmon.adapters.ledgers.dynamodb_table import SK
from crrmon.adapters.ledgers.optimistic import Change
from crrmon.adapters.ledgers.stored import Place, place_of, token_of
from crrmon.domain.objects import shard_of
from crrmon.domain.records import Record
from crrmon.domain.trails import failed_at

_PARTITIONS: Final = 8


def failure_actions(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """
    Tell what to do to the lists when trails change.
    """
    actions: list[dict[str, Any]] = []
    for change in changes:
        for old, new in change.records:
            gone, come = _keys(change.trail, old), _keys(change.trail, new)
            if gone != come:
                actions += [{"Delete": {"Key": at(key)}} for key in gone]
                actions += [{"Put": {"Item": at(key)}} for key in come]
    return actions


def _keys(trail: bytes, record: Record | None) -> list[Key]:
    at_time = None if record is None else failed_at(record)
    if record is None or at_time is None:
        return []
    bucket = record.version.bucket
    partition, sort = shard_of(trail, _PARTITIONS), _sort((at_time, trail, bucket))
    return [(_list(None, partition), sort), (_list(bucket, partition), sort)]


def _list(bucket: str | None, partition: int) -> str:
    return f"failures#{partition}" + ("" if bucket is None else f"#{bucket}")


def _sort(place: Place) -> str:
    time, trail, bucket = place
    return f"{sortable(time)}#{trail.hex()}#{bucket}"


async def failures_page(
    calls: Calls, *, bucket: str | None, after: str | None, limit: int
) -> tuple[list[tuple[bytes, str]], str | None]:
    """
    Read a page of a list.

    Returns:
        The trail and source bucket of each failure, newest first, and what to go on with; None after the last.

    Raises:
        ValueError: `after` is not what a page ended with.
    """
    # "~" comes after every time: from the newest on.
    last = "~" if after is None else _sort(place_of(after))
    # One more than asked for tells whether there is a next page.
    found = await asyncio.gather(
        *(
            calls.query(
                _list(bucket, partition),
                condition=f"AND {SK} < :last",
                values={":last": {"S": last}},
                limit=limit + 1,
                ScanIndexForward=False,
            )
            for partition in range(_PARTITIONS)
        )
    )
    merged = heapq.merge(*([item[SK]["S"] for item in items] for items in found), reverse=True)
    sorts = list(islice(merged, limit + 1))
    page = [_trail_and_bucket(sort) for sort in sorts[:limit]]
    if not page or len(sorts) <= limit:
        return page, None
    trail, source = page[-1]
    return page, token_of((time_of(sorts[limit - 1].partition("#")[0]), trail, source))


def _trail_and_bucket(sort: str) -> tuple[bytes, str]:
    _, trail, bucket = sort.split("#", 2)
    return bytes.fromhex(trail), bucket
