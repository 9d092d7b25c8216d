import re
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import helm_python as helm
import pytest

from artifacts.chart import Entry, entries, leaves
from crrmon.adapters.http import HttpServer
from crrmon.domain import catalogue
from crrmon.ports.health import HealthVerdict
from fakes import chart
from fakes.pod_security import violations

REDIS = {"config": {"ledger": {"kind": "redis"}}}
DYNAMODB = {"config": {"ledger": {"kind": "dynamodb"}}}
EMPTY = {
    entry.name: entry
    for entry in leaves(entries((chart.PATH / "values.yaml").read_text(encoding="utf-8")))
    if entry.default in ({}, [])
}
"""What has no entries by default."""
DIGEST = "sha256:" + "0f" * 32


class Well:
    """Has nothing to complain about."""

    def live(self) -> HealthVerdict:
        return HealthVerdict(ok=True, details={})

    def ready(self) -> HealthVerdict:
        return HealthVerdict(ok=True, details={})


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"replicaCount": 3}, "replicaCount is 3"),
        ({"autoscaling": {"enabled": True}}, "autoscaling.enabled is true"),
        ({"keda": {"enabled": True}}, "keda.enabled is true"),
    ],
)
def test_several_replicas_need_a_ledger_that_they_share(
    kind: str, values: dict[str, Any], name: str
) -> None:
    """Each would count by itself; the message names the value and the remedy."""
    with pytest.raises(helm.HelmError) as raised:
        chart.render(chart.merged(values, {"config": {"ledger": {"kind": kind}}}))

    assert name in str(raised.value)
    assert f"config.ledger.kind {kind}" in str(raised.value)
    assert "set config.ledger.kind to redis or dynamodb" in str(raised.value)


def test_the_two_autoscalers_exclude_each_other() -> None:
    """They would set the same number against each other."""
    both = {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}

    with pytest.raises(
        helm.HelmError, match=r"autoscaling\.enabled and keda\.enabled are both true"
    ):
        chart.render(chart.merged(REDIS, both))


@pytest.mark.parametrize("scaler", ["autoscaling", "keda"])
def test_no_autoscaler_goes_to_nothing(scaler: str) -> None:
    """What is pending would not be looked at; the message says so."""
    values = {scaler: {"enabled": True, "minReplicas": 0}}

    with pytest.raises(helm.HelmError, match=rf"{scaler}\.minReplicas is 0.*set it to 1 or more"):
        chart.render(chart.merged(REDIS, values))


