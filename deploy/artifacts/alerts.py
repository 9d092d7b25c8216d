"""The alerts: Prometheus' rules, once with their thresholds filled in and once for the chart to fill in.

What all expressions have to reckon with:

- Counters and histograms are of one process. They are summed over replicas, never over installations.
- A labelled counter is not there until it first counts, and then it is there as 1: `increase()` sees nothing of that
  first time. Where one occurrence matters, `_grown` counts it.
- The fleet's gauges are on one replica, and move to another one. Between two there may be a minute without them, and
  the name of the instance changes: so they are aggregated over replicas, and remembered for `_HANDED_OVER`.
"""

import functools
import json
import textwrap
from collections.abc import Callable, Iterable

import msgspec

from crrmon.domain import catalogue
from crrmon.domain.catalogue import Metric

RUNBOOK = "https://github.com/crrmon/crrmon/blob/main/docs/runbook.md"
"""What each alert links to; its heading there is its name."""

PLAIN_FILE = "deploy/prometheus/rules.yaml"
CHART_FILE = "helm/crrmon/files/rules.yaml"

GROUP = "crrmon"

CLIENT_METRICS = ("process_start_time_seconds",)
"""Not in the catalogue: the client library adds them to every page."""

INSTALLATION = ("cluster", "namespace", "job")
"""Labels of the scraper that tell installations apart, as far as they are there."""

_PROCESS = (*INSTALLATION, "instance")
_ROUTE = ("source_bucket", "destination_bucket")
_HANDED_OVER = "5m"
"""Longer than the fleet's gauges need to appear on another replica, which is about a minute after a crash."""
_REPORTERS_ALONE = "fleet|publisher"
"""Loops that succeed on the reporting replica only."""

Fill = Callable[[str], str]
"""Gives the text for a threshold by its name."""


class Threshold(msgspec.Struct, frozen=True):
    """
    A number that users may set.
    """

    default: float
    meaning: str


