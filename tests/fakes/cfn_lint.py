"""AWS's own linter, and what it does not look at in parameters."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from crrmon.domain.templates.template import Template
from fakes.patience import HANGS_SECONDS

CFN_LINT = Path(sys.executable).with_name("cfn-lint")


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


def assert_explained(template: Template) -> None:
    """Assert that each parameter is in a group, explained and bounded, and that its default is within its bounds."""
    whole = template.document()
    groups = whole["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    labels = [group["Label"]["default"] for group in groups]

    assert sorted(grouped) == sorted(whole["Parameters"])
    assert all(labels)
    assert len(labels) == len(set(labels))
    for name, parameter in whole["Parameters"].items():
        assert parameter["Description"], name
        assert {"AllowedPattern", "AllowedValues", "MinValue"} & parameter.keys(), name
        assert ("AllowedPattern" in parameter) == ("ConstraintDescription" in parameter), name
        if {"AllowedPattern", "Default"} <= parameter.keys():
            assert re.search(parameter["AllowedPattern"], parameter["Default"]), name
