from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crrmon import config
from fakes import chart

# Words that YAML takes for something else when they stand there without quotes.
TRAPS = (
    "yes", "off", "null", "~", "1e3", "0x1F", "0o17", "017", "1_000", "12:30:45", "1.0", ".inf",
    "2026-11-23", "- a", "a: b", "a #b", "@a", "%a", "{{ .Values }}", "*", "&a", "!a",
)  # fmt: skip


def _text(pattern: str) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(TRAPS), st.from_regex(pattern, fullmatch=True))


# Helm writes control characters as they are, which YAML forbids.
PRINTABLE = st.text(
    st.characters(exclude_categories=("C",), exclude_characters="*?:"), min_size=1, max_size=20
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "name": _text(r"[!-9;-~][ -~]{1,40}"),
        "accounts": st.lists(
            st.fixed_dictionaries({"id": st.from_regex(r"[0-9]{12}", fullmatch=True)}),
            max_size=3,
            unique_by=lambda account: account["id"],
        ),
        "filter": st.fixed_dictionaries({"exclude": st.lists(PRINTABLE.map("acme-*/{}".format))}),
        "intake": st.fixed_dictionaries(
            {"max_in_flight": st.integers(10, 100_000), "hold_seconds": st.floats(0, 600)}
        ),
        "polling": st.fixed_dictionaries(
            {
                "freshness": st.floats(0, 1),
                "stuck_after_seconds": st.floats(601, 1e6),
                "per_bucket_per_second": st.floats(1e-9, 5500),
            }
        ),
        "ledger": st.fixed_dictionaries(
            {
                "dynamodb": st.fixed_dictionaries(
                    {"tags": st.dictionaries(_text("[a-z]+"), _text("[a-z]*"))}
                )
            }
        ),
    },
)


@settings(max_examples=60)
@given(asked=CONFIGS)
def test_the_daemon_reads_what_was_asked_for(asked: dict[str, Any]) -> None:
    """Through Helm, YAML and the loader, whatever the words look like to YAML and however large the numbers are."""
    manifests = chart.render_as_given(chart.with_least({"config": asked}))

    read = chart.loaded(manifests).model_dump(mode="json")

    assert _part_of(read, asked) == asked


def test_large_numbers_quoted_ids_and_other_scripts_arrive() -> None:
    """Helm makes floats of numbers, and YAML numbers of ids."""
    manifests = chart.render(
        {
            "config": {
                "accounts": [{"id": "012345678901"}],
                "intake": {"max_in_flight": 100_000},
                "polling": {
                    "stuck_after_seconds": 31_535_999,
                    "freshness": 1e-7,
                    "give_up_after_days": 365,
                },
                "filter": {"include": ["acme/文書/", 'acme/Prüfung: "x" #1/']},
            }
        }
    )

    settings = chart.loaded(manifests)

    assert settings.accounts[0].id == "012345678901"
    assert settings.intake.max_in_flight == 100_000
    assert settings.polling.stuck_after_seconds == 31_535_999
    assert settings.polling.freshness == 1e-7
    assert settings.filter.include == ("acme/文書/", 'acme/Prüfung: "x" #1/')


@pytest.mark.parametrize("values", chart.example_values().values(), ids=chart.example_values())
def test_the_daemon_reads_every_example(values: dict[str, Any]) -> None:
    """And gets all that it says, with the image's own variables not in the way."""
    settings = chart.loaded(chart.render_as_given(values)).model_dump(mode="json")

    assert _part_of(settings, values["config"]) == values["config"]


def test_the_chart_changes_of_the_daemons_defaults_only_what_a_container_needs() -> None:
    """Where the ledger is and where to listen; all else is documented once, by the daemon."""
    settings = chart.loaded(chart.render()).model_dump(mode="json")
    defaults = config.Settings(**chart.LEAST["config"]).model_dump(mode="json")

    assert settings == chart.merged(
        defaults,
        {"ledger": {"path": "/data/crrmon.db"}, "http": {"host": "::"}},
    )


def test_the_file_is_where_the_daemon_looks() -> None:
    """The variable names it, and the ConfigMap is mounted there."""
    manifests = chart.render()
    (volume,) = (one for one in manifests.pod["spec"]["volumes"] if "configMap" in one)
    (mount,) = (
        one for one in manifests.container["volumeMounts"] if one["name"] == volume["name"]
    )

    assert manifests.environment["CRRMON_CONFIG"] == f"{mount['mountPath']}/crrmon.yaml"
    assert volume["configMap"]["name"] == manifests.one("ConfigMap")["metadata"]["name"]


def test_a_configmap_of_ones_own_takes_its_place() -> None:
    """Then no queue needs to be given here, and the chart makes none."""
    manifests = chart.render_as_given(chart.IMAGE | {"existingConfigMap": "mine"})

    assert not manifests.of("ConfigMap")
    assert {"name": "config", "configMap": {"name": "mine"}} in manifests.pod["spec"]["volumes"]


def test_without_a_queue_nothing_is_installed() -> None:
    """The daemon would end at once; the message says what to set."""
    with pytest.raises(
        helm.HelmError, match=r"config\.queues is empty.* set config\.queues\[0\]\.url"
    ):
        chart.render_as_given(chart.IMAGE)


