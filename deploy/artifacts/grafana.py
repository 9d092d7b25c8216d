"""The Grafana dashboard: what it shows, and the JSON that Grafana expects."""

import json
from typing import Any

from artifacts.alerts import RUNBOOK
from artifacts.panels import (
    RANGE,
    RATE,
    ROUTE,
    Color,
    Measure,
    Panel,
    Place,
    Query,
    Row,
    Shape,
    Step,
    age,
    fleet,
    grown,
    heat,
    highest,
    lowest,
    oldest_age,
    placed,
    process,
    quantile,
    rate,
    recorded,
    series,
)
from crrmon.domain import catalogue
from crrmon.domain.metric import Metric

FILES = ("deploy/grafana/crrmon.json", "helm/crrmon/files/dashboard.json")

UID = "crrmon"
TITLE = "S3 replication (crrmon)"
SCHEMA = 39
"""The schema of Grafana 11.0; later versions read it, too."""

CLIENT_METRICS = (
    "process_start_time_seconds",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
)
"""Not in the catalogue: the client library adds them to every page of metrics."""

NOT_SHOWN: dict[Metric, str] = {}
"""Metrics without a panel, and why."""

Json = dict[str, Any]

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}

_FROM_TO = "{{source_bucket}} to {{destination_bucket}}"
_ROUTE_HEADINGS = (("source_bucket", "Source"), ("destination_bucket", "Destination"))

_AGAINST_ZERO = (Step(None, Color.GOOD), Step(1, Color.BAD))
_AGAINST_SLA = (Step(None, Color.GOOD), Step(900, Color.WATCH), Step(3600, Color.BAD))
"""15 minutes is what S3 promises with Replication Time Control."""


def _share(part: str, whole: str) -> str:
    """Divide, and return nothing if nothing happened."""
    return f"({part}) / ({whole} > 0)"


def _succeeded(*labels: str, window: str) -> str:
    ended = grown(catalogue.REPLICATIONS, *labels, window=window, status="completed|failed")
    done = grown(catalogue.REPLICATIONS, *labels, window=window, status="completed")
    return _share(f"{done} or 0 * {ended}", ended)


