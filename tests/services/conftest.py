"""Services run in simulated time: an hour takes milliseconds."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Have every test of this folder run on a loop whose time is simulated.
    """
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.looptime(noop_cycles=1))
