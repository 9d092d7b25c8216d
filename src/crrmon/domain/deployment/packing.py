"""Names of buckets, distributed over as few documents of limited size as can be.

A document that changes is a change of something that works: a rule from which a bucket has gone before another one has
it loses events, a policy lets nobody in for a moment. So a bucket stays where it is, and a new one goes where there is
room: one bucket more changes one document.
"""

from collections.abc import Callable, Collection, Mapping

import msgspec


class TooLargeError(ValueError):
    """One name alone does not fit."""


class Room(msgspec.Struct, frozen=True):
    """How much fits into a document."""

    total: int
    """Characters that all names may take together."""
    each: Callable[[str], int]
    """How many characters a name takes, with what stands around it."""


Chunks = Mapping[int, tuple[str, ...]]
"""Names by the number of their document, from 1 on; sorted. Numbers whose names have gone are left out."""

NOTHING: Chunks = {}


def pack(names: Collection[str], room: Room, *, before: Chunks = NOTHING) -> Chunks:
    """
    Distribute names.

    Args:
        names: of buckets; in any order, and each as often as it comes.
        room: what fits into one document.
        before: how they lie now. Whatever is still wanted and still fits stays there.

    Returns:
        By number of the document, in the order of the numbers. The same for the same names and `before`.

    Raises:
        TooLargeError: a name does not fit into a document of its own.
    """
    wanted = set(names)
    chunks: dict[int, list[str]] = {}
    left: dict[int, int] = {}

    def put(name: str, number: int) -> bool:
        size = room.each(name)
        if left.get(number, room.total) < size:
            return False
        left[number] = left.get(number, room.total) - size
        chunks.setdefault(number, []).append(name)
        wanted.discard(name)
        return True

    for number, names_before in sorted(before.items()):
        for name in sorted(names_before):
            if name in wanted:
                put(name, number)
    for name in sorted(wanted):
        if room.each(name) > room.total:
            raise TooLargeError(f"the name of bucket {name} is too long: nothing can name it")
        number = 1
        while not put(name, number):
            number += 1
    return {number: tuple(sorted(chunks[number])) for number in sorted(chunks)}
