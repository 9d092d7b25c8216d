"""How the ledger writes values down: bodies, and the tokens of pages.

Bodies are MessagePack maps of the domain's structs by field name: a reader skips fields it does not know and fills in
the defaults of those it misses, so that versions of the daemon side by side can read each other.
"""

import base64
import json
from typing import Final, Generic, TypeVar

import msgspec

from crrmon.domain.records import Record
from crrmon.ports.ledger import Member

T = TypeVar("T")

_JSON: Final = b"\xc1"
"""Starts a body that is JSON. No MessagePack value starts with this byte."""

_encoder = msgspec.msgpack.Encoder()


class Body(Generic[T]):
    """Turns values of one type into bytes and back."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decoder = msgspec.msgpack.Decoder(kind)

    def encode(self, value: T) -> bytes:
        """Write a value; whatever a Python string can hold survives."""
        try:
            return _encoder.encode(value)
        except (UnicodeEncodeError, OverflowError):
            # A lone surrogate has no UTF-8, and MessagePack no numbers of more than 64 bits; JSON can hold both. Neither
            # one odd key nor a sum of whatever was claimed may fail its batch.
            return _JSON + json.dumps(msgspec.to_builtins(value, str_keys=True)).encode()

    def decode(self, body: bytes) -> T:
        """Read a value."""
        if body[:1] == _JSON:
            return msgspec.convert(json.loads(body[1:]), self._kind, strict=False)
        return self._decoder.decode(body)


def pack(text: str) -> bytes:
    """Turn any string into bytes, lone surrogates too."""
    return text.encode("utf-8", "surrogatepass")


def unpack(text: bytes) -> str:
    """Undo `pack`."""
    return text.decode("utf-8", "surrogatepass")


RECORD: Final = Body(Record)
MEMBER: Final = Body(Member)


FailurePlace = tuple[float, bytes, str]
"""Where a record stands in a sorted list: by a time, then by trail and bucket."""

_place_decoder = msgspec.msgpack.Decoder(tuple[float, bytes, bytes])


def token_of(place: FailurePlace) -> str:
    """Write down where a page of failures ended."""
    time, trail, bucket = place
    body = _encoder.encode((time, trail, pack(bucket)))
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def place_of(token: str) -> FailurePlace:
    """Read where a page of failures ended.

    Raises:
        ValueError: this is none of our tokens.
    """
    try:
        body = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        time, trail, bucket = _place_decoder.decode(body)
        return time, trail, unpack(bucket)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{token!r} is not the end of a page of failures") from error


TRAIL_BYTES: Final = 16
"""Length of a `trail_id`."""
