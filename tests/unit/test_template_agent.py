"""The agent's template: what is in it for whom, and what a change of its buckets changes."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.deployment.names import Deployment, Names
from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import agent, bucket_access
from crrmon.domain.templates.agent import Agent, filled_in, layout_of
from crrmon.domain.templates.bucket_access import TooManyBucketsError
from fakes.agent_templates import FOREIGN, HERE, KEY, MONITOR, agent_with, whole
from fakes.buckets import long_names
from fakes.made_stacks import made, statements

NAMES = st.frozensets(st.from_regex(r"\A[a-d]{3,8}\Z"), max_size=12)


def made_for(**fields: Any) -> dict[str, Any]:
    wanted = agent_with(**fields)
    return made(whole(wanted), wanted.place)


# ---- who is let in ----


def test_the_queue_lets_in_buckets_of_its_account_and_rules_of_the_deployment() -> None:
    """D48: the original's let in any service; ours lets nobody in without a condition, and nobody read."""
    allowed = statements(made_for()["QueuePolicy"])

    assert set(allowed) == {"Notifications", "Rules", "OnlyTls"}
    assert allowed["Notifications"]["Condition"] == {
        "StringEquals": {"aws:SourceAccount": MONITOR.account},
        "ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"},
    }
    assert allowed["Rules"]["Condition"]["ArnLike"]["aws:SourceArn"] == [
        f"arn:aws:events:eu-west-1:{MONITOR.account}:rule/acme-native-*",
        f"arn:aws:events:eu-west-1:{MONITOR.account}:rule/acme-trail-*",
    ]
    assert {one["Action"] for one in allowed.values() if one["Effect"] == "Allow"} == {
        "sqs:SendMessage"
    }


def test_the_queues_of_a_foreign_account_let_the_monitors_role_in_and_nobody_else() -> None:
    """By its account with its name as the condition, since the role need not exist yet."""
    resources = made_for(place=FOREIGN)
    for policy, receives in (("QueuePolicy", True), ("DeadLettersPolicy", False)):
        monitor = statements(resources[policy])["Monitor"]
        assert monitor["Principal"] == {"AWS": f"arn:aws:iam::{MONITOR.account}:root"}
        assert monitor["Condition"] == {
            "ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{MONITOR.account}:role/acme-monitor"}
        }
        assert ("sqs:ReceiveMessage" in monitor["Action"]) is receives


