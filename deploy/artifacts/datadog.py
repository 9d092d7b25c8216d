"""Datadog: the dashboards, the names that it shows, and the configuration of its Agent.

There are two ways to Datadog: its AWS integration reads the CloudWatch metrics, its Agent reads /metrics. They use
different names for the same things, so each has its own dashboard.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from crrmon.domain import catalogue
from crrmon.domain.metric import CloudWatchMetric, Kind, Metric

TOP = Path(__file__).resolve().parents[2]
"""The top directory of the repository."""

PAGE = "docs/datadog.md"
"""Written by hand, except between the marks."""

CHECK_FILE = "helm/crrmon/files/datadog.json"
"""The content of the annotation that the chart adds to the pods."""

FILES = {
    "cloudwatch": "deploy/datadog/cloudwatch.json",
    "openmetrics": "deploy/datadog/openmetrics.json",
}

Json = dict[str, Any]

# ---- the names of CloudWatch's metrics ----

CLOUDWATCH_PREFIX = "crrmonitor"
"""The default of `report.namespace` in lower case."""

STATISTICS: dict[CloudWatchMetric, str] = {
    catalogue.CW_OBJECTS: "sum",
    catalogue.CW_SPEED: "average",
    catalogue.CW_FAILED: "sum",
    catalogue.CW_LATENCY: "maximum",
    catalogue.CW_BYTES: "sum",
    catalogue.CW_PENDING_OBJECTS: "maximum",
    catalogue.CW_PENDING_BYTES: "maximum",
    catalogue.CW_OLDEST: "maximum",
    catalogue.CW_STUCK: "maximum",
    catalogue.CW_LATE: "sum",
    catalogue.CW_NOT_COVERED: "sum",
    catalogue.CW_HEARTBEAT: "sum",
    catalogue.CW_QUEUE_AGE: "maximum",
}
"""Which statistic to read: counts are summed over the windows, states are not."""

_SUFFIXES = {"average": "", "sum": ".sum", "maximum": ".maximum"}


def cloudwatch_name(metric: CloudWatchMetric, statistic: str = "") -> str:
    """Return the name under which Datadog shows a CloudWatch metric; the case is kept."""
    return f"{CLOUDWATCH_PREFIX}.{metric.name}{_SUFFIXES[statistic or STATISTICS[metric]]}"


def cloudwatch_tag(dimension: str) -> str:
    """Return the key of the tag that Datadog makes of a dimension."""
    return dimension.lower()


# ---- the names of the Agent's metrics ----

AGENT_NAMESPACE = "crrmon"

RAW_PREFIX = "crrmon_"
"""The Agent removes it before it prepends the namespace."""

RENAMED = {"version": "crrmon_version"}
"""Labels whose names have another meaning in Datadog."""

MOST_SERIES = 20_000
"""Of one replica, enough for 400 routes: by default the Agent accepts 2,000 and drops the rest."""

_MOMENT = "_timestamp_seconds"
_AGE = "_age_seconds"


def agent_name(metric: Metric) -> str:
    """
    Return the name under which Datadog shows a metric that its Agent reads.

    Moments become ages: Datadog stores 32 bits of a number, too few for a date, and cannot subtract a date from now.
    """
    name = metric.name.removeprefix(RAW_PREFIX)
    if metric.name.endswith(_MOMENT):
        name = name.removesuffix(_MOMENT) + _AGE
    if metric.kind is Kind.COUNTER:
        name = name.removesuffix("_total") + ".count"
    return f"{AGENT_NAMESPACE}.{name}"


def agent_tag(label: str) -> str:
    """Return the key of the tag that the Agent makes of a label."""
    return RENAMED.get(label, label)


def check(url: str = "http://%%host%%:9464/metrics") -> Json:
    """
    Return the Agent's configuration, in the form that Autodiscovery reads from annotations and container labels.

    Args:
        url: of the metrics page; the Agent fills in the container's address.
    """
    moments: list[str | Json] = [
        {
            metric.name.removeprefix(RAW_PREFIX): {
                "name": agent_name(metric).removeprefix(f"{AGENT_NAMESPACE}."),
                "type": "time_elapsed",
            }
        }
        for metric in catalogue.METRICS
        if metric.name.endswith(_MOMENT)
    ]
    instance = {
        "openmetrics_endpoint": url,
        "namespace": AGENT_NAMESPACE,
        "raw_metric_prefix": RAW_PREFIX,
        "metrics": [".+", *moments],
        "exclude_metrics": ["python_info", "process_start_time_seconds"],
        "rename_labels": RENAMED,
        "histogram_buckets_as_distributions": True,
        "max_returned_metrics": MOST_SERIES,
    }
    return {"openmetrics": {"init_config": {}, "instances": [instance]}}


# ---- the parts of a dashboard ----

COLUMNS = 12


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One query: an aggregation over the selected buckets."""

    metric: str
    over: str
    """How to aggregate over series: sum, avg, max, min, or a percentile."""
    tags: tuple[str, ...] = ()
    """Keys of the metric's tags, for the dashboard's variables."""
    matched: str = ""
    by: tuple[str, ...] = ()
    function: str = ""
    """A function appended to it, such as `.as_count()`."""
    alias: str = ""
    in_time: str = "last"
    """How to reduce the time range shown to a single number."""

    @property
    def text(self) -> str:
        """Return it in Datadog's language."""
        filters = [f"${tag}" for tag in self.tags if tag in _CHOSEN]
        filters += [self.matched] if self.matched else []
        grouping = f" by {{{','.join(self.by)}}}" if self.by else ""
        return f"{self.over}:{self.metric}{{{','.join(filters) or '*'}}}{grouping}{self.function}"


