"""What a sender shows to prove that it may send: the Authorization header of a request."""

import base64
import binascii
import hmac
import re

TOKEN = re.compile(r"[!-~]{16,}")
"""What may be a token: no blanks, for MinIO takes what has any for the scheme and the token; and not to be guessed."""


def authorized(header: str, token: str) -> bool:
    """Return whether a header shows a token; how long that takes says nothing about the token.

    Three forms are known: `Bearer TOKEN`, as MinIO sends it; the token alone, as older ones did; and `Basic` with the
    token as the password of any user, which is what becomes of http://user:token@host (Ceph).

    Args:
        header: as it was sent; empty where there was none.
        token: the one that is expected.
    """
    scheme, _, rest = header.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            shown = rest.strip()
        case "basic":
            shown = _password(rest.strip())
        case _:
            shown = header.strip()
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode())


def _password(credentials: str) -> str:
    """Return the password of basic credentials; empty where they are none."""
    try:
        told = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return told.partition(":")[2]
