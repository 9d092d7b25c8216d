"""Commands to a Redis server, how they are sent, and what their answers are."""

from collections.abc import Sequence
from typing import Any, Protocol

import hiredis
import msgspec
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError, ResponseError

Argument = bytes | str | int | float
Reply = Any


class Call(msgspec.Struct, frozen=True, gc=False):
    """One command."""

    home: bytes
    """What all its keys begin with: a hash tag, which decides on the node of a cluster."""
    arguments: tuple[Argument, ...]


def script(
    home: bytes, digest: str, keys: Sequence[bytes], arguments: Sequence[Argument] = ()
) -> Call:
    """Return the call of a script."""
    return Call(home, ("EVALSHA", digest, len(keys), *keys, *arguments))


class Servers(Protocol):
    """One server, or those of a cluster."""

    async def ask(self, calls: Sequence[Call], *, durable: bool = False) -> list[Reply]:
        """Carry out commands; those to one server in their order.

        Args:
            calls: each stands for itself: some may be done when others fail.
            durable: whether they write; then replicas have it too when this returns.

        Returns:
            The answers, in order.

        Raises:
            RedisError: one of them failed, or it cannot be known.
        """

    async def close(self) -> None:
        """Close all connections."""


async def roundtrip(
    connection: AbstractConnection, commands: Sequence[tuple[Argument, ...]]
) -> list[Reply]:
    """Send commands and read their answers; errors of single commands are among them."""
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
            raise LostError(f"unreadable response ({type(error).__name__})") from error
    return replies


def facts(info: bytes) -> dict[str, str]:
    """Read what INFO tells."""
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def first_error(replies: Sequence[Reply]) -> list[Reply]:
    """Return answers.

    Raises:
        RedisError: the first of them that is one.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return list(replies)
