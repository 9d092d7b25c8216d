"""Policies that let the daemon do all but look at buckets: read queues, keep the ledger, send metrics, take roles.

Each queue is named, and there is one in each region of each account: many take several policies.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from crrmon.domain.deployment import quotas
from crrmon.domain.deployment.names import Names
from crrmon.domain.deployment.packing import NOTHING, Chunks, Room, pack
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import numbered, policies
from crrmon.domain.templates.intrinsics import ref, sub
from crrmon.domain.templates.parameters import HERE, NAMES

Json = Any

PREFIX = "Daemon"
"""What the names of such policies begin with, before a number."""

_RECEIVE = ("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage")
_DEPTH = ("sqs:GetQueueAttributes", "sqs:GetQueueUrl")
_LEDGER = (
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:ConditionCheckItem",
    "dynamodb:DeleteItem",
    "dynamodb:DescribeTable",
    "dynamodb:DescribeTimeToLive",
    "dynamodb:PutItem",
    "dynamodb:Query",
)
_TABLE_KEY = (
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
"""What DynamoDB does with a customer's key in the name of whoever reads and writes the table.

Source: Amazon DynamoDB Developer Guide, "DynamoDB encryption at rest: How it works", without kms:CreateGrant, which
whoever creates the table needs.
"""


class TooManyAgentsError(ValueError):
    """More queues or accounts than the daemon's role can be let in to; the text says what to do."""


# ---- what is allowed ----


def queues(names: Sequence[Json], dead_letters: Sequence[Json]) -> list[Json]:
    """Return statements to read queues, and to see how much waits in them and among the dead letters."""
    return [
        policies.allow("Queue", _RECEIVE, list(names)),
        policies.allow("Depth", _DEPTH, [*names, *dead_letters]),
    ]


def given_queues(arns: Json) -> Json:
    """Return a statement to read queues that a parameter lists, with their dead-letter queues among them."""
    return policies.allow("GivenQueues", [*_RECEIVE, *_DEPTH], arns)


def queue_keys(arns: Json) -> Json:
    """Return a statement to read queues under a customer's keys: SQS asks for the key in the reader's name."""
    return policies.allow("QueueKeys", ["kms:Decrypt"], arns)


def metrics() -> Json:
    """Return a statement to send metrics to one namespace: of CloudWatch's resources none could be named."""
    only = {"StringEquals": {"cloudwatch:namespace": ref("MetricNamespace")}}
    return policies.allow("Metrics", ["cloudwatch:PutMetricData"], "*", Condition=only)


def ledger(table_arn: Json, index_arns: Json) -> Json:
    """Return a statement to keep the ledger in a table."""
    return policies.allow("Ledger", _LEDGER, [table_arn, index_arns])


def table_key(arn: Json) -> Json:
    """Return a statement to use a table under a customer's key, by way of DynamoDB alone."""
    dynamodb = sub(f"dynamodb.{HERE.region}.${{AWS::URLSuffix}}")
    only = {"StringEquals": {"kms:ViaService": dynamodb}}
    return policies.allow("TableKey", _TABLE_KEY, arn, Condition=only)


def accounts(role_arns: Json) -> Json:
    """Return a statement to take the agents' roles in other accounts."""
    return policies.allow("Accounts", ["sts:AssumeRole"], role_arns)


# ---- in how many policies ----


def packed(
    places: Collection[Place], first: Sequence[Json], names: Names, *, before: Chunks = NOTHING
) -> Chunks:
    """
    Distribute queues over policies.

    Args:
        places: where the queues are.
        first: statements that the first policy has besides, with all of their functions worked out.
        names: the deployment's.
        before: how the queues lie in the policies that there are. They stay there, unless so many gaps were left that it
            would take one policy too many.

    Returns:
        By number of the policy, what `place_of` takes. There always is a first one.

    Raises:
        TooManyAgentsError: the first statements alone are too long, or it would take more policies than a role has.
    """
    fixed = policies.document([*first, *queues([], [])])
    # Less than is left, as each list has one comma less than it has values.
    left = quotas.MANAGED_POLICY_CHARACTERS - len(msgspec.json.encode(fixed))
    room = Room(left, lambda place: _size(place_of(place), names))
    by_name = {_named(place): place for place in places}
    if any(room.each(name) > left for name in by_name) or left < 0:
        raise TooManyAgentsError(
            "a policy cannot name the roles of so many accounts: deploy crrmon more than once, each time for some of them"
        )
    chunks: Chunks = {1: (), **pack(by_name, room, before=before)}
    if len(chunks) > quotas.MANAGED_POLICIES_PER_ROLE:
        chunks = {1: (), **pack(by_name, room)}
    if len(chunks) > quotas.MANAGED_POLICIES_PER_ROLE:
        raise TooManyAgentsError(
            f"a role needs {len(chunks)} policies to name the queues of {len(by_name)} regions of accounts, and may have "
            f"{quotas.MANAGED_POLICIES_PER_ROLE}: deploy crrmon more than once, each time for some of them"
        )
    return chunks


def of_places(places: Sequence[str], partition: str) -> list[Json]:
    """Return statements for the queues of some places, as `packed` names them; none for none."""
    if not places:
        return []
    found = [msgspec.structs.replace(place_of(one), partition=partition) for one in places]
    return queues(
        [sub(NAMES.queue_arn(place)) for place in found],
        [sub(NAMES.dead_letters_arn(place)) for place in found],
    )


def chunks(template: Mapping[str, Json]) -> Chunks:
    """Return which policy of a template names the queues of which places."""

    def arns(properties: Json) -> Json:
        statements = properties["PolicyDocument"]["Statement"]
        return [arn for one in statements if one.get("Sid") == "Queue" for arn in one["Resource"]]

    def name(arn: str) -> str:
        # From the end: before them stands a name of CloudFormation's, which has colons.
        _, region, account, _ = arn.rsplit(":", 3)
        return _named(Place(account=account, region=region))

    return numbered.chunks(template, PREFIX, arns, name)


def place_of(name: str) -> Place:
    """Return the place that `packed` calls so."""
    account, _, region = name.partition(":")
    return Place(account=account, region=region)


def _named(place: Place) -> str:
    return f"{place.account}:{place.region}"


def _size(place: Place, names: Names) -> int:
    # The partition is CloudFormation's to fill in.
    longest = msgspec.structs.replace(place, partition="aws-us-gov")
    quotes = len('"",')
    return (
        2 * (len(names.queue_arn(longest)) + quotes)
        + len(names.dead_letters_arn(longest))
        + quotes
    )
