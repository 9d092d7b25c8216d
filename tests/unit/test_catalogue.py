"""Every metric: named as Prometheus and CloudWatch have it, with labels that stay few."""

import re
from pathlib import Path

import pytest

from crrmon.domain import catalogue
from crrmon.domain.catalogue import CLOUDWATCH_METRICS, METRICS
from crrmon.domain.metric import CloudWatchMetric, Kind, Metric, Unit

SOURCES = Path(catalogue.__file__).parents[1]

BOUNDED = {
    "account",
    "age",
    "bucket",
    "cause",
    "channel",
    "dependency",
    "reason",
    "source_bucket",
    "state",
    "destination_bucket",
    "queue",
    "status",
    "kind",
    "result",
    "target",
    "operation",
    "loop",
    "version",
}
"""Labels whose values are few: what is monitored, and words of the program. A new one belongs here only if it is such."""

UNITS = ("_seconds", "_bytes", "_ratio")
each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
each_cloudwatch = pytest.mark.parametrize(
    "metric", CLOUDWATCH_METRICS, ids=lambda metric: metric.name
)


def test_names_are_unique() -> None:
    """No two metrics share a name, nor the name under which Prometheus knows a counter."""
    names = [metric.name.removesuffix("_total") for metric in METRICS]
    assert len(names) == len(set(names))
    in_cloudwatch = [metric.name for metric in CLOUDWATCH_METRICS]
    assert len(in_cloudwatch) == len(set(in_cloudwatch))


@each
def test_names_follow_the_conventions(metric: Metric) -> None:
    """One prefix, base units at the end, `_total` on counters and on nothing else."""
    assert re.fullmatch(r"crrmon(_[a-z][a-z0-9]*)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert not re.search(r"_(ms|millis|minutes|hours|days|kb|mb|percent)(_|$)", metric.name)
    base = metric.name.removesuffix("_total")
    for word in ("duration", "latency", "age", "lag"):
        if f"_{word}" in base.removesuffix("_by_age") and metric.kind is not Kind.COUNTER:
            assert base.endswith(UNITS)


@each
def test_meanings_are_sentences(metric: Metric) -> None:
    """Whoever reads the page learns what is counted."""
    assert metric.meaning[0].isupper()
    assert metric.meaning.endswith(".")
    assert "\n" not in metric.meaning


@each
def test_invariant_8_labels_are_bounded(metric: Metric) -> None:
    """Invariant 8: no label could hold an object key or a version id; `version` is the program's, of one metric."""
    assert set(metric.labels) <= BOUNDED
    assert len(metric.labels) == len(set(metric.labels))
    assert "version" not in metric.labels or metric is catalogue.BUILD_INFO


@each
def test_buckets(metric: Metric) -> None:
    """A histogram has bounds that rise; nothing else has any."""
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(0 < bound < float("inf") for bound in metric.buckets)


@each
def test_what_is_the_fleets_can_be_withdrawn(metric: Metric) -> None:
    """Invariant 9: only gauges can be taken away when the role is lost."""
    assert not metric.fleet or metric.kind is Kind.GAUGE


def test_what_stands_open_is_the_fleets() -> None:
    """Invariant 9: everything that is read from the shared ledger would double if each daemon showed it."""
    fleet = {metric.name for metric in METRICS if metric.fleet}
    assert fleet >= {
        "crrmon_pending_objects",
        "crrmon_pending_bytes",
        "crrmon_stuck_objects",
        "crrmon_failed_objects",
        "crrmon_oldest_pending_timestamp_seconds",
        "crrmon_unsent_windows",
    }


def test_every_metric_is_used() -> None:
    """What stands in the catalogue is measured somewhere; a metric that nobody sets is a promise broken."""
    program = "\n".join(
        path.read_text(encoding="utf-8")
        for path in SOURCES.rglob("*.py")
        if path != Path(catalogue.__file__)
    )
    names = {
        name
        for name, value in vars(catalogue).items()
        if isinstance(value, Metric | CloudWatchMetric)
    }
    assert len(names) == len(METRICS) + len(CLOUDWATCH_METRICS)
    assert {name for name in names if f"catalogue.{name}" not in program} == set()


@each_cloudwatch
def test_cloudwatch_names_and_dimensions(metric: CloudWatchMetric) -> None:
    """Names in CloudWatch's style; dimensions are buckets or the monitor, never an object's."""
    assert re.fullmatch(r"([A-Z][a-z]+)+", metric.name)
    assert metric.dimensions in {("SourceBucket",), ("SourceBucket", "DestBucket"), ("Monitor",)}
    assert metric.meaning.endswith(".")


def test_d39_the_originals_names_live_on_with_units() -> None:
    """D39: alarms on the original's three metrics go on working, and every metric has a unit now."""
    found = {metric.name: (metric.dimensions, metric.unit) for metric in CLOUDWATCH_METRICS}
    pair = ("SourceBucket", "DestBucket")
    assert found["ReplicationObjects"] == (pair, Unit.COUNT)
    assert found["ReplicationSpeed"] == (pair, Unit.BYTES_PER_SECOND)
    assert found["FailedReplications"] == (("SourceBucket",), Unit.COUNT)
    assert found["ReplicationLatency"] == (pair, Unit.SECONDS)
    assert found["ReplicatedBytes"] == (pair, Unit.BYTES)
