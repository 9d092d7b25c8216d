"""Ranges of sort keys as DynamoDB is asked for them: keys are texts there, and the bounds of a range may be none."""

import sys
from bisect import bisect_left
from typing import Any, Final

from crrmon.domain.ledger_table import SK
from crrmon.ports.store import Span

_CHARACTERS: Final = sys.maxunicode + 1


def key_range(span: Span) -> tuple[str, dict[str, Any]]:
    """Return the condition on the sort keys of a span, with its values."""
    values = {}
    if span.low:
        values[":low"] = {"S": span.low.decode("utf-8", "surrogatepass")}
    end = None if span.high is None else _first_text(span.high)
    if end is not None:
        values[":high"] = {"S": end}
    match sorted(values):
        case [_, _]:
            return f"AND {SK} BETWEEN :low AND :high", values
        case [":low"]:
            return f"AND {SK} >= :low", values
        case [":high"]:
            return f"AND {SK} < :high", values
        case _:
            return "", values


def _first_text(bound: bytes) -> str | None:
    """Return the first text that does not come before some bytes, which may be none themselves; None where all do."""
    try:
        return bound.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        text, rest = bound[: error.start].decode("utf-8", "surrogatepass"), bound[error.start :]
    place = bisect_left(range(_CHARACTERS), rest, key=_packed)
    while place == _CHARACTERS:
        if not text:
            return None
        text, place = text[:-1], ord(text[-1]) + 1
    return text + chr(place)


def _packed(place: int) -> bytes:
    return chr(place).encode("utf-8", "surrogatepass")
