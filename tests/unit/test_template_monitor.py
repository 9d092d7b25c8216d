"""The monitor's template: what is in it for whom, what the daemon may do, and what a change changes."""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.adapters.stores.dynamodb import table as dynamodb_table
from crrmon.domain.catalogue import CLOUDWATCH_METRICS
from crrmon.domain.deployment import quotas
from crrmon.domain.deployment.names import Names
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import alarms, monitor, queues
from crrmon.domain.templates.alarms import TooManyAlarmsError
from crrmon.domain.templates.bucket_access import TooManyBucketsError
from crrmon.domain.templates.daemon_access import TooManyAgentsError
from crrmon.domain.templates.monitor import Ledger, Monitor, filled_in, layout_of
from crrmon.domain.templates.runtimes import Irsa, PodIdentity
from fakes.agent_templates import FOREIGN, KEY, MONITOR
from fakes.buckets import long_names
from fakes.cloudformation import listed, properties
from fakes.made_stacks import made, statements
from fakes.monitor_templates import AGENTS, ISSUER, PROVIDER, RUNTIMES, monitor_with, whole

ACCOUNT = MONITOR.account
BUCKETS = st.frozensets(st.from_regex(r"\A[a-d]{3,8}\Z"), max_size=12)


def made_for(**fields: Any) -> dict[str, Any]:
    return made(whole(monitor_with(**fields)), MONITOR)


def allowed(resources: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all statements of all managed policies; those of one name together."""
    found: dict[str, dict[str, Any]] = {}
    for resource in resources.values():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            for name, one in statements(resource).items():
                found.setdefault(name, one | {"Resource": []})["Resource"] += listed(
                    one["Resource"]
                )
    return found


def actions(sids: Mapping[str, Any]) -> set[str]:
    return {action for one in sids.values() for action in one["Action"]}


# ---- who may take the role ----


def trust_of(resources: Mapping[str, Any]) -> dict[str, Any]:
    document = resources["Role"]["Properties"]["AssumeRolePolicyDocument"]
    (statement,) = (json.loads(document) if isinstance(document, str) else document)["Statement"]
    return dict(statement)


def test_one_service_account_takes_the_role_by_its_clusters_provider() -> None:
    """IRSA: the issuer's conditions name the service account and the audience."""
    trust = trust_of(made_for(runtime=RUNTIMES["irsa"]))
    assert trust["Principal"] == {"Federated": PROVIDER}
    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert trust["Condition"] == {
        "StringEquals": {
            f"{ISSUER}:aud": "sts.amazonaws.com",
            f"{ISSUER}:sub": "system:serviceaccount:watch:acme",
        }
    }


def test_one_service_account_takes_the_role_by_pod_identity() -> None:
    """The session is tagged with where it comes from, and only one place will do."""
    trust = trust_of(made_for(runtime=RUNTIMES["pod-identity"]))
    assert trust["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert trust["Action"] == ["sts:AssumeRole", "sts:TagSession"]
    namespace = {
        "aws:RequestTag/kubernetes-namespace": "watch",
        "aws:RequestTag/kubernetes-service-account": "acme",
    }
    assert trust["Condition"]["StringEquals"] == namespace | {
        "aws:RequestTag/eks-cluster-name": "prod"
    }
    anywhere = PodIdentity(namespace="watch", service_account="acme")
    assert trust_of(made_for(runtime=anywhere))["Condition"]["StringEquals"] == namespace


def test_tasks_of_the_account_and_region_take_the_role() -> None:
    """So that ECS does it for nobody else."""
    trust = trust_of(made_for(runtime=RUNTIMES["ecs"]))
    assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:ecs:eu-west-1:{ACCOUNT}:*"},
    }


def test_an_instance_takes_the_role_by_a_profile() -> None:
    """Only there is one."""
    resources = made_for(runtime=RUNTIMES["instance"])
    assert trust_of(resources)["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert resources["InstanceProfile"]["Properties"] == {
        "InstanceProfileName": "acme-monitor",
        "Roles": ["${Role}"],
    }
    assert "InstanceProfile" not in made_for()


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "none"])
def test_the_generic_template_trusts_whom_the_filled_in_one_trusts(runtime: str) -> None:
    """Though it writes IRSA's policy as a text, as CloudFormation fills in no names of conditions."""
    generic = made(
        monitor.generic().document(),
        MONITOR,
        Deployment="acme",
        Runtime=runtime,
        OidcProviderArn=PROVIDER if runtime == "irsa" else "",
        Namespace="watch",
        ServiceAccount="acme",
        ClusterName="prod",
    )
    filled = made_for(runtime=RUNTIMES[runtime])
    assert trust_of(generic) == trust_of(filled)
    assert ("InstanceProfile" in generic) == ("InstanceProfile" in filled)


