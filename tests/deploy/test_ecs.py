"""The CloudFormation template of the service on ECS: sound, least-privileged, and true to the daemon."""

import ast
import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from moto import mock_aws

from artifacts import cloudwatch_dashboard
from artifacts.__main__ import TOP
from crrmon.adapters.stores.dynamodb import table as dynamodb_table
from crrmon.config import load
from crrmon.domain.catalogue import CLOUDWATCH_METRICS
from crrmon.sandbox.children import LOOPBACK, Child, free_port
from crrmon.sandbox.emulator import answers
from crrmon.sandbox.environment import isolated
from fakes.cloudformation import (
    ACCOUNT,
    BUCKETS,
    REGION,
    TEMPLATE,
    Stack,
    listed,
    properties,
    template,
)
from fakes.moto_server import moto_server
from fakes.pages import json_blocks
from fakes.patience import HANGS_SECONDS

pytestmark = pytest.mark.filterwarnings(
    "ignore:Tried to parse"  # what moto does not make is looked at in the text
)

CFN_LINT = Path(sys.executable).with_name("cfn-lint")

MOST = {
    "ImageRepositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/crrmon",
    "DestinationBuckets": "acme-ledger-dst",
    "AccountRoleArns": "arn:aws:iam::109876543210:role/monitoring/crrmon,arn:aws:iam::321098765432:role/monitoring/crrmon",
    "ExternalId": "acme-crrmon",
    "QueueKmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0f5f0f5f-0000-4000-8000-000000000000",
}
"""Every part of the template that may be left out."""


@pytest.fixture
def aws() -> Iterator[None]:
    """Run moto in this process."""
    with mock_aws():
        yield