OVERVIEW = Row(
    number=100,
    title="Overview",
    panels=(
        Panel(
            number=101,
            title="Success rate",
            description="Completed outcomes as a share of completed and failed ones in the time range shown. Below 100 %, check the reasons in the row Failures: S3, unlike other stores, does not retry by itself.",
            queries=(Query(expression=_succeeded(window=RANGE)),),
            shape=Shape.NUMBER,
            unit=Measure.SHARE,
            decimals=2,
            maximum=1,
            width=4,
            height=5,
            steps=(Step(None, Color.BAD), Step(0.95, Color.WATCH), Step(1, Color.GOOD)),
            empty="no outcomes",
            runbook=("CrrmonReplicatedBudgetBurn",),
        ),
        Panel(
            number=102,
            title="Failed now",
            description="Open failures: objects that failed and have not been repaired since. Fix the cause, then run Batch Replication on them; stores other than S3 retry by themselves.",
            queries=(Query(expression=fleet(catalogue.FAILED_OBJECTS)),),
            shape=Shape.NUMBER,
            width=4,
            height=5,
            steps=_AGAINST_ZERO,
            empty="unknown",
            runbook=("CrrmonReplicationFailures",),
        ),
        Panel(
            number=103,
            title="Pending now",
            description="Objects written but not yet replicated. If the number only grows, S3 or the network cannot keep up, or a rule is broken; compare with the oldest.",
            queries=(Query(expression=fleet(catalogue.PENDING_OBJECTS)),),
            shape=Shape.NUMBER,
            width=4,
            height=5,
            empty="unknown",
            runbook=("CrrmonBacklogGrowing",),
        ),
        Panel(
            number=104,
            title="Oldest pending",
            description="Age of the oldest pending object. Above 15 minutes S3 is late by its own measure; above an hour, check that the route's rule, role and keys still work.",
            queries=(Query(expression=oldest_age()),),
            shape=Shape.NUMBER,
            unit=Measure.SECONDS,
            width=4,
            height=5,
            steps=_AGAINST_SLA,
            empty="unknown",
            runbook=("CrrmonObjectStuckPending",),
        ),
        Panel(
            number=105,
            title="Latency in this time range",
            description="From the write to the replica: median and 99th percentile in the time range shown, estimated from buckets. The row Latency shows the routes.",
            queries=(
                Query(expression=quantile(0.5, catalogue.LATENCY, window=RANGE), legend="median"),
                Query(expression=quantile(0.99, catalogue.LATENCY, window=RANGE), legend="p99"),
            ),
            shape=Shape.NUMBER,
            unit=Measure.SECONDS,
            width=5,
            height=5,
            steps=_AGAINST_SLA,
            empty="no outcomes",
            runbook=("CrrmonOnTimeBudgetBurn",),
        ),
        Panel(
            number=106,
            title="Buckets denied",
            description="Buckets at which S3 denies every look. The outcomes of their objects are unknown: fix the daemon's permissions before you trust any other panel.",
            queries=(
                Query(
                    expression=f"sum({highest(catalogue.ACCESS_DENIED, *catalogue.ACCESS_DENIED.labels)})"
                ),
            ),
            shape=Shape.NUMBER,
            width=3,
            height=5,
            steps=_AGAINST_ZERO,
            empty="none",
            runbook=("CrrmonAccessDenied",),
        ),
        Panel(
            number=107,
            title="Routes",
            description="Everything open, by route. `Complete up to`: age of the moment before which nothing is pending, failed or waiting in a queue; a restore from the replica would miss everything written since. It is empty while it is unknown. `Settled up to`: the same, but ignoring failures. `Abandoned`: age of an object that is no longer followed and never arrived. `Rule`: 0 where no enabled rule leads there any longer.",
            queries=(
                Query(
                    expression=age(catalogue.COMPLETE_UP_TO, *ROUTE),
                    column="Complete up to",
                    unit=Measure.SECONDS,
                ),
                Query(expression=fleet(catalogue.PENDING_OBJECTS, *ROUTE), column="Pending"),
                Query(
                    expression=oldest_age(*ROUTE), column="Oldest pending", unit=Measure.SECONDS
                ),
                Query(expression=fleet(catalogue.STUCK_OBJECTS, *ROUTE), column="Stuck"),
                Query(expression=fleet(catalogue.FAILED_OBJECTS, *ROUTE), column="Failed"),
                Query(
                    expression=age(catalogue.SETTLED_UP_TO, *ROUTE),
                    column="Settled up to",
                    unit=Measure.SECONDS,
                ),
                Query(
                    expression=age(catalogue.COMPLETE_BLOCKED, *ROUTE),
                    column="Abandoned",
                    unit=Measure.SECONDS,
                ),
                Query(expression=fleet(catalogue.ROUTE_CONFIGURED, *ROUTE), column="Rule"),
            ),
            shape=Shape.TABLE,
            width=24,
            headings=_ROUTE_HEADINGS,
            runbook=("CrrmonLowWaterLag", "CrrmonCompleteUpToHeld", "CrrmonRouteGone"),
        ),
        Panel(
            number=108,
            title="Outcomes",
            description="Objects per second by outcome. `gone`: deleted before they replicated. `unreadable`: encrypted with a customer-provided key, so crrmon cannot look. `given_up`: not final after the longest time allowed.",
            queries=(
                Query(expression=rate(catalogue.REPLICATIONS, "status"), legend="{{status}}"),
            ),
            unit=Measure.PER_SECOND,
            width=12,
            stacked=True,
        ),
        Panel(
            number=109,
            title="Bytes replicated",
            description="Bytes per second of the objects whose replication completed, by route. Check any route that falls to zero while its source is being written to.",
            queries=(Query(expression=rate(catalogue.REPLICATED_BYTES, *ROUTE), legend=_FROM_TO),),
            unit=Measure.BYTES_PER_SECOND,
            width=12,
            stacked=True,
        ),
    ),
)

_BURNS = (Step(None, Color.GOOD), Step(1, Color.WATCH), Step(14.4, Color.BAD))

OBJECTIVES = Row(
    number=1000,
    title="Objectives",
    panels=tuple(
        Panel(
            number=number,
            title=title,
            description=f"{about} 1 uses up exactly what the objective allows; 14.4 for an hour pages somebody. Needs crrmon's recording rules.",
            queries=tuple(
                Query(
                    expression=recorded(f"crrmon:slo_burn_rate:{window}", slo=slo),
                    legend=f"{_FROM_TO}: {window}",
                )
                for window in ("1h", "3d")
            ),
            width=12,
            steps=_BURNS,
            empty="no rules, or no outcomes",
            runbook=(alert,),
        )
        for number, title, slo, about, alert in (
            (
                *(1001, "Burn rate: replicated", "replicated"),
                "How fast the budget for failures is used up, as a multiple of what is allowed, by route.",
                "CrrmonReplicatedBudgetBurn",
            ),
            (
                *(1002, "Burn rate: on time", "on_time"),
                "How fast the budget for objects that arrive after more than 15 minutes is used up, as a multiple of what is allowed, by route.",
                "CrrmonOnTimeBudgetBurn",
            ),
        )
    ),
)

