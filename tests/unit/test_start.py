"""What is imported when: a start takes as long as what it imports, and whoever asks for help waits for it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

HEAVY = {
    "aiobotocore", "aiohttp", "boto3", "botocore", "msgspec", "prometheus_client", "pydantic_settings", "redis",
    "sqlite3", "structlog", "uvloop", "yaml",
}  # fmt: skip
"""What work is done with; nothing of it is needed to print a text."""
OF_OPTIONS = {"asyncio", "pydantic"}
"""What typer checks options with, and so imports as soon as a command has any."""

OPENING = """
import asyncio, sys
import crrmon.cli.run
from crrmon import connections
from crrmon.config import Settings
from crrmon.ports.clock import SystemClock

async def main(settings):
    async with connections.aws_of(settings) as aws:
        async with connections.opened_ledger(settings.ledger, aws, clock=SystemClock()):
            print(*sys.modules)

asyncio.run(main(Settings(ledger={"kind": sys.argv[1], "path": sys.argv[2]})))
"""
"""All that `crrmon run` imports before its ledger is open, and the ledger's modules."""

COLLECTING = """
import gc, sys
from pathlib import Path
import typer
from crrmon.cli.commands.run import run

collections = []

def count(phase, _):
    if phase == "start":
        collections.append(hasattr(sys.modules.get("crrmon.cli.run"), "run"))

gc.callbacks.append(count)
try:
    run(Path(sys.argv[1]))
except typer.Exit as end:
    print(end.exit_code, gc.isenabled(), gc.get_freeze_count() > 10_000, all(collections))
    print(*(name for name in sys.modules if name.partition(".")[0] == "rich"))
"""
"""`crrmon run` with settings that cannot be used: as far as to everything being imported. Tells whether the garbage
collector works then, leaves alone what was imported, and did not begin before; and what there is of rich."""


def imported(arguments: Sequence[str]) -> set[str]:
    """Return the modules that Python imports to print something."""
    command = [sys.executable, "-X", "importtime", "-m", "crrmon", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603 - our own
    assert done.stdout
    lines = done.stderr.splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["--help"], HEAVY | OF_OPTIONS),
        (["sandbox", "--help"], HEAVY),
        (["deploy", "discover", "--help"], HEAVY),
    ],
)
def test_help_is_printed_without_what_does_the_work(
    arguments: Sequence[str], unneeded: set[str]
) -> None:
    """Neither libraries nor the daemon are imported: only the command line, and what declares it."""
    modules = imported(arguments)

    assert "crrmon.cli.commands.run" in modules
    assert not modules & unneeded
    assert not {
        one for one in modules if one.startswith("crrmon.") and not one.startswith("crrmon.cli")
    }
    assert "crrmon.cli.run" not in modules


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_of_the_stores_the_one_that_is_used_is_imported(kind: str, tmp_path: Path) -> None:
    """The daemon starts without the libraries of other ledgers, without the sandbox, and without the SDK's other half."""
    command = [sys.executable, "-c", OPENING, kind, str(tmp_path / "ledger.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603 - our own
    modules = set(done.stdout.split())

    stores = {
        module.split(".")[3] for module in modules if module.startswith("crrmon.adapters.stores.")
    }
    assert stores == {kind}
    assert not modules & {"boto3", "redis", "crrmon.sandbox"}


def test_a_start_neither_collects_what_it_imports_nor_imports_rich(tmp_path: Path) -> None:
    """The collector begins when everything is imported, and then spares it; tables are not the daemon's business."""
    settings = tmp_path / "crrmon.yaml"
    settings.write_text("qeues: []\n")
    command = [sys.executable, "-c", COLLECTING, str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603 - our own

    collector, rich = done.stdout.splitlines()
    assert collector.split() == ["2", "True", "True", "True"]
    assert not rich


def test_a_daemon_in_a_process_with_rich_keeps_it() -> None:
    """What was imported before is neither hidden nor taken away."""
    text = "import rich, sys\nfrom crrmon.cli.commands.run import _not_installed\n"
    text += (
        "with _not_installed('rich'):\n    import rich.table\nprint(sys.modules['rich'] is rich)"
    )
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603 - our own

    assert done.stdout.strip() == "True"
