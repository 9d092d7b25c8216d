"""The gauges of the whole fleet: what is pending, stuck and failed, up to when all is known, what was not sent yet.

One daemon shows them, the one that holds the reporting shard; shown by two they would double. They have a loop of
their own, for sending windows may take long.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import structlog

from crrmon.domain import catalogue, event_delays, route_state
from crrmon.domain.backlog import BACKLOG_SLOT_SECONDS, BacklogSlot
from crrmon.domain.choice import Choice
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import LATE_SECONDS
from crrmon.domain.route_state import RouteState
from crrmon.domain.watermark import QueueSeen, QueueWatch, Standpoint, watermarks
from crrmon.domain.windows import AGES, Standing
from crrmon.ports.inbox import Depth, Inbox, InboxError
from crrmon.ports.ledger import Lease, Ledger
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.rounds import Pause, rounds
from crrmon.services.lifecycle.runtime import Runtime

ROUND_SECONDS = 1.0
REFRESH_SECONDS = 10.0
"""How often queues and ledger are asked."""
COUNTING_SECONDS = 20.0
"""How long the queues have to tell their depths."""
REMINDER_SECONDS = 3600.0
"""Between two warnings that the depth of a queue cannot be read."""
PATIENCE_SECONDS = 180.0
FORGOTTEN_SECONDS = 14 * 86_400.0
"""Age at which a daemon's last word is dropped, whatever it held: no message stays in a queue for longer."""

log = structlog.get_logger()


