"""From counted outcomes to the datapoints of a window, and from those to calls.

A window belongs to a slot of the clock. What was settled in a slot is reported at its start; work that became known
after its window was frozen goes into the next one. So every metric has one datapoint per window, whatever happens.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from crrmon.domain import catalogue, latency
from crrmon.domain.metric import CloudWatchMetric
from crrmon.domain.objects import Route
from crrmon.domain.outcomes import Delta, Tallies, Tally

PART_DATUMS = 1000
"""Most metrics of one PutMetricData call."""
PART_BYTES = 400_000
"""Most bytes of one part; CloudWatch takes 1 MB, in an encoding that may be longer than ours."""

AGES = (("under_15m", 0.0), ("15m_to_1h", 900.0), ("1h_to_1d", 3600.0), ("over_1d", 86_400.0))
"""Bands by the age of what is pending, each from so many seconds on."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is not yet replicated on a route, at one moment."""

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
    """The monitor's own datapoints of a window."""

    monitor: str
    queue_age: float | None
    """Seconds; None when no queue could be read."""


def slot_start(at: float, window_seconds: int) -> float:
    """Return when the slot that holds a moment began."""
    return float(at // window_seconds * window_seconds)


def by_window(
    deltas: Iterable[Delta],
    *,
    closing: float,
    last_frozen: float | None,
    window_seconds: int,
) -> dict[float, list[Delta]]:
    """Sort deltas into the windows that can be frozen now.

    Args:
        deltas: those that are in no window yet.
        closing: start of the newest slot that is over.
        last_frozen: start of the newest window frozen so far.
        window_seconds: length of a slot.

    Returns:
        By the start of the window, oldest first. Contributions of slots that are not over are left out; those whose
        window is frozen already go into the one that is closing.
    """
    windows: dict[float, list[Delta]] = {}
    for delta in deltas:
        start = slot_start(delta.settled_at, window_seconds)
        if start > closing:
            continue
        if last_frozen is not None and start <= last_frozen:
            start = closing
        windows.setdefault(start, []).append(delta)
    return dict(sorted(windows.items()))


def datapoints(
    starts_at: float,
    tallies: Tallies,
    *,
    routes: Sequence[Route],
    sources: Iterable[str],
) -> list[dict[str, Any]]:
    """Return the datapoints of what was counted.

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
    known = sorted({*sources, *(route.source for route in routes)})
    datums = []
    for metric, count in (
        (catalogue.CW_FAILED, operator.attrgetter("failed")),
        (catalogue.CW_NOT_COVERED, operator.attrgetter("not_covered")),
    ):
        sums = dict.fromkeys(known, 0)
        for route, one in tallies.items():
            if added := count(one):
                sums[route.source] = sums.get(route.source, 0) + added
        datums += [_datum(metric, (source,), starts_at, sum_) for source, sum_ in sums.items()]
    for route in sorted({*routes, *counted}):
        datums += _route_datums(route, counted.get(route, Tally()), starts_at)
    return datums


def standing_datapoints(
    starts_at: float, standings: dict[Route, Standing], *, routes: Sequence[Route], now: float
) -> list[dict[str, Any]]:
    """Return the datapoints of what stands open at the end of a window; zeros for all other known routes."""
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
    """Return the monitor's own datapoints."""
    datums = [_datum(catalogue.CW_HEARTBEAT, (pulse.monitor,), starts_at, 1)]
    if pulse.queue_age is not None:
        datums.append(_datum(catalogue.CW_QUEUE_AGE, (pulse.monitor,), starts_at, pulse.queue_age))
    return datums


_STANDING = (
    catalogue.CW_PENDING_OBJECTS,
    catalogue.CW_PENDING_BYTES,
    catalogue.CW_OLDEST,
    catalogue.CW_STUCK,
)
_ENDING_AT_ZERO = {
    metric.name: metric
    for metric in (
        *_STANDING,
        catalogue.CW_FAILED,
        catalogue.CW_NOT_COVERED,
        catalogue.CW_OBJECTS,
        catalogue.CW_BYTES,
        catalogue.CW_LATE,
    )
}

Series = tuple[str, ...]
"""Name of a metric and the values of its dimensions."""


def owed(
    series: Iterable[Series], datums: Sequence[dict[str, Any]], *, starts_at: float, standing: bool
) -> list[dict[str, Any]]:
    """Return the zeros that series are owed: they ended above zero, and have no datapoint in this window.

    Args:
        series: those that are owed one.
        datums: all others of the window.
        starts_at: start of the window.
        standing: whether the window tells what stands open; if not, series of that go on being owed.
    """
    told = {_series(datum) for datum in datums}
    return [
        _datum(metric, tuple(values), starts_at, 0)
        for name, *values in sorted(set(series) - told)
        if (metric := _ENDING_AT_ZERO.get(name)) and (standing or metric not in _STANDING)
    ]


def still_owed(
    series: Iterable[Series],
    datums: Sequence[dict[str, Any]],
    *,
    routes: Sequence[Route],
) -> frozenset[Series]:
    """Return which series are owed a zero after a window.

    Args:
        series: those that were before.
        datums: all of the window, the zeros that were owed as well.
        routes: all known ones: they get their datapoints in every window, and so do their sources.
    """
    always = {
        *((route.source, route.destination) for route in routes),
        *((route.source,) for route in routes),
    }
    ended = {_series(datum): datum.get("Value", 0) > 0 for datum in datums}
    above = {one for one, positive in ended.items() if positive and one[0] in _ENDING_AT_ZERO}
    left = {one for one in series if one not in ended}
    return frozenset(one for one in above | left if one[1:] not in always)


def _series(datum: dict[str, Any]) -> Series:
    return (datum["MetricName"], *(one["Value"] for one in datum["Dimensions"]))


def parts(datums: Sequence[dict[str, Any]]) -> tuple[bytes, ...]:
    """Pack datapoints into as few calls as CloudWatch allows.

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
