"""The agent's template as AWS's own linter reads it: filled in for whom it may be, and with parameters."""

from pathlib import Path

from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import agent
from crrmon.domain.templates.agent import Agent, filled_in
from fakes.agent_templates import FOREIGN, KEY, MONITOR, agent_with
from fakes.buckets import long_names
from fakes.cfn_lint import assert_explained, complaints


def agents() -> dict[str, Agent]:
    """Return agents that have every part, and none, by what is special about them."""
    ways = {
        "notifications": frozenset[str](),
        "eventbridge": frozenset({"native"}),
        "cloudtrail": frozenset({"trail"}),
        "mixed": frozenset({"native", "trail"}),
    }
    several = {
        f"{way}-{whose}": agent_with(
            place=place,
            readable=long_names(60),
            switched=long_names(30) if "native" in fields else frozenset(),
            **dict.fromkeys(fields, long_names(60)),
        )
        for way, fields in ways.items()
        for whose, place in (("own", MONITOR), ("foreign", FOREIGN))
    }
    most = {"native": long_names(300), "trail": long_names(300), "readable": long_names(300)}
    return several | {
        "with-a-key": agent_with(place=FOREIGN, queue_key_arn=KEY, trail=long_names(1)),
        "of-300-buckets": agent_with(place=FOREIGN, alarm_email="ops@example.com", **most),
        "in-another-region": agent_with(
            place=Place(account=FOREIGN.account, region="us-east-1"),
            alarm_topic_arn=f"arn:aws:sns:us-east-1:{FOREIGN.account}:ops",
            monitor_role_arn=f"arn:aws:iam::{MONITOR.account}:role/watch",
            native=long_names(1),
        ),
        "with-an-external-id": agent_with(
            place=FOREIGN, external_id="acme-42", readable=frozenset({"acme-*"})
        ),
    }


def test_filled_in_templates_are_clean(tmp_path: Path) -> None:
    """Without any exception to the linter's rules."""
    templates = {name: filled_in(one) for name, one in agents().items()}
    assert not any("cfn-lint" in one.document()["Metadata"] for one in templates.values())
    assert complaints(templates, tmp_path) == ""


def test_the_generic_template_is_clean(tmp_path: Path) -> None:
    """But for the partition before each name of a list, which no function fills in."""
    template = agent.generic()
    assert complaints({"generic": template}, tmp_path) == ""
    assert template.document()["Metadata"]["cfn-lint"]["config"] == {"ignore_checks": ["I3042"]}


def test_the_linter_finds_what_is_wrong(tmp_path: Path) -> None:
    """So its silence above means something."""
    templates = {"wrong": filled_in(agent_with(retention_seconds=1)), "right": agent.generic()}
    (first, *_) = found = complaints(templates, tmp_path).splitlines()
    assert "E2015" in first
    assert all(line.startswith("wrong:") for line in found)


def test_every_parameter_is_explained_grouped_and_bounded() -> None:
    """The console's form has no loose field, and what is wrong is refused before anything is made."""
    assert_explained(agent.generic())
