"""Change sets: what becomes of each resource, and what would be lost by it."""

from typing import Any

import pytest

from crrmon.domain.deployment.changes import Action, ResourceChange, read


def detail(name: str, recreation: str, *, evaluation: str = "Static") -> dict[str, Any]:
    """Tell of a property that changes."""
    return {
        "Target": {"Attribute": "Properties", "Name": name, "RequiresRecreation": recreation},
        "Evaluation": evaluation,
        "ChangeSource": "DirectModification" if evaluation == "Static" else "ResourceAttribute",
    }


def one(action: str, type_: str = "AWS::SQS::Queue", **more: object) -> ResourceChange:
    """Read a change set of a single change."""
    told = {
        "Action": action,
        "LogicalResourceId": "Queue",
        "PhysicalResourceId": "https://sqs.eu-west-1.amazonaws.com/111111111111/crrmon-events",
        "ResourceType": type_,
        "Scope": ["Properties"],
        **more,
    }
    (change,) = read([{"Type": "Resource", "ResourceChange": told}])
    return change


@pytest.mark.parametrize(
    ("action", "more", "expected"),
    [
        ("Add", {}, Action.CREATE),
        ("Import", {}, Action.CREATE),
        ("Remove", {"PolicyAction": "Delete"}, Action.REMOVE),
        ("Remove", {}, Action.REMOVE),
        ("Remove", {"PolicyAction": "Retain"}, Action.LET_GO),
        ("Modify", {"Replacement": "False"}, Action.CHANGE),
        ("Modify", {"Replacement": "True"}, Action.REPLACE),
        ("Modify", {"Replacement": "True", "PolicyAction": "ReplaceAndDelete"}, Action.REPLACE),
        ("Modify", {"Replacement": "True", "PolicyAction": "ReplaceAndRetain"}, Action.REPLACE),
        (
            "Modify",
            {"Replacement": "Conditional", "Details": [detail("KeySchema", "Conditionally")]},
            Action.REPLACE,
        ),
        (
            "Modify",
            {"Replacement": "Conditional", "Details": [detail("EventPattern", "Never")]},
            Action.CHANGE,
        ),
        (
            "Modify",
            {
                "Replacement": "Conditional",
                "Details": [detail("QueueName", "Always", evaluation="Dynamic")],
            },
            Action.CHANGE,
        ),
    ],
)
def test_what_becomes_of_a_resource(action: str, more: dict[str, Any], expected: Action) -> None:
    """Only a change of the template's own replaces anything: what merely depends on something changed may stay."""
    assert one(action, **more).action is expected


@pytest.mark.parametrize(
    ("type_", "action", "more", "dangerous"),
    [
        ("AWS::SQS::Queue", "Modify", {"Replacement": "True"}, True),
        (
            "AWS::DynamoDB::Table",
            "Modify",
            {"Replacement": "True", "PolicyAction": "ReplaceAndRetain"},
            True,
        ),
        ("AWS::DynamoDB::Table", "Remove", {}, True),
        ("AWS::DynamoDB::Table", "Remove", {"PolicyAction": "Retain"}, False),
        ("AWS::S3::Bucket", "Remove", {"PolicyAction": "Delete"}, True),
        ("AWS::SQS::Queue", "Modify", {"Replacement": "False"}, False),
        ("AWS::SQS::Queue", "Add", {}, False),
        ("AWS::Events::Rule", "Modify", {"Replacement": "True"}, False),
    ],
)
def test_what_would_be_lost(
    type_: str, action: str, more: dict[str, Any], *, dangerous: bool
) -> None:
    """A queue, a table or a bucket is not replaced or removed unnoticed; what holds nothing may be."""
    assert one(action, type_, **more).dangerous is dangerous


def test_the_properties_that_change_are_told() -> None:
    """Each once, sorted, and none that only follows from another resource."""
    change = one(
        "Modify",
        Replacement="False",
        Details=[
            detail("VisibilityTimeout", "Never"),
            detail("Tags", "Never"),
            detail("Tags", "Never"),
            detail("KmsMasterKeyId", "Never", evaluation="Dynamic"),
        ],
    )

    assert change.because == ("Tags", "VisibilityTimeout")


def test_a_change_of_what_is_no_property() -> None:
    """Of metadata, only the attribute is named."""
    told = {"Target": {"Attribute": "Metadata"}, "Evaluation": "Static"}

    assert one("Modify", Replacement="False", Details=[told]).because == ("Metadata",)


def test_the_order_is_that_of_names() -> None:
    """Whatever order CloudFormation tells them in."""
    told = [
        {"ResourceChange": {"Action": "Add", "LogicalResourceId": name, "ResourceType": "A::B::C"}}
        for name in ("Trail", "Queue", "Rule")
    ]

    assert [change.logical for change in read(told)] == ["Queue", "Rule", "Trail"]
