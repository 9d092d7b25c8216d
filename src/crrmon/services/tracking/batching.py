"""Many single requests, few calls: what is asked for at about the same time is done together.

An item waits no longer than the call before it takes: while one call is under way the next batch gathers. So batches
are small when it is quiet and large when it is busy, without any delay built in but a short `linger`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers items and hands them on in batches.

    Args:
        act: does a batch; returns one result for each item, in order. What it raises, everybody in the batch gets.
        name: of its task, for whoever debugs.
        size: most items of a batch.
        linger: seconds to wait for more items when a batch is not full.
        lanes: how many batches may be under way at once.
    """

    def __init__(
        self,
        act: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        name: str,
        size: int,
        linger: float = 0.0,
        lanes: int = 1,
    ) -> None:
        self._act = act
        self._name = name
        self._size = size
        self._linger = linger
        self._lanes = lanes
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._full = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Submit an item and return what will have its result."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._waiting) >= self._size:
            self._full.set()
        if len(self._tasks) < self._lanes:
            task = asyncio.create_task(self._work(), name=f"batch {self._name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def drained(self) -> None:
        """Wait until nothing is waiting or under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < self._size and self._linger:
                    await self._gather()
                batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
                if len(self._waiting) < self._size:
                    self._full.clear()
                if batch:
                    await self._do(batch)
        finally:
            # NB: at once. Done callbacks run later; whoever submits again before them, because its result has just
            # come, would find all lanes taken and nobody at work.
            self._tasks.discard(asyncio.current_task())

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(self._linger):
                await self._full.wait()
        except TimeoutError:
            return

    async def _do(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        # Whoever gave up waiting is not worth a place; the work itself is harmless to repeat.
        batch = [one for one in batch if not one[1].done()]
        if batch:
            await self._do_all(batch)

    async def _do_all(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._act([item for item, _ in batch])
            answered = list(zip(batch, results, strict=True))
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            if len(batch) > 1:
                # One bad item harms itself only: who is it?
                for one in batch:
                    await self._do([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in answered:
            if not future.done():
                future.set_result(result)