def test_a_daemon_with_a_role_of_its_own_is_given_policies_to_attach() -> None:
    """No role is made, and the stack says which policies there are."""
    template = whole(monitor_with(runtime=None, readable=frozenset({"acme-src"})))
    resources = made(template, MONITOR)
    policies = {"Daemon1", "Buckets1"}

    assert "Role" not in resources
    assert all("Roles" not in resources[name]["Properties"] for name in policies)
    assert {f"{name}Arn" for name in policies} <= template["Outputs"].keys()
    generic = made(monitor.generic().document(), MONITOR, Runtime="none", Buckets="acme-src")
    assert "Role" not in generic
    assert all("Roles" not in generic[name]["Properties"] for name in policies)


def test_a_provider_without_an_issuer_is_refused() -> None:
    """The condition would name nobody, and AWS would say so only minutes later."""
    with pytest.raises(ValueError, match="list-open-id-connect-providers"):
        Irsa(provider_arn="arn:aws:iam::123456789012:role/x", namespace="a", service_account="b")


# ---- what the daemon may do ----


@pytest.mark.parametrize("count", [0, 60, 300])
def test_d49_the_daemon_reads_objects_of_the_named_buckets_alone(count: int) -> None:
    """Defect D49 of the original: whoever read the status of objects could read all data of the account."""
    names = long_names(count)
    found = allowed(made_for(readable=names))
    reading = {
        name for name, one in found.items() if any("GetObject" in two for two in one["Action"])
    }

    assert reading == ({"Status"} if count else set())
    if count:
        assert sorted(found["Status"]["Resource"]) == [
            f"arn:aws:s3:::{one}/*" for one in sorted(names)
        ]
        assert sorted(found["Rules"]["Resource"]) == [
            f"arn:aws:s3:::{one}" for one in sorted(names)
        ]


def test_the_daemon_may_do_what_the_service_on_ecs_may() -> None:
    """Whose actions are compared with the daemon's calls; the table's key alone is new."""
    found = allowed(
        made_for(
            readable=frozenset({"acme-src"}),
            queue_key_arns=frozenset({KEY}),
            table_key_arn=KEY,
        )
    )
    (service,) = properties("TaskRole")["Policies"]
    others = [
        one["Fn::If"][1] if "Fn::If" in one else one
        for one in service["PolicyDocument"]["Statement"]
    ]
    del found["TableKey"]
    assert actions(found) == {action for one in others for action in listed(one["Action"])}


def test_each_queue_is_named_and_dead_letters_are_only_counted() -> None:
    """In all accounts and regions; those of other accounts let the role in, too."""
    found = allowed(made_for())
    queue_arns = {f"arn:aws:sqs:{one.region}:{one.account}:acme-events" for one in AGENTS}

    assert set(found["Queue"]["Resource"]) == queue_arns
    assert set(found["Depth"]["Resource"]) == queue_arns | {f"{arn}-dead" for arn in queue_arns}
    assert actions({"": found["Depth"]}) == {"sqs:GetQueueAttributes", "sqs:GetQueueUrl"}
    assert not {"Queue", "Depth", "Accounts"} & allowed(made_for(agents=frozenset())).keys()


def test_the_monitors_role_is_whom_the_agents_queues_let_in() -> None:
    """By what the two templates call it."""
    role = made_for()["Role"]["Properties"]["RoleName"]
    named = queues.monitor_as_caller()["Condition"]["ArnEquals"]["aws:PrincipalArn"]
    assert role == Names("acme").monitor_role
    assert str(named).count("role/${Deployment}-monitor") == 1


def test_roles_are_taken_in_other_accounts_alone() -> None:
    """In its own the daemon's own role does."""
    assert allowed(made_for())["Accounts"]["Resource"] == [
        f"arn:aws:iam::{FOREIGN.account}:role/acme-agent"
    ]
    assert "Accounts" not in allowed(made_for(agents=frozenset({MONITOR})))


def test_metrics_go_to_one_namespace() -> None:
    """CloudWatch has no resource that could be named."""
    found = allowed(made_for(metric_namespace="Acme"))["Metrics"]
    assert found["Resource"] == ["*"]
    assert found["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Acme"}}


