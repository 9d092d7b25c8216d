"""`crrmon routes`: what holds a route back is listed, and released."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from crrmon.cli import app
from crrmon.domain.objects import Route
from crrmon.domain.route_state import (
    Abandoned,
    RouteState,
    Selected,
    decode,
    encode,
    name_of,
    observed,
    with_abandoned,
)
from fakes.ledgers import SqliteLedger

AT = 1_764_460_800.0
"""2025-11-30T00:00:00Z."""

HELD, FREE, GONE = Route("src", "held"), Route("src", "free"), Route("src", "gone")


def crrmon(*arguments: str) -> Result:
    """Run the command line in this process, where no terminal breaks lines: names are there to be copied."""
    return CliRunner().invoke(app, ["routes", *arguments], env={"COLUMNS": "50"})


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Write a configuration whose ledger knows three routes."""
    ledger = tmp_path / "ledger.db"
    path = tmp_path / "crrmon.yaml"
    path.write_text(yaml.safe_dump({"ledger": {"kind": "sqlite", "path": str(ledger)}}))
    free = RouteState(read_at=AT, changed_at=AT, selects=(Selected("in/", AT),))
    held = with_abandoned(free, Abandoned("in/[red]a\n", "v1", AT - 3600, "given_up"))
    gone = observed(free, (), read_at=AT + 60)
    assert gone is not None

    async def fill() -> None:
        opened = await SqliteLedger.at(ledger, shards=1, retention_seconds=86_400.0)
        for route, state in ((HELD, held), (FREE, free), (GONE, gone)):
            assert await opened.swap(name_of(route), None, encode(state))
        await opened.close()

    asyncio.run(fill())
    return str(path)


def kept(config: str) -> dict[str, RouteState]:
    """Read what the ledger remembers."""
    path = yaml.safe_load(Path(config).read_text())["ledger"]["path"]

    async def read() -> dict[str, RouteState]:
        opened = await SqliteLedger.at(Path(path), shards=1, retention_seconds=86_400.0)
        states = await opened.states("")
        await opened.close()
        return {name: decode(body) for name, body in states.items()}

    return asyncio.run(read())


def test_routes_are_listed_with_what_holds_them_back(config: str) -> None:
    """A table for eyes: which routes have rules, and which are held back since when."""
    result = crrmon("list", "--config", config)
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines() if line.strip().startswith("src")]
    assert lines == [
        ["src", "free", "enabled", "2025-11-30T00:00:00Z"],
        ["src", "gone", "gone", "2025-11-30T00:01:00Z"],
        ["src", "held", "enabled", "2025-11-30T00:00:00Z", "1", "object", "2025-11-29T23:00:00Z"],
    ]


def test_routes_are_told_to_machines_as_json(config: str) -> None:
    """With each object that was let go, its key whole."""
    result = crrmon("list", "--config", config, "--output", "json")
    assert result.exit_code == 0
    by_name = {one["destination_bucket"]: one for one in json.loads(result.stdout)}
    assert by_name["held"]["held_back_since"] == "2025-11-29T23:00:00Z"
    assert by_name["held"]["abandoned"] == [
        {
            "key": "in/[red]a\n",
            "version_id": "v1",
            "written_at": "2025-11-29T23:00:00Z",
            "why": "given_up",
        }
    ]
    assert by_name["gone"]["configured"] is False
    assert by_name["gone"]["prefixes_without_rule"] == ["in/"]
    assert by_name["free"]["held_back_since"] is None


def test_t2_a_route_is_released(config: str) -> None:
    """Nothing holds it back from then on, and the command says what did."""
    result = crrmon("release", "src", "held", "--config", config)
    assert result.exit_code == 0
    assert (
        "Released the route from src to held from 1 object, since 2025-11-29T23:00:00Z."
        in result.output
    )
    assert kept(config)[name_of(HELD)].blocked_at is None
    again = crrmon("release", "src", "held", "--config", config)
    assert "Released the route from src to held: nothing held it back yet." in again.output


def test_t1_a_route_without_rules_is_retired(config: str) -> None:
    """It is not told of any more."""
    result = crrmon("release", "src", "gone", "--config", config)
    assert result.exit_code == 0
    assert "Retired the route from src to gone" in result.output
    assert kept(config)[name_of(GONE)].retired
    assert "retired" in crrmon("list", "--config", config).output


def test_an_unknown_route_is_refused_with_those_that_are_known(config: str) -> None:
    """A typing mistake changes nothing."""
    before = kept(config)
    result = crrmon("release", "src", "hled", "--config", config)
    assert result.exit_code == 1
    assert "knows no route from src to hled" in result.stderr
    assert "src to held" in result.stderr
    assert kept(config) == before


def test_a_ledger_that_is_not_there_or_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    """No file is made by asking, and a ledger in memory is nobody else's."""
    missing = tmp_path / "missing.db"
    path = tmp_path / "crrmon.yaml"
    path.write_text(yaml.safe_dump({"ledger": {"kind": "sqlite", "path": str(missing)}}))
    result = crrmon("list", "--config", str(path))
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr
    assert not missing.exists()

    path.write_text(yaml.safe_dump({"ledger": {"kind": "memory"}}))
    result = crrmon("list", "--config", str(path))
    assert result.exit_code == 1
    assert "memory" in result.stderr
