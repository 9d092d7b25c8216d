"""Where the daemon's own numbers go."""

from typing import Protocol

from crrmon.domain.metric import Metric


class Meters(Protocol):
    """Counters, gauges and histograms of this process, by the catalogue.

    Label values come in the order of the metric's labels. They are bounded sets, never object keys.
    """

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Add to a counter."""

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Set a gauge."""

    def observe(self, metric: Metric, *labels: str, value: float, weight: float = 1.0) -> None:
        """Add a value to a histogram; the weight may be a fraction."""

    def clear(self, metric: Metric) -> None:
        """Take all series of a gauge away, as if it had never been set."""

    def unset(self, metric: Metric, *labels: str) -> None:
        """Take one series of a gauge away, if it is there."""