_CHOSEN = ("source_bucket", "destination_bucket", "sourcebucket", "destbucket")
"""Tags that dashboards have variables for."""


class Widget(msgspec.Struct, frozen=True, kw_only=True):
    """One widget."""

    title: str
    queries: tuple[Query, ...]
    type: str = "timeseries"
    width: int = 4
    height: int = 3
    formula: str = ""
    """Over queries a, b and so on; without one, each query is shown by itself."""
    unit: str = ""
    bars: bool = False
    bad_above: float | None = None
    """A number above it is red."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Widgets under one heading, with a note that explains them."""

    title: str
    note: str
    widgets: tuple[Widget, ...]


def _cloudwatch(
    metric: CloudWatchMetric,
    over: str,
    *by: str,
    statistic: str = "",
    alias: str = "",
    in_time: str = "last",
) -> Query:
    happened = (statistic or STATISTICS[metric]) == "sum"
    return Query(
        metric=cloudwatch_name(metric, statistic),
        over=over,
        tags=tuple(map(cloudwatch_tag, metric.dimensions)),
        by=by,
        function=".rollup(sum)" if happened else "",
        alias=alias,
        in_time="sum" if happened else in_time,
    )


def _agent(
    metric: Metric, over: str, *by: str, matched: str = "", alias: str = "", in_time: str = ""
) -> Query:
    counter = metric.kind is Kind.COUNTER
    return Query(
        metric=agent_name(metric),
        over=over,
        tags=tuple(map(agent_tag, metric.labels)),
        matched=matched,
        by=tuple(map(agent_tag, by)),
        function=".as_count()" if counter else "",
        alias=alias,
        in_time=in_time or ("sum" if counter else "last"),
    )


_PAIR = ("sourcebucket", "destbucket")
_ROUTE = ("source_bucket", "destination_bucket")

_DELAY_NOTE = "From CloudWatch, about ten minutes late. docs/datadog.md explains names and delays."

