"""What can be decided about a version: wait for it, settle it, or take it for the one that an event told of."""

import msgspec

from crrmon.domain.events.facts import ReplicaWritten
from crrmon.domain.objects import Scope
from crrmon.domain.outcomes import Fate, Outcome, Settlement
from crrmon.domain.records import Record
from crrmon.domain.verdicts import for_version

# Asked for of every object. Before Python 3.12, an enumeration calls a function for each member.
_REPLICA = Scope.REPLICA


class Wait(msgspec.Struct, frozen=True):
    """Not final: keep the record as it is here, and look again."""

    record: Record


class Settle(msgspec.Struct, frozen=True):
    """Final at one destination at least, or an open failure: make this durable."""

    settlement: Settlement
    news: tuple[ReplicaWritten, ...] = ()
    """What the look told of other versions; to be made durable first."""

    @property
    def by_replication(self) -> bool:
        """Whether replication wrote the version itself."""
        return any(outcome.fate is Fate.IS_REPLICA for outcome in self.settlement.outcomes)


class Adopt(msgspec.Struct, frozen=True):
    """The version of an event without version id is known now."""

    then: Wait | Settle
    """What to do with the true version; its record is new. To be made durable first."""
    provisional: Settlement
    """Closes the stand-in."""
    record: Record
    """Of the true version, as it was decided on: to be parked if the ledger knows more of that."""


Decision = Wait | Settle | Adopt


def settle(
    record: Record,
    outcomes: tuple[Outcome, ...],
    *,
    found_at: float,
    keep: Record | None = None,
) -> Settle:
    """Settle a version, and close it as a whole where its marks alone would not tell a duplicate that it is over.

    Args:
        record: as it was decided on.
        outcomes: what is to be counted.
        found_at: when that was found.
        keep: what is left to follow; None when nothing is.
    """
    if keep is None and not _told_by_marks(record, outcomes):
        closed = for_version(record, Fate.CLOSED, found_at=found_at)
        closed = msgspec.structs.replace(closed, repaired=record.failed_before)
        outcomes = (*outcomes, closed)
    return Settle(Settlement(version=record.version, outcomes=outcomes, rev=record.rev, keep=keep))


def replica_found(record: Record, *, found_at: float) -> Settle:
    """Settle a version that replication wrote itself, and tell its source of the arrival."""
    arrival = ReplicaWritten(
        version=record.version,
        region=record.region,
        written_at=record.written_at,
        size=record.size,
        owner=record.owner,
    )
    settled = settle(
        record, (for_version(record, Fate.IS_REPLICA, found_at=found_at),), found_at=found_at
    )
    return msgspec.structs.replace(settled, news=(arrival,))


def _told_by_marks(record: Record, outcomes: tuple[Outcome, ...]) -> bool:
    """Return whether the marks of outcomes, and those from before, prove that nothing of a version is left to follow."""
    arrived = []
    for outcome in outcomes:
        mark = outcome.mark
        if mark.scope is _REPLICA:
            arrived.append(mark.bucket)
        elif mark.scope is Scope.SOURCE:
            return True
    for destination in record.destinations:
        if not destination.counted and destination.bucket not in arrived:
            return False
    return bool(record.destinations)
