"""Rules that send events of buckets to the queue, and the trail that records what some of them let through."""

from collections.abc import Collection, Mapping
from typing import Any

from crrmon.domain.deployment import event_patterns
from crrmon.domain.deployment.names import bucket_arn
from crrmon.domain.deployment.packing import Chunks
from crrmon.domain.templates import queues
from crrmon.domain.templates.intrinsics import att, ref, sub
from crrmon.domain.templates.parameters import HERE, NAMES
from crrmon.domain.templates.template import Parameter, Part

Json = Any

_RETRY_SECONDS, _RETRIES = 86_400, 185
"""The most that EventBridge does to deliver an event."""


def native_rules(chunks: Chunks, switched: Collection[str]) -> Part:
    """
    Return rules for S3's own events.

    Args:
        chunks: the names of buckets, by the numbers of rules.
        switched: those of them whose switch for EventBridge the deployment turns on. Nothing else remembers that.
    """
    rules = {}
    for number, names in chunks.items():
        ours = [name for name in names if name in switched]
        rules[f"NativeRule{number}"] = native_rule(number, list(names)) | {
            "Metadata": {"crrmon": {"switched": ours}}
        }
    return Part(label="Rules", resources=rules)


def native_rule(number: int, names: Json) -> dict[str, Json]:
    """Return a rule for S3's own events of the buckets of these names."""
    return _rule(
        NAMES.native_rule(number),
        "S3's own events, to crrmon. Enable EventBridge notifications on each bucket.",
        event_patterns.native(names),
    )


def trail_rules(arns: Mapping[int, Json]) -> Part:
    """
    Return rules for what a trail records.

    Args:
        arns: of buckets, by the numbers of rules.
    """
    description = "CloudTrail's data events, to crrmon. A trail must record them."
    rules = {
        f"TrailRule{number}": _rule(
            NAMES.trail_rule(number), description, event_patterns.trail(buckets)
        )
        for number, buckets in arns.items()
    }
    batches = _rule(
        NAMES.batch_rule,
        "Keys of batch deletes, whose events may name no bucket, to crrmon.",
        event_patterns.batches(),
    )
    return Part(label="Trail", resources={**rules, "TrailBatchesRule": batches})


def _rule(name: str, description: str, pattern: Json) -> dict[str, Json]:
    target = {
        "Id": "crrmon",
        "Arn": att("Queue"),
        "DeadLetterConfig": {"Arn": att("DeadLetters")},
        "RetryPolicy": {
            "MaximumEventAgeInSeconds": _RETRY_SECONDS,
            "MaximumRetryAttempts": _RETRIES,
        },
    }
    return {
        "Type": "AWS::Events::Rule",
        "DependsOn": queues.POLICIES,
        "Properties": {
            "Name": sub(name),
            "Description": description,
            "State": "ENABLED",
            "EventPattern": pattern,
            "Targets": [target],
        },
    }


# ---- the trail ----


def trail(starts: Json) -> Part:
    """
    Return the trail, with the bucket that CloudTrail wants for it.

    Args:
        starts: what the ARNs of objects begin with, for each bucket.
    """
    return Part(
        label="Trail",
        parameters={
            "TrailRetentionDays": Parameter(
                type="Number",
                description="Number of days to keep the files of the trail, which crrmon does not read.",
                default=7,
                least=1,
                most=3_650,
            )
        },
        resources={
            "TrailLogs": _logs(),
            "TrailLogsPolicy": _logs_policy(),
            "Trail": {
                "Type": "AWS::CloudTrail::Trail",
                "DependsOn": "TrailLogsPolicy",
                "Properties": {
                    "TrailName": sub(NAMES.trail),
                    "S3BucketName": ref("TrailLogs"),
                    "IsLogging": True,
                    "IsMultiRegionTrail": False,
                    "IncludeGlobalServiceEvents": False,
                    "AdvancedEventSelectors": event_patterns.selectors(starts),
                },
            },
        },
    )


def _logs() -> dict[str, Json]:
    """Return the bucket; CloudFormation names it, since names of buckets are the whole world's."""
    return {
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "RetainExceptOnCreate",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
                ]
            },
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "LifecycleConfiguration": {
                "Rules": [
                    {
                        "Id": "expire",
                        "Status": "Enabled",
                        "ExpirationInDays": ref("TrailRetentionDays"),
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    }
                ]
            },
        },
    }


def _logs_policy() -> dict[str, Json]:
    objects = sub("${TrailLogs.Arn}/*")
    own = sub("${TrailLogs.Arn}/AWSLogs/" + HERE.account + "/*")
    by_trail = {"aws:SourceArn": sub(NAMES.trail_arn(HERE))}
    cloudtrail = {"Effect": "Allow", "Principal": {"Service": "cloudtrail.amazonaws.com"}}
    statements = [
        {
            "Sid": "Acl",
            **cloudtrail,
            "Action": "s3:GetBucketAcl",
            "Resource": att("TrailLogs"),
            "Condition": {"StringEquals": by_trail},
        },
        {
            "Sid": "Write",
            **cloudtrail,
            "Action": "s3:PutObject",
            "Resource": own,
            "Condition": {
                "StringEquals": {**by_trail, "s3:x-amz-acl": "bucket-owner-full-control"}
            },
        },
        {
            "Sid": "OnlyTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [att("TrailLogs"), objects],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]
    return {
        "Type": "AWS::S3::BucketPolicy",
        "Properties": {
            "Bucket": ref("TrailLogs"),
            "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
        },
    }


def arns_of(names: Collection[str], *, after: str = "") -> list[Json]:
    """Return the ARNs of buckets in whatever partition the stack is, with something after each; sorted by name."""
    return [sub(bucket_arn(name, HERE.partition) + after) for name in sorted(names)]
