"""Frozen windows, and how a window takes entries of the journal along, whatever stops on the way.

1. Its parts, the names of the entries and the change of the backlog that they make up are written under a name of
   their own, which nobody else uses. The parts expire when nobody would take them any more; the rest must be there for
   as long as the window is, and is deleted if no window comes of it.
2. One transaction commits it: its header, under the lease of shard 0, with the next number. From now on its entries are
   in it and nowhere else; nobody needs to have deleted them.
3. The change is folded into the backlog, the entries are deleted, and the header tells so.

Whoever stopped during 3 and goes on later, after somebody else finished it, finds all of it done: sums know the
number of the window, deleted entries never come again, and the header is another one by now.
"""

import hashlib
import random
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from msgspec.structs import replace

from crrmon.adapters.ledgers.dynamodb_backlog import Backlog, Standing
from crrmon.adapters.ledgers.dynamodb_bodies import PackedBody, number, sortable
from crrmon.adapters.ledgers.dynamodb_calls import (
    LARGEST_BYTES,
    NEW,
    Calls,
    ConditionError,
    Item,
    at,
    key_of,
    unchanged,
)
from crrmon.adapters.ledgers.dynamodb_damage import reading
from crrmon.adapters.ledgers.dynamodb_journal import (
    Entry,
    Journal,
    Moved,
    Sums,
    Unfolded,
    add,
    moves,
    summed,
)
from crrmon.adapters.ledgers.dynamodb_leases import Leases, held_check
from crrmon.adapters.ledgers.dynamodb_table import BODY, EXPIRES_AT, SK, TAG
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Contribution
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError, LedgerError

KEPT_SECONDS = 20 * 86_400.0
"""
When the parts of a window expire: nobody may have committed it. CloudWatch takes nothing older than two weeks, so what
was committed and could not be sent until then is of no use any more either; it reads as sent.
"""
_PARTITION: Final = "windows"
_LAST: Final = "last"
"""Comes after all headers."""
_NUMBER: Final = "number"
_NEWEST: Final = "newest"
_NAME: Final = "name"
"""Of what was written for the newest."""
_TRIES = 5

log = structlog.get_logger()


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    """
    A committed window.
    """

    starts_at: float
    number: int
    name: str
    """Of what was written for it."""
    parts: int
    unsent: tuple[int, ...]
    pieces: int
    """Of the names and the change of the backlog; 0 once they are dealt with."""


