"""Failure episodes: when one begins, where it is proved, and when it has lasted too long.

S3 shows one merged FAILED. If a notice names the destination, or only one is left, it failed there and the others are
pending; else the failure stands on the route to the unknown destination until somebody proves where it was. Each
destination of an episode counts once, when it is proved.
"""

from collections.abc import Collection

from msgspec.structs import replace

from crrmon.domain.arrivals import arrivals, at_destinations, everywhere, left_of
from crrmon.domain.decisions import Decision, Settle, Wait, settle
from crrmon.domain.objects import UNKNOWN_DESTINATION
from crrmon.domain.observations import Observation
from crrmon.domain.outcomes import Fate
from crrmon.domain.records import Destination, Record, State
from crrmon.domain.verdicts import failed_there, failure_episode

PLACED_WITHIN_SECONDS = 600.0
"""How long a failure waits for word where it failed, before it is counted at the unknown destination: S3's notices come
within minutes.
"""


def too_old(record: Record, *, now: float, give_up_after: float) -> bool:
    """Return whether a version is to be given up by its age, which a failure or a restart resets."""
    started_at = record.written_at if record.reopened_at is None else record.reopened_at
    return now - (started_at if record.failed_at is None else record.failed_at) >= give_up_after


def failed(
    record: Record, seen: Observation, arrived: frozenset[str], give_up_after: float
) -> Decision:
    """Decide on a version that shows FAILED: a new episode, or one that goes on."""
    now = seen.looked_at
    known = record.state is State.FAILED
    if known and too_old(record, now=now, give_up_after=give_up_after):
        outcomes = everywhere(record, Fate.GIVEN_UP, arrived, found_at=now)
        return settle(record, outcomes, found_at=now)
    left = left_of(record, arrived)
    if left is None:
        # It is everywhere: what failed was a later change of its tags or so, or a status that is behind.
        return settle(record, arrivals(record, arrived, found_at=now), found_at=now)
    if not known:
        # The episode's mark and the open failure are written in one transaction: the record guards the episode when
        # its mark has expired, the mark guards it when the event comes again.
        left = replace(
            left,
            state=State.FAILED,
            episode=record.episode + 1,
            failed_at=now,
            failed_before=True,
        )
    where = left.failed_at_destinations
    kept = _blamed(left, where)
    # As long as it shows FAILED, it failed at one that it did not arrive at.
    outcomes = arrivals(_blamed(record, where or left.open), arrived, found_at=now)
    if known:
        return settle(record, outcomes, found_at=now, keep=kept) if outcomes else Wait(kept)
    episode = failure_episode(kept, where, found_at=now)
    return settle(record, (*outcomes, episode), found_at=now, keep=kept)


def placed(record: Record, decision: Wait | Settle, *, now: float) -> Wait | Settle:
    """Count the last failure episode at each destination as soon as it is proved there.

    Where it is proved nowhere in time, or was nowhere when it ended, the unknown destination stands for one of them:
    for the first that is proved after that, which is not counted again.
    """
    kept = decision.record if isinstance(decision, Wait) else decision.settlement.keep
    last = record if kept is None else kept
    if not last.episode:
        return decision
    proved = [
        destination
        for destination in last.failed_at_destinations
        if destination.failed_episode < last.episode
    ]
    # Nobody said where in time: it is counted all the same, once.
    unknown = not proved and not last.placed and _unplaceable(kept, now)
    # The unknown destination has stood for one of them already.
    instead = last.unplaced_episode == last.episode and not last.failed_in_episode
    buckets = (
        [UNKNOWN_DESTINATION]
        if unknown
        else [destination.bucket for destination in proved][instead:]
    )
    if kept is not None:
        kept = _counted_there(
            kept, {destination.bucket for destination in proved}, unknown=unknown
        )
    outcomes = tuple(failed_there(last, bucket, found_at=now) for bucket in buckets)
    if isinstance(decision, Settle):
        outcomes = (*decision.settlement.outcomes, *outcomes)
        return replace(
            decision, settlement=replace(decision.settlement, outcomes=outcomes, keep=kept)
        )
    if kept is None or not outcomes:
        return decision if kept is None else Wait(kept)
    return settle(record, outcomes, found_at=now, keep=kept)


def _unplaceable(kept: Record | None, now: float) -> bool:
    """Return whether nobody is to be waited for any more who could say where a version failed."""
    if kept is None or kept.state is not State.FAILED or kept.failed_at is None:
        return True
    return now - kept.failed_at >= PLACED_WITHIN_SECONDS


def _counted_there(kept: Record, buckets: Collection[str], *, unknown: bool) -> Record:
    """Remember where the last failure episode was counted."""
    kept = at_destinations(kept, buckets, failed_episode=kept.episode)
    return replace(kept, unplaced_episode=kept.episode) if unknown else kept


def _blamed(record: Record, where: tuple[Destination, ...]) -> Record:
    """Remember at which destinations it failed."""
    return at_destinations(record, {destination.bucket for destination in where}, failed=True)
