"""Alarms: how each looks, and those on what the daemon sends to CloudWatch.

A query finds the buckets: an alarm cannot search, and with a metric by its name each bucket would need an alarm of its
own. Grouped, each bucket or route is in the alarm by itself, so that one that keeps failing does not hide the next.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from crrmon.domain.catalogue import (
    CW_FAILED,
    CW_HEARTBEAT,
    CW_NOT_COVERED,
    CW_QUEUE_AGE,
    CW_STUCK,
)
from crrmon.domain.metric import CloudWatchMetric
from crrmon.domain.templates.intrinsics import given, ref, sub
from crrmon.domain.templates.parameters import NAMES
from crrmon.domain.templates.template import Parameter, Part

Json = Any

_WINDOW: Final = 300
"""The default of report.window_seconds: each window has one datapoint of a metric."""

_CHAINS: Final = 10
"""How many alarms of single buckets are made at once: CloudWatch takes three a second."""

MOST_BUCKETS: Final = 400
"""How many buckets can have an alarm of their own: a template has 500 resources at most, and others are needed, too."""


class TooManyAlarmsError(ValueError):
    """More buckets than can have an alarm of their own; the text says what to do."""


def alarm(description: str, topic: Json, **properties: Json) -> dict[str, Json]:
    """
    Return an alarm that tells when it goes on and off; silence of its metric is no trouble.

    Args:
        description: what it means, and where to read on.
        topic: the ARN of whom it tells.
        properties: of CloudFormation; also in place of what is said above.
    """
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": description,
            "TreatMissingData": "notBreaching",
            "AlarmActions": [topic],
            "OKActions": [topic],
            **properties,
        },
    }


def metric(
    namespace: Json, name: str, dimensions: Mapping[str, Json], statistic: str = "Maximum"
) -> dict[str, Json]:
    """Return the properties of an alarm on one metric: what it is in each window."""
    return {
        "Namespace": namespace,
        "MetricName": name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        "Statistic": statistic,
        "Period": _WINDOW,
    }


def monitor(topic: Json, each: Collection[str] = ()) -> Part:
    """
    Return the alarms on what the daemon sends; `Deployment` and `MetricNamespace` are parameters that they need.

    Args:
        topic: the ARN of whom they tell.
        each: source buckets that have an alarm of their own for failures; with none, one alarm is for all there are,
            and for those to come.

    Raises:
        TooManyAlarmsError: so many cannot have one.
    """
    failures = _failures_of(sorted(set(each)), topic) if each else {"": _failures(topic)}
    resources = {
        **{f"FailedReplicationsAlarm{name}": one for name, one in failures.items()},
        "StuckObjectsAlarm": _stuck(topic),
        "NotCoveredAlarm": {"Condition": "JudgesCoverage", **_not_covered(topic)},
        "QueueAgeAlarm": _queue_age(topic),
        "HeartbeatAlarm": _heartbeat(topic),
    }
    return Part(
        label="Alarms",
        parameters=_PARAMETERS,
        conditions={"JudgesCoverage": given("NotCoveredThreshold")},
        resources=resources,
    )


_PARAMETERS: Final = {
    "FailedThreshold": Parameter(
        type="Number",
        description="Objects of one bucket in five minutes that S3 gave up replicating, above which an alarm fires.",
        default=0,
        least=0,
    ),
    "StuckThreshold": Parameter(
        type="Number",
        description="Objects of one route pending for longer than it allows, above which an alarm fires.",
        default=0,
        least=0,
    ),
    "NotCoveredThreshold": Parameter(
        description=(
            "Objects of one bucket in five minutes that no rule replicates, above which an alarm fires: 0 if the rules cover whole "
            "buckets, more than the usual number if they cover parts. Empty for no such alarm."
        ),
        default="",
        pattern="^$|^[0-9]{1,9}$",
        constraint="must be a number, or empty",
    ),
    "QueueAgeSeconds": Parameter(
        type="Number",
        description="Age in seconds of the oldest message that crrmon receives, above which an alarm fires.",
        default=900,
        least=60,
        most=1_209_600,
    ),
    "HeartbeatPeriods": Parameter(
        type="Number",
        description="Number of five-minute windows without a heartbeat of crrmon after which an alarm fires.",
        default=3,
        least=1,
        most=288,
    ),
}

_FAILURES = (
    "S3 gave up replicating objects. The log shows the objects and, if S3 sends notices, why. "
    "docs/runbook.md#crrmonreplicationfailures"
)


# ---- on every bucket ----


def _failures(topic: Json) -> dict[str, Json]:
    return alarm(_FAILURES, topic, **_query("SUM", CW_FAILED), **_any_failure())


def _any_failure() -> dict[str, Json]:
    """Return when failures are an alarm.

    A window is sent when it is over, or hours later if CloudWatch was unavailable: so an hour is evaluated, not only
    the newest window.
    """
    return {
        "EvaluationPeriods": 12,
        "DatapointsToAlarm": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": ref("FailedThreshold"),
    }


def _stuck(topic: Json) -> dict[str, Json]:
    return alarm(
        "Objects have been pending for longer than their route allows. docs/runbook.md#crrmonobjectstuckpending",
        topic,
        **_query("MAX", CW_STUCK),
        **_two_of_three("StuckThreshold"),
    )


def _not_covered(topic: Json) -> dict[str, Json]:
    return alarm(
        "No rule replicates some of the objects written: a rule may be disabled or gone. docs/runbook.md#crrmonnotcovered",
        topic,
        **_query("MAX", CW_NOT_COVERED),
        # One window proves little: a missing rule shows in all later ones.
        **_two_of_three("NotCoveredThreshold"),
    )


def _two_of_three(threshold: str) -> dict[str, Json]:
    return {
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": ref(threshold),
    }


def _query(function: str, sent: CloudWatchMetric) -> dict[str, Json]:
    """Return the properties of an alarm on a metric of each bucket or route.

    NB: a query that groups must also order, or no alarm can be on it.
    """
    dimensions = ", ".join(sent.dimensions)
    query = (
        f'SELECT {function}({sent.name}) FROM SCHEMA("${{MetricNamespace}}", {dimensions}) '  # noqa: S608 - no SQL
        f"GROUP BY {dimensions} ORDER BY {function}() DESC"
    )
    return {
        "Metrics": [
            {"Id": "each", "Expression": sub(query), "Period": _WINDOW, "ReturnData": True}
        ]
    }


# ---- on single buckets ----


def _failures_of(buckets: Sequence[str], topic: Json) -> dict[str, Json]:
    """Return an alarm for each bucket, by what its resource's name ends with.

    Each waits for another one, for CloudWatch takes few at once. Which one follows from its name, so that one bucket
    more changes no more than one other.
    """
    if len(buckets) > MOST_BUCKETS:
        raise TooManyAlarmsError(
            f"{len(buckets)} buckets cannot have an alarm each, for a stack has room for {MOST_BUCKETS}: "
            "use the one alarm for all buckets, which also names the bucket"
        )
    found: dict[str, Json] = {}
    last: dict[int, str] = {}
    for bucket in buckets:
        digest = hashlib.sha256(bucket.encode()).hexdigest()
        # Names of resources have neither dashes nor dots.
        name, chain = digest[:16], int(digest, 16) % _CHAINS
        waits = {"DependsOn": f"FailedReplicationsAlarm{last[chain]}"} if chain in last else {}
        found[name] = waits | _failures_in(bucket, topic)
        last[chain] = name
    return found


def _failures_in(bucket: str, topic: Json) -> dict[str, Json]:
    (dimension,) = CW_FAILED.dimensions
    return alarm(
        _FAILURES,
        topic,
        AlarmName=sub(NAMES.failures_alarm(bucket)),
        **metric(ref("MetricNamespace"), CW_FAILED.name, {dimension: bucket}, "Sum"),
        **_any_failure(),
    )


# ---- on the daemon ----


def _queue_age(topic: Json) -> dict[str, Json]:
    """Return the alarm on delay: the daemon tells of the oldest message of all queues, in all regions."""
    return alarm(
        "The oldest message in crrmon's queues is too old: crrmon reports late. docs/runbook.md#crrmonqueuelag",
        topic,
        **_of_the_daemon(CW_QUEUE_AGE, "Maximum"),
        EvaluationPeriods=3,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=ref("QueueAgeSeconds"),
    )


def _heartbeat(topic: Json) -> dict[str, Json]:
    return alarm(
        "crrmon sends no heartbeat: do not trust its other metrics and alarms, or their silence. docs/runbook.md#crrmondown",
        topic,
        **_of_the_daemon(CW_HEARTBEAT, "Sum"),
        EvaluationPeriods=ref("HeartbeatPeriods"),
        ComparisonOperator="LessThanThreshold",
        Threshold=1,
        TreatMissingData="breaching",
    )


def _of_the_daemon(sent: CloudWatchMetric, statistic: str) -> dict[str, Json]:
    (dimension,) = sent.dimensions
    return metric(ref("MetricNamespace"), sent.name, {dimension: ref("Deployment")}, statistic)
