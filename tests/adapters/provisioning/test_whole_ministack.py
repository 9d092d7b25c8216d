"""What the completed MiniStack does beyond MiniStack, each by the services' own APIs; and that one sees all of it."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from fakes.inventory import everything
from fakes.whole_ministack import OURS, REGION, THEIRS, WholeMiniStack, whole_ministack

pytestmark = pytest.mark.server

ELSEWHERE = "us-east-1"
DENIED = (
    "User: arn:aws:iam::111111111111:user/ci is not authorized to perform: sqs:SetQueueAttributes"
)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def whole() -> Iterator[WholeMiniStack]:
    with whole_ministack() as running:
        yield running


@pytest.fixture
def name() -> str:
    """Give a name that no other test has."""
    return f"test-{next(_numbers)}"


# Types and properties that MiniStack's stacks lack.


def test_trail_of_a_stack_has_what_the_template_says(whole: WholeMiniStack, name: str) -> None:
    """It is made, updated and deleted in the region of the stack."""
    template = {"Logs": log_bucket(name), "LogsPolicy": log_policy(name), "Trail": trail(name)}
    deploy(whole, name, template, tags={"team": "storage"})
    cloudtrail = whole.client("cloudtrail")

    (made,) = cloudtrail.describe_trails(trailNameList=[name])["trailList"]
    assert made["S3BucketName"] == f"{name}-logs"
    assert made["IsMultiRegionTrail"] is False
    assert cloudtrail.get_trail_status(Name=name)["IsLogging"] is True
    told = cloudtrail.get_event_selectors(TrailName=name)
    assert told["AdvancedEventSelectors"] == [selector("arn:aws:s3:::some/")]
    (tags,) = cloudtrail.list_tags(ResourceIdList=[made["TrailARN"]])["ResourceTagList"]
    assert {"Key": "team", "Value": "storage"} in tags["TagsList"]

    template["Trail"] = trail(name, "arn:aws:s3:::other/", logs="false")
    deploy(whole, name, template)
    told = cloudtrail.get_event_selectors(TrailName=name)
    assert told["AdvancedEventSelectors"] == [selector("arn:aws:s3:::other/")]
    assert cloudtrail.get_trail_status(Name=name)["IsLogging"] is False

    destroy(whole, name)
    assert cloudtrail.describe_trails(trailNameList=[name])["trailList"] == []


def test_trail_is_refused_as_cloudtrail_does(whole: WholeMiniStack, name: str) -> None:
    """A log bucket that is not there or lets no trail in, fields that cannot be selected: all fail the stack."""
    bad = selector("x")
    bad["FieldSelectors"].append({"Field": "requestParameters.key", "Equals": ["k"]})
    wrong = trail(name) | {}
    wrong["Properties"] = wrong["Properties"] | {"AdvancedEventSelectors": [bad]}
    nobody = trail(name) | {"DependsOn": "Logs"}
    unknown = trail(name) | {}
    unknown["Properties"] = unknown["Properties"] | {"RecursiveLogging": False}
    cases: list[tuple[Mapping[str, Any], str]] = [
        ({"Trail": trail(name, depends=())}, "does not exist"),
        ({"Logs": log_bucket(name), "Trail": nobody}, "Incorrect S3 bucket policy"),
        (
            {"Logs": log_bucket(name), "LogsPolicy": log_policy(name), "Trail": wrong},
            "requestParameters.key",
        ),
        (
            {"Logs": log_bucket(name), "LogsPolicy": log_policy(name), "Trail": unknown},
            "extraneous key [RecursiveLogging]",
        ),
    ]
    for number, (template, words) in enumerate(cases):
        stack = f"{name}-{number}"
        assert deploy(whole, stack, template) == "ROLLBACK_COMPLETE"
        assert words in reason(whole, stack, "Trail", "CREATE_FAILED")
        destroy(whole, stack)
    told = whole.client("cloudtrail").describe_trails(trailNameList=[name])
    assert told["trailList"] == []


def test_policy_of_a_bus_keeps_its_condition(whole: WholeMiniStack, name: str) -> None:
    """Statements stand beside others' and go with the stack."""
    events = whole.client("events")
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": f"arn:aws:events:{REGION}:{OURS}:event-bus/{name}",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
    }
    events.create_event_bus(Name=name)
    events.put_permission(
        EventBusName=name, StatementId="theirs", Principal=THEIRS, Action="events:PutEvents"
    )
    policy = {"EventBusName": name, "StatementId": "ours", "Statement": statement}
    deploy(whole, name, {"Policy": resource("Events::EventBusPolicy", **policy)})

    told = json.loads(events.describe_event_bus(Name=name)["Policy"])
    theirs, ours = told["Statement"]
    assert ours == {"Sid": "ours"} | statement
    destroy(whole, name)
    told = json.loads(events.describe_event_bus(Name=name)["Policy"])
    assert told["Statement"] == [theirs]
    events.delete_event_bus(Name=name)


