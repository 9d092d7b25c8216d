"""The parts of a dashboard of Prometheus queries, and the layout of its panels. Independent of Grafana.

Queries are built from the catalogue's metrics: a renamed metric is renamed here as well, and a label that a metric does
not have is refused when the dashboard is generated.
"""

import enum
from collections.abc import Iterator

import msgspec

from artifacts.alerts import RULES
from crrmon.domain.catalogue import BUILD_INFO, OLDEST_PENDING, PENDING_OBJECTS
from crrmon.domain.metric import Kind, Metric

COLUMNS = 24
"""Of the grid on which panels are placed."""

RATE = "$__rate_interval"
"""At least four scrapes, and at least the distance between two points."""

RANGE = "$__range"
"""The whole time range that the dashboard shows."""

ROUTE = ("source_bucket", "destination_bucket")

_VARIABLES = {
    "source_bucket": "$source_bucket",
    "destination_bucket": "$destination_bucket",
    "bucket": "$source_bucket|$destination_bucket",
}
"""The dashboard variables that filter a label."""


class UnknownLabelError(Exception):
    """A query asks for a label that its metric does not have."""


class Shape(enum.StrEnum):
    """How a panel shows its numbers; the words are Grafana's."""

    NUMBER = "stat"
    LINES = "timeseries"
    TABLE = "table"
    HEATMAP = "heatmap"


class Measure(enum.StrEnum):
    """Units; the words are Grafana's."""

    COUNT = "short"
    SECONDS = "s"
    BYTES = "bytes"
    BYTES_PER_SECOND = "Bps"
    PER_SECOND = "cps"
    SHARE = "percentunit"
    CORES = "none"
    TEXT = "string"


class Color(enum.StrEnum):
    """What a number means to the reader."""

    GOOD = "green"
    WATCH = "yellow"
    BAD = "red"
    PLAIN = "text"


class Step(msgspec.Struct, frozen=True):
    """The color at and above a value; None is the lowest value."""

    value: float | None
    color: Color


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One query, and the names of its results."""

    expression: str
    legend: str = ""
    column: str = ""
    """The heading above its values in a table."""
    unit: Measure | None = None
    """In a table, of this column only."""


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One panel. Its number never changes, because links use it."""

    number: int
    title: str
    description: str
    """What it shows, and what to do about it."""
    queries: tuple[Query, ...]
    shape: Shape = Shape.LINES
    unit: Measure = Measure.COUNT
    width: int = 8
    height: int = 8
    steps: tuple[Step, ...] = (Step(None, Color.PLAIN),)
    stacked: bool = False
    empty: str = "-"
    """Text to show if there is no number."""
    maximum: float | None = None
    decimals: int | None = None
    headings: tuple[tuple[str, str], ...] = ()
    """Labels in a table, and their column headings."""
    runbook: tuple[str, ...] = ()
    """Alerts whose sections of the runbook help."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Panels under one heading, from left to right; a panel that does not fit starts a new line."""

    number: int
    title: str
    panels: tuple[Panel, ...]


class Place(msgspec.Struct, frozen=True):
    """The position of something on the grid."""

    x: int
    y: int
    width: int
    height: int


def placed(rows: tuple[Row, ...]) -> Iterator[tuple[Row | Panel, Place]]:
    """Place all headings and panels, from top to bottom."""
    y = 0
    for row in rows:
        yield row, Place(0, y, COLUMNS, 1)
        y += 1
        x = below = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                y, x, below = y + below, 0, 0
            yield panel, Place(x, y, panel.width, panel.height)
            x += panel.width
            below = max(below, panel.height)
        y += below


# ---- queries ----


def series(metric: Metric, *, part: str = "", **labels: str) -> str:
    """
    Select the series of a metric, filtered by the dashboard's variables.

    Args:
        metric: of the catalogue.
        part: of a histogram: `_bucket`, `_sum` or `_count`.
        labels: values that labels must have; `a|b` matches either.

    Raises:
        UnknownLabelError: if the metric has no such label.
    """
    strange = set(labels) - set(metric.labels)
    if strange:
        raise UnknownLabelError(f"{metric.name} has no label {', '.join(sorted(strange))}")
    matchers = ['job=~"$job"']
    # A bucket whose part is asked for is narrowed by the variable of that part: the other one may be "all".
    part_of_bucket = _VARIABLES.get(f"{labels.get('target')}_bucket")
    narrowed = {**_VARIABLES, "bucket": part_of_bucket or _VARIABLES["bucket"]}
    matchers += [f'{label}=~"{narrowed[label]}"' for label in metric.labels if label in narrowed]
    matchers += [
        f'{label}=~"{value}"' if "|" in value else f'{label}="{value}"'
        for label, value in labels.items()
    ]
    return f"{metric.name}{part}{{{', '.join(matchers)}}}"


