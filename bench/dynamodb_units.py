"""What DynamoDB asks for: units by the size of items, and dollars by units. Computed; the tests compare it with measured.

    python bench/dynamodb_units.py

prints what objects, leases and windows cost.
"""

import math
from collections.abc import Mapping
from typing import Any

from crrmon.domain.deployment.prices import of_units

MONTH_SECONDS = 30 * 86_400

_WRITE_BYTES = 1024
_READ_BYTES = 4096


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """
    Return the size of an item as DynamoDB counts it: names, texts and bytes as they are, numbers at two digits a byte.
    """
    size = 0
    for name, value in item.items():
        ((kind, content),) = value.items()
        size += len(name.encode())
        if kind == "N":
            size += math.ceil(len(content.strip("-").replace(".", "")) / 2) + 1
        else:
            size += len(content.encode() if isinstance(content, str) else content)
    return size


def write_units(size: int, *, transactional: bool = False, index_writes: int = 0) -> int:
    """
    Return what writing or deleting an item costs.

    Args:
        size: bytes of the larger of what was there and what is there then.
        transactional: costs the table double; the index follows by itself, at the normal price.
        index_writes: 1 when the item comes into the index or leaves it, 2 when its key there changes.
    """
    units = max(math.ceil(size / _WRITE_BYTES), 1)
    return units * (2 if transactional else 1) + index_writes


def read_units(size: int, *, consistent: bool = True) -> float:
    """Return what reading costs: an item got alone or in a batch, or all items of one page of a query together."""
    return max(math.ceil(size / _READ_BYTES), 1) * (1.0 if consistent else 0.5)


class Object:
    """
    Units of one object with one destination, in full batches.

    Args:
        batch: trails of a transaction.
        mark: bytes of a settled trail.
        record: of one that is parked.
        entry: of the journal's item of a batch.
    """

    def __init__(
        self, *, batch: int = 32, mark: int = 400, record: int = 700, entry: int = 700
    ) -> None:
        self.batch = batch
        self.entry = entry
        self._mark = mark
        self._record = record
        # It is written in a transaction, read twice (to be reported, to be frozen) and deleted.
        self.entry_writes = write_units(entry, transactional=True) + write_units(entry)

    @property
    def first_look(self) -> tuple[float, float]:
        """Write and read units of one settled at its first look: asked for, settled, reported."""
        writes = write_units(self._mark, transactional=True) + self.entry_writes / self.batch
        return writes, read_units(self._mark)

    def parked(self, further_looks: int) -> tuple[float, float]:
        """
        Write and read units of one that is parked without a look, looked at, so often again, and settled.

        One that is no longer among the last 1,000 that the daemon found due is read once more when it is written.
        """
        share = self.entry_writes / self.batch
        park = write_units(self._record, transactional=True, index_writes=1) + share
        again = write_units(self._record, index_writes=2)
        settle = write_units(self._record, transactional=True, index_writes=1) + share
        # Each look finds it in the index (a share of a page for each shard: half a unit each, for 64 of them when as
        # many are taken up at once) and reads it. Writing reads nothing: what was found due is still known.
        look = 0.5 + read_units(self._record)
        reads = read_units(self._mark) + (1 + further_looks) * look
        return park + further_looks * again + settle, reads


def idle(*, replicas: int, shards: int = 64) -> dict[str, tuple[float, float]]:
    """Return what a fleet without objects asks for in a month, writes and reads, by what it is for."""
    round_seconds, window_seconds, gauges_seconds, ahead_seconds = 6.0, 300.0, 10.0, 5.0
    rounds, windows = MONTH_SECONDS / round_seconds, MONTH_SECONDS / window_seconds
    seconds = MONTH_SECONDS
    # Leases: each replica reads all of them, and reads and writes them once more to renew its own.
    leases = (replicas * rounds, replicas * rounds * 2)
    # What is due: each shard is asked by one replica; a page that holds nothing costs half a unit.
    due = (0.0, shards * seconds / ahead_seconds * 0.5)
    # A window: its parts and header, the lease's check, the number, and for each of two parts a transaction.
    publishing = (
        windows * (2 + 2 + 2 + 2 + 2 * (2 + 2 + 1)),
        # Every second: the newest window and the unsent ones; with each window its check, the journal, the routes.
        seconds * 2 + windows * 20,
    )
    # The gauges: windows, four partitions of the journal, the newest number, the routes.
    gauges = (0.0, seconds / gauges_seconds * 7)
    return {"leases": leases, "due": due, "publishing": publishing, "gauges": gauges}


def lessons(*, seconds: float, soonest: float = 30.0) -> tuple[float, float]:
    """Return the most units that a replica asks for to hand on what it learns of one path's latencies, writes and reads.

    Each lesson reads the path's item and writes it: a kilobyte at the most, but for the longest names.
    """
    return seconds / soonest * write_units(1024), seconds / soonest * read_units(1024)


def due_round(
    *, found: int, taken: int, shards: int = 64, entry: int = 75, record: int = 700
) -> float:
    """
    Return the read units of asking once what is due, while there is much of it.

    Args:
        found: due trails that the index tells of each shard, as many as are asked for at the most.
        taken: trails that are read then, the longest due of all shards.
        shards: how many are asked.
        entry: bytes of a trail in the index.
        record: bytes of a parked trail.
    """
    return shards * read_units(found * entry, consistent=False) + taken * read_units(record)


def main() -> None:
    """Print it."""
    one = Object()
    for name, (writes, reads) in (
        ("settled at its first look", one.first_look),
        ("parked, settled at the next look", one.parked(0)),
        ("parked, two further looks", one.parked(2)),
    ):
        million = of_units(writes * 1e6, reads * 1e6)
        print(f"{name}: {writes:.2f} writes, {reads:.2f} reads, ${million:.2f} per million")
    for found in (1, 16, 64):
        reads = due_round(found=found, taken=64)
        print(
            f"asking what is due, {found} in each of 64 shards, 64 taken: {reads:.0f} reads, "
            f"{reads / 64:.2f} for each, ${of_units(0, reads / 64 * 1e6):.2f} per million"
        )
    for replicas in (1, 3):
        parts = idle(replicas=replicas)
        total = sum(of_units(*units) for units in parts.values())
        told = ", ".join(f"{name} ${of_units(*units):.2f}" for name, units in parts.items())
        print(f"idle, {replicas} replicas, a month: ${total:.2f} ({told})")
    units = lessons(seconds=3600)
    month = of_units(*lessons(seconds=MONTH_SECONDS))
    print(
        f"what is learned of a busy path, for each replica: {units[0]:.0f} writes, {units[1]:.0f} reads an hour,"
        f" ${month:.2f} a month"
    )


if __name__ == "__main__":
    main()