def test_table_has_expiry_recovery_and_encryption(whole: WholeMiniStack, name: str) -> None:
    """Those are there after it was created, and follow the template."""
    dynamodb = whole.client("dynamodb")

    def told() -> tuple[Any, ...]:
        table = dynamodb.describe_table(TableName=name)["Table"]
        expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        backups = dynamodb.describe_continuous_backups(TableName=name)
        recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
        sse = table.get("SSEDescription", {}).get("SSEType")
        return expiry["TimeToLiveStatus"], recovery["PointInTimeRecoveryStatus"], sse

    more = {
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": "true"},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True, "SSEType": "KMS"},
    }
    deploy(whole, name, {"Table": table(name, **more)})
    assert told() == ("ENABLED", "ENABLED", "KMS")
    deploy(whole, name, {"Table": table(name)})
    assert told()[:2] == ("DISABLED", "DISABLED")
    destroy(whole, name)


def test_table_that_is_protected_stays(whole: WholeMiniStack, name: str) -> None:
    """DynamoDB is asked to delete it, and refuses."""
    deploy(whole, name, {"Table": table(name, DeletionProtectionEnabled=True)})
    assert destroy(whole, name) == "DELETE_FAILED"
    dynamodb = whole.client("dynamodb")
    dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
    assert destroy(whole, name) == "DELETE_COMPLETE"


def test_bucket_has_lifecycle_and_tags(whole: WholeMiniStack, name: str) -> None:
    """Both are S3's own after the template's, also when they change; S3 refuses a rule that it would not take."""
    s3 = whole.client("s3")
    lifecycle = {"Rules": [{"Id": "expire", "Status": "Enabled", "ExpirationInDays": "7"}]}
    properties = {"BucketName": name, "Tags": [{"Key": "own", "Value": "tag"}]}
    with_rules = resource("S3::Bucket", **properties, LifecycleConfiguration=lifecycle)
    deploy(whole, name, {"Bucket": with_rules}, tags={"team": "storage"})

    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert (rule["ID"], rule["Expiration"]) == ("expire", {"Days": 7})
    tags = s3.get_bucket_tagging(Bucket=name)["TagSet"]
    assert {(tag["Key"], tag["Value"]) for tag in tags} == {("own", "tag"), ("team", "storage")}
    deploy(whole, name, {"Bucket": resource("S3::Bucket", **properties)})
    with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=name)
    destroy(whole, name)

    lifecycle["Rules"][0]["ExpiresSomeDay"] = "7"
    wrong = resource("S3::Bucket", BucketName=name, LifecycleConfiguration=lifecycle)
    assert deploy(whole, name, {"Bucket": wrong}) == "ROLLBACK_COMPLETE"
    assert "ExpiresSomeDay" in reason(whole, name, "Bucket", "CREATE_FAILED")
    with pytest.raises(ClientError, match="404"):
        s3.head_bucket(Bucket=name)


def test_bucket_with_objects_stays(whole: WholeMiniStack, name: str) -> None:
    """S3 is asked to delete it, and refuses."""
    deploy(whole, name, {"Bucket": resource("S3::Bucket", BucketName=name)})
    s3 = whole.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"")
    assert destroy(whole, name) == "DELETE_FAILED"
    assert "not empty" in reason(whole, name, "Bucket", "DELETE_FAILED")
    s3.delete_object(Bucket=name, Key="k")
    assert destroy(whole, name) == "DELETE_COMPLETE"


def test_rule_has_its_tags_and_the_stacks(whole: WholeMiniStack, name: str) -> None:
    """As AWS keeps them."""
    rule = resource(
        "Events::Rule",
        Name=name,
        EventPattern={"source": ["aws.s3"]},
        Tags=[{"Key": "own", "Value": "tag"}],
    )
    deploy(whole, name, {"Rule": rule}, tags={"team": "storage"})
    arn = f"arn:aws:events:{REGION}:{OURS}:rule/{name}"
    tags = whole.client("events").list_tags_for_resource(ResourceARN=arn)["Tags"]
    told = {tag["Key"]: tag["Value"] for tag in tags}
    assert told["own"] == "tag"
    assert told["team"] == "storage"
    assert told["aws:cloudformation:stack-name"] == name
    destroy(whole, name)


def test_alarm_over_a_query_is_kept_and_acts(whole: WholeMiniStack, name: str) -> None:
    """Its metrics are read back, it follows the template, and what it tells arrives."""
    cloudwatch, sqs = whole.client("cloudwatch"), whole.client("sqs")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]

    def template(period: object) -> dict[str, Any]:
        query = {
            "Id": "worst",
            "Expression": 'SELECT SUM(FailedReplications) FROM "crrmon"',
            "Period": period,
        }
        return {
            "Topic": resource("SNS::Topic", TopicName=name),
            "Subscription": resource(
                "SNS::Subscription",
                TopicArn={"Ref": "Topic"},
                Protocol="sqs",
                Endpoint=f"arn:aws:sqs:{REGION}:{OURS}:{name}",
            ),
            "Alarm": resource(
                "CloudWatch::Alarm",
                AlarmName=name,
                Metrics=[query],
                EvaluationPeriods="1",
                Threshold="0",
                ComparisonOperator="GreaterThanThreshold",
                TreatMissingData="notBreaching",
                AlarmActions=[{"Ref": "Topic"}],
            ),
        }

    deploy(whole, name, template("300"), tags={"team": "storage"})
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert [metric["Period"] for metric in alarm["Metrics"]] == [300]
    assert {"MetricName", "Namespace", "Statistic", "Period"}.isdisjoint(alarm)
    tags = cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
    assert {"Key": "team", "Value": "storage"} in tags
    deploy(whole, name, template(60))
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert [metric["Period"] for metric in alarm["Metrics"]] == [60]

    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    assert json.loads(received(whole, queue)["Message"])["AlarmName"] == name
    destroy(whole, name)
    assert cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"] == []
    sqs.delete_queue(QueueUrl=queue)


