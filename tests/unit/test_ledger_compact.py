"""Trails written down small, and what other versions of the daemon wrote down."""

import math
import uuid

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from crrmon.domain.objects import MarkId, Route, Scope
from crrmon.domain.outcomes import EarlyFact, Fate, Mark
from crrmon.domain.records import Record
from crrmon.domain.trails import Trail
from crrmon.ledger import compact
from crrmon.ledger.encoding import Body
from fakes.ledger_values import NOW, arrived, record, whole

TIMES = st.one_of(
    st.floats(allow_nan=False),
    st.integers(0, 2**33).map(float),
    st.integers(1_700_000_000_000_000, 1_900_000_000_000_000).map(lambda at: at / 1e6),
)
TEXTS = st.text(st.characters(), max_size=40)
SPANS = st.none() | TIMES | st.integers(0, 2**34).map(lambda ticks: ticks / 2**22)
BATCHES = TEXTS | st.uuids().map(lambda one: one.hex) | st.uuids().map(lambda one: one.hex.upper())


@st.composite
def marks(draw: st.DrawFn) -> tuple[str, Mark]:
    """Draw a mark and its slot, fitting or not."""
    bucket, source = draw(TEXTS), draw(TEXTS)
    scope = draw(st.sampled_from(Scope))
    slot = MarkId(scope, bucket, "k", "v", draw(st.integers(0, 3))).slot
    written_at, found_at = draw(TIMES), draw(TIMES)
    upper = draw(SPANS | st.just(found_at - written_at))
    if upper is not None and math.isnan(upper):
        upper = None
    mark = Mark(
        fate=draw(st.sampled_from(Fate)),
        route=Route(
            draw(st.sampled_from([bucket, source])), draw(st.sampled_from(["", bucket, source]))
        ),
        written_at=written_at,
        found_at=found_at,
        batch=draw(BATCHES),
        size=draw(st.integers(0, 2**50)),
        lower=draw(SPANS | st.just(upper)),
        upper=upper,
        looks=draw(st.integers(0, 1000)),
        repaired=draw(st.booleans()),
        counts=draw(st.booleans()),
    )
    return slot, mark


RECORDS = st.builds(
    lambda bucket, size, looks, to: replace(
        record("k", bucket=bucket, size=size, to=to), looks=looks, rev=looks
    ),
    TEXTS,
    st.none() | st.integers(0, 2**50),
    st.integers(0, 1000),
    st.lists(TEXTS, max_size=3).map(tuple),
)
EARLY_FACTS = st.builds(EarlyFact, replicated_at=TIMES, size=st.none() | st.integers(0, 2**50))


@example(
    [],
    {
        "r:": Mark(
            fate=Fate.GONE, route=Route("", ""), written_at=0.0, found_at=1.0, batch="", upper=0.0
        )
    },
    {},
    None,
)
@given(
    st.lists(RECORDS, max_size=2),
    st.lists(marks(), max_size=3).map(dict),
    st.dictionaries(TEXTS, EARLY_FACTS, max_size=2),
    st.none() | st.integers(0, 2**33),
)
def test_a_trail_comes_back_as_it_was(
    records: list[Record],
    kept: dict[str, Mark],
    early_facts: dict[str, EarlyFact],
    until: int | None,
) -> None:
    """
    Every field, exactly, whatever the texts hold: lone surrogates too. Until when it is kept is written only where a
    record keeps it from expiring.
    """
    trail = Trail({one.version.bucket: one for one in records}, kept, early_facts)

    told = compact.decode(compact.encode(trail, until))

    assert told == (trail, until if records else None)


def test_every_fate_can_be_written_down() -> None:
    """A new one needs a number."""
    assert compact._FATE_NUMBERS.keys() == set(Fate)


def test_a_mark_of_a_later_version_can_be_read_and_of_an_earlier_one_too() -> None:
    """Invariant 9: fields that are not known are passed over, those that are not there have their defaults."""
    known = record("k")
    fields = msgspec.to_builtins(known) | {"new": 1}
    later = [
        [[b"r:dst", 0, 100, 4, b"\0" * 16, b"src", True, 1, 5, 0, 0, None, "new", 1]],
        [[b"r:x", 5, 1, 2]],
        [fields],
        7,
        9,
    ]
    read, until = compact.decode(msgspec.msgpack.encode(later))
    assert read.marks["r:dst"].written_at == 100.0
    assert read.early_facts["r:x"].size == 1
    assert read.records["src"] == known
    assert until == 7

    earlier, _ = compact.decode(msgspec.msgpack.encode([[[b"s:src", 2, 100, 4, b"\0" * 16]]]))
    assert earlier.marks["s:src"].route == Route("src", "")
    assert (earlier.records, earlier.early_facts) == ({}, {})


def test_a_mark_of_a_fate_that_came_later_still_proves_the_counting() -> None:
    """Invariant 9: what a newer daemon beside this one counted is not counted again, and is not told as an arrival."""
    later = [[[b"r:dst", 99, 100, 4, b"\0" * 16, b"src"]]]

    mark = compact.decode(msgspec.msgpack.encode(later))[0].marks["r:dst"]

    assert mark.fate is Fate.GIVEN_UP
    assert mark.counts


def test_a_usual_mark_is_small() -> None:
    """Most of the memory is marks."""
    one = record("k", bucket="data-lake-eu-central-1", to=("data-lake-us-east-1",), written_at=NOW)
    outcome = arrived(one, "data-lake-us-east-1", found_at=NOW + 41.2343750)
    mark = Mark(
        fate=outcome.fate,
        route=outcome.route,
        written_at=outcome.written_at,
        found_at=outcome.found_at,
        batch=uuid.uuid4().hex,
        size=12_345_678,
        lower=30.1718750,
        upper=outcome.found_at - outcome.written_at,
        looks=2,
    )

    assert len(compact.encode(Trail({}, {outcome.mark.slot: mark}))) <= 100
    assert len(compact.encode(Trail({}, {whole(one).mark.slot: replace(mark, upper=None)}))) <= 100


KNOWN = Mark(
    fate=Fate.MARKER_FAILED,
    route=Route("src", "dst"),
    written_at=1_000_000_000.0,
    found_at=1_000_000_005.0,
    batch="b1",
)


@pytest.mark.parametrize("key", ["plain", "\ud800"], ids=["msgpack", "json"])
def test_a_fate_that_only_a_later_version_knows_proves_the_counting(key: str) -> None:
    """Whatever it is: nobody counts the version again, and one mark harms nothing else of its trail."""
    mark = replace(KNOWN, batch=key)
    written = Body(Mark)
    body = written.encode(mark).replace(b"marker_failed", b"marker_doomed")

    assert written.decode(body) == replace(mark, fate=Fate.GIVEN_UP)


def test_a_fate_without_a_name_here_is_the_same_where_numbers_are_written() -> None:
    """Both forms make the same of it."""
    fields = msgspec.msgpack.decode(compact.encode(Trail({}, {"x:dst": KNOWN})))
    fields[0][0][1] = 99

    told = compact.decode(msgspec.msgpack.encode(fields))

    assert told == (Trail({}, {"x:dst": replace(KNOWN, fate=Fate.GIVEN_UP)}), None)
