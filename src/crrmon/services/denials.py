"""Buckets that deny every look: asked now and then, reported once a minute, and no flood of requests or log lines."""

import asyncio

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.observations import Sight
from crrmon.ports.meters import Meters

DENIED_IN_A_ROW = 5
"""So many looks denied without one that was answered between: it is the bucket, and not an object."""

TRICKLE_SECONDS = 5.0
"""Between two looks at a bucket that denies them all."""

HOLD_SHARE = 0.5
"""The others are put off for this share of the time for which it has been so..."""
HOLD_SHORTEST_SECONDS = 30.0
HOLD_LONGEST_SECONDS = 1800.0
"""...within these bounds: a hundred thousand objects are then put off 55 times a second."""

REMINDER_SECONDS = 60.0
"""How often such a bucket is logged."""

ADVICE = (
    "grant the daemon's role s3:GetObject and s3:GetObjectVersion on its objects and s3:ListBucket on it,"
    " or set a role for its account under accounts; check its bucket policy where it is another account's"
)

log = structlog.get_logger()


class _Denial(msgspec.Struct):
    """
    What one bucket denied since it last answered.
    """

    since: float
    in_a_row: int = 0
    told_at: float | None = None
    """When it was last logged; None before it is known to deny all."""
    denied: int = 0
    """Looks since it was logged."""
    put_off: int = 0
    """Objects since it was logged."""
    next_at: float = 0.0
    """When the next look may be made."""


class Denials:
    """
    Knows the buckets at which every look is denied.
    """

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._denials: dict[str, _Denial] = {}

    def known(self, bucket: str) -> bool:
        """
        Tell whether every look at a bucket is denied, as far as is known.
        """
        denial = self._denials.get(bucket)
        return denial is not None and denial.in_a_row >= DENIED_IN_A_ROW

    def hold(self, bucket: str) -> float | None:
        """
        Ask whether to look at an object of a bucket.

        Returns:
            None where a look is to be made now; else for how many seconds to put the object off, on average.
        """
        denial = self._denials.get(bucket)
        if denial is None or denial.in_a_row < DENIED_IN_A_ROW:
            return None
        now = asyncio.get_running_loop().time()
        if now >= denial.next_at:
            denial.next_at = now + TRICKLE_SECONDS
            return None
        denial.put_off += 1
        hold = HOLD_SHARE * (now - denial.since)
        return max(HOLD_SHORTEST_SECONDS, min(hold, HOLD_LONGEST_SECONDS))

    def told(self, bucket: str, sight: Sight) -> None:
        """
        Take in what a look at a bucket showed.
        """
        if sight is Sight.DENIED:
            self._denied(bucket)
        elif sight.answered and bucket in self._denials:
            if self.known(bucket):
                self._meters.set(catalogue.LOOKS_DENIED, bucket, value=0)
                log.info("bucket_looks_answered", bucket=bucket)
            del self._denials[bucket]

    def _denied(self, bucket: str) -> None:
        now = asyncio.get_running_loop().time()
        denial = self._denials.setdefault(bucket, _Denial(since=now))
        denial.in_a_row += 1
        denial.denied += 1
        if denial.in_a_row < DENIED_IN_A_ROW:
            return
        self._meters.set(catalogue.LOOKS_DENIED, bucket, value=1)
        if denial.told_at is not None and now - denial.told_at < REMINDER_SECONDS:
            return
        log.warning(
            "bucket_looks_denied",
            bucket=bucket,
            looks_denied=denial.denied,
            objects_put_off=denial.put_off,
            for_seconds=round(now - denial.since),
            advice=ADVICE,
        )
        denial.told_at = now
        denial.denied = denial.put_off = 0