# Stacks that are slow, fail, or are in the way of another operation.


def test_stack_in_progress_refuses_other_operations(whole: WholeMiniStack, name: str) -> None:
    """Its events are seen meanwhile; AWS's sentences name its state."""
    cloudformation = whole.client("cloudformation")
    deploy(whole, name, {"Queue": queue(name)})
    changed = {"Queue": queue(name, VisibilityTimeout=90)}
    prepare(whole, name, changed, change_set="second")
    prepare(whole, name, changed, change_set="third")
    with whole.held():
        cloudformation.execute_change_set(StackName=name, ChangeSetName="second")
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "UPDATE_IN_PROGRESS"
        assert "UPDATE_IN_PROGRESS" in statuses(whole, name, name)
        busy = r"Stack:arn:aws:cloudformation:.* is in UPDATE_IN_PROGRESS state and can not be"
        with pytest.raises(ClientError, match=f"ValidationError.*{busy}"):
            prepare(whole, name, changed, change_set="fourth")
        with pytest.raises(ClientError, match=busy):
            cloudformation.update_stack(StackName=name, UsePreviousTemplate=True)
        with pytest.raises(ClientError, match="cannot be deleted while in status UPDATE_IN"):
            cloudformation.delete_stack(StackName=name)
    assert whole.settled(name) == "UPDATE_COMPLETE"
    with pytest.raises(ClientError, match="ChangeSetNotFound"):
        cloudformation.execute_change_set(StackName=name, ChangeSetName="third")
    destroy(whole, name)


def test_slow_stack_takes_its_time(whole: WholeMiniStack, name: str) -> None:
    """One looks on while it is created."""
    cloudformation = whole.client("cloudformation")
    prepare(whole, name, {"Queue": queue(name)}, change_set="first", kind="CREATE")
    began = time.monotonic()
    with whole.slow(0.3):
        cloudformation.execute_change_set(StackName=name, ChangeSetName="first")
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_IN_PROGRESS"
        assert whole.settled(name) == "CREATE_COMPLETE"
    assert time.monotonic() - began >= 0.3
    destroy(whole, name)


def test_stack_that_was_rolled_back_takes_no_change_set(whole: WholeMiniStack, name: str) -> None:
    """Neither as an update nor as a new stack; it can be deleted."""
    with whole.failing("create AWS::SQS::Queue", DENIED):
        assert deploy(whole, name, {"Queue": queue(name)}) == "ROLLBACK_COMPLETE"
    assert reason(whole, name, "Queue", "CREATE_FAILED") == DENIED
    with pytest.raises(ClientError, match="is in ROLLBACK_COMPLETE state and can not be updated"):
        prepare(whole, name, {"Queue": queue(name)}, change_set="again")
    with pytest.raises(
        ClientError, match=r"already exists and cannot be created again with the changeSet \[new\]"
    ):
        prepare(whole, name, {"Queue": queue(name)}, change_set="new", kind="CREATE")
    assert destroy(whole, name) == "DELETE_COMPLETE"
    assert deploy(whole, name, {"Queue": queue(name)}) == "CREATE_COMPLETE"
    destroy(whole, name)


def test_failure_spares_what_it_is_told_to(whole: WholeMiniStack, name: str) -> None:
    """An update that went well fails in its rollback; AWS's ways out of that lead out."""
    cloudformation = whole.client("cloudformation")
    deploy(whole, name, {"Queue": queue(name)})
    changed = {
        "Queue": queue(name, VisibilityTimeout=90),
        "Topic": resource("SNS::Topic", TopicName=name) | {"DependsOn": "Queue"},
    }
    with (
        whole.failing("create AWS::SNS::Topic", "no topics today"),
        whole.failing("update AWS::SQS::Queue", DENIED, spare=1),
    ):
        assert deploy(whole, name, changed) == "UPDATE_ROLLBACK_FAILED"
    with pytest.raises(ClientError, match="is in UPDATE_ROLLBACK_FAILED state and can not be"):
        prepare(whole, name, changed, change_set="again")
    cloudformation.continue_update_rollback(StackName=name)
    assert whole.settled(name) == "UPDATE_ROLLBACK_COMPLETE"
    assert deploy(whole, name, changed) == "UPDATE_COMPLETE"
    destroy(whole, name)


def test_failure_in_one_place_leaves_others_alone(whole: WholeMiniStack, name: str) -> None:
    """An account, a region, or both; and at a deletion, which goes well once it is over."""
    with (
        whole.failing("create AWS::SQS::Queue", DENIED, region=ELSEWHERE),
        whole.failing("create AWS::SQS::Queue", DENIED, account=THEIRS),
    ):
        assert deploy(whole, name, {"Queue": queue(name)}) == "CREATE_COMPLETE"
        for account, region in ((OURS, ELSEWHERE), (THEIRS, REGION)):
            place = {"account": account, "region": region}
            assert deploy(whole, name, {"Queue": queue(name)}, **place) == "ROLLBACK_COMPLETE"
            assert destroy(whole, name, **place) == "DELETE_COMPLETE"
    with whole.failing("delete AWS::SQS::Queue", DENIED):
        assert destroy(whole, name) == "DELETE_FAILED"
    assert destroy(whole, name) == "DELETE_COMPLETE"