def settings_of(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load the daemon's settings from the container's environment."""
    with monkeypatch.context() as patch:
        for name, value in stack.environment().items():
            patch.setenv(name, value)
        return load(None)


# ---- the template as such ----


def test_the_template_is_clean() -> None:
    """cfn-lint finds nothing, not even by the rules that are hints."""
    done = subprocess.run(  # noqa: S603 - of our own environment
        [CFN_LINT, "--include-checks", "I", "--", TEMPLATE],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_SECONDS,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_template_can_be_sent_as_it_is() -> None:
    """CloudFormation takes 51,200 bytes from a file; more would need a bucket first."""
    assert TEMPLATE.stat().st_size <= 51_200


def test_every_parameter_is_explained_grouped_and_bounded() -> None:
    """The console's form has no loose field, and what is wrong is refused before anything is made."""
    whole = template()
    groups = whole["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]

    assert sorted(grouped) == sorted(whole["Parameters"])
    for name, one in whole["Parameters"].items():
        assert one["Description"], name
        bounds = {"AllowedPattern", "AllowedValues", "MinValue"} & one.keys()
        assert bounds or one["Type"].startswith(("AWS::", "List<AWS::")), name
        if "AllowedPattern" in one:
            assert one["ConstraintDescription"], name
            assert "Default" not in one or re.search(one["AllowedPattern"], one["Default"]), name


def test_every_rule_of_parameters_takes_what_the_stacks_here_are_given() -> None:
    """moto does not look at patterns: the values that these tests use would pass them."""
    parameters = template()["Parameters"]
    for name, value in (MOST | {"SourceBuckets": ",".join(BUCKETS)}).items():
        one = parameters[name]
        parts = value.split(",") if one["Type"] == "CommaDelimitedList" else [value]
        for part in parts:
            assert re.search(one["AllowedPattern"], part), f"{name}: {part}"
    for name, value in (
        ("Image", "registry.example.com/crrmon"),
        ("SourceBuckets", "arn:aws:s3:::acme"),
        ("QueueName", "https://sqs.eu-west-1.amazonaws.com/123456789012/crrmon"),
        ("QueueName", "crrmon.fifo"),
        ("AccountRoleArns", "109876543210"),
    ):
        assert not re.search(parameters[name]["AllowedPattern"], value), f"{name}: {value}"


def test_cpu_and_memory_that_fargate_has_not_together_are_refused() -> None:
    """Of all pairs the template's rules take those that Fargate has; the others would fail minutes later."""
    parameters, rules = template()["Parameters"], template()["Rules"].values()
    pairs = itertools.product(
        parameters["Cpu"]["AllowedValues"], parameters["Memory"]["AllowedValues"]
    )

    taken = {
        (cpu, memory)
        for cpu, memory in pairs
        if all(_takes(rule, {"Cpu": str(cpu), "Memory": str(memory)}) for rule in rules)
    }

    assert taken == {(256, 512), (256, 1024), (256, 2048), (512, 1024), (512, 2048), (1024, 2048)}
    named = {"DeadLetterQueueName": "dead"}
    assert not all(_takes(rule, named) for rule in rules)
    assert all(_takes(rule, named | {"QueueName": "mine"}) for rule in rules)


def _takes(rule: dict[str, Any], given: dict[str, str]) -> bool:
    """Tell whether a rule of parameters takes them; those that are not given have their defaults."""

    def value(one: Any) -> Any:
        if not isinstance(one, dict):
            return one
        ((function, of),) = one.items()
        if function == "Ref":
            return given.get(of, str(template()["Parameters"][of]["Default"]))
        left, right = map(value, of)
        return {"Fn::Equals": lambda: left == right, "Fn::Contains": lambda: right in left}[
            function
        ]()

    return not value(rule["RuleCondition"]) or all(
        value(one["Assert"]) for one in rule["Assertions"]
    )


def test_d52_two_stacks_stand_side_by_side(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect D52 of the original: hard-coded names allowed one installation in an account."""
    one, other = Stack("crrmon-one"), Stack("crrmon-two")
    mine, theirs = one.physical(), other.physical()

    assert mine.keys() == theirs.keys()
    assert not set(mine.values()) & set(theirs.values())
    assert settings_of(one, monkeypatch).name == "crrmon-one"
    assert settings_of(other, monkeypatch).name == "crrmon-two"
    naming = {
        "AlarmName", "ClusterName", "DashboardName", "Family", "GroupName", "LogGroupName", "Name", "QueueName",
        "RoleName", "ServiceName", "TableName",
    }  # fmt: skip
    for name, resource in template()["Resources"].items():
        assert not naming & resource.get("Properties", {}).keys(), name


def test_deleting_a_stack_leaves_the_table_and_nothing_else(aws: None) -> None:
    """What is pending is nowhere else; all else can be made again."""
    stack = Stack("crrmon")
    table = stack.outputs()["TableName"]

    stack.delete()

    assert stack.client("dynamodb").list_tables()["TableNames"] == [table]
    assert not stack.client("sqs").list_queues().get("QueueUrls")
    assert not stack.client("events").list_rules()["Rules"]
    assert not stack.client("iam").list_roles()["Roles"]
    assert not stack.client("logs").describe_log_groups()["logGroups"]
    # moto leaves clusters, services and dashboards, too: for those the text has to do.
    resources = template()["Resources"]
    policies = {name: one.get("DeletionPolicy", "Delete") for name, one in resources.items()}
    assert {name for name, one in policies.items() if one != "Delete"} == {"Table"}
    # A stack that could not be made leaves no table, for nobody would know of it.
    assert policies["Table"] == "RetainExceptOnCreate"
    assert resources["Table"]["UpdateReplacePolicy"] == "Retain"


def test_a_table_that_was_left_is_used_again(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack with `LedgerTable` makes no table, and the daemon may use the one that is there."""
    stack = Stack("crrmon", LedgerTable="crrmon-Table-ABC")

    assert "Table" not in stack.physical()
    assert settings_of(stack, monkeypatch).ledger.dynamodb.table == "crrmon-Table-ABC"
    assert stack.statements("TaskRole")["Ledger"]["Resource"] == [
        f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/crrmon-Table-ABC",
        f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/crrmon-Table-ABC/index/*",
    ]


# ---- what the daemon gets ----


def test_the_container_s_environment_is_a_configuration(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon loads what the task definition sets, and means what the parameters say."""
    stack = Stack("crrmon")
    settings = settings_of(stack, monkeypatch)

    assert [one.url for one in settings.queues] == [stack.outputs()["QueueUrl"]]
    assert settings.buckets == BUCKETS
    assert settings.accounts == ()
    assert settings.aws.region == REGION
    assert settings.ledger.kind == "dynamodb"
    assert settings.ledger.dynamodb.table == stack.outputs()["TableName"]
    assert settings.report.namespace == "CRRMonitor"
    assert settings.log.format == "json"


def test_roles_in_other_accounts_are_taken_there_and_nowhere_else(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon takes the role by its name in every account but its own; it may take those that were named."""
    stack = Stack("crrmon", **MOST)
    everywhere, own = settings_of(stack, monkeypatch).accounts

    assert everywhere.id == "*"
    assert everywhere.role_arn == "arn:aws:iam::{account}:role/monitoring/crrmon"
    assert everywhere.external_id == "acme-crrmon"
    assert (own.id, own.role_arn) == (ACCOUNT, None)
    assert stack.statements("TaskRole")["Accounts"]["Resource"] == (
        MOST["AccountRoleArns"].split(",")
    )
    less = Stack("less", AccountRoleArns=MOST["AccountRoleArns"])
    assert settings_of(less, monkeypatch).accounts[0].external_id is None


def test_a_queue_that_is_there_is_used_and_nothing_is_made_for_events(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `QueueName` the stack has no queue, no rules, and rights on that queue alone."""
    stack = Stack("crrmon", QueueName="mine", DeadLetterQueueName="mine-dead")
    role = stack.statements("TaskRole")
    mine = f"arn:aws:sqs:{REGION}:{ACCOUNT}:mine"

    made = {"Queue", "DeadLetterQueue", "S3Rule", "TrailRule"}
    assert not made & stack.physical().keys()
    (queue,) = settings_of(stack, monkeypatch).queues
    assert queue.url == f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/mine"
    assert role["Queue"]["Resource"] == mine
    assert listed(role["Depth"]["Resource"]) == [mine, f"{mine}-dead"]
    alone = Stack("alone", QueueName="mine").statements("TaskRole")
    assert listed(alone["Depth"]["Resource"]) == [mine]


def test_the_table_is_as_the_command_makes_it() -> None:
    """The template's table is what `crrmon ledger create` asks for, but for its name."""
    requests = dynamodb_table.description("any", {})
    expected = dict(requests["CreateTable"])
    del expected["TableName"]
    expected["TimeToLiveSpecification"] = requests["UpdateTimeToLive"]["TimeToLiveSpecification"]
    expected["PointInTimeRecoverySpecification"] = requests["UpdateContinuousBackups"][
        "PointInTimeRecoverySpecification"
    ]

    assert properties("Table") == expected


def test_the_ledger_takes_the_table_that_the_stack_makes(aws: None) -> None:
    """The ledger's own check of a table finds nothing missing."""
    stack = Stack("crrmon")
    table = stack.outputs()["TableName"]
    told = stack.client("dynamodb").describe_table(TableName=table)["Table"]

    assert dynamodb_table.unlike(told) is None
    assert told["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_it_is_remembered_for_as_long_as_a_message_can_come_back(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is redriven from the dead-letter queue, even on its last day, is not counted twice."""
    retention = settings_of(Stack("crrmon"), monkeypatch).ledger.dedup_retention_days * 86_400

    for queue in ("Queue", "DeadLetterQueue"):
        assert properties(queue)["MessageRetentionPeriod"] <= retention, queue


# ---- the task and its service ----


def test_the_task_is_confined(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """arm64, no root, nothing to write to, no privileges, no secrets; and time enough to end by itself."""
    stack = Stack("crrmon")
    container = stack.container()
    task = properties("TaskDefinition")

    assert task["RuntimePlatform"] == {
        "CpuArchitecture": "ARM64",
        "OperatingSystemFamily": "LINUX",
    }
    assert (task["RequiresCompatibilities"], task["NetworkMode"]) == (["FARGATE"], "awsvpc")
    assert "Volumes" not in task
    assert container["user"] == "10001:10001"
    assert container["readonlyRootFilesystem"] is True
    assert container["linuxParameters"] == {
        "initProcessEnabled": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not container.get("secrets")
    assert settings_of(stack, monkeypatch).shutdown_seconds < container["stopTimeout"] <= 120
    assert container["healthCheck"]["command"] == ["CMD", "python", "-m", "crrmon.livez"]
    assert (
        container["logConfiguration"]["options"]["awslogs-group"]
        == (stack.outputs()["LogGroupName"])
    )


def test_the_service_is_replaced_without_a_gap_and_reached_by_nobody() -> None:
    """The old task stays until the new one is healthy, a bad version is taken back, and only HTTPS leaves."""
    service = properties("Service")
    group = properties("SecurityGroup")
    (egress,) = group["SecurityGroupEgress"]

    assert service["DeploymentConfiguration"] == {
        "MinimumHealthyPercent": 100,
        "MaximumPercent": 200,
        "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
    }
    assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
    assert service["PropagateTags"] == "SERVICE"
    assert service["EnableExecuteCommand"] is False
    assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"] == [
        {"Ref": "SecurityGroup"}
    ]
    assert "DesiredCount" not in service, "an update would throw the fleet back"
    assert "SecurityGroupIngress" not in group
    assert (egress["IpProtocol"], egress["FromPort"], egress["ToPort"]) == ("tcp", 443, 443)


def test_the_fleet_grows_with_what_waits_and_never_to_nothing() -> None:
    """Visible messages add tasks; their absence takes them away, down to one at least: parked objects need looks."""
    target, out, back = (properties(name) for name in ("ScalableTarget", "ScaleOut", "ScaleIn"))
    waits, none_wait = (properties(name) for name in ("MessagesWait", "NoMessagesWait"))

    assert (target["MinCapacity"], target["MaxCapacity"]) == (
        {"Ref": "MinTasks"},
        {"Ref": "MaxTasks"},
    )
    assert target["ResourceId"] == {
        "Fn::Sub": [
            "service/${Name}/${Service.Name}",
            {"Name": {"Fn::If": ["MakesCluster", {"Ref": "Cluster"}, {"Ref": "ClusterName"}]}},
        ]
    }
    assert template()["Parameters"]["MinTasks"]["MinValue"] == 1
    assert (_when(waits), _when(none_wait)) == (
        ("Maximum", "GreaterThanThreshold", 1000, 60, 3, None, "notBreaching"),
        ("Maximum", "LessThanThreshold", 100, 60, 15, None, "notBreaching"),
    )
    for alarm, policy in ((waits, "ScaleOut"), (none_wait, "ScaleIn")):
        assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
        assert alarm["AlarmActions"] == [{"Ref": policy}]
        assert alarm["TreatMissingData"] == "notBreaching"
    assert none_wait["Threshold"] < waits["Threshold"]
    steps = "StepScalingPolicyConfiguration"
    assert all(one["ScalingAdjustment"] > 0 for one in out[steps]["StepAdjustments"])
    assert [one["ScalingAdjustment"] for one in back[steps]["StepAdjustments"]] == [-1]


def _when(alarm: dict[str, Any]) -> tuple[Any, ...]:
    """
    Tell on what an alarm goes on: statistic, comparison, threshold, seconds, periods, how many of them, without data.
    """
    query = alarm.get("Metrics", [{}])[0]
    return (
        alarm.get("Statistic"),
        alarm["ComparisonOperator"],
        alarm["Threshold"],
        alarm.get("Period", query.get("Period")),
        alarm["EvaluationPeriods"],
        alarm.get("DatapointsToAlarm"),
        alarm["TreatMissingData"],
    )


# ---- who may do what ----


def test_tasks_alone_take_the_roles_and_each_for_its_purpose() -> None:
    """What starts a task may not look at buckets, and what looks at buckets starts nothing."""
    task = properties("TaskDefinition")

    assert task["ExecutionRoleArn"] == {"Fn::GetAtt": ["ExecutionRole", "Arn"]}
    assert task["TaskRoleArn"] == {"Fn::GetAtt": ["TaskRole", "Arn"]}
    for role in ("ExecutionRole", "TaskRole"):
        (statement,) = properties(role)["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}, role
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRole"), role


@pytest.mark.parametrize("queue", ["Queue", "DeadLetterQueue"])
def test_a_queue_s_policy_is_its_own(queue: str) -> None:
    """A policy on another queue, or about another one, lets nothing in: no events, and no sign of it."""
    policy = properties(f"{queue}Policy")

    assert policy["Queues"] == [{"Ref": queue}]
    for statement in policy["PolicyDocument"]["Statement"]:
        assert statement["Resource"] == {"Fn::GetAtt": [queue, "Arn"]}
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sqs:SendMessage")


_BY_OTHER_NAMES = {
    "DeleteMessageBatch": ["sqs:DeleteMessage"],
    "ChangeMessageVisibilityBatch": ["sqs:ChangeMessageVisibility"],
    # Without the last, S3 answers 403 for what is gone.
    "HeadObject": ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"],
    "HeadBucket": ["s3:ListBucket"],
    "GetBucketReplication": ["s3:GetReplicationConfiguration"],
    # Anybody may ask who they are.
    "GetCallerIdentity": [],
    "TransactWriteItems": [
        "dynamodb:PutItem",
        "dynamodb:DeleteItem",
        "dynamodb:ConditionCheckItem",
    ],
}
"""IAM actions of operations that have none of their own name."""


def actions_of_the_daemon() -> set[str]:
    """Read from the adapters which operations they call; those that make a ledger's table are not the daemon's."""
    names, called = named_in_adapters()
    found: set[str] = set()
    for service in ("sqs", "s3", "cloudwatch", "dynamodb", "sts"):
        client = boto3.client(
            service,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - nothing is called
        )
        for method, operation in client.meta.method_to_api_mapping.items():
            if method in names or operation in called:
                found.update(_BY_OTHER_NAMES.get(operation, [f"{service}:{operation}"]))
    return found


def named_in_adapters() -> tuple[set[str], set[str]]:
    """Return all names that the adapters use, for some operations are methods, and what they call things with first."""
    names: set[str] = set()
    called: set[str] = set()
    for path in (TOP / "src/crrmon/adapters").rglob("*.py"):
        if path.name == "creation.py" and path.parent.name == "dynamodb":
            continue
        if "provisioning" in path.parts:
            continue  # what whoever deploys calls, not the daemon
        if "stores" in path.parts and "dynamodb" not in path.parts:
            continue  # of no service, though its methods may be called as operations are
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                    names.add(name)
                case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                    called.add(name)
    return names, called


def allowed(statements: Any) -> set[str]:
    return {action for one in statements for action in listed(one["Action"])}


def documented(page: str) -> list[dict[str, Any]]:
    """Read the IAM statements of a page."""
    maps = [one for one in json_blocks(page) if isinstance(one, dict)]
    return [one for block in maps for one in block.get("Statement", [block]) if "Action" in one]


def test_the_task_may_do_what_the_daemon_does_and_nothing_else(aws: None) -> None:
    """The role's actions are the calls that the adapters make, and the pages that explain them say the same."""
    role = Stack("crrmon", **MOST).statements("TaskRole")
    actions = allowed(role.values())
    bare = allowed(Stack("bare").statements("TaskRole").values())

    # SQS asks for the key in the name of who receives.
    assert actions - {"kms:Decrypt"} == actions_of_the_daemon()
    assert "kms:Decrypt" in (TOP / "src/crrmon/adapters/sqs.py").read_text(encoding="utf-8")
    assert actions - bare == {"kms:Decrypt", "sts:AssumeRole"}
    readme = [one for one in documented("README.md") if "Principal" not in one]
    ledger = [one for one in documented("docs/operations.md") if "Principal" not in one]
    assert bare == allowed(readme) | allowed(ledger)
    for one in (*readme, *ledger):
        assert allowed([role[one["Sid"]]]) == allowed([one]), one["Sid"]
        assert role[one["Sid"]].get("Condition") == one.get("Condition"), one["Sid"]


def test_the_task_may_do_it_to_its_own_things_alone(aws: None) -> None:
    """No right is on more than the stack's queue and table, the named buckets, and one namespace of metrics."""
    stack = Stack("crrmon", **MOST)
    role, made = stack.statements("TaskRole"), stack.outputs()
    objects = [f"arn:aws:s3:::{one}/*" for one in BUCKETS]

    assert role["Queue"]["Resource"] == made["QueueArn"]
    assert role["Status"]["Resource"] == objects
    assert role["Rules"]["Resource"] == [f"arn:aws:s3:::{one}" for one in BUCKETS]
    assert role["DestinationStatus"]["Resource"] == ["arn:aws:s3:::acme-ledger-dst/*"]
    assert role["DestinationRules"]["Resource"] == ["arn:aws:s3:::acme-ledger-dst"]
    assert role["QueueKey"]["Resource"] == MOST["QueueKmsKeyArn"]
    assert [sid for sid, one in role.items() if one["Resource"] == "*"] == ["Metrics"]


def test_starting_a_task_needs_its_image_and_its_log(aws: None) -> None:
    """The execution role pulls from one repository, or none, and writes to one log group."""
    bare = Stack("bare").statements("ExecutionRole")
    role = Stack("crrmon", **MOST).statements("ExecutionRole")

    assert bare.keys() == {"Log"}
    assert role.keys() == {"Log", "Login", "Pull"}
    assert role["Pull"]["Resource"] == MOST["ImageRepositoryArn"]
    assert "*" not in role["Log"]["Resource"].removesuffix(":*")


# ---- events ----


def test_the_rules_are_those_of_the_documents(aws: None) -> None:
    """Both are docs/events.md's, whole; test_event_patterns.py asks Amazon's engine what they let through."""
    stack = Stack("crrmon", SourceBuckets="acme-ledger-src")
    events, made = stack.client("events"), stack.physical()
    rules = [
        json.loads(events.describe_rule(Name=made[name])["EventPattern"])
        for name in ("S3Rule", "TrailRule")
    ]
    assert rules == [one for one in json_blocks("docs/events.md") if "source" in one]


def test_an_event_of_a_source_bucket_comes_into_the_queue(aws: None) -> None:
    """moto's EventBridge hands S3's own event of a watched bucket to the queue, and that of another one to nobody."""
    stack = Stack("crrmon")
    for bucket in (BUCKETS[1], "acme-foreign"):
        stack.client("events").put_events(
            Entries=[
                {
                    "Source": "aws.s3",
                    "DetailType": "Object Created",
                    "Detail": json.dumps({"bucket": {"name": bucket}, "object": {"key": "a"}}),
                }
            ]
        )
    sqs = stack.client("sqs")
    url = stack.outputs()["QueueUrl"]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]

    assert [json.loads(one["Body"])["detail"]["bucket"]["name"] for one in messages] == [
        BUCKETS[1]
    ]


def test_only_the_rules_and_the_buckets_can_write_to_the_queue() -> None:
    """The policy lets the source buckets' notifications in as the README's does, and both rules."""
    rules, notifications = properties("QueuePolicy")["PolicyDocument"]["Statement"]
    (dead,) = properties("DeadLetterQueuePolicy")["PolicyDocument"]["Statement"]
    (readme,) = (one for one in documented("README.md") if "Principal" in one)
    arns = [{"Fn::GetAtt": ["S3Rule", "Arn"]}, {"Fn::GetAtt": ["TrailRule", "Arn"]}]

    for one in (rules, dead):
        assert one["Principal"] == {"Service": "events.amazonaws.com"}
        assert one["Action"] == "sqs:SendMessage"
        assert one["Condition"] == {"ArnEquals": {"aws:SourceArn": arns}}
    for name in ("Effect", "Principal", "Action"):
        assert notifications[name] == readme[name]
    assert notifications["Condition"].keys() == readme["Condition"].keys()
    assert notifications["Condition"]["StringEquals"] == {
        "aws:SourceAccount": {"Ref": "AWS::AccountId"}
    }
    assert "SourceBuckets" in json.dumps(notifications["Condition"]["ArnEquals"])


def test_nothing_is_given_up_before_the_dead_letter_queue(aws: None) -> None:
    """The queue hands on what it cannot get rid of after ten receives, and so does each rule what it cannot deliver."""
    stack = Stack("crrmon")
    sqs, made = stack.client("sqs"), stack.outputs()
    told = sqs.get_queue_attributes(QueueUrl=made["QueueUrl"], AttributeNames=["All"])
    redrive = json.loads(told["Attributes"]["RedrivePolicy"])

    assert redrive["maxReceiveCount"] == 10
    assert redrive["deadLetterTargetArn"].endswith(made["DeadLetterQueueUrl"].rpartition("/")[2])
    for rule in ("S3Rule", "TrailRule"):
        (target,) = properties(rule)["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}}


# ---- alarms and dashboard ----


def alarms() -> dict[str, dict[str, Any]]:
    """Tell the alarms that are for people."""
    return {
        name: one["Properties"]
        for name, one in template()["Resources"].items()
        if one["Type"] == "AWS::CloudWatch::Alarm" and name.endswith("Alarm")
    }


def test_d46_the_dead_letter_queue_has_an_alarm() -> None:
    """Defect D46 of the original: messages ended in a queue that nobody looked at."""
    alarm = alarms()["DeadLettersAlarm"]
    (dimension,) = alarm["Dimensions"]

    assert dimension == {
        "Name": "QueueName",
        "Value": {
            "Fn::If": [
                "NamesDeadLetterQueue",
                {"Ref": "DeadLetterQueueName"},
                {"Fn::GetAtt": ["DeadLetterQueue", "QueueName"]},
            ]
        },
    }
    assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert alarm["EvaluationPeriods"] == 1


def test_alarms_go_on_when_they_should() -> None:
    """Each by its whole condition; failures for an hour, for windows may come late when CloudWatch was away."""
    assert {name: _when(one) for name, one in alarms().items()} == {
        "DeadLettersAlarm": ("Maximum", "GreaterThanThreshold", 0, 300, 1, None, "notBreaching"),
        "QueueAgeAlarm": ("Maximum", "GreaterThanThreshold", 900, 300, 3, None, "notBreaching"),
        "FailedReplicationsAlarm": (None, "GreaterThanThreshold", 0, 300, 12, 1, "notBreaching"),
        "StuckObjectsAlarm": (None, "GreaterThanThreshold", 0, 300, 3, 2, "notBreaching"),
        "NotCoveredAlarm": (
            *(None, "GreaterThanThreshold", {"Ref": "NotCoveredThreshold"}),
            *(300, 3, 2, "notBreaching"),
        ),
        "HeartbeatAlarm": ("Sum", "LessThanThreshold", 1, 300, 3, None, "breaching"),
    }


def test_t1_uncovered_writes_are_an_alarm_where_somebody_says_how_many_are_usual() -> None:
    """Of the worst bucket; without a number there is no such alarm, for rules may cover parts of buckets on purpose."""
    whole = template()
    alarm = whole["Resources"]["NotCoveredAlarm"]
    (query,) = alarm["Properties"]["Metrics"]

    assert alarm["Condition"] == "JudgesCoverage"
    assert whole["Parameters"]["NotCoveredThreshold"]["Default"] == ""
    assert query["Expression"] == {
        "Fn::Sub": 'SELECT MAX(NotCoveredObjects) FROM SCHEMA("${MetricNamespace}", SourceBucket)'
    }


def test_silence_of_the_monitor_is_an_alarm(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that is missing counts as trouble; it is looked for under the name that the daemon has."""
    alarm = alarms()["HeartbeatAlarm"]

    assert alarm["TreatMissingData"] == "breaching"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert alarm["Dimensions"] == [{"Name": "Monitor", "Value": {"Ref": "AWS::StackName"}}]
    assert alarm["Namespace"] == {"Ref": "MetricNamespace"}
    settings = settings_of(Stack("crrmon", MetricNamespace="Other"), monkeypatch)
    assert (settings.name, settings.report.namespace) == ("crrmon", "Other")
    assert alarm["Period"] == settings.report.window_seconds


def test_alarms_ask_for_metrics_that_exist() -> None:
    """Every metric of crrmon in an alarm is in the catalogue, with exactly those dimensions, in any bucket."""
    known = {one.name: one.dimensions for one in CLOUDWATCH_METRICS}
    queries = {
        name: one["Metrics"][0]["Expression"]["Fn::Sub"]
        for name, one in alarms().items()
        if "Metrics" in one
    }

    assert queries.keys() == {*("FailedReplicationsAlarm", "StuckObjectsAlarm", "NotCoveredAlarm")}
    for query in queries.values():
        parts = re.fullmatch(
            r'SELECT (?:SUM|MAX)\((\w+)\) FROM SCHEMA\("\$\{MetricNamespace\}", ([\w, ]+)\)', query
        )
        assert parts is not None, query
        assert known[parts[1]] == tuple(parts[2].split(", "))
    heartbeat = alarms()["HeartbeatAlarm"]
    assert known[heartbeat["MetricName"]] == ("Monitor",)


def test_alarms_tell_the_topic_and_where_to_read_on() -> None:
    """Each goes to the topic if there is one, when it begins and when it is over, and links to what to do."""
    topic = {"Fn::If": ["HasTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}

    assert len(alarms()) == 6
    for name, alarm in alarms().items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == topic, name
        assert " docs/runbook.md#crrmon" in alarm["AlarmDescription"], name


def test_the_dashboard_shows_every_metric_of_every_bucket(aws: None) -> None:
    """What CloudFormation makes of the generated text is a dashboard: all metrics, found by search, all names filled in."""
    stack = Stack("crrmon", MetricNamespace="Other")
    name, made = stack.physical()["Dashboard"], stack.outputs()
    text = stack.client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]
    widgets = json.loads(text)["widgets"]
    searches = re.findall(r"SEARCH\('\{Other,([\w,]+)\} MetricName=\\\"(\w+)\\\"", text)

    assert {(metric, tuple(schema.split(","))) for schema, metric in searches} == {
        (one.name, one.dimensions) for one in CLOUDWATCH_METRICS
    }
    assert "${" not in text
    assert '""' not in text
    alone = Stack("alone", QueueName="mine")
    body = alone.client("cloudwatch").get_dashboard(DashboardName=alone.physical()["Dashboard"])
    assert '"QueueName",""' not in body["DashboardBody"], "CloudWatch knows no empty dimension"
    for value in (made["LogGroupName"], made["ClusterName"], made["ServiceName"]):
        assert value in text
    for url in (made["QueueUrl"], made["DeadLetterQueueUrl"]):
        assert f'"{url.rpartition("/")[2]}"' in text
    cells = [
        (x, y)
        for one in widgets
        for x in range(one["x"], one["x"] + one["width"])
        for y in range(one["y"], one["y"] + one["height"])
    ]
    assert len(cells) == len(set(cells)), "panels lie over each other"
    assert max(x for x, _ in cells) == 23


def test_the_dashboard_in_the_template_is_the_generated_one() -> None:
    """`make docs` would change nothing."""
    assert cloudwatch_dashboard.files() == {
        cloudwatch_dashboard.TEMPLATE: TEMPLATE.read_text(encoding="utf-8")
    }


# ---- the page ----


def test_the_page_names_what_is_there(aws: None) -> None:
    """Parameters, outputs, alarms and the numbers of metrics on docs/install-ecs.md are those of the template."""
    page = (TOP / "docs/install-ecs.md").read_text(encoding="utf-8")
    whole = template()
    deploys = [one for one in re.split(r"\n(?!\s)", "".join(_shell(page))) if " deploy " in one]
    overrides = re.findall(r"(?<=\s)([A-Z]\w+)=(?=[$a-z])", "".join(deploys))
    assert {"Image", "SubnetIds", "SourceBuckets"} <= set(overrides)
    assert {one for one in overrides if not one.isupper()} <= whole["Parameters"].keys()
    outputs = set(re.findall(r"(?<!-)\boutput (\w+)", "".join(_shell(page))))
    assert outputs <= Stack("crrmon").outputs().keys()
    assert set(re.findall(r"`(\w+Alarm)`", page)) == alarms().keys()
    routes, buckets, monitors = (
        sum(one.dimensions == dimensions for one in CLOUDWATCH_METRICS)
        for dimensions in (("SourceBucket", "DestBucket"), ("SourceBucket",), ("Monitor",))
    )
    counts = rf"\({routes} . routes \+ {buckets} . source buckets \+ {monitors}\)"
    assert re.search(counts, page)


def _shell(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", page, re.DOTALL)


# ---- the daemon ----


@pytest.mark.acceptance
async def test_the_daemon_runs_with_what_the_container_gets_and_writes_no_file(
    tmp_path: Path,
) -> None:
    """The real daemon, on the stack's own queue and table: ready, takes an event that a rule brought, leaves no file."""
    folder, port = tmp_path / "data", free_port()
    folder.mkdir()
    with moto_server() as url:
        stack = await asyncio.to_thread(Stack, "crrmon", endpoint=url)
        outside = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "CRRMON_AWS__ENDPOINT_URL": url,
            "CRRMON_HTTP__PORT": str(port),
        }
        environment = isolated(os.environ) | stack.environment() | outside
        daemon = await Child.start(
            ("/usr/bin/env", "-C", str(folder), sys.executable, "-m", "crrmon", "run"),
            environment=environment,
            log=tmp_path / "log",
        )
        try:
            async with aiohttp.ClientSession() as http:
                await _until(http, port, "/readyz", "")
                await asyncio.to_thread(
                    stack.client("events").put_events,
                    Entries=[
                        {
                            "Source": "aws.s3",
                            "DetailType": "Object Created",
                            "Detail": json.dumps({"bucket": {"name": BUCKETS[0]}}),
                        }
                    ],
                )
                name = stack.outputs()["QueueUrl"].rpartition("/")[2]
                await _until(
                    http,
                    port,
                    "/metrics",
                    rf'crrmon_messages_total\{{kind="\w+",queue="{name}"\}} 1\.0',
                )
        finally:
            ended = await daemon.stop(grace=30)

    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert ended == 0, daemon.last_words()
    assert all(json.loads(line)["event"] for line in lines)
    assert list(folder.iterdir()) == []


async def _until(http: aiohttp.ClientSession, port: int, path: str, pattern: str) -> None:
    """Wait until a page is answered with 200 and has the pattern in it."""
    url = f"http://{LOOPBACK}:{port}{path}"
    async with asyncio.timeout(HANGS_SECONDS):
        while True:
            if await answers(http, url):
                async with http.get(url) as response:
                    if re.search(pattern, await response.text()):
                        return
            await asyncio.sleep(0.1)