@pytest.mark.parametrize("scaler", ["autoscaling", "keda"])
def test_most_replicas_are_not_fewer_than_fewest(scaler: str) -> None:
    """Kubernetes would refuse it after half of the installation."""
    values = {scaler: {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}

    with pytest.raises(helm.HelmError, match=rf"{scaler}\.maxReplicas is 4 and less than"):
        chart.render(chart.merged(REDIS, values))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"terminationGracePeriodSeconds": 25}, r"terminationGracePeriodSeconds is 25.*shutdown_seconds, 25"),
        ({"config": {"shutdown_seconds": 90}}, r"terminationGracePeriodSeconds is 40.*shutdown_seconds, 90"),
        ({"config": {"http": {"port": 0}}}, r"config\.http\.port is 0.*set it to one from 1"),
        ({"config": {"http": {"host": "::1"}}}, r"config\.http\.host is ::1, where neither probes.*leave it out"),
        ({"config": {"http": {"host": "127.0.0.1"}}}, r"config\.http\.host is 127\.0\.0\.1.*leave it out"),
        ({"createTable": {"enabled": True}}, r"createTable\.enabled is true, but config\.ledger\.kind is sqlite"),
        (
            {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
            r"serviceMonitor\.enabled and podMonitor\.enabled are both true",
        ),
        (
            {"aws": {"caBundle": {"existingConfigMap": "a", "existingSecret": "b"}}},
            r"aws\.caBundle\.existingConfigMap and aws\.caBundle\.existingSecret are both set",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(values: dict[str, Any], told: str) -> None:
    """Before anything is installed, with the names of the values."""
    with pytest.raises(helm.HelmError, match=told):
        chart.render(values)


@pytest.mark.parametrize("name", ["autoscaling", "keda"])
def test_an_autoscaler_has_the_replicas_to_itself(name: str) -> None:
    """A number in the Deployment would undo its work at every upgrade."""
    scaled = chart.render(chart.merged(REDIS, {name: {"enabled": True}}))

    assert "replicas" not in scaled.workload["spec"]
    assert chart.render(REDIS).workload["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, "StatefulSet"),
        ({"config": {"ledger": {"kind": "memory"}}}, "Deployment"),
        (REDIS, "Deployment"),
        (DYNAMODB, "Deployment"),
    ],
)
def test_the_ledger_decides_on_the_workload(values: dict[str, Any], kind: str) -> None:
    """A file on a volume must not be opened by two pods at once: a StatefulSet waits for the old one to end."""
    assert chart.render(values).workload["kind"] == kind


def test_the_memory_ledger_is_never_there_twice() -> None:
    """Two of them would count the same objects twice."""
    strategy = chart.render({"config": {"ledger": {"kind": "memory"}}}).workload["spec"][
        "strategy"
    ]

    assert strategy == {"type": "Recreate"}


def test_a_shared_ledger_is_updated_without_a_gap() -> None:
    """The new replica is ready before an old one goes."""
    strategy = chart.render(REDIS).workload["spec"]["strategy"]

    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_sqlite_ledger_lies_on_its_volume() -> None:
    """Where the daemon writes it."""
    manifests = chart.render()
    (claim,) = manifests.workload["spec"]["volumeClaimTemplates"]
    (mount,) = (
        one
        for one in manifests.container["volumeMounts"]
        if one["name"] == claim["metadata"]["name"]
    )

    assert str(chart.loaded(manifests).ledger.path.parent) == mount["mountPath"]


def test_what_cannot_be_changed_of_a_statefulset_stays() -> None:
    """Else an upgrade would fail until somebody deletes the workload."""
    before = chart.render().workload
    after = chart.render(
        {
            "image": {"tag": "9.9.9"},
            "config": {"name": "other"},
            "commonLabels": {"a": "b"},
            "commonAnnotations": {"c": "d"},
            "podLabels": {"e": "f"},
            "revisionHistoryLimit": 9,
            "persistence": {"retain": False},
        }
    ).workload

    changeable = {
        "minReadySeconds",
        "persistentVolumeClaimRetentionPolicy",
        "replicas",
        "template",
        "updateStrategy",
    }
    fixed = before["spec"].keys() - changeable
    assert after["spec"].keys() - changeable == fixed
    assert "volumeClaimTemplates" in fixed
    assert {key: before["spec"][key] for key in fixed} == {
        key: after["spec"][key] for key in fixed
    }
    assert before["metadata"]["name"] == after["metadata"]["name"]


@pytest.mark.parametrize("values", [{}, REDIS])
def test_labels_of_the_values_never_change_a_selector(values: dict[str, Any]) -> None:
    """Not even if they take the selector's own names."""
    labels = {"app.kubernetes.io/name": "x", "app.kubernetes.io/instance": "y"}
    plain = chart.render(values)
    labelled = chart.render(chart.merged(values, {"commonLabels": labels, "podLabels": labels}))

    assert labelled.workload["spec"]["selector"] == plain.workload["spec"]["selector"]
    wanted = plain.workload["spec"]["selector"]["matchLabels"]
    assert labelled.pod["metadata"]["labels"].items() >= wanted.items()
    assert labelled.one("Service")["spec"]["selector"] == wanted


def test_a_digest_goes_over_the_tag() -> None:
    """It says exactly which image."""
    image = {"repository": "registry.example.com/crrmon", "tag": "1.2.3"}

    assert _image(image) == "registry.example.com/crrmon:1.2.3"
    assert _image(image | {"digest": DIGEST}) == f"registry.example.com/crrmon@{DIGEST}"


def test_the_tag_is_that_of_the_version_the_chart_is_for() -> None:
    """An upgrade of the chart is an upgrade of the daemon."""
    project = (chart.TOP / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)

    assert _image({}) == f"registry.example.com/crrmon:{version}"


@pytest.mark.parametrize("values", [{}, {"image": {"repository": None}}])
def test_no_image_is_pulled_from_a_place_that_nobody_named(values: dict[str, Any]) -> None:
    """None is published, so a default would be a name that anybody could take; the message says how to make one."""
    queue = {"config": chart.LEAST["config"]}
    with pytest.raises(helm.HelmRenderError) as raised:
        chart.render_as_given(queue | values)

    told = str(raised.value)
    assert "image.repository is empty" in told
    assert "docker buildx build" in told
    assert "--tag REGISTRY/crrmon:0.1.0 --push ." in told
    assert "set image.repository to REGISTRY/crrmon" in told


def test_nothing_of_the_project_is_fetched_by_a_name_that_nobody_registered() -> None:
    """
    No image, package or page: whoever takes the name would get code into clusters and on machines, and lead people
    where they like who are woken at night.
    """
    fetched = re.compile(
        r"ghcr\.io|(docker\.io|github\.com)/crrmon|crrmon\.(io|dev|org|com)\b|(pip|pipx|uv tool|uvx) (install |run )?['\"]?crrmon\b"
    )
    command = ["git", "ls-files", "-z"]  # its own files, and not what lies among them
    listed = subprocess.run(command, cwd=chart.TOP, check=True, capture_output=True, text=True)  # noqa: S603
    paths = [chart.TOP / name for name in listed.stdout.split("\0") if name]
    found = {
        str(path.relative_to(chart.TOP)): match.group()
        for path in paths
        if path.is_file() and path.suffix not in (".png", ".lock") and path != Path(__file__)
        if (match := fetched.search(path.read_text(encoding="utf-8", errors="replace")))
    }

    assert found == {}


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({}, False),
        (REDIS, False),
        (chart.merged(REDIS, {"replicaCount": 2}), True),
        (chart.merged(REDIS, {"autoscaling": {"enabled": True}}), True),
        (chart.merged(REDIS, {"keda": {"enabled": True}}), True),
        (
            chart.merged(REDIS, {"replicaCount": 2, "podDisruptionBudget": {"enabled": False}}),
            False,
        ),
    ],
)
def test_a_budget_is_for_several_replicas(values: dict[str, Any], there: bool) -> None:  # noqa: FBT001 - the table's
    """With one it would keep its node from ever being drained, or protect nothing."""
    assert bool(chart.render(values).of("PodDisruptionBudget")) == there


