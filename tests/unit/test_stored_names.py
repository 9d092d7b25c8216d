"""What ledgers hold is read by the names, or the places, of fields: neither may change unless the format does.

A field that another version wrote under another name is passed over as unknown, and what it held is lost silently.
"""

import importlib
import pkgutil
import typing

import msgspec
import pytest

import crrmon.ledger
from crrmon.domain.event_delays import EventDelays
from crrmon.domain.route_state import RouteState
from crrmon.ledger import compact
from crrmon.ledger.encoding import Body
from crrmon.ledger.meta import FORMAT

STORED_FORMAT = 2
STORED = {
    "Abandoned": "key version_id written_at why",
    "Delta": "id settled_at tallies",
    "Destination": "bucket rule certain replicated_at counted failure failed missed owner pending_seen_at failed_episode",
    "Entry": "added moved",
    "EventDelays": "channels",
    "Failure": "noticed_at reason",
    "Header": "starts_at number name parts unsent pieces",
    "Last": "number newest name",
    "Member": "owner announced_at held_since delay",
    "Meta": "format readable_by shards",
    "ObjectVersion": "bucket key version_id",
    "Record": "version region written_at next_look_at owner size channel operation etag destinations said state episode unplaced_episode looks troubles refusals endings deleted pending_seen_at failed_at reopened_at failed_before claimed_at counts rev",
    "Route": "source destination",
    "RouteState": "read_at changed_at selects lost abandoned others_from heard partial retired",
    "Selected": "prefix since certain encrypted",
    "Taken": "deltas others moved",
    "StoredLatencies": "path as_of samples lessons",
    "Tally": "completed bytes timed timed_bytes exact seconds latency repaired late failed gone unreadable given_up not_covered unidentified too_old markers markers_arrived markers_failed",
    "_DayOfRoute": "route number slots",
    "_EarlyFact": "slot replicated_at size",
    "_Holder": "owner epoch",
    "_Kept": "marks early_facts records until",
    "_Mark": "slot fate written_at found_at batch source upper looks size lower flags destination",
    "_Packed": "owners leases",
}  # fmt: skip
"""The fields of all that is stored, in that format; those of arrays in their order."""


def stored() -> dict[str, type[msgspec.Struct]]:
    """Return every type of which values are stored, by name."""
    found: dict[str, type[msgspec.Struct]] = {}

    def walk(kind: object) -> None:
        for argument in typing.get_args(kind):
            walk(argument)
        if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
            return
        if kind.__name__ not in found:
            found[kind.__name__] = kind
            for field in msgspec.structs.fields(kind):
                walk(field.type)

    for kind in (RouteState, EventDelays, compact._Kept):
        walk(kind)
    for module in pkgutil.iter_modules(crrmon.ledger.__path__):
        for value in vars(importlib.import_module(f"crrmon.ledger.{module.name}")).values():
            if isinstance(value, Body):
                walk(value._kind)
    return found


KINDS = stored()


def test_the_table_is_that_of_the_format_that_is_written() -> None:
    """Whoever raises the format writes the table down again, and says what reads the one before."""
    assert FORMAT == STORED_FORMAT
    assert KINDS.keys() == STORED.keys()


@pytest.mark.parametrize("name", STORED)
def test_stored_fields_keep_their_names_and_places(name: str) -> None:
    """New ones come last in arrays, and have defaults, for what was stored before lacks them."""
    kind, known = KINDS[name], STORED[name].split()
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}

    assert set(known) <= set(fields)
    if kind.__struct_config__.array_like:
        assert list(fields)[: len(known)] == known
    for new in set(fields) - set(known):
        assert not fields[new].required, f"{name}.{new} needs a default"
