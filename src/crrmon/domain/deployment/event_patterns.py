"""Which events a rule of EventBridge lets through to the queue, and which calls a trail records.

The length of a pattern is limited, and each bucket takes some of them: so many buckets need several rules. All rules
together let through each event once.

The names of buckets are given as values of JSON, for a template may have functions of CloudFormation in their place.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from crrmon.domain.deployment import quotas
from crrmon.domain.deployment.names import bucket_arn
from crrmon.domain.deployment.packing import NOTHING, Chunks, Room, pack

CALLS = (
    "PutObject",
    "PostObject",
    "CopyObject",
    "CompleteMultipartUpload",
    "DeleteObject",
    "InitiateReplication",
)
"""The calls that make or remove a version, as CloudTrail names them."""

Json = Any


class TooManyBucketsError(ValueError):
    """More buckets than one trail can record; the text says how many it can."""


def native(buckets: Json) -> dict[str, Json]:
    """Return the pattern for S3's own events.

    Args:
        buckets: a list of their names.
    """
    return {
        "source": ["aws.s3"],
        "detail-type": ["Object Created", "Object Deleted"],
        "detail": {"bucket": {"name": buckets}},
    }


def trail(bucket_arns: Json) -> dict[str, Json]:
    """Return the pattern for what a trail records of some buckets.

    Args:
        bucket_arns: a list of their ARNs. An event lists its bucket next to its object.
    """
    return _of_calls({"resources": {"ARN": bucket_arns}})


def batches() -> dict[str, Json]:
    """Return the pattern for what a trail records of no named bucket.

    S3 itself reports the keys of a batch delete, and may list no resources. This is a rule of its own, for in each of
    the others such an event would come once more.
    """
    return _of_calls({"eventType": ["AwsServiceEvent"], "resources": {"ARN": [{"exists": False}]}})


def _of_calls(which: dict[str, Json]) -> dict[str, Json]:
    return {
        "source": ["aws.s3"],
        "detail": {
            "eventSource": ["s3.amazonaws.com"],
            "eventName": list(CALLS),
            "errorCode": [{"exists": False}],
            **which,
        },
    }


def selectors(object_arns: Sequence[Json]) -> list[dict[str, Json]]:
    """Return the advanced event selectors of a trail: data events of these calls alone, no management events.

    Args:
        object_arns: what the ARNs of objects begin with, of each bucket once.
    """
    return [
        {
            "Name": "crrmon source writes",
            "FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["Data"]},
                {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
                {"Field": "readOnly", "Equals": ["false"]},
                {"Field": "eventName", "Equals": list(CALLS)},
                {"Field": "resources.ARN", "StartsWith": object_arns},
            ],
        }
    ]


def native_rules(buckets: Collection[str], *, before: Chunks = NOTHING) -> Chunks:
    """Distribute buckets over rules for S3's own events.

    Args:
        buckets: their names.
        before: how they lie in the rules that there are.

    Raises:
        TooLargeError: a name is too long for a pattern.
    """
    return pack(buckets, Room(_room(native([])), _size), before=before)


def trail_rules(buckets: Collection[str], *, partition: str, before: Chunks = NOTHING) -> Chunks:
    """Distribute buckets over rules for a trail's events.

    Args:
        buckets: their names.
        partition: of the region, as in ARNs.
        before: how they lie in the rules that there are.

    Raises:
        TooLargeError: a name is too long for a pattern.
        TooManyBucketsError: one trail cannot record them all.
    """
    most = quotas.VALUES_PER_TRAIL - _values(selectors([]))
    if len(set(buckets)) > most:
        raise TooManyBucketsError(
            f"a trail records at most {most} buckets, not {len(set(buckets))}: let the events of some come by "
            "notifications or by EventBridge"
        )
    room = Room(_room(trail([])), lambda name: _size(bucket_arn(name, partition)))
    return pack(buckets, room, before=before)


def length(pattern: Json) -> int:
    """Return how many characters a pattern has where EventBridge counts them: without spaces."""
    return len(msgspec.json.encode(pattern).decode())


def _room(pattern: Json) -> int:
    """Return how many characters are left for names, each with the comma before the next one."""
    return quotas.EVENT_PATTERN_CHARACTERS - length(pattern) + 1


def _size(name: str) -> int:
    return length(name) + 1


def _values(selection: list[dict[str, Json]]) -> int:
    fields = [field for selector in selection for field in selector["FieldSelectors"]]
    return sum(len(field[name]) for field in fields for name in field if name != "Field")
