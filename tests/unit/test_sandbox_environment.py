"""What the sandbox lets into its processes."""

from pathlib import Path

from crrmon.sandbox.environment import for_emulator, isolated

OUTSIDE = {
    "PATH": "/bin",
    "HOME": "/home/somebody",
    "AWS_PROFILE": "production",
    "AWS_SESSION_TOKEN": "secret",
    "AWS_ENDPOINT_URL": "https://elsewhere.example",
    "CRRMON_QUEUES": "[]",
    "HTTPS_PROXY": "http://proxy.example",
    "http_proxy": "http://proxy.example",
    "MINISTACK_HOST": "elsewhere.example",
    "PERSIST_STATE": "1",
    "BIND_HOST": "0.0.0.0",  # noqa: S104 - what must not come through
}


def test_nothing_leads_off_the_machine() -> None:
    """Accounts, endpoints, proxies and the daemon's own variables are left out; credentials are worth nothing."""
    environment = isolated(OUTSIDE)

    assert not {name for name in environment if "PROXY" in name.upper()}
    assert not {name for name in environment if name.startswith(("CRRMON_", "MINISTACK_"))}
    assert "AWS_PROFILE" not in environment
    assert "AWS_SESSION_TOKEN" not in environment
    assert "AWS_ENDPOINT_URL" not in environment
    assert environment["AWS_ACCESS_KEY_ID"] == "sandbox"
    assert environment["AWS_CONFIG_FILE"] == "/dev/null"
    assert environment["PATH"] == "/bin"


def test_the_emulator_listens_on_loopback_and_forgets() -> None:
    """MiniStack's own default is to listen on all interfaces, and variables may make it keep state."""
    environment = for_emulator(OUTSIDE, port=4711, folder=Path("/sandbox"))

    assert environment["BIND_HOST"] == "127.0.0.1"
    assert environment["GATEWAY_PORT"] == "4711"
    assert environment["TMPDIR"] == "/sandbox"
    assert not set(environment) & {"PERSIST_STATE", "MINISTACK_HOST", "HOME", "AWS_PROFILE"}
