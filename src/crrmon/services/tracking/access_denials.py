"""Buckets that deny looks: asked now and then, reported once a minute, and no flood of requests or log lines.

A bucket denies every look when none is answered for a while. Otherwise it denies some objects, as a policy on a prefix
has it; those wait for each other, and nobody else does. In either, objects whose own last look was no trouble may be
those that are answered: they are looked at soon, at a trickle. What is put off is never settled without a look.
"""

import asyncio
import math
from collections import deque

import msgspec
import structlog

from crrmon.domain import catalogue
from crrmon.domain.objects import Place
from crrmon.domain.observations import Sight
from crrmon.domain.recent import MOST, Recent
from crrmon.domain.stores import BucketStores, StoreKind
from crrmon.ports.meters import Meters

DENIED_IN_A_ROW = 5
"""So many looks denied without one that was answered between..."""
ANSWERED_LATELY_SECONDS = 60.0
"""...nor any within this time: it is the bucket, and not an object."""

ANSWERED_IN_A_ROW = 5
"""So many looks answered of objects that had trouble: nothing is denied any more."""

TRICKLE_SECONDS = 5.0
"""Between two looks at objects that had trouble, in a bucket that denies every look."""

LOOKS_PER_SECOND = 5.0
"""
Most looks a second at objects that had trouble, in a bucket that denies some; and at those that had none, in one that
denies every look.
"""

HOLD_SHARE = 0.5
"""The others are put off for this share of the time for which it has been so..."""
HOLD_SHORTEST_SECONDS = 30.0
HOLD_LONGEST_SECONDS = 1800.0
"""...within these bounds: a hundred thousand objects are then put off 55 times a second."""

REMINDER_SECONDS = 60.0
"""How often such a bucket is logged."""

LINES = 20
"""Most of these lines in that time: names of buckets come out of messages. Who gets none has its turn later."""

FORGOTTEN_SECONDS = 2 * HOLD_LONGEST_SECONDS
"""A bucket at which this daemon did not look for so long is another's to look at: it says no more of it."""

_FIRST = "if account_unusable is logged for its account, follow the advice there; otherwise grant"
_PERMISSIONS = "s3:GetObject and s3:GetObjectVersion on its objects and s3:ListBucket on it"
_OF_S3 = (
    f"{_FIRST} the daemon's role {_PERMISSIONS}, or set a role for its account under accounts; check its bucket"
    " policy if it is another account's, and name it in accounts[].request_payer if it is a Requester Pays"
    " bucket"
)
_OF_A_STORE = (
    f"{_FIRST} {_PERMISSIONS} to the access key of accounts[].profile, by the store's own means"
)


def advice(store: StoreKind) -> str:
    """Return what to do about a bucket in a kind of store that denies looks."""
    return _OF_S3 if store is StoreKind.S3 else _OF_A_STORE


def _named(place: Place) -> dict[str, str]:
    """Return what a line of the log says of where a bucket is."""
    bucket, site = place
    return {"bucket": bucket} if site is None else {"bucket": bucket, "site": site}


log = structlog.get_logger()


class _Denial(msgspec.Struct):
    """What one bucket denied lately."""

    since: float
    looks: int = 0
    """Denied since then."""
    in_a_row: int = 0
    """Denied since any was answered."""
    answers: int = 0
    """In a row, of objects that had trouble."""
    shown: bool = False
    """Whether it is known to deny every look, and shown as such."""
    told_at: float = -math.inf
    """When it was last logged."""
    denied_at: float = 0.0
    """When a look was last denied."""
    denied: int = 0
    """Looks since it was logged."""
    put_off: int = 0
    """Objects since it was logged."""
    next_at: float = 0.0
    """When the next object that had trouble may be looked at."""
    fresh_at: float = 0.0
    """When the next one may be that had none."""


