"""What the sandbox's processes find in their environment: nothing that leads off this machine."""

import os
from collections.abc import Mapping
from pathlib import Path

ACCESS_KEY = "sandbox"
SECRET_KEY = "sandbox"  # noqa: S105 - the emulator checks nothing; nothing else is ever called

_LEADS_ELSEWHERE = ("AWS_", "CRRMON_", "MINISTACK_", "LOCALSTACK_")
_EMULATOR_NEEDS = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LC_CTYPE")


def isolated(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without accounts, endpoints, proxies or settings from outside.

    Args:
        environ: the one that was inherited.

    Returns:
        The rest of it, with credentials that are worth nothing.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith(_LEADS_ELSEWHERE) and not name.upper().endswith("_PROXY")
    }
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def for_emulator(environ: Mapping[str, str], *, port: int, folder: Path) -> dict[str, str]:
    """Return the environment of MiniStack: on loopback, in memory, with no listeners but the one.

    Args:
        environ: the one that was inherited; little of it is kept, for MiniStack reads many variables.
        port: where it is to listen.
        folder: for what it puts into a temporary directory.
    """
    kept = {name: environ[name] for name in _EMULATOR_NEEDS if name in environ}
    return {
        **kept,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "TMPDIR": str(folder),
        "LOG_LEVEL": "WARNING",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        # NB: at its start MiniStack removes containers that it finds labelled as its own. Not here.
        "DOCKER_HOST": "unix:///nonexistent",
    }
