"""What a change set of CloudFormation would do to each resource of a stack, and whether anything would be lost by it.

The structure is that of `ResourceChange` in CloudFormation's API reference. NB: what depends on a changed resource is
told there as a change that *may* replace it, for CloudFormation decides by the new value when it is known. That is no
replacement here: it happens only where the resource that it depends on is replaced, which is told of by itself.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

HOLDING = frozenset({"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue"})
"""Types of resources that hold what is nowhere else: records, logs, messages."""

_KEPT = "Retain"
"""What CloudFormation calls it that a resource stays that is removed from its stack."""


class Action(enum.StrEnum):
    """What becomes of a resource."""

    CREATE = "create"
    CHANGE = "change"
    REPLACE = "replace"
    """A new one is made and used from then on; the old one is removed, or stays unused, with all that it holds."""
    REMOVE = "remove"
    LET_GO = "let go"
    """It stays, and belongs to no stack any more."""


class ResourceChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a change set does to one resource."""

    logical: str
    """Its name in the template."""
    type: str
    """By CloudFormation's name, as AWS::SQS::Queue."""
    physical: str
    """Its name or address at AWS; the empty string of one that is to be created."""
    action: Action
    because: tuple[str, ...] = ()
    """The properties that change, sorted."""

    @property
    def dangerous(self) -> bool:
        """Whether what it holds would be lost, or nobody would look there any more."""
        return self.type in HOLDING and self.action in (Action.REPLACE, Action.REMOVE)


def read(changes: Iterable[Mapping[str, Any]]) -> tuple[ResourceChange, ...]:
    """Read what a change set does, in the order of the resources' names.

    Args:
        changes: the `Changes` of DescribeChangeSet, of all pages.

    Raises:
        KeyError: one is not as the API says.
    """
    found = [_read(change["ResourceChange"]) for change in changes if "ResourceChange" in change]
    return tuple(sorted(found, key=lambda change: change.logical))


def _read(told: Mapping[str, Any]) -> ResourceChange:
    return ResourceChange(
        logical=told["LogicalResourceId"],
        type=told["ResourceType"],
        physical=told.get("PhysicalResourceId") or "",
        action=_action(told),
        because=tuple(sorted({name for detail in _own(told) if (name := _name(detail))})),
    )


def _action(told: Mapping[str, Any]) -> Action:
    match told["Action"]:
        case "Add" | "Import":
            return Action.CREATE
        case "Remove":
            return Action.LET_GO if told.get("PolicyAction") == _KEPT else Action.REMOVE
        case _ if _replaced(told):
            return Action.REPLACE
        case _:
            return Action.CHANGE


def _replaced(told: Mapping[str, Any]) -> bool:
    """Return whether a resource will be replaced, or may be by a change of its own."""
    match told.get("Replacement"):
        case "True":
            return True
        case "Conditional":
            return any(
                detail["Target"].get("RequiresRecreation", "Never") != "Never"
                for detail in _own(told)
            )
        case _:
            return False


def _own(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what changes of a resource by the template itself, not by what it depends on."""
    return [
        detail
        for detail in told.get("Details") or ()
        if detail.get("Evaluation") == "Static" and "Target" in detail
    ]


def _name(detail: Mapping[str, Any]) -> str:
    target = detail["Target"]
    return str(target.get("Name") or target.get("Attribute") or "")
