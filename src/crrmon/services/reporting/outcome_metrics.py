"""What meters and log are told of an outcome, once it is counted in the ledger."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from crrmon.domain import catalogue, reasons
from crrmon.domain import latency as latencies
from crrmon.domain.metric import Metric
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Fate, Outcome, Tally, totals
from crrmon.domain.stores import BucketStores
from crrmon.ports.meters import Meters

REMINDER_SECONDS = 60.0
"""How often failures of one bucket are logged, however many there are."""

NOT_TOLD = "not told yet"
"""Stands for the reason of a failure of which S3's own notice did not come, or not before the look."""

_DELETIONS: dict[Fate, tuple[Metric, *tuple[str, ...]]] = {
    Fate.MARKER_CREATED: (catalogue.DELETE_MARKERS, "created"),
    Fate.MARKER_ARRIVED: (catalogue.DELETE_MARKERS, "arrived"),
    Fate.MARKER_FAILED: (catalogue.DELETE_MARKERS, "failed"),
    Fate.PURGE_FAILED: (catalogue.PURGES_FAILED,),
}
"""Where deletions are counted, and as what."""

# Asked for of every object. Before Python 3.12, an enumeration calls a function for each member.
_ARRIVED = Fate.COMPLETED

log = structlog.get_logger()


class Counting:
    """Counts and logs outcomes."""

    def __init__(self, meters: Meters, stores: BucketStores) -> None:
        self._meters = meters
        self._stores = stores
        self._failures: dict[str, _Failures] = {}

    def counted(self, outcomes: Iterable[Outcome]) -> None:
        """Report outcomes that were counted just now."""
        completed = []
        # Asked once: to find for every object that nobody wants its line costs as much as to count it.
        wanted = log.is_enabled_for(logging.DEBUG)
        for outcome in outcomes:
            if wanted and outcome.fate is not Fate.FAILED_THERE:
                _log(outcome)
            if outcome.fate is _ARRIVED and outcome.counts:
                completed.append(outcome)
            else:
                self._ended(outcome)
        for route, tally in totals(completed).items():
            self._completed(route, tally)

    def _ended(self, outcome: Outcome) -> None:
        """Report what is not an arrival that counts."""
        source = outcome.route.source
        if outcome.fate is Fate.FAILED_THERE:
            if outcome.counts:  # what else is to be told, its episode tells
                self._add(catalogue.REPLICATIONS, outcome, Fate.FAILED.value)
            return
        if outcome.fate in (Fate.IDENTIFIED, Fate.IS_REPLICA, Fate.CLOSED):
            return
        if not outcome.counts:
            self._meters.add(catalogue.BEYOND_RETENTION, source)
            return
        match outcome.fate:
            case Fate.NOT_COVERED:
                cause = "" if outcome.cause is None else outcome.cause.value
                self._meters.add(catalogue.NOT_COVERED, source, cause)
            case Fate.UNIDENTIFIED:
                self._meters.add(catalogue.UNIDENTIFIED, source)
            case fate if fate in _DELETIONS:
                metric, *status = _DELETIONS[fate]
                self._add(metric, outcome, *status)
            case Fate.FAILED:
                self._failed(outcome)
            case _:
                self._add(catalogue.REPLICATIONS, outcome, outcome.fate.value)

    def tell(self) -> None:
        """Log the failures that still wait for their line."""
        for failures in list(self._failures.values()):
            failures.tell()

    def _add(self, metric: Metric, outcome: Outcome, *labels: str) -> None:
        self._meters.add(metric, outcome.route.source, outcome.route.destination, *labels)

    def _completed(self, route: Route, tally: Tally) -> None:
        labels = (route.source, route.destination)
        add = self._meters.add
        add(catalogue.REPLICATIONS, *labels, Fate.COMPLETED.value, amount=tally.completed)
        add(catalogue.REPLICATED_BYTES, *labels, amount=tally.bytes)
        # What never happened has no series.
        if tally.repaired:
            add(catalogue.RECOVERED, *labels, amount=tally.repaired)
        if tally.late:
            add(catalogue.LATE, *labels, amount=tally.late)
        if tally.exact:
            add(catalogue.LATENCY_EXACT, *labels, amount=tally.exact)
        for bucket, weight in tally.latency.items():
            value = latencies.middle(bucket)
            self._meters.observe(catalogue.LATENCY, *labels, value=value, weight=weight)

    def _failed(self, outcome: Outcome) -> None:
        source = outcome.route.source
        if source not in self._failures:
            self._failures[source] = _Failures(source, self._stores, self._failures.pop)
        self._failures[source].add(outcome)


def _log(outcome: Outcome) -> None:
    log.debug(
        "object_settled",
        bucket=outcome.route.source,
        key=outcome.mark.key,
        version_id=outcome.mark.version_id,
        destination=outcome.route.destination,
        fate=outcome.fate.value,
        looks=outcome.looks,
    )


class _Failures:
    """The failures of one source bucket: the first is logged at once, those of the minute after together."""

    def __init__(self, bucket: str, stores: BucketStores, over: Callable[[str], object]) -> None:
        self._bucket = bucket
        self._stores = stores
        self._over = over
        """Called when a minute passed without any: names of buckets must not pile up."""
        self._count = 0
        self._reasons: Counter[str] = Counter()
        self._example: Outcome | None = None
        self._quiet = False

    def add(self, outcome: Outcome) -> None:
        self._count += 1
        self._reasons.update(reason or NOT_TOLD for _, reason in outcome.failures)
        self._example = self._example or outcome
        if not self._quiet:
            self.tell()
            self._quiet = True
            asyncio.get_running_loop().call_later(REMINDER_SECONDS, self._minute_over)

    def tell(self) -> None:
        if self._example is None:
            return
        log.warning(
            "replication_failed",
            bucket=self._bucket,
            objects=self._count,
            reasons=dict(self._reasons),
            advice=self._advice(),
            example_key=self._example.mark.key,
            example_version_id=self._example.mark.version_id,
            example_destinations=[bucket for bucket, _ in self._example.failures],
        )
        self._count = 0
        self._reasons.clear()
        self._example = None

    def _advice(self) -> str:
        """Return what to do about the commonest reason that the store gave."""
        told = [reason for reason, _ in self._reasons.most_common() if reason != NOT_TOLD]
        return reasons.reason(told[0] if told else "", self._stores.of(self._bucket)).advice

    def _minute_over(self) -> None:
        self._quiet = False
        if self._example is None:
            self._over(self._bucket)
        else:
            self.tell()
            self._quiet = True
            asyncio.get_running_loop().call_later(REMINDER_SECONDS, self._minute_over)