THRESHOLDS: dict[str, Threshold] = {
    "replicationFailures": Threshold(
        0, "CrrmonReplicationFailures: failures of a route in 15 minutes, above which it fires."
    ),
    "openFailures": Threshold(
        0,
        "CrrmonOpenFailures: objects of a route that failed and were not repaired for an hour, above which it fires.",
    ),
    "restarts": Threshold(
        3, "CrrmonRestarting: restarts of all replicas in 30 minutes, from which on it fires."
    ),
    "errorRatio": Threshold(
        0.05,
        "CrrmonReplicationErrorRatio: failed share of the outcomes of a source bucket in 30 minutes, above which it fires.",
    ),
    "errorRatioMinimum": Threshold(
        20, "CrrmonReplicationErrorRatio: outcomes in 30 minutes below which no ratio is judged."
    ),
    "stuckPendingSeconds": Threshold(
        900,
        "CrrmonObjectStuckPending: age of a route's oldest pending object, above which it fires. No less than 300.",
    ),
    "stuckPendingLongSeconds": Threshold(
        3600, "CrrmonObjectStuckPendingLong: the same, for the critical alert."
    ),
    "lowWaterLagSeconds": Threshold(
        3600,
        "CrrmonLowWaterLag: how far the moment up to which a route is complete may lie back, above which it fires.",
    ),
    "backlogGrowthObjects": Threshold(
        1000,
        "CrrmonBacklogGrowing: pending objects of a route more than half an hour before, above which it fires.",
    ),
    "latencyP99Seconds": Threshold(
        900,
        "CrrmonLatencyP99: 99th percentile of a route's latency in 30 minutes, above which it fires.",
    ),
    "latencyMinimum": Threshold(
        100, "CrrmonLatencyP99: latencies in 30 minutes below which no percentile is judged."
    ),
    "queueLagSeconds": Threshold(
        900, "CrrmonQueueLag: age of the oldest message lately received, above which it fires."
    ),
    "deadLetters": Threshold(
        0, "CrrmonDeadLetters: messages in the dead-letter queue, above which it fires."
    ),
    "usualMessages": Threshold(
        10,
        "CrrmonNoEvents: messages of a queue in every hour around this one yesterday, and in this one a week before, above which silence is unusual.",
    ),
    "throttledRatio": Threshold(
        0.05,
        "CrrmonLooksThrottled: throttled share of the looks at a bucket in 10 minutes, above which it fires.",
    ),
    "throttledMinimum": Threshold(
        100, "CrrmonLooksThrottled: looks in 10 minutes below which no share is judged."
    ),
    "ledgerErrors": Threshold(
        10,
        "CrrmonLedgerErrors: failed ledger operations of one kind in 10 minutes, above which it fires.",
    ),
    "unsentWindows": Threshold(
        1,
        "CrrmonReportingFails: windows that CloudWatch did not accept yet, above which it fires.",
    ),
    "unreadableReads": Threshold(
        1,
        "CrrmonConfigurationUnreadable: failed reads of a bucket's replication configuration in an hour without a successful one, above which it fires.",
    ),
    "accountErrors": Threshold(
        3,
        "CrrmonAccountUnusable: failed attempts in 10 minutes to get an account's credentials, above which it fires.",
    ),
    "unmatchedReplicas": Threshold(
        10,
        "CrrmonEventsLost: replicas in an hour whose source's event never came, above which it fires.",
    ),
    "pollBehindSeconds": Threshold(
        300, "CrrmonPollBehind: how long the most overdue look may wait, above which it fires."
    ),
    "loopStalledSeconds": Threshold(
        600, "CrrmonLoopStalled: time without a successful round of a loop, above which it fires."
    ),
}
"""By name, as in the chart's `prometheusRule.thresholds`."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """
    One alert. In its expression, @NAME@ stands for a threshold.
    """

    name: str
    severity: str
    expression: str
    held_for: str
    """How long the expression must be true before it fires."""
    summary: str
    description: str
    metrics: tuple[Metric, ...]
    """All of the catalogue's that the expression names."""

    @property
    def link(self) -> str:
        """
        Where the runbook tells what to do.
        """
        return f"{RUNBOOK}#{self.name.lower()}"


# ---- parts of expressions ----


def _labels(*names: str) -> str:
    return ", ".join(names)


def _selector(metric: Metric, suffix: str = "", **matchers: str) -> str:
    """
    Select series; a value that holds a `|` is a regular expression.
    """
    parts = [
        f'{label}{"=~" if "|" in value else "="}"{value}"' for label, value in matchers.items()
    ]
    return f"{metric.name}{suffix}" + (f"{{{','.join(parts)}}}" if parts else "")


def _indented(text: str, spaces: int = 2) -> str:
    return textwrap.indent(text, " " * spaces)


def _grown(series: str, by: Iterable[str], *, minutes: int) -> str:
    """
    Sum up by how much a counter grew, with the whole of what was born meanwhile.

    A series that was not there at the beginning was born if its process was scraped then, or did not run then. If
    neither is known, because the scraper itself was away, only `increase()` counts; so it does for one that was reset
    meanwhile, whose value is only that of the newest process.
    """
    born_here = (
        f"{catalogue.BUILD_INFO.name} offset {minutes}m\n"
        f"or process_start_time_seconds > time() - {minutes * 60}"
    )
    return (
        f"sum by ({_labels(*by)}) (\n"
        "  (\n"
        f"    ({series} unless {series} offset {minutes}m unless resets({series}[{minutes}m]) > 0)\n"
        f"    and on ({_labels(*_PROCESS)}) (\n"
        f"{_indented(born_here, 6)}\n"
        "    )\n"
        "  )\n"
        f"  or increase({series}[{minutes}m])\n"
        ")"
    )


def _fleet(metric: Metric, by: Iterable[str], *, how: str = "max", **matchers: str) -> str:
    """
    Read a gauge of the fleet, whichever replica shows it.
    """
    series = f"{_selector(metric, **matchers)}[{_HANDED_OVER}]"
    return f"{how} by ({_labels(*by)}) (last_over_time({series}))"


