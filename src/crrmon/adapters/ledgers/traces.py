"""What parking, rescheduling, settling and noting do to one trail; for ledgers that decide in this process.

A ledger lays out what it holds of a trail as a `Trace`, lets it change here, and stores what differs afterwards.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from crrmon.domain.events import (
    DeletionTried,
    News,
    ReplicationFailed,
    ReplicationRestarted,
    ReplicaWritten,
    Threshold,
    ThresholdPassed,
    VersionDeleted,
    VersionReplicated,
)
from crrmon.domain.objects import UNKNOWN_DESTINATION, MarkId, ObjectVersion, Route, Scope
from crrmon.domain.outcomes import Fate, Half, Mark, Outcome, Settlement, mark
from crrmon.domain.records import (
    Failure,
    Record,
    State,
    merged,
    reopened,
    with_all_arrived,
    with_arrival,
    with_failure,
    with_miss,
    with_reason,
)
from crrmon.ports.ledger import (
    BACKLOG_SLOT_SECONDS,
    BacklogSlot,
    Noted,
    Pace,
    Parked,
    Rescheduled,
    Settled,
    Trail,
)

IN_PROCESS = Pace(size=500, linger=0.02, lanes=1)
"""How to ask a ledger that is in this process: one call at a time, for one at a time is all it does."""


_THRESHOLDS = {
    Threshold.MISSED: Scope.MISSED,
    Threshold.REPLICATED_AFTER: Scope.REPLICATED_AFTER,
    Threshold.NOT_TRACKED: Scope.NOT_TRACKED,
}
"""By what it is remembered that a notice was told."""

REFUTABLE = (Fate.NOT_COVERED, Fate.GIVEN_UP, Fate.UNPOLLABLE)
"""What a version was counted as because nobody could see more; S3's word that it failed goes before that."""


