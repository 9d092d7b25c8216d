"""What really happened to every object version that was written."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

import msgspec

from crrmon.domain.events.facts import Operation
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.accounts import SandboxAccount

PENDING, COMPLETED, FAILED = "PENDING", "COMPLETED", "FAILED"
"""As S3 says it in x-amz-replication-status."""
GONE = "GONE"
"""Deleted before it replicated: S3 says that it is not there."""
REPAIRED = "REPAIRED"
"""Completed after it had failed; S3 says COMPLETED."""
NOT_COVERED = "NOT_COVERED"
"""S3 says nothing about these."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """One version that was written to a bucket."""

    version: ObjectVersion
    region: str
    written_at: float
    size: int
    operation: Operation
    copy_of: str | None = None
    """Key in the same bucket."""
    destinations: tuple[str, ...] = ()
    """None of them when no rule covers it, and for replicas."""
    lost: tuple[str, ...] = ()
    """Where it would have gone by rules that somebody has switched off: it never arrives there."""


class Story(msgspec.Struct, kw_only=True):
    """A version and what became of it so far."""

    written: Written
    standing: dict[str, str]
    """By destination: PENDING, COMPLETED, FAILED, REPAIRED or GONE."""
    failed: set[str] = msgspec.field(default_factory=set)
    """Destinations at which it ever failed."""
    episodes: int = 0
    """How often it became FAILED as a whole."""

    @property
    def status(self) -> str:
        """What S3 says of it as a whole: PENDING until all is done, then FAILED if it failed anywhere."""
        standings = set(self.standing.values())
        if not standings:
            return NOT_COVERED
        return next((one for one in (PENDING, FAILED, GONE) if one in standings), COMPLETED)

    @property
    def told(self) -> str:
        """All of it in words."""
        return describe(self.standing, self.episodes)


def describe(standing: Mapping[str, str], episodes: int) -> str:
    """Say how a version stands at its destinations, the same words for the same standing.

    Args:
        standing: by destination bucket; empty for a version that no rule covers.
        episodes: how often it failed.
    """
    if not standing:
        return NOT_COVERED
    words = [f"{bucket} {word}" for bucket, word in sorted(standing.items())]
    return ", ".join([*words, f"failed {episodes} times"] if episodes else words)


class Truth:
    """Remembers every version."""

    def __init__(self) -> None:
        self._stories: dict[ObjectVersion, Story] = {}
        self._counts: Counter[str] = Counter()
        self._seconds: defaultdict[Route, list[float]] = defaultdict(list)
        self._bytes: Counter[Route] = Counter()
        self._by_route: defaultdict[str, Counter[Route]] = defaultdict(Counter)
        """How many versions stand so on a route."""
        self._failed: Counter[str] = Counter()
        self._not_covered: Counter[str] = Counter()
        self._reasons: Counter[tuple[Route, str]] = Counter()
        self._missing: defaultdict[Route, dict[ObjectVersion, float]] = defaultdict(dict)
        """When each version was written that is not at the route's end, and was not deleted either."""
        self._pending: defaultdict[Route, dict[ObjectVersion, float]] = defaultdict(dict)
        """Those of them that never failed so far."""
        self._markers: tuple[Counter[Route], Counter[Route]] = (Counter(), Counter())
        self.markers: list[ObjectVersion] = []
        """The delete markers that were created in source buckets."""

    # ---- what happens ----

    def wrote(self, written: Written) -> None:
        """Note a version."""
        story = Story(written=written, standing=dict.fromkeys(written.destinations, PENDING))
        self._stories[written.version] = story
        self._counts[story.status] += 1
        for destination in written.destinations:
            route = Route(written.version.bucket, destination)
            self._by_route[PENDING][route] += 1
            self._missing[route][written.version] = written.written_at
            self._pending[route][written.version] = written.written_at
        for destination in written.lost:
            route = Route(written.version.bucket, destination)
            self._missing[route][written.version] = written.written_at
        self._not_covered[written.version.bucket] += not written.destinations

    def arrived(self, version: ObjectVersion, destination: str, *, at: float) -> None:
        """Note that a version is at a destination."""
        story = self._stories[version]
        route = Route(version.bucket, destination)
        repaired = destination in story.failed
        self._stand(story, destination, REPAIRED if repaired else COMPLETED)
        self._missing[route].pop(version, None)
        self._pending[route].pop(version, None)
        self._bytes[route] += story.written.size
        if not repaired:
            self._seconds[route].append(at - story.written.written_at)

    def failed(self, version: ObjectVersion, destination: str, *, reason: str) -> None:
        """Note that S3 gave up at a destination."""
        story = self._stories[version]
        route = Route(version.bucket, destination)
        story.failed.add(destination)
        self._reasons[route, reason] += 1
        self._pending[route].pop(version, None)
        self._stand(story, destination, FAILED)

    def deleted(self, version: ObjectVersion) -> None:
        """Note that a version was deleted for good, before it was anywhere."""
        story = self._stories[version]
        for destination in story.standing:
            self._stand(story, destination, GONE)
            self._missing[Route(version.bucket, destination)].pop(version, None)
            self._pending[Route(version.bucket, destination)].pop(version, None)

    def restarted(self, version: ObjectVersion) -> tuple[str, ...]:
        """Put a failed version back to pending.

        Returns:
            The destinations that it will be replicated to again.
        """
        story = self._stories[version]
        again = tuple(one for one, stands in story.standing.items() if stands == FAILED)
        for destination in again:
            self._stand(story, destination, PENDING)
        return again

    def marked(self, marker: ObjectVersion, destinations: Collection[str]) -> None:
        """Note a delete marker, and where it should replicate to."""
        self.markers.append(marker)
        self._markers[0].update(Route(marker.bucket, destination) for destination in destinations)

    def marker_arrived(self, route: Route) -> None:
        """Note that a delete marker is at a destination."""
        self._markers[1][route] += 1

    def _stand(self, story: Story, destination: str, word: str) -> None:
        """Change how a version stands at one destination, and what is counted with it."""
        before = story.status
        route = Route(story.written.version.bucket, destination)
        self._by_route[story.standing[destination]][route] -= 1
        self._by_route[word][route] += 1
        story.standing[destination] = word
        after = story.status
        self._counts[before] -= 1
        self._counts[after] += 1
        if before == PENDING and after == FAILED:
            story.episodes += 1
            self._failed[route.source] += 1

    # ---- what can be asked ----

    def status(self, version: ObjectVersion) -> str | None:
        """Return where a version stands; None when it is none of ours."""
        story = self._stories.get(version)
        return None if story is None else story.status

    def count(self, status: str) -> int:
        """Return how many versions stand so as a whole."""
        return self._counts[status]

    @property
    def arrivals(self) -> int:
        """How often a version arrived somewhere."""
        return sum(self._by_route[COMPLETED].values()) + sum(self._by_route[REPAIRED].values())

    def failures(self, bucket: str) -> int:
        """Return how many episodes of failure began so far in a source bucket."""
        return self._failed[bucket]

    def __len__(self) -> int:
        return len(self._stories)

    def __iter__(self) -> Iterator[Story]:
        return iter(self._stories.values())

    def open_failures(self) -> dict[str, int]:
        """Return how many versions stand as FAILED, by source bucket."""
        return dict(
            Counter(story.written.version.bucket for story in self if story.status == FAILED)
        )

    def account(self) -> SandboxAccount:
        """Sum up."""
        by_route = self._by_route
        laid, arrived = self._markers
        failures: Counter[Route] = Counter()
        for (route, _), times in self._reasons.items():
            failures[route] += times
        return SandboxAccount(
            replicated=dict(by_route[COMPLETED] + by_route[REPAIRED]),
            bytes=dict(self._bytes),
            repaired=dict(+by_route[REPAIRED]),
            gone=dict(+by_route[GONE]),
            pending=dict(+by_route[PENDING]),
            open_failures=dict(+by_route[FAILED]),
            failures=dict(failures),
            markers_created=dict(laid),
            markers_arrived=dict(arrived),
            failed=dict(self._failed),
            not_covered=dict(+self._not_covered),
            reasons=dict(self._reasons),
        )

    @property
    def last_written_at(self) -> float:
        """When the newest version was written; 0 before the first."""
        return max((story.written.written_at for story in self), default=0.0)

    def oldest_missing(self, route: Route) -> tuple[float, ObjectVersion] | None:
        """Return what was written first of all that is not at the end of a route, and when: pending, failed, or written
        while no rule led there. What was deleted is not missed.
        """
        return _oldest(self._missing[route])

    def oldest_pending(self, route: Route) -> tuple[float, ObjectVersion] | None:
        """Return the same of what never failed so far.

        A repair makes old versions pending again. Whoever said before that nothing so old was pending was right then.
        """
        return _oldest(self._pending[route])

    def latencies(self, route: Route) -> list[float]:
        """Return how long the replications of a route took that did not fail, in seconds."""
        return self._seconds[route]


def _oldest(written: Mapping[ObjectVersion, float]) -> tuple[float, ObjectVersion] | None:
    return min(((at, version) for version, at in written.items()), default=None)
