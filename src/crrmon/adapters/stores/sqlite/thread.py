"""The one thread in which SQLite works, so that the loop never waits for a disk.

An executor of Python's would do, but every call to one passes two futures and several locks: twice the CPU time of the
hand-over itself, which is a tenth of what an object costs where batches are small.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class _Task(msgspec.Struct, frozen=True):
    """Something to be done, and who waits for it."""

    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[Any]"

    def carry_out(self) -> None:
        """Do it, in the thread, and tell the loop."""
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._tell(self._fail, error)
        else:
            self._tell(self._succeed, result)

    def _tell(self, how: Callable[[Any], None], what: object) -> None:
        try:
            self.loop.call_soon_threadsafe(how, what)
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            # Nobody is there any more to be told.

    def _succeed(self, result: object) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class LedgerThread:
    """A thread that does one thing after the other."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._stopped = False
        # As a daemon: what it is at when the process ends is a transaction, done or not.
        threading.Thread(target=self._work, name="ledger", daemon=True).start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.carry_out()
            del task  # what was asked for must not live on until the next task comes

    async def run(self, work: Callable[[], T]) -> T:
        """Do something in the thread; whoever is cancelled meanwhile does not learn what came of it.

        Raises:
            RuntimeError: it was stopped; or whatever doing it raises.
        """
        if self._stopped:
            raise RuntimeError("the ledger is closed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._tasks.put(_Task(work, loop, done))
        return await done

    def stop(self) -> None:
        """End the thread, when all is done that was asked for."""
        self._stopped = True
        self._tasks.put(None)
