"""Frozen windows, and how a window takes entries of the journal along, whatever stops on the way (`Windows.freeze`)."""

import random
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Delta
from crrmon.ledger.backlog import Backlog, FoldedBacklog
from crrmon.ledger.journal import Entry, EntryId, Journal, Sums, Unfolded, add, moves, summed
from crrmon.ledger.leases import Leases
from crrmon.ledger.pauses import Pauses
from crrmon.ledger.window_items import Committed, Header, Taken, WindowItems, name_of
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError, LedgerError
from crrmon.ports.store import ConflictError, Guard, Store

_TRIES = 5


class _Draft(msgspec.Struct, frozen=True):
    """A window that was written where nobody sees it."""

    header: Header
    window: FrozenWindow
    taken: Taken


class Windows:
    """Freezes windows, tells them, and lets go of them."""

    def __init__(
        self,
        store: Store,
        *,
        journal: Journal,
        leases: Leases,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._store = store
        self._items = WindowItems(store, clock=clock)
        self._leases = leases
        self._journal = journal
        self._backlog = Backlog(store, clock=clock)
        self._chance = chance
        self._standing: tuple[int, FoldedBacklog] | None = None
        """The backlog as of the window of this number, when all was folded in."""
        self._drafts: list[_Draft] = []
        """Windows of which it is not known whether they were committed."""
        self._tidied = False
        """Whether what others abandoned was deleted since this process began."""

    # ---- telling ----

    async def deltas(self) -> list[Delta]:
        """Return what no window holds, oldest first."""
        # NB: windows first. One that is committed in between can only be this process's own.
        _, taken, _ = await self._consistent()
        entries = await self._journal.entries()
        waiting = [
            entry.added
            for place, entry in entries.items()
            if entry.added is not None and place not in taken
        ]
        return sorted(waiting, key=lambda one: (one.settled_at, one.id))

    async def sums(self) -> Sums:
        """Add up the backlog."""
        for _ in range(_TRIES):
            committed, taken, windows = await self._consistent()
            number = committed.last.number
            standing = await self._standing_at(number, folded=not windows)
            entries = await self._journal.entries()
            # Entries may have gone from the journal into a window, and from there into the sums, while all was read.
            if (await self._items.last()).number != number:
                continue
            sums = await standing.sums(windows)
            pauses = Pauses()
            for place, entry in entries.items():
                if place not in taken:
                    for source, destination, slot, amounts in entry.moved:
                        add(sums, Route(source, destination), slot, amounts)
                    await pauses.after(len(entry.moved))
            return sums
        raise LedgerError("windows are frozen faster than the backlog is read")

    async def _standing_at(self, number: int, *, folded: bool) -> FoldedBacklog:
        """Read the backlog as of the last window; once only, when everything is folded in."""
        if folded and self._standing is not None and self._standing[0] == number:
            return self._standing[1]
        standing = await self._backlog.read()
        # Else what is folded in after this was read would be missing from it for good.
        if folded:
            self._standing = (number, standing)
        return standing

    async def _consistent(self) -> tuple[Committed, Collection[EntryId], Sequence[Unfolded]]:
        """Read what is committed, which entries are in windows, and the changes of windows that may not be folded in."""
        for _ in range(_TRIES):
            committed = await self._items.committed()
            left = [header for header in committed.headers if header.pieces]
            read = [(header, await self._items.taken(header)) for header in left]
            whole = [(header.number, one) for header, one in read if one is not None]
            missed = [
                header
                for header, one in read
                if one is None and not await self._items.is_lost(header)
            ]
            if not missed:  # else one was finished meanwhile
                places = {place for _, one in whole for place in one.entries}
                return committed, places, [(number, one.moved) for number, one in whole]
        raise LedgerError("windows are finished faster than they are read")

    async def frozen(self, *, limit: int) -> list[FrozenWindow]:
        """Return the windows that are not wholly sent, oldest first."""
        committed = await self._items.committed()
        unsent = [header for header in committed.headers if header.unsent]
        return [await self._items.frozen(header) for header in unsent[:limit]]

    async def last_frozen(self) -> float | None:
        """Return the start of the newest window."""
        return (await self._items.last()).newest

    # ---- freezing ----

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """Commit a window; see the port."""
        held = await self._leases.check(lease)
        committed = await self._finished()
        await self._drop_drafts(committed)
        await self._items.drop_leftovers(committed.last)
        # Once is enough: what others abandon from now on is dropped by a process that comes later.
        if not self._tidied:
            await self._items.drop_abandoned(committed)
            self._tidied = True
        # A repetition, whose first answer got lost: the window that is there stands.
        if window.starts_at == committed.last.newest or any(
            one.starts_at == window.starts_at for one in committed.headers
        ):
            return
        taken = await _take(window, await self._journal.entries())
        # Under a name of its own, which nobody else uses: whoever stops here has changed nothing that anybody sees.
        header = await self._drafted(window, taken, number=committed.last.number + 1)
        # One write, under the lease: from now on the entries are in this window and nowhere else, deleted or not.
        await self._commit(header, committed, held=held)
        # Whoever stops here and goes on after somebody else finished it finds all of it done: sums know the window's
        # number, deleted entries never come again, and the header is another one by now.
        await self._finish(header, started=False)

    async def _drafted(self, window: FrozenWindow, taken: Taken, *, number: int) -> Header:
        """Write what belongs to a window; what is tried again and again is written over what was written before."""
        wanted = (number, window, taken)
        before = [
            draft
            for draft in self._drafts
            if (draft.header.number, draft.window, draft.taken) == wanted
        ]
        name = before[0].header.name if before else name_of(number, self._chance)
        header, puts = self._items.draft(window, taken, number=number, name=name)
        if not before:
            self._drafts.append(_Draft(header, window, taken))
        await self._store.write_each(puts)
        return header

    async def _drop_drafts(self, committed: Committed) -> None:
        """Delete what was written for windows that were not committed, and cannot be any more."""
        names = {header.name for header in committed.headers}
        # One of a number that nobody has yet may still be on its way.
        decided = [one for one in self._drafts if one.header.number <= committed.last.number]
        for draft in decided:
            if draft.header.name not in names:
                await self._items.drop(draft.header, parts=True)
            self._drafts.remove(draft)

    def _forget_draft(self, header: Header) -> None:
        self._drafts = [draft for draft in self._drafts if draft.header.name != header.name]

    async def _commit(self, header: Header, committed: Committed, *, held: Guard) -> None:
        """Commit a window: from now on it is there, and its entries are in it."""
        try:
            await self._store.write([held, *self._items.commit(header, committed)])
        except ConflictError as error:
            # What does not hold now never will again, so this one cannot be committed any more; unless it was, and the
            # answer got lost.
            if await self._items.now(header) is None:
                await self._items.drop(header, parts=True)
                self._forget_draft(header)
            if 0 in error.places:
                raise LeaseLostError("shard 0 has another holder") from error
            # This process's own, the answer of which got lost.
            raise LedgerError("another window was frozen at the same time") from error
        self._forget_draft(header)

    async def _finished(self) -> Committed:
        """Finish what a publisher left that was stopped after a commit."""
        for _ in range(_TRIES):
            committed = await self._items.committed()
            left = [header for header in committed.headers if header.pieces]
            if not left:
                return committed
            for header in left:
                await self._finish(header, started=True)
        raise LedgerError("another process keeps changing the windows")

    async def _finish(self, header: Header, *, started: bool) -> None:
        """Do what remains to be done after a commit, all of which may have been done before.

        Args:
            header: of the window.
            started: whether some of it may be done already.
        """
        if not header.pieces:
            return
        taken = await self._items.taken(header)
        if taken is None and not await self._items.is_lost(header):
            return  # somebody else finished it meanwhile
        if taken is not None:
            await self._backlog.fold(header.number, taken.moved)
            drop = self._journal.drop_rest if started else self._journal.drop
            await drop(taken.entries)
        try:
            await self._store.write([self._items.change(header, replace(header, pieces=0))])
        except ConflictError:
            now = await self._items.now(header)
            if now is not None and now.pieces:
                return  # a part of it was forgotten meanwhile: once more
            # Else somebody else finished it, or this process did and the answer got lost.
        # Not before the header says that nobody needs it: without it, the window could not be finished.
        await self._items.drop(header, parts=False)

    # ---- forgetting ----

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """Drop a sent part; see the port."""
        held = await self._leases.check(lease)
        old = await self._items.at(starts_at)
        if old is None or part not in old.unsent:
            return
        new = replace(old, unsent=tuple(one for one in old.unsent if one != part))
        try:
            await self._store.write([held, self._items.change(old, new)])
        except ConflictError as error:
            if 0 in error.places:
                raise LeaseLostError("shard 0 has another holder") from error
            raise LedgerError("the window was changed at the same time") from error
        # After the header tells that it was sent: else it would read as lost.
        await self._items.drop_part(old, part)


async def _take(window: FrozenWindow, entries: Mapping[EntryId, Entry]) -> Taken:
    """Find what a window takes along: its deltas, and all that concerns the backlog only."""
    wanted = set(window.deltas)
    mine = tuple(
        place for place, entry in entries.items() if entry.added is not None and place[0] in wanted
    )
    gone = wanted - {name for name, _ in mine}
    if gone:
        # Told to the publisher before a window took them whose commit was slow to arrive.
        raise LedgerError(f"{len(gone)} deltas are already in another window")
    others = tuple(place for place, entry in entries.items() if entry.added is None)
    moved = moves(await summed(entries[place].moved for place in (*mine, *others)))
    return Taken(deltas=mine, others=others, moved=moved)
