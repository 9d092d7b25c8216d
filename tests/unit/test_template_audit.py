"""Our own rules over templates: each finds what it is there for, and the agent's templates keep them all."""

import copy
import json
from typing import Any

import pytest

from crrmon.domain.templates import agent, monitor
from crrmon.domain.templates.audit import Finding, audit
from crrmon.domain.templates.intrinsics import ref, when
from crrmon.domain.templates.monitor import Ledger
from fakes.agent_templates import FOREIGN, KEY, MONITOR, agent_with, whole
from fakes.buckets import long_names
from fakes.monitor_templates import AGENTS, RUNTIMES, monitor_with
from fakes.monitor_templates import whole as whole_monitor

SOUND = whole(
    agent_with(
        place=FOREIGN,
        native=frozenset({"acme-1"}),
        trail=frozenset({"acme-2"}),
        readable=frozenset({"acme-1"}),
    )
)

POLICY = ("QueuePolicy", "PolicyDocument", "Statement", 0)


def found(*path: str | int, value: Any) -> list[str]:
    """Return what is found when a property of a sound template is something else; None takes it away."""
    template = copy.deepcopy(SOUND)
    logical, *way, last = path
    part: Any = template["Resources"][logical]["Properties"]
    for step in way:
        part = part[step]
    if value is None:
        del part[last]
    else:
        part[last] = value
    assert {one.resource for one in audit(template)} <= {logical, *_whose(logical)}
    return [one.text for one in audit(template)]


def _whose(policy: Any) -> set[str]:
    return {str(policy).removesuffix("Policy")}


def added(**resources: Any) -> list[Finding]:
    return list(audit(SOUND | {"Resources": SOUND["Resources"] | resources}))


def role(*statements: Any) -> dict[str, Any]:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": document}}


@pytest.mark.parametrize("count", [0, 60, 300])
@pytest.mark.parametrize("place", [MONITOR, FOREIGN])
@pytest.mark.parametrize("key", ["", KEY])
def test_agents_keep_the_rules(count: int, place: Any, key: str) -> None:
    """D35, D37, D48, D49: from no bucket to as many as one account may have, all with the longest names."""
    names = long_names(count)
    wanted = agent_with(
        place=place,
        native=names,
        switched=names,
        trail=long_names(count, "trail"),
        readable=names,
        queue_key_arn=key,
    )
    partitions: list[dict[str, Any]] = [{}, {"AWS::Region": "ap-southeast-1"}]
    assert [audit(whole(wanted), known) for known in partitions] == [(), ()]


def test_the_generic_agent_keeps_the_rules_with_as_many_buckets_as_its_description_says() -> None:
    """About 20 with long names."""
    template = agent.generic().document()
    assert audit(template, {"SourceBuckets": sorted(long_names(20))}) == ()
    assert "a pattern of" in str(audit(template, {"SourceBuckets": sorted(long_names(30))}))


@pytest.mark.parametrize("count", [0, 60, 300])
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("ledger", Ledger)
@pytest.mark.parametrize("key", ["", KEY])
def test_monitors_keep_the_rules(count: int, runtime: str, ledger: Ledger, key: str) -> None:
    """D37, D49: wherever the daemon runs, whatever keeps its ledger, and however many buckets and queues there are."""
    wanted = monitor_with(
        runtime=RUNTIMES[runtime],
        agents=AGENTS if count else frozenset(),
        ledger=ledger,
        readable=long_names(count),
        alarm_each=long_names(count),
        topic_key_arn=key,
        table_key_arn=key,
        queue_key_arns=frozenset({key} - {""}),
        alarm_email="ops@example.com",
    )
    assert audit(whole_monitor(wanted)) == ()


def test_the_generic_monitor_keeps_the_rules_with_as_many_buckets_as_its_description_says() -> (
    None
):
    """About 35 with long names, whoever takes the role."""
    template = monitor.generic().document()
    assert audit(template, {"Buckets": sorted(long_names(35))}) == ()
    assert "a policy of" in str(audit(template, {"Buckets": sorted(long_names(45))}))