PENDING = Row(
    number=200,
    title="Pending",
    panels=(
        Panel(
            number=201,
            title="Pending by age",
            description="Objects not yet replicated, by the time since they were written. The young ones are normal traffic; investigate those over an hour old.",
            queries=(Query(expression=fleet(catalogue.PENDING_BY_AGE, "age"), legend="{{age}}"),),
            stacked=True,
            runbook=("CrrmonObjectStuckPending",),
        ),
        Panel(
            number=202,
            title="Pending objects by destination",
            description="If only one destination grows, check its bucket, its key and the network to its region. If all do, check the source, its rule and its role.",
            queries=(
                Query(
                    expression=fleet(catalogue.PENDING_OBJECTS, "destination_bucket"),
                    legend="{{destination_bucket}}",
                ),
            ),
            stacked=True,
            runbook=("CrrmonBacklogGrowing",),
        ),
        Panel(
            number=203,
            title="Pending bytes by destination",
            description="Bytes not yet replicated, where the size is known. A few very large objects replicate slowly even when nothing is wrong.",
            queries=(
                Query(
                    expression=fleet(catalogue.PENDING_BYTES, "destination_bucket"),
                    legend="{{destination_bucket}}",
                ),
            ),
            unit=Measure.BYTES,
            stacked=True,
        ),
        Panel(
            number=204,
            title="Oldest pending by route",
            description="Age of each route's oldest pending object; 0 when none is pending. A line that rises second by second is one object that is stuck.",
            queries=(Query(expression=oldest_age(*ROUTE), legend=_FROM_TO),),
            unit=Measure.SECONDS,
            steps=_AGAINST_SLA,
            width=12,
            runbook=("CrrmonObjectStuckPending",),
        ),
        Panel(
            number=205,
            title="Stuck objects",
            description="Objects pending for longer than the configured threshold. S3 may still replicate them; without Replication Time Control it sends no notice.",
            queries=(Query(expression=fleet(catalogue.STUCK_OBJECTS, *ROUTE), legend=_FROM_TO),),
            width=12,
            stacked=True,
            runbook=("CrrmonObjectStuckPending",),
        ),
    ),
)

FAILURES = Row(
    number=300,
    title="Failures",
    panels=(
        Panel(
            number=301,
            title="Failures by reason",
            description="Failures whose reason S3's own notices reported. docs/failure-reasons.md says how to fix each. Without notices there are no reasons; see the next panel.",
            queries=(
                Query(expression=grown(catalogue.FAILURE_REASONS, "reason"), legend="{{reason}}"),
            ),
            stacked=True,
            runbook=("CrrmonReplicationFailures",),
        ),
        Panel(
            number=302,
            title="Failures by source bucket",
            description="Episodes of failure, with or without a known reason. If only one bucket fails, check its rule, role and key. If all do, check the destination and its key.",
            queries=(
                Query(
                    expression=grown(catalogue.REPLICATIONS, "source_bucket", status="failed"),
                    legend="{{source_bucket}}",
                ),
            ),
            stacked=True,
            runbook=("CrrmonReplicationFailures",),
        ),
        Panel(
            number=303,
            title="Failed and repaired",
            description="Open failures, and objects that completed after a failure. Once the cause is fixed (and, for S3, Batch Replication has run), the first must fall while the second rises.",
            queries=(
                Query(expression=fleet(catalogue.FAILED_OBJECTS), legend="open failures"),
                Query(expression=grown(catalogue.RECOVERED), legend="repaired"),
            ),
        ),
        Panel(
            number=304,
            title="Routes with the most failures",
            description="The ten routes with the most open failures, and what happened on them in the time range shown. Destination `unknown`: S3 did not report which destination failed.",
            queries=(
                Query(
                    expression=f"topk(10, {fleet(catalogue.FAILED_OBJECTS, *ROUTE)} > 0)",
                    column="Open failures",
                ),
                Query(
                    expression=f"topk(10, {grown(catalogue.REPLICATIONS, *ROUTE, window=RANGE, status='failed')} > 0)",
                    column="Failed in this time range",
                ),
                Query(
                    expression=f"topk(10, {grown(catalogue.RECOVERED, *ROUTE, window=RANGE)} > 0)",
                    column="Repaired in this time range",
                ),
            ),
            shape=Shape.TABLE,
            width=16,
            headings=_ROUTE_HEADINGS,
            empty="no failures",
            runbook=("CrrmonReplicationFailures",),
        ),
        Panel(
            number=305,
            title="Delete markers",
            description="Delete markers that a rule replicates. They are not followed one by one: a lasting gap between `created` and `arrived`, or any `failed`, is the only sign of trouble. `purge failed`: permanent deletions that a store replicates, as MinIO does, and that failed.",
            queries=(
                Query(expression=grown(catalogue.DELETE_MARKERS, "status"), legend="{{status}}"),
                Query(expression=grown(catalogue.PURGES_FAILED), legend="purge failed"),
            ),
        ),
    ),
)

