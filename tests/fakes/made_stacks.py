"""What CloudFormation makes of a template, worked out here."""

from collections.abc import Mapping
from typing import Any

from crrmon.domain.deployment.places import Place
from crrmon.domain.templates.intrinsics import truth, worked_out


def made(template: Mapping[str, Any], place: Place, **parameters: Any) -> dict[str, Any]:
    """Return the resources that CloudFormation makes of a template in a place, with everything filled in."""
    defaults = {
        name: one["Default"] for name, one in template["Parameters"].items() if "Default" in one
    }
    known = {
        **defaults,
        **parameters,
        "AWS::AccountId": place.account,
        "AWS::Region": place.region,
        "AWS::Partition": place.partition,
    }
    conditions = template["Conditions"]
    truths = {
        name: truth(condition, known=known, conditions=conditions)
        for name, condition in conditions.items()
    }
    return {
        name: worked_out(resource, known=known, truths=truths)
        for name, resource in template["Resources"].items()
        if truths.get(resource.get("Condition"), True)
    }


def statements(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statements of a policy by what they are called."""
    return {one["Sid"]: one for one in policy["Properties"]["PolicyDocument"]["Statement"]}
