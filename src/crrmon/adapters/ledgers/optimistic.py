"""Ledgers on a server: decide here on what was read, and write only if it still is so.

What parking, rescheduling, settling and noting mean is decided in one place for all ledgers: `trails`, `settling` and
`noting` of the domain. A server holds trails with a *tag* each, which changes whenever the trail does. Every write
names the tags that its decisions rest on; if any of them is another by now, the server writes nothing, and the
decisions are made again. So a try whose answer got lost is repeated without harm: it finds its own marks.

New versions are the most, and of them nothing is known: they are decided without reading first, unless what is decided
shows that something is held.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from crrmon.domain.backlog import BacklogChange
from crrmon.domain.events.facts import News
from crrmon.domain.noting import Noted, note
from crrmon.domain.objects import MarkId, ObjectVersion
from crrmon.domain.outcomes import Contribution, Half, Mark, Outcome, Settlement, contribution
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled, part_of, settle
from crrmon.domain.trails import Parked, Rescheduled, Trail
from crrmon.ports.ledger import LedgerError

NOTHING = ""
"""The tag of a trail of which nothing is held."""

TRIES = 20
"""How often decisions are made again because somebody else was faster, before the caller is told to come again."""


class _Versioned(Protocol):
    """
    What is decided about a version.
    """

    @property
    def version(self) -> ObjectVersion:
        """
        Which version: it tells the trail.
        """
        ...


Item = TypeVar("Item", bound=_Versioned)
Result = TypeVar("Result")

_Decide = Callable[[Sequence[Item], Callable[[bytes], Trail]], tuple[list[Result], list[Outcome]]]
"""Decides on items, changing their trails: a result for each, and the outcomes that are counted just now."""


class Held(msgspec.Struct, frozen=True):
    """
    What a server holds of a trail.
    """

    trace: Trail
    tag: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is to be written of one trail, if its tag still is this one.
    """

    trail: bytes
    tag: str
    before: Trail
    after: Trail

    @property
    def records(self) -> Iterator[tuple[Record | None, Record | None]]:
        """
        The records that differ: before and after.
        """
        for bucket in self.before.records.keys() | self.after.records.keys():
            old, new = self.before.records.get(bucket), self.after.records.get(bucket)
            if old is not new:
                yield old, new


class TooMuchError(Exception):
    """
    The server cannot write that much at once; nothing was written.
    """


class Store(Protocol):
    """
    Trails on a server.
    """

    def chunks(self, trails: Sequence[bytes], *, alone: bool) -> Sequence[Sequence[bytes]]:
        """
        Split trails into what can be written at once.

        Args:
            trails: each once.
            alone: whether nothing binds them together, so that each may as well be written by itself.
        """
        ...

    async def read(self, trails: Sequence[bytes]) -> Mapping[bytes, Held]:
        """
        Read trails as they are now; one of which nothing is held may be left out.
        """
        ...

    async def write(
        self, changes: Sequence[Change], *, added: Contribution | None, now: float
    ) -> Sequence[bytes]:
        """
        Write the changes of one chunk, the change of the backlog that they make, and a contribution: all or nothing.

        Args:
            changes: at least one.
            added: what is appended to the statistics.
            now: when; marks and halves that are new are kept for the horizon from then.

        Returns:
            The trails whose tag was another one: then nothing was written.

        Raises:
            TooMuchError: it must be split.
        """
        ...


