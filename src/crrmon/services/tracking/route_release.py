"""What a person asks and says about routes: what holds each of them back, and that it may do so no longer."""

from crrmon.domain.objects import Route
from crrmon.domain.route_state import (
    RouteState,
    decode,
    encode,
    name_of,
    prefix_of,
    released,
    route_of,
)
from crrmon.ports.ledger import Ledger

TRIES = 10
"""How often somebody else may change a route meanwhile."""


class UnknownRouteError(Exception):
    """The ledger knows no such route; the text names those that it knows."""


class DisturbedReleaseError(Exception):
    """The route was changed again and again meanwhile."""


async def states(ledger: Ledger) -> dict[Route, RouteState]:
    """Return what is remembered of every route, sorted.

    Raises:
        LedgerError: it did not answer.
        msgspec.MsgspecError: it is damaged.
    """
    told = await ledger.states(prefix_of())
    return {route_of(name): decode(body) for name, body in sorted(told.items())}


async def release(ledger: Ledger, route: Route, *, now: float) -> RouteState:
    """Release a route from all that holds it back; retire it if no rule leads there.

    Returns:
        What was remembered of it before.

    Raises:
        UnknownRouteError: there is no such route.
        DisturbedReleaseError: try again.
        LedgerError: it did not answer.
    """
    name = name_of(route)
    for _ in range(TRIES):
        told = await ledger.states(name)
        if name not in told:
            known = ", ".join(f"{one.source} to {one.destination}" for one in await states(ledger))
            raise UnknownRouteError(
                f"the ledger knows no route from {route.source} to {route.destination};"
                f" it knows {known or 'none'}"
            )
        before = decode(told[name])
        if await ledger.swap(name, told[name], encode(released(before, now=now))):
            return before
    raise DisturbedReleaseError(
        f"the route from {route.source} to {route.destination} keeps changing: try again"
    )