def test_keys_of_queues_and_table_are_used_as_far_as_they_are_needed() -> None:
    """The table's by way of DynamoDB alone; without keys there is no statement on any."""
    found = allowed(made_for(queue_key_arns=frozenset({KEY}), table_key_arn=f"{KEY}1"))
    assert (found["QueueKeys"]["Action"], found["QueueKeys"]["Resource"]) == (
        ["kms:Decrypt"],
        [KEY],
    )
    assert found["TableKey"]["Resource"] == [f"{KEY}1"]
    assert found["TableKey"]["Condition"] == {
        "StringEquals": {"kms:ViaService": "dynamodb.eu-west-1.${AWS::URLSuffix}"}
    }
    assert not {"QueueKeys", "TableKey"} & allowed(made_for()).keys()


def test_the_generic_template_lets_the_daemon_in_to_what_parameters_name() -> None:
    """Queues of its own account by their name, in whatever region."""
    document = monitor.generic().document()
    other = f"arn:aws:sqs:us-east-1:{FOREIGN.account}:acme-events"
    lists = {
        "Buckets": ["acme-src", "acme-dst"],
        "AgentRoleArns": [f"arn:aws:iam::{FOREIGN.account}:role/acme-agent"],
        "OtherQueueArns": [other, f"{other}-dead"],
        "QueueKmsKeyArns": [KEY],
    }
    resources = made(document, MONITOR, Deployment="acme", Runtime="ecs", **lists)
    found = allowed(resources)
    bare = allowed(made(document, MONITOR, Deployment="acme", Runtime="ecs"))

    assert found["Queue"]["Resource"] == [f"arn:aws:sqs:*:{ACCOUNT}:acme-events"]
    assert found["GivenQueues"]["Resource"] == [other, f"{other}-dead"]
    assert found["Accounts"]["Resource"] == [f"arn:aws:iam::{FOREIGN.account}:role/acme-agent"]
    assert found["QueueKeys"]["Resource"] == [KEY]
    assert found["Status"]["Resource"] == ["arn:aws:s3:::acme-src/*", "arn:aws:s3:::acme-dst/*"]
    assert bare.keys() == {"Queue", "Depth", "Metrics", "Ledger"}
    filled = allowed(made_for(readable=frozenset({"acme-src"}), queue_key_arns=frozenset({KEY})))
    assert actions(found) == actions(filled)


# ---- the ledger ----


def test_the_table_is_as_the_command_makes_it() -> None:
    """And stays when the stack goes, for what is pending is recorded nowhere else."""
    table = made_for()["Table"]
    requests = dynamodb_table.description("acme-ledger", {})
    assert table["Properties"] == {
        **requests["CreateTable"],
        "TimeToLiveSpecification": requests["UpdateTimeToLive"]["TimeToLiveSpecification"],
        "PointInTimeRecoverySpecification": requests["UpdateContinuousBackups"][
            "PointInTimeRecoverySpecification"
        ],
        "DeletionProtectionEnabled": False,
    }
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == (
        "RetainExceptOnCreate",
        "Retain",
    )


def test_the_name_of_the_table_is_written_out_and_the_deployments_is_fixed() -> None:
    """A stack takes over a table that is there only if its name is in the text, without any function."""
    template = whole(monitor_with())
    assert template["Resources"]["Table"]["Properties"]["TableName"] == "acme-ledger"
    assert template["Parameters"]["Deployment"]["AllowedValues"] == ["acme"]
    assert "AllowedValues" not in monitor.generic().document()["Parameters"]["Deployment"]
    generic = made(monitor.generic().document(), MONITOR, Deployment="acme", Runtime="ecs")
    assert generic["Table"] == made_for()["Table"] | {"Condition": "MakesTable"}


def test_the_table_is_protected_and_encrypted_as_somebody_wants() -> None:
    """With a key of the customer's."""
    wanted = made_for(protects_table=True, table_key_arn=KEY)["Table"]["Properties"]
    assert wanted["DeletionProtectionEnabled"] is True
    assert wanted["SSESpecification"] == {
        "SSEEnabled": True,
        "SSEType": "KMS",
        "KMSMasterKeyId": KEY,
    }


