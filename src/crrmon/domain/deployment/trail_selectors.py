"""Which trails record what is written to a bucket, by their event selectors.

A trail that records a part of a bucket's writes counts, too: what it records comes twice, and is paid for twice, once
there is a second one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

_WRITES = (
    "CompleteMultipartUpload",
    "CopyObject",
    "DeleteObject",
    "DeleteObjects",
    "PostObject",
    "PutObject",
)
"""CloudTrail's names of what creates and deletes versions."""

_OBJECTS = "AWS::S3::Object"


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """A trail that is switched on, and what it records."""

    arn: str
    selectors: Mapping[str, Any] = {}
    """GetEventSelectors' answer."""


def records_writes(trail: Trail, bucket: str, *, partition: str = "aws") -> bool:
    """Return whether a trail records what is written to a bucket, or a part of it.

    Args:
        trail: which.
        bucket: its name.
        partition: of the bucket's ARN.
    """
    objects = f"arn:{partition}:s3:::{bucket}/"
    basic = _maps(trail.selectors.get("EventSelectors"))
    advanced = _maps(trail.selectors.get("AdvancedEventSelectors"))
    return any(_basic(selector, objects) for selector in basic) or any(
        _advanced(selector, objects) for selector in advanced
    )


def _basic(selector: Mapping[str, Any], objects: str) -> bool:
    if selector.get("ReadWriteType", "All") == "ReadOnly":
        return False
    return any(
        _could_start(objects, value)
        for resource in _maps(selector.get("DataResources"))
        if resource.get("Type") == _OBJECTS
        for value in _texts(resource.get("Values"))
    )


def _advanced(selector: Mapping[str, Any], objects: str) -> bool:
    """Return whether one event could fulfil all fields; of those that are not known here any event could."""
    fields = _maps(selector.get("FieldSelectors"))
    return all(_fulfillable(field, objects) for field in fields)


def _fulfillable(field: Mapping[str, Any], objects: str) -> bool:
    match field.get("Field"):
        case "eventCategory":
            return _selects(field, ("Data",))
        case "resources.type":
            return _selects(field, (_OBJECTS,))
        case "readOnly":
            return _selects(field, ("false",))
        case "eventName":
            return _selects(field, _WRITES)
        case "resources.ARN":
            return _selects_objects(field, objects)
        case _:
            return True


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "Equals": str.__eq__,
    "StartsWith": str.startswith,
    "EndsWith": str.endswith,
}


def _selects(field: Mapping[str, Any], candidates: Iterable[str]) -> bool:
    """Return whether a field selector lets any of some values through."""

    def passes(candidate: str) -> bool:
        for name, fits in _OPERATORS.items():
            wanted, unwanted = _texts(field.get(name)), _texts(field.get(f"Not{name}"))
            if wanted and not any(fits(candidate, value) for value in wanted):
                return False
            if any(fits(candidate, value) for value in unwanted):
                return False
        return True

    return any(map(passes, candidates))


def _selects_objects(field: Mapping[str, Any], objects: str) -> bool:
    """Return whether a field selector lets the ARN of any object of a bucket through, whatever its key is."""
    equals, starts = _texts(field.get("Equals")), _texts(field.get("StartsWith"))
    return (
        (not equals or any(value.startswith(objects) for value in equals))
        and (not starts or any(_could_start(objects, value) for value in starts))
        and not any(objects.startswith(value) for value in _texts(field.get("NotStartsWith")))
    )


def _could_start(objects: str, value: str) -> bool:
    """Return whether the ARN of some object of a bucket begins with a value."""
    return objects.startswith(value) or value.startswith(objects)


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
