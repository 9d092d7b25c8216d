"""The pending record: what the ledger keeps of one source version until its fate is settled."""

import enum

import msgspec

from crrmon.domain.events.facts import Channel, Operation
from crrmon.domain.objects import (
    UNKNOWN_DESTINATION,
    MarkId,
    ObjectVersion,
    Place,
    Route,
    Scope,
    site_of,
)

# Asked for of every object. Before Python 3.12, an enumeration calls a function for each member.
_REPLICA = Scope.REPLICA


class State(enum.StrEnum):
    """Where a record stands."""

    PENDING = "pending"
    """Not final at every destination, or not known to be."""
    FAILED = "failed"
    """An open failure: S3 gave up; looked at ever more rarely until somebody repairs it."""


class Failure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What S3 itself said about a failure at one destination."""

    noticed_at: float
    reason: str = ""
    """S3's code; see `reasons`."""


class Destination(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One destination bucket that a source version should reach."""

    bucket: str
    rule: str = ""
    """Id of the replication rule that selects it."""
    certain: bool = True
    """False when only a tag filter might select it, which the configuration alone cannot tell."""
    replicated_at: float | None = None
    """Exact arrival, where the replica's own event told it."""
    counted: bool = False
    """Whether its arrival was counted, while others are still open."""
    failure: Failure | None = None
    """What S3 said when it gave up here; None where it said nothing."""
    failed: bool = False
    """Whether any failure episode was proved for it: then its arrival is a repair."""
    missed: bool = False
    """Whether S3 said that it did not arrive within 15 minutes."""
    owner: str | None = None
    """Account id of the bucket's owner, where the rule names it."""
    pending_seen_at: float | None = None
    """The newest look at which it certainly had not arrived here, whatever became of others."""
    failed_episode: int = 0
    """The last failure episode that was counted here."""


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One source version that is followed.

    A change is a new record made with `msgspec.structs.replace`; the ledger alone sets `rev`.
    """

    version: ObjectVersion
    region: str
    written_at: float
    """When the version was written, by AWS's clock."""
    next_look_at: float
    owner: str | None = None
    """Whose bucket it is, where known: the id of an account, or a store's site."""
    size: int | None = None
    channel: Channel = Channel.CLOUDTRAIL
    """Who told `written_at`, and `size` as long as nobody looked."""
    operation: Operation | None = None
    """How it came to be; None where nobody told."""
    etag: str = ""
    """As its event told it; the empty string where it did not."""
    destinations: tuple[Destination, ...] = ()
    """Empty while no replication configuration could be read."""
    said: tuple[Destination, ...] = ()
    """What S3 said about failures meanwhile."""
    state: State = State.PENDING
    episode: int = 0
    """Failure episodes counted so far."""
    unplaced_episode: int = 0
    """The last of them that was counted at the unknown destination, for want of a proved one."""
    looks: int = 0
    """HEAD requests so far that got an answer about this version."""
    troubles: int = 0
    """Requests since then that told nothing: denied, throttled, timed out."""
    refusals: int = 0
    """How many of the last answers in a row were 400."""
    endings: int = 0
    """How many of the last answers in a row said that it ended, from a store that does not prove to be itself."""
    deleted: bool = False
    """Whether somebody told that the version was deleted."""
    pending_seen_at: float | None = None
    """
    The newest look at which replication was certainly not done everywhere: a lower bound of the slowest destination's
    latency, and of no other one's.
    """
    failed_at: float | None = None
    """When the open failure was first seen."""
    reopened_at: float | None = None
    """When the last open failure was seen pending again: from then on its age counts again from zero."""
    failed_before: bool = False
    """Whether any episode failed: then an arrival is a repair."""
    claimed_at: float | None = None
    """
    What its event says of `written_at`, where that is not believed (`events.times`): then `written_at` is when it was
    heard of, until a look tells.
    """
    counts: bool = True
    """False for a version whose event was older than the retention: it is followed, never newly counted."""
    rev: int = 0
    """The ledger's revision; 0 for a record that it does not hold yet."""

    @property
    def event_at(self) -> float:
        """The time that its event tells, believed or not: what it is recognised by."""
        return self.written_at if self.claimed_at is None else self.claimed_at

    @property
    def open(self) -> tuple[Destination, ...]:
        """The destinations whose outcome is not counted yet."""
        for destination in self.destinations:
            if destination.counted:
                return tuple([one for one in self.destinations if not one.counted])
        return self.destinations

    @property
    def routes(self) -> tuple[Route, ...]:
        """The ways this version still takes, the unknown one where nothing could be read; never empty."""
        source = self.version.bucket
        if not self.destinations:
            return (Route(source, UNKNOWN_DESTINATION),)
        return tuple([Route(source, one.bucket) for one in self.destinations if not one.counted])

    @property
    def failed_at_destinations(self) -> tuple[Destination, ...]:
        """The destinations that an open failure is proved for: S3 named them, or no other one is left."""
        if self.state is not State.FAILED:
            return ()
        named = tuple(destination for destination in self.open if destination.failure is not None)
        if named:
            return named
        return self.open if len(self.open) == 1 else ()

    @property
    def failed_in_episode(self) -> bool:
        """Whether the last failure episode is known to have been at any destination."""
        return any(destination.failed_episode == self.episode for destination in self.destinations)

    @property
    def placed(self) -> bool:
        """Whether the last failure episode was counted at a destination, if only at the unknown one."""
        return self.unplaced_episode == self.episode or self.failed_in_episode

    @property
    def arrived(self) -> bool:
        """Whether replicas' own events prove that it reached every destination."""
        for destination in self.destinations:
            if destination.replicated_at is None and not destination.counted:
                return False
        return bool(self.destinations)

    def repairs(self, destination: Destination) -> bool:
        """Return whether an arrival would be a repair: of a failure there, or of one that nobody knows the place of."""
        if not self.failed_before:
            return False
        failed = {one.bucket for one in self.destinations if one.failed}
        failed.update(one.bucket for one in self.failed_at_destinations)
        if failed:
            return destination.bucket in failed
        # Wherever it failed, not where it had arrived by then.
        arrived_at, failed_at = destination.replicated_at, self.failed_at
        return arrived_at is None or failed_at is None or arrived_at > failed_at

    def replica_mark(self, destination: str) -> MarkId:
        """Identify the mark of this version's arrival in a destination bucket."""
        version = self.version
        return MarkId(_REPLICA, destination, version.key, version.version_id)

    @property
    def place(self) -> Place:
        """Return which bucket it is in."""
        return self.version.bucket, site_of(self.owner)

    @property
    def replicated_mark(self) -> MarkId:
        """Identify a store's word that this version is everywhere."""
        return MarkId.of(Scope.REPLICATED, self.version)

    def standings(self) -> tuple[tuple[Route, State], ...]:
        """Return where it stands on each way it still takes.

        An open failure that is proved for no destination stands on the route to the unknown one, and the others wait.
        """
        if self.state is State.PENDING:
            return tuple([(route, State.PENDING) for route in self.routes])
        source = self.version.bucket
        failed = {destination.bucket for destination in self.failed_at_destinations} or {
            UNKNOWN_DESTINATION
        }
        waiting = tuple(
            (Route(source, one.bucket), State.PENDING)
            for one in self.open
            if one.bucket not in failed
        )
        return (*((Route(source, one), State.FAILED) for one in sorted(failed)), *waiting)
