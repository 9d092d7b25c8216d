"""What all tests share."""

import asyncio
import functools
import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
import structlog
from botocore import hooks
from botocore.handlers import BUILTIN_HANDLERS
from botocore.loaders import create_loader
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent

_BUILT_IN = {handler for _, handler, *_ in BUILTIN_HANDLERS}

# NB: without this, test plugins make event loops for tests that have none, and never close them.
asyncio.set_event_loop(None)

# How long an example takes tells of the machine, not of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


PLACES = {
    "acceptance": ("acceptance", "deploy"),
    "prometheus": ("deploy",),
    "image": ("deploy",),
    "ruler": ("deploy",),
    "kubernetes": ("cluster",),
}
"""Where the Makefile looks for the tests of a kind: reading all files takes longer than some kinds do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that no target of the Makefile would run."""
    for item in items:
        for kind in PLACES.keys() & {mark.name for mark in item.iter_markers()}:
            if item.path.relative_to(HERE).parts[0] not in PLACES[kind]:
                raise pytest.UsageError(f"{item.nodeid}: {kind} tests stand in {PLACES[kind]}")


def pytest_collection_finish() -> None:
    """Take what was collected, which stays to the end, out of the garbage collector's way."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own AWS and crrmon settings out of every test."""
    for name in os.environ:
        if name.startswith(("AWS_", "CRRMON_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def _quiet_log() -> None:
    """Log what a daemon would, without the locals of every frame."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ],
    )


@pytest.fixture(autouse=True, scope="session")
def _sessions_share_what_is_the_same() -> Iterator[None]:
    """
    Have all sessions of the SDK share what it reads of AWS's services, listing hundreds of folders for it, and what it
    finds out of its own handlers: this costs more than most tests do.
    """
    takes_all, aliaser = hooks.accepts_kwargs, hooks.EventAliaser
    known = functools.cache(takes_all)
    alias = functools.cache(functools.partial(aliaser._alias_event_name, aliaser(None)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(create_loader))
        patch.setattr(aliaser, "_alias_event_name", lambda _, name: alias(name))
        patch.setattr(
            hooks,
            "accepts_kwargs",
            # What is made for one client goes with it.
            lambda handler: (known if handler in _BUILT_IN else takes_all)(handler),
        )
        yield


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Leave logging as it was, for tests of what sets it up."""
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let no test be skipped where CI is to prove that everything works."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if os.environ.get("CI") == "true" and skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
