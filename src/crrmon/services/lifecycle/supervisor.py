"""The life of the daemon: root tasks that must never end, and an end in order.

Every root task has a name and is guarded: one that returns or raises although nobody asked it to is a fault, and the
daemon ends loudly instead of living on by halves. When it is to stop, intake stops first, what is held is finished or
given back, and everything else goes on until that is done or the grace is over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

import structlog

log = structlog.get_logger()


class UnexpectedEndError(Exception):
    """A root task ended by itself; the text names it."""


async def supervise(
    roots: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
    *,
    stop: asyncio.Event,
    drain: Callable[[], Awaitable[None]],
    grace: float,
) -> None:
    """Run root tasks until `stop` is set or one of them ends, then drain within `grace` seconds and end them all.

    Args:
        roots: by name; each is expected to run until it is cancelled, or until `drain` has started.
        stop: set by whoever wants the daemon to end.
        drain: stops intake and waits until nothing is held.
        grace: seconds for `drain`.

    Raises:
        UnexpectedEndError: a root task ended before it was asked to.
    """
    tasks = [asyncio.create_task(root(), name=name) for name, root in roots.items()]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    told: set[asyncio.Task[None]] = set()
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        fault = None if stop.is_set() else _fault(tasks)
        told = _tell_errors(tasks)
        log.info("stopping", reason="asked to" if fault is None else str(fault))
        await _drained(drain, grace)
    finally:
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
        _tell_errors(task for task in tasks if task not in told)
    if fault is not None:
        raise fault


def _fault(tasks: Iterable[asyncio.Task[None]]) -> UnexpectedEndError:
    ended = next(task for task in tasks if task.done())
    error = None if ended.cancelled() else ended.exception()
    fault = UnexpectedEndError(f"task {ended.get_name()!r} ended unexpectedly: {error!r}")
    fault.__cause__ = error
    return fault


def _tell_errors(tasks: Iterable[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Log what tasks raised, with tracebacks, and return those tasks."""
    raised = set()
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_ended", task=task.get_name(), exc_info=error)
            raised.add(task)
    return raised


async def _drained(drain: Callable[[], Awaitable[None]], grace: float) -> None:
    try:
        async with asyncio.timeout(grace):
            await drain()
    except TimeoutError:
        # Nothing is lost: what was not acknowledged comes again.
        log.warning("shutdown_timeout", grace_seconds=grace)
    else:
        log.info("drained")
