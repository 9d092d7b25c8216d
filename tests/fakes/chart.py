"""The chart rendered by a real Helm, and its manifests to ask of."""

import functools
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import msgspec
import pytest
import yaml

from crrmon import config

TOP = Path(__file__).resolve().parents[2]

PATH = TOP / "helm" / "crrmon"

IMAGE = {"image": {"repository": "registry.example.com/crrmon"}}

LEAST = IMAGE | {
    "config": {"queues": [{"url": "https://sqs.eu-west-1.amazonaws.com/210987654321/crrmon"}]}
}
"""What must be set."""

Values = Mapping[str, Any]
Manifest = dict[str, Any]


class Manifests(msgspec.Struct, frozen=True):
    """What one rendering gave."""

    all: tuple[Manifest, ...]

    def of(self, kind: str) -> tuple[Manifest, ...]:
        """Return those of a kind."""
        return tuple(one for one in self.all if one["kind"] == kind)

    def one(self, kind: str) -> Manifest:
        """Return the only one of a kind."""
        (found,) = self.of(kind)
        return found

    @property
    def workload(self) -> Manifest:
        """Return what makes the pods."""
        (found,) = self.of("Deployment") + self.of("StatefulSet")
        return found

    @property
    def pod(self) -> Manifest:
        """Return the template of the pods."""
        return dict(self.workload["spec"]["template"])

    @property
    def container(self) -> Manifest:
        """Return the daemon's container."""
        (found,) = (one for one in self.pod["spec"]["containers"] if one["name"] == "crrmon")
        return dict(found)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that the container gets as plain text."""
        return {
            one["name"]: one["value"] for one in self.container.get("env", ()) if "value" in one
        }

    @property
    def configuration(self) -> str:
        """Return the text of the daemon's configuration file."""
        (found,) = (one for one in self.of("ConfigMap") if "crrmon.yaml" in one["data"])
        return str(found["data"]["crrmon.yaml"])


@functools.cache
def chart() -> helm.Chart:
    """Load the chart."""
    return helm.Chart.load(PATH)


def with_least(values: Values) -> dict[str, Any]:
    """Return the values with what must be set, unless they set it."""
    return merged(LEAST, values)


def merged(below: Values, above: Values) -> dict[str, Any]:
    """Lay values over others, as Helm does: mappings key by key, everything else as a whole."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        result[key] = merged(under, value) if both else value
    return result


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return the values that set one key."""
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def render(
    values: Values | None = None, *, name: str = "demo", namespace: str = "watch"
) -> Manifests:
    """Render the chart for values to which image and queue are added."""
    return _render(json.dumps(with_least(values or {})), name, namespace)


def render_as_given(values: Values, *, name: str = "demo", namespace: str = "watch") -> Manifests:
    """Render the chart for just these values."""
    return _render(json.dumps(values), name, namespace)


@functools.cache
def _render(values: str, name: str, namespace: str) -> Manifests:
    return Manifests(
        tuple(_parsed(chart().render(json.loads(values), name=name, namespace=namespace)))
    )


def _parsed(texts: Mapping[str, str]) -> Iterator[Manifest]:
    for path, text in sorted(texts.items()):
        if path.endswith((".yaml", ".yml")):
            yield from (one for one in yaml.load_all(text, yaml.CSafeLoader) if one)


def example_values() -> dict[str, dict[str, Any]]:
    """Return the values of each file in ci/, by its name."""
    return {
        path.name: helm.values_from_yaml(path.read_text(encoding="utf-8"))
        for path in sorted((PATH / "ci").glob("*-values.yaml"))
    }


def loaded(manifests: Manifests) -> config.Settings:
    """Let the daemon's own loader read what its container gets: the file, and the variables over it."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in manifests.environment.items():
            patch.setenv(name, value)
        path = Path(folder) / "crrmon.yaml"
        path.write_text(manifests.configuration, encoding="utf-8")
        return config.load(path)


def install(values: Values, *, name: str = "demo", namespace: str = "watch") -> dict[str, Any]:
    """Let Helm do all of an installation but the talk with a cluster; image and queue are added to the values."""
    with helm.Config(namespace=namespace) as helmed:
        return helmed.install(chart(), name, with_least(values), dry_run="client")
