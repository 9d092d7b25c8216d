"""Names of buckets in documents of limited size: full, and where they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.deployment.packing import Chunks, Room, TooLargeError, pack

TEN = Room(10, len)
NAMES = st.frozensets(st.text("abc", min_size=1, max_size=10), max_size=30)


def size(names: tuple[str, ...]) -> int:
    return sum(map(len, names))


def number_of(name: str, chunks: Chunks) -> int:
    (number,) = (number for number, names in chunks.items() if name in names)
    return number


def test_documents_are_filled_one_after_the_other() -> None:
    """In the order of the names, so that the same names always lie the same way; a gap takes what fits into it."""
    assert pack(["dddd", "bbb", "aaaaa", "ccccc", "ee"], TEN) == {
        1: ("aaaaa", "bbb", "ee"),
        2: ("ccccc", "dddd"),
    }


def test_what_has_gone_leaves_room_for_what_comes() -> None:
    """A document whose names have all gone is not there, and its number is given again."""
    before = pack(["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"], TEN)
    without = pack(["aaaaaaaaaa", "cccccccccc"], TEN, before=before)
    assert without == {1: ("aaaaaaaaaa",), 3: ("cccccccccc",)}
    assert pack(["aaaaaaaaaa", "cccccccccc", "d"], TEN, before=without)[2] == ("d",)


def test_a_name_that_fits_nowhere_is_refused() -> None:
    """It is named."""
    with pytest.raises(TooLargeError, match="bucket eleven-char is too long"):
        pack(["eleven-char"], TEN)


def test_documents_that_now_take_less_give_away_what_is_too_much() -> None:
    """The rest goes elsewhere instead of being over a limit."""
    before = {1: ("aaaaa", "bbbbb", "ccccc")}
    assert pack(["aaaaa", "bbbbb", "ccccc"], TEN, before=before) == {
        1: ("aaaaa", "bbbbb"),
        2: ("ccccc",),
    }


@given(NAMES, NAMES)
def test_each_wanted_name_lies_in_one_document_that_it_fits(
    earlier: frozenset[str], names: frozenset[str]
) -> None:
    """Whatever was there before."""
    chunks = pack(names, TEN, before=pack(earlier, TEN))
    assert sorted(name for chunk in chunks.values() for name in chunk) == sorted(names)
    assert all(0 < size(chunk) <= 10 for chunk in chunks.values())
    assert all(list(chunk) == sorted(chunk) for chunk in chunks.values())


@given(NAMES, NAMES)
def test_what_stays_wanted_stays_where_it_is(
    earlier: frozenset[str], names: frozenset[str]
) -> None:
    """A bucket that moved would be in no document for a moment."""
    before = pack(earlier, TEN)
    after = pack(names, TEN, before=before)
    for name in earlier & names:
        assert number_of(name, after) == number_of(name, before)


@given(NAMES, st.text("abc", min_size=1, max_size=10))
def test_one_name_more_or_less_changes_one_document(names: frozenset[str], name: str) -> None:
    """However many there are."""
    before = pack(names - {name}, TEN)
    more = pack(names | {name}, TEN, before=before)
    assert len(before.items() ^ more.items()) in {1, 2}  # a new one, or one as it was and as it is
    assert {chunk for chunk in more.items() if chunk not in before.items()} == {
        (number_of(name, more), more[number_of(name, more)])
    }
    assert pack(names - {name}, TEN, before=more) == before


@given(st.permutations(["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]))
def test_the_order_in_which_names_come_means_nothing(names: list[str]) -> None:
    """Equal names give equal documents."""
    assert pack(names, TEN) == pack(sorted(names), TEN)