async def test_the_probes_ask_what_the_daemon_serves() -> None:
    """A path that is not there would have the pod restarted for ever."""
    container = chart.render().container
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }

    assert paths["livenessProbe"] == paths["startupProbe"] == "/livez"
    assert paths["readinessProbe"] == "/readyz"
    server = HttpServer(
        host="127.0.0.1",
        port=0,
        metrics=lambda _: (b"", "text/plain"),
        health=Well(),
        oddity=lambda *_: None,
    )
    port = await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        answers = [(await session.get(path)).status for path in (*paths.values(), "/metrics")]
    await server.stop()
    assert set(answers) == {200}


def test_startup_may_take_longer_than_liveness_allows() -> None:
    """A slow node must not end what has not begun."""
    container = chart.render().container

    assert _patience(container["startupProbe"]) > _patience(container["livenessProbe"])


@pytest.mark.parametrize(
    "values", [{"config": {"http": {"port": 8080}}}, {"config": {"http": {"port": 65535}}}]
)
def test_another_port_reaches_everything(values: dict[str, Any]) -> None:
    """The image's variable goes over the file, so the chart sets both."""
    port = values["config"]["http"]["port"]
    manifests = chart.render(
        chart.merged(values, {"datadog": {"enabled": True}, "networkPolicy": {"enabled": True}})
    )
    policy = manifests.one("NetworkPolicy")["spec"]["ingress"][0]["ports"]

    assert chart.loaded(manifests).http.port == port
    assert [one["containerPort"] for one in manifests.container["ports"]] == [port]
    assert manifests.one("Service")["spec"]["ports"][0]["port"] == port
    assert policy == [{"port": "http", "protocol": "TCP"}]
    assert (
        f":{port}/" in manifests.pod["metadata"]["annotations"]["ad.datadoghq.com/crrmon.checks"]
    )
    assert f":{port}/readyz" in manifests.one("Pod")["spec"]["containers"][0]["command"][-1]


def test_the_table_is_made_by_a_job_that_keeps_its_name() -> None:
    """A Job cannot be changed: another configuration makes another one, the same makes none."""
    on = chart.merged(DYNAMODB, {"createTable": {"enabled": True}})
    job = chart.render(on).one("Job")
    other = chart.render(chart.merged(on, {"config": {"name": "other"}})).one("Job")
    same = chart.render(chart.merged(on, {"replicaCount": 2})).one("Job")

    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["ledger", "create"]
    assert job["metadata"]["name"] != other["metadata"]["name"]
    assert job == same


def test_kubernetes_sets_no_variables_that_look_like_settings() -> None:
    """A service called crrmon would give CRRMON_PORT, which is not a setting."""
    assert chart.render().pod["spec"]["enableServiceLinks"] is False


