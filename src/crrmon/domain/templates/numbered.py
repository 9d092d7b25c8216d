"""Resources that are told apart by a number: the documents that names are distributed over."""

from collections.abc import Callable, Mapping
from typing import Any

from crrmon.domain.deployment.packing import Chunks
from crrmon.domain.templates.intrinsics import worked_out

Json = Any


def chunks(
    template: Mapping[str, Json],
    prefix: str,
    values: Callable[[Json], Json],
    name: Callable[[str], str] = lambda value: value.rpartition(":")[2],
) -> Chunks:
    """
    Return which names are where in a template that was filled in.

    Args:
        template: as CloudFormation reads it.
        prefix: what the names of such resources begin with, before the number.
        values: finds the list in the properties of one.
        name: finds the name in a value; if not given, it is a bucket's, in a value that is its name or its ARN.
    """
    return {
        int(logical.removeprefix(prefix)): tuple(
            name(str(worked_out(value, known={}, truths={})))
            for value in values(one["Properties"])
        )
        for logical, one in template["Resources"].items()
        if logical.startswith(prefix) and logical.removeprefix(prefix).isdecimal()
    }
