"""Servers that speak Redis' protocol and answer as a test says: what clusters tell that no server here can be made to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from crrmon.adapters.stores.redis.calls import Reply

Words = tuple[bytes, ...]
Answer = Callable[[Words, int], Reply]
"""
What one command is answered with, by a server on this port: bytes, a number, None, a list of these, or a `Refusal`.
"""


class Refusal(str):
    """An error, as the protocol has it: its code first."""

    __slots__ = ()


class RedisStub:
    """
    One server on an address of this machine.

    Args:
        host: a loopback address; the others of a cluster have the same port at another.
        answer: chooses what to say.
    """

    def __init__(self, host: str, answer: Answer) -> None:
        self.host = host
        self.port = 0
        self.asked: list[Words] = []
        self._answer = answer
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                words = await _command(reader)
                self.asked.append(words)
                writer.write(_encoded(self._answer(words, self.port)))
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    def hang_up(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.close()


@contextlib.asynccontextmanager
async def redis_stubs(*stubs: RedisStub) -> AsyncIterator[int]:
    """
    Run servers that differ in their addresses only.

    Yields:
        The port of all.
    """
    port = 0
    async with contextlib.AsyncExitStack() as stack:
        for stub in stubs:
            server = await asyncio.start_server(stub.serve, stub.host, port)
            stack.callback(server.close)
            stack.callback(stub.hang_up)
            port = stub.port = server.sockets[0].getsockname()[1]
        yield port


async def _command(reader: asyncio.StreamReader) -> Words:
    count = int((await reader.readline() or b"*0")[1:])
    if not count:
        raise asyncio.IncompleteReadError(b"", None)
    words = []
    for _ in range(count):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return tuple(words)


def _encoded(reply: Reply) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case Refusal():
            return f"-{reply}\r\n".encode()
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case Sequence():
            return b"*%d\r\n" % len(reply) + b"".join(map(_encoded, reply))
    raise TypeError(reply)
