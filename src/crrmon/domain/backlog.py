"""The backlog: how much is pending and failed on each route, by when it was written, kept as sums and never listed."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from crrmon.domain.objects import Route
from crrmon.domain.records import Record, State

BACKLOG_SLOT_SECONDS = 60


class BacklogSlot(msgspec.Struct, frozen=True, kw_only=True):
    """What is not yet replicated of one route, by when it was written."""

    route: Route
    written_from: float
    """Start of the slot of `BACKLOG_SLOT_SECONDS`, in seconds since the epoch."""
    pending_objects: int = 0
    pending_bytes: int = 0
    failed_objects: int = 0
    failed_bytes: int = 0


class BacklogChange:
    """How the backlog changes when records come, change and go."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Route, float], list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def replace(self, old: Record | None, new: Record | None) -> None:
        """Count one record instead of another."""
        if old is not None:
            self._add(old, -1)
        if new is not None:
            self._add(new, 1)

    def _add(self, record: Record, sign: int) -> None:
        size = sign * (record.size or 0)
        slot = float(math.floor(record.written_at / BACKLOG_SLOT_SECONDS) * BACKLOG_SLOT_SECONDS)
        # NB: two rules may lead to the same bucket, and a version stands once on each route.
        for route, state in dict(record.standings()).items():
            sums = self._sums[route, slot]
            first = 2 if state is State.FAILED else 0
            sums[first] += sign
            sums[first + 1] += size

    def sums(self) -> Iterator[tuple[tuple[Route, float], Sequence[int]]]:
        """Return by how much each slot changes, in the order of `BacklogSlot`; those that do not change are left out."""
        return ((slot, sums) for slot, sums in self._sums.items() if any(sums))


def backlog_slot(route: Route, written_from: float, amounts: Sequence[int]) -> BacklogSlot:
    """Return the sums of a slot as the port tells them.

    A sum below zero is wrong, by whatever fault; it is never told.

    Args:
        route: of the slot.
        written_from: its start, in seconds since the epoch.
        amounts: in the order of `BacklogSlot`.
    """
    pending_objects, pending_bytes, failed_objects, failed_bytes = (
        max(int(amount), 0) for amount in amounts
    )
    return BacklogSlot(
        route=route,
        written_from=written_from,
        pending_objects=pending_objects,
        pending_bytes=pending_bytes,
        failed_objects=failed_objects,
        failed_bytes=failed_bytes,
    )
