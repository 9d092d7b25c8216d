"""Where the daemon's own numbers go."""

from typing import Protocol

from crrmon.domain.catalogue import Metric


class Meters(Protocol):
    """
    Counters, gauges and histograms of this process, by the catalogue.

    Labels must be exactly those of the metric; their values are bounded sets, never object keys.
    """

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """
        Add to a counter.
        """
        ...

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """
        Set a gauge.
        """
        ...

    def observe(self, metric: Metric, value: float, weight: float = 1, **labels: str) -> None:
        """
        Add a value to a histogram; the weight may be a fraction.
        """
        ...

    def clear(self, metric: Metric) -> None:
        """
        Take all series of a gauge away, as if it had never been set.
        """
        ...
