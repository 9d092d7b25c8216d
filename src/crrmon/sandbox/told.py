"""What was reported: read back from CloudWatch, and from the ledger once its daemon has ended."""

import statistics
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from crrmon.domain import catalogue
from crrmon.domain.metric import CloudWatchMetric
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.domain.outcomes import Fate, Mark
from crrmon.domain.records import Record, State
from crrmon.domain.trails import Trail
from crrmon.ports.ledger import Ledger
from crrmon.sandbox.accounts import SandboxAccount
from crrmon.sandbox.truth import (
    COMPLETED,
    FAILED,
    GONE,
    NOT_COVERED,
    PENDING,
    REPAIRED,
    describe,
)
from crrmon.sandbox.verdict import NOTHING

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_cloudwatch import CloudWatchClient
    from types_aiobotocore_cloudwatch.type_defs import DatapointTypeDef, DimensionTypeDef

_WHENEVER = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_MINUTE = 60
_AGES = 1_000_000_000
"""A period that holds the whole run, for percentiles."""


class CloudWatch:
    """Reads metrics back as a user would, with ListMetrics and GetMetricStatistics."""

    def __init__(self, client: "CloudWatchClient", namespace: str) -> None:
        """Args:
        client: of the region that is reported to.
        namespace: of the metrics.
        """
        self._client = client
        self._namespace = namespace

    async def account(self) -> SandboxAccount:
        """Sum up all that was reported, for every dimension that was reported on."""
        return SandboxAccount(
            replicated=await self.replicated(),
            bytes=await self._by_route(catalogue.CW_BYTES),
            pending=await self._pending(),
            failed=await self.failed(),
            not_covered=await self._by_source(catalogue.CW_NOT_COVERED),
        )

    async def failed(self) -> dict[str, int]:
        """Sum up the failures alone, by source bucket."""
        return await self._by_source(catalogue.CW_FAILED)

    async def replicated(self) -> dict[Route, int]:
        """Sum up the replicated objects alone."""
        return await self._by_route(catalogue.CW_OBJECTS)

    async def median(self, route: Route) -> float | None:
        """Return the median of the reported latencies in seconds."""
        dimensions: list[DimensionTypeDef] = [
            {"Name": "SourceBucket", "Value": route.source},
            {"Name": "DestBucket", "Value": route.destination},
        ]
        answer = await self._client.get_metric_statistics(
            Namespace=self._namespace,
            MetricName=catalogue.CW_LATENCY.name,
            Dimensions=dimensions,
            StartTime=_WHENEVER[0],
            EndTime=_WHENEVER[1],
            Period=_AGES,
            ExtendedStatistics=["p50"],
        )
        found = [
            point["ExtendedStatistics"]["p50"]
            for point in answer["Datapoints"]
            if "ExtendedStatistics" in point
        ]
        return statistics.median(found) if found else None

    async def _by_source(self, metric: CloudWatchMetric) -> dict[str, int]:
        return {
            dimensions[0]["Value"]: await self._sum(metric, dimensions)
            async for dimensions in self._reported(metric)
        }

    async def _by_route(self, metric: CloudWatchMetric) -> dict[Route, int]:
        return {
            _route(dimensions): await self._sum(metric, dimensions)
            async for dimensions in self._reported(metric)
        }

    async def _reported(self, metric: CloudWatchMetric) -> "AsyncIterator[list[DimensionTypeDef]]":
        pages = self._client.get_paginator("list_metrics").paginate(
            Namespace=self._namespace, MetricName=metric.name
        )
        async for page in pages:
            for one in page["Metrics"]:
                yield [{"Name": d["Name"], "Value": d["Value"]} for d in one["Dimensions"]]

    async def _sum(self, metric: CloudWatchMetric, dimensions: "list[DimensionTypeDef]") -> int:
        return round(sum(p["Sum"] for p in await self._points(metric, dimensions)))

    async def _pending(self) -> dict[Route, int]:
        """Return what the last window says; a route that it leaves out has nothing pending."""
        newest: dict[Route, DatapointTypeDef] = {}
        async for dimensions in self._reported(catalogue.CW_PENDING_OBJECTS):
            points = await self._points(catalogue.CW_PENDING_OBJECTS, dimensions, period=1)
            newest[_route(dimensions)] = max(points, key=_timestamp)
        last = max(map(_timestamp, newest.values()), default=None)
        return {
            route: round(point["Sum"])
            for route, point in newest.items()
            if _timestamp(point) == last
        }

    async def _points(
        self,
        metric: CloudWatchMetric,
        dimensions: "list[DimensionTypeDef]",
        *,
        period: int = _MINUTE,
    ) -> "list[DatapointTypeDef]":
        answer = await self._client.get_metric_statistics(
            Namespace=self._namespace,
            MetricName=metric.name,
            Dimensions=dimensions,
            StartTime=_WHENEVER[0],
            EndTime=_WHENEVER[1],
            Period=period,
            Statistics=["Sum"],
        )
        return answer["Datapoints"]


def _timestamp(point: "DatapointTypeDef") -> datetime:
    return point["Timestamp"]


