"""Reading items by key: what several want at the same time is asked in one call."""

import asyncio
from collections.abc import Sequence

from crrmon.adapters.stores.dynamodb.attributes import position_of
from crrmon.adapters.stores.dynamodb.calls import Calls
from crrmon.adapters.stores.dynamodb.items import found_of, position
from crrmon.ports.clock import Clock
from crrmon.ports.store import Found, Key


class JoinedReads:
    """
    Reads items for several at once.

    Args:
        calls: to the table.
        clock: tells what has expired.
    """

    def __init__(self, calls: Calls, *, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._asking: list[tuple[Sequence[Key], asyncio.Future[list[Found]]]] = []
        self._reading: set[asyncio.Task[None]] = set()

    async def get(self, keys: Sequence[Key]) -> Sequence[Found]:
        """
        Read items as they are now.
        """
        loop = asyncio.get_running_loop()
        if not self._asking:
            loop.call_soon(self._read_all)
        answer: asyncio.Future[list[Found]] = loop.create_future()
        self._asking.append((keys, answer))
        return await answer

    def _read_all(self) -> None:
        asking, self._asking = self._asking, []
        task = asyncio.create_task(self._answer(asking), name="read items")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _answer(
        self, asking: Sequence[tuple[Sequence[Key], asyncio.Future[list[Found]]]]
    ) -> None:
        try:
            wanted = {position(key): key for keys, _ in asking for key in keys}
            items = await self._calls.get_all(list(wanted))
            now = self._clock.now()
            found = {}
            for item in items:
                key = wanted[position_of(item)]
                found[key] = found_of(key, item, now=now)
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait are told
            for _, answer in asking:
                if not answer.done():
                    answer.set_exception(error)
            return
        for keys, answer in asking:
            if not answer.done():
                answer.set_result([found[key] for key in keys if key in found])