class Trace(msgspec.Struct):
    """
    All that a ledger holds of one trail.
    """

    records: dict[str, Record] = {}
    """By source bucket."""
    marks: dict[str, Mark] = {}
    """By `MarkId.slot`."""
    halves: dict[str, Half] = {}
    """By `MarkId.slot`; none where there is a mark."""

    def copy(self) -> "Trace":
        """
        Return what is held now, to compare with later.
        """
        return Trace(self.records.copy(), self.marks.copy(), self.halves.copy())

    def told(self) -> Trail:
        """
        Return what is held as the port tells it.
        """
        return Trail(
            records=tuple(record for _, record in sorted(self.records.items())),
            marks=tuple(sorted(self.marks.items())),
            halves=tuple(sorted(self.halves.items())),
        )

    def restore(self, trail: Trail) -> None:
        """
        Take up what another ledger told, unless something is held already.
        """
        if not (self.records or self.marks or self.halves):
            self.records = {record.version.bucket: record for record in trail.records}
            self.marks = dict(trail.marks)
            self.halves = dict(trail.halves)

    def park(self, record: Record) -> Parked:
        """
        Take up a new record, unless it is settled; one that is there learns from it.
        """
        bucket = record.version.bucket
        if (known := self.records.get(bucket)) is not None:
            self._change(known, self._joined(merged(known, record)))
            return Parked.PARKED
        if self.marks and self._settled(record):
            return Parked.SETTLED
        self.records[bucket] = replace(self._joined(record), rev=1)
        return Parked.PARKED

    def _joined(self, record: Record) -> Record:
        """
        Return the record with the arrivals that halves tell of.
        """
        if self.halves:
            for destination in record.destinations:
                half = self.halves.get(record.replica_mark(destination.bucket).slot)
                if half is not None:
                    record = with_arrival(
                        record, destination.bucket, at=half.replicated_at, size=half.size
                    )
            said = self.halves.get(record.replicated_mark.slot)
            if said is not None:
                record = with_all_arrived(record, at=said.replicated_at, size=said.size)
        return record

    def _settled(self, record: Record) -> bool:
        version = record.version
        whole = MarkId(Scope.SOURCE, version.bucket, version.key, version.version_id).slot
        slots = [record.replica_mark(one.bucket).slot for one in record.destinations]
        failed = bool(_failures(record)) and _unrefuted(version) not in self.halves
        if self._ended_by(whole, refuted=failed):
            return True
        # NB: all() of no destinations would be true; where they are unknown, nothing of them is settled.
        return bool(slots) and all(self._ended_by(slot, refuted=failed) for slot in slots)

    def reschedule(self, record: Record) -> Rescheduled:
        """
        Replace a record that nobody changed meanwhile.
        """
        bucket = record.version.bucket
        if bucket not in self.records or self.records[bucket].rev != record.rev:
            return Rescheduled.STALE
        self.records[bucket] = replace(record, rev=record.rev + 1)
        return Rescheduled.RESCHEDULED

    def count(self, outcome: Outcome, batch: str) -> bool:
        """
        Put down the mark of an outcome, unless there is one.

        Returns:
            Whether there was none.
        """
        slot = outcome.mark.slot
        if slot in self.marks:
            return False
        self.halves.pop(slot, None)
        self.marks[slot] = mark(outcome, batch)
        return True

    def knows_better(self, settlement: Settlement, batch: str) -> bool:
        """
        Tell whether a record is there although the settlement was decided without any, and not by this very batch.
        """
        if settlement.rev != 0 or settlement.version.bucket not in self.records:
            return False
        marks = (self.marks.get(outcome.mark.slot) for outcome in settlement.outcomes)
        return not any(one is not None and one.batch == batch for one in marks)

    def let_go(self, settlement: Settlement) -> None:
        """
        Drop or keep the record as a settlement says.
        """
        if settlement.keep is None:
            # Decided without a record, it has none to drop: one that is there now came after a first try of its batch.
            if settlement.rev != 0:
                self._drop(settlement)
        elif settlement.keep.rev == 0:
            # NB: a repeated batch may find what has become of its own record since, which has nothing to learn from it.
            if settlement.keep.version.bucket not in self.records:
                self.park(settlement.keep)
        else:
            self.reschedule(settlement.keep)

    def _drop(self, settlement: Settlement) -> None:
        version = settlement.version
        dropped = self.records.pop(version.bucket, None)
        said = [] if dropped is None else _failures(dropped)
        if said and any(one.fate in REFUTABLE for one in settlement.outcomes):
            at = max(one.noticed_at for one in said)
            self.halves.setdefault(_unrefuted(version), Half(replicated_at=at))

    def note(self, news: News, *, now: float) -> Noted:  # noqa: PLR0911 - one return for each kind reads best
        """
        Take up what somebody told of this trail.
        """
        match news:
            case ReplicaWritten():
                return self._arrived(news, now)
            case ReplicationFailed():
                return self._failed(news, now)
            case ThresholdPassed():
                return self._passed(news)
            case ReplicationRestarted(restarted_at=at):
                told = self._told(news.version, None, now, lambda one: reopened(one, at=at))
                return (
                    told if self.records.get(news.version.bucket) else self._restarted(news, told)
                )
            case VersionDeleted():
                return self._told(news.version, None, now, _deleted)
            case VersionReplicated():
                return self._replicated(news, now)
            case DeletionTried():
                return self._deletion(news)

    def _arrived(self, replica: ReplicaWritten, now: float) -> Noted:
        version, replicated_at = replica.version, replica.written_at
        slot = MarkId(Scope.REPLICA, version.bucket, version.key, version.version_id).slot
        if slot in self.marks:
            return Noted.SETTLED
        waiting = [one for one in self.records.values() if _waits_for(one, version)]
        if waiting:
            changed = False
            for record in waiting:
                joined = with_arrival(record, version.bucket, at=replicated_at, size=replica.size)
                # An open failure is looked at seldom, and what arrived elsewhere is not to wait for that.
                telling = joined.arrived or joined.state is State.FAILED
                if joined is not record and telling:
                    joined = _sooner(joined, now)
                changed |= self._change(record, joined)
            return Noted.JOINED if changed else Noted.KNOWN
        if (ended := self._ended(version)) is not None:
            return ended
        half = Half(replicated_at=replicated_at, region=replica.region, size=replica.size)
        if (known := self.halves.get(slot)) is not None:
            # CloudTrail's event looks earlier than S3's own, for it is cut to seconds, and may not tell a size.
            earliest = half if replicated_at < known.replicated_at else known
            size = known.size if known.size is not None else half.size
            half = replace(earliest, size=size)
            if half == known:
                return Noted.KNOWN
        self.halves[slot] = half
        return Noted.HALF

    def _failed(self, news: ReplicationFailed, now: float) -> Noted:
        version, bucket = news.version, news.destination
        failure = Failure(noticed_at=news.noticed_at, reason=news.reason)
        noted = self._told(
            version, bucket, now, lambda one: with_failure(one, bucket, failure), refutes=True
        )
        if noted is not Noted.KNOWN:
            return noted
        # No other failure, and so no reason to look: but it may say why that one was.
        explained = self._told(
            version, bucket, None, lambda one: with_reason(one, bucket, failure)
        )
        return Noted.EXPLAINED if explained is Noted.JOINED else Noted.KNOWN

    def _passed(self, news: ThresholdPassed) -> Noted:
        """
        Take up a notice of a threshold, and remember that it came, for the next one may be the same.
        """
        version, bucket = news.version, news.destination
        scope = _THRESHOLDS[news.threshold]
        slot = MarkId(scope, bucket, version.key, version.version_id).slot
        if slot in self.halves:
            return Noted.KNOWN
        self.halves[slot] = Half(replicated_at=news.noticed_at)
        missed = news.threshold is Threshold.MISSED
        told = self._told(
            version, bucket, None, lambda one: with_miss(one, bucket) if missed else one
        )
        return Noted.JOINED if told is Noted.JOINED else Noted.HALF

    def _replicated(self, news: VersionReplicated, now: float) -> Noted:
        """
        Take up that a version is everywhere: its moment where that can only mean one destination; else a reason to look.
        """
        version = news.version
        record = self.records.get(version.bucket)
        if record is None and self._counted(version, None, refuted=False):
            return Noted.SETTLED
        if record is not None and len(record.destinations) == 1:
            joined = with_all_arrived(record, at=news.replicated_at, size=news.size)
            after = record if joined is record else _sooner(joined, now)
            return Noted.JOINED if self._change(record, after) else Noted.KNOWN
        slot = MarkId(Scope.REPLICATED, version.bucket, version.key, version.version_id).slot
        known = self.halves.get(slot)
        if known is not None and known.replicated_at <= news.replicated_at:
            return Noted.KNOWN
        self.halves[slot] = Half(replicated_at=news.replicated_at, size=news.size)
        hastened = record is not None and self._change(record, _sooner(record, now))
        return Noted.JOINED if hastened else Noted.HALF

    def _deletion(self, news: DeletionTried) -> Noted:
        """
        Keep that a deletion is everywhere: whether it was a delete marker's is known when that is told of.
        """
        version = news.version
        slot = MarkId(Scope.DELETION, version.bucket, version.key, version.version_id).slot
        if slot in self.halves:
            return Noted.KNOWN
        self.halves[slot] = Half(replicated_at=news.tried_at)
        return Noted.HALF

    def _restarted(self, news: ReplicationRestarted, told: Noted) -> Noted:
        """
        Keep that a version was restarted which nobody follows: a replica may follow, and this is where it came from.
        """
        version = news.version
        slot = MarkId(Scope.RESTART, version.bucket, version.key, version.version_id).slot
        known = self.halves.get(slot)
        if known is None or news.restarted_at < known.replicated_at:
            self.halves[slot] = Half(replicated_at=news.restarted_at)
            return Noted.HALF if told is Noted.UNKNOWN else told
        return Noted.KNOWN if told is Noted.UNKNOWN else told

    def _ended(self, replica: ObjectVersion) -> Noted | None:
        """
        Tell how the source of a replica that nobody waits for ended; None where marks do not tell.
        """
        if not self.marks:
            return None
        elsewhere = [
            (slot, one) for slot, one in self.marks.items() if one.route.source != replica.bucket
        ]
        somewhere = MarkId(
            Scope.REPLICA, UNKNOWN_DESTINATION, replica.key, replica.version_id
        ).slot
        if any(slot == somewhere for slot, _ in elsewhere):
            return Noted.SETTLED  # it was counted there, for nobody knew where
        return Noted.LATE if any(one.fate is Fate.CLOSED for _, one in elsewhere) else None

    def _told(
        self,
        version: ObjectVersion,
        destination: str | None,
        now: float | None,
        change: Callable[[Record], Record],
        *,
        refutes: bool = False,
    ) -> Noted:
        """
        Let the record of a source version learn something.

        Args:
            version: of the source.
            destination: bucket that it is about; None when it is about the version, wherever that goes.
            now: when it is to be looked at, if it learns anything; None when it was to be.
            change: gives what it is afterwards.
            refutes: whether it proves wrong what was thought to be the end of it, if that was none.
        """
        record = self.records.get(version.bucket)
        if record is not None:
            after = change(record)
            if after is not record:
                after = self._joined(after)  # it may go somewhere that nobody knew of
                after = after if now is None else _sooner(after, now)
            return Noted.JOINED if self._change(record, after) else Noted.KNOWN
        counted = self._counted(version, destination, refuted=refutes)
        return Noted.SETTLED if counted else Noted.UNKNOWN

    def _counted(self, version: ObjectVersion, destination: str | None, *, refuted: bool) -> bool:
        """
        Tell whether a source version was counted: in a destination bucket or, with None, in any; or as a whole.
        """
        refuted = refuted and _unrefuted(version) not in self.halves
        if destination is None:
            return any(one.route.source == version.bucket for one in self.marks.values())
        ids = (
            MarkId(Scope.REPLICA, destination, version.key, version.version_id),
            MarkId(Scope.SOURCE, version.bucket, version.key, version.version_id),
        )
        return any(self._ended_by(one.slot, refuted=refuted) for one in ids)

    def _ended_by(self, slot: str, *, refuted: bool) -> bool:
        """
        Tell whether a mark ends its version: none that is refuted by S3's own word that it failed.
        """
        known = self.marks.get(slot)
        return known is not None and not (refuted and known.fate in REFUTABLE)

    def _change(self, before: Record, after: Record) -> bool:
        """
        Keep what became of a record; tell whether that is anything new.
        """
        if after == before:
            return False
        self.records[before.version.bucket] = replace(after, rev=before.rev + 1)
        return True


