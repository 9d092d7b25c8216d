"""Runs crrmon as its next version might be: with one more field in what is stored, and a higher format.

python next_version.py run --config FILE
"""

import importlib
import sys

import msgspec

NEWS = "of the next version"


def _grow(module: str, name: str, **options: bool) -> None:
    """Put a struct with one more field in the place of another, before anybody else imports it."""
    home = importlib.import_module(module)
    # Made by a factory, for a default that is a constant would not be written down.
    field = ("news", str, msgspec.field(default_factory=lambda: NEWS))
    grown = msgspec.defstruct(name, [field], bases=(getattr(home, name),), **options)
    setattr(home, name, grown)


_grow("crrmon.domain.records", "Record", frozen=True, kw_only=True, omit_defaults=True)
_grow("crrmon.domain.outcomes", "Mark", frozen=True, kw_only=True, omit_defaults=True)
_grow("crrmon.domain.outcomes", "Delta", frozen=True, kw_only=True)
_grow("crrmon.ports.ledger", "Member", frozen=True, kw_only=True)

importlib.import_module("crrmon.ledger.meta").FORMAT += 1

compact = importlib.import_module("crrmon.ledger.compact")
_fields_of_today = compact._mark_fields
_LEFT_OUT = (*[()] * 5, None, None, 0, 0, None, 0, None)
"""What stands where today's version left out fields from the end; the first five are always there."""


def _mark_fields(slot: str, mark: object) -> list[object]:
    """Write a mark with one more field, after all that today's version knows."""
    fields = _fields_of_today(slot, mark)
    return [*fields, *_LEFT_OUT[len(fields) :], NEWS]


compact._mark_fields = _mark_fields

if __name__ == "__main__":
    sys.argv[0] = "crrmon"
    importlib.import_module("crrmon.__main__").main()
