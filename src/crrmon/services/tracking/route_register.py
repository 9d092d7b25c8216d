"""What all daemons know of the routes: whether rules lead there, and what was let go without having arrived.

It is written to the ledger before whatever it is about is done: an object that is let go holds its route back from
before its record is dropped, and a route without rules is known to be one before a key is found to be covered by none.
Each daemon works on what it has seen last and writes only if nobody changed it meanwhile.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypeVar

import msgspec
import structlog

from crrmon.domain.objects import UNKNOWN_DESTINATION, ObjectVersion, Route, route_between
from crrmon.domain.outcomes import Cause, Fate, Outcome
from crrmon.domain.reasons import ROUTE_GONE
from crrmon.domain.records import Destination
from crrmon.domain.route_state import (
    Abandoned,
    RouteState,
    damaged,
    decode,
    encode,
    name_of,
    observed,
    prefix_of,
    route_of,
    selected,
    with_abandoned,
    with_arrival,
    with_event,
)
from crrmon.domain.routes import Configuration
from crrmon.domain.stores import BucketStores, StoreKind
from crrmon.ports.ledger import Ledger

Result = TypeVar("Result")

_BY_CONFIGURATION = (Cause.NO_CONFIGURATION, Cause.NO_RULE)
"""Causes for which nobody looked at the object."""
_UNPROVED = (Fate.GIVEN_UP, Fate.UNREADABLE, Fate.UNIDENTIFIED)
"""Ends of which nobody knows whether the object arrived."""

log = structlog.get_logger()


def may_be_missing(outcome: Outcome) -> bool:
    """Return whether an outcome lets an object go that may not have arrived, or may never arrive."""
    return outcome.fate in _UNPROVED or outcome.fate is Fate.NOT_COVERED


class Persist(Protocol):
    """Asks the ledger until it answers."""

    async def __call__(self, operation: str, act: Callable[[], Awaitable[Result]]) -> Result:
        """Return what the ledger told."""
        ...


class RouteRegister:
    """Keeps the states of routes.

    Args:
        ledger: where they are kept.
        persist: asks it until it answers.
        stores: tells what kind of store a bucket is in, for advice.
    """

    def __init__(self, ledger: Ledger, *, persist: Persist, stores: BucketStores) -> None:
        self._ledger = ledger
        self._persist = persist
        self._stores = stores
        self._bodies: dict[Route, bytes] = {}
        """As the ledger had it when it was last asked; `_states` is the same, understood."""
        self._states: dict[Route, RouteState] = {}
        self._destinations: defaultdict[str, set[str]] = defaultdict(set)
        """Of the states there are, by source."""
        self._holding: set[Route] = set()
        """Routes on which something was let go."""
        self._read_at: dict[Route, float] = {}
        """When each was last read by itself, by the loop's clock."""
        self._loaded = False
        self._turns: defaultdict[Route, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def refresh(self) -> None:
        """Read what other daemons have written meanwhile."""
        before = dict(self._bodies)
        told = await self._persist("states", lambda: self._ledger.states(prefix_of()))
        found = {route_of(name): body for name, body in told.items()}
        for route in {*self._bodies, *found}:
            if self._bodies.get(route) != before.get(route):
                continue  # changed here while the ledger was asked, so that its answer may be older
            if route in found:
                self._take(route, found[route])
            else:
                self._forget(route)
        self._loaded = True

    async def observed(
        self, source: str, configuration: Configuration, *, seen_at: float | None
    ) -> None:
        """Note what a source's replication configuration says, and log which routes went, came back or changed.

        Args:
            source: the bucket.
            configuration: as it was read just now.
            seen_at: when it was read the time before, if it was by this daemon.
        """
        await self._load()
        known = self._destinations.get(source, ())
        leads = {*known, *configuration.all_destinations}
        for destination in sorted(leads):
            change = partial(
                observed,
                selects=selected(configuration, destination),
                read_at=configuration.fetched_at,
                seen_at=seen_at,
                alone=len(leads) == 1,
            )
            was, now = await self._change(Route(source, destination), change)
            _tell(Route(source, destination), was, now, store=self._stores.of(source))

    def unheard(self, source: str, destinations: Iterable[Destination]) -> list[Route]:
        """Return the routes to some destinations on which no event of a write was ever seen."""
        unheard = []
        for destination in destinations:
            route = route_between(source, destination.bucket)
            state = self._states.get(route)
            if state is not None and not state.heard:
                unheard.append(route)
        return unheard

    async def heard(self, routes: Iterable[Route]) -> None:
        """Note that an event told of a write that takes some routes."""
        for route in routes:
            await self._change(route, lambda known: None if known is None else with_event(known))

    def alone(self, route: Route) -> bool:
        """Return whether a route's source leads, and led, nowhere else."""
        return len(self._destinations.get(route.source, ())) == 1

    async def abandon(self, outcome: Outcome) -> None:
        """Note that an object is about to be let go, on each route on which it has not arrived."""
        if not may_be_missing(outcome):
            return
        await self._load()
        named = outcome.route.destination not in ("", UNKNOWN_DESTINATION)
        if outcome.fate in _UNPROVED and named and outcome.route not in self._states:
            # Another daemon may have met the route since this one last read.
            await self._read_again(outcome.route, name_of(outcome.route))
        mark = outcome.mark
        why = outcome.fate.value if outcome.cause is None else outcome.cause.value
        one = Abandoned(mark.key, mark.version_id, outcome.written_at, why)
        for route in list(self._concerned(outcome)):
            await self._change(
                route,
                lambda state: None if state is None else with_abandoned(state, one),
                surely=True,
            )

    @property
    def holding(self) -> bool:
        """Whether any route is held back by what was let go on it, as far as this daemon has read."""
        return bool(self._holding)

    async def arrived(self, replica: ObjectVersion) -> None:
        """Note that a version arrived in a destination bucket, from wherever it came."""
        await self._found(replica, lambda route: route.destination == replica.bucket)

    async def over(self, version: ObjectVersion) -> None:
        """Note that a source version is gone for good, or everywhere: nothing of it can be missing anywhere."""
        await self._found(version, lambda route: route.source == version.bucket)

    def abandoned_objects(self) -> list[tuple[Route, tuple[Abandoned, ...]]]:
        """List what was let go on each route and has not arrived, as far as this daemon has read."""
        return [(route, self._states[route].abandoned) for route in sorted(self._holding)]

    async def _found(self, version: ObjectVersion, concerns: Callable[[Route], bool]) -> None:
        key, version_id = version.key, version.version_id
        for route in sorted(self._holding):
            if concerns(route):
                await self._change(
                    route,
                    lambda known: None if known is None else with_arrival(known, key, version_id),
                )

    def _concerned(self, outcome: Outcome) -> Iterator[Route]:
        """List the routes on which an outcome leaves its object missing."""
        key, cause = outcome.mark.key, outcome.cause
        source = outcome.route.source
        named = outcome.route in self._states
        for destination in sorted(self._destinations.get(source, ())):
            route = Route(source, destination)
            state = self._states[route]
            if outcome.fate in _UNPROVED:
                if route.destination == outcome.route.destination or not named:
                    anyhow = state.selecting(key, written_at=math.inf)
                    if named or anyhow or state.missing(key, written_at=math.inf):
                        yield route
                continue
            encrypted = cause is Cause.ENCRYPTION
            judged = cause in (Cause.NO_STATUS, Cause.ENCRYPTION)
            at = outcome.written_at
            if (judged and state.selecting(key, written_at=at, encrypted=encrypted)) or (
                (judged or cause in _BY_CONFIGURATION)
                and state.missing(key, written_at=at, encrypted=encrypted)
            ):
                yield route

    async def _load(self) -> None:
        if not self._loaded:
            await self.refresh()

    async def _change(
        self,
        route: Route,
        change: Callable[[RouteState | None], RouteState | None],
        *,
        surely: bool = False,
    ) -> tuple[RouteState | None, RouteState | None]:
        """Change a state.

        Args:
            route: whose.
            change: gives what it is afterwards; None, or the state itself, where that is nothing new.
            surely: whether it must be nothing new by the ledger itself, not only by what was read of it before.

        Returns:
            What it was, and what it is.
        """
        name = name_of(route)
        asked_at = asyncio.get_running_loop().time()
        async with self._turns[route]:
            while True:
                body, before = self._bodies.get(route), self._states.get(route)
                after = change(before)
                if after is None or after is before:
                    if not surely or self._read_at.get(route, -math.inf) >= asked_at:
                        return before, before
                    # Whoever waits for this turn goes by the same reading.
                    await self._read_again(route, name)
                    continue
                written = encode(after)
                if await self._persist(
                    "swap",
                    lambda body=body, written=written: self._ledger.swap(name, body, written),  # type: ignore[misc]
                ):
                    self._bodies[route] = written
                    self._put(route, after)
                    return before, after
                await self._read_again(route, name)

    async def _read_again(self, route: Route, name: str) -> None:
        began_at = asyncio.get_running_loop().time()
        told = await self._persist("states", lambda: self._ledger.states(name))
        if name in told:
            self._take(route, told[name])
        else:
            self._forget(route)
        # Also that there is none is an answer: whoever asked for it must not ask for ever.
        self._read_at[route] = began_at

    def _take(self, route: Route, body: bytes) -> None:
        """Take in what the ledger holds. What is damaged holds its route back until a person releases it."""
        if self._bodies.get(route) == body:
            return
        self._bodies[route] = body
        try:
            self._put(route, decode(body))
        except msgspec.MsgspecError as error:
            self._put(route, damaged())
            log.error(  # noqa: TRY400 - a traceback would tell nothing more
                "route_state_damaged",
                source_bucket=route.source,
                destination_bucket=route.destination,
                reason=str(error),
            )

    def _forget(self, route: Route) -> None:
        self._bodies.pop(route, None)
        self._read_at.pop(route, None)
        self._drop(route)

    def _put(self, route: Route, state: RouteState) -> None:
        self._states[route] = state
        self._destinations[route.source].add(route.destination)
        if state.abandoned:
            self._holding.add(route)
        else:
            self._holding.discard(route)

    def _drop(self, route: Route) -> None:
        self._states.pop(route, None)
        if (destinations := self._destinations.get(route.source)) is not None:
            destinations.discard(route.destination)
        self._holding.discard(route)


def _tell(
    route: Route, before: RouteState | None, after: RouteState | None, *, store: StoreKind
) -> None:
    """Log what became of a route."""
    if before is None or after is None or before.selects == after.selects:
        return
    told = {
        "source_bucket": route.source,
        "destination_bucket": route.destination,
        "prefixes_before": sorted({select.prefix for select in before.selects}),
        "prefixes": sorted({one.prefix for one in after.selects}),
    }
    if before.configured and not after.configured:
        log.warning(
            "route_removed",
            **told,
            advice=(
                f"no enabled replication rule leads there any longer: {ROUTE_GONE[store]}; or retire the route with"
                " crrmon routes release"
            ),
        )
    elif after.configured and not before.configured:
        log.info(
            "route_restored",
            **told,
            unavailable_seconds=round(after.changed_at - before.changed_at),
        )
    else:
        log.info("route_changed", **told)
