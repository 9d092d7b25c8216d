"""The agent's template as AWS's own linter reads it: filled in for whom it may be, and with parameters."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from crrmon.domain.deployment.places import Place
from crrmon.domain.templates import agent
from crrmon.domain.templates.agent import Agent, filled_in
from crrmon.domain.templates.template import Template
from fakes.agent_templates import FOREIGN, KEY, MONITOR, agent_with
from fakes.buckets import long_names
from fakes.patience import HANGS_SECONDS

CFN_LINT = Path(sys.executable).with_name("cfn-lint")


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


def complaints(templates: Mapping[str, Template], where: Path) -> str:
    """Return what cfn-lint finds in templates, also by the rules that are hints; each line with the name of one."""
    for name, template in templates.items():
        (where / name).write_text(template.body(), encoding="utf-8")
    done = subprocess.run(  # noqa: S603 - of our own environment
        [CFN_LINT, "--include-checks", "I", "--format", "parseable", "--", *templates],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_SECONDS,
    )
    return done.stdout + done.stderr


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
    whole = agent.generic().document()
    groups = whole["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]

    assert sorted(grouped) == sorted(whole["Parameters"])
    assert all(group["Label"]["default"] for group in groups)
    for name, parameter in whole["Parameters"].items():
        assert parameter["Description"], name
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & parameter.keys(), name
        assert ("AllowedPattern" in parameter) == ("ConstraintDescription" in parameter), name
