from fnmatch import fnmatchcase
from typing import Any

import helm_python as helm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.chart import Entry, entries, leaves, sections
from crrmon.config import keys
from fakes import chart

FOUND = entries((chart.PATH / "values.yaml").read_text(encoding="utf-8"))
LEAVES = {entry.name: entry for entry in leaves(FOUND)}
NAMES = [*(entry.name for entry in sections(FOUND)), *LEAVES]
KEYS = [*NAMES, *(f"config.{key}" for key in keys())]

REDIS = {"config": {"ledger": {"kind": "redis"}}}
DYNAMODB = {"config": {"ledger": {"kind": "dynamodb"}}}
INBOX = {
    "config": {"inboxes": [{"kind": "webhook"}]},
    "webhook": {"token": {"existingSecret": "mine"}},
}

COMPANIONS: dict[str, dict[str, Any]] = {
    "autoscaling.*": REDIS | {"autoscaling": {"enabled": True}},
    "aws.caBundle.key": {"aws": {"caBundle": {"existingSecret": "mine"}}},
    "createTable.*": DYNAMODB | {"createTable": {"enabled": True}},
    "dashboards.*": {"dashboards": {"enabled": True}},
    "datadog.*": {"datadog": {"enabled": True}},
    "keda.*": REDIS
    | {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://prometheus:9090"}}},
    "ledgerPassword.key": {"ledgerPassword": {"existingSecret": "mine"}},
    "networkPolicy.*": INBOX | {"networkPolicy": {"enabled": True}},
    "podDisruptionBudget.*": REDIS | {"replicaCount": 2},
    "podMonitor.*": {"podMonitor": {"enabled": True}},
    "prometheusRule.*": {"prometheusRule": {"enabled": True}},
    "replicaCount": REDIS,
    "revisionHistoryLimit": REDIS,
    "serviceMonitor.*": {"serviceMonitor": {"enabled": True}},
    "strategy": REDIS,
    "topologySpreadConstraints": REDIS,
    "webhook.*": INBOX,
}
"""What must be set beside a value for it to count."""

SAMPLES: dict[str, Any] = {
    "*Annotations": {"example.com/some": "thing"},
    "*.annotations": {"example.com/some": "thing"},
    "*Labels": {"example.com/some": "thing"},
    "*.labels": {"example.com/some": "thing"},
    "*.behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
    "*Probe": {"failureThreshold": 9},
    "*elabelings": [{"targetLabel": "cluster", "replacement": "one"}],
    "affinity": {"nodeAffinity": {}},
    "config": {"name": "other"},
    "datadog.instance": {"tags": ["some:thing"]},
    "dnsPolicy": "Default",
    "extraArgs": ["--config", "/etc/crrmon/crrmon.yaml"],
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "envFrom": [{"configMapRef": {"name": "more"}}],
    "extra*Mounts": [{"name": "more", "mountPath": "/more"}],
    "extraContainers": [{"name": "beside", "image": "beside:1"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "hostAliases": [{"ip": "10.0.0.10", "hostnames": ["redis"]}],
    "image.digest": "sha256:" + "0f" * 32,
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "registry"}],
    "initContainers": [{"name": "before", "image": "before:1"}],
    "keda.identityOwner": "workload",
    "keda.triggers": [{"type": "cron", "metadata": {"desiredReplicas": "3"}}],
    "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
    "networkPolicy.extraEgress": [{"ports": [{"port": 3128}]}],
    "networkPolicy.ingressFrom": [{"podSelector": {}}],
    "networkPolicy.webhookFrom": [{"podSelector": {}}],
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "persistence.accessModes": ["ReadWriteOncePod"],
    "persistence.size": "20Gi",
    "podSecurityContext": {"runAsUser": 20000},
    "prometheusRule.additionalRules": [{"alert": "Mine", "expr": "vector(1)"}],
    "prometheusRule.disabled": ["CrrmonNoEvents"],
    "prometheusRule.ruleLabels": {"team": "storage"},
    "prometheusRule.slo.*": 0.5,
    "resources": {"limits": {"memory": "1Gi"}},
    "securityContext": {"runAsUser": 20000},
    "strategy": {"type": "Recreate"},
    "aws.stsRegionalEndpoints": "legacy",
    "*.endpoint": {"honorLabels": True},
    "*.interval": "1m",
    "podDisruptionBudget.minAvailable": 2,
    "service.ipFamilies": ["IPv6"],
    "service.ipFamilyPolicy": "SingleStack",
    "*.scrapeTimeout": "9s",
    "tolerations": [{"operator": "Exists"}],
    "webhook.service.type": "LoadBalancer",
    "topologySpreadConstraints": [
        {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
}
"""Another value, where it cannot be guessed."""


@pytest.mark.parametrize("entry", LEAVES.values(), ids=LEAVES)
def test_every_value_does_something(entry: Entry) -> None:
    """A switch without a wire is worse than none."""
    base = _matching(COMPANIONS, entry.name, {})
    now = chart.chart().merge_values(base)
    for key in entry.path:
        now = now[key]
    change = chart.nested(entry.path, _matching(SAMPLES, entry.name, None) or _another(now))

    assert chart.render(chart.merged(base, change)) != chart.render(base)


@pytest.mark.parametrize("like", sorted({*COMPANIONS, *SAMPLES}))
def test_the_tables_name_values_that_exist(like: str) -> None:
    """No line of them outlives its value."""
    assert any(fnmatchcase(name, like) for name in LEAVES)


MISSPELLINGS = st.sampled_from(
    [
        lambda word, place: word[:place] + word[place + 1 :],
        lambda word, place: word[:place] + word[place] + word[place:],
        lambda word, place: word[:place] + word[place].swapcase() + word[place + 1 :],
        lambda word, place: word[:place] + "x" + word[place + 1 :],
        lambda word, place: word[:place] + word[place : place + 2][::-1] + word[place + 2 :],
    ]
)


@given(key=st.sampled_from(KEYS), misspell=MISSPELLINGS, chance=st.integers(0, 1000))
def test_a_misspelt_key_is_refused(key: str, misspell: Any, chance: int) -> None:
    """At each level, those of the daemon's settings included: a switch that is silently off is worse than no start."""
    *above, last = key.split(".")
    wrong = misspell(last, chance % len(last))
    if ".".join([*above, wrong]) in (*KEYS, "global"):
        return

    with pytest.raises(helm.HelmValuesError, match=f"'{wrong}' not allowed"):
        chart.render_as_given(_nested([*above, wrong], 1))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicaCount": -1}, "/replicaCount"),
        ({"replicaCount": "2"}, "/replicaCount"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
        ({"image": "crrmon:1"}, "/image"),
        ({"podAnnotations": {"a": True}}, "/podAnnotations/a"),
        ({"env": [{"value": "x"}]}, "/env/0"),
        ({"env": [{"name": "A", "value": 5}]}, "/env/0/value"),
        ({"env": {"NAME": "x"}}, "/env"),
        ({"nodeSelector": None, "tolerations": "x"}, "/tolerations"),
        ({"image": {"repository": 1}}, "/image/repository"),
        ({"podDisruptionBudget": {"maxUnavailable": "one"}}, "/podDisruptionBudget/maxUnavailable"),
        ({"podDisruptionBudget": {"minAvailable": "one"}}, "/podDisruptionBudget/minAvailable"),
        ({"dnsPolicy": "Cluster"}, "/dnsPolicy"),
        ({"extraArgs": "--config"}, "/extraArgs"),
        ({"service": {"ipFamilies": ["IPv5"]}}, "/service/ipFamilies/0"),
        ({"service": {"ipFamilyPolicy": "DualStack"}}, "/service/ipFamilyPolicy"),
        ({"serviceMonitor": {"endpoint": []}}, "/serviceMonitor/endpoint"),
        ({"keda": {"identityOwner": "pod"}}, "/keda/identityOwner"),
        ({"serviceMonitor": {"interval": "30"}}, "/serviceMonitor/interval"),
        ({"persistence": {"size": "10GB"}}, "/persistence/size"),
        ({"config": {"log": {"level": "loud"}}}, "/config/log/level"),
        ({"config": {"accounts": [{"id": 109876543210}]}}, "/config/accounts/0/id"),
        ({"config": {"polling": {"freshness": 2}}}, "/config/polling/freshness"),
        ({"prometheusRule": {"thresholds": {"throttledRatio": "5%"}}}, "/prometheusRule/thresholds/throttledRatio"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused(values: dict[str, Any], told: str) -> None:
    """With the place where it stands."""
    with pytest.raises(helm.HelmValuesError, match=f"at '{told}'"):
        chart.render(values)


@pytest.mark.parametrize(
    "values",
    [
        {"global": {"imageRegistry": "registry.example.com"}},
        {"affinity": {"anything": ["that", "Kubernetes", "knows"]}},
        {"podAnnotations": {"example.com/some": "thing"}},
        {"podDisruptionBudget": {"maxUnavailable": 2}},
        {"podDisruptionBudget": {"maxUnavailable": "25%"}},
        {"livenessProbe": None},
        {"serviceMonitor": {"interval": "1m30s"}},
        {"prometheusRule": {"thresholds": {"silentSeconds": 0.5}}},
        {"extraObjects": ["kind: ConfigMap\napiVersion: v1\nmetadata: {name: mine}"]},
        {"config": {"aws": {"region": None}}},
    ],
)
def test_what_is_meant_to_be_free_is(values: dict[str, Any]) -> None:
    """Pass-through objects are Kubernetes' to judge, `global` is there for charts that include this one."""
    assert chart.render(values).all


def test_the_defaults_are_refused_only_for_what_must_be_set() -> None:
    """A queue is all that is missing."""
    chart.chart().validate_schema({})
    assert chart.render().all


def _matching(table: dict[str, Any], name: str, otherwise: Any) -> Any:
    return next((value for like, value in table.items() if fnmatchcase(name, like)), otherwise)


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    assert isinstance(value, str), "it needs a line in SAMPLES"
    return "another"


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    """Return the values that set one key; of a list (`queues[]`) that of its first item."""
    for key in reversed(path):
        value = {key.removesuffix("[]"): [value] if key.endswith("[]") else value}
    return dict(value)
