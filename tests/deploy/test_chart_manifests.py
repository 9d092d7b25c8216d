import itertools
import re
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from fakes import chart
from fakes.pod_security import violations

CUSTOM = {
    "ServiceMonitor",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "TriggerAuthentication",
}
KUBERNETES = list(dict.fromkeys(all_versions()))[-3:]
EXAMPLES = {"the least": chart.LEAST} | chart.example_values()
SELECTOR = {"app.kubernetes.io/name": "crrmon", "app.kubernetes.io/instance": "demo"}


@pytest.fixture(scope="session", params=EXAMPLES.values(), ids=EXAMPLES)
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture(scope="session")
def manifests(values: dict[str, Any]) -> chart.Manifests:
    return chart.render_as_given(values)


def test_helm_finds_nothing_to_say(values: dict[str, Any]) -> None:
    """Not even a warning."""
    report = helm.lint(chart.PATH, values, strict=True)

    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_manifest(manifests: chart.Manifests, version: str) -> None:
    """By the schemas of its newest three versions, without unknown fields."""
    for manifest in manifests.all:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_what_controllers_of_others_read_has_its_group(manifests: chart.Manifests) -> None:
    """Their schemas are not Kubernetes': see test_chart_monitoring.py."""
    for manifest in manifests.all:
        group = manifest["apiVersion"].partition("/")[0]
        assert (group in ("monitoring.coreos.com", "keda.sh")) == (manifest["kind"] in CUSTOM)


def test_pods_keep_to_the_restricted_standard(manifests: chart.Manifests) -> None:
    """They run in a namespace that enforces it."""
    for manifest in manifests.all:
        for pod in _pods(manifest):
            assert violations(pod["spec"]) == []


def test_the_containers_root_is_read_only(manifests: chart.Manifests) -> None:
    """The standard does not ask for it; /data is where the daemon writes."""
    context = manifests.container["securityContext"]
    mounts = {one["mountPath"]: one for one in manifests.container["volumeMounts"]}

    assert context["readOnlyRootFilesystem"] is True
    assert not mounts["/data"].get("readOnly")
    assert manifests.pod["spec"]["securityContext"]["fsGroup"] == 10001


def test_the_token_of_the_api_stays_outside(manifests: chart.Manifests) -> None:
    """The daemon does not talk to Kubernetes; the token that AWS trusts is another volume."""
    assert manifests.pod["spec"]["automountServiceAccountToken"] is False


