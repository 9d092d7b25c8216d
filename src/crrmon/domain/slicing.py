"""Long things in parts of a limited size, for whoever takes only so much at once."""

from typing import Protocol, Self, TypeVar


class _Sliceable(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> Self: ...


Whole = TypeVar("Whole", bound=_Sliceable)


def sliced(whole: Whole, size: int) -> list[Whole]:
    """Cut a sequence, or bytes, into parts of a size, of which the last may be smaller; nothing has no parts."""
    return [whole[start : start + size] for start in range(0, len(whole), size)]
