"""Whether "complete up to" was ever ahead of the truth.

Somebody may read it at any moment and fail over to the copy. So it is compared on every sample of a run, with what was
true when the sample had been taken: what a daemon worked out before may be older than that, but never newer. It may lag behind as it likes.
"""

from collections import defaultdict
from collections.abc import Mapping

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from crrmon.domain import catalogue
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.truth import Truth

COMPLETE, SETTLED = "complete_up_to", "settled_up_to"
_MEASURES = {
    catalogue.COMPLETE_UP_TO.name: COMPLETE,
    catalogue.SETTLED_UP_TO.name: SETTLED,
}


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """One sample that promised too much. Times are seconds since the epoch."""

    replica: str
    seen_at: float
    shown: float
    truth: float
    """When the oldest version was written that was missing all the same; or the present, if none was."""
    missing: ObjectVersion | None

    @property
    def seconds(self) -> float:
        """By how much."""
        return self.shown - self.truth


class WatermarkLine(msgspec.Struct, frozen=True, kw_only=True):
    """How one of the gauges fared on one route."""

    measure: str
    source: str
    destination: str
    shown: int
    """In how many samples it was there."""
    ahead: int
    """In how many of them it was ahead of the truth."""
    worst: Ahead | None
    last: float | None
    """What the last sample of the replica that shows it said; None when it was not there any more."""

    @property
    def agrees(self) -> bool:
        """Whether it was never ahead."""
        return not self.ahead


class _Course:
    """What was seen so far of one gauge on one route."""

    def __init__(self) -> None:
        self.shown = 0
        self.ahead = 0
        self.worst: Ahead | None = None
        self.last: dict[str, float] = {}
        """By replica."""

    def take(self, one: Ahead) -> None:
        """Take in what a replica shows."""
        self.shown += 1
        self.last[one.replica] = one.shown
        if one.seconds <= 0:
            return
        self.ahead += 1
        if self.worst is None or one.seconds > self.worst.seconds:
            self.worst = one


class Lookout:
    """Compares each sample with the truth."""

    def __init__(self, truth: Truth) -> None:
        """Args:
        truth: asked at the moment of each sample.
        """
        self._truth = truth
        self._courses: defaultdict[tuple[str, Route], _Course] = defaultdict(_Course)
        self.samples = 0
        """Pages that were looked at."""

    def take(self, replica: str, page: str, *, at: float) -> None:
        """Look at a page of metrics that just arrived.

        Args:
            replica: whose.
            page: the whole of it; the empty string when it could not be had.
            at: when it had arrived.
        """
        self.samples += bool(page)
        shown = _shown(page)
        for (measure, route), value in shown.items():
            found = self._oldest(measure, route)
            truth, missing = (at, None) if found is None else found
            self._courses[measure, route].take(
                Ahead(replica=replica, seen_at=at, shown=value, truth=truth, missing=missing)
            )
        for place, course in self._courses.items():
            if place not in shown:
                course.last.pop(replica, None)

    def last(self, measure: str, route: Route) -> float | None:
        """Return the newest that any replica shows now."""
        return max(self._courses[measure, route].last.values(), default=None)

    def lines(self) -> tuple[WatermarkLine, ...]:
        """Sum up."""
        return tuple(
            WatermarkLine(
                measure=measure,
                source=route.source,
                destination=route.destination,
                shown=course.shown,
                ahead=course.ahead,
                worst=course.worst,
                last=self.last(measure, route),
            )
            for (measure, route), course in sorted(self._courses.items())
            if course.shown
        )

    def _oldest(self, measure: str, route: Route) -> tuple[float, ObjectVersion] | None:
        if measure == SETTLED:
            return self._truth.oldest_pending(route)
        return self._truth.oldest_missing(route)


def _shown(page: str) -> Mapping[tuple[str, Route], float]:
    """Pick the gauges out of a page; the rest of it is not even parsed."""
    names = tuple(_MEASURES)
    lines = [line for line in page.splitlines(keepends=True) if line.startswith(names)]
    return {
        (_MEASURES[sample.name], _route(sample.labels)): sample.value
        for family in text_string_to_metric_families("".join(lines))
        for sample in family.samples
    }


def _route(labels: Mapping[str, str]) -> Route:
    return Route(labels["source_bucket"], labels["destination_bucket"])
