"""The ledger: what is pending, what was counted, what is to be reported. It survives everything.

How it is laid out, whatever it lies in (`crrmon.ledger` does it, over `crrmon.ports.store`):

- A *trail* (`objects.trail_id`: key and version id) holds records, marks and early facts. It belongs to one shard, and
  whatever is said to be atomic below is atomic within one trail. A batch may span shards; where a store cannot
  write all of it at once it is split, each part atomic, each with a delta of its own whose id starts with the
  batch's.
- Contributions are appended, never updated, and wait until a window is frozen from them.
- Everything stored carries a schema number; readers ignore fields they do not know.

Every method may raise `LedgerError`: nothing is known to be done and asking again may help. All are safe to repeat:
conditions, marks and batch ids make a repetition recognise itself. `UnusableLedgerError` comes instead where asking
again is of no use: the stored data is damaged.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from crrmon.domain.backlog import BacklogSlot
from crrmon.domain.events.facts import News
from crrmon.domain.lessons import Learned, Lesson
from crrmon.domain.noting import Noted
from crrmon.domain.objects import MarkId, Route
from crrmon.domain.outcomes import Delta, EarlyFact, Mark, Settlement
from crrmon.domain.policy import Policy
from crrmon.domain.records import Record
from crrmon.domain.settling import Settled
from crrmon.domain.trails import Parked, Rescheduled, Trail


class LedgerError(Exception):
    """The ledger could not do or tell what was asked; asking again may help."""


class UnusableLedgerError(Exception):
    """The ledger cannot be used at all until somebody acts; the text says what to do."""


class AbsentLedgerError(LedgerError):
    """There is no ledger of this name yet, and none was to be made."""


class OccupiedLedgerError(UnusableLedgerError):
    """Another process has the ledger, and nobody else can have it meanwhile."""


class LeaseLostError(Exception):
    """Somebody else holds the lease by now."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who works on a shard.

    `beat` changes whenever the holder renews. A lease that an observer saw unchanged for its duration, by the
    observer's own monotonic clock, has lapsed.
    """

    shard: int
    owner: str
    """The empty string when nobody holds it."""
    epoch: int
    """Grows by one with every change of holder; 0 before the first."""
    beat: int


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How a ledger is best asked: what a call costs differs by backend, and so does what gathering for it saves."""

    size: int
    """Most items of one call."""
    linger: float
    """Seconds to wait for more items while a call is not full."""
    lanes: int
    """How many calls of a kind may be under way at once."""


IN_PROCESS = Pace(size=500, linger=0.02, lanes=1)
"""How to ask a ledger that is in this process: one call at a time, for one at a time is all it does."""


class FrozenWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window whose datapoints are decided."""

    starts_at: float
    parts: tuple[bytes, ...]
    """One call to the sink each; what was sent is forgotten one by one, an empty one stays as b''."""
    deltas: tuple[str, ...]
    """Ids of all deltas in it: they must not get into another. Empty once the ledger has dropped those."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What one daemon says about itself, for whoever speaks for all of them."""

    owner: str
    """The daemon; as in its leases."""
    announced_at: float
    held_since: float | None
    """The oldest time of a write that it knows of and that is not durable yet; None when it holds nothing."""
    delay: float | None
    """
    The largest time in seconds from a write to its message's arrival in the queue that it knows of; None when it never
    saw any.
    """


