import re
from typing import Any

import pytest

from crrmon.domain.queue_address import queue_address
from fakes import chart
from fakes.queue_hosts import HOME_REGION, ROWS

REDIS = {"config": {"ledger": {"kind": "redis"}}}
SCALED = chart.merged(REDIS, {"keda": {"enabled": True}})
SELECTOR = {"app.kubernetes.io/name": "crrmon", "app.kubernetes.io/instance": "demo"}

MONITORS = {"ServiceMonitor": "endpoints", "PodMonitor": "podMetricsEndpoints"}
ENDPOINT_KEYS = {"port", "path", "interval", "scrapeTimeout", "relabelings", "metricRelabelings"}


def _monitor(kind: str, settings: dict[str, Any]) -> chart.Manifest:
    name = kind[0].lower() + kind[1:]
    return chart.render({name: {"enabled": True} | settings}).one(kind)


@pytest.mark.parametrize(("kind", "endpoints"), MONITORS.items())
def test_a_monitor_has_what_its_controller_reads(kind: str, endpoints: str) -> None:
    """Only fields that the operator knows: others are dropped without a word."""
    monitor = _monitor(
        kind,
        {
            "scrapeTimeout": "9s",
            "sampleLimit": 100_000_000,
            "relabelings": [{"targetLabel": "cluster", "replacement": "one"}],
            "metricRelabelings": [{"sourceLabels": ["__name__"], "action": "drop"}],
        },
    )
    (endpoint,) = monitor["spec"][endpoints]

    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() == {"namespaceSelector", "selector", "sampleLimit", endpoints}
    assert monitor["spec"]["sampleLimit"] == 100_000_000
    assert endpoint.keys() == ENDPOINT_KEYS
    assert endpoint["relabelings"] == [{"targetLabel": "cluster", "replacement": "one"}]


@pytest.mark.parametrize(("kind", "endpoints"), MONITORS.items())
def test_what_an_endpoint_is_told_goes_over_the_chart_s(kind: str, endpoints: str) -> None:
    """TLS of a proxy beside the daemon, and whatever else the operator knows."""
    told = {
        "scheme": "https",
        "tlsConfig": {"serverName": "crrmon", "ca": {"secret": {"name": "ca", "key": "ca.crt"}}},
        "honorLabels": True,
        "port": "proxied",
    }
    (endpoint,) = _monitor(kind, {"endpoint": told})["spec"][endpoints]

    assert endpoint == {"path": "/metrics", "interval": "30s"} | told


@pytest.mark.parametrize(("kind", "endpoints"), MONITORS.items())
def test_a_monitor_finds_the_pods_from_another_namespace(kind: str, endpoints: str) -> None:
    """Prometheus often selects monitors in its own only."""
    monitor = _monitor(kind, {"namespace": "prometheus", "labels": {"release": "prometheus"}})
    service = chart.render().one("Service")

    assert monitor["metadata"]["namespace"] == "prometheus"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["watch"]}
    assert monitor["spec"]["selector"] == {"matchLabels": SELECTOR}
    assert service["metadata"]["labels"].items() >= SELECTOR.items()
    assert monitor["spec"][endpoints][0]["port"] == service["spec"]["ports"][0]["name"]


def test_the_service_leads_to_every_replica() -> None:
    """One that is not ready has the metrics that say why."""
    spec = chart.render().one("Service")["spec"]

    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True