CLOUDWATCH = (
    Group(
        title="Now",
        note=f"{_DELAY_NOTE} Red: follow docs/runbook.md in the repository.",
        widgets=(
            Widget(
                title="Failed in the time range shown",
                type="query_value",
                queries=(_cloudwatch(catalogue.CW_FAILED, "sum"),),
                bad_above=0,
            ),
            Widget(
                title="Pending",
                type="query_value",
                queries=(_cloudwatch(catalogue.CW_PENDING_OBJECTS, "sum"),),
            ),
            Widget(
                title="Oldest pending",
                type="query_value",
                queries=(_cloudwatch(catalogue.CW_OLDEST, "max"),),
                unit="second",
                bad_above=3600,
            ),
            Widget(
                title="Stuck",
                type="query_value",
                queries=(_cloudwatch(catalogue.CW_STUCK, "sum"),),
                bad_above=0,
            ),
            Widget(
                title="Heartbeats in the time range shown: one per window; none: nothing is followed",
                type="query_value",
                queries=(_cloudwatch(catalogue.CW_HEARTBEAT, "sum"),),
            ),
            Widget(
                title="Age of the oldest message",
                queries=(_cloudwatch(catalogue.CW_QUEUE_AGE, "max", "monitor"),),
                unit="second",
            ),
        ),
    ),
    Group(
        title="Throughput",
        note="Objects found replicated, in the window in which they were found. Check any route that falls to zero while its source is being written to.",
        widgets=(
            Widget(
                title="Objects replicated",
                queries=(_cloudwatch(catalogue.CW_OBJECTS, "sum", *_PAIR),),
                bars=True,
            ),
            Widget(
                title="Bytes replicated",
                queries=(_cloudwatch(catalogue.CW_BYTES, "sum", *_PAIR),),
                unit="byte",
                bars=True,
            ),
            Widget(
                title="Speed",
                queries=(_cloudwatch(catalogue.CW_SPEED, "avg", *_PAIR),),
                unit="byte",
            ),
        ),
    ),
    Group(
        title="Late and failed",
        note="Failures: fix the cause, then run Batch Replication: S3 does not retry by itself, other stores do. Only the dashboard of the Agent's metrics shows reasons.",
        widgets=(
            Widget(
                title="Failures by source bucket",
                queries=(_cloudwatch(catalogue.CW_FAILED, "sum", "sourcebucket"),),
                bars=True,
            ),
            Widget(
                title="Source buckets with the most failures",
                type="toplist",
                queries=(_cloudwatch(catalogue.CW_FAILED, "sum", "sourcebucket"),),
            ),
            Widget(
                title="Replicated after more than 15 minutes",
                queries=(_cloudwatch(catalogue.CW_LATE, "sum", *_PAIR),),
                bars=True,
            ),
            Widget(
                title="Latency: average and maximum of the windows",
                queries=(
                    _cloudwatch(catalogue.CW_LATENCY, "avg", statistic="average", alias="average"),
                    _cloudwatch(catalogue.CW_LATENCY, "max", alias="maximum"),
                ),
                unit="second",
            ),
            Widget(
                title="Oldest pending by route",
                queries=(_cloudwatch(catalogue.CW_OLDEST, "max", *_PAIR),),
                unit="second",
            ),
            Widget(
                title="Stuck objects by route",
                queries=(_cloudwatch(catalogue.CW_STUCK, "max", *_PAIR),),
            ),
        ),
    ),
    Group(
        title="Pending",
        note="Pending at the end of each window. If it only grows, check S3, the network and the rules; compare with the oldest.",
        widgets=(
            Widget(
                title="Pending objects by route",
                queries=(_cloudwatch(catalogue.CW_PENDING_OBJECTS, "max", *_PAIR),),
            ),
            Widget(
                title="Pending bytes by route",
                queries=(_cloudwatch(catalogue.CW_PENDING_BYTES, "max", *_PAIR),),
                unit="byte",
            ),
            Widget(
                title="Written, covered by no rule",
                queries=(_cloudwatch(catalogue.CW_NOT_COVERED, "sum", "sourcebucket"),),
                bars=True,
            ),
        ),
    ),
)

