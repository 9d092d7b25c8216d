"""Asking Redis servers: pipelines over a few connections, scripts by digest, and replicas that must have acknowledged.

What is asked of one server while all its lanes are busy goes together in the next pipeline: a batch that touches many
shards of a cluster costs each of its nodes one round trip. redis-py's own retries are off, for whoever uses the
ledger retries, and its cluster client is not used: it would send a part of a pipeline again by itself, on another
connection than the WAIT that follows.

Where a server has replicas, WAIT follows every write in the same pipeline. When it cannot be known whether replicas
have what was written (too few answered, or the connection broke), whatever is asked next is preceded by a small write
and followed by WAIT, reads too: a repeated batch finds its marks and writes nothing, and must not be told as done
before those marks are safe. As a replica takes over in the order of writing, one acknowledgement covers all before it.

Only what keeps up counts as a replica: not one that still copies everything, nor a tool that only listens. When none
is left and nothing is in doubt, the server is alone and work goes on, with a warning. When none is left and something
is in doubt, everything is refused until a replica acknowledges it, but no longer than `ALONE_SECONDS`: a replica that
comes back then knows what was told as done, and one that never does must not stop the fleet. `Replicas` decides.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import hiredis
import msgspec
import structlog
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as LostError,
)
from redis.exceptions import (
    TimeoutError as SlowError,
)

from crrmon.adapters.stores.redis.scripts import TEXTS

ANSWER_SECONDS: Final = 5.0
"""How long connecting, and each answer, may take."""
WAIT_SECONDS: Final = 2.0
"""How long replicas have to acknowledge; less than `ANSWER_SECONDS`."""
REPLICAS_ASKED_SECONDS: Final = 10.0
"""How often a server is asked whether it has replicas."""
ALONE_SECONDS: Final = 60.0
"""How long what is in doubt is refused after the last replica was lost; then the server is alone."""
LAGGING_SECONDS: Final = 10
"""A replica that said nothing for longer is none. They speak once a second."""

_LANES: Final = 4
"""Connections to one server that are at work at once."""
_TOGETHER: Final = 64
"""Most requests in one pipeline."""
_REDIRECTIONS: Final = 3
_SLOTS: Final = 16384
_ASKING: Final = ("ASKING",)
_NO_NAME: Final = "?"
"""What stands for the name of a node that has none, in a cluster whose nodes are known by their names."""

log = structlog.get_logger()

Argument = bytes | str | int | float
Reply = Any


class UnacknowledgedError(RedisError):
    """
    It was written, but no replica said in time that it has it.
    """


class Call(msgspec.Struct, frozen=True, gc=False):
    """
    One command.
    """

    home: bytes
    """What all its keys begin with: a hash tag, which decides on the node of a cluster."""
    arguments: tuple[Argument, ...]


def script(
    home: bytes, digest: str, keys: Sequence[bytes], arguments: Sequence[Argument] = ()
) -> Call:
    """
    Make the call of a script.
    """
    return Call(home, ("EVALSHA", digest, len(keys), *keys, *arguments))


class Servers(Protocol):
    """
    One server, or those of a cluster.
    """

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """
        Carry out commands; those to one server in their order.

        Args:
            calls: each stands for itself: some may be done when others fail.
            durable: whether they write; then replicas have it too when this returns.

        Returns:
            The answers, in order.

        Raises:
            RedisError: one of them failed, or it cannot be known.
        """
        ...

    async def close(self) -> None:
        """
        Close all connections.
        """
        ...


class _Request(msgspec.Struct, frozen=True, gc=False):
    calls: Sequence[Call]
    durable: bool
    asking: bool
    answer: "asyncio.Future[list[Reply]]"


class Replicas:
    """
    What is known of a server's replicas, and whether they have what was written.
    """

    def __init__(self) -> None:
        self._count = 0
        self._lost_at: float | None = None
        """When it was found that there are none any more."""
        self._asked_at = -math.inf
        self._doubts = 0
        """Grows with every write that replicas may not have."""
        self._allayed = 0
        """Up to this one, they have it."""

    @property
    def doubts(self) -> int:
        """
        A number that grows with every doubt.
        """
        return self._doubts

    @property
    def in_doubt(self) -> bool:
        """
        Whether something may have been written that replicas do not have.
        """
        return self._doubts > self._allayed

    def needed(self, *, durable: bool) -> bool:
        """
        Tell whether replicas must acknowledge.

        Args:
            durable: whether something is written.
        """
        return self.in_doubt or (durable and self._count > 0)

    def doubt(self) -> None:
        """
        Note that replicas may not have what was written.
        """
        self._doubts += 1
        self._asked_at = -math.inf

    def allay(self, doubts: int) -> None:
        """
        Note that replicas have what was written up to some doubt: one that came later stands.
        """
        self._allayed = max(self._allayed, doubts)

    def outdated(self, now: float) -> bool:
        """
        Tell whether the server is to be asked.
        """
        return now - self._asked_at >= REPLICAS_ASKED_SECONDS

    def learn(self, told: dict[str, str], now: float) -> None:
        """
        Take note of what INFO replication tells.
        """
        self._asked_at = now
        if told.get("role") != "master":
            return  # a replica takes no writes anyway, and who may not ask cannot know
        had = self._count > 0
        self._count = sum(_keeps_up(name, value) for name, value in told.items())
        if self._count:
            self._lost_at = None
            return
        if had or (self.in_doubt and self._lost_at is None):
            self._lost_at = now
        if self._lost_at is None:
            return
        if not self.in_doubt or now - self._lost_at >= ALONE_SECONDS:
            log.warning(
                "redis_alone",
                in_doubt=self.in_doubt,
                advice="no replica is left, what is written now is on one server only: see to the replicas; with"
                " min-replicas-to-write 1 the server itself would refuse writes instead",
            )
            self.allay(self._doubts)
            self._lost_at = None


def _keeps_up(name: str, value: str) -> bool:
    """
    Tell whether a line of INFO replication is of a replica that has nearly everything.
    """
    if re.fullmatch(r"slave\d+", name) is None:
        return False
    told = dict(one.partition("=")[::2] for one in value.split(","))
    lag = told.get("lag", "")
    return (
        told.get("state") == "online"
        # A tool that fetches a dump listens on none.
        and told.get("port") != "0"
        and lag.isdigit()
        and int(lag) <= LAGGING_SECONDS
    )


class Node:
    """
    One server.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._waiting: deque[_Request] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._replicas = Replicas()
        self._closed = False

    async def ask(
        self, calls: Sequence[Call], *, durable: bool = False, asking: bool = False
    ) -> list[Reply]:
        """
        Carry out commands.

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
        durable = any(one.durable for one in requests)
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
        if any(_takes_no_writes(one) for answers in replies for one in answers):
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
        """
        Send commands, and see to it that replicas have what was written.

        Args:
            connection: to the server.
            commands: what to do.
            beat: a small write; nothing if no key is asked for.
            durable: whether any of the commands writes.
        """
        replicas = self._replicas
        if not (beat and replicas.needed(durable=durable)):
            return await _roundtrip(connection, commands)
        began = replicas.doubts
        before = beat if replicas.in_doubt else ()
        wait: tuple[Argument, ...] = ("WAIT", 1, int(WAIT_SECONDS * 1000))
        replies = await _roundtrip(connection, (*before, *commands, wait))
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
            return [one if isinstance(one, Exception) else unsafe for one in replies]
        if not isinstance(acknowledged, int) or acknowledged < 1:
            raise UnacknowledgedError
        if before:
            replicas.allay(began)
        return replies

    async def _count_replicas(self, connection: AbstractConnection) -> None:
        now = asyncio.get_running_loop().time()
        if not self._replicas.outdated(now):
            return
        (told,) = await _roundtrip(connection, [("INFO", "replication")])
        self._replicas.learn(facts(told) if isinstance(told, bytes) else {}, now)

    async def close(self) -> None:
        """
        Close all connections; whoever waits for an answer, or asks later, gets an error.
        """
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
    for one in requests:
        if not one.answer.done():
            one.answer.set_exception(error)


def _beat(requests: Sequence[_Request]) -> list[tuple[Argument, ...]]:
    """
    Make a small write to where one of these requests has its keys.
    """
    placed = [one for one in requests if one.calls[0].home]
    if not placed:
        return []
    one = min(placed, key=lambda one: one.asking)
    write: tuple[Argument, ...] = ("SET", one.calls[0].home + b":beat", "")
    return [_ASKING, write] if one.asking else [write]


def _takes_no_writes(reply: Reply) -> bool:
    """
    Tell whether a reply is the error of a replica; Redis 6.2 puts it in the middle when it came up in a script.
    """
    return isinstance(reply, ReadOnlyError) or (
        isinstance(reply, ResponseError) and "READONLY" in str(reply)
    )


async def _roundtrip(
    connection: AbstractConnection, commands: Sequence[tuple[Argument, ...]]
) -> list[Reply]:
    # One write for all: hiredis packs in C what redis-py's own would join piece by piece.
    packed = b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]
    await connection.send_packed_command(packed, check_health=False)
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
        except (RedisError, OSError):
            raise
        except Exception as error:
            # Whatever a parser makes of bytes that are no answer: nobody knows what was done.
            raise LostError(f"no answer that can be read ({type(error).__name__})") from error
    return replies


def facts(info: bytes) -> dict[str, str]:
    """
    Read what INFO tells.
    """
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _first_error(replies: Sequence[Reply]) -> list[Reply]:
    for one in replies:
        if isinstance(one, Exception):
            raise one
    return list(replies)


class Standalone:
    """
    One server that has all keys.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """
        Carry out commands in their order.
        """
        if not calls:
            return []
        return _first_error(await self._node.ask(calls, durable=durable))

    async def close(self) -> None:
        """
        Close all connections.
        """
        await self._node.close()


