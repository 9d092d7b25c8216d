"""What all daemons learned of latencies: an item for each path, to which whoever learned something adds a lesson.

None of it is worth an outage: what cannot be read, or cannot be true, is as if it was not there, and the next lesson
takes its place. It lies under the number of this format, so that another version's is neither read nor written over; of
what nobody adds to any more, the store lets go.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from crrmon.domain.knowledge import Interval
from crrmon.domain.latency import BUCKETS
from crrmon.domain.lessons import KEPT_SECONDS, Counts, Learned, Lesson, believable, taught
from crrmon.domain.objects import Route
from crrmon.domain.policy import Policy
from crrmon.ledger.damage import UNREADABLE
from crrmon.ledger.encoding import Body, pack
from crrmon.ledger.layout import LATENCIES, OF_FLEET, fleet_key, joined
from crrmon.ports.ledger import LedgerError
from crrmon.ports.store import (
    ABSENT,
    ConflictError,
    Found,
    Key,
    Put,
    Store,
    UnwritableError,
    prefixed,
)

_FORMAT: Final = "1"
"""Another one when buckets or counts mean something else; a new field with a default needs none."""
_TRIES: Final = 20
_SAMPLE: Final = struct.Struct("<BBf")
"""An interval and its count. NB: half the precision would not do, for small counts added to large ones would vanish, and
large ones would not fade.
"""

log = structlog.get_logger()


class StoredLatencies(msgspec.Struct, frozen=True, kw_only=True):
    """One item."""

    path: tuple[Route, ...]
    as_of: float
    samples: bytes
    lessons: tuple[str, ...] = ()


_BODY: Final = Body(StoredLatencies)


class LatencyItems:
    """Reads and writes them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, *, now: float) -> Sequence[Learned]:
        """Return what is known of every path, but for what is of no use."""
        span = prefixed(pack(f"{_FORMAT}#"))
        found = await self._store.scan(LATENCIES, OF_FLEET, span)
        read = (self._learned(each, now=now) for each in found)
        return [learned for learned in read if learned is not None]

    async def teach(self, lesson: Lesson, *, now: float, policy: Policy) -> Learned:
        """Add a lesson to what is known of its path, unless it is in it already."""
        key = _key(lesson.path)
        for _ in range(_TRIES):
            there = next(iter(await self._store.get([key])), None)
            known = None if there is None else self._learned(there, now=now)
            after = taught(known, lesson, now=now, policy=policy)
            if after is known:
                return after
            expires_at = after.as_of + KEPT_SECONDS
            tag = ABSENT if there is None else there.tag
            put = Put(key, _BODY.encode(_stored(after)), tag, expires_at=expires_at)
            try:
                await self._store.write([put])
            except ConflictError:
                continue  # by somebody else, or by this very call, the answer of which got lost
            except UnwritableError as error:
                # However often it is tried; whoever learned it knows it all the same.
                where = self._store.where(key)
                log.warning("lesson_refused", item=where, reason=str(error))
            return after
        raise LedgerError("other processes keep changing what is known of the same latencies")

    def _learned(self, found: Found, *, now: float) -> Learned | None:
        if not found.body:
            return None
        try:
            stored = _BODY.decode(found.body)
            learned = Learned(
                path=stored.path,
                counts=_unpacked(stored.samples),
                as_of=stored.as_of,
                lessons=stored.lessons,
            )
        except UNREADABLE as error:
            where = self._store.where(found.key)
            log.warning("latencies_damaged", item=where, reason=str(error))
            return None
        sound = _key(learned.path).sort == found.key.sort and believable(learned, now=now)
        return learned if sound else None


def _key(path: Sequence[Route]) -> Key:
    # Names of many buckets are longer than a key may be.
    names = joined(*(name for route in path for name in (route.source, route.destination)))
    digest = hashlib.sha256(pack(names)).hexdigest()[:32]
    return fleet_key(LATENCIES, joined(_FORMAT, digest))


def _stored(learned: Learned) -> StoredLatencies:
    samples = b"".join(
        _SAMPLE.pack(*interval, count) for interval, count in sorted(learned.counts.items())
    )
    return StoredLatencies(
        path=learned.path, as_of=learned.as_of, samples=samples, lessons=learned.lessons
    )


def _unpacked(samples: bytes) -> Counts:
    counts: dict[Interval, float] = {}
    for first, end, count in _SAMPLE.iter_unpack(samples):
        if not first < end <= BUCKETS:
            raise ValueError(f"there is no interval from {first} to {end}")
        counts[first, end] = count
    return counts
