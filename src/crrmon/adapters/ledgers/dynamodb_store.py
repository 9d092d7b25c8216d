"""Trails in DynamoDB: one item each, so that one conditional write covers all that is held of a version.

What changes nothing but its own trail is one plain write. What also changes the sums (the backlog, the statistics) or
a list is one transaction of many trails and ONE item of the journal. No sum is kept in an item that several write.
"""

import asyncio
import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from crrmon.adapters.ledgers.dynamodb_bodies import PackedBody, number
from crrmon.adapters.ledgers.dynamodb_calls import (
    LARGEST_BYTES,
    MOST_BYTES,
    NEW,
    Calls,
    ConditionError,
    Item,
    Key,
    TooLargeError,
    at,
    unchanged,
)
from crrmon.adapters.ledgers.dynamodb_damage import DamagedError, reading
from crrmon.adapters.ledgers.dynamodb_due import DueIndex
from crrmon.adapters.ledgers.dynamodb_failures import failure_actions
from crrmon.adapters.ledgers.dynamodb_journal import Entry, entry_item
from crrmon.adapters.ledgers.dynamodb_table import (
    BODY,
    DUE,
    EXPIRES_AT,
    PK,
    SHARD,
    SK,
    TAG,
)
from crrmon.adapters.ledgers.optimistic import (
    NOTHING,
    Change,
    Held,
    TooMuchError,
    backlog_change,
)
from crrmon.adapters.ledgers.stored import pack
from crrmon.domain.objects import shard_of
from crrmon.domain.outcomes import Contribution, Half, Mark
from crrmon.domain.records import Record
from crrmon.domain.trails import Trail
from crrmon.ports.clock import Clock

AT_ONCE = 32
"""
Trails of one transaction: with 32, the journal's share of each is a tenth of a write unit. DynamoDB takes 100 actions,
and some of these trails come with lists; more trails also meet others more often.
"""
_MOST_ACTIONS = 100
_OVERHEAD_BYTES = 300
"""Keys, names and small attributes of an item, generously."""

_SORT: Final = "trail"

Found = Held | DamagedError
"""What is held of a trail, or why that cannot be read."""


class Kept(Trail):
    """
    A trail with how long its marks and halves are kept.
    """

    until: dict[str, int] = {}  # noqa: RUF012 - msgspec copies it
    """By slot; seconds since the epoch."""