LONG = "a-very-long-release-name-that-helm-just-about-allows"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (LONG + "x", {}),
        ("r", {"fullnameOverride": "x" * 200}),
        ("r", {"nameOverride": "y" * 60}),
        ("two.dots.there", {}),
        ("crrmon", {}),
    ],
)
def test_names_stay_within_kubernetes_limits(name: str, values: dict[str, Any]) -> None:
    """With all that is added to them: a StatefulSet's label is its name and eleven characters."""
    on = {"createTable": {"enabled": True}, "dashboards": {"enabled": True}}
    for more in ({}, chart.merged(DYNAMODB, on)):
        manifests = chart.render(chart.merged(values, more), name=name)
        for manifest in manifests.all:
            assert re.fullmatch(
                r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", manifest["metadata"]["name"]
            )
            template = manifest.get("spec", {}).get("template", {}).get("metadata", {})
            for value in (manifest["metadata"]["labels"] | template.get("labels", {})).values():
                assert re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value)
        assert len(manifests.workload["metadata"]["name"]) <= 52


def test_the_checker_of_the_pod_security_standard_finds_what_it_forbids() -> None:
    """A checker that finds nothing in anything would prove nothing."""
    bad = {
        "hostNetwork": True,
        "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "Unconfined"}},
        "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        "containers": [
            {
                "name": "x",
                "ports": [{"hostPort": 80}],
                "securityContext": {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}},
            }
        ],
    }

    assert len(violations(bad)) == 10
    assert violations({"containers": [{"name": "x"}]}) == [
        "container x has no runAsNonRoot",
        "container x has no seccompProfile",
        "container x may escalate its privileges",
        "container x keeps capabilities",
    ]


