"""Root tasks must never end by themselves, and the end comes in order and in time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import structlog

from crrmon.services.lifecycle.supervisor import UnexpectedEndError, supervise

Root = Callable[[], Coroutine[Any, Any, None]]

GRACE = 20.0


class Life:
    """What happened, in order, and when."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.events: list[str] = []
        self.ended_at = 0.0

    def steady(self, name: str) -> Root:
        """Make a root that goes on until it is cancelled."""

        async def run() -> None:
            self.events.append(f"{name} begins")
            try:
                await asyncio.Event().wait()
            finally:
                self.events.append(f"{name} ends")

        return run

    def draining(self, seconds: float) -> Root:
        async def drain() -> None:
            self.events.append("drain begins")
            await asyncio.sleep(seconds)
            self.events.append("drain ends")

        return drain

    async def run(self, roots: dict[str, Root], *, drain: float = 1.0) -> None:
        try:
            await supervise(roots, stop=self.stop, drain=self.draining(drain), grace=GRACE)
        finally:
            self.ended_at = asyncio.get_running_loop().time()

    def stop_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.stop.set)


async def returns() -> None:
    """Return after a while."""
    await asyncio.sleep(5)


async def raises() -> None:
    """Break after a while."""
    await asyncio.sleep(5)
    raise ZeroDivisionError("a mistake")


async def is_cancelled() -> None:
    """Be cancelled after a while."""
    await asyncio.sleep(5)
    raise asyncio.CancelledError


async def test_it_ends_in_order_when_asked_to() -> None:
    """D44: draining comes first, while every root still runs; then all of them end, and none is left."""
    life = Life()
    life.stop_after(100)

    await life.run({"one": life.steady("one"), "two": life.steady("two")})

    assert life.events[:2] == ["one begins", "two begins"]
    assert life.events[2:4] == ["drain begins", "drain ends"]
    assert sorted(life.events[4:]) == ["one ends", "two ends"]
    assert life.ended_at == pytest.approx(101)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("root", "reason"),
    [(returns, "None"), (raises, "ZeroDivisionError('a mistake')"), (is_cancelled, "None")],
)
async def test_a_root_that_ends_by_itself_ends_everything(root: Root, reason: str) -> None:
    """A root that returns, raises or is cancelled is a fault that names it; the others are drained and ended."""
    life = Life()

    with pytest.raises(UnexpectedEndError) as caught:
        await life.run({"steady": life.steady("steady"), "faulty one": root})

    assert "'faulty one'" in str(caught.value)
    assert reason in str(caught.value)
    assert life.events == ["steady begins", "drain begins", "drain ends", "steady ends"]
    assert life.ended_at == pytest.approx(6)


async def test_the_fault_is_logged_with_its_traceback() -> None:
    """Whoever reads the log finds where the root broke, not only that it did; also when only errors are logged."""
    life = Life()

    with structlog.testing.capture_logs() as logs, pytest.raises(UnexpectedEndError):
        await life.run({"faulty one": raises})

    (fault,) = [one for one in logs if one["event"] == "task_ended"]
    assert fault["log_level"] == "error"
    assert fault["task"] == "faulty one"
    assert isinstance(fault["exc_info"], ZeroDivisionError)


async def test_a_root_that_breaks_while_draining_is_told_of() -> None:
    """It ends anyway, so that is no fault; but nothing is swallowed."""
    life = Life()
    life.stop_after(4.5)

    with structlog.testing.capture_logs() as logs:
        await life.run({"faulty one": raises, "steady": life.steady("steady")})

    assert [one["task"] for one in logs if one["event"] == "task_ended"] == ["faulty one"]


async def test_draining_lasts_no_longer_than_the_grace() -> None:
    """When the grace is over everything ends, whatever is still held; the log says so."""
    life = Life()
    life.stop_after(100)

    with structlog.testing.capture_logs() as logs:
        await life.run({"one": life.steady("one")}, drain=1e9)

    assert life.ended_at == pytest.approx(100 + GRACE)
    assert life.events[-1] == "one ends"
    assert [one["grace_seconds"] for one in logs if one["event"] == "shutdown_timeout"] == [GRACE]


async def test_what_cannot_be_drained_is_no_reason_to_live_on() -> None:
    """If draining itself breaks, the roots are ended all the same, and the error is heard of."""
    life = Life()
    life.stop_after(1)

    async def drain() -> None:
        raise ZeroDivisionError("a mistake")

    with pytest.raises(ZeroDivisionError):
        await supervise({"one": life.steady("one")}, stop=life.stop, drain=drain, grace=GRACE)

    assert life.events == ["one begins", "one ends"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_root_may_end_once_draining_has_begun() -> None:
    """Receivers end when intake stops: no fault."""
    life = Life()
    life.stop_after(10)

    async def receiver() -> None:
        await life.stop.wait()

    await life.run({"receiver": receiver, "one": life.steady("one")})

    assert life.ended_at == pytest.approx(11)


async def test_asked_to_stop_before_it_began() -> None:
    """A signal during the start is not lost: it drains and ends at once."""
    life = Life()
    life.stop.set()

    await life.run({"one": life.steady("one")})

    assert life.ended_at == pytest.approx(1)