def _failures(record: Record) -> list[Failure]:
    """
    Return what was said about failures of a record, whether it is known where or not.
    """
    said = (one.failure for one in (*record.destinations, *record.said))
    return [one for one in said if one is not None]


def _unrefuted(version: ObjectVersion) -> str:
    """
    Name the slot by which it is remembered that a version ended although its failure was known.
    """
    return MarkId(Scope.UNREFUTED, version.bucket, version.key, version.version_id).slot


def _deleted(record: Record) -> Record:
    """
    Let a record know that somebody told of its version's deletion; the record itself where it knew.
    """
    return record if record.deleted else replace(record, deleted=True)


def _sooner(record: Record, at: float) -> Record:
    """
    Have a record looked at by then, if it is not to be before.
    """
    return replace(record, next_look_at=min(record.next_look_at, at))


def settle(
    batch: str, settlements: Sequence[Settlement], trace_of: Callable[[bytes], Trace]
) -> tuple[list[list[Settled]], list[Outcome]]:
    """
    Settle a batch.

    Args:
        batch: its id.
        settlements: what was decided.
        trace_of: finds the trace of a trail.

    Returns:
        The result for each outcome of each settlement, and the outcomes that were counted just now.
    """
    met: set[MarkId] = set()
    new: list[Outcome] = []

    def count(outcome: Outcome, trace: Trace) -> Settled:
        if outcome.mark in met:
            return Settled.DUPLICATE
        met.add(outcome.mark)
        if trace.count(outcome, batch):
            new.append(outcome)
        mine = trace.marks[outcome.mark.slot].batch == batch
        return Settled.COUNTED if mine else Settled.DUPLICATE

    results = []
    for settlement in settlements:
        trace = trace_of(settlement.version.trail_id)
        if trace.knows_better(settlement, batch):
            results.append([Settled.DUPLICATE] * len(settlement.outcomes))
            continue
        results.append([count(outcome, trace) for outcome in settlement.outcomes])
        trace.let_go(settlement)
    return results, new


