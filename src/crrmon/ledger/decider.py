"""Deciding on what was read, and writing only if it still is so.

What parking, rescheduling, settling and noting mean is decided by the domain: `trails`, `settling` and `noting`. A
store gives trails a *tag* each, which changes whenever the trail does. Every write names the tags that its decisions
rest on; if any of them is another by now, nothing is written, and the decisions are made again. So a try whose answer
got lost is repeated without harm: it finds its own marks.

New versions are the most, and of them nothing is known: they are decided without reading first, unless what is decided
shows that something is held.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from crrmon.domain.events.facts import News
from crrmon.domain.noting import Noted, note
from crrmon.domain.objects import MarkId, ObjectVersion
from crrmon.domain.outcomes import Half, Mark, Outcome, Settlement, contribution
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled, part_of, settle
from crrmon.domain.trails import Parked, Rescheduled, Trail
from crrmon.ledger.isolation import BadItemError
from crrmon.ledger.trails import NOTHING, Change, Trails
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import TooMuchError

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


class Decider:
    """
    Carries out on trails what the port asks for.

    Args:
        trails: of the ledger.
        exclusive: whether nobody else has it open.
    """

    def __init__(self, trails: Trails, *, exclusive: bool) -> None:
        self._trails = trails
        # Where nobody else can be in the way, neither are we: reading and writing are one thing, as seen from here.
        self._turns = asyncio.Lock() if exclusive else contextlib.nullcontext()

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | Half | None]:
        """
        Tell what is kept under each id.
        """
        async with self._turns:
            held = await self._trails.read(list(dict.fromkeys(one.trail_id for one in ids)))
        found = []
        for one in ids:
            trail = held.get(one.trail_id, NOTHING).trail
            found.append(trail.marks.get(one.slot) or trail.halves.get(one.slot))
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
            lambda chunk, trail_of: settle(batch, chunk, trail_of),
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
            except TooMuchError as error:
                if len(trails) == 1:
                    raise BadItemError(str(error)) from error
            else:
                results.update(zip(mine, decided, strict=True))
                return
            # One that is too much by itself harms itself only: the others are done before it is told.
            half = len(trails) // 2
            await carry_out_all((trails[:half], trails[half:]))

        async def carry_out_all(chunks: Sequence[Sequence[bytes]]) -> None:
            if len(chunks) == 1:
                await carry_out(chunks[0])
                return
            done = await asyncio.gather(*map(carry_out, chunks), return_exceptions=True)
            for one in done:
                if one is not None:
                    raise one

        async with self._turns:
            await carry_out_all(self._trails.chunks(list(places), alone=alone))
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
        held = dict.fromkeys(trails, NOTHING)
        if unsure:
            held.update(await self._trails.read(unsure))
        for _ in range(TRIES):
            after = {trail: one.trail.copy() for trail, one in held.items()}
            results, counted = decide(items, after.__getitem__)
            changes = [
                Change(trail, one, after[trail])
                for trail, one in held.items()
                if _differ(one.trail, after[trail])
            ]
            added = None
            if counted:
                added = contribution(part_of(batch, counted), counted, settled_at=now)
            if not changes:
                return results
            others = await self._trails.write(changes, added=added, now=now)
            if not others:
                return results
            held.update(dict.fromkeys(others, NOTHING))
            held.update(await self._trails.read(others))
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
    return lambda chunk, trail_of: (
        [act(trail_of(one.version.trail_id), one) for one in chunk],
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
