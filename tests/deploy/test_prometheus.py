"""A real Prometheus reads the real daemon's page, and one of our alerts fires."""

import asyncio
import re
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from artifacts.__main__ import TOP
from artifacts.alerts import PLAIN_FILE, RULES, RUNBOOK
from fakes.patience import HANGS_SECONDS
from fakes.prometheus_server import PrometheusServer, program, prometheus
from fakes.sandbox_command import sandbox

pytestmark = pytest.mark.prometheus

EVOKED = "CrrmonReplicationFailures"
"""Fires at once, by the rules as they are."""
TROUBLE = (
    "--fail",
    "0.9",
    "--repair",
    "0",
    "--median",
    "0.5",
    "--event-delay",
    "0",
    "--rate",
    "20",
)

Found = TypeVar("Found")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there was to see while the sandbox ran."""

    page: str
    """In the text format."""
    series: frozenset[str]
    """Names of all that Prometheus scraped; it asks for OpenMetrics."""
    alerts: list[dict]
    """Those that fired."""
    rules: list[dict]


async def _until(look: Callable[[], Found], enough: Callable[[Found], bool]) -> Found:
    """Look until it is enough."""
    async with asyncio.timeout(HANGS_SECONDS):
        while not enough(found := await asyncio.to_thread(look)):
            await asyncio.sleep(0.2)
    return found


def _page(target: str) -> str:
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=HANGS_SECONDS) as answer:
        text: str = answer.read().decode()
    return text


def _firing(server: PrometheusServer) -> list[dict]:
    return [one for one in server.alerts() if one["state"] == "firing"]


def _sources(alerts: list[dict]) -> set[str]:
    """Tell of which sources the evoked alert is there."""
    labels = [one["labels"] for one in alerts]
    return {one["source_bucket"] for one in labels if one["alertname"] == EVOKED}


async def _watch(rules_file: Path) -> Seen:
    async with sandbox(*TROUBLE, "--seed", "5") as one:
        line = await one.until(r"http://\S+/metrics")
        found = re.search(r"http://(\S+)/metrics", line)
        assert found is not None
        await one.until(r"written [1-9]")
        target = found[1]
        with prometheus(target, rules=rules_file) as server:
            alerts = await _until(lambda: _firing(server), lambda seen: len(_sources(seen)) > 1)
            # Once more, for the reporting replica's gauges come a little later.
            page = await _until(
                lambda: _page(target), lambda text: "crrmon_queue_messages{" in text
            )
            scraped = await _until(
                lambda: server.query('{job="crrmon"}'),
                lambda all_of_them: any(
                    one["metric"]["__name__"] == "crrmon_queue_messages" for one in all_of_them
                ),
            )
            rules = await _until(
                server.rules,
                lambda all_of_them: all(one["health"] != "unknown" for one in all_of_them),
            )
    names = frozenset(one["metric"]["__name__"] for one in scraped)
    return Seen(page=page, series=names, alerts=alerts, rules=rules)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Run one sandbox in which most replications fail, and one Prometheus that evaluates all rules every second."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text((TOP / PLAIN_FILE).read_text().replace("interval: 1m", "interval: 1s"))
    return asyncio.run(_watch(path))


def test_promtool_has_nothing_to_say_about_the_page(seen: Seen) -> None:
    """
    Names, units, help texts and types are by the book.

    This is the text format, the only one that promtool reads. That OpenMetrics is right, which has another one in its
    stead, Prometheus' own scraper decides: see below.
    """
    told = subprocess.run(  # noqa: S603 - our own words
        [program("promtool"), "check", "metrics"],
        input=seen.page,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_SECONDS,
    )

    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_prometheus_takes_in_what_the_page_shows(seen: Seen) -> None:
    """The scraper understands OpenMetrics as it is sent, and drops nothing."""
    shown = set(re.findall(r"^(\w+)", seen.page, flags=re.MULTILINE))

    assert shown - seen.series == set()
    assert {"crrmon_replications_total", "process_start_time_seconds"} <= seen.series


def test_an_alert_fires_with_bucket_and_runbook(seen: Seen) -> None:
    """Our rules, as they are delivered: failures fire at once, once for each route."""
    mine = [one for one in seen.alerts if one["labels"]["alertname"] == EVOKED]

    routes = [
        (one["labels"]["source_bucket"], one["labels"]["destination_bucket"]) for one in mine
    ]
    assert len(routes) == len(set(routes)), "one ticket for a route, whatever the reasons"
    assert {source for source, _ in routes} <= {"src-a", "src-b", "src-c", "src-d"}
    for one in mine:
        labels, annotations = one["labels"], one["annotations"]
        assert labels["severity"] == "warning"
        assert labels["job"] == "crrmon"
        assert labels["source_bucket"] in annotations["summary"]
        assert labels["destination_bucket"] in annotations["summary"]
        assert labels["source_bucket"] in annotations["description"]
        assert annotations["runbook"] == f"{RUNBOOK}#crrmonreplicationfailures"


def test_prometheus_evaluates_every_rule(seen: Seen) -> None:
    """None fails on real series, and nothing fires for a daemon that only just started and is well."""
    names = sorted(rule.alert or rule.record for rule in RULES)
    assert sorted(one["name"] for one in seen.rules) == names
    assert {one["name"]: one.get("lastError") for one in seen.rules if one["health"] != "ok"} == {}
    assert {one["labels"]["alertname"] for one in seen.alerts} == {EVOKED}
