"""The pending record: what the ledger keeps of one source version until its fate is settled."""

import enum

import msgspec

from crrmon.domain.objects import UNKNOWN_DESTINATION, MarkId, ObjectVersion, Route, Scope


class State(enum.StrEnum):
    """
    Where a record stands.
    """

    PENDING = "pending"
    """Not final at every destination, or not known to be."""
    FAILED = "failed"
    """An open failure: S3 gave up; looked at ever more rarely until somebody repairs it."""


class Destination(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One destination bucket that a source version should reach.
    """

    bucket: str
    rule: str = ""
    """Id of the replication rule that selects it."""
    certain: bool = True
    """False when only a tag filter might select it, which the configuration alone cannot tell."""
    replicated_at: float | None = None
    """Exact arrival, where the replica's own event told it."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One source version that is followed.

    A change is a new record made with `msgspec.structs.replace`; the ledger alone sets `rev`.
    """

    version: ObjectVersion
    region: str
    written_at: float
    """When the version was written, by AWS's clock."""
    next_look_at: float
    owner: str | None = None
    size: int | None = None
    destinations: tuple[Destination, ...] = ()
    """Empty while no replication configuration could be read."""
    state: State = State.PENDING
    episode: int = 0
    """Failure episodes counted so far."""
    looks: int = 0
    """HEAD requests so far that got an answer about this version."""
    troubles: int = 0
    """Requests since then that told nothing: denied, throttled, timed out."""
    refusals: int = 0
    """How many of the last answers in a row were 400."""
    pending_seen_at: float | None = None
    """The newest look at which replication was certainly not done: lower bound of the latency."""
    failed_at: float | None = None
    """When the open failure was first seen."""
    reopened_at: float | None = None
    """When the last open failure was seen pending again: from then on its age counts anew."""
    failed_before: bool = False
    """Whether any episode failed: then an arrival is a repair."""
    counts: bool = True
    """False for a version whose event was older than the horizon: it is followed, never newly counted."""
    rev: int = 0
    """The ledger's revision; 0 for a record that it does not hold yet."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """
        The ways this version takes, the unknown one where nothing could be read; never empty.
        """
        source = self.version.bucket
        if not self.destinations:
            return (Route(source, UNKNOWN_DESTINATION),)
        return tuple(Route(source, destination.bucket) for destination in self.destinations)

    def replica_mark(self, destination: str) -> MarkId:
        """
        Identify the mark of this version's arrival in a destination bucket.
        """
        return MarkId(Scope.REPLICA, destination, self.version.key, self.version.version_id)
