"""Policies that let the daemon look at buckets: at the status of their objects, and at their rules.

Each bucket is named, and a policy's length is limited: many buckets take several policies, of which a role has few.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from crrmon.domain.deployment import quotas
from crrmon.domain.deployment.names import bucket_arn
from crrmon.domain.deployment.packing import NOTHING, Chunks, Room, pack
from crrmon.domain.templates import numbered, policies

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
    empty = len(msgspec.json.encode(policies.document(_statements([], []))))
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


def policy(roles: Json, *, bucket_arns: Json, object_arns: Json) -> dict[str, Json]:
    """
    Return a managed policy.

    Args:
        roles: a list of those that have it; None for none.
        bucket_arns: a list of the ARNs of buckets.
        object_arns: the same for all of their objects.
    """
    return policies.managed(roles, _statements(bucket_arns, object_arns))


def chunks(template: Mapping[str, Json]) -> Chunks:
    """Return which policy of a template names which buckets; they are called `Buckets1` and so on."""
    return numbered.chunks(
        template, "Buckets", lambda one: one["PolicyDocument"]["Statement"][1]["Resource"]
    )


def _statements(bucket_arns: Json, object_arns: Json) -> list[Json]:
    return [
        policies.allow("Status", ["s3:GetObject", "s3:GetObjectVersion"], object_arns),
        policies.allow("Rules", ["s3:GetReplicationConfiguration", "s3:ListBucket"], bucket_arns),
    ]
