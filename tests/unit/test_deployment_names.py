"""What everything that a deployment makes is called."""

import re

import pytest

from crrmon.domain.deployment.names import Deployment, NameRefusedError, Names
from crrmon.domain.deployment.places import Place

PLACE = Place(account="123456789012", region="eu-west-1")
CHINA = Place(account="123456789012", region="cn-north-1", partition="aws-cn")


@pytest.mark.parametrize("name", ["a", "crrmon", "acme-2", "a1-b2-c3", "a" * 20])
def test_names_that_everything_can_be_called_after(name: str) -> None:
    """Short ones of lower-case letters, digits and single dashes."""
    assert Deployment(name=name, monitor=PLACE).names.queue == f"{name}-events"


@pytest.mark.parametrize(
    "name", ["", "2b", "-a", "a-", "a--b", "Acme", "a_b", "a.b", "a b", "a\n", "ä", "a" * 21]
)
def test_other_names_are_refused_with_what_is_allowed(name: str) -> None:
    """Some part of AWS would refuse each of them, later and in its own words."""
    with pytest.raises(NameRefusedError, match=f"{re.escape(repr(name))}: use at most 20 lower"):
        Deployment(name=name, monitor=PLACE)


def test_the_longest_name_leaves_room_for_all_that_begins_with_it() -> None:
    """Roles and rules end at 64 characters, queues at 80; 999 rules are more than a bus has."""
    names = Names("a" * 20)
    assert max(map(len, (names.monitor_role, names.agent_role, names.trail_rule(999)))) <= 64
    assert max(map(len, (names.queue, names.dead_letters))) <= 80


def test_arns_name_place_and_partition() -> None:
    """Each is known before what it names exists."""
    names = Names("acme")
    assert names.queue_arn(CHINA) == "arn:aws-cn:sqs:cn-north-1:123456789012:acme-events"
    assert names.dead_letters_arn(PLACE) == "arn:aws:sqs:eu-west-1:123456789012:acme-events-dead"
    assert (
        names.native_rule_arn(PLACE, 3)
        == "arn:aws:events:eu-west-1:123456789012:rule/acme-native-3"
    )
    assert (
        names.trail_rule_arn(PLACE, "*")
        == "arn:aws:events:eu-west-1:123456789012:rule/acme-trail-*"
    )
    assert names.trail_arn(PLACE) == "arn:aws:cloudtrail:eu-west-1:123456789012:trail/acme-writes"
    assert names.topic_arn(PLACE) == "arn:aws:sns:eu-west-1:123456789012:acme-alarms"
    assert names.agent_role_arn(CHINA) == "arn:aws-cn:iam::123456789012:role/acme-agent"
    assert names.monitor_role_arn(PLACE) == "arn:aws:iam::123456789012:role/acme-monitor"


def test_nothing_has_the_name_of_something_else() -> None:
    """What is of one kind and may stand in one place has names of its own."""
    names = Names("acme")
    stacks = [names.monitor_stack, names.agent_stack, names.service_stack]
    rules = [names.native_rule(1), names.trail_rule(1), names.batch_rule]
    for kind in (
        stacks,
        rules,
        [names.queue, names.dead_letters],
        [names.topic, names.agent_topic],
        [names.monitor_role, names.agent_role],
    ):
        assert len(set(kind)) == len(kind)
