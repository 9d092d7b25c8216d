"""Prometheus: this process's numbers, rendered from the catalogue.

How many buckets there are series of is bounded here, for all who count; docs/metrics.md says how.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from typing_extensions import override

from crrmon.domain.catalogue import MAX_BUCKETS, METRICS, OTHER_BUCKETS, REPLICATIONS
from crrmon.domain.metric import Kind, Metric
from crrmon.domain.objects import UNKNOWN_DESTINATION

Labels = tuple[str, ...]


class _Histogram:
    """Weights by bucket, the last one without end, and the sum of the values."""

    __slots__ = ("sum", "weights")

    def __init__(self, buckets: int) -> None:
        self.weights = [0.0] * (buckets + 1)
        self.sum = 0.0


class _Buckets:
    """Which buckets have series of their own."""

    def __init__(self) -> None:
        self._places = {metric: metric.bucket for metric in METRICS}
        self._met: dict[Metric, set[str]] = {metric: set() for metric in METRICS}
        self._followed: set[str] = set()
        """Those of routes."""

    def bounded(self, metric: Metric, labels: Labels) -> Labels:
        """Return the labels under which to keep a number: those of all other buckets, where there are too many."""
        place = self._places[metric]
        if place is None or self._known(self._met[metric], labels[place]):
            return labels
        return (*labels[:place], OTHER_BUCKETS, *labels[place + 1 :])

    def gone(self, metric: Metric, labels: Labels) -> None:
        """Give the place of a bucket to others, where a metric has no other label."""
        if len(metric.labels) == 1 and self._places[metric] == 0:
            self._met[metric].discard(labels[0])

    def follow(self, route: Labels) -> None:
        """Distinguish the buckets of a route from those that only messages name."""
        if UNKNOWN_DESTINATION not in route:
            self._followed.update(route)

    def _known(self, met: set[str], bucket: str) -> bool:
        if bucket in met or bucket in self._followed:
            return True
        if len(met) >= MAX_BUCKETS:
            return False
        met.add(bucket)
        return True


class PrometheusMeters(Collector):
    """Keeps the numbers of this process and renders them; implements the meters port.

    Args:
        shows_fleet: tells, whenever a page is made, whether this daemon speaks for the whole fleet. A process that
            stood still for a while must not show what others show by now, not even before its loops go on.
    """

    def __init__(self, *, shows_fleet: Callable[[], bool] = lambda: True) -> None:
        self._shows_fleet = shows_fleet
        self._buckets = _Buckets()
        self._values: dict[Metric, dict[Labels, float]] = {}
        self._histograms: dict[Metric, dict[Labels, _Histogram]] = {}
        for metric in METRICS:
            if metric.kind is Kind.HISTOGRAM:
                self._histograms[metric] = {}
            else:
                # A counter that never counted is 0, not absent.
                counter = metric.kind is Kind.COUNTER and not metric.labels
                self._values[metric] = {(): 0.0} if counter else {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        series = self._values[metric]
        known = series.get(labels)
        if known is None:
            # What has a series keeps it: only what is new need be judged.
            if metric is REPLICATIONS:
                self._buckets.follow(labels[:2])
            labels = self._buckets.bounded(metric, labels)
            known = series.get(labels, 0.0)
        series[labels] = known + amount

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""
        series = self._values[metric]
        if labels in series or self._buckets.bounded(metric, labels) == labels:
            series[labels] = value

    def observe(self, metric: Metric, *labels: str, value: float, weight: float = 1.0) -> None:
        """Add a value to a histogram."""
        series = self._histograms[metric]
        histogram = series.get(labels)
        if histogram is None:
            histogram = series[labels] = _Histogram(len(metric.buckets))
        histogram.weights[bisect_left(metric.buckets, value)] += weight
        histogram.sum += value * weight

    def clear(self, metric: Metric) -> None:
        """Take all series of a gauge away."""
        self._values[metric].clear()

    def unset(self, metric: Metric, *labels: str) -> None:
        """Take one series of a gauge away."""
        if self._values[metric].pop(labels, None) is not None:
            self._buckets.gone(metric, labels)

    def page(self, accept: str) -> tuple[bytes, str]:
        """Render everything for a scraper.

        Args:
            accept: its Accept header: OpenMetrics when asked for, else the older text format.

        Returns:
            The page and its content type.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # The client library stumbles over versions that are none.
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    @override
    def collect(self) -> Iterator[Family]:
        """Render the catalogue's metrics; called by the client library."""
        # Asked when the page is made, not only by a loop that notices that the role is gone: a process that was stopped
        # for a minute and goes on may be scraped before any of its loops has run.
        shows_fleet = self._shows_fleet()
        for metric, series in self._values.items():
            if metric.fleet and not shows_fleet:
                continue
            if metric.kind is Kind.COUNTER:
                yield _family(CounterMetricFamily, metric, series)
            else:
                yield _family(GaugeMetricFamily, metric, series)
        for metric, histograms in self._histograms.items():
            yield _histogram_family(metric, histograms.items())


def _family(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    metric: Metric,
    series: dict[Labels, float],
) -> Family:
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in series.items():
        family.add_metric(labels, value)
    return family


def _histogram_family(metric: Metric, series: Iterable[tuple[Labels, _Histogram]]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    bounds = [*(str(bound) for bound in metric.buckets), "+Inf"]
    for labels, histogram in series:
        # Weights may be fractions; the format wants whole, never falling numbers.
        counts = [int(count + 1e-6) for count in accumulate(histogram.weights)]
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), histogram.sum)
    return family
