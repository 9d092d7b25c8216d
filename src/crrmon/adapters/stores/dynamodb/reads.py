"""Reading items by key: what several want at the same time is asked in one call."""

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from crrmon.adapters.stores.dynamodb.attributes import position_of
from crrmon.adapters.stores.dynamodb.calls import Calls
from crrmon.adapters.stores.dynamodb.items import found_of, position
from crrmon.ports.clock import Clock
from crrmon.ports.store import Found, Key, UnwritableError


class _Asker(msgspec.Struct, frozen=True):
    """Some items that somebody waits for."""

    keys: Sequence[Key]
    answer: asyncio.Future[list[Found]]


class JoinedReads:
    """Reads items for several at once.

    Args:
        calls: to the table.
        clock: tells what has expired.
    """

    def __init__(self, calls: Calls, *, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._askers: list[_Asker] = []
        self._reading: set[asyncio.Task[None]] = set()

    async def get(self, keys: Sequence[Key]) -> list[Found]:
        """Read items as they are now."""
        loop = asyncio.get_running_loop()
        if not self._askers:
            loop.call_soon(self._read_all)
        answer: asyncio.Future[list[Found]] = loop.create_future()
        self._askers.append(_Asker(keys, answer))
        return await answer

    def _read_all(self) -> None:
        askers, self._askers = self._askers, []
        task = asyncio.create_task(self._answer(askers), name="read items")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _answer(self, askers: Sequence[_Asker]) -> None:
        try:
            found = await self._found({key for asker in askers for key in asker.keys})
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait are told
            if isinstance(error, UnwritableError) and len(askers) > 1:
                # What is refused is in one request for all; asked for alone, it harms whoever asked for it.
                await asyncio.gather(*(self._answer([asker]) for asker in askers))
                return
            for asker in askers:
                if not asker.answer.done():
                    asker.answer.set_exception(error)
            return
        for asker in askers:
            if not asker.answer.done():
                asker.answer.set_result([found[key] for key in asker.keys if key in found])

    async def _found(self, keys: Collection[Key]) -> dict[Key, Found]:
        wanted = {position(key): key for key in keys}
        items = await self._calls.get_all(list(wanted))
        now = self._clock.now()
        told = ((wanted[position_of(item)], item) for item in items)
        return {key: found_of(key, item, now=now) for key, item in told}