class Denials:
    """Knows the buckets at which looks are denied."""

    def __init__(self, meters: Meters, stores: BucketStores) -> None:
        self._meters = meters
        self._stores = stores
        self._denials: dict[Place, _Denial] = {}
        self._answered_at: Recent[Place, float] = Recent()
        self._lines: deque[float] = deque(maxlen=LINES)
        """When the last ones were logged."""

    def known(self, place: Place) -> bool:
        """Return whether every look at a bucket is denied, as far as is known."""
        denial = self._denials.get(place)
        if denial is None or denial.in_a_row < DENIED_IN_A_ROW:
            return False
        since = asyncio.get_running_loop().time() - self._last_answer(place)
        return since >= ANSWERED_LATELY_SECONDS

    @property
    def any(self) -> bool:
        """Whether any bucket denied a look lately."""
        return bool(self._denials)

    def hold(self, place: Place, *, troubled: bool) -> float | None:
        """Ask whether to look at an object.

        Args:
            place: where the object is.
            troubled: whether its own last look told nothing.

        Returns:
            None where a look is to be made now; else for how many seconds to put the object off, on average.
        """
        denial = self._denials.get(place)
        if denial is None or denial.looks < DENIED_IN_A_ROW:
            return None
        every = self.known(place)
        now = asyncio.get_running_loop().time()
        if troubled:
            if now >= denial.next_at:
                denial.next_at = now + (TRICKLE_SECONDS if every else 1 / LOOKS_PER_SECOND)
                return None
        elif not every:
            return None
        elif now >= denial.fresh_at:
            denial.fresh_at = now + 1 / LOOKS_PER_SECOND
            return None
        since = self._started_at(place, denial) if every else denial.since
        return max(HOLD_SHORTEST_SECONDS, min(HOLD_SHARE * (now - since), HOLD_LONGEST_SECONDS))

    def _started_at(self, place: Place, denial: _Denial) -> float:
        return max(denial.since, self._last_answer(place))

    def _last_answer(self, place: Place) -> float:
        at = self._answered_at.get(place)
        return -math.inf if at is None else at

    def tidy(self) -> None:
        """Forget buckets at which nobody looks any more, and show nothing of them."""
        lately = asyncio.get_running_loop().time() - FORGOTTEN_SECONDS
        for place in [one for one, denial in self._denials.items() if denial.denied_at < lately]:
            self._forget(place)

    def _forget(self, place: Place) -> None:
        if self._denials.pop(place).shown and not self._shown(place[0]):
            self._meters.unset(catalogue.ACCESS_DENIED, place[0])

    def _shown(self, bucket: str) -> bool:
        """Return whether any bucket of a name is shown as one that denies every look."""
        return any(one.shown for (name, _), one in self._denials.items() if name == bucket)

    def put_off(self, place: Place) -> None:
        """Count an object of a bucket that denies looks as put off."""
        self._denials[place].put_off += 1

    def told(self, place: Place, sight: Sight, *, troubled: bool) -> None:
        """Take in what a look at a bucket showed.

        Args:
            place: the bucket that was looked at.
            sight: what it showed.
            troubled: whether the object's look before had told nothing.
        """
        if sight.answered:
            self._answered(place, troubled=troubled)
        elif sight is Sight.DENIED:
            self._denied(place)

    def _answered(self, place: Place, *, troubled: bool) -> None:
        self._answered_at.put(place, asyncio.get_running_loop().time())
        if not self._denials:
            return
        denial = self._denials.get(place)
        if denial is None:
            return
        denial.in_a_row = denial.denied = denial.put_off = 0
        if denial.shown:
            denial.shown, denial.told_at = False, -math.inf
            self._meters.set(catalogue.ACCESS_DENIED, place[0], value=self._shown(place[0]))
            log.info("bucket_access_restored", **_named(place))
        denial.answers += troubled
        if denial.looks < DENIED_IN_A_ROW or denial.answers >= ANSWERED_IN_A_ROW:
            del self._denials[place]

    def _denied(self, place: Place) -> None:
        now = asyncio.get_running_loop().time()
        denial = self._denials.pop(place, None) or _Denial(since=now)
        self._denials[place] = denial  # the one longest not denied is first
        if len(self._denials) > MOST:
            self._forget(next(iter(self._denials)))
        denial.denied_at = now
        denial.looks += 1
        denial.in_a_row += 1
        denial.denied += 1
        denial.answers = 0
        if not self.known(place):
            return
        self._meters.set(catalogue.ACCESS_DENIED, place[0], value=1)
        denial.shown = True
        if now - denial.told_at < REMINDER_SECONDS or not self._may_log(now):
            return
        log.warning(
            "bucket_access_denied",
            **_named(place),
            looks_denied=denial.denied,
            objects_put_off=denial.put_off,
            for_seconds=round(now - self._started_at(place, denial)),
            advice=advice(self._stores.of(place[0])),
        )
        denial.told_at = now
        denial.denied = denial.put_off = 0

    def _may_log(self, now: float) -> bool:
        """Take a place among the lines of this minute, if there is one."""
        if len(self._lines) == LINES and now - self._lines[0] < REMINDER_SECONDS:
            return False
        self._lines.append(now)
        return True
