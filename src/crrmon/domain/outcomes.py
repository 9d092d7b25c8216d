"""What becomes of a version, how it is proved to be counted, and what it adds to the statistics."""

import enum
import operator
from collections.abc import Iterable, Sequence

import msgspec
from typing_extensions import override

from crrmon.domain.objects import MarkId, ObjectVersion, Route
from crrmon.domain.records import Record


class Fate(enum.StrEnum):
    """The end of a version at one destination, or of a version as a whole."""

    # An enum's own is a call of Python, each time that a fate is looked up.
    __hash__ = str.__hash__

    COMPLETED = "completed"
    FAILED = "failed"
    """A failure episode began; the record stays as an open failure."""
    FAILED_THERE = "failed_there"
    """A failure episode is proved for one destination; or for the unknown one, where nobody could tell which in time.
    Counted by destination only, beside the episode itself.
    """
    GONE = "gone"
    """Deleted before it replicated."""
    UNREADABLE = "unreadable"
    """S3 refuses every HEAD as a bad request: encrypted with a customer-provided key."""
    GIVEN_UP = "given_up"
    """Not final within `give_up_after`."""
    NOT_COVERED = "not_covered"
    """S3 shows no replication status: no rule selected it when it was written."""
    IS_REPLICA = "is_replica"
    """The version was itself made by replication: nothing of its own to follow."""
    UNIDENTIFIED = "unidentified"
    """Its event gave no version id, and the current version is another one."""
    IDENTIFIED = "identified"
    """Its event gave no version id; it was found and goes on under its true one. Not an end, not counted."""
    CLOSED = "closed"
    """
    It is final as a whole, while a destination that only a tag filter might select is not proved, or nobody knows its
    destinations. Not counted.
    """
    MARKER_CREATED = "delete_marker_created"
    """A delete marker that a rule replicates. S3 tells nobody how far it got, so it is not followed."""
    MARKER_ARRIVED = "delete_marker_arrived"
    MARKER_FAILED = "delete_marker_failed"
    PURGE_FAILED = "purge_failed"
    """A store could not delete at a destination what was deleted for good at the source. Counted by itself only."""

    @classmethod
    @override
    def _missing_(cls, value: object) -> "Fate":
        """Read a fate that only a later version knows, as ledgers shared with one hold them.

        That there is a mark proves the counting, whatever its fate; of all fates this one claims least: that nobody
        follows the version any more, not that it arrived or failed.
        """
        return cls.GIVEN_UP


class Cause(enum.StrEnum):
    """Why a version that was written is not replicated, as far as it can be told."""

    NO_CONFIGURATION = "no_configuration"
    """Its bucket has no replication rule that is enabled."""
    NO_RULE = "no_rule"
    """None of its bucket's rules selects its key."""
    TAG_FILTER = "tag_filter"
    """Only rules with a tag filter select its key, and it shows no status."""
    STORAGE_CLASS = "storage_class"
    """It is in an archive from which S3 does not replicate, and shows no status."""
    ENCRYPTION = "encryption"
    """It is encrypted with a KMS key, which rules must opt into, and shows no status."""
    NO_STATUS = "no_status"
    """A rule selects its key, and it shows no status for a reason that cannot be seen."""


LATE_SECONDS = 900.0
"""S3's promise (Replication Time Control): what takes longer is late."""


class Latency(msgspec.Struct, frozen=True, gc=False):
    """Written to replicated, in seconds: exact, or bounded by two looks."""

    lower: float
    upper: float
    slowest: float | None = None
    """Where looks only told that one of several destinations was still waited for: since when at least, in seconds.
    It may have been this one or another. None where the bounds are this destination's own.
    """

    @property
    def exact(self) -> bool:
        """Whether the replica's own event told the end."""
        return self.lower == self.upper


