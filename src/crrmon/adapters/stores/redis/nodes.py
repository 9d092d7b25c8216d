"""Asking Redis servers: pipelines over a few connections, scripts by digest, and replicas that must have acknowledged.

What is asked of one server while all its lanes are busy goes together in the next pipeline: a batch that touches many
shards of a cluster costs each of its nodes one round trip. redis-py's own retries are off, for whoever uses the
ledger retries, and its cluster client is not used: it would send a part of a pipeline again by itself, on another
connection than the WAIT that follows.

Where a server has replicas, WAIT follows every write in the same pipeline. When it cannot be known whether replicas
have what was written (too few answered, or the connection broke), whatever is asked next is preceded by a small write
and followed by WAIT, reads too: a repeated batch finds its marks and writes nothing, and must not be told as done
before those marks are safe. As a replica takes over in the order of writing, one acknowledgement covers all before it.

What replicas are, and what is done when none is left, `replicas` decides.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import structlog
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import AskError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as SlowError

from crrmon.adapters.stores.redis.calls import Argument, Call, Reply, facts, first_error, roundtrip
from crrmon.adapters.stores.redis.replicas import Replicas
from crrmon.adapters.stores.redis.scripts import TEXTS

ANSWER_SECONDS: Final = 5.0
"""How long connecting, and each answer, may take."""
WAIT_SECONDS: Final = 2.0
"""How long replicas have to acknowledge; less than `ANSWER_SECONDS`."""

_LANES: Final = 4
"""Connections to one server that are at work at once."""
_TOGETHER: Final = 64
"""Most requests in one pipeline."""
_ASKING: Final = ("ASKING",)

log = structlog.get_logger()


class UnacknowledgedError(RedisError):
    """It was written, but no replica said in time that it has it."""


class _Request(msgspec.Struct, frozen=True, gc=False):
    calls: Sequence[Call]
    durable: bool
    asking: bool
    answer: "asyncio.Future[list[Reply]]"


class Node:
    """One server."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._waiting: deque[_Request] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._replicas = Replicas()
        self._closed = False

    async def ask(
        self, calls: Sequence[Call], *, durable: bool = False, asking: bool = False
    ) -> list[Reply]:
        """Carry out commands.

        Args:
            calls: what to do.
            durable: whether replicas must have it.
            asking: whether this server is only about to take these keys over.

        Returns:
            The answers; errors of single commands among them.

        Raises:
            RedisError: nothing is known of any of them.
        """
        if self._closed:
            raise _closed()
        answer: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(calls, durable, asking, answer))
        # Whoever asks while all lanes are busy is sent along with the others by the next that is free.
        if len(self._lanes) < _LANES:
            lane = asyncio.create_task(self._work())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
            try:
                replies = await self._exchange(some)
            except BaseException as error:
                _fail(some, error if isinstance(error, Exception) else _closed())
                if not isinstance(error, Exception):
                    raise
            else:
                for one, answers in zip(some, replies, strict=True):
                    if not one.answer.done():
                        one.answer.set_result(answers)
        # Here, not when the task is done: who asks in between would count on a lane that looks no more.
        lane = asyncio.current_task()
        assert lane is not None  # noqa: S101 - this is one
        self._lanes.discard(lane)

    async def _exchange(self, requests: Sequence[_Request]) -> list[list[Reply]]:
        durable = any(request.durable for request in requests)
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        done = exposed = False
        try:
            if durable or self._replicas.in_doubt:
                await self._count_replicas(connection)
            exposed = durable and self._replicas.needed(durable=True)
            replies = await self._all(connection, requests, durable=durable)
            done = True
        except (LostError, SlowError):
            # The others lead to where this one led: perhaps to nobody, each to be found out only by waiting.
            await self._pool.disconnect(inuse_connections=False)
            raise
        except ResponseError as error:
            if _takes_no_writes(error):
                await self._pool.disconnect(inuse_connections=False)
            raise
        finally:
            if not done:
                if exposed:
                    self._replicas.doubt()
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)
        if any(_takes_no_writes(answer) for answers in replies for answer in answers):
            # It is no primary any more; the name may lead to another one by now.
            await self._pool.disconnect()
        return replies

    async def _all(
        self, connection: AbstractConnection, requests: Sequence[_Request], *, durable: bool
    ) -> list[list[Reply]]:
        commands: list[tuple[Argument, ...]] = []
        for request in requests:
            for call in request.calls:
                if request.asking:
                    commands.append(_ASKING)
                commands.append(call.arguments)
        beat = _beat(requests)
        replies = await self._safely(connection, commands, beat, durable=durable)
        # A server that was restarted, or a replica that took over, has forgotten the scripts.
        forgotten = [place for place, one in enumerate(replies) if isinstance(one, NoScriptError)]
        if forgotten:
            texts: list[tuple[Argument, ...]] = []
            for at in forgotten:
                if at and commands[at - 1] == _ASKING:
                    texts.append(_ASKING)  # it holds for one command only
                texts.append(("EVAL", TEXTS[str(commands[at][1])], *commands[at][2:]))
            again = await self._safely(connection, texts, beat, durable=durable)
            kept = [one for one, text in zip(again, texts, strict=True) if text != _ASKING]
            for place, one in zip(forgotten, kept, strict=True):
                replies[place] = one
        answers = iter(replies)
        told = []
        for request in requests:
            step = 2 if request.asking else 1
            mine = [next(answers) for _ in range(len(request.calls) * step)]
            told.append(mine[step - 1 :: step])
        return told

    async def _safely(
        self,
        connection: AbstractConnection,
        commands: Sequence[tuple[Argument, ...]],
        beat: Sequence[tuple[Argument, ...]],
        *,
        durable: bool,
    ) -> list[Reply]:
        """Send commands, and see to it that replicas have what was written.

        Args:
            connection: to the server.
            commands: what to do.
            beat: a small write; nothing if no key is asked for.
            durable: whether any of the commands writes.
        """
        replicas = self._replicas
        if not (beat and replicas.needed(durable=durable)):
            return await roundtrip(connection, commands)
        began = replicas.doubts
        before = beat if replicas.in_doubt else ()
        wait: tuple[Argument, ...] = ("WAIT", 1, int(WAIT_SECONDS * 1000))
        replies = await roundtrip(connection, (*before, *commands, wait))
        acknowledged = replies.pop()
        if isinstance(acknowledged, Exception):
            # A replica refuses WAIT too, and what it says to a write tells more.
            raise next((one for one in replies if isinstance(one, Exception)), acknowledged)
        beaten, replies = replies[: len(before)], replies[len(before) :]
        unsafe = next((one for one in beaten if isinstance(one, Exception)), None)
        if unsafe is not None:
            # Nothing was written before WAIT, so it may have told of nothing.
            if isinstance(unsafe, AskError):
                unsafe = ResponseError("TRYAGAIN the keys are being moved")
            return [reply if isinstance(reply, Exception) else unsafe for reply in replies]
        # It is written here, and may be lost with this server: that is for the caller to decide again.
        if not isinstance(acknowledged, int) or acknowledged < 1:
            raise UnacknowledgedError
        if before:
            replicas.allay(began)
        return replies

    async def _count_replicas(self, connection: AbstractConnection) -> None:
        now = asyncio.get_running_loop().time()
        if not self._replicas.outdated(now):
            return
        (told,) = await roundtrip(connection, [("INFO", "replication")])
        self._replicas.learn(facts(told) if isinstance(told, bytes) else {}, now)

    async def close(self) -> None:
        """Close all connections; whoever waits for an answer, or asks later, gets an error."""
        self._closed = True
        lanes = list(self._lanes)
        for lane in lanes:
            lane.cancel()
        _fail(self._waiting, _closed())
        self._waiting.clear()
        await asyncio.gather(*lanes, return_exceptions=True)
        await self._pool.disconnect()


def _closed() -> LostError:
    return LostError("the connections to it were closed")


def _fail(requests: Iterable[_Request], error: Exception) -> None:
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(error)


def _beat(requests: Sequence[_Request]) -> list[tuple[Argument, ...]]:
    """Return a small write to where one of these requests has its keys."""
    placed = [request for request in requests if request.calls[0].home]
    if not placed:
        return []
    # Rather where this server has the keys for good: where they move, the write may be refused.
    one = min(placed, key=lambda one: one.asking)
    write: tuple[Argument, ...] = ("SET", one.calls[0].home + b":beat", "")
    return [_ASKING, write] if one.asking else [write]


def _takes_no_writes(reply: Reply) -> bool:
    """Return whether a reply is the error of a replica; Redis 6.2 puts it in the middle when it came up in a script."""
    return isinstance(reply, ReadOnlyError) or (
        isinstance(reply, ResponseError) and "READONLY" in str(reply)
    )


class Standalone:
    """One server that has all keys."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """Carry out commands in their order."""
        if not calls:
            return []
        return first_error(await self._node.ask(calls, durable=durable))

    async def close(self) -> None:
        """Close all connections."""
        await self._node.close()
