"""Frozen windows on their way to CloudWatch: the same bytes until they are accepted, and once accepted never again.

A call that was started ends, also when the daemon is to stop: cut off, nobody could tell whether its numbers arrived, and
they would be told twice. That a part was accepted is remembered until the ledger knows it, too.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence

import structlog

from crrmon.domain import catalogue
from crrmon.domain.refusals import Refusals
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError, Ledger, LedgerError
from crrmon.ports.sink import RefusedPartError, Sink, SinkError
from crrmon.services.lifecycle.health import Dependency
from crrmon.services.lifecycle.runtime import Runtime

RETRY_FIRST_SECONDS = 1.0
RETRY_CAP_SECONDS = 60.0
SENDING_SECONDS = 30.0
"""How long a round goes on sending what has piled up, before the next windows get their turn."""
SENDING_WINDOWS = 100
"""How many frozen windows are read at once, and so the most that are counted."""
AHEAD_SECONDS = 300.0
"""What begins later than so far from now was frozen by a clock that was ahead, and waits for its time."""

DEADLINE_SECONDS = 60.0
"""For one call: whatever does not answer by then, does not answer."""
TAKEN_SECONDS = 14 * 86_400.0
"""Age at which CloudWatch takes no datapoint any more: what is refused then is refused for that."""
FORGETTING_SECONDS = 0.5
"""Between two tries to have the ledger forget what was accepted, when the daemon is to stop."""

Key = tuple[float, int]
"""Start of a window, and the number of its part."""

log = structlog.get_logger()


class _Sent(enum.Enum):
    """What came of sending a part."""

    DONE = enum.auto()
    """It was accepted, or is let go."""
    DOUBTED = enum.auto()
    """It was refused, and nobody can tell yet whether others would be."""
    FAILED = enum.auto()
    """There is no use in sending anything now."""


class Sender:
    """Sends what is frozen.

    Args:
        health: of the sink.
        holds: tells whether a lease still stands; after this process stood still, somebody else may send the same.
    """

    def __init__(
        self,
        ledger: Ledger,
        sink: Sink,
        runtime: Runtime,
        *,
        health: Dependency,
        holds: Callable[[Lease], bool],
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._health = health
        self._holds = holds
        self._clock = runtime.clock
        self._meters = runtime.meters
        self._unsent: int | None = None
        self._send_at = float("-inf")
        self._delay = RETRY_FIRST_SECONDS
        self._refusals = Refusals()
        self._accepted: dict[Key, Lease] = {}
        """Parts that the ledger does not know to be accepted yet."""
        self._sending = asyncio.Lock()
        self._stopping = False

    @property
    def unsent(self) -> int | None:
        """How many frozen windows were not sent yet, `SENDING_WINDOWS` for any more; None before it is known."""
        return self._unsent

    def froze(self, window: FrozenWindow) -> None:
        """Note that a window was frozen."""
        if window.parts and self._unsent is not None:
            self._unsent = min(self._unsent + 1, SENDING_WINDOWS)

    def retire(self) -> None:
        """Forget everything: another daemon sends now, and how CloudWatch is, is for that one to say."""
        self._unsent = None
        self._send_at, self._delay = float("-inf"), RETRY_FIRST_SECONDS
        self._refusals = Refusals()
        # Not what was accepted: the role may come back under the same lease, after an outage of the ledger.
        self._health.retire()

    async def send(self, lease: Lease, *, alive: Callable[[], None]) -> None:
        """Send what waits, as long as that is of use and not longer than `SENDING_SECONDS`.

        Args:
            lease: under which the ledger forgets what was sent.
            alive: called before each call.

        Raises:
            LedgerError, LeaseLostError: of the ledger.
        """
        loop = asyncio.get_running_loop()
        self._accepted = {
            key: under for key, under in self._accepted.items() if under.epoch == lease.epoch
        }
        if loop.time() < self._send_at:
            return
        enough_at = loop.time() + SENDING_SECONDS

        def goes_on() -> bool:
            alive()
            return not self._stopping and loop.time() < enough_at and self._holds(lease)

        while goes_on():
            # Past those that are refused, but not through all there are where everything is.
            passed = 0 if self._refusals.total else self._refusals.doubted
            limit = SENDING_WINDOWS + passed
            frozen = await self._ledger.frozen(limit=limit)
            doubted = self._refusals.doubted
            left = await self._send_all(frozen, lease, limit=limit, goes_on=goes_on)
            if left is None:
                return
            if left and self._refusals.doubted >= max(doubted, 1):
                self._rest_in_doubt()  # none was accepted, and all were tried
                return
            if not left and len(frozen) < limit:
                self._unsent = 0
                return

    def stop(self) -> None:
        """Begin no more calls."""
        self._stopping = True

    async def drained(self) -> None:
        """Wait until the call under way has ended, and the ledger knows what was accepted."""
        async with self._sending:
            pass
        while self._accepted:
            try:
                for key, lease in list(self._accepted.items()):
                    await self._forget(key, lease)
            except LedgerError:
                await asyncio.sleep(FORGETTING_SECONDS)
            except LeaseLostError:
                return

    async def _send_all(
        self,
        frozen: Sequence[FrozenWindow],
        lease: Lease,
        *,
        limit: int,
        goes_on: Callable[[], bool],
    ) -> int | None:
        """Send the parts of windows; return how many windows are left because of parts that are in doubt.

        None where there is no use in going on now.
        """
        left = len(frozen)
        in_doubt = 0
        for window in frozen:
            self._unsent = left if len(frozen) < limit else SENDING_WINDOWS
            if window.starts_at > self._clock.now() + AHEAD_SECONDS:
                return None  # CloudWatch would refuse it, and all that follow
            whole = True
            for number, part in enumerate(window.parts):
                if not goes_on():
                    return None
                async with self._sending:
                    sent = await self._part(window, number, part, lease)
                if sent is _Sent.FAILED:
                    return None
                whole = whole and sent is _Sent.DONE
            left -= whole
            in_doubt += not whole
        self._unsent = left if len(frozen) < limit else SENDING_WINDOWS
        return in_doubt

    async def _part(self, window: FrozenWindow, number: int, part: bytes, lease: Lease) -> _Sent:
        """Send a part, and have it forgotten when that is done with."""
        key = (window.starts_at, number)
        if part and key not in self._accepted:
            if self._refusals.pointless(key):
                return _Sent.DOUBTED
            sent = await self._deliver(key, part)
            if sent is not _Sent.DONE:
                return sent
            self._accepted[key] = lease
        await self._forget(key, lease)
        return _Sent.DONE

    async def _forget(self, key: Key, lease: Lease) -> None:
        await self._ledger.forget(*key, lease=lease)
        self._accepted.pop(key, None)

    async def _deliver(self, key: Key, part: bytes) -> _Sent:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._sink.send(part)
        except RefusedPartError as error:
            self._meters.add(catalogue.CLOUDWATCH_REQUESTS, "refused")
            return self._refused(key, str(error))
        except (SinkError, TimeoutError) as error:
            self._meters.add(catalogue.CLOUDWATCH_REQUESTS, "failed")
            self._health.failed(str(error) or f"no answer within {DEADLINE_SECONDS:.0f} s")
            self._back_off()
            return _Sent.FAILED
        self._meters.add(catalogue.CLOUDWATCH_REQUESTS, "accepted")
        self._refusals.accepted()
        self._health.succeeded()
        self._delay = RETRY_FIRST_SECONDS
        return _Sent.DONE

    def _refused(self, key: Key, reason: str) -> _Sent:
        """Discard a part that is refused for what it is: keeping it would hold up all the others."""
        starts_at, _ = key
        too_old = self._clock.now() - starts_at > TAKEN_SECONDS
        if too_old or self._refusals.refused(key):
            log.error("window_refused", starts_at=starts_at, reason=reason)
            return _Sent.DONE
        if not self._refusals.total:
            return _Sent.DOUBTED
        self._health.failed(f"it refuses everything it is sent, which is kept: {reason}")
        self._back_off()
        return _Sent.FAILED

    def _rest_in_doubt(self) -> None:
        """Try again later what was refused, where others to tell by may never come."""
        if self._refusals.hopeful:
            return
        self._refusals.again()
        self._back_off()

    def _back_off(self) -> None:
        self._send_at = asyncio.get_running_loop().time() + self._delay
        self._delay = min(self._delay * 2, RETRY_CAP_SECONDS)