def part_of(batch: str, counted: Sequence[Outcome]) -> str:
    """
    Name the contribution of a part of a batch: the same for the same outcomes, another one for others.

    Only what is counted just now is in it, so that a batch of which a part was written before adds the rest.
    """
    digest = hashlib.blake2b(digest_size=8)
    for one in sorted(outcome.mark for outcome in counted):
        digest.update(one.trail_id)
        digest.update(one.slot.encode("utf-8", "surrogatepass"))
    return f"{batch}.{digest.hexdigest()}"


def id_of(trail: Trail) -> bytes:
    """
    Return the id of a trail that holds a record.
    """
    return trail.records[0].version.trail_id


def bound_for(destination: str | None, records: Sequence[Record]) -> Sequence[Record]:
    """
    Return those open failures that stand as such on a way to a destination bucket; all of them for None.
    """
    if destination is None:
        return records
    return [
        one
        for one in records
        if any(
            route.destination == destination and state is State.FAILED
            for route, state in one.standings()
        )
    ]


def _waits_for(record: Record, replica: ObjectVersion) -> bool:
    return any(destination.bucket == replica.bucket for destination in record.destinations)


def failed_at(record: Record) -> float | None:
    """
    Return the time by which an open failure is listed; None for a record that is none.
    """
    if record.state is not State.FAILED:
        return None
    return record.written_at if record.failed_at is None else record.failed_at