class Decider:
    """
    Carries out on a `Store` what the port asks for.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | Half | None]:
        """
        Tell what is kept under each id.
        """
        held = await self._store.read(list(dict.fromkeys(one.trail_id for one in ids)))
        found = []
        for one in ids:
            trace = held[one.trail_id].trace if one.trail_id in held else Trail()
            found.append(trace.marks.get(one.slot) or trace.halves.get(one.slot))
        return found

    async def park(self, records: Sequence[Record], *, now: float) -> Sequence[Parked]:
        """
        Store new records.
        """
        return await self._all(records, _each(Trail.park), now=now, known=_has_half)

    async def reschedule(self, records: Sequence[Record], *, now: float) -> Sequence[Rescheduled]:
        """
        Replace records that nobody changed meanwhile.
        """
        return await self._all(records, _each(Trail.reschedule), now=now, alone=True)

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        """
        Count outcomes, each at most once, and let their records go.
        """
        return await self._all(
            settlements,
            lambda chunk, trace_of: settle(batch, chunk, trace_of),
            now=now,
            batch=batch,
            known=lambda one: one.rev != 0 or any(map(_is_exact, one.outcomes)),
        )

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        """
        Add what others told of versions.
        """
        return await self._all(
            news,
            _each(lambda trail, one: note(trail, one, now=now)),
            now=now,
            alone=True,
        )

    async def _all(
        self,
        items: Sequence[Item],
        decide: _Decide[Item, Result],
        *,
        now: float,
        batch: str = "",
        alone: bool = False,
        known: Callable[[Item], bool] = lambda _: True,
    ) -> list[Result]:
        """
        Decide on all items, chunk by chunk, and write what comes of it.

        Args:
            known: tells the items of which something is likely held, so that reading first is worth it.
        """
        places: dict[bytes, list[int]] = {}
        for place, item in enumerate(items):
            places.setdefault(item.version.trail_id, []).append(place)
        results: dict[int, Result] = {}

        async def carry_out(trails: Sequence[bytes]) -> None:
            mine = [place for trail in trails for place in places[trail]]
            chunk = [items[place] for place in mine]
            unsure = [
                trail for trail in trails if any(known(items[place]) for place in places[trail])
            ]
            try:
                decided = await self._chunk(chunk, trails, unsure, decide, batch=batch, now=now)
            except TooMuchError:
                if len(trails) == 1:
                    raise
            else:
                results.update(zip(mine, decided, strict=True))
                return
            # One that is too much by itself harms itself only: the others are done before it is told.
            half = len(trails) // 2
            await carry_out_all((trails[:half], trails[half:]))

        async def carry_out_all(chunks: Iterable[Sequence[bytes]]) -> None:
            done = await asyncio.gather(*map(carry_out, chunks), return_exceptions=True)
            for one in done:
                if one is not None:
                    raise one

        await carry_out_all(self._store.chunks(list(places), alone=alone))
        return [results[place] for place in range(len(items))]

    async def _chunk(
        self,
        items: Sequence[Item],
        trails: Sequence[bytes],
        unsure: Sequence[bytes],
        decide: _Decide[Item, Result],
        *,
        batch: str,
        now: float,
    ) -> list[Result]:
        held = dict.fromkeys(trails, Held(Trail(), NOTHING))
        if unsure:
            held.update(await self._store.read(unsure))
        for _ in range(TRIES):
            after = {trail: one.trace.copy() for trail, one in held.items()}
            results, counted = decide(items, after.__getitem__)
            changes = [
                Change(trail=trail, tag=one.tag, before=one.trace, after=after[trail])
                for trail, one in held.items()
                if _differ(one.trace, after[trail])
            ]
            added = None
            if counted:
                added = contribution(part_of(batch, counted), counted, settled_at=now)
            if not changes:
                return results
            others = await self._store.write(changes, added=added, now=now)
            if not others:
                return results
            held.update(dict.fromkeys(others, Held(Trail(), NOTHING)))
            held.update(await self._store.read(others))
        raise LedgerError("somebody else changed the same objects again and again")


def _has_half(record: Record) -> bool:
    """
    Tell whether a new record knows of an arrival: then there is a half that told it.
    """
    return any(one.replicated_at is not None for one in record.destinations)


def _is_exact(outcome: Outcome) -> bool:
    """
    Tell whether a replica's own event told of the arrival: then it is kept as a half, or in a record.
    """
    return outcome.latency is not None and outcome.latency.exact


def _each(act: Callable[[Trail, Item], Result]) -> _Decide[Item, Result]:
    """
    Decide on every item by itself; nothing is counted.
    """
    return lambda chunk, trace_of: (
        [act(trace_of(one.version.trail_id), one) for one in chunk],
        [],
    )


def _differ(before: Trail, after: Trail) -> bool:
    """
    Tell whether a trail was changed; values that are the same object did not change.
    """
    pairs = (
        (before.records, after.records),
        (before.marks, after.marks),
        (before.halves, after.halves),
    )
    return any(
        old.keys() != new.keys() or any(one is not old[name] for name, one in new.items())
        for old, new in pairs
    )


def backlog_change(changes: Sequence[Change]) -> BacklogChange:
    """
    Sum up how the backlog changes.
    """
    sums = BacklogChange()
    for change in changes:
        for old, new in change.records:
            sums.replace(old, new)
    return sums
