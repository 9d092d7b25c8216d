"""From what was measured to a billion objects a day: replicas, units, walls, dollars. Computed; docs/scaling.md shows it.

Whoever measured again changes what stands under "Measured" and calls `make docs`: scaling_page.py writes the tables.

    python bench/scaling.py     what `Traffic` says, simulated again
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

import dynamodb_units as units
from crrmon.config.intake import Intake
from crrmon.config.ledger import LedgerSettings
from crrmon.config.report import Report
from crrmon.config.settings import Polling
from crrmon.domain.deployment import prices
from crrmon.domain.policy import Policy

DAY_SECONDS = 86_400
MONTH_DAYS = 30
MONTH_HOURS = 730
MILLION = 1e6
GB = 1e9


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """How the objects of a replication are looked at, in steady state; `main` simulates it."""

    name: str
    heads: float
    """HEADs for an object."""
    parked: float
    """Share of the objects that are parked."""
    polls: float
    """HEADs for each of these, after it was parked."""
    held_seconds: float
    """For how long a message is held until its first look, on average over all."""


class Microseconds(msgspec.Struct, frozen=True, kw_only=True):
    """What an item takes, by operation of the ledger."""

    seen: float
    settle: float
    """At the first look."""
    park: float
    due: float
    reschedule: float
    settle_parked: float

    def of_object(self, traffic: Traffic) -> float:
        """Return what an object takes in all."""
        again = self.due * traffic.polls + self.reschedule * (traffic.polls - 1)
        late = self.park + self.settle_parked + again
        return self.seen + self.settle * (1 - traffic.parked) + late * traffic.parked


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of ledger."""

    name: str
    cpu: Microseconds
    """Of the daemon."""
    mark_bytes: int
    """Kept for each object that was counted, while it is remembered."""


# ---- Measured ----

QUICK = Traffic(name="quick", heads=1.27, parked=0.172, polls=1.56, held_seconds=12.2)
SLOW = Traffic(name="slow", heads=1.91, parked=1.0, polls=1.88, held_seconds=0.0)
"""Medians of 5 and 120 s, told of by S3's notifications 0.5 to 3 s after the write. `bench/scaling.py`."""

CPU_MS = 0.57
"""For an object that is settled at its first look: all of the daemon, SQLite, TLS. `bench/daemon.py`."""
CPU_MS_HEAD = 0.21
"""For one HEAD more, TLS. `bench/calls.py`."""
RECEIVES, DELETES = 0.100, 0.100
"""Calls for an object. `bench/daemon.py`."""
BYTES_PER_OBJECT = 5_950
"""On the network, both ways, TLS, with a session token of 900 characters and events of CloudTrail; settled at its first
look. `bench/daemon.py` on a loopback interface of its own."""
RESIDENT_MIB = 130
"""At the peak, with a million parked in SQLite. `bench/daemon.py`."""
FACT_KIB = 2
"""For each fact that is held: the setting's own word."""

SQLITE = Ledger(
    name="SQLite",
    cpu=Microseconds(seen=14, settle=31, park=34, due=7, reschedule=38, settle_parked=49),
    mark_bytes=142,
)
REDIS = Ledger(
    name="Redis",
    cpu=Microseconds(seen=6, settle=23, park=25, due=12, reschedule=35, settle_parked=52),
    mark_bytes=171,
)
DYNAMODB = Ledger(
    name="DynamoDB",
    cpu=Microseconds(seen=18, settle=75, park=100, due=233, reschedule=103, settle_parked=188),
    mark_bytes=328,
)
LEDGERS = (SQLITE, REDIS, DYNAMODB)
"""With a million parked, DynamoDB with 10,000. `bench/ledgers.py`, and `bench/marks.py` for the marks."""
REDIS_SERVER = Microseconds(
    seen=1e6 / 75e3,
    settle=1e6 / 22e3,
    park=1e6 / 13e3,
    due=1e6 / 31e3,
    reschedule=1e6 / 10e3,
    settle_parked=1e6 / 6e3,
)
"""Of a server's time, at the most: one client that waits for each batch. `bench/ledgers.py`."""

# ---- AWS's quotas ----

