"""Implements the store in a DynamoDB table.

Every condition is on one item, and what one write does together is one transaction. Nothing is ever scanned:
everything lies in partitions whose names are known (`items`).
"""

import asyncio
import hashlib
import heapq
import random
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, Self

import structlog

from crrmon.adapters.aws import AwsSession
from crrmon.adapters.border import NoAnswerError
from crrmon.adapters.remedies import explain
from crrmon.adapters.stores.dynamodb.attributes import at, body_bytes
from crrmon.adapters.stores.dynamodb.calls import LARGEST_BYTES, MOST_BYTES, Calls, Consumed
from crrmon.adapters.stores.dynamodb.client import client_of
from crrmon.adapters.stores.dynamodb.due import DueIndex
from crrmon.adapters.stores.dynamodb.items import (
    condition,
    found_of,
    item_of,
    partition,
    position,
    sort_of,
    tag_of,
)
from crrmon.adapters.stores.dynamodb.ranges import key_range
from crrmon.adapters.stores.dynamodb.reads import JoinedReads
from crrmon.adapters.stores.dynamodb.table import expiry_is_on, unlike, unlike_error
from crrmon.domain.ledger_table import EXPIRES_AT
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import LedgerError, Pace
from crrmon.ports.store import (
    WHOLE,
    Action,
    Delete,
    Due,
    Found,
    Guard,
    ItemKind,
    Key,
    Limits,
    Put,
    Span,
    Tag,
    TooMuchError,
)

AT_ONCE: Final = 32
"""
Unordered items of one transaction: with 32, the share of each in what they write together is a tenth of a write unit.
DynamoDB takes 100 actions, and some of these come with others; more also meet others more often.
"""
_MOST_ACTIONS: Final = 100
_OVERHEAD_BYTES: Final = 300
"""Keys, names and small attributes of an item, generously."""

log = structlog.get_logger()


