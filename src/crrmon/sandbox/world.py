"""The buckets, rules and queues of the sandbox, and how they are made.

Two source buckets in different regions, each with one rule to a destination elsewhere. One rule covers everything,
the other only a prefix, so that some keys of that bucket never replicate.
"""

import json

import msgspec

from crrmon.adapters.aws import Aws

ACCOUNT = "000000000000"
"""The account that the emulator gives to credentials like ours; events must name it as the owner."""
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sandbox-replication"
MAX_RECEIVES = 10
"""After so many receives the queue moves a message to its dead-letter queue."""


class Bucket(msgspec.Struct, frozen=True):
    """
    A versioned bucket.
    """

    name: str
    region: str


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """
    The replication rule of a source bucket.
    """

    id: str
    source: str
    prefix: str
    """Keys that start with it are covered; the empty string covers all."""
    destination: str


class World(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that is set up before the first object is written.
    """

    buckets: tuple[Bucket, ...]
    rules: tuple[Rule, ...]
    """At most one for each source bucket."""
    queue: str
    dead_letter_queue: str
    queue_region: str

    @property
    def sources(self) -> tuple[Bucket, ...]:
        """
        The buckets that objects are written to.
        """
        named = {rule.source for rule in self.rules}
        return tuple(bucket for bucket in self.buckets if bucket.name in named)

    def region(self, bucket: str) -> str:
        """
        Return a bucket's region.
        """
        return next(one.region for one in self.buckets if one.name == bucket)

    def rule(self, bucket: str) -> Rule | None:
        """
        Return the rule of a bucket, if it has one.
        """
        return next((one for one in self.rules if one.source == bucket), None)

    def destination(self, bucket: str, key: str) -> str | None:
        """
        Return where a key replicates to; None when no rule covers it.
        """
        rule = self.rule(bucket)
        return rule.destination if rule and key.startswith(rule.prefix) else None


WORLD = World(
    buckets=(
        Bucket("src-a", "eu-west-1"),
        Bucket("src-b", "us-east-1"),
        Bucket("dst-a", "eu-central-1"),
        Bucket("dst-b", "us-west-2"),
    ),
    rules=(
        Rule(id="all-of-a", source="src-a", prefix="", destination="dst-a"),
        Rule(id="data-of-b", source="src-b", prefix="data/", destination="dst-b"),
    ),
    queue="crrmon",
    dead_letter_queue="crrmon-dead",
    queue_region="eu-west-1",
)


def queue_url(endpoint: str, queue: str) -> str:
    """
    Return the URL of a queue.
    """
    return f"{endpoint}/{ACCOUNT}/{queue}"


async def build(world: World, aws: Aws) -> None:
    """
    Make the buckets and queues, and configure replication.

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
    for rule in world.rules:
        s3 = await aws.client("s3", world.region(rule.source))
        await s3.put_bucket_replication(
            Bucket=rule.source,
            ReplicationConfiguration={
                "Role": ROLE,
                "Rules": [
                    {
                        "ID": rule.id,
                        "Priority": 1,
                        "Status": "Enabled",
                        "Filter": {"Prefix": rule.prefix},
                        "DeleteMarkerReplication": {"Status": "Disabled"},
                        "Destination": {"Bucket": f"arn:aws:s3:::{rule.destination}"},
                    }
                ],
            },
        )
    await _build_queues(world, aws)


async def _build_queues(world: World, aws: Aws) -> None:
    sqs = await aws.client("sqs", world.queue_region)
    await sqs.create_queue(QueueName=world.dead_letter_queue)
    policy = {
        "deadLetterTargetArn": f"arn:aws:sqs:{world.queue_region}:{ACCOUNT}:{world.dead_letter_queue}",
        "maxReceiveCount": MAX_RECEIVES,
    }
    await sqs.create_queue(QueueName=world.queue, Attributes={"RedrivePolicy": json.dumps(policy)})
