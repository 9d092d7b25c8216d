"""What the sandbox says before it begins."""

import msgspec
import pytest

from crrmon.sandbox.plan import Chances
from crrmon.sandbox.play import SandboxSettings
from crrmon.sandbox.session import trials

SETTINGS = SandboxSettings(objects=10, rate=8.0, chances=Chances(), seed=1, kills=2, port=None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("kill -9 of the daemon, 2 in all", "same ledger")),
        ({"replicas": 3, "ledger": "redis"}, ("3 replicas in turn", "Redis server")),
        (
            {"replicas": 3, "ledger": "dynamodb"},
            ("3 replicas in turn", "10% of the ledger's calls", "2% get lost"),
        ),
    ],
)
def test_what_the_daemons_must_bear_is_said(changes: dict, words: tuple[str, ...]) -> None:
    """Whoever asks for kills is told what else happens to the ledger."""
    said = "\n".join(trials(msgspec.structs.replace(SETTINGS, **changes)))

    assert all(word in said for word in words)


def test_a_quiet_run_says_nothing_of_trials() -> None:
    """Without kills the ledger has a good day, too."""
    quiet = msgspec.structs.replace(SETTINGS, kills=0, replicas=3, ledger="dynamodb")

    assert list(trials(quiet)) == []
