"""All that there is in some accounts of an emulator, to be compared before and after."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from fakes.cloud import client

_Found = Iterator[tuple[str, str, Any]]
"""Type, name, and what is to be the same."""
_Clients = Callable[[str], Any]
"""By the name of the service."""


def everything(url: str, accounts: Sequence[str], regions: Sequence[str]) -> dict[str, Any]:
    """
    List what a deployment could leave behind or destroy.

    Of each resource there is what its owner set, and nothing that changes by use: no numbers of messages or objects,
    no states of alarms, no times. Deleted stacks are gone.

    Args:
        url: of the emulator.
        accounts: whose.
        regions: where. Roles and policies, which have none, are listed with the first.

    Returns:
        By account, region, type and name, in one text: `111111111111 eu-west-1 AWS::SQS::Queue crrmon-events`.
    """
    told: dict[str, Any] = {}
    for account in accounts:
        for region in regions:

            def to(service: str, account: str = account, region: str = region) -> Any:
                return client(url, service, account=account, region=region)

            kinds = (*_REGIONAL, _identities) if region == regions[0] else _REGIONAL
            for kind in kinds:
                for type_, name, what in kind(to):
                    told[f"{account} {region} {type_} {name}"] = what
    return told


def _stacks(to: _Clients) -> _Found:
    caller = to("cloudformation")
    for stack in _all(caller, "describe_stacks", "Stacks"):
        if stack["StackStatus"] != "DELETE_COMPLETE":
            sets = _all(caller, "list_change_sets", "Summaries", StackName=stack["StackName"])
            waiting = sorted(
                one["ChangeSetName"] for one in sets if one["ExecutionStatus"] == "AVAILABLE"
            )
            told = {"status": stack["StackStatus"], "change sets": waiting}
            yield "AWS::CloudFormation::Stack", stack["StackName"], told


def _buckets(to: _Clients) -> _Found:
    caller = to("s3")
    for bucket in _all(caller, "list_buckets", "Buckets"):
        if bucket["BucketRegion"] == caller.meta.region_name:
            name = bucket["Name"]
            notifications = caller.get_bucket_notification_configuration(Bucket=name)
            told = {
                "notifications": _without(notifications, "ResponseMetadata"),
                "policy": _document(_or_none(caller.get_bucket_policy, Bucket=name), "Policy"),
                "tags": _tags(
                    (_or_none(caller.get_bucket_tagging, Bucket=name) or {}).get("TagSet")
                ),
            }
            yield "AWS::S3::Bucket", name, told


def _queues(to: _Clients) -> _Found:
    caller = to("sqs")
    for url in _all(caller, "list_queues", "QueueUrls"):
        told = caller.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        settings = {
            name: value
            for name, value in told.items()
            if not name.startswith("ApproximateNumber") and not name.endswith("Timestamp")
        }
        tags = caller.list_queue_tags(QueueUrl=url).get("Tags", {})
        yield "AWS::SQS::Queue", url.rpartition("/")[2], settings | {"tags": tags}


def _topics(to: _Clients) -> _Found:
    caller = to("sns")
    for topic in _all(caller, "list_topics", "Topics"):
        arn = topic["TopicArn"]
        told = caller.get_topic_attributes(TopicArn=arn)["Attributes"]
        tags = _tags(caller.list_tags_for_resource(ResourceArn=arn)["Tags"])
        yield "AWS::SNS::Topic", arn.rpartition(":")[2], told | {"tags": tags}
    for subscription in _all(caller, "list_subscriptions", "Subscriptions"):
        told = caller.get_subscription_attributes(SubscriptionArn=subscription["SubscriptionArn"])
        yield "AWS::SNS::Subscription", subscription["SubscriptionArn"], told["Attributes"]


def _rules(to: _Clients) -> _Found:
    caller = to("events")
    for bus in caller.list_event_buses()["EventBuses"]:
        policy = _document(caller.describe_event_bus(Name=bus["Name"]), "Policy")
        yield "AWS::Events::EventBus", bus["Name"], policy
        for rule in _all(caller, "list_rules", "Rules", EventBusName=bus["Name"]):
            by_name = {"Rule": rule["Name"], "EventBusName": bus["Name"]}
            told = {
                "rule": rule,
                "targets": sorted(
                    _all(caller, "list_targets_by_rule", "Targets", **by_name),
                    key=lambda target: str(target["Id"]),
                ),
                "tags": _tags(caller.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]),
            }
            yield "AWS::Events::Rule", f"{bus['Name']}/{rule['Name']}", told


def _trails(to: _Clients) -> _Found:
    caller = to("cloudtrail")
    for trail in caller.describe_trails(includeShadowTrails=False)["trailList"]:
        arn = trail["TrailARN"]
        selectors = caller.get_event_selectors(TrailName=arn)
        (tags,) = caller.list_tags(ResourceIdList=[arn])["ResourceTagList"]
        told = {
            "trail": trail,
            "logs": caller.get_trail_status(Name=arn)["IsLogging"],
            "selectors": _without(selectors, "ResponseMetadata"),
            "tags": _tags(tags["TagsList"]),
        }
        yield "AWS::CloudTrail::Trail", trail["Name"], told


def _tables(to: _Clients) -> _Found:
    caller = to("dynamodb")
    for name in _all(caller, "list_tables", "TableNames"):
        table = caller.describe_table(TableName=name)["Table"]
        expiry = caller.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        backups = caller.describe_continuous_backups(TableName=name)
        recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
        told = {
            "table": _without(table, "ItemCount", "TableSizeBytes", "GlobalSecondaryIndexes"),
            "indexes": [
                _without(index, "ItemCount", "IndexSizeBytes")
                for index in table.get("GlobalSecondaryIndexes", [])
            ],
            "expiry": expiry,
            "recovery": recovery["PointInTimeRecoveryStatus"],
            "tags": _tags(
                _all(caller, "list_tags_of_resource", "Tags", ResourceArn=table["TableArn"])
            ),
        }
        yield "AWS::DynamoDB::Table", name, told


def _alarms(to: _Clients) -> _Found:
    caller = to("cloudwatch")
    for alarm in _all(caller, "describe_alarms", "MetricAlarms"):
        settings = {
            name: value
            for name, value in alarm.items()
            if not name.startswith("State") and not name.endswith("Timestamp")
        }
        yield "AWS::CloudWatch::Alarm", alarm["AlarmName"], settings
    for dashboard in _all(caller, "list_dashboards", "DashboardEntries"):
        told = caller.get_dashboard(DashboardName=dashboard["DashboardName"])
        yield "AWS::CloudWatch::Dashboard", dashboard["DashboardName"], told["DashboardBody"]


def _logs(to: _Clients) -> _Found:
    for group in _all(to("logs"), "describe_log_groups", "logGroups"):
        yield "AWS::Logs::LogGroup", group["logGroupName"], _without(group, "storedBytes")
    caller = to("firehose")
    for name in caller.list_delivery_streams()["DeliveryStreamNames"]:
        told = caller.describe_delivery_stream(DeliveryStreamName=name)
        yield "AWS::KinesisFirehose::DeliveryStream", name, told["DeliveryStreamDescription"]


def _identities(to: _Clients) -> _Found:
    caller = to("iam")
    for role in _all(caller, "list_roles", "Roles"):
        name = role["RoleName"]
        told = {
            "role": _without(role, "RoleLastUsed"),
            "inline": {
                policy: caller.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                for policy in _all(caller, "list_role_policies", "PolicyNames", RoleName=name)
            },
            "attached": sorted(
                policy["PolicyArn"]
                for policy in _all(
                    caller, "list_attached_role_policies", "AttachedPolicies", RoleName=name
                )
            ),
        }
        yield "AWS::IAM::Role", name, told
    for policy in _all(caller, "list_policies", "Policies", Scope="Local"):
        version = caller.get_policy_version(
            PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"]
        )
        yield "AWS::IAM::ManagedPolicy", policy["PolicyName"], version["PolicyVersion"]["Document"]


_REGIONAL = (_stacks, _buckets, _queues, _topics, _rules, _trails, _tables, _alarms, _logs)


def _all(caller: Any, operation: str, what: str, **arguments: Any) -> Iterable[Any]:
    """Give what all pages have of it."""
    if not caller.can_paginate(operation):
        return getattr(caller, operation)(**arguments).get(what, [])
    pages = caller.get_paginator(operation).paginate(**arguments)
    return [one for page in pages for one in page.get(what, [])]


def _or_none(ask: Callable[..., Any], **arguments: Any) -> Any:
    """Return the answer, or None where S3 says that there is none."""
    try:
        return ask(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"].startswith("NoSuch"):
            return None
        raise


def _document(told: Mapping[str, Any] | None, name: str) -> Any:
    return json.loads(told[name]) if told and told.get(name) else None


def _tags(tags: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def _without(told: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in names}