class Connector(Protocol):
    """
    Makes the pool of connections to one server.
    """

    def __call__(self, address: tuple[str, int]) -> ConnectionPool: ...


class Cluster:
    """
    Servers that share the keys; who has which is asked for at first, and again when it turns out to be wrong.
    """

    def __init__(self, seed: tuple[str, int], connect: Connector) -> None:
        self._seed = seed
        self._connect = connect
        self._nodes: dict[tuple[str, int], Node] = {}
        self._slots: list[tuple[str, int]] = []
        self._learning = asyncio.Lock()

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """
        Carry out commands, each where its keys are.
        """
        replies: list[Reply] = [None] * len(calls)
        places: Sequence[int] = range(len(calls))
        for _ in range(_REDIRECTIONS):
            by_node: dict[tuple[str, int], list[int]] = {}
            slots = await self._known()
            for place in places:
                by_node.setdefault(slots[key_slot(calls[place].home + b":")], []).append(place)
            asked = (
                self._some(address, some, calls, replies, durable=durable)
                for address, some in by_node.items()
            )
            for failure in await asyncio.gather(*asked, return_exceptions=True):
                if failure is not None:
                    self._slots = []  # perhaps another node took over
                    raise failure
            places = [at for at in places if isinstance(replies[at], MovedError)]
            if any(isinstance(one, RedisError) for one in replies):
                self._slots = []
            if not places:
                break
        return _first_error(replies)

    async def _some(
        self,
        address: tuple[str, int],
        places: Sequence[int],
        calls: Sequence[Call],
        replies: list[Reply],
        *,
        durable: bool,
    ) -> None:
        answers = await self._node(address).ask([calls[at] for at in places], durable=durable)
        for place, answer in zip(places, answers, strict=True):
            replies[place] = answer
            # NB: MovedError is an AskError.
            if isinstance(answer, AskError) and not isinstance(answer, MovedError):
                taker = await self._taker(address, answer)
                if taker is None:
                    replies[place] = ResponseError("TRYAGAIN the keys are being moved")
                    continue
                there = self._node(taker)
                (replies[place],) = await there.ask([calls[place]], durable=durable, asking=True)

    async def _taker(self, asked: tuple[str, int], told: AskError) -> tuple[str, int] | None:
        """
        Find the node to which an ASK leads; None if it has no name and nothing else is told of it.

        Args:
            asked: the node that says so. Nodes behind one address leave the host out.
            told: what it says.
        """
        if told.host != _NO_NAME:
            return told.host or asked[0], told.port
        (nodes,) = _first_error(await self._node(asked).ask([Call(b"", ("CLUSTER", "NODES"))]))
        return _taker_of(told.slot_id, nodes.decode(errors="replace"))

    def _node(self, address: tuple[str, int]) -> Node:
        if address not in self._nodes:
            self._nodes[address] = Node(self._connect(address))
        return self._nodes[address]

    async def _known(self) -> list[tuple[str, int]]:
        """
        Tell the node of each slot.
        """
        async with self._learning:
            if not self._slots:
                self._slots = await self._learn()
            return self._slots

    async def _learn(self) -> list[tuple[str, int]]:
        failure: RedisError | None = None
        for address in dict.fromkeys((*self._nodes, self._seed)):
            node = self._node(address)
            try:
                (told,) = _first_error(await node.ask([Call(b"", ("CLUSTER", "SLOTS"))]))
                slots = _owners(told, address)
            except RedisError as error:
                failure = error
                continue
            for gone in self._nodes.keys() - set(slots) - {self._seed}:
                await self._nodes.pop(gone).close()
            return slots
        raise failure or LostError("no node is known")

    async def close(self) -> None:
        """
        Close all connections.
        """
        for node in self._nodes.values():
            await node.close()


