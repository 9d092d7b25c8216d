"""Every metric: name, kind, unit, labels, meaning. Both sinks and the documentation are made from this.

Label values come from bounded sets: buckets, words of this program, error classes. An object key or a version id is
never one. Names of buckets come out of messages; `Metric.bucket` tells where they must be bounded.
"""

from crrmon.domain.metric import CloudWatchMetric, Kind, Metric, Unit

MAX_BUCKETS = 2000
"""Most buckets that a metric about buckets, not routes, tells apart, besides those with counted outcomes."""

OTHER_BUCKETS = "other"
"""The label of all further ones."""


_LATENCY_BUCKETS = (
    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0, 172800.0,
)  # fmt: skip
_QUEUE_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROUTE = ("source_bucket", "destination_bucket")


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name=f"crrmon_{name}", kind=Kind.COUNTER, meaning=meaning, labels=labels)


def _gauge(name: str, meaning: str, *labels: str, fleet: bool = False) -> Metric:
    return Metric(
        name=f"crrmon_{name}", kind=Kind.GAUGE, meaning=meaning, labels=labels, fleet=fleet
    )


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(
        name=f"crrmon_{name}", kind=Kind.HISTOGRAM, meaning=meaning, labels=labels, buckets=buckets
    )


# ---- what became of objects ----

REPLICATIONS = _counter(
    "replications_total",
    "Outcomes counted: completed, gone, unreadable, given_up, failed. An episode of failure is counted at each destination once it is proved there; at the destination `unknown` if it could not be determined within ten minutes which one it was.",
    *_ROUTE,
    "status",
)
REPLICATED_BYTES = _counter(
    "replicated_bytes_total", "Bytes of the objects whose replication completed.", *_ROUTE
)
RECOVERED = _counter(
    "replications_recovered_total", "Objects that completed after having failed.", *_ROUTE
)
LATE = _counter(
    "replications_late_total",
    "Objects that completed more than 15 minutes after the write, as S3 reported or as far as is known; repairs are excluded.",
    *_ROUTE,
)
FAILURE_REASONS = _counter(
    "failure_reasons_total",
    "Failures by the reason given in the store's own notices: each is counted once under the first reason, and again if another reason is given. docs/failure-reasons.md explains each reason.",
    *_ROUTE,
    "reason",
)
THRESHOLD_NOTICES = _counter(
    "threshold_notices_total",
    "S3's own notices about its 15-minute threshold: missed, replicated_after, not_tracked. Each is counted once, however often it arrives.",
    *_ROUTE,
    "kind",
)
DELETE_MARKERS = _counter(
    "delete_markers_total",
    "Delete markers that a rule replicates: created, arrived, failed. S3 reports no status for them, so they are not followed.",
    *_ROUTE,
    "status",
)
PURGES_FAILED = _counter(
    "purges_failed_total",
    "Versions that were permanently deleted at the source but could not be deleted at a destination, by the notices of stores that replicate such deletions (MinIO does, S3 never does). Each is counted once.",
    *_ROUTE,
)
REPLICAS_ORPHANED = _counter(
    "replicas_orphaned_total",
    "Replicas that arrived without an event of their source within an hour: events are being lost. Estimated from a sample when there are many; replicas that a daemon has not judged when it stops are never judged.",
    "destination_bucket",
)
LATENCY = _histogram(
    "replication_latency_seconds",
    "Time from write to replication, repairs excluded. Latencies known only to lie between two looks are distributed by what was learned about the route.",
    *_ROUTE,
    buckets=_LATENCY_BUCKETS,
)
LATENCY_EXACT = _counter(
    "replication_latency_exact_total",
    "Latencies that are exact because the replica's own event was seen.",
    *_ROUTE,
)
LATENCY_HIDDEN = _gauge(
    "replication_latency_hidden_ratio",
    "Share of objects that are done before the earliest age at which a look can find them pending. From 0.5 on, a median latency is only an upper bound: events arrive after the objects have replicated.",
    *_ROUTE,
)
NOT_COVERED = _counter(
    "objects_not_covered_total",
    "Objects written that are not replicated, by cause: no_configuration, no_rule, tag_filter, storage_class, encryption, no_status. docs/events.md explains each.",
    "source_bucket",
    "cause",
)
UNIDENTIFIED = _counter(
    "objects_unidentified_total",
    "Events without a version id whose object is no longer the current one.",
    "source_bucket",
)
BEYOND_RETENTION = _counter(
    "objects_beyond_retention_total",
    "Objects whose event was older than the dedup retention: followed, but not counted as new.",
    "source_bucket",
)
DUPLICATES = _counter(
    "objects_duplicate_total",
    "Events of versions that had already been counted.",
    "source_bucket",
)

