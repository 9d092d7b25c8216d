"""What really happened to every object version that was written."""

from collections import Counter
from collections.abc import Iterator

import msgspec

from crrmon.domain.events import Operation
from crrmon.domain.objects import ObjectVersion, Route
from crrmon.sandbox.accounts import Account

PENDING, COMPLETED, FAILED = "PENDING", "COMPLETED", "FAILED"
"""As S3 says it in x-amz-replication-status."""
NOT_COVERED = "NOT_COVERED"
"""S3 says nothing about these."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """
    One version that was written to a source bucket.
    """

    version: ObjectVersion
    region: str
    written_at: float
    size: int
    operation: Operation
    copy_of: str | None
    """Key in the same bucket."""
    destination: str | None
    """None when no rule covers it."""


class Story(msgspec.Struct, kw_only=True):
    """
    A version and what became of it so far.
    """

    written: Written
    status: str
    seconds: float | None = None
    """From written to replicated."""


class Truth:
    """
    Remembers every version.
    """

    def __init__(self) -> None:
        self._stories: dict[ObjectVersion, Story] = {}
        self._counts: Counter[str] = Counter()

    def wrote(self, written: Written) -> None:
        """
        Note a version.
        """
        status = NOT_COVERED if written.destination is None else PENDING
        self._stories[written.version] = Story(written=written, status=status)
        self._counts[status] += 1

    def ended(self, version: ObjectVersion, status: str, *, at: float) -> None:
        """
        Note the end of a replication: COMPLETED or FAILED.
        """
        story = self._stories[version]
        self._counts[story.status] -= 1
        self._counts[status] += 1
        story.status = status
        if status == COMPLETED:
            story.seconds = at - story.written.written_at

    def status(self, version: ObjectVersion) -> str | None:
        """
        Return where a version stands; None when it is none of ours.
        """
        story = self._stories.get(version)
        return None if story is None else story.status

    def count(self, status: str) -> int:
        """
        Return how many versions stand so.
        """
        return self._counts[status]

    def __len__(self) -> int:
        return len(self._stories)

    def __iter__(self) -> Iterator[Story]:
        return iter(self._stories.values())

    def account(self) -> Account:
        """
        Sum up.
        """
        replicated: Counter[Route] = Counter()
        size: Counter[Route] = Counter()
        pending: Counter[Route] = Counter()
        failed: Counter[str] = Counter()
        not_covered: Counter[str] = Counter()
        for story in self:
            source = story.written.version.bucket
            route = Route(source, story.written.destination or "")
            match story.status:
                case "COMPLETED":
                    replicated[route] += 1
                    size[route] += story.written.size
                case "PENDING":
                    pending[route] += 1
                case "FAILED":
                    failed[source] += 1
                case _:
                    not_covered[source] += 1
        return Account(
            replicated=dict(replicated),
            bytes=dict(size),
            pending=dict(pending),
            failed=dict(failed),
            not_covered=dict(not_covered),
        )

    def latencies(self, route: Route) -> list[float]:
        """
        Return how long the completed replications of a route took, in seconds.
        """
        return [
            story.seconds
            for story in self
            if story.seconds is not None
            and Route(story.written.version.bucket, story.written.destination or "") == route
        ]
