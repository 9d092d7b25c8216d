"""A release of the chart on Kubernetes: what Helm is told to do with it, and what then is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import helm_python as helm

from fakes import chart
from fakes.kubernetes import Kubernetes, Object, wait_for

NAME = "demo"

KINDS = (
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("batch/v1", "Job"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("keda.sh/v1alpha1", "TriggerAuthentication"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)
"""What the chart makes, and what controllers make of that."""

CLUSTERS_OWN = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
"""What is in every namespace."""

SECONDS = 60
"""How long Helm may wait for pods."""


class Release:
    """One, in a namespace of its own."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        name: str = NAME,
        of: helm.Chart | None = None,
    ) -> None:
        self.api = kubernetes.api
        self.namespace = namespace
        self._kubernetes = kubernetes
        self._name = name
        self._chart = of or chart.chart()
        self._helm = kubernetes.helm(namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._helm.uninstall(self._name, ignore_not_found=True)
        self._helm.close()

    def install(self, values: chart.Values, **options: Any) -> None:
        """Install, and wait until every pod is ready."""
        options = {"wait": "watcher", "timeout": SECONDS} | options
        with self._told():
            self._helm.install(self._chart, self._name, dict(values), **options)

    def upgrade(self, values: chart.Values, **options: Any) -> None:
        """Upgrade with these values alone, and wait until every pod is ready."""
        options = {"wait": "watcher", "timeout": SECONDS, "reset_values": True} | options
        with self._told():
            self._helm.upgrade(self._chart, self._name, dict(values), **options)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Add to what Helm says of a failure what the cluster says."""
        try:
            yield
        except helm.HelmError as error:
            pods = [(pod["metadata"]["name"], pod["status"]) for pod in self.all("Pod")]
            events = self.api.ask("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
            error.add_note(f"pods: {pods}")
            error.add_note(f"events: {[(event['reason'], event['message']) for event in events]}")
            raise

    def rollback(self, version: int | None = None) -> None:
        """Go back, to the revision before if none is named."""
        self._helm.rollback(self._name, version=version, wait="watcher", timeout=SECONDS)

    def uninstall(self) -> None:
        """Uninstall."""
        self._helm.uninstall(self._name, wait="watcher", timeout=SECONDS)

    def beside(self, name: str, of: helm.Chart | None = None) -> "Release":
        """Return another one in the same namespace, maybe of another chart."""
        return Release(self._kubernetes, self.namespace, name, of)

    def neighbour(self) -> str:
        """Create a second namespace, and tell its name."""
        return self._kubernetes.namespace(f"{self.namespace}-beside")

    def annotate(self, kind: str, annotations: dict[str, str]) -> None:
        """Lay annotations on an object."""
        path = self.api.path("apps/v1", kind, self.namespace, f"{NAME}-crrmon")
        change = {"metadata": {"annotations": annotations}}
        self.api.ask("PATCH", path, change, kind="application/merge-patch+json")

    def scale(self, replicas: int) -> None:
        """Ask for replicas as a scaler does, and wait for them."""
        path = self.api.path("apps/v1", "Deployment", self.namespace, f"{NAME}-crrmon")
        change = {"spec": {"replicas": replicas}}
        self.api.ask("PATCH", f"{path}/scale", change, kind="application/merge-patch+json")
        wait_for(f"{replicas} replicas", lambda: len(self.pods()) == replicas)

    def leave_pods(self, kind: str, name: str = f"{NAME}-crrmon") -> None:
        """Delete a workload, but not its pods: `kubectl delete --cascade=orphan`."""
        path = self.api.path("apps/v1", kind, self.namespace, name)
        self.api.ask("DELETE", path, {"propagationPolicy": "Orphan"})
        wait_for(f"no {kind}", lambda: not self.all(kind))

    def test(self) -> None:
        """Run the test that the chart brings."""
        self._helm.test(self._name, timeout=SECONDS)

    def manifests(self, values: chart.Values) -> chart.Manifests:
        """Render what would be installed here."""
        rendered = chart.render_as_given(values, name=self._name, namespace=self.namespace)
        return chart.Manifests(tuple(_not_hooks(rendered.all)))

    def get(self, kind: str, name: str = f"{NAME}-crrmon") -> Object:
        """Return an object."""
        (version,) = (version for version, known in KINDS if known == kind)
        return self.api.get(version, kind, self.namespace, name)

    def all(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        (version,) = (version for version, known in KINDS if known == kind)
        return self.api.all(version, kind, self.namespace)

    def there(self) -> set[tuple[str, str]]:
        """
        Return kind and name of what is in the namespace, but for what is always there, and for pods of a workload.
        """
        return {
            (kind, one["metadata"]["name"])
            for version, kind in KINDS
            for one in self.api.all(version, kind, self.namespace)
            if kind != "Pod" or "ownerReferences" not in one["metadata"]
        } - CLUSTERS_OWN

    def settled(self, values: chart.Values) -> None:
        """
        Wait until just what the values ask for is there, and what they do not keep is gone.

        Raises:
            TimeoutError: with what is there.
        """
        wanted = {(one["kind"], one["metadata"]["name"]) for one in self.manifests(values).all}
        # Claims come by themselves, and stay.
        wait_for(
            f"in {self.namespace} what the values ask for",
            lambda: {one for one in self.there() if one[0] not in ("PersistentVolumeClaim", "Pod")} == wanted,
        )  # fmt: skip

    def pods(self) -> list[Object]:
        """Return the replicas that are ready and stay."""
        return [
            pod
            for pod in self.all("Pod")
            if pod["metadata"]["labels"].get("app.kubernetes.io/name") == "crrmon"
            and "deletionTimestamp" not in pod["metadata"]
            and any(
                one["type"] == "Ready" and one["status"] == "True"
                for one in pod["status"].get("conditions", ())
            )
        ]


def _not_hooks(manifests: tuple[chart.Manifest, ...]) -> Iterator[chart.Manifest]:
    for manifest in manifests:
        if "helm.sh/hook" not in manifest["metadata"].get("annotations", {}):
            yield manifest
