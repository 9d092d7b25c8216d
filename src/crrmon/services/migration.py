"""Moving to another ledger: what is pending goes along, while no daemon works on either.

On the port alone, so any kind goes to any other. The source is only read. The target must hold nothing at first, and
is of no use before all is there: a move that was interrupted is started again with an empty target.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from crrmon.domain.objects import Route
from crrmon.domain.records import Record, State
from crrmon.domain.slicing import sliced
from crrmon.domain.trails import Trail
from crrmon.ports.clock import Clock
from crrmon.ports.ledger import FrozenWindow, Lease, LeaseLostError, Ledger, LedgerError
from crrmon.services.membership.leases import LEASE_SECONDS, REPORTING_SHARD

PAGE = 500
"""Trails and deltas of one call."""
WATCH_SECONDS = 1.0
"""Between two looks at leases that somebody seems to hold."""
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits before a call that failed is made again; after the last one the move fails."""

T = TypeVar("T")


class RefusedError(Exception):
    """Nothing was moved; the text says why and what to do."""


class OccupiedError(RefusedError):
    """The target holds something; the text says what."""


class DisturbedCopyError(Exception):
    """Somebody else worked on a ledger while it was moved; the text says who."""


class Teller(Protocol):
    """Shows how far a move is."""

    def watching(self, owner: str, left: float) -> None:
        """Report that a lease of this owner is watched for this many more seconds before it is considered abandoned."""
        ...

    def copying(self, done: int, total: int) -> None:
        """Report how many objects are copied, each once for each of its destinations.

        Told with 0 before anything is written: from then on the target is incomplete until the move is done.
        """
        ...

    def retrying(self, reason: str) -> None:
        """Report that a ledger failed and is asked again."""
        ...


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied, and whether both ledgers agree about it."""

    pending: int
    """Objects."""
    failures: int
    """Objects with an open failure."""
    batches: int
    """Contributions that no window was frozen from."""
    windows: int
    """Frozen and not wholly sent."""
    routes: int
    states: int
    """Small states by name: what is known of routes and of the delays of events."""
    differences: tuple[str, ...] = ()
    """A sentence for each thing about which the ledgers differ."""


class _Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger holds, without listing it."""

    backlog: Mapping[Route, tuple[int, int, int, int]]
    """Pending objects and bytes, failed objects and bytes."""
    batches: frozenset[str]
    windows: Mapping[float, tuple[int, ...]]
    """The sizes of the parts."""
    last_frozen: float | None
    routes: frozenset[Route]
    states: Mapping[str, bytes]

    @property
    def arrivals(self) -> int:
        """How many objects are awaited, each once for each of its destinations."""
        return sum(pending + failed for pending, _, failed, _ in self.backlog.values())

    def named(self) -> str:
        """Say what there is; nothing for nothing."""
        pending = sum(amounts[0] for amounts in self.backlog.values())
        failed = sum(amounts[2] for amounts in self.backlog.values())
        counts = {
            "arrivals pending": pending,
            "arrivals failed": failed,
            "batches not yet reported": len(self.batches),
            "windows not yet sent": len(self.windows),
            "routes": len(self.routes),
            "small states": len(self.states),
        }
        parts = [f"{count:,} {what}" for what, count in counts.items() if count]
        if self.last_frozen is not None:
            parts.append("the time of its last window")
        return ", ".join(parts)


