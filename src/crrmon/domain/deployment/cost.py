"""What following replication costs in a month, by the way that events come, before anybody pays for it.

Each amount has a least and a most, which differ where it depends on how long replication takes, or where AWS does not
say what it charges. Where the daemon itself runs, and data that crosses regions, is not in it.
"""

from collections.abc import Mapping, Sequence

import msgspec

from crrmon.domain.deployment import prices
from crrmon.domain.deployment.sources import Source

DAYS = 30
"""Of a month."""
HEADS = (1.27, 1.91)
"""For an object: where the median takes 5 s to replicate, and 120 s. docs/scaling.md has both."""
CALLS_OF_QUEUE = 1.2
"""Requests to SQS for a message: it is sent by itself, and received and deleted by the ten."""
WRITE_UNITS, READ_UNITS = (3.09, 8.83), (1.40, 3.82)
"""Of DynamoDB for an object, as above."""
IDLE_UNITS = (587_520.0, 24_624_000.0)
"""Write and read units a month of a table whose daemon finds nothing to do. docs/performance.md has more of it."""
MARK_BYTES = 328
"""Of an object that was counted, as long as it is remembered."""
METRICS_OF_ROUTE, METRICS_OF_BUCKET, METRICS_OF_MONITOR = 9, 2, 2


class Amount(msgspec.Struct, frozen=True):
    """Dollars a month."""

    least: float
    most: float

    def __add__(self, other: "Amount") -> "Amount":
        """Add two of them up."""
        return Amount(self.least + other.least, self.most + other.most)


class Item(msgspec.Struct, frozen=True):
    """One item of a bill."""

    name: str
    amount: Amount
    what: str
    """What is counted, and at which price."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be followed."""

    objects_per_day: float
    """Written to all source buckets together."""
    buckets: int
    """Source buckets."""
    routes: int
    """Pairs of a source and a destination."""
    arrivals: bool = False
    """Whether destinations tell of replicas: a second event for each object and destination."""
    dynamodb: bool = False
    """Whether the ledger is a table."""
    remembered_days: float = 4.0
    """For how long the ledger knows what it counted."""
    alarms: int = 0
    """That look at one metric each."""
    alarms_of_all: int = 0
    """That look at a metric of every source bucket."""


def total(items: Sequence[Item]) -> Amount:
    """Add a bill up."""
    return sum((item.amount for item in items), Amount(0.0, 0.0))


def bills(usage: Usage) -> Mapping[Source, Sequence[Item]]:
    """Return what it costs if all events come by one way, for each of them."""
    return {source: bill(usage, source) for source in Source}


def bill(usage: Usage, source: Source) -> Sequence[Item]:
    """Return what it costs if all events come by one way; items that cost nothing are left in, for they tell just that.

    Args:
        usage: what is to be followed.
        source: the way.
    """
    millions = usage.objects_per_day * DAYS / 1e6
    copies = usage.routes / usage.buckets if usage.buckets else 0.0
    events = millions * (1 + copies if usage.arrivals else 1)
    return [
        _events(events, source),
        _each("SQS", events * CALLS_OF_QUEUE, prices.PER_MILLION_SQS, "requests"),
        _heads(millions),
        *([_ledger(usage)] if usage.dynamodb else []),
        _metrics(usage),
        _alarms(usage),
    ]


def _events(millions: float, source: Source) -> Item:
    match source:
        case Source.NOTIFICATIONS:
            return Item("events", Amount(0.0, 0.0), "S3 sends notifications free of charge")
        case Source.EVENTBRIDGE:
            return _each("events", millions, prices.PER_MILLION_EVENTBRIDGE, "events of S3")
        case Source.CLOUDTRAIL:
            trail = millions * prices.PER_MILLION_TRAIL
            passed_on = millions * prices.PER_MILLION_EVENTBRIDGE
            return Item(
                "events",
                Amount(trail, trail + passed_on),
                f"{millions:,.1f} M data events at ${prices.PER_MILLION_TRAIL:.2f} a million; AWS does not say"
                " whether EventBridge charges for them as well; what is stored of the trail is not in it",
            )


def _heads(millions: float) -> Item:
    least, most = (millions * heads * prices.PER_MILLION_HEADS for heads in HEADS)
    what = f"{HEADS[0]} to {HEADS[1]} for an object, at ${prices.PER_MILLION_HEADS:.2f} a million"
    return Item("HEAD requests", Amount(least, most), what)


def _ledger(usage: Usage) -> Item:
    objects = usage.objects_per_day * DAYS
    stored = usage.objects_per_day * usage.remembered_days * MARK_BYTES / 1e9
    kept = stored * prices.PER_STORED_GB + prices.of_units(*IDLE_UNITS)
    least, most = (
        kept + prices.of_units(writes * objects, reads * objects)
        for writes, reads in zip(WRITE_UNITS, READ_UNITS, strict=True)
    )
    what = f"{WRITE_UNITS[0]} to {WRITE_UNITS[1]} write units for an object, {stored:,.1f} GB, and what idling takes"
    return Item("DynamoDB", Amount(least, most), what)


def _metrics(usage: Usage) -> Item:
    number = (
        METRICS_OF_ROUTE * usage.routes + METRICS_OF_BUCKET * usage.buckets + METRICS_OF_MONITOR
    )
    dollars = prices.of_metrics(number)
    return Item("metrics", Amount(dollars, dollars), f"{number:,} metrics in CloudWatch")


def _alarms(usage: Usage) -> Item:
    number = usage.alarms + usage.alarms_of_all * usage.buckets
    dollars = number * prices.PER_ALARM_METRIC
    what = f"{number:,} metrics looked at, at ${prices.PER_ALARM_METRIC:.2f} each"
    return Item("alarms", Amount(dollars, dollars), what)


def _each(name: str, millions: float, price: float, of_what: str) -> Item:
    dollars = millions * price
    return Item(
        name, Amount(dollars, dollars), f"{millions:,.1f} M {of_what} at ${price:.2f} a million"
    )
