"""What is due: read from the table's one index, shard by shard, and only where something may be.

The index holds the trails with a record only, by their next look. It is a moment behind the table, so what it tells
is a hint; the trails themselves say whether they are due.
"""

import asyncio
import heapq
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from crrmon.adapters.stores.dynamodb.attributes import Item, at
from crrmon.adapters.stores.dynamodb.calls import Calls
from crrmon.adapters.stores.dynamodb.items import number, position, sort_of
from crrmon.domain.ledger_table import DUE, INDEX, SHARD
from crrmon.ports.clock import Clock
from crrmon.ports.store import Due, ItemKind, Key

LOOKED_AHEAD_SECONDS = 5.0
"""How far ahead a shard is asked for. When nothing is due that soon, it is not asked again until then: an idle fleet
would otherwise ask every shard twice a second. What this process itself writes is found as soon as the index tells it;
what another one parks to be looked at within these seconds may be looked at as much later.
"""
SETTLING_SECONDS = 1.0
"""For how long after a write of this process its shard is asked whatever the index tells: it follows the table within
milliseconds, as a rule, and what it does not tell yet must not be taken for not there.
"""


class _Quiet(msgspec.Struct, frozen=True):
    """From when until when nothing is due in a shard."""

    since: float
    until: float


class DueIndex:
    """Finds the trails that are due."""

    def __init__(self, calls: Calls, *, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._quiet: dict[int, _Quiet] = {}
        self._changes: dict[int, tuple[int, float]] = {}
        """How often something of a shard was written, and when last."""

    def changed(self, shard: int) -> None:
        """Take note that something of a shard was written."""
        number_, _ = self._changes.get(shard, (0, 0.0))
        self._changes[shard] = number_ + 1, self._clock.now()
        self._quiet.pop(shard, None)

    async def due(
        self, kind: ItemKind, shards: Sequence[int], *, until: float, limit: int
    ) -> list[Due]:
        """Find the items that seem to be due, the longest due first."""
        # An empty page costs half a unit, and there are 64 shards: most are not asked most of the time.
        asked = [shard for shard in dict.fromkeys(shards) if not self._is_quiet(shard, until)]
        found = await asyncio.gather(*(self._of(kind, shard, until, limit) for shard in asked))
        return list(islice(heapq.merge(*found, key=lambda due: due.at), limit))

    def _is_quiet(self, shard: int, now: float) -> bool:
        quiet = self._quiet.get(shard)
        return quiet is not None and quiet.since <= now < quiet.until

    async def _of(self, kind: ItemKind, shard: int, now: float, limit: int) -> list[Due]:
        # One question tells what is due and when something will be.
        lookahead = now + LOOKED_AHEAD_SECONDS
        changes = self._changes.get(shard)
        found = await self._page(
            shard, f" AND {DUE} <= :until", {":until": number(lookahead)}, limit=limit
        )
        places = [_due(kind, shard, item) for item in found]
        due = [place for place in places if place.at <= now]
        # What this process wrote a moment ago may not be in the index yet, so its silence proves nothing.
        settled = changes is None or abs(now - changes[1]) >= SETTLING_SECONDS
        if not due and settled and changes == self._changes.get(shard):
            until = places[0].at if places else lookahead
            self._quiet[shard] = _Quiet(since=now, until=until)
        return due

    async def _page(
        self, shard: int, condition: str, values: Mapping[str, Any], *, limit: int
    ) -> list[Item]:
        # NB: a page never holds more than 1 MB, which is thousands of these: whoever wants more asks again.
        answer = await self._calls.query_page(_request(shard, condition, values, limit=limit))
        return list(answer["Items"])

    async def walk(
        self, kind: ItemKind, shard: int, *, after: Due | None, limit: int
    ) -> list[Due]:
        """Go through the items of a shard, due or not."""
        request = _request(shard, "", {}, limit=limit)
        if after is not None:
            # The place of an item in the index is its own key and the index's.
            request["ExclusiveStartKey"] = {
                **at(position(after.key)),
                SHARD: {"N": str(shard)},
                DUE: number(after.at),
            }
        found: list[Due] = []
        while True:
            answer = await self._calls.query_page(request)
            found += [_due(kind, shard, item) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer or len(found) >= limit:
                return found[:limit]
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _due(kind: ItemKind, shard: int, item: Item) -> Due:
    return Due(float(item[DUE]["N"]), Key(kind, shard, sort_of(kind, item)))


def _request(
    shard: int, condition: str, values: Mapping[str, Any], *, limit: int
) -> dict[str, Any]:
    return {
        "IndexName": INDEX,
        "KeyConditionExpression": f"{SHARD} = :shard{condition}",
        "ExpressionAttributeValues": {":shard": {"N": str(shard)}, **values},
        "Limit": limit,
    }
