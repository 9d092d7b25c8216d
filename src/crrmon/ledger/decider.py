"""What parking, rescheduling, settling and noting do to trails: decided by the domain, written if it still is so.

New versions are the most, and of them nothing is known: they are decided without reading first, unless what is decided
shows that something is held.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from crrmon.domain.events.facts import News
from crrmon.domain.noting import Noted, note
from crrmon.domain.objects import MarkId
from crrmon.domain.outcomes import EarlyFact, Mark, Outcome, Settlement
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled, settle
from crrmon.domain.trails import Parked, Rescheduled, Trail
from crrmon.ledger.isolation import isolated
from crrmon.ledger.optimistic import Decide, DecisionPlan, Item, Result, Undertaking
from crrmon.ledger.trails import Trails
from crrmon.ports.clock import Clock


class Decider:
    """Carries out on trails what the port asks for.

    Args:
        trails: of the ledger.
        exclusive: whether nobody else has it open.
        clock: tells until when what is new is kept.
    """

    def __init__(self, trails: Trails, *, exclusive: bool, clock: Clock) -> None:
        self._trails = trails
        self._clock = clock
        # Where nobody else can be in the way, neither are we: reading and writing are one thing, as seen from here.
        self._one_by_one = asyncio.Lock() if exclusive else contextlib.nullcontext()

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | EarlyFact | None]:
        """Return what is kept under each id."""
        trails = [mark.trail_id for mark in ids]
        some = list(dict.fromkeys(trails))
        async with self._one_by_one:
            held = await isolated(self._trails.read(some), trails=some)
        found: list[Mark | EarlyFact | None] = [None] * len(ids)
        # Nothing is held of nearly all.
        for place, name in enumerate(trails):
            if name in held:
                trail, slot = held[name].trail, ids[place].slot
                found[place] = trail.marks.get(slot) or trail.early_facts.get(slot)
        return found

    async def park(self, records: Sequence[Record]) -> Sequence[Parked]:
        """Store new records."""
        plan = DecisionPlan(
            decide=_each(Trail.park), now=self._clock.now(), likely_held=_knows_of_arrival
        )
        return await self._carried_out(records, plan)

    async def reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        """Replace records that nobody changed meanwhile."""
        plan = DecisionPlan(decide=_each(Trail.reschedule), now=self._clock.now(), alone=True)
        return await self._carried_out(records, plan)

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        """Count outcomes, each at most once, and let their records go."""
        plan = DecisionPlan(
            decide=lambda chunk, trail_of: settle(batch, chunk, trail_of),
            now=now,
            batch=batch,
            likely_held=_knows_of_some,
        )
        return await self._carried_out(settlements, plan)

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        """Add what others told of versions."""

        def act(trail: Trail, told: News) -> Noted:
            return note(trail, told, now=now)

        return await self._carried_out(news, DecisionPlan(decide=_each(act), now=now, alone=True))

    async def _carried_out(
        self, items: Sequence[Item], plan: DecisionPlan[Item, Result]
    ) -> list[Result]:
        async with self._one_by_one:
            asked = Undertaking(self._trails, items, plan).carried_out()
            return await isolated(asked, trails=(item.version.trail_id for item in items))


def _knows_of_arrival(record: Record) -> bool:
    """Return whether a new record knows of an arrival: then there is an early fact that told it."""
    return any(destination.replicated_at is not None for destination in record.destinations)


def _knows_of_some(settlement: Settlement) -> bool:
    """Return whether a settlement was decided on a record, or on an arrival that is kept as an early fact."""
    return settlement.rev != 0 or any(map(_is_exact, settlement.outcomes))


def _is_exact(outcome: Outcome) -> bool:
    """Return whether a replica's own event told of the arrival: then it is kept as an early fact, or in a record."""
    return outcome.latency is not None and outcome.latency.exact


def _each(act: Callable[[Trail, Item], Result]) -> Decide[Item, Result]:
    """Decide on every item by itself; nothing is counted."""
    return lambda chunk, trail_of: (
        [act(trail_of(item.version.trail_id), item) for item in chunk],
        [],
    )
