"""The monitor's template as AWS's own linter reads it, and as a stack: what AWS makes of it, and what it lets in."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from crrmon.adapters.stores.dynamodb import table as dynamodb_table
from crrmon.domain.deployment.names import Deployment
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import monitor
from crrmon.domain.templates.monitor import Ledger, Monitor, filled_in
from fakes.agent_templates import KEY, MONITOR
from fakes.buckets import long_names
from fakes.cfn_lint import assert_explained, complaints
from fakes.cloud import client
from fakes.made_stacks import made
from fakes.ministack import shared_ministack
from fakes.monitor_templates import RUNTIMES, monitor_with, whole
from fakes.whole_ministack import OURS, REGION, WholeMiniStack, whole_ministack


def monitors() -> dict[str, Monitor]:
    """Return monitors that have every part, and none, by what is special about them."""
    keys = {"topic_key_arn": KEY, "table_key_arn": KEY, "queue_key_arns": frozenset({KEY})}
    several = {
        f"{name}-{ledger}-{'keys' if fields else 'no-keys'}": monitor_with(
            runtime=runtime, ledger=ledger, readable=long_names(60), **fields
        )
        for (name, runtime), ledger, fields in itertools.product(
            RUNTIMES.items(), Ledger, ({}, keys)
        )
    }
    return several | {
        "of-nothing": monitor_with(agents=frozenset()),
        "of-300-buckets": monitor_with(
            readable=long_names(300), alarm_each=long_names(300), not_covered_threshold=9
        ),
        "with-a-table": monitor_with(existing_table="mine", alarm_email="ops@example.com"),
        "protected": monitor_with(protects_table=True),
    }


def test_filled_in_templates_are_clean(tmp_path: Path) -> None:
    """Without any exception to the linter's rules."""
    templates = {name: filled_in(one) for name, one in monitors().items()}
    assert not any("cfn-lint" in one.document()["Metadata"] for one in templates.values())
    assert complaints(templates, tmp_path) == ""


def test_the_generic_template_is_clean(tmp_path: Path) -> None:
    """But for the partition before each name of a list, which no function fills in."""
    template = monitor.generic()
    assert complaints({"generic": template}, tmp_path) == ""
    assert template.document()["Metadata"]["cfn-lint"]["config"] == {"ignore_checks": ["I3042"]}
    assert not template.needs_bucket


def test_the_linter_finds_what_is_wrong(tmp_path: Path) -> None:
    """So its silence above means something."""
    (first, *_) = complaints(
        {"wrong": filled_in(monitor_with(queue_age_seconds=1))}, tmp_path
    ).splitlines()
    assert "E2015" in first


@pytest.mark.parametrize("which", ["generic", "filled in"])
def test_every_parameter_is_explained_grouped_and_bounded(which: str) -> None:
    """The console's form has no loose field, and what is wrong is refused before anything is made."""
    assert_explained(monitor.generic() if which == "generic" else filled_in(monitor_with()))


# ---- as a stack ----

NOW = Deployment(name="acme", monitor=Place(account=OURS, region=REGION))
WANTED = monitor_with(deployment=NOW, readable=long_names(60), not_covered_threshold=0)


@pytest.fixture(scope="module")
def stack() -> Iterator[WholeMiniStack]:
    """Create the stack of a monitor."""
    with whole_ministack() as cloud:
        cloud.client("cloudformation").create_stack(
            StackName="acme-monitor",
            TemplateBody=filled_in(WANTED).body(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        assert cloud.settled("acme-monitor") == "CREATE_COMPLETE"
        yield cloud


@pytest.mark.server
def test_the_ledger_takes_the_table_that_the_stack_makes(stack: WholeMiniStack) -> None:
    """The ledger's own check of a table finds nothing missing."""
    dynamodb = stack.client("dynamodb")
    told = dynamodb.describe_table(TableName="acme-ledger")["Table"]

    assert dynamodb_table.unlike(told) is None
    assert told["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert dynamodb_table.expiry_is_on(dynamodb.describe_time_to_live(TableName="acme-ledger"))


@pytest.mark.server
def test_the_role_has_all_policies(stack: WholeMiniStack) -> None:
    """Under the name that the agents' queues let in."""
    iam = stack.client("iam")
    attached = iam.list_attached_role_policies(RoleName="acme-monitor")["AttachedPolicies"]
    policies = [
        name
        for name, one in filled_in(WANTED).resources.items()
        if one["Type"] == "AWS::IAM::ManagedPolicy"
    ]

    assert len(attached) == len(policies) == 3


@pytest.mark.server
def test_d37_every_alarm_arrives_at_whoever_is_subscribed(stack: WholeMiniStack) -> None:
    """Defect D37 of the original: its alarms went nowhere."""
    sqs, sns, cloudwatch = map(stack.client, ("sqs", "sns", "cloudwatch"))
    inbox = sqs.create_queue(QueueName="pager")["QueueUrl"]
    topic = NOW.names.topic_arn(NOW.monitor)
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{OURS}:pager")
    alarms = {one["AlarmName"] for one in cloudwatch.describe_alarms()["MetricAlarms"]}

    told = set()
    for alarm in alarms:
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
        (message,) = sqs.receive_message(QueueUrl=inbox, WaitTimeSeconds=10)["Messages"]
        sqs.delete_message(QueueUrl=inbox, ReceiptHandle=message["ReceiptHandle"])
        told.add(json.loads(json.loads(message["Body"])["Message"])["AlarmName"])

    assert told == alarms
    assert len(alarms) == 5


@pytest.mark.server
def test_d49_another_bucket_is_closed_to_the_daemon() -> None:
    """Defect D49 of the original: it could read every object of the account. AWS's own question, asked of MiniStack."""
    resources = made(whole(monitor_with(readable=frozenset({"acme-src"}))), MONITOR)
    documents = [
        json.dumps(one["Properties"]["PolicyDocument"])
        for one in resources.values()
        if one["Type"] == "AWS::IAM::ManagedPolicy"
    ]
    iam = client(shared_ministack(), "iam", account=MONITOR.account, region=MONITOR.region)
    decided = {
        (one["EvalActionName"], one["EvalResourceName"]): one["EvalDecision"]
        for action, arn in (
            ("s3:GetObject", "acme-src/a"),
            ("s3:GetObject", "acme-other/a"),
            ("s3:GetObject", "acme-src2/a"),
            ("s3:PutObject", "acme-src/a"),
            ("s3:ListBucket", "acme-src"),
            ("s3:ListBucket", "acme-other"),
        )
        for one in iam.simulate_custom_policy(
            PolicyInputList=documents,
            ActionNames=[action],
            ResourceArns=[f"arn:aws:s3:::{arn}"],
        )["EvaluationResults"]
    }

    assert {key for key, decision in decided.items() if decision == "allowed"} == {
        ("s3:GetObject", "arn:aws:s3:::acme-src/a"),
        ("s3:ListBucket", "arn:aws:s3:::acme-src"),
    }
    assert len(decided) == 6
