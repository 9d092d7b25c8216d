"""MiniStack from inside: its functions replaced, and its services called as anybody calls them."""

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from botocore.model import Shape
from ministack.core.responses import get_account_id, get_region

from fakes.cloud import client


def instead_of(
    place: ModuleType | dict[str, Any], name: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Put the decorated function in the place of another, which it is given as its first argument.

    Args:
        place: a module, or its table of operations.
        name: of the function there.

    Raises:
        AttributeError: the module has none of that name, as in another version of MiniStack.
        KeyError: nor has the table.
    """
    kept = place[name] if isinstance(place, dict) else getattr(place, name)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        replacement = functools.partial(function, kept)
        if isinstance(place, dict):
            place[name] = replacement
        else:
            setattr(place, name, replacement)
        return function

    return decorate


def call(service: str, operation: str, **arguments: Any) -> dict[str, Any]:
    """
    Call a service of this MiniStack over HTTP, in the account and region of whoever is being served.

    Never from its event loop, which has to answer.

    Args:
        service: as boto3 calls it.
        operation: as AWS calls it.
        arguments: as a template has them, where numbers and truth values may be text.

    Raises:
        ClientError: it was refused.
        ParamValidationError: the service knows no such argument.
    """
    url = f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}"
    caller = client(url, service, account=get_account_id(), region=get_region())
    shape = caller.meta.service_model.operation_model(operation).input_shape
    told: dict[str, Any] = caller._make_api_call(operation, _typed(arguments, shape))
    return told


def _typed(value: Any, shape: Shape) -> Any:
    """Give what a template says the types that the service's model asks for."""
    match shape.type_name, value:
        case "structure", dict():
            return {
                name: _typed(inner, shape.members[name]) if name in shape.members else inner
                for name, inner in value.items()
            }
        case "list", list():
            return [_typed(inner, shape.member) for inner in value]
        case "integer" | "long", str():
            return int(value)
        case "float" | "double", str() | int():
            return float(value)
        case "boolean", "true" | "false":
            return value == "true"
    return value