def _owners(ranges: Sequence[Any], asked: tuple[str, int]) -> list[tuple[str, int]]:
    owners: list[tuple[str, int] | None] = [None] * _SLOTS
    for first, last, (endpoint, port, *more), *_ in ranges:
        owner = (_host(endpoint, more) or asked[0], port)
        owners[first : last + 1] = [owner] * (last + 1 - first)
    known = [one for one in owners if one is not None]
    if len(known) < _SLOTS:
        raise ResponseError("CLUSTERDOWN no node has some of the slots")
    return known


def _host(endpoint: bytes | None, more: Sequence[Any]) -> str:
    """
    Read where a node is; the empty string for one that is where it was asked of.

    Args:
        endpoint: null or empty where nodes are behind one address, or do not know their own; a ? where they should be
            known by names and this one has none.
        more: the node's id and, from Redis 7 on, other addresses of it: names and values in turn.
    """
    if not endpoint:
        return ""
    if endpoint.decode() != _NO_NAME:
        return endpoint.decode()
    pairs = more[1] if len(more) > 1 else ()
    others = {
        name: value.decode() for name, value in zip(pairs[::2], pairs[1::2], strict=False) if value
    }
    known = (others.get(name, "") for name in (b"ip", b"hostname"))
    return next((one for one in known if one not in ("", _NO_NAME)), "")


def _taker_of(slot: int, nodes: str) -> tuple[str, int] | None:
    """
    Read off the CLUSTER NODES of a node to which one it gives a slot; None if it tells of none.
    """
    lines = [words for line in nodes.splitlines() if len(words := line.split()) > 1]
    giving = f"[{slot}->-"
    takers = {
        word.removeprefix(giving).rstrip("]")
        for line in lines
        for word in line
        if word.startswith(giving)
    }
    for name, place, *_ in lines:
        host, _, port = place.partition("@")[0].rpartition(":")
        if name in takers and host and port.isdigit():
            return host, int(port)
    return None
