"""What compose.yaml starts fits together; a container engine is not needed to see that, and none was asked."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from crrmon import config
from crrmon.cli import app
from fakes.prometheus_server import promtool

TOP = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((TOP / "compose.yaml").read_text())[
    "services"
]
DOCKERFILE = (TOP / "Dockerfile").read_text(encoding="utf-8")
PROMETHEUS = TOP / "deploy/prometheus/prometheus.yml"
JOBS = {one["job_name"]: one for one in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]}
PROVISIONING = "deploy/grafana/provisioning"


def mounted(service: str) -> dict[PurePosixPath, Path]:
    """Tell what of this repository a service sees, and where."""
    bound = [one for one in SERVICES[service].get("volumes", ()) if one.startswith("./")]
    parts = [one.split(":") for one in bound]
    assert all(mode == ["ro"] for _, _, *mode in parts), "nothing of the checkout is written to"
    return {PurePosixPath(there): TOP / here for here, there, *_ in parts}


def provisioned(path: str) -> dict[str, Any]:
    """Read the one thing that a file of Grafana's provisioning makes."""
    content = yaml.safe_load((TOP / PROVISIONING / path).read_text())
    (one,) = content["datasources" if "datasources" in content else "providers"]
    made: dict[str, Any] = one
    return made


def parsed(command: list[str]) -> dict[str, Any]:
    """Read arguments as the `crrmon` command does, and do nothing."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    name, *arguments = command
    return group.commands[name].make_context(name, arguments).params


def targets(node: object) -> set[str]:
    """Collect the data sources that a dashboard asks."""
    if isinstance(node, list):
        return {uid for one in node for uid in targets(one)}
    if not isinstance(node, dict):
        return set()
    source = node.get("datasource")
    mine = {source["uid"]} if isinstance(source, dict) else set()
    return mine.union(*(targets(one) for one in node.values()))


@pytest.mark.parametrize("service", SERVICES)
def test_everything_it_mounts_is_there(service: str) -> None:
    """An engine would make an empty folder of what is not."""
    assert [str(here) for here in mounted(service).values() if not here.exists()] == []


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_else_reaches_a_port(service: str) -> None:
    """Docker opens a published port in the firewall; on loopback it does no harm."""
    for port in SERVICES[service].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


@pytest.mark.parametrize("service", SERVICES)
def test_what_runs_is_known(service: str) -> None:
    """Either a stage of the Dockerfile, or an image of one version."""
    one = SERVICES[service]
    if "build" in one:
        assert f" AS {one['build']['target']}\n" in DOCKERFILE
    else:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?", one["image"])


@pytest.mark.parametrize("service", ["sandbox", "crrmon"])
def test_our_own_containers_may_do_little(service: str) -> None:
    """Read-only root, no capability, and none to be had."""
    one = SERVICES[service]

    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]


def test_prometheus_scrapes_the_sandbox() -> None:
    """The daemon's port is on the loopback of the network that the three share; the health check asks the same."""
    port = parsed(SERVICES["sandbox"]["command"])["port"]

    assert JOBS["sandbox"]["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    assert f"CRRMON_HTTP__PORT={port}\n" in DOCKERFILE
    for other in ("prometheus", "grafana"):
        assert SERVICES[other]["network_mode"] == "service:sandbox"
        assert "ports" not in SERVICES[other]


def test_the_sandbox_has_time_for_its_verdict() -> None:
    """It writes until it is stopped, by the signal that leads to the verdict and not by the one that aborts."""
    one = SERVICES["sandbox"]

    assert parsed(one["command"])["objects"] is None
    assert one["stop_signal"] == "SIGINT"
    assert one["stop_grace_period"] == "2m"


def test_prometheus_finds_the_other_daemon_by_name() -> None:
    """The name is the service's, the port that of the image."""
    (found,) = JOBS["crrmon"]["dns_sd_configs"]

    assert found["names"] == ["crrmon"]
    assert "crrmon" in SERVICES
    assert f"CRRMON_HTTP__PORT={found['port']}\n" in DOCKERFILE
    assert SERVICES["crrmon"]["ports"] == [f"127.0.0.1:9464:{found['port']}"]


def test_the_rules_lie_where_prometheus_looks() -> None:
    """In the folder that stands in place of the image's own."""
    here = mounted("prometheus")[PurePosixPath("/etc/prometheus")]

    assert here == PROMETHEUS.parent
    assert [
        (here / one).is_file() for one in yaml.safe_load(PROMETHEUS.read_text())["rule_files"]
    ] == [True]


def test_the_settings_of_the_other_daemon_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and what stands over it make settings; the ledger is the Redis beside it, and CloudWatch gets nothing."""
    one = SERVICES["crrmon"]
    told = one["environment"]
    url = "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"
    queues = told["CRRMON_QUEUES"].replace("${CRRMON_QUEUE_URL:-}", url)
    monkeypatch.setenv("CRRMON_QUEUES", queues)

    settings = config.load(mounted("crrmon")[PurePosixPath(told["CRRMON_CONFIG"])])

    assert [queue.url for queue in settings.queues] == [url]
    assert settings.ledger.kind == "redis"
    server = urlsplit(settings.ledger.redis.url)
    assert (server.hostname, server.port) == ("redis", 6379)
    assert not settings.report.cloudwatch
    assert one["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert one["profiles"] == SERVICES["redis"]["profiles"] == ["aws"]


def test_no_credential_is_written_down() -> None:
    """They come from the shell, by name only."""
    told = SERVICES["crrmon"]["environment"]

    assert {name: told[name] for name in told if name.startswith("AWS_")} == dict.fromkeys(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")
    )


def test_grafana_asks_this_prometheus() -> None:
    """The dashboard takes its data source from a variable, and there is one of that type to take: the one here."""
    source = provisioned("datasources/prometheus.yaml")
    dashboard = json.loads((TOP / "deploy/grafana/crrmon.json").read_text())
    variables = {
        one["query"] for one in dashboard["templating"]["list"] if one["name"] == "datasource"
    }

    assert variables == {source["type"]} == {"prometheus"}
    assert source["isDefault"] is True
    assert targets(dashboard) <= {"${datasource}", source["uid"], "grafana", "-- Grafana --"}
    assert f"127.0.0.1:{urlsplit(source['url']).port}:9090" in SERVICES["sandbox"]["ports"]
    scraped = yaml.safe_load(PROMETHEUS.read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_grafana_finds_the_dashboard() -> None:
    """Where provisioning looks, and as the first page."""
    told = SERVICES["grafana"]["environment"]
    home = PurePosixPath(told["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    places = mounted("grafana")

    assert places[home] == TOP / "deploy/grafana/crrmon.json"
    assert PurePosixPath(provisioned("dashboards/crrmon.yaml")["options"]["path"]) == home.parent
    for kind in ("datasources", "dashboards"):
        assert (
            places[PurePosixPath("/etc/grafana/provisioning", kind)] == TOP / PROVISIONING / kind
        )


def test_grafana_lets_everyone_look_and_nobody_in() -> None:
    """No password is needed, and none is left at its default."""
    told = SERVICES["grafana"]["environment"]

    assert told["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert told["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


@pytest.mark.prometheus
def test_prometheus_understands_its_configuration() -> None:
    """Its own tool reads the file, and the rules that the file names."""
    told = promtool("check", "config", PROMETHEUS)

    assert told.returncode == 0, told.stderr
    assert "1 rule files found" in told.stdout