class Ledger(Protocol):
    """What every backend does."""

    shards: int
    """How many shards it was made with."""
    exclusive: bool
    """Whether only one daemon can have it open: then every lease found in it has lapsed."""
    pace: Pace
    """How to ask it."""

    # ---- intake and looking ----

    async def seen(self, ids: Sequence[MarkId]) -> Sequence[Mark | EarlyFact | None]:
        """
        Return what is kept under each id: the mark if there is one, else the early fact, else None; in the order asked.

        Marks and early facts past the dedup retention may or may not be told.
        """

    async def park(self, records: Sequence[Record]) -> Sequence[Parked]:
        """Store new records (`rev` 0), each atomically; a stored one gets `rev` 1.

        A record whose destinations all have their mark, or whose version has a mark of scope SOURCE, is not
        stored. If some destinations have theirs, or it knows none, it is stored whole: settling sorts that out.
        An early fact about one of its destinations is joined: the destination gets its `replicated_at`. So is one that says that it
        is everywhere, where there is one destination.
        A version that has a record already keeps it, and that learns what the new one tells better (`record_changes.merged`).
        The batch may hold the same version twice.
        """

    async def due(self, shards: Sequence[int], *, now: float, limit: int) -> Sequence[Record]:
        """Find the records of these shards whose `next_look_at` is not after `now`: the longest due first.

        Nothing is claimed: asking again finds them again until they are rescheduled or settled.
        """

    async def reschedule(self, records: Sequence[Record]) -> Sequence[Rescheduled]:
        """Replace each record by this one if the ledger's still has this `rev`; the stored one has the next `rev`.

        Also used to reopen: pending to failed or back. What the ledger knows of exact arrivals and this record
        does not cannot be lost: a join changes `rev`. Halves of destinations that only this record names are not
        joined; `seen` tells them.
        """

    async def settle(
        self, batch: str, settlements: Sequence[Settlement], *, now: float
    ) -> Sequence[Sequence[Settled]]:
        """Count outcomes, each at most once, and let their records go.

        Atomically per batch (per part of it where the store must): write the mark of every outcome that has
        none, drop or keep the records as each settlement says, and append ONE delta of what was newly
        counted, unless that is nothing. A settlement of `rev` 0 whose version has a record is a duplicate as a whole
        and changes nothing; so is one that closes its version while an arrival is known that it does not count, unless
        its `rev` is None. Outcomes with the same mark within the batch: the first one counts.
        All marks of a settlement are of its version's trail. A mark takes the place of an early fact.

        Args:
            batch: unique id, the same when the same batch is repeated after an error: its own marks then read as
                counted.
            settlements: what was decided.
            now: becomes the delta's `settled_at`; marks expire by it.

        Returns:
            For each settlement, for each of its outcomes.
        """

    async def note(self, news: Sequence[News], *, now: float) -> Sequence[Noted]:
        """Add what others told to the records of versions, each atomically.

        - A replica's arrival: in the record that waits for it, else as an early fact. The earliest event of one stands.
          A record that arrived everywhere by that, or is an open failure, is due at once.
        - A failure: in the record, which is due at once. One that is older than the record's last retry tells nothing,
          nor does one that tells again what is known (`record_changes.with_failure`), but perhaps the reason.
          A record without destinations keeps it until they are known.
        - A store's word that a version is everywhere: as a replica's arrival, in a record of one destination. A record of
          another number is due at once, the first time; that, and what is told of no record, is kept for the dedup retention.
        - A store's word that a deletion is everywhere: kept for the dedup retention.
        - A threshold: a missed one in the record. Each is kept, for the dedup retention, as told.
        - A restart: an open failure found before it is pending again and due at once.
        - A deletion: the record is due at once, the first time.
        """

    # ---- reporting ----

    async def remember_routes(self, routes: Sequence[Route]) -> None:
        """Remember routes for ever: zeros are reported for all of them."""

    async def known_routes(self) -> Sequence[Route]:
        """Return all routes remembered so far, sorted."""

    async def deltas(self) -> Sequence[Delta]:
        """Return all committed deltas that no window was frozen from, oldest first."""

    async def append(self, deltas: Sequence[Delta]) -> None:
        """Add deltas that no settlement made: what no rule covers, or what another ledger had not frozen.

        One whose id is there already stays as it is.
        """

    async def freeze(self, window: FrozenWindow, *, lease: Lease) -> None:
        """Store a window under the lease of shard 0; its deltas are not told again and get dropped.

        Its start is remembered as `last_frozen`, if it is the newest. If a window with this start exists, or is the
        newest frozen, nothing is done: the first one stands, and deltas that are not in it are told again.
        A window that has nothing to send is wholly sent at once.

        Raises:
            LeaseLostError: it is not held any more under its owner and epoch; nothing was stored.
        """

    async def frozen(self, *, limit: int = 100) -> Sequence[FrozenWindow]:
        """Return the windows that are not wholly sent, oldest first, and no more than `limit`."""

    async def last_frozen(self) -> float | None:
        """Return the `starts_at` of the newest window ever frozen, sent or not."""

    async def forget(self, starts_at: float, part: int, *, lease: Lease) -> None:
        """Drop one sent part (0-based) of a window, and the window with its last one. Forgetting twice is harmless.

        Raises:
            LeaseLostError: it is not held any more under its owner and epoch; nothing was changed.
        """

    async def backlog(self) -> Sequence[BacklogSlot]:
        """Return what is pending and failed, without listing it; empty slots are left out."""

    # ---- the daemons among themselves ----

    async def announce(self, member: Member) -> None:
        """Keep a daemon's heartbeat, instead of its last one."""

    async def members(self) -> Sequence[Member]:
        """Return the heartbeat of every daemon that announced itself and was not dismissed, by owner."""

    async def dismiss(self, member: Member) -> None:
        """Drop a heartbeat, if it still is this one."""

    # ---- small state by name ----

    async def states(self, prefix: str) -> Mapping[str, bytes]:
        """Return the small named states whose names begin with a prefix, by name, sorted.

        They are few and small: whatever the daemons share that has no other place.
        """

    async def swap(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """Replace a small named state if it is still `before`; None stands for no state of that name.

        Args:
            name: printable ASCII.
            before: what it was seen to be.
            after: what it becomes; 100 KB at the most.

        Returns:
            Whether it is `after` now, also when this same call was carried out before.
        """

    # ---- what was learned ----

    async def latencies(self, *, now: float) -> Sequence[Learned]:
        """Return what all daemons learned of the latencies of each path, in any order.

        What is damaged, cannot be true, or is of another format is left out, and so is what nobody added to for long.
        """

    async def teach(self, lesson: Lesson, *, now: float, policy: Policy) -> Learned:
        """Add a lesson to what is known of its path, unless it is among the newest lessons there.

        Args:
            lesson: what is new; a repetition has the same id.
            now: the time.
            policy: says how what was known before fades.

        Returns:
            What is known now.
        """

    # ---- answers to people ----

    async def failures(
        self,
        *,
        bucket: str | None = None,
        destination: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> tuple[Sequence[Record], str | None]:
        """List open failures of all buckets or one source bucket, newest `failed_at` first, a page at a time.

        One without `failed_at` stands where its `written_at` puts it. With `destination`, only those that stand as
        failed on the way to that bucket (`Record.standings`), as in the backlog; a page may then hold fewer than
        `limit`, even none, and not be the last.

        Returns:
            The page, and what to pass as `after` for the next one; None after the last.

        Raises:
            ValueError: `after` is not what a page ended with.
        """

    async def find(self, key: str, version_id: str) -> Trail:
        """Return all that is known of a key and version id, in whatever bucket."""

    # ---- work sharing and upkeep ----

    async def leases(self) -> Sequence[Lease]:
        """Return the lease of every shard, by shard."""

    async def claim(self, seen: Lease, *, owner: str) -> Lease | None:
        """Take a shard, if its lease still is the one seen (epoch and beat).

        Returns:
            The new lease, with the next epoch, also when this same claim was made before; None when somebody else
            changed it meanwhile.
        """

    async def renew(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Change the beat of the leases that are still held under their owner and epoch.

        Returns:
            The leases that are still held, as they are now; the others were lost.
        """

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give up leases that are still held; their epoch stays, the owner becomes empty."""

    async def sweep(self, *, now: float) -> int:
        """Drop a bounded number of items past the dedup retention, such as trails without records; called now and then.

        Returns:
            How many were dropped; 0 when none is left to drop.
        """

    # ---- moving to another ledger, while no daemon works on it ----

    async def export(
        self, *, after: str | None = None, limit: int = 100
    ) -> tuple[Sequence[Trail], str | None]:
        """Return all trails that hold a record, each once, in any order, a page of about `limit` at a time.

        Returns:
            The page, and what to pass as `after` for the next one; None after the last.

        Raises:
            ValueError: `after` is not what a page ended with.
        """

    async def restore(self, trails: Sequence[Trail], *, now: float) -> None:
        """
        Take over trails that another ledger exported; one of which anything is held already, be it a mark, stays as it is.

        Args:
            trails: each holds a record; those are stored with the `rev` they have.
            now: marks and early facts are kept for the dedup retention from then.
        """

    async def close(self) -> None:
        """Release the ledger; nothing else may be called afterwards."""
