"""What may be shown of a value that somebody set: never a secret, wherever it was put by mistake.

Settings are shown where others can read them: in a terminal, in logs, in tickets. A secret is known by its place, which
`config` looks after, and by its form, which this module does: in front of the `@` of an address stand a user and a
password, and behind its `?` whatever somebody signed it with.
"""

import re
import reprlib

from typing_extensions import override

HIDDEN = "***"
"""Stands for what is not shown."""

LONGEST_SHOWN = 80
"""Characters of a value that somebody set wrongly."""

# A password may hold whatever it likes, so the last @ counts.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s'\"<>]*@")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SIGNED = re.compile(r"(://[^\s?#]*[?#]).+", re.DOTALL)


def without_userinfo(text: str) -> str:
    """Return a text without the users and passwords of the addresses in it."""
    return _ADDRESS.sub(rf"\g<1>{HIDDEN}@", text) if "@" in text else text


def harmless(text: str) -> str:
    """Return what may be shown of a value that was meant to be something else, and may be an address gone wrong."""
    ahead, at, rest = text.rpartition("@")
    if at:
        scheme = _SCHEME.search(ahead)
        text = f"{ahead[: scheme.end()] if scheme else ''}{HIDDEN}@{rest}"
    return _SIGNED.sub(rf"\g<1>{HIDDEN}", text)


def shown(value: object) -> str:
    """Return a short form of a value that somebody set wrongly, of whatever type it is."""
    return _SHOWN.repr(value)


class _Shown(reprlib.Repr):
    """Shortens values after what must not be seen was taken out: what is cut in two is not recognised any more."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST_SHOWN

    @override
    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(harmless(x), level)

    def repr_bytes(self, x: bytes, level: int) -> str:  # noqa: ARG002 - reprlib's protocol
        return f"{len(x)} bytes"


_SHOWN = _Shown()
