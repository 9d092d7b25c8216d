"""What DynamoDB answers: whether it is whole, whether asking again at once is worth it, and what else an error means."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from botocore.exceptions import ClientError

from crrmon.adapters.border import THROTTLED_CODES, code_of
from crrmon.adapters.remedies import explain
from crrmon.adapters.stores.dynamodb.attributes import Position, position_of
from crrmon.ports.ledger import LedgerError, UnusableLedgerError
from crrmon.ports.store import ConflictError, TooMuchError, UnwritableError

_PASSING: Final = THROTTLED_CODES | {
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
}
_OTHER_KEYS: Final = (
    "does not match the schema",
    "does not have the specified index",
    "Missing the key",
    "required keys was not given a value",
    "key schema element",
    "Type mismatch for key",
    "Type mismatch for Index Key",
)
"""How DynamoDB says that a table has other keys or another index: all else that is not valid is about one item."""
_INVALID: Final = frozenset({"SerializationException", "ValidationException"})
_CONDITION: Final = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException"})
_ACTIONS: Final = {
    # It has no action of its own: whoever may do each of its parts may do all at once.
    "TransactWriteItems": "dynamodb:PutItem, dynamodb:DeleteItem and dynamodb:ConditionCheckItem"
}


class TableErrors(msgspec.Struct, frozen=True):
    """What the answers and errors of one table mean."""

    table: str
    region: str
    """Where it is, for people."""

    def translated(
        self, operation: str, error: Exception, request: Mapping[str, Any]
    ) -> Exception:
        """Return what an error of a call means to whoever uses the ledger.

        Args:
            operation: what was asked.
            error: what that met.
            request: with which fields.
        """
        action = _ACTIONS.get(operation, f"dynamodb:{operation}")
        where = f"ledger.dynamodb.table {self.table!r}"
        if isinstance(error, ClientError):
            code = code_of(error)
            if code in _CONDITION:
                return ConflictError([0])
            if code == "TransactionCanceledException":
                return self._cancelled(error, request)
            if code == "ResourceNotFoundException":
                return LedgerError(
                    f"{where} does not exist in {self.region}; run: crrmon ledger create"
                )
            if code in _INVALID:
                said = explain(error, permission="")
                return self._invalid(operation, said, _keys_in(operation, request, self.table))
        permission = f"{action} on table {self.table} and its index"
        return LedgerError(f"DynamoDB {operation}: {explain(error, permission=permission)}")

    def _invalid(self, operation: str, said: str, keys: Sequence[Position]) -> Exception:
        """Return what it means that a request is not valid.

        Args:
            operation: what was asked.
            said: what DynamoDB says of it.
            keys: the items that it concerns, as far as they are known.
        """
        where = f"ledger.dynamodb.table {self.table!r}"
        if any(text in said for text in _OTHER_KEYS):
            return UnusableLedgerError(
                f"{where} cannot do {operation}: {said}; was it made by: crrmon ledger create?"
            )
        items = ", ".join(f"{partition!r} {sort!r}" for partition, sort in keys[:3])
        of = f" of item {items}" + (" and more" if len(keys) > 3 else "") if keys else ""  # noqa: PLR2004 - a few
        kind = TooMuchError if "size" in said.lower() else UnwritableError
        return kind(f"DynamoDB {operation}{of} in {where}: {said}")

    def _cancelled(self, error: ClientError, request: Mapping[str, Any]) -> Exception:
        reasons = _reasons(error)
        failed = [place for place, code in enumerate(reasons) if code in _CONDITION]
        if failed:
            return ConflictError(failed)
        if "ValidationError" in reasons:
            keys = _keys_in("TransactWriteItems", request, self.table)
            bad = [place for place, code in enumerate(reasons) if code == "ValidationError"]
            told = error.response["CancellationReasons"]
            said = "; ".join(str(told[place].get("Message", "ValidationError")) for place in bad)
            mine = [keys[place] for place in bad if place < len(keys)]
            return self._invalid("TransactWriteItems", said, mine)
        return LedgerError(f"DynamoDB TransactWriteItems: {explain(error, permission='')}")


def _keys_in(operation: str, request: Mapping[str, Any], table: str) -> list[Position]:
    """Return the keys of the items that a request writes or reads, in their order."""
    if operation == "TransactWriteItems":
        some = [fields for action in request["TransactItems"] for fields in action.values()]
    elif operation == "BatchWriteItem":
        some = [fields for one in request["RequestItems"][table] for fields in one.values()]
    else:
        some = [request] if "Item" in request or "Key" in request else []
    return [position_of(fields.get("Item") or fields["Key"]) for fields in some]


def passes(error: ClientError) -> bool:
    """Return whether the same call may well succeed in a moment."""
    if code_of(error) in _PASSING:
        return True
    reasons = {reason for reason in _reasons(error) if reason != "None"}
    # One condition that does not hold decides it, whatever else was in the way.
    return bool(reasons) and reasons <= _PASSING


def _reasons(error: ClientError) -> list[str]:
    # NB: where it was not in the way, an action has no reason, or one without a code.
    told = error.response.get("CancellationReasons") or ()
    return [str((one or {}).get("Code") or "None") for one in told]


_TOLD: Final[Mapping[str, tuple[str, type]]] = {
    "BatchGetItem": ("Responses", dict),
    "DescribeContinuousBackups": ("ContinuousBackupsDescription", dict),
    "DescribeTable": ("Table", dict),
    "ListTagsOfResource": ("Tags", list),
    "Query": ("Items", list),
}
"""What an answer is nothing without, by operation."""


def complete(operation: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer of DynamoDB if it tells what the operation is for.

    Raises:
        LookupError: it does not.
    """
    if operation in _TOLD:
        name, kind = _TOLD[operation]
        if not isinstance(answer.get(name), kind):
            raise LookupError(name)
    return dict(answer)
