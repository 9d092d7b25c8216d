"""What is known of each bucket's replication configuration, for as many buckets as there is room for."""

import asyncio
import itertools
from collections.abc import Callable

from msgspec.structs import replace

from crrmon.domain.objects import Place, place_of
from crrmon.domain.routes import WRITE_SLACK_SECONDS, Configuration
from crrmon.ports.clock import Clock
from crrmon.ports.probe import Probe

MAX_PAGES = 10_000
"""
Names of buckets come out of messages: more are not kept, except for those of sources, which others than messages name.

What is forgotten is read again when it is met again.
"""


class Page:
    """What is known of one bucket's configuration."""

    def __init__(self) -> None:
        self.configuration: Configuration | None = None
        self.missing = False
        """Whether there is no such bucket, by the word of its store."""
        self.asked_at = float("-inf")
        self.noted_at: float | None = None
        """When the configuration was read that all daemons know of by now."""
        self.reading = asyncio.Lock()
        self.region = ""
        self.owner: str | None = None
        """Both as events told them: they decide who is asked, and in whose name."""

    @property
    def rules(self) -> bool:
        """Whether there are any, as far as is known."""
        return self.configuration is not None and bool(self.configuration.rules)


class Pages:
    """Keeps what is known by bucket.

    Args:
        probe: knows the sites that have buckets of one name.
        clock: tells how old what is known is.
        spared: tells which buckets others than messages name.
    """

    def __init__(self, probe: Probe, clock: Clock, *, spared: Callable[[str], bool]) -> None:
        self._probe = probe
        self._clock = clock
        self._spared = spared
        self._pages: dict[Place, Page] = {}
        """The one longest not asked for first."""
        self._room = MAX_PAGES

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, bucket: str, owner: str | None, *, now: float | None = None) -> Page:
        """Return what is known of a bucket, perhaps nothing yet."""
        place = place_of(bucket, owner, self._probe.sites(bucket))
        page = self._pages.pop(place, None)
        if page is None:
            page = Page()
            if len(self._pages) >= self._room:
                self._make_room()
        self._pages[place] = page
        now = self._clock.now() if now is None else now
        if page.asked_at > now + WRITE_SLACK_SECONDS:
            # The clock was set back since: nobody knows when that was, so it is neither new nor proves anything.
            page.asked_at = float("-inf")
            page.noted_at = None
            if page.configuration is not None:
                page.configuration = replace(page.configuration, fetched_at=page.asked_at)
        return page

    def _make_room(self) -> None:
        """Forget what was longest not asked for, of the buckets that only messages name; a tenth, to do it seldom."""
        spare = MAX_PAGES // 10
        needless = (
            (bucket, site)
            for (bucket, site), page in self._pages.items()
            if not page.rules and not page.reading.locked() and not self._spared(bucket)
        )
        for place in list(itertools.islice(needless, spare)):
            del self._pages[place]
        self._room = max(MAX_PAGES, len(self._pages) + spare)

    def at_sites(self, bucket: str) -> list[tuple[str | None, Page | None]]:
        """Return what is known of all buckets of a name, by the site that has each."""
        return [(site, self._pages.get((bucket, site))) for site in self._probe.sites(bucket)]

    def read(self, bucket: str) -> list[Page]:
        """Return what is known of the configurations of all buckets of a name, as far as they were read."""
        return [
            page
            for page in self._pages_of(bucket)
            if page is not None and page.configuration is not None
        ]

    def _pages_of(self, bucket: str) -> list[Page | None]:
        """Return what is known of all buckets of a name; of sites that have none only where no other one has it."""
        pages = [page for _, page in self.at_sites(bucket)]
        return [page for page in pages if page is None or not page.missing] or pages

    def noted_at(self, bucket: str) -> float | None:
        """
        Return of when the oldest of the configurations is that all daemons know of; None while any is unknown to them.
        """
        noted = [page.noted_at for page in self.read(bucket)]
        known = [at for at in noted if at is not None]
        return min(known) if known and len(known) == len(noted) else None

    def merged(self, bucket: str) -> Configuration | None:
        """Return the rules of all buckets of a name, as old as the oldest of them; None while not all could be read."""
        read = [page.configuration for page in self.read(bucket) if page.configuration is not None]
        if len(read) < len(self._pages_of(bucket)):
            return None
        if len(read) == 1:
            return read[0]
        return Configuration(
            rules=tuple(rule for configuration in read for rule in configuration.rules),
            fetched_at=min(configuration.fetched_at for configuration in read),
        )