@pytest.mark.parametrize("kind", ["SQS::Queue", "SNS::Topic", "IAM::Role", "DynamoDB::Table"])
def test_name_of_somebody_else_is_refused(whole: WholeMiniStack, name: str, kind: str) -> None:
    """What is there is neither taken over nor removed; nor what another stack has."""
    template = {"It": NAMED[kind](name)}
    make_by_hand(whole, kind, name)
    before = everything(whole.url, [OURS], [REGION])
    assert deploy(whole, name, template) == "ROLLBACK_COMPLETE"
    told = reason(whole, name, "It", "CREATE_FAILED")
    assert told.startswith(
        f"Resource handler returned message: \"Resource of type 'AWS::{kind}' with identifier '{name}' already exists.\""
    )
    destroy(whole, name)
    assert everything(whole.url, [OURS], [REGION]) == before
    remove_by_hand(whole, kind, name)

    assert deploy(whole, name, template) == "CREATE_COMPLETE"
    assert deploy(whole, f"{name}-b", template) == "ROLLBACK_COMPLETE"
    told = reason(whole, f"{name}-b", "It", "CREATE_FAILED")
    assert told.startswith(f"{name} already exists in stack arn:aws:cloudformation:")
    destroy(whole, f"{name}-b")
    destroy(whole, name)


def test_kept_table_is_imported_and_not_refused(whole: WholeMiniStack, name: str) -> None:
    """Its name is taken by itself: that is no clash."""
    cloudformation, table_name = whole.client("cloudformation"), f"{name}-table"
    kept = {"It": table(table_name) | {"DeletionPolicy": "RetainExceptOnCreate"}}
    deploy(whole, name, kept)
    destroy(whole, name)
    prepare(whole, name, kept, change_set="back", kind="CREATE", ImportExistingResources=True)
    told = cloudformation.describe_change_set(StackName=name, ChangeSetName="back")
    assert [one["ResourceChange"]["Action"] for one in told["Changes"]] == ["Import"]
    cloudformation.execute_change_set(StackName=name, ChangeSetName="back")
    assert whole.settled(name) == "CREATE_COMPLETE"
    destroy(whole, name)
    whole.client("dynamodb").delete_table(TableName=table_name)


# Notifications.

