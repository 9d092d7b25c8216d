"""All that is known of one key and version id, and what parking and rescheduling records does to it.

A trail holds the versions of this name in every bucket: the records of those that are followed, the marks of what was
counted, and the early facts of what was told before anybody followed it. Settling (`settling`) and news (`noting`) change it
as well. Ledgers read a trail, let it be changed here, and store what differs, on condition that nobody else changed it.
"""

import enum

import msgspec
from msgspec.structs import replace

from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope
from crrmon.domain.outcomes import EarlyFact, Fate, Mark
from crrmon.domain.record_changes import merged, with_all_arrived, with_arrival
from crrmon.domain.records import Failure, Record, State

REFUTABLE = (Fate.NOT_COVERED, Fate.GIVEN_UP, Fate.UNREADABLE)
"""What a version was counted as because nobody could see more; S3's word that it failed goes before that."""


class Parked(enum.StrEnum):
    """What came of parking a record."""

    PARKED = "parked"
    """It is in the ledger now, or was already."""
    SETTLED = "settled"
    """Every destination of it was counted before (or the version as a whole was): nothing was stored."""


class Rescheduled(enum.StrEnum):
    """What came of changing a record."""

    RESCHEDULED = "rescheduled"
    STALE = "stale"
    """The ledger's record has another revision, or there is none: nothing was changed."""


class Trail(msgspec.Struct, gc=False):
    """What a ledger holds of one key and version id. Not frozen: it is a copy to be worked on."""

    records: dict[str, Record] = {}
    """By source bucket."""
    marks: dict[str, Mark] = {}
    """By `MarkId.slot`."""
    early_facts: dict[str, EarlyFact] = {}
    """By `MarkId.slot`; none where there is a mark."""

    def copy(self) -> "Trail":
        """Return what is held now, to compare with later."""
        return Trail(self.records.copy(), self.marks.copy(), self.early_facts.copy())

    def take_over(self, other: "Trail") -> None:
        """Hold what another ledger held, unless something is held already."""
        if self.empty:
            self.records = other.records.copy()
            self.marks = other.marks.copy()
            self.early_facts = other.early_facts.copy()

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return not (self.records or self.marks or self.early_facts)

    @property
    def id(self) -> bytes:
        """Its id; only one that holds a record knows it."""
        return next(iter(self.records.values())).version.trail_id

    def park(self, record: Record) -> Parked:
        """Keep a new record, unless it is settled; one that is there learns from it."""
        bucket = record.version.bucket
        if (known := self.records.get(bucket)) is not None:
            self.change(known, self.joined(merged(known, record)))
            return Parked.PARKED
        if self.marks and self._settled(record):
            return Parked.SETTLED
        self.records[bucket] = replace(self.joined(record), rev=1)
        return Parked.PARKED

    def reschedule(self, record: Record) -> Rescheduled:
        """Replace a record that nobody changed meanwhile."""
        bucket = record.version.bucket
        if bucket not in self.records or self.records[bucket].rev != record.rev:
            return Rescheduled.STALE
        self.records[bucket] = replace(record, rev=record.rev + 1)
        return Rescheduled.RESCHEDULED

    def change(self, before: Record, after: Record) -> bool:
        """Keep what became of a record, under its next revision.

        Returns:
            Whether that is anything new.
        """
        if after == before:
            return False
        self.records[before.version.bucket] = replace(after, rev=before.rev + 1)
        return True

    def joined(self, record: Record) -> Record:
        """Return a record with the arrivals that early facts tell of."""
        if self.early_facts:
            for destination in record.destinations:
                early = self.early_facts.get(record.replica_mark(destination.bucket).slot)
                if early is not None:
                    record = with_arrival(
                        record, destination.bucket, at=early.replicated_at, size=early.size
                    )
            said = self.early_facts.get(record.replicated_mark.slot)
            if said is not None:
                record = with_all_arrived(record, at=said.replicated_at, size=said.size)
        return record

    def ends(self, mark: MarkId, *, refuted: bool) -> bool:
        """Return whether a mark ends its version, as none does that S3's own word refutes.

        Args:
            mark: its id.
            refuted: whether S3 said that the version failed, and that is not yet dealt with.
        """
        known = self.marks.get(mark.slot)
        return known is not None and not (refuted and known.fate in REFUTABLE)

    def _settled(self, record: Record) -> bool:
        version = record.version
        failed = bool(failures_of(record)) and unrefuted(version).slot not in self.early_facts
        if self.ends(source_mark(version), refuted=failed):
            return True
        marks = [record.replica_mark(destination.bucket) for destination in record.destinations]
        # NB: all() of no destinations would be true; where they are unknown, nothing of them is settled.
        return bool(marks) and all(self.ends(mark, refuted=failed) for mark in marks)


def failures_of(record: Record) -> list[Failure]:
    """Return what was said about failures of a record, whether it is known where or not."""
    told = (*record.destinations, *record.said)
    return [one.failure for one in told if one.failure is not None]


def source_mark(version: ObjectVersion) -> MarkId:
    """Identify that a source version was counted as a whole."""
    return MarkId.of(Scope.SOURCE, version)


def unrefuted(version: ObjectVersion) -> MarkId:
    """Identify that a version ended although its failure was known."""
    return MarkId.of(Scope.UNREFUTED, version)


def failed_at(record: Record) -> float | None:
    """Return the time by which an open failure is listed; None for a record that is none."""
    if record.state is not State.FAILED:
        return None
    return record.written_at if record.failed_at is None else record.failed_at


def failed_towards(record: Record, destination: str | None) -> bool:
    """Return whether an open failure stands as one on the way to a destination bucket; None stands for any."""
    wanted = (Route(record.version.bucket, destination or ""), State.FAILED)
    return destination is None or wanted in record.standings()
