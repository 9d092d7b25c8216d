"""The image built and run without a container engine: Debian's buildah in a storage of its own, and namespaces."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fakes.patience import HANGS_SECONDS

TOP = Path(__file__).resolve().parents[2]

BASE = "docker.io/library/python:3.13-slim"
"""The name that the stand-in takes: Debian's own Python, for no registry of images can be asked here."""

RUNTIME_PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = "/etc/ssl/certs"
SUITE = "bookworm"


class MissingToolError(Exception):
    """A program is not there; the text names the Debian package."""


def tool(name: str) -> str:
    """
    Find a program.

    Raises:
        MissingToolError: it is not there.
    """
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise MissingToolError(f"{name} is needed: install Debian's package {name}")
    return found


class Storage(msgspec.Struct, frozen=True):
    """Where images and containers of one session lie."""

    folder: Path

    def run(self, program: str, *arguments: str) -> str:
        """Run podman or buildah on it; return what it printed."""
        command = [
            tool(program),
            *("--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")),
            *("--storage-driver", "vfs"),
            *arguments,
        ]
        return _run(command)

    def close(self) -> None:
        """Take everything away."""
        try:
            self.run("buildah", "rm", "--all")
        finally:
            shutil.rmtree(self.folder)


def _run(command: Sequence[str]) -> str:
    told = subprocess.run(  # noqa: S603 - programs of the system, found by name
        command, cwd=TOP, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False
    )
    assert told.returncode == 0, f"{' '.join(command)}\n{told.stdout}\n{told.stderr}"
    return told.stdout


class Image(msgspec.Struct, frozen=True):
    """A built image, and its root file system."""

    root: Path
    settings: dict[str, Any]
    """What `docker inspect` calls Config."""
    added_bytes: int
    """What its layers hold beside the base's."""

    @contextlib.contextmanager
    def started(
        self, *arguments: str, data: Path, environment: Mapping[str, str], output: Path
    ) -> Iterator["Container"]:
        """
        Start it as an engine would with a read-only root: its user, its variables, a process tree of its own.

        Args:
            arguments: in place of the image's command; none keeps it.
            data: the folder that is mounted writable at /data.
            environment: over that of the image.
            output: the file that gets both of its streams.
        """
        shutil.chown(data, *map(int, self.settings["User"].split(":")))
        at = data.parent / "root"
        at.mkdir(exist_ok=True)
        # The mounts are seen by nobody else, and end with the last process that sees them.
        prepare = (
            'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && mount --bind "$3" "$2/data" '
            '&& mount --rbind /dev "$2/dev" && mount -t proc proc "$2/proc" && at=$2 && shift 3 '
            '&& exec chroot --userspec="$CONTAINER_USER" "$at" /usr/bin/env -i -C /data "$@"'
        )
        command = [
            *(tool("unshare"), "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", prepare, "sh", str(self.root), str(at), str(data)),
            *self.settings["Env"],
            *(f"{name}={value}" for name, value in environment.items()),
            *(self.settings["Entrypoint"] or ()),
            *(arguments or self.settings["Cmd"]),
        ]
        with output.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603 - what the image says
                command,
                env={"PATH": os.environ["PATH"], "CONTAINER_USER": self.settings["User"]},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            try:
                yield Container(process, output)
            finally:
                process.kill()
                process.wait()

    def call(
        self, program: str, *arguments: str, data: Path, **environment: str
    ) -> tuple[int, str]:
        """Run a program in it, to its end; return its exit code and what it printed."""
        output = data.parent / "call.out"
        inside = msgspec.structs.replace(self, settings=self.settings | {"Entrypoint": [program]})
        with inside.started(
            *(arguments or ("--version",)), data=data, environment=environment, output=output
        ) as one:
            code = one.process.wait(timeout=HANGS_SECONDS)
        return code, output.read_text()


class Container:
    """One that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def said(self) -> str:
        """What it printed so far."""
        return self._output.read_text()

    def stop(self) -> None:
        """Send SIGTERM to its first process, as an engine does."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        os.kill(int(children.read_text()), signal.SIGTERM)

    def until_said(self, pattern: str) -> "re.Match[str]":
        """Wait until it printed something."""
        end = time.monotonic() + HANGS_SECONDS
        while time.monotonic() < end:
            found = re.search(pattern, self.said)
            if found:
                return found
            assert self.process.poll() is None, self.said
            time.sleep(0.1)  # noqa: TID251 - another process has to get on
        raise AssertionError(f"{pattern} was not said:\n{self.said}")


def build(storage: Storage) -> Image:
    """Create the stand-in for the base, and the image on it."""
    base = storage.folder / "base"
    # It mounts /proc inside, which must end with it, whatever ends it.
    _run(
        [
            *(tool("unshare"), "--mount", "--propagation", "private"),
            *(tool("debootstrap"), "--variant=minbase"),
            *(f"--include={RUNTIME_PACKAGES}", SUITE, str(base)),
        ]
    )
    archive = storage.folder / "base.tar"
    _run([tool("tar"), "-C", str(base), "-cf", str(archive), "."])
    storage.run("podman", "import", str(archive), BASE)
    storage.run(
        *("buildah", "bud", "--isolation", "chroot", "--network", "host", "--pull-never"),
        *("-v", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--format", "docker", "-t", "crrmon", "."),
    )
    inspected = json.loads(storage.run("buildah", "inspect", "--type", "image", "crrmon"))
    container = storage.run("buildah", "from", "--pull-never", "crrmon").strip()
    root = Path(storage.run("buildah", "mount", container).strip())
    return Image(
        root=root,
        settings=inspected["Docker"]["config"],
        added_bytes=_size(root / "opt/crrmon"),
    )


def _size(folder: Path) -> int:
    return sum(one.lstat().st_size for one in folder.rglob("*") if not one.is_dir())