def _down() -> str:
    info, by = catalogue.BUILD_INFO.name, _labels(*INSTALLATION)
    return (
        "(\n"
        f"  group by ({by}) (last_over_time({info}[1d]))\n"
        f"  unless group by ({by}) ({info})\n"
        ")\n"
        f"or absent_over_time({info}[1d])"
    )


def _failures() -> str:
    by = (*INSTALLATION, *_ROUTE)
    failed = _selector(catalogue.REPLICATIONS, status="failed")
    reasons = _grown(catalogue.FAILURE_REASONS.name, (*by, "reason"), minutes=15)
    limit = "@replicationFailures@"
    return (
        f"(\n{_indented(reasons)} > {limit}\n)\n"
        "or\n"
        f"(\n{_indented(_grown(failed, by, minutes=15))} > {limit}\n"
        f"  unless on ({_labels(*by)})\n{_indented(reasons)} > {limit}\n)"
    )


def _open_failures() -> str:
    by = (*INSTALLATION, *_ROUTE)
    return f"{_fleet(catalogue.FAILED_OBJECTS, by)} > @openFailures@"


def _restarting() -> str:
    by = _labels(*INSTALLATION)
    info = catalogue.BUILD_INFO.name
    return (
        f"sum by ({by}) (\n"
        "  changes(process_start_time_seconds[30m])\n"
        f"  and on ({_labels(*_PROCESS)}) last_over_time({info}[30m])\n"
        ") >= @restarts@"
    )


def _error_ratio() -> str:
    by = (*INSTALLATION, "source_bucket")
    failed = _selector(catalogue.REPLICATIONS, status="failed")
    judged = _selector(catalogue.REPLICATIONS, status="completed|failed")
    all_of_them = _grown(judged, by, minutes=30)
    return (
        f"(\n{_indented(_grown(failed, by, minutes=30))}\n"
        f"  /\n{_indented(all_of_them)}\n"
        ") > @errorRatio@\n"
        f"and\n{all_of_them} >= @errorRatioMinimum@"
    )


def _stuck(limit: str) -> str:
    oldest = _fleet(catalogue.OLDEST_PENDING, (*INSTALLATION, *_ROUTE), how="min")
    return f"time() - {oldest} > @{limit}@"


def _low_water() -> str:
    return f"time() - {_fleet(catalogue.COMPLETE_UP_TO, (*INSTALLATION, *_ROUTE))} > @lowWaterLagSeconds@"


def _backlog_growing() -> str:
    pending = f"(max by ({_labels(*INSTALLATION, *_ROUTE)}) ({catalogue.PENDING_OBJECTS.name}))"
    return (
        f"min_over_time({pending}[10m:1m])\n"
        f"- max_over_time({pending}[10m:1m] offset 30m)\n"
        "> @backlogGrowthObjects@"
    )


def _latency() -> str:
    by = _labels(*INSTALLATION, *_ROUTE)
    buckets = _selector(catalogue.LATENCY, "_bucket")
    count = _selector(catalogue.LATENCY, "_count")
    return (
        f"histogram_quantile(0.99, sum by ({by}, le) (rate({buckets}[30m]))) > @latencyP99Seconds@\n"
        f"and sum by ({by}) (increase({count}[30m])) >= @latencyMinimum@"
    )


def _no_events() -> str:
    by = _labels(*INSTALLATION, "queue")
    messages = catalogue.MESSAGES.name
    return (
        "(\n"
        f"  sum by ({by}) (increase({messages}[1h] offset 1d)) > @usualMessages@\n"
        # Steady, not a batch: in every hour around, or a batch that is late would be silence.
        f"  and min_over_time((sum by ({by}) (increase({messages}[1h])))[4h:30m] offset 22h) > @usualMessages@\n"
        f"  unless sum by ({by}) (increase({messages}[1h] offset 1w)) <= @usualMessages@\n"
        ")\n"
        f"unless on ({by}) (\n"
        f"  increase({messages}[1h]) > 0\n"
        f"  or ({messages} unless {messages} offset 1h)\n"
        ")\n"
        f"and on ({_labels(*INSTALLATION)}) {catalogue.BUILD_INFO.name}"
    )


