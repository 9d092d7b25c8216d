"""Deciding on what was read, and writing only if it still is so; else deciding again.

A store gives trails a *tag* each, which changes whenever the trail does. Every write names the tags that its decisions
rest on; if any of them is another by now, nothing is written, and the decisions are made again. So a try whose answer
got lost is repeated without harm: it finds its own marks.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from crrmon.domain.objects import ObjectVersion
from crrmon.domain.outcomes import Delta, Outcome, delta
from crrmon.domain.settling import part_of
from crrmon.domain.trails import Trail
from crrmon.ledger.isolation import BadItemError
from crrmon.ledger.trails import NOTHING, Change, Trails
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import TooMuchError

TRIES = 20
"""How often decisions are made again because somebody else was faster, before the caller is told to come again."""


class Versioned(Protocol):
    """What is decided about a version."""

    @property
    def version(self) -> ObjectVersion:
        """Which version: it tells the trail."""


Item = TypeVar("Item", bound=Versioned)
Result = TypeVar("Result")

Decide = Callable[[Sequence[Item], Callable[[bytes], Trail]], tuple[list[Result], list[Outcome]]]
"""Decides on items, changing their trails: a result for each, and the outcomes that are counted just now."""


class DecisionPlan(msgspec.Struct, Generic[Item, Result], frozen=True, kw_only=True):
    """How items are decided on."""

    decide: Decide[Item, Result]
    now: float
    batch: str = ""
    """Names what is counted."""
    alone: bool = False
    """Whether nothing binds the items together, so that each may as well be written by itself."""
    likely_held: Callable[[Item], bool] = lambda _: True
    """Tells the items of which something is likely held, so that reading first is worth it."""

    def delta(self, counted: list[Outcome]) -> Delta | None:
        """Return what is added to the statistics; None where nothing was counted."""
        if not counted:
            return None
        return delta(part_of(self.batch, counted), counted, settled_at=self.now)


class Undertaking(Generic[Item, Result]):
    """Some items that are decided on, chunk by chunk, and what came of each.

    Args:
        trails: of the ledger.
        items: what is decided on.
        plan: how.
    """

    def __init__(
        self, trails: Trails, items: Sequence[Item], plan: DecisionPlan[Item, Result]
    ) -> None:
        self._trails = trails
        self._items = items
        self._plan = plan
        self._places: dict[bytes, list[int]] = defaultdict(list)
        """Of each trail, where its items stand among all."""
        self._results: dict[int, Result] = {}
        for place, item in enumerate(items):
            self._places[item.version.trail_id].append(place)

    async def carried_out(self) -> list[Result]:
        """Decide on all items, write what comes of it, and return the result of each."""
        await self._do_all(self._trails.chunks(list(self._places), alone=self._plan.alone))
        return [self._results[place] for place in range(len(self._items))]

    async def _do_all(self, chunks: Sequence[Sequence[bytes]]) -> None:
        if len(chunks) == 1:
            await self._do(chunks[0])
            return
        # Those that can be done are done before the others' trouble is told.
        done = await asyncio.gather(*map(self._do, chunks), return_exceptions=True)
        for trouble in done:
            if trouble is not None:
                raise trouble

    async def _do(self, trails: Sequence[bytes]) -> None:
        places = [place for trail in trails for place in self._places[trail]]
        try:
            decided = await self._decided([self._items[place] for place in places], trails)
        except TooMuchError as error:
            if len(trails) == 1:
                raise BadItemError(str(error)) from error
        else:
            self._results.update(zip(places, decided, strict=True))
            return
        # One that is too much by itself harms itself only: the others are done before it is told.
        half = len(trails) // 2
        await self._do_all((trails[:half], trails[half:]))

    async def _decided(self, items: Sequence[Item], trails: Sequence[bytes]) -> list[Result]:
        """Decide on the items of one chunk until what was read still is so when it is written."""
        held = dict.fromkeys(trails, NOTHING)
        unsure = {item.version.trail_id for item in items if self._plan.likely_held(item)}
        recalled = self._trails.recalled([trail for trail in trails if trail in unsure])
        held.update(recalled)
        unread = [trail for trail in trails if trail in unsure and trail not in recalled]
        if unread:
            held.update(await self._trails.read(unread))
        for _ in range(TRIES):
            after = {trail: before.trail.copy() for trail, before in held.items()}
            results, counted = self._plan.decide(items, after.__getitem__)
            changes = [
                Change(trail, before, after[trail])
                for trail, before in held.items()
                if _differ(before.trail, after[trail])
            ]
            # Only a write proves that what is recalled still is so: where nothing is written, it must be read.
            others: Sequence[bytes] = list(recalled.keys() - {change.trail for change in changes})
            if not others:
                if not changes:
                    return results
                others = await self._trails.write(
                    changes, added=self._plan.delta(counted), now=self._plan.now
                )
            if not others:
                return results
            held.update(dict.fromkeys(others, NOTHING))
            held.update(await self._trails.read(others))
            recalled = {trail: one for trail, one in recalled.items() if trail not in others}
        raise LedgerError("another process keeps changing the same objects")


def _differ(before: Trail, after: Trail) -> bool:
    """Return whether a trail was changed; values that are the same object did not change."""
    return (
        _some_differ(before.marks, after.marks)
        or _some_differ(before.records, after.records)
        or _some_differ(before.early_facts, after.early_facts)
    )


def _some_differ(before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    return len(before) != len(after) or any(
        before.get(name) is not one for name, one in after.items()
    )
