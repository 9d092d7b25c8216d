"""`python -m artifacts`: write every generated file, from wherever it is called."""

from collections.abc import Callable
from pathlib import Path

from artifacts import alerts, chart, cloudwatch_dashboard, datadog, grafana

TOP = Path(__file__).resolve().parents[2]
"""The top directory of the repository."""

SOURCES: tuple[Callable[[], dict[str, str]], ...] = (
    alerts.files,
    cloudwatch_dashboard.files,
    grafana.files,
    datadog.files,
    chart.files,
)
"""Each tells texts by their paths from the repository's top."""


def files() -> dict[str, str]:
    """Return the text of every generated file by its path from the repository's top."""
    return {path: text for source in SOURCES for path, text in source().items()}


def main() -> None:
    """Write them."""
    for path, text in files().items():
        target = TOP / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