AGENT = (
    Group(
        title="Now",
        note="From the Agent, as fresh as its last scrape. Red: follow docs/runbook.md in the repository.",
        widgets=(
            Widget(
                title="Success rate",
                type="query_value",
                queries=(
                    _agent(catalogue.REPLICATIONS, "sum", matched="status:completed"),
                    _agent(catalogue.REPLICATIONS, "sum", matched="status:failed"),
                ),
                formula="100 * a / (a + default_zero(b))",
                unit="percent",
            ),
            Widget(
                title="Failed now",
                type="query_value",
                queries=(_agent(catalogue.FAILED_OBJECTS, "sum"),),
                bad_above=0,
            ),
            Widget(
                title="Pending now",
                type="query_value",
                queries=(_agent(catalogue.PENDING_OBJECTS, "sum"),),
            ),
            Widget(
                title="Oldest pending",
                type="query_value",
                queries=(_agent(catalogue.OLDEST_PENDING, "max"),),
                unit="second",
                bad_above=3600,
            ),
            Widget(
                title="Dead letters",
                type="query_value",
                queries=(_agent(catalogue.QUEUE_MESSAGES, "sum", matched="state:dead"),),
                bad_above=0,
            ),
            Widget(
                title="Denied buckets",
                type="toplist",
                queries=(_agent(catalogue.ACCESS_DENIED, "max", "bucket"),),
            ),
        ),
    ),
    Group(
        title="Pending",
        note="Young objects are normal traffic. `complete up to`: age of the moment before which nothing is pending, failed or waiting in a queue.",
        widgets=(
            Widget(
                title="Pending by age",
                queries=(_agent(catalogue.PENDING_BY_AGE, "sum", "age"),),
                bars=True,
            ),
            Widget(
                title="Pending bytes by destination",
                queries=(_agent(catalogue.PENDING_BYTES, "sum", "destination_bucket"),),
                unit="byte",
            ),
            Widget(
                title="Complete up to: age",
                queries=(_agent(catalogue.COMPLETE_UP_TO, "max", *_ROUTE),),
                unit="second",
            ),
            Widget(
                title="Oldest pending by route",
                queries=(_agent(catalogue.OLDEST_PENDING, "max", *_ROUTE),),
                unit="second",
                width=6,
            ),
            Widget(
                title="Stuck objects by route",
                queries=(_agent(catalogue.STUCK_OBJECTS, "max", *_ROUTE),),
                width=6,
            ),
        ),
    ),
    Group(
        title="Failures",
        note="docs/failure-reasons.md says how to fix each reason. S3 does not retry by itself: run Batch Replication afterwards. Other stores retry.",
        widgets=(
            Widget(
                title="Failures by reason",
                queries=(_agent(catalogue.FAILURE_REASONS, "sum", "reason"),),
                bars=True,
            ),
            Widget(
                title="Routes with the most failures",
                type="toplist",
                queries=(_agent(catalogue.REPLICATIONS, "sum", *_ROUTE, matched="status:failed"),),
            ),
            Widget(
                title="Failed and repaired",
                queries=(
                    _agent(catalogue.FAILED_OBJECTS, "sum", alias="open failures"),
                    _agent(catalogue.RECOVERED, "sum", alias="repaired"),
                ),
            ),
        ),
    ),
    Group(
        title="Latency",
        note="Percentiles must be enabled for `crrmon.replication_latency_seconds` in Metrics > Summary; the average needs nothing.",
        widgets=(
            Widget(
                title="Latency",
                type="distribution_heatmap",
                queries=(_agent(catalogue.LATENCY, "histogram"),),
                width=6,
            ),
            Widget(
                title="Latency: average, median, p99",
                queries=(
                    _agent(catalogue.LATENCY, "avg", alias="average"),
                    _agent(catalogue.LATENCY, "p50", alias="median"),
                    _agent(catalogue.LATENCY, "p99", alias="p99"),
                ),
                unit="second",
                width=6,
            ),
            Widget(
                title="Replicated after more than 15 minutes",
                queries=(_agent(catalogue.LATE, "sum", *_ROUTE),),
                bars=True,
                width=6,
            ),
            Widget(
                title="Outcomes",
                queries=(_agent(catalogue.REPLICATIONS, "sum", "status"),),
                bars=True,
                width=6,
            ),
        ),
    ),
    Group(
        title="Ingest and looking",
        note="No events while sources are being written to: check what sends them. Denied looks: fix the permissions. A growing backlog: add replicas.",
        widgets=(
            Widget(
                title="Events by kind",
                queries=(_agent(catalogue.EVENTS, "sum", "kind"),),
                bars=True,
            ),
            Widget(
                title="Queue depth",
                queries=(_agent(catalogue.QUEUE_MESSAGES, "max", "queue", "state"),),
            ),
            Widget(
                title="Age of the oldest message",
                queries=(_agent(catalogue.QUEUE_AGE, "max", "queue"),),
                unit="second",
            ),
            Widget(
                title="HEAD requests by result",
                queries=(
                    _agent(catalogue.HEAD_REQUESTS, "sum", "result", matched="target:source"),
                ),
                bars=True,
            ),
            Widget(
                title="HEAD requests at destinations by result",
                queries=(
                    _agent(catalogue.HEAD_REQUESTS, "sum", "result", matched="target:destination"),
                ),
                bars=True,
            ),
            Widget(
                title="Most overdue look",
                queries=(_agent(catalogue.POLL_OVERDUE, "max"),),
                unit="second",
            ),
        ),
    ),
    Group(
        title="Coverage and health",
        note="Objects without a rule have no replica. The daemon's log says what fails.",
        widgets=(
            Widget(
                title="Not covered by cause",
                queries=(_agent(catalogue.NOT_COVERED, "sum", "cause"),),
                bars=True,
            ),
            Widget(
                title="Orphaned replicas: the source's events are lost",
                queries=(_agent(catalogue.REPLICAS_ORPHANED, "sum", "destination_bucket"),),
                bars=True,
            ),
            Widget(
                title="Configuration reads",
                queries=(_agent(catalogue.CONFIGURATION_READS, "sum", "result"),),
                bars=True,
            ),
            Widget(
                title="Ledger errors by operation",
                queries=(_agent(catalogue.LEDGER_ERRORS, "sum", "operation"),),
                bars=True,
            ),
            Widget(
                title="Unsent windows",
                queries=(_agent(catalogue.UNSENT_WINDOWS, "max"),),
            ),
            Widget(
                title="Time since each loop's last success, on the best replica",
                queries=(_agent(catalogue.LOOP_SUCCESS, "min", "loop"),),
                unit="second",
            ),
            Widget(
                title="Account errors",
                queries=(_agent(catalogue.ACCOUNT_ERRORS, "sum", "account"),),
                bars=True,
                width=6,
            ),
            Widget(
                title="Replicas by version",
                queries=(_agent(catalogue.BUILD_INFO, "sum", "version"),),
                width=6,
            ),
        ),
    ),
    Group(
        title="Rules and dependencies",
        note="A route at 0 no longer has an enabled rule: new writes get no replica. A dependency at 0 does not answer at least one of the replicas.",
        widgets=(
            Widget(
                title="Routes with an enabled rule",
                queries=(_agent(catalogue.ROUTE_CONFIGURED, "max", *_ROUTE),),
            ),
            Widget(
                title="Age of the oldest abandoned object",
                queries=(_agent(catalogue.COMPLETE_BLOCKED, "max", *_ROUTE),),
                unit="second",
            ),
            Widget(
                title="Settling held",
                queries=(_agent(catalogue.SETTLING_HELD, "max", *_ROUTE),),
            ),
            Widget(
                title="Dependencies that answer all replicas",
                queries=(_agent(catalogue.DEPENDENCY_UP, "min", "dependency"),),
            ),
            Widget(
                title="Dependencies: time since the last change",
                queries=(_agent(catalogue.DEPENDENCY_SINCE, "max", "dependency"),),
                unit="second",
            ),
            Widget(
                title="Clock offset, furthest ahead and behind",
                queries=(
                    _agent(catalogue.CLOCK_OFFSET, "max", alias="ahead"),
                    _agent(catalogue.CLOCK_OFFSET, "min", alias="behind"),
                ),
                unit="second",
            ),
            Widget(
                title="Time since each bucket's last event",
                queries=(_agent(catalogue.LAST_EVENT, "min", "source_bucket"),),
                unit="second",
            ),
            Widget(
                title="Events whose time cannot be right",
                queries=(_agent(catalogue.IMPLAUSIBLE_TIMES, "sum", "channel"),),
                bars=True,
            ),
            Widget(
                title="Polls that failed because of a bug in the daemon",
                queries=(
                    _agent(catalogue.POLLS_FAILED, "sum", alias="failed"),
                    _agent(catalogue.POLLS_DEFERRED, "sum", alias="objects deferred"),
                ),
            ),
        ),
    ),
)