EVERYTHING = {"Events": ["s3:ObjectCreated:*"]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EVERYTHING, EVERYTHING),
        (EVERYTHING, {"Events": ["s3:ObjectCreated:Put"], "prefix": "deep/down/"}),
        ({**EVERYTHING, "prefix": "a/"}, {**EVERYTHING, "prefix": "a/b/"}),
        ({**EVERYTHING, "prefix": "a/"}, {**EVERYTHING, "suffix": ".jpg"}),
        ({**EVERYTHING, "suffix": ".jpg"}, {**EVERYTHING, "suffix": "g"}),
        (
            {**EVERYTHING, "prefix": "a", "suffix": "g"},
            {**EVERYTHING, "prefix": "ab", "suffix": ".jpg"},
        ),
        (
            {"Events": ["s3:Replication:*"]},
            {"Events": ["s3:ObjectRemoved:*", "s3:Replication:OperationFailedReplication"]},
        ),
    ],
)
def test_overlap_is_refused(
    whole: WholeMiniStack, name: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    """In S3's words, whatever kinds the two destinations are of, and nothing is changed."""
    s3 = whole.client("s3")
    bucket(whole, name)
    with pytest.raises(ClientError) as refused:
        notify(whole, name, queues=[one], topics=[other])
    assert refused.value.response["Error"]["Code"] == "InvalidArgument"
    assert (
        refused.value.response["Error"]["Message"]
        == "Configurations overlap. Configurations on the same bucket cannot share a common event type."
    )
    told = s3.get_bucket_notification_configuration(Bucket=name)
    assert "QueueConfigurations" not in told


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"Events": ["s3:ObjectCreated:Put"]}, {"Events": ["s3:ObjectCreated:Copy"]}),
        ({**EVERYTHING, "prefix": "a/"}, {**EVERYTHING, "prefix": "b/"}),
        ({**EVERYTHING, "suffix": ".jpg"}, {**EVERYTHING, "suffix": ".png"}),
        (
            {**EVERYTHING, "prefix": "a/", "suffix": ".jpg"},
            {**EVERYTHING, "prefix": "a/b/", "suffix": ".png"},
        ),
    ],
)
def test_what_does_not_overlap_is_taken(
    whole: WholeMiniStack, name: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Also beside EventBridge, which overlaps nothing."""
    bucket(whole, name)
    notify(whole, name, queues=[one, other], EventBridgeConfiguration={})
    told = whole.client("s3").get_bucket_notification_configuration(Bucket=name)
    assert len(told["QueueConfigurations"]) == 2
    assert "EventBridgeConfiguration" in told


@pytest.mark.parametrize("nth", [1, 2])
def test_somebody_changes_a_notification_after_it_was_read(
    whole: WholeMiniStack, name: str, nth: int
) -> None:
    """Once, and for whoever reads next."""
    s3 = whole.client("s3")
    bucket(whole, name)
    bucket(whole, f"{name}-other")

    def seen(bucket_name: str = name) -> bool:
        return "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(
            Bucket=bucket_name
        )

    with whole.interfering(name, {"EventBridgeConfiguration": {}}, nth=nth):
        assert not seen(f"{name}-other")
        assert [seen() for _ in range(nth + 1)] == [False] * nth + [True]
        s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={})
        assert not any(seen() for _ in range(3))


def test_somebody_changes_a_notification_after_it_was_written(
    whole: WholeMiniStack, name: str
) -> None:
    """What is read back is theirs, with an Id that they gave, and never validated."""
    s3 = whole.client("s3")
    bucket(whole, name)
    theirs = {"Id": "theirs", "QueueArn": f"arn:aws:sqs:{REGION}:{OURS}:gone", **EVERYTHING}
    with whole.interfering(name, {"QueueConfigurations": [theirs]}, after="PUT"):
        notify(whole, name, EventBridgeConfiguration={})
        told = s3.get_bucket_notification_configuration(Bucket=name)
    assert told["QueueConfigurations"] == [theirs]
    assert "EventBridgeConfiguration" not in told


# CloudTrail's events.


def test_trail_tells_of_writes_that_its_selectors_match(whole: WholeMiniStack, name: str) -> None:
    """Through a rule on the bucket's region and account, as long as it logs; others' writes stay unseen."""
    s3, sqs = whole.client("s3"), whole.client("sqs")
    bucket(whole, name, versioned=True)
    bucket(whole, f"{name}-unnamed")
    rule = resource(
        "Events::Rule",
        Name=name,
        EventPattern={
            "source": ["aws.s3"],
            "detail-type": ["AWS API Call via CloudTrail"],
            "detail": {"eventName": ["PutObject", "DeleteObject"]},
        },
        Targets=[{"Id": "t", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}],
    )
    template = {
        "Logs": log_bucket(name),
        "LogsPolicy": log_policy(name),
        "Trail": trail(name, f"arn:aws:s3:::{name}/"),
        "Queue": queue(name),
        "Rule": rule,
    }
    assert deploy(whole, name, template) == "CREATE_COMPLETE"
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]

    s3.put_object(Bucket=f"{name}-unnamed", Key="k", Body=b"")
    version = s3.put_object(Bucket=name, Key="a b/ü", Body=b"x")["VersionId"]
    told = received(whole, url)
    assert (told["account"], told["region"], told["source"]) == (OURS, REGION, "aws.s3")
    detail = told["detail"]
    assert detail["eventName"] == "PutObject"
    assert detail["requestParameters"] == {"bucketName": name, "key": "a b/ü"}
    assert detail["responseElements"] == {"x-amz-version-id": version}
    assert {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{name}/a b/ü"} in detail["resources"]

    marker = s3.delete_object(Bucket=name, Key="a b/ü")["VersionId"]
    detail = received(whole, url)["detail"]
    assert detail["responseElements"] == {
        "x-amz-version-id": marker,
        "x-amz-delete-marker": "true",
    }
    s3.delete_object(Bucket=name, Key="a b/ü", VersionId=version)
    detail = received(whole, url)["detail"]
    assert detail["requestParameters"]["versionId"] == version

    whole.client("cloudtrail").stop_logging(Name=name)
    s3.put_object(Bucket=name, Key="unseen", Body=b"")
    whole.client("cloudtrail").start_logging(Name=name)
    s3.put_object(Bucket=name, Key="seen", Body=b"")
    assert received(whole, url)["detail"]["requestParameters"]["key"] == "seen"
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    destroy(whole, name)


def test_only_trails_of_that_account_and_region_tell(whole: WholeMiniStack, name: str) -> None:
    """Nor does one that excludes the bucket; one of all regions does, wherever it is at home."""
    s3, sqs, events = whole.client("s3"), whole.client("sqs"), whole.client("events")
    bucket(whole, name)
    bucket(whole, f"{name}-logs")
    s3.put_bucket_policy(
        Bucket=f"{name}-logs", Policy=json.dumps(log_policy(name)["Properties"]["PolicyDocument"])
    )
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    events.put_rule(Name=name, EventPattern='{"source": ["aws.s3"]}')
    target = {"Id": "t", "Arn": f"arn:aws:sqs:{REGION}:{OURS}:{name}"}
    events.put_targets(Rule=name, Targets=[target])
    mine = selector(f"arn:aws:s3:::{name}/")
    excluding = selector("arn:aws:s3:::")
    excluding["FieldSelectors"].append(
        {"Field": "resources.ARN", "NotStartsWith": [f"arn:aws:s3:::{name}/"]}
    )

    made = [
        (record(whole, name, mine, account=THEIRS, region=REGION), "theirs"),
        (record(whole, name, mine, account=OURS, region=ELSEWHERE), "elsewhere"),
        (record(whole, f"{name}-x", excluding, account=OURS, region=REGION), "excluded"),
    ]
    for _, key in made:
        s3.put_object(Bucket=name, Key=key, Body=b"")
    made[1][0].update_trail(Name=name, IsMultiRegionTrail=True)
    s3.put_object(Bucket=name, Key="seen", Body=b"")
    assert received(whole, url)["detail"]["requestParameters"]["key"] == "seen"
    made[0][0].delete_trail(Name=name)
    made[1][0].delete_trail(Name=name)
    made[2][0].delete_trail(Name=f"{name}-x")
    events.remove_targets(Rule=name, Ids=["t"])
    events.delete_rule(Name=name)


def test_quotas_of_trails(whole: WholeMiniStack, name: str) -> None:
    """Five in a region, and 500 values in one, as on AWS."""
    cloudtrail = whole.client("cloudtrail", region="eu-south-2")
    deploy(whole, name, {"Logs": log_bucket(name), "LogsPolicy": log_policy(name)})
    arns = [f"arn:aws:s3:::{name}-{number}/" for number in range(495)]
    most = selector(arns[0])
    most["FieldSelectors"][-1]["StartsWith"] = arns
    for number in range(5):
        cloudtrail.create_trail(Name=f"{name}-{number}", S3BucketName=f"{name}-logs")
    with pytest.raises(ClientError, match=r"MaximumNumberOfTrailsExceeded.*already has 5 trails"):
        cloudtrail.create_trail(Name=f"{name}-5", S3BucketName=f"{name}-logs")
    cloudtrail.put_event_selectors(TrailName=f"{name}-0", AdvancedEventSelectors=[most])
    arns.append("arn:aws:s3:::one-too-many/")
    with pytest.raises(ClientError, match="InvalidEventSelectorsException"):
        cloudtrail.put_event_selectors(TrailName=f"{name}-0", AdvancedEventSelectors=[most])
    for number in range(5):
        cloudtrail.delete_trail(Name=f"{name}-{number}")
    destroy(whole, name)


# The process, accounts, and all that there is in them.


def test_policies_can_be_enforced_and_the_process_ends(name: str) -> None:
    """A key of twelve digits stays root, also for what a stack makes; a stranger is refused; afterwards nobody is in."""
    with whole_ministack(AUTH="true") as strict:
        template = all_types(name)
        assert deploy(strict, name, template) == "CREATE_COMPLETE"
        stranger = boto3.client(
            "sqs",
            endpoint_url=strict.url,
            region_name=REGION,
            aws_access_key_id="AKIASTRANGER",
            aws_secret_access_key="x",  # noqa: S106 - opens nothing
        )
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            stranger.list_queues()
        stranger.close()
    with pytest.raises(EndpointConnectionError):
        strict.client("sqs").list_queues()


def test_accounts_and_regions_are_apart(whole: WholeMiniStack, name: str) -> None:
    """A key of twelve digits is the account; the same stack stands in each, with its own queue."""
    places = [(OURS, REGION), (OURS, ELSEWHERE), (THEIRS, REGION)]
    with ThreadPoolExecutor() as threads:
        made = threads.map(
            lambda place: deploy(
                whole, name, {"Queue": queue(name)}, account=place[0], region=place[1]
            ),
            places,
        )
        assert list(made) == ["CREATE_COMPLETE"] * 3
    for account, region in places:
        sqs = whole.client("sqs", account=account, region=region)
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        assert url == f"{whole.url}/{account}/{name}"
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        assert arn["Attributes"]["QueueArn"] == f"arn:aws:sqs:{region}:{account}:{name}"
        destroy(whole, name, account=account, region=region)


def test_everything_sees_each_resource_and_what_is_changed(
    whole: WholeMiniStack, name: str
) -> None:
    """Whatever a template of all types makes is listed, with its settings, and gone with the stack."""
    places = ([OURS, THEIRS], [REGION, ELSEWHERE])
    bucket(whole, name)
    before = everything(whole.url, *places)
    deploy(whole, name, all_types(name))
    made = everything(whole.url, *places)

    listed = {key.split(" ")[2] for key in made.keys() - before.keys()}
    assert listed == {
        *(one["Type"] for one in all_types(name).values()),
        "AWS::CloudFormation::Stack",
    } - {"AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy"}
    assert all(key.startswith(f"{OURS} {REGION} ") for key in made.keys() - before.keys())

    def changed_by(change: Callable[[], Any]) -> set[str]:
        nonlocal made
        change()
        earlier, made = made, everything(whole.url, *places)
        return {key.split(" ")[2] for key in made if made[key] != earlier.get(key)}

    url = whole.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    sqs, topic = whole.client("sqs"), f"arn:aws:sns:{REGION}:{OURS}:{name}"
    assert changed_by(lambda: sqs.send_message(QueueUrl=url, MessageBody="x")) == set()
    assert changed_by(
        lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    ) == {"AWS::SQS::Queue"}
    assert changed_by(lambda: notify(whole, name, EventBridgeConfiguration={})) == {
        "AWS::S3::Bucket"
    }
    assert changed_by(lambda: whole.client("s3").delete_bucket_policy(Bucket=f"{name}-logs")) == {
        "AWS::S3::Bucket"
    }
    assert changed_by(
        lambda: whole.client("sns").tag_resource(
            ResourceArn=topic, Tags=[{"Key": "k", "Value": "v"}]
        )
    ) == {"AWS::SNS::Topic"}
    assert changed_by(lambda: whole.client("events").remove_targets(Rule=name, Ids=["t"])) == {
        "AWS::Events::Rule"
    }
    assert changed_by(
        lambda: whole.client("iam").detach_role_policy(
            RoleName=name, PolicyArn=f"arn:aws:iam::{OURS}:policy/{name}"
        )
    ) == {"AWS::IAM::Role"}

    notify(whole, name)
    assert destroy(whole, name) == "DELETE_COMPLETE"
    assert everything(whole.url, *places) == before


# Templates.


def resource(kind: str, /, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def queue(name: str, **properties: Any) -> dict[str, Any]:
    return resource("SQS::Queue", QueueName=name, **properties)


def table(name: str, **properties: Any) -> dict[str, Any]:
    return resource(
        "DynamoDB::Table",
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        **properties,
    )


def role(name: str, **properties: Any) -> dict[str, Any]:
    return resource(
        "IAM::Role", RoleName=name, AssumeRolePolicyDocument=allow("sts:AssumeRole"), **properties
    )


def allow(action: str, service: str = "ec2.amazonaws.com", **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Principal": {"Service": service}}
    return {"Version": "2012-10-17", "Statement": [statement | more]}


def log_bucket(name: str) -> dict[str, Any]:
    return resource("S3::Bucket", BucketName=f"{name}-logs")


def log_policy(name: str) -> dict[str, Any]:
    arn = f"arn:aws:s3:::{name}-logs"
    document = allow("s3:GetBucketAcl", "cloudtrail.amazonaws.com", Resource=arn)
    policy = resource("S3::BucketPolicy", Bucket=f"{name}-logs", PolicyDocument=document)
    return policy | {"DependsOn": "Logs"}


def trail(
    name: str,
    objects: str = "arn:aws:s3:::some/",
    *,
    logs: object = True,
    depends: tuple[str, ...] = ("LogsPolicy",),
) -> dict[str, Any]:
    return resource(
        "CloudTrail::Trail",
        TrailName=name,
        S3BucketName=f"{name}-logs",
        IsLogging=logs,
        IsMultiRegionTrail="false",
        AdvancedEventSelectors=[selector(objects)],
    ) | {"DependsOn": list(depends)}


def selector(objects: str) -> dict[str, Any]:
    return {
        "Name": "writes",
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            {"Field": "readOnly", "Equals": ["false"]},
            {"Field": "eventName", "Equals": ["PutObject", "DeleteObject"]},
            {"Field": "resources.ARN", "StartsWith": [objects]},
        ],
    }


NAMED = {
    "SQS::Queue": queue,
    "SNS::Topic": lambda name: resource("SNS::Topic", TopicName=name),
    "IAM::Role": role,
    "DynamoDB::Table": table,
}


def all_types(name: str) -> dict[str, Any]:
    """Return one of each type that a deployment may have."""
    arn = {"Fn::GetAtt": ["Queue", "Arn"]}
    role_arn = {"Fn::GetAtt": ["Role", "Arn"]}
    return {
        "Queue": queue(name),
        "QueuePolicy": resource(
            "SQS::QueuePolicy",
            Queues=[{"Ref": "Queue"}],
            PolicyDocument=allow("sqs:SendMessage", "s3.amazonaws.com", Resource=arn),
        ),
        "Topic": resource("SNS::Topic", TopicName=name),
        "TopicPolicy": resource(
            "SNS::TopicPolicy",
            Topics=[{"Ref": "Topic"}],
            PolicyDocument=allow("sns:Publish", "cloudwatch.amazonaws.com", Resource="*"),
        ),
        "Subscription": resource(
            "SNS::Subscription", TopicArn={"Ref": "Topic"}, Protocol="sqs", Endpoint=arn
        ),
        "Bus": resource("Events::EventBus", Name=name),
        "Rule": resource(
            "Events::Rule",
            Name=name,
            EventPattern={"source": ["aws.s3"]},
            Targets=[{"Id": "t", "Arn": arn}],
        ),
        "Logs": log_bucket(name),
        "LogsPolicy": log_policy(name),
        "Trail": trail(name),
        "Table": table(name),
        "Policy": resource(
            "IAM::ManagedPolicy", ManagedPolicyName=name, PolicyDocument=allow("s3:GetObject")
        ),
        "Role": role(name, ManagedPolicyArns=[{"Ref": "Policy"}]),
        "Alarm": resource(
            "CloudWatch::Alarm",
            AlarmName=name,
            Namespace="AWS/SQS",
            MetricName="ApproximateNumberOfMessagesVisible",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
        ),
        "Dashboard": resource(
            "CloudWatch::Dashboard", DashboardName=name, DashboardBody='{"widgets": []}'
        ),
        "LogGroup": resource("Logs::LogGroup", LogGroupName=name),
        "Stream": resource(
            "KinesisFirehose::DeliveryStream",
            DeliveryStreamName=name,
            ExtendedS3DestinationConfiguration={
                "BucketARN": {"Fn::GetAtt": ["Logs", "Arn"]},
                "RoleARN": role_arn,
            },
        ),
    }


# What tests do.


def prepare(
    whole: WholeMiniStack,
    stack: str,
    resources: Mapping[str, Any],
    *,
    change_set: str,
    kind: str = "UPDATE",
    tags: Mapping[str, str] | None = None,
    account: str = OURS,
    region: str = REGION,
    **more: Any,
) -> None:
    whole.client("cloudformation", account=account, region=region).create_change_set(
        StackName=stack,
        ChangeSetName=change_set,
        ChangeSetType=kind,
        TemplateBody=json.dumps({"Resources": resources}),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Tags=[{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        **more,
    )


def deploy(
    whole: WholeMiniStack,
    stack: str,
    resources: Mapping[str, Any],
    *,
    tags: Mapping[str, str] | None = None,
    account: str = OURS,
    region: str = REGION,
) -> str:
    """Create or update a stack; return what becomes of it."""
    place = {"account": account, "region": region}
    cloudformation = whole.client("cloudformation", **place)
    try:
        cloudformation.describe_stacks(StackName=stack)
        kind = "UPDATE"
    except ClientError:
        kind = "CREATE"
    change_set = f"set{next(_numbers)}"
    prepare(whole, stack, resources, change_set=change_set, kind=kind, tags=tags, **place)
    cloudformation.execute_change_set(StackName=stack, ChangeSetName=change_set)
    return whole.settled(stack, **place)


def destroy(
    whole: WholeMiniStack, stack: str, *, account: str = OURS, region: str = REGION
) -> str:
    cloudformation = whole.client("cloudformation", account=account, region=region)
    (told,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    cloudformation.delete_stack(StackName=stack)
    return whole.settled(told["StackId"], account=account, region=region)


def statuses(whole: WholeMiniStack, stack: str, logical_id: str) -> list[str]:
    events = whole.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    return [one["ResourceStatus"] for one in events if one["LogicalResourceId"] == logical_id]


def reason(whole: WholeMiniStack, stack: str, logical_id: str, status: str) -> str:
    events = whole.client("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
    (told,) = {
        one["ResourceStatusReason"]
        for one in events
        if (one["LogicalResourceId"], one["ResourceStatus"]) == (logical_id, status)
    }
    return str(told)


def received(whole: WholeMiniStack, queue_url: str) -> Any:
    """Take one message out of a queue, waiting for it."""
    sqs = whole.client("sqs")
    (message,) = sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=20
    )["Messages"]
    sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return json.loads(message["Body"])


def bucket(whole: WholeMiniStack, name: str, *, versioned: bool = False) -> None:
    s3 = whole.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    if versioned:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def notify(
    whole: WholeMiniStack,
    bucket_name: str,
    queues: list[dict[str, Any]] | None = None,
    topics: list[dict[str, Any]] | None = None,
    **more: Any,
) -> None:
    """Put a bucket's notification configuration, without asking the destinations."""

    def entry(asked: dict[str, Any], **where: str) -> dict[str, Any]:
        rules = [
            {"Name": side, "Value": asked[side]} for side in ("prefix", "suffix") if side in asked
        ]
        filters = {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}
        return {"Events": asked["Events"], **where, **filters}

    queue_arn, topic_arn = (f"arn:aws:{kind}:{REGION}:{OURS}:any" for kind in ("sqs", "sns"))
    whole.client("s3").put_bucket_notification_configuration(
        Bucket=bucket_name,
        NotificationConfiguration={
            "QueueConfigurations": [entry(one, QueueArn=queue_arn) for one in queues or []],
            "TopicConfigurations": [entry(one, TopicArn=topic_arn) for one in topics or []],
            **more,
        },
        SkipDestinationValidation=True,
    )


def record(
    whole: WholeMiniStack, name: str, selected: dict[str, Any], *, account: str, region: str
) -> Any:
    """Have a new trail record what is selected; return the client of its region."""
    cloudtrail = whole.client("cloudtrail", account=account, region=region)
    bucket_name = f"{name.removesuffix('-x')}-logs"
    cloudtrail.create_trail(Name=name, S3BucketName=bucket_name)
    cloudtrail.put_event_selectors(TrailName=name, AdvancedEventSelectors=[selected])
    cloudtrail.start_logging(Name=name)
    return cloudtrail


def make_by_hand(whole: WholeMiniStack, kind: str, name: str) -> None:
    match kind:
        case "SQS::Queue":
            whole.client("sqs").create_queue(QueueName=name)
        case "SNS::Topic":
            whole.client("sns").create_topic(Name=name)
        case "IAM::Role":
            policy = json.dumps(allow("sts:AssumeRole"))
            whole.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy)
        case "DynamoDB::Table":
            properties = table(name)["Properties"]
            whole.client("dynamodb").create_table(**properties)


def remove_by_hand(whole: WholeMiniStack, kind: str, name: str) -> None:
    match kind:
        case "SQS::Queue":
            sqs = whole.client("sqs")
            sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"])
        case "SNS::Topic":
            whole.client("sns").delete_topic(TopicArn=f"arn:aws:sns:{REGION}:{OURS}:{name}")
        case "IAM::Role":
            whole.client("iam").delete_role(RoleName=name)
        case "DynamoDB::Table":
            whole.client("dynamodb").delete_table(TableName=name)
