"""What a metric is, at Prometheus and at CloudWatch. All there are stand in `catalogue`."""

import enum

import msgspec

_BUCKETS = ("source_bucket", "destination_bucket", "bucket")
"""Labels whose values are names of buckets."""


class Kind(enum.StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """One Prometheus metric."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    fleet: bool = False
    """Published by one replica at a time, for all of them."""

    @property
    def bucket(self) -> int | None:
        """The place of the label that is a bucket of which nothing but its name in a message need be known.

        None where there is no bucket, or a route: these are made by rules, and are as many as there are.
        """
        places = [place for place, name in enumerate(self.labels) if name in _BUCKETS]
        return places[0] if len(places) == 1 else None


class Unit(enum.StrEnum):
    """Units that CloudWatch knows."""

    COUNT = "Count"
    SECONDS = "Seconds"
    BYTES = "Bytes"
    BYTES_PER_SECOND = "Bytes/Second"


class CloudWatchMetric(msgspec.Struct, frozen=True, kw_only=True):
    """One CloudWatch metric."""

    name: str
    unit: Unit
    dimensions: tuple[str, ...]
    meaning: str
