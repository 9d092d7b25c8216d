"""Whether a bucket can fit two patterns."""

import fnmatch
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrmon.domain.bucket_patterns import overlap


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        ("same", "same", True),
        ("same", "other", False),
        ("*", "same", True),
        ("a-*", "b-*", False),
        ("a-*", "*-b", True),
        ("a*b", "ab", True),
        ("a*b", "a", False),
        ("a?", "ab", True),
        ("a?", "a", False),
        ("a[0-9]", "a5", True),
        ("a[!0-9]", "a5", False),
        ("a[0-9]*", "*[!a-z]", True),
        ("a[0-9]", "a[a-z]", False),
        ("a[]b]", "ab", True),
        ("a[", "a*", False),
        ("a[]]", "a*", False),
        ("**", "?*?", True),
        ("x*y*z", "*w*", True),
    ],
)
def test_m6_which_patterns_share_a_bucket(one: str, two: str, *, both: bool) -> None:
    """M6: two patterns overlap where any name of a bucket fits both."""
    assert overlap(one, two) is both
    assert overlap(two, one) is both


NAMES = ["".join(name) for length in range(7) for name in itertools.product("ab1", repeat=length)]
"""Two patterns of four parts have a name of six characters in common, or none."""

PARTS = st.sampled_from(["a", "b", "1", "*", "?", "[ab]", "[!a]", "[0-9]"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("".join)


@given(one=PATTERNS, two=PATTERNS)
def test_m6_as_trying_all_names_tells(one: str, two: str) -> None:
    """What trying every short name tells is what is worked out."""
    fits = re.compile(fnmatch.translate(one)), re.compile(fnmatch.translate(two))
    found = any(all(pattern.match(name) for pattern in fits) for name in NAMES)

    assert overlap(one, two) is found
