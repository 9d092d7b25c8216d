"""Up to when all is known: the moment before which nothing waits anywhere, in a queue, in a daemon or in the ledger.

What was written comes to the ledger in three steps, and each has a bound:

- *Under way or in a queue.* A queue in which nothing was waiting at E held nothing that had been sent before, but for
  what daemons had taken out. So nothing written before E, less the largest delay from a write to its message, waits
  there. SQS's counts are late and approximate: a margin is taken off.
- *Held by a daemon.* Every daemon announces the oldest write that it knows of and that is not durable yet. What it
  took before E it tells only in an announcement made after E, so an E counts no sooner than that every daemon has
  announced itself since. What was told once stands until the queues were found empty after it: it may have been left
  to the queue again.
- *In the ledger.* The backlog tells it. It must be read after the presences, and these after the queues, or something
  that moves on meanwhile is in none of them.

A daemon that fell silent may be dead. What it held comes back to the queue when its visibility ends, so its last
word stands until all queues were found empty long enough after it; then it can be dismissed.

What is in the ledger is not all of a route, though: rules may not lead there any more, and what was let go without
having arrived is in no backlog (`route_state`). And of what is not followed at all, nobody can tell anything.

Three things are beyond this. The delay covers only what daemons saw: a message that comes later than any of those may
have been passed. Messages that SQS handed out in an answer that never arrived, or took longer than a few
seconds, are nobody's until their visibility ends. And a daemon that alone cannot reach the ledger, while it keeps what it holds hidden, looks dead.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from crrmon.domain.objects import UNKNOWN_DESTINATION, Route
from crrmon.domain.windows import Standing

MARGIN_SECONDS = 60.0
"""How late SQS's counts may be, and clocks besides."""

ANSWER_SECONDS = 5.0
"""How long an answer of a queue may take to the daemon that asked."""

SILENT_SECONDS = 240.0
"""Silence after which what a daemon held is back in the queue, if it is dead: twice the visibility, for the counts."""

GAP_SECONDS = 60.0
"""Time without a round after which nothing that was seen before tells anything: others may have been silent for it."""

KEPT = 100
"""Most rounds and lower bounds that are remembered; what is let go makes the result older, never wrong."""


class Announcement(Protocol):
    """What one daemon said about itself."""

    @property
    def owner(self) -> str:
        """The daemon."""
        ...

    @property
    def announced_at(self) -> float:
        """When, by its own clock."""
        ...

    @property
    def held_since(self) -> float | None:
        """The oldest time of a write that it knows of and that is not durable yet."""
        ...

    @property
    def delay(self) -> float | None:
        """The largest time in seconds from a write to its message's arrival in the queue that it knows of."""
        ...


class QueueSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one queue in a round."""

    waiting: int
    """Messages that are visible or delayed."""
    dead: int | None
    """Messages in its dead-letter queue; None where nobody can tell."""


class Heard(msgspec.Struct, frozen=True):
    """The last word of one daemon."""

    said: Announcement
    since: float
    """The round in which it was first heard."""

    def covers(self, moment: float) -> bool:
        """Return whether it says what had become of all that the daemon took before a round.

        NB: that it was first heard in a later round proves it, whatever the daemon's clock shows; that clock proves
        it for an announcement that took long to arrive, and gives answers of the queue the time to reach the daemon.
        """
        fresh = self.since > moment and self.said.announced_at >= moment + ANSWER_SECONDS
        return fresh or self.silent(moment)

    def silent(self, moment: float) -> bool:
        """Return whether at a round nothing had been heard for so long that nothing it held is held any more."""
        return moment > self.since + SILENT_SECONDS


class Emptied(msgspec.Struct, frozen=True):
    """When a queue was found with nothing waiting in it."""

    counts: float | None = None
    """The newest such round that counts: every daemon has said since what became of what it took before."""
    rounds: tuple[float, ...] = ()
    """Those after it, oldest first, that do not count yet."""

    def after(self, at: float, queue: QueueSeen | None, heard: Mapping[str, Heard]) -> "Emptied":
        """Take up one more round."""
        if queue is not None and queue.dead != 0:
            # What lies there may be moved back at any time: from then on, nothing found empty before tells anything.
            return Emptied()
        rounds = self.rounds
        if queue is not None and queue.waiting == 0:
            rounds = (*rounds, at)[-KEPT:]
        covered = [one for one in rounds if all(two.covers(one) for two in heard.values())]
        if not covered:
            return Emptied(self.counts, rounds)
        return Emptied(covered[-1], tuple(one for one in rounds if one > covered[-1]))


class QueueWatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the rounds so far have shown. A new one knows nothing."""

    at: float | None = None
    """The last round."""
    clear: bool = False
    """Whether every queue could be read in it, and no dead-letter queue holds anything, or may."""
    queues: dict[str, Emptied] = {}
    heard: dict[str, Heard] = {}
    """By owner."""
    lower_bounds: tuple[tuple[float, float], ...] = ()
    """What daemons held: the round in which they told it, and since when it was held; both rise."""

    @property
    def emptied_at(self) -> float | None:
        """The newest moment after which all was sent that waits in any queue, but for what daemons held then."""
        moments = [queue.counts for queue in self.queues.values() if queue.counts is not None]
        return min(moments) if moments and len(moments) == len(self.queues) else None

    @property
    def departed(self) -> tuple[Announcement, ...]:
        """The last words of daemons that can be dismissed: what they held was in the queues again, and taken by others."""
        moment = self.emptied_at
        if moment is None:
            return ()
        return tuple(one.said for one in self.heard.values() if one.silent(moment))

    def bound(self, owner: str, *, delay: float | None = None) -> float | None:
        """Return the moment before which everything that was written is in the ledger.

        Args:
            owner: the daemon that asks; it must have announced itself, too.
            delay: the largest time in seconds from a write to its message's arrival that the ledger remembers, if any.

        Returns:
            None when nobody can tell.
        """
        moment = self.emptied_at
        if not self.clear or moment is None or owner not in self.heard:
            return None
        told = (delay, *(one.said.delay for one in self.heard.values()))
        delays = [one for one in told if one is not None]
        if not delays:
            return None  # nobody ever saw an event: how late they come is anybody's guess
        arrived = moment - MARGIN_SECONDS - max(0.0, *delays)
        return min([arrived, *(since for _, since in self.lower_bounds[:1])])

    def after(
        self, at: float, queues: Mapping[str, QueueSeen | None], members: Iterable[Announcement]
    ) -> "QueueWatch":
        """Take up what one more round has shown.

        Args:
            at: when the round began, before any queue was asked.
            queues: by name; None for one that could not be read.
            members: of all daemons, read after the queues.
        """
        if self.at is not None and not 0 < at - self.at <= GAP_SECONDS:
            return QueueWatch().after(at, queues, members)
        heard = {said.owner: self._heard(said, at) for said in members}
        emptied = {
            name: self.queues.get(name, Emptied()).after(at, queue, heard)
            for name, queue in queues.items()
        }
        watch = QueueWatch(
            at=at,
            clear=all(queue is not None and queue.dead == 0 for queue in queues.values()),
            queues=emptied,
            heard=heard,
        )
        return msgspec.structs.replace(watch, lower_bounds=self._lower_bounds(watch))

    def _heard(self, said: Announcement, at: float) -> Heard:
        known = self.heard.get(said.owner)
        if known is not None and known.said.announced_at == said.announced_at:
            return known
        return Heard(said, at)

    def _lower_bounds(self, after: "QueueWatch") -> tuple[tuple[float, float], ...]:
        """Return which lower bounds stand after a round: those told since the queues were last found empty."""
        moment, at = after.emptied_at, after.at
        lower_bounds = [
            bound for bound in self.lower_bounds if moment is None or bound[0] >= moment
        ]
        held = [one.said.held_since for one in after.heard.values()]
        lowest = min((since for since in held if since is not None), default=None)
        if lowest is not None and at is not None:
            # One that is no higher and stands longer makes others needless.
            lower_bounds = [one for one in lower_bounds if one[1] < lowest]
            lower_bounds.append((at, lowest))
        if len(lower_bounds) > KEPT:
            lower_bounds[:2] = [(lower_bounds[1][0], lower_bounds[0][1])]
        return tuple(lower_bounds)


class Watermark(msgspec.Struct, frozen=True):
    """Up to when all is known of one route, in whole seconds."""

    complete: int
    """Nothing written before it is pending or failed."""
    settled: int
    """Nothing written before it is pending."""


class Standpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one route beside its backlog."""

    known_at: float | None
    """When rules were last seen to lead there; None while they do not, or nobody could see."""
    blocked_at: float | None = None
    """When the oldest object was written that was let go and has not arrived."""
    whole: bool = True
    """Whether all that its rules select is followed."""


def watermarks(
    bound: float, standings: Mapping[Route, Standing], *, routes: Mapping[Route, Standpoint]
) -> dict[Route, Watermark]:
    """Return for every route up to when all is known.

    Args:
        bound: the moment before which everything written is in the ledger.
        standings: the backlog, read after all that led to the bound.
        routes: all known ones, read after the backlog: what is let go is noted here before it leaves that.

    Returns:
        By route; none for a route without rules, or of which something is not followed. What stands open on the way to
        the unknown destination may be on any way from its source, and that is no route of its own.
    """
    found = {}
    for route, known in routes.items():
        if route.destination == UNKNOWN_DESTINATION or known.known_at is None or not known.whole:
            continue
        unknown = standings.get(Route(route.source, UNKNOWN_DESTINATION), Standing())
        standing = standings.get(route, Standing())
        settled = _lowest(
            bound,
            known.known_at,
            standing.oldest_written_at,
            unknown.oldest_written_at,
        )
        complete = _lowest(
            settled, known.blocked_at, standing.oldest_failed_at, unknown.oldest_failed_at
        )
        found[route] = Watermark(math.floor(complete), math.floor(settled))
    return found


def _lowest(bound: float, *others: float | None) -> float:
    return min([bound, *(other for other in others if other is not None)])
