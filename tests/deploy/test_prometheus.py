"""A real Prometheus reads the real daemon's page, and one of our alerts fires."""

import asyncio
import re
import subprocess
import urllib.request
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest

from artifacts.alerts import PLAIN_FILE, RULES, RUNBOOK, TOP
from fakes.prometheus_server import PrometheusServer, program, prometheus
from fakes.sandbox_command import ROUTES, sandbox

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(240)]

WAIT_SECONDS = 90.0
"""A group that is evaluated once a minute is so at any moment of the first one."""
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
    """
    What there was to see while the sandbox ran.
    """

    page: str
    """In the text format."""
    series: frozenset[str]
    """Names of all that Prometheus scraped; it asks for OpenMetrics."""
    alerts: list[dict]
    """Those that fired."""
    rules: list[dict]


async def _until(look: Callable[[], Found], enough: Callable[[Found], bool]) -> Found:
    """
    Look until it is enough.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        while not enough(found := await asyncio.to_thread(look)):
            await asyncio.sleep(0.2)
    return found


def _page(target: str) -> str:
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=WAIT_SECONDS) as answer:
        text: str = answer.read().decode()
    return text


def _firing(server: PrometheusServer) -> list[dict]:
    return [one for one in server.alerts() if one["state"] == "firing"]


def _routes(alerts: list[dict]) -> set[tuple[str, str]]:
    """
    Tell on which routes the evoked alert is there.
    """
    labels = [one["labels"] for one in alerts if one["labels"]["alertname"] == EVOKED]
    return {(one["source_bucket"], one["destination_bucket"]) for one in labels}


async def _watch() -> Seen:
    async with sandbox(*TROUBLE, "--seed", "5") as one:
        line = await one.until(r"http://\S+/metrics")
        found = re.search(r"http://(\S+)/metrics", line)
        assert found is not None
        await one.until(r"written [1-9]")
        target = found[1]
        with prometheus(target, rules=TOP / PLAIN_FILE) as server:
            alerts = await _until(lambda: _firing(server), lambda seen: len(_routes(seen)) > 1)
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
def seen() -> Seen:
    """
    Run one sandbox in which most replications fail, and one Prometheus.
    """
    return asyncio.run(_watch())


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
        timeout=WAIT_SECONDS,
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

    assert _routes(mine) <= ROUTES
    assert len(mine) == len(_routes(mine)) > 1
    for one in mine:
        labels, annotations = one["labels"], one["annotations"]
        assert labels["severity"] == "warning"
        assert labels["job"] == "crrmon"
        assert labels["source_bucket"] in annotations["summary"]
        assert labels["destination_bucket"] in annotations["summary"]
        assert labels["destination_bucket"] in annotations["description"]
        assert annotations["runbook_url"] == f"{RUNBOOK}#crrmonreplicationfailures"


def test_prometheus_evaluates_every_rule(seen: Seen) -> None:
    """None fails on real series, and nothing fires for a daemon that only just started and is well."""
    names = [one["name"] for one in seen.rules]
    assert sorted(names) == sorted(rule.alert or rule.record for rule in RULES)
    assert {one["name"]: one.get("lastError") for one in seen.rules if one["health"] != "ok"} == {}
    assert {one["labels"]["alertname"] for one in seen.alerts} == {EVOKED}
