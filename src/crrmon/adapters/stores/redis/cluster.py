"""Servers that share the keys of a cluster: which node has which, and what to do when that changes."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.asyncio.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as LostError

from crrmon.adapters.stores.redis.calls import Call, Reply, first_error
from crrmon.adapters.stores.redis.nodes import Node

_REDIRECTIONS: Final = 3
_SLOTS: Final = 16384
_NO_NAME: Final = "?"
"""What stands for the name of a node that has none, in a cluster whose nodes are known by their names."""


class Connector(Protocol):
    """Makes the pool of connections to one server."""

    def __call__(self, address: tuple[str, int]) -> ConnectionPool: ...


class Cluster:
    """Servers that share the keys; who has which is asked for at first, and again when it turns out to be wrong."""

    def __init__(self, seed: tuple[str, int], connect: Connector) -> None:
        self._seed = seed
        self._connect = connect
        self._nodes: dict[tuple[str, int], Node] = {}
        self._slots: list[tuple[str, int]] = []
        self._learning = asyncio.Lock()

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """Carry out commands, each where its keys are."""
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
            if any(isinstance(reply, RedisError) for reply in replies):
                self._slots = []
            if not places:
                break
        return first_error(replies)

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
        """Find the node to which an ASK leads; None if it has no name and nothing else is told of it.

        Args:
            asked: the node that says so. Nodes behind one address leave the host out.
            told: what it says.
        """
        if told.host != _NO_NAME:
            return told.host or asked[0], told.port
        (nodes,) = first_error(await self._node(asked).ask([Call(b"", ("CLUSTER", "NODES"))]))
        return _taker_of(told.slot_id, nodes.decode(errors="replace"))

    def _node(self, address: tuple[str, int]) -> Node:
        if address not in self._nodes:
            self._nodes[address] = Node(self._connect(address))
        return self._nodes[address]

    async def _known(self) -> list[tuple[str, int]]:
        """Return the node of each slot."""
        async with self._learning:
            if not self._slots:
                self._slots = await self._learn()
            return self._slots

    async def _learn(self) -> list[tuple[str, int]]:
        failure: RedisError | None = None
        # The seed last: it may be away while the others work.
        for address in dict.fromkeys((*self._nodes, self._seed)):
            node = self._node(address)
            try:
                (told,) = first_error(await node.ask([Call(b"", ("CLUSTER", "SLOTS"))]))
                slots = _owners(told, address)
            except RedisError as error:
                failure = error
                continue
            for gone in self._nodes.keys() - set(slots) - {self._seed}:
                await self._nodes.pop(gone).close()
            return slots
        raise failure or LostError("no node is known")

    async def close(self) -> None:
        """Close all connections."""
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
    """Read where a node is; the empty string for one that is where it was asked of.

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
    """Read off the CLUSTER NODES of a node to which one it gives a slot; None if it tells of none."""
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
