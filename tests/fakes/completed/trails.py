"""
CloudTrail: what it refuses, and the events that a trail sends to EventBridge when somebody writes an object.

NB: a batch delete comes as a DeleteObject for each key, as MiniStack tells of it; what AWS records of one is unknown.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ministack.core.responses import (
    get_account_id,
    get_region,
    new_uuid,
    now_iso,
    request_scope,
)
from ministack.services import cloudtrail, eventbridge, s3

from fakes.completed.itself import instead_of

MOST_TRAILS = 5
"""In a region, those of other regions that are there, too, among them."""
MOST_VALUES = 500
"""In all selectors of a trail."""

_FIELDS = {
    *("eventCategory", "eventName", "eventSource", "eventType", "readOnly"),
    *("resources.type", "resources.ARN", "userIdentity.arn", "sessionCredentialFromConsole"),
}
_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "Equals": lambda text, value: text == value,
    "StartsWith": lambda text, value: text.startswith(value),
    "EndsWith": lambda text, value: text.endswith(value),
}

_CALLS = {
    "s3:ObjectCreated:Put": "PutObject",
    "s3:ObjectCreated:Post": "PostObject",
    "s3:ObjectCreated:Copy": "CopyObject",
    "s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "s3:ObjectRemoved:Delete": "DeleteObject",
    "s3:ObjectRemoved:DeleteMarkerCreated": "DeleteObject",
}

_Body = Mapping[str, Any]


@instead_of(cloudtrail._DISPATCH, "CreateTrail")
def _create_trail(kept: Callable[..., Any], body: _Body) -> Any:
    bucket = body.get("S3BucketName", "")
    owner = s3._bucket_owner_account(bucket)
    if owner is None:
        text = f"S3 bucket {bucket} does not exist!"
        return cloudtrail._err("S3BucketDoesNotExistException", text)
    with request_scope(owner, get_region()):
        policy = s3._bucket_policies.get(bucket, "")
    if "cloudtrail.amazonaws.com" not in str(policy):
        text = f"Incorrect S3 bucket policy is detected for bucket: {bucket}"
        return cloudtrail._err("InsufficientS3BucketPolicyException", text)
    if len(cloudtrail._visible_trail_items()) >= MOST_TRAILS:
        text = f"User: {get_account_id()} already has {MOST_TRAILS} trails in {get_region()}."
        return cloudtrail._err("MaximumNumberOfTrailsExceededException", text)
    return kept(body)


@instead_of(cloudtrail._DISPATCH, "PutEventSelectors")
def _put_event_selectors(kept: Callable[..., Any], body: _Body) -> Any:
    selectors = body.get("AdvancedEventSelectors") or []
    for selector in selectors:
        asked = {condition["Field"] for condition in selector["FieldSelectors"]}
        if not asked <= _FIELDS or "eventCategory" not in asked:
            text = f"Fields that cannot be selected, or no eventCategory: {sorted(asked)}"
            return cloudtrail._err("InvalidEventSelectorsException", text)
    values = sum(
        len(said)
        for selector in selectors
        for condition in selector["FieldSelectors"]
        for name, said in condition.items()
        if name != "Field"
    )
    if values > MOST_VALUES:
        text = f"{values} values; a trail takes {MOST_VALUES}"
        return cloudtrail._err("InvalidEventSelectorsException", text)
    return kept(body)


@instead_of(s3, "_fire_s3_event_async")
def _fire(
    kept: Callable[..., Any], bucket: str, key: str, event: str, *others: Any, **told: Any
) -> None:
    kept(bucket, key, event, *others, **told)
    call, owner = _CALLS.get(event), s3._bucket_owner_account(bucket)
    if call is None or owner is None:
        return
    identity = _identity(get_account_id())
    with request_scope(owner, get_region()):
        region = s3._notification_bucket_region(bucket)
    record = _record(call, event, bucket, key, told.get("version_id"), owner, region) | {
        "userIdentity": identity
    }
    if any(_selects(selector, record) for selector in _selectors(owner, region)):
        with request_scope(owner, region):
            eventbridge._dispatch_event(
                {
                    "EventId": new_uuid(),
                    "Source": "aws.s3",
                    "DetailType": "AWS API Call via CloudTrail",
                    "Detail": json.dumps(record),
                    "EventBusName": "default",
                    "Time": now_iso(),
                    "Resources": [],
                    "Account": owner,
                    "Region": region,
                }
            )


def _identity(account: str) -> dict[str, str]:
    arn = f"arn:aws:iam::{account}:root"
    return {"type": "Root", "principalId": account, "arn": arn, "accountId": account}


def _record(
    call: str, event: str, bucket: str, key: str, version: str | None, owner: str, region: str
) -> dict[str, Any]:
    asked, answer = {"bucketName": bucket, "key": key}, {}
    if version:
        answer["x-amz-version-id"] = version
        if event == "s3:ObjectRemoved:Delete":
            asked["versionId"] = version
        elif call == "DeleteObject":
            answer["x-amz-delete-marker"] = "true"
    arn = f"arn:aws:s3:::{bucket}"
    return {
        "eventVersion": "1.11",
        "eventTime": now_iso()[:19] + "Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": call,
        "eventID": new_uuid(),
        "awsRegion": region,
        "requestParameters": asked,
        "responseElements": answer or None,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": f"{arn}/{key}"},
            {"type": "AWS::S3::Bucket", "ARN": arn, "accountId": owner},
        ],
        "readOnly": False,
        "managementEvent": False,
        "eventCategory": "Data",
        "eventType": "AwsApiCall",
        "recipientAccountId": owner,
    }


def _selectors(account: str, region: str) -> Iterator[_Body]:
    """Give the advanced selectors of all trails of the account that record there."""
    for (owner, home, name), trail in cloudtrail._trails.all_items():
        here = home == region or trail["IsMultiRegionTrail"]
        if owner == account and here and trail["IsLogging"]:
            for selector in cloudtrail._event_selectors.get_scoped(owner, home, name, []):
                if "FieldSelectors" in selector:
                    yield selector


def _selects(selector: _Body, record: _Body) -> bool:
    seen = record | {
        "readOnly": "false",
        "resources.type": record["resources"][0]["type"],
        "resources.ARN": record["resources"][0]["ARN"],
        "userIdentity.arn": record["userIdentity"]["arn"],
    }
    return all(_fits(seen.get(one["Field"], ""), one) for one in selector["FieldSelectors"])


def _fits(text: str, condition: _Body) -> bool:
    wanted = [
        matches(text, value)
        for operator, matches in _OPERATORS.items()
        for value in condition.get(operator, ())
    ]
    unwanted = [
        matches(text, value)
        for operator, matches in _OPERATORS.items()
        for value in condition.get(f"Not{operator}", ())
    ]
    return (any(wanted) or not wanted) and not any(unwanted)
