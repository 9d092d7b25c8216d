"""What will be written, how each replication goes, whether it fails and is repaired, and when its events arrive.

All chance of the sandbox is here: the same seed makes the same plan.
"""

import enum
import math
import random
from collections.abc import Iterator
from itertools import count

import msgspec

from crrmon.domain.events.facts import Operation
from crrmon.sandbox.world import SandboxRule, World

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
"""The only writes with which a malformed message goes: each takes its way to the dead-letter queue."""
KEYS_REMEMBERED = 200
DELETED_SHARE = 0.04
"""Of the covered versions: deleted for good before they replicated anywhere."""
DELETED_WITHIN_SECONDS = (0.5, 4.0)
MARKER_SHARE = 0.04
"""Of the writes: before them, a delete marker is created over some other key of the bucket."""
FAILS_EVERYWHERE_SHARE = 0.4
"""Of the failures of versions with several destinations: the others fail at one of them only."""

REASONS = (
    "DstPutObjectNotPermitted",
    "DstKmsKeyNotFound",
    "SrcGetObjectNotPermitted",
    "DstBucketUnversioned",
    "AssumeRoleNotPermitted",
)
"""Why S3 gives up; some of its codes."""

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
    """Messages that concern no object written."""

    READ = "read"
    DENIED_WRITE = "denied_write"
    TEST_EVENT = "test_event"
    BATCH_DELETE = "batch_delete"
    MALFORMED = "malformed"


HARMLESS = tuple(one for one in Stray if one is not Stray.MALFORMED)


class Chances(msgspec.Struct, frozen=True, kw_only=True):
    """How replication and delivery behave."""

    fail: float = 0.02
    """Share of the covered objects whose replication fails, at one destination at least."""
    repair: float = 0.5
    """Share of those failures that somebody repairs, once they were reported."""
    median: float = 3.0
    """Seconds that half of the replications take at most."""
    spread: float = 1.0
    """Sigma of the lognormal distribution of that time."""
    event_delay: float = 2.0
    """Most events arrive between a tenth of this and this many seconds after what they tell of."""
    uncovered: float = 0.25
    """Share of the objects of a bucket whose rule has a prefix that do not get it."""


Deliveries = tuple[tuple[float, ...], ...]
"""Seconds after the event at which its messages arrive, for each channel of its bucket: once each, or more often."""


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """What happens on the way to one destination."""

    rule: str
    destination: str
    seconds: float
    """From the write until it arrives or fails."""
    reason: str = ""
    """Why it fails; the empty string when it arrives."""
    notice: tuple[float, ...] = ()
    """Seconds after the failure at which S3's notice of it arrives."""
    repair_seconds: float = 0.0
    """From the restart until it arrives after all."""
    deliveries: Deliveries = ()
    """Of the replica's event."""


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """A version's end before it replicated."""

    seconds: float
    deliveries: Deliveries


class Marking(msgspec.Struct, frozen=True, kw_only=True):
    """A delete marker over a key."""

    key: str
    deliveries: Deliveries
    passages: tuple[Passage, ...]
    """To where delete markers replicate; none of these fails."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One write to come, and all that follows from it."""

    bucket: str
    key: str
    operation: Operation
    size: int
    copy_of: str | None
    """Key in the same bucket, written before."""
    passages: tuple[Passage, ...]
    """Empty when no rule covers the key, or the version is deleted before it gets anywhere."""
    deletion: Deletion | None
    repaired: bool
    """Whether somebody repairs what fails."""
    restart: tuple[float, ...]
    """Seconds after that begins at which its event arrives."""
    marking: Marking | None
    """What is done in the bucket before the write."""
    deliveries: Deliveries
    """Of the write's events."""
    strays: tuple[Stray, ...]
    """Messages that arrive with the first delivery."""
    chance: int
    """For ids that are to look random."""

    @property
    def fails(self) -> bool:
        """Whether it fails anywhere."""
        return any(passage.reason for passage in self.passages)


