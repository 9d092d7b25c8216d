"""Rules for the lab: all times shorter by one factor, and nothing else changed."""

import pytest
import yaml

from fakes.hurried import STEADY, hurried_expression, hurried_rules, hurried_values


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sum(increase(x_total[10m])) > 0", "sum(increase(x_total[20000ms])) > 0"),
        ("x offset 1d unless x", "x offset 2880000ms unless x"),
        (
            'sum_over_time(crrmon:slo_bad:increase5m{a="5m"}[1h:5m]) / crrmon:slo_burn_rate:1h > 14.4',
            'sum_over_time(crrmon:slo_bad:increase5m{a="5m"}[120000ms:10000ms]) / crrmon:slo_burn_rate:1h > 14.4',
        ),
        ("y > time() - 300", "y > time() - 10"),
        ("time() - max(z_seconds) > 600", "time() - max(z_seconds) > 600"),
    ],
)
def test_only_times_are_shortened(expression: str, expected: str) -> None:
    """Windows, offsets and ages are; names that look like them, ratios and counts are not."""
    assert hurried_expression(expression, factor=30) == expected


def test_what_alerts_wait_for_is_shortened() -> None:
    """For how long a thing must hold and an alert stays, and how often a group is evaluated; texts stay."""
    text = """
    groups:
      - name: one
        interval: 1m
        rules:
          - alert: Some
            expr: x[5m]
            for: 5m
            keep_firing_for: 1h
            annotations: {description: "For 5m"}
          - {alert: Other, expr: y, for: 0m}
          - {record: "a:b5m", expr: y}
    """
    (group,) = yaml.safe_load(hurried_rules(text, factor=30))["groups"]

    assert group["interval"] == "2000ms"
    assert group["rules"] == [
        {
            "alert": "Some",
            "expr": "x[10000ms]",
            "for": "10000ms",
            "keep_firing_for": "120000ms",
            "annotations": {"description": "For 5m"},
        },
        {"alert": "Other", "expr": "y", "for": "0s"},
        {"record": "a:b5m", "expr": "y"},
    ]


def test_thresholds_that_are_ages_are_shortened() -> None:
    """By their names, but for those that the daemon's own rounds are held against."""
    values = {"queueLagSeconds": 900, "deadLetters": 2, "slo.replicated": 0.999, STEADY[0]: 600}

    assert hurried_values(values, factor=30) == {**values, "queueLagSeconds": 30}
