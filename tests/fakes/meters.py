"""Meters that tests can read."""

from collections import Counter

from crrmon.domain.metric import Kind, Metric


class FakeMeters:
    def __init__(self) -> None:
        self.counters: Counter[tuple[str, ...]] = Counter()
        self.gauges: dict[tuple[str, ...], float] = {}
        self.observed: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        self._set: set[str] = set()
        """The gauges that were set since they were last cleared: most are cleared far more often."""

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        self._check(metric, Kind.COUNTER, labels)
        self.counters[metric.name, *labels] += amount

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        self._check(metric, Kind.GAUGE, labels)
        self.gauges[metric.name, *labels] = value
        self._set.add(metric.name)

    def observe(self, metric: Metric, *labels: str, value: float, weight: float = 1.0) -> None:
        self._check(metric, Kind.HISTOGRAM, labels)
        self.observed.setdefault((metric.name, *labels), []).append((value, weight))

    def clear(self, metric: Metric) -> None:
        if metric.name in self._set:
            self._set.remove(metric.name)
            self.gauges = {key: one for key, one in self.gauges.items() if key[0] != metric.name}

    def unset(self, metric: Metric, *labels: str) -> None:
        self._check(metric, Kind.GAUGE, labels)
        self.gauges.pop((metric.name, *labels), None)

    def count(self, metric: Metric, *labels: str) -> float:
        return self.counters[metric.name, *labels]

    def gauge(self, metric: Metric, *labels: str) -> float | None:
        return self.gauges.get((metric.name, *labels))

    @staticmethod
    def _check(metric: Metric, kind: Kind, labels: tuple[str, ...]) -> None:
        assert metric.kind is kind
        assert len(metric.labels) == len(labels), metric.name
