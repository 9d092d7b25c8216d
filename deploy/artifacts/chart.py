"""The chart's page and the schema of its values, both generated from values.yaml and the daemon's own settings.

A comment `# -- ...` above a key is that key's documentation. Types are those of the defaults; `KNOWN` has what a default
does not say (null, empty, one of a few words).
"""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import yaml

from crrmon import config

TOP = Path(__file__).resolve().parents[2]
"""The top directory of the repository."""

CHART = "helm/crrmon"

Fragment = dict[str, Any]

LONGEST_DEFAULT = 60
"""Length of the longest default that the page shows."""

MARK = "# -- "

_OBJECT: Fragment = {"type": "object"}
_OBJECTS: Fragment = {"type": "array", "items": {"type": "object"}}
_NAMED: Fragment = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1}},
        "required": ["name"],
    },
}
# Kubernetes refuses anything but text, after everything else is installed.
_VARIABLES: Fragment = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "value": {"type": "string"},
            "valueFrom": {"type": "object"},
        },
        "required": ["name"],
    },
}
_TEXTS: Fragment = {"type": "array", "items": {"type": "string"}}
# Kubernetes accepts only text there, and says so late.
_TEXT_BY_NAME: Fragment = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT: Fragment = {"type": "integer", "minimum": 0}
_POSITIVE: Fragment = {"type": "integer", "minimum": 1}
_REPLICAS: Fragment = {"type": ["integer", "string"], "minimum": 0}
_THRESHOLD: Fragment = {"type": "number", "minimum": 0}
# 1 would leave no budget, and any failure would burn it infinitely fast.
_OBJECTIVE: Fragment = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_DURATION: Fragment = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))*$"}

