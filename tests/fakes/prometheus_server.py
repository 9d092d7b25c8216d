"""Debian's Prometheus as a process of its own, and its promtool."""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from crrmon.sandbox.children import free_port
from fakes.patience import HANGS_SECONDS


class PrometheusServer:
    """
    A running server.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict]:
        """Evaluate an expression now; each result has `metric` and `value`."""
        asked = urllib.parse.urlencode({"query": expression})
        return self._get(f"/api/v1/query?{asked}")["result"]

    def history(self, expression: str, *, start: float, end: float) -> list[dict]:
        """Evaluate an expression once for every second between two times; each result has `metric` and `values`."""
        asked = urllib.parse.urlencode(
            {"query": expression, "start": start, "end": end, "step": "1s"}
        )
        return self._get(f"/api/v1/query_range?{asked}")["result"]

    def alerts(self) -> list[dict]:
        """List the alerts that are pending or firing, with `labels`, `annotations`, `state` and `value`."""
        return self._get("/api/v1/alerts")["alerts"]

    def rules(self) -> list[dict]:
        """List the rules, with `name`, `state`, `health` and perhaps `lastError`."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str) -> dict:
        try:
            with urllib.request.urlopen(self.url + path, timeout=HANGS_SECONDS) as answer:  # noqa: S310 - our own server
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            said = error.read().decode()
            raise AssertionError(f"Prometheus answered {error.code} to {path}: {said}") from error


def program(name: str) -> str:
    """Find one of the two programs."""
    found = shutil.which(name)
    assert found is not None, f"{name} is not on the PATH: install Debian's package `prometheus`"
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end, and return what it said."""
    return subprocess.run(  # noqa: S603 - our own words
        [program("promtool"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_SECONDS,
    )


@contextlib.contextmanager
def prometheus(
    target: str,
    *,
    rules: Path | None = None,
    scrape_seconds: float = 1.0,
    lookback_seconds: float = 300.0,
) -> Iterator[PrometheusServer]:
    """
    Run a server that scrapes one target, until the end of the block.

    Args:
        target: host and port whose /metrics it reads.
        rules: a file of rules to evaluate.
        scrape_seconds: how often it scrapes and evaluates.
        lookback_seconds: how old the newest sample of a series may be to count as its value.
    """
    interval = f"{round(scrape_seconds * 1000)}ms"
    settings = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [] if rules is None else [str(rules.resolve())],
        "scrape_configs": [{"job_name": "crrmon", "static_configs": [{"targets": [target]}]}],
    }
    with tempfile.TemporaryDirectory(prefix="prometheus") as name:
        directory = Path(name)
        (directory / "prometheus.yml").write_text(json.dumps(settings))
        port = free_port()
        command = [
            program("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--query.lookback-delta={round(lookback_seconds * 1000)}ms",
        ]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own words
        try:
            _wait(process, f"http://127.0.0.1:{port}/-/ready", directory / "log")
            yield PrometheusServer(f"http://127.0.0.1:{port}")
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + HANGS_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, f"prometheus ended:\n{log.read_text()}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=HANGS_SECONDS):  # noqa: S310 - the same
            return
        time.sleep(0.05)  # noqa: TID251 - another process has to get ready
    raise AssertionError(f"prometheus did not get ready in time:\n{log.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(HANGS_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