LATENCY = Row(
    number=400,
    title="Latency",
    panels=(
        Panel(
            number=401,
            title="Latency, all routes",
            description="Distribution of the time from the write to the replica. Two bands mean two kinds of objects, usually small and large ones, or near and far destinations.",
            queries=(Query(expression=heat(catalogue.LATENCY), legend="{{le}}"),),
            shape=Shape.HEATMAP,
            unit=Measure.SECONDS,
            width=12,
            height=9,
        ),
        Panel(
            number=402,
            title="Quantiles",
            description="Estimated from buckets, over all selected routes. If the median moves, traffic or distance changed; if only the 99th percentile moves, check large objects and throttling.",
            queries=tuple(
                Query(expression=quantile(share, catalogue.LATENCY), legend=legend)
                for share, legend in ((0.5, "median"), (0.9, "p90"), (0.99, "p99"))
            ),
            unit=Measure.SECONDS,
            width=12,
            height=9,
            steps=_AGAINST_SLA,
            runbook=("CrrmonOnTimeBudgetBurn",),
        ),
        Panel(
            number=403,
            title="99th percentile by route",
            description="Shows which route is slow. Compare with the pending bytes of its destination.",
            queries=(
                Query(expression=quantile(0.99, catalogue.LATENCY, *ROUTE), legend=_FROM_TO),
            ),
            unit=Measure.SECONDS,
            steps=_AGAINST_SLA,
            runbook=("CrrmonOnTimeBudgetBurn",),
        ),
        Panel(
            number=404,
            title="Late",
            description="Objects that completed more than 15 minutes after the write, and S3's own notices about its 15-minute threshold. Notices come only from rules with Replication Time Control. If many objects are late at once, check the pending bytes and the destination's region.",
            queries=(
                Query(expression=grown(catalogue.LATE), legend="late"),
                Query(
                    expression=grown(catalogue.THRESHOLD_NOTICES, "kind"),
                    legend="notice: {{kind}}",
                ),
            ),
            runbook=("CrrmonObjectStuckPending",),
        ),
        Panel(
            number=405,
            title="Latency accuracy",
            description="`exact`: share of latencies taken from the replica's own event. `hidden`: highest share of a route's objects that are done before crrmon can look; from 50 % on, the route's median is only an upper bound. For exact latencies, have the destination buckets send events.",
            queries=(
                Query(
                    expression=_share(
                        rate(catalogue.LATENCY_EXACT),
                        f"sum(rate({series(catalogue.LATENCY, part='_count')}[{RATE}]))",
                    ),
                    legend="exact",
                ),
                Query(expression=highest(catalogue.LATENCY_HIDDEN), legend="hidden"),
            ),
            unit=Measure.SHARE,
            maximum=1,
        ),
    ),
)