def test_a_role_of_ones_own_takes_the_place_of_the_monitors() -> None:
    """At the queues and in the trust of the role."""
    arn = f"arn:aws:iam::{MONITOR.account}:role/teams/watch"
    resources = made_for(place=FOREIGN, monitor_role_arn=arn, external_id="acme-42")
    (trust,) = resources["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]

    only = {"ArnEquals": {"aws:PrincipalArn": arn}}
    assert statements(resources["QueuePolicy"])["Monitor"]["Condition"] == only
    assert trust["Condition"] == only | {"StringEquals": {"sts:ExternalId": "acme-42"}}


def test_there_is_one_role_in_a_foreign_account_and_none_in_the_monitors() -> None:
    """Roles have no region: only one stack of an account makes it, and lets it in to the buckets of all regions."""
    here = Place(account=FOREIGN.account, region="us-east-1")
    names = frozenset({"acme-us", "acme-eu"})
    resources = made_for(place=FOREIGN, readable=names)

    assert resources["Role"]["Properties"]["RoleName"] == "acme-agent"
    assert "StringEquals" not in str(resources["Role"]["Properties"])
    allowed = statements(resources["Buckets1"])
    assert allowed["Status"]["Resource"] == ["arn:aws:s3:::acme-eu/*", "arn:aws:s3:::acme-us/*"]
    assert allowed["Rules"]["Resource"] == ["arn:aws:s3:::acme-eu", "arn:aws:s3:::acme-us"]
    for other in (agent_with(place=here, readable=names), agent_with(readable=names)):
        # Not even in the text, which would be as long again for nothing.
        assert not {"Role", "Buckets1"} & filled_in(other).resources.keys()


def test_named_roles_are_those_of_the_names() -> None:
    """Template and names say the same, filled in."""
    resources = made_for(native=frozenset({"a-b"}), trail=frozenset({"c-d"}), place=FOREIGN)
    names = Names("acme")
    assert [
        resources["Queue"]["Properties"]["QueueName"],
        resources["DeadLetters"]["Properties"]["QueueName"],
        resources["NativeRule1"]["Properties"]["Name"],
        resources["TrailRule1"]["Properties"]["Name"],
        resources["TrailBatchesRule"]["Properties"]["Name"],
        resources["Trail"]["Properties"]["TrailName"],
        resources["AlarmTopic"]["Properties"]["TopicName"],
    ] == [
        names.queue,
        names.dead_letters,
        names.native_rule(1),
        names.trail_rule(1),
        names.batch_rule,
        names.trail,
        names.agent_topic,
    ]


# ---- what is made ----


def test_a_customers_key_takes_the_place_of_sqs_own_encryption() -> None:
    """At both queues; one of the two is always there."""
    for key in ("", KEY):
        resources = made_for(queue_key_arn=key)
        for queue in ("Queue", "DeadLetters"):
            properties = resources[queue]["Properties"]
            assert properties.get("KmsMasterKeyId", "") == key
            assert properties.get("SqsManagedSseEnabled", False) is not bool(key)


def test_what_is_dead_comes_from_the_queue_alone() -> None:
    """And rules put there what they could not deliver."""
    resources = made_for(native=frozenset({"acme"}))
    allowed = resources["DeadLetters"]["Properties"]["RedriveAllowPolicy"]
    assert allowed["sourceQueueArns"] == [f"arn:aws:sqs:eu-west-1:{MONITOR.account}:acme-events"]
    (target,) = resources["NativeRule1"]["Properties"]["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": "${DeadLetters.Arn}"}


def test_rules_come_after_the_policies_that_let_them_send() -> None:
    """Else the first events are lost."""
    resources = made_for(native=frozenset({"acme"}), trail=frozenset({"acme-2"}))
    rules = [one for one in resources.values() if one["Type"] == "AWS::Events::Rule"]
    assert [one["DependsOn"] for one in rules] == [["DeadLettersPolicy", "QueuePolicy"]] * 3


def test_the_alarm_tells_a_topic_of_its_own_unless_there_is_one() -> None:
    """D37: under no key that AWS manages, which CloudWatch may not use."""
    own = made_for(alarm_email="ops@example.com")
    assert own["DeadLettersAlarm"]["Properties"]["AlarmActions"] == ["${AlarmTopic}"]
    assert own["AlarmMail"]["Properties"]["Endpoint"] == "ops@example.com"
    assert "KmsMasterKeyId" not in own["AlarmTopic"]["Properties"]

    topic = "arn:aws:sns:eu-west-1:123456789012:ops"
    given_one = made_for(alarm_topic_arn=topic, alarm_email="ops@example.com")
    assert given_one["DeadLettersAlarm"]["Properties"]["AlarmActions"] == [topic]
    assert not {"AlarmTopic", "AlarmTopicPolicy", "AlarmMail"} & given_one.keys()
    assert "AlarmMail" not in made_for()


def test_a_trail_comes_with_its_bucket_and_records_the_buckets_named() -> None:
    """Data events of writes only; its files go after a week."""
    resources = made_for(trail=frozenset({"acme-2", "acme-1"}), trail_retention_days=3)
    selected = resources["Trail"]["Properties"]["AdvancedEventSelectors"][0]["FieldSelectors"]
    assert {
        "Field": "resources.ARN",
        "StartsWith": ["arn:aws:s3:::acme-1/", "arn:aws:s3:::acme-2/"],
    } in selected
    (rule,) = resources["TrailLogs"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == 3
    assert "Trail" not in made_for(native=frozenset({"acme"}))


def test_switches_that_the_deployment_turns_on_stand_at_their_rule() -> None:
    """Nothing else remembers them."""
    names = long_names(40)
    ours = frozenset(itertools.islice(sorted(names), 10, 35))
    resources = whole(agent_with(native=names, switched=ours))["Resources"]
    remembered = {
        logical: one["Metadata"]["crrmon"]["switched"]
        for logical, one in resources.items()
        if one["Type"] == "AWS::Events::Rule"
    }
    assert sorted(itertools.chain(*remembered.values())) == sorted(ours)
    for logical, switched in remembered.items():
        pattern = resources[logical]["Properties"]["EventPattern"]
        assert set(switched) <= set(pattern["detail"]["bucket"]["name"])
    with pytest.raises(ValueError, match="no rule would remember the switch of acme"):
        filled_in(agent_with(switched=frozenset({"acme"})))


def test_equal_agents_have_equal_texts() -> None:
    """Sets have no order; the text has, the same in each process."""
    names = long_names(50)
    one = agent_with(native=frozenset(sorted(names)), trail=names)
    two = agent_with(native=frozenset(sorted(names, reverse=True)), trail=names)
    assert filled_in(one).body() == filled_in(two).body()
    lists = re.findall(r'"(?:name|ARN|StartsWith)":(\[[^]]*\])', filled_in(one).body())
    assert len(lists) == 7
    for text in lists:
        values = [str(value) for value in msgspec.json.decode(text)]
        assert values == sorted(values)


def test_a_template_with_many_long_names_must_lie_in_a_bucket() -> None:
    """With few it can be sent as it is."""
    assert not filled_in(agent_with(native=long_names(60))).needs_bucket
    assert filled_in(agent_with(trail=long_names(300))).needs_bucket


def test_parameters_have_what_the_agent_is_told_as_their_defaults() -> None:
    """So nobody need give any; each takes its default."""
    wanted = agent_with(place=FOREIGN, queue_key_arn=KEY, trail=frozenset({"acme"}))
    template = filled_in(wanted)
    assert template.defaults == {name: str(value) for name, value in wanted.parameters.items()}
    for name, parameter in template.parameters.items():
        if parameter.pattern:
            assert re.search(parameter.pattern, str(parameter.default)), name


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Deployment", "a" * 21),
        ("Deployment", "a--b"),
        ("MonitorAccountId", ""),
        ("MonitorRoleArn", "acme"),
        ("QueueKmsKeyArn", "alias/aws/sqs"),
        ("AlarmTopicArn", "ops"),
        ("AlarmEmail", "ops"),
        ("RoleRegion", ""),
        ("SourceBuckets", "arn:aws:s3:::acme"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_made(name: str, wrong: str) -> None:
    """With what they must be."""
    parameter = agent.generic().parameters[name]
    assert parameter.pattern is not None
    assert not re.search(parameter.pattern, wrong)
    assert parameter.constraint


# ---- changes ----


def changed(one: Mapping[str, Any], two: Mapping[str, Any]) -> set[str]:
    names = one["Resources"].keys() | two["Resources"].keys()
    return {name for name in names if one["Resources"].get(name) != two["Resources"].get(name)}


@pytest.mark.parametrize(
    ("field", "kind"), [("native", "NativeRule"), ("trail", "TrailRule"), ("readable", "Buckets")]
)
def test_one_bucket_more_changes_one_resource(field: str, kind: str) -> None:
    """D34: though its name comes before all others, and all documents but the last are full."""
    names = long_names(200)
    before = whole(agent_with(place=FOREIGN, **{field: names}))
    more = agent_with(place=FOREIGN, **{field: names | {"a" * 63}})
    after = whole(more, layout_of(before))

    assert [name for name in changed(before, after) if name != "Trail"] == [
        next(name for name in changed(before, after) if name.startswith(kind))
    ]
    assert whole(agent_with(place=FOREIGN, **{field: names}), layout_of(after)) == before


@given(NAMES, NAMES, NAMES)
def test_where_buckets_are_is_read_back(
    native: frozenset[str], trail: frozenset[str], readable: frozenset[str]
) -> None:
    """A template of the same agent, made on what is read, is the same."""
    wanted = agent_with(place=FOREIGN, native=native, trail=trail, readable=readable)
    template = whole(wanted)
    layout = layout_of(template)
    for chunks, names in (
        (layout.native, native),
        (layout.trail, trail),
        (layout.readable, readable),
    ):
        assert sorted(itertools.chain(*chunks.values())) == sorted(names)
    assert whole(wanted, layout) == template


def test_policies_with_gaps_are_packed_afresh_before_there_are_too_many() -> None:
    """A role has ten; only when names fill them all is it refused."""
    names = long_names(11)
    gaps = dict(enumerate(((name,) for name in sorted(names)), start=1))
    assert bucket_access.packed(names, partition="aws", most=11, before=gaps) == gaps
    assert bucket_access.packed(names, partition="aws", before=gaps) == {1: tuple(sorted(names))}

    wanted = agent_with(place=FOREIGN, readable=long_names(350))
    assert len(layout_of(whole(wanted)).readable) == 10
    with pytest.raises(TooManyBucketsError, match="and may have 10: leave buckets out"):
        whole(agent_with(place=FOREIGN, readable=long_names(400)))


# ---- the generic one ----


@pytest.mark.parametrize(
    ("source", "logical"),
    [
        ("notifications", set()),
        ("eventbridge", {"NativeRule1"}),
        (
            "cloudtrail",
            {"TrailRule1", "TrailBatchesRule", "Trail", "TrailLogs", "TrailLogsPolicy"},
        ),
    ],
)
def test_the_generic_template_makes_what_the_filled_in_one_makes(
    source: str, logical: set[str]
) -> None:
    """With the same buckets by each source, in a foreign account."""
    buckets = frozenset({"acme-1", "acme-2"})
    fields = {"eventbridge": {"native": buckets}, "cloudtrail": {"trail": buckets}}.get(source, {})
    filled = made_for(place=FOREIGN, readable=buckets, **fields)
    generic = made(
        agent.generic().document(),
        FOREIGN,
        SourceBuckets=sorted(buckets),  # type: ignore[arg-type]  # as CloudFormation splits it
        Source=source,
        Deployment="acme",
        MonitorAccountId=MONITOR.account,
        RoleRegion=FOREIGN.region,
    )
    for resource in (*filled.values(), *generic.values()):
        resource.pop("Condition", None)
        resource.pop("Metadata", None)

    assert logical <= generic.keys()
    assert generic == filled


def test_a_stack_set_needs_no_parameters_that_differ_by_place() -> None:
    """One text and one set of parameters, in each region of the monitor's and of other accounts."""
    template = agent.generic().document()
    parameters: dict[str, Any] = {
        "SourceBuckets": ["acme-1"],
        "Deployment": "acme",
        "MonitorAccountId": MONITOR.account,
        "RoleRegion": "eu-west-1",
    }
    roles = {
        (account, region): "Role"
        in made(template, Place(account=account, region=region), **parameters)
        for account in (MONITOR.account, FOREIGN.account)
        for region in ("eu-west-1", "us-east-1")
    }
    assert [place for place, there in roles.items() if there] == [(FOREIGN.account, "eu-west-1")]


def test_china_is_another_partition() -> None:
    """A filled-in template fits there, too."""
    china = Place(account=MONITOR.account, region="cn-north-1", partition="aws-cn")
    there = Agent(
        deployment=Deployment(name="acme", monitor=china),
        place=china,
        role_region=china.region,
        trail=frozenset({"acme"}),
    )
    resources = made(whole(there), china)
    assert "arn:aws:" not in str(resources)
    assert "arn:aws-cn:s3:::acme/" in str(resources["Trail"])
    assert HERE["AWS::Partition"] == "aws"
