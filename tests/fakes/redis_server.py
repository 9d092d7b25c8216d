"""Real Redis servers on loopback: one by itself, killed and started again as a test likes, or a cluster of three."""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from crrmon.sandbox.redis import find
from fakes.patience import HANGS_SECONDS

SLOTS = 16384
GIVEN = os.environ.get("CRRMON_TEST_REDIS_SERVER")
"""Another program to test with. NB: read at once, for tests run without any variable of ours."""


@cache
def program() -> str:
    """Find a redis-server: the one given, the system's, or the one in a wheel."""
    return GIVEN or find()


def free_port() -> int:
    """Find a port of loopback that nobody listens on, nor on the one that a cluster adds to it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + 10_000 < 65_536:
                with contextlib.suppress(OSError):
                    other.bind(("127.0.0.1", port + 10_000))
                    return port


class RedisProcess:
    """
    A server with its own directory and port, both the same after `kill` and `start`.

    Args:
        options: of redis-server, over those that every one gets.
    """

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="redis"))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: object) -> redis.Redis:
        """Create a plain client."""
        given: dict[str, object] = {"socket_timeout": 20, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis(host="127.0.0.1", port=self.port, **(given | options))  # type: ignore[arg-type]

    def launch(self, *options: str) -> Self:
        """Start it, this time with more options, and do not wait."""
        command = [
            program(), "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self.directory),
            "--daemonize", "no", "--logfile", str(self.directory / "log"),
        ]  # fmt: skip
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            [*command, *self._options, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        self.launch()
        self.wait()
        return self

    def wait(self) -> None:
        """Wait until it listens and has read its data."""
        with self.client() as client:
            for _ in _meanwhile():
                assert self._process is not None
                assert self._process.poll() is None, (self.directory / "log").read_text()
                with contextlib.suppress(redis.ConnectionError):
                    try:
                        client.ping()
                    except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
                        return
                    else:
                        return

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it neither work nor answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def _meanwhile() -> Iterator[None]:
    """Go round until the caller is content, for a while."""
    until = time.monotonic() + HANGS_SECONDS
    while time.monotonic() < until:
        yield
        time.sleep(0.02)  # noqa: TID251 - another process has to get ready
    raise AssertionError("redis-server did not get ready in time")


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisProcess]:
    """Run a server."""
    server = RedisProcess(*options)
    try:
        yield server.start()
    finally:
        server.close()


@contextlib.contextmanager
def redis_cluster(*options: str) -> Iterator[list[RedisProcess]]:
    """Run a cluster of three."""
    servers = [
        RedisProcess("--cluster-enabled", "yes", "--cluster-node-timeout", "5000", *options)
        for _ in range(3)
    ]
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait()
        _join(servers)
        yield servers
    finally:
        for server in servers:
            server.close()


def _join(servers: Sequence[RedisProcess]) -> None:
    clients = [server.client() for server in servers]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client)
        for number, client in enumerate(clients):
            mine = range(SLOTS * number // len(clients), SLOTS * (number + 1) // len(clients))
            client.execute_command("CLUSTER", "ADDSLOTS", *mine)
            # Of two nodes of the same epoch, each would have to find that out first.
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for client in clients:
            for other in servers:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)
        for _ in _meanwhile():
            told = [client.execute_command("CLUSTER", "INFO") for client in clients]
            if all(_joined(one) for one in told):
                return


def _joined(told: bytes) -> bool:
    lines = told.decode().splitlines()
    return "cluster_state:ok" in lines and f"cluster_slots_ok:{SLOTS}" in lines


_shared = contextlib.ExitStack()
atexit.register(_shared.close)


@cache
def shared_server() -> str:
    """Return the address of a server for all tests of this process; each takes a prefix of its own."""
    server = _shared.enter_context(redis_server("--appendonly", "yes", "--appendfsync", "no"))
    return server.url


@cache
def shared_cluster() -> str:
    """Return the address of a node of a cluster for all tests of this process."""
    servers = _shared.enter_context(redis_cluster("--appendonly", "yes", "--appendfsync", "no"))
    return servers[0].url


def certificate(directory: Path) -> tuple[Path, Path]:
    """Create a certificate of 127.0.0.1 that is its own authority, and its key."""
    made, key = directory / "server.crt", directory / "server.key"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
    return made, key