INGEST = Row(
    number=500,
    title="Ingest",
    panels=(
        Panel(
            number=501,
            title="Events by kind",
            description="Parts of messages received per second. If there is no `object_written` while sources are being written to, events do not arrive: check the trail, the EventBridge rule or the bucket notification.",
            queries=(Query(expression=rate(catalogue.EVENTS, "kind"), legend="{{kind}}"),),
            unit=Measure.PER_SECOND,
            stacked=True,
            runbook=("CrrmonNoEvents",),
        ),
        Panel(
            number=502,
            title="Messages by queue",
            description="Messages received per second, and those returned unprocessed. `malformed` ones end up in the dead-letter queue: inspect one of them there. A webhook's were accepted and discarded: the log says what was wrong with them.",
            queries=(
                Query(
                    expression=rate(catalogue.MESSAGES, "queue", "kind"),
                    legend="{{queue}}: {{kind}}",
                ),
                Query(
                    expression=rate(catalogue.RETURNED_MESSAGES, "queue"),
                    legend="{{queue}}: returned",
                ),
            ),
            unit=Measure.PER_SECOND,
            runbook=("CrrmonNoEvents", "CrrmonMalformedEvents"),
        ),
        Panel(
            number=503,
            title="Dead letters",
            description="Messages in the dead-letter queues. Each may be an object that is not followed: read them, fix the cause and send them back with a redrive.",
            queries=(
                Query(
                    expression=fleet(catalogue.QUEUE_MESSAGES, "queue", state="dead"),
                    legend="{{queue}}",
                ),
            ),
            shape=Shape.NUMBER,
            steps=_AGAINST_ZERO,
            empty="none known",
            runbook=("CrrmonDeadLetters",),
        ),
        Panel(
            number=504,
            title="Queue depth",
            description="Messages by state; `held` are those that a replica is holding. If `visible` only grows, add replicas. `in_flight` is mostly messages held until their first look is due.",
            queries=(
                Query(
                    expression=fleet(
                        catalogue.QUEUE_MESSAGES,
                        *("queue", "state"),
                        state="visible|in_flight|delayed",
                    ),
                    legend="{{queue}}: {{state}}",
                ),
                Query(
                    expression=f"sum by (queue) ({series(catalogue.MESSAGES_IN_FLIGHT)})",
                    legend="{{queue}}: held",
                ),
            ),
            runbook=("CrrmonQueueLag",),
        ),
        Panel(
            number=505,
            title="Time in the queue",
            description="Age of the oldest message recently received, and how long messages waited before they were received. Above a few minutes, add replicas, or check what the replicas wait for (row Ledger and reporting).",
            queries=(
                Query(
                    expression=highest(catalogue.QUEUE_AGE, "queue"), legend="{{queue}}: oldest"
                ),
                Query(
                    expression=quantile(0.99, catalogue.QUEUE_DURATION, "queue"),
                    legend="{{queue}}: p99",
                ),
            ),
            unit=Measure.SECONDS,
            runbook=("CrrmonQueueLag",),
        ),
        Panel(
            number=506,
            title="Event delay",
            description="From the write to the message's arrival in the queue, by channel. CloudTrail is always minutes late; that is not caused by crrmon, but latencies cannot be seen any earlier.",
            queries=(
                Query(
                    expression=quantile(0.5, catalogue.EVENT_DELAY, "channel"),
                    legend="{{channel}}: median",
                ),
                Query(
                    expression=quantile(0.99, catalogue.EVENT_DELAY, "channel"),
                    legend="{{channel}}: p99",
                ),
            ),
            unit=Measure.SECONDS,
        ),
        Panel(
            number=507,
            title="Events set aside",
            description="`duplicate`: versions already counted, harmless. `too old`: written before the dedup retention, followed but not counted as new. `unidentified`: the event has no version id and its object is no longer the current version, so the version to follow is unknown. `implausible time`: the event's time cannot be right.",
            queries=(
                Query(expression=rate(catalogue.DUPLICATES), legend="duplicate"),
                Query(expression=rate(catalogue.BEYOND_RETENTION), legend="too old"),
                Query(expression=rate(catalogue.UNIDENTIFIED), legend="unidentified"),
                Query(expression=rate(catalogue.IMPLAUSIBLE_TIMES), legend="implausible time"),
            ),
            unit=Measure.PER_SECOND,
            width=12,
            runbook=("CrrmonImplausibleTimes",),
        ),
        Panel(
            number=508,
            title="Silence by bucket",
            description="Time since any replica last received a message about a write to each bucket. If a line rises where it usually does not, nobody is writing, or the bucket's events are lost on the way.",
            queries=(
                Query(
                    expression=f"time() - {highest(catalogue.LAST_EVENT, 'source_bucket')}",
                    legend="{{source_bucket}}",
                ),
            ),
            unit=Measure.SECONDS,
            width=12,
            runbook=("CrrmonBucketSilent", "CrrmonNoEvents"),
        ),
        Panel(
            number=509,
            title="Answers to senders",
            description="Requests to webhooks per second by response status. Senders keep events that are not answered with 200, and most send nothing else meanwhile. `401`: a store uses a different token. `503`: the ledger or the store is unavailable, or there are more requests than the ledger can take.",
            queries=(
                Query(
                    expression=rate(catalogue.WEBHOOK_REQUESTS, "queue", "status"),
                    legend="{{queue}}: {{status}}",
                ),
            ),
            unit=Measure.PER_SECOND,
            width=24,
        ),
    ),
)

