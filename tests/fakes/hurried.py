"""An hour in two minutes: rules whose times are all so much shorter, and a daemon that keeps up with them."""

import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from crrmon.__main__ import main

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d+)([smhdw])")
_PLACES = re.compile(r"\[[^\]]*\]|offset \d+[smhdw]")
"""Where durations stand in an expression; elsewhere what looks like one is a part of a name."""
_AGES = re.compile(r"(time\(\) - )(\d+)")
_HELD = ("for", "keep_firing_for")

STEADY = ("loopStalledSeconds",)
"""Thresholds that stay: the rounds of the daemon's loops take their time, and so do its windows."""

WAITS: dict[str, tuple[str, ...]] = {
    "crrmon.domain.watermark": ("MARGIN_SECONDS",),
    "crrmon.services.lifecycle.health": ("PROBE_CAP_SECONDS", "FAILING_SECONDS"),
    "crrmon.services.lifecycle.reach": ("THROTTLED_SECONDS",),
    "crrmon.services.tracking.configurations": ("SPACING_SECONDS", "EARLY_SECONDS"),
    "crrmon.services.tracking.survey": ("REPORTING_SURVEY_SECONDS",),
}
"""What the daemon waits for by itself before it shows what is wrong, by module; no setting reaches these."""


def hurried_values(values: Mapping[str, float], *, factor: float) -> dict[str, float]:
    """
    Shorten the thresholds that are ages.

    Args:
        values: all thresholds by name.
        factor: how much faster all goes.
    """
    return {
        name: value / factor if name.endswith("Seconds") and name not in STEADY else value
        for name, value in values.items()
    }


def hurried_rules(text: str, *, factor: float) -> str:
    """
    Shorten every time in a file of rules: windows, offsets, intervals, ages, and how long alerts wait and stay.

    Args:
        text: of the file.
        factor: how much faster all goes.
    """
    file = yaml.safe_load(text)
    for group in file["groups"]:
        if "interval" in group:
            group["interval"] = _shorter(group["interval"], factor)
        for rule in group["rules"]:
            rule["expr"] = hurried_expression(rule["expr"], factor=factor)
            rule.update({name: _shorter(rule[name], factor) for name in _HELD if name in rule})
    return yaml.safe_dump(file, sort_keys=False)


def hurried_expression(expression: str, *, factor: float) -> str:
    """Shorten the times in an expression."""
    shorter = _PLACES.sub(lambda found: _shorter(found[0], factor), expression)
    return _AGES.sub(lambda found: f"{found[1]}{float(found[2]) / factor:g}", shorter)


def _shorter(text: str, factor: float) -> str:
    def one(found: re.Match[str]) -> str:
        return f"{round(float(found[1]) * _UNITS[found[2]] * 1000 / factor)}ms"

    return re.sub(r"\b0ms\b", "0s", _DURATION.sub(one, text))


def hurry(factor: float) -> None:
    """Shorten what this process waits for."""
    for name, waits in WAITS.items():
        module: Any = importlib.import_module(name)
        for wait in waits:
            setattr(module, wait, getattr(module, wait) / factor)


if __name__ == "__main__":
    hurry(float(sys.argv.pop(1)))
    main()