def test_nothing_reaches_beyond_the_namespace(manifests: chart.Manifests) -> None:
    """No namespace, no role: neither is needed."""
    kinds = {manifest["kind"] for manifest in manifests.all}

    assert not kinds & {"Namespace", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def test_every_manifest_carries_the_labels(manifests: chart.Manifests) -> None:
    """By them an installation is found, and told from others."""
    for manifest in manifests.all:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"].startswith("crrmon")
        assert labels["app.kubernetes.io/instance"] == "demo"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"]
        assert re.fullmatch(r"crrmon-\d+\.\d+\.\d+", labels["helm.sh/chart"])


def test_every_selector_is_the_same(manifests: chart.Manifests) -> None:
    """A selector cannot be changed later, and one that differs from the pods' labels finds nothing."""
    found = list(_selectors(manifests))

    assert len(found) >= 2
    assert all(one == SELECTOR for one in found)
    assert manifests.pod["metadata"]["labels"].items() >= SELECTOR.items()


def test_no_other_pod_is_taken_for_a_replica(manifests: chart.Manifests) -> None:
    """A Job or a test that the service or the budget counts would be asked for metrics."""
    others = [
        pod
        for manifest in manifests.all
        for pod in _pods(manifest)
        if manifest is not manifests.workload
    ]

    assert others
    for pod in others:
        assert not pod["metadata"]["labels"].items() >= SELECTOR.items()


def test_names_are_kubernetes_own_and_no_two_are_alike(manifests: chart.Manifests) -> None:
    """Of a kind in a namespace."""
    names = [_identity(one) for one in manifests.all]

    assert len(names) == len(set(names))
    for manifest in manifests.all:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", manifest["metadata"]["name"])


def test_two_releases_stand_side_by_side(values: dict[str, Any]) -> None:
    """D52: the original had hard-coded names, one installation for an account."""
    one = chart.render_as_given(values, name="one")
    other = chart.render_as_given(values, name="other")

    assert not {_identity(each) for each in one.all} & {_identity(each) for each in other.all}
    assert not {tuple(each.items()) for each in _selectors(one)} & {
        tuple(each.items()) for each in _selectors(other)
    }


def test_the_ports_agree(manifests: chart.Manifests) -> None:
    """Those of the container, the service, the probes and the daemon."""
    container = manifests.container
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert ports["http"] == int(manifests.environment["CRRMON_HTTP__PORT"])
    assert manifests.environment["CRRMON_HTTP__HOST"] == "::", "both families"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "http"
    targets = [
        port["targetPort"]
        for service in manifests.of("Service")
        for port in service["spec"]["ports"]
    ]
    inboxes = [one.port for one in chart.loaded(manifests).inboxes]
    assert sorted(targets) == sorted(ports), "each is led to, and by one service only"
    assert [port for name, port in ports.items() if name != "http"] == inboxes


def test_the_grace_is_longer_than_the_daemon_needs(manifests: chart.Manifests) -> None:
    """Else it is killed with messages in its hands, and they come again late."""
    settings = chart.loaded(manifests)

    assert manifests.pod["spec"]["terminationGracePeriodSeconds"] > settings.shutdown_seconds


def test_the_examples_differ() -> None:
    """Each shows something of its own."""
    rendered = [chart.render_as_given(values).all for values in EXAMPLES.values()]

    assert all(one != other for one, other in itertools.combinations(rendered, 2))


def test_the_pages_pod_that_copies_a_ledger_fits_the_chart() -> None:
    """The same file, volume, account and standard as the replica's that it stands in for."""
    page = (chart.TOP / "docs" / "install-eks.md").read_text(encoding="utf-8")
    (text,) = re.findall(
        r"^cat > \$WORK/copy\.yaml <<END\n(.*?)^END$", page, re.DOTALL | re.MULTILINE
    )
    pod = yaml.safe_load(text.replace("$NAME", "crrmon"))
    (copying,) = pod["spec"]["containers"]
    stopped = chart.render({"replicaCount": 0}, name="crrmon")
    (claim,) = stopped.workload["spec"]["volumeClaimTemplates"]
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}

    for version in KUBERNETES:
        kubernetes_validate.validate(pod, version, strict=True)
    assert violations(pod["spec"]) == []
    assert pod["spec"]["serviceAccountName"] == stopped.pod["spec"]["serviceAccountName"]
    assert pod["spec"]["securityContext"].items() <= stopped.pod["spec"]["securityContext"].items()
    assert volumes["config"] in stopped.pod["spec"]["volumes"]
    assert volumes["ledger"]["persistentVolumeClaim"] == {
        "claimName": f"{claim['metadata']['name']}-{stopped.workload['metadata']['name']}-0"
    }
    assert copying["env"][0]["value"] == stopped.environment["CRRMON_CONFIG"]
    assert {one["name"]: one["mountPath"] for one in copying["volumeMounts"]} == {
        one["name"]: one["mountPath"] for one in stopped.container["volumeMounts"]
    }


def _pods(manifest: chart.Manifest) -> list[dict[str, Any]]:
    if manifest["kind"] == "Pod":
        return [manifest]
    return [manifest["spec"]["template"]] if "template" in manifest.get("spec", {}) else []


def _identity(manifest: chart.Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def _selectors(manifests: chart.Manifests) -> list[dict[str, str]]:
    """Return every set of labels by which some manifest finds the pods or the service."""
    found = []
    for manifest in manifests.all:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            found.append(spec["selector"])
        elif manifest["kind"] == "NetworkPolicy":
            found.append(spec["podSelector"]["matchLabels"])
        elif "selector" in spec:
            found.append(spec["selector"]["matchLabels"])
        # Not selectors, and just as little to be changed.
        found += [one["metadata"]["labels"] for one in spec.get("volumeClaimTemplates", ())]
        for pod in _pods(manifest):
            spread = pod["spec"].get("topologySpreadConstraints", ())
            found += [one["labelSelector"]["matchLabels"] for one in spread]
    return found