class DynamoDBStore:
    """Implements the `Store` port.

    Args:
        calls: to the table.
        clock: tells what has expired.
    """

    exclusive = False
    limits = Limits(items=AT_ONCE, alone=True, item_bytes=LARGEST_BYTES)
    pace = Pace(size=AT_ONCE, linger=0.5, lanes=8)
    """
    A call of 32 trails is one transaction with one item of the journal. A transaction of one trail costs 5 write units, one
    of 32 costs 2.1 for each: waiting half a second for company is what makes it cheap, and nobody waits for the answer but
    a message that is held anyway. With tens of milliseconds for each, eight calls at once carry a few thousand objects a
    second.
    """

    def __init__(self, calls: Calls, *, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._due = DueIndex(calls, clock=clock)
        self._reads = JoinedReads(calls, clock=clock)
        self.name = f"ledger.dynamodb.table {calls.table!r}"

    @classmethod
    async def open(
        cls,
        aws: AwsSession,
        *,
        table: str,
        region: str | None = None,
        clock: Clock,
        chance: random.Random | None = None,
        consumed: Consumed | None = None,
    ) -> Self:
        """Open a table, which must be there.

        Args:
            aws: makes the client; it must last as long as the store.
            table: its name.
            region: where it is; None for the default region.
            clock: tells what has expired.
            chance: for when to ask again.
            consumed: is told the consumed capacity of every call; None asks for no figures.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help.
        """
        try:
            client, where = await client_of(aws, region)
        except NoAnswerError as error:
            raise LedgerError(f"DynamoDB: {explain(error, permission='')}") from error
        calls = Calls(
            client,
            table=table,
            region=where,
            chance=chance or random.Random(),  # noqa: S311 - no secret
            consumed=consumed,
        )
        difference = unlike(await calls.describe())
        if difference is not None:
            raise unlike_error(table, difference)
        await _warn_of_no_expiry(calls)
        return cls(calls, clock=clock)

    def where(self, key: Key) -> str:
        """Name an item for people."""
        pk, sk = position(key)
        return f"item {pk!r}, {sk!r} of {self.name}"

    def tag_of(self, body: bytes) -> Tag:
        """Return the tag of a body."""
        return Tag(tag_of(body))

    # ---- reading ----

    async def get(self, keys: Sequence[Key]) -> Sequence[Found]:
        """Read items as they are now. What several want at the same time is asked in one call."""
        return await self._reads.get(keys)

    async def scan(
        self, kind: ItemKind, groups: Sequence[int], span: Span = WHOLE
    ) -> Sequence[Found]:
        """Read items of an ordered kind, in the order of their sort keys."""
        # Each partition once, with any group that lies in it.
        partitions = {partition(kind, group): group for group in groups}
        found = await asyncio.gather(
            *(self._scan(kind, group, span) for group in partitions.values())
        )
        if len(found) == 1:
            return found[0]
        # Each partition comes sorted; merging keeps the order across them.
        merged = heapq.merge(*found, key=lambda one: one.key.sort, reverse=span.reverse)
        return list(islice(merged, span.limit))

    async def _scan(self, kind: ItemKind, group: int, span: Span) -> list[Found]:
        high = span.high
        condition_, values = key_range(span)
        items = await self._calls.query(
            partition(kind, group),
            condition=condition_,
            values=values,
            # The end of the range may be among them.
            limit=None if span.limit is None else span.limit + (high is not None),
            ScanIndexForward=not span.reverse,
        )
        now = self._clock.now()
        found = (found_of(Key(kind, group, sort_of(kind, item)), item, now=now) for item in items)
        # Expired ones have a tag and no body; lists of failures have neither.
        there = (one for one in found if one.body or one.tag.value == "")
        inside = (one for one in there if high is None or one.key.sort < high)
        return list(islice(inside, span.limit))

    # ---- writing ----

    async def write(self, actions: Sequence[Action]) -> None:
        """Do all of it or nothing."""
        requests = [_request(action) for action in actions]
        # Judged before it is sent: what is too much is split, and to be refused would cost a call.
        sizes = [_OVERHEAD_BYTES + body_bytes(request.get("Item", {})) for _, request in requests]
        if max(sizes) > LARGEST_BYTES + _OVERHEAD_BYTES:
            raise TooMuchError("DynamoDB accepts at most 400 KB per item")
        if len(requests) > _MOST_ACTIONS or sum(sizes) > MOST_BYTES:
            raise TooMuchError(f"{len(requests)} actions")
        # As a transaction it would cost twice as much.
        if len(requests) == 1 and not isinstance(actions[0], Guard):
            await self._calls.single(*requests[0])
        else:
            token = _token(self._calls.table, actions)
            await self._calls.transact([{kind: one} for kind, one in requests], token=token)
        self._tell_due(actions)

    async def write_each(self, actions: Sequence[Put | Delete]) -> None:
        """Do unconditional actions, in any order."""
        await self._calls.write_each(
            [
                {"PutRequest": {"Item": item_of(action)}}
                if isinstance(action, Put)
                else {"DeleteRequest": {"Key": at(position(action.key))}}
                for action in actions
            ]
        )
        self._tell_due(actions)

    def _tell_due(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if not action.key.kind.ordered:
                # A shard in which nothing was due is not asked until then; this may be due before.
                self._due.changed(action.key.group)

    # ---- time ----

    async def due(
        self, kind: ItemKind, groups: Sequence[int], *, until: float, limit: int
    ) -> Sequence[Due]:
        """Find unordered items that are due, the longest due first."""
        return await self._due.due(kind, groups, until=until, limit=limit)

    async def walk(
        self, kind: ItemKind, group: int, *, after: Due | None, limit: int
    ) -> Sequence[Due]:
        """Go through all items of a group that are due at whatever time."""
        return await self._due.walk(kind, group, after=after, limit=limit)

    async def expire(
        self,
        kind: ItemKind,  # noqa: ARG002 - DynamoDB does it by its own clock
        groups: Sequence[int],  # noqa: ARG002
        *,
        now: float,  # noqa: ARG002
    ) -> int:
        """Do nothing: DynamoDB drops what has expired, at no charge."""
        return 0

    async def close(self) -> None:
        """Do nothing: the client is the session's."""


def _request(action: Action) -> tuple[str, dict[str, Any]]:
    """Return the name of an action in a transaction, and its fields without the table."""
    fields = condition(action.tag)
    if isinstance(action, Put):
        return "Put", {"Item": item_of(action), **fields}
    kind = "Delete" if isinstance(action, Delete) else "ConditionCheck"
    return kind, {"Key": at(position(action.key)), **fields}


def _token(table: str, actions: Sequence[Action]) -> str:
    """Return the same token for the same request, so that a repetition after a lost answer is not carried out twice."""
    digest = hashlib.blake2b(table.encode(), digest_size=16)
    for action in actions:
        pk, sk = position(action.key)
        text = f"{type(action).__name__} {pk} {sk} {action.tag.value};"
        digest.update(text.encode("utf-8", "surrogatepass"))
        if isinstance(action, Put):
            digest.update(f"{action.due} {action.expires_at} {len(action.body)};".encode())
            digest.update(action.body)
    return digest.hexdigest()


async def _warn_of_no_expiry(calls: Calls) -> None:
    try:
        told = await calls.describe_expiry()
    except LedgerError as error:
        log.warning("ledger_expiry_unknown", table=calls.table, reason=str(error))
        return
    if not expiry_is_on(told):
        log.warning(
            "ledger_never_expires",
            table=calls.table,
            reason=f"time to live by {EXPIRES_AT!r} is off, so the table grows forever; "
            "run: crrmon ledger create",
        )
