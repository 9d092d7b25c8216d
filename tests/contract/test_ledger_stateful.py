"""Every ledger against a small model of the port, over random histories with repetitions and restarts."""

import asyncio
import math
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from crrmon.domain.events.facts import (
    Channel,
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
from crrmon.domain.knowledge import Interval
from crrmon.domain.lessons import KEPT_SECONDS as LEARNED_SECONDS
from crrmon.domain.lessons import Learned, Lesson, taught
from crrmon.domain.noting import Noted
from crrmon.domain.objects import MarkId, ObjectVersion, Route, Scope, shard_of
from crrmon.domain.outcomes import EarlyFact, Fate, Mark, Outcome, Settlement
from crrmon.domain.policy import Policy
from crrmon.domain.record_changes import (
    merged,
    reopened,
    with_all_arrived,
    with_arrival,
    with_failure,
    with_miss,
    with_reason,
)
from crrmon.domain.records import Destination, Failure, Record, State
from crrmon.domain.settling import Settled
from crrmon.domain.trails import REFUTABLE, Parked, Rescheduled, Trail
from crrmon.ledger.window_items import KEPT_SECONDS
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError, Member
from fakes.ledger_backends import BACKENDS, EXAMPLES, RETENTION, SHARDS, each
from fakes.ledger_values import NOW

DAY = 86_400.0
T = TypeVar("T")


def failures_of(record: Record) -> list[Failure]:
    """Return what was said about failures of a record."""
    return [one.failure for one in (*record.destinations, *record.said) if one.failure]


def unrefuted(v: ObjectVersion) -> MarkId:
    """Identify that a version ended although its failure was known."""
    return MarkId(Scope.UNREFUTED, v.bucket, v.key, v.version_id)


class Model:
    """The port, told once more as plainly as can be: one of everything, no shards, nothing expires by itself."""

    def __init__(self) -> None:
        self.records: dict[ObjectVersion, Record] = {}
        self.marks: dict[MarkId, str] = {}
        """The batch that counted it."""
        self.sources: dict[MarkId, str] = {}
        self.fates: dict[MarkId, Fate] = {}
        """The source bucket of what is marked."""
        self.closed: set[MarkId] = set()
        """Those marks that close a version."""
        self.early_facts: dict[MarkId, float] = {}
        self.counted: Counter[tuple[Route, Fate]] = Counter()

    def park(self, record: Record) -> Parked:
        """Keep a record, unless it is counted; let one that is there learn from it."""
        v = record.version
        if v in self.records:
            self._learn(v, self._with_halves(merged(self.records[v], record)))
            return Parked.PARKED
        arrivals = [record.replica_mark(one.bucket) for one in record.destinations]
        failed = bool(failures_of(record)) and unrefuted(v) not in self.early_facts
        counted = arrivals and all(self._ends(mark, failed) for mark in arrivals)
        if counted or self._ends(MarkId(Scope.SOURCE, v.bucket, v.key, v.version_id), failed):
            return Parked.SETTLED
        self.records[v] = replace(self._with_halves(record), rev=1)
        return Parked.PARKED

    def _with_halves(self, record: Record) -> Record:
        for one in record.destinations:
            at = self.early_facts.get(record.replica_mark(one.bucket))
            if at is not None:
                record = with_arrival(record, one.bucket, at=at, size=HALF_SIZE)
        told = self.early_facts.get(record.replicated_mark)
        return record if told is None else with_all_arrived(record, at=told, size=HALF_SIZE)

    def _learn(self, v: ObjectVersion, now: Record) -> Noted:
        """Put a record in the place of another, unless it is the same."""
        before = self.records[v]
        if now == before:
            return Noted.KNOWN
        self.records[v] = replace(now, rev=before.rev + 1)
        return Noted.JOINED

    def reschedule(self, record: Record) -> Rescheduled:
        """Replace a record of the same revision."""
        if record.version in self.records and self.records[record.version].rev == record.rev:
            self.records[record.version] = replace(record, rev=record.rev + 1)
            return Rescheduled.RESCHEDULED
        return Rescheduled.STALE

    def settle(self, batch: str, settlements: Sequence[Settlement]) -> list[list[Settled]]:
        """Count what has no mark."""
        met: list[MarkId] = []
        results = []
        for settlement in settlements:
            unaware = settlement.rev == 0 and settlement.version in self.records
            own = [self.marks.get(one.mark) == batch for one in settlement.outcomes]
            if (unaware or self._overlooks(settlement)) and not any(own):
                results.append([Settled.DUPLICATE for _ in settlement.outcomes])
                continue
            results.append([self._count(batch, one, met) for one in settlement.outcomes])
            if settlement.keep is None:
                if not unaware:
                    self._drop(settlement)
            elif settlement.keep.rev:
                self.reschedule(settlement.keep)
            elif settlement.version not in self.records:
                self.park(settlement.keep)
        return results

    def _overlooks(self, settlement: Settlement) -> bool:
        """Tell whether it closes its version and leaves out an arrival that is known."""
        v, counted = settlement.version, {one.mark for one in settlement.outcomes}
        if settlement.rev is None or all(
            one.fate is not Fate.CLOSED for one in settlement.outcomes
        ):
            return False
        if v in self.records:
            arrived = {
                self.records[v].replica_mark(one.bucket)
                for one in self.records[v].destinations
                if one.replicated_at is not None and not one.counted
            }
        else:
            arrived = {
                mark
                for mark in self.early_facts
                if mark.scope is Scope.REPLICA
                and (mark.key, mark.version_id) == (v.key, v.version_id)
                and mark.bucket != v.bucket
                and settlement.rev == 0
            }
        return bool(arrived - counted)

    def _drop(self, settlement: Settlement) -> None:
        v = settlement.version
        dropped = self.records.pop(v, None)
        said = failures_of(dropped) if dropped else []
        if said and any(one.fate in REFUTABLE for one in settlement.outcomes):
            self._keep(Scope.UNREFUTED, v, max(one.noticed_at for one in said), first=True)

    def _count(self, batch: str, outcome: Outcome, met: list[MarkId]) -> Settled:
        again = outcome.mark in met
        met.append(outcome.mark)
        if outcome.mark not in self.marks:
            self.marks[outcome.mark] = batch
            self.sources[outcome.mark] = outcome.route.source
            self.fates[outcome.mark] = outcome.fate
            self.early_facts.pop(outcome.mark, None)
            if outcome.fate is Fate.CLOSED:
                self.closed.add(outcome.mark)
            else:
                self.closed.discard(outcome.mark)
                self.counted[outcome.route, outcome.fate] += 1
        mine = self.marks[outcome.mark] == batch
        return Settled.COUNTED if mine and not again else Settled.DUPLICATE

    def note(self, news: News, now: float) -> Noted:
        """Tell the records what they wait for; keep an arrival that none waits for."""
        match news:
            case ReplicaWritten():
                return self._arrival(news, now)
            case ThresholdPassed():
                return self._threshold(news, now)
            case VersionReplicated():
                return self._everywhere(news, now)
            case DeletionTried():
                return self._keep(Scope.DELETION, news.version, news.tried_at, first=True)
            case _:
                return self._of_source(news, now)

    def _of_source(
        self, news: ReplicationFailed | ReplicationRestarted | VersionDeleted, now: float
    ) -> Noted:
        """Tell the record; without one, tell whether it was counted."""
        v = news.version
        about = getattr(news, "destination", None)
        if v in self.records:
            before = self.records[v]
            learned = self._learn(v, self._told(before, news, now))
            if learned is Noted.KNOWN and isinstance(news, ReplicationFailed):
                failure = Failure(noticed_at=news.noticed_at, reason=news.reason)
                after = with_reason(before, news.destination, failure)
                after = before if after == before else self._with_halves(after)
                known = self._learn(v, after)
                return Noted.EXPLAINED if known is Noted.JOINED else Noted.KNOWN
            return learned
        whole = MarkId(Scope.SOURCE, v.bucket, v.key, v.version_id)
        again = unrefuted(v) in self.early_facts
        by = news if isinstance(news, ReplicationFailed) and not again else None
        if about is None:
            counted = any(one == v for one in self.counted_versions())
        else:
            there = MarkId(Scope.REPLICA, about, v.key, v.version_id)
            counted = self._ends(there, by) or self._ends(whole, by)
        kept = self._restart(news) if isinstance(news, ReplicationRestarted) else Noted.UNKNOWN
        return Noted.SETTLED if counted else kept

    def _keep(self, scope: Scope, v: ObjectVersion, at: float, *, first: bool = False) -> Noted:
        """Keep the earliest of what is told of a version, or the first."""
        slot = MarkId(scope, v.bucket, v.key, v.version_id)
        if slot in self.early_facts and (first or self.early_facts[slot] <= at):
            return Noted.KNOWN
        self.early_facts[slot] = at
        return Noted.EARLY

    def _everywhere(self, news: VersionReplicated, now: float) -> Noted:
        """Tell the record of one destination; keep it for others, and for what is not counted."""
        v, at = news.version, news.replicated_at
        before = self.records.get(v)
        if before is None:
            counted = v in self.counted_versions()
            return Noted.SETTLED if counted else self._keep(Scope.REPLICATED, v, at)
        sooner = min(before.next_look_at, now)
        if len(before.destinations) == 1:
            after = with_all_arrived(before, at=at, size=news.size)
            after = before if after == before else replace(after, next_look_at=sooner)
            return self._learn(v, after)
        kept = self._keep(Scope.REPLICATED, v, at)
        if (
            kept is Noted.EARLY
            and self._learn(v, replace(before, next_look_at=sooner)) is Noted.JOINED
        ):
            return Noted.JOINED
        return kept

    def _threshold(self, news: ThresholdPassed, now: float) -> Noted:
        """Keep that a notice was told; let a record learn what was missed."""
        v = news.version
        scope = Scope[news.threshold.name]
        slot = MarkId(scope, news.destination, v.key, v.version_id)
        if slot in self.early_facts:
            return Noted.KNOWN
        self.early_facts[slot] = news.noticed_at
        before = self.records.get(v)
        if before is None or self._learn(v, self._told(before, news, now)) is Noted.KNOWN:
            return Noted.EARLY
        return Noted.JOINED

    def _restart(self, news: ReplicationRestarted) -> Noted:
        """Keep the earliest restart of what nobody follows."""
        v = news.version
        slot = MarkId(Scope.RESTART, v.bucket, v.key, v.version_id)
        if self.early_facts.get(slot, math.inf) <= news.restarted_at:
            return Noted.KNOWN
        self.early_facts[slot] = news.restarted_at
        return Noted.EARLY

    def _ends(self, mark: MarkId, by: object) -> bool:
        """Tell whether a mark ends a version, also for whoever says that it failed."""
        return mark in self.marks and not (by and self.fates[mark] in REFUTABLE)

    def counted_versions(self) -> list[ObjectVersion]:
        """Tell which source versions have a mark; not each once."""
        return [
            ObjectVersion(self.sources[mark], mark.key, mark.version_id) for mark in self.marks
        ]

    def _told(self, before: Record, news: News, now: float) -> Record:
        sooner = min(before.next_look_at, now)
        match news:
            case ReplicationFailed():
                failure = Failure(noticed_at=news.noticed_at, reason=news.reason)
                after = with_failure(before, news.destination, failure)
            case ThresholdPassed():
                if news.threshold is Threshold.MISSED:
                    after = with_miss(before, news.destination)
                    return before if after == before else self._with_halves(after)
                return before
            case ReplicationRestarted():
                after = reopened(before, at=news.restarted_at)
            case _:
                if before.deleted:
                    return before
                after = replace(before, next_look_at=sooner, deleted=True)
                return before if after == before else self._with_halves(after)
        if after == before:
            return before
        return replace(self._with_halves(after), next_look_at=sooner)

    def _arrival(self, news: ReplicaWritten, now: float) -> Noted:
        at, bucket = news.written_at, news.version.bucket
        mark = MarkId(Scope.REPLICA, bucket, news.version.key, news.version.version_id)
        if mark in self.marks:
            return Noted.SETTLED
        waiting = [
            v
            for v, record in self.records.items()
            if v.key == mark.key and bucket in [one.bucket for one in record.destinations]
        ]
        results = set()
        for v in waiting:
            before = self.records[v]
            after = with_arrival(before, bucket, at=at, size=news.size)
            if after != before and (after.arrived or after.state is State.FAILED):
                after = replace(after, next_look_at=min(before.next_look_at, now))
            results.add(self._learn(v, after))
        if waiting:
            return Noted.JOINED if Noted.JOINED in results else Noted.KNOWN
        elsewhere = [
            one
            for one in self.marks
            if (one.key, one.version_id) == (mark.key, mark.version_id)
            and self.sources[one] != bucket
        ]
        if any((one.scope, one.bucket) == (Scope.REPLICA, "unknown") for one in elsewhere):
            return Noted.SETTLED
        if self.closed.intersection(elsewhere):
            return Noted.LATE
        if mark in self.early_facts and self.early_facts[mark] <= at:
            return Noted.KNOWN
        self.early_facts[mark] = at
        return Noted.EARLY

    def leave_behind(self) -> None:
        """Forget what is not moved: marks and early facts where nothing is pending or failed."""
        moved = {(version.key, version.version_id) for version in self.records}
        self.marks = {
            one: batch for one, batch in self.marks.items() if (one.key, one.version_id) in moved
        }
        self.early_facts = {
            one: at for one, at in self.early_facts.items() if (one.key, one.version_id) in moved
        }

    def backlog(self) -> dict[tuple[Route, float], tuple[int, int, int, int]]:
        """Add up the records."""
        sums: dict[tuple[Route, float], Counter[str]] = {}
        for record in self.records.values():
            for route, state in set(record.standings()):
                slot = sums.setdefault((route, record.written_at // 60 * 60), Counter())
                slot[state.value] += 1
                slot[f"{state.value} bytes"] += record.size or 0
        return {
            at: (one["pending"], one["pending bytes"], one["failed"], one["failed bytes"])
            for at, one in sums.items()
        }


VERSIONS = st.builds(
    ObjectVersion, st.sampled_from(["src", "dst"]), st.sampled_from("abcde"), st.just("v1")
)
TIMES = st.integers(0, 9).map(lambda at: NOW + at)
FAILURES = st.builds(Failure, noticed_at=TIMES, reason=st.sampled_from(["", "x", "y"]))
DESTINATIONS = st.lists(
    st.builds(
        Destination,
        st.sampled_from(["dst", "two", "src"]),
        certain=st.sampled_from([True, True, False]),
        replicated_at=st.none() | TIMES,
        failure=st.none() | FAILURES,
    ),
    max_size=3,
    unique_by=lambda one: one.bucket,
).map(tuple)
RECORDS = st.builds(
    Record,
    version=VERSIONS,
    region=st.just("r"),
    written_at=st.integers(0, 300).map(lambda at: NOW + at),
    next_look_at=st.integers(0, 20).map(lambda at: NOW + at),
    size=st.none() | st.integers(0, 1000),
    destinations=DESTINATIONS,
    state=st.sampled_from(State),
    failed_at=st.none() | TIMES,
    channel=st.sampled_from(Channel),
    looks=st.integers(0, 1),
)
FATES = {
    Scope.REPLICA: Fate.COMPLETED,
    Scope.SOURCE: Fate.GONE,
    Scope.EPISODE: Fate.FAILED,
    Scope.MARKER: Fate.MARKER_CREATED,
    Scope.MARKER_ARRIVED: Fate.MARKER_ARRIVED,
    Scope.MARKER_FAILED: Fate.MARKER_FAILED,
}
ELSEWHERE = {Scope.REPLICA, Scope.MARKER, Scope.MARKER_ARRIVED, Scope.MARKER_FAILED}
"""Scopes of what is counted in a destination."""
HALF_SIZE = 100
"""Of every replica."""
KEYS = st.sampled_from("abcde")
PLACES = st.sampled_from(["dst", "two", "src", "unknown"])
NEWS: st.SearchStrategy[News] = st.one_of(
    st.builds(
        ReplicaWritten,
        version=st.builds(ObjectVersion, st.sampled_from(["dst", "two"]), KEYS, st.just("v1")),
        region=st.just("r"),
        written_at=TIMES,
        size=st.just(HALF_SIZE),
    ),
    st.builds(
        ReplicationFailed,
        version=VERSIONS,
        destination=PLACES,
        reason=st.sampled_from(["x", "y", ""]),
        rule=st.just(""),
        operation=st.just("OBJECT_PUT"),
        region=st.just("r"),
        noticed_at=TIMES,
    ),
    st.builds(
        ThresholdPassed,
        version=VERSIONS,
        destination=PLACES,
        threshold=st.sampled_from(Threshold),
        rule=st.just(""),
        region=st.just("r"),
        noticed_at=TIMES,
    ),
    st.builds(
        VersionReplicated,
        version=VERSIONS,
        region=st.just("r"),
        replicated_at=TIMES,
        size=st.just(HALF_SIZE),
    ),
    st.builds(
        DeletionTried,
        version=VERSIONS,
        region=st.just("r"),
        tried_at=TIMES,
        done=st.sampled_from([True]),
    ),
    st.builds(ReplicationRestarted, version=VERSIONS, region=st.just("r"), restarted_at=TIMES),
    st.builds(VersionDeleted, version=VERSIONS, region=st.just("r"), deleted_at=TIMES),
)


@st.composite
def outcomes(draw: st.DrawFn, version: ObjectVersion) -> Outcome:
    """Draw one of the few outcomes that a version can have."""
    scope = draw(st.sampled_from(list(FATES)))
    places = ["dst", "two", "dst", "two", "unknown"]
    bucket = draw(st.sampled_from(places)) if scope in ELSEWHERE else version.bucket
    closes = scope is Scope.SOURCE and draw(st.booleans())
    mark = MarkId(scope, bucket, version.key, version.version_id, int(scope is Scope.EPISODE))
    return Outcome(
        mark=mark,
        fate=Fate.CLOSED if closes else FATES[scope],
        route=Route(version.bucket, bucket if scope in ELSEWHERE else ""),
        written_at=NOW,
        found_at=NOW,
    )


@st.composite
def settlements(draw: st.DrawFn) -> Settlement:
    """Draw a settlement; the revision of what it keeps is found by the machine."""
    version = draw(VERSIONS)
    keep = draw(st.none() | RECORDS.map(lambda one: replace(one, version=version)))
    found = draw(st.lists(outcomes(version), max_size=3))
    rev = draw(st.sampled_from([None, None, 0, 1]))
    return Settlement(version=version, outcomes=tuple(found), keep=keep, rev=rev)


NAMES = st.sampled_from(["a", "a/b", "b"])
STATES = st.sampled_from([None, b"", b"x", b"y"])
ROUTES = st.builds(
    Route, st.sampled_from(["src", "a#b", "a"]), st.sampled_from(["dst", "c", "b#c", ""])
)
PATHS = st.sampled_from([(Route("src", "dst"),), (Route("src", "dst"), Route("src", "far"))])
COUNTS = st.dictionaries(
    st.sampled_from([(0, 4), (8, 12), (30, 88)]), st.sampled_from([1.0, 2.5, 4000.0]), min_size=1
)
REVISIONS = st.sampled_from(["now", "now", "now", "before", "none"])


class Machine(RuleBasedStateMachine):
    """Does the same to a ledger and to the model, and compares."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.kind = BACKENDS[name]
        self.backend = self.kind(Path(self.directory.name))
        self.moves = 0
        self.runner = asyncio.Runner()
        self.ledger = self.run(self.backend.open())
        self.model = Model()
        self.now = NOW
        self.kept_until = NOW + RETENTION
        self.batches: list[tuple[str, list[Settlement]]] = []
        self.batch_number = 0
        self.published: Counter[tuple[Route, Fate]] = Counter()
        self.windows: dict[float, list[bytes]] = {}
        self.frozen_at: dict[float, float] = {}
        self.parts_expire_at: list[float] = []
        """Of every window that somebody tried to freeze."""
        self.leases = _new_leases()
        self.members: dict[str, Member] = {}
        self.states: dict[str, bytes] = {}
        self.routes: set[Route] = set()
        self.learned: dict[tuple[Route, ...], Learned] = {}
        self.lessons = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the ledger."""
        return self.runner.run(work)

    def teardown(self) -> None:
        """Compare for the last time, and let go of everything."""
        try:
            self.compare()
        finally:
            self.run(self.ledger.close())
            self.runner.close()
            self.directory.cleanup()

    def revised(self, record: Record, revision: str) -> Record:
        """Give a record the revision that the ledger has, one that it had, or none."""
        stored = self.model.records.get(record.version)
        rev = {"now": stored.rev, "before": stored.rev - 1, "none": 0}[revision] if stored else 0
        return replace(record, rev=rev)

    # ---- work ----

    @rule(records=st.lists(RECORDS, max_size=4))
    def park(self, records: list[Record]) -> None:
        """Park a few, the same version twice at times."""
        expected = [self.model.park(one) for one in records]
        assert list(self.run(self.ledger.park(records))) == expected

    @rule(records=st.lists(RECORDS, max_size=3), revision=REVISIONS)
    def reschedule(self, records: list[Record], revision: str) -> None:
        """Change a few, at the right revision or another."""
        changed = [self.revised(one, revision) for one in records]
        expected = [self.model.reschedule(one) for one in changed]
        assert list(self.run(self.ledger.reschedule(changed))) == expected

    @rule(batch=st.lists(settlements(), max_size=4), revision=REVISIONS)
    def settle(self, batch: list[Settlement], revision: str) -> None:
        """Settle a new batch."""
        self.batch_number += 1
        kept = [
            replace(one, keep=self.revised(one.keep, revision)) if one.keep else one
            for one in batch
        ]
        self.batches.append((f"b{self.batch_number}", kept))
        self._settle(*self.batches[-1])

    @precondition(lambda self: self.batches)
    @rule(number=st.integers(min_value=0))
    def settle_again(self, number: int) -> None:
        """Repeat a batch under its id, at once or much later."""
        self._settle(*self.batches[-1 - number % len(self.batches)])

    def _settle(self, name: str, batch: list[Settlement]) -> None:
        expected = self.model.settle(name, batch)
        results = self.run(self.ledger.settle(name, batch, now=self.now))
        assert [list(one) for one in results] == expected

    @rule(news=st.lists(NEWS, max_size=4))
    def note(self, news: list[News]) -> None:
        """Note a few things of all kinds."""
        expected = [self.model.note(one, self.now) for one in news]
        assert list(self.run(self.ledger.note(news, now=self.now))) == expected

    @rule(
        version=VERSIONS,
        some=st.sets(st.sampled_from(["dst", "two", "src"]), min_size=1),
        current=st.sampled_from([True, True, False]),
    )
    def count_some(self, version: ObjectVersion, some: set[str], *, current: bool) -> None:
        """Count the arrivals in some destinations of a record and follow it on at the others, as a look does."""
        record = self.model.records.get(version)
        if record is None or not (found := [one for one in record.open if one.bucket in some]):
            return
        if not current:
            record = replace(record, rev=record.rev - 1)
        outcomes = tuple(
            Outcome(
                mark=record.replica_mark(one.bucket),
                fate=Fate.COMPLETED,
                route=Route(version.bucket, one.bucket),
                written_at=NOW,
                found_at=NOW,
            )
            for one in found
        )
        destinations = tuple(
            replace(one, counted=one.counted or one in found) for one in record.destinations
        )
        keep = replace(record, destinations=destinations)
        self.batch_number += 1
        settlement = Settlement(
            version=version,
            outcomes=outcomes,
            rev=record.rev,
            keep=keep if keep.open else None,
        )
        self.batches.append((f"b{self.batch_number}", [settlement]))
        self._settle(*self.batches[-1])

    @rule(
        shards=st.lists(st.integers(0, SHARDS - 1)),
        later=st.integers(0, 20),
        limit=st.integers(1, 12),
    )
    def due(self, shards: list[int], later: int, limit: int) -> None:
        """Ask for what is due."""
        found = self.run(self.ledger.due(shards, now=NOW + later, limit=limit))
        waiting = sorted(
            one.next_look_at
            for one in self.model.records.values()
            if one.next_look_at <= NOW + later and shard_of(one.version.trail_id, SHARDS) in shards
        )
        assert [one.next_look_at for one in found] == waiting[:limit]
        assert len({one.version for one in found}) == len(found)
        assert all(self.model.records[one.version] == one for one in found)

    # ---- reporting ----

    @rule(
        most=st.integers(0, 5),
        parts=st.lists(st.sampled_from([b"", b"x", b"y"]), max_size=3),
        lawful=st.sampled_from([True, True, False]),
    )
    def freeze(self, most: int, parts: list[bytes], *, lawful: bool) -> None:
        """Freeze the oldest deltas, under the lease as the model knows it."""
        if lawful and not self.leases[0].owner:
            self.claim(0, "me", stale=False)
        taken = self.run(self.ledger.deltas())[:most]
        starts_at = float(300 * (len(self.windows) + 1))
        window = FrozenWindow(
            starts_at=starts_at, parts=tuple(parts), deltas=tuple(one.id for one in taken)
        )
        if not self.leases[0].owner:
            with pytest.raises(LeaseLostError):
                self.run(self.ledger.freeze(window, lease=replace(self.leases[0], owner="me")))
            return
        for _ in range(2):
            self.run(self.ledger.freeze(window, lease=self.leases[0]))
        self.windows[starts_at] = parts
        self.frozen_at[starts_at] = self.now
        self.parts_expire_at.append(self.now + KEPT_SECONDS)
        self.published += _sums(taken)

    @precondition(lambda self: self.windows and self.leases[0].owner)
    @rule(number=st.integers(min_value=0), part=st.integers(0, 2))
    def forget(self, number: int, part: int) -> None:
        """Forget a part, sent already or not."""
        starts_at = sorted(self.windows)[number % len(self.windows)]
        self.run(self.ledger.forget(starts_at, part, lease=self.leases[0]))
        self.windows[starts_at][part : part + 1] = [b""] * len(
            self.windows[starts_at][part : part + 1]
        )

    @precondition(lambda self: self.leases[0].owner)
    @rule(parts=st.lists(st.sampled_from([b"", b"x"]), max_size=2), forget=st.booleans())
    def publish_under_a_lost_lease(self, parts: list[bytes], *, forget: bool) -> None:
        """Freeze or forget as whoever held shard 0 before: nothing comes of it."""
        stale = replace(self.leases[0], epoch=self.leases[0].epoch - 1)
        if forget and self.windows:
            work = self.ledger.forget(min(self.windows), 0, lease=stale)
        else:
            window = FrozenWindow(starts_at=1.0, parts=tuple(parts), deltas=())
            work = self.ledger.freeze(window, lease=stale)
            self.parts_expire_at.append(self.now + KEPT_SECONDS)
        with pytest.raises(LeaseLostError):
            self.run(work)

    # ---- leases ----

    @rule(
        shard=st.integers(0, SHARDS - 1), owner=st.sampled_from(["me", "you"]), stale=st.booleans()
    )
    def claim(self, shard: int, owner: str, *, stale: bool) -> None:
        """Claim a shard, by its lease as it is or as it was a beat ago."""
        now = self.leases[shard]
        seen = replace(now, beat=now.beat - 1) if stale else now
        taken = self.run(self.ledger.claim(seen, owner=owner))
        assert (taken is None) == stale
        if taken is not None:
            assert (taken.owner, taken.epoch) == (owner, now.epoch + 1)
            self.leases[shard] = taken

    @rule(shards=st.lists(st.integers(0, SHARDS - 1), unique=True), stale=st.booleans())
    def renew(self, shards: list[int], *, stale: bool) -> None:
        """Renew some leases, or such as were lost."""
        asked = [replace(self.leases[one], epoch=self.leases[one].epoch - stale) for one in shards]
        renewed = self.run(self.ledger.renew(asked))
        held = [one for one in asked if one.owner and not stale]
        assert [(one.shard, one.epoch) for one in renewed] == [
            (one.shard, one.epoch) for one in held
        ]
        for lease in renewed:
            assert lease.beat != self.leases[lease.shard].beat
            self.leases[lease.shard] = lease

    @rule(shards=st.lists(st.integers(0, SHARDS - 1), unique=True))
    def release(self, shards: list[int]) -> None:
        """Let some shards go."""
        self.run(self.ledger.release([self.leases[one] for one in shards]))
        for shard in shards:
            self.leases[shard] = replace(self.leases[shard], owner="")

    # ---- presences ----

    @rule(owner=st.sampled_from(["me", "you"]), held_since=st.none() | TIMES)
    def announce(self, owner: str, held_since: float | None) -> None:
        """Say that a daemon is there."""
        one = Member(owner=owner, announced_at=self.now, held_since=held_since, delay=1.5)
        self.run(self.ledger.announce(one))
        self.members[owner] = one

    @rule(owner=st.sampled_from(["me", "you"]), stale=st.booleans())
    def dismiss(self, owner: str, *, stale: bool) -> None:
        """Drop a heartbeat, or one that it was before."""
        now = Member(owner=owner, announced_at=0.0, held_since=None, delay=0.0)
        if not stale:
            now = self.members.pop(owner, now)
        self.run(self.ledger.dismiss(now))

    # ---- small state, routes ----

    @rule(name=NAMES, before=STATES, after=STATES, current=st.booleans())
    def swap(self, name: str, before: bytes | None, after: bytes | None, *, current: bool) -> None:
        """Replace a small state, as it is or as somebody else may have seen it."""
        now = self.states.get(name)
        before = now if current else before
        swapped = self.run(self.ledger.swap(name, before, after))
        assert swapped == (now in (before, after))
        if now == before and after is not None:
            self.states[name] = after
        elif now == before:
            self.states.pop(name, None)

    @rule(routes=st.lists(ROUTES, max_size=3))
    def remember(self, routes: list[Route]) -> None:
        """Remember a few routes, some of them again."""
        self.run(self.ledger.remember_routes(routes))
        self.routes.update(routes)

    # ---- what was learned ----

    @rule(path=PATHS, counts=COUNTS, again=st.booleans())
    def teach(
        self, path: tuple[Route, ...], counts: dict[Interval, float], *, again: bool
    ) -> None:
        """Teach something new, or the last lesson again."""
        known = self.learned.get(path)
        self.lessons += not (again and known)
        lesson = Lesson(id=str(self.lessons), path=path, counts=counts)
        expected = taught(known, lesson, now=self.now, policy=Policy())
        told = self.run(self.ledger.teach(lesson, now=self.now, policy=Policy()))
        assert _same(told, expected)
        self.learned[path] = told

    # ---- time ----

    @rule(hours=st.integers(0, 30))
    def let_time_pass(self, hours: int) -> None:
        """Go on some hours or days; as long as nothing is past the time for which it is kept, sweeping finds nothing."""
        expiring = [one.as_of + LEARNED_SECONDS for one in self.learned.values()]
        ends = [at for at in (*self.parts_expire_at, *expiring) if at > self.now]
        self.now = max(
            self.now, min(self.now + hours * 3600, *(at - 1 for at in [self.kept_until, *ends]))
        )
        self.backend.clock.time = self.now
        assert self.run(self.ledger.sweep(now=self.now)) == 0

    @rule()
    def outlive_the_retention(self) -> None:
        """Go on until nothing that is kept need be kept, and sweep."""
        self.now += RETENTION + 2 * DAY
        for starts_at, frozen_at in self.frozen_at.items():
            if self.now >= frozen_at + KEPT_SECONDS:
                self.windows[starts_at] = [b"" for _ in self.windows[starts_at]]
        self.kept_until = self.now + RETENTION
        self.backend.clock.time = self.now
        dropped = 0
        while some := self.run(self.ledger.sweep(now=self.now)):
            dropped += some
        kept = {(one.key, one.version_id) for one in (*self.model.marks, *self.model.early_facts)}
        followed = {(one.key, one.version_id) for one in self.model.records}
        assert dropped >= len(kept - followed)
        self.model.marks.clear()
        self.model.early_facts.clear()
        self.learned.clear()
        # Marks are what makes a repetition recognise itself.
        self.batches.clear()

    @precondition(lambda self: self.backend.durable)
    @rule()
    def restart(self) -> None:
        """Close and open."""
        exclusive = self.ledger.exclusive
        self.run(self.ledger.close())
        self.ledger = self.run(self.backend.open())
        if exclusive:
            self.leases = {shard: replace(one, owner="") for shard, one in self.leases.items()}

    # ---- moving ----

    @rule(limit=st.integers(1, 4), twice=st.booleans())
    def move(self, limit: int, *, twice: bool) -> None:
        """Go on in a new ledger of the same kind, with all that is exported and nothing else."""
        self.moves += 1
        directory = Path(self.directory.name) / f"moved{self.moves}"
        directory.mkdir()
        target_backend = self.kind(directory)
        target_backend.clock.time = self.now
        target = self.run(target_backend.open())
        deltas = self.run(self.ledger.deltas())
        for trail in self._exported(limit):
            for _ in range(1 + twice):
                self.run(target.restore([trail], now=self.now))
                self.run(target.append(deltas[:1]))
        self.run(target.append(deltas))
        self.run(self.ledger.close())
        self.ledger, self.backend = target, target_backend
        self.model.leave_behind()
        self.windows.clear()
        self.frozen_at.clear()
        self.parts_expire_at.clear()
        self.members.clear()
        self.states.clear()
        self.routes.clear()
        self.learned.clear()
        self.leases = _new_leases()
        # The marks that are left behind are what makes a repetition recognise itself.
        self.batches.clear()
        self.compare()
        self.due(list(range(SHARDS)), later=20, limit=99)

    def _exported(self, limit: int) -> list[Trail]:
        told: list[Trail] = []
        after: str | None = None
        while not told or after is not None:
            page, after = self.run(self.ledger.export(after=after, limit=limit))
            told += page
            if not page and after is None:
                break
        return told

    # ---- what always holds ----

    @invariant()
    def backlog_equals_the_records(self) -> None:
        """Invariant 2: the sums are those of the records, always."""
        told = {
            (one.route, one.written_from): (
                one.pending_objects,
                one.pending_bytes,
                one.failed_objects,
                one.failed_bytes,
            )
            for one in self.run(self.ledger.backlog())
        }
        assert told == self.model.backlog()

    @invariant()
    def what_was_counted_is_reported_once(self) -> None:
        """Invariants 2 and 5: what waits and what was frozen add up to what was counted."""
        waiting = _sums(self.run(self.ledger.deltas()))
        assert waiting + self.published == self.model.counted

    @rule()
    def compare(self) -> None:
        """Compare all the rest."""
        for key in "abcde":
            trail = self.run(self.ledger.find(key, "v1"))
            records = {
                one.version: one for one in self.model.records.values() if one.version.key == key
            }
            assert {one.version: one for one in trail.records.values()} == records
            marks = {one.slot: batch for one, batch in self.model.marks.items() if one.key == key}
            assert {slot: one.batch for slot, one in trail.marks.items()} == marks
            early_facts = {
                one.slot: at for one, at in self.model.early_facts.items() if one.key == key
            }
            assert {
                slot: one.replicated_at for slot, one in trail.early_facts.items()
            } == early_facts
        ids = [*self.model.marks, *self.model.early_facts, MarkId(Scope.REPLICA, "no", "a", "v1")]
        kinds = (
            [Mark] * len(self.model.marks)
            + [EarlyFact] * len(self.model.early_facts)
            + [type(None)]
        )
        assert [type(one) for one in self.run(self.ledger.seen(ids))] == kinds
        for bucket in (None, "src", "dst"):
            self._compare_failures(bucket, None)
        self._compare_failures(None, "unknown")
        assert list(self.run(self.ledger.leases())) == list(self.leases.values())
        announced = [one for _, one in sorted(self.members.items())]
        assert list(self.run(self.ledger.members())) == announced
        assert list(self.run(self.ledger.known_routes())) == sorted(self.routes)
        for prefix in ("", "a", "a/"):
            mine = {
                name: one
                for name, one in sorted(self.states.items())
                if name[: len(prefix)] == prefix
            }
            assert dict(self.run(self.ledger.states(prefix))) == mine
        told = {one.path: one for one in self.run(self.ledger.latencies(now=self.now))}
        assert told.keys() == self.learned.keys()
        assert all(_same(told[path], one) for path, one in self.learned.items())
        unsent = [(at, tuple(one)) for at, one in sorted(self.windows.items()) if any(one)]
        frozen = self.run(self.ledger.frozen(limit=1000))
        assert [(one.starts_at, one.parts) for one in frozen if any(one.parts)] == unsent
        assert self.run(self.ledger.last_frozen()) == max(self.windows, default=None)

    def _compare_failures(self, bucket: str | None, destination: str | None) -> None:
        limit = 2 if destination is None else 9
        listed: list[Record] = []
        after: str | None = None
        while True:
            page, after = self.run(
                self.ledger.failures(
                    bucket=bucket, destination=destination, after=after, limit=limit
                )
            )
            listed += page
            if after is None:
                break
        expected = [
            one
            for one in self.model.records.values()
            if one.state is State.FAILED
            and bucket in (None, one.version.bucket)
            and (
                destination is None
                or (Route(one.version.bucket, destination), State.FAILED) in one.standings()
            )
        ]
        times = [one.written_at if one.failed_at is None else one.failed_at for one in listed]
        assert times == sorted(times, reverse=True)
        assert sorted(listed, key=_by_version) == sorted(expected, key=_by_version)


def _same(told: Learned, expected: Learned) -> bool:
    """Return whether these are the same, as precisely as counts are stored."""
    counts = pytest.approx(dict(expected.counts), rel=1e-6)
    return replace(told, counts={}) == replace(expected, counts={}) and told.counts == counts


def _new_leases() -> dict[int, Lease]:
    return {shard: Lease(shard=shard, owner="", epoch=0, beat=0) for shard in range(SHARDS)}


def _by_version(record: Record) -> ObjectVersion:
    return record.version


def _sums(deltas: Sequence[Any]) -> Counter[tuple[Route, Fate]]:
    """Add up deltas in the model's terms."""
    sums: Counter[tuple[Route, Fate]] = Counter()
    for one in deltas:
        for route, tally in one.tallies:
            sums[route, Fate.COMPLETED] += tally.completed
            sums[route, Fate.GONE] += tally.gone
            sums[route, Fate.FAILED] += tally.failed
            sums[route, Fate.MARKER_CREATED] += tally.markers
            sums[route, Fate.MARKER_ARRIVED] += tally.markers_arrived
            sums[route, Fate.MARKER_FAILED] += tally.markers_failed
    return +sums


@pytest.mark.parametrize("name", each())
def test_a_ledger_does_what_the_model_does(name: str) -> None:
    """Invariants 2 and 5: over random histories nothing is counted twice or lost, whatever is repeated or restarted."""
    run_state_machine_as_test(
        lambda: Machine(name),
        settings=settings(
            max_examples=EXAMPLES.get(name, 60),
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
