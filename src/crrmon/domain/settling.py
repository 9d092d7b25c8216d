"""What settling does to trails: each outcome is counted at most once, by the mark that it leaves."""

import enum
import hashlib
from collections.abc import Callable, Sequence

from crrmon.domain.objects import MarkId, Scope
from crrmon.domain.outcomes import EarlyFact, Fate, Outcome, Settlement, mark
from crrmon.domain.records import Record
from crrmon.domain.trails import REFUTABLE, Trail, failures_of, unrefuted


class Settled(enum.StrEnum):
    """What came of one outcome."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    """Its mark was there already, from another batch."""


def settle(
    batch: str, settlements: Sequence[Settlement], trail_of: Callable[[bytes], Trail]
) -> tuple[list[list[Settled]], list[Outcome]]:
    """Settle a batch: leave the marks of what is new, and drop or keep the records as each settlement says.

    Args:
        batch: its id; marks that bear it already were left by an earlier try of it, and read as counted.
        settlements: what was decided.
        trail_of: returns the trail of an id, to be changed.

    Returns:
        The result for each outcome of each settlement, and the outcomes that were counted just now.
    """
    met: set[tuple[bytes, str]] = set()
    new: list[Outcome] = []

    def count(outcome: Outcome, trail: Trail) -> Settled:
        slot = outcome.mark.slot
        place = (outcome.mark.trail_id, slot)
        if place in met:
            return Settled.DUPLICATE
        met.add(place)
        if slot not in trail.marks:
            trail.early_facts.pop(slot, None)
            trail.marks[slot] = mark(outcome, batch)
            new.append(outcome)
        # Only a batch's own id tells a repetition from a duplicate. One whose answer got lost is repeated under its id,
        # finds its own marks, and has them as counted, so that the process's counters are right as well.
        mine = trail.marks[slot].batch == batch
        return Settled.COUNTED if mine else Settled.DUPLICATE

    results = []
    for settlement in settlements:
        trail = trail_of(settlement.version.trail_id)
        if _knows_better(trail, settlement, batch):
            results.append([Settled.DUPLICATE] * len(settlement.outcomes))
            continue
        results.append([count(outcome, trail) for outcome in settlement.outcomes])
        _abandoned(trail, settlement)
    return results, new


def part_of(batch: str, counted: Sequence[Outcome]) -> str:
    """Name the delta of a part of a batch: the same for the same outcomes, another one for others.

    Only what is counted just now is in it, so that a batch of which a part was written before adds the rest.
    """
    marks = [outcome.mark for outcome in counted]
    names = [one.trail_id + one.slot.encode("utf-8", "surrogatepass") for one in marks]
    digest = hashlib.blake2b(b"".join(sorted(names)), digest_size=8)
    return f"{batch}.{digest.hexdigest()}"


def _knows_better(trail: Trail, settlement: Settlement, batch: str) -> bool:
    """Return whether more is held than a settlement was decided on, and not by this very batch.

    An event that comes again is looked at afresh, without what the record knows: that it failed before, that it was in
    time. And while a look goes on, a replica may arrive where only its event can prove it. Such a settlement counts
    nothing, and the record's own next look decides.
    """
    if not (trail.records or trail.early_facts):
        return False  # nearly always
    record = trail.records.get(settlement.version.bucket)
    unaware = settlement.rev == 0 and record is not None
    if not unaware and not _overlooks(trail, record, settlement):
        return False
    marks = (trail.marks.get(outcome.mark.slot) for outcome in settlement.outcomes)
    return not any(one is not None and one.batch == batch for one in marks)


def _overlooks(trail: Trail, record: Record | None, settlement: Settlement) -> bool:
    """Return whether a settlement closes a version and does not count an arrival that is known."""
    if settlement.rev is None or all(one.fate is not Fate.CLOSED for one in settlement.outcomes):
        return False
    if record is not None:
        arrivals = {
            record.replica_mark(one.bucket).slot
            for one in record.destinations
            if one.replicated_at is not None and not one.counted
        }
    elif settlement.rev == 0:
        # Only who decided knows where it should arrive; an arrival in its own bucket is none of it.
        own = MarkId.of(Scope.REPLICA, settlement.version).slot
        arrivals = {
            slot
            for slot in trail.early_facts
            if slot.startswith(f"{Scope.REPLICA}:") and slot != own
        }
    else:
        return False
    return not arrivals.issubset(outcome.mark.slot for outcome in settlement.outcomes)


def _abandoned(trail: Trail, settlement: Settlement) -> None:
    """Drop or keep the record as a settlement says."""
    if settlement.keep is None:
        # Decided without a record, it has none to drop: one that is there now came after a first try of its batch.
        if settlement.rev != 0:
            _drop(trail, settlement)
    elif settlement.keep.rev == 0:
        # NB: a repeated batch may find what has become of its own record since, which has nothing to learn from it.
        if settlement.keep.version.bucket not in trail.records:
            trail.park(settlement.keep)
    else:
        trail.reschedule(settlement.keep)


def _drop(trail: Trail, settlement: Settlement) -> None:
    """Drop the record; that S3 said it failed is remembered where the outcome tells nothing of it."""
    version = settlement.version
    dropped = trail.records.pop(version.bucket, None)
    said = [] if dropped is None else failures_of(dropped)
    if said and any(outcome.fate in REFUTABLE for outcome in settlement.outcomes):
        at = max(one.noticed_at for one in said)
        trail.early_facts.setdefault(unrefuted(version).slot, EarlyFact(replicated_at=at))