def _looks_throttled() -> str:
    def share(metric: Metric) -> str:
        by = _labels(*INSTALLATION, metric.labels[0])
        throttled = _selector(metric, result="throttled")
        return (
            "(\n"
            f"  sum by ({by}) (increase({throttled}[10m]))\n"
            f"  / sum by ({by}) (increase({metric.name}[10m])) > @throttledRatio@\n"
            f"  and sum by ({by}) (increase({metric.name}[10m])) >= @throttledMinimum@\n"
            ")"
        )

    return f"{share(catalogue.LOOKS)}\nor\n{share(catalogue.DESTINATION_LOOKS)}"


def _reporting_fails() -> str:
    refused = _selector(catalogue.SINK_CALLS, result="refused")
    return (
        f"{_fleet(catalogue.UNSENT_WINDOWS, INSTALLATION)} > @unsentWindows@\n"
        f"or\n{_grown(refused, INSTALLATION, minutes=60)} > 0"
    )


def _configuration_unreadable() -> str:
    by = (*INSTALLATION, "source_bucket")
    unreadable = _selector(catalogue.CONFIGURATION_READS, result="unreadable")
    readable = _selector(catalogue.CONFIGURATION_READS, result="read|none")
    return (
        f"{_grown(unreadable, by, minutes=60)} > @unreadableReads@\n"
        f"unless\n{_grown(readable, by, minutes=60)} > 0"
    )


def _loop_stalled() -> str:
    limit = "@loopStalledSeconds@"
    attempt, success = catalogue.LOOP_ATTEMPT.name, catalogue.LOOP_SUCCESS.name
    start = f"max by ({_labels(*_PROCESS)}) (process_start_time_seconds)"

    def late(matcher: str, by: tuple[str, ...]) -> str:
        labels = _labels(*by, "loop")
        chosen = f'{{loop{matcher}"{_REPORTERS_ALONE}"}}'
        tried = (
            f"max by ({labels}) (\n"
            f"  {attempt}{chosen}\n"
            f"  - on ({_labels(*_PROCESS)}) group_left () {start}\n"
            ")"
        )
        return (
            f"time() - max by ({labels}) ({success}{chosen}) > {limit}\n"
            f"or\n(\n{_indented(tried)} > {limit}\n"
            f"  unless on ({labels}) {success}\n)"
        )

    running = f"({start} and on ({_labels(*_PROCESS)}) {catalogue.BUILD_INFO.name})"
    return (
        f"{late('!~', _PROCESS)}\nor\n{late('=~', INSTALLATION)}\n"
        f"or\n(\n  time() - {running} > {limit}\n"
        f"  unless on ({_labels(*_PROCESS)}) {attempt}\n)"
    )


# ---- the alerts ----

