"""Who wrote a version that S3's event of EventBridge tells of: somebody, or replication.

Such an event does not say. At a bucket that is only a source it was somebody, at one that is only a destination it
was replication, and elsewhere one HEAD decides: a replica has a status of its own.
"""

from crrmon.domain.decisions import Decision, Settle, Wait, replica_found
from crrmon.domain.events.facts import Channel, ObjectWritten, ReplicaWritten
from crrmon.domain.records import Record
from crrmon.services.lifecycle.runtime import Runtime
from crrmon.services.tracking.configurations import ConfigurationCache, Role
from crrmon.services.tracking.looker import Looker


class Origins:
    """Finds out who wrote a version."""

    def __init__(
        self, runtime: Runtime, *, configurations: ConfigurationCache, looker: Looker
    ) -> None:
        self._configurations = configurations
        self._looker = looker
        self._clock = runtime.clock

    async def only_replicas(self, written: ObjectWritten) -> bool:
        """Return whether replication must have written it, by its bucket alone: a destination without rules of its own.

        NB: a direct write to such a bucket looks the same. It is not replicated, and becomes an early fact without a match.
        """
        if written.channel is not Channel.EVENTBRIDGE or not written.version.identified:
            return False
        role = await self._configurations.role(
            written.version.bucket, region=written.region, owner=written.owner
        )
        return role.destination and not role.source

    async def decided(self, record: Record, *, uncovered: bool) -> Decision | None:
        """Decide on a version that no rule is known to select, if replication wrote it, or might have.

        Args:
            record: without destinations.
            uncovered: whether it is proved that no rule selects it; else nobody can tell yet.

        Returns:
            What to carry out: it is a replica, or the look told nothing although a route leads to its bucket.
            None where it is no replica, and where its event tells who wrote it.
        """
        role = await self._doubtful(record)
        if role is None:
            return None
        if role.destination and not role.source:
            return replica_found(record, found_at=self._clock.now())
        return await self._looked(record, role, uncovered=uncovered)

    async def doubtful(self, record: Record) -> bool:
        """Return whether replication might have written a version, as far as its event and its bucket tell."""
        return await self._doubtful(record) is not None

    async def _doubtful(self, record: Record) -> Role | None:
        version = record.version
        # Replication needs versioning: what has no version id is no replica.
        if record.channel is not Channel.EVENTBRIDGE or not version.identified:
            return None
        role = await self._configurations.role(
            version.bucket, region=record.region, owner=record.owner
        )
        return None if role.source and not role.destination else role

    async def _looked(self, record: Record, role: Role, *, uncovered: bool) -> Decision | None:
        decision = await self._looker.consider(record)
        if isinstance(decision, Settle) and decision.by_replication:
            return decision
        # Where no known route leads to, nobody waits for the answer: it need not be asked again.
        if not role.destination or not isinstance(decision, Wait) or not decision.record.troubles:
            return None
        if self._looker.denied(record) and (uncovered or not role.known):
            # Another account's bucket, most likely: asking for ever would not tell, and all that it has to tell us
            # is what arrives there.
            return replica_found(record, found_at=self._clock.now())
        return decision


def replica_of(written: ObjectWritten) -> ReplicaWritten:
    """Take a write for one of replication's."""
    return ReplicaWritten(
        version=written.version,
        region=written.region,
        written_at=written.written_at,
        size=written.size,
        owner=written.owner,
    )
