"""`python -m crrmon.livez`: ask the daemon in this container whether it lives, for health checks that have no curl.

Standard library only: it runs every few seconds, and must not import the daemon to ask it.
"""

import http.client
import os
import sys

PORT = "CRRMON_HTTP__PORT"
DEFAULT_PORT = "9464"
PATIENCE_SECONDS = 5.0


def main() -> int:
    """
    Ask, and say on standard error what is wrong.

    Returns:
        0 if the daemon lives, 1 if it does not or nobody answers, 2 if the port is none.
    """
    told = os.environ.get(PORT, DEFAULT_PORT)
    if not (told.isascii() and told.isdigit() and 0 < int(told) < 2**16):
        print(f"{PORT}={told!r} is no port; set it to that of http.port", file=sys.stderr)  # noqa: T201 - a program of its own
        return 2
    connection = http.client.HTTPConnection("127.0.0.1", int(told), timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        body = answer.read(10_000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"nobody answers on port {told} ({error!r})", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        print(f"/livez says {answer.status}: {body}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
