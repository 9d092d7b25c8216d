"""From counted outcomes to the datapoints of a window, and from those to calls.

A window belongs to a slot of the clock. What was settled in a slot is reported at its start; work that became known
after its window was frozen goes into the next one. So every metric has one datapoint per window, whatever happens.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from crrmon.domain import catalogue, latency
from crrmon.domain.catalogue import CloudWatchMetric
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Contribution, Tallies, Tally

PART_DATUMS = 1000
"""Most metrics of one PutMetricData call."""
PART_BYTES = 400_000
"""Most bytes of one part; CloudWatch takes 1 MB, in an encoding that may be longer than ours."""

AGES = (("under_15m", 0.0), ("15m_to_1h", 900.0), ("1h_to_1d", 3600.0), ("over_1d", 86_400.0))
"""Bands by the age of what is pending, each from so many seconds on."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is not yet replicated on a route, at one moment.
    """

    pending_objects: int = 0
    pending_bytes: int = 0
    failed_objects: int = 0
    stuck_objects: int = 0
    by_age: tuple[int, ...] = (0,) * len(AGES)
    """Pending objects of each of the `AGES`."""
    oldest_written_at: float | None = None
    """Start of the oldest slot with something pending."""
    oldest_failed_at: float | None = None
    """Start of the oldest slot with an open failure."""


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """
    The monitor's own datapoints of a window.
    """

    monitor: str
    queue_age: float | None
    """Seconds; None when no queue could be read."""


def slot_start(at: float, window_seconds: int) -> float:
    """
    Return when the slot that holds a moment began.
    """
    return float(at // window_seconds * window_seconds)


def by_window(
    contributions: Iterable[Contribution],
    *,
    closing: float,
    last_frozen: float | None,
    window_seconds: int,
) -> dict[float, list[Contribution]]:
    """
    Sort contributions into the windows that can be frozen now.

    Args:
        contributions: those that are in no window yet.
        closing: start of the newest slot that is over.
        last_frozen: start of the newest window frozen so far.
        window_seconds: length of a slot.

    Returns:
        By the start of the window, oldest first. Contributions of slots that are not over are left out; those whose
        window is frozen already go into the one that is closing.
    """
    windows: dict[float, list[Contribution]] = {}
    for one in contributions:
        start = slot_start(one.settled_at, window_seconds)
        if start > closing:
            continue
        if last_frozen is not None and start <= last_frozen:
            start = closing
        windows.setdefault(start, []).append(one)
    return dict(sorted(windows.items()))


def datapoints(
    starts_at: float,
    tallies: Tallies,
    *,
    routes: Sequence[Route],
    sources: Iterable[str],
) -> list[dict[str, Any]]:
    """
    Make the datapoints of what was counted.

    Args:
        starts_at: start of the window; becomes the timestamp.
        tallies: what was counted in it. A route without a completed object has no datapoint for it alone: nothing
            completes on one whose other end is unknown.
        routes: all known ones: those without a count get zeros.
        sources: source buckets known otherwise; they get zeros, too.

    Returns:
        Datums as PutMetricData's MetricData has them, the timestamp in epoch seconds.
    """
    counted = {route: one for route, one in tallies.items() if one.completed}
    failed: dict[str, int] = dict.fromkeys(
        sorted({*sources, *(route.source for route in routes)}), 0
    )
    for route, one in tallies.items():
        if one.failed:
            failed[route.source] = failed.get(route.source, 0) + one.failed
    datums = [
        _datum(catalogue.CW_FAILED, (source,), starts_at, count)
        for source, count in failed.items()
    ]
    for route in sorted({*routes, *counted}):
        datums += _route_datums(route, counted.get(route, Tally()), starts_at)
    return datums


def standing_datapoints(
    starts_at: float, standings: dict[Route, Standing], *, routes: Sequence[Route], now: float
) -> list[dict[str, Any]]:
    """
    Make the datapoints of what stands open at the end of a window; zeros for all other known routes.
    """
    datums = []
    for route in sorted({*routes, *standings}):
        one = standings.get(route, Standing())
        age = 0.0 if one.oldest_written_at is None else max(now - one.oldest_written_at, 0.0)
        pair = (route.source, route.destination)
        datums += [
            _datum(catalogue.CW_PENDING_OBJECTS, pair, starts_at, one.pending_objects),
            _datum(catalogue.CW_PENDING_BYTES, pair, starts_at, one.pending_bytes),
            _datum(catalogue.CW_OLDEST, pair, starts_at, age),
            _datum(catalogue.CW_STUCK, pair, starts_at, one.stuck_objects),
        ]
    return datums


def pulse_datapoints(starts_at: float, pulse: Pulse) -> list[dict[str, Any]]:
    """
    Make the monitor's own datapoints.
    """
    datums = [_datum(catalogue.CW_HEARTBEAT, (pulse.monitor,), starts_at, 1)]
    if pulse.queue_age is not None:
        datums.append(_datum(catalogue.CW_QUEUE_AGE, (pulse.monitor,), starts_at, pulse.queue_age))
    return datums


def parts(datums: Sequence[dict[str, Any]]) -> tuple[bytes, ...]:
    """
    Pack datapoints into as few calls as CloudWatch allows.

    Returns:
        JSON arrays of datums, one for each call.
    """
    packed: list[bytes] = []
    batch: list[bytes] = []
    length = 0
    for datum in datums:
        one = msgspec.json.encode(datum)
        if batch and (len(batch) >= PART_DATUMS or length + len(one) > PART_BYTES):
            packed.append(b"[" + b",".join(batch) + b"]")
            batch, length = [], 0
        batch.append(one)
        length += len(one) + 1
    if batch:
        packed.append(b"[" + b",".join(batch) + b"]")
    return tuple(packed)


def _route_datums(route: Route, one: Tally, starts_at: float) -> list[dict[str, Any]]:
    pair = (route.source, route.destination)
    datums = [
        _datum(catalogue.CW_OBJECTS, pair, starts_at, one.completed),
        _datum(catalogue.CW_BYTES, pair, starts_at, one.bytes),
        _datum(catalogue.CW_LATE, pair, starts_at, one.late),
    ]
    if one.timed:
        # Latencies below the clock's own resolution must not make a speed infinite.
        speed = one.timed_bytes / max(one.seconds, 0.001 * one.timed)
        datums.append(_datum(catalogue.CW_SPEED, pair, starts_at, speed))
        datums.append(_latency_datum(pair, one, starts_at))
    return datums


def _latency_datum(pair: tuple[str, ...], one: Tally, starts_at: float) -> dict[str, Any]:
    weights = sorted(one.latency.items())
    datum = _datum(catalogue.CW_LATENCY, pair, starts_at, 0)
    del datum["Value"]
    datum["Values"] = [round(latency.middle(bucket), 3) for bucket, _ in weights]
    datum["Counts"] = [round(weight, 6) for _, weight in weights]
    return datum


def _datum(
    metric: CloudWatchMetric, values: tuple[str, ...], starts_at: float, value: float
) -> dict[str, Any]:
    return {
        "MetricName": metric.name,
        "Dimensions": [
            {"Name": name, "Value": one}
            for name, one in zip(metric.dimensions, values, strict=True)
        ],
        "Timestamp": starts_at,
        "Unit": metric.unit.value,
        "Value": value,
    }
