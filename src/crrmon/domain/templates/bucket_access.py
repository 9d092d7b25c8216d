"""Policies that let the daemon look at buckets: at the status of their objects, and at their rules.

Each bucket is named, and a policy's length is limited: many buckets take several policies, of which a role has few.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from crrmon.domain.deployment import quotas
from crrmon.domain.deployment.names import bucket_arn
from crrmon.domain.deployment.packing import NOTHING, Chunks, Room, pack
from crrmon.domain.templates.intrinsics import ref

Json = Any


class TooManyBucketsError(ValueError):
    """More buckets than a role can be let in to; the text says how many policies they would take."""


def packed(
    buckets: Collection[str],
    *,
    partition: str,
    most: int = quotas.MANAGED_POLICIES_PER_ROLE,
    before: Chunks = NOTHING,
) -> Chunks:
    """
    Distribute buckets over policies.

    Args:
        buckets: their names; one may be a pattern with `*`.
        partition: of the account, as in ARNs.
        most: how many policies there may be.
        before: how the buckets lie in the policies that there are. They stay there, unless so many gaps were left that
            it would take one policy too many.

    Raises:
        TooManyBucketsError: they do not fit.
        TooLargeError: a name is too long.
    """
    empty = len(msgspec.json.encode(_document([], [])))
    # Each ARN in quotes and with a comma, which the last one of each statement has not.
    around = 2 * len('"",') + len("/*")
    room = Room(
        quotas.MANAGED_POLICY_CHARACTERS - empty + 2,
        lambda name: 2 * len(bucket_arn(name, partition)) + around,
    )
    chunks = pack(buckets, room, before=before)
    if len(chunks) > most:
        chunks = pack(buckets, room)
    if len(chunks) > most:
        raise TooManyBucketsError(
            f"a role needs {len(chunks)} policies to name {len(set(buckets))} buckets, and may have {most}: "
            "leave buckets out, or give patterns such as acme-* in place of names"
        )
    return chunks


def policy(role: str, *, bucket_arns: Json, object_arns: Json) -> dict[str, Json]:
    """
    Return a managed policy of a role.

    Args:
        role: the resource.
        bucket_arns: a list of the ARNs of buckets.
        object_arns: the same for all of their objects.
    """
    # Without a name of its own, as two of a name cannot stand beside each other while one replaces the other.
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {
            "Roles": [ref(role)],
            "PolicyDocument": _document(bucket_arns, object_arns),
        },
    }


def _document(bucket_arns: Json, object_arns: Json) -> dict[str, Json]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Status",
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": object_arns,
            },
            {
                "Sid": "Rules",
                "Effect": "Allow",
                "Action": ["s3:GetReplicationConfiguration", "s3:ListBucket"],
                "Resource": bucket_arns,
            },
        ],
    }
