"""Addresses among the settings: what cannot be one is refused where it is set."""

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from crrmon.domain.queue_address import FIFO, queue_address


def apart(url: str) -> SplitResult:
    """Take an address apart.

    Raises:
        ValueError: it is none; unlike the library's own words, these repeat nothing of it.
    """
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("the host is not valid; in brackets it must be an IPv6 address") from None


def has_port(parts: SplitResult) -> None:
    """Refuse an address whose port is none."""
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port must be a number up to 65535") from None


def _address(url: str) -> str:
    """Refuse an address that no call could be sent to."""
    if (
        "@" in url
    ):  # NB: of a password with a / in it, only a part is where users and passwords belong
        raise ValueError(
            "a user or password before the host cannot be used, because AWS calls carry a signature in the same header: "
            "remove it; credentials come from the SDK's usual places"
        )
    has_port(apart(url))
    return url


def _has_scheme(url: object) -> object:
    if isinstance(url, str) and not re.match(r"https?://[^\s/?#]", url):
        raise ValueError("it must start with http:// or https://, followed by a host")
    return url


Address = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$"),
    BeforeValidator(_has_scheme),
    AfterValidator(_address),
]


def queue_url(url: str) -> str:
    """Refuse a URL that is no queue's, and a FIFO queue's."""
    _address(url)
    if queue_address(url).name.endswith(FIFO):
        raise ValueError(
            "a FIFO queue delivers nothing more of a message group while one of its messages is held, and crrmon "
            "holds them until the objects have had time to arrive: most would wait for minutes. Use a standard queue; "
            "order does not matter here, and duplicates are counted once"
        )
    return url


def redis_url(url: str) -> str:
    """Refuse an address of Redis that is none, or that has a password in it."""
    parts = apart(url)
    if parts.password is not None or parts.query or parts.fragment:
        # A password with ?, # or / in it is not even where one looks for it.
        raise ValueError(
            "must be redis://NAME@HOST:PORT/DATABASE and nothing more; set a password with ledger.redis.password_file "
            "or CRRMON_LEDGER__REDIS__PASSWORD"
        )
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("must be redis://HOST:PORT/DATABASE, or rediss:// for TLS")
    has_port(parts)
    if parts.path not in ("", "/") and not parts.path[1:].isdecimal():
        raise ValueError("the database must be a number")
    return url


def no_brackets(host: str) -> str:
    """Refuse an address to listen on that is written as in a URL."""
    if "[" in host:
        raise ValueError("an address to listen on has no brackets: remove them")
    return host
