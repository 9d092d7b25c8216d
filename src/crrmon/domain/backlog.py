"""The backlog: how much is pending and failed on each route, by when it was written, kept as sums and never listed."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from crrmon.domain.objects import Route
from crrmon.domain.records import Record, State

BACKLOG_SLOT_SECONDS = 60

Amounts = tuple[int, int, int, int]
"""Pending objects and bytes, failed objects and bytes."""


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
        for record, sign in ((old, -1), (new, 1)):
            if record is None:
                continue
            for slot, amounts in share(record).items():
                sums = self._sums[slot]
                for place, amount in enumerate(amounts):
                    sums[place] += sign * amount

    def sums(self) -> Iterator[tuple[tuple[Route, float], Sequence[int]]]:
        """Return by how much each slot changes, as `Amounts`; those that do not change are left out."""
        return ((slot, sums) for slot, sums in self._sums.items() if any(sums))


def share(record: Record) -> dict[tuple[Route, float], Amounts]:
    """Return what one record adds to the backlog, by slot: route, and when it was written."""
    size = record.size or 0
    slot = float(math.floor(record.written_at / BACKLOG_SLOT_SECONDS) * BACKLOG_SLOT_SECONDS)
    return {
        (route, slot): (0, 0, 1, size) if state is State.FAILED else (1, size, 0, 0)
        for route, state in record.standings()
    }


def backlog_slot(route: Route, written_from: float, amounts: Sequence[int]) -> BacklogSlot:
    """Return the sums of a slot as the port tells them.

    A sum below zero is wrong, by whatever fault; it is never told.

    Args:
        route: of the slot.
        written_from: its start, in seconds since the epoch.
        amounts: as `Amounts`.
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