HEADS_PER_PREFIX = 5_500
"""GET and HEAD a second."""
REPLICATION_HEADS = 5
"""Of these, S3's own for each object that replicates, at the most."""
QUEUE_IN_FLIGHT = 120_000
TABLE_WRITES = 40_000
"""Write units a second of a table on demand, unless the quota was raised."""
NEW_TABLE_WRITES = 4_000
"""That a new table takes from the first second on."""
PARTITION_WRITES = 1_000
JOURNAL_PARTITIONS = 4
EVENTBRIDGE: Mapping[str, int] = {
    "us-east-1, us-west-2, eu-west-1": 18_750,
    "us-east-2, eu-central-1, eu-south-2": 4_500,
    "six others": 2_250,
    "eight others": 1_100,
    "all others": 750,
}
"""Invocations a second, of an account in a region."""

# ---- Chosen ----

PEAK = 3.0
"""How many times the average the busiest minutes are."""
BUSY = 0.7
"""Share of a core that is planned to be used at the peak."""
SPARE = 1
"""Replicas beyond those that the peak needs, where there are several: one may be away."""
TASK_VCPUS, TASK_GB = 1.0, 2.0
"""Fargate has no less memory for a whole core."""
ROUTES = 10
"""Pairs of buckets, each with a source of its own."""
DAYS = (1e6, 1e7, 1e8, 1e9)
"""Objects a day that the tables are for."""

_HOLD_SECONDS = Intake().hold_seconds
_MAX_IN_FLIGHT = Intake().max_in_flight
_PER_BUCKET = Polling().per_bucket_per_second
_SHARDS = LedgerSettings().shards
_RETENTION_DAYS = LedgerSettings().dedup_retention_days
_WINDOW_SECONDS = Report().window_seconds
_GAUGES_SECONDS = 10.0
"""Between two times that the reporting replica reads the journal."""


# ---- The arithmetic ----


def average(objects: float) -> float:
    """Return how many objects come in a second on average, of so many a day."""
    return objects / DAY_SECONDS


def a_day(per_second: float) -> float:
    """Return how many objects a day have this many a second at their peak."""
    return per_second / PEAK * DAY_SECONDS


def cpu_milliseconds(traffic: Traffic, ledger: Ledger) -> float:
    """Return the daemon's CPU time for an object."""
    without_ledger = CPU_MS - (SQLITE.cpu.seen + SQLITE.cpu.settle) / 1e3
    more_heads = (traffic.heads - 1) * CPU_MS_HEAD
    return without_ledger + more_heads + ledger.cpu.of_object(traffic) / 1e3


def per_replica(traffic: Traffic, ledger: Ledger) -> float:
    """Return how many objects a second one replica is planned to follow."""
    return BUSY * 1e3 / cpu_milliseconds(traffic, ledger)


def ledgers_for(objects: float, traffic: Traffic) -> Sequence[Ledger]:
    """Return the ledgers that so many objects a day can have: SQLite while one replica is enough."""
    one = PEAK * average(objects) <= per_replica(traffic, SQLITE)
    return (SQLITE,) if one else (REDIS, DYNAMODB)


def replicas(objects: float, traffic: Traffic, ledger: Ledger) -> int:
    """Return how many replicas follow so many objects a day."""
    if ledger is SQLITE:
        return 1
    return math.ceil(PEAK * average(objects) / per_replica(traffic, ledger)) + SPARE


def units_per_object(traffic: Traffic) -> tuple[float, float]:
    """Return DynamoDB's write and read units for an object, in full batches."""
    one = units.Object()
    parked = _between(one.parked(0), one.parked(1), traffic.polls - 1)
    return _between(one.first_look, parked, traffic.parked)


def _between(
    start: tuple[float, float], end: tuple[float, float], share: float
) -> tuple[float, float]:
    writes, reads = (one + (other - one) * share for one, other in zip(start, end, strict=True))
    return writes, reads


def journal_entries(per_second: float) -> float:
    """Return how many entries the journal has on DynamoDB when a window ends, in full batches."""
    return per_second / units.Object().batch * _WINDOW_SECONDS


