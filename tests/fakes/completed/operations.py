"""Operations on stacks that AWS refuses because of the state that a stack is in, and MiniStack does not."""

from collections.abc import Callable, Mapping
from typing import Any

from ministack.services.cloudformation import handlers
from ministack.services.cloudformation.helpers import _error

from fakes.completed.itself import instead_of

_STUCK = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"} | {
    "UPDATE_ROLLBACK_FAILED"
}
"""States out of which no update leads."""
_NEW = {"DELETE_COMPLETE", "REVIEW_IN_PROGRESS"}
"""States in which a stack can be created."""

_Parameters = Mapping[str, list[str]]


@instead_of(handlers._ACTION_HANDLERS, "CreateChangeSet")
def _create_change_set(kept: Callable[..., Any], parameters: _Parameters) -> Any:
    stack = _stack(parameters)
    if _of(parameters, "ChangeSetType") != "CREATE":
        return _not_updatable(stack) or kept(parameters)
    if stack and stack["StackStatus"] not in _NEW:
        name, change_set = stack["StackName"], _of(parameters, "ChangeSetName")
        return _error(
            "ValidationError",
            f"Stack [{name}] already exists and cannot be created again with the changeSet [{change_set}].",
        )
    return kept(parameters)


@instead_of(handlers._ACTION_HANDLERS, "ExecuteChangeSet")
def _execute_change_set(kept: Callable[..., Any], parameters: _Parameters) -> Any:
    stack = _stack(parameters)
    if stack and stack["StackStatus"] in _NEW:
        return kept(parameters)
    return _not_updatable(stack) or kept(parameters)


@instead_of(handlers._ACTION_HANDLERS, "UpdateStack")
def _update_stack(kept: Callable[..., Any], parameters: _Parameters) -> Any:
    return _not_updatable(_stack(parameters)) or kept(parameters)


@instead_of(handlers._ACTION_HANDLERS, "DeleteStack")
def _delete_stack(kept: Callable[..., Any], parameters: _Parameters) -> Any:
    stack = _stack(parameters)
    if stack and stack["StackStatus"].startswith("UPDATE_") and _busy(stack):
        identity, status = stack["StackId"], stack["StackStatus"]
        return _error(
            "ValidationError", f"Stack [{identity}] cannot be deleted while in status {status}"
        )
    return kept(parameters)


def _stack(parameters: _Parameters) -> Mapping[str, Any] | None:
    """Return the stack that is meant; the full id of a change set names none."""
    name = _of(parameters, "StackName")
    stack: Mapping[str, Any] | None = handlers._resolve_stack(name) if name else None
    return stack


def _of(parameters: _Parameters, name: str) -> str:
    return parameters.get(name, [""])[0]


def _not_updatable(stack: Mapping[str, Any] | None) -> Any:
    """Return the refusal, or None for a stack that can be updated."""
    if stack is None or not (_busy(stack) or stack["StackStatus"] in _STUCK):
        return None
    identity, status = stack["StackId"], stack["StackStatus"]
    return _error(
        "ValidationError", f"Stack:{identity} is in {status} state and can not be updated."
    )


def _busy(stack: Mapping[str, Any]) -> bool:
    return bool(stack["StackStatus"].endswith("_IN_PROGRESS"))
