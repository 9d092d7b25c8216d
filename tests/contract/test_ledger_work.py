"""How much work the reference does for each call. (What SQLite does is counted in its own tests.)"""

import sys
import weakref
from types import FrameType
from typing import Any, Self

import pytest

from crrmon.adapters.stores.memory import MemoryStore
from crrmon.ledger.layout import TRAILS
from crrmon.ports.store import ABSENT, Key, Put, Tag
from fakes.ledger_use import holding, publish
from fakes.ledger_values import NOW, done, failed, record, replica
from fakes.ledgers import MemoryLedger


class Steps:
    """Counts the bytecodes that Python runs."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        # NB: from Python 3.12 on, opcodes are only told if some frame asked for them before.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._entered)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _entered(self, frame: FrameType, _event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._stepped

    def _stepped(self, _frame: FrameType, event: str, _: Any) -> Any:
        self.count += event == "opcode"
        return self._stepped


async def steps_of_work(number: int) -> int:
    """Do each kind of steady work on a ledger with so many records and failures; return the steps."""
    ledger = MemoryLedger()
    records = [record(f"k{at}", next_look_at=NOW - at) for at in range(number)]
    await ledger.park([*records, *(failed(f"f{at}", next_look_at=NOW) for at in range(number))])
    # What was written since the last window is added up when the backlog is told.
    await publish(ledger, await holding(ledger), NOW, parts=())
    with Steps() as steps:
        due = await ledger.due(range(64), now=NOW, limit=3)
        assert await ledger.due(range(64), now=NOW - 1e6, limit=3) == []
        await ledger.seen([one.replica_mark("dst") for one in due])
        await ledger.reschedule(due[:1])
        await ledger.note([replica(due[1].version.key, at=NOW)], now=NOW)
        await ledger.settle("b1", [done(one) for one in due], now=NOW)
        await ledger.park(records[-3:])
        await ledger.failures(limit=3)
        await ledger.backlog()
        await ledger.sweep(now=NOW)
    return steps.count


async def test_the_reference_does_not_scan_either() -> None:
    """Invariant 6: as many steps with 4,000 records as with 200."""
    await steps_of_work(10)  # the first time round, newer Pythons do not tell every opcode
    few, many = await steps_of_work(200), await steps_of_work(4000)

    assert many == pytest.approx(few, rel=0.05)


async def test_the_reference_sweeps_in_portions() -> None:
    """No call holds up the loop for long, however much has expired."""
    ledger = MemoryLedger(retention_seconds=10)
    for number in range(3):
        batch = [done(record(f"k{number}.{one}")) for one in range(5000)]
        await ledger.settle(f"b{number}", batch, now=NOW)

    portions = [await ledger.sweep(now=NOW + 10) for _ in range(3)]

    assert portions == [10_000, 5_000, 0]


class _Equal:
    """What a tag holds: it is equal to a body, and can be watched."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __eq__(self, other: object) -> bool:
        return other == self._body

    def __hash__(self) -> int:
        return hash(self._body)


async def test_invariant_7_the_reference_keeps_nothing_of_what_was_there_before() -> None:
    """A million records that were looked at take no more than as many that were not."""
    store, key = MemoryStore(), Key(TRAILS, 0, b"k")
    await store.write([Put(key, b"first", ABSENT, due=1.0)])
    before = _Equal(b"first")
    watched = weakref.ref(before)

    await store.write([Put(key, b"second", Tag(before), due=2.0)])
    del before

    assert watched() is None
    assert [one.body for one in await store.get([key])] == [b"second"]


async def test_what_was_found_due_last_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many trails, those found longest ago are forgotten: one that was found again is not among them."""
    monkeypatch.setattr("crrmon.ledger.trails._REMEMBERED", 2)
    ledger = MemoryLedger(shards=1)
    await ledger.park([record(key, next_look_at=NOW + at) for at, key in enumerate("abc")])
    a, b, c = await ledger._store.due(TRAILS, [0], until=NOW + 2, limit=3)

    for found in ([a, b], [a], [c]):
        await ledger._trails.read_due(found)

    assert list(ledger._trails.recalled([one.key.sort for one in (a, b, c)])) == [
        a.key.sort,
        c.key.sort,
    ]