_PATH = "{{ $labels.source_bucket }} to {{ $labels.destination_bucket }}"
_DURATION = "{{ $value | humanizeDuration }}"
_NUMBER = '{{ $value | printf "%.0f" }}'
_SHARE = "{{ $value | humanizePercentage }}"

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="CrrmonDown",
        severity="critical",
        expression=_down(),
        held_for="5m",
        summary="No replica of crrmon is scraped.",
        description="No replica of crrmon{{ with $labels.job }} (job {{ . }}){{ end }} was scraped for 5 minutes: nobody follows the replication of any bucket. Events wait in the queues meanwhile.",
        metrics=(catalogue.BUILD_INFO,),
    ),
    Alert(
        name="CrrmonRestarting",
        severity="critical",
        expression=_restarting(),
        held_for="0m",
        summary="crrmon starts again and again.",
        description=f"Replicas of crrmon{{{{ with $labels.job }}}} (job {{{{ . }}}}){{{{ end }}}} started again {_NUMBER} times in 30 minutes. Between two starts nobody follows the replication.",
        metrics=(catalogue.BUILD_INFO,),
    ),
    Alert(
        name="CrrmonReplicationFailures",
        severity="warning",
        expression=_failures(),
        held_for="0m",
        summary=f"S3 failed to replicate objects from {_PATH}.",
        description=f"{_NUMBER} objects failed to replicate from {_PATH} in the last 15 minutes{{{{ with $labels.reason }}}}, by the reason {{{{ . }}}}{{{{ end }}}}. S3 does not try them again by itself.",
        metrics=(catalogue.FAILURE_REASONS, catalogue.REPLICATIONS, catalogue.BUILD_INFO),
    ),
    Alert(
        name="CrrmonOpenFailures",
        severity="warning",
        expression=_open_failures(),
        held_for="1h",
        summary=f"Failed objects from {_PATH} are not repaired.",
        description=f"{_NUMBER} objects failed to replicate from {_PATH}, and for an hour nobody has repaired all of them. S3 does not try them again by itself.",
        metrics=(catalogue.FAILED_OBJECTS,),
    ),
    Alert(
        name="CrrmonReplicationErrorRatio",
        severity="critical",
        expression=_error_ratio(),
        held_for="5m",
        summary="Much of what is written to {{ $labels.source_bucket }} fails to replicate.",
        description=f"{_SHARE} of the outcomes of {{{{ $labels.source_bucket }}}} in the last 30 minutes are failures.",
        metrics=(catalogue.REPLICATIONS, catalogue.BUILD_INFO),
    ),
    Alert(
        name="CrrmonObjectStuckPending",
        severity="warning",
        expression=_stuck("stuckPendingSeconds"),
        held_for="2m",
        summary=f"An object is pending for long from {_PATH}.",
        description=f"The oldest object that did not replicate yet from {_PATH} was written {_DURATION} ago.",
        metrics=(catalogue.OLDEST_PENDING,),
    ),
    Alert(
        name="CrrmonObjectStuckPendingLong",
        severity="critical",
        expression=_stuck("stuckPendingLongSeconds"),
        held_for="2m",
        summary=f"An object is pending for very long from {_PATH}.",
        description=f"The oldest object that did not replicate yet from {_PATH} was written {_DURATION} ago.",
        metrics=(catalogue.OLDEST_PENDING,),
    ),
    Alert(
        name="CrrmonLowWaterLag",
        severity="warning",
        expression=_low_water(),
        held_for="5m",
        summary=f"The replication from {_PATH} is complete up to a moment long ago only.",
        description=f"If {{{{ $labels.source_bucket }}}} were lost now, writes of the last {_DURATION} might be missing in {{{{ $labels.destination_bucket }}}}: some of them are pending, failed or not known yet.",
        metrics=(catalogue.COMPLETE_UP_TO,),
    ),
    Alert(
        name="CrrmonBacklogGrowing",
        severity="warning",
        expression=_backlog_growing(),
        held_for="5m",
        summary=f"More and more objects are pending from {_PATH}.",
        description=f"{_NUMBER} more objects than half an hour ago are pending from {_PATH}, and not for a moment only.",
        metrics=(catalogue.PENDING_OBJECTS,),
    ),
    Alert(
        name="CrrmonLatencyP99",
        severity="warning",
        expression=_latency(),
        held_for="10m",
        summary=f"Replication from {_PATH} is slow.",
        description=f"One in a hundred objects that replicated from {_PATH} in the last 30 minutes took longer than {_DURATION}.",
        metrics=(catalogue.LATENCY,),
    ),
    Alert(
        name="CrrmonQueueLag",
        severity="warning",
        expression=f"max by ({_labels(*INSTALLATION, 'queue')}) ({catalogue.QUEUE_AGE.name}) > @queueLagSeconds@",
        held_for="10m",
        summary="crrmon is behind with the queue {{ $labels.queue }}.",
        description=f"Messages lie in the queue {{{{ $labels.queue }}}} for {_DURATION} before crrmon receives them: what it shows is as old.",
        metrics=(catalogue.QUEUE_AGE,),
    ),
    Alert(
        name="CrrmonDeadLetters",
        severity="warning",
        expression=f"{_fleet(catalogue.QUEUE_MESSAGES, (*INSTALLATION, 'queue'), state='dead')} > @deadLetters@",
        held_for="1m",
        summary="The dead-letter queue of {{ $labels.queue }} is not empty.",
        description=f"About {_NUMBER} messages lie in the dead-letter queue of {{{{ $labels.queue }}}}. The objects that they tell of are not followed.",
        metrics=(catalogue.QUEUE_MESSAGES,),
    ),
    Alert(
        name="CrrmonNoEvents",
        severity="critical",
        expression=_no_events(),
        held_for="10m",
        summary="No events come through the queue {{ $labels.queue }}.",
        description=f"Nothing was received from the queue {{{{ $labels.queue }}}} for an hour. In the same hour of yesterday it was {_NUMBER} messages.",
        metrics=(catalogue.MESSAGES, catalogue.BUILD_INFO),
    ),
    Alert(
        name="CrrmonLooksDenied",
        severity="warning",
        expression=f"max by ({_labels(*INSTALLATION, 'bucket')}) ({catalogue.LOOKS_DENIED.name}) == 1",
        held_for="10m",
        summary="crrmon may not look at {{ $labels.bucket }}.",
        description="S3 denies every look at objects of {{ $labels.bucket }}: what becomes of them cannot be seen.",
        metrics=(catalogue.LOOKS_DENIED,),
    ),
    Alert(
        name="CrrmonLooksThrottled",
        severity="warning",
        expression=_looks_throttled(),
        held_for="10m",
        summary="S3 throttles looks at {{ $labels.source_bucket }}{{ $labels.destination_bucket }}.",
        description=f"S3 throttled {_SHARE} of the looks at {{{{ $labels.source_bucket }}}}{{{{ $labels.destination_bucket }}}} in the last 10 minutes. It throttles applications and replication there as well.",
        metrics=(catalogue.LOOKS, catalogue.DESTINATION_LOOKS),
    ),
    Alert(
        name="CrrmonLedgerErrors",
        severity="critical",
        expression=f"sum by ({_labels(*INSTALLATION, 'operation')}) (increase({catalogue.LEDGER_ERRORS.name}[10m])) > @ledgerErrors@",
        held_for="5m",
        summary="The ledger of crrmon does not work.",
        description=f"The ledger operation {{{{ $labels.operation }}}} failed {_NUMBER} times in the last 10 minutes. While the ledger is away, nothing is received; nothing is lost.",
        metrics=(catalogue.LEDGER_ERRORS,),
    ),
    Alert(
        name="CrrmonReportingFails",
        severity="warning",
        expression=_reporting_fails(),
        held_for="10m",
        summary="CloudWatch does not get the metrics of crrmon.",
        description="CloudWatch does not accept what crrmon sends, or refused some of it for good: its alarms and dashboards miss datapoints.",
        metrics=(catalogue.UNSENT_WINDOWS, catalogue.SINK_CALLS, catalogue.BUILD_INFO),
    ),
    Alert(
        name="CrrmonConfigurationUnreadable",
        severity="warning",
        expression=_configuration_unreadable(),
        held_for="10m",
        summary="crrmon cannot read the replication configuration of {{ $labels.source_bucket }}.",
        description=f"The replication configuration of {{{{ $labels.source_bucket }}}} could not be read for an hour ({_NUMBER} attempts): which destinations its objects should reach is not known, or may be out of date.",
        metrics=(catalogue.CONFIGURATION_READS, catalogue.BUILD_INFO),
    ),
    Alert(
        name="CrrmonAccountUnusable",
        severity="warning",
        expression=f"sum by ({_labels(*INSTALLATION, 'account')}) (increase({catalogue.ACCOUNT_ERRORS.name}[10m])) > @accountErrors@",
        held_for="5m",
        summary="crrmon gets no credentials for the account {{ $labels.account }}.",
        description=f"{_NUMBER} attempts to get credentials for the account {{{{ $labels.account }}}} failed in the last 10 minutes: objects of its buckets cannot be looked at.",
        metrics=(catalogue.ACCOUNT_ERRORS,),
    ),
    Alert(
        name="CrrmonEventsLost",
        severity="warning",
        expression=f"{_grown(catalogue.REPLICAS_UNMATCHED.name, (*INSTALLATION, 'destination_bucket'), minutes=60)} > @unmatchedReplicas@",
        held_for="0m",
        summary="Events of what replicates to {{ $labels.destination_bucket }} are lost.",
        description=f"About {_NUMBER} replicas arrived in {{{{ $labels.destination_bucket }}}} of whose source no event came within an hour: crrmon does not see all writes.",
        metrics=(catalogue.REPLICAS_UNMATCHED, catalogue.BUILD_INFO),
    ),
    Alert(
        name="CrrmonPollBehind",
        severity="warning",
        expression=f"max by ({_labels(*INSTALLATION)}) ({catalogue.POLL_BACKLOG.name}) > @pollBehindSeconds@",
        held_for="15m",
        summary="crrmon is behind with its looks.",
        description=f"A look is overdue by {_DURATION}: latencies are known less exactly, and what replicated still counts as pending.",
        metrics=(catalogue.POLL_BACKLOG,),
    ),
    Alert(
        name="CrrmonLoopStalled",
        severity="critical",
        expression=_loop_stalled(),
        held_for="2m",
        summary="A part of crrmon makes no progress.",
        description=f"{{{{ with $labels.loop }}}}The loop {{{{ . }}}}{{{{ else }}}}The daemon{{{{ end }}}}{{{{ with $labels.instance }}}} of {{{{ . }}}}{{{{ end }}}} did nothing to the end for {_DURATION}. What it needs may be away.",
        metrics=(catalogue.LOOP_ATTEMPT, catalogue.LOOP_SUCCESS, catalogue.BUILD_INFO),
    ),
)


