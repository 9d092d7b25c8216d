"""The queue of events, its dead-letter queue, and who may send to them and read them.

SQS and IAM take no policy that names a role that does not exist, and a role that is deleted and made again is another
one to them. So where the monitor stands in another account, its account is named, on the condition that the caller is
the role: queue and role can be made in any order.
"""

from collections.abc import Sequence
from typing import Any

from crrmon.domain.deployment.names import bucket_arn
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates.intrinsics import (
    ACCOUNT,
    att,
    equals,
    given,
    negated,
    ref,
    sub,
    when,
)
from crrmon.domain.templates.parameters import (
    DEPLOYMENT,
    HERE,
    KEY_ARN,
    KEY_CONSTRAINT,
    NAMES,
)
from crrmon.domain.templates.template import Parameter, Part

Json = Any

POLICIES = ["DeadLettersPolicy", "QueuePolicy"]
"""What must be there before anything sends."""

_MONITOR = Place(account="${MonitorAccountId}", region="", partition=HERE.partition)

_RECEIVE = [
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
    "sqs:ReceiveMessage",
]
_DEPTH = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]

_DEAD_LETTERS_SECONDS = 1_209_600
"""The longest that SQS keeps a message: dead letters are not urgent enough to page somebody."""
_RECEIVES = 10


def monitor() -> Part:
    """Return how the daemon is let in, which is needed where it is in another account."""
    return Part(
        label="Monitor",
        parameters={
            "MonitorAccountId": Parameter(
                description="Account in which crrmon runs.",
                pattern="^[0-9]{12}$",
                constraint="must be the 12 digits of an account",
            ),
            "MonitorRoleArn": Parameter(
                description="Role with which crrmon runs; empty for the one that the monitor's stack creates.",
                default="",
                pattern=r"^$|^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$",
                constraint="must be the ARN of a role, or empty",
            ),
        },
        conditions={
            "IsForeign": negated(equals(ref("MonitorAccountId"), ref(ACCOUNT))),
            "NamesMonitorRole": given("MonitorRoleArn"),
        },
    )


def monitor_as_caller() -> dict[str, Json]:
    """Return the principal and the condition of a statement that lets in the daemon's role and nobody else."""
    role = when("NamesMonitorRole", ref("MonitorRoleArn"), sub(NAMES.monitor_role_arn(_MONITOR)))
    return {
        "Principal": {"AWS": sub(f"arn:{_MONITOR.partition}:iam::{_MONITOR.account}:root")},
        "Condition": {"ArnEquals": {"aws:PrincipalArn": role}},
    }


def queues() -> Part:
    """Return both queues with their policies; `monitor` has conditions that they need."""
    return Part(
        label="Deployment",
        parameters={
            "Deployment": DEPLOYMENT,
            "RetentionSeconds": Parameter(
                type="Number",
                description="Number of seconds that the queue keeps events; at most what crrmon's ledger.dedup_retention_days is.",
                default=345_600,
                least=3_600,
                most=1_209_600,
            ),
            "QueueKmsKeyArn": Parameter(
                description=(
                    "KMS key of your own that encrypts the queues; empty for SQS's own encryption. The key's policy must allow "
                    "events.amazonaws.com and s3.amazonaws.com kms:GenerateDataKey and kms:Decrypt, and crrmon's role kms:Decrypt."
                ),
                default="",
                pattern=KEY_ARN,
                constraint=KEY_CONSTRAINT,
            ),
        },
        conditions={"HasKey": given("QueueKmsKeyArn")},
        resources=_resources(),
        outputs={
            "QueueUrl": {"Description": "Queue that crrmon reads.", "Value": ref("Queue")},
            "QueueArn": {"Description": "Its ARN.", "Value": att("Queue")},
            "DeadLetterQueueUrl": {
                "Description": "Its dead-letter queue.",
                "Value": ref("DeadLetters"),
            },
        },
    )


def _resources() -> dict[str, Json]:
    return {
        "DeadLetters": _queue(
            NAMES.dead_letters,
            MessageRetentionPeriod=_DEAD_LETTERS_SECONDS,
            RedriveAllowPolicy={
                "redrivePermission": "byQueue",
                # By its name: each of the two would else have to be there before the other.
                "sourceQueueArns": [sub(NAMES.queue_arn(HERE))],
            },
        ),
        "Queue": _queue(
            NAMES.queue,
            MessageRetentionPeriod=ref("RetentionSeconds"),
            RedrivePolicy={
                "deadLetterTargetArn": att("DeadLetters"),
                "maxReceiveCount": _RECEIVES,
            },
        ),
        "DeadLettersPolicy": _policy("DeadLetters", [_rules("DeadLetters")], _DEPTH),
        "QueuePolicy": _policy("Queue", [_notifications("Queue"), _rules("Queue")], _RECEIVE),
    }


def _queue(name: str, **properties: Json) -> dict[str, Json]:
    return {
        "Type": "AWS::SQS::Queue",
        # Whoever deletes the stack has looked for messages before.
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Delete",
        "Properties": {
            "QueueName": sub(name),
            "SqsManagedSseEnabled": when("HasKey", ref("AWS::NoValue"), otherwise=True),
            "KmsMasterKeyId": when("HasKey", ref("QueueKmsKeyArn")),
            **properties,
        },
    }


def _policy(queue: str, senders: Sequence[Json], actions: Sequence[str]) -> dict[str, Json]:
    monitor_statement = {
        "Sid": "Monitor",
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": att(queue),
        **monitor_as_caller(),
    }
    only_tls = {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": att(queue),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    statements = [*senders, when("IsForeign", monitor_statement), only_tls]
    return {
        "Type": "AWS::SQS::QueuePolicy",
        "Properties": {
            "Queues": [ref(queue)],
            "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
        },
    }


def _notifications(queue: str) -> dict[str, Json]:
    """Let S3 send what the account's buckets tell: all of them, as the names of many do not fit into a policy."""
    return {
        "Sid": "Notifications",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": att(queue),
        "Condition": {
            "StringEquals": {"aws:SourceAccount": ref(ACCOUNT)},
            "ArnLike": {"aws:SourceArn": sub(bucket_arn("*", HERE.partition))},
        },
    }


def _rules(queue: str) -> dict[str, Json]:
    """Let EventBridge send what the deployment's rules let through.

    By their names, whether or not there are any now: a rule is made after the policy, and goes on sending until it is
    gone.
    """
    return {
        "Sid": "Rules",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": att(queue),
        "Condition": {
            "ArnLike": {
                "aws:SourceArn": [
                    sub(NAMES.native_rule_arn(HERE, "*")),
                    sub(NAMES.trail_rule_arn(HERE, "*")),
                ]
            }
        },
    }