LOOKING = Row(
    number=600,
    title="Looking",
    panels=(
        Panel(
            number=601,
            title="HEAD requests by result",
            description="HEAD requests per second to source buckets, by result. `denied`: permissions are missing. `throttled`: S3 slows crrmon down, and crrmon then sends fewer requests.",
            queries=(
                Query(
                    expression=rate(catalogue.HEAD_REQUESTS, "result", target="source"),
                    legend="{{result}}",
                ),
            ),
            unit=Measure.PER_SECOND,
            stacked=True,
            runbook=("CrrmonAccessDenied", "CrrmonS3Throttling"),
        ),
        Panel(
            number=602,
            title="HEAD requests at destinations by result",
            description="HEAD requests per second to destination buckets, made where the source's status is not enough. `denied`: allow the daemon's role to read the destinations' objects.",
            queries=(
                Query(
                    expression=rate(catalogue.HEAD_REQUESTS, "result", target="destination"),
                    legend="{{result}}",
                ),
            ),
            unit=Measure.PER_SECOND,
            stacked=True,
            runbook=("CrrmonAccessDenied",),
        ),
        Panel(
            number=603,
            title="HEAD request duration",
            description="How long HEAD requests took. If it rises without throttling, check the network, proxies and the daemon's CPU.",
            queries=(
                Query(expression=quantile(0.5, catalogue.HEAD_DURATION), legend="median"),
                Query(expression=quantile(0.99, catalogue.HEAD_DURATION), legend="p99"),
            ),
            unit=Measure.SECONDS,
        ),
        Panel(
            number=604,
            title="Denied buckets",
            description="Buckets at which S3 denies every look. Grant the role that crrmon assumes there s3:GetObject and s3:GetObjectVersion on their objects, and s3:ListBucket on the buckets.",
            queries=(
                Query(
                    expression=f"{highest(catalogue.ACCESS_DENIED, 'bucket')} > 0",
                    column="Denied",
                ),
            ),
            shape=Shape.TABLE,
            headings=(("bucket", "Bucket"),),
            empty="none",
            runbook=("CrrmonAccessDenied",),
        ),
        Panel(
            number=605,
            title="Throttled HEAD requests by bucket",
            description="HEAD requests per second that S3 answered with Slow Down. A few are harmless. Many mean that others use the same prefix heavily, or that there are too many replicas.",
            queries=(
                *(
                    Query(
                        expression=rate(
                            catalogue.HEAD_REQUESTS, "bucket", target=target, result="throttled"
                        ),
                        legend="{{bucket}}",
                    )
                    for target in ("source", "destination")
                ),
            ),
            unit=Measure.PER_SECOND,
            runbook=("CrrmonS3Throttling",),
        ),
        Panel(
            number=606,
            title="Late looks",
            description="`backlog`: how long the most overdue look has been waiting. `p99`: how late looks were made. If the backlog grows and nothing is throttled, add replicas.",
            queries=(
                Query(expression=highest(catalogue.POLL_OVERDUE), legend="backlog"),
                Query(expression=quantile(0.99, catalogue.POLL_LAG), legend="p99"),
            ),
            unit=Measure.SECONDS,
            runbook=("CrrmonPollBehind",),
        ),
        Panel(
            number=607,
            title="Settling held",
            description="Routes on which nothing is settled as gone, because a far larger share than ever appears as gone: somebody is emptying the bucket, or the server that answers is not S3.",
            queries=(
                Query(
                    expression=f"{highest(catalogue.SETTLING_HELD, *ROUTE)} > 0", legend=_FROM_TO
                ),
            ),
            width=12,
            height=6,
            empty="none",
            runbook=("CrrmonSettlingHeld",),
        ),
        Panel(
            number=608,
            title="Failed polls",
            description="Polls of pending objects that ended in a bug in the daemon, and objects deferred because of it. Please report any of them: the log has the traceback.",
            queries=(
                Query(expression=grown(catalogue.POLLS_FAILED), legend="failed"),
                Query(
                    expression=f"sum({series(catalogue.POLLS_DEFERRED)})",
                    legend="objects deferred",
                ),
            ),
            width=12,
            height=6,
            runbook=("CrrmonPollsFail",),
        ),
    ),
)

LEDGER = Row(
    number=700,
    title="Ledger and reporting",
    panels=(
        Panel(
            number=701,
            title="Ledger errors by operation",
            description="Operations that failed and were retried. While the ledger is unavailable nothing is received, and nothing is lost; check the server, its permissions and its limits.",
            queries=(
                Query(
                    expression=grown(catalogue.LEDGER_ERRORS, "operation"), legend="{{operation}}"
                ),
            ),
            width=6,
            stacked=True,
            runbook=("CrrmonLedgerErrors",),
        ),
        Panel(
            number=702,
            title="Ledger operations, p99",
            description="How long ledger operations took. A slow ledger slows everything down: compare with the time in the queue.",
            queries=(
                Query(
                    expression=quantile(0.99, catalogue.LEDGER_DURATION, "operation"),
                    legend="{{operation}}",
                ),
            ),
            unit=Measure.SECONDS,
            width=6,
        ),
        Panel(
            number=703,
            title="Calls to CloudWatch",
            description="Calls by result. `failed` calls are retried. `refused` ones are not: CloudWatch rejected the data, and the log says why.",
            queries=(
                Query(
                    expression=grown(catalogue.CLOUDWATCH_REQUESTS, "result"), legend="{{result}}"
                ),
            ),
            width=6,
            stacked=True,
            runbook=("CrrmonReportingFails",),
        ),
        Panel(
            number=704,
            title="Unsent windows",
            description="Windows that CloudWatch has not accepted yet; 100 stands for 100 or more. They are retried for up to two weeks, then they are lost: fix the permission cloudwatch:PutMetricData or the network before that.",
            queries=(Query(expression=highest(catalogue.UNSENT_WINDOWS), legend="windows"),),
            width=6,
            runbook=("CrrmonReportingFails",),
        ),
    ),
)

