"""What a pending record learns: of arrivals, failures, misses and retries, and from another event of its version.

Each returns the record itself where that is nothing new: so whoever writes records sees what need not be written.
"""

from collections.abc import Callable

from msgspec.structs import replace

from crrmon.domain.objects import UNKNOWN_DESTINATION
from crrmon.domain.records import Destination, Failure, Record, State


def with_arrival(record: Record, bucket: str, *, at: float, size: int | None) -> Record:
    """Add an arrival in one destination bucket to a record; the earliest stands.

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

    return _changed(record, told, size=size)


def with_all_arrived(record: Record, *, at: float, size: int | None) -> Record:
    """Add to a record that its version was everywhere at a moment.

    That is the moment of its arrival where it goes to one destination; of several it tells when the last was reached, and
    so of none.

    Returns:
        The record itself where that is nothing new.
    """
    if len(record.destinations) != 1:
        return record
    return with_arrival(record, record.destinations[0].bucket, at=at, size=size)


def routed(record: Record, destinations: tuple[Destination, ...]) -> Record:
    """Add to a record where its version should arrive, with what S3 said about that before."""
    said = record.said
    record = replace(record, destinations=destinations, said=())
    for one in said:
        if one.failure is not None:
            record = with_failure(record, one.bucket, one.failure)
    return record


def with_failure(record: Record, bucket: str, failure: Failure) -> Record:
    """Add to a record what S3 said about a failure at one destination bucket.

    Args:
        record: that may be about it.
        bucket: of the destination; with `UNKNOWN_DESTINATION`, the only open one is meant.
        failure: what S3 said.

    Returns:
        The record itself where that is nothing new. From before the last retry only the place is: see
        `_failed_as_well`. A failure that is known is told again only by another reason, or after a look that showed it
        pending: some stores tell of one with every try.
    """
    if record.reopened_at is not None and failure.noticed_at <= record.reopened_at:
        return _failed_as_well(record, bucket)
    if not record.destinations:
        others = tuple(one for one in record.said if one.bucket != bucket)
        before = next((one.failure for one in record.said if one.bucket == bucket), None)
        if not _new(failure, before, record):
            return record
        return replace(record, said=(*others, Destination(bucket, failure=failure)))
    meant = _meant(record, bucket)
    if meant and all(one.bucket != meant for one in record.destinations):
        # S3 knows its rules better than we do.
        record = replace(record, destinations=(*record.destinations, Destination(meant)))

    def told(destination: Destination) -> Destination:
        if (
            destination.bucket != meant
            or destination.counted
            or not _new(failure, destination.failure, record)
        ):
            return destination
        # Whatever its rule's filter says, S3 did select it. An episode that is counted already was here, too.
        failed = destination.failed or record.state is State.FAILED
        return replace(destination, failure=failure, failed=failed, certain=True)

    return _changed(record, told)


def _failed_as_well(record: Record, bucket: str) -> Record:
    """Remember of a failure that is over that it was here, too, where others alone are known to have failed.

    The arrival here is then a repair, as it is wherever nobody knows the place.
    """
    if not any(one.failed for one in record.destinations):
        return record
    meant = _meant(record, bucket)

    def told(destination: Destination) -> Destination:
        here = destination.bucket == meant and not destination.counted
        return replace(destination, failed=True) if here else destination

    return _changed(record, told)


def _changed(
    record: Record, told: Callable[[Destination], Destination], *, size: int | None = None
) -> Record:
    """Change a record's destinations; the record itself where that changes none.

    Args:
        record: whose destinations.
        told: what becomes of each.
        size: of the version, where the change tells it and nobody knew it.
    """
    destinations = tuple(map(told, record.destinations))
    if destinations == record.destinations:
        return record
    size = size if record.size is None else record.size
    return replace(record, destinations=destinations, size=size)


def _new(failure: Failure, before: Failure | None, record: Record) -> bool:
    """Return whether a notice of a failure tells of another one than the one before."""
    if before is None:
        return True
    if failure.noticed_at <= before.noticed_at:
        return False
    if before.reason and failure.reason not in ("", before.reason):
        return True
    pending_at = record.pending_seen_at
    retried = pending_at is not None and before.noticed_at < pending_at < failure.noticed_at
    return retried and record.state is State.PENDING


def with_reason(record: Record, bucket: str, failure: Failure) -> Record:
    """Add to a record the reason of a failure that is known without one; the record itself where there is none such.

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
    """Add to a record that S3 missed its 15 minutes at one destination; the record itself where that is nothing new.

    Args:
        record: that may be about it.
        bucket: of the destination; with `UNKNOWN_DESTINATION`, the only open one is meant.
    """
    meant = _meant(record, bucket)

    def told(destination: Destination) -> Destination:
        waits = destination.bucket == meant and not destination.counted
        return replace(destination, missed=True) if waits else destination

    return _changed(record, told)


def _meant(record: Record, bucket: str) -> str:
    """Return the bucket that S3 means; the empty string where it names none and several are open."""
    if bucket != UNKNOWN_DESTINATION:
        return bucket
    return record.open[0].bucket if len(record.open) == 1 else ""


def reopened(record: Record, *, at: float) -> Record:
    """Put an open failure back to pending: somebody retries it, and what was said about it is over.

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
        destinations=tuple(
            replace(destination, failure=None) for destination in record.destinations
        ),
    )


def merged(known: Record, told: Record) -> Record:
    """Add to a record what another event of the same version tells better.

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
    for destination in told.destinations:
        if destination.replicated_at is not None:
            record = with_arrival(
                record, destination.bucket, at=destination.replicated_at, size=told.size
            )
        if destination.failure is not None:
            record = with_failure(record, destination.bucket, destination.failure)
        if destination.missed:
            record = with_miss(record, destination.bucket)
    failures = {one.bucket: one.failure for one in known.destinations}
    if any(one.failure not in (None, failures.get(one.bucket)) for one in record.destinations):
        record = replace(record, next_look_at=min(record.next_look_at, told.next_look_at))
    return known if record == known else record


def _better(known: Record, told: Record) -> Record:
    """Take over when and how large it was written, and whose its bucket is, as far as another event knows better."""
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