class Outcome(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing to be counted, once: `mark` says which."""

    mark: MarkId
    fate: Fate
    route: Route
    """For what concerns the version as a whole, the destination is the empty string."""
    written_at: float
    found_at: float
    size: int = 0
    latency: Latency | None = None
    """Of completed versions, unless a failure or its age makes it meaningless."""
    spread: tuple[tuple[int, float], ...] = ()
    """The latency as weights of `latency` buckets; they sum to 1."""
    seconds: float = 0.0
    """The latency as one expected number."""
    repaired: bool = False
    late: bool = False
    """Whether a completed version took longer than `LATE_SECONDS`, by S3's own word or as far as is known."""
    counts: bool = True
    """False: leaves its mark, adds only to `Tally.too_old`."""
    looks: int = 0
    cause: Cause | None = None
    """Of a version that is not covered."""
    failures: tuple[tuple[str, str], ...] = ()
    """Of a failure episode: the destinations that it is proved for, each with S3's reason or the empty string."""


class Mark(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Proof that something was counted, kept for the dedup retention; also its short history."""

    fate: Fate
    route: Route
    written_at: float
    found_at: float
    batch: str
    """Id of the batch that counted it: a repeated batch recognises its own work by this."""
    size: int = 0
    lower: float | None = None
    upper: float | None = None
    looks: int = 0
    repaired: bool = False
    counts: bool = True


class EarlyFact(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What was told of a version and is no count: a replica's event that came before anything else was known of it; a
    restart of a version unknown; a notice of a threshold, to know it again; a store's word that a version or a deletion
    is everywhere.
    """

    replicated_at: float
    """Of all but a replica: when what `Scope` says was."""
    size: int | None = None


class Settlement(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What was decided about one source version, to be made durable at once."""

    version: ObjectVersion
    outcomes: tuple[Outcome, ...]
    rev: int | None = None
    """Revision of the record that this was decided on; 0 when none was known. Then, if the ledger has one after all,
    nothing is counted and nothing changed: the record knows more, and its own next look settles it. The same is so if
    this closes the version (`Fate.CLOSED`) and an arrival is known by now that is none of the outcomes; with 0, whoever
    decided parks its record. None: decided on whatever the record is.
    """
    keep: Record | None = None
    """The record from now on (an open failure), stored only if the ledger's is still at `keep.rev`; with `rev` 0, only
    if the ledger has none and parking it would not find it settled.
    None: nothing is left to follow, the record is dropped whatever its revision.
    """


class Tally(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Counts that add up: of one route, or of a source bucket as a whole."""

    completed: int = 0
    bytes: int = 0
    timed: int = 0
    """Completed ones whose latency counts."""
    timed_bytes: int = 0
    exact: int = 0
    """Timed ones whose latency is exact."""
    seconds: float = 0.0
    """Sum of the latencies."""
    latency: dict[int, float] = {}
    """Weight of each `latency` bucket."""
    repaired: int = 0
    late: int = 0
    failed: int = 0
    gone: int = 0
    unreadable: int = 0
    given_up: int = 0
    not_covered: int = 0
    unidentified: int = 0
    too_old: int = 0
    markers: int = 0
    """Delete markers that a rule replicates."""
    markers_arrived: int = 0
    markers_failed: int = 0


_COUNTS = {
    name: operator.attrgetter(name)
    for name in Tally.__struct_fields__
    if name not in {"seconds", "latency"}
}

Tallies = dict[Route, Tally]


class Delta(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one settled batch adds to the statistics: one append-only item for all its routes."""

    id: str
    """The id of the batch."""
    settled_at: float
    tallies: tuple[tuple[Route, Tally], ...]


_COUNTED = {
    Fate.FAILED: "failed",
    Fate.GONE: "gone",
    Fate.UNREADABLE: "unreadable",
    Fate.GIVEN_UP: "given_up",
    Fate.NOT_COVERED: "not_covered",
    Fate.UNIDENTIFIED: "unidentified",
    Fate.MARKER_CREATED: "markers",
    Fate.MARKER_ARRIVED: "markers_arrived",
    Fate.MARKER_FAILED: "markers_failed",
}


_BY_THEMSELVES = frozenset({Fate.FAILED_THERE, Fate.PURGE_FAILED})
"""Fates that are no part of the statistics."""

# Asked for of every object. Before Python 3.12, an enumeration calls a function for each member.
_ARRIVED = Fate.COMPLETED


def tally(outcome: Outcome) -> Tally:
    """Return what one outcome adds to the counts of its route."""
    if outcome.fate in (Fate.CLOSED, Fate.FAILED_THERE, Fate.PURGE_FAILED):
        return Tally()
    if not outcome.counts:
        return Tally(too_old=1)
    if outcome.fate is Fate.COMPLETED:
        return _completed([outcome])
    counted = _COUNTED.get(outcome.fate)
    return msgspec.structs.replace(Tally(), **{counted: 1}) if counted else Tally()


def delta(batch: str, outcomes: list[Outcome], *, settled_at: float) -> Delta:
    """Fold the newly counted outcomes of a batch.

    Args:
        batch: the id of the batch.
        outcomes: those that were counted, without the duplicates.
        settled_at: when, by the clock of whoever settles.
    """
    tallies = totals(outcome for outcome in outcomes if outcome.fate not in _BY_THEMSELVES)
    return Delta(
        id=batch,
        settled_at=settled_at,
        tallies=tuple([(route, tallies[route]) for route in sorted(tallies)]),
    )


def totals(outcomes: Iterable[Outcome]) -> Tallies:
    """Add up what outcomes add to the counts of their routes."""
    completed: dict[Route, list[Outcome]] = {}
    others: list[tuple[Route, Tally]] = []
    for outcome in outcomes:
        if outcome.fate is _ARRIVED and outcome.counts:
            if (arrivals := completed.get(outcome.route)) is None:
                arrivals = completed[outcome.route] = []
            arrivals.append(outcome)
        else:
            others.append((outcome.route, tally(outcome)))
    done = {route: _completed(arrivals) for route, arrivals in completed.items()}
    return _totals([*done.items(), *others]) if others else done


def fold(deltas: list[Delta]) -> Tallies:
    """Add up deltas by route."""
    return _totals(pair for item in deltas for pair in item.tallies)


def _totals(pairs: Iterable[tuple[Route, Tally]]) -> Tallies:
    """Add up tallies by route, in the order they come."""
    by_route: dict[Route, list[Tally]] = {}
    for route, one in pairs:
        by_route.setdefault(route, []).append(one)
    return {route: _total(tallies) for route, tallies in by_route.items()}


def _completed(outcomes: Sequence[Outcome]) -> Tally:
    """Add up versions that completed on one route and count: nearly all there ever are, and so without a tally for each."""
    completed = size = repaired = late = timed = timed_size = exact = 0
    seconds = 0.0
    latency: dict[int, float] = {}
    # Estimates are made once and shared: what is the very same spread is added up at once.
    spreads: dict[int, tuple[tuple[int, float], ...]] = {}
    times: dict[int, int] = {}
    for outcome in outcomes:
        completed += 1
        size += outcome.size
        repaired += outcome.repaired
        late += outcome.late
        took = outcome.latency
        if took is None:
            continue
        timed += 1
        timed_size += outcome.size
        exact += took.lower == took.upper
        seconds += outcome.seconds
        spread = outcome.spread
        spreads[id(spread)] = spread
        times[id(spread)] = times.get(id(spread), 0) + 1
    for one, spread in spreads.items():
        for bucket, weight in spread:
            latency[bucket] = latency.get(bucket, 0.0) + weight * times[one]
    return Tally(
        completed=completed,
        bytes=size,
        timed=timed,
        timed_bytes=timed_size,
        exact=exact,
        seconds=seconds,
        latency=latency,
        repaired=repaired,
        late=late,
    )


def _total(tallies: list[Tally]) -> Tally:
    if len(tallies) == 1:
        return tallies[0]
    seconds = 0.0
    latency: dict[int, float] = {}
    for one in tallies:
        seconds += one.seconds
        for bucket, weight in one.latency.items():
            latency[bucket] = latency.get(bucket, 0.0) + weight
    counts = {name: sum(map(get, tallies)) for name, get in _COUNTS.items()}
    return Tally(seconds=seconds, latency=latency, **counts)


def mark(outcome: Outcome, batch: str) -> Mark:
    """Create the mark that proves an outcome counted by a batch."""
    latency = outcome.latency
    return Mark(
        fate=outcome.fate,
        route=outcome.route,
        written_at=outcome.written_at,
        found_at=outcome.found_at,
        batch=batch,
        size=outcome.size,
        lower=None if latency is None else latency.lower,
        upper=None if latency is None else latency.upper,
        looks=outcome.looks,
        repaired=outcome.repaired,
        counts=outcome.counts,
    )
