"""The container's health check: asks the daemon, imports next to nothing, and says what is wrong."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crrmon.livez import HOST, PORT
from fakes.patience import HANGS_SECONDS

HEAVY = (
    "importlib.metadata",
    "aiobotocore",
    "aiohttp",
    "boto3",
    "crrmon.app",
    "pydantic",
    "redis",
    "typer",
    "yaml",
)


@contextmanager
def answering(
    status: int, body: bytes = b"{}", host: str = "127.0.0.1"
) -> Iterator[tuple[int, list[str]]]:
    """Answer every request so; give the port, and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def ask(**environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the health check as a container does."""
    return _python("-m", "crrmon.livez", environment=environment)


def _python(*arguments: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )


def test_a_daemon_that_lives_is_healthy() -> None:
    """200 from /livez, on the port that the daemon was given, is 0 and no word."""
    with answering(200) as (port, asked):
        told = ask(**{PORT: str(port)})

    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert asked == ["/livez"]


@pytest.mark.parametrize(
    ("told", "listening"),
    [
        ("::", "127.0.0.1"),
        ("::", "::1"),
        ("", "::1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - not listened on
        ("::1", "::1"),
        ("127.0.0.2", "127.0.0.2"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_e1_whatever_is_listened_on_is_asked(told: str, listening: str) -> None:
    """Loopback of either family where the daemon listens on all addresses, else the one that it was given."""
    if ":" in listening and not socket.has_dualstack_ipv6():
        return  # none here
    with answering(200, host=listening) as (port, asked):
        answer = ask(**{PORT: str(port), HOST: told})

    assert (answer.returncode, answer.stderr) == (0, "")
    assert asked == ["/livez"]


def test_a_daemon_that_does_not_is_not_and_its_reason_is_shown() -> None:
    """503 is 1; what `docker inspect` shows is the daemon's own word."""
    with answering(503, b'{"details": {"poller": "stuck"}}') as (port, _):
        told = ask(**{PORT: str(port)})

    assert told.returncode == 1
    assert "503" in told.stderr
    assert "stuck" in told.stderr


def test_nobody_there_is_unhealthy() -> None:
    """A refused connection is 1, and no traceback."""
    with answering(200) as (port, _):
        pass
    told = ask(**{PORT: str(port)})

    assert told.returncode == 1
    assert f"nothing answers on port {port}" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("port", ["", "http", "0", "65536", "-1", "\uff19464"])
def test_a_port_that_is_none_is_named(port: str) -> None:
    """The variable and its value are in the message."""
    told = ask(**{PORT: port}, PYTHONUTF8="1")

    assert told.returncode == 2
    assert f"CRRMON_HTTP__PORT={port!r}" in told.stderr


def test_it_imports_nothing_of_the_daemon() -> None:
    """It runs every half minute beside the daemon, on the same share of a core."""
    told = _python(
        "-c", "import sys, crrmon.livez; print('\\n'.join(sys.modules))", environment={}
    )

    assert told.returncode == 0, told.stderr
    assert not set(HEAVY) & set(told.stdout.split())
