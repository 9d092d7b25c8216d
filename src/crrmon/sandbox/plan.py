"""What will be written, how long each replication takes, whether it fails and when its event arrives.

All chance of the sandbox is here: the same seed makes the same plan.
"""

import enum
import math
import random
from collections.abc import Iterator
from itertools import count

import msgspec

from crrmon.domain.events import Operation
from crrmon.sandbox.world import World

LARGEST_BYTES = 65_536
LONGEST_SECONDS = 60.0
"""No replication takes longer; the tail ends here."""
COPY_SHARE = 0.10
MULTIPART_SHARE = 0.08
EMPTY_SHARE = 0.02
OVERWRITE_SHARE = 0.12
DUPLICATE_SHARE = 0.03
LATE_SHARE = 0.03
LATE_SECONDS = 6.0
STRAY_SHARE = 0.10
MALFORMED_AT = (4, 24, 49)
"""The only writes that are accompanied by a malformed message: each takes its way to the dead-letter queue."""
KEYS_REMEMBERED = 200

KEYS = (
    "{n:06}.bin",
    "2026/03/invoice {n}.pdf",
    "ünïcödé/Ω-{n}/日本",
    "emoji-🎉-{n}",
    "plus+and%2Fpercent%20{n}",
    "quotes'\"<&>{n}",
    "tab\tand delete\x7f{n}",
    "punctuation;:,?q=1#{n}!*()~@$[]",
    "//double//slashes//{n}/",
    "back\\slash-{n}",
)


class Stray(enum.StrEnum):
    """
    Messages that concern no object written.
    """

    READ = "read"
    DENIED_WRITE = "denied_write"
    TEST_EVENT = "test_event"
    BATCH_DELETE = "batch_delete"
    MALFORMED = "malformed"


HARMLESS = tuple(one for one in Stray if one is not Stray.MALFORMED)


class Chances(msgspec.Struct, frozen=True, kw_only=True):
    """
    How replication and delivery behave.
    """

    fail: float = 0.02
    """Share of the covered objects whose replication fails."""
    median: float = 3.0
    """Seconds that half of the replications take at most."""
    spread: float = 1.0
    """Sigma of the lognormal distribution of that time."""
    event_delay: float = 2.0
    """Most events arrive between a tenth of this and this many seconds after the write."""
    uncovered: float = 0.25
    """Share of the objects of a bucket whose rule has a prefix that do not get it."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """
    One write to come, and all that follows from it.
    """

    bucket: str
    key: str
    operation: Operation
    size: int
    copy_of: str | None
    """Key in the same bucket, written before."""
    replication_seconds: float
    fails: bool
    deliveries: tuple[float, ...]
    """Seconds after the write at which its event arrives: once, or more often."""
    strays: tuple[Stray, ...]
    """Messages that arrive with the first delivery."""
    chance: int
    """For ids that are to look random."""


def plan(world: World, chances: Chances, *, seed: int) -> Iterator[Planned]:
    """
    Plan writes without end.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation
    known: dict[str, dict[str, int]] = {bucket.name: {} for bucket in world.sources}
    for number in count():
        bucket = rng.choice(world.sources).name
        sizes = known[bucket]
        operation = _operation(rng, sizes)
        copy_of = rng.choice(list(sizes)) if operation is Operation.COPY else None
        size = _size(rng) if copy_of is None else sizes[copy_of]
        key = _key(rng, world, bucket, number, sizes, uncovered=chances.uncovered)
        sizes.pop(key, None)
        sizes[key] = size
        if len(sizes) > KEYS_REMEMBERED:
            del sizes[next(iter(sizes))]
        yield Planned(
            bucket=bucket,
            key=key,
            operation=operation,
            size=size,
            copy_of=copy_of,
            replication_seconds=_replication_seconds(rng, chances),
            fails=rng.random() < chances.fail,
            deliveries=_deliveries(rng, chances.event_delay),
            strays=_strays(rng, number),
            chance=rng.getrandbits(128),
        )


def _operation(rng: random.Random, sizes: dict[str, int]) -> Operation:
    chance = rng.random()
    if chance < MULTIPART_SHARE:
        return Operation.MULTIPART
    if chance < MULTIPART_SHARE + COPY_SHARE and sizes:
        return Operation.COPY
    return Operation.PUT


def _size(rng: random.Random) -> int:
    if rng.random() < EMPTY_SHARE:
        return 0
    return round(math.exp(rng.uniform(0.0, math.log(LARGEST_BYTES))))


def _key(
    rng: random.Random,
    world: World,
    bucket: str,
    number: int,
    sizes: dict[str, int],
    *,
    uncovered: float,
) -> str:
    if sizes and rng.random() < OVERWRITE_SHARE:
        return rng.choice(list(sizes))
    rule = world.rule(bucket)
    prefix = rule.prefix if rule else ""
    if prefix and rng.random() < uncovered:
        prefix = "scratch/"
    return prefix + rng.choice(KEYS).format(n=number)


def _replication_seconds(rng: random.Random, chances: Chances) -> float:
    return min(rng.lognormvariate(math.log(chances.median), chances.spread), LONGEST_SECONDS)


def _deliveries(rng: random.Random, longest: float) -> tuple[float, ...]:
    first = rng.uniform(longest / 10, longest)
    if rng.random() < LATE_SHARE:
        first += rng.uniform(1.0, LATE_SECONDS)
    if rng.random() < DUPLICATE_SHARE:
        return (first, first + rng.uniform(0.0, LATE_SECONDS))
    return (first,)


def _strays(rng: random.Random, number: int) -> tuple[Stray, ...]:
    strays = (rng.choice(HARMLESS),) if rng.random() < STRAY_SHARE else ()
    return (*strays, Stray.MALFORMED) if number in MALFORMED_AT else strays


SERVER = -1
"""Stands for the ledger's server among the victims."""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """
    One kill -9 to come.
    """

    after: float
    """Share of the objects that are written before."""
    victim: int
    """Index of a replica, or SERVER."""


def kills(number: int, *, replicas: int, server: bool, rng: random.Random) -> list[Kill]:
    """
    Plan kills at random moments, of the replicas in turn.

    Args:
        number: of kills of replicas.
        replicas: how many there are.
        server: whether the ledger's server is killed as well, once in the middle.
        rng: for the moments.
    """
    planned = [
        Kill(after=(one + rng.uniform(0.2, 1.0)) / number, victim=one % replicas)
        for one in range(number)
    ]
    if server and planned:
        planned.append(Kill(after=rng.uniform(0.4, 0.6), victim=SERVER))
    return sorted(planned, key=lambda kill: kill.after)