KNOWN: Mapping[str, Fragment] = {
    "affinity": _OBJECT,
    "autoscaling.behavior": _OBJECT,
    # NB: the chart refuses less than 1, and says why.
    "autoscaling.maxReplicas": _COUNT,
    "autoscaling.minReplicas": _COUNT,
    "autoscaling.targetCPUUtilizationPercentage": _POSITIVE,
    "aws.stsRegionalEndpoints": {"type": "string", "enum": ["", "legacy", "regional"]},
    "commonAnnotations": _TEXT_BY_NAME,
    "commonLabels": _TEXT_BY_NAME,
    "config": _OBJECT,
    "datadog.instance": _OBJECT,
    "dnsConfig": _OBJECT,
    "dnsPolicy": {
        "type": "string",
        "enum": ["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    },
    "env": _VARIABLES,
    "envFrom": _OBJECTS,
    "extraArgs": _TEXTS,
    "extraContainers": _NAMED,
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    "extraVolumeMounts": _NAMED,
    "extraVolumes": _NAMED,
    "hostAliases": _OBJECTS,
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"type": "string", "enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": _NAMED,
    "initContainers": _NAMED,
    "keda.behavior": _OBJECT,
    "keda.identityOwner": {"type": "string", "enum": ["keda", "workload"]},
    "keda.maxReplicas": _COUNT,
    "keda.minReplicas": _COUNT,
    "keda.pollingInterval": _POSITIVE,
    "keda.prometheus.backlogSeconds": _POSITIVE,
    "keda.queueLength": _POSITIVE,
    "keda.triggers": _OBJECTS,
    "lifecycle": _OBJECT,
    "minReadySeconds": _COUNT,
    "networkPolicy.extraEgress": _OBJECTS,
    "networkPolicy.ingressFrom": _OBJECTS,
    "networkPolicy.webhookFrom": _OBJECTS,
    "nodeSelector": _TEXT_BY_NAME,
    "persistence.accessModes": _TEXTS | {"minItems": 1},
    "persistence.size": {"type": "string", "pattern": "^[0-9.]+([EPTGMk]|[EPTGMK]i)?$"},
    "podAnnotations": _TEXT_BY_NAME,
    "podDisruptionBudget.maxUnavailable": _REPLICAS | {"pattern": "^[0-9]+%$"},
    # Empty is off, because 0 has a meaning.
    "podDisruptionBudget.minAvailable": _REPLICAS | {"pattern": "^([0-9]+%)?$"},
    "podLabels": _TEXT_BY_NAME,
    "podSecurityContext": _OBJECT,
    "prometheusRule.additionalRules": _OBJECTS,
    "prometheusRule.disabled": _TEXTS,
    "prometheusRule.ruleLabels": _TEXT_BY_NAME,
    "prometheusRule.slo.*": _OBJECTIVE,
    "prometheusRule.thresholds.*": _THRESHOLD,
    "replicaCount": _COUNT,
    "resources": _OBJECT,
    "revisionHistoryLimit": _COUNT,
    "securityContext": _OBJECT,
    "service.ipFamilies": {
        "type": "array",
        "items": {"type": "string", "enum": ["IPv4", "IPv6"]},
        "maxItems": 2,
    },
    "service.ipFamilyPolicy": {
        "type": "string",
        "enum": ["", "PreferDualStack", "RequireDualStack", "SingleStack"],
    },
    "strategy": _OBJECT,
    "terminationGracePeriodSeconds": _COUNT,
    "tolerations": _OBJECTS,
    "topologySpreadConstraints": _OBJECTS,
    "webhook.service.type": {"type": "string", "enum": ["ClusterIP", "LoadBalancer", "NodePort"]},
    "*.annotations": _TEXT_BY_NAME,
    "*.endpoint": _OBJECT,
    "*.interval": _DURATION,
    "*.labels": _TEXT_BY_NAME,
    "*.metricRelabelings": _OBJECTS,
    "*.relabelings": _OBJECTS,
    "*.sampleLimit": _COUNT,
    "*.scrapeTimeout": _DURATION,
    "*Probe": _OBJECT,
}
"""
What the defaults do not say, by dotted path; * stands for anything. Keys below a listed key are not described.
"""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One key of values.yaml."""

    path: tuple[str, ...]
    description: str
    default: Any
    inner: tuple["Entry", ...] = ()
    """The keys below it; none if it is documented as a whole."""

    @property
    def name(self) -> str:
        """Return the dotted path."""
        return ".".join(self.path)


class UndescribedError(Exception):
    """The type of a key of values.yaml is unknown; the message names the key and the remedy."""


def known(path: tuple[str, ...]) -> Fragment | None:
    """Look up what `KNOWN` says about a key."""
    name = ".".join(path)
    return next((found for like, found in KNOWN.items() if fnmatchcase(name, like)), None)


def entries(text: str) -> tuple[Entry, ...]:
    """Read the text of values.yaml."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise UndescribedError("values.yaml must be a mapping")
    return tuple(_entries(root, yaml.safe_load(text), text.splitlines(), ()))


def _entries(
    node: yaml.MappingNode, values: Any, lines: list[str], above: tuple[str, ...]
) -> Iterator[Entry]:
    for key, value in node.value:
        path = (*above, key.value)
        default = values[key.value]
        section = isinstance(value, yaml.MappingNode) and value.value and known(path) is None
        yield Entry(
            path=path,
            description=_comment(lines, key.start_mark.line),
            default=default,
            inner=tuple(_entries(value, default, lines, path)) if section else (),
        )


def _comment(lines: list[str], line: int) -> str:
    """Return the comment directly above a line, from its mark on; empty if there is none."""
    words: list[str] = []
    for one in reversed(lines[:line]):
        stripped = one.strip()
        if stripped.startswith(MARK):
            return " ".join([stripped.removeprefix(MARK), *reversed(words)])
        if not stripped.startswith("#"):
            break
        words.append(stripped.removeprefix("#").strip())
    return ""


def leaves(found: tuple[Entry, ...]) -> Iterator[Entry]:
    """List the keys that are set as a whole, in file order."""
    for entry in found:
        if entry.inner:
            yield from leaves(entry.inner)
        else:
            yield entry


def sections(found: tuple[Entry, ...]) -> Iterator[Entry]:
    """List the keys that contain others, in file order."""
    for entry in found:
        if entry.inner:
            yield entry
            yield from sections(entry.inner)


def schema(found: tuple[Entry, ...]) -> Fragment:
    """
    Return the JSON schema of the values.

    It is draft 7, which both Helm 3 and Helm 4 read.
    """
    settings = config.schema()
    definitions = settings.pop("$defs")
    whole = _section(found)
    whole["properties"]["config"] |= settings | {
        "description": whole["properties"]["config"]["description"]
    }
    # NB: Helm passes this to every subchart.
    whole["properties"]["global"] = {"type": "object"}
    # A condition in a parent chart uses this.
    whole["properties"]["enabled"] = {"type": "boolean"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart crrmon",
        **whole,
        "$defs": definitions,
    }


def _section(found: tuple[Entry, ...]) -> Fragment:
    properties = {
        entry.path[-1]: {"description": entry.description} | _fragment(entry) for entry in found
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _fragment(entry: Entry) -> Fragment:
    if entry.inner:
        return _section(entry.inner)
    fragment = known(entry.path)
    if fragment is not None:
        return fragment
    if type(entry.default) not in _TYPES:
        raise UndescribedError(
            f"{entry.name}: the default {entry.default!r} has no clear type; add the key to KNOWN in {__name__}"
        )
    return {"type": _TYPES[type(entry.default)]}


_PAGE = """\
# {name}

{description}

The chart installs the daemon into one namespace. It creates no cluster-wide objects and no Kubernetes roles, and in AWS
only the table of the dynamodb ledger, if `createTable` is enabled.

Chart {version}, crrmon {app_version}. `make docs` generates this page and `values.schema.json` from `values.yaml`.

## Requirements

- Kubernetes {kubernetes} or later, and Helm. The chart is tested with Helm 4 on a Kubernetes 1.36 API server with real
  controllers, but without nodes, and against the schemas of the three newest versions.
- For upgrades, permission to list StatefulSets and Deployments in the namespace, and in that of the release if
  `namespaceOverride` names another one: the chart looks up what is running.
- An SQS queue that receives the events of the source buckets, and a role for the pods: by annotation of the service
  account (IRSA), or by an EKS Pod Identity association for its name. Self-hosted stores need neither: they post their
  events to `config.inboxes`.
- For several replicas, a shared ledger: Redis, Valkey or DynamoDB.
- The Prometheus Operator for `serviceMonitor`, `podMonitor` and `prometheusRule`, KEDA for `keda`, the metrics server
  for `autoscaling`. All are off by default.

The repository's docs/install-eks.md is a step-by-step guide for EKS.

## Install

No image is published: build it in the top directory of the repository, push it to your own registry, and set its name.

```console
helm install crrmon helm/crrmon --namespace crrmon --create-namespace \\
  --set image.repository=REGISTRY/crrmon \\
  --set 'config.queues[0].url=https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE'
```

Unknown keys are refused, in `config` as everywhere else; Kubernetes itself checks values in its own format (resources,
probes, volumes). Values that cannot work together are refused with a message that names the remedy.

Names start with the release's name, so several installations can share a namespace. What they use outside of it must
differ: the queue, `config.name`, and the ledger's table or Redis prefix. Releases of the same name in two namespaces
must not put monitors, alerts or dashboards into a third one: their names would collide there.

## Upgrade

```console
helm upgrade crrmon helm/crrmon --namespace crrmon --values VALUES --rollback-on-failure
```

With Helm 3 the option is `--atomic`. Without it, a failed upgrade leaves its changes behind. Changing the ledger, or
the name of a ledger in a volume, is refused while a replica runs: the message says what to do.

[CHANGELOG.md](CHANGELOG.md) says what an upgrade of the chart requires, the one at the top of the repository what an
upgrade of crrmon requires.

## Examples

In the repository's helm/crrmon/ci:

{examples}

## Values

`config` is the daemon's own configuration; the repository's config.example.yaml shows all its keys.

{values}
"""


def page(about: Mapping[str, Any], found: tuple[Entry, ...], examples: Mapping[str, str]) -> str:
    """
    Return the chart's page.

    Args:
        about: the content of Chart.yaml.
        found: the values.
        examples: the description of each values file in ci/, by file name.
    """
    return _PAGE.format(
        name=about["name"],
        description=about["description"],
        version=about["version"],
        app_version=about["appVersion"],
        kubernetes=about["kubeVersion"].removeprefix(">=").removesuffix(".0-0"),
        examples="\n".join(f"- `{name}`: {text}" for name, text in examples.items()),
        values="\n".join(_table(found)),
    )


def _table(found: tuple[Entry, ...]) -> Iterator[str]:
    yield "| Key | Type | Default | Meaning |"
    yield "| --- | --- | --- | --- |"
    for entry in leaves(found):
        cells = (f"`{entry.name}`", _type(entry), _shown(entry.default), entry.description)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(entry: Entry) -> str:
    fragment = _fragment(entry)
    words = fragment.get("type", "string")
    told = [words] if isinstance(words, str) else words
    return " or ".join("list" if word == "array" else word for word in told if word != "null")


def _shown(default: Any) -> str:
    text = json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see `values.yaml`"


def example(text: str) -> str:
    """Return the description of a values file: the comment at its top."""
    told: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        told.append(line.removeprefix("#").strip())
    if not told:
        raise UndescribedError(
            "a values file in ci/ must begin with a comment that says what it shows"
        )
    return " ".join(told)


def files() -> dict[str, str]:
    """Return the chart's page and the schema of its values."""
    chart = TOP / CHART
    found = entries((chart / "values.yaml").read_text(encoding="utf-8"))
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    examples = {
        path.name: example(path.read_text(encoding="utf-8"))
        for path in sorted((chart / "ci").glob("*-values.yaml"))
    }
    return {
        f"{CHART}/README.md": page(about, found, examples),
        f"{CHART}/values.schema.json": json.dumps(schema(found), indent=2, ensure_ascii=False)
        + "\n",
    }
