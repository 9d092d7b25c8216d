"""
The lab: a real daemon, a real Prometheus with our rules, and one misfortune after the other.

All goes thirty times faster than it would: five minutes are ten seconds. What a person would be told is read from
Prometheus afterwards: which alerts fired, when, and what was the matter then.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from artifacts.alerts import TOP, WRITTEN_FILE, defaults, filled
from crrmon.adapters.aws import AwsSession
from crrmon.ports.clock import SystemClock
from crrmon.sandbox.children import free_port
from crrmon.sandbox.daemon import SHUTDOWN_SECONDS, DaemonProcess
from crrmon.sandbox.environment import isolated
from crrmon.sandbox.facade import Outage
from crrmon.sandbox.plan import Chances, plan
from crrmon.sandbox.play import Stage, staged
from crrmon.sandbox.rules import MISCHIEF, Rules, tell_s3
from crrmon.sandbox.world import WORLD
from fakes import hurried
from fakes.hurried import hurried_rules, hurried_values
from fakes.patience import HANGS_SECONDS
from fakes.prometheus_server import PrometheusServer, prometheus
from fakes.sandbox_writing import writing

pytestmark = pytest.mark.prometheus

FACTOR = 30.0
MINUTE = 60.0 / FACTOR
"""In seconds."""
RATE = 8.0
"""Objects per second."""
SLACK = 8.0
"""Seconds that a scrape, an evaluation and a busy machine may add."""
GOOD_SECONDS = 6 * MINUTE
GOES_ON = {Outage.GONE: 20 * MINUTE, Outage.BUSY: 6 * MINUTE}
"""How long an outage goes on when it was told: more must not be told of it."""
STUCK_SECONDS = 5 * MINUTE
"""Earlier than by default: in the longer outage, tickets about what is pending would be due but for the page."""
ROUND_SECONDS = 10.0
"""How often the daemon renews what it shows of the fleet; that stays as it is."""

AWAY = ("CrrmonDependencyDown", "critical")
GONE = ("CrrmonRouteGone", "critical")


class Firing(msgspec.Struct, frozen=True, order=True):
    """One alert from when it fired to when it did not any more."""

    since: float
    until: float
    name: str
    severity: str
    about: tuple[str, ...]
    """Dependency, or source and destination."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, and what Prometheus has of it. Times are seconds since the epoch."""

    gone: tuple[float, float]
    """When S3 broke off all connections, and when no more."""
    busy: tuple[float, float]
    """When it answered everything with 503."""
    switched_off: float
    """When rules were."""
    end: float
    firings: list[Firing]
    down: list[tuple[float, float]]
    """From when to when the daemon showed S3 as down."""
    unled: dict[tuple[str, str], float]
    """By route: since when the daemon showed that no rule leads there."""

    def during(self, start: float, end: float) -> list[Firing]:
        """Return what began to fire between two times."""
        return [one for one in self.firings if start <= one.since < end]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Go through it all once."""
    with pytest.MonkeyPatch.context() as patch:
        environment = isolated(os.environ)
        for name in set(os.environ) - set(environment):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield asyncio.run(_go_through(tmp_path_factory.mktemp("lab")))


async def _go_through(folder: Path) -> Seen:
    rules_file = folder / "rules.yaml"
    values = hurried_values(defaults(), factor=FACTOR)
    written = filled((TOP / WRITTEN_FILE).read_text(encoding="utf-8"), values)
    rules_file.write_text(hurried_rules(written, factor=FACTOR), encoding="utf-8")
    async with staged(folder, free_port()) as stage, _daemon(stage) as daemon:
        rules = Rules(WORLD)
        target = daemon.site.url.removeprefix("http://")
        with prometheus(target, rules=rules_file, lookback_seconds=5 * MINUTE) as server:
            async with _applications(stage, rules):
                return await _misfortunes(stage, rules, server)


@asynccontextmanager
async def _daemon(stage: Stage) -> AsyncIterator[DaemonProcess]:
    """Run a daemon that is as fast as the rules."""
    (daemon,) = stage.daemons
    config = yaml.safe_load(daemon.site.config.read_text(encoding="utf-8"))
    config["polling"]["stuck_after_seconds"] = STUCK_SECONDS
    config.setdefault("intake", {})["hold_seconds"] = STUCK_SECONDS / 2
    daemon.site.config.write_text(yaml.safe_dump(config), encoding="utf-8")
    daemon._command = (
        *(sys.executable, str(hurried.__file__), str(FACTOR)),
        *("run", "--config", str(daemon.site.config)),
    )
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.stop(grace=SHUTDOWN_SECONDS)


@asynccontextmanager
async def _applications(stage: Stage, rules: Rules) -> AsyncIterator[None]:
    """Write without end, well, until the block ends."""
    chances = Chances(fail=0.0, median=0.5, spread=0.5, event_delay=0.5)
    planned = (msgspec.structs.replace(one, strays=()) for one in plan(WORLD, chances, seed=1))
    stop = asyncio.Event()
    async with writing(stage, rules) as (writer, _, _), asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.write(planned, rate=RATE, stop=stop))
        yield
        stop.set()


async def _misfortunes(stage: Stage, rules: Rules, server: PrometheusServer) -> Seen:
    now = SystemClock().now
    begun = now()
    await _until(
        server, lambda: bool(server.query('crrmon_replications_total{status="completed"}'))
    )
    await asyncio.sleep(GOOD_SECONDS)
    spans = []
    for outage in (Outage.GONE, Outage.BUSY):
        began = now()
        stage.facade.outage = outage
        await _until(server, lambda: AWAY in _firing(server))
        await asyncio.sleep(GOES_ON[outage])
        stage.facade.outage = None
        spans.append((began, now()))
        await _until(server, lambda: not _firing(server))
    switched_off = now()
    rules.switch_off(MISCHIEF)
    async with AwsSession(
        endpoint_url=stage.endpoint, default_region=WORLD.queue_region, max_connections=2
    ) as aws:
        await tell_s3(MISCHIEF, WORLD, aws)
    routes = [route for route, leads in rules.leads().items() if not leads]
    await _until(server, lambda: _firing(server).count(GONE) == len(routes))
    await asyncio.sleep(GOOD_SECONDS / 2)
    end = now()
    return Seen(
        gone=spans[0],
        busy=spans[1],
        switched_off=switched_off,
        end=end,
        firings=_firings(server, begun, end),
        down=[
            span
            for one in server.history(
                'crrmon_dependency_up{dependency="s3"} == 0', start=begun, end=end
            )
            for span in _spans(one["values"])
        ],
        unled={
            (one["metric"]["source_bucket"], one["metric"]["destination_bucket"]): float(
                one["values"][0][0]
            )
            for one in server.history("crrmon_route_configured == 0", start=begun, end=end)
        },
    )


async def _until(server: PrometheusServer, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANGS_SECONDS):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.5)


def _firing(server: PrometheusServer) -> list[tuple[str, str]]:
    return [
        (one["labels"]["alertname"], one["labels"]["severity"])
        for one in server.alerts()
        if one["state"] == "firing"
    ]


def _firings(server: PrometheusServer, start: float, end: float) -> list[Firing]:
    found = []
    for one in server.history('ALERTS{alertstate="firing"}', start=start, end=end):
        labels: dict[str, Any] = one["metric"]
        names = ("dependency", "source_bucket", "destination_bucket", "queue")
        about = tuple(labels[name] for name in names if name in labels)
        found += [
            Firing(since, until, labels["alertname"], labels["severity"], about)
            for since, until in _spans(one["values"])
        ]
    return sorted(found)


def _spans(values: list[list[Any]]) -> list[tuple[float, float]]:
    """Return from when to when a series had a value, by one value each second."""
    spans: list[tuple[float, float]] = []
    for at, _ in values:
        if spans and float(at) - spans[-1][1] < 2:
            spans[-1] = (spans[-1][0], float(at))
        else:
            spans.append((float(at), float(at)))
    return spans


def test_r9_on_good_days_nothing_fires(seen: Seen) -> None:
    """Before the first misfortune, and between any two, nobody is told anything."""
    assert seen.during(0.0, seen.gone[0]) == []


@pytest.mark.parametrize("kind", ["gone", "busy"])
def test_r9_an_outage_of_s3_is_one_page_and_says_so(seen: Seen, kind: str) -> None:
    """
    Whether S3 breaks off connections or answers 503 to everybody: five minutes after the daemon shows it as down, one
    critical alert names it, and nothing else is told, neither while it goes on nor when it is over.
    """
    began, ended = getattr(seen, kind)
    later = seen.busy[0] if kind == "gone" else seen.switched_off
    (down,) = [span for span in seen.down if began <= span[0] < ended]
    (told,) = seen.during(began, later)

    assert (told.name, told.severity, told.about) == (*AWAY, ("s3",))
    # 503 alone is no outage before it has been all that S3 says for three minutes.
    shown = 3 * MINUTE if kind == "busy" else 0.0
    assert shown <= down[0] - began < shown + SLACK
    assert 5 * MINUTE - 1 <= told.since - down[0] < 5 * MINUTE + SLACK
    # It stays for five minutes longer than its cause.
    assert ended < told.until < ended + 5 * MINUTE + 2 * SLACK


def test_t1_rules_that_are_gone_are_one_page_for_each_route(seen: Seen) -> None:
    """
    A disabled rule and a deleted configuration are found at the next reading, a minute later, and told five minutes
    after that: critical, by route, and as that alone.
    """
    routes = {("src-a", "dst-a"), ("src-a", "dst-c"), ("src-b", "dst-b")}
    told = seen.during(seen.switched_off, seen.end)

    assert {(one.name, one.severity) for one in told} == {GONE}
    assert {one.about for one in told} == set(seen.unled) == routes
    assert len(told) == len(routes)
    for one in told:
        source, destination = one.about
        shown = seen.unled[source, destination]
        assert 0 < shown - seen.switched_off < MINUTE + ROUND_SECONDS + SLACK
        assert 5 * MINUTE - 1 <= one.since - shown < 5 * MINUTE + SLACK


def test_all_of_it_in_order(seen: Seen) -> None:
    """Five pages in all, one after the other, and not a single ticket."""
    assert [(one.name, one.severity) for one in seen.firings] == [AWAY, AWAY, GONE, GONE, GONE]
