"""Which replication rules are in force: all of the world's at first, and fewer once somebody has switched some off."""

import msgspec

from crrmon.adapters.aws import AwsSession
from crrmon.domain.objects import Route
from crrmon.sandbox.plan import Planned
from crrmon.sandbox.world import World, configured


class Mischief(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody does to rules while applications go on writing."""

    disabled: str
    """Id of a rule that stays where it is, with the status Disabled."""
    deleted: str
    """Source bucket whose replication configuration is deleted as a whole."""


MISCHIEF = Mischief(disabled="data-of-b", deleted="src-a")


class Rules:
    """Tells which rules take what is written now."""

    def __init__(self, world: World) -> None:
        """Args:
        world: whose rules are in force.
        """
        self.world = world
        self._off: set[str] = set()

    def switch_off(self, mischief: Mischief) -> None:
        """Take rules out of force: nothing that is written from now on replicates by them."""
        deleted = (rule.id for rule in self.world.rules_of(mischief.deleted))
        self._off.update((mischief.disabled, *deleted))

    def leads(self) -> dict[Route, bool]:
        """Return for each route whether a rule in force leads along it."""
        return {
            Route(rule.source, rule.destination): rule.id not in self._off
            for rule in self.world.rules
        }

    def touched(self, bucket: str) -> bool:
        """Return whether a rule of a bucket was switched off."""
        return any(rule.id in self._off for rule in self.world.rules_of(bucket))

    def destinations(self, bucket: str, key: str) -> tuple[str, ...]:
        """Return where a key replicates to now."""
        covering = self.world.covering(bucket, key)
        return tuple(rule.destination for rule in covering if rule.id not in self._off)

    def left_of(self, planned: Planned) -> Planned:
        """Return what still comes true of a plan.

        In a touched bucket nothing is deleted before it replicates, and no delete marker is created: what a daemon makes
        of these until it has read the rules again is not wrong, and not certain either.
        """
        if not self.touched(planned.bucket):
            return planned
        return msgspec.structs.replace(
            planned,
            passages=tuple(
                passage for passage in planned.passages if passage.rule not in self._off
            ),
            deletion=None,
            marking=None,
        )


async def tell_s3(mischief: Mischief, world: World, aws: AwsSession) -> None:
    """Change the configurations accordingly.

    Args:
        mischief: what is done.
        world: the rules as they were.
        aws: by way of the facade.
    """
    disabled = next(rule for rule in world.rules if rule.id == mischief.disabled)
    s3 = await aws.client("s3", world.region(disabled.source))
    await s3.put_bucket_replication(
        Bucket=disabled.source,
        ReplicationConfiguration=configured(
            world.rules_of(disabled.source), off={mischief.disabled}
        ),
    )
    s3 = await aws.client("s3", world.region(mischief.deleted))
    await s3.delete_bucket_replication(Bucket=mischief.deleted)
