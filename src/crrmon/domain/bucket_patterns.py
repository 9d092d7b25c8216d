"""Patterns of bucket names, as `fnmatch` reads them: whether any name fits two of them."""

import fnmatch
import functools
import string

_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._-")
"""What names of buckets consist of."""


def overlap(one: str, two: str) -> bool:
    """Return whether there can be a bucket that fits both patterns.

    Args:
        one: a pattern with *, ?, [abc], [a-c] and [!a].
        two: another one.
    """
    first, second = _parts(one), _parts(two)
    if frozenset() in (*first, *second):
        return False  # one fits no bucket at all

    @functools.cache
    def meet(here: int, there: int) -> bool:
        """Return whether what is left of both patterns fits one text."""
        left, right = here < len(first), there < len(second)
        if left and first[here] is None:
            return meet(here + 1, there) or (right and meet(here, there + 1))
        if right and second[there] is None:
            return meet(here, there + 1) or (left and meet(here + 1, there))
        if not (left and right):
            return left == right
        common = (first[here] or frozenset()) & (second[there] or frozenset())
        return bool(common) and meet(here + 1, there + 1)

    return meet(0, 0)


def _parts(pattern: str) -> list[frozenset[str] | None]:
    """Take a pattern apart: the characters that may stand in each place; None for any number of any."""
    parts: list[frozenset[str] | None] = []
    at = 0
    while at < len(pattern):
        end = at + 1
        if pattern[at] == "[":
            # A bracket right after the first one, or after its negation, is one of the characters.
            closed = pattern.find("]", at + 2 + (pattern[at + 1 : at + 2] == "!"))
            end = closed + 1 if closed >= 0 else end
        part = pattern[at:end]
        fits = frozenset(
            character for character in _CHARACTERS if fnmatch.fnmatchcase(character, part)
        )
        parts.append(None if part == "*" else fits)
        at = end
    return parts