# ---- files ----


def _placeholder(name: str) -> str:
    return f"@{name}@"


def _default(name: str) -> str:
    return f"{THRESHOLDS[name].default:g}"


def _filled(expression: str, fill: Fill) -> str:
    return functools.reduce(
        lambda text, name: text.replace(_placeholder(name), fill(name)), THRESHOLDS, expression
    )


def _rule(alert: Alert, fill: Fill) -> str:
    annotations = {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": alert.link,
    }
    texts = "\n".join(f"  {name}: {json.dumps(text)}" for name, text in annotations.items())
    return (
        f"- alert: {alert.name}\n"
        f"  expr: |-\n{_indented(_filled(alert.expression, fill), 4)}\n"
        f"  for: {alert.held_for}\n"
        f"  labels:\n    severity: {alert.severity}\n"
        f"  annotations:\n{_indented(texts)}"
    )


def _rules(note: str, fill: Fill) -> str:
    rules = "\n".join(_rule(alert, fill) for alert in ALERTS)
    return f"# {note}\ngroups:\n  - name: {GROUP}\n    rules:\n{_indented(rules, 6)}\n"


def files() -> dict[str, str]:
    """
    Return both files of rules, by their paths.
    """
    made = "Generated by `make docs` from deploy/artifacts/alerts.py; a test keeps it true."
    return {
        PLAIN_FILE: _rules(f"{made} docs/runbook.md explains each alert.", _default),
        CHART_FILE: _rules(f"{made} The chart puts thresholds where @ stands.", _placeholder),
    }