class _Packed(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What is in the body of a trail.
    """

    records: tuple[Record, ...] = msgspec.field(default=(), name="r")
    marks: dict[str, tuple[int, Mark]] = msgspec.field(default_factory=dict, name="m")
    """With until when they are kept."""
    halves: dict[str, tuple[int, Half]] = msgspec.field(default_factory=dict, name="h")


_BODY = PackedBody(_Packed)


class Trails:
    """
    Implements `optimistic.Store`.

    Args:
        calls: to the table.
        due: is told whose next look may have changed.
        shards: of the ledger.
        horizon: seconds that marks and halves are kept.
        clock: tells which of them are past it.
        chance: names journal items.
    """

    def __init__(
        self,
        calls: Calls,
        *,
        due: DueIndex,
        shards: int,
        horizon: float,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._calls = calls
        self._due = due
        self._shards = shards
        self._horizon = horizon
        self._clock = clock
        self._chance = chance
        self._asking: list[tuple[Sequence[bytes], asyncio.Future[Mapping[bytes, Found]]]] = []
        self._reading: set[asyncio.Task[None]] = set()

    def chunks(self, trails: Sequence[bytes], *, alone: bool) -> Sequence[Sequence[bytes]]:
        """
        Split trails into what can be written at once; alone, none waits for another and each is half the price.
        """
        size = 1 if alone else AT_ONCE
        return [trails[start : start + size] for start in range(0, len(trails), size)]

    # ---- reading ----

    async def read(self, trails: Sequence[bytes]) -> Mapping[bytes, Held]:
        """
        Read trails; those of which there is no item are left out.

        What several want at the same time is asked in one call: trails that are written alone are read alone, too.

        Raises:
            DamagedError: one of these trails cannot be read. Who asks for others at the same time is not harmed.
        """
        held: dict[bytes, Held] = {}
        for trail, one in (await self.read_each(trails)).items():
            if isinstance(one, DamagedError):
                raise DamagedError(str(one)) from one
            held[trail] = one
        return held

    async def read_each(self, trails: Sequence[bytes]) -> Mapping[bytes, Found]:
        """
        Do as `read` does, and tell of each trail that cannot be read why that is so.
        """
        loop = asyncio.get_running_loop()
        if not self._asking:
            loop.call_soon(self._read_all)
        answer: asyncio.Future[Mapping[bytes, Found]] = loop.create_future()
        self._asking.append((trails, answer))
        return await answer

    def _read_all(self) -> None:
        asking, self._asking = self._asking, []
        task = asyncio.create_task(self._answer(asking), name="read trails")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _answer(
        self, asking: Sequence[tuple[Sequence[bytes], asyncio.Future[Mapping[bytes, Found]]]]
    ) -> None:
        wanted = dict.fromkeys(trail for trails, _ in asking for trail in trails)
        try:
            items = await self._calls.get_all([key_of_trail(trail) for trail in wanted])
            held = dict(map(self._found, items))
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait are told
            for _, answer in asking:
                if not answer.done():
                    answer.set_exception(error)
            return
        for trails, answer in asking:
            if not answer.done():
                answer.set_result({trail: held[trail] for trail in trails if trail in held})

    def _found(self, item: Item) -> tuple[bytes, Found]:
        trail = trail_of_key(item[PK]["S"])
        try:
            with reading(item, table=self._calls.table):
                return trail, self._held(item)
        except DamagedError as error:
            return trail, error

    def _held(self, item: Item) -> Held:
        packed = _BODY.decode(item[BODY]["B"])
        # DynamoDB may take two days to drop what has expired. The tag is of the whole item, for it is there.
        now = self._clock.now()
        marks = {slot: one for slot, one in packed.marks.items() if one[0] > now}
        halves = {slot: one for slot, one in packed.halves.items() if one[0] > now}
        trace = Kept(
            records={record.version.bucket: record for record in packed.records},
            marks={slot: mark for slot, (_, mark) in marks.items()},
            halves={slot: half for slot, (_, half) in halves.items()},
            until={slot: one[0] for kept in (marks, halves) for slot, one in kept.items()},
        )
        return Held(trace, item[TAG]["S"])

    # ---- writing ----

    async def write(
        self, changes: Sequence[Change], *, added: Contribution | None, now: float
    ) -> Sequence[bytes]:
        """
        Write the changes of one chunk; see `optimistic.Store`.
        """
        actions = [self._action(change, now) for change in changes]
        actions += failure_actions(changes)
        moved = tuple(
            (route.source, route.destination, slot, tuple(sums))
            for (route, slot), sums in backlog_change(changes).sums()
        )
        name = ""
        if added is not None or moved:
            # NB: with nothing to count, a record may be parked, dropped and parked again within minutes. By a random
            # name DynamoDB knows the third from the first; a settled batch is to be known again by its own.
            name = added.id if added is not None else f"{self._chance.getrandbits(96):024x}"
            item = entry_item(name, Entry(added=added, moved=moved))  # type: ignore[arg-type]
            actions.append({"Put": {"Item": item}})
        if any(_bytes(action) > LARGEST_BYTES for action in actions):
            raise TooMuchError("DynamoDB takes 400 KB of one item")
        if len(actions) > _MOST_ACTIONS or sum(map(_bytes, actions)) > MOST_BYTES:
            raise TooMuchError(f"{len(actions)} actions")
        try:
            if len(actions) == 1:
                await self._single(actions[0])
            else:
                await self._calls.transact(actions, token=_token(self._calls.table, actions))
        except ConditionError as error:
            return [changes[place].trail for place in error.places]
        except TooLargeError as error:
            raise TooMuchError(str(error)) from error
        for change in changes:
            self._due.changed(shard_of(change.trail, self._shards))
        return ()

    async def _single(self, action: Mapping[str, Mapping[str, Any]]) -> None:
        ((kind, fields),) = action.items()
        fields = dict(fields)
        if kind == "Put":
            await self._calls.put(fields.pop("Item"), fields)
        else:
            key = fields.pop("Key")
            await self._calls.delete((key[PK]["S"], _SORT), fields)

    def _action(self, change: Change, now: float) -> dict[str, Any]:
        condition = NEW if change.tag == NOTHING else unchanged(TAG, {"S": change.tag})
        key = key_of_trail(change.trail)
        after = change.after
        if after.empty:
            return {"Delete": {"Key": at(key), **condition}}
        return {"Put": {"Item": self._item(key, change, now), **condition}}

    def _item(self, key: Key, change: Change, now: float) -> Item:
        before, after = change.before, change.after
        old = before.until if isinstance(before, Kept) else {}
        new = math.ceil(now + self._horizon)

        def until(slot: str, *, same: bool) -> int:
            return old.get(slot, new) if same else new

        marks = {
            slot: (until(slot, same=mark is before.marks.get(slot)), mark)
            for slot, mark in after.marks.items()
        }
        halves = {
            slot: (until(slot, same=half is before.halves.get(slot)), half)
            for slot, half in after.halves.items()
        }
        records = tuple(after.records.values())
        body = _BODY.encode(_Packed(records=records, marks=marks, halves=halves))
        # The tag is made of the content: equal content means equal decisions, also where an item was deleted and
        # made again meanwhile.
        tag = hashlib.blake2b(body, digest_size=9).hexdigest()
        item: Item = {**at(key), BODY: {"B": body}, TAG: {"S": tag}}
        if records:
            item[SHARD] = {"N": str(shard_of(change.trail, self._shards))}
            item[DUE] = number(min(record.next_look_at for record in records))
        else:
            # Seconds since the epoch, under the name that the table knows; what still has a record never expires.
            kept = (one[0] for kept in (marks, halves) for one in kept.values())
            item[EXPIRES_AT] = {"N": str(max(kept))}
        return item


def key_of_trail(trail: bytes) -> Key:
    """
    Return where a trail lies.
    """
    return f"trail#{trail.hex()}", _SORT


def trail_of_key(partition: str) -> bytes:
    """
    Undo `key_of_trail`.
    """
    return bytes.fromhex(partition.removeprefix("trail#"))


def _bytes(action: Mapping[str, Mapping[str, Any]]) -> int:
    ((_, fields),) = action.items()
    return _OVERHEAD_BYTES + len(fields.get("Item", {}).get(BODY, {}).get("B", b""))


def _token(table: str, actions: Sequence[Mapping[str, Any]]) -> str:
    """
    Make the same token of the same request, so that a repetition after a lost answer is not carried out twice.
    """
    digest = hashlib.blake2b(table.encode(), digest_size=16)
    for action in actions:
        ((kind, fields),) = action.items()
        item = fields.get("Item", fields.get("Key", {}))
        old = fields.get("ExpressionAttributeValues", {}).get(":value", {}).get("S", "")
        text = f"{kind} {item[PK]['S']} {item[SK]['S']} {old};"
        digest.update(pack(text) + item.get(BODY, {}).get("B", b""))
    return digest.hexdigest()
