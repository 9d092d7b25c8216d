"""
What MiniStack's stacks leave out: whole types of resources, and properties of others.

All of it is made through the services' own APIs, so that they refuse what they would take from nobody.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch, eventbridge
from ministack.services.cloudformation import provisioners

from fakes.completed.itself import call, instead_of

Properties = Mapping[str, Any]
Made = tuple[str, dict[str, Any]]
"""Physical id and attributes."""
Steps = dict[str, Any]
"""What is done to create, update and delete; and flags of MiniStack's."""

_types: dict[str, Steps] = provisioners._RESOURCE_HANDLERS


def complete() -> None:
    """Add to MiniStack's types of resources."""
    _types["AWS::CloudTrail::Trail"] = {
        "create": _create_trail,
        "update": _update_trail,
        "update_with_logical_id": True,
        "delete": _delete_trail,
    }
    _types["AWS::Events::EventBusPolicy"] = {
        "create": _create_bus_policy,
        "update": _update_bus_policy,
        "update_with_logical_id": True,
        "delete": _delete_bus_policy,
    }
    _finish("AWS::DynamoDB::Table", _finish_table, _delete_table)
    _finish("AWS::S3::Bucket", _finish_bucket, _delete_bucket)
    _take_metrics(_types["AWS::CloudWatch::Alarm"])
    for kind in ("AWS::CloudTrail::Trail", "AWS::S3::Bucket", "AWS::Events::Rule"):
        provisioners._STACK_TAG_PROPERTY[kind] = ("Tags", "list")


# Trails.


def _create_trail(logical_id: str, properties: Properties, stack: str) -> Made:
    name = properties.get("TrailName") or provisioners._physical_name(stack, logical_id)
    arn = call("cloudtrail", "CreateTrail", Name=name, **_of_a_trail(properties))["TrailARN"]
    try:
        _settle_trail(name, arn, {}, properties)
    except Exception:
        _delete_trail(name, properties)
        raise
    return name, {"Arn": arn}


def _update_trail(
    name: str, old: Properties, new: Properties, stack: str, logical_id: str
) -> Made:
    if old.get("TrailName") != new.get("TrailName"):
        made = _create_trail(logical_id, new, stack)
        _delete_trail(name, old)
        return made
    arn = call("cloudtrail", "UpdateTrail", Name=name, **_of_a_trail(new))["TrailARN"]
    _settle_trail(name, arn, old, new)
    return name, {"Arn": arn}


def _delete_trail(name: str, properties: Properties) -> None:
    call("cloudtrail", "DeleteTrail", Name=name)


def _of_a_trail(properties: Properties) -> dict[str, Any]:
    """Return what CreateTrail takes; there is another call for each of the others."""
    if "RecursiveLogging" in properties:  # which only the API has
        raise ValueError("#: extraneous key [RecursiveLogging] is not permitted")
    others = {"TrailName", "IsLogging", "AdvancedEventSelectors", "EventSelectors", "Tags"}
    return {
        "KmsKeyId" if name == "KMSKeyId" else name: value
        for name, value in properties.items()
        if name not in others
    }


def _settle_trail(name: str, arn: str, old: Properties, new: Properties) -> None:
    for kind in ("AdvancedEventSelectors", "EventSelectors"):
        if kind in new:
            call("cloudtrail", "PutEventSelectors", TrailName=name, **{kind: new[kind]})
    logs = str(new["IsLogging"]).lower() == "true"
    call("cloudtrail", "StartLogging" if logs else "StopLogging", Name=name)
    gone = [tag for tag in old.get("Tags", []) if tag not in new.get("Tags", [])]
    if gone:
        call("cloudtrail", "RemoveTags", ResourceId=arn, TagsList=gone)
    if new.get("Tags"):
        call("cloudtrail", "AddTags", ResourceId=arn, TagsList=new["Tags"])


# Policies of event buses.


def _create_bus_policy(logical_id: str, properties: Properties, stack: str) -> Made:
    bus, sid = properties.get("EventBusName", "default"), properties["StatementId"]
    text = call("events", "DescribeEventBus", Name=bus).get("Policy")
    policy = json.loads(text) if text else {"Version": "2012-10-17", "Statement": []}
    others = [statement for statement in policy["Statement"] if statement["Sid"] != sid]
    policy["Statement"] = [*others, {"Sid": sid, **properties["Statement"]}]
    call("events", "PutPermission", EventBusName=bus, Policy=json.dumps(policy))
    return f"{bus}|{sid}", {}


def _update_bus_policy(
    physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str
) -> Made:
    made = _create_bus_policy(logical_id, new, stack)
    if made[0] != physical_id:
        _delete_bus_policy(physical_id, old)
    return made


def _delete_bus_policy(physical_id: str, properties: Properties) -> None:
    bus, sid = physical_id.split("|")
    call("events", "RemovePermission", EventBusName=bus, StatementId=sid)


@instead_of(eventbridge, "_put_permission")
def _put_policy(kept: Callable[..., Any], data: Properties) -> Any:
    """Take a whole policy, which MiniStack takes no notice of."""
    if "Policy" not in data:
        return kept(data)
    bus = data.get("EventBusName", "default")
    eventbridge._event_bus_policies[bus] = json.loads(data["Policy"])
    return eventbridge.json_response({})


# Tables and buckets.


