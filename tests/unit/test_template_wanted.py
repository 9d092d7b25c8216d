"""Which agents are needed: one for each account and region, and what only their earlier templates know."""

from typing import Any

from crrmon.domain.deployment.discovery import BucketFound
from crrmon.domain.deployment.notifications import NotificationConfiguration
from crrmon.domain.deployment.places import Place
from crrmon.domain.deployment.sources import Choice, Part, Source
from crrmon.domain.templates.agent import Agent, filled_in, layout_of
from crrmon.domain.templates.wanted import AgentOptions, Templates, agents, switched
from fakes.agent_templates import DEPLOYMENT, FOREIGN, MONITOR

ELSEWHERE = Place(account=FOREIGN.account, region="us-east-1")


def choice(bucket: str, place: Place = MONITOR, source: Source = Source.NOTIFICATIONS) -> Choice:
    """Choose a way for a bucket."""
    return Choice(bucket=bucket, place=place, part=Part.SOURCE, source=source, why="so")


def wanted(
    *choices: Choice,
    on: frozenset[str] = frozenset(),
    before: Templates | None = None,
    options: AgentOptions | None = None,
    unread: tuple[str, ...] = (),
) -> dict[Place, Agent]:
    """Return the agents for some choices.

    Args:
        choices: of the ways.
        on: the buckets whose switch for EventBridge is on.
        before: what there is.
        options: what else is to be so.
        unread: the buckets that could not be read.
    """
    found = {
        one.bucket: BucketFound(
            name=one.bucket,
            place=one.place,
            notifications=NotificationConfiguration(switch={} if one.bucket in on else None),
        )
        for one in choices
    }
    return agents(
        DEPLOYMENT,
        choices,
        found,
        options=options or AgentOptions(),
        before=before or {},
        unread=unread,
    )


def template(agent: Agent) -> dict[str, Any]:
    return filled_in(agent).document()


def test_one_for_each_account_and_region() -> None:
    """Each has the buckets of its place, by the way of each."""
    found = wanted(
        choice("a"),
        choice("b", source=Source.EVENTBRIDGE),
        choice("c", FOREIGN, Source.CLOUDTRAIL),
        choice("d", ELSEWHERE),
    )

    assert list(found) == sorted([MONITOR, FOREIGN, ELSEWHERE])
    assert (found[MONITOR].native, found[MONITOR].trail) == ({"b"}, frozenset())
    assert (found[FOREIGN].native, found[FOREIGN].trail) == (frozenset(), {"c"})


def test_the_role_may_look_at_the_buckets_of_all_regions_and_is_made_once() -> None:
    """Near the monitor, where the account has an agent there."""
    found = wanted(choice("c", FOREIGN), choice("d", ELSEWHERE))

    assert found[FOREIGN].readable == found[ELSEWHERE].readable == {"c", "d"}
    assert [place for place, agent in found.items() if agent.makes_role] == [FOREIGN]


def test_the_role_of_an_account_without_buckets_near_the_monitor() -> None:
    """It is in the first of its regions."""
    far = Place(account=FOREIGN.account, region="sa-east-1")
    found = wanted(choice("c", far), choice("d", ELSEWHERE))

    assert [place for place, agent in found.items() if agent.makes_role] == [far]


def test_a_role_stays_where_it_is() -> None:
    """A bucket more in another region must not move it: two stacks would make one name at once."""
    first = wanted(choice("d", ELSEWHERE))
    before = {place: template(agent) for place, agent in first.items()}

    found = wanted(choice("c", FOREIGN), choice("d", ELSEWHERE), before=before)

    assert [place for place, agent in found.items() if agent.makes_role] == [ELSEWHERE]


def test_only_a_switch_that_we_turn_on_is_ours() -> None:
    """One that was on before belongs to somebody else, and stays on when all of ours goes."""
    both = (choice("a", source=Source.EVENTBRIDGE), choice("b", source=Source.EVENTBRIDGE))

    assert wanted(*both, on=frozenset({"b"}))[MONITOR].switched == {"a"}


def test_a_switch_that_we_turned_on_stays_ours() -> None:
    """Once it is on, only the template tells whose it is."""
    both = (choice("a", source=Source.EVENTBRIDGE), choice("b", source=Source.EVENTBRIDGE))
    first = wanted(*both, on=frozenset({"b"}))
    before = {place: template(agent) for place, agent in first.items()}
    assert switched(before[MONITOR]) == {"a"}

    again = wanted(*both, on=frozenset({"a", "b"}), before=before)

    assert again[MONITOR].switched == {"a"}


def test_a_bucket_that_cannot_be_read_keeps_what_it_has() -> None:
    """Whoever may not read it today does not know that it replicates no more: its events go on coming."""
    first = wanted(
        choice("a", source=Source.EVENTBRIDGE),
        choice("b", source=Source.EVENTBRIDGE),
        choice("c", FOREIGN, Source.CLOUDTRAIL),
        choice("d", FOREIGN),
    )
    before = {place: template(agent) for place, agent in first.items()}

    again = wanted(
        choice("a", source=Source.EVENTBRIDGE),
        on=frozenset({"a", "b"}),
        before=before,
        unread=("b", "c", "d"),
    )

    assert again[MONITOR].native == {"a", "b"}
    assert again[MONITOR].switched == {"a", "b"}
    assert again[FOREIGN].trail == {"c"}
    assert again[FOREIGN].readable == {"c", "d"}
    assert again[FOREIGN].makes_role
    for place, agent in again.items():
        assert filled_in(agent, before=layout_of(before[place])).document() == before[place]


def test_a_bucket_that_was_read_and_replicates_no_more_is_let_go() -> None:
    """It is in no rule any more; an agent without any bucket is not wanted."""
    first = wanted(choice("a", source=Source.EVENTBRIDGE), choice("c", FOREIGN, Source.CLOUDTRAIL))
    before = {place: template(agent) for place, agent in first.items()}

    again = wanted(choice("x"), before=before)

    assert list(again) == [MONITOR]
    assert again[MONITOR].native == frozenset()


def test_options() -> None:
    """Each is given to the agents that it is about."""
    options = AgentOptions(
        external_ids={FOREIGN.account: "secret-of-theirs"},
        queue_key_arns={MONITOR: "arn:aws:kms:eu-west-1:123456789012:key/abc"},
        alarm_email="ops@example.com",
    )
    found = wanted(choice("a"), choice("c", FOREIGN), options=options)

    assert found[FOREIGN].external_id == "secret-of-theirs"
    assert found[MONITOR].external_id == ""
    assert found[MONITOR].queue_key_arn.endswith("key/abc")
    assert found[FOREIGN].queue_key_arn == ""
    assert {agent.alarm_email for agent in found.values()} == {"ops@example.com"}


def test_nothing_to_watch_needs_no_agent() -> None:
    """Without a bucket there is nowhere to stand."""
    assert wanted() == {}