def test_the_query_for_scaling_asks_for_a_metric_that_exists() -> None:
    """A name that is misspelt would never scale."""
    on = {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://prometheus:9090"}}}
    (trigger,) = (
        one
        for one in chart.render(chart.merged(REDIS, on)).one("ScaledObject")["spec"]["triggers"]
        if one["type"] == "prometheus"
    )
    (name,) = re.findall(r"crrmon_\w+", trigger["metadata"]["query"].partition("{")[0])

    assert name == catalogue.POLL_OVERDUE.name


def _image(values: dict[str, Any]) -> str:
    return str(chart.render({"image": values}).container["image"])


def _patience(probe: dict[str, int]) -> int:
    return probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_no_replica_stops_the_daemon(kind: str) -> None:
    """So that its ledger can be copied; events wait."""
    values = {"replicaCount": 0, "config": {"ledger": {"kind": kind}}}

    assert chart.render(values).workload["spec"]["replicas"] == 0


def test_a_ledger_s_file_lies_where_it_can_be_written() -> None:
    """The root is read-only; a volume of one's own may be anywhere."""
    values = {"config": {"ledger": {"path": "/var/lib/crrmon.db"}}}
    with pytest.raises(helm.HelmRenderError, match=r"config.ledger.path is /var/lib/crrmon.db"):
        chart.render(values)

    chart.render(values | {"extraVolumeMounts": [{"name": "mine", "mountPath": "/var/lib"}]})


@pytest.mark.parametrize("entry", EMPTY.values(), ids=EMPTY)
def test_a_key_without_entries_is_nothing(entry: Entry) -> None:
    """Whoever leaves a key of a values file empty means none; the notes read some, too."""
    on: dict[str, Any] = {
        "networkPolicy": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
        "datadog": {"enabled": True},
    }
    several = chart.merged(REDIS, on | {entry.path[0]: {"enabled": True}})
    values = several if entry.path[0] in ("autoscaling", "keda") else on
    if entry.path[0] == "podMonitor":
        values = {"podMonitor": {"enabled": True}}
    empty = chart.merged(values, chart.nested(entry.path, None))

    assert chart.render(empty) == chart.render(values)
    assert chart.install(empty)["notes"]


@pytest.mark.parametrize(
    ("asked", "budget"),
    [
        ({}, {"maxUnavailable": 1}),
        ({"maxUnavailable": "34%"}, {"maxUnavailable": "34%"}),
        ({"minAvailable": 2}, {"minAvailable": 2}),
        ({"minAvailable": 0}, {"minAvailable": 0}),
        ({"minAvailable": "60%"}, {"minAvailable": "60%"}),
        ({"minAvailable": None}, {"maxUnavailable": 1}),
        ({"minAvailable": 2, "maxUnavailable": None}, {"minAvailable": 2}),
    ],
)
def test_a_budget_says_how_many_may_be_away_or_must_be_there(
    asked: dict[str, Any], budget: dict[str, Any]
) -> None:
    """Kubernetes takes one of the two, and the second is off until it is asked for."""
    values = chart.merged(REDIS, {"replicaCount": 3, "podDisruptionBudget": asked})
    spec = chart.render(values).one("PodDisruptionBudget")["spec"]

    assert {key: spec[key] for key in spec if key.endswith("vailable")} == budget


def test_arguments_of_ones_own_follow_the_command() -> None:
    """What stands there replaces the image's own command, so that comes first."""
    container = chart.render({"extraArgs": ["--config", "/mine/crrmon.yaml"]}).container

    assert container["args"] == ["run", "--config", "/mine/crrmon.yaml"]
    assert "args" not in chart.render().container


ANNOTATED = (
    "commonAnnotations",
    "podAnnotations",
    "service.annotations",
    "serviceAccount.annotations",
    "prometheusRule.annotations",
    "dashboards.annotations",
)
SWITCHED = ("dashboards", "prometheusRule")


@pytest.mark.parametrize("name", ANNOTATED)
def test_templates_in_annotations_are_filled_in(name: str) -> None:
    """A role or a folder that has the release's name in it needs no second file of values."""
    *above, last = name.split(".")
    given = {
        "example.com/filled": '{{ .Release.Name }} in {{ include "crrmon.namespace" . }}',
        "example.com/kept": '{{ "{{ with secret }}" }}',
        "example.com/plain": "%%host%%",
    }
    on = {above[0]: {"enabled": True}} if above and above[0] in SWITCHED else {}
    manifests = chart.render(chart.merged(on, chart.nested((*above, last), given)))
    found = [
        told
        for manifest in manifests.all
        for told in (
            manifest["metadata"].get("annotations", {}),
            manifest.get("spec", {})
            .get("template", {})
            .get("metadata", {})
            .get("annotations", {}),
        )
        if "example.com/filled" in told
    ]

    assert found
    for told in found:
        assert told["example.com/filled"] == "demo in watch"
        assert told["example.com/kept"] == "{{ with secret }}"
        assert told["example.com/plain"] == "%%host%%"


def test_the_pods_get_the_names_and_the_scheduler_they_are_told_to() -> None:
    """Where the cluster's own are not wanted."""
    pod = chart.render({"dnsPolicy": "None", "schedulerName": "mine"}).pod["spec"]

    assert pod["dnsPolicy"] == "None"
    assert pod["schedulerName"] == "mine"
    assert not chart.render().pod["spec"].keys() & {"dnsPolicy", "schedulerName"}


def test_the_service_takes_families_of_addresses() -> None:
    """A cluster with both gives the service one family unless it is told."""
    asked = {"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}
    spec = chart.render({"service": asked}).one("Service")["spec"]

    assert {key: spec[key] for key in asked} == asked
    assert not chart.render().one("Service")["spec"].keys() & asked.keys()


@pytest.mark.parametrize(
    "path",
    [("replicaCount",), ("persistence", "size"), ("podDisruptionBudget", "maxUnavailable")],
)
def test_no_number_is_not_none(path: tuple[str, ...]) -> None:
    """It would silently be zero, or refused by Kubernetes after half of the installation."""
    with pytest.raises(helm.HelmRenderError, match=rf"{'.'.join(path)} is null"):
        chart.render(chart.nested(path, None))


def test_the_job_s_pods_are_made_anew() -> None:
    """Pod Identity gives credentials to pods that are made after its association."""
    values = {"config": {"ledger": {"kind": "dynamodb"}}, "createTable": {"enabled": True}}

    assert chart.render(values).one("Job")["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_a_probe_of_ones_own_replaces_the_chart_s_and_null_switches_it_off() -> None:
    """Kubernetes takes one handler only."""
    own = {"exec": {"command": ["python", "-m", "crrmon.livez"]}}
    container = chart.render({"livenessProbe": own, "startupProbe": None}).container

    assert "httpGet" not in container["livenessProbe"]
    assert "startupProbe" not in container


def test_it_can_be_a_part_of_another_chart() -> None:
    """`enabled` is what conditions of dependencies ask for, `global` what every part is handed."""
    assert chart.render({"enabled": True, "global": {"a": 1}}) == chart.render()
