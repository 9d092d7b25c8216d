"""Which IAM actions each part of a deployment needs, and why: said in one place, for policies and for people."""

import msgspec


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One action that somebody needs."""

    action: str
    """As IAM calls it."""
    resource: str
    """The ARN to allow it on, with `{partition}` in place of the partition; `*` where AWS knows no narrower one."""
    purpose: str
    optional: bool = False
    """Whether the rest works without it."""


DISCOVERY = (
    Need(
        action="s3:ListAllMyBuckets",
        resource="*",
        purpose="list the buckets of an account with their regions",
    ),
    Need(
        action="s3:GetReplicationConfiguration",
        resource="arn:{partition}:s3:::*",
        purpose="read whereto a bucket replicates",
    ),
    Need(
        action="s3:GetBucketNotification",
        resource="arn:{partition}:s3:::*",
        purpose="read what a bucket tells of today",
    ),
    Need(
        action="cloudtrail:DescribeTrails",
        resource="*",
        purpose="list the trails of a region",
        optional=True,
    ),
    Need(
        action="cloudtrail:GetTrailStatus",
        resource="arn:{partition}:cloudtrail:*:*:trail/*",
        purpose="find out whether a trail is switched on",
        optional=True,
    ),
    Need(
        action="cloudtrail:GetEventSelectors",
        resource="arn:{partition}:cloudtrail:*:*:trail/*",
        purpose="find out which buckets' writes a trail records",
        optional=True,
    ),
)
"""To discover, in each account that is searched. sts:GetCallerIdentity, which is asked as well, needs no permission."""

ENTER_ACCOUNTS = Need(
    action="sts:AssumeRole",
    resource="arn:{partition}:iam::*:role/*",
    purpose="use the role of another account; allow it on the roles of the configuration only",
)
"""Beside that, for accounts that are reached by a role."""