class Fleet:
    """Shows the fleet's gauges while this daemon reports.

    Args:
        inboxes: all queues.
        owner: this daemon, as in its heartbeat.
        reporting: tells the lease of the reporting shard while it is held.
        unsent: tells how many frozen windows wait to be sent; None when that is not known, or not of interest.
        timed: tells the routes under Replication Time Control, which has a threshold of its own.
        seen_at: tells when rules were last seen to lead along a route; None while they do not, or nobody could see.
        choice: what is followed.
        vouched: whether somebody set how late events are at least: then they come, of each source.
        stuck_after: seconds after which a pending object counts as stuck on any other.
    """

    def __init__(  # noqa: PLR0913 - what it asks, and what it tells
        self,
        ledger: Ledger,
        inboxes: Sequence[Inbox],
        runtime: Runtime,
        *,
        owner: str,
        reporting: Callable[[], Lease | None],
        unsent: Callable[[], int | None],
        timed: Callable[[], frozenset[Route]],
        seen_at: Callable[[Route], float | None],
        choice: Choice,
        vouched: bool,
        health: Dependency,
        stuck_after: float,
    ) -> None:
        self._ledger = ledger
        self._inboxes = inboxes
        self._owner = owner
        self._reporting = reporting
        self._unsent = unsent
        self._timed = timed
        self._seen_at = seen_at
        self._choice = choice
        self._vouched = vouched
        self._health = health
        self._board = runtime.board
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._stuck_after = stuck_after
        self._refresh_at = float("-inf")
        self._watch = QueueWatch()
        self._warned_at: dict[str, float] = {}

    async def run(self) -> None:
        """Show and withdraw, for ever."""
        await rounds(
            self._once,
            name="fleet",
            board=self._board,
            patience=PATIENCE_SECONDS,
            health=self._health,
            operation="gauges",
            retry_seconds=ROUND_SECONDS,
        )

    async def _once(self) -> Pause:
        loop = asyncio.get_running_loop()
        if self._reporting() is None:
            self._withdraw()
            return Pause(ROUND_SECONDS, answered=False, done=False)
        self._show_unsent()
        if loop.time() < self._refresh_at or not self._clock.sure:
            # What was shown last was true then.
            return Pause(ROUND_SECONDS, answered=False, done=False)
        await self._refresh()
        self._refresh_at = loop.time() + REFRESH_SECONDS
        return Pause(ROUND_SECONDS)

    async def _refresh(self) -> None:
        # NB: in this order. What moves on meanwhile, from a queue to a daemon to the ledger, must meet us once.
        at = self._clock.now()
        depths = await self._depths()
        members = await self._ledger.members()
        holders = {one.owner for one in await self._ledger.leases() if one.owner}
        slots = await self._ledger.backlog()
        routes = await self._ledger.known_routes()
        seen = {route: self._seen_at(route) for route in routes}
        # After the backlog: what is let go is noted here before it leaves that. After what was seen of the rules as
        # well: what a reading tells is noted here before it counts as seen.
        states, delay = _understood(await self._ledger.states(""))
        if self._reporting() is None:
            return  # the answer took so long that others report by now
        queues = {name: None if one is None else _queue(one) for name, one in depths.items()}
        self._watch = self._watch.after(at, queues, members)
        now = self._clock.now()
        standings = standing(slots, now=now, timed=self._timed(), stuck_after=self._stuck_after)
        for metric in _REFRESHED:
            self._meters.clear(metric)
        self._show_depths(depths)
        for route in {*routes, *standings}:
            self._show_standing(route, standings.get(route, Standing()))
        self._show_states(states)
        if holders <= {one.owner for one in members}:
            # Else somebody works here who does not say what it holds: a daemon of the version before.
            self._show_watermarks(standings, states, seen, delay)
        departed = self._watch.departed
        for member in members:
            # NB: what a daemon whose clock is wrong says just now is not old.
            old = now - member.announced_at > FORGOTTEN_SECONDS
            if member in departed or (old and self._watch.heard[member.owner].silent(now)):
                log.info("member_expired", owner=member.owner, silent_since=member.announced_at)
                await self._ledger.dismiss(member)

    async def _depths(self) -> dict[str, Depth | None]:
        """Ask all queues at once; None for one that does not tell, or whose messages others keep."""
        depths = await asyncio.gather(*map(self._depth, self._inboxes))
        return {inbox.name: one for inbox, one in zip(self._inboxes, depths, strict=True)}

    async def _depth(self, inbox: Inbox) -> Depth | None:
        try:
            async with asyncio.timeout(COUNTING_SECONDS):
                return await inbox.depth()
        except InboxError as error:
            self._warn(inbox, str(error))
        except TimeoutError:
            self._warn(inbox, f"no answer within {COUNTING_SECONDS:.0f} s")
        return None

    def _warn(self, inbox: Inbox, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at.get(inbox.name, float("-inf")) >= REMINDER_SECONDS:
            self._warned_at[inbox.name] = now
            log.warning("queue_depth_unknown", queue=inbox.name, reason=reason)

    def _show_depths(self, depths: Mapping[str, Depth | None]) -> None:
        for name, depth in depths.items():
            if depth is None:
                continue
            counts = {
                "visible": depth.visible,
                "in_flight": depth.in_flight,
                "delayed": depth.delayed,
                "dead": depth.dead,
            }
            for state, count in counts.items():
                if count is not None:
                    self._meters.set(catalogue.QUEUE_MESSAGES, name, state, value=count)

    def _show_standing(self, route: Route, one: Standing) -> None:
        labels = (route.source, route.destination)
        self._meters.set(catalogue.PENDING_OBJECTS, *labels, value=one.pending_objects)
        self._meters.set(catalogue.PENDING_BYTES, *labels, value=one.pending_bytes)
        self._meters.set(catalogue.STUCK_OBJECTS, *labels, value=one.stuck_objects)
        self._meters.set(catalogue.FAILED_OBJECTS, *labels, value=one.failed_objects)
        for (age, _), count in zip(AGES, one.by_age, strict=True):
            self._meters.set(catalogue.PENDING_BY_AGE, *labels, age, value=count)
        if one.oldest_written_at is not None:
            self._meters.set(catalogue.OLDEST_PENDING, *labels, value=one.oldest_written_at)

    def _show_states(self, states: Mapping[Route, RouteState]) -> None:
        for route, state in states.items():
            labels = (route.source, route.destination)
            if not state.retired:
                value = int(state.configured)
                self._meters.set(catalogue.ROUTE_CONFIGURED, *labels, value=value)
            if state.blocked_at is not None:
                self._meters.set(catalogue.COMPLETE_BLOCKED, *labels, value=state.blocked_at)

    def _show_watermarks(
        self,
        standings: Mapping[Route, Standing],
        states: Mapping[Route, RouteState],
        seen: Mapping[Route, float | None],
        delay: float | None,
    ) -> None:
        bound = self._watch.bound(self._owner, delay=delay)
        if bound is None:
            return
        routes = {
            route: self._standpoint(route, state, seen.get(route))
            for route, state in states.items()
        }
        for route, one in watermarks(bound, standings, routes=routes).items():
            labels = (route.source, route.destination)
            self._meters.set(catalogue.COMPLETE_UP_TO, *labels, value=one.complete)
            self._meters.set(catalogue.SETTLED_UP_TO, *labels, value=one.settled)

    def _standpoint(self, route: Route, state: RouteState, seen_at: float | None) -> Standpoint:
        followed = all(self._choice.whole(route.source, select.prefix) for select in state.selects)
        # A bucket whose events nobody ever saw may tell of none, unless somebody vouches for their delay.
        heard = state.heard or self._vouched
        return Standpoint(
            # By what is remembered as well: another daemon may have read later that the rules are gone.
            known_at=seen_at if state.configured else None,
            blocked_at=state.blocked_at,
            whole=followed and heard and not state.partial,
        )

    def _show_unsent(self) -> None:
        unsent = self._unsent()
        if unsent is None:
            self._meters.clear(catalogue.UNSENT_WINDOWS)
        else:
            self._meters.set(catalogue.UNSENT_WINDOWS, value=unsent)

    def _withdraw(self) -> None:
        """Take the fleet's gauges away: another daemon shows them now."""
        for metric in catalogue.METRICS:
            if metric.fleet:
                self._meters.clear(metric)
        self._health.forgo("gauges")
        self._refresh_at = float("-inf")
        self._watch = QueueWatch()


_REFRESHED = tuple(
    metric
    for metric in catalogue.METRICS
    if metric.fleet and metric is not catalogue.UNSENT_WINDOWS
)


def _understood(
    states: Mapping[str, bytes],
) -> tuple[dict[Route, RouteState], float | None]:
    """Read what the ledger keeps by name: the states of routes, and the largest delay of events; None when unknown.

    What is damaged is left out: of such a route nothing is shown.
    """
    routes: dict[Route, RouteState] = {}
    delay: float | None = None
    for name, body in states.items():
        with contextlib.suppress(msgspec.MsgspecError):
            if name == event_delays.STATE:
                delay = event_delays.decode(body).largest({})
            elif name.startswith(route_state.prefix_of()):
                routes[route_state.route_of(name)] = route_state.decode(body)
    return routes, delay


def standing(
    slots: Iterable[BacklogSlot], *, now: float, timed: frozenset[Route], stuck_after: float
) -> dict[Route, Standing]:
    """Sum up the backlog by route.

    Ages are those of the slots' starts, so at most a slot too high; an object counts as stuck, and as of a higher
    age band, when its whole slot is.

    Args:
        slots: the backlog.
        now: the time.
        timed: routes under Replication Time Control: what is late there is stuck.
        stuck_after: seconds after which a pending object counts as stuck on any other.
    """
    sums: dict[Route, Standing] = {}
    for slot in slots:
        one = sums.get(slot.route, Standing())
        age = now - (slot.written_from + BACKLOG_SLOT_SECONDS)
        stuck = age >= (LATE_SECONDS if slot.route in timed else stuck_after)
        band = max((place for place, (_, since) in enumerate(AGES) if age >= since), default=0)
        by_age = list(one.by_age)
        by_age[band] += slot.pending_objects
        sums[slot.route] = Standing(
            pending_objects=one.pending_objects + slot.pending_objects,
            pending_bytes=one.pending_bytes + slot.pending_bytes,
            failed_objects=one.failed_objects + slot.failed_objects,
            stuck_objects=one.stuck_objects + (slot.pending_objects if stuck else 0),
            by_age=tuple(by_age),
            oldest_written_at=_oldest(one.oldest_written_at, slot, slot.pending_objects),
            oldest_failed_at=_oldest(one.oldest_failed_at, slot, slot.failed_objects),
        )
    return sums


def _oldest(known: float | None, slot: BacklogSlot, objects: int) -> float | None:
    if not objects:
        return known
    return slot.written_from if known is None else min(known, slot.written_from)


def _queue(depth: Depth) -> QueueSeen:
    return QueueSeen(waiting=depth.visible + depth.delayed, dead=depth.dead)
