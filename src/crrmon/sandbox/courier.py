"""Brings messages into the queue, some time after what they tell of."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the stubs are there for development only
    from types_aiobotocore_sqs import SQSClient


class Courier:
    """Sends each message on its own, so that they overtake each other."""

    def __init__(self, sqs: "SQSClient", queue_url: str, tasks: asyncio.TaskGroup) -> None:
        """Args:
        sqs: client of the queue's region.
        queue_url: the queue.
        tasks: where messages on their way live.
        """
        self._sqs = sqs
        self._queue_url = queue_url
        self._tasks = tasks
        self._on_the_way: set[asyncio.Task[None]] = set()
        self.delivered = 0

    def send(self, body: str, *, after: float) -> None:
        """Deliver a message in `after` seconds."""
        task = self._tasks.create_task(self._deliver(body, after))
        self._on_the_way.add(task)
        task.add_done_callback(self._on_the_way.discard)

    @property
    def on_the_way(self) -> int:
        """How many messages are not in the queue yet."""
        return len(self._on_the_way)

    async def finished(self) -> None:
        """Wait until all is delivered."""
        while self._on_the_way:
            await asyncio.wait(self._on_the_way)

    async def _deliver(self, body: str, after: float) -> None:
        await asyncio.sleep(after)
        await self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=body)
        self.delivered += 1
