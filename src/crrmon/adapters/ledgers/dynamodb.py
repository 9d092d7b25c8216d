"""The ledger in one DynamoDB table: for several replicas, with nothing to run.

What happens to trails is decided in this process on what was read (`optimistic`) and written on condition that it
still is so. Nothing is ever scanned: everything lies in partitions whose names are known. All lies under `pk` and
`sk`:

| pk | sk | what |
| --- | --- | --- |
| `trail#<id>` | `trail` | records, marks and halves of a version (`dynamodb_store`); those with a record are in the index `due` |
| `failures#<n>`, `failures#<n>#<bucket>` | time, trail, bucket | open failures (`dynamodb_failures`) |
| `journal#<n>` | name | what one transaction adds to the sums (`dynamodb_journal`) |
| `windows`, `window#<name>` | start; parts | frozen windows (`dynamodb_windows`) |
| `backlog` | route and day | the backlog as of the last window (`dynamodb_backlog`) |
| `leases` | 256 shards | who works on what (`dynamodb_leases`) |
| `presences` | owner | what each daemon says about itself |
| `routes` | source and destination | routes ever met |
| `states` | name | small state by name |
| `meta` | `meta` | format and shards |
"""

import contextlib
import random
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import structlog

from crrmon.adapters.aws import Aws, NoAnswerError, explain
from crrmon.adapters.ledgers.dynamodb_calls import (
    NEW,
    Calls,
    ConditionError,
    Consumed,
    Item,
    Key,
    RefusedError,
    at,
    unchanged,
)
from crrmon.adapters.ledgers.dynamodb_damage import DamagedError, reading
from crrmon.adapters.ledgers.dynamodb_due import DueIndex
from crrmon.adapters.ledgers.dynamodb_failures import failures_page
from crrmon.adapters.ledgers.dynamodb_journal import Journal
from crrmon.adapters.ledgers.dynamodb_leases import Leases
from crrmon.adapters.ledgers.dynamodb_store import AT_ONCE, Trails, key_of_trail, trail_of_key
from crrmon.adapters.ledgers.dynamodb_table import (
    BODY,
    EXPIRES_AT,
    SK,
    expiry_is_on,
    unlike,
    unlike_error,
)
from crrmon.adapters.ledgers.dynamodb_windows import Windows
from crrmon.adapters.ledgers.optimistic import NOTHING, Change, Decider, Held, TooMuchError
from crrmon.adapters.ledgers.stored import PRESENCE
from crrmon.domain.backlog import BacklogSlot, backlog_slot
from crrmon.domain.events.facts import News
from crrmon.domain.noting import Noted
from crrmon.domain.objects import MarkId, Route, trail_id
from crrmon.domain.outcomes import Contribution, Half, Mark, Settlement
from crrmon.domain.records import Record, State
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled, Trail, failed_towards
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import (
    FrozenWindow,
    Lease,
    LedgerError,
    Pace,
    Presence,
    UnusableLedgerError,
)

FORMAT: Final = 1
"""Of what this version writes."""
READABLE_BY: Final = 1
"""The oldest format whose daemons can work on what this version writes."""

PACE: Final = Pace(size=AT_ONCE, linger=0.5, lanes=8)
"""
A call of 32 trails is one transaction with one item of the journal. A transaction of one trail costs 5 write units, one
of 32 costs 2.1 for each: waiting half a second for company is what makes it cheap, and nobody waits for the answer but
a message that is held anyway. With tens of milliseconds for each, eight calls at once carry a few thousand objects a
second.
"""

_META: Final[Key] = ("meta", "meta")
_PRESENCES: Final = "presences"
_ROUTES: Final = "routes"
_STATES: Final = "states"
_TRIES = 5

T = TypeVar("T")

log = structlog.get_logger()


