"""Trails written down small, for stores that keep them in memory or charge for every kilobyte.

A trail is one value: a MessagePack array of its marks, its early facts, its records, and until when marks and early facts are
kept, with what is empty left out from the end. Marks are the most by far, so they and early facts are arrays without field
names, the fields that are mostly at their defaults last and left out from the end. Records are maps by field name. A
reader skips fields that it does not know and fills in those it misses, so that versions of the daemon side by side can
read each other.

What follows from something else is not written: a bucket that the slot names already, an upper bound that is the time
from written to found. Times of our days are multiples of 2**-22 seconds, for no float there is finer; so spans are
whole numbers of those *ticks*, of half the size of a float.
"""

from functools import lru_cache
from typing import Final

import msgspec

from crrmon.domain.objects import Route, Scope
from crrmon.domain.outcomes import EarlyFact, Fate, Mark
from crrmon.domain.records import Record
from crrmon.domain.trails import Trail
from crrmon.ledger.encoding import RECORD, pack, unpack

_TICKS: Final = 2**22
_SMALL: Final = 2**32
"""Whole numbers below this take at most five bytes, no more than a float of half the precision."""

_FATE_NUMBERS: Final = {
    Fate.COMPLETED: 0,
    Fate.FAILED: 1,
    Fate.GONE: 2,
    Fate.UNREADABLE: 3,
    Fate.GIVEN_UP: 4,
    Fate.NOT_COVERED: 5,
    Fate.IS_REPLICA: 6,
    Fate.UNIDENTIFIED: 7,
    Fate.IDENTIFIED: 8,
    Fate.MARKER_CREATED: 9,
    Fate.MARKER_ARRIVED: 10,
    Fate.MARKER_FAILED: 11,
    Fate.CLOSED: 12,
    Fate.FAILED_THERE: 13,
    Fate.PURGE_FAILED: 14,
}
"""Part of the format: numbers are added, never changed."""
_FATES_BY_NUMBER: Final = {number: fate for fate, number in _FATE_NUMBERS.items()}
_UNKNOWN: Final = Fate("of a later version")

_REPAIRED: Final = 1
_NOT_COUNTED: Final = 2

_BATCH_BYTES: Final = 16
_FEWEST: Final = 5
"""Fields that every mark has."""
_DEFAULTS: Final = (None, None, 0, 0, None)
"""Of those that follow: from `source` to `lower`."""

_Batch = bytes | tuple[bytes]
"""Bytes: of the hexadecimal digits that most ids are. A tuple holds any other text."""


class _Mark(msgspec.Struct, array_like=True, frozen=True, gc=False):
    slot: bytes
    fate: int
    written_at: int | float
    found_at: int | float
    """An int: so many ticks after `written_at`; a float: the time itself."""
    batch: _Batch
    source: bytes | None = None
    """None: the bucket that the slot names."""
    upper: int | float | bool | None = None
    """True: the time from written to found. An int: ticks."""
    looks: int = 0
    size: int = 0
    lower: int | float | bool | None = None
    """True: as `upper`. An int: ticks."""
    flags: int = 0
    destination: bytes | None = None
    """None: the bucket that the slot names if it is of a replica, else nowhere."""


class _EarlyFact(msgspec.Struct, array_like=True, frozen=True, gc=False):
    slot: bytes
    replicated_at: int | float
    size: int | None = None


class _Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    marks: tuple[_Mark, ...] = ()
    early_facts: tuple[_EarlyFact, ...] = ()
    records: tuple[Record | bytes, ...] = ()
    """Bytes: a body of its own, of a record with text that MessagePack cannot hold."""
    until: int | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Kept)


def encode(trail: Trail, until: int | None = None) -> bytes:
    """Write down a trail.

    Args:
        trail: which.
        until: until when its marks and early facts are kept, in seconds since the epoch, if that is to be remembered.
    """
    fields: list[object] = [[_mark_fields(slot, one) for slot, one in trail.marks.items()]]
    if trail.early_facts or trail.records:
        fields.append([_early_fields(slot, one) for slot, one in trail.early_facts.items()])
    if trail.records:
        fields.append(list(trail.records.values()))
        if until is not None:
            fields.append(until)
    try:
        return _encoder.encode(fields)
    except (UnicodeEncodeError, OverflowError):
        fields[2] = [RECORD.encode(record) for record in trail.records.values()]
        return _encoder.encode(fields)


def decode(body: bytes) -> tuple[Trail, int | None]:
    """Read a trail, and until when its marks and early facts are kept, if that was remembered."""
    kept = _decoder.decode(body)
    trail = Trail()
    for record in kept.records:
        one = RECORD.decode(record) if isinstance(record, bytes) else record
        trail.records[one.version.bucket] = one
    if kept.marks:
        trail.marks = dict(map(_mark, kept.marks))
    if kept.early_facts:
        trail.early_facts = {unpack(early.slot): _early(early) for early in kept.early_facts}
    return trail, kept.until


