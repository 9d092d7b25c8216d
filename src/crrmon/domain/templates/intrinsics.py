"""CloudFormation's functions: the only place that writes them, and the one that works them out.

In a template a function is a map with one key; what it gives is known only when a stack is made. Working it out here
tells what a template comes to with certain parameters, to measure it and to check it.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

Json = Any

ACCOUNT: Final = "AWS::AccountId"
PARTITION: Final = "AWS::Partition"
REGION: Final = "AWS::Region"
NO_VALUE: Final = "AWS::NoValue"
"""Leaves out what has it as its value."""

_REF, _ATT, _SUB, _IF = "Ref", "Fn::GetAtt", "Fn::Sub", "Fn::If"
_JOIN, _SPLIT, _SELECT = "Fn::Join", "Fn::Split", "Fn::Select"
_EQUALS, _NOT, _AND, _CONDITION = "Fn::Equals", "Fn::Not", "Fn::And", "Condition"


def ref(name: str) -> Json:
    """Return the value of a parameter, or what CloudFormation has as a resource's id."""
    return {_REF: name}


def att(resource: str, attribute: str = "Arn") -> Json:
    """Return an attribute of a resource."""
    return {_ATT: [resource, attribute]}


def sub(text: str) -> Json:
    """Return a text with `${Name}` filled in; as it is where it has none."""
    return {_SUB: text} if "${" in text else text


def sub_with(text: str, values: Mapping[str, Json]) -> Json:
    """Return a text with `${Name}` filled in: from these values first."""
    return {_SUB: [text, dict(values)]}


def when(condition: str, then: Json, otherwise: Json = None) -> Json:
    """Return one value or the other; without `otherwise`, what has it is left out where the condition does not hold."""
    return {_IF: [condition, then, ref(NO_VALUE) if otherwise is None else otherwise]}


def equals(one: Json, two: Json) -> Json:
    """Return a condition: both are the same text."""
    return {_EQUALS: [one, two]}


def negated(condition: Json) -> Json:
    """Return a condition: the other one does not hold."""
    return {_NOT: [condition]}


def both(*conditions: Json) -> Json:
    """Return a condition: all of two to ten hold."""
    return {_AND: list(conditions)}


def holds(condition: str) -> Json:
    """Return a condition: one of the template's conditions holds."""
    return {_CONDITION: condition}


def given(parameter: str) -> Json:
    """Return a condition: a parameter is not empty."""
    return negated(equals(ref(parameter), ""))


def split_names(parameter: str, *, before: str, after: str = "") -> Json:
    """
    Return a list with something around each value of a list that is a parameter.

    Args:
        parameter: its name.
        before: comes before each. NB: no function of CloudFormation fills in anything here.
        after: comes after each.
    """
    names = {_JOIN: [f"{after},{before}", ref(parameter)]}
    return {_SPLIT: [",", {_SUB: [f"{before}${{Names}}{after}", {"Names": names}]}]}


def after(between: str, parameter: str) -> Json:
    """Return what stands in a parameter after something that comes in it once; nothing where that does not come."""
    # With it once more at the end, there always is something after it: else nothing could be selected.
    return {_SELECT: [1, {_SPLIT: [between, sub(f"${{{parameter}}}{between}")]}]}


def none_of(parameter: str) -> Json:
    """Return a condition: a list that is a parameter is empty."""
    return equals({_JOIN: ["", ref(parameter)]}, "")


# ---- working them out ----


def conditions_of(value: Json) -> frozenset[str]:
    """Return which of the template's conditions a value depends on."""
    parts: Iterable[Json]
    match value:
        case {"Fn::If": [str(condition), then, otherwise]}:
            return frozenset({condition}) | conditions_of(then) | conditions_of(otherwise)
        case dict():
            parts = value.values()
        case list():
            parts = value
        case _:
            return frozenset()
    return frozenset().union(*map(conditions_of, parts))


def worked_out(value: Json, *, known: Mapping[str, Json], truths: Mapping[str, bool]) -> Json:
    """
    Return what a value comes to.

    Args:
        value: with functions of CloudFormation. Those of a kind that this module does not write stay as they are.
        known: values of parameters, of pseudo parameters such as `AWS::Region`, and of resources. What is not known
            stays as `${Name}`, and a resource's attribute as `${Name.Attribute}`.
        truths: which conditions hold.

    Raises:
        ValueError: a function has other arguments than it takes.
    """
    work = functools.partial(worked_out, known=known, truths=truths)
    match value:
        case {"Fn::If": [str(condition), then, otherwise]}:
            return work(then if truths[condition] else otherwise)
        case {"Ref": str(name)}:
            return known.get(name, f"${{{name}}}")
        case (
            {"Fn::GetAtt": _}
            | {"Fn::Sub": _}
            | {"Fn::Join": _}
            | {"Fn::Split": _}
            | {"Fn::Select": _}
        ):
            return _text(value, known, work)
        case dict():
            kept = {name: part for name, part in value.items() if not _left_out(part, truths)}
            return {name: work(part) for name, part in kept.items()}
        case list():
            return [work(part) for part in value if not _left_out(part, truths)]
        case _:
            return value


def _text(function: Json, known: Mapping[str, Json], work: Callable[[Json], Json]) -> Json:
    match function:
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Sub": [str(text), dict(own)]}:
            return _filled(text, {**known, **{name: work(part) for name, part in own.items()}})
        case {"Fn::Sub": str(text)}:
            return _filled(text, known)
        case {"Fn::Join": [str(between), parts]}:
            return between.join(_listed(work(parts)))
        case {"Fn::Split": [str(between), text]}:
            return work(text).split(between)
        case {"Fn::Select": [int(index), parts]}:
            return _listed(work(parts))[index]
        case _:
            raise ValueError(f"not a function that can be worked out: {function}")


def truth(condition: Json, *, known: Mapping[str, Json], conditions: Mapping[str, Json]) -> bool:
    """
    Return whether a condition holds.

    Args:
        condition: of the functions that this module writes.
        known: values of parameters and pseudo parameters.
        conditions: the template's, by name.

    Raises:
        ValueError: it has another function.
    """
    work = functools.partial(truth, known=known, conditions=conditions)
    match condition:
        case {"Fn::Equals": [one, two]}:
            first, second = (worked_out(part, known=known, truths={}) for part in (one, two))
            return bool(str(first) == str(second))
        case {"Fn::Not": [other]}:
            return not work(other)
        case {"Fn::And": list(others)}:
            return all(map(work, others))
        case {"Condition": str(name)}:
            return work(conditions[name])
        case _:
            raise ValueError(f"not a condition that can be worked out: {condition}")


def _left_out(value: Json, truths: Mapping[str, bool]) -> bool:
    match value:
        case {"Fn::If": [str(condition), then, otherwise]}:
            return _left_out(then if truths[condition] else otherwise, truths)
        case {"Ref": name}:
            return bool(name == NO_VALUE)
        case _:
            return False


def _filled(text: str, known: Mapping[str, Json]) -> str:
    return "".join(_parts(text, known))


def _parts(text: str, known: Mapping[str, Json]) -> Iterator[str]:
    literal, *named = text.split("${")
    yield literal
    for part in named:
        name, _, literal = part.partition("}")
        yield str(known.get(name, f"${{{name}}}"))
        yield literal


def _listed(value: Json) -> list[str]:
    return value if isinstance(value, list) else [value]
