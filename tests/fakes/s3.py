"""Buckets whose replication takes the time that a test says.

Two ways to say it. A `Fate` says what HEADs of one version show; `Stored` says what becomes of a version on its way to
each of its destinations, and S3's merged status and the replicas follow from that.
"""

import asyncio
import bisect
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Observation, Sight
from crrmon.ports.clock import Clock, Dates
from crrmon.ports.probe import UnreadableConfigurationError

NEVER = math.inf


class Fate(msgspec.Struct):
    """What a HEAD shows from when on: `then` after `done_at`, "pending" before."""

    done_at: float
    then: Sight = Sight.COMPLETED
    size: int = 100
    written_at: float = 0.0


class Trip(msgspec.Struct, frozen=True):
    """The way of a version to one destination: from when on it stands how, in order; pending before."""

    steps: tuple[tuple[float, Sight], ...] = ()
    """Of PENDING, COMPLETED and FAILED."""

    def at(self, now: float) -> Sight:
        """Return how it stands."""
        passed = bisect.bisect_right([at for at, _ in self.steps], now)
        return self.steps[passed - 1][1] if passed else Sight.PENDING

    @property
    def arrives_at(self) -> float:
        """When the destination has it; never, if it does not."""
        return next((at for at, sight in self.steps if sight is Sight.COMPLETED), NEVER)


class Stored(msgspec.Struct, kw_only=True):
    """A version as it lies in a bucket where somebody wrote it."""

    written_at: float
    trips: Mapping[str, Trip] = {}
    """By destination bucket; empty where no rule selected it, and it shows no status."""
    size: int = 100
    deleted_at: float = NEVER
    shows: Sight | None = None
    """What every HEAD shows, whatever becomes of it: a delete marker, a wanted key."""
    storage_class: str = ""
    encryption: str = ""