# ---- Datadog's JSON ----

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _query(name: str, query: Query, *, scalar: bool) -> Json:
    told: Json = {"data_source": "metrics", "name": name, "query": query.text}
    return told | ({"aggregator": query.in_time} if scalar else {})


def _formulas(widget: Widget) -> list[Json]:
    unit: Json = (
        {"number_format": {"unit": {"type": "canonical_unit", "unit_name": widget.unit}}}
        if widget.unit
        else {}
    )
    limit: Json = {"limit": {"count": 10, "order": "desc"}} if widget.type == "toplist" else {}
    if widget.formula:
        return [{"formula": widget.formula} | unit]
    return [
        {"formula": name} | ({"alias": query.alias} if query.alias else {}) | unit | limit
        for name, query in zip(_LETTERS, widget.queries, strict=False)
    ]


def _request(widget: Widget) -> Json:
    if widget.type == "distribution_heatmap":
        (query,) = widget.queries
        return {"request_type": "histogram", "query": _query("a", query, scalar=False)}
    scalar = widget.type in ("query_value", "toplist")
    told: Json = {
        "response_format": "scalar" if scalar else "timeseries",
        "queries": [
            _query(name, query, scalar=scalar)
            for name, query in zip(_LETTERS, widget.queries, strict=False)
        ],
        "formulas": _formulas(widget),
    }
    if widget.type == "timeseries":
        told["display_type"] = "bars" if widget.bars else "line"
    if widget.bad_above is not None:
        told["conditional_formats"] = [
            {"comparator": ">", "value": widget.bad_above, "palette": "white_on_red"},
            {"comparator": "<=", "value": widget.bad_above, "palette": "white_on_green"},
        ]
    return told


