"""What is wrong with a Redis server, in plain words.

Whatever may pass is a `LedgerError`: also a refused password, for it may be fixed in its file or on the server while
the daemon waits.
"""

import re
from typing import Final

from redis.exceptions import AuthenticationError, InvalidResponse, NoPermissionError
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as SlowError

from crrmon.adapters.stores.redis.nodes import ANSWER_SECONDS, WAIT_SECONDS, UnacknowledgedError
from crrmon.adapters.stores.redis.server import NoPasswordError, RedisServer
from crrmon.ports.ledger import LedgerError

_NOT_ALLOWED: Final = (
    "does not allow this user to do what crrmon needs ({text}): grant what docs/operations.md lists, on the keys ~{{PREFIX*"
    " where PREFIX is ledger.redis.prefix"
)
_NOT_ADMITTED: Final = (
    "rejects this user or password: correct ledger.redis.password, or ledger.redis.password_file, and the name in"
    " ledger.redis.url"
)
_BY_KIND: Final[tuple[tuple[type[Exception], str], ...]] = (
    (
        UnacknowledgedError,
        f"answered, but {WAIT_SECONDS:g} s later no replica has the latest writes: check its replicas",
    ),
    (NoPasswordError, "was not asked: {text}"),
    (AuthenticationError, _NOT_ADMITTED),
    (SlowError, f"did not answer within {ANSWER_SECONDS:g} s"),
    (NoPermissionError, _NOT_ALLOWED),
    (
        InvalidResponse,
        "is not a Redis server, or requires TLS: correct host and port in ledger.redis.url, or start it with rediss://",
    ),
)
_BY_CODE: Final = (
    ("NOPERM|can't (run|access)", _NOT_ALLOWED),
    ("LOADING", "is still loading its data: it will answer when done"),
    ("BUSY", "is busy with a script that does not end: stop it with SCRIPT KILL"),
    ("OOM", "is out of memory: raise its maxmemory, or shorten ledger.dedup_retention_days"),
    ("READONLY", "is a replica and accepts no writes: ledger.redis.url must point to the primary"),
    ("MISCONF", "cannot save its data and accepts no writes: check its log and its disk"),
    ("NOREPLICAS", "has too few replicas to accept writes: check its min-replicas-to-write"),
    ("MASTERDOWN", "is a replica without a primary: ledger.redis.url must point to the primary"),
    ("CLUSTERDOWN", "is a cluster that does not work: CLUSTER INFO shows more"),
    ("TRYAGAIN", "is moving these keys to another node, which is temporary"),
    (
        "DB index is out of range|invalid DB index|not an integer or out of range",
        "does not have this database: correct the number at the end of ledger.redis.url",
    ),
    (
        "SELECT is not allowed",
        "is part of a cluster and only has database 0: set ledger.redis.cluster, and no number in ledger.redis.url",
    ),
    (
        "MOVED|CROSSSLOT",
        "does not have these keys because it is a cluster: set ledger.redis.cluster",
    ),
    (
        "WRONGTYPE",
        "holds something else under ledger.redis.prefix {prefix!r}: choose another ledger.redis.prefix",
    ),
)
"""What is found in the text: inside of scripts, old servers put the code in the middle."""


def translated(server: RedisServer, error: Exception) -> LedgerError:
    """Put an error of the server into plain words."""
    words = _trouble(server, error)
    if isinstance(error, LostError) or "connecting" in str(error):
        words += _tls_hint(server, str(error))
    return LedgerError(f"ledger.redis.url: {server.place} {words}")


def _tls_hint(server: RedisServer, text: str) -> str:
    """Return what else it may be: one side that speaks TLS and one that does not hear each other's silence."""
    if server.place.startswith("rediss:"):
        # A server that does not know TLS waits for the rest of what it takes for a command.
        if "WRONG_VERSION" in text or "connecting to server" in text:
            return " (if it does not use TLS, ledger.redis.url must start with redis://)"
    elif "closed by server" in text:
        return " (if it uses TLS, ledger.redis.url must start with rediss://)"
    return ""


def _trouble(server: RedisServer, error: Exception) -> str:
    text = " ".join(str(error).split())
    for kind, words in _BY_KIND:
        if isinstance(error, kind):
            return words.format(text=text)
    coded = f"{getattr(error, 'status_code', None) or ''} {text}"
    for codes, words in _BY_CODE:
        if re.search(rf"\b({codes})\b", coded):
            return words.format(text=text, prefix=server.prefix)
    if "certificate" in text.lower():
        return f"cannot be trusted: check ledger.redis.ca_file: {text}"
    if isinstance(error, (LostError, OSError)):
        return f"cannot be reached: {text}"
    return f"answered: {text}"