COVERAGE = Row(
    number=800,
    title="Coverage and configuration",
    panels=(
        Panel(
            number=801,
            title="Not covered by cause",
            description="Objects written that no rule replicates. docs/events.md explains the causes. An unintended cause means data without a replica.",
            queries=(Query(expression=grown(catalogue.NOT_COVERED, "cause"), legend="{{cause}}"),),
            width=6,
            stacked=True,
            runbook=("CrrmonNotCovered", "CrrmonRouteGone"),
        ),
        Panel(
            number=802,
            title="Configuration reads",
            description="Reads of replication configurations by result. `unreadable`: the role lacks s3:GetReplicationConfiguration, so routes are guessed from events. `none`: a bucket without replication sends events.",
            queries=(
                Query(
                    expression=grown(catalogue.CONFIGURATION_READS, "result"),
                    legend="{{result}}",
                ),
            ),
            width=6,
            stacked=True,
            runbook=("CrrmonConfigurationUnreadable",),
        ),
        Panel(
            number=803,
            title="Account errors",
            description="Failed attempts to get an account's credentials. Its objects stay pending meanwhile: check the trust policy and the external ID of its role.",
            queries=(
                Query(expression=grown(catalogue.ACCOUNT_ERRORS, "account"), legend="{{account}}"),
            ),
            width=6,
            stacked=True,
            runbook=("CrrmonAccountUnusable",),
        ),
        Panel(
            number=804,
            title="Orphaned replicas",
            description="Replicas without an event from their source within an hour. The source's events are lost or never sent, so some written objects are not followed.",
            queries=(
                Query(
                    expression=grown(catalogue.REPLICAS_ORPHANED, "destination_bucket"),
                    legend="{{destination_bucket}}",
                ),
            ),
            width=6,
            stacked=True,
            runbook=("CrrmonEventsLost",),
        ),
    ),
)

DAEMON = Row(
    number=900,
    title="Daemon",
    panels=(
        Panel(
            number=901,
            title="Replicas by version",
            description="Scraped daemons. If there are none, nothing is followed, and messages wait in the queues. Two versions for a long time mean that an upgrade is stuck.",
            queries=(
                Query(
                    expression=f"count by (version) ({series(catalogue.BUILD_INFO)})",
                    legend="{{version}}",
                ),
            ),
            shape=Shape.NUMBER,
            steps=(Step(None, Color.BAD), Step(1, Color.GOOD)),
            width=6,
            empty="none",
            runbook=("CrrmonDown", "CrrmonRestarting"),
        ),
        Panel(
            number=902,
            title="Loops",
            description="Time since each loop last started a round, and last completed one without errors, on the replica that is furthest behind. If only the success ages, the log says what fails. If both age, the loop hangs, and /livez will report it. Only on the reporting replica do `fleet` and `publisher` succeed.",
            queries=(
                Query(
                    expression=age(catalogue.LOOP_SUCCESS, "loop"),
                    column="Last success",
                    unit=Measure.SECONDS,
                ),
                Query(
                    expression=age(catalogue.LOOP_ATTEMPT, "loop"),
                    column="Last attempt",
                    unit=Measure.SECONDS,
                ),
            ),
            shape=Shape.TABLE,
            headings=(("loop", "Loop"),),
            width=6,
            runbook=("CrrmonLoopStalled",),
        ),
        Panel(
            number=903,
            title="Memory",
            description="Resident memory of each replica. Please report a steady rise over days; with the ledger `memory` the rise is the ledger itself.",
            queries=(
                Query(expression=process("process_resident_memory_bytes"), legend="{{instance}}"),
            ),
            unit=Measure.BYTES,
            width=6,
        ),
        Panel(
            number=904,
            title="CPU",
            description="CPU cores used by each replica. A replica uses one core at most: near 1, add replicas, which need the ledger redis or dynamodb.",
            queries=(
                Query(
                    expression=f"rate({process('process_cpu_seconds_total')}[{RATE}])",
                    legend="{{instance}}",
                ),
            ),
            unit=Measure.CORES,
            width=6,
        ),
        Panel(
            number=905,
            title="Dependencies",
            description="Each dependency of the daemon, whether it answers all replicas (0: at least one of them gets no answer), and for how long. The log event dependency_unavailable says why.",
            queries=(
                Query(expression=lowest(catalogue.DEPENDENCY_UP, "dependency"), column="Up"),
                Query(
                    expression=age(catalogue.DEPENDENCY_SINCE, "dependency"),
                    column="For",
                    unit=Measure.SECONDS,
                ),
            ),
            shape=Shape.TABLE,
            headings=(("dependency", "Dependency"),),
            width=12,
            runbook=("CrrmonDependencyDown",),
        ),
        Panel(
            number=906,
            title="Clock offset",
            description="Difference between the clock of each replica and that of AWS, ahead or behind, by the Date of AWS's answers. Above a few seconds, fix the node's time service.",
            queries=(
                Query(expression=f"abs({series(catalogue.CLOCK_OFFSET)})", legend="{{instance}}"),
            ),
            unit=Measure.SECONDS,
            steps=(Step(None, Color.GOOD), Step(5, Color.WATCH), Step(60, Color.BAD)),
            width=12,
            runbook=("CrrmonClockWrong",),
        ),
    ),
)

ROWS = (
    *(OVERVIEW, OBJECTIVES, PENDING, FAILURES, LATENCY),
    *(INGEST, LOOKING, LEDGER, COVERAGE, DAEMON),
)

