from typing import Any

import pytest

from fakes import chart

DYNAMODB = {"config": {"ledger": {"kind": "dynamodb"}}, "replicaCount": 2}
ROLE = {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}}}


def _notes(values: dict[str, Any]) -> str:
    return str(chart.install(values)["notes"])


def test_the_notes_say_what_was_installed_and_how_to_look_at_it() -> None:
    """With the names of this release."""
    notes = _notes({})

    assert "installed as statefulset demo-crrmon in the namespace watch" in notes
    assert chart.LEAST["config"]["queues"][0]["url"] in notes
    assert "kubectl --namespace watch rollout status statefulset/demo-crrmon" in notes
    assert "http://127.0.0.1:9464/readyz" in notes


@pytest.mark.parametrize("values", chart.example_values().values(), ids=chart.example_values())
def test_every_example_has_notes(values: dict[str, Any]) -> None:
    """Without a hole where a value should be."""
    notes = _notes(values)

    assert "demo-crrmon" in notes
    assert "<no value>" not in notes
    assert "%!" not in notes


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"config": {"ledger": {"kind": "memory"}}}, "WARNING: the ledger memory forgets"),
        ({"persistence": {"enabled": False}}, "WARNING: the ledger is in the pod"),
        ({}, "create-pod-identity-association"),
        (DYNAMODB, "The daemon does not create its table"),
        ({"existingConfigMap": "mine"}, "restart the pods yourself"),
        ({}, "Nothing is configured to scrape /metrics"),
    ],
)
def test_the_notes_warn(values: dict[str, Any], told: str) -> None:
    """Of what this installation lacks, and of nothing that it has."""
    has = {
        "serviceMonitor": {"enabled": True},
        "createTable": {"enabled": True},
    }
    assert told in _notes(values)
    assert told not in _notes(chart.merged(chart.merged(DYNAMODB, ROLE), has))