def journal_reads(objects: float) -> float:
    """Return the read units in a month of whoever shows the gauges: it reads all entries, on average of half a window."""
    read = journal_entries(average(objects)) / 2 * units.Object().entry / 4096
    return read * MONTH_DAYS * DAY_SECONDS / _GAUGES_SECONDS


def redis_per_second(traffic: Traffic) -> float:
    """Return how many objects a second one Redis server takes at least."""
    return 1e6 / REDIS_SERVER.of_object(traffic)


def remembered_gb(objects: float, ledger: Ledger) -> float:
    """Return the size of the marks of so many objects a day."""
    return objects * _RETENTION_DAYS * ledger.mark_bytes / GB


def memory_mib(objects: float, traffic: Traffic, ledger: Ledger) -> float:
    """Return the memory of a replica at the peak, if it may hold all that is in flight."""
    held = PEAK * average(objects) * traffic.held_seconds / replicas(objects, traffic, ledger)
    return RESIDENT_MIB + held * FACT_KIB / 1024


def metrics() -> float:
    """Return how many metrics CloudWatch gets, however many objects there are."""
    return 9 * ROUTES + 2 * ROUTES + 2


# ---- Dollars a month ----


def call_dollars(heads: float) -> float:
    """Return the price of the daemon's own calls for a million objects, with so many HEADs for each."""
    return heads * prices.PER_MILLION_HEADS + (RECEIVES + DELETES) * prices.PER_MILLION_SQS


def request_dollars(traffic: Traffic) -> float:
    """Return the price of all requests for a million objects: S3's own to the queue, and the daemon's."""
    return prices.PER_MILLION_SQS + call_dollars(traffic.heads)


def task_dollars(number: int) -> float:
    """Return the price of replicas on Fargate."""
    hour = TASK_VCPUS * prices.PER_VCPU_HOUR + TASK_GB * prices.PER_GB_HOUR
    return number * MONTH_HOURS * hour