def _route(dimensions: "list[DimensionTypeDef]") -> Route:
    named = {dimension["Name"]: dimension["Value"] for dimension in dimensions}
    return Route(named.get("SourceBucket", ""), named.get("DestBucket", ""))


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger holds at the end of a run."""

    account: SandboxAccount
    statuses: dict[ObjectVersion, str]
    """Of every version asked for: how it stands, in the words of `truth.describe`, or what was found instead."""
    open_failures: dict[str, int]
    """By source bucket, as listed for people."""
    unreported: int
    """Contributions that no window was made from."""
    unsent: int
    """Windows that should have been sent and were not."""


async def read_ledger(
    ledger: Ledger,
    versions: Iterable[ObjectVersion],
    *,
    markers: Iterable[ObjectVersion] = (),
    sent_before: float,
) -> LedgerReport:
    """Ask a ledger for everything that a run should have left in it.

    Args:
        ledger: of daemons that have ended.
        versions: all that were written.
        markers: all delete markers that were created in source buckets.
        sent_before: windows that start before this must have been sent; one that was frozen as the daemons were asked
            to end waits for the next daemon.
    """
    counts: defaultdict[Fate, Counter[Route]] = defaultdict(Counter)
    size: Counter[Route] = Counter()
    repaired: Counter[Route] = Counter()
    not_covered: Counter[str] = Counter()
    statuses = {}
    for version in versions:
        trail = await ledger.find(version.key, version.version_id)
        statuses[version] = status_of(trail, version.bucket)
        not_covered[version.bucket] += statuses[version] in (NOTHING, NOT_COVERED)
        for mark in trail.marks.values():
            counts[mark.fate][mark.route] += 1
            repaired[mark.route] += mark.repaired
            if mark.fate is Fate.COMPLETED:
                size[mark.route] += mark.size
    for marker in markers:
        trail = await ledger.find(marker.key, marker.version_id)
        for mark in trail.marks.values():
            counts[mark.fate][mark.route] += 1
    pending: Counter[Route] = Counter()
    open_failures: Counter[Route] = Counter()
    for slot in await ledger.backlog():
        pending[slot.route] += slot.pending_objects
        open_failures[slot.route] += slot.failed_objects
    failed: Counter[str] = Counter()
    for route, episodes in counts[Fate.FAILED].items():
        failed[route.source] += episodes
    return LedgerReport(
        account=SandboxAccount(
            replicated=dict(counts[Fate.COMPLETED]),
            bytes=dict(size),
            repaired=dict(+repaired),
            gone=dict(counts[Fate.GONE]),
            pending=dict(pending),
            open_failures=dict(+open_failures),
            markers_created=dict(counts[Fate.MARKER_CREATED]),
            markers_arrived=dict(counts[Fate.MARKER_ARRIVED]),
            failed=dict(failed),
            not_covered=dict(+not_covered),
        ),
        statuses=statuses,
        open_failures=await _open_failures(ledger),
        unreported=len(await ledger.deltas()),
        unsent=sum(window.starts_at < sent_before for window in await ledger.frozen()),
    )


async def _open_failures(ledger: Ledger) -> dict[str, int]:
    listed: Counter[str] = Counter()
    after: str | None = None
    while True:
        page, after = await ledger.failures(after=after)
        listed.update(record.version.bucket for record in page)
        if after is None:
            return dict(listed)


def status_of(trail: Trail, bucket: str) -> str:
    """Say what a ledger knows of a version.

    Args:
        trail: of its key and version id; a replica of it in a bucket that is a source, too, has left a mark there.
        bucket: its source bucket.

    Returns:
        NOTHING, or the words of `truth.describe`; anything else is a description of what the ledger should not hold.
    """
    marks = [mark for mark in trail.marks.values() if mark.route.source == bucket]
    records = [record for source, record in trail.records.items() if source == bucket]
    if not marks and not records:
        return NOTHING
    standing: dict[str, str] = {}
    for mark in marks:
        if mark.fate in _SAID:
            standing[mark.route.destination] = REPAIRED if mark.repaired else _SAID[mark.fate]
    for route, state in (one for record in records for one in record.standings()):
        if route.destination in standing:
            return _described(marks, records)
        standing[route.destination] = FAILED if state is State.FAILED else PENDING
    fates = [mark.fate for mark in marks if mark.fate is not Fate.FAILED_THERE]
    episodes = fates.count(Fate.FAILED)
    failures_without_end = FAILED in standing.values() and not episodes
    if fates == [Fate.NOT_COVERED] and not records:
        return NOT_COVERED
    known = sum(fate in _SAID or fate is Fate.FAILED for fate in fates)
    if not standing or known != len(fates) or failures_without_end:
        return _described(marks, records)
    return describe(standing, episodes)


_SAID = {Fate.COMPLETED: COMPLETED, Fate.GONE: GONE}


def _described(marks: Sequence[Mark], records: Sequence[Record]) -> str:
    fates = [f"{mark.route.destination} {mark.fate.value}".strip() for mark in marks]
    return f"marks {fates} and records {[record.state.value for record in records]}"