def plan(world: World, chances: Chances, *, seed: int) -> Iterator[Planned]:
    """Plan writes without end."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    known: dict[str, dict[str, int]] = {bucket.name: {} for bucket in world.sources}
    weights = [bucket.weight for bucket in world.sources]
    for number in count():
        (source,) = rng.choices(world.sources, weights)
        bucket = source.name
        sizes = known[bucket]
        marking = _marking(rng, world, chances, bucket, sizes)
        operation = _operation(rng, sizes)
        copy_of = rng.choice(list(sizes)) if operation is Operation.COPY else None
        size = _size(rng) if copy_of is None else sizes[copy_of]
        key = _key(rng, world, bucket, number, sizes, uncovered=chances.uncovered)
        sizes.pop(key, None)
        passages = _passages(rng, world, chances, bucket, key)
        deletion = None
        if passages and rng.random() < DELETED_SHARE:
            deletion, passages = _deletion(rng, world, chances, bucket), ()
        else:
            sizes[key] = size  # what is gone tomorrow is nothing to copy from
        if len(sizes) > KEYS_REMEMBERED:
            del sizes[next(iter(sizes))]
        yield Planned(
            bucket=bucket,
            key=key,
            operation=operation,
            size=size,
            copy_of=copy_of,
            passages=passages,
            deletion=deletion,
            repaired=rng.random() < chances.repair,
            restart=_delivery(rng, chances.event_delay),
            marking=marking,
            deliveries=_deliveries(rng, world, chances, bucket),
            strays=_strays(rng, number),
            chance=rng.getrandbits(128),
        )


def _marking(
    rng: random.Random, world: World, chances: Chances, bucket: str, sizes: dict[str, int]
) -> Marking | None:
    if not sizes or rng.random() >= MARKER_SHARE:
        return None
    key = rng.choice(list(sizes))
    del sizes[key]
    return Marking(
        key=key,
        deliveries=_deliveries(rng, world, chances, bucket),
        passages=tuple(
            _passage(rng, world, chances, rule)
            for rule in world.covering(bucket, key)
            if rule.delete_markers
        ),
    )


def _passages(
    rng: random.Random, world: World, chances: Chances, bucket: str, key: str
) -> tuple[Passage, ...]:
    rules = world.covering(bucket, key)
    failing: list[SandboxRule] = []
    if rules and rng.random() < chances.fail:
        everywhere = rng.random() < FAILS_EVERYWHERE_SHARE
        failing = list(rules) if everywhere else [rng.choice(rules)]
    passages = []
    for rule in rules:
        passage = _passage(rng, world, chances, rule)
        if rule in failing:
            passage = msgspec.structs.replace(
                passage,
                reason=rng.choice(REASONS),
                notice=_delivery(rng, chances.event_delay),
                repair_seconds=_replication_seconds(rng, chances),
            )
        passages.append(passage)
    return tuple(passages)


def _passage(rng: random.Random, world: World, chances: Chances, rule: SandboxRule) -> Passage:
    return Passage(
        rule=rule.id,
        destination=rule.destination,
        seconds=_replication_seconds(rng, chances),
        deliveries=_deliveries(rng, world, chances, rule.destination),
    )


def _deletion(rng: random.Random, world: World, chances: Chances, bucket: str) -> Deletion:
    return Deletion(
        seconds=rng.uniform(*DELETED_WITHIN_SECONDS),
        deliveries=_deliveries(rng, world, chances, bucket),
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
    prefix = world.rules_of(bucket)[0].prefix
    if prefix and rng.random() < uncovered:
        prefix = "scratch/"
    return prefix + rng.choice(KEYS).format(n=number)


def _replication_seconds(rng: random.Random, chances: Chances) -> float:
    return min(rng.lognormvariate(math.log(chances.median), chances.spread), LONGEST_SECONDS)


def _deliveries(rng: random.Random, world: World, chances: Chances, bucket: str) -> Deliveries:
    return tuple(_delivery(rng, chances.event_delay) for _ in world.bucket(bucket).channels)


def _delivery(rng: random.Random, longest: float) -> tuple[float, ...]:
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
    """One kill -9 to come."""

    after: float
    """Share of the objects that are written before."""
    victim: int
    """Index of a replica, or SERVER."""


def kills(number: int, *, replicas: int, server: bool, rng: random.Random) -> list[Kill]:
    """Plan kills at random moments, of the replicas in turn.

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