# ---- Grafana's JSON ----

_GAP_MILLISECONDS = 300_000
"""Lines bridge the time that the fleet's gauges need to move to another replica."""


def _target(panel: Panel, place: int, query: Query) -> Json:
    once = panel.shape in (Shape.NUMBER, Shape.TABLE)
    forms = {Shape.TABLE: "table", Shape.HEATMAP: "heatmap"}
    return {
        "refId": chr(ord("A") + place),
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "format": forms.get(panel.shape, "time_series"),
        "instant": once,
        "range": not once,
    }


def _defaults(panel: Panel) -> Json:
    fixed = len(panel.steps) == 1
    drawn = panel.shape is Shape.LINES
    told: Json = {
        "unit": panel.unit.value,
        "noValue": panel.empty,
        "min": 0,
        "color": {"mode": "palette-classic" if drawn else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": step.value, "color": step.color.value} for step in panel.steps],
        },
    }
    if panel.maximum is not None:
        told["max"] = panel.maximum
    if panel.decimals is not None:
        told["decimals"] = panel.decimals
    if drawn:
        told["custom"] = {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 8,
            "showPoints": "auto",
            "pointSize": 4,
            "spanNulls": _GAP_MILLISECONDS,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if fixed else "dashed"},
        }
    return told


def _overrides(panel: Panel) -> list[Json]:
    return [
        {
            "matcher": {"id": "byName", "options": query.column},
            "properties": [{"id": "unit", "value": query.unit.value}],
        }
        for query in panel.queries
        if query.unit is not None
    ]


def _transformations(panel: Panel) -> list[Json]:
    if panel.shape is not Shape.TABLE:
        return []
    single = len(panel.queries) == 1
    values = {
        "Value" if single else f"Value #{chr(ord('A') + place)}": query.column
        for place, query in enumerate(panel.queries)
    }
    names = dict(panel.headings) | values
    return [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate(names)},
                "renameByName": names,
            },
        },
    ]


_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}

_OPTIONS: dict[Shape, Json] = {
    Shape.NUMBER: {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
        "reduceOptions": _REDUCED,
    },
    Shape.LINES: {
        "legend": {
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": True,
            "calcs": [],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    Shape.TABLE: {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
    Shape.HEATMAP: {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": Measure.SECONDS.value},
    },
}


def _grid(place: Place) -> Json:
    return {"x": place.x, "y": place.y, "w": place.width, "h": place.height}


def _description(panel: Panel) -> str:
    """Add where to read more: by name, because the URL of the repository's pages is unknown."""
    sections = f" More in {RUNBOOK}: {', '.join(panel.runbook)}." if panel.runbook else ""
    return panel.description + sections


def _panel(panel: Panel, place: Place) -> Json:
    told: Json = {
        "id": panel.number,
        "type": panel.shape.value,
        "title": panel.title,
        "description": _description(panel),
        "datasource": _SOURCE,
        "gridPos": _grid(place),
        "targets": [_target(panel, at, query) for at, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _OPTIONS[panel.shape],
    }
    transformations = _transformations(panel)
    if transformations:
        told["transformations"] = transformations
    if panel.shape is Shape.HEATMAP:
        told["maxDataPoints"] = 80
    return told


def _row(row: Row, place: Place) -> Json:
    return {
        "id": row.number,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": _grid(place),
        "panels": [],
    }


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard() -> Json:
    """Return the dashboard in Grafana's classic JSON model."""
    pending = catalogue.PENDING_OBJECTS.name
    return {
        "uid": UID,
        "title": TITLE,
        "description": "S3 replication of every object: what is pending, what failed, how long it took, and whether crrmon can see it. Generated: see deploy/artifacts in the repository, and docs/runbook.md and docs/metrics.md there.",
        "tags": ["crrmon", "s3", "replication"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "templating": {
            "list": [
                {
                    "type": "datasource",
                    "name": "datasource",
                    "label": "Data source",
                    "query": "prometheus",
                    "refresh": 1,
                    "current": {},
                },
                _variable("job", "Job", f"label_values({catalogue.BUILD_INFO.name}, job)"),
                _variable(
                    "source_bucket",
                    "Source bucket",
                    f'label_values({pending}{{job=~"$job"}}, source_bucket)',
                ),
                _variable(
                    "destination_bucket",
                    "Destination bucket",
                    f'label_values({pending}{{job=~"$job", source_bucket=~"$source_bucket"}}, destination_bucket)',
                ),
            ]
        },
        "panels": [
            _row(one, place) if isinstance(one, Row) else _panel(one, place)
            for one, place in placed(ROWS)
        ],
    }


def files() -> dict[str, str]:
    """Return the same dashboard for Grafana and for the chart."""
    text = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
    return dict.fromkeys(FILES, text)