def test_alerts_have_what_their_controller_reads() -> None:
    """Groups of rules, each with a name, an expression and text; what is recorded has neither time nor text."""
    rule = chart.render({"prometheusRule": {"enabled": True}}).one("PrometheusRule")
    groups = rule["spec"]["groups"]

    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert [group["name"] for group in groups] == ["crrmon-counts", "crrmon-slo", "crrmon"]
    for group in groups:
        assert group.keys() <= {"name", "interval", "rules"}
    for one in (one for group in groups for one in group["rules"]):
        alert = {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
        assert one.keys() <= (alert if "alert" in one else {"record", "expr", "labels"})
        texts = [*one.get("labels", {}).values(), *one.get("annotations", {}).values()]
        assert all(isinstance(value, str) for value in texts)
        assert not re.search(r"@\w+@", str(one))


def test_keda_scales_what_is_there() -> None:
    """By its name, and as the fields are called."""
    manifests = chart.render(SCALED)
    spec = manifests.one("ScaledObject")["spec"]

    assert manifests.one("ScaledObject")["apiVersion"] == "keda.sh/v1alpha1"
    assert spec["scaleTargetRef"] == {"name": manifests.workload["metadata"]["name"]}
    assert manifests.workload["kind"] == "Deployment"
    assert spec["minReplicaCount"] >= 1
    assert spec["maxReplicaCount"] > spec["minReplicaCount"]
    assert "idleReplicaCount" not in spec


def test_keda_asks_every_queue_in_its_region() -> None:
    """Values in a trigger are text. In flight are messages held on purpose: they ask for no replica."""
    queues = [
        {"url": "https://sqs.eu-west-1.amazonaws.com/210987654321/one"},
        {"url": "https://sqs.cn-north-1.amazonaws.com.cn/210987654321/two"},
        {"url": "https://us-west-2.queue.amazonaws.com/210987654321/three"},
        {"url": "https://vpce-1.sqs.eu-north-1.vpce.amazonaws.com/1/four", "region": "eu-north-1"},
    ]
    spec = chart.render(chart.merged(SCALED, {"config": {"queues": queues}})).one("ScaledObject")[
        "spec"
    ]
    triggers = spec["triggers"]

    assert [one["type"] for one in triggers] == ["aws-sqs-queue"] * 4
    assert [one["metadata"]["queueURL"] for one in triggers] == [one["url"] for one in queues]
    assert [one["metadata"]["awsRegion"] for one in triggers] == [
        "eu-west-1",
        "cn-north-1",
        "us-west-2",
        "eu-north-1",
    ]
    for trigger in triggers:
        assert trigger["metadata"]["scaleOnInFlight"] == "false"
        assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_e2_keda_asks_whom_the_daemon_asks_in_the_same_region() -> None:
    """Every URL is read as the daemon reads it; where KEDA's own SDK would ask the same host, nothing is said of it."""
    queues = [{"url": row.url} for row in ROWS]
    config = {"queues": queues, "aws": {"region": HOME_REGION}}
    spec = chart.render(chart.merged(SCALED, {"config": config})).one("ScaledObject")["spec"]
    told = [one["metadata"] for one in spec["triggers"]]

    assert [one["awsRegion"] for one in told] == [row.region or HOME_REGION for row in ROWS]
    assert [one.get("awsEndpoint") for one in told] == [
        queue_address(row.url).endpoint for row in ROWS
    ]


def test_e2_keda_asks_at_the_endpoint_that_is_set() -> None:
    """It goes over the URL's host there, too."""
    config = {"queues": [{"url": ROWS[12].url}], "aws": {"endpoint_url": "http://moto:5000"}}
    spec = chart.render(chart.merged(SCALED, {"config": config})).one("ScaledObject")["spec"]

    assert spec["triggers"][0]["metadata"]["awsEndpoint"] == "http://moto:5000"


def test_keda_says_who_asks() -> None:
    """A role and an owner exclude each other."""
    authentication = chart.render(SCALED).one("TriggerAuthentication")
    role = chart.merged(SCALED, {"keda": {"roleArn": "arn:aws:iam::210987654321:role/keda"}})
    (trigger,) = chart.render(SCALED).one("ScaledObject")["spec"]["triggers"]

    assert authentication["spec"] == {"podIdentity": {"provider": "aws", "identityOwner": "keda"}}
    assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
    assert chart.render(role).one("TriggerAuthentication")["spec"] == {
        "podIdentity": {"provider": "aws", "roleArn": "arn:aws:iam::210987654321:role/keda"}
    }


def test_keda_scales_by_what_is_late() -> None:
    """A number for the threshold as text, and a query over the pods of this release alone."""
    prometheus = {"serverAddress": "http://prometheus:9090", "backlogSeconds": 1_000_000}
    values = chart.merged(SCALED, {"keda": {"prometheus": prometheus}})
    *_, trigger = chart.render(values).one("ScaledObject")["spec"]["triggers"]

    assert trigger.keys() == {"type", "metricType", "metadata"}
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"]["threshold"] == "1000000"
    assert 'namespace="watch"' in trigger["metadata"]["query"]
    (pods,) = re.findall(r'pod=~"(.*?)"', trigger["metadata"]["query"])
    assert re.fullmatch(pods, "demo-crrmon-5d4f8c7b9d-x2x7k")
    assert not re.fullmatch(pods, "demo-crrmon-eu-5d4f8c7b9d-x2x7k"), "another release"
    assert not re.fullmatch(pods, "demo-crrmon-eu-0"), "another release"


@pytest.mark.parametrize("length", [40, 46, 47, 48, 52])
def test_keda_finds_pods_whose_names_kubernetes_cuts(length: int) -> None:
    """It cuts what stands before the five random characters to 58."""
    prometheus = {"serverAddress": "http://prometheus:9090"}
    values = {"fullnameOverride": "x" * length, "keda": {"prometheus": prometheus}}
    *_, trigger = chart.render(chart.merged(SCALED, values)).one("ScaledObject")["spec"][
        "triggers"
    ]
    (pods,) = re.findall(r'pod=~"(.*?)"', trigger["metadata"]["query"])

    for replica_set in ("5d4f8c7b9d", "5d4f8c7b"):
        name = f"{'x' * length}-{replica_set}-"[:58] + "x2x7k"
        assert re.fullmatch(pods, name)


def test_the_policy_lets_out_what_the_daemon_needs() -> None:
    """Names, AWS, the ledger, stores of one's own, and the agent that hands out credentials."""
    values = {
        "networkPolicy": {"enabled": True},
        "config": {
            "ledger": {"kind": "redis", "redis": {"url": "rediss://redis.example.com:6380/0"}},
            "accounts": [
                {"id": "store", "endpoint_url": "https://minio.example.com:9000", "buckets": ["a"]}
            ],
        },
    }
    egress = chart.render(values).one("NetworkPolicy")["spec"]["egress"]
    everywhere = {port["port"] for rule in egress if "to" not in rule for port in rule["ports"]}
    (agent,) = (rule for rule in egress if "to" in rule)

    assert everywhere == {53, 443, 6380, 9000}
    assert {"ipBlock": {"cidr": "169.254.170.23/32"}} in agent["to"]
    assert agent["ports"] == [{"port": 80, "protocol": "TCP"}]


def test_the_policy_lets_in_whom_it_names_and_the_test() -> None:
    """`helm test` must not fail for the chart's own policy."""
    peers = [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]
    manifests = chart.render({"networkPolicy": {"enabled": True, "ingressFrom": peers}})
    (rule,) = manifests.one("NetworkPolicy")["spec"]["ingress"]
    labels = manifests.one("Pod")["metadata"]["labels"]

    assert rule["from"][0] == peers[0]
    assert labels.items() >= rule["from"][1]["podSelector"]["matchLabels"].items()
    assert "from" not in _ingress({"networkPolicy": {"enabled": True}})


def _ingress(values: dict[str, Any]) -> dict[str, Any]:
    (rule,) = chart.render(values).one("NetworkPolicy")["spec"]["ingress"]
    return dict(rule)