def recorded(name: str, **labels: str) -> str:
    """
    Select what a rule records for each route, filtered by the dashboard's variables.

    Raises:
        UnknownLabelError: if no rule records it.
    """
    if name not in {rule.record for rule in RULES}:
        raise UnknownLabelError(f"no rule records {name}")
    matchers = ['job=~"$job"', *(f'{label}=~"{_VARIABLES[label]}"' for label in ROUTE)]
    matchers += [f'{label}="{value}"' for label, value in labels.items()]
    return f"{name}{{{', '.join(matchers)}}}"


def process(name: str) -> str:
    """Select what the client library adds to every page."""
    return f'{name}{{job=~"$job"}}'


def by(metric: Metric, *labels: str) -> str:
    """
    Return the grouping by labels; empty for none.

    Raises:
        UnknownLabelError: if the metric has no such label.
    """
    strange = set(labels) - set(metric.labels) - {"le"}
    if strange:
        raise UnknownLabelError(f"{metric.name} has no label {', '.join(sorted(strange))}")
    return f" by ({', '.join(labels)})" if labels else ""


def rate(metric: Metric, *labels: str, **matched: str) -> str:
    """Return the rate per second, over all replicas."""
    return f"sum{by(metric, *labels)} (rate({series(metric, **matched)}[{RATE}]))"


def grown(metric: Metric, *labels: str, window: str = RATE, **matched: str) -> str:
    """
    Count in a window, over all replicas, a first occurrence included.

    A labelled counter does not exist until it first counts, so `increase()` misses that first count. A new series
    counts as a whole, if its process was scraped before or was not running then; not if it was reset meanwhile.
    """
    one = series(metric, **matched)
    start = process("process_start_time_seconds")
    seconds = "$__range_s" if window == RANGE else "300"
    born = (
        f"({one} unless {one} offset {window} unless resets({one}[{window}]) > 0) and on (job, instance) "
        f"({series(BUILD_INFO)} offset {window} or {start} > time() - {seconds})"
    )
    return f"sum{by(metric, *labels)} (({born}) or increase({one}[{window}]))"


def fleet(metric: Metric, *labels: str, **matched: str) -> str:
    """Sum what one replica reports for all, whichever replica it is."""
    inner = f"max{by(metric, *metric.labels)} ({series(metric, **matched)})"
    return f"sum{by(metric, *labels)} ({inner})" if labels != metric.labels else inner


def highest(metric: Metric, *labels: str, **matched: str) -> str:
    """Take the highest of all replicas."""
    return f"max{by(metric, *labels)} ({series(metric, **matched)})"


def lowest(metric: Metric, *labels: str, **matched: str) -> str:
    """Take the lowest of all replicas."""
    return f"min{by(metric, *labels)} ({series(metric, **matched)})"


def age(metric: Metric, *labels: str) -> str:
    """Return the age of a moment: of several, the earliest."""
    return f"time() - min{by(metric, *labels)} ({series(metric)})"


def oldest_age(*labels: str) -> str:
    """Return the age of the oldest pending object: 0 if nothing is pending, nothing if that is unknown."""
    known = f"sum{by(PENDING_OBJECTS, *labels)} ({series(PENDING_OBJECTS)})"
    return f"({age(OLDEST_PENDING, *labels)}) or 0 * {known}"


def quantile(share: float, metric: Metric, *labels: str, window: str = RATE) -> str:
    """Estimate a quantile of a histogram over all replicas."""
    if metric.kind is not Kind.HISTOGRAM:
        raise UnknownLabelError(f"{metric.name} is no histogram")
    grouping = by(metric, "le", *labels)
    return f"histogram_quantile({share}, sum{grouping} (rate({series(metric, part='_bucket')}[{window}])))"


def heat(metric: Metric) -> str:
    """Count in each bucket of a histogram, over all replicas."""
    return f"sum by (le) (increase({series(metric, part='_bucket')}[{RATE}]))"