Amounts = tuple[int, int, int, int]
"""Pending objects and bytes, failed objects and bytes."""


def share(record: Record) -> dict[tuple[Route, float], Amounts]:
    """
    Return what one record adds to the backlog, by slot: route, and when it was written.
    """
    size = record.size or 0
    slot = float(math.floor(record.written_at / BACKLOG_SLOT_SECONDS) * BACKLOG_SLOT_SECONDS)
    return {
        (route, slot): (0, 0, 1, size) if state is State.FAILED else (1, size, 0, 0)
        for route, state in record.standings()
    }


def backlog_slot(route: Route, written_from: float, amounts: Sequence[int]) -> BacklogSlot:
    """
    Tell the sums of a slot: pending objects and bytes, failed objects and bytes.

    A sum below zero is wrong, by whatever fault; it is never told.
    """
    pending_objects, pending_bytes, failed_objects, failed_bytes = (
        max(int(amount), 0) for amount in amounts
    )
    return BacklogSlot(
        route=route,
        written_from=written_from,
        pending_objects=pending_objects,
        pending_bytes=pending_bytes,
        failed_objects=failed_objects,
        failed_bytes=failed_bytes,
    )


class BacklogChange:
    """
    How the backlog changes when records come, change and go.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[Route, float], list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def replace(self, old: Record | None, new: Record | None) -> None:
        """
        Count one record instead of another.
        """
        for record, sign in ((old, -1), (new, 1)):
            if record is None:
                continue
            for slot, amounts in share(record).items():
                sums = self._sums[slot]
                for place, amount in enumerate(amounts):
                    sums[place] += sign * amount

    def sums(self) -> Iterator[tuple[tuple[Route, float], Sequence[int]]]:
        """
        Tell by how much each slot changes: pending objects and bytes, failed objects and bytes. None tells nothing.
        """
        return ((slot, sums) for slot, sums in self._sums.items() if any(sums))