# ---- what is open; the whole fleet's, published by one replica ----

PENDING_OBJECTS = _gauge("pending_objects", "Objects not yet replicated.", *_ROUTE, fleet=True)
PENDING_BYTES = _gauge(
    "pending_bytes",
    "Bytes of the objects not yet replicated, as far as their sizes are known.",
    *_ROUTE,
    fleet=True,
)
STUCK_OBJECTS = _gauge(
    "stuck_objects", "Objects pending for longer than the threshold.", *_ROUTE, fleet=True
)
OLDEST_PENDING = _gauge(
    "oldest_pending_timestamp_seconds",
    "When the oldest pending object was written; absent when none is pending.",
    *_ROUTE,
    fleet=True,
)
FAILED_OBJECTS = _gauge(
    "failed_objects",
    "Open failures: objects that failed and were not repaired; at the destination `unknown` if it cannot be determined which one.",
    *_ROUTE,
    fleet=True,
)
PENDING_BY_AGE = _gauge(
    "pending_objects_by_age",
    "Objects not yet replicated, by age since the write: under_15m, 15m_to_1h, 1h_to_1d, over_1d.",
    *_ROUTE,
    "age",
    fleet=True,
)
COMPLETE_UP_TO = _gauge(
    "complete_up_to_timestamp_seconds",
    "No object written before this timestamp is pending, failed or abandoned, or still waits in a queue. Absent while that cannot be determined (no rule leads here, part of it is excluded, no event was ever seen, events arrive through a webhook); it does not advance while a queue is never found empty. It assumes that no event arrives later after its write than the latest did in the last six hours with events.",
    *_ROUTE,
    fleet=True,
)
SETTLED_UP_TO = _gauge(
    "settled_up_to_timestamp_seconds",
    "The same, except that failures are ignored: no object written before this timestamp is still pending.",
    *_ROUTE,
    fleet=True,
)
COMPLETE_BLOCKED = _gauge(
    "complete_up_to_blocked_timestamp_seconds",
    "Write time of the route's oldest object that was abandoned without having arrived (given up, unreadable, closed by age, or written while no rule led here), until it arrives after all or is released: `complete_up_to` stays before it. Absent if there is none.",
    *_ROUTE,
    fleet=True,
)
ROUTE_CONFIGURED = _gauge(
    "route_configured",
    "Whether an enabled replication rule leads here, 1 or 0, by the last configuration that could be read; for every route ever known that was not released.",
    *_ROUTE,
    fleet=True,
)
QUEUE_MESSAGES = _gauge(
    "queue_messages",
    "Messages by state, by SQS's own approximate count: visible, in_flight, delayed, dead (in the dead-letter queue). Absent for a webhook.",
    "queue",
    "state",
    fleet=True,
)
UNSENT_WINDOWS = _gauge(
    "unsent_windows",
    "Frozen windows that CloudWatch has not accepted yet; 100 means at least that many at the last count.",
    fleet=True,
)

# ---- the daemon itself ----

