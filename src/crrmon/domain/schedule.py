"""What the pacer knows, put into a decision: when to look next, and how long what arrived has taken."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from crrmon.domain import latency as latencies
from crrmon.domain.decisions import Adopt, Decision, Settle, Wait
from crrmon.domain.failures import PLACED_WITHIN_SECONDS
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import LATE_SECONDS, Outcome, Settlement
from crrmon.domain.pacing import Pacer, Path, apart, path_of
from crrmon.domain.records import Record, State

TOLD_AGAIN_SECONDS = 60.0
"""Before an end is asked about again that has to be told twice."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Dates and estimates at one moment, for one version."""

    pacer: Pacer
    """What was learned of all ways so far."""
    now: float
    draw: float
    """A random number from 0 up to 1."""

    def first_look_at(self, record: Record) -> float:
        """Return when a version is best looked at that nobody looked at yet: at once, if only that tells how old it is."""
        if record.claimed_at is not None:
            return self.now
        return self.pacer.first_look_at(
            path_of(record), written_at=record.written_at, now=self.now, draw=self.draw
        )

    def finished(self, decision: Decision, path: Path, *, not_before: float) -> Decision:
        """Complete a decision.

        Args:
            decision: without dates and without spread latencies.
            path: the ways of the version that was looked at.
            not_before: the earliest date of a version that waits.
        """
        if isinstance(decision, Adopt):
            return replace(decision, then=self._complete(decision.then, path))
        step = self._complete(decision, path)
        if isinstance(step, Wait) and step.record.next_look_at < not_before:
            return Wait(replace(step.record, next_look_at=not_before))
        return step

    def settled(self, decision: Settle, path: Path) -> Settle:
        """Complete a decision to settle."""
        settlement = decision.settlement
        keep = None if settlement.keep is None else self._dated(settlement.keep)
        estimated = Settlement(
            version=settlement.version,
            outcomes=_spread(self.pacer, settlement, path),
            rev=settlement.rev,
            keep=keep,
        )
        return Settle(estimated, decision.news)

    def _complete(self, step: Wait | Settle, path: Path) -> Wait | Settle:
        return (
            Wait(self._dated(step.record)) if isinstance(step, Wait) else self.settled(step, path)
        )

    def _dated(self, record: Record) -> Record:
        """Return the record with the date of its next look."""
        now, draw = self.now, self.draw
        if record.state is State.FAILED and record.failed_at is not None and not record.troubles:
            at = self.pacer.failed_look_at(failed_at=record.failed_at, now=now, draw=draw)
            if not record.placed:
                # Somebody must be there to count it at the unknown destination in time.
                at = min(at, max(record.failed_at + PLACED_WITHIN_SECONDS, now))
        else:
            at = self.pacer.next_look_at(
                path_of(record),
                written_at=record.written_at,
                now=now,
                troubles=record.troubles,
                draw=draw,
            )
        if record.endings:
            # A store that is not itself for a moment must not tell the same twice within that moment.
            at = max(at, now + TOLD_AGAIN_SECONDS * (0.5 + draw))
        return replace(record, next_look_at=at)


def _spread(pacer: Pacer, settlement: Settlement, path: Path) -> tuple[Outcome, ...]:
    """Return outcomes with their latencies estimated: spread over buckets, and as one expected number."""
    outcomes = settlement.outcomes
    if len(outcomes) == 1:  # as nearly always
        (only,) = outcomes
        return (_estimated(pacer, only, path, (only.route,)),)
    among = [
        outcome.route
        for outcome in outcomes
        if outcome.latency is not None and outcome.latency.slowest is not None
    ]
    return tuple([_estimated(pacer, outcome, path, among) for outcome in outcomes])


def _estimated(pacer: Pacer, outcome: Outcome, path: Path, among: Sequence[Route]) -> Outcome:
    """Estimate a latency.

    Args:
        pacer: knows how long what takes.
        outcome: of a destination.
        path: the routes that the version takes.
        among: those of which one was the slowest, as far as looks told.
    """
    latency, now = outcome.latency, outcome.found_at
    if latency is None:
        return outcome
    if latency.slowest is None:
        estimate = pacer.estimate(apart(path, outcome.route), latency, now=now)
        spread, seconds = estimate.spread, estimate.seconds
    else:
        spread = pacer.spread_among(outcome.route, among, latency, now=now)
        seconds = latencies.mean(spread)
    if latency.exact:
        seconds = latency.upper
    # That one of several took so long says of none that it is late.
    late = outcome.late or (latency.slowest is None and seconds > LATE_SECONDS)
    return replace(outcome, spread=spread, seconds=seconds, late=late)