def test_a_policy_that_is_a_text_is_looked_at() -> None:
    """Where CloudFormation fills in names of conditions, it is one."""
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    added_role = {
        "Type": "AWS::IAM::Role",
        "Properties": {"AssumeRolePolicyDocument": {"Fn::Sub": document}},
    }
    assert added(Other=added_role) == [
        Finding("Other", "a statement: any principal, without a condition")
    ]


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"AWS": ["*"]}])
def test_any_principal_needs_a_condition(principal: Any) -> None:
    """D48."""
    anybody = {"Effect": "Allow", "Principal": principal, "Action": "sqs:SendMessage"}
    assert found(*POLICY, value=anybody | {"Sid": "A", "Resource": "q"}) == [
        "A: any principal, without a condition"
    ]
    limited = anybody | {
        "Resource": "q",
        "Condition": {"StringEquals": {"aws:SourceAccount": "1"}},
    }
    assert found(*POLICY, value=limited) == []


def test_any_resource_is_for_actions_that_have_none() -> None:
    """D49: not for reading whatever buckets there are."""
    allow = {"Effect": "Allow", "Sid": "A", "Resource": "*"}
    namespace = {"StringEquals": {"cloudwatch:namespace": "CRRMonitor"}}
    for statement, texts in (
        (allow | {"Action": "s3:GetObject"}, ["A: s3:GetObject on any resource"]),
        (
            allow | {"Action": "s3:GetObject", "Resource": ["a", "arn:aws:s3:::*/*"]},
            ["A: s3:GetObject on any resource"],
        ),
        (allow | {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::acme-*/*"}, []),
        (
            allow | {"Action": ["ecr:GetAuthorizationToken", "sqs:SendMessage"]},
            ["A: sqs:SendMessage on any resource"],
        ),
        (allow | {"Action": "ecr:GetAuthorizationToken"}, []),
        (allow | {"Action": "cloudwatch:PutMetricData", "Condition": namespace}, []),
        (
            allow | {"Action": "cloudwatch:PutMetricData"},
            ["A: cloudwatch:PutMetricData on any resource, without a condition"],
        ),
    ):
        assert [one.text for one in added(More=role(statement))] == texts


@pytest.mark.parametrize("action", ["*", "s3:*", "sqs:*", "s3:Get*"])
def test_no_actions_by_patterns(action: str) -> None:
    """What AWS adds later would be allowed."""
    statement = {"Effect": "Allow", "Sid": "A", "Action": action, "Resource": "arn:aws:s3:::acme"}
    assert added(More=role(statement)) == [Finding("More", f"A: {action} is any action")]


def test_no_exceptions_in_place_of_names() -> None:
    """Everything but something is whatever there will be."""
    statement = {"Effect": "Allow", "Sid": "A", "NotAction": "iam:*", "NotResource": "a"}
    assert [one.text for one in added(More=role(statement))] == [
        "A: NotAction lets in whatever there will be",
        "A: NotResource lets in whatever there will be",
    ]


def test_a_statement_behind_a_condition_is_looked_at() -> None:
    """Also one that another outcome leaves out."""
    statement = {"Effect": "Allow", "Sid": "A", "Action": "s3:*", "Resource": "a"}
    assert [one.text for one in added(More=role(when("IsForeign", statement)))] == [
        "A: s3:* is any action"
    ]


def test_queues_are_encrypted_and_not_by_a_key_that_shuts_services_out() -> None:
    """By SQS or by a key of the customer's, whichever condition holds."""
    assert found("Queue", "SqsManagedSseEnabled", value=None) == ["no encryption"]
    assert found("Queue", "KmsMasterKeyId", value=None) == ["no encryption"]
    assert found("Queue", "KmsMasterKeyId", value="alias/aws/sqs") == [
        "the key that AWS manages lets no service send"
    ]


def test_topics_are_not_under_the_key_that_alarms_may_not_use() -> None:
    """D37."""
    assert found("AlarmTopic", "KmsMasterKeyId", value="alias/aws/sns") == [
        "the key that AWS manages lets no service send"
    ]


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("BucketEncryption",), None, "no encryption"),
        (
            ("PublicAccessBlockConfiguration", "IgnorePublicAcls"),
            False,
            "public access: not IgnorePublicAcls",
        ),
        (("OwnershipControls",), None, "lists of access are not turned off"),
    ],
)
def test_buckets_are_encrypted_and_private(path: tuple[str, ...], value: Any, text: str) -> None:
    """The log of a trail tells who wrote what."""
    assert found("TrailLogs", *path, value=value) == [text]


@pytest.mark.parametrize(
    "policy", ["QueuePolicy", "DeadLettersPolicy", "AlarmTopicPolicy", "TrailLogsPolicy"]
)
def test_everything_that_is_called_refuses_calls_without_tls(policy: str) -> None:
    """By a policy that names it."""
    statements = SOUND["Resources"][policy]["Properties"]["PolicyDocument"]["Statement"]
    others = [one for one in statements if one.get("Sid") != "OnlyTls"]
    assert found(policy, "PolicyDocument", "Statement", value=others) == [
        "no policy refuses calls without TLS"
    ]
    (naming,) = SOUND["Resources"][policy]["Properties"].keys() - {"PolicyDocument"}
    assert found(policy, naming, value=ref("Other")) == ["no policy refuses calls without TLS"]


def test_what_holds_data_outlives_its_stack() -> None:
    """D50's other half: what is removed without a trace must not be somebody's data."""
    table = {"Type": "AWS::DynamoDB::Table", "DeletionPolicy": "RetainExceptOnCreate"}
    assert added(Table=table) == [Finding("Table", "UpdateReplacePolicy would delete data")]
    assert added(Table=table | {"UpdateReplacePolicy": "Retain"}) == []


def test_rules_have_a_place_for_what_they_cannot_deliver() -> None:
    """Else it is dropped after a day."""
    assert found("NativeRule1", "Targets", 0, "DeadLetterConfig", value=None) == [
        "target crrmon has no dead-letter queue"
    ]


def test_trails_record_no_management_events() -> None:
    """D36: neither because they are asked for, nor because nothing is."""
    selector = {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]}
    for selectors in ([selector], None):
        assert found("Trail", "AdvancedEventSelectors", value=selectors) == [
            "it records more than data events"
        ]


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (
            ("NativeRule1", "EventPattern", "detail", "bucket", "name"),
            ["a" * 2_000],
            "a pattern of 2105 characters is longer than 2048",
        ),
        (
            (*POLICY, "Sid"),
            "a" * 8_000,
            "a policy of",
        ),
        (("Buckets1", "PolicyDocument", "Statement", 0, "Sid"), "a" * 6_000, "a policy of"),
        ((*POLICY, "Action"), ["sqs:SendMessage"] * 8, "8 actions of a statement are more than 7"),
        (
            POLICY[:-1],
            [{"Effect": "Deny", "Action": "sqs:SendMessage", "Resource": "q"}] * 20
            + SOUND["Resources"]["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"][-1:],
            "21 statements are more than 20",
        ),
    ],
)
def test_nothing_is_longer_than_its_quota(path: Any, value: Any, text: str) -> None:
    """AWS would refuse it half way."""
    # Once for each length that it may have.
    texts = found(*path, value=value)
    assert texts
    assert all(one.startswith(text) for one in texts)


def test_a_stack_has_at_most_500_resources_and_a_megabyte() -> None:
    """More is refused as a whole."""
    statement = {"Effect": "Allow", "Sid": "A", "Action": "s3:GetObject", "Resource": "a"}
    many = {f"More{number}": role(statement) for number in range(500)}
    assert [one.text for one in added(**many)] == [
        f"{500 + len(SOUND['Resources'])} resources are more than 500"
    ]
    (large,) = added(
        More={"Type": "AWS::SSM::Parameter", "Properties": {"Value": "a" * 1_000_000}}
    )
    assert "bytes are more than 1000000" in large.text


@pytest.mark.parametrize(
    "kind", ["AWS::Lambda::Function", "Custom::Thing", "AWS::CloudFormation::CustomResource"]
)
def test_no_code_runs_in_anybodys_account(kind: str) -> None:
    """The original had two functions of that kind, and left them behind (D50)."""
    assert added(More={"Type": kind}) == [
        Finding("More", f"{kind} is code that runs in the account")
    ]
    assert audit(SOUND | {"Transform": "AWS::Serverless-2016-10-31"}) == (
        Finding("", "a transform is code that runs in the account"),
    )