def test_queues_may_come_by_the_environment() -> None:
    """As JSON, over an empty list in the file."""
    queues = '[{"url": "https://sqs.eu-west-1.amazonaws.com/210987654321/other"}]'
    environment = {"env": [{"name": "CRRMON_QUEUES", "value": queues}]}
    manifests = chart.render_as_given(chart.IMAGE | environment)

    assert chart.loaded(manifests).queues[0].url.endswith("/other")


def test_the_pods_are_replaced_when_the_configuration_changes() -> None:
    """The daemon reads it at the start only."""
    assert _checksum({}) != _checksum({"config": {"name": "other"}})


@pytest.mark.parametrize(
    "change",
    [
        {"image": {"tag": "9.9.9"}},
        {"serviceMonitor": {"enabled": True}},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"commonLabels": {"a": "b"}},
    ],
)
def test_the_checksum_changes_with_the_configuration_only(change: dict[str, Any]) -> None:
    """Else a release that changes nothing of the pods would replace them."""
    assert _checksum(change) == _checksum({})


def test_the_checksum_does_not_depend_on_the_order_of_keys() -> None:
    """Two files of values that say the same are the same."""
    one = {"config": {"name": "a", "log": {"level": "debug"}}}
    other = {"config": {"log": {"level": "debug"}, "name": "a"}}

    assert _checksum(one) == _checksum(other)


PASSWORD = "hunter2-correct-horse"  # noqa: S105 - the test looks for it


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"ledger": {"redis": {"password": PASSWORD}}}},
        {"config": {"ledger": {"redis": {"url": f"redis://name:{PASSWORD}@redis:6379/0"}}}},
        {"config": {"ledger": {"redis": {"url": f"rediss://:{PASSWORD}/x@redis:6379/0"}}}},
        {"env": [{"name": "CRRMON_LEDGER__REDIS__PASSWORD", "value": PASSWORD}]},
        {"env": [{"name": "crrmon_ledger__redis__password", "value": PASSWORD}]},
        {
            "env": [
                {
                    "name": "CRRMON_LEDGER__REDIS__URL",
                    "value": f"redis://name:{PASSWORD}@redis:6379/0",
                }
            ]
        },
        {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": PASSWORD}]},
        {"env": [{"name": "AWS_SESSION_TOKEN", "value": PASSWORD}]},
    ],
)
def test_a_secret_in_the_values_is_refused(values: dict[str, Any]) -> None:
    """It would stand in a ConfigMap or in the pod for everybody to read. The message does not repeat it."""
    ledger = {"config": {"ledger": {"kind": "redis"}}}

    with pytest.raises(helm.HelmError, match="Secret") as raised:
        chart.render(chart.merged(ledger, values))

    assert PASSWORD not in str(raised.value)


def test_a_password_comes_by_reference() -> None:
    """As a file that Kubernetes mounts from a Secret."""
    manifests = chart.render(
        {
            "config": {"ledger": {"kind": "redis"}},
            "ledgerPassword": {"existingSecret": "mine", "key": "word"},
        }
    )
    (volume,) = (one for one in manifests.pod["spec"]["volumes"] if "secret" in one)
    (mount,) = (
        one for one in manifests.container["volumeMounts"] if one["name"] == volume["name"]
    )
    file = chart.loaded(manifests).ledger.redis.password_file

    assert volume["secret"]["secretName"] == "mine"
    assert [item["key"] for item in volume["secret"]["items"]] == ["word"]
    assert file == Path(mount["mountPath"]) / volume["secret"]["items"][0]["path"]


def test_variables_may_refer_to_secrets() -> None:
    """What is refused is the value alone."""
    variable = {
        "name": "CRRMON_LEDGER__REDIS__PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "mine", "key": "password"}},
    }
    manifests = chart.render({"env": [variable]})

    assert variable in manifests.container["env"]


def test_no_variable_is_set_twice() -> None:
    """One of the user's goes over the chart's."""
    manifests = chart.render({"env": [{"name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "legacy"}]})
    names = [one["name"] for one in manifests.container["env"]]

    assert len(names) == len(set(names))
    assert manifests.environment["AWS_STS_REGIONAL_ENDPOINTS"] == "legacy"


@pytest.mark.parametrize(
    "name",
    [
        "CRRMON_CONFIG",
        "CRRMON_HTTP__PORT",
        "CRRMON_LEDGER",
        "CRRMON_LEDGER__KIND",
        "CRRMON_LEDGER__REDIS",
        "CRRMON_SHUTDOWN_SECONDS",
    ],
)
def test_what_the_chart_itself_reads_is_not_set_behind_its_back(name: str) -> None:
    """Ports, probes and the kind of workload would not fit any more."""
    with pytest.raises(helm.HelmError, match=f"env sets {name}.* set .* instead"):
        chart.render({"env": [{"name": name, "value": "1"}]})


def _checksum(values: dict[str, Any]) -> str:
    return str(chart.render(values).pod["metadata"]["annotations"]["checksum/config"])


def _part_of(settings: Any, asked: Any) -> Any:
    """Return of the settings just what was asked for."""
    if isinstance(asked, dict):
        return {key: _part_of(settings[key], value) for key, value in asked.items()}
    if isinstance(asked, list) and asked and isinstance(asked[0], dict):
        assert len(settings) == len(asked)
        return [_part_of(one, value) for one, value in zip(settings, asked, strict=True)]
    return settings
