"""Bucket notifications: overlaps are refused, and somebody else changes them when a test wants it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import botocore.session
from ministack.services import s3

from fakes.completed import orders
from fakes.completed.itself import instead_of

_EVENTS: Sequence[str] = [
    event
    for event in botocore.session.get_session().get_service_model("s3").shape_for("Event").enum
    if not event.endswith("*")
]
"""All that can happen to an object."""

_seen: Counter[str] = Counter()
"""How many requests there were that an interference was ordered for."""
_put_by_anybody = s3._put_bucket_notification


@instead_of(s3, "_put_bucket_notification")
def _put(
    kept: Callable[..., Any], bucket: str, body: bytes, headers: Mapping[str, str] | None = None
) -> Any:
    if _overlap(s3._parse_notification_config_raw(body.decode())):
        return s3._error(
            "InvalidArgument",
            "Configurations overlap. Configurations on the same bucket cannot share a common event type.",
            400,
            f"/{bucket}",
        )
    answer = kept(bucket, body, headers)
    if answer[0] == 200:
        _interfere(bucket, "PUT")
    return answer


@instead_of(s3, "_get_bucket_notification")
def _get(kept: Callable[..., Any], bucket: str) -> Any:
    answer = kept(bucket)
    _interfere(bucket, "GET")
    return answer


def _interfere(bucket: str, after: str) -> None:
    for interference in orders.current().interferences:
        if (interference.bucket, interference.after) == (bucket, after):
            _seen[interference.id] += 1
            if _seen[interference.id] == interference.nth:
                unseen = {"x-amz-skip-destination-validation": "true"}
                _put_by_anybody(bucket, interference.configuration.encode(), unseen)


def _overlap(entries: Sequence[Mapping[str, Any]]) -> bool:
    """
    Return whether some event of some key would be told twice, by trying.

    These keys are enough: where any key fits two filters, one that is made of their own prefixes and suffixes does.
    """
    return any(
        _tells(one, event, key) and _tells(other, event, key)
        for one, other in combinations(entries, 2)
        for key in _keys(one, other)
        for event in _EVENTS
    )


def _keys(*entries: Mapping[str, Any]) -> set[str]:
    starts = [entry["filter_prefix"] or "" for entry in entries]
    ends = [entry["filter_suffix"] or "" for entry in entries]
    return {start + end for start, end in product(starts, ends)}


def _tells(entry: Mapping[str, Any], event: str, key: str) -> bool:
    return bool(
        s3._event_matches(event, entry["events"])
        and s3._key_matches_filter(key, entry["filter_prefix"], entry["filter_suffix"])
    )