class DynamoDBLedger:
    """
    Implements the `Ledger` port.
    """

    def __init__(
        self,
        calls: Calls,
        *,
        shards: int,
        horizon_seconds: float,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._calls = calls
        self._shards = shards
        self._clock = clock
        self._due = DueIndex(calls, clock=clock)
        self._trails = Trails(
            calls,
            due=self._due,
            shards=shards,
            horizon=horizon_seconds,
            clock=clock,
            chance=chance,
        )
        self._decider = Decider(self._trails)
        self._leases = Leases(calls, shards=shards, chance=chance)
        self._windows = Windows(calls, leases=self._leases, clock=clock, chance=chance)
        self._routes: set[Route] = set()
        self._unreadable: set[bytes] = set()
        """Trails of which it was said that they cannot be read."""

    @classmethod
    async def open(
        cls,
        aws: Aws,
        *,
        table: str,
        region: str | None = None,
        shards: int = 64,
        horizon_seconds: float = 345_600.0,
        clock: Clock,
        chance: random.Random | None = None,
        consumed: Consumed | None = None,
    ) -> Self:
        """
        Open the ledger in a table, which must be there.

        Args:
            aws: makes the client; it must last as long as the ledger.
            table: its name.
            region: where it is; None for the default region.
            shards: how many a new ledger gets; one that exists keeps its own.
            horizon_seconds: how long marks and halves are kept at least.
            clock: tells what is past the horizon.
            chance: names what needs a name of its own.
            consumed: is told the consumed capacity of every call; None asks for no figures.

        Raises:
            UnusableLedgerError: somebody must act; the text says how.
            LedgerError: trying again may help.
        """
        chance = chance or random.Random()  # noqa: S311 - no secret
        try:
            client: Any = await aws.client("dynamodb", region)
        except NoAnswerError as error:
            raise LedgerError(f"DynamoDB: {explain(error, permission='')}") from error
        calls = Calls(
            client,
            table=table,
            region=client.meta.region_name,
            chance=chance,
            consumed=consumed,
        )
        difference = unlike(await calls.describe())
        if difference is not None:
            raise unlike_error(table, difference)
        await _warn_of_no_expiry(calls)
        return cls(
            calls,
            shards=await _shards(calls, wanted=shards),
            horizon_seconds=horizon_seconds,
            clock=clock,
            chance=chance,
        )

    @property
    def shards(self) -> int:
        """
        How many shards it was made with.
        """
        return self._shards

    @property
    def exclusive(self) -> bool:
        """
        Whether only one daemon can have it open.
        """
        return False

    @property
    def pace(self) -> Pace:
        """
        How to ask it.
        """
        return PACE

    # ---- intake and looking ----

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | Half | None]:
        """
        Tell what is kept under each id, as it is now: a half that came a moment ago and is not told would be lost, for
        whoever asks here settles next, and a mark takes the place of a half.
        """
        return await _isolated(self._decider.seen(ids), trails=len({one.trail_id for one in ids}))

    async def park(self, records: Sequence[Record]) -> Sequence[Parked]:
        """
        Store new records.
        """
        return await _isolated(
            self._decider.park(records, now=self._clock.now()), trails=_number_of(records)
        )

    async def due(self, shards: Sequence[int], *, now: float, limit: int) -> Sequence[Record]:
        """
        Find the records to be looked at, the longest due first.
        """
        # Those that cannot be read stay the longest due, and must not be in the way of the others.
        most = limit + len(self._unreadable)
        partitions = await self._due.partitions(shards, now=now, limit=most)
        found = await self._records([trail_of_key(one) for one in partitions])
        due = [record for record in found if record.next_look_at <= now]
        return sorted(due, key=lambda one: (one.next_look_at, one.version.trail_id))[:limit]

    async def reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        """
        Replace records that nobody changed meanwhile.
        """
        return await _isolated(
            self._decider.reschedule(records, now=self._clock.now()), trails=_number_of(records)
        )

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        """
        Count outcomes, each at most once, and let their records go.
        """
        return await _isolated(
            self._decider.settle(batch, settlements, now=now), trails=_number_of(settlements)
        )

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        """
        Add what others told of versions.
        """
        return await _isolated(self._decider.note(news, now=now), trails=_number_of(news))

    # ---- reporting ----

    async def remember_routes(self, routes: Sequence[Route]) -> None:
        """
        Remember routes for ever; each is written once by a process.
        """
        new = [route for route in dict.fromkeys(routes) if route not in self._routes]
        await self._calls.write_all([at((_ROUTES, _sort_of_route(route))) for route in new])
        self._routes.update(new)

    async def known_routes(self) -> Sequence[Route]:
        """
        Tell all routes remembered so far, sorted.
        """
        items = await self._calls.query(_ROUTES)
        return sorted(map(self._route, items))

    def _route(self, item: Item) -> Route:
        with reading(item, table=self._calls.table):
            source, destination = item[SK]["S"].split("#", 1)
            return Route(source, destination)

    async def contributions(self) -> Sequence[Contribution]:
        """
        Tell all contributions that no window was frozen from, oldest first.
        """
        return await self._windows.contributions()

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """
        Store a window under the lease of shard 0 and drop its contributions.
        """
        await self._windows.freeze(window, lease=lease)

    async def frozen(self, *, limit: int = 100) -> Sequence[FrozenWindow]:
        """
        Tell the windows that are not wholly sent, oldest first.
        """
        return await self._windows.frozen(limit=limit)

    async def last_frozen(self) -> float | None:
        """
        Tell the `starts_at` of the newest window ever frozen.
        """
        return await self._windows.last_frozen()

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """
        Drop one sent part of a window, and the window with its last one.
        """
        await self._windows.forget(starts_at, part, lease=lease)

    async def backlog(self) -> Sequence[BacklogSlot]:
        """
        Tell what is pending and failed.
        """
        return [
            backlog_slot(route, written_from, amounts)
            for (route, written_from), amounts in sorted((await self._windows.sums()).items())
            if any(amounts)
        ]

    # ---- the daemons among themselves ----

    async def announce(self, presence: Presence) -> None:
        """
        Keep a daemon's presence, instead of its last one.
        """
        body = {BODY: {"B": PRESENCE.encode(presence)}}
        await self._calls.put({**at((_PRESENCES, presence.owner)), **body})

    async def presences(self) -> Sequence[Presence]:
        """
        Tell the presence of every daemon, by owner.
        """
        return [self._presence(item) for item in await self._calls.query(_PRESENCES)]

    def _presence(self, item: Item) -> Presence:
        with reading(item, table=self._calls.table):
            return PRESENCE.decode(item[BODY]["B"])

    async def dismiss(self, presence: Presence) -> None:
        """
        Drop a presence, if it still is this one.
        """
        key = (_PRESENCES, presence.owner)
        item = await self._calls.get(key)
        if item is None or self._presence(item) != presence:
            return
        with contextlib.suppress(ConditionError):  # then it is another one by now
            await self._calls.delete(key, unchanged(BODY, item[BODY]))

    # ---- small state by name ----

    async def states(self, prefix: str) -> Mapping[str, bytes]:
        """
        Return the small named states whose names begin with a prefix.
        """
        items = await self._calls.query(
            _STATES,
            condition=f"AND begins_with({SK}, :prefix)" if prefix else "",
            values={":prefix": {"S": prefix}} if prefix else None,
        )
        found: dict[str, bytes] = {}
        for item in items:
            with reading(item, table=self._calls.table):
                found[item[SK]["S"]] = item[BODY]["B"]
        return found

    async def swap(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """
        Replace a small named state if it is still as it was seen.
        """
        key = (_STATES, name)
        condition = NEW if before is None else unchanged(BODY, {"B": before})
        try:
            if after is not None:
                await self._calls.put({**at(key), BODY: {"B": after}}, condition)
            elif before is not None:
                await self._calls.delete(key, condition)
        except ConditionError:
            item = await self._calls.get(key)
            return (None if item is None else item[BODY]["B"]) == after
        if after is None and before is None:
            return await self._calls.get(key) is None
        return True

    # ---- answers to people ----

    async def failures(
        self,
        *,
        bucket: str | None = None,
        destination: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[Sequence[Record], str | None]:
        """
        List open failures, newest first, a page at a time.
        """
        page, token = await failures_page(self._calls, bucket=bucket, after=after, limit=limit)
        found = await self._records(list(dict.fromkeys(trail for trail, _ in page)))
        failed = {
            (one.version.trail_id, one.version.bucket): one
            for one in found
            if one.state is State.FAILED
        }
        # One that was repaired since the list was read is left out.
        open_ = [failed[at] for at in page if at in failed]
        return [one for one in open_ if failed_towards(one, destination)], token

    async def find(self, key: str, version_id: str) -> Trail:
        """
        Tell all that is known of a key and version id.
        """
        trail = trail_id(key, version_id)
        held = await self._trails.read([trail])
        return held[trail].trace.copy() if trail in held else Trail()

    async def _records(self, trails: Sequence[bytes]) -> list[Record]:
        """
        Read the records of some trails; without those that cannot be read, each of which is said once.
        """
        found: list[Record] = []
        for trail, one in (await self._trails.read_each(trails) if trails else {}).items():
            if isinstance(one, Held):
                self._unreadable.discard(trail)
                found += one.trace.records.values()
            elif trail not in self._unreadable:
                self._unreadable.add(trail)
                log.error(
                    "ledger_item_unreadable",
                    pk=key_of_trail(trail)[0],
                    reason=str(one),
                    advice="nobody follows this object until then",
                )
        return found

    # ---- work sharing and upkeep ----

    async def leases(self) -> Sequence[Lease]:
        """
        Tell the lease of every shard, by shard.
        """
        return await self._leases.all()

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """
        Take a shard, if its lease still is the one seen.
        """
        return await self._leases.claim(seen, owner=owner)

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """
        Change the beat of the leases that are still held.
        """
        return await self._leases.renew(leases)

    async def release(self, leases: Sequence[Lease]) -> None:
        """
        Give up leases that are still held.
        """
        await self._leases.release(leases)

    async def sweep(self, *, now: float) -> int:  # noqa: ARG002 - DynamoDB does it by its own clock
        """
        Do nothing: DynamoDB drops what has expired, at no charge.
        """
        return 0

    # ---- moving ----

    async def export(
        self, *, after: str | None = None, limit: int = 100
    ) -> tuple[Sequence[Trail], str | None]:
        """
        Tell all trails that hold a record, a page at a time, by way of the index: every record has a next look.
        """
        partitions, token = await self._due.page(self._shards, after=after, limit=limit)
        trails = [trail_of_key(one) for one in partitions]
        held = await self._trails.read(trails) if trails else {}
        told = [held[trail].trace.copy() for trail in trails if trail in held]
        return [trail for trail in told if trail.records], token

    async def restore(
        self, trails: Sequence[Trail], contributions: Sequence[Contribution], *, now: float
    ) -> None:
        """
        Take over what another ledger exported.
        """
        given = {trail.id: trail for trail in trails}
        for chunk in self._trails.chunks(list(given), alone=False):
            await self._restore({trail: given[trail] for trail in chunk}, now=now)
        await Journal(self._calls).restore(contributions)

    async def _restore(self, trails: dict[bytes, Trail], *, now: float) -> None:
        for _ in range(_TRIES):
            held = await self._trails.read(list(trails))
            changes = []
            for trail, told in trails.items():
                before = held.get(trail, Held(Trail(), NOTHING))
                after = before.trace.copy()
                after.take_over(told)
                if after != before.trace.copy():
                    changes.append(
                        Change(trail=trail, tag=before.tag, before=before.trace, after=after)
                    )
            try:
                if not changes or not await self._trails.write(changes, added=None, now=now):
                    return
            except TooMuchError:
                if len(trails) == 1:
                    raise
                for trail, told in trails.items():
                    await self._restore({trail: told}, now=now)
                return
        raise LedgerError("somebody works on this ledger while it takes over another")

    async def close(self) -> None:
        """
        Do nothing: the client is the session's.
        """


class BadItemError(ValueError):
    """
    One of several objects cannot be worked on; whoever asks for each by itself is told which, and the others go on.
    """


async def _isolated(asked: Awaitable[T], *, trails: int) -> T:
    """
    Do what is asked of some trails, so that one that is no good harms itself only.

    Raises:
        BadItemError: DynamoDB does not take one of them, however often it is asked; or one of several is damaged.
        LedgerError: the only one is damaged; somebody has to mend it, or to upgrade.
    """
    try:
        return await asked
    except RefusedError as error:
        raise BadItemError(str(error)) from error
    except DamagedError as error:
        if trails == 1:
            raise
        raise BadItemError(str(error)) from error


def _number_of(items: Sequence[Record] | Sequence[Settlement] | Sequence[News]) -> int:
    """
    Tell how many trails they are of.
    """
    return len({one.version.trail_id for one in items})


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
            reason=f"time to live by {EXPIRES_AT!r} is off, so the table grows for ever; "
            "run: crrmon ledger create",
        )


async def _shards(calls: Calls, *, wanted: int) -> int:
    """
    Tell how many shards the ledger has; a new one is begun.

    Raises:
        UnusableLedgerError: a newer daemon made it, and this one cannot work on it.
    """
    item = await calls.get(_META)
    if item is None:
        numbers = {"format": FORMAT, "readable_by": READABLE_BY, "shards": wanted}
        try:
            await calls.put(
                {**at(_META), **{name: {"N": str(one)} for name, one in numbers.items()}}, NEW
            )
        except ConditionError:
            pass  # another daemon was faster
        else:
            return wanted
        item = await calls.get(_META)
        if item is None:
            raise LedgerError(f"ledger.dynamodb.table {calls.table!r} changes its mind")
    with reading(item, table=calls.table):
        format_, readable_by, kept = (
            int(item[name]["N"]) for name in ("format", "readable_by", "shards")
        )
    if readable_by > FORMAT:
        raise UnusableLedgerError(
            f"ledger.dynamodb.table {calls.table!r} has format {format_}, "
            f"this crrmon reads {FORMAT}: upgrade crrmon"
        )
    return kept


def _sort_of_route(route: Route) -> str:
    return f"{route.source}#{route.destination}"