class Move:
    """Moves what is pending from one ledger to another.

    Args:
        source: is only read.
        target: must hold nothing.
        clock: marks and early facts are kept for the target's dedup retention from its time on.
        owner: names this move in the target's lease of the reporting shard.
        teller: is told how far it is.
    """

    def __init__(
        self, source: Ledger, target: Ledger, *, clock: Clock, owner: str, teller: Teller
    ) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._owner = owner
        self._teller = teller
        self._leases: dict[str, Sequence[Lease]] = {}

    async def run(self) -> Moved:
        """Move everything, then compare.

        Raises:
            RefusedError: nothing was moved.
            DisturbedCopyError: the target is of no use, for somebody else worked on it.
            LedgerError, UnusableLedgerError: a ledger failed for good.
        """
        await self._watch()
        held = await self._holdings(self._source)
        if not held.named():
            raise RefusedError("the source holds nothing: name the ledger that the daemon used")
        if found := (await self._holdings(self._target)).named():
            raise OccupiedError(f"the target is not empty: it holds {found}")
        self._teller.copying(0, held.arrivals)
        await self._try(partial(self._target.remember_routes, sorted(held.routes)))
        objects = await self._copy_trails(held.arrivals)
        batches = await self._copy_deltas()
        windows = await self._copy_windows(held.last_frozen)
        for name, body in held.states.items():
            await self._try(partial(self._target.swap, name, None, body))
        await self._still_alone()
        arrived = await self._holdings(self._target)
        return Moved(
            pending=objects[State.PENDING],
            failures=objects[State.FAILED],
            batches=batches,
            windows=windows,
            routes=len(held.routes),
            states=len(held.states),
            differences=tuple(_differences(held, arrived)),
        )

    # ---- nobody else may work on them ----

    async def _watch(self) -> None:
        """Make sure that no daemon works on either ledger.

        One that was killed leaves its leases behind; such a lease must stand still for its duration to be believed.
        """
        for where in ("source", "target"):
            self._leases[where] = await self._leases_of(where)
        loop = asyncio.get_running_loop()
        until = loop.time() + LEASE_SECONDS
        while (owner := self._holder()) and (left := until - loop.time()) > 0:
            self._teller.watching(owner, left)
            await asyncio.sleep(min(left, WATCH_SECONDS))
            for where in self._leases:
                if worker := await self._worker(where):
                    raise RefusedError(f"a daemon is using the {where} ({worker}): stop it first")

    async def _still_alone(self) -> None:
        for where in self._leases:
            if worker := await self._worker(where):
                raise DisturbedCopyError(
                    f"a daemon started using the {where} meanwhile ({worker})"
                )

    def _holder(self) -> str:
        leases = (lease for some in self._leases.values() for lease in some)
        return next((lease.owner for lease in leases if lease.owner), "")

    async def _worker(self, where: str) -> str:
        """Return who changed a lease since the last time, and did not just let go of it."""
        before, self._leases[where] = self._leases[where], await self._leases_of(where)
        pairs = zip(before, self._leases[where], strict=True)
        return next((now.owner for old, now in pairs if now.owner and now != old), "")

    async def _leases_of(self, where: str) -> Sequence[Lease]:
        ledger = self._source if where == "source" else self._target
        # Only one can have it open, and that is this process.
        return [] if ledger.exclusive else await self._try(ledger.leases)

    # ---- copying ----

    async def _copy_trails(self, total: int) -> Counter[State]:
        objects: Counter[State] = Counter()
        done = 0
        async for trails in self._trails():
            await self._try(partial(self._target.restore, trails, now=self._clock.now()))
            records = [record for trail in trails for record in trail.records.values()]
            objects.update(record.state for record in records)
            done += sum(map(_arrivals, records))
            self._teller.copying(done, total)
        return objects

    async def _trails(self) -> AsyncIterator[Sequence[Trail]]:
        after: str | None = None
        while True:
            page, after = await self._try(partial(self._source.export, after=after, limit=PAGE))
            yield page
            if after is None:
                return

    async def _copy_deltas(self) -> int:
        deltas = await self._try(self._source.deltas)
        for page in sliced(deltas, PAGE):
            await self._try(partial(self._target.append, page))
        return len(deltas)

    async def _copy_windows(self, last_frozen: float | None) -> int:
        windows = await self._frozen(self._source)
        if last_frozen is None:
            return 0
        # One that has nothing to send is remembered all the same; where the newest is unsent, that one stands.
        newest = FrozenWindow(starts_at=last_frozen, parts=(), deltas=())
        lease = await self._claimed()
        try:
            for window in (*windows, newest):
                mine = msgspec.structs.replace(window, deltas=())
                await self._try(partial(self._target.freeze, mine, lease=lease))
        except LeaseLostError as error:
            raise DisturbedCopyError(f"a daemon is using the target meanwhile: {error}") from error
        finally:
            await self._try(partial(self._target.release, [lease]))
        return len(windows)

    async def _claimed(self) -> Lease:
        await self._still_alone()
        # As it was seen then: whoever came in between keeps it.
        seen = self._leases["target"] or await self._try(self._target.leases)
        free = seen[REPORTING_SHARD]
        lease = await self._try(partial(self._target.claim, free, owner=self._owner))
        if lease is None:
            raise DisturbedCopyError("a daemon started using the target meanwhile")
        return lease

    # ---- asking ----

    async def _holdings(self, ledger: Ledger) -> _Holdings:
        backlog: dict[Route, tuple[int, int, int, int]] = {}
        for slot in await self._try(ledger.backlog):
            pending, pending_bytes, failed, failed_bytes = backlog.get(slot.route, (0, 0, 0, 0))
            backlog[slot.route] = (
                pending + slot.pending_objects,
                pending_bytes + slot.pending_bytes,
                failed + slot.failed_objects,
                failed_bytes + slot.failed_bytes,
            )
        return _Holdings(
            backlog=backlog,
            batches=frozenset(one.id for one in await self._try(ledger.deltas)),
            windows={
                one.starts_at: tuple(map(len, one.parts)) for one in await self._frozen(ledger)
            },
            last_frozen=await self._try(ledger.last_frozen),
            routes=frozenset(await self._try(ledger.known_routes)),
            states=await self._try(partial(ledger.states, "")),
        )

    async def _frozen(self, ledger: Ledger) -> Sequence[FrozenWindow]:
        """Return all windows that are not wholly sent: two weeks of them at the most."""
        limit = PAGE
        while len(told := await self._try(partial(ledger.frozen, limit=limit))) >= limit:
            limit *= 2
        return told

    async def _try(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask a ledger, and again when it fails: all that is asked is safe to repeat."""
        for delay in RETRY_SECONDS:
            try:
                return await ask()
            except LedgerError as error:
                self._teller.retrying(str(error))
                await asyncio.sleep(delay)
        return await ask()


def _arrivals(record: Record) -> int:
    return len(dict(record.standings()))


def _differences(source: _Holdings, target: _Holdings) -> Iterator[str]:
    """Say about what two ledgers differ."""
    nothing = (0, 0, 0, 0)
    for route in sorted(source.backlog.keys() | target.backlog.keys()):
        ours, theirs = source.backlog.get(route, nothing), target.backlog.get(route, nothing)
        if ours != theirs:
            yield (
                f"{route.source} to {route.destination}: the source holds {_amounts(ours)},"
                f" the target {_amounts(theirs)}"
            )
    for what, mine, other in (
        ("batches not yet reported", source.batches, target.batches),
        ("windows not yet sent", source.windows, target.windows),
        ("routes", source.routes, target.routes),
    ):
        if len(mine) != len(other):
            yield f"{what}: the source holds {len(mine)}, the target {len(other)}"
        elif mine != other:
            yield f"{what}: those in the target are different"
    if source.states != target.states:
        yield "what is known about routes and event delays differs in the target"
    if source.last_frozen != target.last_frozen:
        yield "the time of the last window differs in the target"


def _amounts(amounts: tuple[int, int, int, int]) -> str:
    pending, pending_bytes, failed, failed_bytes = amounts
    return f"{pending} pending ({pending_bytes} bytes) and {failed} failed ({failed_bytes} bytes)"
