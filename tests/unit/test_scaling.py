"""The arithmetic of docs/scaling.md: its tables are what is computed, and what is computed is what the page says."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from crrmon.domain.deployment import cost

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The arithmetic."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("scaling")


@pytest.fixture
def page(scaling: ModuleType) -> ModuleType:
    """The tables."""
    return importlib.import_module("scaling_page")


def test_the_tables_of_the_page_are_what_is_computed(page: ModuleType) -> None:
    """`make docs` would change nothing, and no table that is computed is missing."""
    written = page.PAGE.read_text()

    assert written == page.filled(written), "call make docs"
    for name, table in page.tables().items():
        assert f"<!-- table: {name} -->\n\n{table}\n\n<!-- end -->" in written


def test_every_wall_is_a_link_into_the_page(scaling: ModuleType, page: ModuleType) -> None:
    """What to do about a wall stands under a heading that there is."""
    written = page.PAGE.read_text().lower()

    for wall in scaling.walls(scaling.QUICK):
        section = wall.remedy.partition("(#")[2].removesuffix(")")
        assert f"\n## {section}\n" in written, wall.name


def test_replicas_follow_from_the_peak_and_the_cpu_of_an_object(scaling: ModuleType) -> None:
    """As many cores as the peak takes, each used to a share only, rounded up, and one to spare."""
    rate = 10_000.0
    objects = scaling.a_day(rate)
    milliseconds = scaling.cpu_milliseconds(scaling.QUICK, scaling.REDIS)
    cores = rate * milliseconds / 1e3 / scaling.BUSY

    assert scaling.PEAK * scaling.average(objects) == pytest.approx(rate)
    number = scaling.replicas(objects, scaling.QUICK, scaling.REDIS)
    assert cores + scaling.SPARE <= number < cores + scaling.SPARE + 1


def test_what_is_settled_at_the_first_look_costs_what_was_measured(scaling: ModuleType) -> None:
    """One HEAD, nothing parked: the CPU time of the benchmark, the calls of the benchmark, DynamoDB's least units."""
    simple = scaling.Traffic(name="", heads=1.0, parked=0.0, polls=1.0, held_seconds=0.0)

    assert scaling.cpu_milliseconds(simple, scaling.SQLITE) == pytest.approx(scaling.CPU_MS)
    assert scaling.units_per_object(simple) == scaling.units.Object().first_look
    assert scaling.request_dollars(simple) == pytest.approx(0.40 * 1.2 + 0.40)


def test_what_is_parked_costs_its_looks(scaling: ModuleType) -> None:
    """All of them parked, looked at twice: what DynamoDB asks for that."""
    parked = scaling.Traffic(name="", heads=2.0, parked=1.0, polls=2.0, held_seconds=0.0)

    assert scaling.units_per_object(parked) == pytest.approx(scaling.units.Object().parked(1))


def test_a_fleet_reaches_walls_of_replicas_later(scaling: ModuleType) -> None:
    """The limit of each replica counts as often as there are replicas; that of a bucket's prefix does not."""
    walls = {wall.name: wall.per_second for wall in scaling.walls(scaling.QUICK)}
    objects = 1e9
    number = scaling.replicas(objects, scaling.QUICK, scaling.REDIS)
    there = {
        wall.name: wall.per_second
        for wall in scaling.reached(objects, scaling.QUICK, scaling.REDIS)
    }

    setting, prefix = "`polling.per_bucket_per_second`", "one S3 prefix"
    assert there[setting] == pytest.approx(number * walls[setting])
    assert there[prefix] == walls[prefix]
    assert not [name for name in there if "DynamoDB" in name]
    assert list(there.values()) == sorted(there.values())


def test_small_loads_reach_no_wall(scaling: ModuleType) -> None:
    """One replica follows a million objects a day, with all settings as they are."""
    (ledger,) = scaling.ledgers_for(1e6, scaling.QUICK)

    assert ledger is scaling.SQLITE
    assert scaling.replicas(1e6, scaling.QUICK, ledger) == 1
    assert scaling.reached(1e6, scaling.QUICK, ledger) == []


def test_looks_are_summed_up_by_how_they_were_made(scaling: ModuleType) -> None:
    """One settled while its message was held, one parked after that, one parked at once because it was too early."""
    looks = [scaling.Looks(10.0, 1), scaling.Looks(20.0, 3), scaling.Looks(100.0, 1)]

    assert scaling.summed_up("", looks) == scaling.Traffic(
        name="",
        heads=pytest.approx(5 / 3),
        parked=pytest.approx(2 / 3),
        polls=pytest.approx(1.5),
        held_seconds=pytest.approx(10.0),
    )


def test_what_deploying_estimates_is_what_is_computed_here(scaling: ModuleType) -> None:
    """HEADs, units and metrics of the estimate before anybody pays are those of the page."""
    both = (scaling.QUICK, scaling.SLOW)
    units = [scaling.units_per_object(traffic) for traffic in both]
    idle = scaling.units.idle(replicas=1).values()

    assert tuple(traffic.heads for traffic in both) == cost.HEADS
    assert pytest.approx([writes for writes, _ in units], abs=0.005) == cost.WRITE_UNITS
    assert pytest.approx([reads for _, reads in units], abs=0.005) == cost.READ_UNITS
    assert tuple(map(sum, zip(*idle, strict=True))) == cost.IDLE_UNITS
    assert scaling.DYNAMODB.mark_bytes == cost.MARK_BYTES
    assert pytest.approx(1 + scaling.RECEIVES + scaling.DELETES) == cost.CALLS_OF_QUEUE
