"""What all tests share."""

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# NB: without this, test plugins make event loops for tests that have none, and never close them.
asyncio.set_event_loop(None)

# How long an example takes tells of the machine, not of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Keep the machine's own AWS and crrmon settings out of every test.
    """
    for name in os.environ:
        if name.startswith(("AWS_", "CRRMON_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def _quiet_log() -> None:
    """
    Log what a daemon would, without the locals of every frame.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ],
    )


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """
    Leave logging as it was, for tests of what sets it up.
    """
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """
    Let no test be skipped where CI is to prove that everything works.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if os.environ.get("CI") == "true" and skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
