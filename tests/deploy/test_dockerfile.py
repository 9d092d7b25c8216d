"""The Dockerfile, as far as reading it tells; test_image.py builds it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fakes.patience import HANGS_SECONDS

TOP = Path(__file__).resolve().parents[2]
DOCKERFILE = (TOP / "Dockerfile").read_text(encoding="utf-8")
LOCKED: dict[str, dict[str, Any]] = {
    one["name"]: one for one in tomllib.loads((TOP / "uv.lock").read_text())["package"]
}


def _needed(name: str, *, extras: tuple[str, ...] = ()) -> set[str]:
    """Return what a package needs to run, all the way down."""
    found: set[str] = set()
    todo = [(name, extras)]
    while todo:
        here, wanted = todo.pop()
        package = LOCKED[here]
        needs = list(package.get("dependencies", ()))
        for extra in wanted:
            needs += package.get("optional-dependencies", {}).get(extra, ())
        for need in needs:
            if "win32" in need.get("marker", "") and "!=" not in need["marker"]:
                continue
            if need["name"] not in found:
                found.add(need["name"])
                todo.append((need["name"], tuple(need.get("extra", ()))))
    return found


RUNTIME = sorted(_needed("crrmon"))


def test_hadolint_finds_nothing() -> None:
    """By all its rules; each exception stands in the file."""
    hadolint = Path(sys.executable).with_name("hadolint")
    told = subprocess.run(  # noqa: S603 - a tool of our own environment
        [hadolint, "--no-color", TOP / "Dockerfile"],
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )

    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_uv_is_the_one_of_the_makefile() -> None:
    """One version resolves the lock file, makes the environment of developers, and builds the image."""
    (here,) = re.findall(r"^ARG UV_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    (there,) = re.findall(r"^UV_VERSION := (\S+)$", (TOP / "Makefile").read_text(), re.MULTILINE)

    assert here == there


def test_the_version_is_the_projects() -> None:
    """The label says what is inside."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]

    assert f"ARG VERSION={project['version']}\n" in DOCKERFILE


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("name", RUNTIME)
def test_there_is_a_wheel_for_each_machine(name: str, machine: str) -> None:
    """Nothing is compiled: the image has no compiler, and emulated builds would take an hour."""
    wheels = [one["url"].rpartition("/")[2] for one in LOCKED[name]["wheels"]]
    fits = re.compile(
        rf"-(py3|py2\.py3)-none-any\.whl$"
        rf"|-(cp313-cp313|cp3\d+-abi3|py3-none)-[^-]*manylinux[^-]*_{machine}[^-]*\.whl$"
    )

    assert any(fits.search(one) for one in wheels), wheels


def test_enough_is_looked_at() -> None:
    """The walk through the lock file found what the daemon imports."""
    assert {"aiobotocore", "msgspec", "hiredis", "uvloop", "pydantic-core", "pyyaml"} <= {*RUNTIME}


def test_nothing_but_what_is_built_reaches_the_build() -> None:
    """No secret, no history and no ledger of the machine that builds can end in a layer."""
    ignored = (TOP / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        path
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for path in line.split()
    }

    assert "*" in ignored
    assert kept == copied


def test_e1_it_listens_on_both_families_of_addresses() -> None:
    """A kubelet of an IPv6-only cluster asks by IPv6, and the health check by 127.0.0.1."""
    assert re.search(r"^ +CRRMON_HTTP__HOST=:: ", DOCKERFILE, re.MULTILINE)
