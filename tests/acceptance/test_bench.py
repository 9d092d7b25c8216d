"""The measurements can be made: nothing else would show that a bench's servers fell behind what is asked of them."""

import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"

pytestmark = pytest.mark.acceptance


def _measured(*arguments: str, script: str = "daemon.py", seconds: float = 900) -> str:
    command = [sys.executable, script, *arguments]
    done = subprocess.run(  # noqa: S603 - our own script
        command, cwd=BENCH, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bench_measures_everybody_side_by_side(tmp_path: Path) -> None:
    """crrmon and the ordinary pipeline settle what the bench's own servers release, with and without TLS; what is
    missing here is left out by name, and the figures are written and drawn."""
    figures, drawing = tmp_path / "bench.json", tmp_path / "bench.png"

    _measured(
        *("--quick", "--objects", "60", "--go", str(tmp_path / "none"), "--folder", str(tmp_path)),
        *("--json", str(figures), "--plot", str(drawing)),
    )

    told = json.loads(figures.read_text())
    seen = {(one["case"]["contender"].split()[0], one["case"]["tls"]) for one in told["summaries"]}
    assert seen == {(who, tls) for who in ("crrmon", "ordinary") for tls in (False, True)}
    assert all(one["heads_per_object"] == 1.0 for one in told["summaries"])
    assert all(one["to_ordinary"] > 0 for one in told["summaries"])
    assert {"HEAD", "decode one message"} <= {one["step"] for one in told["calls"]}
    assert [one for one in told["left_out"] if "Go" in one]
    assert drawing.read_bytes().startswith(b"\x89PNG")


def test_a_profile_is_written_and_folded_by_wing(tmp_path: Path) -> None:
    """The daemon's stacks are written down while it works, and each part of it gets its share."""
    stacks = tmp_path / "stacks.txt"

    # So many that hundreds of samples are taken, on the fastest of machines, too: a sample is two milliseconds.
    _measured(
        *("--quick", "--objects", "4000", "--folder", str(tmp_path), "--profile", str(stacks))
    )
    folded = _measured("--fold", str(stacks), "--objects", "4000")

    assert "crrmon/services/tracking/looker" in stacks.read_text()
    shares = {
        line.rsplit(None, 2)[0].strip(): line.split()[-2]
        for line in folded.splitlines()
        if "%" in line
    }
    assert float(shares["HEAD"].rstrip("%")) > 0
    assert float(shares["ledger"].rstrip("%")) > 0
    assert shares["all"] == "100.0%"


def test_a_start_is_measured() -> None:
    """The help and the daemon are started until they are done and ready, and what it imports is added up."""
    told = _measured("--rounds", "1", script="start.py")
    imports = _measured("--rounds", "1", "--imports", script="start.py")

    assert [line.partition(" now ")[0].rstrip() for line in told.splitlines()] == [
        "python -c pass",
        "crrmon --help",
        "crrmon run",
    ]
    assert {"crrmon", "aiohttp", "in all"} <= {line[11:] for line in imports.splitlines()}


# ---- the stubs ----


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _stubs(*arguments: str) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "stubs.py", "--port", str(port), *arguments]
    with subprocess.Popen(command, cwd=BENCH) as process:  # noqa: S603 - our own script
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.05)  # noqa: TID251 - until it listens
            yield port
        finally:
            process.terminate()


_PATH = "/bench-source-1/lake/one?versionId=abc"


def test_the_stubs_speak_http_as_s3_does() -> None:
    """A HEAD tells the length of what it leaves out, the connection is kept, and closed where the client asks."""
    with (
        _stubs() as port,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        for _ in range(2):
            connection.request("HEAD", _PATH)
            kept = connection.sock
            answer = connection.getresponse()
            assert answer.read() == b""
            assert answer.headers["Content-Length"] == "1048576"
            assert answer.headers["x-amz-version-id"] == "abc"
            assert connection.sock is kept is not None

        with socket.create_connection(("127.0.0.1", port), 30) as raw:
            raw.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            told = b"".join(iter(lambda: raw.recv(65536), b""))
        assert b"\r\nConnection: close\r\n" in told
        assert told.endswith(b"\r\n\r\n")


def test_the_stubs_answer_in_order_and_as_late_as_they_are_told() -> None:
    """What comes after a late HEAD waits for its answer."""
    request = b"%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%s\r\n"
    head = request % (b"HEAD " + _PATH.encode(), b"")
    other = request % (b"GET /bench-source-1?replication", b"Connection: close\r\n")
    with (
        _stubs("--head-milliseconds", "100") as port,
        socket.create_connection(("127.0.0.1", port), 30) as raw,
    ):
        began = time.monotonic()
        raw.sendall(head + other)
        told = b"".join(iter(lambda: raw.recv(65536), b""))
    assert time.monotonic() - began >= 0.1
    assert told.index(b"x-amz-replication-status") < told.index(b"<ReplicationConfiguration")


def test_the_stubs_speak_tls_with_a_certificate_of_the_run(tmp_path: Path) -> None:
    """Whoever trusts the authority that was made for the run is answered, and a session is taken up again."""
    make = [
        sys.executable,
        "-c",
        "import sys, pathlib, certificates as c; c.make(pathlib.Path(sys.argv[1]))",
    ]
    subprocess.run([*make, str(tmp_path)], cwd=BENCH, check=True)  # noqa: S603 - our own script
    trusting = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    tls_port = _free_port()
    with _stubs("--tls-port", str(tls_port), "--certificate", str(tmp_path / "server.pem")):
        session = None
        for _ in range(2):
            raw = socket.create_connection(("127.0.0.1", tls_port), 30)
            with trusting.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as one:
                one.sendall(f"HEAD {_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert one.recv(65536).startswith(b"HTTP/1.1 200 OK")
                reused, session = one.session_reused, one.session
    assert reused


def test_replicas_that_are_killed_every_50_seconds_need_not_learn_it_all_again() -> None:
    """Less than two looks at each object, where it took three while each replica began with nothing."""
    done = subprocess.run(
        [sys.executable, "restarts.py", "--quick"],
        cwd=BENCH, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    costs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    _, forgetting, remembering = costs

    assert min(forgetting["kills"], remembering["kills"]) > 10
    assert forgetting["second_half"] > 2.5
    assert remembering["second_half"] <= 1.9
