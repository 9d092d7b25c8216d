"""What a test orders from outside: it puts the whole file in place in one go, and every step reads it anew."""

import os
from pathlib import Path
from typing import Literal

import msgspec

VARIABLE = "ORDERS"
"""Of the environment: where the file is."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a stack that fails."""

    id: str
    step: str
    """`create`, `update` or `delete`, and the type of the resource."""
    reason: str
    """What the stack's event says."""
    spare: int = 0
    """How many such steps go well first."""
    account: str | None = None
    """None: in all; so is the region."""
    region: str | None = None


class Interference(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody else who puts a bucket's notification configuration."""

    id: str
    bucket: str
    after: Literal["GET", "PUT"]
    """Of the configuration, by whoever is being tested."""
    nth: int
    """Of them, counted from 1 since the order was given."""
    configuration: str
    """The XML that is put."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """All that is ordered."""

    slow: float = 0.0
    """How long each step of a stack takes, in seconds."""
    held: bool = False
    """Whether steps wait until they no longer are."""
    failures: tuple[Failure, ...] = ()
    interferences: tuple[Interference, ...] = ()


def current() -> Orders:
    """Return what is ordered now."""
    return msgspec.json.decode(Path(os.environ[VARIABLE]).read_bytes(), type=Orders)


def give(orders: Orders, file: Path) -> None:
    """
    Have them obeyed from now on.

    Args:
        orders: all that hold.
        file: where they are read.
    """
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(orders))
    new.replace(file)