def _definition(widget: Widget) -> Json:
    told: Json = {
        "type": "heatmap" if widget.type == "distribution_heatmap" else widget.type,
        "title": widget.title,
        "requests": [_request(widget)],
    }
    if widget.type == "query_value":
        told |= {"autoscale": True, "precision": 2}
    if widget.type == "timeseries":
        told |= {"show_legend": True, "legend_layout": "auto"}
    return told


def _layout(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "width": width, "height": height}


def _widgets(group: Group) -> tuple[list[Json], int]:
    """Lay out a group's widgets under its note, and return their total height."""
    note = {"type": "note", "content": group.note, "background_color": "white"}
    told: list[Json] = [{"definition": note, "layout": _layout(0, 0, COLUMNS, 1)}]
    x, y, below = 0, 1, 0
    for widget in group.widgets:
        if x + widget.width > COLUMNS:
            x, y, below = 0, y + below, 0
        layout = _layout(x, y, widget.width, widget.height)
        told.append({"definition": _definition(widget), "layout": layout})
        x, below = x + widget.width, max(below, widget.height)
    return told, y + below


def _groups(groups: tuple[Group, ...]) -> list[Json]:
    told: list[Json] = []
    y = 0
    for group in groups:
        widgets, height = _widgets(group)
        definition = {
            "type": "group",
            "layout_type": "ordered",
            "title": group.title,
            "show_title": True,
            "widgets": widgets,
        }
        # A group's own heading takes a line.
        told.append({"definition": definition, "layout": _layout(0, y, COLUMNS, height + 1)})
        y += height + 1
    return told


