"""Buckets whose replication takes the time that a test says."""

import asyncio
from typing import Any

import msgspec

from crrmon.domain.objects import ObjectVersion
from crrmon.domain.observations import Observation, Sight
from crrmon.ports.clock import Clock
from crrmon.ports.probe import UnreadableConfigurationError


class Fate(msgspec.Struct):
    """
    What a HEAD shows from when on: `then` after `done_at`, "pending" before.
    """

    done_at: float
    then: Sight = Sight.COMPLETED
    size: int = 100
    written_at: float = 0.0


class FakeS3:
    """
    Answers looks and configurations; `away` makes every look tell nothing, `unreadable` hides configurations.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.fates: dict[ObjectVersion, Fate] = {}
        self.current: dict[tuple[str, str], ObjectVersion] = {}
        self.configurations: dict[str, dict[str, Any] | None] = {}
        self.away: Sight | None = None
        self.unreadable = False
        self.dead: set[str] = set()
        """Buckets whose looks time out."""
        self.looks: list[ObjectVersion] = []
        self.reads: list[str] = []

    def rule(self, bucket: str, *destinations: str, prefix: str = "") -> None:
        """
        Have a bucket replicate keys of a prefix to destinations.
        """
        self.configurations[bucket] = {
            "Role": "arn:aws:iam::210987654321:role/crr",
            "Rules": [
                {
                    "ID": f"to-{one}",
                    "Priority": number,
                    "Status": "Enabled",
                    "Filter": {"Prefix": prefix},
                    "DeleteMarkerReplication": {"Status": "Disabled"},
                    "Destination": {"Bucket": f"arn:aws:s3:::{one}"},
                }
                for number, one in enumerate(destinations, start=1)
            ],
        }

    async def look(self, version: ObjectVersion, *, region: str, owner: str | None) -> Observation:
        del region, owner
        self.looks.append(version)
        if version.bucket in self.dead:
            await asyncio.sleep(10)
            return Observation(sight=Sight.UNREACHABLE, looked_at=self._clock.now(), detail="dead")
        now = self._clock.now()
        if self.away is not None:
            return Observation(sight=self.away, looked_at=now, detail="away")
        if not version.identified:
            version = self.current.get((version.bucket, version.key), version)
        fate = self.fates.get(version)
        if fate is None:
            return Observation(sight=Sight.GONE, looked_at=now)
        return Observation(
            sight=fate.then if now >= fate.done_at else Sight.PENDING,
            looked_at=now,
            version_id=version.version_id,
            size=fate.size,
            last_modified_at=fate.written_at,
        )

    async def configuration(
        self, bucket: str, *, region: str, owner: str | None
    ) -> dict[str, Any] | None:
        del region, owner
        self.reads.append(bucket)
        if self.unreadable:
            raise UnreadableConfigurationError(f"{bucket}: not told")
        return self.configurations.get(bucket)
