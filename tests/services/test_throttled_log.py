"""However often something happens, it is a line a minute, and nothing that happened is left out of the counts."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from crrmon.services.lifecycle.throttled_log import EXAMPLES, KINDS, ThrottledLog

log = structlog.get_logger()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """Collect what is logged."""
    with structlog.testing.capture_logs() as collected:
        yield collected


async def test_r11_the_first_at_once_and_the_others_once_a_minute(logs: list[Any]) -> None:
    """R11: 1,500 in two minutes are three lines, whose numbers add up, with examples and the fields of the first."""
    told = ThrottledLog(log, "message_malformed", level="error")
    for number in range(1500):
        told.met("no JSON", example=f"m{number}", reason="no JSON", message_id=f"m{number}")
        await asyncio.sleep(0.08)
    await asyncio.sleep(120)

    assert [one["times"] for one in logs] == [1, 749, 750]
    assert {one["log_level"] for one in logs} == {"error"}
    assert logs[0]["examples"] == ["m0"]
    assert logs[1]["examples"] == [f"m{number}" for number in range(1, 1 + EXAMPLES)]
    assert logs[1]["message_id"] == "m1"


async def test_r11_each_kind_has_a_line_of_its_own_up_to_a_limit(logs: list[Any]) -> None:
    """R11: whoever makes up kinds gets one line for all beyond the limit; a quiet minute makes room again."""
    told = ThrottledLog(log, "head_inconclusive")
    for number in range(1000):
        told.met(f"bucket{number}", bucket=f"bucket{number}")
    await asyncio.sleep(61)
    assert len(logs) == KINDS + 1 + 1, (
        "the first of each, the first of the others, and how many these were"
    )
    assert logs[-1]["times"] == 1000 - KINDS - 1
    await asyncio.sleep(120)
    told.met("new", bucket="new")
    assert logs[-1]["bucket"] == "new"


async def test_r11_at_the_end_nothing_is_left_untold(logs: list[Any]) -> None:
    """R11: what waits for its line when the daemon stops is told then."""
    told = ThrottledLog(log, "message_return_failed")
    for _ in range(3):
        told.met("queue", queue="queue")
    told.tell()
    assert [one["times"] for one in logs] == [1, 2]
    told.tell()
    assert len(logs) == 2