class FakeS3:
    """Answers looks and configurations; `away` makes every look tell nothing, `unreadable` hides configurations."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.dates: Dates | None = None
        """Told the Date of every answer."""
        self.daemon: Clock | None = None
        """The clock that says when an answer came, if it is another one."""
        self.fates: dict[ObjectVersion, Fate] = {}
        self.stored: dict[ObjectVersion, Stored] = {}
        self.current: dict[tuple[str, str], ObjectVersion] = {}
        self.configurations: dict[str, dict[str, Any] | None] = {}
        self.away: Sight | None = None
        self.slow = 0.0
        """How long each look takes."""
        self.poison: set[str] = set()
        """Keys whose looks make the daemon stumble."""
        self.unreadable = False
        self.unproved = False
        """Whether it is a store that does not prove to be itself: an end has to be told twice."""
        self.at: tuple[str | None, ...] = (None,)
        """The sites at which there are buckets of every name."""
        self.dead: set[str | None] = set()
        """Buckets, or sites, whose looks time out."""
        self.denied: set[str | None] = set()
        """Buckets, or sites, whose looks are denied."""
        self.hidden: set[str] = set()
        """Buckets whose configuration the daemon may not read."""
        self.silent: set[str] = set()
        """Buckets in a store that tells no replication status."""
        self.owners: dict[str, str] = {}
        """Account ids; whoever expects another one is denied."""
        self.hasty = True
        """Whether FAILED shows as soon as one destination failed, or only when no other one is pending any more."""
        self.looks: list[ObjectVersion] = []
        self.reads: list[str] = []
        self._sources: dict[ObjectVersion, list[ObjectVersion]] = {}

    def store(self, version: ObjectVersion, stored: Stored) -> None:
        """Put a version down, instead of what was said of it before; it becomes the key's current one."""
        self.stored[version] = stored
        self.current[version.bucket, version.key] = version
        for bucket in stored.trips:
            replica = ObjectVersion(bucket, version.key, version.version_id)
            sources = self._sources.setdefault(replica, [])
            if version not in sources:
                sources.append(version)

    def rule(self, bucket: str, *destinations: str, **how: Any) -> None:
        """Have a bucket replicate to destinations and nowhere else; see `add_rule`."""
        self.configurations[bucket] = None
        self.add_rule(bucket, *destinations, **how)

    def add_rule(
        self,
        bucket: str,
        *destinations: str,
        prefix: str = "",
        tagged: bool = False,
        markers: bool = False,
        timed: bool = False,
    ) -> None:
        """
        Have a bucket replicate keys of a prefix to more destinations.

        Args:
            bucket: of the source.
            destinations: one rule each.
            prefix: what keys must begin with.
            tagged: whether objects must also have a tag.
            markers: whether delete markers replicate.
            timed: whether there is Replication Time Control.
        """
        known = self.configurations.get(bucket)
        rules = [] if known is None else known["Rules"]
        tags = [{"Key": "replicate", "Value": "yes"}]
        fits = {"And": {"Prefix": prefix, "Tags": tags}} if tagged else {"Prefix": prefix}
        for number, one in enumerate(destinations, start=len(rules) + 1):
            destination: dict[str, Any] = {"Bucket": f"arn:aws:s3:::{one}"}
            if one in self.owners:
                destination["Account"] = self.owners[one]
            if timed:
                destination |= {
                    "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": 15}},
                    "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": 15}},
                }
            rules.append(
                {
                    "ID": f"to-{one}",
                    "Priority": number,
                    "Status": "Enabled",
                    "Filter": fits,
                    "DeleteMarkerReplication": {"Status": "Enabled" if markers else "Disabled"},
                    "Destination": destination,
                }
            )
        self.configurations[bucket] = {
            "Role": "arn:aws:iam::210987654321:role/crr",
            "Rules": rules,
        }

    async def look(self, version: ObjectVersion, *, region: str, owner: str | None) -> Observation:
        seen = await self._look(version, region=region, owner=owner)
        if seen.sight is not Sight.UNREACHABLE:
            self._tell_date()
        return (
            seen
            if self.daemon is None
            else msgspec.structs.replace(seen, looked_at=self.daemon.now())
        )

    async def look_at_replica(
        self,
        version: ObjectVersion,
        bucket: str,
        *,
        region: str,
        owner: str | None,
        source_owner: str | None,
    ) -> Observation:
        replica = ObjectVersion(bucket, version.key, version.version_id)
        if bucket == version.bucket:
            (owner,) = (site for site in self.at if site != source_owner)
        return await self.look(replica, region=region, owner=owner)

    def sites(self, bucket: str) -> tuple[str | None, ...]:
        del bucket
        return self.at

    def _tell_date(self) -> None:
        if self.dates is not None:
            self.dates.heard(float(int(self._clock.now())), asked_at=self.dates.asked())

    async def _look(
        self, version: ObjectVersion, *, region: str, owner: str | None
    ) -> Observation:
        del region
        self.looks.append(version)
        if version.key in self.poison:
            raise RuntimeError(f"stumbled over {version.key}")
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.dead & {version.bucket, owner}:
            await asyncio.sleep(10)
            return Observation(sight=Sight.UNREACHABLE, looked_at=self._clock.now(), detail="dead")
        now = self._clock.now()
        if self.away is not None:
            unproved = self.unproved and self.away.ended
            return Observation(sight=self.away, looked_at=now, detail="away", unproved=unproved)
        belongs_to = self.owners.get(version.bucket, owner)
        if self.denied & {version.bucket, owner} or owner not in (None, belongs_to):
            return Observation(sight=Sight.DENIED, looked_at=now, detail="403")
        if not version.identified:
            version = self.current.get((version.bucket, version.key), version)
        seen = self._seen(version, now)
        if self.unproved and seen.sight.ended:
            return msgspec.structs.replace(seen, unproved=True)
        if version.bucket in self.silent and seen.sight.exists:
            return msgspec.structs.replace(seen, sight=Sight.SILENT)
        return seen

    async def configuration(
        self, bucket: str, *, region: str, owner: str | None
    ) -> dict[str, Any] | None:
        del region, owner
        self.reads.append(bucket)
        if self.unreadable or bucket in self.hidden:
            raise UnreadableConfigurationError(f"{bucket}: not told")
        self._tell_date()
        return self.configurations.get(bucket)

    async def lists(self, bucket: str, *, region: str, owner: str | None) -> bool:
        del region, owner
        return bucket not in self.hidden

    def status(self, version: ObjectVersion, now: float) -> Sight:
        """Return the merged status of a version where it was written, as S3 does."""
        stands = {trip.at(now) for trip in self.stored[version].trips.values()}
        if not stands:
            return Sight.NO_STATUS
        if stands == {Sight.COMPLETED}:
            return Sight.COMPLETED
        if Sight.FAILED in stands and (self.hasty or Sight.PENDING not in stands):
            return Sight.FAILED
        return Sight.PENDING

    def _seen(self, version: ObjectVersion, now: float) -> Observation:
        if (fate := self.fates.get(version)) is not None:
            return Observation(
                sight=fate.then if now >= fate.done_at else Sight.PENDING,
                looked_at=now,
                version_id=version.version_id,
                size=fate.size,
                last_modified_at=fate.written_at,
            )
        stored, sight = self.stored.get(version), None
        if stored is not None:
            sight = self.status(version, now) if stored.shows is None else stored.shows
        elif (source := self._source(version, now)) is not None:
            # A replica outlives its source, has its creation time, and is encrypted as it is.
            stored = msgspec.structs.replace(source, deleted_at=NEVER)
            sight = Sight.REPLICA if stored.shows is None else stored.shows
        if stored is None or sight is None or now >= stored.deleted_at:
            return Observation(sight=Sight.GONE, looked_at=now)
        if not sight.exists:
            return Observation(sight=sight, looked_at=now)
        return Observation(
            sight=sight,
            looked_at=now,
            version_id=version.version_id,
            size=stored.size,
            last_modified_at=float(int(stored.written_at)),
            storage_class=stored.storage_class,
            encryption=stored.encryption,
        )

    def _source(self, replica: ObjectVersion, now: float) -> Stored | None:
        """Find what a version in a destination was copied from, if it has arrived there."""
        for version in self._sources.get(replica, ()):
            source = self.stored[version]
            if now >= source.trips[replica.bucket].arrives_at:
                return source
        return None