class _Taken(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a window takes along.
    """

    contributions: tuple[str, ...]
    others: tuple[str, ...]
    """Entries that change the backlog only."""
    moved: tuple[Moved, ...]


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that is committed, at one moment.
    """

    number: int
    newest: float | None
    last: Item | None
    headers: tuple[_Header, ...]


_HEADER = PackedBody(_Header)
_TAKEN = PackedBody(_Taken)


class Windows:
    """
    Freezes windows, tells them, and lets go of them.
    """

    def __init__(
        self, calls: Calls, *, leases: Leases, clock: Clock, chance: random.Random
    ) -> None:
        self._calls = calls
        self._leases = leases
        self._journal = Journal(calls)
        self._backlog = Backlog(calls, clock=clock)
        self._clock = clock
        self._chance = chance
        self._standing: tuple[int, Standing] | None = None
        """The backlog as of the window of this number, when all was folded in."""
        self._drafts: list[_Header] = []
        """Windows of which it is not known whether they were committed."""
        self._lost: set[str] = set()
        """Of what it was said that it is lost."""

    # ---- telling ----

    async def contributions(self) -> list[Contribution]:
        """
        Tell what no window holds, oldest first.
        """
        # NB: windows first. One that is committed in between can only be this process's own.
        _, taken, _ = await self._consistent()
        entries = await self._journal.entries()
        waiting = [
            entry.added
            for name, entry in entries.items()
            if entry.added is not None and name not in taken
        ]
        return sorted(waiting, key=lambda one: (one.settled_at, one.id))

    async def sums(self) -> Sums:
        """
        Add up the backlog.
        """
        for _ in range(_TRIES):
            state, taken, windows = await self._consistent()
            standing = await self._standing_at(state, folded=not windows)
            entries = await self._journal.entries()
            # Entries may have gone from the journal into a window, and from there into the sums, while all was read.
            if await self._number() != state.number:
                continue
            sums = standing.sums(windows)
            for name, entry in entries.items():
                if name not in taken:
                    for source, destination, slot, amounts in entry.moved:
                        add(sums, Route(source, destination), slot, amounts)
            return sums
        raise LedgerError("windows are frozen faster than the backlog is read")

    async def _standing_at(self, state: _State, *, folded: bool) -> Standing:
        """
        Read the backlog as of the last window; once only, when everything is folded in.
        """
        if folded and self._standing is not None and self._standing[0] == state.number:
            return self._standing[1]
        standing = await self._backlog.read()
        if folded:
            self._standing = (state.number, standing)
        return standing

    async def frozen(self, *, limit: int) -> list[FrozenWindow]:
        """
        Tell the windows that are not wholly sent, oldest first.
        """
        state = await self._state()
        return [
            await self._told(header)
            for header in [one for one in state.headers if one.unsent][:limit]
        ]

    async def _told(self, header: _Header) -> FrozenWindow:
        pieces: dict[int, bytes] = {}
        for item in await self._under(header, "part#"):
            with reading(item, table=self._calls.table):
                part = int(item[SK]["S"].split("#")[1])
                pieces[part] = pieces.get(part, b"") + item[BODY]["B"]
        taken = await self._read_taken(header)
        return FrozenWindow(
            starts_at=header.starts_at,
            parts=tuple(
                self._part(header, part, pieces.get(part, b"")) if part in header.unsent else b""
                for part in range(header.parts)
            ),
            contributions=() if taken is None else taken.contributions,
        )

    def _part(self, header: _Header, part: int, body: bytes) -> bytes:
        """
        Read a part; empty when some of it has expired or is damaged: there is nothing left to be sent.
        """
        whole = zlib.decompressobj()
        try:
            told = whole.decompress(body)
        except zlib.error:
            told = b""
        if whole.eof:
            return told
        self._tell_lost(
            f"{header.name} {part}",
            "ledger_window_part_lost",
            starts_at=header.starts_at,
            part=part,
            reason="its datapoints have expired, or are damaged; they are not sent",
        )
        return b""

    def _tell_lost(self, name: str, event: str, **fields: object) -> None:
        """
        Say once what is lost.
        """
        if name not in self._lost:
            self._lost.add(name)
            log.error(event, table=self._calls.table, **fields)

    async def last_frozen(self) -> float | None:
        """
        Tell the start of the newest window.
        """
        return _newest(await self._calls.get((_PARTITION, _LAST)))

    # ---- freezing ----

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """
        Commit a window; see the port.
        """
        await self._leases.check(lease)
        state = await self._finished()
        await self._drop_drafts(state)
        await self._drop_leftovers(state)
        if window.starts_at == state.newest or any(
            one.starts_at == window.starts_at for one in state.headers
        ):
            return
        taken = _take(window, await self._journal.entries())
        header = await self._write(window, taken, number_=state.number + 1)
        await self._commit(header, state, lease=lease)
        await self._finish(header, begun=False)

    async def _write(self, window: FrozenWindow, taken: _Taken, *, number_: int) -> _Header:
        """
        Write all that belongs to a window, where nobody sees it yet.
        """
        name = f"{self._chance.getrandbits(96):024x}"
        pieces: list[bytes] = []
        if taken.contributions or taken.others:
            pieces = _pieces(_TAKEN.encode(taken))
        header = _Header(
            starts_at=window.starts_at,
            number=number_,
            name=name,
            parts=len(window.parts),
            unsent=tuple(part for part, body in enumerate(window.parts) if body),
            pieces=len(pieces),
        )
        bodies = {f"taken#{place:05d}": piece for place, piece in enumerate(pieces)}
        for part in header.unsent:
            for place, piece in enumerate(_pieces(zlib.compress(window.parts[part]))):
                bodies[f"part#{part:05d}#{place:05d}"] = piece
        expires_at = {EXPIRES_AT: {"N": str(int(self._clock.now() + KEPT_SECONDS))}}
        self._drafts.append(header)
        await self._calls.write_all(
            [
                {
                    **at((_place_of(header), sort)),
                    BODY: {"B": body},
                    # NB: the names never: a window without them could not be finished.
                    **(expires_at if sort.startswith("part#") else {}),
                }
                for sort, body in bodies.items()
            ]
        )
        return header

    async def _drop_drafts(self, state: _State) -> None:
        """
        Delete what was written for windows that were not committed, and cannot be any more.
        """
        committed = {header.name for header in state.headers}
        # One of a number that nobody has yet may still be on its way.
        decided = [one for one in self._drafts if one.number <= state.number]
        for header in decided:
            if header.name not in committed:
                await self._drop_pieces(header, parts=True)
            self._drafts.remove(header)

    async def _drop_leftovers(self, state: _State) -> None:
        """
        Delete the names of the newest window, if whoever finished it was stopped before that.
        """
        if state.last is not None and _NAME in state.last:
            left = await self._pieces(state.last[_NAME]["S"], "taken#")
            await self._calls.delete_all([key_of(item) for item in left])

    async def _drop_pieces(self, header: _Header, *, parts: bool) -> None:
        """
        Delete what was written for a window, with its parts or without.
        """
        sorts = [f"taken#{place:05d}" for place in range(header.pieces)]
        if parts:
            sorts += [item[SK]["S"] for item in await self._under(header, "part#")]
        await self._calls.delete_all([(_place_of(header), sort) for sort in sorts])

    async def _commit(self, header: _Header, state: _State, *, lease: Lease) -> None:
        """
        Commit a window: from now on it is there, and its entries are in it.
        """
        newest = max(header.starts_at, state.newest or header.starts_at)
        last = {
            **at((_PARTITION, _LAST)),
            _NUMBER: {"N": str(header.number)},
            _NEWEST: number(newest),
            _NAME: {"S": header.name},
        }
        still = NEW if state.last is None else unchanged(_NUMBER, state.last[_NUMBER])
        actions: list[Mapping[str, Any]] = [
            held_check(lease),
            {"Put": {"Item": last, **still}},
        ]
        if header.unsent or header.pieces:
            actions.append({"Put": {"Item": _item(header), **NEW}})
        try:
            await self._calls.transact(actions, token=header.name)
        except ConditionError as error:
            # What does not hold now never will again, so this one cannot be committed any more; unless it was, and the
            # answer got lost for so long that DynamoDB has forgotten the token.
            now = await self._calls.get(_key(header.starts_at))
            if now is None or self._header(now).name != header.name:
                await self._drop_pieces(header, parts=True)
                self._drafts.remove(header)
            if 0 in error.places:
                raise LeaseLostError("shard 0 has another holder") from error
            # This process's own, the answer of which got lost.
            raise LedgerError("another window was frozen at the same moment") from error
        self._drafts.remove(header)

    async def _finished(self) -> _State:
        """
        Finish what a publisher left that was stopped after a commit.
        """
        for _ in range(_TRIES):
            state = await self._state()
            left = [header for header in state.headers if header.pieces]
            if not left:
                return state
            for header in left:
                await self._finish(header, begun=True)
        raise LedgerError("the windows are changed by somebody else again and again")

    async def _finish(self, header: _Header, *, begun: bool) -> None:
        """
        Do what remains to be done after a commit, all of which may have been done before.

        Args:
            header: of the window.
            begun: whether some of it may be done already.
        """
        if not header.pieces:
            return
        taken = await self._read_taken(header)
        if taken is None and not await self._is_lost(header):
            return  # somebody else finished it meanwhile
        if taken is not None:
            await self._backlog.fold(header.number, taken.moved)
            drop = self._journal.drop_rest if begun else self._journal.drop
            await drop((*taken.contributions, *taken.others))
        try:
            await self._change(header, replace(header, pieces=0))
        except ConditionError:
            now = await self._now(header)
            if now is not None and now.pieces:
                return  # a part of it was forgotten meanwhile: once more
            # Else somebody else finished it, or this process did and the answer got lost.
        await self._drop_pieces(header, parts=False)

    async def _now(self, header: _Header) -> _Header | None:
        """
        Read the header of a window as it is now; None when the window is gone.
        """
        item = await self._calls.get(_key(header.starts_at))
        now = None if item is None else self._header(item)
        return now if now is not None and now.name == header.name else None

    async def _is_lost(self, header: _Header) -> bool:
        """
        Tell, when the names of a window were not found, whether they are lost; else somebody finished it meanwhile.

        They are deleted after the header tells that they are dealt with, never before. Without them everything must
        go on: what was not yet deleted of the window's entries counts as in no window.
        """
        now = await self._now(header)
        if now is None or not now.pieces:
            return False
        self._tell_lost(
            header.name,
            "ledger_window_names_lost",
            starts_at=header.starts_at,
            item=_place_of(header),
            reason="the list of what was counted in this window is gone; those of its contributions that were not "
            "deleted yet are reported once more, in the next window",
        )
        return True

    async def _change(self, old: _Header, new: _Header) -> None:
        condition = unchanged(TAG, _item(old)[TAG])
        if new.unsent or new.pieces:
            await self._calls.put(_item(new), condition)
        else:
            await self._calls.delete(key_of(_item(old)), condition)

    # ---- forgetting ----

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """
        Drop a sent part; see the port.
        """
        await self._leases.check(lease)
        item = await self._calls.get(_key(starts_at))
        if item is None:
            return
        old = self._header(item)
        if part not in old.unsent:
            return
        new = replace(old, unsent=tuple(one for one in old.unsent if one != part))
        still = unchanged(TAG, _item(old)[TAG])
        action: Mapping[str, Any] = (
            {"Put": {"Item": _item(new), **still}}
            if new.unsent or new.pieces
            else {"Delete": {"Key": at(_key(starts_at)), **still}}
        )
        token = f"{self._chance.getrandbits(128):032x}"
        try:
            await self._calls.transact([held_check(lease), action], token=token)
        except ConditionError as error:
            if 0 in error.places:
                raise LeaseLostError("shard 0 has another holder") from error
            raise LedgerError("the window was changed at the same moment") from error
        pieces = await self._under(old, f"part#{part:05d}#")
        await self._calls.delete_all([key_of(piece) for piece in pieces])

    # ---- reading ----

    async def _state(self) -> _State:
        items = await self._calls.query(_PARTITION)
        last = next((item for item in items if item[SK]["S"] == _LAST), None)
        return _State(
            number=0 if last is None else int(last[_NUMBER]["N"]),
            newest=_newest(last),
            last=last,
            headers=tuple(self._header(item) for item in items if item[SK]["S"] != _LAST),
        )

    def _header(self, item: Item) -> _Header:
        with reading(item, table=self._calls.table):
            return _HEADER.decode(item[BODY]["B"])

    async def _number(self) -> int:
        last = await self._calls.get((_PARTITION, _LAST))
        return 0 if last is None else int(last[_NUMBER]["N"])

    async def _consistent(self) -> tuple[_State, Collection[str], Sequence[Unfolded]]:
        """
        Read what is committed, which entries are in windows, and the changes of windows that may not be folded in.
        """
        for _ in range(_TRIES):
            state = await self._state()
            left = [header for header in state.headers if header.pieces]
            taken = [(header.number, await self._read_taken(header)) for header in left]
            whole = [(number, one) for number, one in taken if one is not None]
            missed = [
                header
                for header, (_, one) in zip(left, taken, strict=True)
                if one is None and not await self._is_lost(header)
            ]
            if not missed:  # else one was finished meanwhile
                names = {name for _, one in whole for name in (*one.contributions, *one.others)}
                return state, names, [(number, one.moved) for number, one in whole]
        raise LedgerError("windows are finished faster than they are read")

    async def _read_taken(self, header: _Header) -> _Taken | None:
        """
        Read what a window took along; None where that is dealt with.
        """
        if not header.pieces:
            return None
        items = await self._under(header, "taken#")
        if len(items) != header.pieces:
            return None
        with reading(items[0], table=self._calls.table):
            return _TAKEN.decode(b"".join(item[BODY]["B"] for item in items))

    async def _under(self, header: _Header, kind: str) -> list[Item]:
        return await self._pieces(header.name, kind)

    async def _pieces(self, name: str, kind: str) -> list[Item]:
        return await self._calls.query(
            _place(name),
            condition=f"AND begins_with({SK}, :kind)",
            values={":kind": {"S": kind}},
        )


def _take(window: FrozenWindow, entries: Mapping[str, Entry]) -> _Taken:
    """
    Find what a window takes along: its contributions, and all that concerns the backlog only.
    """
    mine = dict.fromkeys(window.contributions)
    gone = mine.keys() - entries.keys()
    if gone:
        # Told to the publisher before a window took them whose commit was slow to arrive.
        raise LedgerError(f"{len(gone)} contributions are in another window by now")
    others = tuple(name for name, entry in entries.items() if entry.added is None)
    taken = [entries[name].moved for name in (*mine, *others)]
    return _Taken(contributions=tuple(mine), others=others, moved=moves(summed(taken)))


def _pieces(body: bytes) -> list[bytes]:
    return [body[start : start + LARGEST_BYTES] for start in range(0, len(body), LARGEST_BYTES)]


def _place_of(header: _Header) -> str:
    return _place(header.name)


def _place(name: str) -> str:
    return f"window#{name}"


def _key(starts_at: float) -> tuple[str, str]:
    return _PARTITION, f"at#{sortable(starts_at)}"


def _item(header: _Header) -> Item:
    body = _HEADER.encode(header)
    tag = hashlib.blake2b(body, digest_size=9).hexdigest()
    return {**at(_key(header.starts_at)), TAG: {"S": tag}, BODY: {"B": body}}


def _newest(last: Item | None) -> float | None:
    return None if last is None else float(last[_NEWEST]["N"])
