"""How the daemon is: loops that must make progress, dependencies that must answer.

A *dependency* (ledger, S3, a queue, CloudWatch) that fails is logged once when it goes, once a minute while it stays
away, and once when it is back. Whoever would only burn work while it is away waits for `usable`; after a while that
lets somebody through again to see, ever more rarely, up to every `PROBE_CAP_SECONDS`.

What nobody here asks any more is not judged: it was away for somebody who had a task that is another's now.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable

import structlog

from crrmon.domain import catalogue
from crrmon.ports.clock import Clock
from crrmon.ports.health import HealthVerdict
from crrmon.ports.meters import Meters

PROBE_FIRST_SECONDS = 1.0
PROBE_CAP_SECONDS = 30.0
REMINDER_SECONDS = 60.0
FAILING_SECONDS = 30.0
"""How long one operation that failed keeps others from calling a dependency back; retries come sooner than that."""
CLOCK_GRAIN_SECONDS = 0.001
"""Timers may fire a little early, uvloop's by a part of a millisecond: what is left by then is over."""

log = structlog.get_logger()


class Dependency:
    """Something outside that the daemon needs.

    Args:
        name: for logs and /readyz.
        clock: tells when it went away.
        tolerated: how many failures in a row, without a success between, do not count yet.
        changed: told whenever it goes or comes back, and when it is not asked any more: True, False, None.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        tolerated: int = 0,
        changed: Callable[[bool | None], None] | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._tolerated = tolerated
        self._changed = changed
        self._used = True
        self._asked_at = float("-inf")
        self._failures = 0
        self._failing: dict[str, float] = {}
        self._away_since: float | None = None
        self._reason = ""
        self._reminded_at = 0.0
        self._next_probe = 0.0
        self._probe_delay = PROBE_FIRST_SECONDS
        self._back = asyncio.Event()
        self._back.set()
        self._answered = asyncio.Event()

    @property
    def away(self) -> bool:
        """Whether it failed and was not seen to work since."""
        return self._away_since is not None

    def succeeded(self, operation: str = "") -> None:
        """Note that it answered.

        Args:
            operation: what it did. While others fail it is not back: a full disk can be read.
        """
        self._asked()
        self._failures = 0
        self._failing.pop(operation, None)
        self._answered.set()
        if self._away_since is None:
            if not self._used:
                self._show(up=True)
            return
        if self._lately_failed():
            return
        self._failing.clear()
        away = self._clock.now() - self._away_since
        log.info("dependency_recovered", dependency=self.name, unavailable_seconds=round(away, 1))
        self._recovered()
        self._show(up=True)

    def failed(self, reason: str, operation: str = "", *, certain: bool = False) -> None:
        """Note that it did not answer, or not usefully.

        Args:
            reason: for people.
            operation: what it did not do.
            certain: whether this is no hiccup: then it counts at once, however many are tolerated.
        """
        self._asked()
        self._failures += 1
        self._failing[operation] = asyncio.get_running_loop().time()
        if self._failures <= self._tolerated and not certain:
            return
        now = self._clock.now()
        self._reason = reason
        if self._away_since is None:
            self._away_since = now
            self._back.clear()
            self._plan_probe()
            self._show(up=False)
        elif now - self._reminded_at < REMINDER_SECONDS:
            return
        self._reminded_at = now
        away = round(now - self._away_since, 1)
        log.warning(
            "dependency_unavailable", dependency=self.name, reason=reason, unavailable_seconds=away
        )

    def forgo(self, operation: str) -> None:
        """Note that an operation is not asked for any more: that it failed keeps nobody waiting."""
        self._failing.pop(operation, None)

    def retire(self, *, unasked_for: float = 0.0) -> None:
        """Judge it no more until somebody asks it again: what failed was another's task, or is by now.

        Args:
            unasked_for: only if it is away, and nobody asked for so many seconds.
        """
        if not self._used:
            return
        if unasked_for:
            idle = asyncio.get_running_loop().time() - self._asked_at
            if not self.away or idle < unasked_for:
                return
        if self._away_since is not None:
            away = round(self._clock.now() - self._away_since, 1)
            log.info("dependency_unused", dependency=self.name, unavailable_seconds=away)
        self._failures = 0
        self._failing.clear()
        self._recovered()
        self._show(up=None)

    async def usable(self, *, alive: Callable[[], None]) -> None:
        """Wait until it is back, or until it is time that somebody tries.

        Args:
            alive: called now and then while waiting: an outage is no reason to be restarted.
        """
        loop = asyncio.get_running_loop()
        while self.away:
            alive()
            wait = self._next_probe - loop.time()
            if wait <= CLOCK_GRAIN_SECONDS:
                self._plan_probe()
                return
            try:
                async with asyncio.timeout(min(wait, PROBE_CAP_SECONDS)):
                    await self._back.wait()
            except TimeoutError:
                continue

    async def answering(self, *, within: float) -> None:
        """Wait until it answers anybody, whatever was asked, but no longer than `within` seconds.

        What is tried again ever more rarely need not wait its turn when others are answered.
        """
        self._answered.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._answered.wait()

    def describe(self) -> str:
        """Say how it is, in words."""
        if self._away_since is None:
            return "ok" if self._used else "not asked by this replica"
        return f"unavailable for {self._clock.now() - self._away_since:.0f} s: {self._reason}"

    def _asked(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()

    def _recovered(self) -> None:
        self._away_since = None
        self._probe_delay = PROBE_FIRST_SECONDS
        self._back.set()

    def _show(self, *, up: bool | None) -> None:
        self._used = up is not None
        if self._changed is not None:
            self._changed(up)

    def _lately_failed(self) -> bool:
        now = asyncio.get_running_loop().time()
        return any(now - at < FAILING_SECONDS for at in self._failing.values())

    def _plan_probe(self) -> None:
        self._next_probe = asyncio.get_running_loop().time() + self._probe_delay
        self._probe_delay = min(self._probe_delay * 2, PROBE_CAP_SECONDS)


class HealthBoard:
    """Judges the daemon from what loops and dependencies report; implements the health port."""

    def __init__(self, *, clock: Clock, meters: Meters) -> None:
        self._clock = clock
        self._meters = meters
        self._dependencies: dict[str, Dependency] = {}
        self._loops: dict[str, tuple[float, float]] = {}
        self._starting = False
        self._stopping = False

    def dependency(self, name: str, *, tolerated: int = 0) -> Dependency:
        """Watch a dependency from now on."""
        one = Dependency(
            name,
            clock=self._clock,
            tolerated=tolerated,
            changed=functools.partial(self._show, name),
        )
        self._dependencies[name] = one
        self._show(name, up=True)
        return one

    def _show(self, name: str, up: bool | None) -> None:  # noqa: FBT001 - called back
        if up is None:
            self._meters.unset(catalogue.DEPENDENCY_UP, name)
            self._meters.unset(catalogue.DEPENDENCY_SINCE, name)
        else:
            self._meters.set(catalogue.DEPENDENCY_UP, name, value=float(up))
            self._meters.set(catalogue.DEPENDENCY_SINCE, name, value=self._clock.now())

    def began(self, loop: str, *, patience: float) -> None:
        """Note that a loop begins a round, or goes on waiting: it must say so again within `patience` seconds."""
        self._meters.set(catalogue.LOOP_ATTEMPT, loop, value=self._clock.now())
        self._loops[loop] = (asyncio.get_running_loop().time(), patience)

    def ended(self, loop: str) -> None:
        """Note that a loop ended a round without trouble."""
        self._meters.set(catalogue.LOOP_SUCCESS, loop, value=self._clock.now())

    def starting(self) -> None:
        """Note that the daemon is not complete yet: not ready, but alive."""
        self._starting = True

    def started(self) -> None:
        """Note that all parts are there."""
        self._starting = False

    def stopping(self) -> None:
        """Note that the daemon is about to end: not ready any more, but alive."""
        self._stopping = True

    def live(self) -> HealthVerdict:
        """Return whether every loop made progress lately."""
        now = asyncio.get_running_loop().time()
        details = {}
        ok = True
        for name, (began, patience) in self._loops.items():
            late = now - began > patience
            ok = ok and (not late or self._stopping)
            details[name] = f"no progress for {now - began:.0f} s" if late else "ok"
        return HealthVerdict(ok, details)

    def ready(self) -> HealthVerdict:
        """Return whether all dependencies answer."""
        details = {name: one.describe() for name, one in self._dependencies.items()}
        if self._stopping or self._starting:
            details["daemon"] = "stopping" if self._stopping else "starting"
        ok = "daemon" not in details and not any(
            dependency.away for dependency in self._dependencies.values()
        )
        return HealthVerdict(ok, details)