def _dashboard(title: str, about: str, groups: tuple[Group, ...], tags: tuple[str, ...]) -> Json:
    return {
        "title": title,
        "description": about,
        "layout_type": "ordered",
        "reflow_type": "fixed",
        "template_variables": [
            {"name": tag, "prefix": tag, "available_values": [], "defaults": ["*"]} for tag in tags
        ],
        "widgets": _groups(groups),
    }


def dashboards() -> dict[str, Json]:
    """Return both dashboards, by the source of their metrics."""
    return {
        "cloudwatch": _dashboard(
            "S3 replication (crrmon, CloudWatch)",
            "S3 replication, from crrmon's CloudWatch metrics. Generated; see docs/datadog.md in the repository.",
            CLOUDWATCH,
            _PAIR,
        ),
        "openmetrics": _dashboard(
            "S3 replication (crrmon, Agent)",
            "S3 replication, from crrmon's /metrics by the Agent. Generated; see docs/datadog.md in the repository.",
            AGENT,
            _ROUTE,
        ),
    }


# ---- the page ----


def _between(text: str, mark: str, made: str) -> str:
    """Insert generated text between the marks of a page."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{PAGE} lacks the marks of {mark}")
    return f"{before}{begin}\n{made}\n{end}{after}"


def _cloudwatch_names() -> str:
    lines = [
        f"| `{metric.name}` | `{cloudwatch_name(metric)}` | {', '.join(f'`{cloudwatch_tag(tag)}`' for tag in metric.dimensions)} |"
        for metric in catalogue.CLOUDWATCH_METRICS
    ]
    return "\n".join(["| CloudWatch | Datadog | tags |", "| --- | --- | --- |", *lines, ""])


def _agent_names() -> str:
    kinds = {Kind.COUNTER: "count", Kind.GAUGE: "gauge", Kind.HISTOGRAM: "distribution"}
    lines = [
        f"| `{metric.name}` | `{agent_name(metric)}` | {kinds[metric.kind]} | {', '.join(f'`{agent_tag(label)}`' for label in metric.labels) or '-'} |"
        for metric in catalogue.METRICS
    ]
    return "\n".join(
        ["| `/metrics` | Datadog | type | tags |", "| --- | --- | --- | --- |", *lines, ""]
    )


def annotation() -> str:
    """Return the Agent's configuration as the text of a pod's annotation or a container's label."""
    return json.dumps(check(), indent=2)


def page(text: str) -> str:
    """Return the page with its generated parts renewed from the catalogue."""
    text = _between(text, "names from CloudWatch", _cloudwatch_names())
    text = _between(text, "names from the Agent", _agent_names())
    return _between(text, "check", f"```json\n{annotation()}\n```\n")


def files() -> dict[str, str]:
    """Return both dashboards, the chart's part and the page."""
    made = {
        FILES[way]: json.dumps(one, indent=2, ensure_ascii=False) + "\n"
        for way, one in dashboards().items()
    }
    return made | {
        CHECK_FILE: annotation() + "\n",
        PAGE: page((TOP / PAGE).read_text(encoding="utf-8")),
    }
