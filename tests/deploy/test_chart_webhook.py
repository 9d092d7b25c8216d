"""The port that stores post their events to: it leads to the daemon, and its secrets come by reference."""

import re
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from fakes import chart

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - the test looks for it
SECRET = {"webhook": {"token": {"existingSecret": "mine"}}}


def _with(*inboxes: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Return values with inboxes, and no queue."""
    told = {"config": {"inboxes": [{"kind": "webhook"} | one for one in inboxes]}}
    return chart.merged(chart.merged(chart.IMAGE | SECRET, told), values)


def _render(*inboxes: dict[str, Any], **values: Any) -> chart.Manifests:
    return chart.render_as_given(_with(*inboxes, **values))


def _service(manifests: chart.Manifests) -> chart.Manifest:
    (found,) = (
        one for one in manifests.of("Service") if one["metadata"]["name"].endswith("-webhook")
    )
    return found


def _mounted(manifests: chart.Manifests, path: Path) -> tuple[str, str]:
    """Return the Secret, and the key in it, that a file of the container comes from."""
    spec = manifests.pod["spec"]
    (mount,) = (
        one for one in manifests.container["volumeMounts"] if one["mountPath"] == str(path.parent)
    )
    (volume,) = (one for one in spec["volumes"] if one["name"] == mount["name"])
    (item,) = (one for one in volume["secret"]["items"] if one["path"] == path.name)
    # Part of a volume that is mounted by itself stays as it was when the Secret changes.
    assert "subPath" not in mount
    return volume["secret"]["secretName"], item["key"]


def test_an_inbox_is_enough() -> None:
    """The daemon needs no queue then, and gets none; it listens where a service leads to."""
    (inbox,) = chart.loaded(_render({})).inboxes

    assert inbox.host == "::"
    assert inbox.port == 9465


def test_an_inbox_may_come_by_the_environment() -> None:
    """As JSON, with the token in it: so by reference."""
    by_secret = {"secretKeyRef": {"name": "mine", "key": "inboxes"}}
    manifests = chart.render_as_given(
        chart.IMAGE | {"env": [{"name": "CRRMON_INBOXES", "valueFrom": by_secret}]}
    )

    assert manifests.container["env"][-1]["valueFrom"] == by_secret


def test_a_port_that_the_environment_tells_of_is_led_to_where_config_tells_of_it_too() -> None:
    """The chart cannot read a Secret; then no token is asked for here."""
    by_secret = {"secretKeyRef": {"name": "mine", "key": "inboxes"}}
    manifests = chart.render_as_given(
        chart.IMAGE
        | {"config": {"inboxes": [{"kind": "webhook"}]}}
        | {"env": [{"name": "CRRMON_INBOXES", "valueFrom": by_secret}]}
    )

    assert _service(manifests)["spec"]["ports"][0]["port"] == 9465


def test_token_and_certificate_come_by_reference() -> None:
    """As files that Kubernetes mounts from Secrets, and exchanges when they change."""
    manifests = _render(
        {}, webhook={"token": {"key": "word"}, "tls": {"existingSecret": "certificate"}}
    )
    (inbox,) = chart.loaded(manifests).inboxes

    assert inbox.token_file is not None
    assert inbox.certificate_file is not None
    assert inbox.key_file is not None
    assert _mounted(manifests, inbox.token_file) == ("mine", "word")
    assert _mounted(manifests, inbox.certificate_file) == ("certificate", "tls.crt")
    assert _mounted(manifests, inbox.key_file) == ("certificate", "tls.key")


def test_files_of_ones_own_are_left_as_they_are() -> None:
    """Two inboxes may have two tokens."""
    manifests = _render({"token_file": "/etc/mine/token"}, {"name": "other", "port": 9466})
    one, other = chart.loaded(manifests).inboxes

    assert one.token_file == Path("/etc/mine/token")
    assert other.token_file is not None
    assert _mounted(manifests, other.token_file) == ("mine", "token")


def test_every_port_leads_to_the_daemon() -> None:
    """From the service through the policy into the container; only ready replicas are led to."""
    manifests = _render(
        {"port": 9465}, {"name": "other", "port": 19466}, networkPolicy={"enabled": True}
    )
    service = _service(manifests)
    ports = {one["name"]: one["containerPort"] for one in manifests.container["ports"]}
    selector = service["spec"]["selector"]
    policy = manifests.one("NetworkPolicy")["spec"]["ingress"]

    assert [one["port"] for one in service["spec"]["ports"]] == [9465, 19466]
    assert [ports[one["targetPort"]] for one in service["spec"]["ports"]] == [9465, 19466]
    assert all(len(name) <= 15 for name in ports)
    assert manifests.pod["metadata"]["labels"].items() >= selector.items()
    assert service["spec"].get("publishNotReadyAddresses", False) is False
    assert {ports[port["port"]] for rule in policy for port in rule["ports"]} == {
        9464,
        9465,
        19466,
    }


def test_the_service_can_be_shown_to_the_outside_by_itself() -> None:
    """Metrics stay inside."""
    service = _service(
        _render(
            {},
            webhook={
                "service": {
                    "type": "LoadBalancer",
                    "annotations": {"example.com/scheme": "{{ .Release.Name }}"},
                    "labels": {"a": "b"},
                }
            },
        )
    )

    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == {"example.com/scheme": "demo"}
    assert service["metadata"]["labels"]["a"] == "b"
    assert [one["port"] for one in service["spec"]["ports"]] == [9465]


def test_who_may_post_is_not_who_may_scrape() -> None:
    """Each has a rule of its own."""
    stores, scrapers = [{"podSelector": {"matchLabels": {"app": name}}} for name in "ab"]
    policy = _render(
        {},
        networkPolicy={"enabled": True, "ingressFrom": [scrapers], "webhookFrom": [stores]},
    ).one("NetworkPolicy")
    metrics, webhook = policy["spec"]["ingress"]

    assert scrapers in metrics["from"]
    assert stores not in metrics["from"]
    assert webhook["from"] == [stores]


def test_without_an_inbox_there_is_nothing_of_it() -> None:
    """No port, no second service, no rule."""
    manifests = chart.render(SECRET | {"networkPolicy": {"enabled": True}})

    assert len(manifests.of("Service")) == 1
    assert len(manifests.container["ports"]) == 1
    assert len(manifests.one("NetworkPolicy")["spec"]["ingress"]) == 1
    assert "webhook" not in str(manifests.pod["spec"]["volumes"])


def test_the_pods_that_are_not_the_daemon_see_no_token() -> None:
    """The Job that makes the table listens to nobody."""
    job = _render({}, config={"ledger": {"kind": "dynamodb"}}, createTable={"enabled": True}).one(
        "Job"
    )

    assert "webhook" not in str(job["spec"]["template"]["spec"])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (_with({"host": "127.0.0.1"}), r"inboxes\[0\]\.host is 127\.0\.0\.1, where no sender .* leave it out"),
        (_with({}, {"name": "b", "port": 9466, "host": "[::1]"}), r"inboxes\[1\]\.host is \[::1\]"),
        (_with({"host": "127.1.2.3"}), r"inboxes\[0\]\.host is 127\.1\.2\.3"),
        (_with({"host": "localhost"}), r"inboxes\[0\]\.host is localhost"),
        (_with({"port": 0}), r"inboxes\[0\]\.port is 0.*set it to one from 1"),
        (_with({"port": 9464}), r"inboxes\[0\]\.port is 9464, which another inbox or config\.http already uses"),
        (_with({}, {"name": "b"}), r"inboxes\[1\]\.port is 9465, which another inbox or config\.http already uses"),
        (
            chart.merged(_with({}), {"webhook": {"token": {"existingSecret": ""}}}),
            r"inboxes\[0\] has no token.*name the Secret in webhook\.token\.existingSecret",
        ),
        (
            chart.merged(_with({}), {"config": {"ledger": {"kind": "redis"}}, "keda": {"enabled": True}}),
            r"keda\.enabled is true, but there is nothing to scale on: .*an inbox does not report what is waiting",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(values: dict[str, Any], told: str) -> None:
    """Before anything is installed, with the names of the values."""
    with pytest.raises(helm.HelmError, match=told):
        chart.render_as_given(values)


@pytest.mark.parametrize(
    "values",
    [
        _with({"token": TOKEN}),
        _with({}, env=[{"name": "CRRMON_INBOXES", "value": f'[{{"token": "{TOKEN}"}}]'}]),
    ],
)
def test_a_token_in_the_values_is_refused(values: dict[str, Any]) -> None:
    """It would stand in a ConfigMap or in the pod for everybody to read. The message does not repeat it."""
    with pytest.raises(helm.HelmError, match="Secret") as raised:
        chart.render_as_given(values)

    assert TOKEN not in str(raised.value)


def test_the_guide_s_values_are_those_of_a_port_that_stores_reach() -> None:
    """As they are printed."""
    page = (chart.TOP / "docs" / "stores.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(image:\n.*?)^```$", page, re.DOTALL | re.MULTILINE)
    values = yaml.safe_load(text.replace("REGISTRY", "registry.example.com"))
    manifests = chart.render_as_given(values)
    (inbox,) = chart.loaded(manifests).inboxes

    assert inbox.token_file is not None
    assert inbox.certificate_file is not None
    assert _mounted(manifests, inbox.token_file) == ("crrmon-webhook", "token")
    assert _mounted(manifests, inbox.certificate_file) == ("crrmon-webhook-tls", "tls.crt")
    assert _service(manifests)["spec"]["type"] == "LoadBalancer"
    assert manifests.one("NetworkPolicy")["spec"]["ingress"][1]["from"] == [
        {"ipBlock": {"cidr": "10.0.0.0/8"}}
    ]


def _notes(values: dict[str, Any]) -> str:
    with helm.Config(namespace="watch") as helmed:
        return str(helmed.install(chart.chart(), "demo", values, dry_run="client")["notes"])


def test_the_notes_say_where_to_post() -> None:
    """With the name, the port and how."""
    tls = {"tls": {"existingSecret": "certificate"}}

    assert "watch.\n\n  webhook   http://demo-crrmon-webhook.watch.svc:9465/\n  ledger" in _notes(
        _with({})
    )
    assert "https://demo-crrmon-webhook.watch.svc:9465/" in _notes(_with({}, webhook=tls))


def test_the_notes_warn_of_a_token_that_everybody_can_hear() -> None:
    """Without TLS it goes over the network with each event."""
    tls = {"tls": {"existingSecret": "certificate"}}

    assert "without TLS" in _notes(_with({}))
    assert "without TLS" not in _notes(_with({}, webhook=tls))
    assert "without TLS" not in _notes(chart.LEAST)