MESSAGES = _counter(
    "messages_total",
    "Messages received, by kind: fact, irrelevant, malformed; and discarded, those of a webhook that made the daemon fail every time they were sent.",
    "queue",
    "kind",
)
EVENTS = _counter(
    "events_total",
    "Parts of messages by kind: object_written, replica_written, version_deleted, delete_marker_created, delete_marker_ambiguous, delete_marker_unrouted, replication_failed, threshold_passed, replication_restarted, version_replicated, target_offline, deletion_tried, deletion_unidentified, excluded (by the configuration), and the kinds of irrelevant parts.",
    "kind",
)
EVENT_DELAY = _histogram(
    "event_delay_seconds",
    "Time from a write to the arrival of its message in the queue, by channel: cloudtrail, eventbridge, notification, notice.",
    "channel",
    buckets=_QUEUE_BUCKETS,
)
LAST_EVENT = _gauge(
    "last_event_timestamp_seconds",
    "When a message about a write to the bucket was last received.",
    "source_bucket",
)
IMPLAUSIBLE_TIMES = _counter(
    "event_times_implausible_total",
    "Events whose time cannot be right: before S3 existed, later than now, or so long ago that their object would no longer be counted. Such a time is not used for ages, delays or complete up to.",
    "channel",
)
QUEUE_DURATION = _histogram(
    "message_queue_duration_seconds",
    "How long messages waited in the queue before they were received.",
    "queue",
    buckets=_QUEUE_BUCKETS,
)
QUEUE_AGE = _gauge(
    "queue_oldest_message_age_seconds",
    "Age of the oldest message received recently; 0 when the queue was found empty, absent while it cannot be read. Always absent for a webhook: what its senders still hold cannot be seen here.",
    "queue",
)
MESSAGES_IN_FLIGHT = _gauge(
    "messages_in_flight", "Messages received and not yet acknowledged or returned.", "queue"
)
RETURNED_MESSAGES = _counter(
    "messages_returned_total", "Messages returned to the queue unprocessed.", "queue"
)
WEBHOOK_REQUESTS = _counter(
    "webhook_requests_total",
    "Requests to a webhook by response status: 200 (stored durably, irrelevant or malformed), 400 (incomplete), 401 (without the token), 413 (too large), 415 (compressed), 503 (must be sent again).",
    "queue",
    "status",
)
HEAD_REQUESTS = _counter(
    "head_requests_total",
    "HEAD requests by result and by the bucket's role: source, or destination where the source's status is not enough.",
    "bucket",
    "target",
    "result",
)
ACCESS_DENIED = _gauge(
    "bucket_access_denied",
    "Whether S3 denies every look at a bucket, 1 or 0: while it does, the state of its objects cannot be seen.",
    "bucket",
)
ACCOUNT_ERRORS = _counter(
    "account_errors_total",
    "Failed attempts to get credentials for a configured account.",
    "account",
)
HEAD_DURATION = _histogram(
    "head_request_duration_seconds", "How long HEAD requests took.", buckets=_REQUEST_BUCKETS
)
POLL_LAG = _histogram(
    "poll_lag_seconds",
    "How late parked objects were looked at: the time between due and done.",
    buckets=_QUEUE_BUCKETS,
)
POLL_OVERDUE = _gauge(
    "poll_overdue_seconds",
    "How long the most overdue look at a parked object has been due; 0 when none is, absent while this replica cannot tell. Scale replicas on this, together with the visible messages.",
)
POLLS_FAILED = _counter(
    "polls_failed_total",
    "Polls of parked objects that ended in a fault of the daemon: the object is deferred, and retried at growing intervals.",
)
POLLS_DEFERRED = _gauge(
    "polls_deferred", "Parked objects deferred after such a fault, on this replica."
)
SETTLING_HELD = _gauge(
    "settling_held",
    "Whether settling is held on a route, 1 or 0, because a far larger share of its objects appears to be gone than ever before.",
    *_ROUTE,
)
CONFIGURATION_READS = _counter(
    "configuration_reads_total",
    "Reads of a replication configuration by result: read, none, unreadable.",
    "source_bucket",
    "result",
)
LEDGER_DURATION = _histogram(
    "ledger_operation_duration_seconds",
    "How long ledger operations took, by operation.",
    "operation",
    buckets=_REQUEST_BUCKETS,
)
LEDGER_ERRORS = _counter(
    "ledger_errors_total", "Ledger operations that failed and were tried again.", "operation"
)
CLOUDWATCH_REQUESTS = _counter(
    "cloudwatch_requests_total",
    "Calls to CloudWatch by result: accepted, failed, refused.",
    "result",
)
LOOP_ATTEMPT = _gauge(
    "last_attempt_timestamp_seconds", "When each loop last started a round.", "loop"
)
LOOP_SUCCESS = _gauge(
    "last_success_timestamp_seconds",
    "When each loop last finished a round without errors.",
    "loop",
)
DEPENDENCY_UP = _gauge(
    "dependency_up",
    "Whether a dependency of the daemon responds, 1 or 0: what /readyz reports, as a metric.",
    "dependency",
)
DEPENDENCY_SINCE = _gauge(
    "dependency_since_timestamp_seconds",
    "Since when the dependency has been in that state.",
    "dependency",
)
CLOCK_OFFSET = _gauge(
    "clock_offset_seconds",
    "How far this machine's clock is ahead of AWS's, by the Date header of its responses; negative when it is behind, absent before any response.",
)
BUILD_INFO = _gauge("build_info", "Always 1; the version of the daemon is a label.", "version")

METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)

# ---- CloudWatch ----

_PAIR = ("SourceBucket", "DestBucket")


def _cloudwatch(
    name: str, unit: Unit, dimensions: tuple[str, ...], meaning: str
) -> CloudWatchMetric:
    return CloudWatchMetric(name=name, unit=unit, dimensions=dimensions, meaning=meaning)


CW_OBJECTS = _cloudwatch(
    "ReplicationObjects", Unit.COUNT, _PAIR, "Objects found replicated in the window."
)
CW_SPEED = _cloudwatch(
    "ReplicationSpeed",
    Unit.BYTES_PER_SECOND,
    _PAIR,
    "Bytes of those objects divided by the sum of their latencies; absent in a window without such objects.",
)
CW_FAILED = _cloudwatch(
    "FailedReplications",
    Unit.COUNT,
    ("SourceBucket",),
    "Versions that became FAILED in the window; zero is sent for every known source bucket, whether idle or not.",
)
CW_LATENCY = _cloudwatch(
    "ReplicationLatency",
    Unit.SECONDS,
    _PAIR,
    "Latencies as values and counts, so that percentiles work.",
)
CW_BYTES = _cloudwatch(
    "ReplicatedBytes", Unit.BYTES, _PAIR, "Bytes of the objects found replicated in the window."
)
CW_PENDING_OBJECTS = _cloudwatch(
    "PendingObjects", Unit.COUNT, _PAIR, "Objects not yet replicated at the window's end."
)
CW_PENDING_BYTES = _cloudwatch(
    "PendingBytes", Unit.BYTES, _PAIR, "Bytes of those objects, as far as known."
)
CW_OLDEST = _cloudwatch(
    "OldestPendingAge",
    Unit.SECONDS,
    _PAIR,
    "Age of the oldest pending object; 0 when none is pending.",
)
CW_STUCK = _cloudwatch(
    "StuckObjects", Unit.COUNT, _PAIR, "Objects pending for longer than the threshold."
)
CW_LATE = _cloudwatch(
    "LateReplications",
    Unit.COUNT,
    _PAIR,
    "Objects of the window that replicated more than 15 minutes after the write; repairs are excluded.",
)
CW_NOT_COVERED = _cloudwatch(
    "NotCoveredObjects",
    Unit.COUNT,
    ("SourceBucket",),
    "Objects written that no rule replicates; zero is sent for every known source bucket, whether idle or not.",
)
CW_HEARTBEAT = _cloudwatch(
    "Heartbeat", Unit.COUNT, ("Monitor",), "1 in every window: the monitor is alive."
)
CW_QUEUE_AGE = _cloudwatch(
    "QueueAge",
    Unit.SECONDS,
    ("Monitor",),
    "Age of the oldest message that the publishing replica received recently.",
)

CLOUDWATCH_METRICS: tuple[CloudWatchMetric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, CloudWatchMetric)
)