class _Slot(msgspec.Struct, frozen=True, gc=False):
    """What every mark of a slot has in common."""

    packed: bytes
    bucket: str
    elsewhere: str
    """The destination that goes without saying."""


@lru_cache(maxsize=1024)
def _slot(slot: str) -> _Slot:
    scope, _, bucket = slot.partition(":")
    return _Slot(pack(slot), bucket, bucket if scope == Scope.REPLICA else "")


def _mark_fields(slot: str, mark: Mark) -> list[object]:
    named = _slot(slot)
    route = mark.route
    written_at, found_at = mark.written_at, mark.found_at
    lower, upper = mark.lower, mark.upper
    flags = _REPAIRED * mark.repaired | _NOT_COUNTED * (not mark.counts)
    fields: list[object] = [
        named.packed,
        _FATE_NUMBERS[mark.fate],
        _whole(written_at),
        _since(written_at, found_at),
        _batch(mark.batch),
        None if route.source == named.bucket else pack(route.source),
        True if upper is not None and upper == found_at - written_at else _span(upper),
        mark.looks,
        mark.size,
        True if lower is not None and lower == upper else _span(lower),
    ]
    if route.destination != named.elsewhere:
        fields += (flags, pack(route.destination))
    elif flags:
        fields.append(flags)
    elif lower is None:
        _shorten(fields)
    return fields


def _shorten(fields: list[object]) -> None:
    """Leave out what is at its default from the end."""
    # NB: an upper bound of 0 is not the same as none.
    while len(fields) > _FEWEST and fields[-1] == _DEFAULTS[len(fields) - 1 - _FEWEST]:
        del fields[-1]


def _mark(fields: _Mark) -> tuple[str, Mark]:
    slot = unpack(fields.slot)
    scope, _, bucket = slot.partition(":")
    written_at = float(fields.written_at)
    found_at = fields.found_at
    if isinstance(found_at, int):
        found_at = written_at + found_at / _TICKS
    upper = found_at - written_at if fields.upper is True else _seconds(fields.upper)
    destination = bucket if scope == Scope.REPLICA else ""
    if fields.destination is not None:
        destination = unpack(fields.destination)
    return slot, Mark(
        fate=_FATES_BY_NUMBER.get(fields.fate, _UNKNOWN),
        route=Route(bucket if fields.source is None else unpack(fields.source), destination),
        written_at=written_at,
        found_at=found_at,
        batch=_batch_of(fields.batch),
        size=fields.size,
        lower=upper if fields.lower is True else _seconds(fields.lower),
        upper=upper,
        looks=fields.looks,
        repaired=bool(fields.flags & _REPAIRED),
        counts=not fields.flags & _NOT_COUNTED,
    )


def _early_fields(slot: str, early: EarlyFact) -> list[object]:
    fields: list[object] = [pack(slot), _whole(early.replicated_at)]
    if early.size is not None:
        fields.append(early.size)
    return fields


def _early(fields: _EarlyFact) -> EarlyFact:
    return EarlyFact(replicated_at=float(fields.replicated_at), size=fields.size)


@lru_cache(maxsize=64)
def _batch(batch: str) -> _Batch:
    if len(batch) == 2 * _BATCH_BYTES:
        try:
            raw = bytes.fromhex(batch)
        except ValueError:
            return (pack(batch),)
        if raw.hex() == batch:  # not so of upper case, or with blanks
            return raw
    return (pack(batch),)


def _batch_of(batch: _Batch) -> str:
    return batch.hex() if isinstance(batch, bytes) else unpack(batch[0])


def _whole(at: float) -> float:
    """Return a time as an int if it is whole seconds: it takes less."""
    return int(at) if 0 <= at < _SMALL and at == int(at) else at


def _since(start: float, at: float) -> float:
    """Return a time as ticks after another one, or itself as a float if that would not be exact or not be small."""
    ticks = (at - start) * _TICKS
    if 0 <= ticks < _SMALL and ticks == int(ticks) and start + ticks / _TICKS == at:
        return int(ticks)
    return at


def _span(seconds: float | None) -> float | None:
    """Return a span as ticks, or itself as a float if that would not be exact or not be small."""
    if seconds is None:
        return None
    ticks = seconds * _TICKS
    return int(ticks) if 0 <= ticks < _SMALL and ticks == int(ticks) else seconds


def _seconds(span: int | float | None) -> float | None:  # noqa: PYI041 - which of them it is matters
    return span / _TICKS if isinstance(span, int) else span
