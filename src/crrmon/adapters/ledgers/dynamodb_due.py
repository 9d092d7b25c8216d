"""What is due: read from the table's one index, shard by shard, and only where something may be.

The index holds the trails with a record only, by their next look. It is a moment behind the table, so what it tells
is a hint; the trails themselves say whether they are due.
"""

import asyncio
import heapq
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from crrmon.adapters.ledgers.dynamodb_bodies import number
from crrmon.adapters.ledgers.dynamodb_calls import Calls, Item
from crrmon.adapters.ledgers.dynamodb_table import DUE, INDEX, PK, SHARD, SK
from crrmon.ports.clock import Clock

LOOKED_AHEAD_SECONDS = 5.0
"""
How far ahead a shard is asked for. When nothing is due that soon, it is not asked again until then: an idle fleet
would otherwise ask every shard twice a second. What this process itself writes is found as soon as the index tells it;
what another one parks to be looked at within these seconds may be looked at as much later.
"""
SETTLING_SECONDS = 1.0
"""
For how long after a write of this process its shard is asked whatever the index tells: it follows the table within
milliseconds, as a rule, and what it does not tell yet must not be taken for not there.
"""


class _Quiet(msgspec.Struct, frozen=True):
    """
    From when until when nothing is due in a shard.
    """

    since: float
    until: float


class DueIndex:
    """
    Finds the trails that are due.
    """

    def __init__(self, calls: Calls, *, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._quiet: dict[int, _Quiet] = {}
        self._changes: dict[int, tuple[int, float]] = {}
        """How often something of a shard was written, and when last."""

    def changed(self, shard: int) -> None:
        """
        Take note that something of a shard was written.
        """
        number_, _ = self._changes.get(shard, (0, 0.0))
        self._changes[shard] = number_ + 1, self._clock.now()
        self._quiet.pop(shard, None)

    async def partitions(self, shards: Sequence[int], *, now: float, limit: int) -> list[str]:
        """
        Find the partitions of the trails that seem to be due, the longest due first.
        """
        asked = [shard for shard in dict.fromkeys(shards) if not self._is_quiet(shard, now)]
        found = await asyncio.gather(*(self._of(shard, now, limit) for shard in asked))
        return [partition for _, partition in islice(heapq.merge(*found), limit)]

    def _is_quiet(self, shard: int, now: float) -> bool:
        quiet = self._quiet.get(shard)
        return quiet is not None and quiet.since <= now < quiet.until

    async def _of(self, shard: int, now: float, limit: int) -> list[tuple[float, str]]:
        horizon = now + LOOKED_AHEAD_SECONDS
        changes = self._changes.get(shard)
        found = await self._page(
            shard, f" AND {DUE} <= :until", {":until": number(horizon)}, limit=limit
        )
        places = [(float(item[DUE]["N"]), item[PK]["S"]) for item in found]
        due = [place for place in places if place[0] <= now]
        settled = changes is None or abs(now - changes[1]) >= SETTLING_SECONDS
        if not due and settled and changes == self._changes.get(shard):
            until = places[0][0] if places else horizon
            self._quiet[shard] = _Quiet(since=now, until=until)
        return due

    async def _page(
        self, shard: int, condition: str, values: Mapping[str, Any], *, limit: int
    ) -> list[Item]:
        # NB: a page never holds more than 1 MB, which is thousands of these: whoever wants more asks again.
        answer = await self._calls.query_page(_request(shard, condition, values, limit=limit))
        return list(answer["Items"])

    async def page(
        self, shards: int, *, after: str | None, limit: int
    ) -> tuple[list[str], str | None]:
        """
        Go through the trails of all shards, due or not.

        Returns:
            Partitions, and where to go on; None at the end.

        Raises:
            ValueError: `after` is not where a page ended.
        """
        place: _Place | None = _Place(shard=0) if after is None else _place_of(after)
        found: list[str] = []
        while place is not None and len(found) < limit:
            some, place = await self._from(place, shards, limit=limit - len(found))
            found += some
        return found, None if place is None else _token_of(place)

    async def _from(
        self, place: "_Place", shards: int, *, limit: int
    ) -> tuple[list[str], "_Place | None"]:
        request = _request(place.shard, "", {}, limit=limit)
        if place.due:
            request["ExclusiveStartKey"] = {
                PK: {"S": place.partition},
                SK: {"S": place.sort},
                SHARD: {"N": str(place.shard)},
                DUE: {"N": place.due},
            }
        answer = await self._calls.query_page(request)
        found = [item[PK]["S"] for item in answer["Items"]]
        last = answer.get("LastEvaluatedKey")
        if last is not None:
            due, partition, sort = last[DUE]["N"], last[PK]["S"], last[SK]["S"]
            return found, _Place(shard=place.shard, due=due, partition=partition, sort=sort)
        return found, _Place(shard=place.shard + 1) if place.shard + 1 < shards else None


class _Place(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """
    Where a page ended.
    """

    shard: int
    due: str = ""
    partition: str = ""
    sort: str = ""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Place)


def _token_of(place: _Place) -> str:
    return _encoder.encode(place).hex()


def _place_of(token: str) -> _Place:
    try:
        return _decoder.decode(bytes.fromhex(token))
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{token!r} is not where a page of trails ended") from error


def _request(
    shard: int, condition: str, values: Mapping[str, Any], *, limit: int
) -> dict[str, Any]:
    return {
        "IndexName": INDEX,
        "KeyConditionExpression": f"{SHARD} = :shard{condition}",
        "ExpressionAttributeValues": {":shard": {"N": str(shard)}, **values},
        "Limit": limit,
    }
