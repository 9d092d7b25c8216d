"""Whether a server's replicas have what was written, and when a server without any is alone.

Only what keeps up counts as a replica: not one that still copies everything, nor a tool that only listens. When none
is left and nothing is in doubt, the server is alone and work goes on, with a warning. When none is left and something
is in doubt, everything is refused until a replica acknowledges it, but no longer than `ALONE_SECONDS`: a replica that
comes back then knows what was told as done, and one that never does must not stop the fleet.
"""

import math
import re
from typing import Final

import structlog

REPLICAS_ASKED_SECONDS: Final = 10.0
"""How often a server is asked whether it has replicas."""
ALONE_SECONDS: Final = 60.0
"""How long what is in doubt is refused after the last replica was lost; then the server is alone."""
LAGGING_SECONDS: Final = 10
"""A replica that said nothing for longer is none. They speak once a second."""

log = structlog.get_logger()


class Replicas:
    """What is known of a server's replicas, and whether they have what was written."""

    def __init__(self) -> None:
        self._count = 0
        self._lost_at: float | None = None
        """When it was found that there are none any more."""
        self._asked_at = -math.inf
        self.doubts = 0
        """A number that grows with every doubt."""
        self._allayed = 0
        """Up to this one, they have it."""

    @property
    def in_doubt(self) -> bool:
        """Whether something may have been written that replicas do not have."""
        return self.doubts > self._allayed

    def needed(self, *, durable: bool) -> bool:
        """Return whether replicas must acknowledge.

        Args:
            durable: whether something is written.
        """
        return self.in_doubt or (durable and self._count > 0)

    def doubt(self) -> None:
        """Note that replicas may not have what was written."""
        self.doubts += 1
        self._asked_at = -math.inf

    def allay(self, doubts: int) -> None:
        """Note that replicas have what was written up to some doubt: one that came later stands."""
        self._allayed = max(self._allayed, doubts)

    def outdated(self, now: float) -> bool:
        """Return whether the server is to be asked."""
        return now - self._asked_at >= REPLICAS_ASKED_SECONDS

    def learn(self, told: dict[str, str], now: float) -> None:
        """Take note of what INFO replication tells."""
        self._asked_at = now
        if told.get("role") != "master":
            return  # a replica takes no writes anyway, and who may not ask cannot know
        had = self._count > 0
        self._count = sum(_keeps_up(name, value) for name, value in told.items())
        if self._count:
            self._lost_at = None
            return
        if had or (self.in_doubt and self._lost_at is None):
            self._lost_at = now
        if self._lost_at is None:
            return
        if not self.in_doubt or now - self._lost_at >= ALONE_SECONDS:
            log.warning(
                "redis_no_replicas",
                in_doubt=self.in_doubt,
                advice="no replica is left, so new writes are on one server only: check the replicas; with"
                " min-replicas-to-write 1 the server itself would refuse writes instead",
            )
            self.allay(self.doubts)
            self._lost_at = None


def _keeps_up(name: str, value: str) -> bool:
    """Return whether a line of INFO replication is of a replica that has nearly everything."""
    if re.fullmatch(r"slave\d+", name) is None:
        return False
    told = dict(one.partition("=")[::2] for one in value.split(","))
    lag = told.get("lag", "")
    return (
        told.get("state") == "online"
        # A tool that fetches a dump listens on none.
        and told.get("port") != "0"
        and lag.isdigit()
        and int(lag) <= LAGGING_SECONDS
    )