@pytest.mark.parametrize(
    ("fields", "generic", "table"),
    [
        ({}, {}, "acme-ledger"),
        ({"existing_table": "mine"}, {"LedgerTable": "mine"}, "mine"),
        ({"ledger": Ledger.OTHER}, {"Ledger": "other"}, None),
    ],
)
def test_the_daemon_keeps_its_ledger_in_the_table_that_there_is(
    fields: Any, generic: Any, table: str | None
) -> None:
    """Made here, there already, or none; the same in both templates."""
    arn = f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/{table}"
    chosen = made(
        monitor.generic().document(), MONITOR, Deployment="acme", Runtime="ecs", **generic
    )
    for resources in (made_for(**fields), chosen):
        found = allowed(resources)
        assert ("Table" in resources) is (table == "acme-ledger")
        assert ("Ledger" in found) is (table is not None)
        if table is not None:
            assert found["Ledger"]["Resource"] == [arn, f"{arn}/index/*"]
    outputs = whole(monitor_with(**fields))["Outputs"]
    assert outputs.get("TableName", {}).get("Value") == table


# ---- who is told of what ----


@pytest.mark.parametrize("key", ["", KEY])
def test_d37_every_alarm_reaches_its_topic(key: str) -> None:
    """Defect D37 of the original: its topic had the key that AWS manages, which CloudWatch may not use."""
    resources = made_for(topic_key_arn=key, alarm_email="ops@example.com", not_covered_threshold=0)
    topic = resources["Topic"]["Properties"]
    (alarms_may, only_tls) = resources["TopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]

    assert topic == {"TopicName": "acme-alarms"} | ({"KmsMasterKeyId": key} if key else {})
    assert alarms_may["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert alarms_may["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert (only_tls["Effect"], only_tls["Action"]) == ("Deny", "sns:Publish")
    assert resources["Mail"]["Properties"]["Endpoint"] == "ops@example.com"
    found = [one for one in resources.values() if one["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(found) == 5
    for alarm in found:
        told = alarm["Properties"]
        assert told["AlarmActions"] == told["OKActions"] == ["${Topic}"]
        assert " docs/runbook.md#crrmon" in told["AlarmDescription"]


def test_d37_no_parameter_takes_the_key_that_aws_manages() -> None:
    """It is known by its alias alone, and an alias is no key's ARN."""
    for template in (monitor.generic().document(), whole(monitor_with())):
        pattern = template["Parameters"]["TopicKmsKeyArn"]["AllowedPattern"]
        assert re.search(pattern, KEY)
        for alias in ("alias/aws/sns", f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/aws/sns"):
            assert not re.search(pattern, alias)


def _when(alarm: Mapping[str, Any]) -> tuple[Any, ...]:
    told = alarm["Properties"]
    names = ("ComparisonOperator", "Threshold", "EvaluationPeriods", "DatapointsToAlarm")
    return (*map(told.get, names), told["TreatMissingData"])


def test_alarms_go_on_when_they_should() -> None:
    """Each by its whole condition; failures for an hour, for windows may come late when CloudWatch was away."""
    over, under = "GreaterThanThreshold", "LessThanThreshold"
    resources = made_for(
        not_covered_threshold=7,
        failed_threshold=1,
        stuck_threshold=2,
        queue_age_seconds=600,
        heartbeat_periods=4,
    )
    assert {
        name: _when(one)
        for name, one in resources.items()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    } == {
        "FailedReplicationsAlarm": (over, 1, 12, 1, "notBreaching"),
        "StuckObjectsAlarm": (over, 2, 3, 2, "notBreaching"),
        "NotCoveredAlarm": (over, "7", 3, 2, "notBreaching"),
        "QueueAgeAlarm": (over, 600, 3, None, "notBreaching"),
        "HeartbeatAlarm": (under, 1, 4, None, "breaching"),
    }
    assert "NotCoveredAlarm" not in made_for()


def test_alarms_on_buckets_ask_for_metrics_that_exist_and_name_the_bucket() -> None:
    """One bucket that keeps failing does not hide the next: each is in the alarm by itself."""
    known = {one.name: one.dimensions for one in CLOUDWATCH_METRICS}
    resources = made_for(not_covered_threshold=0, metric_namespace="Acme")
    names = ("FailedReplicationsAlarm", "StuckObjectsAlarm", "NotCoveredAlarm")
    for name in names:
        (query,) = resources[name]["Properties"]["Metrics"]
        parts = re.fullmatch(
            r'SELECT (SUM|MAX)\((\w+)\) FROM SCHEMA\("Acme", ([\w, ]+)\) GROUP BY ([\w, ]+) ORDER BY (\w+)\(\) DESC',
            query["Expression"],
        )
        assert parts is not None, query
        assert known[parts[2]] == tuple(parts[3].split(", "))
        assert (parts[3], parts[1]) == (parts[4], parts[5])
    for name, metric in (("QueueAgeAlarm", "QueueAge"), ("HeartbeatAlarm", "Heartbeat")):
        told = resources[name]["Properties"]
        assert (told["Namespace"], told["MetricName"]) == ("Acme", metric)
        assert told["Dimensions"] == [{"Name": "Monitor", "Value": "acme"}]


def each(**resources: Any) -> dict[str, Any]:
    """Return the alarms of single buckets, by bucket."""
    return {
        one["Properties"]["Dimensions"][0]["Value"]: {"name": name, **one}
        for name, one in resources.items()
        if name.startswith("FailedReplicationsAlarm") and "Metrics" not in one["Properties"]
    }


def test_each_bucket_has_an_alarm_of_its_own_where_somebody_wants_that() -> None:
    """In place of the one for all, which would tell of everything twice."""
    names = frozenset({"acme-src", "acme.src"})
    resources = made_for(alarm_each=names)
    found = each(**resources)

    assert found.keys() == names
    assert "FailedReplicationsAlarm" not in resources
    told = found["acme-src"]["Properties"]
    assert (told["AlarmName"], told["Statistic"]) == ("acme-failed-acme-src", "Sum")
    assert all(re.fullmatch("[A-Za-z0-9]{1,255}", one["name"]) for one in found.values())


def test_alarms_of_buckets_are_made_few_at_once() -> None:
    """CloudWatch takes three a second: of 300 alarms no more than ten wait for none, and none waits in a circle."""
    found = each(**made_for(alarm_each=long_names(300)))
    waits = {one["name"]: one.get("DependsOn") for one in found.values()}
    first = [name for name, other in waits.items() if other is None]
    followed = [other for other in waits.values() if other is not None]

    assert len(first) <= 10
    assert len(followed) == len(set(followed)) == 300 - len(first)
    assert set(followed) < waits.keys()
    for name, waited_for in waits.items():
        seen, one = {name}, waited_for
        while one is not None:
            assert one not in seen
            seen.add(one)
            one = waits[one]


@given(BUCKETS, st.from_regex(r"\A[a-d]{3,8}\Z"))
def test_one_alarm_more_makes_one_other_wait_at_most(buckets: frozenset[str], more: str) -> None:
    """Whatever the names."""
    before = each(**alarms.monitor("t", buckets | {"zz"}).resources)
    after = each(**alarms.monitor("t", buckets | {"zz", more}).resources)
    changed = [name for name, one in before.items() if after[name] != one]
    assert len(changed) <= 1
    assert after.keys() - before.keys() == {more} - buckets


def test_more_alarms_than_a_stack_has_room_for_are_refused() -> None:
    """With what to do; as many as there is room for fit."""
    assert len(filled_in(monitor_with(alarm_each=long_names(400))).resources) <= 500
    with pytest.raises(TooManyAlarmsError, match=r"401 buckets .* use the one alarm"):
        filled_in(monitor_with(alarm_each=long_names(401)))


def test_the_dashboard_shows_every_metric_and_the_queues_of_the_own_account() -> None:
    """Those of other accounts would be empty without a sharing that is not ours to set up."""
    body = made_for()["Dashboard"]["Properties"]["DashboardBody"]
    shown = set(re.findall(r"MetricName=\\\"(\w+)\\\"", body))
    assert shown == {one.name for one in CLOUDWATCH_METRICS}
    assert 'Monitor=\\"acme\\"' in body
    assert "${" not in body
    lines = [
        line
        for one in json.loads(body)["widgets"]
        for line in one["properties"].get("metrics", [])
        if line[0] == "AWS/SQS"
    ]
    assert {line[-1]["region"] for line in lines} == {
        one.region for one in AGENTS if one.account == ACCOUNT
    }
    assert {line[3] for line in lines} == {"acme-events", "acme-events-dead"}
    assert FOREIGN.account not in body
    alone = made_for(agents=frozenset({FOREIGN}))["Dashboard"]["Properties"]["DashboardBody"]
    assert "Queues" not in alone


# ---- how much fits, and what changes ----


def policies_of(template: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: one
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::IAM::ManagedPolicy"
    }


def places(count: int, accounts: int = 3) -> frozenset[Place]:
    """Return as many places, in so many accounts."""
    return frozenset(
        Place(account=f"{number % accounts:012}", region=f"ap-southeast-{number}")
        for number in range(count)
    )


def test_300_buckets_of_the_own_account_fit_beside_the_queues() -> None:
    """With the longest names there are."""
    found = policies_of(whole(monitor_with(readable=long_names(300))))
    assert len(found) <= quotas.MANAGED_POLICIES_PER_ROLE


def test_many_queues_take_several_policies() -> None:
    """All are named, and what else the daemon may do is in the first alone."""
    agents = places(60)
    resources = made_for(agents=agents)
    found = policies_of({"Resources": resources})

    assert set(found) == {"Daemon1", "Daemon2", "Daemon3"}
    assert len(allowed(resources)["Queue"]["Resource"]) == 60
    assert [name for name, one in found.items() if "Metrics" in statements(one)] == ["Daemon1"]


def test_more_than_a_role_can_be_let_in_to_is_refused() -> None:
    """Each with what to do."""
    for fields, error in (
        ({"agents": places(400)}, TooManyAgentsError),
        ({"agents": places(150, accounts=150)}, TooManyAgentsError),
        ({"readable": long_names(400)}, TooManyBucketsError),
    ):
        with pytest.raises(error, match=r"deploy crrmon more than once|patterns such as"):
            filled_in(monitor_with(**fields))


@given(BUCKETS, st.integers(0, 60))
def test_where_names_are_can_be_read_from_the_template(
    buckets: frozenset[str], count: int
) -> None:
    """And a template that is made after it is the same."""
    wanted = monitor_with(readable=buckets, agents=places(count))
    template = whole(wanted)
    layout = layout_of(template)

    assert {one for names in layout.readable.values() for one in names} == buckets
    assert {one for names in layout.queues.values() for one in names} == {
        f"{one.account}:{one.region}" for one in wanted.agents
    }
    assert whole(wanted, layout) == template


@given(st.integers(1, 60), st.data())
def test_one_agent_more_or_less_changes_one_policy(count: int, data: Any) -> None:
    """Besides what names accounts, and the dashboard."""
    agents = places(count)
    gone = data.draw(st.sampled_from(sorted(agents)))
    everything = whole(monitor_with(agents=agents))
    less = whole(monitor_with(agents=agents - {gone}), layout_of(everything))
    again = whole(monitor_with(agents=agents), layout_of(less))

    for one, other in ((everything, less), (less, again)):
        first, second = policies_of(one), policies_of(other)
        changed = {
            name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
        }
        assert len(changed - {"Daemon1"}) <= 1
    assert {one for names in layout_of(again).queues.values() for one in names} == {
        f"{one.account}:{one.region}" for one in agents
    }


def test_one_bucket_more_changes_one_policy() -> None:
    """It goes where there is room."""
    names = long_names(100)
    before = whole(monitor_with(readable=names))
    after = whole(monitor_with(readable=names | {"acme-new"}), layout_of(before))
    resources = before["Resources"]
    changed = [name for name, one in after["Resources"].items() if resources.get(name) != one]
    assert len(changed) == 1
    assert changed[0].startswith("Buckets")


def test_the_same_monitor_has_the_same_text() -> None:
    """Or CloudFormation would see changes in what did not change."""
    one = monitor_with(readable=long_names(60), alarm_each=long_names(60))
    other = msgspec.structs.replace(
        one,
        readable=frozenset(sorted(one.readable, reverse=True)),
        agents=frozenset(sorted(one.agents, reverse=True)),
    )
    assert filled_in(one).body() == filled_in(other).body()


def test_the_service_and_people_find_what_there_is_by_its_outputs() -> None:
    """Each exported under the deployment's name."""
    outputs = whole(monitor_with())["Outputs"]
    assert {name: one["Export"]["Name"] for name, one in outputs.items()} == {
        name: {"Fn::Sub": f"${{Deployment}}-{name}"}
        for name in ("DashboardName", "MetricNamespace", "RoleArn", "TableName", "TopicArn")
    }


def test_a_stack_is_told_by_the_parameters_that_it_has() -> None:
    """And each of them is what the monitor was to be."""
    wanted = Monitor(
        deployment=monitor_with().deployment,
        runtime=None,
        metric_namespace="Acme",
        alarm_email="ops@example.com",
        topic_key_arn=KEY,
        table_key_arn=KEY,
        failed_threshold=1,
        stuck_threshold=2,
        not_covered_threshold=3,
        queue_age_seconds=60,
        heartbeat_periods=5,
        protects_table=True,
    )
    parameters = filled_in(wanted).parameters
    assert {name: one.default for name, one in parameters.items()} == wanted.parameters
