"""Each example on a real API server, in a namespace that enforces the restricted standard."""

from typing import Any

import pytest

from fakes import chart
from fakes.kubernetes import ApiError, wait_for
from fakes.release import NAME, Release

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

EXAMPLES = {"the least": chart.LEAST} | chart.example_values()

TEST_POD = ("Pod", f"{NAME}-crrmon-test")
CLAIM = ("PersistentVolumeClaim", f"ledger-{NAME}-crrmon-0")


def _replicas(manifests: chart.Manifests) -> int:
    scalers = manifests.of("HorizontalPodAutoscaler")
    if scalers:
        return int(scalers[0]["spec"]["minReplicas"])
    # No KEDA is there to make a scaler of the ScaledObject.
    return int(manifests.workload["spec"].get("replicas", 1))


@pytest.mark.parametrize("values", EXAMPLES.values(), ids=EXAMPLES)
def test_every_example_is_admitted_runs_and_goes(release: Release, values: dict[str, Any]) -> None:
    """No unknown field and no warning; all pods get ready; what stays behind is what the guide says."""
    manifests = release.manifests(values)
    for manifest in manifests.all:
        path = release.api.path(manifest["apiVersion"], manifest["kind"], release.namespace)
        assert release.api.warnings(path, manifest) == []

    release.install(values)
    release.settled(values)
    wait_for("every replica", lambda: len(release.pods()) == _replicas(manifests))
    release.test()
    release.uninstall()

    stays = {TEST_POD} | ({CLAIM} if manifests.workload["kind"] == "StatefulSet" else set())
    wait_for("the rest to go", lambda: release.there() <= stays)
    assert release.there() & {CLAIM} == stays & {CLAIM}


def test_a_field_that_kubernetes_does_not_know_is_refused(release: Release) -> None:
    """A server that took anything would prove nothing."""
    (manifest,) = release.manifests(chart.LEAST).of("Service")
    path = release.api.path("v1", "Service", release.namespace)

    with pytest.raises(ApiError, match="strict decoding error"):
        release.api.warnings(path, manifest | {"spec": manifest["spec"] | {"sesionAffinity": "x"}})


def test_a_pod_that_the_standard_forbids_is_warned_of(release: Release) -> None:
    """Else an empty list of warnings would prove nothing."""
    values = chart.merged(chart.LEAST, {"securityContext": {"allowPrivilegeEscalation": True}})
    manifest = release.manifests(values).workload
    path = release.api.path("apps/v1", "StatefulSet", release.namespace)

    assert "allowPrivilegeEscalation" in str(release.api.warnings(path, manifest))