def _finish(
    kind: str,
    finish: Callable[[str, Properties, Properties], None],
    delete: Callable[[str, Properties], None],
) -> None:
    """
    Go on where MiniStack stops.

    Args:
        kind: type of the resource.
        finish: called with the physical id, and the properties as they were and are.
        delete: instead of MiniStack's own, which asks nobody.
    """
    steps = _types[kind]
    create_some, update_some = steps["create"], steps["update"]

    def create(logical_id: str, properties: Properties, stack: str) -> Made:
        made: Made = create_some(logical_id, properties, stack)
        try:
            finish(made[0], {}, properties)
        except Exception:
            delete(made[0], properties)  # for no stack will
            raise
        return made

    def update(physical_id: str, old: Properties, new: Properties, *others: Any) -> Made:
        made: Made = update_some(physical_id, old, new, *others)
        finish(made[0], old if made[0] == physical_id else {}, new)
        return made

    steps |= {"create": create, "update": update, "delete": delete}


def _finish_table(name: str, old: Properties, new: Properties) -> None:
    expiry = "TimeToLiveSpecification"
    if new.get(expiry) != old.get(expiry):
        wanted = new.get(expiry) or {**old[expiry], "Enabled": False}
        call("dynamodb", "UpdateTimeToLive", TableName=name, **{expiry: wanted})
    recovery = "PointInTimeRecoverySpecification"
    if new.get(recovery) != old.get(recovery):
        wanted = new.get(recovery) or {"PointInTimeRecoveryEnabled": False}
        call("dynamodb", "UpdateContinuousBackups", TableName=name, **{recovery: wanted})
    if not old and "SSESpecification" in new:
        said = new["SSESpecification"]
        wanted = {("Enabled" if key == "SSEEnabled" else key): said[key] for key in said}
        call("dynamodb", "UpdateTable", TableName=name, SSESpecification=wanted)


def _delete_table(name: str, properties: Properties) -> None:
    _unless_gone("ResourceNotFoundException", "dynamodb", "DeleteTable", TableName=name)


def _finish_bucket(name: str, old: Properties, new: Properties) -> None:
    if "LifecycleConfiguration" in new:
        rules = [_lifecycle_rule(rule) for rule in new["LifecycleConfiguration"]["Rules"]]
        wanted = {"LifecycleConfiguration": {"Rules": rules}}
        call("s3", "PutBucketLifecycleConfiguration", Bucket=name, **wanted)
    elif "LifecycleConfiguration" in old:
        call("s3", "DeleteBucketLifecycle", Bucket=name)
    # Those of AWS's own S3 takes from CloudFormation only.
    tags = [tag for tag in new.get("Tags", []) if not tag["Key"].startswith("aws:")]
    if tags:
        call("s3", "PutBucketTagging", Bucket=name, Tagging={"TagSet": tags})
    elif old.get("Tags"):
        call("s3", "DeleteBucketTagging", Bucket=name)


def _lifecycle_rule(rule: Properties) -> dict[str, Any]:
    """Say it in S3's words. What we have none for, it refuses."""
    said = dict(rule)
    told: dict[str, Any] = {"Filter": {"Prefix": said.pop("Prefix", "")}}
    if "Id" in said:
        told["ID"] = said.pop("Id")
    if "ExpirationInDays" in said:
        told["Expiration"] = {"Days": said.pop("ExpirationInDays")}
    return told | said


def _delete_bucket(name: str, properties: Properties) -> None:
    _unless_gone("NoSuchBucket", "s3", "DeleteBucket", Bucket=name)


def _unless_gone(code: str, service: str, operation: str, **arguments: Any) -> None:
    try:
        call(service, operation, **arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise


# Alarms over several metrics, or over a query.


def _take_metrics(steps: Steps) -> None:
    create_plain, update_plain, delete = steps["create"], steps["update"], steps["delete"]

    def create(logical_id: str, properties: Properties, stack: str) -> Made:
        if "Metrics" in properties:
            name = properties.get("AlarmName") or provisioners._physical_name(stack, logical_id)
            return _put_alarm(name, properties)
        made: Made = create_plain(logical_id, properties, stack)
        return made

    def update(name: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Made:
        if "Metrics" not in new:
            made: Made = update_plain(name, old, new, stack, logical_id)
            return made
        if old.get("AlarmName") == new.get("AlarmName"):
            return _put_alarm(name, new)
        made = create(logical_id, new, stack)
        delete(name, old)
        return made

    steps |= {"create": create, "update": update}


def _put_alarm(name: str, properties: Properties) -> Made:
    own = {key: value for key, value in properties.items() if key != "Tags"}
    call("cloudwatch", "PutMetricAlarm", **own | {"AlarmName": name})
    # PutMetricAlarm changes no tags of an alarm that is there.
    cloudwatch.cloudformation_set_metric_alarm_tags(name, properties.get("Tags", []))
    arn = f"arn:aws:cloudwatch:{get_region()}:{get_account_id()}:alarm:{name}"
    return name, {"Arn": arn}


@instead_of(cloudwatch, "_put_metric_alarm")
def _keep_metrics(
    kept: Callable[..., Any], form: Properties, said: Properties, *others: Any, **named: Any
) -> Any:
    """Keep what MiniStack forgets, and forget what it makes up instead."""
    answer = kept(form, said, *others, **named)
    if said.get("Metrics") and answer[0] == 200:
        alarm = cloudwatch._alarms[said["AlarmName"]]
        alarm["Metrics"] = said["Metrics"]
        alarm["Statistic"] = alarm["Dimensions"] = alarm["Period"] = None
    return answer
