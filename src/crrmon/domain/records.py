"""The pending record: what the ledger keeps of one source version until its fate is settled."""

import enum

import msgspec
from msgspec.structs import replace

from crrmon.domain.events.facts import Channel, Operation
from crrmon.domain.objects import (
    UNKNOWN_DESTINATION,
    MarkId,
    ObjectVersion,
    Place,
    Route,
    Scope,
    site_of,
)


class State(enum.StrEnum):
    """
    Where a record stands.
    """

    PENDING = "pending"
    """Not final at every destination, or not known to be."""
    FAILED = "failed"
    """An open failure: S3 gave up; looked at ever more rarely until somebody repairs it."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What S3 itself said about a failure at one destination.
    """

    noticed_at: float
    reason: str = ""
    """S3's code; see `reasons`."""


class Destination(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One destination bucket that a source version should reach.
    """

    bucket: str
    rule: str = ""
    """Id of the replication rule that selects it."""
    certain: bool = True
    """False when only a tag filter might select it, which the configuration alone cannot tell."""
    replicated_at: float | None = None
    """Exact arrival, where the replica's own event told it."""
    counted: bool = False
    """Whether its arrival was counted, while others are still open."""
    failure: Failure | None = None
    """What S3 said when it gave up here; None where it said nothing."""
    failed: bool = False
    """Whether any failure episode was proved for it: then its arrival is a repair."""
    missed: bool = False
    """Whether S3 said that it did not arrive within 15 minutes."""
    owner: str | None = None
    """Account id of the bucket's owner, where the rule names it."""
    pending_seen_at: float | None = None
    """The newest look at which it certainly had not arrived here, whatever became of others."""
    failed_episode: int = 0
    """The last failure episode that was counted here."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One source version that is followed.

    A change is a new record made with `msgspec.structs.replace`; the ledger alone sets `rev`.
    """

    version: ObjectVersion
    region: str
    written_at: float
    """When the version was written, by AWS's clock."""
    next_look_at: float
    owner: str | None = None
    """Whose bucket it is, where known: the id of an account, or a store's site."""
    size: int | None = None
    channel: Channel = Channel.CLOUDTRAIL
    """Who told `written_at`, and `size` as long as nobody looked."""
    operation: Operation | None = None
    """How it came to be; None where nobody told."""
    etag: str = ""
    """As its event told it; the empty string where it did not."""
    destinations: tuple[Destination, ...] = ()
    """Empty while no replication configuration could be read."""
    said: tuple[Destination, ...] = ()
    """What S3 said about failures meanwhile."""
    state: State = State.PENDING
    episode: int = 0
    """Failure episodes counted so far."""
    unplaced_episode: int = 0
    """The last of them that was counted at the unknown destination, for want of a proved one."""
    looks: int = 0
    """HEAD requests so far that got an answer about this version."""
    troubles: int = 0
    """Requests since then that told nothing: denied, throttled, timed out."""
    refusals: int = 0
    """How many of the last answers in a row were 400."""
    endings: int = 0
    """How many of the last answers in a row said that it ended, from a store that does not prove to be itself."""
    deleted: bool = False
    """Whether somebody told that the version was deleted."""
    pending_seen_at: float | None = None
    """
    The newest look at which replication was certainly not done everywhere: a lower bound of the slowest destination's
    latency, and of no other one's.
    """
    failed_at: float | None = None
    """When the open failure was first seen."""
    reopened_at: float | None = None
    """When the last open failure was seen pending again: from then on its age counts anew."""
    failed_before: bool = False
    """Whether any episode failed: then an arrival is a repair."""
    claimed_at: float | None = None
    """
    What its event says of `written_at`, where that is not believed (`events.times`): then `written_at` is when it was
    heard of, until a look tells.
    """
    counts: bool = True
    """False for a version whose event was older than the horizon: it is followed, never newly counted."""
    rev: int = 0
    """The ledger's revision; 0 for a record that it does not hold yet."""

    @property
    def event_at(self) -> float:
        """
        The time that its event tells, believed or not: what it is recognised by.
        """
        return self.written_at if self.claimed_at is None else self.claimed_at

    @property
    def open(self) -> tuple[Destination, ...]:
        """
        The destinations whose outcome is not counted yet.
        """
        return tuple(one for one in self.destinations if not one.counted)

    @property
    def routes(self) -> tuple[Route, ...]:
        """
        The ways this version still takes, the unknown one where nothing could be read; never empty.
        """
        source = self.version.bucket
        if not self.destinations:
            return (Route(source, UNKNOWN_DESTINATION),)
        return tuple(Route(source, destination.bucket) for destination in self.open)

    @property
    def failed_at_destinations(self) -> tuple[Destination, ...]:
        """
        The destinations that an open failure is proved for: S3 named them, or no other one is left.
        """
        if self.state is not State.FAILED:
            return ()
        named = tuple(one for one in self.open if one.failure is not None)
        if named:
            return named
        return self.open if len(self.open) == 1 else ()

    @property
    def failed_in_episode(self) -> bool:
        """
        Whether the last failure episode is known to have been at any destination.
        """
        return any(one.failed_episode == self.episode for one in self.destinations)

    @property
    def placed(self) -> bool:
        """
        Whether the last failure episode was counted at a destination, if only at the unknown one.
        """
        return self.unplaced_episode == self.episode or self.failed_in_episode

    @property
    def arrived(self) -> bool:
        """
        Whether replicas' own events prove that it reached every destination.
        """
        return bool(self.destinations) and all(
            one.counted or one.replicated_at is not None for one in self.destinations
        )

    def repairs(self, destination: Destination) -> bool:
        """
        Tell whether an arrival would be a repair: of a failure there, or of one that nobody knows the place of.
        """
        if not self.failed_before:
            return False
        failed = {one.bucket for one in self.destinations if one.failed}
        failed.update(one.bucket for one in self.failed_at_destinations)
        if failed:
            return destination.bucket in failed
        # Wherever it failed, not where it had arrived by then.
        arrived_at, failed_at = destination.replicated_at, self.failed_at
        return arrived_at is None or failed_at is None or arrived_at > failed_at

    def replica_mark(self, destination: str) -> MarkId:
        """
        Identify the mark of this version's arrival in a destination bucket.
        """
        return MarkId.of(Scope.REPLICA, self.version, at=destination)

    @property
    def place(self) -> Place:
        """
        Tell which bucket it is in.
        """
        return self.version.bucket, site_of(self.owner)

    @property
    def replicated_mark(self) -> MarkId:
        """
        Identify a store's word that this version is everywhere.
        """
        return MarkId.of(Scope.REPLICATED, self.version)

    def standings(self) -> tuple[tuple[Route, State], ...]:
        """
        Tell where it stands on each way it still takes.

        An open failure that is proved for no destination stands on the route to the unknown one, and the others wait.
        """
        if self.state is State.PENDING:
            return tuple((route, State.PENDING) for route in self.routes)
        source = self.version.bucket
        failed = {one.bucket for one in self.failed_at_destinations} or {UNKNOWN_DESTINATION}
        waiting = tuple(
            (Route(source, one.bucket), State.PENDING)
            for one in self.open
            if one.bucket not in failed
        )
        return (*((Route(source, one), State.FAILED) for one in sorted(failed)), *waiting)


def with_arrival(record: Record, bucket: str, *, at: float, size: int | None) -> Record:
    """
    Let a record know of an arrival in one destination bucket; the earliest stands.

    Args:
        record: that may wait for it.
        bucket: of the destination.
        at: when the replica was written.
        size: bytes of the replica, where its event tells: those of the source, if nobody knew them.

    Returns:
        The record itself where it waits for no such arrival, or knew an earlier one.
    """

    def told(destination: Destination) -> Destination:
        known = destination.replicated_at
        if (
            destination.bucket != bucket
            or destination.counted
            or (known is not None and known <= at)
        ):
            return destination
        return replace(destination, replicated_at=at)

    destinations = tuple(told(destination) for destination in record.destinations)
    if destinations == record.destinations:
        return record
    return replace(
        record,
        destinations=destinations,
        size=size if record.size is None else record.size,
    )


def with_all_arrived(record: Record, *, at: float, size: int | None) -> Record:
    """
    Let a record know that its version was everywhere at a moment.

    That is the moment of its arrival where it goes to one destination; of several it tells when the last was reached, and
    so of none.

    Returns:
        The record itself where that is nothing new.
    """
    if len(record.destinations) != 1:
        return record
    return with_arrival(record, record.destinations[0].bucket, at=at, size=size)


def routed(record: Record, destinations: tuple[Destination, ...]) -> Record:
    """
    Let a record know where its version should arrive, and what S3 said about that before.
    """
    said = record.said
    record = replace(record, destinations=destinations, said=())
    for one in said:
        if one.failure is not None:
            record = with_failure(record, one.bucket, one.failure)
    return record


def with_failure(record: Record, bucket: str, failure: Failure) -> Record:
    """
    Let a record know what S3 said about a failure at one destination bucket.

    Args:
        record: that may be about it.
        bucket: of the destination; with `UNKNOWN_DESTINATION`, the only open one is meant.
        failure: what S3 said.

    Returns:
        The record itself where that is nothing new, or was before the last retry. A failure that is known is told anew
        only by another reason, or after a look that showed it pending: some stores tell of one with every try.
    """
    if record.reopened_at is not None and failure.noticed_at <= record.reopened_at:
        return record
    if not record.destinations:
        others = tuple(one for one in record.said if one.bucket != bucket)
        before = next((one.failure for one in record.said if one.bucket == bucket), None)
        if not _new(failure, known=before, record=record):
            return record
        return replace(record, said=(*others, Destination(bucket, failure=failure)))
    meant = _meant(record, bucket)
    destinations = record.destinations
    if meant and all(one.bucket != meant for one in destinations):
        destinations = (*destinations, Destination(meant))  # S3 knows its rules better than we do

    def told(destination: Destination) -> Destination:
        if (
            destination.bucket != meant
            or destination.counted
            or not _new(failure, known=destination.failure, record=record)
        ):
            return destination
        # Whatever its rule's filter says, S3 did select it. An episode that is counted already was here, too.
        failed = destination.failed or record.state is State.FAILED
        return replace(destination, failure=failure, failed=failed, certain=True)

    destinations = tuple(told(destination) for destination in destinations)
    return (
        record
        if destinations == record.destinations
        else replace(record, destinations=destinations)
    )


def _new(failure: Failure, *, known: Failure | None, record: Record) -> bool:
    """
    Tell whether a notice of a failure tells of another one than that which is known.
    """
    if known is None:
        return True
    if failure.noticed_at <= known.noticed_at:
        return False
    if known.reason and failure.reason not in ("", known.reason):
        return True
    pending_at = record.pending_seen_at
    retried = pending_at is not None and known.noticed_at < pending_at < failure.noticed_at
    return retried and record.state is State.PENDING


def with_reason(record: Record, bucket: str, failure: Failure) -> Record:
    """
    Let a record know the reason of a failure that is known without one; the record itself where there is none such.

    Args:
        record: that may be about it.
        bucket: of the destination; with `UNKNOWN_DESTINATION`, the only open one is meant.
        failure: that names a reason.
    """
    if record.reopened_at is not None and failure.noticed_at <= record.reopened_at:
        return record
    meant = _meant(record, bucket) if record.destinations else bucket

    def told(destination: Destination) -> Destination:
        known = destination.failure
        if destination.bucket != meant or known is None or known.reason or not failure.reason:
            return destination
        return replace(destination, failure=replace(known, reason=failure.reason))

    destinations = tuple(told(destination) for destination in record.destinations)
    said = tuple(told(destination) for destination in record.said)
    if (destinations, said) == (record.destinations, record.said):
        return record
    return replace(record, destinations=destinations, said=said)


def with_miss(record: Record, bucket: str) -> Record:
    """
    Let a record know that S3 missed its 15 minutes at one destination; the record itself where that is nothing new.

    Args:
        record: that may be about it.
        bucket: of the destination; with `UNKNOWN_DESTINATION`, the only open one is meant.
    """
    meant = _meant(record, bucket)
    destinations = tuple(
        replace(one, missed=True) if one.bucket == meant and not one.counted else one
        for one in record.destinations
    )
    return (
        record
        if destinations == record.destinations
        else replace(record, destinations=destinations)
    )


def _meant(record: Record, bucket: str) -> str:
    """
    Return the bucket that S3 means; the empty string where it names none and several are open.
    """
    if bucket != UNKNOWN_DESTINATION:
        return bucket
    return record.open[0].bucket if len(record.open) == 1 else ""


def reopened(record: Record, *, at: float) -> Record:
    """
    Put an open failure back to pending: somebody retries it, and what was said about it is over.

    Args:
        record: an open failure; any other is returned as it is, and so is one that was found failed since.
        at: when it was restarted.
    """
    if record.state is not State.FAILED or (record.failed_at or 0.0) >= at:
        return record
    return replace(
        record,
        state=State.PENDING,
        failed_at=None,
        reopened_at=at,
        destinations=tuple(replace(one, failure=None) for one in record.destinations),
    )


def merged(known: Record, told: Record) -> Record:
    """
    Add to a record what another event of the same version tells better.

    The time and, as long as nobody looked, the size are those of the best channel. Destinations are taken over where
    none were known; what S3 said about them always is, and a failure brings the next look forward.

    Returns:
        The known record itself where that is nothing new.
    """
    record = _better(known, told)
    if not record.destinations and told.destinations:
        record = routed(record, told.destinations)
    for one in told.said:
        if one.failure is not None:
            record = with_failure(record, one.bucket, one.failure)
    for one in told.destinations:
        if one.replicated_at is not None:
            record = with_arrival(record, one.bucket, at=one.replicated_at, size=told.size)
        if one.failure is not None:
            record = with_failure(record, one.bucket, one.failure)
        if one.missed:
            record = with_miss(record, one.bucket)
    failures = {one.bucket: one.failure for one in known.destinations}
    if any(one.failure not in (None, failures.get(one.bucket)) for one in record.destinations):
        record = replace(record, next_look_at=min(record.next_look_at, told.next_look_at))
    return known if record == known else record


def _better(known: Record, told: Record) -> Record:
    """
    Take over when and how large it was written, and whose its bucket is, as far as another event knows better.
    """
    record = known
    if told.channel.rank > known.channel.rank:
        size = told.size if told.size is not None and not known.looks else known.size
        record = replace(record, channel=told.channel, size=size)
        if told.claimed_at is None:
            record = replace(record, written_at=told.written_at, claimed_at=None)
    elif known.claimed_at is not None and told.claimed_at is None:
        record = replace(record, written_at=told.written_at, claimed_at=None)
    if record.size is None and told.size is not None:
        record = replace(record, size=told.size)
    if record.owner is None and told.owner is not None:
        record = replace(record, owner=told.owner)
    if record.operation is None and told.operation is not None:
        record = replace(record, operation=told.operation)
    if not record.etag and told.etag:
        record = replace(record, etag=told.etag)
    return record