def dynamodb_dollars(objects: float, traffic: Traffic, number: int) -> float:
    """Return the price of a table: units of objects, of the journal's readings, of idling; and what it stores."""
    writes, reads = units_per_object(traffic)
    month = objects * MONTH_DAYS
    journal = journal_reads(objects)
    idle = sum(prices.of_units(*each) for each in units.idle(replicas=number).values())
    stored = remembered_gb(objects, DYNAMODB) * prices.PER_STORED_GB
    return prices.of_units(writes * month, reads * month + journal) + idle + stored


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars a month."""

    tasks: float
    requests: float
    ledger: float
    """Of DynamoDB; a disk or a Redis server is not in it."""
    metrics: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.tasks + self.requests + self.ledger + self.metrics


def bill(objects: float, traffic: Traffic, ledger: Ledger) -> Bill:
    """Return what so many objects a day cost in a month with a ledger."""
    number = replicas(objects, traffic, ledger)
    return Bill(
        tasks=task_dollars(number),
        requests=objects * MONTH_DAYS / MILLION * request_dollars(traffic),
        ledger=dynamodb_dollars(objects, traffic, number) if ledger is DYNAMODB else 0.0,
        metrics=prices.of_metrics(metrics()),
    )


# ---- Walls ----


class Wall(msgspec.Struct, frozen=True, kw_only=True):
    """What ends at so many objects a second."""

    name: str
    per_second: float
    by_replica: bool = False
    """Whether each replica has one of its own, and so a fleet as many times as much."""
    ledger: Ledger | None = None
    """The only one that has it; None for all."""
    remedy: str


def walls(traffic: Traffic) -> Sequence[Wall]:
    """Return all that is known where everything is in one bucket, prefix and queue; the lowest first."""
    found = [*_of_aws(traffic), *_of_settings(traffic), *_of_ledgers(traffic)]
    return sorted(found, key=lambda wall: wall.per_second)


def _of_aws(traffic: Traffic) -> Iterator[Wall]:
    yield Wall(
        name="one S3 prefix",
        per_second=HEADS_PER_PREFIX / (REPLICATION_HEADS + traffic.heads),
        remedy="[more prefixes](#s3)",
    )
    if traffic.held_seconds:
        yield Wall(
            name="SQS in flight",
            per_second=QUEUE_IN_FLIGHT / traffic.held_seconds,
            remedy="[several queues](#sqs)",
        )


def _of_settings(traffic: Traffic) -> Iterator[Wall]:
    yield Wall(
        name="`polling.per_bucket_per_second`",
        by_replica=True,
        per_second=_PER_BUCKET / traffic.heads,
        remedy="[raise it](#s3)",
    )
    if traffic.held_seconds:
        yield Wall(
            name="`intake.max_in_flight`",
            by_replica=True,
            per_second=_MAX_IN_FLIGHT / traffic.held_seconds,
            remedy="[raise it](#sqs)",
        )


def _of_ledgers(traffic: Traffic) -> Iterator[Wall]:
    writes, _ = units_per_object(traffic)
    one = units.Object()
    yield Wall(
        name="a new DynamoDB table",
        ledger=DYNAMODB,
        per_second=NEW_TABLE_WRITES / writes,
        remedy="[let it grow](#dynamodb)",
    )
    yield Wall(
        name="the DynamoDB table's quota",
        ledger=DYNAMODB,
        per_second=TABLE_WRITES / writes,
        remedy="[have it raised](#dynamodb)",
    )
    yield Wall(
        name="the DynamoDB journal",
        ledger=DYNAMODB,
        per_second=JOURNAL_PARTITIONS * PARTITION_WRITES / one.entry_writes * one.batch,
        remedy="[a second monitor](#dynamodb)",
    )
    yield Wall(
        name="one Redis server",
        ledger=REDIS,
        per_second=redis_per_second(traffic),
        remedy="[a cluster](#redis)",
    )
    for ledger in (REDIS, DYNAMODB):
        yield Wall(
            name=f"`ledger.shards` with {ledger.name}",
            ledger=ledger,
            per_second=_SHARDS * per_replica(traffic, ledger),
            remedy="[more of them](#replicas)",
        )


def reached(objects: float, traffic: Traffic, ledger: Ledger) -> Sequence[Wall]:
    """Return the walls that so many objects a day run into at their peak, the first one first."""
    number = replicas(objects, traffic, ledger)
    there = [
        replace(wall, per_second=wall.per_second * (number if wall.by_replica else 1))
        for wall in walls(traffic)
        if wall.ledger in (None, ledger)
    ]
    passed = [wall for wall in there if wall.per_second < PEAK * average(objects)]
    return sorted(passed, key=lambda wall: wall.per_second)


# ---- Simulated ----


def simulated() -> Iterator[tuple[str, Traffic]]:
    """Simulate how objects are looked at that are told of by S3's notifications, and by CloudTrail."""
    import pacing  # noqa: PLC0415 - it draws, and takes longer to import than all else here to compute

    for scenario in pacing.SCENARIOS[:2]:
        for channel, delay in (
            ("notifications", (0.5, 3.0)),
            ("CloudTrail", scenario.event_delay),
        ):
            told = replace(scenario, event_delay=delay)
            followed = [one for one in pacing.follow(told, Policy()).objects if one.steady]
            looks = [Looks(one.first_look_at - one.known_at, one.looks) for one in followed]
            yield channel, summed_up(scenario.name, looks)


class Looks(msgspec.Struct, frozen=True):
    """How one object was looked at."""

    waited_seconds: float
    """From its event to the first look."""
    number: int


def summed_up(name: str, looks: Sequence[Looks]) -> Traffic:
    """Return what objects have in common that were looked at like this: later than may be held is parked at once."""
    at_once = [one.waited_seconds > _HOLD_SECONDS for one in looks]
    polls = [one.number - (not parked) for one, parked in zip(looks, at_once, strict=True)]
    parked = [number for number in polls if number]
    held = sum(one.waited_seconds for one, early in zip(looks, at_once, strict=True) if not early)
    return Traffic(
        name=name,
        heads=sum(one.number for one in looks) / len(looks),
        parked=len(parked) / len(looks),
        polls=sum(parked) / len(parked),
        held_seconds=held / len(looks),
    )


def main() -> None:
    """Print what `Traffic` says."""
    for channel, traffic in simulated():
        print(f"{channel}: {traffic}")


if __name__ == "__main__":
    main()
