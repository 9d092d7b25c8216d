"""The CloudWatch dashboard: a panel for each metric of the catalogue, and whatever stands around the daemon."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from crrmon.domain.catalogue import (
    CLOUDWATCH_METRICS,
    CW_BYTES,
    CW_FAILED,
    CW_HEARTBEAT,
    CW_LATE,
    CW_LATENCY,
    CW_NOT_COVERED,
    CW_OBJECTS,
    CW_OLDEST,
    CW_PENDING_BYTES,
    CW_PENDING_OBJECTS,
    CW_QUEUE_AGE,
    CW_SPEED,
    CW_STUCK,
)
from crrmon.domain.deployment.names import Names
from crrmon.domain.metric import CloudWatchMetric

_WINDOW: Final = 300
"""The default of report.window_seconds: each window has one datapoint of a metric."""
_ACROSS: Final = 3
WIDTH: Final = 8
"""Of a panel; three are as wide as the dashboard."""
_HEIGHT: Final = 6


class _Shown(msgspec.Struct, frozen=True):
    """A metric as it is shown."""

    metric: CloudWatchMetric
    title: str
    statistics: tuple[str, ...]


_SECTIONS: Final = (
    (
        "Problems",
        (
            _Shown(CW_FAILED, "Failed", ("Sum",)),
            _Shown(CW_NOT_COVERED, "Written, covered by no rule", ("Sum",)),
            _Shown(CW_STUCK, "Stuck: pending for longer than 15 minutes", ("Maximum",)),
            _Shown(CW_OLDEST, "Age of the oldest pending object", ("Maximum",)),
        ),
    ),
    (
        "Replicated",
        (
            _Shown(CW_OBJECTS, "Objects replicated", ("Sum",)),
            _Shown(CW_BYTES, "Bytes replicated", ("Sum",)),
            _Shown(CW_LATENCY, "Latency: median and 99th percentile", ("p50", "p99")),
            _Shown(CW_LATE, "Replicated after more than 15 minutes", ("Sum",)),
            _Shown(CW_SPEED, "Speed: bytes by latency", ("Average",)),
        ),
    ),
    (
        "Pending",
        (
            _Shown(CW_PENDING_OBJECTS, "Objects pending", ("Maximum",)),
            _Shown(CW_PENDING_BYTES, "Bytes pending", ("Maximum",)),
        ),
    ),
    (
        "crrmon itself",
        (
            _Shown(CW_HEARTBEAT, "Heartbeat: 1 in every window", ("Sum",)),
            _Shown(CW_QUEUE_AGE, "Age of the oldest message received", ("Maximum",)),
        ),
    ),
)


def body(monitor: str, surroundings: tuple[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """
    Return the dashboard's body, with CloudFormation's names in it, among them `MetricNamespace`, a parameter.

    Args:
        monitor: the daemon's name, or a parameter that has it.
        surroundings: a heading, and panels of AWS's own metrics and logs under it; without panels it is left out.

    Raises:
        ValueError: a metric of the catalogue has no panel, or several.
    """
    shown = [panel.metric for _, panels in _SECTIONS for panel in panels]
    if sorted(one.name for one in shown) != sorted(metric.name for metric in CLOUDWATCH_METRICS):
        raise ValueError("every CloudWatch metric of the catalogue has one panel")
    sections = [(title, [_panel(one, monitor) for one in panels]) for title, panels in _SECTIONS]
    if surroundings[1]:
        sections.append((surroundings[0], list(surroundings[1])))
    return {"widgets": _laid_out(sections)}


def queues(regions: Sequence[str], names: Names) -> list[Mapping[str, Any]]:
    """
    Return panels of the account's queues.

    Args:
        regions: where there are queues.
        names: what they are called.
    """
    if not regions:
        return []
    messages = "ApproximateNumberOfMessages"

    def lines(metric: str, queue: str, label: str = "") -> list[Any]:
        return [
            [
                *("AWS/SQS", metric, "QueueName", queue),
                {"stat": "Maximum", "region": region, "label": f"{label}{region}"},
            ]
            for region in regions
        ]

    return [
        chart(
            "Messages: waiting, and in flight",
            [
                *lines(f"{messages}Visible", names.queue, "waiting, "),
                *lines(f"{messages}NotVisible", names.queue, "in flight, "),
            ],
            unit="Count",
        ),
        chart(
            "Age of the oldest message in the queue",
            lines("ApproximateAgeOfOldestMessage", names.queue),
            unit="Seconds",
        ),
        chart(
            "Messages in the dead-letter queue",
            lines(f"{messages}Visible", names.dead_letters),
            unit="Count",
        ),
    ]


def text(whole: Mapping[str, Any]) -> str:
    """Write one line per widget: readable, and small, because a template may have at most 51,200 bytes."""
    widgets = ",\n".join(f" {json.dumps(one, separators=(',', ':'))}" for one in whole["widgets"])
    return f'{{"widgets": [\n{widgets}\n]}}'


def _panel(shown: _Shown, monitor: str) -> Mapping[str, Any]:
    """Create the panel of a metric: each bucket or route that has it appears by itself."""
    schema = ",".join(("${MetricNamespace}", *shown.metric.dimensions))
    search = f'{{{schema}}} MetricName="{shown.metric.name}"'
    if shown.metric.dimensions == ("Monitor",):
        search += f' Monitor="{monitor}"'
    return chart(
        shown.title,
        [
            [{"expression": f"SEARCH('{search}', '{statistic}', {_WINDOW})", "id": f"e{number}"}]
            for number, statistic in enumerate(shown.statistics)
        ],
        unit=shown.metric.unit.value,
        period=_WINDOW,
    )


def chart(title: str, metrics: Sequence[Any], *, unit: str, period: int = 60) -> dict[str, Any]:
    """
    Return a panel with lines.

    Args:
        title: its heading.
        metrics: as CloudWatch takes them in a dashboard's body.
        unit: what the axis says.
        period: seconds of a point.
    """
    return {
        "type": "metric",
        "width": WIDTH,
        "properties": {
            "title": title,
            "region": "${AWS::Region}",
            "view": "timeSeries",
            "stacked": False,
            "period": period,
            "metrics": list(metrics),
            "yAxis": {"left": {"min": 0, "label": unit, "showUnits": False}},
        },
    }


def _laid_out(sections: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Place headings and panels, row by row."""
    widgets: list[dict[str, Any]] = []
    y = 0
    for title, panels in sections:
        heading = {"markdown": f"## {title}", "background": "transparent"}
        whole = _ACROSS * WIDTH
        widgets.append(
            {"type": "text", "x": 0, "y": y, "width": whole, "height": 1, "properties": heading}
        )
        y += 1
        x = 0
        for panel in panels:
            if x + panel["width"] > whole:
                x, y = 0, y + _HEIGHT
            widgets.append({**panel, "x": x, "y": y, "height": _HEIGHT})
            x += panel["width"]
        y += _HEIGHT
    return widgets
