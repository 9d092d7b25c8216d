"""A template of CloudFormation: put together from parts, and written the same way each time.

Whatever has the same meaning has the same text: CloudFormation takes a list in another order for a change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Json = Any

LONGEST_BODY = 51_200
"""Bytes of a template that can be sent as it is; a larger one must lie in a bucket.

Source: AWS CloudFormation User Guide, "Understand CloudFormation quotas".
"""

LONGEST_TEMPLATE = 1_000_000
"""Bytes of a template in a bucket: 1 MB.

Source: AWS CloudFormation User Guide, "Understand CloudFormation quotas".
"""

MOST_RESOURCES = 500
"""Resources of a template.

Source: AWS CloudFormation User Guide, "Understand CloudFormation quotas".
"""

_VERSION = "2010-09-09"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter of a template."""

    description: str
    type: str = "String"
    default: str | int | None = None
    """What it is where nobody gives it; None where it must be given."""
    pattern: str | None = None
    """What it, or each value of a list, must look like."""
    constraint: str | None = None
    """What a value must be, for whoever gave one that does not fit the pattern."""
    values: Sequence[str | int] | None = None
    """All that it can be."""
    least: int | None = None
    most: int | None = None

    def document(self) -> dict[str, Json]:
        """Return it as CloudFormation reads it."""
        fields = {
            "Type": self.type,
            "Description": self.description,
            "Default": self.default,
            "AllowedPattern": self.pattern,
            "ConstraintDescription": self.constraint,
            "AllowedValues": None if self.values is None else list(self.values),
            "MinValue": self.least,
            "MaxValue": self.most,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Resources that belong together, with what they alone need."""

    label: str
    """Heading of the parameters where a person gives them."""
    parameters: Mapping[str, Parameter] = {}
    conditions: Mapping[str, Json] = {}
    resources: Mapping[str, Json] = {}
    outputs: Mapping[str, Json] = {}

    def only_if(self, condition: str) -> "Part":
        """Return it with resources that are made only if a condition holds."""
        resources = {name: one | {"Condition": condition} for name, one in self.resources.items()}
        return msgspec.structs.replace(self, resources=resources)

    def with_defaults(self, values: Mapping[str, str | int]) -> "Part":
        """Return it with parameters that are these where nobody gives others; of each parameter there is a value."""
        parameters = {
            name: msgspec.structs.replace(one, default=values[name])
            for name, one in self.parameters.items()
        }
        return msgspec.structs.replace(self, parameters=parameters)


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A whole template."""

    description: str
    parts: tuple[Part, ...]
    metadata: Mapping[str, Json] = {}

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All parameters."""
        return {name: one for part in self.parts for name, one in part.parameters.items()}

    @property
    def resources(self) -> dict[str, Json]:
        """All resources, as CloudFormation reads them."""
        return {name: one for part in self.parts for name, one in part.resources.items()}

    @property
    def defaults(self) -> dict[str, str]:
        """What its parameters are, as far as it says."""
        parameters = self.parameters.items()
        return {name: str(one.default) for name, one in parameters if one.default is not None}

    def document(self) -> dict[str, Json]:
        """Return it as CloudFormation reads it."""
        sections = {
            "Parameters": {name: one.document() for name, one in self.parameters.items()},
            "Conditions": {
                name: one for part in self.parts for name, one in part.conditions.items()
            },
            "Resources": self.resources,
            "Outputs": {name: one for part in self.parts for name, one in part.outputs.items()},
        }
        return {
            "AWSTemplateFormatVersion": _VERSION,
            "Description": self.description,
            "Metadata": {**self.metadata, "AWS::CloudFormation::Interface": self._interface()},
            **{name: section for name, section in sections.items() if section},
        }

    def body(self) -> str:
        """Return its text: JSON without spaces, which is a third shorter than YAML."""
        return msgspec.json.encode(self.document()).decode()

    @property
    def needs_bucket(self) -> bool:
        """Whether it is too long to be sent as it is, and must lie in a bucket."""
        return len(self.body().encode()) > LONGEST_BODY

    def _interface(self) -> Json:
        groups = [(part.label, list(part.parameters)) for part in self.parts if part.parameters]
        return {
            "ParameterGroups": [
                {"Label": {"default": label}, "Parameters": names} for label, names in groups
            ]
        }
