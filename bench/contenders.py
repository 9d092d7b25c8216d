"""Who is measured: crrmon with each of its clients, crrmon as it was, and the ordinary pipelines that it stands beside.

All of them are processes that take messages out of one queue, HEAD what these tell of, and delete them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import yaml

import wires
from messages import ACCOUNT, QUEUE, REGION

HERE = Path(__file__).parent
WINDOW_SECONDS = 10
"""Length of a CloudWatch window: short, so that publishing is part of what is measured."""
RECEIVERS = 8
"""Of the ordinary pipelines, each with ten HEADs at a time: as many at once as crrmon's 64, and then some."""
BUILD_SECONDS = 900.0
CLIENTS = ("fast", "sdk")
"""What `aws.client` may be. A plain endpoint and certificates of one's own want it said."""

ORDINARY = "ordinary"
"""All others are compared with this one."""


class Wire(msgspec.Struct, frozen=True):
    """Where the stubs are reached."""

    url: str
    authority: Path | None
    """Certificates to trust, where it is https."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender is told."""

    wire: Wire
    folder: Path
    http_port: int
    """For its metrics."""
    ledger: Mapping[str, Any]
    """The settings of the ledger."""
    concurrency: int | None
    """Most HEADs at once; None for the default."""
    profile: Path | None
    """Where to write samples of its stacks."""

    @property
    def queue(self) -> str:
        """The URL of the queue."""
        return f"{self.wire.url}/{ACCOUNT}/{QUEUE}"


class Contender(Protocol):
    """Somebody who is measured."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def counts(self) -> bool:
        """Whether it tells what it counted, and ends by itself when it is told to."""
        ...

    def command(self, job: Job) -> Sequence[str]:
        """Return how to run it."""
        ...

    def environment(self, job: Job) -> Mapping[str, str]:
        """Return all variables that it is given."""
        ...


class Crrmon(msgspec.Struct, frozen=True):
    """
    The real daemon.

    Args:
        name: what it is called.
        python: of the checkout whose code it is.
        client: `aws.client`; None where the code knows no such setting.
        wire: what carries the fast client's requests, by its name in `wires`; its own where empty.
    """

    name: str
    python: str
    client: str | None
    wire: str = ""

    counts = True

    def command(self, job: Job) -> Sequence[str]:
        """Write its configuration, and return how to run it."""
        config = job.folder / "crrmon.yaml"
        config.write_text(yaml.safe_dump(settings(job, self.client)))
        if job.profile or self.wire:
            wrapped = [str(HERE / "wrapped.py"), "--config", str(config)]
            wrapped += ["--profile", str(job.profile)] if job.profile else []
            wrapped += ["--wire", self.wire] if self.wire else []
            return [self.python, *wrapped]
        return [self.python, "-m", "crrmon", "run", "--config", str(config)]

    def environment(self, job: Job) -> Mapping[str, str]:
        """Return all variables that it is given."""
        return environment(job.wire)


class Ordinary(msgspec.Struct, frozen=True):
    """
    A pipeline without a memory.

    Args:
        name: what it is called.
        program: how to run it.
    """

    name: str
    program: tuple[str, ...]

    counts = False

    def command(self, job: Job) -> Sequence[str]:
        """Return how to run it."""
        return [*self.program, "--queue", job.queue, "--receivers", str(RECEIVERS)]

    def environment(self, job: Job) -> Mapping[str, str]:
        """Return all variables that it is given."""
        return {**environment(job.wire), "AWS_ENDPOINT_URL": job.wire.url, "GOMAXPROCS": "1"}


def settings(job: Job, client: str | None) -> dict[str, Any]:
    """Return the configuration of a daemon, with nothing in it that its code may not know."""
    polling = {"concurrency": job.concurrency} if job.concurrency else {}
    return {
        "queues": [{"url": job.queue, "region": REGION}],
        "aws": {
            "region": REGION,
            "endpoint_url": job.wire.url,
            **({"client": client} if client else {}),
        },
        "polling": polling,
        "ledger": dict(job.ledger),
        "report": {"window_seconds": WINDOW_SECONDS},
        "http": {"port": job.http_port},
        "log": {"level": "warning", "format": "json"},
    }


def environment(wire: Wire | None = None) -> dict[str, str]:
    """Create an environment that leads to no account and no endpoint but the stubs'."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("AWS_", "CRRMON_")) and not name.upper().endswith("_PROXY")
    }
    trust = str(wire.authority) if wire and wire.authority else ""
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **({"AWS_CA_BUNDLE": trust, "SSL_CERT_FILE": trust} if trust else {}),
    }


# ---- who there is ----


def all_contenders(
    *,
    beside: Path | None,
    go: str | None,
    folder: Path,
    tell: Callable[[str], None],
    left_out: list[str],
) -> list[Contender]:
    """
    Return who can be measured on this machine.

    Args:
        beside: another checkout of crrmon, with a .venv of its own.
        go: the program; None to look for it.
        folder: for what is built.
        tell: told what is being done.
        left_out: gets a line for whoever cannot be measured.
    """
    found: list[Contender] = [*crrmons("crrmon", sys.executable)]
    if beside is not None:
        found += crrmons("before", str(beside.absolute() / ".venv" / "bin" / "python"))
    found.append(Ordinary(ORDINARY, (sys.executable, str(HERE / "ordinary.py"))))
    program, why_not = _build(go, folder, tell)
    if program is None:
        left_out.append(f"{ORDINARY} Go is left out: {why_not}")
        tell(left_out[-1])
    else:
        found.append(Ordinary(f"{ORDINARY} Go", (str(program),)))
    return found


def crrmons(name: str, python: str) -> list[Crrmon]:
    """Return the daemon of a checkout with each client that it has, the fastest first."""
    if not _knows_clients(python):
        return [Crrmon(name, python, None)]
    return [Crrmon(f"{name} {client}", python, client) for client in CLIENTS]


def wired() -> list[Contender]:
    """Return the daemon with each wire that there is here."""
    return [Crrmon(f"crrmon, {name}", sys.executable, "fast", wire=name) for name in wires.known()]


_ASK = """
from crrmon.config import Settings
print("client" in type(Settings.model_fields["aws"].default).model_fields)
"""


def _knows_clients(python: str) -> bool:
    asked = subprocess.run(  # noqa: S603 - our own program
        [python, "-c", _ASK], env=environment(), capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise SystemExit(f"bench: {python} does not run crrmon: {asked.stderr.strip()[-500:]}")
    return asked.stdout.strip() == "True"


def _build(go: str | None, folder: Path, tell: Callable[[str], None]) -> tuple[Path | None, str]:
    """Build the pipeline in Go; return why not where that cannot be done."""
    compiler = (
        shutil.which(go) if go else shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    )
    if compiler is None:
        return None, "there is no Go here (--go says where it is)"
    program = folder / "ordinary"
    tell("building ordinary Go (minutes, the first time)")
    built = subprocess.run(  # noqa: S603 - our own program
        [compiler, "build", "-buildvcs=false", "-o", str(program), "."],
        cwd=HERE / "ordinary_go",
        # The Go that is there, or none: it would fetch another one.
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if built.returncode:
        why = re.sub(r"\s+", " ", built.stderr).strip()[-300:]
        return None, f"it could not be built: {why}"
    return program, ""
