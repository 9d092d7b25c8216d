"""A real Prometheus scrapes the real daemon, and answers every query of the Grafana dashboard."""

import asyncio
import json
import math

import msgspec
import pytest

from artifacts.grafana import FILES
from crrmon.sandbox.children import free_port
from fakes.chart import TOP
from fakes.patience import HANGS_SECONDS
from fakes.prometheus_server import PrometheusServer, prometheus
from fakes.sandbox_command import sandbox

pytestmark = pytest.mark.prometheus


VARIABLES = {
    "$__rate_interval": "10s",
    "$__range_s": "60",
    "$__range": "60s",
    "$job": "crrmon",
    "$source_bucket": ".*",
    "$destination_bucket": ".*",
}
"""As Grafana would fill them in; longer names first where one begins another."""

TROUBLE = ("--fail", "0.3", "--rate", "20", "--median", "0.5", "--event-delay", "0", "--seed", "5")

WITHOUT_DATA = {
    "Denied buckets": "S3 denies nothing",
    "Throttled HEAD requests by bucket": "S3 throttles nothing",
    "Ledger errors by operation": "the ledger is there",
    "Not covered by cause": "an object is called so only after a minute",
    "Account errors": "there is one account",
    "Orphaned replicas": "nothing is an hour old",
    "Buckets denied": "S3 denies nothing",
    "Late": "nothing is a quarter of an hour old",
    "Burn rate: replicated": "it is made of counts of five minutes",
    "Burn rate: on time": "it is made of counts of five minutes",
    "Settling held": "nothing is gone",
    "Answers to senders": "there is no webhook",
}
"""Panels that have nothing to show when all is well, and why."""

AT_TIMES = {
    "Messages by queue",
    "Events set aside",
    "Routes",
    "Failed and repaired",
    "Delete markers",
}
"""Panels of which one query may have nothing to show; another one has."""


class Asked(msgspec.Struct, frozen=True):
    """One query of a panel."""

    panel: str
    expression: str


def asked() -> list[Asked]:
    """Return all queries of the dashboard, with its variables filled in."""
    dashboard = json.loads((TOP / FILES[0]).read_text(encoding="utf-8"))
    return [
        Asked(panel["title"], filled(target["expr"]))
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def filled(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def numbers(server: PrometheusServer, expression: str) -> list[float]:
    """Return what a query gives now; NaN is nothing."""
    values = (float(one["value"][1]) for one in server.query(expression))
    return [one for one in values if not math.isnan(one)]


async def test_every_query_is_answered_and_shows_what_happens() -> None:
    """None is refused; all panels that have something to show when all is well do show it."""
    port = free_port()
    queries = asked()
    missing = {
        one for one in queries if one.panel not in WITHOUT_DATA and one.panel not in AT_TIMES
    }
    panels = {one.panel for one in queries if one.panel in AT_TIMES}
    assert len(missing) > 40
    async with sandbox("--port", str(port), *TROUBLE) as one:
        await one.until(r"written [1-9]")
        with prometheus(f"127.0.0.1:{port}", scrape_seconds=1.0) as server:
            for query in queries:
                await asyncio.to_thread(server.query, query.expression)
            try:
                async with asyncio.timeout(HANGS_SECONDS):
                    while missing or panels:
                        for query in queries:
                            if query not in missing and query.panel not in panels:
                                continue
                            if await asyncio.to_thread(numbers, server, query.expression):
                                missing.discard(query)
                                panels.discard(query.panel)
                        await asyncio.sleep(0.5)
            except TimeoutError:
                pytest.fail(f"nothing to show: {panels} {missing}")
            # What is shown is what happened: much completed, and some of it failed.
            (share,) = await asyncio.to_thread(numbers, server, expression_of("Success rate"))
            assert 0.3 < share < 1
            (failed,) = await asyncio.to_thread(numbers, server, expression_of("Failed now"))
            assert failed > 0
            (pending,) = await asyncio.to_thread(numbers, server, expression_of("Pending now"))
            assert pending > 0
            series = await asyncio.to_thread(server.query, expression_of("Replicas by version"))
            assert [one["value"][1] for one in series] == ["1"]


def expression_of(panel: str) -> str:
    """Return the first query of a panel."""
    return next(one.expression for one in asked() if one.panel == panel)
