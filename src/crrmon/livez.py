"""`python -m crrmon.livez`: ask the daemon in this container whether it lives, for health checks that have no curl.

Standard library only: it runs every few seconds, and must not import the daemon to ask it.
"""

import contextlib
import http.client
import os
import sys
from collections.abc import Sequence

HOST = "CRRMON_HTTP__HOST"
PORT = "CRRMON_HTTP__PORT"
DEFAULT_PORT = "9464"
LOOPBACK = {"": ("127.0.0.1", "::1"), "::": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",)}  # noqa: S104 - not listened on
"""Whom to ask in this container, by where the daemon listens, where that is no single address."""
PATIENCE_SECONDS = 5.0


def main() -> int:
    """Ask, and say on standard error what is wrong.

    Returns:
        0 if the daemon lives, 1 if it does not or nothing answers, 2 if the port is not valid.
    """
    told = os.environ.get(PORT, DEFAULT_PORT)
    if not (told.isascii() and told.isdigit() and 0 < int(told) < 2**16):
        print(f"{PORT}={told!r} is not a port; set it to the value of http.port", file=sys.stderr)  # noqa: T201 - a program of its own
        return 2
    host = os.environ.get(HOST, "")
    try:
        with contextlib.closing(_connected(LOOPBACK.get(host, (host,)), int(told))) as connection:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            body = answer.read(10_000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"nothing answers on port {told} ({error!r})", file=sys.stderr)  # noqa: T201
        return 1
    if answer.status != http.HTTPStatus.OK:
        print(f"/livez says {answer.status}: {body}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _connected(hosts: Sequence[str], port: int) -> http.client.HTTPConnection:
    """Connect to the first of these addresses that is listened on.

    Raises:
        OSError: none is, or one that is does not answer in time; the first trouble there was.
    """
    first, *others = hosts
    connection = http.client.HTTPConnection(first, port, timeout=PATIENCE_SECONDS)
    try:
        connection.connect()
    except OSError as error:
        if not others or isinstance(error, TimeoutError):
            raise
        with contextlib.suppress(OSError):
            return _connected(others, port)
        raise
    return connection


if __name__ == "__main__":
    sys.exit(main())
