"""The buckets, replication rules and queues of the sandbox.

- `src-a` replicates everything to two destinations. Writes are told twice, by CloudTrail and by S3's notifications;
  both destinations tell of replicas. Delete markers go to the first one.
- `src-b` replicates one prefix to one destination, which tells nothing. Writes are told by S3's events alone.
- `src-c` and `src-d` replicate to each other, and S3's events tell of writes and replicas alike.
"""

import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec

from crrmon.adapters.aws import AwsSession
from crrmon.domain.events.facts import Channel
from crrmon.domain.objects import Route

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_s3.type_defs import (
        ReplicationConfigurationTypeDef,
        ReplicationRuleTypeDef,
    )

ACCOUNT = "000000000000"
"""The account that the emulator gives to credentials like ours; events must name it as the owner."""
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sandbox-replication"
MAX_RECEIVES = 10
"""After so many receives the queue moves a message to its dead-letter queue."""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A versioned bucket."""

    name: str
    region: str
    channels: tuple[Channel, ...] = ()
    """Who tells of what is written to it, replicas included."""
    weight: int = 0
    """Its share of the objects that an application writes."""


class SandboxRule(msgspec.Struct, frozen=True, kw_only=True):
    """A replication rule of a source bucket."""

    id: str
    source: str
    destination: str
    prefix: str = ""
    """Keys that start with it are covered; the empty string covers all."""
    delete_markers: bool = False
    """Whether delete markers replicate, too."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is set up before the first object is written."""

    buckets: tuple[Bucket, ...]
    rules: tuple[SandboxRule, ...]
    """Of one source bucket, all have the same prefix."""
    queue: str
    dead_letter_queue: str
    queue_region: str

    @property
    def sources(self) -> tuple[Bucket, ...]:
        """The buckets that objects are written to."""
        named = {rule.source for rule in self.rules}
        return tuple(bucket for bucket in self.buckets if bucket.name in named)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The ways that objects take."""
        return tuple(Route(rule.source, rule.destination) for rule in self.rules)

    def bucket(self, name: str) -> Bucket:
        """Return a bucket by its name."""
        return next(one for one in self.buckets if one.name == name)

    def region(self, bucket: str) -> str:
        """Return a bucket's region."""
        return self.bucket(bucket).region

    def rules_of(self, bucket: str) -> tuple[SandboxRule, ...]:
        """Return the rules of a bucket."""
        return tuple(rule for rule in self.rules if rule.source == bucket)

    def covering(self, bucket: str, key: str) -> tuple[SandboxRule, ...]:
        """Return the rules that replicate a key."""
        return tuple(one for one in self.rules_of(bucket) if key.startswith(one.prefix))

    def destinations(self, bucket: str, key: str) -> tuple[str, ...]:
        """Return where a key replicates to; nowhere when no rule covers it."""
        return tuple(one.destination for one in self.covering(bucket, key))


_NATIVE = (Channel.EVENTBRIDGE,)
_TOLD = (Channel.NOTIFICATION,)

WORLD = World(
    buckets=(
        Bucket(
            name="src-a",
            region="eu-west-1",
            channels=(Channel.CLOUDTRAIL, Channel.NOTIFICATION),
            weight=4,
        ),
        Bucket(name="src-b", region="us-east-1", channels=_NATIVE, weight=4),
        Bucket(name="src-c", region="eu-west-1", channels=_NATIVE, weight=1),
        Bucket(name="src-d", region="us-east-1", channels=_NATIVE, weight=1),
        Bucket(name="dst-a", region="eu-central-1", channels=_TOLD),
        Bucket(name="dst-b", region="us-west-2"),
        Bucket(name="dst-c", region="ap-southeast-2", channels=_TOLD),
    ),
    rules=(
        SandboxRule(id="a-to-a", source="src-a", destination="dst-a", delete_markers=True),
        SandboxRule(id="a-to-c", source="src-a", destination="dst-c"),
        SandboxRule(id="data-of-b", source="src-b", destination="dst-b", prefix="data/"),
        SandboxRule(id="c-to-d", source="src-c", destination="src-d"),
        SandboxRule(id="d-to-c", source="src-d", destination="src-c"),
    ),
    queue="crrmon",
    dead_letter_queue="crrmon-dead",
    queue_region="eu-west-1",
)


def queue_url(endpoint: str, queue: str) -> str:
    """Return the URL of a queue."""
    return f"{endpoint}/{ACCOUNT}/{queue}"


async def build(world: World, aws: AwsSession) -> None:
    """Make the buckets and queues, and configure replication.

    Args:
        world: what to make.
        aws: by way of the facade, which keeps the replication rules from the emulator.
    """
    for bucket in world.buckets:
        s3 = await aws.client("s3", bucket.region)
        if bucket.region == "us-east-1":  # the one region that must not be named
            await s3.create_bucket(Bucket=bucket.name)
        else:
            await s3.create_bucket(
                Bucket=bucket.name,
                CreateBucketConfiguration={"LocationConstraint": bucket.region},  # type: ignore[typeddict-item]
            )
        await s3.put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
    for source in world.sources:
        s3 = await aws.client("s3", source.region)
        await s3.put_bucket_replication(
            Bucket=source.name, ReplicationConfiguration=configured(world.rules_of(source.name))
        )
    await _build_queues(world, aws)


def configured(
    rules: Iterable[SandboxRule], *, off: Collection[str] = ()
) -> "ReplicationConfigurationTypeDef":
    """Create the replication configuration of a bucket.

    Args:
        rules: of the bucket.
        off: ids of those that are disabled.
    """
    return {
        "Role": ROLE,
        "Rules": [
            _configured(rule, priority, enabled=rule.id not in off)
            for priority, rule in enumerate(rules, start=1)
        ],
    }


def _configured(rule: SandboxRule, priority: int, *, enabled: bool) -> "ReplicationRuleTypeDef":
    return {
        "ID": rule.id,
        "Priority": priority,
        "Status": "Enabled" if enabled else "Disabled",
        "Filter": {"Prefix": rule.prefix},
        "DeleteMarkerReplication": {"Status": "Enabled" if rule.delete_markers else "Disabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{rule.destination}"},
    }


async def _build_queues(world: World, aws: AwsSession) -> None:
    sqs = await aws.client("sqs", world.queue_region)
    await sqs.create_queue(QueueName=world.dead_letter_queue)
    policy = {
        "deadLetterTargetArn": f"arn:aws:sqs:{world.queue_region}:{ACCOUNT}:{world.dead_letter_queue}",
        "maxReceiveCount": MAX_RECEIVES,
    }
    await sqs.create_queue(QueueName=world.queue, Attributes={"RedrivePolicy": json.dumps(policy)})
