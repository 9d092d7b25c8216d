"""CloudFormation's functions: written, and worked out."""

from pathlib import Path
from typing import Any

import pytest

from crrmon.domain.templates import intrinsics
from crrmon.domain.templates.intrinsics import (
    NO_VALUE,
    after,
    att,
    both,
    conditions_of,
    equals,
    given,
    holds,
    negated,
    none_of,
    ref,
    split_names,
    sub,
    sub_with,
    truth,
    when,
    worked_out,
)

KNOWN = {"Deployment": "acme", "AWS::Region": "eu-west-1", "Names": ["one", "two"]}


def worked(value: Any, **truths: bool) -> Any:
    return worked_out(value, known=KNOWN, truths=truths)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (ref("Deployment"), "acme"),
        (ref("Queue"), "${Queue}"),
        (att("Queue"), "${Queue.Arn}"),
        (sub("${Deployment}-events"), "acme-events"),
        (sub("a:${AWS::Region}:${Deployment}:${Other}"), "a:eu-west-1:acme:${Other}"),
        (split_names("Names", before="arn:", after="/*"), ["arn:one/*", "arn:two/*"]),
        (ref("Names"), ["one", "two"]),
        (after("-", "Deployment"), ""),
        (after("c", "Deployment"), "me"),
        (sub_with("${Deployment}/${Own}", {"Own": ref("AWS::Region")}), "acme/eu-west-1"),
        ([1, True, "x", {"a": ref("Deployment")}], [1, True, "x", {"a": "acme"}]),
    ],
)
def test_functions_come_to_what_cloudformation_makes_of_them(value: Any, result: Any) -> None:
    """What is not known stays readable."""
    assert worked(value) == result


def test_a_text_without_anything_to_fill_in_has_no_function() -> None:
    """The linter calls such a function needless."""
    assert sub("acme") == "acme"


def test_a_value_depends_on_a_condition() -> None:
    """What is left out takes its property with it, and its place in a list."""
    value = {"Key": when("HasKey", ref("Deployment")), "List": [when("HasKey", 1), 2]}
    assert worked(value, HasKey=True) == {"Key": "acme", "List": [1, 2]}
    assert worked(value, HasKey=False) == {"List": [2]}
    assert worked(when("HasKey", ref(NO_VALUE), otherwise=False), HasKey=False) is False
    assert worked({"Key": when("A", when("B", 1), 2)}, A=True, B=False) == {}


def test_all_conditions_of_a_value_are_found() -> None:
    """Also those inside of others."""
    value = [{"a": when("A", when("B", 1), [when("C", 1)])}, 2]
    assert conditions_of(value) == {"A", "B", "C"}


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        (equals(ref("Deployment"), "acme"), True),
        (negated(equals(ref("Deployment"), "acme")), False),
        (given("Deployment"), True),
        (both(holds("Named"), given("Empty")), False),
        (both(holds("Named"), equals(ref("Number"), "1")), True),
    ],
)
def test_conditions_hold_or_not(condition: Any, result: bool) -> None:  # noqa: FBT001 - a table
    """Numbers are texts to CloudFormation."""
    known = KNOWN | {"Empty": "", "Number": 1}
    assert truth(condition, known=known, conditions={"Named": given("Deployment")}) is result


def test_an_unknown_function_is_no_condition() -> None:
    """It is not taken for one that does not hold."""
    with pytest.raises(ValueError, match="not a condition"):
        truth({"Fn::Contains": [[], ""]}, known={}, conditions={})


def test_no_other_module_writes_functions() -> None:
    """One place knows how they look."""
    here = Path(str(intrinsics.__file__))
    others = [path for path in here.parent.glob("*.py") if path != here]
    assert [path.name for path in others if '"Fn::' in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(("names", "empty"), [("", True), ([], True), (["one"], False)])
def test_a_list_without_values_is_empty(names: Any, *, empty: bool) -> None:
    """CloudFormation has an empty text in it."""
    assert truth(none_of("List"), known={"List": names}, conditions={}) is empty
